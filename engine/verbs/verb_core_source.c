// SPDX-License-Identifier: Apache-2.0
/* The core's verbs for the side that writes now: shut down, last delta, hold. In an unplanned run that
 * side may be out of reach; then these say so and the run goes on. */
#include "verbs/verb_core_source.h"

#include "base/mem.h"

#include <inttypes.h>

#define SHUTDOWN_MS (5 * 60 * 1000)

static const struct verb_arg machine_arg[] = {
    {.name = "machine", .type = ARG_MACHINE, .required = true, .help = "The machine."},
};
static const struct verb_arg group_arg[] = {
    {.name = "group", .type = ARG_MACHINE, .required = true, .help = "The protection group."},
};

json_t *core_group_args(const struct verb_call *call)
{
    const char *machine = verb_text(call, "group");

    return json_pack("{s:s, s:s}", "group", verb_group_of(call, machine), "run",
                     verb_run_of(call, machine));
}

int core_observe_group(const struct verb_call *call, json_t **ret_reply, struct cancel *cancel,
                       struct err *err)
{
    int64_t within = call->kind == RUN_UNPLANNED ? CORE_REACH_MS : CANCEL_NEVER;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(call->clock, cancel, within);

    return site_ask(call->there, "group.observe", core_group_args(call), ret_reply, limit, err);
}

/* Bounded when the source may be gone. */
static int ask_source(const struct verb_call *call, const char *what, json_t *args,
                      struct cancel *cancel, struct err *err)
{
    int64_t within = call->kind == RUN_UNPLANNED ? CORE_REACH_MS : CANCEL_NEVER;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(call->clock, cancel, within);

    return site_ask(call->there, what, args, NULL, limit, err);
}

int core_observe_machine(const struct verb_call *call, const char *machine, json_t **ret_reply,
                         struct cancel *cancel, struct err *err)
{
    return site_ask(call->there, "machine.observe", json_pack("{s:s}", "machine", machine),
                    ret_reply, cancel, err);
}

/* The source's group is held for this failover. */
static bool is_held(const struct verb_call *call, const json_t *group)
{
    return str_eq(json_get_str(group, "held", ""), verb_run_of(call, verb_text(call, "group")));
}

/* --- core_shutdown -------------------------------------------------------------------------- */

static int shut_down(const struct verb_call *call, const char *machine, struct cancel *cancel,
                     struct err *err)
{
    int64_t left = cancel_left_ms(cancel);

    return site_ask(call->there, "machine.shutdown",
                    json_pack("{s:s, s:I}", "machine", machine, "within_ms",
                              (json_int_t)(left < SHUTDOWN_MS ? left : SHUTDOWN_MS)),
                    NULL, cancel, err);
}

static bool is_off(const char *state)
{
    return str_eq(state, "off") || str_eq(state, "shutdown");
}

/* A machine's `was` besides the states: it was not looked at, so not touched; a try that was cut may have
 * shut it down, so nobody knows. */
#define WAS_UNSEEN  "unseen"
#define WAS_UNKNOWN "unknown"

/* The state that the machine was in before the first try to shut it down; NULL: not known. */
static const char *was_of(const struct verb_call *call, const char *machine)
{
    return json_get_str(verb_machine(call, machine), "was", NULL);
}

/* The next try finds off what an earlier one shut down. What somebody started since counts again. */
static bool is_news(const struct verb_call *call, const char *machine, const char *state)
{
    const char *was = was_of(call, machine);

    return !was || str_eq(was, WAS_UNSEEN) || !is_off(state);
}

static int check_here(const struct verb_call *call, const char *machine, struct cancel *cancel,
                      struct err *err)
{
    json_t *args = json_pack("{s:s, s:s}", "group", verb_group_of(call, machine), "run",
                             verb_run_of(call, machine));

    return site_ask(call->here, "group.observe", args, NULL, cancel, err);
}

