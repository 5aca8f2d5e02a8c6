// SPDX-License-Identifier: Apache-2.0
/* An empty qcow2 image (QEMU's docs/interop/qcow2.txt), version 3, big endian, clusters of 64 KiB:
 *
 *   cluster 0   header of 104 bytes: magic "QFI\xfb", version, no backing file, cluster bits 16,
 *               disk size, no encryption, entries and place of the L1 table, place and clusters of
 *               the refcount table, no snapshots, no feature bits, refcount order 4 (16 bits),
 *               header length; then an empty list of extensions
 *   cluster 1   refcount table: entry 0 points at cluster 2 (room for 16 TiB of file)
 *   cluster 2   refcount block: 1 for each cluster here
 *   cluster 3-  L1 table: zeros (512 MiB of disk per entry of 8 bytes) */
#include "block/stage.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define L1_COVERS      (STAGE_CLUSTER * (STAGE_CLUSTER / 8))
#define HEADER_BYTES   104
#define L1_AT          (3 * STAGE_CLUSTER)
#define MIB            (UINT64_C(1) << 20)
#define UNITS_PER_PAGE (STAGE_CLUSTER / STAGE_MAP_BLOCK)

uint64_t stage_room(uint64_t disk_size, uint64_t dirty_bytes)
{
    /* Each marked 4 KiB may lie in a cluster of its own. */
    uint64_t data =
        dirty_bytes > disk_size / UNITS_PER_PAGE ? disk_size : dirty_bytes * UNITS_PER_PAGE;

    return data + data / 100 + MIB;
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

static int write_at(int fd, const char *path, const uint8_t *bytes, size_t len, uint64_t off,
                    struct err *err)
{
    return fs_real()->pwrite(fs_real(), fd, bytes, len, off, err) < 0
               ? err_wrap(err, "staging file %s", path)
               : 0;
}

static int write_empty_image(int fd, const char *path, uint64_t disk_size, struct err *err)
{
    uint64_t l1_entries = (disk_size + L1_COVERS - 1) / L1_COVERS;
    uint64_t clusters = 3 + (l1_entries * 8 + STAGE_CLUSTER - 1) / STAGE_CLUSTER;
    CLEANUP(mem_freep) uint8_t *refcounts = mem_alloc(clusters, 2);
    uint8_t header[HEADER_BYTES] = {0};
    uint8_t table[8];

    memcpy(header, "QFI\xfb", 4);
    put32(header + 4, 3);
    put32(header + 20, 16);
    put64(header + 24, disk_size);
    put32(header + 36, (uint32_t)l1_entries);
    put64(header + 40, L1_AT);
    put64(header + 48, STAGE_CLUSTER);
    put32(header + 56, 1);
    put32(header + 96, 4);
    put32(header + 100, HEADER_BYTES);
    put64(table, 2 * STAGE_CLUSTER);
    for (uint64_t i = 0; i < clusters; i++)
        refcounts[2 * i + 1] = 1;
    if (write_at(fd, path, header, sizeof(header), 0, err) < 0
        || write_at(fd, path, table, sizeof(table), STAGE_CLUSTER, err) < 0
        || write_at(fd, path, refcounts, clusters * 2, 2 * STAGE_CLUSTER, err) < 0)
        return -1;
    if (ftruncate(fd, (off_t)(clusters * STAGE_CLUSTER)) < 0)
        return err_set(err, ERR_IO, errno, "staging file %s", path);
    return 0;
}

static int reserve(int fd, const char *path, uint64_t room, struct err *err)
{
    uint64_t free_bytes = 0;
    char need[32], have[32];
    struct err unknown = ERR_EMPTY;

    int why = fault_hit("stage.reserve");

    if (room == 0)
        return 0;
    if (!why && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)room) == 0)
        return 0;
    why = why ? why : errno;
    if (why != ENOSPC && why != EDQUOT && why != EFBIG && why != EOPNOTSUPP)
        return err_set(err, ERR_IO, why, "staging file %s: reserve %llu bytes", path,
                       (unsigned long long)room);
    /* A file system that cannot reserve can at least say what it has. */
    if (fs_free_bytes(path, &free_bytes, &unknown) == 0 && why == EOPNOTSUPP
        && free_bytes / 2 > room)
        return 0;
    return err_set(err, ERR_SPACE, 0,
                   "staging file %s: %s needed, %s free; hint: make room there, or set a work "
                   "folder on a larger file system",
                   path, str_bytes(room, need, sizeof(need)),
                   str_bytes(free_bytes, have, sizeof(have)));
}

int stage_make(const char *path, uint64_t disk_size, uint64_t room, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;

    if (disk_size > STAGE_DISK_MAX)
        return err_set(err, ERR_LIMIT, 0, "%s: a disk of %llu bytes is too large to stage", path,
                       (unsigned long long)disk_size);
    (void)unlink(path);
    fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, ERR_IO, errno, "make staging file %s", path);
    if (write_empty_image(fd, path, disk_size, err) < 0 || reserve(fd, path, room, err) < 0) {
        (void)unlink(path);
        return -1;
    }
    return 0;
}

int stage_reserve(const char *path, uint64_t room, struct err *err)
{
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, ERR_IO, errno, "open staging file %s", path);
    return reserve(fd, path, room, err);
}
