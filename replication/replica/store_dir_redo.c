// SPDX-License-Identifier: Apache-2.0
/* What an apply changes on one disk, and changing it: forward by the segments of a manifest, or
 * back to an older point by the undo files since. Both can be done over and over. */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/undo.h"

#include <inttypes.h>

/* --- Which chunks ------------------------------------------------------------------------ */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void sort_unique(struct chunks *chunks)
{
    size_t kept = 0;

    if (chunks->len > 1)
        qsort(chunks->at, chunks->len, sizeof(*chunks->at), by_number);
    for (size_t i = 0; i < chunks->len; i++)
        if (i == 0 || chunks->at[i] != chunks->at[kept - 1])
            chunks->at[kept++] = chunks->at[i];
    chunks->len = kept;
}

/* Chunks ascend within a segment, so neighbours are told apart by a look at the last one. */
static void add_extent(struct chunks *chunks, const struct extent *extent)
{
    uint64_t end = extent->off + extent->len;

    for (uint64_t chunk = extent->off / CHUNK_BYTES; chunk * CHUNK_BYTES < end; chunk++)
        if (chunks->len == 0 || chunks->at[chunks->len - 1] != chunk)
            *chunks_push(chunks) = chunk;
}

static int open_segment(const struct dir_change *c, const struct manifest_segment *segment,
                        struct segment_reader **ret_reader, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_segment_path(c->disk, &segment->uuid, true);

    return segment_reader_open(path, &c->d->key, ret_reader, err);
}

static int chunks_of_segment(const struct dir_change *c, const struct manifest_segment *segment,
                             struct chunks *chunks, struct err *err)
{
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    size_t count;

    if (open_segment(c, segment, &reader, err) < 0)
        return -1;
    const struct extent *extents = segment_reader_extents(reader, &count);
    for (size_t i = 0; i < count; i++)
        add_extent(chunks, &extents[i]);
    return 0;
}

static int chunks_of_undo(const struct dir_change *c, uint64_t point, struct chunks *chunks,
                          struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(c->disk, point);
    CLEANUP(undo_freep) struct undo *undo = NULL;

    if (undo_open(path, &undo, err) < 0)
        return -1;
    for (size_t i = 0; i < undo->row_count; i++)
        *chunks_push(chunks) = undo->rows[i].chunk;
    return 0;
}

/* Is it on the way back? */
static bool is_between(const struct dir_change *c, const struct dir_file *file)
{
    return file->point >= c->back_to && file->point < c->d->applied;
}

int dir_change_chunks(const struct dir_change *change, struct chunks *ret_chunks, struct err *err)
{
    chunks_clear(ret_chunks);
    VEC_FOREACH(segment, &change->part->segments)
        if (chunks_of_segment(change, segment, ret_chunks, err) < 0)
            return -1;
    if (change->back_to)
        VEC_FOREACH(file, &change->d->files)
            if (is_between(change, file)
                && chunks_of_undo(change, file->point, ret_chunks, err) < 0)
                return -1;
    if (dir_resize_chunks(change->d, change->disk, change->part->size, ret_chunks, err) < 0)
        return -1;
    sort_unique(ret_chunks);
    return 0;
}

/* --- Writing ----------------------------------------------------------------------------- */

static int write_frame(const struct dir_change *c, const struct frame_view *view, struct err *err)
{
    struct fs *fs = c->d->fs;
    const uint8_t *at = view->payload;

    for (size_t i = 0; i < view->extent_count; i++) {
        const struct extent *extent = &view->extents[i];
        int rc = extent->zero
                     ? fs->punch(fs, c->disk->head, extent->off, extent->len, err)
                     : fs->pwrite(fs, c->disk->head, at, (size_t)extent->len, extent->off, err);
        if (rc < 0)
            return -1;
        at += extent->zero ? 0 : extent->len;
    }
    return 0;
}

static int write_segment(const struct dir_change *c, const struct manifest_segment *segment,
                         struct err *err)
{
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct frame_view view;

    if (open_segment(c, segment, &reader, err) < 0)
        return -1;
    for (;;) {
        if (cancel_check(c->cancel, err) < 0 || segment_reader_next(reader, &view, err) < 0)
            return -1;
        if (view.extent_count == 0)
            return 0;
        if (write_frame(c, &view, err) < 0)
            return -1;
    }
}

/* One chunk at a time is or is not among those that are lost. */
static void set_lost(struct chunks *lost, uint64_t chunk, bool is_lost)
{
    for (size_t i = 0; i < lost->len; i++)
        if (lost->at[i] == chunk) {
            if (!is_lost)
                lost->at[i] = lost->at[--lost->len];
            return;
        }
    if (is_lost)
        *chunks_push(lost) = chunk;
}

