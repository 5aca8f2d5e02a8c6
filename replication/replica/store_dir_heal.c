// SPDX-License-Identifier: Apache-2.0
/* Applies over damaged chunks. The source sends what is damaged once more, whole, with the next point:
 * the first of its segments holds it as it was read there, the next one what was written meanwhile.
 *
 *   a chunk in one segment, with the digest that head should have: nothing was written to it since the
 *       applied point. It is written before anything is saved for undo, and all points are whole again.
 *   the same bytes as head's: it was the digest that was damaged, and is written anew
 *   a chunk that comes whole, but changed: the new point is whole, those before stay damaged: the undo
 *       file has no bytes of it, and says so
 *   a chunk that is written in part: the new point is damaged, too
 *
 * All of it can be done over and over: head takes the same bytes again, and the list is worked out from
 * the undo files, which are complete and unchanging by then. */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/undo.h"

#include <inttypes.h>
#include <string.h>

/* Touched chunks that are on the list of head's. */
static void listed(const struct dir_change *c, const struct chunks *touched,
                   struct chunks *ret_chunks)
{
    size_t disk = (size_t)(c->disk - c->d->disks.at);

    chunks_clear(ret_chunks);
    if (c->d->damages.len > 0)
        VEC_FOREACH(chunk, touched)
            if (dir_damages_has_head(&c->d->damages, disk, *chunk))
                *chunks_push(ret_chunks) = *chunk;
}

/* --- As they were ------------------------------------------------------------------------ */

/* One chunk that is put together from a segment's frames. */
struct heal {
    const struct dir_change *change;
    const struct chunks *wanted;
    size_t at; /* in `wanted` */
    size_t filled;
    uint8_t bytes[CHUNK_BYTES];
    uint8_t head[CHUNK_BYTES];
    struct dir_damages list;
    bool digests_written;
};

/* A chunk that came whole. */
static int take_chunk(struct heal *h, uint64_t chunk, struct err *err)
{
    const struct dir_change *c = h->change;
    struct store_dir *d = c->d;
    size_t len = chunk_len(c->disk->size, chunk);
    struct digest want;
    struct digest have;
    struct dir_damage was;
    struct err unreadable = ERR_EMPTY;

    chunk_digest(d->digester, h->bytes, len, &have);
    if (digests_file_read(d->fs, c->disk->digests, chunk, 1, &want, err) < 0)
        return -1;
    if (memcmp(&want, &have, sizeof(want)) == 0) {
        if (d->fs->pwrite(d->fs, c->disk->head, h->bytes, len, chunk * CHUNK_BYTES, err) < 0)
            return -1;
    } else {
        const struct digest unknown = dir_digest_of_damaged();
        if (memcmp(&want, &unknown, sizeof(want)) == 0
            || d->fs->pread(d->fs, c->disk->head, h->head, len, chunk * CHUNK_BYTES, &unreadable)
                   < 0
            || memcmp(h->head, h->bytes, len) != 0)
            return 0;
        if (digests_file_write(d->fs, c->disk->digests, chunk, 1, &have, err) < 0)
            return -1;
        h->digests_written = true;
    }
    (void)dir_damages_cut_head(&h->list, (size_t)(c->disk - d->disks.at), chunk, &was);
    return 0;
}

static int take_part(struct heal *h, uint64_t chunk, uint64_t off, const uint8_t *bytes, size_t len,
                     struct err *err)
{
    size_t within = (size_t)(off - chunk * CHUNK_BYTES);

    if (within != h->filled) /* not from its start on, or with a gap */
        return 0;
    if (bytes)
        memcpy(h->bytes + within, bytes, len);
    else
        memset(h->bytes + within, 0, len);
    h->filled += len;
    return h->filled < chunk_len(h->change->disk->size, chunk) ? 0 : take_chunk(h, chunk, err);
}

static int take_extent(struct heal *h, const struct extent *extent, const uint8_t *bytes,
                       struct err *err)
{
    uint64_t end = extent->off + extent->len;

