// SPDX-License-Identifier: Apache-2.0
/* A step that is a function. Its attempt is a conversation with a child that runs it (host/host.h):
 *
 *   child: act(check { ... })  ->  the journal has this action of the attempt?
 *                                    no                    intent, job, result     -> told
 *                                    with a result         (the same verb, args)   -> told at once
 *                                    without one           in doubt: probe, as of any step
 *                                    another verb, args    not deterministic: the step fails
 *
 * So beginning anew and going on after a crash, of this process or of the child, are one thing: a new
 * child begins at the first line, and is told from the journal what it was told before. Its end is an
 * action "return" in the journal, so that an attempt which ended is not run again.
 *
 * A pool thread is taken only while the function thinks (milliseconds, at most the host's wall
 * clock), not while its actions are under way. */
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* More means a loop that never ends and that no `within` bounds. */
#define ACTIONS_MAX 1000
/* A child that is killed again and again, without having done anything new. */
#define DEATHS_MAX 3

/* What a job of MODE_BODY works with; its own until it is done. */
struct run_talk {
    struct host_body *child; /* NULL: to be started, with the rest */
    json_t *answer;          /* NULL: begin */
    struct host host;
    char *name;
    char *source;
    char id[PLAN_ID_BYTES];
    json_t *words;
};

/* A child that is of no use any more: its end is waited for where that holds up nobody. */
struct reaping {
    struct pool_job job;
    struct host_body *child;
};

bool step_has_body(const struct run_step *step)
{
    return run_task(step)->body_first > 0;
}

bool run_body_thinks(const struct run_step *step)
{
    return step->body && !step->body->action.verb;
}

/* --- The job, on a pool thread ---------------------------------------------------------------- */

static void end_child(struct run_talk *talk)
{
    host_body_free(talk->child);
    talk->child = NULL;
}

void run_talk_run(struct run_job *job)
{
    struct run_talk *talk = job->talk;

    job->rc = cancel_check(job->job.cancel, &job->error);
    if (job->rc == 0 && !talk->child)
        job->rc = host_body_start(&talk->host, talk->name, talk->source, strlen(talk->source),
                                  talk->words, talk->id, &talk->child, &job->error);
    if (job->rc == 0)
        job->rc =
            host_body_ask(talk->child, talk->answer, &job->result, job->job.cancel, &job->error);
    if (job->rc < 0 || json_object_get(job->result, "value"))
        end_child(talk); /* here, where its end may be waited for */
}

void run_talk_free(struct run_talk *talk)
{
    if (!talk)
        return;
    end_child(talk);
    json_decref(talk->answer);
    json_decref(talk->words);
    free(talk->name);
    free(talk->source);
    free(talk);
}

static void reap_run(struct pool_job *base)
{
    struct reaping *reaping = (struct reaping *)base;

    host_body_free(reaping->child);
}

static void reap_done(struct pool_job *base)
{
    free(base);
}

/* --- Beginning, telling, dropping -------------------------------------------------------------- */

static void drop_child(struct run_step *step)
{
    struct runner *runner = step->run->runner;
    struct host_body *child = TAKE(step->body->child);

    if (!child)
        return;
    if (runner->stopping) { /* the pool may be gone */
        host_body_free(child);
        return;
    }
    struct reaping *reaping = mem_new(struct reaping);
    reaping->job = (struct pool_job){.run = reap_run, .done = reap_done};
    reaping->child = child;
    pool_submit(runner->world.pool, &reaping->job);
}

static void drop_action(struct run_body *body)
{
    json_decref(body->action.args);
    body->action = (struct plan_task_action){0};
}

/* Decides that the function is told (`answer` is taken), or begins. */
static void talk(struct run_step *step, json_t *answer)
{
    struct run_job *job = run_job_add(step->run, MODE_BODY, run_left_ms(step));
    const struct run *run = step->run;
    const struct plan_world world = runner_plan_world(run->runner);
    struct run_talk *talk = mem_new(struct run_talk);

    drop_action(step->body);
    job->step = step;
    job->talk = talk;
    talk->child = TAKE(step->body->child);
    talk->answer = answer;
    if (!talk->child) {
        talk->host = *run->runner->world.host;
        talk->name = mem_strdup(run->plan->name);
        talk->source = mem_strdup(run->source);
        memcpy(talk->id, run_task(step)->id, sizeof(talk->id));
        talk->words = plan_words(&world);
    }
    step->busy = true;
    step->cancel = job->job.cancel;
}

