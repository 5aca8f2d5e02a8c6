// SPDX-License-Identifier: Apache-2.0
/* The disks of a group by the names they have there (machine_disk_in), each with what its own machine
 * says of it. Plain values. */
#pragma once

#include "sites/estate.h"

struct group_own {
    char name[GROUP_NAME_BYTES]; /* in the group */
    char machine[MACHINE_NAME_BYTES];
    struct machine_disk disk; /* as the machine has it */
};
VEC_DEFINE(group_owns, struct group_own)

/* Adds those of one machine of the group. ERR_LIMIT: a name is too long. */
int group_owns_add(const struct machine_names *machines, const struct machine *machine,
                   struct group_owns *owns, struct err *err) MUST_CHECK;
/* Those of our own machines of the group. ERR_NOT_FOUND: one is not known here. */
int group_owns_here(struct estate *estate, const char *group, struct group_owns *owns,
                    struct err *err) MUST_CHECK;
/* NULL: none has that name in the group. */
const struct group_own *group_owns_find(const struct group_owns *owns, const char *name);
