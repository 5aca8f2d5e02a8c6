// SPDX-License-Identifier: Apache-2.0
/* A rescan: tracking begins anew, then every chunk of every disk is hashed and compared with the
 * digest the replica has for its newest point (or for the base of a copy that has no point yet).
 * What differs is kept (rescan.c); what changes meanwhile is in the open map. The closing cut
 * makes one point of both: per disk first the segment of the rescan, then that of the delta. So
 * the replica never shows anything in between. A chunk that was not mentioned by the scan is
 * zero; a zero chunk that is zero there too is no difference.
 *
 * Where this site keeps what the disks held when the map was opened (session_base), nothing is
 * scanned: two lists of digests say what differed then, and the map has what changed since.
 *
 * A chunk that differs is narrowed to its blocks: the replica is asked for their digests, 256 bytes a
 * chunk, before what was found in a slice is noted. */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/scan.h"
#include "sync/session_scan.h"

#include <inttypes.h>
#include <string.h>

#define DIGEST_BATCH     4096u
#define SLICE_MS         1000 /* so that other groups get their turn on a slow disk, too */
#define SLICE_SCAN_BYTES (UINT64_C(1) << 30)
#define BASE_CHUNKS      (UINT64_C(1) << 20) /* 64 GiB of a disk whose digests are compared in a turn */

/* The scan of one disk that is under way; lives in the session as long as `scanning`. */
struct scan_state {
    size_t disk;
    struct scan *own; /* NULL: the source's */
    bool ordered;
    uint64_t next;
    uint8_t *seen;
    uint64_t count;
    uint64_t seed_data; /* of the slice, as in struct checkpoint_disk */
    uint64_t seed_same;
};

static void end_disk(struct session *s);

void resync_drop(struct session *s)
{
    rescan_close(s->rescan);
    s->rescan = NULL;
    digests_closep(&s->digests);
    end_disk(s);
}

void resync_rest(struct session *s)
{
    if (s->resync_scan)
        scan_give_up_clone(s->resync_scan->own);
}

bool resync_is_bound(const struct session *s)
{
    return s->resync_scan && !s->resync_scan->ordered;
}

/* --- The replica's digests ------------------------------------------------------------------- */

uint64_t resync_chunks_there(const struct checkpoint_disk *disk)
{
    return chunk_count(disk->grown_from ? disk->grown_from : disk->size);
}

int resync_fetch_digests(struct session *s, const struct digests_tip *tip, struct cancel *cancel,
                         struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    CLEANUP(digests_writer_freep) struct digests_writer *writer = NULL;
    CLEANUP(mem_freep) struct digest *batch = mem_new_array(struct digest, REMOTE_DIGESTS_MAX);

    s->digests_end.known = false;
    turn_store_disks(s, &disks);
    if (digests_writer_open(s->config.dir, &disks, &writer, err) < 0)
        return -1;
    VEC_FOREACH(disk, &disks) {
        uint64_t chunks = chunk_count(disk->size);
        uint64_t there = resync_chunks_there(&s->ck.disks.at[disk - disks.at]);
        for (uint64_t at = 0; at < chunks;) {
            uint64_t end = at < there ? there : chunks;
            uint64_t n = end - at < REMOTE_DIGESTS_MAX ? end - at : REMOTE_DIGESTS_MAX;
            memset(batch, 0, n * sizeof(*batch));
            if (at < there
                && remote_digests(&s->remote, disk->name, tip->point, at, n, batch, cancel, err)
                       < 0)
                return session_blame_peer(s);
            if (digests_writer_add(writer, batch, n, err) < 0)
                return -1;
            at += n;
        }
    }
    return digests_writer_commit(writer, tip, err);
}

static int need_digests(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    struct digests_tip tip = {s->ck.durable_point, s->ck.durable_hash};
    struct err why = ERR_EMPTY;

    s->digests_end.known = false;
    turn_store_disks(s, &disks);
    if (digests_open(s->config.dir, &disks, &tip, &s->digests, &why) == 0)
        return 0;
    if (why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, why.sys, "%s", why.text);
    if (resync_fetch_digests(s, &tip, cancel, err) < 0)
        return -1;
    return digests_open(s->config.dir, &disks, &tip, &s->digests, err);
}

/* --- Beginning ------------------------------------------------------------------------------- */

