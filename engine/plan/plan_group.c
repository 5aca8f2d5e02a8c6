// SPDX-License-Identifier: Apache-2.0
/* Protection groups of several machines: points, promotion and commit are theirs, so a kind of run brings
 * up all machines of a group, or none. */
#include "base/mem.h"
#include "plan/plan_build.h"

#include <stdlib.h>
#include <string.h>

const char *plan_group_of(const struct plan_world *world, const char *machine)
{
    return json_get_str(json_object_get(world->groups, machine), "group", machine);
}

bool plan_is_group(const struct plan_world *world, const char *name)
{
    const char *machine;
    json_t *known;

    json_object_foreach((json_t *)(uintptr_t)world->groups, machine, known)
        if (str_eq(json_get_str(known, "group", machine), name))
            return true;
    return false;
}

char *plan_group_title(const struct plan_world *world, const char *group)
{
    CLEANUP(str_free) struct str names = STR_EMPTY;
    const char *machine;
    json_t *known;

    json_object_foreach((json_t *)(uintptr_t)world->groups, machine, known)
        if (str_eq(json_get_str(known, "group", machine), group))
            str_addf(&names, "%s%s", names.len ? ", " : "", machine);
    return names.len == 0 || str_eq(str_text(&names), group)
               ? mem_strdup(group)
               : mem_printf("%s (%s)", group, str_text(&names));
}

static bool brings_up_in(const struct plan *plan, const struct plan_bring_ups *all,
                         const char *machine, enum run_kind kind)
{
    VEC_FOREACH(up, all)
        if (str_eq(up->machine, machine) && (plan->steps.at[up->step].kinds & PLAN_KIND_BIT(kind)))
            return true;
    return false;
}

/* Told once per group: at its first machine, for the first kind that covers a part of it. */
static bool is_first_of_group(const struct plan_world *world, const struct plan_bring_ups *all,
                              const struct plan_bring_up *up)
{
    const char *group = plan_group_of(world, up->machine);

    VEC_FOREACH(before, all) {
        if (before == up)
            return true;
        if (str_eq(plan_group_of(world, before->machine), group))
            return false;
    }
    return true;
}

/* False: `kind` brings up all machines of the group, or none. */
static bool tell_part(struct plan_builder *b, const struct plan_bring_ups *all,
                      const struct plan_bring_up *up, enum run_kind kind)
{
    const char *group = plan_group_of(b->world, up->machine);
    CLEANUP(str_free) struct str in = STR_EMPTY;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    struct plan_at at = {up->line, NULL, NULL};
    const char *missing = NULL;
    const char *machine;
    json_t *known;

    json_object_foreach((json_t *)(uintptr_t)b->world->groups, machine, known) {
        if (!str_eq(json_get_str(known, "group", machine), group))
            continue;
        struct str *to = brings_up_in(b->plan, all, machine, kind) ? &in : &out;
        str_addf(to, "%s%s", to->len ? ", " : "", machine);
        if (to == &out && !missing)
            missing = machine;
    }
    if (in.len == 0 || !missing)
        return false;
    plan_error(b, &at,
               "in %s runs the plan covers a part of group %s: %s, but not %s; hint: machines of a "
               "group move together: step \"Bring up %s\" { failover \"%s\" }",
               run_kind_name(kind), group, str_text(&in), str_text(&out), missing, missing);
    return true;
}

void plan_check_groups(struct plan_builder *b, const struct plan_bring_ups *all)
{
    static const enum run_kind kinds[] = {RUN_TEST, RUN_PLANNED, RUN_UNPLANNED, RUN_FAILBACK};

    VEC_FOREACH(up, all) {
        bool told = !json_object_get(b->world->groups, up->machine)
                    || !is_first_of_group(b->world, all, up);
        for (size_t i = 0; i < ARRAY_LEN(kinds) && !told; i++)
            told = tell_part(b, all, up, kinds[i]);
    }
}

/* --- The plan that fails over one group ------------------------------------------------------- */

static json_t *step_with(char *title, const char *verb, json_t *args)
{
    json_t *step =
        json_pack("{s:s, s:[{s:s, s:o}]}", "title", title, "actions", "verb", verb, "args", args);

    free(title);
    return step;
}

static json_t *bring_up(const char *machine)
{
    return step_with(mem_printf("Bring up %s", machine), "failover",
                     json_pack("{s:s}", "machine", machine));
}

/* It has been brought up: that nobody answers is said, and taken back by nobody. */
static json_t *wait_for(const char *machine)
{
    json_t *wait = step_with(mem_printf("Wait until %s is up", machine), "wait_until",
                             json_pack("{s:s, s:s}", "agent", machine, "within", "5m"));

    (void)json_object_set_new(wait, "on_failure", json_string("continue"));
    return wait;
}

/* Steals `steps`. */
static void add_items(json_t *items, json_t *steps)
{
    if (json_array_size(steps) == 1)
        (void)json_array_append_new(items, json_pack("{s:O}", "step", json_array_get(steps, 0)));
    else if (json_array_size(steps) > 1)
        (void)json_array_append_new(items, json_pack("{s:O}", "parallel", steps));
    json_decref(steps);
}

json_t *plan_document_for_group(const char *group, const json_t *machines, const json_t *agents)
{
    json_t *items = json_array();
    json_t *ups = json_array();
    json_t *waits = json_array();
    const json_t *name;
    const json_t *agent;
    size_t i;
    size_t k;

    json_array_foreach(machines, i, name) {
        (void)json_array_append_new(ups, bring_up(json_string_value(name)));
        json_array_foreach(agents, k, agent)
            if (json_equal(agent, name))
                (void)json_array_append_new(waits, wait_for(json_string_value(name)));
    }
    add_items(items, ups);
    add_items(items, waits);
    return json_pack("{s:s, s:[{s:s, s:o}]}", "name", group, "stages", "title",
                     json_array_size(machines) > 1 ? "Machines" : "Machine", "items", items);
}

json_t *plan_document_for_machine(const char *machine, bool agent)
{
    CLEANUP(json_freep) json_t *names = json_pack("[s]", machine);

    return plan_document_for_group(machine, names, agent ? names : NULL);
}
