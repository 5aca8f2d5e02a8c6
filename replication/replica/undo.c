// SPDX-License-Identifier: Apache-2.0
/* An undo file; all numbers little endian:
 *
 *   header  256 bytes   0 magic "MUSTUND1" | 8 version 1 (4) | 16 point | 24 disk size
 *                       32 uuid (16) | 48 disk (64, NUL-padded) | 112 zeros
 *                       252 CRC-32C of the 252 bytes before
 *   records             a sealed frame (frame.c) each, of one extent: the chunk; numbered from 0
 *   table   24 each     chunk | position of its record, 0 for a chunk of zeros | record's bytes (4)
 *                       | record's CRC-32C (4); ascending by chunk. A chunk that was damaged when it
 *                       was to be saved has position 256 and no bytes: no record is so short.
 *                       Beyond the disk's size there are only zeros: the disk grew by them with the
 *                       next point
 *   footer  64 bytes    0 magic "MUSTUNDE" | 8 where the table begins | 16 rows
 *                       24 CRC-32C of the table | 28 zeros | 60 CRC-32C of the 60 bytes before
 *
 * Each attempt to write one has a fresh uuid, so no nonce repeats. */
#include "replica/undo.h"

#include "base/mem.h"
#include "base/vec.h"
#include "replica/bytes.h"
#include "replica/chunk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define HEADER_MAGIC  UINT64_C(0x31444e555453554d) /* "MUSTUND1" */
#define FOOTER_MAGIC  UINT64_C(0x45444e555453554d) /* "MUSTUNDE" */
#define VERSION       1U
#define HEADER_BYTES  256U
#define FOOTER_BYTES  64U
#define ROW_BYTES     24U
#define NAME_BYTES    64U
#define BATCH_BYTES   ((size_t)1024 * 1024)
#define COMPRESSED_BY COMPRESSION_LZ4 /* pre-images stand in the way of the apply: fast counts */

VEC_DEFINE(undo_rows, struct undo_row)

struct undo_writer {
    struct fs *fs;
    char *path;
    char *tmp;
    int fd;
    bool sealed;
    bool finished;
    struct key key;
    struct uuid uuid;
    struct frame_coder *coder;
    uint64_t written;
    uint64_t records;
    struct undo_rows rows;
    size_t batch_len;
    uint8_t *batch; /* BATCH_BYTES, and room for the record that passes them */
};

struct frame_coder *undo_coder_new(const struct key *group_key, const struct uuid *uuid)
{
    return frame_coder_new(group_key, uuid, COMPRESSED_BY);
}

static int flush_batch(struct undo_writer *w, struct err *err)
{
    if (w->batch_len == 0)
        return 0;
    if (w->fs->pwrite(w->fs, w->fd, w->batch, w->batch_len, w->written, err) < 0)
        return -1;
    w->written += w->batch_len;
    w->batch_len = 0;
    return 0;
}

static void put_header(uint8_t ret_bytes[HEADER_BYTES], const struct undo_head *head,
                       const struct uuid *uuid)
{
    memset(ret_bytes, 0, HEADER_BYTES);
    put_u64(ret_bytes, HEADER_MAGIC);
    put_u32(ret_bytes + 8, VERSION);
    put_u64(ret_bytes + 16, head->point);
    put_u64(ret_bytes + 24, head->disk_size);
    memcpy(ret_bytes + 32, uuid->bytes, UUID_BYTES);
    memcpy(ret_bytes + 48, head->disk, strnlen(head->disk, NAME_BYTES - 1));
    put_u32(ret_bytes + 252, crc32c(0, ret_bytes, 252));
}

