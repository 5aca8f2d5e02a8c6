// SPDX-License-Identifier: Apache-2.0
/* reprotect "MACHINE": after the commit, back to the site that wrote before: it becomes the replica, and
 * what differs is sent. Done when the machine is protected again. */
#include "base/mem.h"
#include "verbs/verb_help.h"

#define WITHIN_MS (60 * 60 * 1000)
#define STEP_MS   500

static const struct verb_arg args[] = {
    {.type = ARG_MACHINE, .required = true, .help = "A machine that is committed here."},
    {.name = "accept_branch",
     .type = ARG_BOOL,
     .help = "The other site may have writes of its own: they stay there, as a branch."},
    {.name = "within", .type = ARG_DURATION, .help = "How long it may take; 60m by default."},
};

static json_t *ask_args(const struct verb_call *call)
{
    const char *machine = verb_text(call, "machine");

    return json_pack("{s:s, s:s, s:s, s:b}", "machine", machine, "group",
                     verb_group_of(call, machine), "run", call->run, "accept_branch",
                     json_get_bool(call->args, "accept_branch", false));
}

/* 1: it is. */
static int is_protected(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "group.observe", ask_args(call), &seen, cancel, err) < 0)
        return -1;
    return str_eq(json_get_str(seen, "role", ""), "source")
           && json_get_u64(seen, "applied_point", 0) > json_get_u64(seen, "tip_point", 0);
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    const char *machine = verb_text(call, "machine");
    int64_t within_ms;

    if (verb_within(call, WITHIN_MS, &within_ms, err) < 0)
        return -1;
    CLEANUP(cancel_freep) struct cancel *wait = cancel_new(call->clock, cancel, within_ms);
    if (site_ask(call->here, "group.reprotect", ask_args(call), NULL, wait, err) < 0)
        return err_wrap(err, "reprotect %s", machine);
    int is = is_protected(call, wait, err);
    while (is == 0) {
        is = cancel_sleep(wait, STEP_MS, err);
        if (is == 0)
            is = is_protected(call, wait, err);
    }
    if (is < 0 && err->code == ERR_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, 0,
                       "%s is not protected yet; hint: `muster jobs` shows why", machine);
    if (is < 0)
        return -1;
    *ret_result = json_object();
    return 0;
}

static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    int is = is_protected(call, cancel, err);

    if (is < 0)
        return -1;
    *ret_answer = is ? ANSWER_DONE : ANSWER_NOT_DONE;
    if (is)
        *ret_result = json_object();
    return 0;
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Protect %s again, to the other site.",
                      json_get_str(call_args, "machine", "?"));
}

const struct verb verb_reprotect = {
    .name = "reprotect",
    .help = "Protects a committed machine again, in the other direction.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .only = RUN_KINDS_REAL | RUN_KIND_BIT(RUN_COMMIT),
    .run = run,
    .probe = probe,
    .describe = describe,
};
