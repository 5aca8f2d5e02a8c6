// SPDX-License-Identifier: Apache-2.0
/* Taking a run back: what is in flight finishes, then each action that has an undo is undone, last
 * first, each with an intent of its own ("undoing") and a result ("undone", "undo-failed"). Undoing
 * twice is harmless, so after a crash those in doubt are undone as well.
 * Past the first destructive action there is no way back. */
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <stdio.h>

#define UNDO_TRIES   5
#define UNDO_WAIT_MS 2000

/* --- The point of no return -------------------------------------------------------------------- */

/* Refusals, which come before anything is changed. Any other failure may have come after. */
static bool surely_not_done(enum err_code code)
{
    return code == ERR_INVALID || code == ERR_NOT_FOUND || code == ERR_FENCED || code == ERR_DENIED
           || code == ERR_UNSUPPORTED;
}

static bool row_is_past(const struct state_action *row)
{
    const struct verb *verb = verb_find(row->verb);

    /* Retiring follows a promotion and changes nothing without one. */
    if (!verb || verb->effect != EFFECT_DESTRUCTIVE || !verb->moves_ownership)
        return false;
    return !str_eq(row->state, "failed") || !surely_not_done(err_code_parse(row->error_code));
}

bool run_machine_past_return(const struct run *run, const char *machine)
{
    const char *group = run_group_name(run->machines, machine);

    if (json_get_bool(json_object_get(run->machines, machine), "past", false))
        return true; /* an earlier try of the same failover was */
    VEC_FOREACH(row, &run->journal) {
        CLEANUP(json_freep) json_t *args = row_is_past(row) ? run_row_args(run, row) : NULL;
        if (args && str_eq(json_get_str(args, "group", ""), group))
            return true;
    }
    return false;
}

bool run_past_return(const struct run *run)
{
    const char *machine;
    json_t *known;

    json_object_foreach(run->machines, machine, known)
        if (run_machine_past_return(run, machine))
            return true;
    return false;
}

/* --- The undo list ----------------------------------------------------------------------------- */

static bool wants_undo(const struct run *run, const struct state_action *row)
{
    const struct verb *verb = run_row_verb(run, row);

    return verb && verb->undo && !str_eq(row->state, "undone")
           && !str_eq(row->state, "undo-failed");
}

/* A function does not do the same in each attempt: all that any of them did. */
static struct state_action *next_undo_of_body(struct run *run, const struct run_step *step)
{
    for (size_t i = run->journal.len; i-- > 0;) {
        struct state_action *row = &run->journal.at[i];
        if (row->step == (int64_t)step->index && wants_undo(run, row))
            return row;
    }
    return NULL;
}

static struct state_action *next_undo_of_verbs(struct run *run, const struct run_step *step)
{
    for (size_t action = run_task(step)->actions.len; action-- > 0;) {
        struct state_action *row = run_journal_newest(run, step->index, action);
        if (row && wants_undo(run, row))
            return row;
    }
    return NULL;
}

static struct state_action *next_undo(struct run *run)
{
    for (size_t i = run->tasks.len; i-- > 0;) {
        const struct run_step *step = &run->steps[i];
        struct state_action *row =
            step_has_body(step) ? next_undo_of_body(run, step) : next_undo_of_verbs(run, step);
        if (row)
            return row;
    }
    return NULL;
}

void run_undo_next(struct run *run)
{
    struct state_action *row = next_undo(run);

    if (run->undo_timer != 0)
        return;
    if (row)
        run_exec_undo(run, (size_t)(row - run->journal.at));
    else
        run_finish_cancelled(run);
}

static void undo_again(void *ctx)
{
    struct run *run = ctx;

    run->undo_timer = 0;
    run_schedule(run);
}