/* A replica that has what we want to compare with, of the same disks, though ours may have grown. */
static int check_disks(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks theirs = VEC_EMPTY;
    CLEANUP(store_disks_free) struct store_disks ours = VEC_EMPTY;

    turn_store_disks(s, &ours);
    if (remote_disks(&s->remote, &theirs, cancel, err) < 0)
        return session_blame_peer(s);
    VEC_FOREACH(disk, &ours) {
        const struct store_disk *there = NULL;
        VEC_FOREACH(candidate, &theirs)
            if (strcmp(candidate->name, disk->name) == 0)
                there = candidate;
        if (there && there->size < disk->size) {
            s->ck.disks.at[disk - ours.at].grown_from = there->size;
            continue;
        }
        if (!there || there->size != disk->size)
            return err_set(err, ERR_STATE, 0,
                           "disk %s has %" PRIu64 " bytes here and %" PRIu64 " at %s; hint: remove "
                           "the replica there and protect the machine again",
                           disk->name, disk->size, there ? there->size : 0, s->config.peer);
    }
    if (ours.len != theirs.len)
        return err_set(err, ERR_STATE, 0,
                       "%zu disks here, %zu at %s; hint: remove the replica there and protect the "
                       "machine again",
                       ours.len, theirs.len, s->config.peer);
    return 0;
}

/* The map was opened at the instant of an image that is kept here. */
static bool has_base(const struct session *s, uint64_t map)
{
    return s->config.base.digests && !s->base_lost && map != 0 && map == s->config.base.serial
           && s->state.frozen == 0;
}

/* For a person: why all of it is read, though what the disks held is kept; free with free(). */
static char *why_no_base(const struct session *s, const char *why)
{
    if (!s->config.base.digests || s->base_lost || has_base(s, s->state.open))
        return mem_strdup(why);
    return mem_printf("%s; what changed since map %" PRIu64 " is not known (open is %" PRIu64 ")",
                      why, s->config.base.serial, s->state.open);
}

int resync_begin(struct session *s, const char *why, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *note = NULL;
    char size[32];
    uint64_t total = 0;

    resync_drop(s);
    copy_drop(s);
    VEC_FOREACH(disk, &s->ck.disks)
        total += disk->size;
    bool base = has_base(s, s->state.open);
    CLEANUP(mem_freep) char *reason = why_no_base(s, why);
    (void)str_bytes(total, size, sizeof(size));
    note = base ? mem_printf("comparing the digests of %s with those of %s", size, s->config.peer)
                : mem_printf("comparing %s with %s: %s", size, s->config.peer, reason);
    required_note(s, RESYNC_LOST, false, reason);
    log_warn("session", "resynchronizing group=%s bytes=%" PRIu64 " read=%s reason=\"%s\"",
             s->config.group, total, base ? "digests" : "all", reason);
    if (check_disks(s, cancel, err) < 0
        || turn_begin_phase(s, PHASE_RESYNC, base, note, cancel, err) < 0)
        return -1;
    return 0;
}

/* --- Comparing ------------------------------------------------------------------------------- */

static const struct digest zero_digest;

/* Zeros have a digest of their own, which no other bytes have. */
static int compare_chunk(struct session *s, size_t disk, uint64_t chunk, const struct digest *there,
                         const struct digest *here, const uint8_t *bytes, struct err *err)
{
    bool same = memcmp(here, there, sizeof(*here)) == 0;
    bool zero = memcmp(here, &zero_digest, sizeof(*here)) == 0;

    if (!zero && s->resync_scan && seed_counts(s, disk)) {
        size_t len = chunk_len(s->ck.disks.at[disk].size, chunk);
        s->resync_scan->seed_data += len;
        s->resync_scan->seed_same += same ? len : 0;
    }
    /* Found before and found again: also when it is the same now. */
    if (same && !rescan_has(s->rescan, disk, chunk))
        return 0;
    return rescan_put(s->rescan, disk, chunk, zero ? NULL : bytes, err);
}

static int compare_range(struct session *s, size_t disk, const struct scan_piece *piece,
                         struct cancel *cancel, struct err *err)
{
    const uint8_t *bytes = piece->zero ? NULL : piece->data;
    uint64_t off = piece->off;
    uint64_t chunk = off / CHUNK_BYTES;
    uint64_t end = (off + piece->len + CHUNK_BYTES - 1) / CHUNK_BYTES;
    uint64_t room = end - chunk < DIGEST_BATCH ? end - chunk : DIGEST_BATCH;
    CLEANUP(mem_freep) struct digest *batch = mem_new_array(struct digest, room);

