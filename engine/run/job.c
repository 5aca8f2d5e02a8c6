// SPDX-License-Identifier: Apache-2.0
/* A job's life on the loop:
 *
 *   begin ─(turn committed)─> pool: work ─> again? ─timer─> pool ...
 *                                        ─> done:   end, next task's begin
 *                                        ─> failed: pool: undo ─> settled
 *
 * Rows are written when a task changes, not when it progresses. A write that fails ends the
 * process: memory would be ahead of what is durable. */
#include "run/job.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/job_kind.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define AGAIN_MS      500
#define UNDO_MS       60000
#define EXIT_NO_STATE 70
#define CANCELLED     "cancelled" /* in the durable args: somebody asked for it */

static const struct job_kind *kind_of(const char *name)
{
    const struct job_kind *const kinds[] = {
        job_kind_protect(),       job_kind_unprotect(), job_kind_reprotect(),
        job_kind_follow(),        job_kind_stream(),    job_kind_copy_plan(),
        job_kind_copy_settings(), job_kind_verify(),    job_kind_point()};

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (str_eq(kinds[i]->name, name))
            return kinds[i];
    return NULL;
}

const struct jobs_world *job_world(const struct job *job)
{
    return &job->jobs->world;
}

const struct jobs_world *jobs_world_of(const struct jobs *jobs)
{
    return &jobs->world;
}

static void changed(struct jobs *jobs)
{
    jobs->changes++;
    if (jobs->world.changed)
        jobs->world.changed(jobs->world.ctx);
}

/* What is durable is older than what we hold in memory; a new start takes it up from there. */
static void must_write(int result, const struct err *err)
{
    if (result >= 0)
        return;
    log_error("job", "state cannot be written, the daemon ends error=\"%s\"", err->text);
    _exit(EXIT_NO_STATE);
}

static void job_free(struct job *job)
{
    if (!job)
        return;
    loop_timer_cancel(job->jobs->world.loop, job->timer);
    cancel_free(job->base.cancel);
    if (job->data && job->kind->data_free)
        job->kind->data_free(job->data);
    json_decref(job->progress.checks);
    json_decref(job->args);
    json_decref(job->tasks);
    free(job->object);
    free(job->who);
    free(job);
}

static void forget(struct job *job)
{
    struct job **link = &job->jobs->first;

    while (*link != job)
        link = &(*link)->next;
    *link = job->next;
    job_free(job);
}

struct jobs *jobs_new(const struct jobs_world *world)
{
    struct jobs *jobs = mem_new(struct jobs);

    jobs->world = *world;
    return jobs;
}

void jobs_stop(struct jobs *jobs)
{
    jobs->stopping = true;
    for (struct job *job = jobs->first; job; job = job->next)
        cancel_fire(job->base.cancel);
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs)
        return;
    while (jobs->first) {
        struct job *job = jobs->first;
        assert(!job->in_pool);
        jobs->first = job->next;
        job_free(job);
    }
    free(jobs);
}

/* --- Rows -------------------------------------------------------------------------------- */

/* `failure` NULL: there is none. */
static void put_row(struct job *job, const char *state, const struct err *failure)
{
    CLEANUP(json_freep) json_t *asked = json_copy(job->args); /* the pool may be reading it */
    CLEANUP(mem_freep) char *args = NULL;
    CLEANUP(mem_freep) char *tasks = json_text(job->tasks);
    CLEANUP(mem_freep) char *error_text = mem_strdup(failure ? failure->text : "");
    CLEANUP(mem_freep)
    char *error_code = mem_strdup(failure ? err_code_name(failure->code) : "");
    CLEANUP(mem_freep) char *state_text = mem_strdup(state);
    CLEANUP(mem_freep) char *kind = mem_strdup(job->kind->name);
    struct err err = ERR_EMPTY;

    if (job->cancel_asked)
        (void)json_object_set_new(asked, CANCELLED, json_true());
    args = json_text(asked);
    struct state_job row = {
        .id = job->id,
        .kind = kind,
        .object = job->object,
        .args = args,
        .state = state_text,
        .tasks = tasks,
        .error = error_text,
        .error_code = error_code,
        .who = job->who,
        .started_ms = job->started_ms,
        .ended_ms = str_eq(state, "running") ? 0 : jobs_wall_ms(job->jobs),
    };

    must_write(state_job_put(job->jobs->world.state, &row, &err), &err);
    job->id = row.id;
    changed(job->jobs);
}

/* --- Life -------------------------------------------------------------------------------- */

