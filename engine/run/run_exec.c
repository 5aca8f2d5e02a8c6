// SPDX-License-Identifier: Apache-2.0
/* One action: its intent goes into the journal with the turn; when that is durable its job starts
 * in the pool; its result goes into the journal with the turn in which it comes back. */
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A person who cancels an undo, or a daemon that ends: bounded, so that nothing hangs for good. */
#define UNDO_WITHIN_MS  (10 * 60 * 1000)
#define PROBE_WITHIN_MS (60 * 1000)

/* --- The job, on a pool thread ---------------------------------------------------------------- */

static void job_run(struct pool_job *base)
{
    struct run_job *job = (struct run_job *)base;
    struct cancel *cancel = job->job.cancel;

    switch (job->mode) {
    case MODE_RUN: job->rc = job->verb->run(&job->call, &job->result, cancel, &job->error); break;
    case MODE_PROBE:
        job->rc = job->verb->probe(&job->call, &job->answer, &job->result, cancel, &job->error);
        break;
    case MODE_UNDO: job->rc = job->verb->undo(&job->call, cancel, &job->error); break;
    case MODE_BODY: run_talk_run(job); break;
    }
}

static void job_free(struct run_job *job)
{
    cancel_free(job->job.cancel);
    json_decref(job->args);
    json_decref(job->machines);
    json_decref(job->result);
    run_talk_free(job->talk);
    free(job->call_run);
    free(job->plan);
    free(job->title);
    free(job);
}

static void unlink_job(struct runner *runner, const struct run_job *job)
{
    for (struct run_job **link = &runner->flying; *link; link = &(*link)->next)
        if (*link == job) {
            *link = job->next;
            return;
        }
}

/* --- Its result, on the loop ------------------------------------------------------------------ */

static void put_row(struct run *run, struct state_action *row, const char *state,
                    const struct err *error)
{
    struct err err = ERR_EMPTY;

    free(row->state);
    free(row->error);
    free(row->error_code);
    row->state = mem_strdup(state);
    row->error = mem_strdup(error ? error->text : "");
    row->error_code = mem_strdup(error ? err_code_name(error->code) : "");
    row->ended_ms = runner_wall(run->runner);
    CRASH_POINT("run.result");
    run_must(state_action_put(run->runner->world.state, row, &err), &err);
    run_changed(run);
}

void run_write_result(struct run *run, struct state_action *row, const char *state,
                      const json_t *result, const struct err *error)
{
    free(row->result);
    row->result = result ? json_text(result) : mem_strdup("");
    put_row(run, row, state, error);
}

static void action_done(struct run_step *step, const json_t *result)
{
    struct run *run = step->run;
    const char *warning = json_get_str(result, "warning", "");

    run_write_result(run, run_journal_find(run, step), "done", result, NULL);
    run_learn(run, result);
    run_note_result(run, step, result);
    if (*warning)
        log_warn("run", "run=%s step=\"%s\" warning=\"%s\"", run->name, run_task(step)->title,
                 warning);
    if (step->body) {
        run_body_answer(step);
        return;
    }
    step->action++;
    if (step->action < run_task(step)->actions.len) {
        if (run->state == RUN_RUNNING)
            run_exec(step);
        return;
    }
    step_done(step);
}

/* A verb that was asked a question has answered it: what a function makes of a no is its affair. */
static bool is_answer(const struct run_step *step, const struct run_job *job)
{
    return step->body && job->error.code == ERR_STATE
           && json_is_boolean(json_object_get(job->result, "answer"));
}

static void run_done(struct run_step *step, struct run_job *job)
{
    struct run *run = step->run;

    if (job->rc == 0 || is_answer(step, job)) {
        action_done(step, job->result);
        return;
    }
    step->error = job->error;
    run_learn(run, job->result);
    if (job->error.code == ERR_UNKNOWN) {
        run_write_result(run, run_journal_find(run, step), "unknown", job->result, &job->error);
        step_unknown(step);
        return;
    }
    run_action_failed(step, job->result);
}

static void job_done(struct pool_job *base)
{
    struct run_job *job = (struct run_job *)base;
    struct run *run = job->run;

    unlink_job(run->runner, job);
    if (job->step) {
        job->step->busy = false;
        job->step->cancel = NULL;
    }
    if (run->runner->stopping && job->rc < 0 && job->error.code == ERR_CANCELLED) {
        job_free(job); /* cut by us: its intent stays without a result */
        return;
    }
    switch (job->mode) {
    case MODE_RUN: run_done(job->step, job); break;
    case MODE_PROBE:
        run_probe_done(job->step, job->rc, job->answer, job->result, &job->error);
        break;
    case MODE_UNDO: run_undo_done(run, job->row, job->rc, &job->error); break;
    case MODE_BODY: run_talk_done(job->step, job); break;
    }
    job_free(job);
    run_schedule(run);
}

void run_action_done(struct run_step *step, const json_t *result)
{
    action_done(step, result);
}

void run_action_unknown(struct run_step *step)
{
    run_write_result(step->run, run_journal_find(step->run, step), "unknown", NULL, &step->error);
    step_unknown(step);
}

void run_action_failed(struct run_step *step, const json_t *result)
{
    run_write_result(step->run, run_journal_find(step->run, step), "failed", result, &step->error);
    if (step->body)
        run_body_answer(step);
    else
        step_failed(step);
}

/* The result stays: what it did is still of interest. */
void run_write_undo(struct run *run, size_t row, const char *state, const struct err *error)
{
    put_row(run, &run->journal.at[row], state, error);
}

/* --- Deciding --------------------------------------------------------------------------------- */

