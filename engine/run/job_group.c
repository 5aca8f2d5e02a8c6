// SPDX-License-Identifier: Apache-2.0
/* Which machines are to be protected together, and under what name. A machine alone is a group of its
 * name, as if there were no groups; several share a name that no machine has, so that either word says
 * which one is meant. */
#include "base/mem.h"
#include "run/job_kind.h"

#include <stdio.h>
#include <string.h>

void job_machine_list_done(struct job_machine_list *list)
{
    VEC_FOREACH(machine, list)
        machine_done(machine);
    job_machine_list_free(list);
}

int job_machine_list_load(struct state *state, const struct machine_names *names,
                          struct job_machine_list *ret_list, struct err *err)
{
    CLEANUP(job_machine_list_done) struct job_machine_list list = VEC_EMPTY;

    for (size_t i = 0; i < names->count; i++) {
        CLEANUP(state_machine_done) struct state_machine row = {0};
        CLEANUP(json_freep) json_t *definition = NULL;

        if (state_machine_get(state, names->at[i], &row, err) < 0
            || json_parse(row.definition, strlen(row.definition), &definition, err) < 0)
            return -1;
        struct machine *machine = job_machine_list_push(&list);
        machine_init(machine);
        if (machine_from_json(definition, machine, err) < 0)
            return -1;
    }
    *ret_list = list;
    list = (struct job_machine_list)VEC_EMPTY;
    return 0;
}

static int names_of(const struct job_protect *spec, struct machine_names *ret_names,
                    struct err *err)
{
    if (spec->machines)
        return machine_names_parse(spec->machines, spec->group ? spec->group : "", ret_names, err);
    *ret_names = (struct machine_names){0};
    return machine_names_add(ret_names, spec->machine ? spec->machine : "", err);
}

/* A name that could be taken for a machine's. */
static int check_group(struct state *state, const char *group, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine machine = {0};
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct err missing = ERR_EMPTY;

    if (!str_is_name(group))
        return err_set(err, ERR_INVALID, 0, "\"%.64s\" is not a group's name", group);
    bool taken = state_machine_get(state, group, &machine, &missing) == 0;
    if (!taken && missing.code == ERR_NOT_FOUND) {
        err_clear(&missing);
        taken = state_protection_of(state, group, &row, &missing) == 0 && !str_eq(row.group, group);
    }
    if (taken)
        return err_set(err, ERR_EXISTS, 0,
                       "a group of several machines cannot be called %s: a machine is; hint: give "
                       "the group a name that no machine has",
                       group);
    if (missing.code == ERR_NONE || missing.code == ERR_NOT_FOUND)
        return 0;
    *err = missing;
    return -1;
}

int job_group_take(struct state *state, const struct job_protect *spec,
                   char ret_group[NAME_MAX_BYTES], struct machine_names *ret_machines,
                   struct err *err)
{
    const char *group = spec->group ? spec->group : "";
    struct machine_names names;
    char text[256];

    if (names_of(spec, &names, err) < 0)
        return -1;
    if (names.count == 1 && *group && !str_eq(group, names.at[0]))
        return err_set(
            err, ERR_INVALID, 0,
            "%s alone is a group of its own name, not %s; hint: name the other machines, "
            "too, or leave the group's name out",
            names.at[0], group);
    machine_names_text(&names, text, sizeof(text));
    if (names.count > 1 && !*group)
        return err_set(
            err, ERR_INVALID, 0,
            "%s together are a group, which needs a name; hint: --group NAME; or protect "
            "one after the other, each with points of its own",
            text);
    if (names.count > 1 && check_group(state, group, err) < 0)
        return -1;
    (void)snprintf(ret_group, NAME_MAX_BYTES, "%s", names.count == 1 ? names.at[0] : group);
    *ret_machines = names;
    return 0;
}

int job_group_check_disks(const struct job_machine_list *machines,
                          const struct machine_names *names, struct err *err)
{
    char seen[SESSION_DISKS_MAX][GROUP_NAME_BYTES];
    size_t count = 0;

    VEC_FOREACH(machine, machines)
        VEC_FOREACH(disk, &machine->disks) {
            if (count == SESSION_DISKS_MAX)
                return err_set(err, ERR_LIMIT, 0,
                               "more than %d disks cannot be protected together; hint: make two "
                               "groups of them",
                               SESSION_DISKS_MAX);
            if (machine_disk_in(names, machine->name, disk->name, seen[count], err) < 0)
                return -1;
            for (size_t i = 0; i < count; i++)
                if (str_eq(seen[i], seen[count]))
                    return err_set(err, ERR_EXISTS, 0,
                                   "two disks of the group would be called %s; hint: give one of "
                                   "the machines, or of the disks, another name",
                                   seen[i]);
            count++;
        }
    return 0;
}
