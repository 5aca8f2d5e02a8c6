// SPDX-License-Identifier: Apache-2.0
/* The core's verbs that take a test away again, and look whether anything is left. */
#include "base/mem.h"
#include "verbs/verb_help.h"

static const struct verb_arg machine_arg[] = {
    {.name = "machine", .type = ARG_MACHINE, .required = true, .help = "The machine."},
};
static const struct verb_arg group_arg[] = {
    {.name = "group", .type = ARG_MACHINE, .required = true, .help = "The protection group."},
};

/* --- core_cleanup --------------------------------------------------------------------------- */

static json_t *machine_args(const struct verb_call *call)
{
    const char *machine = verb_text(call, "machine");

    return json_pack("{s:s, s:s, s:b}", "machine", machine, "run", verb_run_of(call, machine),
                     "test", 1);
}

static int cleanup_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                       struct err *err)
{
    if (site_ask(call->here, "instance.remove", machine_args(call), NULL, cancel, err) < 0)
        return err_wrap(err, "remove the test copy of %s", verb_text(call, "machine"));
    *ret_result = json_pack("{s:s}", "removed", verb_text(call, "machine"));
    return 0;
}

static int cleanup_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                         json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "instance.observe", machine_args(call), &seen, cancel, err) < 0)
        return -1;
    *ret_answer = json_get_bool(seen, "exists", true) ? ANSWER_NOT_DONE : ANSWER_DONE;
    if (*ret_answer == ANSWER_DONE)
        *ret_result = json_pack("{s:s}", "removed", verb_text(call, "machine"));
    return 0;
}

static char *cleanup_describe(const json_t *args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Stop the test copy of %s and delete what it wrote.",
                      json_get_str(args, "machine", "?"));
}

const struct verb verb_core_cleanup = {
    .name = "core_cleanup",
    .help = "Stops a test machine and deletes what it wrote.",
    .args = machine_arg,
    .arg_count = ARRAY_LEN(machine_arg),
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = cleanup_run,
    .probe = cleanup_probe,
    .describe = cleanup_describe,
};

/* --- core_unpin ----------------------------------------------------------------------------- */

static json_t *group_args(const struct verb_call *call)
{
    const char *machine = verb_text(call, "group");

    return json_pack("{s:s, s:s}", "group", verb_group_of(call, machine), "run",
                     verb_run_of(call, machine));
}

static int unpin_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                     struct err *err)
{
    if (site_ask(call->here, "group.unpin", group_args(call), NULL, cancel, err) < 0)
        return err_wrap(err, "let go the point of %s", verb_text(call, "group"));
    *ret_result = json_object();
    return 0;
}

static int unpin_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                       json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "group.observe", group_args(call), &seen, cancel, err) < 0)
        return -1;
    *ret_answer = json_is_object(json_object_get(seen, "pinned")) ? ANSWER_NOT_DONE : ANSWER_DONE;
    if (*ret_answer == ANSWER_DONE)
        *ret_result = json_object();
    return 0;
}

static char *unpin_describe(const json_t *args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Let the point of %s go.", json_get_str(args, "group", "?"));
}

const struct verb verb_core_unpin = {
    .name = "core_unpin",
    .help = "Lets a point go that a test used.",
    .args = group_arg,
    .arg_count = ARRAY_LEN(group_arg),
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = unpin_run,
    .probe = unpin_probe,
    .describe = unpin_describe,
};

/* --- core_network_remove -------------------------------------------------------------------- */

static json_t *run_args(const struct verb_call *call)
{
    return json_pack("{s:s}", "run", call->run);
}

static int net_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                   struct err *err)
{
    if (site_ask(call->here, "net.remove", run_args(call), NULL, cancel, err) < 0)
        return err_wrap(err, "remove the test network");
    *ret_result = json_object();
    return 0;
}

static int net_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                     json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "net.observe", run_args(call), &seen, cancel, err) < 0)
        return -1;
    *ret_answer = json_get_bool(seen, "exists", true) ? ANSWER_NOT_DONE : ANSWER_DONE;
    if (*ret_answer == ANSWER_DONE)
        *ret_result = json_object();
    return 0;
}

static char *net_describe(const json_t *args, enum run_kind kind)
{
    (void)args;
    (void)kind;
    return mem_strdup("Remove the test's isolated network.");
}

const struct verb verb_core_network_remove = {
    .name = "core_network_remove",
    .help = "Removes the isolated network of a test.",
    .effect = EFFECT_REVERSIBLE,
    .core = true,
    .run = net_run,
    .probe = net_probe,
    .describe = net_describe,
};

/* --- core_leftovers ------------------------------------------------------------------------- */

static int leftovers_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                         struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;

    if (site_ask(call->here, "instance.leftovers", run_args(call), &reply, cancel, err) < 0)
        return err_wrap(err, "look for leftovers");
    const json_t *left = json_object_get(reply, "left");
    size_t count = json_array_size(left);
    if (count > 0)
        (void)err_set(err, ERR_STATE, 0, "%zu left behind: %s%s", count,
                      json_string_value(json_array_get(left, 0)), count > 1 ? ", ..." : "");
    *ret_result = TAKE(reply);
    return count > 0 ? -1 : 0;
}

static char *leftovers_describe(const json_t *args, enum run_kind kind)
{
    (void)args;
    (void)kind;
    return mem_strdup("Look whether anything of the test is left: processes, files, sockets,"
                      " networks, kept points.");
}

const struct verb verb_core_leftovers = {
    .name = "core_leftovers",
    .help = "Fails when anything of a test is still there, and lists it.",
    .effect = EFFECT_NONE,
    .core = true,
    .run = leftovers_run,
    .describe = leftovers_describe,
};
