// SPDX-License-Identifier: Apache-2.0
/* Inside of views: which chunks of one disk have an older content than head, and where it is. It
 * is gathered from the undo files, oldest first, and the first one that has a chunk keeps it; a
 * new file only adds chunks. Not locked. */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct view_place {
    uint32_t file; /* which undo file, counted by the view */
    uint32_t len;  /* of the record */
    uint64_t pos;  /* of the record; 0: zeros */
    uint32_t crc;  /* of the record */
};

struct view_map;
struct view_map *view_map_new(void);
void view_map_free(struct view_map *map);
/* Keeps the place that is there already. ERR_SPACE: no memory. */
int view_map_add(struct view_map *map, uint64_t chunk, const struct view_place *place,
                 struct err *err) MUST_CHECK;
/* NULL: head has it. */
const struct view_place *view_map_find(const struct view_map *map, uint64_t chunk);
