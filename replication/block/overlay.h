// SPDX-License-Identifier: Apache-2.0
/* What lies in an overlay itself (a qcow2 image above a served point): whatever was ever written to it, by the
 * guest or by a stream. Read from the file, without asking QEMU: good while nobody writes to it (the
 * machine is off, or paused, which flushes). Any thread. */
#pragma once

#include "block/source.h"

/* Allocated clusters, those that read as zeros included, ascending, joined, cut off at the disk's
 * end; replaces what is in `ret_extents`. ERR_NOT_FOUND: no such file; ERR_CORRUPT: no qcow2 image that can be
 * told; ERR_UNSUPPORTED: it has features that are not known here. */
int overlay_allocated(const char *path, struct source_extents *ret_extents, uint64_t *ret_size,
                      struct err *err) MUST_CHECK;

/* Takes room for `more` bytes behind the file's end from the file system, whoever writes to it
 * meanwhile; where that cannot be reserved, it is only looked for. ERR_SPACE, with the numbers: it
 * is not to be had, and nothing was taken. */
int overlay_reserve(const char *path, uint64_t more, struct err *err) MUST_CHECK;
/* Gives back what was reserved and not used. Nobody may have the file open. */
int overlay_release(const char *path, struct err *err) MUST_CHECK;
