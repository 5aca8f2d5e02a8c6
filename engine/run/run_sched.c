// SPDX-License-Identifier: Apache-2.0
/* When a step may start: in the order of the text; those of one parallel block together, when all
 * before them are over. A step that failed stops the run, unless its on_failure says `continue`
 * (the run ends "with errors") or `pause` (a person decides). Nothing new starts while the run is
 * stopping; what is in flight is always let finish. */
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define DECIDE_HINT "hint: muster run retry, skip or fail"

/* --- A step's attempts ----------------------------------------------------------------------- */

/* Errors that another attempt meets again for sure. */
static bool is_final(enum err_code code)
{
    return code == ERR_INVALID || code == ERR_UNSUPPORTED || code == ERR_FENCED
           || code == ERR_DENIED || code == ERR_CORRUPT || code == ERR_CANCELLED
           || code == ERR_UNKNOWN;
}

/* Again the clock of an attempt: from its start, or after a restart from then. */
void step_set_deadline(struct run_step *step)
{
    struct clock *clock = step->run->runner->clock;
    int64_t within = run_task(step)->within_ms;

    step->deadline_ms = within > 0 ? clock->now_ms(clock) + within : 0;
}

static void begin_attempt(struct run_step *step)
{
    step->attempt++;
    step->action = 0;
    step_set_deadline(step);
    if (step->started_ms == 0)
        step->started_ms = runner_wall(step->run->runner);
    step->ended_ms = 0;
    step_move(step, STEP_RUNNING);
    if (step_has_body(step))
        run_body_begin(step);
    else
        run_exec(step);
}

static void retry_now(void *ctx)
{
    struct run_step *step = ctx;

    step->timer = 0;
    if (step->run->state == RUN_RUNNING && step->state == STEP_RETRYING)
        begin_attempt(step);
}

bool step_may_retry(const struct run_step *step)
{
    return step->attempt <= (int64_t)run_task(step)->retry_times && step->error.code != ERR_NONE
           && !is_final(step->error.code);
}

void step_retry_in(struct run_step *step, int64_t wait_ms)
{
    step_move(step, STEP_RETRYING);
    step->timer = loop_timer(step->run->runner->world.loop, wait_ms, retry_now, step);
}

void step_failed(struct run_step *step)
{
    const struct plan_task *task = run_task(step);
    struct run *run = step->run;

    step->ended_ms = runner_wall(run->runner);
    if (step_may_retry(step) && run->state == RUN_RUNNING) {
        step_retry_in(step, task->retry_wait_ms);
        log_info("run",
                 "step failed, is tried again run=%s step=\"%s\" attempt=%" PRId64
                 " of=%u error=\"%s\"",
                 run->name, task->title, step->attempt, task->retry_times + 1, step->error.text);
        return;
    }
    step_move(step, STEP_FAILED);
    log_warn("run", "step failed run=%s step=\"%s\" code=%s error=\"%s\"", run->name, task->title,
             err_code_name(step->error.code), step->error.text);
}

void step_done(struct run_step *step)
{
    step->ended_ms = runner_wall(step->run->runner);
    step->error = (struct err)ERR_EMPTY;
    step_move(step, STEP_DONE);
    log_info("run", "step done run=%s step=\"%s\" took_ms=%" PRId64, step->run->name,
             run_task(step)->title, step->ended_ms - step->started_ms);
}

void step_unknown(struct run_step *step)
{
    step->ended_ms = runner_wall(step->run->runner);
    step_move(step, STEP_UNKNOWN);
    log_warn("run", "nobody can tell whether it happened run=%s step=\"%s\" error=\"%s\"",
             step->run->name, run_task(step)->title, step->error.text);
}

/* --- The order ------------------------------------------------------------------------------- */

static bool is_over(const struct run_step *step)
{
    return step->state == STEP_DONE || step->state == STEP_SKIPPED
           || (step->state == STEP_FAILED && run_task(step)->on_failure == PLAN_FAIL_CONTINUE);
}

/* One past the last step of the block that begins at `from`. */
static size_t block_end(const struct run *run, size_t from)
{
    unsigned group = run->tasks.at[from].group;
    size_t end = from + 1;

    while (group != 0 && end < run->tasks.len && run->tasks.at[end].group == group)
        end++;
    return end;
}

/* The first step that stops the run, or asks a person; NULL: none. */
static struct run_step *first_of(struct run *run, enum plan_on_failure on_failure)
{
    for (size_t i = 0; i < run->tasks.len; i++) {
        struct run_step *step = &run->steps[i];
        if (step->state == STEP_FAILED && run_task(step)->on_failure == on_failure)
            return step;
        if (step->state == STEP_UNKNOWN && on_failure == PLAN_FAIL_PAUSE)
            return step;
    }
    return NULL;
}

static bool any_in(const struct run *run, enum step_state state)
{
    for (size_t i = 0; i < run->tasks.len; i++)
        if (run->steps[i].state == (int)state)
            return true;
    return false;
}

static void pause_run(struct run *run, const struct run_step *step)
{
    CLEANUP(mem_freep)
    char *reason = mem_printf("step %zu \"%s\": %s; " DECIDE_HINT, step->index + 1,
                              run_task(step)->title, step->error.text);

    run_move(run, RUN_PAUSED, reason);
}

static void start_block(struct run *run, size_t from, size_t end)
{
    for (size_t i = from; i < end; i++)
        if (run->steps[i].state == STEP_WAITING)
            begin_attempt(&run->steps[i]);
}

