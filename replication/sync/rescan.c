// SPDX-License-Identifier: Apache-2.0
/* Per disk two files:
 *
 *   DISK.data   sparse; a chunk's bytes stand at its offset
 *   DISK.list   batches, numbers little endian: count (4) | CRC-32C of the numbers (4) |
 *               count numbers (8): chunk * 2 + 1 if it is all zeros now; above 2^48 a bit for each
 *               block of the chunk that differs, none: all of them
 *
 * A batch is written after the data of its chunks is durable. The first batch that is not whole
 * ends the list. */
#include "sync/rescan.h"

#include "base/mem.h"
#include "base/vec.h"
#include "replica/chunk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FOLDER     "rescan"
#define BATCH_HEAD 8u
#define BATCH_MAX  (1u << 20)
#define RUN_BYTES  (16u * CHUNK_BYTES) /* read and handed to the writer in one go */
#define MASK_SHIFT 48
#define MASK_ALL   0xffffu
#define PAGE       4096u /* chunks whose masks are kept together */

VEC_DEFINE(rescan_numbers, uint64_t)

struct rescan_disk {
    uint64_t size;
    uint64_t chunks;
    uint8_t *differs; /* a bit per chunk */
    uint8_t *zero;
    uint16_t *
        *masks; /* pages of PAGE, made when one in it is not MASK_ALL: inverted, so 0 is all */
    uint64_t bytes;
    int data;
    int list;
    uint64_t list_end;
    struct rescan_numbers unsaved;
};

struct rescan {
    struct rescan_disk *disks;
    size_t count;
};

static bool bit_get(const uint8_t *bits, uint64_t i)
{
    return (bits[i / 8] >> (i % 8) & 1) != 0;
}

static void bit_set(uint8_t *bits, uint64_t i, bool on)
{
    uint8_t mask = (uint8_t)(1u << (i % 8));

    bits[i / 8] = on ? (uint8_t)(bits[i / 8] | mask) : (uint8_t)(bits[i / 8] & ~mask);
}

static uint16_t mask_get(const struct rescan_disk *d, uint64_t chunk)
{
    const uint16_t *page = d->masks[chunk / PAGE];

    return page ? (uint16_t)~page[chunk % PAGE] : MASK_ALL;
}

static void mask_set(struct rescan_disk *d, uint64_t chunk, uint16_t mask)
{
    uint16_t **page = &d->masks[chunk / PAGE];

    if (!*page && mask == MASK_ALL)
        return;
    if (!*page)
        *page = mem_new_array(uint16_t, PAGE);
    (*page)[chunk % PAGE] = (uint16_t)~mask;
}

static uint64_t bytes_of(const struct rescan_disk *d, uint64_t chunk, uint16_t mask)
{
    size_t len = chunk_len(d->size, chunk);
    uint64_t bytes = 0;

    for (size_t i = 0; i * BLOCK_BYTES < len; i++)
        if (mask >> i & 1)
            bytes += len - i * BLOCK_BYTES < BLOCK_BYTES ? len - i * BLOCK_BYTES : BLOCK_BYTES;
    return bytes;
}

static void mark(struct rescan_disk *d, uint64_t chunk, bool zero, uint16_t mask)
{
    if (bit_get(d->differs, chunk))
        d->bytes -= bytes_of(d, chunk, mask_get(d, chunk));
    d->bytes += bytes_of(d, chunk, mask);
    bit_set(d->differs, chunk, true);
    bit_set(d->zero, chunk, zero);
    mask_set(d, chunk, mask);
}

