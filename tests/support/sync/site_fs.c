// SPDX-License-Identifier: Apache-2.0
#include "support/sync/site_fs.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct site_fs *entered;

struct fs *__real_fs_real(void);
struct fs *__wrap_fs_real(void);

struct fs *__wrap_fs_real(void)
{
    return entered ? &entered->fs : __real_fs_real();
}

struct site_fs *site_enter(struct site_fs *site)
{
    struct site_fs *before = entered;

    entered = site;
    return before;
}

/* The recorder does its work by fs_real(), too: the real one then. */
struct below {
    struct site_fs *site;
    struct site_fs *before;
    struct fs *fs;
};

static struct below below(struct fs *fs)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    return (struct below){site, site_enter(NULL), fs_record_fs(site->record)};
}

static int above(const struct below *b, int rc)
{
    (void)site_enter(b->before);
    return rc;
}

static const char *path_of(const struct site_fs *site, int fd)
{
    return fd >= 0 && fd < SITE_FDS && site->paths[fd] ? site->paths[fd] : "";
}

static void set_path(struct site_fs *site, int fd, const char *path)
{
    if (fd < 0 || fd >= SITE_FDS)
        return;
    free(site->paths[fd]);
    site->paths[fd] = path ? mem_strdup(path) : NULL;
}

static int fails(struct site_fs *site, enum site_op op, const char *path, struct err *err)
{
    struct site_fault *f = &site->fault;

    if (f->count == 0 || f->op != op || !strstr(path, f->where))
        return 0;
    if (f->skip > 0) {
        f->skip--;
        return 0;
    }
    if (f->count != UINT_MAX)
        f->count--;
    site->failed++;
    site->full += f->code == ERR_SPACE;
    if (site->say)
        (void)fprintf(stderr, "%s fails\n", path);
    err_put(err, f->code, f->code == ERR_SPACE ? ENOSPC : EIO, "%s: the disk fails", path);
    return -1;
}

/* One change of something: is there still somebody to make it? */
static int lives(struct site_fs *site, struct err *err)
{
    if (!site->dead && site->left > 0) {
        site->left -= site->left != UINT64_MAX;
        return 0;
    }
    site->dead = true;
    err_put(err, ERR_IO, EIO, "the site is dead");
    return -1;
}

static int site_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                     struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;
    bool makes = (flags & O_CREAT) && !fs_exists(path);

    if (makes && (lives(site, err) < 0 || fails(site, SITE_WRITE, path, err) < 0))
        return -1;
    const struct below b = below(fs);
    int rc = above(&b, b.fs->open(b.fs, path, flags, mode, ret_fd, err));
    if (rc == 0)
        set_path(site, *ret_fd, path);
    return rc;
}

static int site_close(struct fs *fs, int fd)
{
    const struct below b = below(fs);

    set_path(b.site, fd, NULL);
    return above(&b, b.fs->close(b.fs, fd));
}

static int site_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (fails(site, SITE_READ, path_of(site, fd), err) < 0)
        return -1;
    const struct below b = below(fs);
    return above(&b, b.fs->pread(b.fs, fd, buf, len, off, err));
}

/* A disk that fills up takes the first half. */
static int site_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                       struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0)
        return -1;
    bool failed = fails(site, SITE_WRITE, path_of(site, fd), err) < 0;
    const struct below b = below(fs);
    if (!failed)
        return above(&b, b.fs->pwrite(b.fs, fd, buf, len, off, err));
    (void)b.fs->pwrite(b.fs, fd, buf, len / 2, off, NULL);
    return above(&b, -1);
}

static int site_sync(struct fs *fs, int fd, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;
    const char *path = path_of(site, fd);

    if (lives(site, err) < 0)
        return -1;
    if (fails(site, SITE_SYNC, path, err) < 0) {
        fs_record_sync_failed(site->record, fd);
        return -1;
    }
    if (site->lie && strstr(path, site->lie))
        return 0;
    const struct below b = below(fs);
    return above(&b, b.fs->sync(b.fs, fd, err));
}