    while (chunk < end) {
        uint64_t n = end - chunk < DIGEST_BATCH ? end - chunk : DIGEST_BATCH;
        if (cancel_check(cancel, err) < 0
            || digests_read(s->digests, disk, chunk, n, batch, err) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++, chunk++) {
            uint64_t at = chunk * CHUNK_BYTES - off;
            const struct digest *here = bytes ? &piece->digests[at / CHUNK_BYTES] : &zero_digest;
            if (compare_chunk(s, disk, chunk, &batch[i], here, bytes ? bytes + at : NULL, err) < 0)
                return -1;
        }
    }
    return 0;
}

static int compare_zeros(struct session *s, size_t disk, uint64_t off, uint64_t len,
                         struct cancel *cancel, struct err *err)
{
    const struct scan_piece zeros = {.off = off, .len = len, .zero = true};

    return compare_range(s, disk, &zeros, cancel, err);
}

/* `ret_blame`: whose the error is. */
static int take_piece(struct session *s, const struct scan_piece *piece, enum blame *ret_blame,
                      struct cancel *cancel, struct err *err)
{
    struct scan_state *scan = s->resync_scan;
    const struct checkpoint_disk *d = &s->ck.disks.at[scan->disk];
    bool inside = piece->off <= d->size && piece->len <= d->size - piece->off;
    bool aligned = piece->off % CHUNK_BYTES == 0
                   && (piece->len % CHUNK_BYTES == 0 || piece->off + piece->len == d->size);

    *ret_blame = BLAME_NONE;
    if (!inside || !aligned || (scan->ordered && piece->off < scan->next)) {
        *ret_blame = BLAME_SOURCE;
        return err_set(err, ERR_IO, 0,
                       "disk %s: the source gave a piece of %" PRIu64 " bytes at %" PRIu64
                       " that does not fit a disk of %" PRIu64,
                       d->name, piece->len, piece->off, d->size);
    }
    if (scan->ordered && piece->off > scan->next
        && compare_zeros(s, scan->disk, scan->next, piece->off - scan->next, cancel, err) < 0)
        return -1;
    if (compare_range(s, scan->disk, piece, cancel, err) < 0)
        return -1;
    scan->next = piece->off + piece->len;
    for (uint64_t chunk = piece->off / CHUNK_BYTES;
         scan->seen && chunk * CHUNK_BYTES < piece->off + piece->len; chunk++) {
        uint8_t bit = (uint8_t)(1u << (chunk % 8));
        scan->count += (scan->seen[chunk / 8] & bit) == 0;
        scan->seen[chunk / 8] |= bit;
    }
    return 0;
}

/* What the scan did not mention is a hole. */
static int compare_holes(struct session *s, struct cancel *cancel, struct err *err)
{
    struct scan_state *scan = s->resync_scan;
    uint64_t size = s->ck.disks.at[scan->disk].size;
    uint64_t chunks = chunk_count(size);

    if (scan->ordered)
        return scan->next < size
                   ? compare_zeros(s, scan->disk, scan->next, size - scan->next, cancel, err)
                   : 0;
    for (uint64_t i = 0; i < chunks; i++)
        if (!(scan->seen[i / 8] >> (i % 8) & 1)
            && compare_zeros(s, scan->disk, i * CHUNK_BYTES, chunk_len(size, i), cancel, err) < 0)
            return -1;
    return 0;
}

/* --- By a base that is kept ------------------------------------------------------------------ */

/* It was kept, and is not any more, or is damaged: all of the disks is read instead. */
static bool is_lost(enum err_code code)
{
    return code == ERR_NOT_FOUND || code == ERR_STATE || code == ERR_CORRUPT
           || code == ERR_UNSUPPORTED;
}

static int take_from_base(struct session *s, size_t disk, uint64_t chunk, uint8_t *buf,
                          struct err *err)
{
    const struct checkpoint_disk *d = &s->ck.disks.at[disk];
    size_t len = chunk_len(d->size, chunk);

    if (s->config.base.read(s->config.ctx, d->name, chunk * CHUNK_BYTES, buf, len, err) < 0) {
        s->blame = BLAME_SOURCE;
        return -1;
    }
    return rescan_put(s->rescan, disk, chunk, bytes_are_zero(buf, len) ? NULL : buf, err);
}

