// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "state/state.h"
#include "state/state_turn.h"

#include <inttypes.h>

#define COLUMNS "id, kind, object, args, state, tasks, error, who, started_ms, ended_ms, error_code"

void state_job_done(struct state_job *job)
{
    free(job->kind);
    free(job->object);
    free(job->args);
    free(job->state);
    free(job->tasks);
    free(job->error);
    free(job->error_code);
    free(job->who);
    *job = (struct state_job){0};
}

void state_jobs_done(struct state_jobs *jobs)
{
    VEC_FOREACH(job, jobs)
        state_job_done(job);
    state_jobs_free(jobs);
}

static void read_row(struct db_stmt *stmt, struct state_job *ret_job)
{
    *ret_job = (struct state_job){
        .id = db_column_int(stmt, 0),
        .kind = state_column_text(stmt, 1),
        .object = state_column_text(stmt, 2),
        .args = state_column_text(stmt, 3),
        .state = state_column_text(stmt, 4),
        .tasks = state_column_text(stmt, 5),
        .error = state_column_text(stmt, 6),
        .who = state_column_text(stmt, 7),
        .started_ms = db_column_int(stmt, 8),
        .ended_ms = db_column_int(stmt, 9),
        .error_code = state_column_text(stmt, 10),
    };
}

static int put_new(struct state *state, struct state_job *job, struct err *err)
{
    if (state_write(state, err,
                    "INSERT INTO jobs (kind, object, args, state, tasks, error, who, started_ms,"
                    " ended_ms, error_code)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    "sssssssiis", state_text(job->kind), state_text(job->object),
                    state_text(job->args), state_text(job->state), state_text(job->tasks),
                    state_text(job->error), state_text(job->who), job->started_ms, job->ended_ms,
                    state_text(job->error_code))
        < 0)
        return -1;
    job->id = db_last_id(state_db(state));
    return 0;
}

int state_job_put(struct state *state, struct state_job *job, struct err *err)
{
    if (job->id == 0)
        return put_new(state, job, err);
    if (state_write(state, err,
                    "UPDATE jobs SET kind = ?, object = ?, args = ?, state = ?, tasks = ?,"
                    " error = ?, who = ?, started_ms = ?, ended_ms = ?, error_code = ?"
                    " WHERE id = ?",
                    "sssssssiisi", state_text(job->kind), state_text(job->object),
                    state_text(job->args), state_text(job->state), state_text(job->tasks),
                    state_text(job->error), state_text(job->who), job->started_ms, job->ended_ms,
                    state_text(job->error_code), job->id)
        < 0)
        return -1;
    if (db_changes(state_db(state)) == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no job %" PRId64, job->id);
    return 0;
}

int state_job_get(struct state *state, int64_t id, struct state_job *ret_job, struct err *err)
{
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;

    if (db_prepare(state_db(state), "SELECT " COLUMNS " FROM jobs WHERE id = ?", &stmt, err, "i",
                   id)
        < 0)
        return -1;
    int row = db_step(stmt, err);
    if (row == 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no job %" PRId64, id);
    if (row > 0)
        read_row(stmt, ret_job);
    return row < 0 ? -1 : 0;
}

int state_job_list(struct state *state, bool open_only, struct state_jobs *ret_jobs,
                   struct err *err)
{
    CLEANUP(state_jobs_done) struct state_jobs rows = VEC_EMPTY;
    CLEANUP(db_stmt_end) struct db_stmt *stmt = NULL;
    const char *sql = open_only ? "SELECT " COLUMNS " FROM jobs WHERE ended_ms = 0 ORDER BY id DESC"
                                : "SELECT " COLUMNS " FROM jobs ORDER BY id DESC";
    int row;

    if (db_prepare(state_db(state), sql, &stmt, err, "") < 0)
        return -1;
    while ((row = db_step(stmt, err)) > 0)
        read_row(stmt, state_jobs_push(&rows));
    if (row < 0)
        return -1;
    *ret_jobs = rows;
    rows = (struct state_jobs)VEC_EMPTY;
    return 0;
}