static int shutdown_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                        struct err *err)
{
    const char *machine = verb_text(call, "machine");
    CLEANUP(json_freep) json_t *seen = NULL;

    /* What it is to start on here is looked at while it still runs there. */
    if (call->kind == RUN_FAILBACK && check_here(call, machine, cancel, err) < 0)
        return -1;
    if (core_observe_machine(call, machine, &seen, cancel, err) < 0)
        return err_wrap(err, "shut down %s", machine);
    const char *state = json_get_str(seen, "state", "running");
    /* Also with a failure. */
    *ret_result = is_news(call, machine, state)
                      ? verb_facts(machine, json_pack("{s:s}", "was", state))
                      : json_object();
    if (shut_down(call, machine, cancel, err) < 0)
        return err_wrap(err, "shut down %s", machine);
    return 0;
}

static int shutdown_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                          json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (core_observe_machine(call, verb_text(call, "machine"), &seen, cancel, err) < 0)
        return -1;
    const char *state = json_get_str(seen, "state", "?");
    *ret_answer = is_off(state) ? ANSWER_DONE : ANSWER_NOT_DONE;
    if (*ret_answer == ANSWER_DONE)
        *ret_result = json_object();
    return 0;
}

static int start_again(const struct verb_call *call, const char *machine, struct cancel *cancel,
                       struct err *err)
{
    return site_ask(call->there, "machine.start",
                    json_pack("{s:s, s:s}", "machine", machine, "run", verb_run_of(call, machine)),
                    NULL, cancel, err);
}

static int shutdown_undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    const char *machine = verb_text(call, "machine");
    const char *was = was_of(call, machine);

    if (was && is_off(was))
        return 0; /* as it was found */
    return start_again(call, machine, cancel, err);
}

static char *shutdown_describe(const json_t *args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Shut down %s at the other site; its disks stay as they are.",
                      json_get_str(args, "machine", "?"));
}

const struct verb verb_core_shutdown = {
    .name = "core_shutdown",
    .help = "Shuts a machine down at the site that runs it.",
    .args = machine_arg,
    .arg_count = ARRAY_LEN(machine_arg),
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = shutdown_run,
    .probe = shutdown_probe,
    .undo = shutdown_undo,
    .describe = shutdown_describe,
};

/* --- core_final_sync ------------------------------------------------------------------------ */

/* Believed only when the replica, too, says that it has applied that point. */
static int check_applied(const struct verb_call *call, uint64_t point, struct cancel *cancel,
                         struct err *err)
{
    CLEANUP(json_freep) json_t *replica = NULL;

    if (site_ask(call->here, "group.observe", core_group_args(call), &replica, cancel, err) < 0)
        return -1;
    uint64_t applied = json_get_u64(replica, "applied_point", 0);
    if (applied < point)
        return err_set(err, ERR_STATE, 0, "the last delta made point %llu, the replica is at %llu",
                       (unsigned long long)point, (unsigned long long)applied);
    return 0;
}

static json_t *synced(const struct verb_call *call, uint64_t point)
{
    return verb_group_facts(call, verb_text(call, "group"),
                            json_pack("{s:I}", "point", (json_int_t)point));
}

static int final_sync_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                          struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *group = verb_text(call, "group");

    if (site_ask(call->there, "group.final-sync", core_group_args(call), &reply, cancel, err) < 0)
        return err_wrap(err, "last delta of %s", group);
    uint64_t point = json_get_u64(reply, "point", 0);
    if (check_applied(call, point, cancel, err) < 0)
        return err_wrap(err, "last delta of %s", group);
    *ret_result = synced(call, point);
    return 0;
}

static int final_sync_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                            json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *source = NULL;

    if (core_observe_group(call, &source, cancel, err) < 0)
        return -1;
    uint64_t point = json_get_u64(source, "final_point", 0);
    if (!is_held(call, source) || point == 0) {
        *ret_answer = ANSWER_NOT_DONE;
        return 0;
    }
    if (check_applied(call, point, cancel, err) < 0)
        return -1;
    *ret_answer = ANSWER_DONE;
    *ret_result = synced(call, point);
    return 0;
}

