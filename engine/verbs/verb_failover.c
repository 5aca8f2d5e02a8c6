// SPDX-License-Identifier: Apache-2.0
/* failover "MACHINE": brings the machine up here, from the point that the safe core kept: in a test
 * as an isolated copy, otherwise as the real one. Done when it is seen running. */
#include "base/mem.h"
#include "verbs/verb_help.h"

static const struct verb_arg args[] = {
    {.type = ARG_MACHINE, .required = true, .help = "The machine to bring up."},
};

static json_t *machine_args(const struct verb_call *call, const char *machine)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:I}", "machine", machine, "group",
                     verb_group_of(call, machine), "run", verb_run_of(call, machine), "test",
                     verb_is_test(call), "point", (json_int_t)verb_point_of(call, machine));
}

static int observe(const struct verb_call *call, const char *machine, json_t **ret_reply,
                   struct cancel *cancel, struct err *err)
{
    return site_ask(call->here, "instance.observe", machine_args(call, machine), ret_reply, cancel,
                    err);
}

/* What was started, with where it is as the site says. */
static json_t *started(const struct verb_call *call, const char *machine, const json_t *seen)
{
    json_t *instance = machine_args(call, machine);

    (void)json_object_set_new(instance, "run_dir", json_string(json_get_str(seen, "run_dir", "")));
    (void)json_object_set_new(instance, "netns", json_string(json_get_str(seen, "netns", "")));
    if (json_object_get(seen, "definition"))
        (void)json_object_set(instance, "definition", json_object_get(seen, "definition"));
    if (!json_get_bool(seen, "own", false))
        return json_pack("{s:o}", "instance", instance);
    return json_pack("{s:o, s:{s:{s:b}}}", "instance", instance, "facts", machine, "own", 1);
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    const char *machine = verb_text(call, "machine");

    if (call->kind == RUN_CHANGE_POINT && verb_not_moved(call, machine, ret_result))
        return 0;
    if (verb_point_of(call, machine) == 0)
        return err_set(err, ERR_STATE, 0, "%s: no point was taken for it", machine);
    if (!verb_is_test(call) && json_get_u64(verb_machine(call, machine), "promoted", 0) == 0)
        return err_set(err, ERR_STATE, 0, "%s was not promoted: it may still run at %s", machine,
                       call->there->name);
    if (site_ask(call->here, "instance.start", machine_args(call, machine), NULL, cancel, err) < 0)
        return err_wrap(err, "start %s from point %llu", machine,
                        (unsigned long long)verb_point_of(call, machine));
    if (observe(call, machine, &seen, cancel, err) < 0)
        return err_wrap(err, "look at %s after its start", machine);
    const char *state = json_get_str(seen, "state", "?");
    if (!str_eq(state, "running"))
        return err_set(err, ERR_STATE, 0, "%s was started but is \"%s\"; hint: see its console.log",
                       machine, state);
    *ret_result = started(call, machine, seen);
    return 0;
}

static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    const char *machine = verb_text(call, "machine");

    if (observe(call, machine, &seen, cancel, err) < 0)
        return -1;
    if (str_eq(json_get_str(seen, "state", "?"), "running")) {
        *ret_answer = ANSWER_DONE;
        *ret_result = started(call, machine, seen);
    } else {
        *ret_answer = ANSWER_NOT_DONE;
    }
    return 0;
}

static int undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    return site_ask(call->here, "instance.remove", machine_args(call, verb_text(call, "machine")),
                    NULL, cancel, err);
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    const char *machine = json_get_str(call_args, "machine", "?");

    if (kind == RUN_TEST)
        return mem_printf("Start a copy of %s from the kept point, on the isolated network.",
                          machine);
    if (kind == RUN_FAILBACK)
        return mem_printf("Start %s here, on its own disks.", machine);
    return mem_printf("Start %s here, from the promoted point.", machine);
}

const struct verb verb_failover = {
    .name = "failover",
    .help = "Brings a machine up at this site: a test copy in a test, the real one otherwise.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .moves_ownership = true,
    .brings_up = true,
    .run = run,
    .probe = probe,
    .undo = undo,
    .describe = describe,
};

static int failback_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                        struct err *err)
{
    if (call->kind != RUN_FAILBACK)
        return err_set(err, ERR_STATE, 0, "%s: this is a %s run, no failback",
                       verb_text(call, "machine"), run_kind_name(call->kind));
    return run(call, ret_result, cancel, err);
}

const struct verb verb_failback = {
    .name = "failback",
    .help = "Brings a machine up at this site in a failback: on the disks it came from.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .moves_ownership = true,
    .brings_up = true,
    .only = RUN_KIND_BIT(RUN_FAILBACK),
    .run = failback_run,
    .probe = probe,
    .undo = undo,
    .describe = describe,
};
