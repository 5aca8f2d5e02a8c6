// SPDX-License-Identifier: Apache-2.0
/* run_command { "/PROGRAM", args, at, within, env }: runs a program at one of the sites, at most once
 * per attempt. The program outlives the daemons; what became of it is asked until it is known:
 *
 *   observe --none--> start --> observe until it has ended --> its exit status
 *          `-running, ended: begun before a restart, gone on with
 *           `lost: nobody can tell, a person decides */
#include "base/mem.h"
#include "verbs/verb_help.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WITHIN_TEXT   "10m"
#define WITHIN_MS     (10 * 60 * 1000)
#define FIRST_LOOK_MS 20
#define LOOK_MS       1000
/* For the answer after its time is over: the grace between the signals, and a daemon's restart. */
#define PATIENCE_MS 120000
#define STOP_MS     60000
#define LAST_LINES  6
#define LAST_BYTES  600

static const struct verb_arg args[] = {
    {.type = ARG_PATH,
     .required = true,
     .help = "The program, by its whole path; the site's `commands` must allow it."},
    {.name = "args",
     .type = ARG_TEXTS,
     .per_site = true,
     .help = "Its arguments; no shell is used."},
    {.name = "at",
     .type = ARG_SITE,
     .help = "Where it is run: the site that is to own the machines without it."},
    {.name = "within",
     .type = ARG_DURATION,
     .help = "Its time, " WITHIN_TEXT " by default; then SIGTERM to its process group, SIGKILL 10 s"
             " later."},
    {.name = "env",
     .type = ARG_TABLE,
     .help = "Variables of its environment; MUSTER_RUN, MUSTER_KIND, MUSTER_SITE and"
             " MUSTER_ACTION are there in any case."},
};

/* A peer allows it to those it shares a group with: the first machine's stands for the run. */
static json_t *named(const struct verb_call *call)
{
    void *first = json_object_iter((json_t *)(uintptr_t)call->machines);
    const char *machine = first ? json_object_iter_key(first) : "";

    return json_pack("{s:s, s:s, s:s}", "group", *machine ? verb_group_of(call, machine) : "",
                     "run", call->run_name, "id", call->action_id);
}

static json_t *environment(const struct verb_call *call, const struct site *site)
{
    const json_t *given = json_object_get(call->args, "env");
    json_t *env = json_pack("{s:s, s:s, s:s, s:s}", "MUSTER_RUN", call->run_name, "MUSTER_KIND",
                            run_kind_name(call->kind), "MUSTER_SITE", site->name, "MUSTER_ACTION",
                            call->action_id);

    if (json_is_object(given))
        (void)json_object_update_missing(env, (json_t *)(uintptr_t)given);
    return env;
}

static json_t *list_of(const json_t *value)
{
    if (json_is_string(value))
        return json_pack("[O]", value);
    return json_is_array(value) ? json_deep_copy(value) : json_array();
}

static int observe(const struct verb_call *call, struct site *site, json_t **ret_seen,
                   struct cancel *cancel, struct err *err)
{
    return site_ask(site, "command.observe", named(call), ret_seen, cancel, err);
}

static int start(const struct verb_call *call, struct site *site, int64_t within_ms,
                 struct cancel *cancel, struct err *err)
{
    json_t *asked = named(call);

    (void)json_object_set_new(asked, "program", json_string(verb_text(call, "value")));
    (void)json_object_set_new(asked, "args", list_of(json_object_get(call->args, "args")));
    (void)json_object_set_new(asked, "env", environment(call, site));
    (void)json_object_set_new(asked, "within_ms", json_integer(within_ms));
    if (site_ask(site, "command.start", asked, NULL, cancel, err) == 0)
        return 0;
    if (site == call->here || !err_is_retryable(err->code))
        return -1;
    /* The question may have arrived although the answer did not. */
    CLEANUP(cancel_freep) struct cancel *stop = cancel_new(call->clock, NULL, STOP_MS);
    struct err again = ERR_EMPTY;
    if (site_ask(site, "command.stop", named(call), NULL, stop, &again) == 0)
        return -1;
    err->code = ERR_UNKNOWN;
    return err_wrap(err, "%s: it cannot be told whether it was started at %s",
                    verb_text(call, "value"), site->name);
}

