// SPDX-License-Identifier: Apache-2.0
/* change_point { "MACHINE", point = N }: before the commit, the recovered machine starts anew from
 * another point, with all machines of its group. What they wrote since is given up; the points stay, all of
 * them.
 *
 *   machines gone ─ promoted once more, from that point ─ the old side told ─ started from it */
#include "base/mem.h"
#include "verbs/verb_help.h"

#include <inttypes.h>

static const struct verb_arg args[] = {
    {.type = ARG_MACHINE, .required = true, .help = "A machine that was failed over here."},
    {.name = "point",
     .type = ARG_NUMBER,
     .help = "The point to start from; without it the one the run was asked for."},
};

static uint64_t wanted_of(const struct verb_call *call)
{
    uint64_t wanted = json_get_u64(call->args, "point", 0);

    return wanted ? wanted
                  : json_get_u64(verb_machine(call, verb_text(call, "machine")), "wanted", 0);
}

static json_t *machine_args(const struct verb_call *call, const char *machine, uint64_t point)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:I}", "machine", machine, "group",
                     verb_group_of(call, machine), "run", verb_run_of(call, machine), "test", 0,
                     "point", (json_int_t)point);
}

/* What is asked of the group. */
static json_t *group_args(const struct verb_call *call, uint64_t point)
{
    return machine_args(call, verb_text(call, "machine"), point);
}

static int check_machine(const struct verb_call *call, const char *machine, uint64_t wanted,
                         struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (json_get_u64(verb_machine(call, machine), "promoted", 0) == 0)
        return err_set(err, ERR_STATE, 0, "%s was not failed over by this run", machine);
    if (site_ask(call->here, "instance.observe", machine_args(call, machine, wanted), &seen, cancel,
                 err)
        < 0)
        return -1;
    if (json_get_bool(seen, "committed", false))
        return err_set(err, ERR_STATE, 0,
                       "%s was committed: its point cannot be changed any more; hint: `muster "
                       "test-failover` shows another point, `muster machine` the machine as it is",
                       machine);
    if (json_get_bool(seen, "own", false))
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "%s runs on its own disks here again: other points are not kept for them",
                       machine);
    return 0;
}

static int check(const struct verb_call *call, const json_t *machines, uint64_t wanted,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *group = NULL;
    const char *machine = verb_text(call, "machine");
    const json_t *name;
    size_t i;

    if (wanted == 0)
        return err_set(err, ERR_INVALID, 0,
                       "name the point; hint: `muster points %s` lists what is kept", machine);
    json_array_foreach(machines, i, name)
        if (check_machine(call, json_string_value(name), wanted, cancel, err) < 0)
            return -1;
    if (site_ask(call->here, "group.observe", group_args(call, wanted), &group, cancel, err) < 0)
        return -1;
    if (!json_object_get(group, "asked_age_ms"))
        return err_set(err, ERR_NOT_FOUND, 0,
                       "%s has no point %" PRIu64 "; hint: `muster points %s` lists what is kept",
                       machine, wanted, machine);
    return 0;
}

/* Under a token of its own: the first promotion of the run stays what it was. */
static int promote(const struct verb_call *call, uint64_t wanted, uint64_t *ret_generation,
                   struct cancel *cancel, struct err *err)
{
    const char *machine = verb_text(call, "machine");
    CLEANUP(mem_freep)
    char *token =
        mem_printf("%s-p%" PRIu64 "-%s", verb_run_of(call, machine), wanted, call->run_name);
    CLEANUP(json_freep) json_t *reply = NULL;

    if (site_ask(call->here, "group.promote",
                 json_pack("{s:s, s:s, s:I, s:I}", "group", verb_group_of(call, machine), "run",
                           token, "point", (json_int_t)wanted, "expected",
                           (json_int_t)json_get_u64(verb_machine(call, machine), "promoted", 0)),
                 &reply, cancel, err)
        < 0)
        return err_wrap(err, "promote %s from point %" PRIu64, machine, wanted);
    *ret_generation = json_get_u64(reply, "generation", 0);
    return 0;
}

/* The old side may be out of reach; it is refused under its old generation in any case. */
static void tell_old_side(const struct verb_call *call, uint64_t generation, json_t *result,
                          struct cancel *cancel)
{
    json_t *told = group_args(call, 0);
    struct err why = ERR_EMPTY;

    (void)json_object_set_new(told, "generation", json_integer((json_int_t)generation));
    if (site_ask(call->there, "group.retire", told, NULL, cancel, &why) < 0)
        (void)json_object_set_new(result, "warning", json_string(why.text));
}

static int repin(const struct verb_call *call, uint64_t wanted, json_t **ret_pin,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *group = NULL;

    if (site_ask(call->here, "group.observe", group_args(call, wanted), &group, cancel, err) < 0)
        return -1;
    if (json_get_u64(json_object_get(group, "pinned"), "point", 0) == wanted) {
        *ret_pin = json_incref(json_object_get(group, "pinned"));
        return 0;
    }
    if (site_ask(call->here, "group.unpin", group_args(call, 0), NULL, cancel, err) < 0)
        return -1;
    return site_ask(call->here, "group.pin", group_args(call, wanted), ret_pin, cancel, err);
}

static json_t *started(const struct verb_call *call, const char *machine, uint64_t wanted,
                       const json_t *seen)
{
    json_t *instance = machine_args(call, machine, wanted);

    (void)json_object_set_new(instance, "run_dir", json_string(json_get_str(seen, "run_dir", "")));
    (void)json_object_set_new(instance, "netns", json_string(""));
    if (json_object_get(seen, "definition"))
        (void)json_object_set(instance, "definition", json_object_get(seen, "definition"));
    return instance;
}