int undo_writer_open(struct fs *fs, const char *path, const struct undo_head *head,
                     const struct key *group_key, struct undo_writer **ret_writer, struct err *err)
{
    CLEANUP(undo_writer_freep) struct undo_writer *w = mem_new(struct undo_writer);

    uuid_new(&w->uuid);
    w->key = *group_key;
    w->fs = fs;
    w->fd = -1;
    w->path = mem_strdup(path);
    w->tmp = mem_printf("%s.tmp", path);
    w->batch = mem_grow(NULL, BATCH_BYTES + UNDO_RECORD_MAX, 1);
    w->coder = undo_coder_new(group_key, &w->uuid);
    if (fs_exists(w->tmp) && fs->unlink(fs, w->tmp, err) < 0)
        return -1;
    if (fs->open(fs, w->tmp, O_WRONLY | O_CREAT | O_EXCL, 0600, &w->fd, err) < 0)
        return -1;
    put_header(w->batch, head, &w->uuid);
    w->batch_len = HEADER_BYTES;
    *ret_writer = TAKE(w);
    return 0;
}

struct frame_coder *undo_writer_coder_new(const struct undo_writer *writer)
{
    return undo_coder_new(&writer->key, &writer->uuid);
}

void undo_record_seal(struct frame_coder *coder, uint64_t number, uint64_t chunk, const void *bytes,
                      size_t len, uint8_t ret_record[UNDO_RECORD_MAX], size_t *ret_len)
{
    const struct extent extent = {chunk * CHUNK_BYTES, len, false};

    frame_seal(coder, number, &extent, 1, bytes, len, ret_record, ret_len);
}

/* The record that stands at the end of the batch. */
static int keep_record(struct undo_writer *w, uint64_t chunk, size_t len, struct err *err)
{
    struct undo_row *row = undo_rows_push(&w->rows);

    *row = (struct undo_row){.chunk = chunk};
    if (len == 0)
        return 0;
    row->pos = w->written + w->batch_len;
    row->len = (uint32_t)len;
    row->crc = crc32c(0, w->batch + w->batch_len, len);
    w->batch_len += len;
    return w->batch_len < BATCH_BYTES ? 0 : flush_batch(w, err);
}

int undo_writer_add(struct undo_writer *writer, uint64_t chunk, const void *bytes, size_t len,
                    struct err *err)
{
    struct undo_writer *w = writer;
    size_t used = 0;

    if (!bytes_are_zero(bytes, len))
        undo_record_seal(w->coder, w->records++, chunk, bytes, len, w->batch + w->batch_len, &used);
    return keep_record(w, chunk, used, err);
}

int undo_writer_add_sealed(struct undo_writer *writer, uint64_t chunk, const uint8_t *record,
                           size_t len, struct err *err)
{
    if (len > 0)
        memcpy(writer->batch + writer->batch_len, record, len);
    return keep_record(writer, chunk, len, err);
}

void undo_writer_add_damaged(struct undo_writer *writer, uint64_t chunk)
{
    *undo_rows_push(&writer->rows) = (struct undo_row){.chunk = chunk, .pos = HEADER_BYTES};
}

static int write_table(struct undo_writer *w, struct err *err)
{
    size_t table_len = w->rows.len * ROW_BYTES;
    size_t len = table_len + FOOTER_BYTES;
    CLEANUP(mem_freep) uint8_t *bytes = mem_try_alloc(len, "undo table", err);

    if (!bytes || flush_batch(w, err) < 0)
        return -1;
    for (size_t i = 0; i < w->rows.len; i++) {
        const struct undo_row *row = &w->rows.at[i];
        uint8_t *to = bytes + i * ROW_BYTES;
        put_u64(to, row->chunk);
        put_u64(to + 8, row->pos);
        put_u32(to + 16, row->len);
        put_u32(to + 20, row->crc);
    }
    uint8_t *footer = bytes + table_len;
    put_u64(footer, FOOTER_MAGIC);
    put_u64(footer + 8, w->written);
    put_u64(footer + 16, w->rows.len);
    put_u32(footer + 24, crc32c(0, bytes, table_len));
    put_u32(footer + 60, crc32c(0, footer, 60));
    return w->fs->pwrite(w->fs, w->fd, bytes, len, w->written, err);
}

int undo_writer_seal(struct undo_writer *writer, struct err *err)
{
    if (!writer->sealed
        && (write_table(writer, err) < 0 || writer->fs->sync(writer->fs, writer->fd, err) < 0))
        return -1;
    writer->sealed = true;
    return 0;
}

