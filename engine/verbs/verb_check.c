// SPDX-License-Identifier: Apache-2.0
/* check { tcp | agent | console + line, within }: looks once; what is not so is a failure, and to the
 * function of a step an answer. */
#include "base/mem.h"
#include "verbs/verb_help.h"

#define WITHIN_MS 5000

static const struct verb_arg args[] = {
    {.name = "tcp",
     .type = ARG_ADDRESS,
     .choice = true,
     .per_site = true,
     .help = "\"machine:port\" or \"address:port\" that must accept a connection."},
    {.name = "agent",
     .type = ARG_MACHINE,
     .choice = true,
     .help = "A machine whose guest agent must answer."},
    {.name = "console",
     .type = ARG_MACHINE,
     .choice = true,
     .with = "line",
     .help = "A machine whose console must show a line."},
    {.name = "line",
     .type = ARG_TEXT,
     .with = "console",
     .help = "Text that a line of the console must contain, since the machine's start."},
    {.name = "within", .type = ARG_DURATION, .help = "How long one look may take; 5s by default."},
};

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(mem_freep) char *text = verb_look_text(call->args);
    int64_t within_ms;

    if (verb_within(call, WITHIN_MS, &within_ms, err) < 0)
        return -1;
    CLEANUP(cancel_freep) struct cancel *look = cancel_new(call->clock, cancel, within_ms);
    int answer = verb_look(call, look, err);
    if (answer < 0)
        return err_wrap(err, "check that %s", text);
    *ret_result = json_pack("{s:b}", "answer", answer);
    return answer ? 0 : err_set(err, ERR_STATE, 0, "not so: %s", text);
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    CLEANUP(mem_freep) char *text = verb_look_text(call_args);

    (void)kind;
    return mem_printf("Check that %s.", text);
}

const struct verb verb_check = {
    .name = "check",
    .help = "Checks once that a machine answers: a TCP port, its guest agent, or a line on its"
            " console.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .any_of_named = true,
    .effect = EFFECT_NONE,
    .run = run,
    .describe = describe,
};