static int release(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    return site_ask(call->there, "group.release", core_group_args(call), NULL, cancel, err);
}

static char *final_sync_describe(const json_t *args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Send the last changes of %s, then no more.",
                      json_get_str(args, "group", "?"));
}

const struct verb verb_core_final_sync = {
    .name = "core_final_sync",
    .help = "Sends what changed last; then replica and source are equal and stay so.",
    .args = group_arg,
    .arg_count = ARRAY_LEN(group_arg),
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = final_sync_run,
    .probe = final_sync_probe,
    .undo = release,
    .describe = final_sync_describe,
};

/* --- core_hold ------------------------------------------------------------------------------ */

static bool wants_last_delta(const struct verb_call *call)
{
    return json_get_bool(verb_machine(call, verb_text(call, "group")), "last_delta", false);
}

static void put_was(json_t *facts, const char *machine, const char *was)
{
    (void)json_object_set_new(facts, machine, json_pack("{s:s}", "was", was));
}

/* {MACHINE: {was}} of each machine of which nothing was seen yet. */
static json_t *was_facts(const struct verb_call *call, const char *was)
{
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, verb_text(call, "group"));
    json_t *facts = json_object();
    const json_t *machine;
    size_t i;

    json_array_foreach(machines, i, machine)
        if (is_news(call, json_string_value(machine), "off"))
            put_was(facts, json_string_value(machine), was);
    return facts;
}

/* Steals `facts`. */
static void add_facts(json_t **result, json_t *facts)
{
    CLEANUP(json_freep) json_t *owned = facts;

    if (json_object_size(owned) == 0)
        return;
    if (!*result)
        *result = json_object();
    if (json_object_get(*result, "facts"))
        (void)json_object_update_recursive(json_object_get(*result, "facts"), owned);
    else
        (void)json_object_set(*result, "facts", owned);
}

static int note_was(const struct verb_call *call, const char *machine, json_t *facts,
                    struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(call->clock, cancel, CORE_REACH_MS);
    CLEANUP(json_freep) json_t *seen = NULL;

    if (core_observe_machine(call, machine, &seen, limit, err) < 0)
        return -1;
    const char *state = json_get_str(seen, "state", "running");
    if (is_news(call, machine, state))
        put_was(facts, machine, state);
    return 0;
}

/* If asked for: its machines off and what they wrote last over here, as far as they let us. What ran
 * before is in `facts` before the first of them is touched. */
static int last_delta(const struct verb_call *call, json_t *facts, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *source = NULL;
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, verb_text(call, "group"));
    const json_t *machine;
    size_t i;

    if (core_observe_group(call, &source, cancel, err) < 0)
        return err_wrap(err, "no last delta: shut down %s", verb_text(call, "group"));
    json_array_foreach(machines, i, machine)
        if (note_was(call, json_string_value(machine), facts, cancel, err) < 0)
            return err_wrap(err, "no last delta: shut down %s", json_string_value(machine));
    json_array_foreach(machines, i, machine)
        if (shut_down(call, json_string_value(machine), cancel, err) < 0)
            return err_wrap(err, "no last delta: shut down %s", json_string_value(machine));
    return final_sync_run(call, ret_result, cancel, err);
}

/* Before the source is touched: without a point, or with one that is not kept, nothing can be promoted. */
static int check_point(const struct verb_call *call, const char *machine, struct cancel *cancel,
                       struct err *err)
{
    uint64_t point = verb_point_of(call, machine);
    CLEANUP(json_freep) json_t *seen = NULL;
    json_t *args;