/* --- What became of it ------------------------------------------------------------------------ */

/* ": LINE / LINE" of the last lines of its output, or "". `buf` of LAST_BYTES. */
static const char *last_lines(const json_t *seen, char buf[LAST_BYTES])
{
    const char *output = json_get_str(seen, "output", "");
    size_t end = strlen(output);
    size_t from;

    while (end > 0 && strchr("\n\t ", output[end - 1]))
        end--;
    from = end;
    for (int lines = 0; from > 0; from--)
        if (end - from >= LAST_BYTES / 2 || (output[from - 1] == '\n' && ++lines == LAST_LINES))
            break;
    size_t len = 0;
    for (size_t i = from; i < end && len < LAST_BYTES - 8; i++)
        if (output[i] == '\n')
            len += (size_t)snprintf(buf + len, LAST_BYTES - len, " / ");
        else
            buf[len++] = output[i] == '\t' ? ' ' : output[i];
    buf[len] = '\0';
    return buf;
}

static int judge(const struct verb_call *call, const json_t *seen, json_t **ret_result,
                 struct err *err)
{
    const char *program = verb_text(call, "value");
    const char *why = json_get_str(seen, "why", "");
    int exit_status = (int)json_integer_value(json_object_get(seen, "exit_status"));
    int number = (int)json_get_u64(seen, "signal", 0);
    char buf[LAST_BYTES];
    const char *last = last_lines(seen, buf);
    const char *says = *last ? "; its last output: " : "";

    *ret_result = json_deep_copy(seen);
    if (str_eq(json_get_str(seen, "state", ""), "lost"))
        return err_set(err, ERR_UNKNOWN, 0, "%s: it cannot be told how it ended: %s", program, why);
    if (json_get_bool(seen, "timed_out", false))
        return err_set(err, ERR_TIMEOUT, 0, "%s did not end within %s and was ended by %s%s%s",
                       program, json_get_str(call->args, "within", WITHIN_TEXT),
                       number == 9 ? "SIGKILL: it ignored SIGTERM" : "SIGTERM", says, last);
    if (json_get_bool(seen, "stopped", false))
        return err_set(err, ERR_TIMEOUT, 0, "%s was stopped when its step's time was over%s%s",
                       program, says, last);
    if (*why)
        return err_set(err, ERR_IO, 0, "%s could not be run: %s", program, why);
    if (number)
        return err_set(err, ERR_IO, 0, "%s was ended by signal %d%s%s", program, number, says,
                       last);
    if (exit_status != 0)
        return err_set(err, ERR_IO, 0, "%s: exit status %d%s%s", program, exit_status, says, last);
    return 0;
}

/* The step's time is over, or the daemon ends: then it goes on, and is asked about at the next
 * start. */
static int cut(const struct verb_call *call, struct site *site, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *stop = cancel_new(call->clock, NULL, STOP_MS);
    struct err why = ERR_EMPTY;

    if (cancel_check(cancel, err) == 0 || err->code != ERR_TIMEOUT)
        return -1;
    if (site_ask(site, "command.stop", named(call), NULL, stop, &why) < 0)
        return err_set(err, ERR_UNKNOWN, 0,
                       "%s: its step's time is over, and it cannot be stopped: %s",
                       verb_text(call, "value"), why.text);
    return err_set(err, ERR_TIMEOUT, 0, "%s was stopped when its step's time was over",
                   verb_text(call, "value"));
}

