// SPDX-License-Identifier: Apache-2.0
#include "support/source_apply.h"

#include "base/fs.h"
#include "base/proc.h"
#include "support/expect.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t size_of(struct source *source, const char *disk, struct cancel *cancel)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;

    EXPECT_OK(source->ops->disks(source, &disks, cancel, &err));
    VEC_FOREACH(d, &disks) {
        if (str_eq(d->name, disk))
            return d->size;
    }
    fail_msg("no disk %s", disk);
    return 0;
}

static void put(int fd, const struct source_piece *piece)
{
    if (piece->zero)
        EXPECT_OK(fs_real()->punch(fs_real(), fd, piece->off, piece->len, &err));
    else
        EXPECT_OK(fs_real()->pwrite(fs_real(), fd, piece->data, piece->len, piece->off, &err));
}

uint64_t source_apply_scan(struct source *source, const char *disk, const char *path,
                           struct cancel *cancel)
{
    uint64_t size = size_of(source, disk, cancel), with_data = 0, reached = 0;
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct source_piece piece;
    bool ordered;

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    EXPECT_OK(source->ops->scan_begin(source, disk, 0, &ordered, cancel, &err));
    for (;;) {
        EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
        if (piece.len == 0)
            break;
        assert_true(piece.off % 65536 == 0);
        assert_true(piece.len % 65536 == 0 || piece.off + piece.len == size);
        assert_true(piece.off + piece.len <= size);
        assert_true(piece.zero || piece.len <= 1 << 20);
        assert_true(!ordered || piece.off >= reached);
        reached = piece.off + piece.len;
        with_data += !piece.zero;
        put(fd, &piece);
    }
    source->ops->scan_end(source);
    return with_data;
}

uint64_t source_apply_changes(struct source *source, const char *disk, const char *path,
                              struct cancel *cancel)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(1 << 20, 1);
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    uint64_t size = size_of(source, disk, cancel), bytes = 0, reached = 0;

    assert_true(fd >= 0);
    EXPECT_OK(source->ops->changes(source, disk, &extents, cancel, &err));
    VEC_FOREACH(extent, &extents) {
        assert_true(extent->off % 4096 == 0 && extent->len > 0 && extent->off >= reached);
        reached = extent->off + extent->len;
        assert_true(reached <= size && (extent->len % 4096 == 0 || reached == size));
        for (uint64_t at = extent->off; at < reached;) {
            size_t len = reached - at < 1 << 20 ? (size_t)(reached - at) : 1 << 20;

            EXPECT_OK(source->ops->read(source, disk, at, buf, len, cancel, &err));
            EXPECT_OK(fs_real()->pwrite(fs_real(), fd, buf, len, at, &err));
            at += len;
        }
        bytes += extent->len;
    }
    return bytes;
}

bool source_apply_equal(const char *path, const char *other)
{
    const char *const argv[] = {"cmp", "-s", path, other, NULL};

    return proc_must(argv, NULL, NULL) == 0;
}