/* Adds those that were started to `instances`. */
static int start(const struct verb_call *call, const char *machine, uint64_t wanted,
                 json_t *instances, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "instance.start", machine_args(call, machine, wanted), NULL, cancel,
                 err)
            < 0
        || site_ask(call->here, "instance.observe", machine_args(call, machine, wanted), &seen,
                    cancel, err)
               < 0)
        return -1;
    (void)json_array_append_new(instances, started(call, machine, wanted, seen));
    return 0;
}

static json_t *facts(const struct verb_call *call, uint64_t wanted, const json_t *pin,
                     uint64_t generation)
{
    return verb_group_facts(call, verb_text(call, "machine"),
                            json_pack("{s:I, s:I, s:I}", "point", (json_int_t)wanted, "cut_ms",
                                      (json_int_t)json_get_u64(pin, "cut_ms", 0), "promoted",
                                      (json_int_t)generation));
}

/* It was promoted from that point by this very run, which was cut then: whatever of the group is there was
 * started from it. */
static bool is_promoted(const struct verb_call *call, const json_t *group, uint64_t wanted)
{
    const json_t *known = verb_machine(call, verb_text(call, "machine"));

    return json_get_u64(json_object_get(group, "pinned"), "point", 0) == wanted
           && json_get_u64(group, "generation", 0) > json_get_u64(known, "promoted", 0);
}

static int remove_all(const struct verb_call *call, const json_t *machines, uint64_t wanted,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *group = NULL;
    const json_t *name;
    size_t i;

    if (site_ask(call->here, "group.observe", group_args(call, wanted), &group, cancel, err) < 0)
        return -1;
    if (is_promoted(call, group, wanted))
        return 0;
    json_array_foreach(machines, i, name)
        if (site_ask(call->here, "instance.remove", machine_args(call, json_string_value(name), 0),
                     NULL, cancel, err)
            < 0)
            return -1;
    return 0;
}

/* A group of one tells of one. */
static json_t *told(json_t *instances)
{
    json_t *one = json_array_size(instances) == 1 ? json_incref(json_array_get(instances, 0))
                                                  : json_incref(instances);

    json_decref(instances);
    return one;
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(json_freep) json_t *pin = NULL;
    CLEANUP(json_freep) json_t *instances = json_array();
    const char *machine = verb_text(call, "machine");
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, machine);
    uint64_t wanted = wanted_of(call);
    uint64_t generation;
    const json_t *name;
    size_t i;

    if (verb_not_moved(call, machine, ret_result))
        return 0;
    if (check(call, machines, wanted, cancel, err) < 0
        || remove_all(call, machines, wanted, cancel, err) < 0)
        return err_wrap(err, "change the point of %s", machine);
    /* Pinned before it is promoted: it must not be pruned in between. */
    if (repin(call, wanted, &pin, cancel, err) < 0
        || promote(call, wanted, &generation, cancel, err) < 0)
        return err_wrap(err, "change the point of %s", machine);
    /* Whatever fails from here on: the next try, and a rollback, go on from this generation. */
    *ret_result = facts(call, wanted, pin, generation);
    json_array_foreach(machines, i, name)
        if (start(call, json_string_value(name), wanted, instances, cancel, err) < 0)
            return err_wrap(err, "change the point of %s", json_string_value(name));
    (void)json_object_set_new(*ret_result, "instance", told(TAKE(instances)));
    tell_old_side(call, generation, *ret_result, cancel);
    return 0;
}

/* Those that run from that point already may have worked for long: they are not started anew. */
static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *group = NULL;
    CLEANUP(json_freep) json_t *instances = json_array();
    const char *machine = verb_text(call, "machine");
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, machine);
    uint64_t wanted = wanted_of(call);
    const json_t *name;
    size_t i;

    *ret_answer = ANSWER_NOT_DONE;
    if (!verb_machine(call, machine))
        return 0; /* it did not come over */
    if (site_ask(call->here, "group.observe", group_args(call, wanted), &group, cancel, err) < 0)
        return -1;
    json_array_foreach(machines, i, name) {
        CLEANUP(json_freep) json_t *seen = NULL;
        const char *one = json_string_value(name);
        if (site_ask(call->here, "instance.observe", machine_args(call, one, wanted), &seen, cancel,
                     err)
            < 0)
            return -1;
        if (!str_eq(json_get_str(seen, "state", ""), "running"))
            return 0;
        (void)json_array_append_new(instances, started(call, one, wanted, seen));
    }
    const json_t *pin = json_object_get(group, "pinned");
    uint64_t generation = json_get_u64(group, "generation", 0);
    if (!is_promoted(call, group, wanted))
        return 0;
    *ret_answer = ANSWER_DONE;
    *ret_result = facts(call, wanted, pin, generation);
    (void)json_object_set_new(*ret_result, "instance", told(TAKE(instances)));
    tell_old_side(call, generation, *ret_result, cancel);
    return 0;
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    uint64_t point = json_get_u64(call_args, "point", 0);

    (void)kind;
    return point ? mem_printf("Start %s anew from point %" PRIu64
                              "; what it wrote since is given up.",
                              json_get_str(call_args, "machine", "?"), point)
                 : mem_printf("Start %s anew from another point; what it wrote since is given up.",
                              json_get_str(call_args, "machine", "?"));
}

const struct verb verb_change_point = {
    .name = "change_point",
    .help = "Starts a failed-over machine anew from another point, before the commit.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_DESTRUCTIVE,
    .moves_ownership = true,
    .only = RUN_KINDS_REAL | RUN_KIND_BIT(RUN_CHANGE_POINT),
    .run = run,
    .probe = probe,
    .describe = describe,
};
