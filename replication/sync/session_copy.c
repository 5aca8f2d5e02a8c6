// SPDX-License-Identifier: Apache-2.0
/* The initial copy, a slice per turn, of several disks side by side if the policy says so. Every byte
 * of a disk is either sent or said to be zero, holes included: the replica may hold what an earlier,
 * broken copy left there.
 *
 *   scan of a disk -> places of data -> a crew reads, looks for zeros, packs and seals -> sent in order
 *
 * A slice ends with the replica's word that all of it is durable; only then the checkpoint moves on.
 * After any error everything that was not acknowledged so is read and sent again.
 *
 * Frames are sealed under a uuid made for this object and numbered from 0 on; a restart, which does
 * not know how far the numbers went, takes another uuid. So no nonce repeats.
 *
 * A request that was on the way when its link broke may be heard late. A frame of the same copy does no
 * harm: what was written since it was read is in the map that was opened before the scan, and comes with
 * the first point. Under another map it would be lost; so a copy is known by its map's serial number, and
 * the replica takes nothing of one with a lower number. */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/scan.h"
#include "sync/session_copy.h"

#include <inttypes.h>
#include <string.h>

#define SLICE_COPY_BYTES (UINT64_C(256) << 20)
#define SLICE_MS         1000   /* so that other groups get their turn on a slow link, too */
#define GAP_LIMIT        65536u /* pieces without data looked at in one turn */
#define CLONES_NOTE      "reading a clone (reflink) of the disks"

static void disk_free(struct session *s, struct copy_disk *disk)
{
    scan_close(disk->scan);
    if (!disk->scan && s->scanning && s->source) {
        s->source->ops->scan_end(s->source);
        s->scanning = false;
    }
    free(disk->seen);
    free(disk);
}

void copy_drop(struct session *s)
{
    if (!s->copy) /* a scan that is open is a comparison's, which goes on without a link */
        return;
    for (size_t i = 0; i < s->copy->count; i++)
        disk_free(s, s->copy->disks[i]);
    free(s->copy);
    s->copy = NULL;
}

/* --- Clones ---------------------------------------------------------------------------------- */

/* Said while any disk is read so, unless there is something else to say. */
static void show_clones(struct session *s)
{
    bool any = s->state.cloned;

    if (s->ck.note[0])
        return;
    for (size_t i = 0; i < s->copy->count; i++)
        any = any || scan_is_clone(s->copy->disks[i]->scan);
    (void)pthread_mutex_lock(&s->lock);
    bool shown = str_eq(s->status.note, CLONES_NOTE);
    (void)pthread_mutex_unlock(&s->lock);
    if (any != shown)
        session_set_note(s, any ? CLONES_NOTE : "");
}

static void told_given_up(struct session *s, const struct copy_disk *disk, const char *reason)
{
    if (scan_is_clone(disk->scan))
        return;
    log_info("session", "clone given up group=%s disk=%s at=%" PRIu64 " reason=\"%s\"",
             s->config.group, disk->name, disk->next, reason);
    show_clones(s);
}

void copy_rest(struct session *s)
{
    for (size_t i = 0; s->copy && i < s->copy->count; i++) {
        const struct copy_disk *disk = s->copy->disks[i];
        if (!scan_is_clone(disk->scan))
            continue;
        scan_give_up_clone(disk->scan);
        told_given_up(s, disk, "the group is paused");
    }
}

/* A guest that writes goes before a copy of it. */
static void mind_room(struct session *s)
{
    for (size_t i = 0; i < s->copy->count; i++) {
        const struct copy_disk *disk = s->copy->disks[i];
        if (!scan_is_clone(disk->scan))
            continue;
        scan_mind_room(disk->scan);
        told_given_up(s, disk, "its file system is getting full");
    }
}

/* --- Frames ---------------------------------------------------------------------------------- */

/* The zeros that wait, as a frame of their own or before data. */
static int flush_zeros(struct copy_slice *slice, struct copy_disk *d)
{
    return d->zero_count ? copy_frame(slice, d, NULL) : 0;
}

