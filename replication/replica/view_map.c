// SPDX-License-Identifier: Apache-2.0
/* A hash table with open addressing, at most half full, a power of two in size. */
#include "replica/view_map.h"

#include "base/mem.h"

#include <stdbool.h>

#define FIRST_SLOTS 1024U

struct slot {
    uint64_t chunk_plus_1; /* 0: free */
    struct view_place place;
};

struct view_map {
    struct slot *slots;
    size_t size;
    size_t used;
};

struct view_map *view_map_new(void)
{
    struct view_map *map = mem_new(struct view_map);

    map->size = FIRST_SLOTS;
    map->slots = mem_new_array(struct slot, map->size);
    return map;
}

void view_map_free(struct view_map *map)
{
    if (!map)
        return;
    free(map->slots);
    free(map);
}

/* The chunk's slot, or the free one where it would be. */
static struct slot *slot_of(struct slot *slots, size_t size, uint64_t chunk)
{
    uint64_t hash = chunk * UINT64_C(0x9e3779b97f4a7c15); /* Fibonacci hashing */
    size_t at = (size_t)(hash >> 20) & (size - 1);

    while (slots[at].chunk_plus_1 != 0 && slots[at].chunk_plus_1 != chunk + 1)
        at = (at + 1) & (size - 1);
    return &slots[at];
}

static int grow(struct view_map *map, struct err *err)
{
    size_t size = map->size * 2;
    struct slot *slots = mem_try_alloc(size * sizeof(*slots), "map of a view", err);

    if (!slots)
        return -1;
    for (size_t i = 0; i < map->size; i++)
        if (map->slots[i].chunk_plus_1 != 0)
            *slot_of(slots, size, map->slots[i].chunk_plus_1 - 1) = map->slots[i];
    free(map->slots);
    map->slots = slots;
    map->size = size;
    return 0;
}

int view_map_add(struct view_map *map, uint64_t chunk, const struct view_place *place,
                 struct err *err)
{
    if (map->used * 2 >= map->size && grow(map, err) < 0)
        return -1;
    struct slot *slot = slot_of(map->slots, map->size, chunk);
    if (slot->chunk_plus_1 == 0) {
        slot->chunk_plus_1 = chunk + 1;
        slot->place = *place;
        map->used++;
    }
    return 0;
}

const struct view_place *view_map_find(const struct view_map *map, uint64_t chunk)
{
    const struct slot *slot = slot_of(map->slots, map->size, chunk);

    return slot->chunk_plus_1 ? &slot->place : NULL;
}