static void finish(struct job *job)
{
    struct err err = ERR_EMPTY;
    const struct err *failure = job->failure.code == ERR_NONE ? NULL : &job->failure;
    const char *state = !failure ? "succeeded" : job->cancel_asked ? "cancelled" : "failed";

    if (job->kind->settled)
        must_write(job->kind->settled(job, failure, &err), &err);
    put_row(job, state, failure);
    if (failure && !job->cancel_asked)
        log_warn("job", "failed job=%" PRId64 " kind=%s object=%s error=\"%s\"", job->id,
                 job->kind->name, job->object, failure->text);
    else
        log_info("job", "%s job=%" PRId64 " kind=%s object=%s", state, job->id, job->kind->name,
                 job->object);
    forget(job);
}

static void fail(struct job *job, const struct err *failure)
{
    job->failure = *failure;
    job_show_progress(job);
    job_task_state(job, job->cancel_asked ? "cancelled" : "failed", failure->text);
    if (!job->kind->wants_undo || !job->kind->wants_undo(job)) {
        finish(job);
        return;
    }
    cancel_free(job->base.cancel);
    job->base.cancel = cancel_new(job->jobs->world.clock, NULL, UNDO_MS);
    job->undoing = true;
    job->ready = true;
    changed(job->jobs);
}

static void begin_task(struct job *job)
{
    const struct job_task *task = &job->kind->tasks[job->task];
    struct err err = ERR_EMPTY;

    json_decref(job->progress.checks);
    job->progress = (struct job_progress){.left_ms = -1};
    job_task_state(job, "running", "");
    if (task->begin && task->begin(job, &err) < 0) {
        fail(job, &err);
        return;
    }
    put_row(job, "running", NULL);
    job->ready = true;
}

static void end_task(struct job *job)
{
    const struct job_task *task = &job->kind->tasks[job->task];
    struct err err = ERR_EMPTY;

    if (task->end && task->end(job, &err) < 0) {
        fail(job, &err);
        return;
    }
    CRASH_POINT("job.done");
    job_show_progress(job);
    job_task_state(job, "done", "");
    log_info("job", "done job=%" PRId64 " kind=%s object=%s task=\"%s\"", job->id, job->kind->name,
             job->object, task->name);
    if (++job->task < job->kind->task_count)
        begin_task(job);
    else
        finish(job);
}

static void on_again(void *ctx)
{
    struct job *job = ctx;
    const struct job_task *task = &job->kind->tasks[job->task];
    struct err err = ERR_EMPTY;

    job->timer = 0;
    if (task->again && task->again(job, &err) < 0)
        fail(job, &err);
    else
        job->ready = true;
}

void job_keep(struct job *job)
{
    put_row(job, "running", NULL);
}

int job_wait(struct job *job, int64_t ms, struct err *err)
{
    (void)snprintf(job->progress.note, sizeof(job->progress.note), "waits: %.480s", err->text);
    err_clear(err);
    job->again_ms = ms;
    return JOB_AGAIN;
}

int job_wait_for_peer(struct job *job, int64_t ms, struct err *err)
{
    if (!err_is_retryable(err->code) || cancel_is_fired(job->base.cancel))
        return -1;
    return job_wait(job, ms, err);
}

static void work_run(struct pool_job *base)
{
    struct job *job = (struct job *)base;

    err_clear(&job->work_err);
    job->again_ms = AGAIN_MS;
    if (job->undoing)
        job->result = job->kind->undo(job, &job->work_err);
    else if (cancel_is_fired(base->cancel))
        job->result = err_set(&job->work_err, ERR_CANCELLED, 0, "cancelled");
    else
        job->result = job->kind->tasks[job->task].work(job, &job->work_err);
}

static void undo_done(struct job *job)
{
    if (job->result < 0) {
        job->undo_failed = true;
        struct err first = job->failure;
        err_put(&job->failure, first.code, 0, "%.400s; not all of it could be taken back: %.500s",
                first.text, job->work_err.text);
    }
    finish(job);
}

static void work_done(struct pool_job *base)
{
    struct job *job = (struct job *)base;

    job->in_pool = false;
    if (job->jobs->stopping)
        return;
    if (job->undoing) {
        undo_done(job);
    } else if (job->result == JOB_AGAIN) {
        job_show_progress(job);
        job->timer = loop_timer(job->jobs->world.loop, job->again_ms, on_again, job);
        changed(job->jobs);
    } else if (job->result == 0) {
        end_task(job);
    } else {
        fail(job, &job->work_err);
    }
}

void jobs_turn_committed(struct jobs *jobs)
{
    if (jobs->stopping)
        return;
    for (struct job *job = jobs->first; job; job = job->next) {
        if (!job->ready)
            continue;
        job->ready = false;
        job->in_pool = true;
        pool_submit(jobs->world.pool, &job->base);
    }
}

