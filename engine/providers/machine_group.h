// SPDX-License-Identifier: Apache-2.0
/* The machines of a protection group: those that share one history and one instant. A group of one is
 * named after its machine; one of several has a name of its own, which is no machine's. Plain values. */
#pragma once

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>

#define GROUP_MACHINES_MAX 16
#define GROUP_NAME_BYTES   64 /* of a machine, a disk, a group; with the NUL */

struct machine_names {
    size_t count;
    char at[GROUP_MACHINES_MAX][GROUP_NAME_BYTES]; /* in order of the names */
};

/* Adds a name where it belongs. ERR_INVALID: no name; ERR_EXISTS: it is there already; ERR_LIMIT: there
 * are GROUP_MACHINES_MAX. */
int machine_names_add(struct machine_names *names, const char *name, struct err *err) MUST_CHECK;
bool machine_names_have(const struct machine_names *names, const char *name);
bool machine_names_equal(const struct machine_names *a, const struct machine_names *b);
/* A group of one: that of its name. */
void machine_names_alone(struct machine_names *names, const char *group);
/* [name] as rows, manifests and messages have it; NULL or empty: the group is alone, `group`. */
int machine_names_parse(const json_t *list, const char *group, struct machine_names *ret_names,
                        struct err *err) MUST_CHECK;
/* The same of {name: definition}. */
int machine_names_of(const json_t *definitions, const char *group, struct machine_names *ret_names,
                     struct err *err) MUST_CHECK;
json_t *machine_names_json(const struct machine_names *names);
/* "db1, web1" */
void machine_names_text(const struct machine_names *names, char *ret_text, size_t len);

/* What a machine's disk is called in its group of `machines`: in one of several "MACHINE.DISK"; alone it
 * keeps its own name. ERR_LIMIT: that has more than 63 bytes. */
int machine_disk_in(const struct machine_names *machines, const char *machine, const char *disk,
                    char ret_name[GROUP_NAME_BYTES], struct err *err) MUST_CHECK;
