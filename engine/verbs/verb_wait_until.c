// SPDX-License-Identifier: Apache-2.0
/* wait_until { tcp | agent | console + line, within }: looks again and again until it is so. */
#include "base/mem.h"
#include "verbs/verb_help.h"

#define WITHIN_MS (5 * 60 * 1000)
#define STEP_MS   500
/* One look may hang (a firewall that drops); then the next one has its chance. */
#define LOOK_MS 5000

static const struct verb_arg args[] = {
    {.name = "tcp",
     .type = ARG_ADDRESS,
     .choice = true,
     .per_site = true,
     .help = "\"machine:port\" or \"address:port\" that accepts a connection."},
    {.name = "agent",
     .type = ARG_MACHINE,
     .choice = true,
     .help = "A machine whose guest agent answers."},
    {.name = "console",
     .type = ARG_MACHINE,
     .choice = true,
     .with = "line",
     .help = "A machine whose console shows a line."},
    {.name = "line",
     .type = ARG_TEXT,
     .with = "console",
     .help = "Text that a line of the console contains, since the machine's start."},
    {.name = "within", .type = ARG_DURATION, .help = "How long to wait at most; 5m by default."},
};

/* One look: 1, 0 (with why in `ret_why`), -1 for what no waiting mends. */
static int look_once(const struct verb_call *call, struct err *ret_why, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *look = cancel_new(call->clock, cancel, LOOK_MS);
    struct err why = ERR_EMPTY;
    int answer = verb_look(call, look, &why);

    if (answer >= 0)
        return answer;
    if (cancel_is_fired(cancel))
        return err_set(err, ERR_CANCELLED, 0, "cancelled");
    if (!err_is_retryable(why.code) && why.code != ERR_PROTOCOL) {
        *err = why;
        return -1;
    }
    *ret_why = why;
    return 0;
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(mem_freep) char *text = verb_look_text(call->args);
    struct err why = ERR_EMPTY;
    int64_t within_ms;
    char limit[32];

    if (verb_within(call, WITHIN_MS, &within_ms, err) < 0)
        return -1;
    CLEANUP(cancel_freep) struct cancel *wait = cancel_new(call->clock, cancel, within_ms);
    int64_t begun = call->clock->now_ms(call->clock);
    for (;;) {
        int answer = look_once(call, &why, wait, err);
        if (answer < 0)
            return -1;
        int64_t waited = call->clock->now_ms(call->clock) - begun;
        if (answer > 0) {
            *ret_result = json_pack("{s:I}", "waited_ms", (json_int_t)waited);
            return 0;
        }
        if (cancel_sleep(wait, STEP_MS, err) == 0)
            continue;
        if (err->code == ERR_CANCELLED)
            return -1;
        return err_set(err, ERR_TIMEOUT, 0, "waited %s until %s, in vain%s%s",
                       str_duration(waited, limit, sizeof(limit)), text, why.code ? ": " : "",
                       why.text);
    }
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    CLEANUP(mem_freep) char *text = verb_look_text(call_args);

    (void)kind;
    return mem_printf("Wait until %s, at most %s.", text, json_get_str(call_args, "within", "5m"));
}

const struct verb verb_wait_until = {
    .name = "wait_until",
    .help = "Waits until a machine answers: a TCP port, its guest agent, or a line on its console.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .any_of_named = true,
    .effect = EFFECT_NONE,
    .run = run,
    .describe = describe,
};