/* The next batch of a disk's chunks; `ret_bytes`: what was read of it. */
static int compare_batch(struct session *s, size_t disk, uint64_t first, uint64_t count,
                         uint64_t *ret_bytes, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) struct digest *there = mem_new_array(struct digest, DIGEST_BATCH);
    CLEANUP(mem_freep) struct digest *here = mem_new_array(struct digest, DIGEST_BATCH);
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(CHUNK_BYTES, 1);
    const char *name = s->ck.disks.at[disk].name;

    *ret_bytes = 0;
    if (digests_read(s->digests, disk, first, count, there, err) < 0)
        return -1;
    if (s->config.base.digests(s->config.ctx, name, first, count, here, err) < 0) {
        s->blame = BLAME_SOURCE;
        return -1;
    }
    for (uint64_t i = 0; i < count; i++) {
        if (memcmp(&there[i], &here[i], sizeof(here[i])) == 0)
            continue;
        if (cancel_check(cancel, err) < 0 || take_from_base(s, disk, first + i, buf, err) < 0)
            return -1;
        *ret_bytes += CHUNK_BYTES;
    }
    return 0;
}

static int base_slice(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
{
    struct checkpoint_disk *d = &s->ck.disks.at[disk];
    uint64_t chunks = chunk_count(d->size);
    uint64_t chunk = d->scanned / CHUNK_BYTES;
    uint64_t end = chunks - chunk < BASE_CHUNKS ? chunks : chunk + BASE_CHUNKS;
    uint64_t read = 0;

    if (chunk == 0 && rescan_restart(s->rescan, disk, err) < 0)
        return -1;
    while (chunk < end && read < SLICE_BYTES) {
        uint64_t n = end - chunk < DIGEST_BATCH ? end - chunk : DIGEST_BATCH;
        uint64_t bytes;
        if (cancel_check(cancel, err) < 0
            || compare_batch(s, disk, chunk, n, &bytes, cancel, err) < 0)
            return -1;
        read += bytes;
        chunk += n;
    }
    if (resync_narrow(s, disk, cancel, err) < 0 || rescan_sync(s->rescan, disk, err) < 0)
        return -1;
    CRASH_POINT("sync.rescan");
    d->done = chunk == chunks;
    d->scanned = d->done ? d->size : chunk * CHUNK_BYTES;
    (void)pthread_mutex_lock(&s->lock);
    s->status.disks[disk].done_bytes = d->scanned;
    (void)pthread_mutex_unlock(&s->lock);
    return session_save(s, err);
}

static int base_or_all(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
{
    struct err why = ERR_EMPTY;

    if (base_slice(s, disk, cancel, &why) == 0)
        return 0;
    if (s->blame != BLAME_SOURCE || !is_lost(why.code))
        return err_set(err, why.code, why.sys, "%s", why.text);
    CLEANUP(mem_freep)
    char *note = mem_printf("what the disks held before cannot be read (%s)", why.text);
    s->blame = BLAME_NONE;
    s->base_lost = true;
    return resync_begin(s, note, cancel, err);
}

/* --- The slice ------------------------------------------------------------------------------- */

static int begin_disk(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
{
    struct checkpoint_disk *d = &s->ck.disks.at[disk];
    const struct source_ops *ops = s->source->ops;
    struct scan *own = NULL;
    bool ordered = true;

    if (ops->scan_open && ops->scan_open(s->source, d->name, d->scanned, &own, cancel, err) < 0)
        return session_blame_source(s);
    if (!own && ops->scan_begin(s->source, d->name, d->scanned, &ordered, cancel, err) < 0)
        return session_blame_source(s);
    s->scanning = !own;
    s->resync_scan = mem_new(struct scan_state);
    s->resync_scan->disk = disk;
    s->resync_scan->own = own;
    s->resync_scan->ordered = ordered;
    if (!ordered) {
        d->scanned = 0;
        s->resync_scan->seen = mem_alloc(chunk_count(d->size) / 8 + 1, 1);
    }
    s->resync_scan->next = d->scanned;
    if (d->scanned == 0 && seed_counts(s, disk))
        d->seed_data = d->seed_same = 0;
    return d->scanned == 0 ? rescan_restart(s->rescan, disk, err) : 0;
}

static void end_disk(struct session *s)
{
    if (!s->resync_scan)
        return;
    if (s->scanning && s->source)
        s->source->ops->scan_end(s->source);
    s->scanning = false;
    scan_close(s->resync_scan->own);
    free(s->resync_scan->seen);
    free(s->resync_scan);
    s->resync_scan = NULL;
}

/* Pieces until the slice is full or the scan is complete; those that were begun are taken. */
static int compare_pieces(struct session *s, struct session_scan *scan, enum blame *ret_blame,
                          struct cancel *cancel, struct err *err)
{
    int64_t until = session_now(s) + SLICE_MS;
    uint64_t bytes = 0;

    for (;;) {
        bool more = bytes < SLICE_SCAN_BYTES && session_now(s) < until;
        struct scan_piece piece;

        *ret_blame = BLAME_SOURCE;
        if (session_scan_next(scan, more, &piece, cancel, err) < 0)
            return -1;
        if (piece.len == 0)
            return 0;
        if (take_piece(s, &piece, ret_blame, cancel, err) < 0)
            return -1;
        bytes += piece.zero ? CHUNK_BYTES : piece.len;
    }
}

static int scan_some(struct session *s, bool *ret_complete, struct cancel *cancel, struct err *err)
{
    struct session_scan *scan = session_scan_new(s, s->resync_scan->own);
    enum blame blame;
    int rc = compare_pieces(s, scan, &blame, cancel, err);

    *ret_complete = session_scan_is_complete(scan);
    session_scan_free(scan);
    /* Now that no thread reads from it, the scan may be given up. */
    if (rc < 0)
        return blame == BLAME_SOURCE ? session_blame_source(s) : -1;
    return *ret_complete ? compare_holes(s, cancel, err) : 0;
}

static int scan_disk(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
{
    struct checkpoint_disk *d = &s->ck.disks.at[disk];
    bool complete;

    if (!s->resync_scan && begin_disk(s, disk, cancel, err) < 0)
        return -1;
    scan_mind_room(s->resync_scan->own);
    if (scan_some(s, &complete, cancel, err) < 0 || resync_narrow(s, disk, cancel, err) < 0
        || rescan_sync(s->rescan, disk, err) < 0)
        return -1;
    CRASH_POINT("sync.rescan");
    struct scan_state *scan = s->resync_scan;
    d->seed_data += scan->seed_data;
    d->seed_same += scan->seed_same;
    scan->seed_data = scan->seed_same = 0;
    seed_note(s);
    uint64_t done = scan->ordered ? scan->next : scan->count * CHUNK_BYTES;
    if (scan->ordered)
        d->scanned = scan->next;
    if (complete) {
        done = d->size;
        d->done = true;
        end_disk(s);
    }
    (void)pthread_mutex_lock(&s->lock);
    s->status.disks[disk].done_bytes = done;
    (void)pthread_mutex_unlock(&s->lock);
    return session_save(s, err);
}

/* Ended in the middle of a piece, which the scan would not give again: it begins anew, where all is
 * durable. After an error of this site's own disk nothing is known of what was kept of this disk. */
static void drop_disk(struct session *s, size_t disk, bool kept)
{
    struct checkpoint_disk *d = &s->ck.disks.at[disk];

    resync_drop(s);
    if (kept)
        return;
    d->scanned = 0;
    d->done = false;
    s->begins_anew = true;
}

/* Nothing of what was kept goes before the checkpoint says that it is not counted on. */
static int note_anew(struct session *s, struct err *err)
{
    if (!s->begins_anew)
        return 0;
    if (session_save(s, err) < 0)
        return -1;
    s->begins_anew = false;
    return 0;
}

int resync_slice(struct session *s, bool *ret_done, struct cancel *cancel, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    size_t disk = 0;

    *ret_done = false;
    if (note_anew(s, err) < 0)
        return -1;
    turn_store_disks(s, &disks);
    if (!s->rescan) {
        bool resume = false;
        VEC_FOREACH(d, &s->ck.disks)
            resume = resume || d->scanned > 0 || d->done;
        if (rescan_open(s->config.dir, &disks, resume, &s->rescan, err) < 0)
            return -1;
    }
    while (disk < s->ck.disks.len && s->ck.disks.at[disk].done)
        disk++;
    if (disk == s->ck.disks.len) {
        *ret_done = true;
        return 0;
    }
    if (!s->digests && need_digests(s, cancel, err) < 0)
        return -1;
    int rc = has_base(s, s->ck.base) ? base_or_all(s, disk, cancel, err)
                                     : scan_disk(s, disk, cancel, err);
    if (rc < 0 && s->blame == BLAME_NONE)
        drop_disk(s, disk, err->code == ERR_CANCELLED);
    return rc;
}
