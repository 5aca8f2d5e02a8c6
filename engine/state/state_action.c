// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#define COLUMNS                                                                                 \
    "run, step, attempt, action, verb, state, result, error, error_code, started_ms, ended_ms," \
    " args"

void state_action_done(struct state_action *action)
{
    free(action->verb);
    free(action->args);
    free(action->state);
    free(action->result);
    free(action->error);
    free(action->error_code);
    *action = (struct state_action){0};
}

void state_actions_done(struct state_actions *actions)
{
    VEC_FOREACH(action, actions)
        state_action_done(action);
    state_actions_free(actions);
}

static void read_row(struct db_stmt *stmt, struct state_action *ret_action)
{
    *ret_action = (struct state_action){
        .run = db_column_int(stmt, 0),
        .step = db_column_int(stmt, 1),
        .attempt = db_column_int(stmt, 2),
        .action = db_column_int(stmt, 3),
        .verb = state_column_text(stmt, 4),
        .state = state_column_text(stmt, 5),
        .result = state_column_text(stmt, 6),
        .error = state_column_text(stmt, 7),
        .error_code = state_column_text(stmt, 8),
        .started_ms = db_column_int(stmt, 9),
        .ended_ms = db_column_int(stmt, 10),
        .args = state_column_text(stmt, 11),
    };
}

int state_action_put(struct state *state, const struct state_action *action, struct err *err)
{
    return state_write(
        state, err,
        "INSERT INTO actions (" COLUMNS ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run, step, attempt, action) DO UPDATE SET "
        "verb = excluded.verb, state = excluded.state, result = excluded.result,"
        " error = excluded.error, error_code = excluded.error_code,"
        " started_ms = excluded.started_ms, ended_ms = excluded.ended_ms,"
        " args = excluded.args",
        "iiiisssssiis", action->run, action->step, action->attempt, action->action,
        state_text(action->verb), state_text(action->state), state_text(action->result),
        state_text(action->error), state_text(action->error_code), action->started_ms,
        action->ended_ms, state_text(action->args));
}

int state_action_list(struct state *state, int64_t run, struct state_actions *ret_actions,
                      struct err *err)
{
    CLEANUP(state_actions_done) struct state_actions rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    int row;

    if (db_prepare(state_db(state),
                   "SELECT " COLUMNS " FROM actions WHERE run = ? ORDER BY step, attempt, action",
                   &stmt, err, "i", run)
        < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_actions_push(&rows));
    if (row < 0)
        return -1;
    *ret_actions = rows;
    rows = (struct state_actions)VEC_EMPTY;
    return 0;
}