void run_undo_done(struct run *run, size_t index, int rc, const struct err *error)
{
    struct state_action *row = &run->journal.at[index];
    struct run_step *step = &run->steps[row->step];

    run->undo_busy = false;
    if (rc < 0 && err_is_retryable(error->code) && ++run->undo_tries < UNDO_TRIES) {
        log_info("run", "undo is tried again run=%s verb=%s error=\"%s\"", run->name, row->verb,
                 error->text);
        run->undo_timer = loop_timer(run->runner->world.loop, UNDO_WAIT_MS, undo_again, run);
        return;
    }
    run->undo_tries = 0;
    if (rc < 0) {
        run->undo_failed = true;
        step->error = *error;
        run_write_undo(run, index, "undo-failed", error);
        log_warn("run", "not undone run=%s step=\"%s\" error=\"%s\"", run->name,
                 run_task(step)->title, error->text);
        return;
    }
    run_write_undo(run, index, "undone", NULL);
    if (sm_allows(&step_sm, step->state, STEP_UNDONE))
        step_move(step, STEP_UNDONE);
    log_info("run", "undone run=%s step=\"%s\"", run->name, run_task(step)->title);
}

/* --- Asking for it ----------------------------------------------------------------------------- */

static int refuse_past(const struct run *run, struct err *err)
{
    if (run_is_after(run->kind))
        return err_set(
            err, ERR_STATE, 0,
            "run %" PRId64 ", a %s of what is here already, is not taken back; hint: let "
            "it end; if it fails, `muster %s %s` goes on with it",
            run->row.id, run_kind_name(run->kind), run_kind_name(run->kind), run->row.plan);
    return err_set(err, ERR_STATE, 0,
                   "run %" PRId64 " is past its point of no return: this site is the writer now;"
                   " hint: let it end; if it fails, run %s again: it goes on where it stopped",
                   run->row.id, run->row.plan);
}

/* One that failed before its point of no return may be taken back as well. */
static int load_failed(struct runner *runner, int64_t id, struct run **ret_run, struct err *err)
{
    CLEANUP(state_run_done) struct state_run row = {0};

    if (state_run_get(runner->world.state, id, &row, err) < 0)
        return -1;
    int state = sm_parse(&run_sm, row.state);
    int kind = run_kind_parse(row.kind);
    if (state == RUN_CLEANUP_DUE || state == RUN_CLEANUP_FAILED)
        return err_set(err, ERR_STATE, 0, "run %" PRId64 " is over; hint: muster cleanup %s", id,
                       row.plan);
    if (state != RUN_FAILED || kind < 0 || !run_is_real((enum run_kind)kind))
        return err_set(err, ERR_STATE, 0, "run %" PRId64 " has ended (%s)", id, row.state);
    return run_load(runner, &row, ret_run, err);
}

static void fire_harmless(struct run *run)
{
    for (size_t i = 0; i < run->tasks.len; i++) {
        struct run_step *step = &run->steps[i];
        if (step->busy && (run_body_thinks(step) || run_action(step)->verb->effect == EFFECT_NONE))
            cancel_fire(step->cancel);
        if (step->timer != 0) {
            loop_timer_cancel(run->runner->world.loop, step->timer);
            step->timer = 0;
        }
    }
}

static void begin_cancel(struct run *run, const char *who)
{
    CLEANUP(mem_freep) char *reason = mem_printf("cancelled by %s", who ? who : "somebody");

    for (size_t i = 0; i < run->journal.len; i++)
        if (str_eq(run->journal.at[i].state, "undo-failed"))
            run_write_undo(run, i, "undoing", NULL);
    run->undo_failed = false;
    run_move(run, RUN_CANCELLING, reason);
    fire_harmless(run);
    run_ask_drop(run, "the run was cancelled before it was answered");
    run_schedule(run);
}

int runner_cancel(struct runner *runner, int64_t id, const char *who, struct err *err)
{
    struct run *run = runner_find(runner, id);

    if (run) {
        if (run->state == RUN_CANCELLING)
            return 0;
        if (run_past_return(run))
            return refuse_past(run, err);
        begin_cancel(run, who);
        return 0;
    }
    if (load_failed(runner, id, &run, err) < 0)
        return -1;
    if (run_past_return(run)) {
        (void)refuse_past(run, err);
        run_free(run);
        return -1;
    }
    *run_list_push(&runner->runs) = run;
    run->row.ended_ms = 0;
    begin_cancel(run, who);
    return 0;
}
