// SPDX-License-Identifier: Apache-2.0
/* What the bitmaps found in a QEMU say about a group's tracking. Our bitmaps are named
 * "muster-GROUP-GENERATION-SERIAL", have a granularity of 4 KiB, and are either recording (the open
 * map) or not (the frozen one). Pure: no I/O. */
#pragma once

#include "block/source.h"
#include "qemu/blocks.h"

struct maps_disk {
    const char *name; /* for messages */
    const char *node;
};

/* "muster-GROUP-GENERATION-SERIAL" */
void maps_name(const char *group, uint64_t generation, uint64_t serial,
               char ret_name[BLOCKS_NAME_BYTES]);
/* Is that the name of one of the group's maps, and which? */
bool maps_parse(const char *name, const char *group, uint64_t *ret_generation,
                uint64_t *ret_serial);

/* Fills open, frozen and note. A map counts only when it is consistent, of our granularity and of
 * this generation; the open one only when it is the same on all disks. The frozen one may be
 * missing on some disks (an `end` that was cut short). ERR_NOT_FOUND: a disk's node is not there. */
int maps_judge(const struct blocks_nodes *nodes, const struct maps_disk *disks, size_t count,
               const char *group, uint64_t generation, struct source_state *ret_state,
               struct err *err) MUST_CHECK;
