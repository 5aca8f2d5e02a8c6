// SPDX-License-Identifier: Apache-2.0
/* A view as an image file. */
#include "base/fs.h"
#include "base/mem.h"
#include "replica/chunk.h"
#include "replica/view.h"

#include <fcntl.h>

static int export_to(struct view *view, int fd, struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(CHUNK_BYTES, 1);
    uint64_t size = view_size(view);
    uint64_t chunks = chunk_count(size);

    if (fs->truncate(fs, fd, size, err) < 0)
        return -1;
    for (uint64_t chunk = 0; chunk < chunks; chunk++) {
        size_t len = chunk_len(size, chunk);
        if (view_read(view, chunk * CHUNK_BYTES, buf, len, err) < 0)
            return -1;
        if (!bytes_are_zero(buf, len) && fs->pwrite(fs, fd, buf, len, chunk * CHUNK_BYTES, err) < 0)
            return -1;
    }
    return fs->sync(fs, fd, err);
}

int view_export(struct view *view, const char *path, struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(fd_close) int fd = -1;

    if (fs->open(fs, path, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd, err) < 0)
        return -1;
    return export_to(view, fd, err);
}
