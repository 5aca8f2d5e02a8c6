// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#define COLUMNS "\"group\", peer, role, state, settings, generation, since_ms"

void state_protection_done(struct state_protection *protection)
{
    free(protection->group);
    free(protection->peer);
    free(protection->role);
    free(protection->state);
    free(protection->settings);
    *protection = (struct state_protection){0};
}

void state_protections_done(struct state_protections *protections)
{
    VEC_FOREACH(protection, protections)
        state_protection_done(protection);
    state_protections_free(protections);
}

static void read_row(struct db_stmt *stmt, struct state_protection *ret_protection)
{
    *ret_protection = (struct state_protection){
        .group = state_column_text(stmt, 0),
        .peer = state_column_text(stmt, 1),
        .role = state_column_text(stmt, 2),
        .state = state_column_text(stmt, 3),
        .settings = state_column_text(stmt, 4),
        .generation = (uint64_t)db_column_int(stmt, 5),
        .since_ms = db_column_int(stmt, 6),
    };
}

int state_protection_put(struct state *state, const struct state_protection *protection,
                         struct err *err)
{
    state_touch(state, state_text(protection->group));
    return state_write(state, err,
                       "INSERT INTO protections (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?)"
                       " ON CONFLICT (\"group\") DO UPDATE SET "
                       "peer = excluded.peer, role = excluded.role, state = excluded.state,"
                       " settings = excluded.settings, generation = excluded.generation,"
                       " since_ms = excluded.since_ms",
                       "sssssii", state_text(protection->group), state_text(protection->peer),
                       state_text(protection->role), state_text(protection->state),
                       state_text(protection->settings), (int64_t)protection->generation,
                       protection->since_ms);
}

int state_protection_get(struct state *state, const char *group,
                         struct state_protection *ret_protection, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM protections WHERE \"group\" = ?",
                   &stmt, err, "s", group)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no protection of \"%s\"", group);
    if (row > 0)
        read_row(stmt, ret_protection);
    return row < 0 ? -1 : 0;
}

int state_protection_of(struct state *state, const char *name,
                        struct state_protection *ret_protection, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state),
                   "SELECT " COLUMNS " FROM protections WHERE \"group\" = ?1"
                   " OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(settings)"
                   " THEN settings ELSE '{}' END, '$.machines') WHERE value = ?1)"
                   " ORDER BY \"group\" = ?1 DESC, \"group\" LIMIT 1",
                   &stmt, err, "s", name)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no protection of \"%s\"", name);
    if (row > 0)
        read_row(stmt, ret_protection);
    return row < 0 ? -1 : 0;
}

int state_protection_list(struct state *state, struct state_protections *ret_protections,
                          struct err *err)
{
    CLEANUP(state_protections_done) struct state_protections rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    int row;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM protections ORDER BY \"group\"", &stmt,
                   err, "")
        < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_protections_push(&rows));
    if (row < 0)
        return -1;
    *ret_protections = rows;
    rows = (struct state_protections)VEC_EMPTY;
    return 0;
}

int state_protection_remove(struct state *state, const char *group, struct err *err)
{
    state_touch(state, group);
    if (state_write(state, err, "DELETE FROM protections WHERE \"group\" = ?", "s", group) < 0)
        return -1;
    return state_gone(state, "protection of", group, err);
}
