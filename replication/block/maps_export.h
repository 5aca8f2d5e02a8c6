// SPDX-License-Identifier: Apache-2.0
/* What a group's maps in a living QEMU hold, read out without touching them, over a monitor of the
 * caller's own: so while a session has the source open, too. One thread at a time per work_dir. */
#pragma once

#include "block/maps.h"

/* The union of open and frozen map of each disk, in the order of `disks`; `ret_extents` has `count`
 * elements, replaced. What the guest writes meanwhile may be missing: pause it first. `ret_serial`
 * is the open map's; 0: nothing is tracked, and nothing was read. A file "export-N" lies in `work_dir`
 * meanwhile, a node "muster-export" in QEMU; what a broken try left of it is removed. */
int maps_export(struct qmp *qmp, const struct maps_disk *disks, size_t count, const char *group,
                uint64_t generation, const char *work_dir, uint64_t *ret_serial,
                struct source_extents *ret_extents, struct cancel *cancel, struct err *err)
    MUST_CHECK;
