// SPDX-License-Identifier: Apache-2.0
#include "sites/group_disks.h"

#include <stdio.h>

int group_owns_add(const struct machine_names *machines, const struct machine *machine,
                   struct group_owns *owns, struct err *err)
{
    VEC_FOREACH(disk, &machine->disks) {
        struct group_own own = {.disk = *disk};

        if (machine_disk_in(machines, machine->name, disk->name, own.name, err) < 0)
            return -1;
        (void)snprintf(own.machine, sizeof(own.machine), "%s", machine->name);
        *group_owns_push(owns) = own;
    }
    return 0;
}

int group_owns_here(struct estate *estate, const char *group, struct group_owns *owns,
                    struct err *err)
{
    struct machine_names machines;

    estate_group_machines(estate, group, &machines);
    for (size_t i = 0; i < machines.count; i++) {
        CLEANUP(machine_done) struct machine machine;

        machine_init(&machine);
        if (estate_machine_get(estate, machines.at[i], &machine, err) < 0
            || group_owns_add(&machines, &machine, owns, err) < 0)
            return -1;
    }
    return 0;
}

const struct group_own *group_owns_find(const struct group_owns *owns, const char *name)
{
    VEC_FOREACH(own, owns)
        if (str_eq(own->name, name))
            return own;
    return NULL;
}
