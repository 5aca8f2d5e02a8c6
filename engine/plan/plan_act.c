// SPDX-License-Identifier: Apache-2.0
/* What the function of a step asks for, while it runs. */
#include "base/mem.h"
#include "plan/plan_build.h"

#include <string.h>

json_t *plan_args_here(const struct plan_world *world, const struct verb *verb, const json_t *args)
{
    json_t *here = json_deep_copy(args);

    for (size_t i = 0; world->here && i < verb->arg_count; i++) {
        const char *key = verb_arg_key(&verb->args[i]);
        json_t *value = json_object_get(json_object_get(here, key), world->here);
        if (verb->args[i].per_site && value)
            (void)json_object_set(here, key, value);
    }
    return here;
}

/* Whether a run needs this site to own a machine is known before it begins, or not at all. */
static void check(struct plan_builder *b, const struct plan_action *action)
{
    const struct verb *verb = action->verb;
    struct plan_at at = {action->line, NULL, NULL};

    if (verb->moves_ownership)
        plan_error(b, &at,
                   "%s stands only as a step of its own, never in a function; hint: step \"...\" { "
                   "%s ... }",
                   verb->name, verb->name);
    else
        plan_check_action(b, action);
}

int plan_check_act(const struct plan_world *world, const struct plan_act *act,
                   const struct verb **ret_verb, json_t **ret_args, struct err *err)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    struct plan plan = {.source = (char *)(uintptr_t)act->source};
    struct plan_builder b = {world, &plan, &problems};
    bool is_empty = json_is_array(act->args) && json_array_size(act->args) == 0;
    CLEANUP(json_freep) json_t *args = is_empty ? json_object() : json_deep_copy(act->args);
    const struct plan_action action = {plan_find_verb(world, act->verb), args, act->line};

    if (!action.verb || !json_is_object(args))
        return err_set(err, ERR_INVALID, 0, "%s:%u: %s: malformed", act->file, act->line,
                       act->verb);
    check(&b, &action);
    if (plan_problems_judge(&problems, act->file, err) < 0)
        return -1;
    *ret_verb = action.verb;
    *ret_args = plan_args_here(world, action.verb, args);
    return 0;
}
