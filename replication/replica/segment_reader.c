// SPDX-License-Identifier: Apache-2.0
#include "replica/bytes.h"
#include "replica/segment_format.h"

#include "base/mem.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define UNIT     512U
#define ZERO_BIT (UINT64_C(1) << 63)

struct segment_reader {
    char *path;
    int fd;
    struct segment_head head;
    struct segment_info info;
    struct segment_footer footer;
    struct frame_coder *coder;
    struct extent *extents;
    size_t extent_count;
    uint64_t pos; /* of the next frame */
    uint64_t frame;
    size_t extents_seen;
    uint8_t *sealed; /* FRAME_SEALED_MAX */
};

static int damaged(struct segment_reader *r, const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, 0, "%s: %s", r->path, what);
}

/* The index says which parts of the disk the segment touches; whoever saves them beforehand
 * relies on it, so it must be in order and inside the disk. */
static int parse_index(struct segment_reader *r, const uint8_t *bytes, struct err *err)
{
    uint64_t end = 0;

    for (size_t i = 0; i < r->extent_count; i++) {
        uint64_t off = get_u64(bytes + i * SEGMENT_ENTRY_BYTES);
        uint64_t len = get_u64(bytes + i * SEGMENT_ENTRY_BYTES + 8);
        bool zero = (len & ZERO_BIT) != 0;
        len &= ~ZERO_BIT;
        if (off % UNIT || len % UNIT || len == 0 || off < end || off > r->head.disk_size
            || len > r->head.disk_size - off)
            return err_set(err, ERR_CORRUPT, 0,
                           "%s: extent %zu at %" PRIu64 " of %" PRIu64
                           " bytes on a disk of %" PRIu64,
                           r->path, i, off, len, r->head.disk_size);
        r->extents[i] = (struct extent){off, len, zero};
        end = off + len;
    }
    return 0;
}

static int read_index(struct segment_reader *r, struct err *err)
{
    struct fs *fs = fs_real();
    size_t count = (size_t)r->footer.extent_count;
    size_t len = count * SEGMENT_ENTRY_BYTES;
    CLEANUP(mem_freep) uint8_t *bytes = mem_try_alloc(len + 1, "segment index", err);

    if (!bytes)
        return -1;
    r->extents = mem_try_alloc((count + 1) * sizeof(*r->extents), "segment extents", err);
    if (!r->extents)
        return -1;
    r->extent_count = count;
    if (len > 0 && fs->pread(fs, r->fd, bytes, len, r->footer.index_off, err) < 0)
        return -1;
    if (crc32c(0, bytes, len) != r->footer.index_crc)
        return damaged(r, "damaged index", err);
    return parse_index(r, bytes, err);
}

int segment_reader_open(const char *path, const struct key *group_key,
                        struct segment_reader **ret_reader, struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(segment_reader_freep) struct segment_reader *r = mem_new(struct segment_reader);
    uint64_t size;

    r->fd = -1;
    r->path = mem_strdup(path);
    r->pos = SEGMENT_HEADER_BYTES;
    r->sealed = mem_grow(NULL, FRAME_SEALED_MAX, 1);
    if (fs->open(fs, path, O_RDONLY, 0, &r->fd, err) < 0
        || segment_ends_read(r->fd, path, &r->head, &r->footer, &size, err) < 0
        || read_index(r, err) < 0)
        return -1;
    r->info =
        (struct segment_info){r->head.uuid,         r->footer.root,       size,
                              r->footer.data_bytes, r->footer.zero_bytes, r->footer.extent_count};
    r->coder = frame_coder_new(group_key, &r->head.uuid, r->head.compression);
    *ret_reader = TAKE(r);
    return 0;
}

const struct segment_head *segment_reader_head(const struct segment_reader *reader)
{
    return &reader->head;
}

const struct segment_info *segment_reader_info(const struct segment_reader *reader)
{
    return &reader->info;
}

const struct extent *segment_reader_extents(const struct segment_reader *reader, size_t *ret_count)
{
    *ret_count = reader->extent_count;
    return reader->extents;
}

/* A frame may only hold what the index announced next. */
static int match_index(struct segment_reader *r, const struct frame_view *view, struct err *err)
{
    if (view->extent_count == 0 || view->extent_count > r->extent_count - r->extents_seen)
        return damaged(r, "frames and index disagree", err);
    for (size_t i = 0; i < view->extent_count; i++) {
        const struct extent *a = &view->extents[i];
        const struct extent *b = &r->extents[r->extents_seen + i];
        if (a->off != b->off || a->len != b->len || a->zero != b->zero)
            return damaged(r, "frames and index disagree", err);
    }
    r->extents_seen += view->extent_count;
    return 0;
}

int segment_reader_next(struct segment_reader *reader, struct frame_view *ret_view, struct err *err)
{
    struct segment_reader *r = reader;
    struct fs *fs = fs_real();
    uint64_t left = r->footer.index_off - r->pos;
    struct frame_view view = {0};

    if (left == 0) {
        if (r->frame != r->footer.frame_count || r->extents_seen != r->extent_count)
            return damaged(r, "frames are missing", err);
        *ret_view = view;
        return 0;
    }
    if (left < FRAME_HEADER_BYTES)
        return damaged(r, "half a frame before the index", err);
    if (fs->pread(fs, r->fd, r->sealed, FRAME_HEADER_BYTES, r->pos, err) < 0)
        return -1;
    size_t len = frame_sealed_len(r->sealed, FRAME_HEADER_BYTES);
    if (len == 0 || len > left)
        return damaged(r, "no frame where one must be", err);
    if (fs->pread(fs, r->fd, r->sealed + FRAME_HEADER_BYTES, len - FRAME_HEADER_BYTES,
                  r->pos + FRAME_HEADER_BYTES, err)
            < 0
        || frame_open(r->coder, r->frame, r->sealed, len, &view, err) < 0
        || match_index(r, &view, err) < 0)
        return err_wrap(err, "segment %s", r->path);
    r->pos += len;
    r->frame++;
    *ret_view = view;
    return 0;
}

void segment_reader_free(struct segment_reader *reader)
{
    if (!reader)
        return;
    fd_close(&reader->fd);
    frame_coder_free(reader->coder);
    free(reader->extents);
    free(reader->sealed);
    free(reader->path);
    free(reader);
}

void segment_reader_freep(struct segment_reader **reader)
{
    segment_reader_free(*reader);
    *reader = NULL;
}