static int add_zero(struct copy_slice *slice, struct copy_disk *d, uint64_t off, uint64_t len)
{
    struct extent *last = d->zero_count ? &d->zeros[d->zero_count - 1] : NULL;

    if (last && last->off + last->len == off) {
        last->len += len;
        return 0;
    }
    /* A frame's extents ascend; and it holds only so many. */
    if (((last && off < last->off) || d->zero_count == COPY_ZEROS_MAX) && flush_zeros(slice, d) < 0)
        return -1;
    d->zeros[d->zero_count++] = (struct extent){.off = off, .len = len, .zero = true};
    return 0;
}

static int add_data(struct copy_slice *slice, struct copy_disk *d, const struct source_piece *piece)
{
    const struct extent *last = d->zero_count ? &d->zeros[d->zero_count - 1] : NULL;

    if (last && piece->off < last->off + last->len && flush_zeros(slice, d) < 0)
        return -1;
    return copy_frame(slice, d, piece);
}

/* --- A disk ---------------------------------------------------------------------------------- */

static void show_done(struct session *s, size_t disk, uint64_t bytes)
{
    (void)pthread_mutex_lock(&s->lock);
    s->status.disks[disk].done_bytes = bytes;
    (void)pthread_mutex_unlock(&s->lock);
}

int copy_prepare(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    CLEANUP(source_disks_free) struct source_disks sizes = VEC_EMPTY;
    uint64_t need = 0;

    if (s->source->ops->disks(s->source, &sizes, cancel, err) < 0)
        return session_blame_source(s);
    VEC_FOREACH(disk, &sizes)
        need += disk->allocated_bytes;
    turn_store_disks(s, &disks);
    if (remote_base_begin(&s->remote, &disks, need, s->config.generation, s->ck.base, cancel, err)
        < 0)
        return session_blame_peer(s);
    if (s->info.state == STORE_EMPTY)
        s->info.state = STORE_COPYING;
    return 0;
}

/* A scan of its own, or the source's one: then `ret_begun` is false while another disk has that. */
static int begin_scan(struct session *s, struct copy_disk *c, bool *ret_begun,
                      struct cancel *cancel, struct err *err)
{
    struct checkpoint_disk *d = &s->ck.disks.at[c->disk];
    const struct source_ops *ops = s->source->ops;

    *ret_begun = true;
    if (ops->scan_open && ops->scan_open(s->source, d->name, d->scanned, &c->scan, cancel, err) < 0)
        return session_blame_source(s);
    c->ordered = true;
    if (!c->scan) {
        *ret_begun = !s->scanning;
        if (s->scanning)
            return 0;
        if (ops->scan_begin(s->source, d->name, d->scanned, &c->ordered, cancel, err) < 0)
            return session_blame_source(s);
        s->scanning = true;
    }
    if (!c->ordered) {
        d->scanned = 0;
        c->seen = mem_alloc(chunk_count(d->size) / 8 + 1, 1);
    }
    c->next = d->scanned;
    return 0;
}

