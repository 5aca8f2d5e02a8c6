// SPDX-License-Identifier: Apache-2.0
/* The initial copy, disk by disk, a slice per turn. Every byte of a disk is either sent or said to
 * be zero, holes included: the replica may hold what an earlier, broken copy left there.
 *
 * Frames are sealed under a uuid made for this object and disk and numbered from 0 on; a restart,
 * which does not know how far the numbers went, takes another uuid. So no nonce repeats. */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "replica/frame.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define GAP_LIMIT 65536u /* pieces without data looked at in one turn */

struct copy {
    size_t disk;
    uint64_t size;
    struct uuid uuid;
    struct frame_coder *coder;
    uint64_t number;
    bool ordered;
    uint64_t next;  /* ordered: up to here all is sent */
    uint8_t *seen;  /* else: a bit per chunk */
    uint64_t count; /* of bits set */
    struct extent extents[FRAME_EXTENTS_MAX];
    size_t extent_count;
    uint8_t *payload;
    size_t payload_len;
    uint8_t *frame;
};

void copy_drop(struct session *s)
{
    if (!s->copy) /* a scan that is open is a comparison's, which goes on without a link */
        return;
    frame_coder_free(s->copy->coder);
    free(s->copy->seen);
    free(s->copy->payload);
    free(s->copy->frame);
    free(s->copy);
    s->copy = NULL;
    if (s->scanning && s->source)
        s->source->ops->scan_end(s->source);
    s->scanning = false;
}

/* --- Frames ---------------------------------------------------------------------------------- */

static int flush(struct session *s, struct cancel *cancel, struct err *err)
{
    struct copy *c = s->copy;
    size_t len = 0;

    if (c->extent_count == 0)
        return 0;
    const struct remote_frame frame = {
        .disk = s->ck.disks.at[c->disk].name,
        .uuid = &c->uuid,
        .compression = s->config.policy.compression,
        .number = c->number++,
    };
    frame_seal(c->coder, frame.number, c->extents, c->extent_count, c->payload, c->payload_len,
               c->frame, &len);
    c->extent_count = 0;
    c->payload_len = 0;
    if (remote_base_frame(&s->remote, &frame, c->frame, len, cancel, err) < 0)
        return session_blame_peer(s);
    return 0;
}

static int add_extent(struct session *s, uint64_t off, const uint8_t *bytes, uint64_t len,
                      struct cancel *cancel, struct err *err)
{
    struct copy *c = s->copy;
    struct extent *last = c->extent_count ? &c->extents[c->extent_count - 1] : NULL;

    /* A frame's extents ascend; and it holds only so much. */
    if ((last && off < last->off + last->len) || c->extent_count == FRAME_EXTENTS_MAX
        || (bytes && c->payload_len + len > FRAME_PAYLOAD_MAX)) {
        if (flush(s, cancel, err) < 0)
            return -1;
        last = NULL;
    }
    if (last && last->off + last->len == off && last->zero == !bytes)
        last->len += len;
    else
        c->extents[c->extent_count++] = (struct extent){.off = off, .len = len, .zero = !bytes};
    if (bytes) {
        memcpy(c->payload + c->payload_len, bytes, len);
        c->payload_len += len;
    }
    return 0;
}

static int add_data(struct session *s, uint64_t off, const uint8_t *bytes, uint64_t len,
                    struct cancel *cancel, struct err *err)
{
    while (len > 0) {
        uint64_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;
        bool zero = bytes_are_zero(bytes, n);
        if (add_extent(s, off, zero ? NULL : bytes, n, cancel, err) < 0)
            return -1;
        off += n;
        bytes += n;
        len -= n;
    }
    return 0;
}

/* --- A disk ---------------------------------------------------------------------------------- */

static void show_done(struct session *s, size_t disk, uint64_t bytes)
{
    (void)pthread_mutex_lock(&s->lock);
    s->status.disks[disk].done_bytes = bytes;
    (void)pthread_mutex_unlock(&s->lock);
}

static int prepare_replica(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    CLEANUP(source_disks_free) struct source_disks sizes = VEC_EMPTY;
    uint64_t need = 0;

    if (s->source->ops->disks(s->source, &sizes, cancel, err) < 0)
        return session_blame_source(s);
    VEC_FOREACH(disk, &sizes)
        need += disk->allocated_bytes;
    turn_store_disks(s, &disks);
    if (remote_base_begin(&s->remote, &disks, need, s->config.generation, cancel, err) < 0)
        return session_blame_peer(s);
    if (s->info.state == STORE_EMPTY)
        s->info.state = STORE_COPYING;
    return 0;
}

