// SPDX-License-Identifier: Apache-2.0
/* Two files, numbers little endian:
 *
 *   digests      header: magic "MDIG" | version 1 | disks | reserved, 4 bytes each
 *                        point (8) | hash of its manifest (32)
 *                        per disk: name (64, zero-padded) | size (8)
 *                        CRC-32C of all above (4) | reserved (4)
 *                table:  per disk, 16 bytes per 64 KiB chunk
 *   digests.log  what changed since, a record per point:
 *                        magic "MDLG" | body's bytes | CRC-32C of the body | reserved, 4 bytes each
 *                body:   from point (8) | hash (32) | to point (8) | hash (32)
 *                        entries: disk (4) | reserved (4) | chunk (8) | digest (16)
 *
 * `digests` is replaced atomically, and is its table plus the records of the log that follow one
 * from the other beginning at its point; the first record that does not fit or whose CRC is wrong
 * ends the log. So an applied point costs what changed in it, and nothing is synced for it. A log
 * longer than the table is folded into a new table. */
#include "sync/digests.h"

#include "base/fs.h"
#include "base/mem.h"
#include "replica/chunk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TABLE_MAGIC  0x4749444du
#define RECORD_MAGIC 0x474c444du
#define TIP_BYTES    (8u + SHA256_BYTES)
#define DISK_BYTES   (NAME_MAX_BYTES + 8u)
#define PREFIX_BYTES 16u
#define RECORD_HEAD  (PREFIX_BYTES + 2 * TIP_BYTES)
#define ENTRY_BYTES  32u
#define DISKS_MAX    64u
#define RECORD_MAX   (256u * 1024u * 1024u)
#define LOG_FREE     (1024u * 1024u) /* a log up to here is never too long */
#define BATCH        65536u

struct digests_writer {
    char *dir;
    char *path;
    char *tmp;
    int fd;
    struct store_disks disks;
    uint64_t off;
};

struct digests {
    int fd;
    uint64_t starts[DISKS_MAX];
    uint64_t counts[DISKS_MAX];
};

static void put(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static void put_tip(uint8_t *at, const struct digests_tip *tip)
{
    put(at, tip->point, 8);
    memcpy(at + 8, tip->hash.bytes, SHA256_BYTES);
}

static void get_tip(const uint8_t *at, struct digests_tip *ret_tip)
{
    ret_tip->point = get(at, 8);
    memcpy(ret_tip->hash.bytes, at + 8, SHA256_BYTES);
}

static bool same_tip(const struct digests_tip *a, const struct digests_tip *b)
{
    return a->point == b->point && memcmp(a->hash.bytes, b->hash.bytes, SHA256_BYTES) == 0;
}

static size_t header_bytes(size_t disks)
{
    return PREFIX_BYTES + TIP_BYTES + disks * DISK_BYTES + 8;
}

static uint64_t table_bytes(const struct store_disks *disks)
{
    uint64_t total = 0;

    VEC_FOREACH(disk, disks)
        total += chunk_count(disk->size) * DIGEST_BYTES;
    return total;
}

static uint8_t *make_header(const struct store_disks *disks, const struct digests_tip *tip)
{
    size_t len = header_bytes(disks->len);
    uint8_t *header = mem_alloc(len, 1);
    uint8_t *at = header + PREFIX_BYTES;

    put(header, TABLE_MAGIC, 4);
    put(header + 4, 1, 4);
    put(header + 8, disks->len, 4);
    put_tip(at, tip);
    at += TIP_BYTES;
    VEC_FOREACH(disk, disks) {
        memcpy(at, disk->name, strlen(disk->name));
        put(at + NAME_MAX_BYTES, disk->size, 8);
        at += DISK_BYTES;
    }
    put(at, crc32c(0, header, len - 8), 4);
    return header;
}

/* --- A new table ----------------------------------------------------------------------------- */

int digests_writer_open(const char *dir, const struct store_disks *disks,
                        struct digests_writer **ret_writer, struct err *err)
{
    CLEANUP(digests_writer_freep) struct digests_writer *w = mem_new(struct digests_writer);
    struct fs *fs = fs_real();

    assert(disks->len <= DISKS_MAX);
    w->fd = -1;
    w->dir = mem_strdup(dir);
    w->path = path_join(dir, "digests");
    w->tmp = path_join(dir, "digests.tmp");
    VEC_FOREACH(disk, disks)
        *store_disks_push(&w->disks) = *disk;
    w->off = header_bytes(disks->len);
    if (fs->open(fs, w->tmp, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600, &w->fd, err) < 0)
        return -1;
    *ret_writer = TAKE(w);
    return 0;
}

int digests_writer_add(struct digests_writer *writer, const struct digest *digests, size_t count,
                       struct err *err)
{
    struct fs *fs = fs_real();

    if (fs->pwrite(fs, writer->fd, digests, count * DIGEST_BYTES, writer->off, err) < 0)
        return err_wrap(err, "%s", writer->tmp);
    writer->off += count * DIGEST_BYTES;
    return 0;
}

int digests_writer_commit(struct digests_writer *writer, const struct digests_tip *tip,
                          struct err *err)
{
    CLEANUP(mem_freep) uint8_t *header = make_header(&writer->disks, tip);
    CLEANUP(mem_freep) char *log = path_join(writer->dir, "digests.log");
    size_t len = header_bytes(writer->disks.len);
    struct fs *fs = fs_real();

    assert(writer->off == len + table_bytes(&writer->disks));
    if (fs->pwrite(fs, writer->fd, header, len, 0, err) < 0 || fs->sync(fs, writer->fd, err) < 0
        || fs->rename(fs, writer->tmp, writer->path, err) < 0)
        return err_wrap(err, "%s", writer->path);
    /* An old log begins at a point that this table is beyond, or does not know: either way its
     * records do not fit. So the order of the two does not matter. */
    if (fs_exists(log) && fs->unlink(fs, log, err) < 0)
        return -1;
    return fs->sync_dir(fs, writer->dir, err);
}

void digests_writer_free(struct digests_writer *writer)
{
    if (!writer)
        return;
    fd_close(&writer->fd);
    store_disks_free(&writer->disks);
    free(writer->dir);
    free(writer->path);
    free(writer->tmp);
    free(writer);
}

void digests_writer_freep(struct digests_writer **writer)
{
    digests_writer_free(*writer);
    *writer = NULL;
}

/* --- Reading what is there ------------------------------------------------------------------- */

static int not_here(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, 0, "no copy of the digests at this point");
}

