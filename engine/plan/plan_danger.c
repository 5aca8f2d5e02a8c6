// SPDX-License-Identifier: Apache-2.0
/* What only shows when steps are seen together: doubles, order, what a drill leaves out. */
#include "base/mem.h"
#include "plan/plan_build.h"

#include <stdlib.h>
#include <string.h>

/* The kinds that bring machines up, each checked for itself: a machine may be failed over by one
 * step in a test and by another in earnest. */
static const enum run_kind kinds[] = {RUN_TEST, RUN_PLANNED, RUN_UNPLANNED, RUN_FAILBACK};

bool plan_brings_up(const struct verb *verb)
{
    return verb->brings_up;
}

void plan_collect(const struct plan *plan, struct plan_bring_ups *ret_all)
{
    for (size_t s = 0; s < plan->steps.len; s++) {
        VEC_FOREACH(action, &plan->steps.at[s].actions) {
            for (size_t i = 0; plan_brings_up(action->verb) && i < action->verb->arg_count; i++) {
                const struct verb_arg *arg = &action->verb->args[i];
                const char *name = json_get_str(action->args, verb_arg_key(arg), NULL);
                if (arg->type != ARG_MACHINE || !name)
                    continue;
                struct plan_bring_up *up = plan_bring_ups_push(ret_all);
                up->machine = name;
                up->step = s;
                up->line = action->line;
            }
        }
    }
}

static unsigned kinds_of(const struct plan *plan, const struct plan_bring_up *up)
{
    return plan->steps.at[up->step].kinds;
}

static void check_twice(struct plan_builder *b, const struct plan_bring_ups *all)
{
    for (size_t i = 0; i < all->len; i++) {
        for (size_t k = 0; k < i; k++) {
            struct plan_at at = {all->at[i].line, NULL, NULL};
            unsigned both = kinds_of(b->plan, &all->at[i]) & kinds_of(b->plan, &all->at[k]);
            if (both && str_eq(all->at[i].machine, all->at[k].machine)) {
                plan_error(b, &at, "%s is failed over twice: here and on line %u",
                           all->at[i].machine, all->at[k].line);
                break;
            }
        }
    }
}

/* A machine that real runs bring up and tests do not: its drill proves nothing. */
static void check_drilled(struct plan_builder *b, const struct plan_bring_ups *all)
{
    unsigned real = PLAN_KIND_BIT(RUN_PLANNED) | PLAN_KIND_BIT(RUN_UNPLANNED);

    VEC_FOREACH(up, all) {
        struct plan_at at = {up->line, NULL, NULL};
        bool tested = false;
        VEC_FOREACH(other, all)
            tested = tested
                     || (str_eq(other->machine, up->machine)
                         && (kinds_of(b->plan, other) & PLAN_KIND_BIT(RUN_TEST)));
        if (!tested && (kinds_of(b->plan, up) & real))
            plan_warn(b, &at, "%s is not part of a test run: no drill will ever prove it",
                      up->machine);
    }
}

/* Is the machine up when `step` begins, in a run of `kind`? Neighbours in a parallel block begin
 * together. */
static bool is_up(const struct plan *plan, const struct plan_bring_ups *all, const char *machine,
                  size_t step, enum run_kind kind)
{
    const struct plan_step *at = &plan->steps.at[step];

    VEC_FOREACH(up, all) {
        const struct plan_step *by = &plan->steps.at[up->step];
        bool beside = up->step != step && at->group && by->group == at->group;
        if (up->step <= step && !beside && (by->kinds & PLAN_KIND_BIT(kind))
            && str_eq(up->machine, machine))
            return true;
    }
    return false;
}

static bool is_mentioned(const struct plan_bring_ups *all, const char *machine)
{
    VEC_FOREACH(up, all)
        if (str_eq(up->machine, machine))
            return true;
    return false;
}

/* An action that looks at a machine which nothing has brought up by then. */
static void check_order(struct plan_builder *b, const struct plan_bring_ups *all, size_t step,
                        const struct plan_action *action, const struct verb_arg *arg)
{
    const char *value = json_get_str(action->args, verb_arg_key(arg), NULL);
    struct plan_at at = {action->line, action->verb->name, verb_arg_key(arg)};
    char machine[256];

    if (!value || plan_brings_up(action->verb) || !plan_machine_of(arg, value, machine))
        return;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!(b->plan->steps.at[step].kinds & PLAN_KIND_BIT(kinds[i]))
            || is_up(b->plan, all, machine, step, kinds[i]))
            continue;
        plan_warn(b, &at, "%s: in %s runs nothing has brought up %s before%s", action->verb->name,
                  run_kind_name(kinds[i]), machine,
                  is_mentioned(all, machine) ? ""
                                             : "; hint: step \"Bring it up\" { failover ... }");
        return;
    }
}

static void check_titles(struct plan_builder *b)
{
    const struct plan *plan = b->plan;

    for (size_t i = 0; i < plan->steps.len; i++) {
        struct plan_at at = {plan->steps.at[i].line, NULL, NULL};
        size_t k = 0;
        while (k < i && !str_eq(plan->steps.at[k].title, plan->steps.at[i].title))
            k++;
        if (k < i && plan->steps.at[i].title != plan_no_title)
            plan_error(b, &at, "two steps are called \"%s\": here and on line %u",
                       plan->steps.at[i].title, plan->steps.at[k].line);
    }
    for (size_t i = 0; i < plan->stages.len; i++) {
        struct plan_at at = {plan->stages.at[i].line, NULL, NULL};
        size_t k = 0;
        while (k < i && !str_eq(plan->stages.at[k].title, plan->stages.at[i].title))
            k++;
        if (k < i && plan->stages.at[i].title != plan_no_title)
            plan_error(b, &at, "two stages are called \"%s\": here and on line %u",
                       plan->stages.at[i].title, plan->stages.at[k].line);
    }
}

/* A step's own bound that cuts what is in it short. */
static void check_within(struct plan_builder *b, const struct plan_step *step,
                         const struct plan_action *action)
{
    const char *within = json_get_str(action->args, "within", NULL);
    struct plan_at at = {action->line, action->verb->name, "within"};
    int64_t ms;

    if (step->within_ms && within && str_to_ms(within, &ms) && ms > step->within_ms)
        plan_warn(b, &at, "%s waits up to %s, but its step is ended before that",
                  action->verb->name, within);
}

void plan_check_whole(struct plan_builder *b)
{
    CLEANUP(plan_bring_ups_free) struct plan_bring_ups all = VEC_EMPTY;
    struct plan_at at = {(unsigned)json_get_u64(b->plan->document, "line", 0), NULL, NULL};

    plan_collect(b->plan, &all);
    check_titles(b);
    if (all.len == 0)
        plan_error(b, &at,
                   "the plan fails over no machine; hint: step \"Bring up db1\" { failover "
                   "\"db1\" }");
    check_twice(b, &all);
    plan_check_groups(b, &all);
    check_drilled(b, &all);
    for (size_t s = 0; s < b->plan->steps.len; s++) {
        VEC_FOREACH(action, &b->plan->steps.at[s].actions) {
            check_within(b, &b->plan->steps.at[s], action);
            for (size_t i = 0; i < action->verb->arg_count; i++)
                check_order(b, &all, s, action, &action->verb->args[i]);
        }
    }
}
