// SPDX-License-Identifier: Apache-2.0
/* approve { "QUESTION", by, within, silence }: a person says yes or no. The run itself waits for him
 * (run/run_ask.c), over restarts of the daemon; a verb sees neither runs nor people. */
#include "base/mem.h"
#include "verbs/verb_help.h"

static const char *const silences[] = {"deny", "grant", NULL};

static const struct verb_arg args[] = {
    {.type = ARG_TEXT, .required = true, .help = "What is asked: one line, as a question."},
    {.name = "by",
     .type = ARG_PERSON,
     .help = "Who may answer; without it whoever may use the site's socket."},
    {.name = "within",
     .type = ARG_DURATION,
     .help = "How long the answer is waited for, from when it is asked; " VERB_APPROVE_WITHIN
             " by default."},
    {.name = "silence",
     .type = ARG_WORD,
     .words = silences,
     .help = "What it means when nobody answers in time: `\"deny\"` (so without it) or"
             " `\"grant\"`."},
};

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    (void)call;
    (void)ret_result;
    (void)cancel;
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "approve is answered by a person; hint: it stands in a step by itself, not in a"
                   " function");
}

/* What a terminal shows must be what was written. */
static int check(const json_t *call_args, const char **ret_arg, struct err *err)
{
    *ret_arg = NULL;
    for (const char *c = json_get_str(call_args, "value", ""); *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return err_set(err, ERR_INVALID, 0,
                           "the question has control characters; hint: it is one line of text");
    return 0;
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    const char *by = json_get_str(call_args, "by", "");

    (void)kind;
    return mem_printf("Ask %s: \"%s\" No answer within %s means %s.", *by ? by : "the operator",
                      json_get_str(call_args, "value", "?"),
                      json_get_str(call_args, "within", VERB_APPROVE_WITHIN),
                      str_eq(json_get_str(call_args, "silence", "deny"), "grant") ? "yes" : "no");
}

const struct verb verb_approve = {
    .name = "approve",
    .help = "Asks a person: yes lets the run go on, no fails the step. Other steps of a parallel"
            " block go on meanwhile; a yes holds when the step is tried again.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_NONE,
    .asks = true,
    .run = run,
    .check = check,
    .describe = describe,
};