/* Opens the table if it is whole and for these disks. */
static int open_table(const char *dir, const struct store_disks *disks, int flags, int *ret_fd,
                      struct digests_tip *ret_tip, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "digests");
    CLEANUP(fd_close) int fd = -1;
    CLEANUP(mem_freep) uint8_t *header = NULL;
    CLEANUP(mem_freep) uint8_t *want = NULL;
    size_t len = header_bytes(disks->len);
    struct fs *fs = fs_real();
    struct stat st;

    if (fs->open(fs, path, flags | O_CLOEXEC, 0, &fd, err) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s", path);
    if ((uint64_t)st.st_size != len + table_bytes(disks))
        return not_here(err);
    header = mem_alloc(len, 1);
    if (fs->pread(fs, fd, header, len, 0, err) < 0)
        return err_wrap(err, "%s", path);
    get_tip(header + PREFIX_BYTES, ret_tip);
    want = make_header(disks, ret_tip);
    if (memcmp(want, header, len) != 0)
        return not_here(err);
    *ret_fd = fd;
    fd = -1;
    return 0;
}

/* Follows the log from `tip` on; each record's entries go to `each` (may be NULL). `ret_end` is
 * the offset behind the last record that fits. */
typedef int entry_fn(void *ctx, uint32_t disk, uint64_t chunk, const uint8_t *digest,
                     struct err *err);

static int read_record(int fd, uint64_t off, uint64_t size, uint8_t **ret_record, size_t *ret_len,
                       struct err *err)
{
    struct fs *fs = fs_real();
    uint8_t prefix[PREFIX_BYTES];

    *ret_record = NULL;
    if (size - off < RECORD_HEAD)
        return 0;
    if (fs->pread(fs, fd, prefix, sizeof(prefix), off, err) < 0)
        return -1;
    uint64_t body = get(prefix + 4, 4);
    if (get(prefix, 4) != RECORD_MAGIC || body < 2 * TIP_BYTES || body > RECORD_MAX
        || body > size - off - PREFIX_BYTES || (body - 2 * TIP_BYTES) % ENTRY_BYTES != 0)
        return 0;
    CLEANUP(mem_freep) uint8_t *record = mem_try_alloc(PREFIX_BYTES + body, "digests' log", err);
    if (!record || fs->pread(fs, fd, record, PREFIX_BYTES + body, off, err) < 0)
        return -1;
    if (crc32c(0, record + PREFIX_BYTES, body) != get(prefix + 8, 4))
        return 0;
    *ret_len = PREFIX_BYTES + body;
    *ret_record = TAKE(record);
    return 0;
}

