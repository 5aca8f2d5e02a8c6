// SPDX-License-Identifier: Apache-2.0
#include "support/replica/dying_fs.h"

#include <errno.h>
#include <fcntl.h>

static struct dying_fs *dying_of(struct fs *fs)
{
    return (struct dying_fs *)(void *)fs; /* its first member */
}

static bool lives(struct dying_fs *d, struct err *err)
{
    if (d->left > 0) {
        d->left--;
        return true;
    }
    err_put(err, ERR_IO, EIO, "the process is dead");
    return false;
}

static int dying_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                      struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    if ((flags & O_CREAT) && !lives(d, err))
        return -1;
    return d->below->open(d->below, path, flags, mode, ret_fd, err);
}

static int dying_close(struct fs *fs, int fd)
{
    struct dying_fs *d = dying_of(fs);

    return d->below->close(d->below, fd);
}

static int dying_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return d->below->pread(d->below, fd, buf, len, off, err);
}

static int dying_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                        struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->pwrite(d->below, fd, buf, len, off, err) : -1;
}

static int dying_sync(struct fs *fs, int fd, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->sync(d->below, fd, err) : -1;
}

static int dying_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->truncate(d->below, fd, size, err) : -1;
}

static int dying_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->punch(d->below, fd, off, len, err) : -1;
}

static int dying_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->rename(d->below, from, to, err) : -1;
}

static int dying_unlink(struct fs *fs, const char *path, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->unlink(d->below, path, err) : -1;
}

static int dying_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->mkdir(d->below, path, mode, err) : -1;
}

static int dying_rmdir(struct fs *fs, const char *path, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->rmdir(d->below, path, err) : -1;
}

static int dying_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    struct dying_fs *d = dying_of(fs);

    return lives(d, err) ? d->below->sync_dir(d->below, path, err) : -1;
}

void dying_fs_init(struct dying_fs *dying, struct fs *below, uint64_t changes)
{
    *dying = (struct dying_fs){
        .fs =
            {
                .open = dying_open,
                .close = dying_close,
                .pread = dying_pread,
                .pwrite = dying_pwrite,
                .sync = dying_sync,
                .truncate = dying_truncate,
                .punch = dying_punch,
                .rename = dying_rename,
                .unlink = dying_unlink,
                .mkdir = dying_mkdir,
                .rmdir = dying_rmdir,
                .sync_dir = dying_sync_dir,
            },
        .below = below,
        .left = changes,
    };
}
