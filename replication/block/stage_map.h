// SPDX-License-Identifier: Apache-2.0
/* A change map of ours brought into QEMU: an empty qcow2 image that carries it as a bitmap, which QEMU
 * then merges into a map of its own (docs/qemu.md). Any thread. */
#pragma once

#include "block/source.h"

/* Makes PATH an empty image of that disk size with the disabled bitmap `map`, of STAGE_MAP_BLOCK
 * bytes a bit, in which the extents (any order, any alignment, within the disk) are marked.
 * ERR_INVALID: one lies outside; ERR_LIMIT: the disk is too large. On an error PATH is gone. */
int stage_map_make(const char *path, uint64_t disk_size, const char *map,
                   const struct source_extents *extents, struct err *err) MUST_CHECK;