static int begin_disk(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
{
    const struct checkpoint_disk *d = &s->ck.disks.at[disk];
    struct copy_disk *c = mem_new(struct copy_disk);
    bool begun;

    c->disk = disk;
    c->size = d->size;
    c->name = d->name;
    if (begin_scan(s, c, &begun, cancel, err) < 0 || !begun) {
        free(c);
        return begun ? -1 : 0;
    }
    s->copy->disks[s->copy->count++] = c;
    log_info("session", "copying group=%s disk=%s size=%" PRIu64 " from=%" PRIu64 " of=%s",
             s->config.group, d->name, d->size, d->scanned,
             scan_is_clone(c->scan) || s->state.cloned ? "clone" : "disk");
    show_clones(s);
    return 0;
}

static bool is_begun(const struct copy *copy, size_t disk)
{
    for (size_t i = 0; i < copy->count; i++)
        if (copy->disks[i]->disk == disk)
            return true;
    return false;
}

/* As many as are to be copied at a time. */
static int begin_disks(struct session *s, const struct policy *policy, struct cancel *cancel,
                       struct err *err)
{
    if (!s->copy) {
        if (copy_prepare(s, cancel, err) < 0)
            return -1;
        s->copy = mem_new(struct copy);
        uuid_new(&s->copy->uuid);
    }
    for (size_t i = 0; i < s->ck.disks.len && s->copy->count < policy->copy_disks; i++)
        if (!s->ck.disks.at[i].done && !is_begun(s->copy, i) && begin_disk(s, i, cancel, err) < 0)
            return -1;
    return 0;
}

static void note_seen(struct copy_disk *c, uint64_t off, uint64_t len)
{
    for (uint64_t chunk = off / CHUNK_BYTES; chunk * CHUNK_BYTES < off + len; chunk++) {
        uint8_t bit = (uint8_t)(1u << (chunk % 8));
        c->count += (c->seen[chunk / 8] & bit) == 0;
        c->seen[chunk / 8] |= bit;
    }
}

static int check_piece(const struct copy_disk *c, const struct source_piece *piece, struct err *err)
{
    bool inside = piece->off <= c->size && piece->len <= c->size - piece->off;
    bool aligned = piece->off % CHUNK_BYTES == 0
                   && (piece->len % CHUNK_BYTES == 0 || piece->off + piece->len == c->size);
    bool fits = piece->zero || piece->len <= FRAME_PAYLOAD_MAX;

    if (!inside || !aligned || !fits || (c->ordered && piece->off < c->next))
        return err_set(err, ERR_IO, 0,
                       "disk %s: the source gave a piece of %" PRIu64 " bytes at %" PRIu64
                       " that does not fit a disk of %" PRIu64,
                       c->name, piece->len, piece->off, c->size);
    return 0;
}

static int take_piece(struct copy_slice *slice, struct copy_disk *c,
                      const struct source_piece *piece)
{
    if (check_piece(c, piece, slice->err) < 0)
        return copy_slice_blame(slice, BLAME_SOURCE);
    if (c->ordered && piece->off > c->next && add_zero(slice, c, c->next, piece->off - c->next) < 0)
        return -1;
    if ((piece->zero ? add_zero(slice, c, piece->off, piece->len) : add_data(slice, c, piece)) < 0)
        return -1;
    if (c->ordered)
        c->next = piece->off + piece->len;
    else
        note_seen(c, piece->off, piece->len);
    return 0;
}

/* What the scan did not mention is a hole. */
static int add_holes(struct copy_slice *slice, struct copy_disk *c)
{
    uint64_t chunks = chunk_count(c->size);

    if (c->ordered)
        return c->next < c->size ? add_zero(slice, c, c->next, c->size - c->next) : 0;
    for (uint64_t i = 0; i < chunks; i++)
        if (!(c->seen[i / 8] >> (i % 8) & 1)
            && add_zero(slice, c, i * CHUNK_BYTES, chunk_len(c->size, i)) < 0)
            return -1;
    return 0;
}

/* The next piece of one disk. */
static int scan_piece(struct copy_slice *slice, struct copy_disk *c)
{
    struct session *s = slice->s;
    struct source_piece piece = {0};
    int rc = c->scan ? scan_next_place(c->scan, &piece, slice->cancel, slice->err)
                     : s->source->ops->scan_next(s->source, &piece, slice->cancel, slice->err);

    if (rc < 0)
        return copy_slice_blame(slice, BLAME_SOURCE);
    c->touched = true;
    if (piece.len == 0) {
        c->complete = true;
        return add_holes(slice, c);
    }
    if (!piece.zero)
        slice->bytes += piece.len;
    return take_piece(slice, c, &piece);
}

/* --- The slice ------------------------------------------------------------------------------- */

/* Pieces, of one disk after the other, until the slice is full or all scans are complete. */
static int scan_some(struct copy_slice *slice)
{
    struct copy *copy = slice->s->copy;
    int64_t until = session_now(slice->s) + SLICE_MS;
    size_t complete = 0;

    for (size_t i = 0; complete < copy->count; i++) {
        struct copy_disk *c = copy->disks[i % copy->count];
        if (slice->bytes >= SLICE_COPY_BYTES || i >= GAP_LIMIT || session_now(slice->s) >= until)
            break;
        if (c->complete)
            continue;
        if (scan_piece(slice, c) < 0)
            return -1;
        complete += c->complete;
    }
    for (size_t i = 0; i < copy->count; i++)
        if (flush_zeros(slice, copy->disks[i]) < 0)
            return -1;
    return copy_slice_drain(slice);
}

/* The replica has a disk's slice for good. */
static int sync_disk(struct session *s, struct copy_disk *c, struct cancel *cancel, struct err *err)
{
    struct checkpoint_disk *d = &s->ck.disks.at[c->disk];

    if (remote_base_sync(&s->remote, c->name, cancel, err) < 0)
        return session_blame_peer(s);
    CRASH_POINT("sync.base-sync");
    c->touched = false;
    if (c->ordered)
        d->scanned = c->next;
    d->done = c->complete;
    show_done(s, c->disk, c->complete ? d->size : (c->ordered ? c->next : c->count * CHUNK_BYTES));
    return 0;
}

static void drop_complete(struct session *s)
{
    struct copy *copy = s->copy;
    size_t kept = 0;

    for (size_t i = 0; i < copy->count; i++)
        if (copy->disks[i]->complete)
            disk_free(s, copy->disks[i]);
        else
            copy->disks[kept++] = copy->disks[i];
    copy->count = kept;
}

static int copy_some(struct session *s, struct cancel *cancel, struct err *err)
{
    struct policy policy;
    struct copy_slice slice = {.s = s, .cancel = cancel, .err = err};

    session_policy(s, &policy);
    if (begin_disks(s, &policy, cancel, err) < 0)
        return -1;
    mind_room(s);
    copy_slice_init(&slice, &policy);
    int rc = scan_some(&slice);
    copy_slice_done(&slice);
    /* Now that no thread reads from them, scans may be given up. */
    if (rc < 0)
        return slice.blame == BLAME_SOURCE ? session_blame_source(s) : session_blame_peer(s);
    for (size_t i = 0; i < s->copy->count; i++)
        if (s->copy->disks[i]->touched && sync_disk(s, s->copy->disks[i], cancel, err) < 0)
            return -1;
    drop_complete(s);
    return session_save(s, err);
}

static int finish(struct session *s, struct cancel *cancel, struct err *err)
{
    const struct digests_tip base = {0};

    copy_drop(s);
    if (s->info.state != STORE_COPIED) {
        if (remote_base_end(&s->remote, s->ck.base, cancel, err) < 0) {
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
    if (seed_is_used(s))
        return seed_compare(s, cancel, err);
    if (resync_fetch_digests(s, &base, cancel, err) < 0)
        return -1;
    s->ck.phase = PHASE_DELTA;
    s->ck.cut = 0;
    log_info("session", "copied group=%s", s->config.group);
    return session_save(s, err);
}

/* The replica is new, or was made anew since we were here: that is noted before there is another one
 * that could be taken for the one we knew. */
static int begin_again(struct session *s, struct err *err)
{
    bool any = false;

    copy_drop(s);
    VEC_FOREACH(d, &s->ck.disks) {
        any = any || d->scanned > 0 || d->done;
        d->scanned = 0;
        d->done = false;
        d->seed[0] = '\0';
    }
    return any ? session_save(s, err) : 0;
}

int copy_slice(struct session *s, struct cancel *cancel, struct err *err)
{
    bool done = true;
    bool worked;

    if (s->info.state == STORE_EMPTY && begin_again(s, err) < 0)
        return -1;
    if (seed_slice(s, &worked, cancel, err) < 0)
        return -1;
    if (worked)
        return 0;
    VEC_FOREACH(d, &s->ck.disks)
        done = done && d->done;
    if (done)
        return finish(s, cancel, err);
    if (copy_some(s, cancel, err) == 0)
        return 0;
    copy_drop(s); /* what was on its way is not known to be there */
    return -1;
}