static int follow_log(const char *dir, struct digests_tip *tip, entry_fn *each, void *ctx,
                      uint64_t *ret_end, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "digests.log");
    CLEANUP(fd_close) int fd = -1;
    struct fs *fs = fs_real();
    struct stat st;
    uint64_t off = 0;

    *ret_end = 0;
    if (!fs_exists(path))
        return 0;
    if (fs->open(fs, path, O_RDONLY | O_CLOEXEC, 0, &fd, err) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s", path);
    for (;;) {
        CLEANUP(mem_freep) uint8_t *record = NULL;
        struct digests_tip from;
        size_t len = 0;

        if (read_record(fd, off, (uint64_t)st.st_size, &record, &len, err) < 0)
            return err_wrap(err, "%s", path);
        if (!record)
            break;
        get_tip(record + PREFIX_BYTES, &from);
        if (!same_tip(&from, tip))
            break;
        for (size_t at = RECORD_HEAD; each && at < len; at += ENTRY_BYTES)
            if (each(ctx, (uint32_t)get(record + at, 4), get(record + at + 8, 8), record + at + 16,
                     err)
                < 0)
                return -1;
        get_tip(record + PREFIX_BYTES + TIP_BYTES, tip);
        off += len;
    }
    *ret_end = off;
    return 0;
}

/* --- Moving on --------------------------------------------------------------------------- */

static void lay_out(const struct store_disks *disks, struct digests *d)
{
    uint64_t at = header_bytes(disks->len);

    for (size_t i = 0; i < disks->len; i++) {
        d->starts[i] = at;
        d->counts[i] = chunk_count(disks->at[i].size);
        at += d->counts[i] * DIGEST_BYTES;
    }
}

static uint8_t *make_record(const struct digests_tip *from, const struct digests_tip *to,
                            const struct store_disks *disks, const struct store_digests *changed,
                            size_t *ret_len)
{
    size_t entries = 0;

    for (size_t i = 0; i < disks->len; i++)
        entries += changed[i].len;
    size_t len = RECORD_HEAD + entries * ENTRY_BYTES;
    uint8_t *record = mem_alloc(len, 1);
    uint8_t *at = record + RECORD_HEAD;
    put_tip(record + PREFIX_BYTES, from);
    put_tip(record + PREFIX_BYTES + TIP_BYTES, to);
    for (size_t i = 0; i < disks->len; i++)
        VEC_FOREACH(digest, &changed[i]) {
            put(at, i, 4);
            put(at + 8, digest->chunk, 8);
            memcpy(at + 16, digest->digest.bytes, DIGEST_BYTES);
            at += ENTRY_BYTES;
        }
    put(record, RECORD_MAGIC, 4);
    put(record + 4, len - PREFIX_BYTES, 4);
    put(record + 8, crc32c(0, record + PREFIX_BYTES, len - PREFIX_BYTES), 4);
    *ret_len = len;
    return record;
}

struct fold {
    struct digests_writer *writer;
    struct digests layout;
    size_t disks;
};

static int fold_entry(void *ctx, uint32_t disk, uint64_t chunk, const uint8_t *digest,
                      struct err *err)
{
    const struct fold *fold = ctx;
    struct fs *fs = fs_real();

    if (disk >= fold->disks || chunk >= fold->layout.counts[disk])
        return 0; /* no chunk of ours */
    return fs->pwrite(fs, fold->writer->fd, digest, DIGEST_BYTES,
                      fold->layout.starts[disk] + chunk * DIGEST_BYTES, err);
}

/* A new table out of the old one and the log. */
static int fold_log(const char *dir, const struct store_disks *disks, int table,
                    struct digests_tip tip, struct err *err)
{
    CLEANUP(digests_writer_freep) struct digests_writer *writer = NULL;
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(BATCH, DIGEST_BYTES);
    uint64_t left = table_bytes(disks);
    struct fs *fs = fs_real();
    uint64_t end;

    if (digests_writer_open(dir, disks, &writer, err) < 0)
        return -1;
    while (left > 0) {
        size_t n = left < BATCH * DIGEST_BYTES ? (size_t)left : BATCH * DIGEST_BYTES;
        if (fs->pread(fs, table, buf, n, writer->off, err) < 0
            || fs->pwrite(fs, writer->fd, buf, n, writer->off, err) < 0)
            return -1;
        writer->off += n;
        left -= n;
    }
    struct fold fold = {.writer = writer, .disks = disks->len};
    lay_out(disks, &fold.layout);
    if (follow_log(dir, &tip, fold_entry, &fold, &end, err) < 0)
        return -1;
    return digests_writer_commit(writer, &tip, err);
}

static int find_end(const char *dir, const struct store_disks *disks, struct digests_end *end,
                    struct err *err)
{
    CLEANUP(fd_close) int table = -1;
    struct digests_end found = {.known = true};

    if (end->known)
        return 0;
    if (open_table(dir, disks, O_RDONLY, &table, &found.tip, err) < 0
        || follow_log(dir, &found.tip, NULL, NULL, &found.off, err) < 0)
        return -1;
    *end = found;
    return 0;
}

