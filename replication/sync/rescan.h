// SPDX-License-Identifier: Apache-2.0
/* What a rescan found to differ, kept until it has become segments: a sparse file of the chunks'
 * bytes per disk, and a list of which they are, and which of their blocks. Survives a restart up to the last rescan_sync. The
 * format stands in rescan.c. One thread. */
#pragma once

#include "block/source.h"
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

/* A chunk that differs, in all of its blocks; `bytes` NULL: it is all zeros now. A later call
 * replaces an earlier. */
int rescan_put(struct rescan *rescan, size_t disk, uint64_t chunk, const void *bytes,
               struct err *err) MUST_CHECK;
bool rescan_has(const struct rescan *rescan, size_t disk, uint64_t chunk);
/* The chunks with bytes that were put since the last rescan_sync, ascending, each once; free with
 * free(). */
uint64_t *rescan_fresh(const struct rescan *rescan, size_t disk, size_t *ret_count);
/* The bytes of one of those: CHUNK_BYTES, or less at the disk's end. */
int rescan_read(struct rescan *rescan, size_t disk, uint64_t chunk, void *buf, struct err *err)
    MUST_CHECK;
/* It differs only in the blocks of `mask`, bit 0 the first; not 0. */
void rescan_narrow(struct rescan *rescan, size_t disk, uint64_t chunk, uint16_t mask);
/* Drops what was found on a disk: its scan begins anew. */
int rescan_restart(struct rescan *rescan, size_t disk, struct err *err) MUST_CHECK;
/* What was put so far survives a power cut. */
int rescan_sync(struct rescan *rescan, size_t disk, struct err *err) MUST_CHECK;

/* Bytes that differ, of one disk. */
uint64_t rescan_bytes(const struct rescan *rescan, size_t disk);
/* All that differs on a disk, ascending, but for the blocks that lie in `skip` as a whole (may be
 * NULL): something newer is written there after this. */
int rescan_write(struct rescan *rescan, size_t disk, const struct source_extents *skip,
                 struct segment_writer *writer, struct err *err) MUST_CHECK;
