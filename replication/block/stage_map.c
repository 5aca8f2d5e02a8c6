// SPDX-License-Identifier: Apache-2.0
/* To the empty image of stage.c (clusters of 64 KiB, big endian) are added, at its end:
 *
 *   directory   one cluster, one entry: place of the table (8), its entries (4), flags 0 (4), type 1,
 *               log2 of the bytes per bit (1), bytes of the name (2), no extra data (4), name
 *   table       whole clusters; per cluster of bits its place, or 0 when none of them is set
 *   bits        lowest bit first, only clusters with a bit set
 *
 * and in the header the extension of the bitmaps (0x23852875: count, 0, bytes and place of the
 * directory) and autoclear feature bit 0; each new cluster is counted once in the refcount block. */
#include "block/stage_map.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "block/stage.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define EXTENSION_BITMAPS 0x23852875U
#define HEADER_BYTES      104U
#define AUTOCLEAR_AT      88U
#define REFCOUNTS_AT      (2 * STAGE_CLUSTER)
#define REFCOUNTS         (STAGE_CLUSTER / 2) /* clusters of the file that one block counts */
#define TYPE_CHANGES      1
#define BITS              (STAGE_CLUSTER * 8) /* in a cluster of them */
#define ENTRY_BYTES       24U

struct map {
    uint64_t disk_size;
    uint64_t tiles; /* clusters of bits a whole map has */
    uint8_t **bits; /* by tile; NULL: none is set */
};

static void map_done(struct map *map)
{
    for (uint64_t i = 0; i < map->tiles; i++)
        free(map->bits[i]);
    free(map->bits);
}

static void put16(uint8_t *at, uint16_t value)
{
    value = htobe16(value);
    memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof(value));
}

/* --- The bits ------------------------------------------------------------------------------ */

static void mark(struct map *map, uint64_t block, uint64_t end)
{
    while (block < end) {
        uint64_t tile = block / BITS;
        uint64_t bit = block % BITS;

        if (!map->bits[tile])
            map->bits[tile] = mem_alloc(STAGE_CLUSTER, 1);
        if (bit % 8 == 0 && end - block >= 8) {
            map->bits[tile][bit / 8] = 0xff;
            block += 8;
            continue;
        }
        map->bits[tile][bit / 8] |= (uint8_t)(1U << (bit % 8));
        block++;
    }
}

static int mark_all(struct map *map, const struct source_extents *extents, struct err *err)
{
    VEC_FOREACH(extent, extents) {
        if (extent->off > map->disk_size || extent->len > map->disk_size - extent->off)
            return err_set(err, ERR_INVALID, 0,
                           "a change map marks %llu bytes at %llu, but the disk has %llu",
                           (unsigned long long)extent->len, (unsigned long long)extent->off,
                           (unsigned long long)map->disk_size);
        if (extent->len)
            mark(map, extent->off / STAGE_MAP_BLOCK,
                 (extent->off + extent->len + STAGE_MAP_BLOCK - 1) / STAGE_MAP_BLOCK);
    }
    return 0;
}

/* --- The file ------------------------------------------------------------------------------ */

static int write_at(int fd, const void *bytes, size_t len, uint64_t off, struct err *err)
{
    return fs_real()->pwrite(fs_real(), fd, bytes, len, off, err);
}

static int write_header(int fd, uint64_t directory, size_t entry_bytes, struct err *err)
{
    uint8_t extension[8 + ENTRY_BYTES] = {0};
    uint8_t autoclear[8];

    put32(extension, EXTENSION_BITMAPS);
    put32(extension + 4, ENTRY_BYTES);
    put32(extension + 8, 1);
    put64(extension + 16, entry_bytes);
    put64(extension + 24, directory);
    put64(autoclear, 1);
    return write_at(fd, extension, sizeof(extension), HEADER_BYTES, err) < 0
                   || write_at(fd, autoclear, sizeof(autoclear), AUTOCLEAR_AT, err) < 0
               ? -1
               : 0;
}