/* Retries that wait are given up when the run stops. */
static void drop_retries(struct run *run)
{
    for (size_t i = 0; i < run->tasks.len; i++) {
        struct run_step *step = &run->steps[i];
        if (step->state != STEP_RETRYING)
            continue;
        loop_timer_cancel(run->runner->world.loop, step->timer);
        step_move(step, STEP_FAILED);
    }
}

static void go_on(struct run *run)
{
    struct run_step *stopper = first_of(run, PLAN_FAIL_STOP);
    struct run_step *asking = first_of(run, PLAN_FAIL_PAUSE);

    if (stopper || asking) {
        if (any_in(run, STEP_RUNNING) || (!stopper && any_in(run, STEP_RETRYING)))
            return;
        if (stopper) {
            drop_retries(run);
            run_ask_drop(run, "the run stopped before it was answered");
            run_finish(run, stopper);
        } else {
            pause_run(run, asking);
        }
        return;
    }
    for (size_t from = 0, end; from < run->tasks.len; from = end) {
        size_t over = 0;
        end = block_end(run, from);
        for (size_t i = from; i < end; i++)
            over += is_over(&run->steps[i]);
        if (over == end - from)
            continue;
        start_block(run, from, end);
        return;
    }
    run_finish(run, NULL);
}

void run_schedule(struct run *run)
{
    if (run->state == RUN_CHECKING)
        run_move(run, RUN_RUNNING, "");
    if (run->state == RUN_RUNNING) {
        go_on(run);
        run_ask_pause(run);
    } else if (run->state == RUN_CANCELLING && !run_in_flight(run)) {
        run_undo_next(run);
    }
}

/* --- A person's answer ------------------------------------------------------------------------ */

/* Every action of the step that has no result gets a row that says who decided. */
static int write_decision(struct run_step *step, const char *state, const char *text,
                          struct err *err)
{
    struct run *run = step->run;
    const struct plan_task *task = run_task(step);

    if (step_has_body(step))
        return run_body_decide(step, state, text, err);
    for (size_t i = 0; i < task->actions.len; i++) {
        struct state_action *row = run_journal_newest(run, step->index, i);
        if (row && str_eq(row->state, "done"))
            continue;
        if (!row) {
            row = state_actions_push(&run->journal);
            *row = (struct state_action){.run = run->row.id,
                                         .step = (int64_t)step->index,
                                         .attempt = step->attempt,
                                         .action = (int64_t)i,
                                         .verb = mem_strdup(task->actions.at[i].verb->name),
                                         .args = json_text(task->actions.at[i].args),
                                         .result = mem_strdup(""),
                                         .started_ms = runner_wall(run->runner)};
        }
        free(row->state);
        free(row->error);
        free(row->error_code);
        row->state = mem_strdup(state);
        row->error = mem_strdup(text);
        row->error_code = mem_strdup(""); /* nobody's error: it is not tried again */
        row->ended_ms = runner_wall(run->runner);
        if (state_action_put(run->runner->world.state, row, err) < 0)
            return -1;
    }
    return 0;
}

static int decide(struct run_step *step, enum runner_decision decision, const char *text,
                  struct err *err)
{
    switch (decision) {
    case RUNNER_RETRY: return 0;
    case RUNNER_SKIP:
        if (write_decision(step, "skipped", text, err) < 0)
            return -1;
        step_move(step, STEP_SKIPPED);
        return 0;
    case RUNNER_FAIL:
        (void)err_set(&step->error, ERR_STATE, 0, "%s", text);
        if (write_decision(step, "failed", text, err) < 0)
            return -1;
        if (step->state != STEP_FAILED)
            step_move(step, STEP_FAILED);
        return 0;
    }
    return err_set(err, ERR_INVALID, 0, "no such decision");
}

int runner_decide(struct runner *runner, int64_t id, size_t index, enum runner_decision decision,
                  const char *reason, const char *who, struct err *err)
{
    static const char *const words[] = {"retried", "skipped", "failed"};
    struct run *run = runner_find(runner, id);

    if (!run || run->state != RUN_PAUSED)
        return err_set(err, ERR_STATE, 0, "run %" PRId64 " does not wait for a decision", id);
    if (index >= run->tasks.len)
        return err_set(err, ERR_NOT_FOUND, 0, "run %" PRId64 " has %zu steps", id, run->tasks.len);
    struct run_step *step = &run->steps[index];
    if (step->state != STEP_FAILED && step->state != STEP_UNKNOWN)
        return err_set(err, ERR_STATE, 0, "step %zu is %s; it waits for nobody", index + 1,
                       sm_name(&step_sm, step->state));
    CLEANUP(mem_freep)
    char *text = mem_printf("%s by %s%s%s", words[decision], who ? who : "somebody",
                            reason && *reason ? ": " : "", reason ? reason : "");
    if (decide(step, decision, text, err) < 0)
        return -1;
    log_info("run", "decided run=%s step=\"%s\" %s", run->name, run_task(step)->title, text);
    run_move(run, RUN_RUNNING, "");
    if (decision == RUNNER_RETRY)
        begin_attempt(step);
    else if (decision == RUNNER_FAIL && run_task(step)->on_failure == PLAN_FAIL_PAUSE)
        run_finish(run, step); /* `pause` asked; the answer is: it failed */
    else
        run_schedule(run);
    return 0;
}
