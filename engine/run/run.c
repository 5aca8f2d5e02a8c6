// SPDX-License-Identifier: Apache-2.0
#include "run/run.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_NO_STATE 70

/* --- States --------------------------------------------------------------------------------- */

static const char *const run_names[RUN_STATE_COUNT] = {
    [RUN_CHECKING] = "checking",
    [RUN_RUNNING] = "running",
    [RUN_PAUSED] = "paused",
    [RUN_SUCCEEDED] = "succeeded",
    [RUN_FAILED] = "failed",
    [RUN_AWAITING_COMMIT] = "awaiting-commit",
    [RUN_CANCELLING] = "cancelling",
    [RUN_CANCELLED] = "cancelled",
    [RUN_CLEANUP_DUE] = "cleanup-due",
    [RUN_CLEANING] = "cleaning",
    [RUN_CLEAN] = "clean",
    [RUN_CLEANUP_FAILED] = "cleanup-failed",
    [RUN_COMMITTED] = "committed",
    [RUN_ROLLING_BACK] = "rolling-back",
    [RUN_ROLLED_BACK] = "rolled-back",
};
static const struct sm_move run_moves[] = {
    {RUN_CHECKING, RUN_RUNNING},
    {RUN_CHECKING, RUN_CANCELLING},
    {RUN_RUNNING, RUN_PAUSED},
    {RUN_RUNNING, RUN_SUCCEEDED}, /* a cleanup */
    {RUN_RUNNING, RUN_FAILED},
    {RUN_RUNNING, RUN_AWAITING_COMMIT},
    {RUN_RUNNING, RUN_CLEANUP_DUE}, /* a test, whatever became of it */
    {RUN_RUNNING, RUN_CANCELLING},
    {RUN_PAUSED, RUN_RUNNING},
    {RUN_PAUSED, RUN_CANCELLING},
    {RUN_FAILED, RUN_CANCELLING}, /* take back what it did */
    {RUN_CANCELLING, RUN_CANCELLED},
    {RUN_CANCELLING, RUN_CLEANUP_DUE}, /* a test that could not be taken back */
    {RUN_CANCELLING, RUN_FAILED},
    {RUN_RUNNING, RUN_COMMITTED}, /* by a step of its own */
    {RUN_AWAITING_COMMIT, RUN_COMMITTED},
    {RUN_AWAITING_COMMIT, RUN_ROLLING_BACK},
    {RUN_FAILED, RUN_COMMITTED}, /* after a promotion: the machines are here */
    {RUN_FAILED, RUN_ROLLING_BACK},
    {RUN_ROLLING_BACK, RUN_ROLLING_BACK}, /* asked for again */
    {RUN_ROLLING_BACK, RUN_ROLLED_BACK},
    {RUN_CLEANUP_DUE, RUN_CLEANING},
    {RUN_CLEANUP_FAILED, RUN_CLEANING},
    {RUN_CLEANING, RUN_CLEAN},
    {RUN_CLEANING, RUN_CLEANUP_FAILED},
    {RUN_CLEANING, RUN_CLEANUP_DUE}, /* the cleanup was cancelled */
};
const struct sm run_sm = {"run", run_names, RUN_STATE_COUNT, run_moves, ARRAY_LEN(run_moves)};

