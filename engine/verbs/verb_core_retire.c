// SPDX-License-Identifier: Apache-2.0
/* The core's last word to the side that wrote before: it may not do so any more. */
#include "verbs/verb_core_source.h"

#include "base/mem.h"

static const struct verb_arg group_arg[] = {
    {.name = "group", .type = ARG_MACHINE, .required = true, .help = "The protection group."},
};

static uint64_t promoted_generation(const struct verb_call *call)
{
    return json_get_u64(verb_machine(call, verb_text(call, "group")), "promoted", 0);
}

static int retire_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                      struct err *err)
{
    const char *group = verb_text(call, "group");
    uint64_t generation = promoted_generation(call);

    if (generation == 0)
        return err_set(err, ERR_STATE, 0, "%s was not promoted; its old machine stays", group);
    json_t *args = core_group_args(call);
    CLEANUP(json_freep) json_t *reply = NULL;
    int64_t within = call->kind == RUN_UNPLANNED ? CORE_REACH_MS : CANCEL_NEVER;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(call->clock, cancel, within);
    (void)json_object_set_new(args, "generation", json_integer((json_int_t)generation));
    if (site_ask(call->there, "group.retire", args, &reply, limit, err) < 0) {
        (void)err_wrap(err, "%s may still run at %s", group, call->there->name);
        return verb_forgive(call, ret_result, cancel, err);
    }
    const char *problem = json_get_str(reply, "problem", "");
    *ret_result = json_pack("{s:b}", "reached", 1);
    if (*problem) {
        CLEANUP(mem_freep)
        char *warning =
            mem_printf("the old %s stands still at %s, but: %s", group, call->there->name, problem);
        (void)json_object_set_new(*ret_result, "warning", json_string(warning));
    }
    return 0;
}

/* Marked first, ended then: the other side may have been cut in between. */
static int is_retired(const struct verb_call *call, bool *ret_retired, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(json_freep) json_t *source = NULL;
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, verb_text(call, "group"));
    uint64_t generation = promoted_generation(call);
    const json_t *machine;
    size_t i;

    *ret_retired = false;
    if (core_observe_group(call, &source, cancel, err) < 0)
        return -1;
    if (generation == 0 || json_get_u64(source, "retired", 0) < generation)
        return 0;
    json_array_foreach(machines, i, machine) {
        CLEANUP(json_freep) json_t *seen = NULL;
        if (core_observe_machine(call, json_string_value(machine), &seen, cancel, err) < 0)
            return -1;
        if (!str_eq(json_get_str(seen, "state", "?"), "off"))
            return 0;
    }
    *ret_retired = true;
    return 0;
}

static int retire_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                        json_t **ret_result, struct cancel *cancel, struct err *err)
{
    bool retired;

    *ret_answer = ANSWER_NOT_DONE;
    if (is_retired(call, &retired, cancel, err) < 0) {
        if (call->kind == RUN_UNPLANNED && err_is_retryable(err->code)) {
            err_clear(err);
            return 0;
        }
        return -1;
    }
    if (!retired)
        return 0;
    *ret_answer = ANSWER_DONE;
    *ret_result = json_pack("{s:b}", "reached", 1);
    return 0;
}

static char *retire_describe(const json_t *args, enum run_kind kind)
{
    return mem_printf("Stop the old %s at the other site for good%s.",
                      json_get_str(args, "group", "?"),
                      kind == RUN_UNPLANNED ? ", if it can be reached" : "");
}

const struct verb verb_core_retire = {
    .name = "core_retire",
    .help = "Stops the old machine for good: it may not write under the old generation any more.",
    .args = group_arg,
    .arg_count = ARRAY_LEN(group_arg),
    .effect = EFFECT_DESTRUCTIVE,
    .core = true,
    .run = retire_run,
    .probe = retire_probe,
    .describe = retire_describe,
};
