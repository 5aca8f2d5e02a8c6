// SPDX-License-Identifier: Apache-2.0
/* Of qcow2 (QEMU's docs/interop/qcow2.txt, big endian) only the two levels of tables are read:
 *
 *   header   magic (4), version 2 or 3 (4), cluster bits at 20 (4), disk's size at 24 (8), entries of
 *            L1 at 36 (4), its place at 40 (8), incompatible features at 72 (8; version 3)
 *   L1, L2   8 bytes an entry; an L1 entry whose place (bits 9-55) is 0 has no L2 table; an L2 entry
 *            that is not 0 belongs to the overlay: data, compressed data, or "reads as zeros" */
#include "block/overlay.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define HEADER_MAGIC 0x514649fbU
#define HEADER_BYTES 104U
#define PLACE_MASK   UINT64_C(0x00fffffffffffe00)
#define DIRTY        UINT64_C(1) /* refcounts only: what is mapped is right */
#define L1_MAX       (UINT64_C(32) << 20)

struct overlay {
    const char *path;
    int fd;
    uint64_t size;
    uint64_t cluster;
    uint64_t l1_at;
    uint64_t l1_count;
};

static uint64_t get(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static int no_overlay(const struct overlay *o, const char *what, struct err *err)
{
    return err_set(err, ERR_CORRUPT, 0, "overlay %s: %s", o->path, what);
}

static int read_header(struct overlay *o, struct err *err)
{
    uint8_t header[HEADER_BYTES];
    uint64_t version, bits;

    if (fs_real()->pread(fs_real(), o->fd, header, sizeof(header), 0, err) < 0)
        return err_wrap(err, "overlay %s", o->path);
    version = get(header + 4, 4);
    bits = get(header + 20, 4);
    if (get(header, 4) != HEADER_MAGIC || (version != 2 && version != 3) || bits < 9 || bits > 21)
        return no_overlay(o, "it is no qcow2 image", err);
    if (version == 3 && (get(header + 72, 8) & ~DIRTY))
        return err_set(err, ERR_UNSUPPORTED, 0, "overlay %s: unknown qcow2 features %#llx", o->path,
                       (unsigned long long)get(header + 72, 8));
    o->cluster = UINT64_C(1) << bits;
    o->size = get(header + 24, 8);
    o->l1_count = get(header + 36, 4);
    o->l1_at = get(header + 40, 8);
    uint64_t covers = o->cluster * (o->cluster / 8);
    if (o->l1_count * 8 > L1_MAX || o->l1_count < o->size / covers + (o->size % covers != 0))
        return no_overlay(o, "its table does not fit the disk", err);
    return 0;
}

static void add(const struct overlay *o, struct source_extents *extents, uint64_t off)
{
    struct source_extent *last = extents->len ? &extents->at[extents->len - 1] : NULL;
    uint64_t len;

    if (off >= o->size)
        return; /* beyond the end of the disk, within its last table */
    len = o->size - off < o->cluster ? o->size - off : o->cluster;
    if (last && last->off + last->len == off)
        last->len += len;
    else
        *source_extents_push(extents) = (struct source_extent){off, len};
}

static int read_tables(const struct overlay *o, struct source_extents *extents, struct err *err)
{
    CLEANUP(mem_freep)
    uint64_t *l1 = mem_try_alloc(o->l1_count * 8 + 8, "table of an overlay", err);
    CLEANUP(mem_freep) uint64_t *l2 = mem_alloc(o->cluster, 1);
    uint64_t per_table = o->cluster / 8;

    if (!l1
        || (o->l1_count
            && fs_real()->pread(fs_real(), o->fd, l1, o->l1_count * 8, o->l1_at, err) < 0))
        return -1;
    for (uint64_t i = 0; i < o->l1_count; i++) {
        uint64_t place = be64toh(l1[i]) & PLACE_MASK;

        if (!place)
            continue;
        if (fs_real()->pread(fs_real(), o->fd, l2, o->cluster, place, err) < 0)
            return -1;
        for (uint64_t k = 0; k < per_table; k++)
            if (l2[k])
                add(o, extents, (i * per_table + k) * o->cluster);
    }
    return 0;
}

int overlay_allocated(const char *path, struct source_extents *ret_extents, uint64_t *ret_size,
                      struct err *err)
{
    struct overlay o = {.path = path, .fd = -1};
    CLEANUP(fd_close) int fd = -1;

    if (fs_real()->open(fs_real(), path, O_RDONLY, 0, &fd, err) < 0)
        return -1;
    o.fd = fd;
    source_extents_clear(ret_extents);
    if (read_header(&o, err) < 0)
        return -1;
    if (read_tables(&o, ret_extents, err) < 0)
        return err_wrap(err, "overlay %s", path);
    *ret_size = o.size;
    return 0;
}

/* --- Room ---------------------------------------------------------------------------------- */

/* `ret_behind`: room that is reserved already. */
static int file_end(const char *path, int fd, uint64_t *ret_end, uint64_t *ret_behind,
                    struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "overlay %s", path);
    uint64_t has = (uint64_t)st.st_blocks * 512;
    *ret_end = (uint64_t)st.st_size;
    *ret_behind = has > *ret_end ? has - *ret_end : 0;
    return 0;
}

int overlay_reserve(const char *path, uint64_t more, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    uint64_t end, behind, free_bytes = 0;
    char need[32], have[32];
    int why = fault_hit("overlay.reserve");

    if (fs_real()->open(fs_real(), path, O_RDWR, 0, &fd, err) < 0
        || file_end(path, fd, &end, &behind, err) < 0 || fs_free_bytes(path, &free_bytes, err) < 0)
        return -1;
    if (more == 0)
        return 0;
    /* Not even tried: a file system that is filled on trial is full for the guest, too. */
    if (!why && free_bytes + behind < more)
        why = ENOSPC;
    if (!why && fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)more) == 0)
        return 0;
    why = why ? why : errno;
    if (why == EOPNOTSUPP && free_bytes / 2 > more)
        return 0;
    if (why != ENOSPC && why != EDQUOT && why != EFBIG && why != EOPNOTSUPP)
        return err_set(err, ERR_IO, why, "overlay %s: reserve %llu bytes", path,
                       (unsigned long long)more);
    return err_set(err, ERR_SPACE, 0,
                   "%s needs %s more to hold all of the disk, %s are free; hint: make room there",
                   path, str_bytes(more, need, sizeof(need)),
                   str_bytes(free_bytes, have, sizeof(have)));
}

int overlay_release(const char *path, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    uint64_t end, behind;

    if (fs_real()->open(fs_real(), path, O_RDWR, 0, &fd, err) < 0
        || file_end(path, fd, &end, &behind, err) < 0)
        return -1;
    return fs_real()->truncate(fs_real(), fd, end, err); /* what lies behind the end goes */
}
