// SPDX-License-Identifier: Apache-2.0
/* What of qcow2 (QEMU's docs/interop/qcow2.txt, big endian) a staging file has, clusters of 64 KiB:
 *
 *   header      its extensions follow at `header length`: type (4), length (4), data, padded to 8;
 *               type 0 ends them. 0x23852875 is the bitmaps': count (4), 0 (4), bytes of the
 *               directory (8), its place (8); valid only with autoclear feature bit 0
 *   directory   per bitmap: place of its table (8), entries (4), flags (4; bit 0: in use), type
 *               (1; 1: changes), log2 of the bytes per bit (1), bytes of the name (2), of extra
 *               data (4), extra data, name; padded to 8
 *   bitmap's    per cluster of bits: its place, or 0 with bit 0 for all ones; lowest bit first
 *   table
 *   L1, L2      bits 9-55: place of the table, of the data; L2: bit 62 compressed, bit 0 zeros
 *
 * Everything else that a qcow2 image may have is refused, not guessed. */
#include "block/stage_reader.h"

#include "base/fs.h"
#include "base/mem.h"
#include "block/stage.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>

#define HEADER_MAGIC      0x514649fbU
#define HEADER_BYTES      104U
#define EXTENSION_BITMAPS 0x23852875U
#define DIRECTORY_MAX     (UINT64_C(1) << 20)
#define OFFSET_MASK       UINT64_C(0x00fffffffffffe00)
#define L2_COMPRESSED     (UINT64_C(1) << 62)
#define L2_ZERO           UINT64_C(1)
#define ALL_ONES          UINT64_C(1)
#define IN_USE            1U
#define TYPE_CHANGES      1
#define ENTRIES           (STAGE_CLUSTER / 8) /* in a table of one cluster */
#define BITS              (STAGE_CLUSTER * 8) /* in a cluster of a bitmap */

struct stage_reader {
    char *path;
    int fd;
    uint64_t disk_size;
    uint64_t *l1; /* as in the file */
    uint64_t l1_count;
    uint64_t l2_at; /* which table `l2` holds, 0: none */
    uint64_t *l2;
    uint64_t *map; /* the bitmap's table, as in the file */
    uint64_t map_count;
};

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return be32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return be64toh(value);
}

static int not_ours(const struct stage_reader *r, const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, 0, "staging file %s: %s", r->path, what);
}

static int read_at(const struct stage_reader *r, void *buf, size_t len, uint64_t off,
                   struct err *err)
{
    return fs_real()->pread(fs_real(), r->fd, buf, len, off, err) < 0
               ? err_wrap(err, "staging file %s", r->path)
               : 0;
}

static int read_table(const struct stage_reader *r, uint64_t count, uint64_t off,
                      uint64_t **ret_table, struct err *err)
{
    CLEANUP(mem_freep) uint64_t *table = mem_try_alloc(count * 8, "table of a staging file", err);

    if (!table || read_at(r, table, count * 8, off, err) < 0)
        return -1;
    *ret_table = TAKE(table);
    return 0;
}

/* --- Opening ------------------------------------------------------------------------------- */

static int check_header(struct stage_reader *r, const uint8_t *header, struct err *err)
{
    uint64_t need = (r->disk_size + STAGE_CLUSTER * ENTRIES - 1) / (STAGE_CLUSTER * ENTRIES);

    if (get32(header) != HEADER_MAGIC || get32(header + 4) != 3)
        return not_ours(r, "no qcow2 image of version 3", err);
    if (get64(header + 8) || get32(header + 20) != 16 || get32(header + 32) || get64(header + 72))
        return not_ours(r, "it has a backing file, encryption, other clusters or features", err);
    if (get64(header + 24) != r->disk_size)
        return err_set(err, ERR_CORRUPT, 0, "staging file %s: of %llu bytes, the disk has %llu",
                       r->path, (unsigned long long)get64(header + 24),
                       (unsigned long long)r->disk_size);
    if (!(get64(header + 88) & 1))
        return not_ours(r, "its bitmaps are not valid", err);
    r->l1_count = get32(header + 36);
    if (r->l1_count < need)
        return not_ours(r, "its table is too short for the disk", err);
    r->l1_count = need;
    return 0;
}

