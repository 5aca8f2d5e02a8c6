// SPDX-License-Identifier: Apache-2.0
/* The core's verbs that set up a test: the point is kept, the isolated network is there. */
#include "base/mem.h"
#include "verbs/verb_help.h"

static const struct verb_arg group_arg[] = {
    {.name = "group", .type = ARG_MACHINE, .required = true, .help = "The protection group."},
};

/* --- core_pin ------------------------------------------------------------------------------- */

static json_t *pin_args(const struct verb_call *call)
{
    const char *machine = verb_text(call, "group");

    return json_pack("{s:s, s:s, s:I, s:b}", "group", verb_group_of(call, machine), "run",
                     verb_run_of(call, machine), "point", (json_int_t)verb_point_of(call, machine),
                     "whole", 1);
}

static json_t *pinned(const struct verb_call *call, const json_t *reply)
{
    return verb_group_facts(call, verb_text(call, "group"),
                            json_pack("{s:I, s:I}", "point",
                                      (json_int_t)json_get_u64(reply, "point", 0), "cut_ms",
                                      (json_int_t)json_get_u64(reply, "cut_ms", 0)));
}

static int pin_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;

    if (site_ask(call->here, "group.pin", pin_args(call), &reply, cancel, err) < 0)
        return err_wrap(err, "keep a point of %s", verb_text(call, "group"));
    *ret_result = pinned(call, reply);
    return 0;
}

static int pin_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                     json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "group.observe", pin_args(call), &seen, cancel, err) < 0)
        return -1;
    const json_t *pin = json_object_get(seen, "pinned");
    *ret_answer = json_is_object(pin) ? ANSWER_DONE : ANSWER_NOT_DONE;
    if (*ret_answer == ANSWER_DONE)
        *ret_result = pinned(call, pin);
    return 0;
}

static int pin_undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    return site_ask(call->here, "group.unpin", pin_args(call), NULL, cancel, err);
}

static char *pin_describe(const json_t *args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Keep a point of %s while the test lasts; replication goes on.",
                      json_get_str(args, "group", "?"));
}

const struct verb verb_core_pin = {
    .name = "core_pin",
    .help = "Keeps a point of a group, so that a test can use it while replication goes on.",
    .args = group_arg,
    .arg_count = ARRAY_LEN(group_arg),
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = pin_run,
    .probe = pin_probe,
    .undo = pin_undo,
    .describe = pin_describe,
};

/* --- core_network --------------------------------------------------------------------------- */

static json_t *net_args(const struct verb_call *call)
{
    return json_pack("{s:s}", "run", call->run);
}

static int net_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                   struct err *err)
{
    if (site_ask(call->here, "net.create", net_args(call), ret_result, cancel, err) < 0)
        return err_wrap(err, "make the test network");
    return 0;
}

static int net_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                     json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "net.observe", net_args(call), &seen, cancel, err) < 0)
        return -1;
    *ret_answer = json_get_bool(seen, "complete", false) ? ANSWER_DONE : ANSWER_NOT_DONE;
    if (*ret_answer == ANSWER_DONE)
        *ret_result = TAKE(seen);
    return 0;
}

static int net_undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    return site_ask(call->here, "net.remove", net_args(call), NULL, cancel, err);
}

static char *net_describe(const json_t *args, enum run_kind kind)
{
    (void)args;
    (void)kind;
    return mem_strdup("Make an isolated network for the test: nothing leads out of it.");
}

const struct verb verb_core_network = {
    .name = "core_network",
    .help = "Makes the isolated network of a test.",
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = net_run,
    .probe = net_probe,
    .undo = net_undo,
    .describe = net_describe,
};
