// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#define COLUMNS "name, settings, added_ms, changed_ms"

void state_policy_done(struct state_policy *policy)
{
    free(policy->name);
    free(policy->settings);
    *policy = (struct state_policy){0};
}

void state_policies_done(struct state_policies *policies)
{
    VEC_FOREACH(policy, policies)
        state_policy_done(policy);
    state_policies_free(policies);
}

static void read_row(struct db_stmt *stmt, struct state_policy *ret_policy)
{
    *ret_policy = (struct state_policy){
        .name = state_column_text(stmt, 0),
        .settings = state_column_text(stmt, 1),
        .added_ms = db_column_int(stmt, 2),
        .changed_ms = db_column_int(stmt, 3),
    };
}

int state_policy_put(struct state *state, const struct state_policy *policy, struct err *err)
{
    return state_write(state, err,
                       "INSERT INTO policies (" COLUMNS ") VALUES (?, ?, ?, ?)"
                       " ON CONFLICT (name) DO UPDATE SET "
                       "settings = excluded.settings, changed_ms = excluded.changed_ms",
                       "ssii", state_text(policy->name), state_text(policy->settings),
                       policy->added_ms, policy->changed_ms);
}

int state_policy_get(struct state *state, const char *name, struct state_policy *ret_policy,
                     struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM policies WHERE name = ?", &stmt, err,
                   "s", name)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no policy \"%s\"", name);
    if (row > 0)
        read_row(stmt, ret_policy);
    return row < 0 ? -1 : 0;
}

int state_policy_list(struct state *state, struct state_policies *ret_policies, struct err *err)
{
    CLEANUP(state_policies_done) struct state_policies rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    int row;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM policies ORDER BY name", &stmt, err,
                   "")
        < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_policies_push(&rows));
    if (row < 0)
        return -1;
    *ret_policies = rows;
    rows = (struct state_policies)VEC_EMPTY;
    return 0;
}

int state_policy_remove(struct state *state, const char *name, struct err *err)
{
    if (state_write(state, err, "DELETE FROM policies WHERE name = ?", "s", name) < 0)
        return -1;
    return state_gone(state, "policy", name, err);
}