static int write_directory(int fd, const struct map *map, const char *name, uint64_t at,
                           uint64_t table, size_t *ret_bytes, struct err *err)
{
    uint8_t entry[ENTRY_BYTES + 1024] = {0};
    size_t name_len = strlen(name);

    if (name_len > 1023)
        return err_set(err, ERR_INVALID, 0, "a change map's name has %zu bytes", name_len);
    put64(entry, table);
    put32(entry + 8, (uint32_t)map->tiles);
    entry[16] = TYPE_CHANGES;
    entry[17] = (uint8_t)__builtin_ctz(STAGE_MAP_BLOCK);
    put16(entry + 18, (uint16_t)name_len);
    memcpy(entry + ENTRY_BYTES, name, name_len);
    *ret_bytes = (ENTRY_BYTES + name_len + 7) / 8 * 8;
    return write_at(fd, entry, *ret_bytes, at, err);
}

/* Table and bits from `at` on; `ret_end`: where the file ends. */
static int write_bits(int fd, const struct map *map, uint64_t at, uint64_t *ret_end,
                      struct err *err)
{
    uint64_t table_bytes = (map->tiles * 8 + STAGE_CLUSTER - 1) / STAGE_CLUSTER * STAGE_CLUSTER;
    CLEANUP(mem_freep) uint8_t *table = mem_alloc(table_bytes, 1);
    uint64_t next = at + table_bytes;

    for (uint64_t i = 0; i < map->tiles; i++) {
        if (!map->bits[i])
            continue;
        if (write_at(fd, map->bits[i], STAGE_CLUSTER, next, err) < 0)
            return -1;
        put64(table + i * 8, next);
        next += STAGE_CLUSTER;
    }
    *ret_end = next;
    return write_at(fd, table, table_bytes, at, err);
}

static int count_clusters(int fd, uint64_t from, uint64_t to, struct err *err)
{
    uint64_t first = from / STAGE_CLUSTER;
    uint64_t count = (to - from) / STAGE_CLUSTER;

    if (first + count > REFCOUNTS)
        return err_set(err, ERR_LIMIT, 0, "a change map of %llu bytes is too large for its file",
                       (unsigned long long)(to - from));
    CLEANUP(mem_freep) uint8_t *counts = mem_alloc(count, 2);
    for (uint64_t i = 0; i < count; i++)
        put16(counts + 2 * i, 1);
    return write_at(fd, counts, count * 2, REFCOUNTS_AT + first * 2, err);
}

static int write_map(const char *path, const struct map *map, const char *name, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    uint64_t begin, end;
    size_t entry_bytes = 0;

    if (fs_real()->open(fs_real(), path, O_RDWR, 0, &fd, err) < 0)
        return -1;
    begin = (uint64_t)lseek(fd, 0, SEEK_END);
    return write_directory(fd, map, name, begin, begin + STAGE_CLUSTER, &entry_bytes, err) < 0
                   || write_bits(fd, map, begin + STAGE_CLUSTER, &end, err) < 0
                   || count_clusters(fd, begin, end, err) < 0
                   || fs_real()->truncate(fs_real(), fd, end, err) < 0
                   || write_header(fd, begin, entry_bytes, err) < 0
               ? -1
               : 0;
}

int stage_map_make(const char *path, uint64_t disk_size, const char *name,
                   const struct source_extents *extents, struct err *err)
{
    CLEANUP(map_done) struct map map = {.disk_size = disk_size};
    uint64_t blocks = disk_size / STAGE_MAP_BLOCK + (disk_size % STAGE_MAP_BLOCK != 0);

    if (stage_make(path, disk_size, 0, err) < 0)
        return -1;
    map.tiles = (blocks + BITS - 1) / BITS;
    map.bits = mem_new_array(uint8_t *, map.tiles + 1);
    if (mark_all(&map, extents, err) == 0 && write_map(path, &map, name, err) == 0)
        return 0;
    (void)unlink(path);
    return err_wrap(err, "make %s", path);
}