    while (h->at < h->wanted->len) {
        uint64_t chunk = h->wanted->at[h->at];
        uint64_t begin = chunk * CHUNK_BYTES;
        uint64_t chunk_end = begin + chunk_len(h->change->disk->size, chunk);
        if (begin >= end)
            return 0;
        uint64_t from = begin > extent->off ? begin : extent->off;
        uint64_t to = chunk_end < end ? chunk_end : end;
        if (from < to
            && take_part(h, chunk, from, extent->zero ? NULL : bytes + (from - extent->off),
                         (size_t)(to - from), err)
                   < 0)
            return -1;
        if (chunk_end > end)
            return 0; /* more of it may follow */
        h->at++;
        h->filled = 0;
    }
    return 0;
}

static int heal_segment(struct heal *h, const struct manifest_segment *segment, struct err *err)
{
    const struct dir_change *c = h->change;
    CLEANUP(mem_freep) char *path = dir_segment_path(c->disk, &segment->uuid, true);
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct frame_view view;

    h->at = 0;
    h->filled = 0;
    if (segment_reader_open(path, &c->d->key, &reader, err) < 0)
        return -1;
    while (h->at < h->wanted->len) {
        if (cancel_check(c->cancel, err) < 0 || segment_reader_next(reader, &view, err) < 0)
            return -1;
        if (view.extent_count == 0)
            break;
        const uint8_t *at = view.payload;
        for (size_t i = 0; i < view.extent_count; i++) {
            if (take_extent(h, &view.extents[i], at, err) < 0)
                return -1;
            at += view.extents[i].zero ? 0 : view.extents[i].len;
        }
    }
    return 0;
}

static void heal_done(struct heal **heal)
{
    dir_damages_free(&(*heal)->list);
    free(*heal);
}

int dir_heal(const struct dir_change *change, const struct chunks *touched, struct err *err)
{
    CLEANUP(chunks_free) struct chunks wanted = VEC_EMPTY;
    struct store_dir *d = change->d;

    listed(change, touched, &wanted);
    if (wanted.len == 0 || change->part->segments.len == 0)
        return 0;
    CLEANUP(heal_done) struct heal *h = mem_new(struct heal);
    h->change = change;
    h->wanted = &wanted;
    dir_damages_copy(&h->list, &d->damages);
    VEC_FOREACH(segment, &change->part->segments)
        if (heal_segment(h, segment, err) < 0)
            return -1;
    if (d->fs->sync(d->fs, change->disk->head, err) < 0
        || (h->digests_written && d->fs->sync(d->fs, change->disk->digests, err) < 0))
        return -1;
    return dir_damage_save(d, &h->list, err);
}

/* --- What nobody saves ------------------------------------------------------------------- */

static int is_right(const struct dir_change *c, uint64_t chunk, bool *ret_right, struct err *err)
{
    struct store_dir *d = c->d;
    size_t len = chunk_len(c->disk->size, chunk);
    uint8_t buf[CHUNK_BYTES];
    struct digest want;
    struct digest have;

    if (d->fs->pread(d->fs, c->disk->head, buf, len, chunk * CHUNK_BYTES, err) < 0
        || digests_file_read(d->fs, c->disk->digests, chunk, 1, &want, err) < 0)
        return -1;
    chunk_digest(d->digester, buf, len, &have);
    *ret_right = memcmp(&want, &have, sizeof(want)) == 0;
    return 0;
}

int dir_heal_check(const struct dir_change *change, const struct chunks *unsaved, struct err *err)
{
    CLEANUP(dir_damages_free) struct dir_damages list = VEC_EMPTY;
    CLEANUP(chunks_free) struct chunks found = VEC_EMPTY;
    CLEANUP(mem_freep) bool *covered = mem_new_array(bool, unsaved->len + 1);
    struct store_dir *d = change->d;
    size_t disk = (size_t)(change->disk - d->disks.at);

    if (dir_change_covers(change, unsaved, covered, err) < 0)
        return -1;
    for (size_t i = 0; i < unsaved->len; i++) {
        uint64_t chunk = unsaved->at[i];
        bool right = true;
        if (cancel_check(change->cancel, err) < 0)
            return -1;
        if (!covered[i] && !dir_damages_has_head(&d->damages, disk, chunk)
            && is_right(change, chunk, &right, err) < 0)
            return -1;
        if (!right)
            *chunks_push(&found) = chunk;
    }
    if (found.len == 0)
        return 0;
    CLEANUP(mem_freep) uint64_t *from = mem_new_array(uint64_t, found.len);
    if (dir_damage_since(d, change->disk, &found, 0, from, err) < 0)
        return -1;
    dir_damages_copy(&list, &d->damages);
    for (size_t i = 0; i < found.len; i++)
        dir_damages_add(&list, disk, found.at[i], from[i], 0, d->clock->wall_ms(d->clock));
    return dir_damage_save(d, &list, err);
}

