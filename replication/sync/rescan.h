// SPDX-License-Identifier: Apache-2.0
/* What a rescan found to differ, kept until it has become segments: a sparse file of the chunks'
 * bytes per disk, and a list of which they are. Survives a restart up to the last rescan_sync. The
 * format stands in rescan.c. One thread. */
#pragma once

#include "replica/segment.h"
#include "replica/store.h"

#include <stdbool.h>

struct rescan;
/* Below DIR/rescan. `resume`: goes on with what is there; else that is removed first. */
int rescan_open(const char *dir, const struct store_disks *disks, bool resume,
                struct rescan **ret_rescan, struct err *err) MUST_CHECK;
void rescan_close(struct rescan *rescan); /* keeps the files */
void rescan_closep(struct rescan **rescan);
int rescan_remove(const char *dir, struct err *err) MUST_CHECK;

/* A chunk that differs; `bytes` NULL: it is all zeros now. A later call replaces an earlier. */
int rescan_put(struct rescan *rescan, size_t disk, uint64_t chunk, const void *bytes,
               struct err *err) MUST_CHECK;
bool rescan_has(const struct rescan *rescan, size_t disk, uint64_t chunk);
/* Drops what was found on a disk: its scan begins anew. */
int rescan_restart(struct rescan *rescan, size_t disk, struct err *err) MUST_CHECK;
/* What was put so far survives a power cut. */
int rescan_sync(struct rescan *rescan, size_t disk, struct err *err) MUST_CHECK;

/* Bytes that differ, of one disk. */
uint64_t rescan_bytes(const struct rescan *rescan, size_t disk);
/* All of a disk's chunks, ascending. */
int rescan_write(struct rescan *rescan, size_t disk, struct segment_writer *writer, struct err *err)
    MUST_CHECK;
