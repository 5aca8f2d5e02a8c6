// SPDX-License-Identifier: Apache-2.0
/* A durable change map: what may have changed on one disk since a known instant, kept in a file of
 * its own while no bitmap of QEMU's can be relied on. A superset, like every map. Any thread. */
#pragma once

#include "block/source.h"

struct change_map {
    char group[SOURCE_NAME_BYTES];
    char disk[SOURCE_NAME_BYTES];
    uint64_t size;       /* of the disk; 0: not noted */
    uint64_t generation; /* under which it was written to */
    uint64_t point;      /* the disk was this point when ... */
    uint64_t serial;     /* ... or when the source's map of this number was opened (then not 0) */
    struct source_extents extents; /* ascending, without overlaps, within the disk */
};
void change_map_done(struct change_map *map); /* also for CLEANUP */

/* Atomically and durably over what was there. */
int change_map_write(const char *path, const struct change_map *map, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND: there is none. ERR_CORRUPT: it cannot be read in full; nothing of it is used. */
int change_map_read(const char *path, struct change_map *ret_map, struct err *err) MUST_CHECK;
/* For good (durable); none there is fine. */
int change_map_remove(const char *path, struct err *err) MUST_CHECK;
