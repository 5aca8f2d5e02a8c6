// SPDX-License-Identifier: Apache-2.0
/* An initial copy that begins from files at the peer:
 *
 *   the replica fills heads from their seeds; disks without one are copied
 *   -> the copy ends: the replica has the digests of what it holds, whatever that is
 *   -> those of disks with a seed are compared with the source, as a rescan does; differences travel
 *   -> the closing cut makes the first point of both
 *
 * Tracking was begun before all of it. The checkpoint names the seed of a disk that was filled, until the
 * comparison begins: so it cannot be left out, also when nobody speaks of a seed any more. */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SLICE_MS 1000 /* so that other groups get their turn, too */

static const char *seed_of(const struct session *s, const struct checkpoint_disk *disk)
{
    return json_get_str(s->config.seeds, disk->name, "");
}

bool seed_is_used(const struct session *s)
{
    VEC_FOREACH(disk, &s->ck.disks)
        if (disk->seed[0])
            return true;
    return false;
}

/* --- Filling --------------------------------------------------------------------------------- */

/* The next disk that a seed is to fill; one that another seed filled before is filled anew. */
static struct checkpoint_disk *next_disk(struct session *s)
{
    VEC_FOREACH(disk, &s->ck.disks) {
        const char *seed = seed_of(s, disk);
        if (*seed && (!disk->done || (disk->seed[0] && strcmp(disk->seed, seed) != 0)))
            return disk;
    }
    return NULL;
}

static void show(struct session *s, const struct checkpoint_disk *disk,
                 const struct store_seeding *seeding)
{
    size_t i = (size_t)(disk - s->ck.disks.at);
    char data[32];

    CLEANUP(mem_freep)
    char *note =
        mem_printf("%s fills disk %s from its seed %.80s: %s so far", s->config.peer, disk->name,
                   disk->seed, str_bytes(seeding->data_bytes, data, sizeof(data)));
    session_set_note(s, note);
    (void)pthread_mutex_lock(&s->lock);
    s->status.disks[i].done_bytes = seeding->done_bytes;
    (void)pthread_mutex_unlock(&s->lock);
}

static int fill_disk(struct session *s, struct checkpoint_disk *disk, struct cancel *cancel,
                     struct err *err)
{
    int64_t until = session_now(s) + SLICE_MS;
    struct store_seeding seeding;

    if (strcmp(disk->seed, seed_of(s, disk)) != 0) {
        (void)snprintf(disk->seed, sizeof(disk->seed), "%s", seed_of(s, disk));
        disk->done = false;
        disk->scanned = 0;
        if (session_save(s, err) < 0)
            return -1;
        log_info("session", "seeding group=%s disk=%s seed=\"%s\"", s->config.group, disk->name,
                 disk->seed);
    }
    do {
        if (remote_base_seed(&s->remote, disk->name, disk->seed, s->ck.base, &seeding, cancel, err)
            < 0)
            return session_blame_peer(s);
        CRASH_POINT("sync.seeded");
        show(s, disk, &seeding);
    } while (seeding.done_bytes < disk->size && session_now(s) < until);
    if (seeding.done_bytes < disk->size)
        return 0;
    disk->done = true;
    log_info("session", "seeded group=%s disk=%s bytes=%" PRIu64, s->config.group, disk->name,
             seeding.data_bytes);
    return session_save(s, err);
}

int seed_slice(struct session *s, bool *ret_worked, struct cancel *cancel, struct err *err)
{
    struct checkpoint_disk *disk = s->info.state == STORE_COPIED ? NULL : next_disk(s);

    *ret_worked = disk != NULL;
    if (!disk)
        return 0;
    if ((s->copy_told != s->ck.base || s->info.state == STORE_EMPTY)
        && copy_prepare(s, cancel, err) < 0)
        return -1;
    s->copy_told = s->ck.base;
    if (fill_disk(s, disk, cancel, err) == 0)
        return 0;
    s->copy_told = 0;
    return -1;
}

/* --- Comparing ------------------------------------------------------------------------------- */

bool seed_counts(const struct session *s, size_t disk)
{
    return s->ck.durable_point == 0 && s->ck.disks.at[disk].seed[0];
}

/* Disks that were copied are the source's, but for what the map has. */
static void skip_copied(struct session *s)
{
    VEC_FOREACH(disk, &s->ck.disks)
        if (!disk->seed[0]) {
            disk->done = true;
            disk->scanned = disk->size;
        }
}

int seed_compare(struct session *s, struct cancel *cancel, struct err *err)
{
    char note[CHECKPOINT_NOTE_BYTES];

    (void)snprintf(note, sizeof(note), "comparing with what the seeds at %s held", s->config.peer);
    resync_drop(s);
    if (rescan_remove(s->config.dir, err) < 0)
        return -1;
    required_note(s, RESYNC_SEED, true, "the initial copy began from a seed");
    log_info("session", "comparing with seeds group=%s", s->config.group);
    if (turn_begin_phase(s, PHASE_RESYNC, true, note, cancel, err) < 0)
        return -1;
    skip_copied(s);
    session_show_progress(s);
    return session_save(s, err);
}

static void sum(const struct session *s, uint64_t *ret_data, uint64_t *ret_same)
{
    *ret_data = *ret_same = 0;
    VEC_FOREACH(disk, &s->ck.disks) {
        *ret_data += disk->seed[0] ? disk->seed_data : 0;
        *ret_same += disk->seed[0] ? disk->seed_same : 0;
    }
}

void seed_show(struct session *s)
{
    uint64_t data;
    uint64_t same;

    sum(s, &data, &same);
    (void)pthread_mutex_lock(&s->lock);
    s->status.seed_data_bytes = data;
    s->status.seed_same_bytes = same;
    (void)pthread_mutex_unlock(&s->lock);
}

void seed_note(struct session *s)
{
    uint64_t data;
    uint64_t same;
    char a[32];
    char b[32];

    if (s->ck.durable_point != 0 || !seed_is_used(s))
        return;
    sum(s, &data, &same);
    (void)snprintf(s->ck.note, sizeof(s->ck.note),
                   "comparing with seeds: %s of %s were there already",
                   str_bytes(same, a, sizeof(a)), str_bytes(data, b, sizeof(b)));
    session_set_note(s, s->ck.note);
    seed_show(s);
}
