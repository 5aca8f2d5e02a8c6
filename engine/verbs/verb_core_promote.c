// SPDX-License-Identifier: Apache-2.0
/* core_promote: this site becomes the writer. The store remembers who promoted it by the run's
 * name, so asking again gives the same answer and never raises twice; a second run that goes on
 * with a failover has that name too. */
#include "base/mem.h"
#include "verbs/verb_help.h"

static const struct verb_arg args[] = {
    {.name = "group", .type = ARG_MACHINE, .required = true, .help = "The protection group."},
};

static json_t *group_args(const struct verb_call *call, uint64_t point)
{
    const char *machine = verb_text(call, "group");

    return json_pack("{s:s, s:s, s:I, s:I}", "group", verb_group_of(call, machine), "run",
                     verb_run_of(call, machine), "point", (json_int_t)point, "expected",
                     (json_int_t)json_get_u64(verb_machine(call, machine), "generation", 0));
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *pin = NULL;
    const char *group = verb_text(call, "group");
    uint64_t wanted = verb_point_of(call, group);

    /* A chosen point must not be pruned before it is promoted; the newest cannot be. */
    if (wanted != 0
        && site_ask(call->here, "group.pin", group_args(call, wanted), NULL, cancel, err) < 0)
        return err_wrap(err, "keep point %llu of %s", (unsigned long long)wanted, group);
    if (site_ask(call->here, "group.promote", group_args(call, wanted), &reply, cancel, err) < 0)
        return err_wrap(err, "promote %s", group);
    uint64_t point = json_get_u64(reply, "point", 0);
    if (site_ask(call->here, "group.pin", group_args(call, point), &pin, cancel, err) < 0)
        return err_wrap(err, "keep point %llu of %s", (unsigned long long)point, group);
    *ret_result =
        verb_group_facts(call, group,
                         json_pack("{s:I, s:I, s:I}", "point", (json_int_t)point, "cut_ms",
                                   (json_int_t)json_get_u64(pin, "cut_ms", 0), "promoted",
                                   (json_int_t)json_get_u64(reply, "generation", 0)));
    return 0;
}

static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;
    const char *group = verb_text(call, "group");
    uint64_t before = json_get_u64(verb_machine(call, group), "generation", 0);

    if (site_ask(call->here, "group.observe", group_args(call, 0), &seen, cancel, err) < 0)
        return -1;
    *ret_answer = ANSWER_NOT_DONE;
    if (json_get_u64(seen, "generation", 0) <= before)
        return 0;
    /* Raised: by us, then asking gives the old answer; by somebody else, then it is ERR_FENCED. */
    if (run(call, ret_result, cancel, err) < 0)
        return -1;
    *ret_answer = ANSWER_DONE;
    return 0;
}

/* Only for a promotion that was refused: the point that was kept for it may go. One that happened is
 * past the run's point of no return. */
static int undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    return site_ask(call->here, "group.unpin", group_args(call, 0), NULL, cancel, err);
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    (void)kind;
    return mem_printf("Make this site the writer of %s: from here on the other site's writes do"
                      " not count.",
                      json_get_str(call_args, "group", "?"));
}

const struct verb verb_core_promote = {
    .name = "core_promote",
    .help = "Makes this site the writer: raises the generation and keeps the chosen point.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_DESTRUCTIVE,
    .moves_ownership = true,
    .core = true,
    .run = run,
    .probe = probe,
    .undo = undo,
    .describe = describe,
};