static int write_row(const struct dir_change *c, const struct undo *undo, struct frame_coder *coder,
                     const struct undo_row *row, struct chunks *lost, struct err *err)
{
    struct fs *fs = c->d->fs;
    uint8_t buf[CHUNK_BYTES];
    uint64_t off = row->chunk * CHUNK_BYTES;
    struct err why = ERR_EMPTY;

    if (row->chunk >= chunk_count(c->disk->size)) /* the disk was larger then */
        return 0;
    /* Each file has the chunk as long as the disk had it at its point. */
    size_t len = row->chunk < chunk_count(undo->disk_size) ? chunk_len(undo->disk_size, row->chunk)
                                                           : CHUNK_BYTES;
    if (len > chunk_len(c->disk->size, row->chunk))
        len = chunk_len(c->disk->size, row->chunk);
    if (undo_record_read(undo->fd, undo->path, coder, row, undo->disk_size, buf, &why) < 0) {
        if (why.code != ERR_CORRUPT)
            return err_set(err, why.code, why.sys, "%s", why.text);
        set_lost(lost, row->chunk, true);
        return 0;
    }
    set_lost(lost, row->chunk, false);
    return row->pos == 0 ? fs->punch(fs, c->disk->head, off, len, err)
                         : fs->pwrite(fs, c->disk->head, buf, len, off, err);
}

static int write_undo(const struct dir_change *c, uint64_t point, struct chunks *lost,
                      struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(c->disk, point);
    CLEANUP(undo_freep) struct undo *undo = NULL;

    if (undo_open(path, &undo, err) < 0)
        return -1;
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = undo_coder_new(&c->d->key, &undo->uuid);
    for (size_t i = 0; i < undo->row_count; i++)
        if (cancel_check(c->cancel, err) < 0
            || write_row(c, undo, coder, &undo->rows[i], lost, err) < 0)
            return -1;
    return 0;
}

int dir_change_write(const struct dir_change *change, struct chunks *ret_lost, struct err *err)
{
    chunks_clear(ret_lost);
    VEC_FOREACH(segment, &change->part->segments)
        if (write_segment(change, segment, err) < 0)
            return -1;
    /* From the newest to the oldest: the oldest has the last word. */
    const struct dir_files *files = &change->d->files;
    for (size_t i = files->len; change->back_to && i-- > 0;)
        if (is_between(change, &files->at[i])
            && write_undo(change, files->at[i].point, ret_lost, err) < 0)
            return -1;
    sort_unique(ret_lost);
    return 0;
}

/* --- Which chunks come whole ------------------------------------------------------------- */

#define SECTOR_BYTES 512U
#define SECTORS      (CHUNK_BYTES / SECTOR_BYTES)

struct cover {
    uint8_t sectors[SECTORS / 8];
};

static void cover_extent(const struct chunks *chunks, uint64_t size, const struct extent *extent,
                         struct cover *covers)
{
    uint64_t end = extent->off + extent->len;
    size_t low = 0;
    size_t high = chunks->len;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((chunks->at[middle] + 1) * CHUNK_BYTES <= extent->off)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < chunks->len && chunks->at[low] * CHUNK_BYTES < end; low++) {
        uint64_t begin = chunks->at[low] * CHUNK_BYTES;
        size_t len = chunk_len(size, chunks->at[low]);
        for (size_t i = 0; i * SECTOR_BYTES < len; i++) {
            uint64_t at = begin + i * SECTOR_BYTES;
            if (at >= extent->off && at < end)
                covers[low].sectors[i / 8] |= (uint8_t)(1U << (i % 8));
        }
    }
}

int dir_change_covers(const struct dir_change *change, const struct chunks *chunks,
                      bool *ret_covers, struct err *err)
{
    CLEANUP(mem_freep) struct cover *covers = mem_new_array(struct cover, chunks->len + 1);

    VEC_FOREACH(segment, &change->part->segments) {
        CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
        size_t count;
        if (open_segment(change, segment, &reader, err) < 0)
            return -1;
        const struct extent *extents = segment_reader_extents(reader, &count);
        for (size_t i = 0; i < count; i++)
            cover_extent(chunks, change->disk->size, &extents[i], covers);
    }
    for (size_t k = 0; k < chunks->len; k++) {
        size_t sectors = chunk_len(change->disk->size, chunks->at[k]) / SECTOR_BYTES;
        /* On the way back each chunk comes whole, or is found to be lost. */
        ret_covers[k] = true;
        for (size_t i = 0; i < sectors && change->back_to == 0; i++)
            ret_covers[k] &= (covers[k].sectors[i / 8] >> (i % 8) & 1) != 0;
    }
    return 0;
}