/* The other site of the machine that the action is about. */
static struct site *there_of(struct run *run, const json_t *args)
{
    const struct runner_world *world = &run->runner->world;
    const char *machine = json_get_str(args, "machine", json_get_str(args, "group", ""));
    const json_t *known = run_known(run->machines, machine);
    struct site *there = NULL;

    if (!known)
        known = json_object_iter_value(json_object_iter(run->machines));
    const char *peer = json_get_str(known, "peer", "");
    if (*peer)
        there = world->peer(world->ctx, peer);
    return there ? there : &run->runner->nobody;
}

struct run_job *run_job_add(struct run *run, enum run_mode mode, int64_t within_ms)
{
    struct run_job *job = mem_new(struct run_job);

    job->job = (struct pool_job){
        .run = job_run,
        .done = job_done,
        .cancel = cancel_new(run->runner->clock, NULL, within_ms),
    };
    job->run = run;
    job->mode = mode;
    *run->runner->pending_end = job;
    run->runner->pending_end = &job->next;
    return job;
}

static struct run_job *new_job(struct run *run, const struct plan_task_action *action,
                               enum run_mode mode, int64_t within_ms)
{
    struct run_job *job = run_job_add(run, mode, within_ms);

    job->verb = action->verb;
    job->args = json_deep_copy(action->args);
    job->machines = json_deep_copy(run->machines);
    job->plan = mem_strdup(run->row.plan);
    job->call_run = mem_strdup(json_get_str(run->inputs, "call", run->name));
    job->call = (struct verb_call){
        .kind = run->kind,
        .run = job->call_run,
        .action_id = job->action_id,
        .plan = job->plan,
        .run_name = run->name,
        .args = job->args,
        .machines = job->machines,
        .here = run->runner->world.here,
        .there = there_of(run, action->args),
        .clock = run->runner->clock,
    };
    return job;
}

/* The same before and after a crash: by what stands in the journal. */
static void name_job(struct run_job *job, size_t step, int64_t attempt, size_t action)
{
    (void)snprintf(job->action_id, sizeof(job->action_id), "%zu.%" PRId64 ".%zu", step, attempt,
                   action);
    job->title = mem_strdup(job->run->tasks.at[step].title);
    job->call.step = job->title;
}

struct state_action *run_journal_add(struct run_step *step, const char *verb, const json_t *args)
{
    struct run *run = step->run;
    struct state_action *row = state_actions_push(&run->journal);

    *row = (struct state_action){
        .run = run->row.id,
        .step = (int64_t)step->index,
        .attempt = step->attempt,
        .action = (int64_t)step->action,
        .verb = mem_strdup(verb),
        .args = args ? json_text(args) : mem_strdup("{}"),
        .state = mem_strdup("started"),
        .result = mem_strdup(""),
        .error = mem_strdup(""),
        .error_code = mem_strdup(""),
        .started_ms = runner_wall(run->runner),
    };
    return row;
}

static void write_intent(struct run_step *step)
{
    const struct plan_task_action *action = run_action(step);
    const struct state_action *row = run_journal_add(step, action->verb->name, action->args);
    struct err err = ERR_EMPTY;

    CRASH_POINT("run.intent");
    run_must(state_action_put(step->run->runner->world.state, row, &err), &err);
}

int64_t run_left_ms(const struct run_step *step)
{
    struct clock *clock = step->run->runner->clock;

    if (step->deadline_ms == 0)
        return CANCEL_NEVER;
    int64_t left = step->deadline_ms - clock->now_ms(clock);
    return left > 0 ? left : 0;
}

void run_exec(struct run_step *step)
{
    if (!step->doubt_settled)
        write_intent(step);
    step->doubt_settled = false;
    if (run_action(step)->verb->asks) {
        run_ask(step);
        return;
    }
    struct run_job *job = new_job(step->run, run_action(step), MODE_RUN, run_left_ms(step));
    name_job(job, step->index, step->attempt, step->action);
    job->step = step;
    step->busy = true;
    step->cancel = job->job.cancel;
    log_debug("run", "starts run=%s step=\"%s\" verb=%s attempt=%" PRId64, step->run->name,
              run_task(step)->title, run_action(step)->verb->name, step->attempt);
}

void run_exec_probe(struct run_step *step)
{
    struct run_job *job = new_job(step->run, run_action(step), MODE_PROBE, PROBE_WITHIN_MS);

    name_job(job, step->index, step->attempt, step->action);
    job->step = step;
    step->busy = true;
    step->cancel = job->job.cancel;
}

void run_exec_undo(struct run *run, size_t row)
{
    const struct state_action *action = &run->journal.at[row];
    CLEANUP(json_freep) json_t *args = run_row_args(run, action);
    const struct plan_task_action done = {run_row_verb(run, action), args, 0};
    struct run_job *job = new_job(run, &done, MODE_UNDO, UNDO_WITHIN_MS);

    name_job(job, (size_t)action->step, action->attempt, (size_t)action->action);
    if (!str_eq(action->state, "undoing"))
        run_write_undo(run, row, "undoing", NULL);
    job->row = row;
    run->undo_busy = true;
}

bool run_in_flight(const struct run *run)
{
    if (run->undo_busy)
        return true;
    for (size_t i = 0; i < run->tasks.len; i++)
        if (run->steps[i].busy)
            return true;
    return false;
}

/* Those in the pool are waited for by whoever frees the pool; their ends find nobody. */
void runner_drop_jobs(struct runner *runner)
{
    struct run_job *next;

    for (struct run_job *job = runner->pending; job; job = next) {
        next = job->next;
        job_free(job);
    }
    runner->pending = NULL;
    runner->pending_end = &runner->pending;
    for (struct run_job *job = runner->flying; job; job = job->next)
        cancel_fire(job->job.cancel);
}