static const char *const step_names[STEP_STATE_COUNT] = {
    [STEP_WAITING] = "waiting", [STEP_RUNNING] = "running", [STEP_RETRYING] = "retrying",
    [STEP_DONE] = "done",       [STEP_FAILED] = "failed",   [STEP_SKIPPED] = "skipped",
    [STEP_UNKNOWN] = "unknown", [STEP_UNDONE] = "undone",   [STEP_ASKING] = "asking",
};
static const struct sm_move step_moves[] = {
    {STEP_WAITING, STEP_RUNNING},  {STEP_RUNNING, STEP_DONE},    {STEP_RUNNING, STEP_FAILED},
    {STEP_RUNNING, STEP_RETRYING}, {STEP_RUNNING, STEP_UNKNOWN}, {STEP_RETRYING, STEP_RUNNING},
    {STEP_RETRYING, STEP_FAILED},  {STEP_FAILED, STEP_RUNNING},  {STEP_FAILED, STEP_SKIPPED},
    {STEP_UNKNOWN, STEP_RUNNING},  {STEP_UNKNOWN, STEP_SKIPPED}, {STEP_UNKNOWN, STEP_FAILED},
    {STEP_DONE, STEP_UNDONE},      {STEP_FAILED, STEP_UNDONE},   {STEP_UNKNOWN, STEP_UNDONE},
    {STEP_RUNNING, STEP_ASKING},   {STEP_ASKING, STEP_RUNNING},  {STEP_ASKING, STEP_FAILED},
    {STEP_SKIPPED, STEP_UNDONE},   {STEP_RUNNING, STEP_UNDONE},  {STEP_RETRYING, STEP_UNDONE},
};
const struct sm step_sm = {"step", step_names, STEP_STATE_COUNT, step_moves, ARRAY_LEN(step_moves)};

bool run_is_active(int state)
{
    return state == RUN_CHECKING || state == RUN_RUNNING || state == RUN_PAUSED
           || state == RUN_CANCELLING;
}

bool run_is_real(enum run_kind kind)
{
    return kind == RUN_PLANNED || kind == RUN_UNPLANNED || kind == RUN_FAILBACK;
}

/* Its row is kept open: somebody still has to do something about it. */
static bool is_open(int state)
{
    return run_is_active(state) || state == RUN_AWAITING_COMMIT || state == RUN_CLEANUP_DUE
           || state == RUN_CLEANING || state == RUN_CLEANUP_FAILED || state == RUN_ROLLING_BACK;
}

/* --- The runner ------------------------------------------------------------------------------ */

static int nobody_ask(struct site *site, const char *what, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    (void)site;
    (void)args;
    (void)ret_result;
    (void)cancel;
    return err_set(err, ERR_NET, 0, "%s: this site is not paired with the machine's other one",
                   what);
}

static void nobody_close(struct site *site)
{
    (void)site;
}

struct runner *runner_new(const struct runner_world *world)
{
    static const struct site_ops nobody = {nobody_ask, nobody_close};
    struct runner *runner = mem_new(struct runner);

    runner->nobody = (struct site){&nobody, "nobody"};
    runner->world = *world;
    runner->clock = loop_clock(world->loop);
    runner->pending_end = &runner->pending;
    return runner;
}

static void free_ended(struct runner *runner)
{
    VEC_FOREACH(run, &runner->ended)
        run_free(*run);
    run_list_clear(&runner->ended);
}

void runner_stop(struct runner *runner)
{
    runner->stopping = true;
    runner_drop_jobs(runner);
}

void runner_free(struct runner *runner)
{
    if (!runner)
        return;
    runner_stop(runner);
    VEC_FOREACH(run, &runner->runs)
        run_free(*run);
    free_ended(runner);
    run_list_free(&runner->runs);
    run_list_free(&runner->ended);
    free(runner);
}

void runner_turn_committed(struct runner *runner)
{
    struct run_job *job = runner->pending;

    free_ended(runner);
    if (!job || runner->stopping)
        return;
    CRASH_POINT("run.committed");
    runner->pending = NULL;
    runner->pending_end = &runner->pending;
    while (job) {
        struct run_job *next = job->next;
        job->next = runner->flying;
        runner->flying = job;
        pool_submit(runner->world.pool, &job->job);
        job = next;
    }
}

struct run *runner_find(struct runner *runner, int64_t id)
{
    VEC_FOREACH(run, &runner->runs)
        if ((*run)->row.id == id)
            return *run;
    return NULL;
}