void run_body_begin(struct run_step *step)
{
    if (!step->body)
        step->body = mem_new(struct run_body);
    drop_child(step);
    step->action = 0;
    talk(step, NULL);
}

void run_body_drop(struct run_step *step)
{
    if (!step->body)
        return;
    drop_child(step);
    drop_action(step->body);
    free(step->body);
    step->body = NULL;
}

/* --- Its end ----------------------------------------------------------------------------------- */

static void fail(struct run_step *step, const struct err *error)
{
    step->error = *error;
    run_body_write_end(step, "failed", NULL, error);
    step_failed(step);
}

void run_body_give_up(struct run_step *step)
{
    const struct err error = step->error;

    run_write_result(step->run, run_journal_find(step->run, step), "failed", NULL, &error);
    fail(step, &error);
}

/* Whoever reads the journal must find in it what the function does: another attempt would differ
 * as well. */
static void fail_differs(struct run_step *step, unsigned line, const char *now)
{
    const struct state_action *before = run_journal_find(step->run, step);
    struct err error = ERR_EMPTY;

    err_put(&error, ERR_INVALID, 0,
            "%s:%u: step \"%s\" is not deterministic: its action %zu was %s %.200s, and is %.300s "
            "when it is run again; hint: do not decide by what differs from one time to the next",
            step->run->plan->name, line ? line : run_task(step)->body_first, run_task(step)->title,
            step->action + 1, before ? before->verb : "the end", before ? before->args : "", now);
    fail(step, &error);
}

static void ended(struct run_step *step, const json_t *value)
{
    if (run_body_rows(step) > step->action) {
        fail_differs(step, 0, "the end");
        return;
    }
    run_body_write_end(step, "done", value, NULL);
    step_done(step);
}

/* No more than a restart of ours: nothing is lost, and the journal says how to go on. */
static bool begin_again(struct run_step *step, const struct err *error)
{
    if (error->code != ERR_IO || ++step->body->deaths > DEATHS_MAX)
        return false;
    log_warn("run", "its function is begun anew run=%s step=\"%s\" error=\"%s\"", step->run->name,
             run_task(step)->title, error->text);
    run_body_begin(step);
    return true;
}

static void fail_late(struct run_step *step)
{
    struct err error = ERR_EMPTY;
    char within[32];

    err_put(&error, ERR_TIMEOUT, 0, "not finished within %s",
            str_duration(run_task(step)->within_ms, within, sizeof(within)));
    fail(step, &error);
}

static void broke_off(struct run_step *step, const struct err *error)
{
    if (begin_again(step, error))
        return;
    if (error->code == ERR_TIMEOUT && run_left_ms(step) == 0)
        fail_late(step);
    else
        fail(step, error);
}

/* --- What it asks for ---------------------------------------------------------------------------- */

VEC_DEFINE(names, const char *)

static void add_name(struct names *names, const char *name)
{
    VEC_FOREACH(known, names)
        if (str_eq(*known, name))
            return;
    *names_push(names) = name;
}

/* Checked against the same as when the plan was added: this site's machines and protections. */
static int check_act(const struct run_step *step, const struct plan_act *act,
                     struct plan_task_action *ret_action, struct err *err)
{
    const struct run *run = step->run;
    struct state *state = run->runner->world.state;
    CLEANUP(json_freep) json_t *machines = NULL;
    CLEANUP(state_protections_done) struct state_protections protections = VEC_EMPTY;
    CLEANUP(names_free) struct names names = VEC_EMPTY;
    CLEANUP(names_free) struct names sites = VEC_EMPTY;
    struct plan_world world = runner_plan_world(run->runner);
    struct plan_task_action action = {.line = act->line};
    const json_t *machine;
    const char *name;
    json_t *known;
    size_t i;