int undo_writer_finish(struct undo_writer *writer, struct err *err)
{
    struct undo_writer *w = writer;
    const char *slash = strrchr(w->path, '/');
    CLEANUP(mem_freep)
    char *dir = slash ? mem_printf("%.*s", (int)(slash - w->path), w->path) : mem_strdup(".");

    if (undo_writer_seal(w, err) < 0 || w->fs->rename(w->fs, w->tmp, w->path, err) < 0)
        return -1;
    w->finished = true;
    return w->fs->sync_dir(w->fs, dir, err);
}

void undo_writer_free(struct undo_writer *writer)
{
    struct err ignored;

    if (!writer)
        return;
    if (writer->fd >= 0) {
        (void)writer->fs->close(writer->fs, writer->fd);
        if (!writer->finished)
            (void)writer->fs->unlink(writer->fs, writer->tmp, &ignored);
    }
    key_wipe(&writer->key);
    frame_coder_free(writer->coder);
    undo_rows_free(&writer->rows);
    free(writer->batch);
    free(writer->path);
    free(writer->tmp);
    free(writer);
}

void undo_writer_freep(struct undo_writer **writer)
{
    undo_writer_free(*writer);
    *writer = NULL;
}

/* --- Reading ----------------------------------------------------------------------------- */

static int damaged(const char *path, const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, 0,
                   "%s: damaged %s; hint: points at and before this one cannot be shown, later ones"
                   " can",
                   path, what);
}

static int read_header(struct undo *u, struct err *err)
{
    struct fs *fs = fs_real();
    uint8_t header[HEADER_BYTES];

    if (fs->pread(fs, u->fd, header, sizeof(header), 0, err) < 0)
        return -1;
    if (get_u64(header) != HEADER_MAGIC || get_u32(header + 252) != crc32c(0, header, 252))
        return damaged(u->path, "header", err);
    if (get_u32(header + 8) != VERSION)
        return err_set(err, ERR_UNSUPPORTED, 0, "%s: version %u, this build reads %u", u->path,
                       get_u32(header + 8), VERSION);
    u->point = get_u64(header + 16);
    u->disk_size = get_u64(header + 24);
    memcpy(u->uuid.bytes, header + 32, UUID_BYTES);
    memcpy(u->disk, header + 48, sizeof(u->disk) - 1);
    return 0;
}

static int parse_rows(struct undo *u, const uint8_t *bytes, uint64_t table_off, struct err *err)
{
    uint64_t chunks = chunk_count(u->disk_size);

    for (size_t i = 0; i < u->row_count; i++) {
        const uint8_t *at = bytes + i * ROW_BYTES;
        struct undo_row row = {get_u64(at), get_u64(at + 8), get_u32(at + 16), get_u32(at + 20)};
        if ((row.chunk >= chunks && row.pos) || (i > 0 && row.chunk <= u->rows[i - 1].chunk))
            return damaged(u->path, "table", err);
        if (row.pos
            && (row.pos < HEADER_BYTES || row.len > UNDO_RECORD_MAX || row.pos > table_off
                || row.len > table_off - row.pos))
            return damaged(u->path, "table", err);
        u->rows[i] = row;
    }
    return 0;
}

static int read_table(struct undo *u, struct err *err)
{
    struct fs *fs = fs_real();
    uint8_t footer[FOOTER_BYTES];
    struct stat st;

    if (fstat(u->fd, &st) < 0 || (uint64_t)st.st_size < HEADER_BYTES + FOOTER_BYTES)
        return damaged(u->path, "file, it is too short", err);
    uint64_t end = (uint64_t)st.st_size - FOOTER_BYTES;
    if (fs->pread(fs, u->fd, footer, sizeof(footer), end, err) < 0)
        return -1;
    uint64_t table_off = get_u64(footer + 8);
    uint64_t count = get_u64(footer + 16);
    if (get_u64(footer) != FOOTER_MAGIC || get_u32(footer + 60) != crc32c(0, footer, 60)
        || table_off < HEADER_BYTES || table_off > end || (end - table_off) % ROW_BYTES
        || (end - table_off) / ROW_BYTES != count)
        return damaged(u->path, "footer", err);
    size_t len = (size_t)(end - table_off);
    CLEANUP(mem_freep) uint8_t *bytes = mem_try_alloc(len + 1, "undo table", err);
    if (!bytes)
        return -1;
    u->rows = mem_try_alloc((size_t)count * sizeof(*u->rows) + 1, "undo rows", err);
    if (!u->rows)
        return -1;
    u->row_count = (size_t)count;
    if (len > 0 && fs->pread(fs, u->fd, bytes, len, table_off, err) < 0)
        return -1;
    if (crc32c(0, bytes, len) != get_u32(footer + 24))
        return damaged(u->path, "table", err);
    return parse_rows(u, bytes, table_off, err);
}

