// SPDX-License-Identifier: Apache-2.0
/* The order, and what a crash in between leaves:
 *
 *   segments, commit   the replica has the point or has not; sending again is harmless
 *   checkpoint         durable: the base is the cut's map from here on
 *   source end         else the next turn sees a frozen map older than the base, and ends it
 *   apply              else the next turn sees that the replica has not applied it, and asks again
 *   prune, outbox      else it is done with the next point */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "sync/outbox.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define MUCH_BYTES  (8u << 20)
#define PIECE_BYTES (256u * 1024u) /* what a broken link costs at most */

static int send_segment(struct session *s, const char *disk, const struct manifest_segment *segment,
                        bool fresh, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep)
    char *path = outbox_segment_path(s->config.dir, disk, &segment->uuid);
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(PIECE_BYTES, 1);
    CLEANUP(fd_close) int fd = -1;
    struct fs *fs = fs_real();
    uint64_t have = 0;

    if (fs->open(fs, path, O_RDONLY | O_CLOEXEC, 0, &fd, err) < 0)
        return -1;
    if (remote_segment_open(&s->remote, disk, &segment->uuid, fresh ? NULL : &have, cancel, err)
        < 0)
        return session_blame_peer(s);
    int64_t began = session_now(s);
    uint64_t first = have;
    while (have < segment->bytes) {
        uint64_t left = segment->bytes - have;
        size_t n = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        if (fs->pread(fs, fd, buf, n, have, err) < 0)
            return err_wrap(err, "%s", path);
        if (remote_segment_write(&s->remote, disk, &segment->uuid, have, buf, n, cancel, err) < 0)
            return session_blame_peer(s);
        have += n;
    }
    /* Less may still be on its way, whatever the link's speed. */
    if (have - first >= MUCH_BYTES)
        session_note_sent(s, have - first, session_now(s) - began);
    if (remote_segment_close(&s->remote, disk, segment, cancel, err) < 0)
        return session_blame_peer(s);
    return 0;
}

int send_ahead(struct session *s, const char *disk, const struct manifest_segment *segment,
               struct cancel *cancel, struct err *err)
{
    int64_t before = session_now(s);
    int rc = send_segment(s, disk, segment, true, cancel, err);

    lag_sent(s, session_now(s) - before);
    return rc;
}

static int send_segments(struct session *s, const struct manifest *manifest, struct cancel *cancel,
                         struct err *err)
{
    VEC_FOREACH(disk, &manifest->disks)
        VEC_FOREACH(segment, &disk->segments)
            if (send_segment(s, disk->name, segment, false, cancel, err) < 0)
                return -1;
    return 0;
}

/* What the replica calls damaged may be our file. Then the point is given up: the source still
 * has its changes, and builds it again. */
static int check_own_segments(struct session *s, const struct manifest *manifest, struct err *err)
{
    VEC_FOREACH(disk, &manifest->disks)
        VEC_FOREACH(segment, &disk->segments) {
            CLEANUP(mem_freep)
            char *path = outbox_segment_path(s->config.dir, disk->name, &segment->uuid);
            struct segment_head head;
            struct segment_info info;
            struct err why;
            if (segment_check(path, &head, &info, &why) == 0)
                continue;
            if (outbox_clear(s->config.dir, err) < 0)
                return -1;
            return err_set(err, ERR_IO, 0, "sealed, but damaged on this site's disk: %s", why.text);
        }
    return 0;
}

/* Segments and commit. A segment that arrived damaged, or that the replica lost meanwhile, is
 * sent once more. */
static int deliver(struct session *s, const struct manifest *manifest, const char *text, bool sent,
                   struct cancel *cancel, struct err *err)
{
    for (bool again = true;; again = false) {
        if (sent || send_segments(s, manifest, cancel, err) == 0) {
            CRASH_POINT("sync.sent");
            /* Waits for the answers about the segments first. */
            if (remote_commit(&s->remote, text, cancel, err) == 0)
                return 0;
            (void)session_blame_peer(s);
        }
        if (!again || !s->link || (err->code != ERR_CORRUPT && err->code != ERR_NOT_FOUND))
            return -1;
        struct err own = ERR_EMPTY;
        if (check_own_segments(s, manifest, &own) < 0)
            return err_set(err, own.code, own.sys, "%s", own.text);
        sent = false;
    }
}

