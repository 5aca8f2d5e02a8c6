// SPDX-License-Identifier: Apache-2.0
/* Protection groups, for runs: who is in them, by this site's protections, and what a run knows of a
 * group: the same of each of its machines. */
#include "base/mem.h"
#include "run/run_start.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --- By the protections ---------------------------------------------------------------------- */

/* A list of the settings; of the machines never an empty one (new reference). */
static json_t *names_of(const struct state_protection *row, const char *key, bool need)
{
    CLEANUP(json_freep) json_t *settings = NULL;

    if (json_parse(row->settings, strlen(row->settings), &settings, NULL) == 0
        && json_array_size(json_object_get(settings, key)) > 0)
        return json_incref(json_object_get(settings, key));
    return need ? json_pack("[s]", row->group) : json_array();
}

int runner_groups(struct state *state, json_t **ret_groups, struct err *err)
{
    CLEANUP(state_protections_done) struct state_protections rows = VEC_EMPTY;
    json_t *groups;

    if (state_protection_list(state, &rows, err) < 0)
        return -1;
    groups = json_object();
    VEC_FOREACH(row, &rows) {
        CLEANUP(json_freep) json_t *machines = names_of(row, "machines", true);
        const json_t *name;
        size_t i;
        if (json_array_size(machines) == 1 && json_lists(machines, row->group))
            continue;
        json_array_foreach(machines, i, name)
            (void)json_object_set_new(groups, json_string_value(name),
                                      json_pack("{s:s}", "group", row->group));
    }
    *ret_groups = groups;
    return 0;
}

static void add_name(json_t *names, const char *name)
{
    if (!json_lists(names, name))
        (void)json_array_append_new(names, json_string(name));
}

int runner_machines(struct state *state, json_t **ret_names, struct err *err)
{
    CLEANUP(state_machines_done) struct state_machines machines = VEC_EMPTY;
    CLEANUP(state_protections_done) struct state_protections rows = VEC_EMPTY;
    json_t *names;

    if (state_machine_list(state, &machines, err) < 0
        || state_protection_list(state, &rows, err) < 0)
        return -1;
    names = json_array();
    VEC_FOREACH(machine, &machines)
        add_name(names, machine->name);
    VEC_FOREACH(row, &rows) {
        CLEANUP(json_freep) json_t *of = names_of(row, "machines", true);
        const json_t *name;
        size_t i;
        json_array_foreach(of, i, name)
            add_name(names, json_string_value(name));
    }
    *ret_names = names;
    return 0;
}

json_t *runner_group_document(struct state *state, const char *name, char ret_group[64])
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct err none = ERR_EMPTY;

    (void)snprintf(ret_group, PLAN_NAME_BYTES, "%s", name);
    if (state_protection_of(state, name, &row, &none) < 0)
        return plan_document_for_machine(name, false); /* whoever starts it says what is missing */
    CLEANUP(json_freep) json_t *machines = names_of(&row, "machines", true);
    CLEANUP(json_freep) json_t *agents = names_of(&row, "agents", false);
    (void)snprintf(ret_group, PLAN_NAME_BYTES, "%s", row.group);
    return plan_document_for_group(row.group, machines, agents);
}

/* --- By the run ------------------------------------------------------------------------------- */

const char *run_group_name(const json_t *machines, const char *name)
{
    return json_get_str(run_known(machines, name), "group", name);
}

const json_t *run_known(const json_t *machines, const char *name)
{
    const json_t *own = json_object_get(machines, name);
    const char *machine;
    json_t *known;

    if (own)
        return own;
    json_object_foreach((json_t *)(uintptr_t)machines, machine, known)
        if (str_eq(json_get_str(known, "group", machine), name))
            return known;
    return NULL;
}

json_t *run_group_machines(const json_t *machines, const char *group)
{
    json_t *names = json_array();
    const char *machine;
    json_t *known;

    json_object_foreach((json_t *)(uintptr_t)machines, machine, known)
        if (str_eq(json_get_str(known, "group", machine), group))
            (void)json_array_append_new(names, json_string(machine));
    return names;
}

bool run_is_first_of_group(const json_t *machines, const char *name)
{
    return run_known(machines, run_group_name(machines, name)) == json_object_get(machines, name);
}