/* --- What becomes of the others ---------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* The touched chunks that are damaged where head was: of some the undo file says so, others it does not
 * have. `ret_saved`: those it has. */
static int damaged_before(const struct dir_change *c, const struct chunks *touched,
                          struct chunks *ret_chunks, struct chunks *ret_saved, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(c->disk, c->d->applied);
    CLEANUP(undo_freep) struct undo *undo = NULL;

    listed(c, touched, ret_chunks);
    if (!dir_saves(c->d))
        return 0;
    if (undo_open(path, &undo, err) < 0)
        return -1;
    size_t kept = 0;
    for (size_t i = 0; i < ret_chunks->len; i++)
        if (!undo_find(undo, ret_chunks->at[i]))
            ret_chunks->at[kept++] = ret_chunks->at[i];
    ret_chunks->len = kept;
    for (size_t i = 0; i < undo->row_count; i++)
        if (undo_row_is_damaged(&undo->rows[i])) {
            *chunks_push(ret_chunks) = undo->rows[i].chunk;
            *chunks_push(ret_saved) = undo->rows[i].chunk;
        }
    if (ret_chunks->len > 1)
        qsort(ret_chunks->at, ret_chunks->len, sizeof(*ret_chunks->at), by_number);
    return 0;
}

static bool has_chunk(const struct chunks *chunks, uint64_t chunk)
{
    return chunks->len > 0
           && bsearch(&chunk, chunks->at, chunks->len, sizeof(chunk), by_number) != NULL;
}

/* `saved`: its row in the undo file of the applied point says that it is damaged. */
struct settled {
    uint64_t chunk;
    uint64_t from;
    bool covered;
    bool saved;
};

static void settle_chunk(const struct dir_change *c, const struct settled *what, uint64_t to_point,
                         struct dir_damages *list)
{
    uint64_t chunk = what->chunk;
    uint64_t from = what->from;
    size_t disk = (size_t)(c->disk - c->d->disks.at);
    uint64_t applied = c->d->applied;
    int64_t since = c->d->clock->wall_ms(c->d->clock);
    struct dir_damage was;

    if (dir_damages_cut_head(list, disk, chunk, &was)) {
        since = was.since_ms;
        if (was.from <= applied)
            from = was.from;
    }
    if (what->saved && !dir_damages_has_past(list, disk, chunk, applied))
        dir_damages_add(list, disk, chunk, from, applied, since);
    if (!what->covered)
        dir_damages_add(list, disk, chunk, to_point, 0, since);
}

int dir_heal_settle(const struct dir_change *change, const struct chunks *touched,
                    uint64_t to_point, struct dir_damages *list, struct err *err)
{
    CLEANUP(chunks_free) struct chunks damaged = VEC_EMPTY;
    CLEANUP(chunks_free) struct chunks saved = VEC_EMPTY;

    if (damaged_before(change, touched, &damaged, &saved, err) < 0)
        return -1;
    if (damaged.len == 0)
        return 0;
    CLEANUP(mem_freep) uint64_t *from = mem_new_array(uint64_t, damaged.len);
    CLEANUP(mem_freep) bool *covered = mem_new_array(bool, damaged.len);
    if (dir_damage_since(change->d, change->disk, &damaged, 0, from, err) < 0
        || dir_change_covers(change, &damaged, covered, err) < 0)
        return -1;
    for (size_t i = 0; i < damaged.len; i++) {
        const struct settled what = {damaged.at[i], from[i], covered[i],
                                     has_chunk(&saved, damaged.at[i])};
        settle_chunk(change, &what, to_point, list);
    }
    return 0;
}