    if (runner_machines(state, &machines, err) < 0
        || state_protection_list(state, &protections, err) < 0)
        return -1;
    add_name(&sites, world.here);
    json_array_foreach(machines, i, machine)
        add_name(&names, json_string_value(machine));
    VEC_FOREACH(protection, &protections)
        add_name(&sites, protection->peer);
    json_object_foreach(run->machines, name, known) {
        add_name(&names, name);
        add_name(&sites, json_get_str(known, "peer", world.here));
    }
    *names_push(&names) = NULL;
    *names_push(&sites) = NULL;
    world.machines = names.at;
    world.sites = sites.at;
    if (plan_check_act(&world, act, &action.verb, &action.args, err) < 0)
        return -1;
    *ret_action = action;
    return 0;
}

static bool is_same(const struct state_action *row, const struct plan_task_action *action)
{
    CLEANUP(json_freep) json_t *args = NULL;

    return str_eq(row->verb, action->verb->name)
           && json_parse(row->args, strlen(row->args), &args, NULL) == 0
           && json_equal(args, action->args);
}

static void act(struct run_step *step, const json_t *asked, unsigned line)
{
    const struct plan_act act = {
        .file = step->run->plan->name,
        .source = step->run->source,
        .verb = json_get_str(asked, "verb", "?"),
        .args = json_object_get(asked, "args"),
        .line = line,
    };
    struct err error = ERR_EMPTY;

    if (step->action >= ACTIONS_MAX) {
        err_put(&error, ERR_LIMIT, 0,
                "%s:%u: more than %d actions in one attempt; hint: look for a loop that never ends",
                act.file, line, ACTIONS_MAX);
        fail(step, &error);
        return;
    }
    if (check_act(step, &act, &step->body->action, &error) < 0) {
        fail(step, &error);
        return;
    }
    const struct state_action *row = run_journal_find(step->run, step);
    if (!row) {
        step->body->deaths = 0;
        run_exec(step);
    } else if (!is_same(row, &step->body->action)) {
        CLEANUP(mem_freep) char *args = json_text(step->body->action.args);
        CLEANUP(mem_freep) char *now = mem_printf("%s %s", act.verb, args);
        fail_differs(step, line, now);
    } else if (str_eq(row->state, "started")) {
        step->doubt = true;
        run_doubt(step);
    } else {
        run_body_answer(step);
    }
}

static void result_of(struct run_step *step, const char *title, unsigned line)
{
    struct err error = ERR_EMPTY;
    json_t *answer;

    if (run_body_result_of(step, title, &answer, &error) < 0) {
        err_prefix(&error, "%s:%u", step->run->plan->name, line);
        fail(step, &error);
        return;
    }
    talk(step, answer);
}

void run_talk_done(struct run_step *step, struct run_job *job)
{
    const json_t *request = job->result;
    unsigned line = (unsigned)json_get_u64(request, "line", 0);

    CRASH_POINT("run.heard");
    step->body->child = TAKE(job->talk->child);
    if (step->run->state != RUN_RUNNING)
        run_body_drop(step); /* cancelled meanwhile */
    else if (job->rc < 0)
        broke_off(step, &job->error);
    else if (json_object_get(request, "act") && run_left_ms(step) == 0)
        fail_late(step);
    else if (json_object_get(request, "act"))
        act(step, json_object_get(request, "act"), line);
    else if (json_object_get(request, "result_of"))
        result_of(step, json_get_str(request, "result_of", ""), line);
    else
        ended(step, json_object_get(request, "value"));
}

void run_body_answer(struct run_step *step)
{
    const struct state_action *row = run_journal_find(step->run, step);
    CLEANUP(json_freep) json_t *result = NULL;

    if (step->run->state != RUN_RUNNING) {
        run_body_drop(step);
        return;
    }
    step->action++;
    if (!str_eq(row->state, "done")) {
        talk(step, json_pack("{s:{s:s, s:s, s:s}}", "error", "code", row->error_code, "message",
                             row->error, "verb", row->verb));
        return;
    }
    if (json_parse(row->result, strlen(row->result), &result, NULL) < 0)
        result = json_object();
    talk(step, json_pack("{s:O}", "result", result));
}