int digests_append(const char *dir, const struct digests_tip *from, const struct digests_tip *to,
                   const struct store_disks *disks, const struct store_digests *changed,
                   struct digests_end *end, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "digests.log");
    CLEANUP(fd_close) int table = -1;
    CLEANUP(fd_close) int log = -1;
    struct fs *fs = fs_real();
    struct digests_tip table_tip;
    size_t len;

    if (find_end(dir, disks, end, err) < 0)
        return -1;
    if (!same_tip(&end->tip, from))
        return not_here(err);
    CLEANUP(mem_freep) uint8_t *record = make_record(from, to, disks, changed, &len);
    uint64_t off = end->off;
    end->known = false;
    if (fs->open(fs, path, O_CREAT | O_RDWR | O_CLOEXEC, 0600, &log, err) < 0
        || fs->truncate(fs, log, off, err) < 0 || fs->pwrite(fs, log, record, len, off, err) < 0)
        return err_wrap(err, "%s", path);
    if (off + len > LOG_FREE && off + len > table_bytes(disks)) {
        if (open_table(dir, disks, O_RDONLY, &table, &table_tip, err) < 0)
            return -1;
        return fold_log(dir, disks, table, table_tip, err);
    }
    *end = (struct digests_end){.known = true, .tip = *to, .off = off + len};
    return 0;
}

int digests_open(const char *dir, const struct store_disks *disks, const struct digests_tip *tip,
                 struct digests **ret_digests, struct err *err)
{
    CLEANUP(digests_closep) struct digests *d = mem_new(struct digests);
    struct digests_tip table_tip;
    struct digests_tip at;
    uint64_t end;

    d->fd = -1;
    if (open_table(dir, disks, O_RDONLY, &d->fd, &table_tip, err) < 0)
        return -1;
    at = table_tip;
    if (follow_log(dir, &at, NULL, NULL, &end, err) < 0)
        return -1;
    if (!same_tip(&at, tip))
        return not_here(err);
    if (end > 0) {
        if (fold_log(dir, disks, d->fd, table_tip, err) < 0)
            return -1;
        fd_close(&d->fd);
        if (open_table(dir, disks, O_RDONLY, &d->fd, &table_tip, err) < 0)
            return -1;
    }
    lay_out(disks, d);
    *ret_digests = TAKE(d);
    return 0;
}

/* Zeros for what is beyond its end. */
static int copy_grown(struct digests *old, size_t disk, uint64_t chunks,
                      struct digests_writer *writer, struct err *err)
{
    CLEANUP(mem_freep) struct digest *batch = mem_new_array(struct digest, BATCH);

    for (uint64_t at = 0; at < chunks;) {
        uint64_t end = at < old->counts[disk] ? old->counts[disk] : chunks;
        uint64_t n = end - at < BATCH ? end - at : BATCH;
        memset(batch, 0, n * sizeof(*batch));
        if (at < old->counts[disk] && digests_read(old, disk, at, n, batch, err) < 0)
            return -1;
        if (digests_writer_add(writer, batch, n, err) < 0)
            return -1;
        at += n;
    }
    return 0;
}

int digests_resize(const char *dir, const struct store_disks *from, const struct store_disks *to,
                   struct err *err)
{
    CLEANUP(digests_writer_freep) struct digests_writer *writer = NULL;
    CLEANUP(digests_closep) struct digests *old = NULL;
    struct digests_end end = {0};
    struct err why = ERR_EMPTY;

    if (find_end(dir, from, &end, &why) < 0 || digests_open(dir, from, &end.tip, &old, &why) < 0)
        return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, why.sys, "%s", why.text);
    if (digests_writer_open(dir, to, &writer, err) < 0)
        return -1;
    for (size_t i = 0; i < to->len; i++)
        if (copy_grown(old, i, chunk_count(to->at[i].size), writer, err) < 0)
            return -1;
    return digests_writer_commit(writer, &end.tip, err);
}

int digests_read(struct digests *digests, size_t disk, uint64_t first, uint64_t count,
                 struct digest *ret_digests, struct err *err)
{
    struct fs *fs = fs_real();

    assert(disk < DISKS_MAX && first <= digests->counts[disk]
           && count <= digests->counts[disk] - first);
    return fs->pread(fs, digests->fd, ret_digests, count * DIGEST_BYTES,
                     digests->starts[disk] + first * DIGEST_BYTES, err);
}

void digests_close(struct digests *digests)
{
    if (!digests)
        return;
    fd_close(&digests->fd);
    free(digests);
}

void digests_closep(struct digests **digests)
{
    digests_close(*digests);
    *digests = NULL;
}