/* The extension of that type within a cluster that begins with the header, or NULL. */
static const uint8_t *find_extension(const uint8_t *cluster, uint32_t type, uint32_t want_len)
{
    uint64_t at = get32(cluster + 100);

    while (at + 8 <= STAGE_CLUSTER && get32(cluster + at)) {
        uint64_t len = get32(cluster + at + 4);

        if (at + 8 + len > STAGE_CLUSTER)
            break;
        if (get32(cluster + at) == type)
            return len == want_len ? cluster + at + 8 : NULL;
        at += 8 + (len + 7) / 8 * 8;
    }
    return NULL;
}

static int open_map(struct stage_reader *r, const uint8_t *entry, struct err *err)
{
    uint64_t blocks = (r->disk_size + STAGE_MAP_BLOCK - 1) / STAGE_MAP_BLOCK;
    uint64_t count = get32(entry + 8);

    if (get32(entry + 12) & IN_USE)
        return not_ours(r, "its change map is still in use", err);
    if (entry[16] != TYPE_CHANGES || entry[17] >= 32 || UINT32_C(1) << entry[17] != STAGE_MAP_BLOCK)
        return not_ours(r, "its change map is not one of 4 KiB blocks", err);
    if (count != (blocks + BITS - 1) / BITS)
        return not_ours(r, "its change map is not of the disk's size", err);
    r->map_count = count;
    return read_table(r, count, get64(entry), &r->map, err);
}

static int find_map(struct stage_reader *r, const uint8_t *extension, const char *name,
                    struct err *err)
{
    uint32_t count = get32(extension);
    uint64_t len = get64(extension + 8);
    uint64_t at = 0;

    if (len > DIRECTORY_MAX)
        return not_ours(r, "its list of bitmaps is too long", err);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len ? len : 1, 1);
    if (read_at(r, bytes, len, get64(extension + 16), err) < 0)
        return -1;
    for (uint32_t i = 0; i < count && at + 24 <= len; i++) {
        const uint8_t *entry = bytes + at;
        uint64_t name_len = (uint64_t)entry[18] << 8 | entry[19];
        uint64_t extra = get32(entry + 20);

        if (at + 24 + extra + name_len > len)
            break;
        if (name_len == strlen(name) && memcmp(entry + 24 + extra, name, name_len) == 0)
            return open_map(r, entry, err);
        at += (24 + extra + name_len + 7) / 8 * 8;
    }
    return not_ours(r, "its change map is not there", err);
}

static int open_file(struct stage_reader *r, const char *map, struct err *err)
{
    CLEANUP(mem_freep) uint8_t *cluster = mem_alloc(STAGE_CLUSTER, 1);
    const uint8_t *extension;

    if (fs_real()->open(fs_real(), r->path, O_RDONLY, 0, &r->fd, err) < 0)
        return err_wrap(err, "staging file");
    if (read_at(r, cluster, STAGE_CLUSTER, 0, err) < 0 || check_header(r, cluster, err) < 0
        || read_table(r, r->l1_count, get64(cluster + 40), &r->l1, err) < 0)
        return -1;
    extension = find_extension(cluster, EXTENSION_BITMAPS, 24);
    return extension ? find_map(r, extension, map, err)
                     : not_ours(r, "it has no list of bitmaps", err);
}

int stage_reader_open(const char *path, const char *map, uint64_t disk_size,
                      struct stage_reader **ret_reader, struct err *err)
{
    CLEANUP(stage_reader_closep) struct stage_reader *r = mem_new(struct stage_reader);

    r->path = mem_strdup(path);
    r->fd = -1;
    r->disk_size = disk_size;
    if (open_file(r, map, err) < 0)
        return -1;
    *ret_reader = TAKE(r);
    return 0;
}

void stage_reader_close(struct stage_reader *reader)
{
    if (!reader)
        return;
    fd_close(&reader->fd);
    free(reader->path);
    free(reader->l1);
    free(reader->l2);
    free(reader->map);
    free(reader);
}