static uint64_t get(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static void put(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* --- Open and close -------------------------------------------------------------------------- */

static int read_list(struct rescan_disk *d, struct err *err)
{
    struct fs *fs = fs_real();
    struct stat st;
    uint8_t head[BATCH_HEAD];

    if (fstat(d->list, &st) < 0)
        return err_set(err, ERR_IO, errno, "list of a rescan");
    while ((uint64_t)st.st_size - d->list_end >= BATCH_HEAD) {
        if (fs->pread(fs, d->list, head, sizeof(head), d->list_end, err) < 0)
            return -1;
        uint64_t count = get(head, 4);
        if (count == 0 || count > BATCH_MAX
            || count * 8 > (uint64_t)st.st_size - d->list_end - BATCH_HEAD)
            break;
        CLEANUP(mem_freep) uint8_t *numbers = mem_alloc(count, 8);
        if (fs->pread(fs, d->list, numbers, count * 8, d->list_end + BATCH_HEAD, err) < 0)
            return -1;
        if (crc32c(0, numbers, count * 8) != get(head + 4, 4))
            break;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t entry = get(numbers + 8 * i, 8);
            uint64_t number = entry & ((UINT64_C(1) << MASK_SHIFT) - 1);
            uint16_t mask = (uint16_t)(entry >> MASK_SHIFT);
            if (number / 2 < d->chunks)
                mark(d, number / 2, number % 2 != 0, mask ? mask : MASK_ALL);
        }
        d->list_end += BATCH_HEAD + count * 8;
    }
    return 0;
}

static int open_disk(struct rescan_disk *d, const char *folder, const struct store_disk *disk,
                     struct err *err)
{
    CLEANUP(mem_freep) char *data = mem_printf("%s/%s.data", folder, disk->name);
    CLEANUP(mem_freep) char *list = mem_printf("%s/%s.list", folder, disk->name);
    struct fs *fs = fs_real();

    d->size = disk->size;
    d->chunks = chunk_count(disk->size);
    d->differs = mem_alloc(d->chunks / 8 + 1, 1);
    d->zero = mem_alloc(d->chunks / 8 + 1, 1);
    d->masks = mem_new_array(uint16_t *, d->chunks / PAGE + 1);
    if (fs->open(fs, data, O_CREAT | O_RDWR | O_CLOEXEC, 0600, &d->data, err) < 0
        || fs->open(fs, list, O_CREAT | O_RDWR | O_CLOEXEC, 0600, &d->list, err) < 0)
        return -1;
    return read_list(d, err);
}

int rescan_open(const char *dir, const struct store_disks *disks, bool resume,
                struct rescan **ret_rescan, struct err *err)
{
    CLEANUP(rescan_closep) struct rescan *r = mem_new(struct rescan);
    CLEANUP(mem_freep) char *folder = path_join(dir, FOLDER);
    struct fs *fs = fs_real();

    r->disks = mem_new_array(struct rescan_disk, disks->len + 1);
    for (size_t i = 0; i < disks->len; i++)
        r->disks[i].data = r->disks[i].list = -1;
    r->count = disks->len;
    if (!resume && rescan_remove(dir, err) < 0)
        return -1;
    if (fs_make_dirs(fs, folder, 0700, err) < 0)
        return -1;
    for (size_t i = 0; i < disks->len; i++)
        if (open_disk(&r->disks[i], folder, &disks->at[i], err) < 0)
            return -1;
    if (fs->sync_dir(fs, folder, err) < 0)
        return -1;
    *ret_rescan = TAKE(r);
    return 0;
}

static void drop_masks(struct rescan_disk *d)
{
    for (uint64_t i = 0; d->masks && i <= d->chunks / PAGE; i++)
        free(TAKE(d->masks[i]));
}

void rescan_close(struct rescan *rescan)
{
    if (!rescan)
        return;
    for (size_t i = 0; i < rescan->count; i++) {
        struct rescan_disk *d = &rescan->disks[i];
        fd_close(&d->data);
        fd_close(&d->list);
        rescan_numbers_free(&d->unsaved);
        free(d->differs);
        free(d->zero);
        drop_masks(d);
        free(d->masks);
    }
    free(rescan->disks);
    free(rescan);
}

void rescan_closep(struct rescan **rescan)
{
    rescan_close(*rescan);
    *rescan = NULL;
}

int rescan_remove(const char *dir, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(dir, FOLDER);

    return fs_remove_tree(fs_real(), folder, err);
}

/* --- Finding --------------------------------------------------------------------------------- */

int rescan_put(struct rescan *rescan, size_t disk, uint64_t chunk, const void *bytes,
               struct err *err)
{
    struct rescan_disk *d = &rescan->disks[disk];
    struct fs *fs = fs_real();

    if (bytes
        && fs->pwrite(fs, d->data, bytes, chunk_len(d->size, chunk), chunk * CHUNK_BYTES, err) < 0)
        return err_wrap(err, "keep what a rescan found");
    mark(d, chunk, !bytes, MASK_ALL);
    *rescan_numbers_push(&d->unsaved) = chunk;
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

uint64_t *rescan_fresh(const struct rescan *rescan, size_t disk, size_t *ret_count)
{
    const struct rescan_disk *d = &rescan->disks[disk];
    uint64_t *chunks = mem_new_array(uint64_t, d->unsaved.len + 1);
    size_t count = 0;

    for (size_t i = 0; i < d->unsaved.len; i++)
        if (!bit_get(d->zero, d->unsaved.at[i]))
            chunks[count++] = d->unsaved.at[i];
    qsort(chunks, count, sizeof(*chunks), by_number);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || chunks[i] != chunks[kept - 1])
            chunks[kept++] = chunks[i];
    *ret_count = kept;
    return chunks;
}

int rescan_read(struct rescan *rescan, size_t disk, uint64_t chunk, void *buf, struct err *err)
{
    struct rescan_disk *d = &rescan->disks[disk];
    struct fs *fs = fs_real();

    return fs->pread(fs, d->data, buf, chunk_len(d->size, chunk), chunk * CHUNK_BYTES, err);
}

void rescan_narrow(struct rescan *rescan, size_t disk, uint64_t chunk, uint16_t mask)
{
    struct rescan_disk *d = &rescan->disks[disk];

    mark(d, chunk, bit_get(d->zero, chunk), mask);
}

bool rescan_has(const struct rescan *rescan, size_t disk, uint64_t chunk)
{
    return bit_get(rescan->disks[disk].differs, chunk);
}

int rescan_restart(struct rescan *rescan, size_t disk, struct err *err)
{
    struct rescan_disk *d = &rescan->disks[disk];
    struct fs *fs = fs_real();

    memset(d->differs, 0, d->chunks / 8 + 1);
    memset(d->zero, 0, d->chunks / 8 + 1);
    drop_masks(d);
    d->bytes = 0;
    d->list_end = 0;
    rescan_numbers_clear(&d->unsaved);
    if (fs->truncate(fs, d->list, 0, err) < 0 || fs->sync(fs, d->list, err) < 0)
        return -1;
    return fs->truncate(fs, d->data, 0, err);
}

/* As it is by now: a chunk may have been put twice. */
static uint64_t entry_of(const struct rescan_disk *d, uint64_t chunk)
{
    uint16_t mask = mask_get(d, chunk);

    return chunk * 2 + (bit_get(d->zero, chunk) ? 1 : 0)
           + (mask == MASK_ALL ? 0 : (uint64_t)mask << MASK_SHIFT);
}

int rescan_sync(struct rescan *rescan, size_t disk, struct err *err)
{
    struct rescan_disk *d = &rescan->disks[disk];
    struct fs *fs = fs_real();

    uint64_t end = d->list_end;

    if (d->unsaved.len == 0)
        return 0;
    if (fs->sync(fs, d->data, err) < 0)
        return -1;
    for (size_t from = 0; from < d->unsaved.len;) {
        size_t count = d->unsaved.len - from < BATCH_MAX ? d->unsaved.len - from : BATCH_MAX;
        CLEANUP(mem_freep) uint8_t *batch = mem_alloc(BATCH_HEAD + count * 8, 1);
        for (size_t i = 0; i < count; i++)
            put(batch + BATCH_HEAD + 8 * i, entry_of(d, d->unsaved.at[from + i]), 8);
        put(batch, count, 4);
        put(batch + 4, crc32c(0, batch + BATCH_HEAD, count * 8), 4);
        if (fs->pwrite(fs, d->list, batch, BATCH_HEAD + count * 8, end, err) < 0)
            return -1;
        end += BATCH_HEAD + count * 8;
        from += count;
    }
    if (fs->sync(fs, d->list, err) < 0) {
        /* What may not be there must not be found, and built on. */
        (void)fs->truncate(fs, d->list, d->list_end, NULL);
        return -1;
    }
    d->list_end = end;
    rescan_numbers_clear(&d->unsaved);
    return 0;
}

uint64_t rescan_bytes(const struct rescan *rescan, size_t disk)
{
    return rescan->disks[disk].bytes;
}

/* --- Becoming a segment ---------------------------------------------------------------------- */

/* Where in the list of what is skipped a walk over the disk is. */
struct skipper {
    const struct source_extents *extents;
    size_t at;
};

static bool is_skipped(struct skipper *s, uint64_t off, uint64_t len)
{
    while (s->extents && s->at < s->extents->len) {
        const struct source_extent *e = &s->extents->at[s->at];
        if (e->off + e->len > off)
            return e->off <= off && off + len <= e->off + e->len;
        s->at++;
    }
    return false;
}

/* Neighbouring blocks that are written in one go. */
struct run {
    uint64_t off;
    uint64_t len;
    bool zero;
};

struct writing {
    struct rescan_disk *disk;
    struct segment_writer *writer;
    struct run run;
    uint8_t *buf; /* RUN_BYTES */
};

static int write_run(struct writing *w, struct err *err)
{
    struct run run = w->run;
    struct fs *fs = fs_real();

    w->run.len = 0;
    if (run.len == 0)
        return 0;
    if (run.zero)
        return segment_writer_zero(w->writer, run.off, run.len, err);
    if (fs->pread(fs, w->disk->data, w->buf, (size_t)run.len, run.off, err) < 0)
        return -1;
    return segment_writer_data(w->writer, run.off, w->buf, (size_t)run.len, err);
}

static int add_block(struct writing *w, uint64_t off, uint64_t len, bool zero, struct err *err)
{
    bool fits = w->run.len > 0 && w->run.off + w->run.len == off && w->run.zero == zero
                && (zero || w->run.len + len <= RUN_BYTES);

    if (!fits && write_run(w, err) < 0)
        return -1;
    if (!fits)
        w->run = (struct run){off, 0, zero};
    w->run.len += len;
    return 0;
}

static int write_chunk(struct writing *w, uint64_t chunk, struct skipper *skip, struct err *err)
{
    const struct rescan_disk *d = w->disk;
    uint64_t end = chunk * CHUNK_BYTES + chunk_len(d->size, chunk);
    uint16_t mask = mask_get(d, chunk);
    bool zero = bit_get(d->zero, chunk);
    uint64_t off = chunk * CHUNK_BYTES;

    for (unsigned i = 0; off < end; i++, off += BLOCK_BYTES) {
        uint64_t len = end - off < BLOCK_BYTES ? end - off : BLOCK_BYTES;
        if ((mask >> i & 1) && !is_skipped(skip, off, len) && add_block(w, off, len, zero, err) < 0)
            return -1;
    }
    return 0;
}

int rescan_write(struct rescan *rescan, size_t disk, const struct source_extents *skip,
                 struct segment_writer *writer, struct err *err)
{
    struct rescan_disk *d = &rescan->disks[disk];
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(RUN_BYTES, 1);
    struct writing w = {.disk = d, .writer = writer, .buf = buf};
    struct skipper skipper = {.extents = skip};

    for (uint64_t chunk = 0; chunk < d->chunks; chunk++)
        if (bit_get(d->differs, chunk) && write_chunk(&w, chunk, &skipper, err) < 0)
            return -1;
    return write_run(&w, err);
}
