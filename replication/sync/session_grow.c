// SPDX-License-Identifier: Apache-2.0
/* Disks of another size. One that grew is followed: the next point has the new size. What it grew
 * by reads as zeros until it is written, and what is written is tracked, for maps grow with their
 * disk; only on a block device there may be anything in it: there it is compared (as a rescan of
 * that part, while tracking goes on). The checkpoint keeps the size the replica knows
 * until a point of the new one is durable.
 *
 * One that shrank is refused: what is beyond its new end would have to be taken from the replica,
 * and nobody could tell whether that was meant. */
#include "sync/session_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "sync/outbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int same_disks(const struct session *s, const struct source_disks *disks, struct err *err)
{
    for (size_t i = 0; i < disks->len; i++) {
        const struct source_disk *now = &disks->at[i];
        const struct checkpoint_disk *then = i < s->ck.disks.len ? &s->ck.disks.at[i] : NULL;

        if (!then || strcmp(then->name, now->name) != 0)
            return err_set(err, ERR_STATE, 0,
                           "disk %s was not there when the protection of %s began; hint: "
                           "unprotect the machine and protect it again",
                           now->name, s->config.group);
        if (now->size < then->size)
            return err_set(err, ERR_STATE, 0,
                           "disk %s of %s shrank from %" PRIu64 " to %" PRIu64
                           " bytes, and its replica keeps what it had; hint: give it its size "
                           "back (block_resize, or qemu-img resize), then `muster retry %s`; or "
                           "unprotect the machine and protect it again: that is a full copy",
                           now->name, s->config.group, then->size, now->size, s->config.group);
    }
    if (disks->len != s->ck.disks.len)
        return err_set(err, ERR_STATE, 0,
                       "disk %s of %s is gone; hint: unprotect the machine and protect it again",
                       s->ck.disks.at[disks->len].name, s->config.group);
    return 0;
}

static void note_growth(struct session *s, struct checkpoint_disk *disk,
                        const struct source_disk *now)
{
    uint64_t whole = disk->size / CHUNK_BYTES * CHUNK_BYTES;
    char from[32], to[32];

    log_info("session", "a disk grew group=%s disk=%s from=%" PRIu64 " to=%" PRIu64,
             s->config.group, disk->name, disk->size, now->size);
    (void)snprintf(disk->why, sizeof(disk->why), "disk %s grew from %s to %s", disk->name,
                   str_bytes(disk->size, from, sizeof(from)), str_bytes(now->size, to, sizeof(to)));
    if (s->ck.phase != PHASE_COPY && disk->grown_from == 0)
        disk->grown_from = disk->size;
    disk->size = now->size;
    if (s->ck.phase == PHASE_DELTA && now->zero_tail)
        return;
    /* An ordered scan goes on from here; another begins anew. */
    if (disk->done || disk->scanned > whole || s->ck.phase == PHASE_DELTA)
        disk->scanned = whole;
    disk->done = false;
}

int grow_follow(struct session *s, const struct source_disks *disks, bool *ret_grew,
                struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks before = VEC_EMPTY;
    CLEANUP(store_disks_free) struct store_disks after = VEC_EMPTY;

    *ret_grew = false;
    if (same_disks(s, disks, err) < 0)
        return -1;
    turn_store_disks(s, &before);
    for (size_t i = 0; i < disks->len; i++) {
        if (disks->at[i].size == s->ck.disks.at[i].size)
            continue;
        note_growth(s, &s->ck.disks.at[i], &disks->at[i]);
        *ret_grew = true;
    }
    if (!*ret_grew)
        return 0;
    /* What has the old size open is opened anew. */
    session_drop_source(s);
    turn_store_disks(s, &after);
    s->digests_end.known = false;
    if (digests_resize(s->config.dir, &before, &after, err) < 0 || session_save(s, err) < 0)
        return -1;
    session_show_progress(s);
    return 0;
}

bool grow_is_to_be_sent(const struct session *s)
{
    VEC_FOREACH(disk, &s->ck.disks)
        if (disk->grown_from)
            return true;
    return false;
}

int grow_compare(struct session *s, struct err *err)
{
    const char *why = "a disk grew";

    resync_drop(s);
    VEC_FOREACH(disk, &s->ck.disks)
        if (!disk->done && disk->why[0])
            why = disk->why;
    required_note(s, RESYNC_GREW, false, why);
    (void)snprintf(s->ck.note, sizeof(s->ck.note), "comparing what is new: %.120s", why);
    s->ck.phase = PHASE_RESYNC;
    s->ck.cut = 0;
    if (rescan_remove(s->config.dir, err) < 0 || outbox_clear(s->config.dir, err) < 0
        || session_save(s, err) < 0)
        return -1;
    session_set_state(s, SESSION_RESYNCING);
    session_set_note(s, s->ck.note);
    session_show_progress(s);
    return 0;
}

void grow_durable(struct session *s, const struct manifest *manifest)
{
    VEC_FOREACH(disk, &s->ck.disks)
        VEC_FOREACH(part, &manifest->disks)
            if (strcmp(part->name, disk->name) == 0 && part->size == disk->size)
                disk->grown_from = 0;
}
