// SPDX-License-Identifier: Apache-2.0
/* commit "MACHINE": the failover of its group is final, with all machines that are in it. Nothing is destroyed: older points stay; from here on there
 * is no way back but to fail over again. The other site becomes the replica afterwards. */
#include "base/mem.h"
#include "verbs/verb_help.h"

static const struct verb_arg args[] = {
    {.type = ARG_MACHINE, .required = true, .help = "A machine that this run failed over."},
};

static json_t *commit_args(const struct verb_call *call, const char *machine)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "machine", machine, "group",
                     verb_group_of(call, machine), "run", verb_run_of(call, machine), "test", 0);
}

/* {facts, committed, own}; steals `facts`. `own`: all of them are on their own disks again. */
static json_t *committed(const json_t *machines, json_t *facts, bool own)
{
    return json_pack("{s:o, s:o, s:b}", "facts", facts, "committed", verb_names(machines), "own",
                     own);
}

static json_t *fact(bool own)
{
    return json_pack("{s:b, s:b}", "committed", 1, "own", own);
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, verb_text(call, "machine"));
    CLEANUP(json_freep) json_t *facts = json_object();
    const json_t *name;
    bool all_own = true;
    size_t i;

    if (verb_not_moved(call, verb_text(call, "machine"), ret_result))
        return 0;
    json_array_foreach(machines, i, name) {
        CLEANUP(json_freep) json_t *reply = NULL;
        const char *machine = json_string_value(name);
        if (json_get_u64(verb_machine(call, machine), "promoted", 0) == 0)
            return err_set(err, ERR_STATE, 0, "%s was not failed over by this run", machine);
        if (site_ask(call->here, "instance.commit", commit_args(call, machine), &reply, cancel, err)
            < 0)
            return err_wrap(err, "commit %s", machine);
        bool own = json_get_bool(reply, "own", false);
        all_own = all_own && own;
        (void)json_object_set_new(facts, machine, fact(own));
    }
    *ret_result = committed(machines, TAKE(facts), all_own);
    return 0;
}

static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *machines = verb_group_machines(call, verb_text(call, "machine"));
    CLEANUP(json_freep) json_t *facts = json_object();
    const json_t *name;
    bool all_own = true;
    size_t i;

    *ret_answer = ANSWER_NOT_DONE;
    json_array_foreach(machines, i, name) {
        CLEANUP(json_freep) json_t *seen = NULL;
        const char *machine = json_string_value(name);
        if (site_ask(call->here, "instance.observe", commit_args(call, machine), &seen, cancel, err)
            < 0)
            return -1;
        if (!json_get_bool(seen, "committed", false))
            return 0;
        bool own = json_get_bool(seen, "own", false);
        all_own = all_own && own;
        (void)json_object_set_new(facts, machine, fact(own));
    }
    *ret_answer = ANSWER_DONE;
    *ret_result = committed(machines, TAKE(facts), all_own);
    return 0;
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Make the failover of %s final; the other site becomes its replica.",
                      json_get_str(call_args, "machine", "?"));
}

const struct verb verb_commit = {
    .name = "commit",
    .help = "Makes a failover final: the other site becomes the replica.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_DESTRUCTIVE,
    .moves_ownership = true,
    .only = RUN_KINDS_REAL | RUN_KIND_BIT(RUN_COMMIT),
    .run = run,
    .probe = probe,
    .describe = describe,
};