int send_mark_durable(struct session *s, const struct manifest *manifest, struct err *err)
{
    const struct checkpoint before = s->ck; /* its disks do not change in here */
    uint64_t bytes = 0;

    VEC_FOREACH(disk, &manifest->disks)
        VEC_FOREACH(segment, &disk->segments)
            bytes += segment->bytes;
    s->ck.durable_point = manifest->point;
    s->ck.durable_cut_ms = manifest->cut_wall_ms;
    s->durable_cut_now =
        s->cut_ms ? s->cut_ms - s->cut_age_ms : session_since(s, manifest->cut_wall_ms);
    manifest_hash(manifest, &s->ck.durable_hash);
    s->ck.tip_point = 0;
    application_durable(s, manifest);
    s->info.durable_point = manifest->point;
    s->info.durable_hash = s->ck.durable_hash;
    session_show_points(s);
    (void)pthread_mutex_lock(&s->lock);
    s->status.last_bytes = bytes;
    s->status.last_stall_us = manifest->stall_us;
    if (s->cut_ms)
        s->status.last_cycle_ms = session_now(s) - s->cut_ms;
    (void)pthread_mutex_unlock(&s->lock);
    CRASH_POINT("sync.commit");

    bool was_resync = s->ck.phase == PHASE_RESYNC;
    s->ck.phase = PHASE_DELTA;
    s->ck.base = s->ck.cut;
    s->ck.cut = 0;
    s->ck.note[0] = '\0';
    grow_durable(s, manifest);
    if (was_resync)
        required_clear(s);
    if (session_save(s, err) < 0) {
        s->ck = before; /* the outbox holds the point, and must until this is noted */
        return -1;
    }
    CRASH_POINT("sync.durable");
    if (was_resync)
        log_info("session", "resynchronized group=%s point=%" PRIu64, s->config.group,
                 manifest->point);
    if (was_resync || s->rescan) {
        resync_drop(s);
        if (rescan_remove(s->config.dir, err) < 0)
            return -1;
    }
    session_set_note(s, "");
    log_debug("session", "durable group=%s point=%" PRIu64 " bytes=%" PRIu64, s->config.group,
              manifest->point, bytes);
    return 0;
}

/* Our copy of the digests moves on with the acknowledgement, if it was at the point before. */
static int take_digests(struct session *s, const struct digests_tip *from,
                        const struct remote_applied *applied, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    struct digests_tip to = {applied->point, s->ck.durable_hash};
    struct err why = ERR_EMPTY;

    turn_store_disks(s, &disks);
    if (!applied->complete || applied->point != s->ck.durable_point
        || applied->disks.len != disks.len)
        return 0;
    CLEANUP(mem_freep) struct store_digests *ours = mem_new_array(struct store_digests, disks.len);
    for (size_t i = 0; i < disks.len; i++)
        for (size_t k = 0; k < disks.len; k++)
            if (strcmp(disks.at[i].name, applied->disks.at[k].name) == 0)
                ours[i] = applied->digests[k]; /* borrowed */
    if (digests_append(s->config.dir, from, &to, &disks, ours, &s->digests_end, &why) < 0
        && why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, why.sys, "%s", why.text);
    return 0;
}

static int outbox_is_whole(const struct session *s, const struct manifest *manifest,
                           struct err *err)
{
    VEC_FOREACH(disk, &manifest->disks)
        VEC_FOREACH(segment, &disk->segments) {
            CLEANUP(mem_freep)
            char *path = outbox_segment_path(s->config.dir, disk->name, &segment->uuid);
            struct segment_head head;
            struct segment_info info;
            if (segment_check(path, &head, &info, err) < 0)
                return -1;
        }
    return 0;
}

static int send_again(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(mem_freep) char *text = NULL;
    struct sha256 hash;

    manifest_init(&manifest);
    if (outbox_load(s->config.dir, &manifest, &text, err) < 0)
        return -1;
    manifest_hash(&manifest, &hash);
    if (manifest.point != s->info.durable_point
        || memcmp(&hash, &s->info.durable_hash, sizeof(hash)) != 0)
        return err_set(err, ERR_NOT_FOUND, 0, "what was sealed last is point %" PRIu64,
                       manifest.point);
    if (outbox_is_whole(s, &manifest, err) < 0 || send_segments(s, &manifest, cancel, err) < 0)
        return -1;
    return remote_drain(&s->remote, cancel, err);
}

/* A segment that rotted at the replica between its commit and its apply: the outbox has it until it is
 * applied. */
