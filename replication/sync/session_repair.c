// SPDX-License-Identifier: Apache-2.0
/* Repair: the replica names chunks of its heads that are damaged, and they are read here as they are
 * now. The map has been open since the replica's newest point, so what was read, and over it what the
 * next cut finds changed, is what the disk holds at that cut: two segments of one point, as after a
 * rescan. A chunk that nobody wrote to since is the one the replica lost, which makes its older points
 * whole, too (replica/store_dir_heal.c).
 *
 * A point takes so many chunks as a turn reads; the replica then names the rest. */
#include "sync/session_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define NEAR_BYTES (UINT64_C(16) * 1024 * 1024) /* read over rather than begin a new scan */

VEC_DEFINE(repair_chunks, uint64_t)

/* One disk's scan. */
struct repair {
    struct session *s;
    size_t disk;
    struct repair_chunks wanted; /* ascending */
    size_t at;                   /* of an ordered scan: the first that did not come yet */
};

static void repair_done(struct repair *r)
{
    repair_chunks_free(&r->wanted);
}

static uint64_t size_of(const struct repair *r)
{
    return r->s->ck.disks.at[r->disk].size;
}

/* --- Which ----------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Those of the disk, at most `left` bytes of them. */
static int take_wanted(struct repair *r, const struct store_damages *damages, uint64_t left,
                       struct err *err)
{
    const char *name = r->s->ck.disks.at[r->disk].name;
    uint64_t chunks = chunk_count(size_of(r));

    VEC_FOREACH(run, damages) {
        if (!str_eq(run->disk, name))
            continue;
        if (run->chunk >= chunks || run->count > chunks - run->chunk)
            return err_set(err, ERR_PROTOCOL, 0,
                           "disk %s of %" PRIu64 " chunks: %" PRIu64 " from %" PRIu64
                           " are said to be damaged",
                           name, chunks, run->count, run->chunk);
        for (uint64_t i = 0; i < run->count && r->wanted.len < left / CHUNK_BYTES; i++)
            *repair_chunks_push(&r->wanted) = run->chunk + i;
    }
    if (r->wanted.len > 1)
        qsort(r->wanted.at, r->wanted.len, sizeof(*r->wanted.at), by_number);
    return 0;
}

/* --- Reading --------------------------------------------------------------------------------- */

static int put(struct repair *r, uint64_t chunk, const uint8_t *bytes, struct err *err)
{
    size_t len = chunk_len(size_of(r), chunk);

    return rescan_put(r->s->rescan, r->disk, chunk,
                      bytes && !bytes_are_zero(bytes, len) ? bytes : NULL, err);
}

/* Of a piece that came, the chunks that are wanted. Those before it, in an ordered scan, are holes. */
static int take_piece(struct repair *r, const struct source_piece *piece, bool ordered,
                      struct err *err)
{
    uint64_t end = piece->off + piece->len;

    for (size_t i = ordered ? r->at : 0; i < r->wanted.len; i++) {
        uint64_t chunk = r->wanted.at[i];
        uint64_t off = chunk * CHUNK_BYTES;
        if (off >= end)
            return 0;
        bool within = off >= piece->off;
        if ((within || ordered)
            && put(r, chunk, within && !piece->zero ? piece->data + (off - piece->off) : NULL, err)
                   < 0)
            return -1;
        if (ordered)
            r->at = i + 1;
    }
    return 0;
}

/* What did not come is zeros. */
static int take_holes(struct repair *r, struct err *err)
{
    VEC_FOREACH(chunk, &r->wanted)
        if (!rescan_has(r->s->rescan, r->disk, *chunk) && put(r, *chunk, NULL, err) < 0)
            return -1;
    r->at = r->wanted.len;
    return 0;
}

/* From the first chunk that is missing, over those that are near. */
static int scan_near(struct repair *r, struct cancel *cancel, struct err *err)
{
    const struct source_ops *ops = r->s->source->ops;
    uint64_t from = r->wanted.at[r->at] * CHUNK_BYTES;
    struct source_piece piece = {0};
    bool ordered;

    if (ops->scan_begin(r->s->source, r->s->ck.disks.at[r->disk].name, from, &ordered, cancel, err)
        < 0)
        return -1;
    do {
        if (ops->scan_next(r->s->source, &piece, cancel, err) < 0)
            return -1;
        if ((piece.len == 0 ? take_holes(r, err) : take_piece(r, &piece, ordered, err)) < 0)
            return -1;
    } while (piece.len > 0
             && (!ordered
                 || (r->at < r->wanted.len
                     && r->wanted.at[r->at] * CHUNK_BYTES < piece.off + piece.len + NEAR_BYTES)));
    return 0;
}

static int read_disk(struct repair *r, struct cancel *cancel, struct err *err)
{
    while (r->at < r->wanted.len) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        int rc = scan_near(r, cancel, err);
        r->s->source->ops->scan_end(r->s->source);
        if (rc < 0)
            return session_blame_source(r->s);
    }
    return 0;
}

/* --- All of it ------------------------------------------------------------------------------- */

static int read_disks(struct session *s, const struct store_damages *damages, uint64_t *ret_bytes,
                      struct cancel *cancel, struct err *err)
{
    *ret_bytes = 0;
    for (size_t i = 0; i < s->ck.disks.len; i++) {
        CLEANUP(repair_done) struct repair r = {.s = s, .disk = i};
        if (take_wanted(&r, damages, SLICE_BYTES - *ret_bytes, err) < 0)
            return session_blame_peer(s);
        if (read_disk(&r, cancel, err) < 0)
            return -1;
        *ret_bytes += r.wanted.len * CHUNK_BYTES;
    }
    return 0;
}

static void tell(struct session *s)
{
    char size[32];
    CLEANUP(mem_freep)
    char *note =
        mem_printf("%" PRIu64 " damaged chunks of the replica at %s (%s) are read here once"
                   " more",
                   s->info.damaged_head, s->config.peer,
                   str_bytes(s->info.damaged_head * CHUNK_BYTES, size, sizeof(size)));

    session_set_note(s, note);
    log_warn("session", "repairing group=%s peer=%s damaged_chunks=%" PRIu64, s->config.group,
             s->config.peer, s->info.damaged_head);
}

int repair_gather(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(store_damages_free) struct store_damages damages = VEC_EMPTY;
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    uint64_t bytes;

    if (s->rescan) /* of a cycle that failed */
        resync_drop(s);
    if (s->info.damaged_head == 0)
        return 0;
    tell(s);
    turn_store_disks(s, &disks);
    if (remote_damages(&s->remote, &damages, cancel, err) < 0)
        return session_blame_peer(s);
    if (rescan_open(s->config.dir, &disks, false, &s->rescan, err) < 0)
        return -1;
    if (read_disks(s, &damages, &bytes, cancel, err) < 0)
        return err_wrap(err, "read what is damaged at %s", s->config.peer);
    log_info("session", "read again group=%s bytes=%" PRIu64, s->config.group, bytes);
    return 0;
}
