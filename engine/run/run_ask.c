// SPDX-License-Identifier: Apache-2.0
/* A step that asks a person (verb->asks). Its intent in the journal is the question; the answer is
 * its result. Time counts by the wall clock from the intent, so that a restart changes nothing.
 *
 *   running -> asking -> running   yes: {granted, by, note, answered_ms, plan_hash}; the next action
 *                    `-> failed    no, or silence that means no: denied, and not tried again
 *
 * While it asks, the other steps of its block go on; when nothing else does, the run is paused. A
 * yes of an earlier attempt of the same run counts: nobody is asked twice. */
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 4096
/* The wall clock may be set meanwhile. */
#define LOOK_MS 60000

/* --- What is asked ---------------------------------------------------------------------------- */

static const char *arg_of(const struct run_step *step, const char *key, const char *fallback)
{
    return json_get_str(run_action(step)->args, key, fallback);
}

/* The step's own `within` bounds it as well. */
static int64_t until_ms(const struct run_step *step)
{
    const struct state_action *row = run_journal_find(step->run, step);
    int64_t bound = run_task(step)->within_ms;
    int64_t within = 0;

    if (!str_to_ms(arg_of(step, "within", VERB_APPROVE_WITHIN), &within))
        (void)str_to_ms(VERB_APPROVE_WITHIN, &within);
    return row->started_ms + (bound > 0 && bound < within ? bound : within);
}

static bool silence_grants(const struct run_step *step)
{
    return str_eq(arg_of(step, "silence", "deny"), "grant");
}

json_t *run_ask_json(const struct run_step *step)
{
    return json_pack("{s:s, s:s, s:I, s:s}", "question", arg_of(step, "value", ""), "by",
                     arg_of(step, "by", ""), "until_ms", (json_int_t)until_ms(step), "silence",
                     silence_grants(step) ? "grant" : "deny");
}

/* --- Who may answer --------------------------------------------------------------------------- */

static bool in_group(const char *user, const char *group)
{
    gid_t groups[GROUPS_MAX];
    int count = GROUPS_MAX;
    struct passwd entry;
    struct passwd *found = NULL;
    struct group wanted;
    struct group *there = NULL;
    char text[4096];
    char members[65536];

    if (getpwnam_r(user, &entry, text, sizeof(text), &found) != 0 || !found
        || getgrnam_r(group, &wanted, members, sizeof(members), &there) != 0 || !there
        || getgrouplist(user, entry.pw_gid, groups, &count) < 0)
        return false;
    for (int i = 0; i < count; i++)
        if (groups[i] == wanted.gr_gid)
            return true;
    return false;
}

static bool may_answer(const char *by, const char *who)
{
    if (!*by)
        return true;
    return *by == '@' ? in_group(who, by + 1) : str_eq(by, who);
}

/* --- The answer ------------------------------------------------------------------------------- */

/* The run goes on; it is paused again when there is reason to. */
static void wake(struct run *run)
{
    if (run->state == RUN_PAUSED)
        run_move(run, RUN_RUNNING, "");
}

static void take_answer(struct run_step *step, bool granted, const char *by, const char *note)
{
    struct run *run = step->run;
    CLEANUP(json_freep)
    json_t *result = json_pack("{s:b, s:s, s:s, s:I, s:s}", "granted", granted, "by", by, "note",
                               note, "answered_ms", (json_int_t)runner_wall(run->runner),
                               "plan_hash", run->plan->hash);

    if (step->timer != 0) {
        loop_timer_cancel(run->runner->world.loop, step->timer);
        step->timer = 0;
    }
    wake(run);
    log_info("run", "%s run=%s step=\"%s\" by=%s", granted ? "granted" : "denied", run->name,
             run_task(step)->title, by);
    if (granted) {
        step_move(step, STEP_RUNNING);
        run_action_done(step, result);
    } else {
        (void)err_set(&step->error, ERR_DENIED, 0, "\"%s\" was denied by %s%s%s",
                      arg_of(step, "value", ""), by, *note ? ": " : "", note);
        run_action_failed(step, result);
    }
    run_schedule(run);
}

/* The newest yes to the same question of the same plan, or NULL (new reference). */
static json_t *earlier_grant(const struct run_step *step)
{
    json_t *grant = NULL;

    VEC_FOREACH(row, &step->run->journal) {
        json_t *result = NULL;
        if (row->step != (int64_t)step->index || row->action != (int64_t)step->action
            || row->attempt >= step->attempt || !str_eq(row->state, "done")
            || json_parse(row->result, strlen(row->result), &result, NULL) < 0)
            continue;
        if (json_get_bool(result, "granted", false)
            && str_eq(json_get_str(result, "plan_hash", ""), step->run->plan->hash)) {
            json_decref(grant);
            grant = json_incref(result);
        }
        json_decref(result);
    }
    return grant;
}

