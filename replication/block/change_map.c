// SPDX-License-Identifier: Apache-2.0
/* The file, little endian:
 *
 *   0    "MUSTRMAP"
 *   8    version, 1 (4)          12   bytes of the smallest unit a bit stood for, 4096 (4)
 *   16   group, padded with zeros (64)
 *   80   disk, padded with zeros (64)
 *   144  size of the disk or 0 (8)
 *   152  generation (8)
 *   160  point (8)               168  serial (8)
 *   176  number of extents (8)
 *   184  per extent: offset (8), length (8); ascending, none touches the next
 *   end  CRC-32C of all before it (4) */
#include "block/change_map.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "block/stage.h"

#include <endian.h>
#include <string.h>

#define MAGIC        "MUSTRMAP"
#define VERSION      1U
#define HEADER_BYTES 184U
#define EXTENT_BYTES 16U
#define CRC_BYTES    4U
#define FILE_MAX     (UINT64_C(1) << 30)

void change_map_done(struct change_map *map)
{
    source_extents_free(&map->extents);
    memset(map, 0, sizeof(*map));
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

int change_map_write(const char *path, const struct change_map *map, struct err *err)
{
    size_t len = HEADER_BYTES + map->extents.len * EXTENT_BYTES + CRC_BYTES;
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len, 1);
    uint8_t *at = bytes + HEADER_BYTES;

    memcpy(bytes, MAGIC, 8);
    put32(bytes + 8, VERSION);
    put32(bytes + 12, STAGE_MAP_BLOCK);
    memcpy(bytes + 16, map->group, strnlen(map->group, sizeof(map->group) - 1));
    memcpy(bytes + 80, map->disk, strnlen(map->disk, sizeof(map->disk) - 1));
    put64(bytes + 144, map->size);
    put64(bytes + 152, map->generation);
    put64(bytes + 160, map->point);
    put64(bytes + 168, map->serial);
    put64(bytes + 176, map->extents.len);
    VEC_FOREACH(extent, &map->extents) {
        put64(at, extent->off);
        put64(at + 8, extent->len);
        at += EXTENT_BYTES;
    }
    put32(at, crc32c(0, bytes, len - CRC_BYTES));
    return fs_replace_file(fs_real(), path, bytes, len, 0600, err);
}

static int parse(const uint8_t *bytes, size_t len, struct change_map *map)
{
    uint64_t count = len < HEADER_BYTES + CRC_BYTES ? 0 : get64(bytes + 176);
    uint64_t end = 0;

    if (len < HEADER_BYTES + CRC_BYTES || memcmp(bytes, MAGIC, 8) != 0
        || get32(bytes + 8) != VERSION || count > len / EXTENT_BYTES
        || len != HEADER_BYTES + count * EXTENT_BYTES + CRC_BYTES
        || crc32c(0, bytes, len - CRC_BYTES) != get32(bytes + len - CRC_BYTES))
        return -1;
    memcpy(map->group, bytes + 16, sizeof(map->group) - 1);
    memcpy(map->disk, bytes + 80, sizeof(map->disk) - 1);
    map->size = get64(bytes + 144);
    map->generation = get64(bytes + 152);
    map->point = get64(bytes + 160);
    map->serial = get64(bytes + 168);
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *at = bytes + HEADER_BYTES + i * EXTENT_BYTES;
        struct source_extent extent = {get64(at), get64(at + 8)};

        uint64_t size = map->size ? map->size : UINT64_MAX;

        if (extent.len == 0 || (i > 0 && extent.off <= end) || extent.off > size
            || extent.len > size - extent.off)
            return -1;
        end = extent.off + extent.len;
        *source_extents_push(&map->extents) = extent;
    }
    return 0;
}

int change_map_read(const char *path, struct change_map *ret_map, struct err *err)
{
    CLEANUP(change_map_done) struct change_map map = {0};
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, FILE_MAX, &text, err) < 0)
        return -1;
    if (parse((const uint8_t *)str_text(&text), text.len, &map) < 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: no change map, or not all of one", path);
    *ret_map = map;
    memset(&map, 0, sizeof(map));
    return 0;
}

int change_map_remove(const char *path, struct err *err)
{
    CLEANUP(mem_freep) char *folder = mem_strdup(path);
    char *slash = strrchr(folder, '/');

    if (!fs_exists(path))
        return 0;
    if (slash)
        *slash = '\0';
    if (fs_real()->unlink(fs_real(), path, err) < 0)
        return -1;
    return fs_real()->sync_dir(fs_real(), slash ? folder : ".", err);
}