void stage_reader_closep(struct stage_reader **reader)
{
    stage_reader_close(*reader);
    *reader = NULL;
}

/* --- Changes ------------------------------------------------------------------------------- */

static void add(const struct stage_reader *r, struct source_extents *extents, uint64_t block,
                uint64_t blocks)
{
    struct source_extent *last = extents->len ? &extents->at[extents->len - 1] : NULL;
    uint64_t off = block * STAGE_MAP_BLOCK;
    uint64_t end = off + blocks * STAGE_MAP_BLOCK;

    if (off >= r->disk_size)
        return; /* padding */
    end = end < r->disk_size ? end : r->disk_size;
    if (last && last->off + last->len == off)
        last->len += end - off;
    else
        *source_extents_push(extents) = (struct source_extent){off, end - off};
}

static void add_word(const struct stage_reader *r, struct source_extents *extents, uint64_t word,
                     uint64_t first)
{
    if (word == UINT64_MAX) {
        add(r, extents, first, 64);
        return;
    }
    for (; word; word &= word - 1)
        add(r, extents, first + (uint64_t)__builtin_ctzll(word), 1);
}

int stage_reader_changes(struct stage_reader *reader, struct source_extents *extents,
                         struct err *err)
{
    const struct stage_reader *r = reader;
    CLEANUP(mem_freep) uint64_t *bits = mem_alloc(STAGE_CLUSTER, 1);

    for (uint64_t i = 0; i < r->map_count; i++) {
        uint64_t entry = be64toh(r->map[i]);

        if (entry == ALL_ONES)
            add(r, extents, i * BITS, BITS);
        if (!(entry & OFFSET_MASK))
            continue;
        if (read_at(r, bits, STAGE_CLUSTER, entry & OFFSET_MASK, err) < 0)
            return -1;
        for (uint64_t w = 0; w < STAGE_CLUSTER / 8; w++)
            add_word(r, extents, le64toh(bits[w]), i * BITS + w * 64);
    }
    return 0;
}

/* --- Data ---------------------------------------------------------------------------------- */

/* Where the cluster of `off` lies in the file; 0: nowhere, it is zeros. */
static int find_cluster(struct stage_reader *r, uint64_t off, uint64_t *ret_at, struct err *err)
{
    uint64_t index = off / STAGE_CLUSTER;
    uint64_t table = be64toh(r->l1[index / ENTRIES]) & OFFSET_MASK;

    *ret_at = 0;
    if (!table)
        return 0;
    if (table != r->l2_at) {
        r->l2_at = 0;
        if (!r->l2)
            r->l2 = mem_alloc(STAGE_CLUSTER, 1);
        if (read_at(r, r->l2, STAGE_CLUSTER, table, err) < 0)
            return -1;
        r->l2_at = table;
    }
    uint64_t entry = be64toh(r->l2[index % ENTRIES]);
    if (entry & L2_COMPRESSED)
        return not_ours(r, "it has compressed clusters", err);
    if (!(entry & L2_ZERO))
        *ret_at = entry & OFFSET_MASK;
    return 0;
}

int stage_reader_read(struct stage_reader *reader, uint64_t off, void *buf, size_t len,
                      struct err *err)
{
    struct stage_reader *r = reader;
    uint8_t *to = buf;

    if (off > r->disk_size || len > r->disk_size - off)
        return err_set(err, ERR_INVALID, 0, "staging file %s: %zu bytes at %llu, beyond the disk",
                       r->path, len, (unsigned long long)off);
    while (len > 0) {
        uint64_t within = off % STAGE_CLUSTER;
        size_t part = len < STAGE_CLUSTER - within ? len : (size_t)(STAGE_CLUSTER - within);
        uint64_t at;

        if (find_cluster(r, off, &at, err) < 0)
            return -1;
        if (!at)
            memset(to, 0, part);
        else if (read_at(r, to, part, at + within, err) < 0)
            return -1;
        off += part;
        to += part;
        len -= part;
    }
    return 0;
}