static struct job *job_new(struct jobs *jobs, const struct job_kind *kind, const char *object,
                           const char *who)
{
    struct job *job = mem_new(struct job);

    job->base.run = work_run;
    job->base.done = work_done;
    job->base.cancel = cancel_new(jobs->world.clock, NULL, CANCEL_NEVER);
    job->jobs = jobs;
    job->kind = kind;
    job->object = mem_strdup(object);
    job->who = mem_strdup(who ? who : "");
    struct job **link = &jobs->first;
    while (*link)
        link = &(*link)->next;
    *link = job;
    return job;
}

struct job *job_find(struct jobs *jobs, const struct job_kind *kind, const char *object,
                     const char *peer)
{
    for (struct job *job = jobs->first; job; job = job->next)
        if (job->kind == kind && str_eq(job->object, object)
            && str_eq(json_get_str(job->args, "peer", ""), peer))
            return job;
    return NULL;
}

int job_start(struct jobs *jobs, const struct job_kind *kind, const char *object, json_t *args,
              const char *who, int64_t *ret_id, struct err *err)
{
    for (const struct job *other = jobs->first; other && kind->exclusive; other = other->next)
        if (str_eq(other->object, object) && other->kind->exclusive) {
            json_decref(args);
            return err_set(err, ERR_STATE, 0,
                           "job %" PRId64 " (%s) works on %s; hint: muster jobs watch %" PRId64,
                           other->id, other->kind->name, object, other->id);
        }
    struct job *job = job_new(jobs, kind, object, who);
    job->args = args;
    job->started_ms = jobs_wall_ms(jobs);
    job->tasks = json_array();
    for (size_t i = 0; i < kind->task_count; i++)
        (void)json_array_append_new(job->tasks, job_task_new(kind->tasks[i].name));
    put_row(job, "running", NULL);
    *ret_id = job->id;
    log_info("job", "started job=%" PRId64 " kind=%s object=%s who=%s", job->id, kind->name,
             job->object, job->who);
    begin_task(job);
    return 0;
}

static bool has_ended(const json_t *task)
{
    return str_eq(json_get_str(task, "state", ""), "done");
}

/* An open row goes on with the first task that is not done. */
static void take_up(struct jobs *jobs, struct state_job *row)
{
    const struct job_kind *kind = kind_of(row->kind);
    struct err err = ERR_EMPTY;
    json_t *args = NULL;
    json_t *tasks = NULL;

    if (!kind || json_parse(row->args, strlen(row->args), &args, &err) < 0
        || json_parse(row->tasks, strlen(row->tasks), &tasks, &err) < 0
        || json_array_size(tasks) != kind->task_count) {
        json_decref(args);
        json_decref(tasks);
        free(row->state);
        free(row->error);
        free(row->error_code);
        row->state = mem_strdup("failed");
        row->error = mem_strdup("the daemon was restarted as another version, which does not know "
                                "how to go on");
        row->error_code = mem_strdup(err_code_name(ERR_UNSUPPORTED));
        row->ended_ms = jobs_wall_ms(jobs);
        must_write(state_job_put(jobs->world.state, row, &err), &err);
        return;
    }
    struct job *job = job_new(jobs, kind, row->object, row->who);
    job->id = row->id;
    job->started_ms = row->started_ms;
    job->args = args;
    job->tasks = tasks;
    while (job->task + 1 < kind->task_count && has_ended(json_array_get(tasks, job->task)))
        job->task++;
    job->cancel_asked = json_get_bool(args, CANCELLED, false);
    if (job->cancel_asked)
        cancel_fire(job->base.cancel);
    log_info("job", "taken up job=%" PRId64 " kind=%s object=%s task=\"%s\"", job->id, kind->name,
             job->object, kind->tasks[job->task].name);
    begin_task(job);
}

int jobs_take_up(struct jobs *jobs, struct err *err)
{
    CLEANUP(state_jobs_done) struct state_jobs rows = VEC_EMPTY;

    if (state_job_list(jobs->world.state, true, &rows, err) < 0)
        return -1;
    for (size_t i = rows.len; i > 0; i--)
        take_up(jobs, &rows.at[i - 1]);
    return 0;
}

int jobs_cancel(struct jobs *jobs, int64_t id, const char *who, struct err *err)
{
    struct state_job row;

    for (struct job *job = jobs->first; job; job = job->next) {
        if (job->id != id)
            continue;
        if (job->undoing || job->cancel_asked)
            return 0;
        log_info("job", "cancel asked job=%" PRId64 " who=%s", id, who);
        job->cancel_asked = true;
        put_row(job, "running", NULL);
        cancel_fire(job->base.cancel);
        if (!job->in_pool) {
            loop_timer_cancel(jobs->world.loop, job->timer);
            job->timer = 0;
            job->ready = true;
        }
        return 0;
    }
    if (state_job_get(jobs->world.state, id, &row, err) < 0)
        return -1;
    err_put(err, ERR_STATE, 0, "job %" PRId64 " has ended: %s", id, row.state);
    state_job_done(&row);
    return -1;
}
