// SPDX-License-Identifier: Apache-2.0
#include "replica/bytes.h"
#include "replica/chunk.h"
#include "replica/segment_format.h"

#include "base/mem.h"
#include "base/vec.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define BLOCK_BYTES 4096U
#define UNIT        512U
#define ZERO_BIT    (UINT64_C(1) << 63)

struct entry {
    struct extent extent;
    struct digest digest;
};
VEC_DEFINE(entries, struct entry)

struct segment_writer {
    struct fs *fs;
    char *path;
    char *tmp;
    int fd;
    bool finished;
    struct segment_head head;
    struct frame_coder *coder;
    struct digester *digester;
    struct sha256_run *root;
    uint64_t written;  /* bytes of the file */
    uint64_t next_off; /* extents ascend */
    uint64_t frames;
    uint64_t data_bytes;
    uint64_t zero_bytes;
    struct entries index;
    /* the frame being filled */
    size_t extent_count;
    size_t payload_len;
    struct extent *extents; /* FRAME_EXTENTS_MAX */
    uint8_t *payload;       /* FRAME_PAYLOAD_MAX */
    uint8_t *sealed;        /* FRAME_SEALED_MAX */
};

static int append(struct segment_writer *w, const void *bytes, size_t len, struct err *err)
{
    if (w->fs->pwrite(w->fs, w->fd, bytes, len, w->written, err) < 0)
        return -1;
    sha256_add(w->root, bytes, len);
    w->written += len;
    return 0;
}

int segment_writer_open(struct fs *fs, const char *path, const struct segment_head *head,
                        const struct key *group_key, struct segment_writer **ret_writer,
                        struct err *err)
{
    CLEANUP(segment_writer_freep) struct segment_writer *w = mem_new(struct segment_writer);
    uint8_t header[SEGMENT_HEADER_BYTES];

    w->fs = fs;
    w->fd = -1;
    w->path = mem_strdup(path);
    w->tmp = mem_printf("%s.tmp", path);
    w->head = *head;
    w->coder = frame_coder_new(group_key, &head->uuid, head->compression);
    w->digester = chunk_digester_new(group_key);
    w->root = sha256_begin();
    /* Not cleared: a small segment need not touch megabytes. */
    w->extents = mem_grow(NULL, FRAME_EXTENTS_MAX, sizeof(*w->extents));
    w->payload = mem_grow(NULL, FRAME_PAYLOAD_MAX, 1);
    w->sealed = mem_grow(NULL, FRAME_SEALED_MAX, 1);
    if (fs_exists(w->tmp) && fs->unlink(fs, w->tmp, err) < 0)
        return err_wrap(err, "segment %s", path);
    segment_header_put(header, head);
    if (fs->open(fs, w->tmp, O_WRONLY | O_CREAT | O_EXCL, 0600, &w->fd, err) < 0
        || append(w, header, sizeof(header), err) < 0)
        return err_wrap(err, "segment %s", path);
    *ret_writer = TAKE(w);
    return 0;
}

void segment_writer_set_level(struct segment_writer *writer, int level)
{
    frame_coder_set(writer->coder, writer->head.compression, level);
}

static int flush_frame(struct segment_writer *w, struct err *err)
{
    const uint8_t *at = w->payload;
    size_t len;

    if (w->extent_count == 0)
        return 0;
    for (size_t i = 0; i < w->extent_count; i++) {
        struct entry *entry = entries_push(&w->index);
        entry->extent = w->extents[i];
        if (entry->extent.zero)
            continue;
        digester_run(w->digester, at, (size_t)entry->extent.len, &entry->digest);
        at += entry->extent.len;
    }
    frame_seal(w->coder, w->frames, w->extents, w->extent_count, w->payload, w->payload_len,
               w->sealed, &len);
    w->frames++;
    w->extent_count = 0;
    w->payload_len = 0;
    return append(w, w->sealed, len, err);
}

/* Makes [off, off + len) the end of the open frame: longer by as much, or one extent more. */
static int add_extent(struct segment_writer *w, uint64_t off, uint64_t len, bool zero,
                      struct err *err)
{
    if (w->extent_count > 0) {
        struct extent *last = &w->extents[w->extent_count - 1];
        if (last->zero == zero && last->off + last->len == off) {
            last->len += len;
            return 0;
        }
    }
    if (w->extent_count == FRAME_EXTENTS_MAX && flush_frame(w, err) < 0)
        return -1;
    w->extents[w->extent_count++] = (struct extent){off, len, zero};
    return 0;
}

static int add_data(struct segment_writer *w, uint64_t off, const uint8_t *bytes, size_t len,
                    struct err *err)
{
    w->data_bytes += len;
    while (len > 0) {
        if (w->payload_len == FRAME_PAYLOAD_MAX && flush_frame(w, err) < 0)
            return -1;
        size_t n = FRAME_PAYLOAD_MAX - w->payload_len;
        n = len < n ? len : n;
        if (add_extent(w, off, n, false, err) < 0)
            return -1;
        memcpy(w->payload + w->payload_len, bytes, n);
        w->payload_len += n;
        off += n;
        bytes += n;
        len -= n;
    }
    return 0;
}

static int add_zero(struct segment_writer *w, uint64_t off, uint64_t len, struct err *err)
{
    w->zero_bytes += len;
    return add_extent(w, off, len, true, err);
}

