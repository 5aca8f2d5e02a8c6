// SPDX-License-Identifier: Apache-2.0
/* What the files of the group source share: source_group.c (which machine has what) and
 * source_group_cut.c (the barrier). */
#pragma once

#include "block/source_qemu.h"

struct group_member {
    char *name;
    struct source *source;
    struct source_qemu *qemu; /* the same, when it has a process; else NULL */
    char *spare_qmp;
    uint64_t open, frozen; /* as it said last */
};

struct group_disk {
    char name[SOURCE_NAME_BYTES];
    char inner[SOURCE_NAME_BYTES]; /* as its machine calls it */
    size_t member;
};

struct source_group {
    struct source base; /* first */
    char *group;
    char *work_dir;
    char *guardian_path;
    struct clock *clock;
    struct group_member *members;
    size_t member_count;
    struct group_disk *disks;
    size_t disk_count;
    struct group_member *scanning;
};

static inline struct source_group *source_group(struct source *source)
{
    return (struct source_group *)source;
}

int source_group_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                     struct cancel *cancel, struct err *err);
int source_group_cut_application(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                                 struct cancel *cancel, struct err *err);
/* A cut that only some of the machines made is one of all of them, as if nothing had come of it: so a
 * process that was killed in the middle costs no comparison. */
int source_group_mend(struct source_group *group, struct cancel *cancel, struct err *err)
    MUST_CHECK;
