// SPDX-License-Identifier: Apache-2.0
/* rollback "MACHINE": before the commit, back to where it was, with all machines of its group. What the
 * recovered ones wrote is given up; the old ones are the writers again, under a generation of their own, and
 * those that ran before are started.
 *
 *   here: machines gone ─ here: promoted once more, for the other side ─ there: returned, started
 *
 * Each part is so already when it is asked for again. */
#include "base/mem.h"
#include "verbs/verb_help.h"

#include <inttypes.h>

static const struct verb_arg args[] = {
    {.type = ARG_MACHINE, .required = true, .help = "A machine that was failed over here."},
};

static json_t *instance_args(const struct verb_call *call, const char *machine)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "machine", machine, "group",
                     verb_group_of(call, machine), "run", verb_run_of(call, machine), "test", 0);
}

/* The point that the other side's disks are a continuation of. 0: it was given back already, by a try
 * that was cut, and may have delivered nothing since; the promotion that was for it has its point. */
static int common_point(const struct verb_call *call, uint64_t *ret_point, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    const char *machine = verb_text(call, "machine");

    if (site_ask(call->there, "group.observe", instance_args(call, machine), &seen, cancel, err)
        < 0)
        return err_wrap(err, "a rollback needs both sites");
    if (!str_eq(json_get_str(seen, "role", ""), "source"))
        return err_set(err, ERR_STATE, 0,
                       "%s is no source of %s any more: there is nothing to go back to",
                       call->there->name, machine);
    if (json_get_u64(seen, "generation", 0)
        > json_get_u64(verb_machine(call, machine), "promoted", 0)) {
        *ret_point = 0;
        return 0;
    }
    *ret_point = json_get_u64(seen, "durable_point", 0);
    if (*ret_point == 0)
        return err_set(err, ERR_STATE, 0, "%s has delivered no point of %s", call->there->name,
                       machine);
    return 0;
}

static int yield(const struct verb_call *call, uint64_t point, uint64_t *ret_generation,
                 struct cancel *cancel, struct err *err)
{
    const char *machine = verb_text(call, "machine");
    CLEANUP(mem_freep) char *token = mem_printf("%s-back", verb_run_of(call, machine));
    CLEANUP(json_freep) json_t *reply = NULL;

    if (site_ask(call->here, "group.promote",
                 json_pack("{s:s, s:s, s:I, s:b, s:I}", "group", verb_group_of(call, machine),
                           "run", token, "point", (json_int_t)point, "yield", 1, "expected",
                           (json_int_t)json_get_u64(verb_machine(call, machine), "promoted", 0)),
                 &reply, cancel, err)
        < 0)
        return err_wrap(err, "give %s back to %s at point %" PRIu64, machine, call->there->name,
                        point);
    *ret_generation = json_get_u64(reply, "generation", 0);
    return 0;
}

static bool ran_before(const struct verb_call *call, const char *machine)
{
    const char *was = json_get_str(verb_machine(call, machine), "was", "");

    return !str_eq(was, "off") && !str_eq(was, "shutdown");
}

/* Those of `machines` that are to run again. */
static int give_back(const struct verb_call *call, const json_t *machines, uint64_t generation,
                     json_t **ret_reply, struct cancel *cancel, struct err *err)
{
    json_t *give = instance_args(call, verb_text(call, "machine"));
    json_t *ran = json_array();
    const json_t *name;
    size_t i;

    json_array_foreach(machines, i, name)
        if (ran_before(call, json_string_value(name)))
            (void)json_array_append_new(ran, json_string(json_string_value(name)));
    (void)json_object_set_new(give, "generation", json_integer((json_int_t)generation));
    (void)json_object_set_new(give, "start", json_boolean(json_array_size(ran) > 0));
    (void)json_object_set_new(give, "machines", ran);
    if (site_ask(call->there, "group.return", give, ret_reply, cancel, err) < 0)
        return err_wrap(err, "give %s back to %s", verb_text(call, "machine"), call->there->name);
    return 0;
}

static int check(const struct verb_call *call, const char *machine, struct cancel *cancel,
                 struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (json_get_u64(verb_machine(call, machine), "promoted", 0) == 0)
        return err_set(err, ERR_STATE, 0, "%s was not failed over by this run", machine);
    if (site_ask(call->here, "instance.observe", instance_args(call, machine), &seen, cancel, err)
        < 0)
        return -1;
    if (json_get_bool(seen, "committed", false))
        return err_set(err, ERR_STATE, 0,
                       "%s was committed: there is no rollback after that; hint: `muster failback "
                       "%s` at %s brings it back",
                       machine, machine, call->there->name);
    if (json_get_bool(seen, "own", false))
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "%s runs on its own disks here again, which hold what it wrote since; hint: "
                       "commit, then `muster failover %s --planned` at %s",
                       machine, machine, call->there->name);
    return 0;
}

/* Nothing of one is given up before all of them may be. */
static int remove_all(const struct verb_call *call, const json_t *machines, struct cancel *cancel,
                      struct err *err)
{
    const json_t *name;
    size_t i;

    json_array_foreach(machines, i, name)
        if (site_ask(call->here, "instance.remove", instance_args(call, json_string_value(name)),
                     NULL, cancel, err)
            < 0)
            return err_wrap(err, "stop the recovered %s", json_string_value(name));
    return 0;
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *machine = verb_text(call, "machine");
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, machine);
    const json_t *name;
    uint64_t generation;
    uint64_t point;
    size_t i;

    if (verb_not_moved(call, machine, ret_result))
        return 0;
    json_array_foreach(machines, i, name)
        if (check(call, json_string_value(name), cancel, err) < 0)
            return -1;
    /* Nothing is given up before the other side has answered. */
    if (common_point(call, &point, cancel, err) < 0 || remove_all(call, machines, cancel, err) < 0
        || yield(call, point, &generation, cancel, err) < 0
        || give_back(call, machines, generation, &reply, cancel, err) < 0
        || site_ask(call->here, "group.unpin", instance_args(call, machine), NULL, cancel, err) < 0)
        return -1;
    *ret_result = verb_group_facts(
        call, machine,
        json_pack("{s:I, s:b}", "promoted", (json_int_t)generation, "rolled_back", 1));
    (void)json_object_set_new(*ret_result, "rolled_back", verb_names(machines));
    (void)json_object_set_new(*ret_result, "removed", verb_names(machines));
    (void)json_object_set_new(*ret_result, "warning",
                              json_string(json_get_str(reply, "warning", "")));
    return 0;
}

/* All of it may be asked for again, and is then as it was asked for. */
static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    (void)call;
    (void)ret_result;
    (void)cancel;
    (void)err;
    *ret_answer = ANSWER_NOT_DONE;
    return 0;
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Give up the recovered %s and start it again where it was.",
                      json_get_str(call_args, "machine", "?"));
}

const struct verb verb_rollback = {
    .name = "rollback",
    .help = "Takes a failover back before its commit: the old machine goes on where it was.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_DESTRUCTIVE,
    .moves_ownership = true,
    .only = RUN_KINDS_REAL | RUN_KIND_BIT(RUN_ROLLBACK),
    .run = run,
    .probe = probe,
    .describe = describe,
};
