// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#include <inttypes.h>

#define COLUMNS "id, plan, kind, state, reason, inputs, who, declared_ms, ended_ms"

void state_run_done(struct state_run *run)
{
    free(run->plan);
    free(run->kind);
    free(run->state);
    free(run->reason);
    free(run->inputs);
    free(run->who);
    *run = (struct state_run){0};
}

void state_runs_done(struct state_runs *runs)
{
    VEC_FOREACH(run, runs)
        state_run_done(run);
    state_runs_free(runs);
}

static void read_row(struct db_stmt *stmt, struct state_run *ret_run)
{
    *ret_run = (struct state_run){
        .id = db_column_int(stmt, 0),
        .plan = state_column_text(stmt, 1),
        .kind = state_column_text(stmt, 2),
        .state = state_column_text(stmt, 3),
        .reason = state_column_text(stmt, 4),
        .inputs = state_column_text(stmt, 5),
        .who = state_column_text(stmt, 6),
        .declared_ms = db_column_int(stmt, 7),
        .ended_ms = db_column_int(stmt, 8),
    };
}

static int put_new(struct state *state, struct state_run *run, struct err *err)
{
    if (state_write(state, err,
                    "INSERT INTO runs (plan, kind, state, reason, inputs, who, declared_ms,"
                    " ended_ms)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    "ssssssii", state_text(run->plan), state_text(run->kind),
                    state_text(run->state), state_text(run->reason), state_text(run->inputs),
                    state_text(run->who), run->declared_ms, run->ended_ms)
        < 0)
        return -1;
    run->id = db_last_id(state_db(state));
    return 0;
}

int state_run_put(struct state *state, struct state_run *run, struct err *err)
{
    if (run->id == 0)
        return put_new(state, run, err);
    if (state_write(
            state, err,
            "UPDATE runs SET plan = ?, kind = ?, state = ?, reason = ?, inputs = ?, who = ?,"
            " declared_ms = ?, ended_ms = ?"
            " WHERE id = ?",
            "ssssssiii", state_text(run->plan), state_text(run->kind), state_text(run->state),
            state_text(run->reason), state_text(run->inputs), state_text(run->who),
            run->declared_ms, run->ended_ms, run->id)
        < 0)
        return -1;
    if (db_changes(state_db(state)) == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no run %" PRId64, run->id);
    return 0;
}

int state_run_get(struct state *state, int64_t id, struct state_run *ret_run, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM runs WHERE id = ?", &stmt, err, "i",
                   id)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no run %" PRId64, id);
    if (row > 0)
        read_row(stmt, ret_run);
    return row < 0 ? -1 : 0;
}

int state_run_list(struct state *state, bool open_only, struct state_runs *ret_runs,
                   struct err *err)
{
    CLEANUP(state_runs_done) struct state_runs rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    const char *sql = open_only ? "SELECT " COLUMNS " FROM runs WHERE ended_ms = 0 ORDER BY id DESC"
                                : "SELECT " COLUMNS " FROM runs ORDER BY id DESC";
    int row;

    if (db_prepare(state_db(state), sql, &stmt, err, "") < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_runs_push(&rows));
    if (row < 0)
        return -1;
    *ret_runs = rows;
    rows = (struct state_runs)VEC_EMPTY;
    return 0;
}