static void look_again(void *ctx)
{
    struct run_step *step = ctx;
    struct run *run = step->run;

    step->timer = 0;
    if (step->state != STEP_ASKING || (run->state != RUN_RUNNING && run->state != RUN_PAUSED))
        return;
    CLEANUP(json_freep) json_t *grant = earlier_grant(step);
    if (grant) {
        wake(run);
        step_move(step, STEP_RUNNING);
        run_action_done(step, grant);
        run_schedule(run);
        return;
    }
    int64_t left = until_ms(step) - runner_wall(run->runner);
    if (left <= 0) {
        take_answer(step, silence_grants(step), "silence", "nobody answered in time");
        return;
    }
    step->timer =
        loop_timer(run->runner->world.loop, left < LOOK_MS ? left : LOOK_MS, look_again, step);
    run_schedule(run);
}

void run_ask(struct run_step *step)
{
    step_move(step, STEP_ASKING);
    log_info("run", "asks run=%s step=\"%s\" question=\"%s\"", step->run->name,
             run_task(step)->title, arg_of(step, "value", ""));
    /* Answered in a turn of its own: whoever called is in the middle of the schedule. */
    step->timer = loop_timer(step->run->runner->world.loop, 0, look_again, step);
}

void run_ask_drop(struct run *run, const char *why)
{
    for (size_t i = 0; i < run->tasks.len; i++) {
        struct run_step *step = &run->steps[i];
        if (step->state != STEP_ASKING)
            continue;
        if (step->timer != 0)
            loop_timer_cancel(run->runner->world.loop, step->timer);
        step->timer = 0;
        (void)err_set(&step->error, ERR_CANCELLED, 0, "%s", why);
        run_action_failed(step, NULL);
    }
}

/* --- The run ---------------------------------------------------------------------------------- */

static const struct run_step *first_asking(const struct run *run, size_t *ret_count)
{
    const struct run_step *first = NULL;

    *ret_count = 0;
    for (size_t i = 0; i < run->tasks.len; i++) {
        const struct run_step *step = &run->steps[i];
        if (step->state == STEP_RUNNING || step->state == STEP_RETRYING) {
            *ret_count = 0;
            return NULL; /* something else goes on */
        }
        if (step->state != STEP_ASKING)
            continue;
        first = first ? first : step;
        ++*ret_count;
    }
    return first;
}

void run_ask_pause(struct run *run)
{
    CLEANUP(str_free) struct str reason = STR_EMPTY;
    size_t count;
    char until[40];

    if (run->state != RUN_RUNNING)
        return;
    const struct run_step *step = first_asking(run, &count);
    if (!step)
        return;
    const char *by = arg_of(step, "by", "");
    str_addf(&reason, "step %zu \"%s\" asks %s: \"%s\" until %s, then it is %s", step->index + 1,
             run_task(step)->title, *by ? by : "anybody", arg_of(step, "value", ""),
             str_time(until_ms(step), until, sizeof(until)),
             silence_grants(step) ? "granted" : "denied");
    if (count > 1)
        str_addf(&reason, " (and %zu more)", count - 1);
    str_addf(&reason, "; hint: muster run approve %" PRId64 " or muster run deny %" PRId64,
             run->row.id, run->row.id);
    run_move(run, RUN_PAUSED, str_text(&reason));
}

static int find_asking(struct run *run, size_t index, struct run_step **ret_step, struct err *err)
{
    struct run_step *only = NULL;
    size_t count = 0;

    if (index != SIZE_MAX && index >= run->tasks.len)
        return err_set(err, ERR_NOT_FOUND, 0, "run %" PRId64 " has %zu steps", run->row.id,
                       run->tasks.len);
    for (size_t i = 0; i < run->tasks.len; i++) {
        if (run->steps[i].state != STEP_ASKING || (index != SIZE_MAX && index != i))
            continue;
        only = &run->steps[i];
        count++;
    }
    if (count > 1)
        return err_set(err, ERR_STATE, 0, "%zu steps of run %" PRId64 " ask; hint: --step N", count,
                       run->row.id);
    if (!only && index != SIZE_MAX)
        return err_set(err, ERR_STATE, 0, "step %zu is %s; it asks nobody", index + 1,
                       sm_name(&step_sm, run->steps[index].state));
    if (!only)
        return err_set(err, ERR_STATE, 0, "run %" PRId64 " asks nobody", run->row.id);
    *ret_step = only;
    return 0;
}

int runner_answer(struct runner *runner, int64_t id, size_t index, bool granted, const char *note,
                  const char *who, size_t *ret_step, struct err *err)
{
    struct run *run = runner_find(runner, id);
    struct run_step *step;

    if (!run || (run->state != RUN_RUNNING && run->state != RUN_PAUSED))
        return err_set(err, ERR_STATE, 0, "run %" PRId64 " does not wait for an answer", id);
    if (find_asking(run, index, &step, err) < 0)
        return -1;
    const char *by = arg_of(step, "by", "");
    if (!may_answer(by, who ? who : ""))
        return err_set(err, ERR_DENIED, 0,
                       "%s may not answer step %zu; hint: %s%s may, known by the user name on this"
                       " host",
                       who ? who : "somebody", step->index + 1,
                       *by == '@' ? "whoever is in the group " : "", *by == '@' ? by + 1 : by);
    *ret_step = step->index;
    take_answer(step, granted, who ? who : "somebody", note ? note : "");
    return 0;
}
