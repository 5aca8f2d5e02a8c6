// SPDX-License-Identifier: Apache-2.0
#include "replica/guard_fs.h"

#include <errno.h>
#include <fcntl.h>

static struct guard_fs *guard_of(struct fs *fs)
{
    return (struct guard_fs *)(void *)fs; /* its first member */
}

int guard_fs_check(const struct guard_fs *guard, struct err *err)
{
    if (!guard->broken)
        return 0;
    return err_set(err, ERR_IO, EIO,
                   "an earlier sync failed, what is on the disk is not known; hint: close the store"
                   " and open it again");
}

static int guard_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                      struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    if ((flags & O_CREAT) && guard_fs_check(g, err) < 0)
        return -1;
    return g->below->open(g->below, path, flags, mode, ret_fd, err);
}

static int guard_close(struct fs *fs, int fd)
{
    struct guard_fs *g = guard_of(fs);

    return g->below->close(g->below, fd);
}

static int guard_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return g->below->pread(g->below, fd, buf, len, off, err);
}

static int guard_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                        struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : g->below->pwrite(g->below, fd, buf, len, off, err);
}

static int guard_sync(struct fs *fs, int fd, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    if (guard_fs_check(g, err) < 0)
        return -1;
    int rc = g->below->sync(g->below, fd, err);
    g->broken = rc < 0;
    return rc;
}

static int guard_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : g->below->truncate(g->below, fd, size, err);
}

static int guard_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : g->below->punch(g->below, fd, off, len, err);
}

static int guard_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : g->below->rename(g->below, from, to, err);
}

static int guard_unlink(struct fs *fs, const char *path, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    /* Always: a file that could not be synced must not be found, and believed, afterwards. */
    return g->below->unlink(g->below, path, err);
}

static int guard_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : g->below->mkdir(g->below, path, mode, err);
}

static int guard_rmdir(struct fs *fs, const char *path, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : g->below->rmdir(g->below, path, err);
}

static int guard_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    if (guard_fs_check(g, err) < 0)
        return -1;
    int rc = g->below->sync_dir(g->below, path, err);
    g->broken = rc < 0;
    return rc;
}

static int guard_stamp(struct fs *fs, const char *path, struct fs_stamp *ret_stamp, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : fs_stamp(g->below, path, ret_stamp, err);
}

static int guard_clone(struct fs *fs, int from, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct guard_fs *g = guard_of(fs);

    return guard_fs_check(g, err) < 0 ? -1 : fs_clone(g->below, from, fd, off, len, err);
}

void guard_fs_init(struct guard_fs *guard, struct fs *below)
{
    *guard = (struct guard_fs){
        .fs =
            {
                .open = guard_open,
                .close = guard_close,
                .pread = guard_pread,
                .pwrite = guard_pwrite,
                .sync = guard_sync,
                .truncate = guard_truncate,
                .punch = guard_punch,
                .rename = guard_rename,
                .unlink = guard_unlink,
                .mkdir = guard_mkdir,
                .rmdir = guard_rmdir,
                .sync_dir = guard_sync_dir,
                .stamp = guard_stamp,
                .clone = guard_clone,
            },
        .below = below,
    };
}
