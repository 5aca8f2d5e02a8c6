// SPDX-License-Identifier: Apache-2.0
/* After a crash. The journal says how far each step was. An action that was started and has no
 * result is in doubt: its verb's probe asks the world. Done: its result is written. Not done: it is
 * run, under the same intent. Nobody can tell: the run pauses, a person decides. Actions without
 * an effect are simply run again. */
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <string.h>

/* The peer may be starting, too. */
#define PROBES_MAX    30
#define PROBE_WAIT_MS 2000

/* --- What the journal says -------------------------------------------------------------------- */

void step_load_error(struct run_step *step, const struct state_action *row)
{
    enum err_code code = row->error_code[0] ? err_code_parse(row->error_code) : ERR_NONE;

    (void)err_set(&step->error, code, 0, "%s", row->error);
}

/* True: this action is over and the next one is to be looked at. */
static bool rebuild_action(struct run_step *step, const struct state_action *row)
{
    if (str_eq(row->state, "done"))
        return true;
    if (str_eq(row->state, "skipped")) {
        step->state = STEP_SKIPPED;
        return true;
    }
    if (str_eq(row->state, "started")) {
        step->doubt = true;
    } else if (str_eq(row->state, "failed")) {
        step->state = STEP_FAILED;
        step_load_error(step, row);
    } else if (str_eq(row->state, "unknown")) {
        step->state = STEP_UNKNOWN;
        step_load_error(step, row);
    } else {
        step->state = STEP_UNDONE; /* undoing, undone, undo-failed */
        step_load_error(step, row);
    }
    return false;
}

static void rebuild_step(struct run_step *step)
{
    struct run *run = step->run;
    size_t count = run->tasks.at[step->index].actions.len;

    VEC_FOREACH(row, &run->journal) {
        if (row->step != (int64_t)step->index)
            continue;
        if (row->attempt > step->attempt)
            step->attempt = row->attempt;
        if (step->started_ms == 0 || row->started_ms < step->started_ms)
            step->started_ms = row->started_ms;
        if (row->ended_ms > step->ended_ms)
            step->ended_ms = row->ended_ms;
    }
    if (step->attempt == 0)
        return; /* waiting */
    if (step_has_body(step)) {
        run_body_rebuild(step);
        return;
    }
    step->state = STEP_RUNNING;
    for (step->action = 0; step->action < count; step->action++) {
        const struct state_action *row = run_journal_find(run, step);
        if (!row || !rebuild_action(step, row))
            return;
    }
    if (step->state == STEP_RUNNING)
        step->state = STEP_DONE;
}

void run_rebuild(struct run *run)
{
    for (size_t i = 0; i < run->tasks.len; i++)
        rebuild_step(&run->steps[i]);
    VEC_FOREACH(row, &run->journal)
        run->undo_failed = run->undo_failed || str_eq(row->state, "undo-failed");
}

/* --- Going on --------------------------------------------------------------------------------- */

static void probe_again(void *ctx)
{
    struct run_step *step = ctx;

    step->timer = 0;
    if (step->run->state == RUN_RUNNING && step->state == STEP_RUNNING)
        run_exec_probe(step);
}

static void settle(struct run_step *step)
{
    step->doubt = false;
    step->doubt_settled = true;
    if (step->run->state == RUN_RUNNING)
        run_exec(step);
}

void run_probe_done(struct run_step *step, int rc, enum verb_answer answer, json_t *result,
                    const struct err *error)
{
    struct run *run = step->run;
    const char *verb = run_action(step)->verb->name;

    if (rc < 0 && err_is_retryable(error->code) && step->doubts++ < PROBES_MAX) {
        step->timer = loop_timer(run->runner->world.loop, PROBE_WAIT_MS, probe_again, step);
        return;
    }
    if (rc == 0 && answer == ANSWER_DONE) {
        log_info("run", "was done before the restart run=%s step=\"%s\" verb=%s", run->name,
                 run_task(step)->title, verb);
        step->doubt = false;
        run_action_done(step, result);
        return;
    }
    if (rc == 0 && answer == ANSWER_NOT_DONE) {
        log_info("run", "was not done before the restart run=%s step=\"%s\" verb=%s", run->name,
                 run_task(step)->title, verb);
        run_learn(run, result); /* what the try that was cut leaves unknown, say */
        settle(step);
        return;
    }
    step->doubt = false;
    (void)err_set(&step->error, ERR_UNKNOWN, 0,
                  "it cannot be told whether \"%s\" was done before the restart%s%s",
                  run_task(step)->title, rc < 0 ? ": " : "", rc < 0 ? error->text : "");
    run_action_unknown(step);
}

void run_doubt(struct run_step *step)
{
    const struct verb *verb = run_action(step)->verb;

    step->doubt = !verb->asks;
    if (verb->asks)
        run_ask(step); /* as if nothing had been: its time counts from its intent */
    else if (verb->effect == EFFECT_NONE || !verb->probe)
        settle(step);
    else
        run_exec_probe(step);
}

static void take_up_step(struct run_step *step)
{
    struct run *run = step->run;

    if (step->state == STEP_FAILED && step_may_retry(step) && run->state == RUN_RUNNING) {
        int64_t since = runner_wall(run->runner) - step->ended_ms;
        int64_t wait = run_task(step)->retry_wait_ms - since;
        step->state = STEP_RETRYING;
        step_retry_in(step, wait > 0 ? wait : 0);
        return;
    }
    /* A paused run in which a step is under way: that one asks a person. */
    bool goes_on = run->state == RUN_RUNNING || run->state == RUN_PAUSED;
    if (step->state == STEP_RUNNING && step->doubt && run_action(step)->verb->asks && goes_on) {
        run_doubt(step);
        return;
    }
    if (step->state == STEP_RUNNING && step_has_body(step) && run->state == RUN_PAUSED)
        run_move(run, RUN_RUNNING, ""); /* its function must come to its question again */
    if (step->state != STEP_RUNNING || run->state != RUN_RUNNING)
        return;
    step_set_deadline(step);
    if (step_has_body(step))
        run_body_begin(step); /* finds by itself what is in doubt */
    else if (!step->doubt)
        run_exec(step); /* between two of its actions */
    else
        run_doubt(step);
}

static int take_up(struct runner *runner, struct state_run *row, struct err *err)
{
    struct run *run;

    if (run_load(runner, row, &run, err) < 0)
        return -1;
    *run_list_push(&runner->runs) = run;
    log_info("run", "taken up after a restart run=%s plan=%s kind=%s state=%s", run->name,
             run->row.plan, run->row.kind, sm_name(&run_sm, run->state));
    if (run->state == RUN_CHECKING)
        run_move(run, RUN_RUNNING, "");
    for (size_t i = 0; i < run->tasks.len; i++)
        take_up_step(&run->steps[i]);
    run_schedule(run);
    return 0;
}

/* A run that cannot be read must not keep the daemon from its other work. */
int runner_recover(struct runner *runner, struct err *err)
{
    CLEANUP(state_runs_done) struct state_runs rows = VEC_EMPTY;

    if (state_run_list(runner->world.state, true, &rows, err) < 0)
        return err_wrap(err, "open runs");
    for (size_t i = rows.len; i-- > 0;) { /* oldest first */
        struct err failure = ERR_EMPTY;
        if (!run_is_active(sm_parse(&run_sm, rows.at[i].state)))
            continue;
        if (take_up(runner, &rows.at[i], &failure) < 0)
            log_error("run", "left as it is error=\"%s\"", failure.text);
    }
    return 0;
}
