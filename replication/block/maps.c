// SPDX-License-Identifier: Apache-2.0
#include "block/maps.h"

#include "block/stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "muster-"

void maps_name(const char *group, uint64_t generation, uint64_t serial,
               char ret_name[BLOCKS_NAME_BYTES])
{
    (void)snprintf(ret_name, BLOCKS_NAME_BYTES, PREFIX "%s-%" PRIu64 "-%" PRIu64, group, generation,
                   serial);
}

/* A decimal number without signs, spaces or leading zeros, that ends at `end`. */
static bool read_number(const char **at, char end, uint64_t *ret_number)
{
    const char *p = *at;
    uint64_t n = 0;

    if (*p < '0' || *p > '9' || (*p == '0' && p[1] != end))
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10, &n)
            || __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
    if (*p != end)
        return false;
    *at = p + (end != '\0');
    *ret_number = n;
    return true;
}

bool maps_parse(const char *name, const char *group, uint64_t *ret_generation, uint64_t *ret_serial)
{
    size_t len = strlen(group);

    if (!str_starts(name, PREFIX))
        return false;
    name += strlen(PREFIX);
    if (strncmp(name, group, len) != 0 || name[len] != '-')
        return false;
    name += len + 1;
    return read_number(&name, '-', ret_generation) && read_number(&name, '\0', ret_serial);
}

struct verdict {
    uint64_t open;
    uint64_t frozen;
    char why[120]; /* "": nothing wrong */
};

static void judge_bitmap(const struct blocks_bitmap *bitmap, const char *group, uint64_t generation,
                         struct verdict *verdict)
{
    uint64_t of = 0, serial = 0;
    uint64_t *slot = bitmap->recording ? &verdict->open : &verdict->frozen;

    if (!maps_parse(bitmap->name, group, &of, &serial))
        return;
    if (of != generation)
        (void)snprintf(verdict->why, sizeof(verdict->why),
                       "a change map of generation %" PRIu64 " is there, but not of %" PRIu64, of,
                       generation);
    else if (bitmap->inconsistent)
        (void)snprintf(verdict->why, sizeof(verdict->why),
                       "change map %" PRIu64 " is inconsistent (QEMU ended uncleanly)", serial);
    else if (bitmap->granularity != STAGE_MAP_BLOCK)
        (void)snprintf(verdict->why, sizeof(verdict->why),
                       "change map %" PRIu64 " has a granularity of %" PRIu64 " bytes", serial,
                       bitmap->granularity);
    else if (*slot)
        (void)snprintf(verdict->why, sizeof(verdict->why),
                       "change maps %" PRIu64 " and %" PRIu64 " are there at once", *slot, serial);
    else
        *slot = serial;
}

static void nothing_tracked(struct source_state *state, const char *disk, const char *why)
{
    state->open = state->frozen = 0;
    (void)snprintf(state->note, sizeof(state->note), "disk %s: %s", disk, why);
}

int maps_judge(const struct blocks_nodes *nodes, const struct maps_disk *disks, size_t count,
               const char *group, uint64_t generation, struct source_state *ret_state,
               struct err *err)
{
    struct source_state state = *ret_state;

    state.open = state.frozen = 0;
    state.note[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        const struct blocks_node *node = blocks_find(nodes, disks[i].node);
        struct verdict verdict = {0};

        if (!node)
            return err_set(err, ERR_NOT_FOUND, 0, "disk %s: this QEMU has no node %s",
                           disks[i].name, disks[i].node);
        VEC_FOREACH(bitmap, &node->bitmaps) {
            judge_bitmap(bitmap, group, generation, &verdict);
        }
        if (state.note[0])
            continue; /* decided; but all nodes must be there */
        if (!verdict.open && !verdict.why[0])
            (void)snprintf(verdict.why, sizeof(verdict.why),
                           "no change map (QEMU was started anew, or never tracked it)");
        if (verdict.why[0])
            nothing_tracked(&state, disks[i].name, verdict.why);
        else if (state.open && verdict.open != state.open)
            nothing_tracked(&state, disks[i].name, "its change map is not that of the others");
        else if (verdict.frozen && verdict.frozen != verdict.open - 1)
            nothing_tracked(&state, disks[i].name, "its change maps do not follow each other");
        if (state.note[0])
            continue;
        state.open = verdict.open;
        state.frozen = verdict.frozen ? verdict.frozen : state.frozen;
    }
    *ret_state = state;
    return 0;
}