static int mend_apply(struct session *s, struct cancel *cancel, struct err *err)
{
    const struct err rot = *err;
    struct err why = ERR_EMPTY;

    if (rot.code != ERR_CORRUPT && rot.code != ERR_NOT_FOUND)
        return -1;
    if (send_again(s, cancel, &why) == 0) {
        log_warn("session", "segments sent again group=%s point=%" PRIu64 " text=\"%s\"",
                 s->config.group, s->info.durable_point, rot.text);
        err_clear(err);
        return 0;
    }
    if (err_is_retryable(why.code)) /* the link broke meanwhile */
        return err_set(err, why.code, why.sys, "%s", why.text);
    return err_set(err, rot.code, rot.sys,
                   "%.400s; %s cannot send it once more: %.200s; hint: the points before it are"
                   " whole; mend that disk, then unprotect the machine and protect it again",
                   rot.text, s->config.site, why.text);
}

int send_apply(struct session *s, struct cancel *cancel, struct err *err)
{
    bool mended = false;

    while (s->info.applied_point != s->info.durable_point) {
        CLEANUP(remote_applied_done) struct remote_applied applied = {0};
        struct digests_tip from = {s->info.applied_point, s->info.applied_hash};

        if (remote_apply(&s->remote, &applied, cancel, err) < 0) {
            (void)session_blame_peer(s);
            if (mended || !s->link || mend_apply(s, cancel, err) < 0)
                return -1;
            mended = true;
            continue;
        }
        CRASH_POINT("sync.apply");
        if (applied.point == 0) /* rolled forward by itself meanwhile */
            break;
        if (take_digests(s, &from, &applied, err) < 0)
            return -1;
        s->info.applied_point = applied.point;
        memset(&s->info.applied_hash, 0xff, sizeof(s->info.applied_hash)); /* not known */
        if (applied.point == s->ck.durable_point)
            s->info.applied_hash = s->ck.durable_hash;
    }
    s->info.applied_point = s->info.durable_point;
    s->info.applied_hash = s->info.durable_hash;
    s->ck.applied_point = s->ck.durable_point;
    s->ck.applied_cut_ms = s->ck.durable_cut_ms;
    s->applied_cut_now = s->durable_cut_now;
    session_show_points(s);
    return 0;
}

static int send_prune(struct session *s, struct cancel *cancel, struct err *err)
{
    struct policy policy;

    session_policy(s, &policy);
    return remote_prune(&s->remote, &policy.retention, cancel, err);
}

/* The peer's disk is full. What the policy does not keep any more goes before anything is refused: it
 * may have changed since the last point came through. */
static bool made_room(struct session *s, struct cancel *cancel, struct err *err)
{
    struct err ignored = ERR_EMPTY;

    if (!err || err->code != ERR_SPACE || !s->link || send_prune(s, cancel, &ignored) < 0)
        return false;
    err_clear(err);
    return true;
}

int send_outbox(struct session *s, const struct manifest *manifest, const char *text, bool sent,
                struct cancel *cancel, struct err *err)
{
    struct sha256 hash;

    manifest_hash(manifest, &hash);
    bool there = s->info.durable_point == manifest->point
                 && memcmp(&s->info.durable_hash, &hash, sizeof(hash)) == 0;
    session_set_state(s, SESSION_SENDING);
    int64_t before = session_now(s);
    int rc = there ? 0 : deliver(s, manifest, text, sent, cancel, err);
    if (rc < 0 && made_room(s, cancel, err))
        rc = deliver(s, manifest, text, false, cancel, err);
    lag_sent(s, session_now(s) - before);
    if (rc < 0)
        return err_wrap(err, "point %" PRIu64, manifest->point);
    if (send_mark_durable(s, manifest, err) < 0)
        return -1;
    if (s->source && s->state.open == s->ck.base) {
        if (s->source->ops->end(s->source, true, cancel, err) < 0)
            return session_blame_source(s);
        s->state.frozen = 0;
    }
    CRASH_POINT("sync.end");
    before = session_now(s);
    rc = send_apply(s, cancel, err);
    if (rc < 0 && made_room(s, cancel, err))
        rc = send_apply(s, cancel, err);
    lag_applied(s, session_now(s) - before);
    if (rc < 0)
        return err_wrap(err, "apply point %" PRIu64, manifest->point);
    lag_end(s);

    if (send_prune(s, cancel, err) < 0)
        return session_blame_peer(s);
    CRASH_POINT("sync.prune");
    return outbox_clear(s->config.dir, err);
}
