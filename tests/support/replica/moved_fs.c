// SPDX-License-Identifier: Apache-2.0
#include "support/replica/moved_fs.h"

#include "base/mem.h"

#include <string.h>

static struct moved_fs *moved_of(struct fs *fs)
{
    return (struct moved_fs *)(void *)fs; /* its first member */
}

static int moved_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                      struct err *err)
{
    struct moved_fs *m = moved_of(fs);
    size_t len = strlen(m->from);
    bool inside = strncmp(path, m->from, len) == 0 && path[len] == '/';
    CLEANUP(mem_freep)
    char *now = inside ? mem_printf("%s%s", m->to, path + len) : mem_strdup(path);

    return m->below->open(m->below, now, flags, mode, ret_fd, err);
}

static int moved_close(struct fs *fs, int fd)
{
    return moved_of(fs)->below->close(moved_of(fs)->below, fd);
}

static int moved_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err)
{
    return moved_of(fs)->below->pread(moved_of(fs)->below, fd, buf, len, off, err);
}

static int moved_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                        struct err *err)
{
    return moved_of(fs)->below->pwrite(moved_of(fs)->below, fd, buf, len, off, err);
}

static int moved_sync(struct fs *fs, int fd, struct err *err)
{
    return moved_of(fs)->below->sync(moved_of(fs)->below, fd, err);
}

static int moved_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    return moved_of(fs)->below->truncate(moved_of(fs)->below, fd, size, err);
}

static int moved_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    return moved_of(fs)->below->punch(moved_of(fs)->below, fd, off, len, err);
}

static int moved_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    return moved_of(fs)->below->rename(moved_of(fs)->below, from, to, err);
}

static int moved_unlink(struct fs *fs, const char *path, struct err *err)
{
    return moved_of(fs)->below->unlink(moved_of(fs)->below, path, err);
}

static int moved_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    return moved_of(fs)->below->mkdir(moved_of(fs)->below, path, mode, err);
}

static int moved_rmdir(struct fs *fs, const char *path, struct err *err)
{
    return moved_of(fs)->below->rmdir(moved_of(fs)->below, path, err);
}

static int moved_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    return moved_of(fs)->below->sync_dir(moved_of(fs)->below, path, err);
}

void moved_fs_init(struct moved_fs *moved, struct fs *below, const char *from, const char *to)
{
    *moved = (struct moved_fs){
        .fs =
            {
                .open = moved_open,
                .close = moved_close,
                .pread = moved_pread,
                .pwrite = moved_pwrite,
                .sync = moved_sync,
                .truncate = moved_truncate,
                .punch = moved_punch,
                .rename = moved_rename,
                .unlink = moved_unlink,
                .mkdir = moved_mkdir,
                .rmdir = moved_rmdir,
                .sync_dir = moved_sync_dir,
            },
        .below = below,
        .from = from,
        .to = to,
    };
}