static int follow(const struct verb_call *call, struct site *site, int64_t within_ms,
                  json_t **ret_result, struct cancel *cancel, struct err *err)
{
    int64_t until = call->clock->now_ms(call->clock) + within_ms + PATIENCE_MS;
    int64_t wait_ms = FIRST_LOOK_MS;

    for (;;) {
        CLEANUP(json_freep) json_t *seen = NULL;
        int rc = observe(call, site, &seen, cancel, err);
        const char *state = json_get_str(seen, "state", "");
        if (str_eq(state, "ended") || str_eq(state, "lost"))
            return judge(call, seen, ret_result, err);
        if (rc < 0 && !err_is_retryable(err->code) && err->code != ERR_CANCELLED)
            return -1;
        if (call->clock->now_ms(call->clock) > until)
            return err_set(err, ERR_UNKNOWN, 0, "%s at %s: it cannot be told how it ended%s%s",
                           verb_text(call, "value"), site->name, rc < 0 ? ": " : "",
                           rc < 0 ? err->text : "");
        err_clear(err);
        if (cancel_sleep(cancel, wait_ms, err) < 0)
            return cut(call, site, cancel, err);
        wait_ms = wait_ms * 2 < LOOK_MS ? wait_ms * 2 : LOOK_MS;
    }
}

static int prepare(const struct verb_call *call, struct site **ret_site, int64_t *ret_within_ms,
                   struct err *err)
{
    const char *at = verb_text(call, "at");

    if (verb_within(call, WITHIN_MS, ret_within_ms, err) < 0
        || verb_site(call, at, ret_site, err) < 0)
        return -1;
    if (call->kind == RUN_TEST && *ret_site != call->here)
        return err_set(err, ERR_STATE, 0,
                       "a test touches nothing at %s, where the machines work; hint: only ="
                       " { \"planned\", \"unplanned\" } for this step, or leave out `at`",
                       at);
    return 0;
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    struct site *site;
    int64_t within_ms;

    if (prepare(call, &site, &within_ms, err) < 0)
        return -1;
    if (observe(call, site, &seen, cancel, err) < 0)
        return err_wrap(err, "run %s at %s", verb_text(call, "value"), site->name);
    if (str_eq(json_get_str(seen, "state", ""), "none")
        && start(call, site, within_ms, cancel, err) < 0)
        return -1;
    return follow(call, site, within_ms, ret_result, cancel, err);
}

/* One that runs or has failed is not done: `run` takes it up where it is, and starts nothing twice. */
static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    struct err failure = ERR_EMPTY;
    struct site *site;

    if (verb_site(call, verb_text(call, "at"), &site, err) < 0
        || observe(call, site, &seen, cancel, err) < 0)
        return -1;
    const char *state = json_get_str(seen, "state", "");
    *ret_answer = ANSWER_NOT_DONE;
    if (!str_eq(state, "ended") && !str_eq(state, "lost"))
        return 0;
    if (judge(call, seen, ret_result, &failure) == 0) {
        *ret_answer = ANSWER_DONE;
        return 0;
    }
    json_decref(*ret_result);
    *ret_result = NULL;
    if (failure.code != ERR_UNKNOWN)
        return 0;
    *err = failure;
    return -1;
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    CLEANUP(str_free) struct str line = STR_EMPTY;
    CLEANUP(json_freep) json_t *list = list_of(json_object_get(call_args, "args"));
    const char *at = json_get_str(call_args, "at", "");
    const json_t *item;
    size_t i;

    (void)kind;
    str_add(&line, json_get_str(call_args, "value", "?"));
    json_array_foreach(list, i, item)
        str_addf(&line, " %s", json_string_value(item) ? json_string_value(item) : "?");
    return mem_printf("Run %s%s%s, at most %s.", str_text(&line), *at ? " at " : "", at,
                      json_get_str(call_args, "within", WITHIN_TEXT));
}

const struct verb verb_run_command = {
    .name = "run_command",
    .help = "Runs a program; it fails when the exit status is not 0. It is started at most once per"
            " attempt, and goes on while the daemon is restarted.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .run = run,
    .probe = probe,
    .describe = describe,
};