static int site_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0 || fails(site, SITE_WRITE, path_of(site, fd), err) < 0)
        return -1;
    const struct below b = below(fs);
    return above(&b, b.fs->truncate(b.fs, fd, size, err));
}

static int site_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0 || fails(site, SITE_WRITE, path_of(site, fd), err) < 0)
        return -1;
    const struct below b = below(fs);
    return above(&b, b.fs->punch(b.fs, fd, off, len, err));
}

static int site_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0 || fails(site, SITE_WRITE, to, err) < 0)
        return -1;
    const struct below b = below(fs);
    return above(&b, b.fs->rename(b.fs, from, to, err));
}

static int site_unlink(struct fs *fs, const char *path, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0)
        return -1;
    const struct below b = below(fs);
    return above(&b, b.fs->unlink(b.fs, path, err));
}

static int site_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0 || fails(site, SITE_WRITE, path, err) < 0)
        return -1;
    const struct below b = below(fs);
    return above(&b, b.fs->mkdir(b.fs, path, mode, err));
}

static int site_rmdir(struct fs *fs, const char *path, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0)
        return -1;
    const struct below b = below(fs);
    return above(&b, b.fs->rmdir(b.fs, path, err));
}

static int site_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    struct site_fs *site = (struct site_fs *)(void *)fs;

    if (lives(site, err) < 0 || fails(site, SITE_SYNC, path, err) < 0)
        return -1;
    if (site->lie && strstr(path, site->lie))
        return 0;
    const struct below b = below(fs);
    return above(&b, b.fs->sync_dir(b.fs, path, err));
}

static void new_root(struct site_fs *site)
{
    struct err err = ERR_EMPTY;

    site->root = mem_printf("%s/%u", site->base, site->roots++);
    if (fs_make_dirs(fs_real(), site->root, 0700, &err) < 0)
        abort();
}

void site_fs_init(struct site_fs *site, const char *base)
{
    *site = (struct site_fs){
        .fs =
            {
                .open = site_open,
                .close = site_close,
                .pread = site_pread,
                .pwrite = site_pwrite,
                .sync = site_sync,
                .truncate = site_truncate,
                .punch = site_punch,
                .rename = site_rename,
                .unlink = site_unlink,
                .mkdir = site_mkdir,
                .rmdir = site_rmdir,
                .sync_dir = site_sync_dir,
            },
        .base = mem_strdup(base),
        .left = UINT64_MAX,
    };
    new_root(site);
    site->record = fs_record_new(site->root);
}

void site_fs_done(struct site_fs *site)
{
    fs_record_free(site->record);
    for (int fd = 0; fd < SITE_FDS; fd++)
        free(site->paths[fd]);
    free(site->root);
    free(site->base);
}

void site_restart(struct site_fs *site, bool power, enum fs_loss loss, uint64_t seed)
{
    struct err err = ERR_EMPTY;
    CLEANUP(mem_freep) char *old = NULL;

    site->dead = false;
    site->left = UINT64_MAX;
    if (!power)
        return;
    old = site->root;
    new_root(site);
    if (fs_record_replay(site->record, fs_record_count(site->record), loss, seed, site->root, &err)
            < 0
        || fs_remove_tree(fs_real(), old, &err) < 0) {
        (void)fprintf(stderr, "%s: %s\n", site->base, err.text);
        abort();
    }
    fs_record_free(site->record);
    site->record = fs_record_new(site->root);
}

void site_load(struct site_fs *site, const struct fs_record *record, size_t prefix,
               enum fs_loss loss, uint64_t seed)
{
    struct err err = ERR_EMPTY;

    fs_record_free(site->record);
    if (fs_record_replay(record, prefix, loss, seed, site->root, &err) < 0) {
        (void)fprintf(stderr, "%s: %s\n", site->base, err.text);
        abort();
    }
    site->record = fs_record_new(site->root);
}

void site_take(struct site_fs *site, const char *root)
{
    fs_record_free(site->record);
    free(site->root);
    site->root = mem_strdup(root);
    site->record = fs_record_new(site->root);
}

void site_mend(struct site_fs *site)
{
    site->fault = (struct site_fault){0};
}