int64_t runner_wall(const struct runner *runner)
{
    return runner->clock->wall_ms(runner->clock);
}

uint64_t runner_changes(const struct runner *runner)
{
    return runner->changes;
}

const struct verb *runner_verb(const struct runner *runner, const char *name)
{
    const struct plan_world world = runner_plan_world(runner);

    for (size_t i = 0; i < world.verb_count; i++)
        if (str_eq(world.verbs[i]->name, name))
            return world.verbs[i];
    return NULL;
}

struct plan_world runner_plan_world(const struct runner *runner)
{
    struct plan_world world = {
        .verbs = runner->world.verbs,
        .verb_count = runner->world.verb_count,
        .here = runner->world.here->name,
    };

    if (!world.verbs)
        world.verbs = verb_all(&world.verb_count);
    return world;
}

/* --- A run ----------------------------------------------------------------------------------- */

void run_must(int result, const struct err *err)
{
    if (result >= 0)
        return;
    log_error("run", "state cannot be written, the daemon ends error=\"%s\"", err->text);
    _exit(EXIT_NO_STATE);
}

void run_changed(struct run *run)
{
    struct runner *runner = run->runner;

    runner->changes++;
    if (runner->world.changed)
        runner->world.changed(runner->world.ctx, run->row.id);
}

void run_save(struct run *run)
{
    struct err err = ERR_EMPTY;

    free(run->row.state);
    free(run->row.inputs);
    run->row.state = mem_strdup(sm_name(&run_sm, run->state));
    run->row.inputs = json_text(run->inputs);
    run->row.ended_ms = is_open(run->state)     ? 0
                        : run->row.ended_ms > 0 ? run->row.ended_ms
                                                : runner_wall(run->runner);
    run_must(state_run_put(run->runner->world.state, &run->row, &err), &err);
    CRASH_POINT("run.state");
    run_changed(run);
}

void run_move(struct run *run, enum run_state state, const char *reason)
{
    const char *from = sm_name(&run_sm, run->state);

    sm_move(&run_sm, &run->state, (int)state);
    char *copy = mem_strdup(reason);
    free(run->row.reason);
    run->row.reason = copy;
    run_save(run);
    log_info("run", "%s run=%s plan=%s kind=%s from=%s%s%s%s", sm_name(&run_sm, run->state),
             run->name, run->row.plan, run->row.kind, from, *reason ? " reason=\"" : "", copy,
             *reason ? "\"" : "");
}

void step_move(struct run_step *step, enum step_state state)
{
    sm_move(&step_sm, &step->state, (int)state);
    if (state != STEP_RUNNING && state != STEP_ASKING)
        run_body_drop(step);
    run_changed(step->run);
}

const struct plan_task *run_task(const struct run_step *step)
{
    return &step->run->tasks.at[step->index];
}

const struct plan_task_action *run_action(const struct run_step *step)
{
    return step->body ? &step->body->action : &run_task(step)->actions.at[step->action];
}

void run_free(struct run *run)
{
    if (!run)
        return;
    for (size_t i = 0; run->steps && i < run->tasks.len; i++) {
        run_body_drop(&run->steps[i]);
        loop_forget(run->runner->world.loop, &run->steps[i]);
    }
    loop_forget(run->runner->world.loop, run);
    plan_tasks_done(&run->tasks);
    plan_free(run->plan);
    state_actions_done(&run->journal);
    state_run_done(&run->row);
    json_decref(run->inputs);
    json_decref(run->machines);
    free(run->steps);
    free(run);
}

void run_retire(struct run *run)
{
    struct runner *runner = run->runner;

    for (size_t i = 0; i < runner->runs.len; i++)
        if (runner->runs.at[i] == run) {
            memmove(&runner->runs.at[i], &runner->runs.at[i + 1],
                    (--runner->runs.len - i) * sizeof(run));
            break;
        }
    *run_list_push(&runner->ended) = run;
}