static int check_order(struct segment_writer *w, uint64_t off, uint64_t len, struct err *err)
{
    if (off % UNIT || len % UNIT)
        return err_set(err, ERR_INVALID, 0,
                       "%s: extent at %" PRIu64 " of %" PRIu64 " bytes is not in units of %u",
                       w->path, off, len, UNIT);
    if (off < w->next_off)
        return err_set(err, ERR_INVALID, 0, "%s: extent at %" PRIu64 " after one up to %" PRIu64,
                       w->path, off, w->next_off);
    if (off > w->head.disk_size || len > w->head.disk_size - off)
        return err_set(err, ERR_INVALID, 0,
                       "%s: extent at %" PRIu64 " of %" PRIu64
                       " bytes is beyond the disk's %" PRIu64,
                       w->path, off, len, w->head.disk_size);
    w->next_off = off + len;
    return 0;
}

/* Bytes from the start of `bytes` that are alike, all-zero blocks or blocks with data. */
static size_t run_len(uint64_t off, const uint8_t *bytes, size_t len, bool *ret_zero)
{
    size_t run = 0;
    bool zero = false;

    while (run < len) {
        size_t n = BLOCK_BYTES - (size_t)((off + run) % BLOCK_BYTES);
        n = len - run < n ? len - run : n;
        bool is_zero = bytes_are_zero(bytes + run, n);
        if (run == 0)
            zero = is_zero;
        else if (is_zero != zero)
            break;
        run += n;
    }
    *ret_zero = zero;
    return run;
}

int segment_writer_data(struct segment_writer *writer, uint64_t off, const void *bytes, size_t len,
                        struct err *err)
{
    const uint8_t *at = bytes;

    if (check_order(writer, off, len, err) < 0)
        return -1;
    while (len > 0) {
        bool zero;
        size_t n = run_len(off, at, len, &zero);
        int rc = zero ? add_zero(writer, off, n, err) : add_data(writer, off, at, n, err);
        if (rc < 0)
            return -1;
        off += n;
        at += n;
        len -= n;
    }
    return 0;
}

int segment_writer_zero(struct segment_writer *writer, uint64_t off, uint64_t len, struct err *err)
{
    if (check_order(writer, off, len, err) < 0)
        return -1;
    return len > 0 ? add_zero(writer, off, len, err) : 0;
}

static int write_index(struct segment_writer *w, uint32_t *ret_crc, struct err *err)
{
    size_t len = w->index.len * SEGMENT_ENTRY_BYTES;
    CLEANUP(mem_freep) uint8_t *bytes = mem_try_alloc(len + 1, "segment index", err);

    if (!bytes)
        return -1;
    for (size_t i = 0; i < w->index.len; i++) {
        const struct entry *entry = &w->index.at[i];
        uint8_t *to = bytes + i * SEGMENT_ENTRY_BYTES;
        put_u64(to, entry->extent.off);
        put_u64(to + 8, entry->extent.len | (entry->extent.zero ? ZERO_BIT : 0));
        memcpy(to + 16, entry->digest.bytes, DIGEST_BYTES);
    }
    *ret_crc = crc32c(0, bytes, len);
    return len > 0 ? append(w, bytes, len, err) : 0;
}

static int write_end(struct segment_writer *w, struct segment_footer *footer, struct err *err)
{
    uint8_t bytes[SEGMENT_FOOTER_BYTES];

    if (flush_frame(w, err) < 0)
        return -1;
    *footer = (struct segment_footer){
        .index_off = w->written,
        .frame_count = w->frames,
        .extent_count = w->index.len,
        .data_bytes = w->data_bytes,
        .zero_bytes = w->zero_bytes,
    };
    if (write_index(w, &footer->index_crc, err) < 0)
        return -1;
    sha256_end(TAKE(w->root), &footer->root);
    segment_footer_put(bytes, footer);
    return w->fs->pwrite(w->fs, w->fd, bytes, sizeof(bytes), w->written, err);
}

static int sync_parent(struct segment_writer *w, struct err *err)
{
    const char *slash = strrchr(w->path, '/');
    CLEANUP(mem_freep)
    char *dir = slash ? mem_printf("%.*s", (int)(slash - w->path), w->path) : mem_strdup(".");

    return w->fs->sync_dir(w->fs, dir[0] ? dir : "/", err);
}

int segment_writer_finish(struct segment_writer *writer, struct segment_info *ret_info,
                          struct err *err)
{
    struct segment_writer *w = writer;
    struct segment_footer footer;

    if (!w->root)
        return err_set(err, ERR_STATE, 0, "segment %s: already ended", w->path);
    if (write_end(w, &footer, err) < 0 || w->fs->sync(w->fs, w->fd, err) < 0
        || w->fs->rename(w->fs, w->tmp, w->path, err) < 0)
        return err_wrap(err, "segment %s", w->path);
    w->finished = true;
    if (sync_parent(w, err) < 0)
        return err_wrap(err, "segment %s", w->path);
    *ret_info =
        (struct segment_info){w->head.uuid,  footer.root,   w->written + SEGMENT_FOOTER_BYTES,
                              w->data_bytes, w->zero_bytes, w->index.len};
    return 0;
}

void segment_writer_free(struct segment_writer *writer)
{
    struct err ignored;

    if (!writer)
        return;
    if (writer->fd >= 0) {
        (void)writer->fs->close(writer->fs, writer->fd);
        if (!writer->finished)
            (void)writer->fs->unlink(writer->fs, writer->tmp, &ignored);
    }
    sha256_drop(writer->root);
    frame_coder_free(writer->coder);
    digester_free(writer->digester);
    entries_free(&writer->index);
    free(writer->extents);
    free(writer->payload);
    free(writer->sealed);
    free(writer->path);
    free(writer->tmp);
    free(writer);
}

void segment_writer_freep(struct segment_writer **writer)
{
    segment_writer_free(*writer);
    *writer = NULL;
}
