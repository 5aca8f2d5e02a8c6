// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#define COLUMNS "name, source, document, hash, origin, added_ms"

void state_plan_done(struct state_plan *plan)
{
    free(plan->name);
    free(plan->source);
    free(plan->document);
    free(plan->hash);
    free(plan->origin);
    *plan = (struct state_plan){0};
}

void state_plans_done(struct state_plans *plans)
{
    VEC_FOREACH(plan, plans)
        state_plan_done(plan);
    state_plans_free(plans);
}

static void read_row(struct db_stmt *stmt, struct state_plan *ret_plan)
{
    *ret_plan = (struct state_plan){
        .name = state_column_text(stmt, 0),
        .source = state_column_text(stmt, 1),
        .document = state_column_text(stmt, 2),
        .hash = state_column_text(stmt, 3),
        .origin = state_column_text(stmt, 4),
        .added_ms = db_column_int(stmt, 5),
    };
}

int state_plan_put(struct state *state, const struct state_plan *plan, struct err *err)
{
    return state_write(
        state, err,
        "INSERT INTO plans (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET "
        "source = excluded.source, document = excluded.document, hash = excluded.hash,"
        " origin = excluded.origin, added_ms = excluded.added_ms",
        "sssssi", state_text(plan->name), state_text(plan->source), state_text(plan->document),
        state_text(plan->hash), state_text(plan->origin), plan->added_ms);
}

int state_plan_get(struct state *state, const char *name, struct state_plan *ret_plan,
                   struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM plans WHERE name = ?", &stmt, err, "s",
                   name)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no plan \"%s\"", name);
    if (row > 0)
        read_row(stmt, ret_plan);
    return row < 0 ? -1 : 0;
}

int state_plan_list(struct state *state, struct state_plans *ret_plans, struct err *err)
{
    CLEANUP(state_plans_done) struct state_plans rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    int row;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM plans ORDER BY name", &stmt, err, "")
        < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_plans_push(&rows));
    if (row < 0)
        return -1;
    *ret_plans = rows;
    rows = (struct state_plans)VEC_EMPTY;
    return 0;
}

int state_plan_remove(struct state *state, const char *name, struct err *err)
{
    if (state_write(state, err, "DELETE FROM plans WHERE name = ?", "s", name) < 0)
        return -1;
    return state_gone(state, "plan", name, err);
}