int undo_open(const char *path, struct undo **ret_undo, struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(undo_freep) struct undo *u = mem_new(struct undo);

    u->fd = -1;
    u->path = mem_strdup(path);
    if (fs->open(fs, path, O_RDONLY, 0, &u->fd, err) < 0 || read_header(u, err) < 0
        || read_table(u, err) < 0)
        return -1;
    *ret_undo = TAKE(u);
    return 0;
}

int undo_check_head(const struct undo *undo, const struct undo_head *want, struct err *err)
{
    /* The disk may have had another size at that point. */
    if (str_eq(undo->disk, want->disk) && undo->point == want->point && undo->disk_size % 512 == 0)
        return 0;
    return err_set(err, ERR_CORRUPT, 0,
                   "%s: of point %" PRIu64 " and disk %s of %" PRIu64
                   " bytes, not of point %" PRIu64 " and disk %s of %" PRIu64,
                   undo->path, undo->point, undo->disk, undo->disk_size, want->point, want->disk,
                   want->disk_size);
}

const struct undo_row *undo_find(const struct undo *undo, uint64_t chunk)
{
    size_t low = 0;
    size_t high = undo->row_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (undo->rows[middle].chunk < chunk)
            low = middle + 1;
        else
            high = middle;
    }
    return low < undo->row_count && undo->rows[low].chunk == chunk ? &undo->rows[low] : NULL;
}

bool undo_row_is_damaged(const struct undo_row *row)
{
    return row->pos != 0 && row->len == 0;
}

void undo_free(struct undo *undo)
{
    if (!undo)
        return;
    fd_close(&undo->fd);
    free(undo->rows);
    free(undo->path);
    free(undo);
}

void undo_freep(struct undo **undo)
{
    undo_free(*undo);
    *undo = NULL;
}

int undo_record_read(int fd, const char *path, struct frame_coder *coder,
                     const struct undo_row *row, uint64_t disk_size, void *buf, struct err *err)
{
    struct fs *fs = fs_real();
    uint8_t record[UNDO_RECORD_MAX];
    struct frame_view view;

    if (row->pos == 0) {
        memset(buf, 0,
               row->chunk < chunk_count(disk_size) ? chunk_len(disk_size, row->chunk)
                                                   : CHUNK_BYTES);
        return 0;
    }
    if (undo_row_is_damaged(row))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: chunk %" PRIu64 " was damaged before it was saved here; hint: points at"
                       " and before this one cannot be shown, later ones can",
                       path, row->chunk);
    size_t len = chunk_len(disk_size, row->chunk);
    if (fs->pread(fs, fd, record, row->len, row->pos, err) < 0)
        return -1;
    /* The record's number stands in it; the tag covers it. */
    if (row->len < FRAME_HEADER_BYTES || crc32c(0, record, row->len) != row->crc
        || frame_open(coder, get_u64(record + 8), record, row->len, &view, err) < 0
        || view.extent_count != 1 || view.extents[0].off != row->chunk * CHUNK_BYTES
        || view.extents[0].zero || view.payload_len != len)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: the record of chunk %" PRIu64 " at %" PRIu64 " is damaged; hint: points"
                       " at and before this one cannot be shown, later ones can",
                       path, row->chunk, row->pos);
    memcpy(buf, view.payload, len);
    return 0;
}