    args = core_group_args(call);
    (void)json_object_set_new(args, "point", json_integer((json_int_t)point));
    if (site_ask(call->here, "group.observe", args, &seen, cancel, err) < 0)
        return -1;
    if (json_get_u64(seen, "durable_point", 0) == 0)
        return err_set(err, ERR_NOT_FOUND, 0,
                       "%s has no point yet: its initial copy has not ended; hint: `muster status` "
                       "shows how far it is",
                       machine);
    if (point == 0 || json_object_get(seen, "asked_age_ms"))
        return 0;
    return err_set(err, ERR_NOT_FOUND, 0,
                   "%s has no point %" PRIu64 "; hint: `muster points %s` lists what is kept",
                   machine, point, machine);
}

/* The source is held, and all that it wrote is here if that was asked for and could be had. */
static int hold_source(const struct verb_call *call, json_t *facts, json_t **ret_result,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *result = NULL;

    if (check_point(call, verb_text(call, "group"), cancel, err) < 0)
        return -1;
    if (wants_last_delta(call)) {
        struct err why = ERR_EMPTY;
        if (last_delta(call, facts, &result, cancel, &why) < 0) {
            if (cancel_is_fired(cancel))
                return err_set(err, ERR_CANCELLED, 0, "cancelled");
            result = json_pack("{s:s}", "warning", why.text);
        }
    }
    if (ask_source(call, "group.hold", core_group_args(call), cancel, err) < 0)
        return verb_forgive(call, ret_result, cancel, err);
    *ret_result = result ? TAKE(result) : json_pack("{s:b}", "reached", 1);
    return 0;
}

/* Also with a failure: its undo starts what ran, and the next try finds off what this one shut down. */
static int hold_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                    struct err *err)
{
    json_t *was = wants_last_delta(call) ? was_facts(call, WAS_UNSEEN) : json_object();
    json_t *result = NULL;
    int rc = hold_source(call, was, &result, cancel, err);

    add_facts(&result, was);
    *ret_result = result;
    return rc;
}

/* Asked when a try was cut: which of the machines that are off it shut down cannot be told any more. */
static int hold_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                      json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *source = NULL;

    *ret_answer = ANSWER_NOT_DONE;
    if (core_observe_group(call, &source, cancel, err) < 0) {
        if (call->kind != RUN_UNPLANNED || !err_is_retryable(err->code))
            return -1;
        err_clear(err); /* asking again does no harm, and says why it is out of reach */
    }
    uint64_t point = json_get_u64(source, "final_point", 0);
    if (source && is_held(call, source)) {
        *ret_result = point ? synced(call, point) : json_pack("{s:b}", "reached", 1);
        *ret_answer = ANSWER_DONE;
    }
    if (wants_last_delta(call))
        add_facts(ret_result, was_facts(call, WAS_UNKNOWN));
    return 0;
}

/* What ran before runs again. Of a machine of which nothing is known a try that was cut may have been
 * the end: it is started, as core_shutdown's undo does. */
static bool is_to_run(const struct verb_call *call, const char *machine)
{
    const char *was = was_of(call, machine);

    if (json_get_u64(verb_machine(call, machine), "promoted", 0) > 0)
        return false; /* it runs here, or will: never at both sites */
    if (!was)
        return wants_last_delta(call);
    return !is_off(was) && !str_eq(was, WAS_UNSEEN);
}

static int hold_undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, verb_text(call, "group"));
    const json_t *machine;
    size_t i;

    if (release(call, cancel, err) < 0)
        return -1;
    json_array_foreach(machines, i, machine)
        if (is_to_run(call, json_string_value(machine))
            && start_again(call, json_string_value(machine), cancel, err) < 0)
            return err_wrap(err, "start %s again", json_string_value(machine));
    return 0;
}

static char *hold_describe(const json_t *args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Tell the other site, if it can be reached, to send nothing more of %s.",
                      json_get_str(args, "group", "?"));
}

const struct verb verb_core_hold = {
    .name = "core_hold",
    .help = "Stops the replication of a group at its source.",
    .args = group_arg,
    .arg_count = ARRAY_LEN(group_arg),
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = hold_run,
    .probe = hold_probe,
    .undo = hold_undo,
    .describe = hold_describe,
};