static int begin_disk(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
{
    struct checkpoint_disk *d = &s->ck.disks.at[disk];

    copy_drop(s);
    if (prepare_replica(s, cancel, err) < 0)
        return -1;
    struct copy *c = mem_new(struct copy);
    s->copy = c;
    c->disk = disk;
    c->size = d->size;
    uuid_new(&c->uuid);
    c->coder = frame_coder_new(&s->config.group_key, &c->uuid, s->config.policy.compression);
    c->payload = mem_alloc(FRAME_PAYLOAD_MAX, 1);
    c->frame = mem_alloc(FRAME_SEALED_MAX, 1);
    if (s->source->ops->scan_begin(s->source, d->name, d->scanned, &c->ordered, cancel, err) < 0)
        return session_blame_source(s);
    s->scanning = true;
    if (c->ordered) {
        c->next = d->scanned;
    } else {
        d->scanned = 0;
        c->seen = mem_alloc(chunk_count(d->size) / 8 + 1, 1);
    }
    log_info("session", "copying group=%s disk=%s size=%" PRIu64 " from=%" PRIu64, s->config.group,
             d->name, d->size, d->scanned);
    return 0;
}

static void note_seen(struct copy *c, uint64_t off, uint64_t len)
{
    for (uint64_t chunk = off / CHUNK_BYTES; chunk * CHUNK_BYTES < off + len; chunk++) {
        uint8_t bit = (uint8_t)(1u << (chunk % 8));
        c->count += (c->seen[chunk / 8] & bit) == 0;
        c->seen[chunk / 8] |= bit;
    }
}

static int check_piece(const struct copy *c, const struct source_piece *piece, const char *disk,
                       struct err *err)
{
    bool inside = piece->off <= c->size && piece->len <= c->size - piece->off;
    bool aligned = piece->off % CHUNK_BYTES == 0
                   && (piece->len % CHUNK_BYTES == 0 || piece->off + piece->len == c->size);

    if (!inside || !aligned || (c->ordered && piece->off < c->next))
        return err_set(err, ERR_IO, 0,
                       "disk %s: the source gave a piece of %" PRIu64 " bytes at %" PRIu64
                       " that does not fit a disk of %" PRIu64,
                       disk, piece->len, piece->off, c->size);
    return 0;
}

static int take_piece(struct session *s, const struct source_piece *piece, struct cancel *cancel,
                      struct err *err)
{
    struct copy *c = s->copy;

    if (check_piece(c, piece, s->ck.disks.at[c->disk].name, err) < 0)
        return session_blame_source(s);
    if (c->ordered && piece->off > c->next
        && add_extent(s, c->next, NULL, piece->off - c->next, cancel, err) < 0)
        return -1;
    if (piece->zero ? add_extent(s, piece->off, NULL, piece->len, cancel, err) < 0
                    : add_data(s, piece->off, piece->data, piece->len, cancel, err) < 0)
        return -1;
    if (c->ordered)
        c->next = piece->off + piece->len;
    else
        note_seen(c, piece->off, piece->len);
    return 0;
}

/* What the scan did not mention is a hole. */
static int add_holes(struct session *s, struct cancel *cancel, struct err *err)
{
    struct copy *c = s->copy;
    uint64_t chunks = chunk_count(c->size);

    if (c->ordered)
        return c->next < c->size ? add_extent(s, c->next, NULL, c->size - c->next, cancel, err) : 0;
    for (uint64_t i = 0; i < chunks; i++)
        if (!(c->seen[i / 8] >> (i % 8) & 1)
            && add_extent(s, i * CHUNK_BYTES, NULL, chunk_len(c->size, i), cancel, err) < 0)
            return -1;
    return 0;
}

/* Pieces until the slice is full or the scan is complete. */
static int scan_some(struct session *s, bool *ret_complete, struct cancel *cancel, struct err *err)
{
    uint64_t bytes = 0;
    uint32_t pieces = 0;

    *ret_complete = false;
    while (bytes < SLICE_BYTES && pieces++ < GAP_LIMIT) {
        struct source_piece piece = {0};
        if (s->source->ops->scan_next(s->source, &piece, cancel, err) < 0)
            return session_blame_source(s);
        if (piece.len == 0) {
            *ret_complete = true;
            return 0;
        }
        if (take_piece(s, &piece, cancel, err) < 0)
            return -1;
        if (!piece.zero)
            bytes += piece.len;
    }
    return 0;
}

/* --- The slice ------------------------------------------------------------------------------- */

static int finish(struct session *s, struct cancel *cancel, struct err *err)
{
    const struct digests_tip base = {0};

    copy_drop(s);
    if (s->info.state != STORE_COPIED) {
        if (remote_base_end(&s->remote, cancel, err) < 0) {
            /* The replica has done a part of what is left to do there: the next turn asks again. */
            if (err->code != ERR_BUSY)
                return session_blame_peer(s);
            session_set_note(s, err->text);
            err_clear(err);
            return remote_info(&s->remote, &s->info, cancel, err) < 0 ? session_blame_peer(s) : 0;
        }
        s->info.state = STORE_COPIED;
        session_set_note(s, "");
    }
    CRASH_POINT("sync.base-end");
    if (resync_fetch_digests(s, &base, cancel, err) < 0)
        return -1;
    s->ck.phase = PHASE_DELTA;
    s->ck.cut = 0;
    log_info("session", "copied group=%s", s->config.group);
    return session_save(s, err);
}

/* The replica is new, or was made anew since we were here. */
static void begin_again(struct session *s)
{
    copy_drop(s);
    VEC_FOREACH(d, &s->ck.disks) {
        d->scanned = 0;
        d->done = false;
    }
}

int copy_slice(struct session *s, struct cancel *cancel, struct err *err)
{
    bool complete;
    size_t disk = 0;

    if (s->info.state == STORE_EMPTY)
        begin_again(s);
    while (disk < s->ck.disks.len && s->ck.disks.at[disk].done)
        disk++;
    if (disk == s->ck.disks.len)
        return finish(s, cancel, err);
    if ((!s->copy || s->copy->disk != disk) && begin_disk(s, disk, cancel, err) < 0)
        return -1;
    if (scan_some(s, &complete, cancel, err) < 0)
        return -1;
    struct checkpoint_disk *d = &s->ck.disks.at[disk];
    if ((complete && add_holes(s, cancel, err) < 0) || flush(s, cancel, err) < 0)
        return -1;
    if (remote_base_sync(&s->remote, d->name, cancel, err) < 0)
        return session_blame_peer(s);
    CRASH_POINT("sync.base-sync");
    if (s->copy->ordered)
        d->scanned = s->copy->next;
    show_done(s, disk, s->copy->ordered ? s->copy->next : s->copy->count * CHUNK_BYTES);
    if (complete) {
        d->done = true;
        show_done(s, disk, d->size);
        copy_drop(s);
    }
    return session_save(s, err);
}
