// SPDX-License-Identifier: Apache-2.0
/* The disks of a store: finding, making, opening and closing their files. */
#include "replica/store_dir.h"

#include "base/fs_luks.h"
#include "base/fs_nbd.h"
#include "base/mem.h"
#include "replica/digests_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct dir_disk *dir_disk_find(const struct store_dir *d, const char *name, struct err *err)
{
    CLEANUP(str_free) struct str names = STR_EMPTY;

    VEC_FOREACH(disk, &d->disks)
        if (str_eq(disk->name, name))
            return disk;
    VEC_FOREACH(disk, &d->disks)
        str_addf(&names, " %s", disk->name);
    err_put(err, ERR_NOT_FOUND, 0, "replica of %s has no disk \"%.63s\" (it has:%s)", d->group,
            name, names.len ? names.ptr : " none");
    return NULL;
}

/* --- Files of a disk --------------------------------------------------------------------- */

static int make_head(struct store_dir *d, const struct dir_disk *disk, const char *path,
                     struct err *err)
{
    int fd;

    if (disk->luks)
        return fs_luks_create(d->fs, path, d->luks_key, &disk->luks_uuid, disk->size, err);
    if (d->fs->open(d->fs, path, O_RDWR | O_CREAT, 0600, &fd, err) < 0)
        return -1;
    int rc = d->fs->truncate(d->fs, fd, disk->size, err);
    if (rc == 0)
        rc = d->fs->sync(d->fs, fd, err);
    (void)d->fs->close(d->fs, fd);
    return rc;
}

void dir_disk_add(struct store_dir *d, const char *name, uint64_t size, const char *elsewhere,
                  const char *format)
{
    struct dir_disk *disk = dir_disks_push(&d->disks);

    memcpy(disk->name, name, strlen(name) + 1);
    disk->size = size;
    disk->dir = dir_path(d, name);
    disk->elsewhere = elsewhere ? mem_strdup(elsewhere) : NULL;
    (void)snprintf(disk->format, sizeof(disk->format), "%s", format);
    disk->head = -1;
    disk->digests = -1;
}

/* What the copy needs; files that are there stay, the digests begin anew: which of them are
 * right is known only to the process that wrote them. */
static int make_files(struct store_dir *d, const struct dir_disk *disk, const char *head,
                      const char *digests, struct err *err)
{
    static const char *const folders[] = {DIR_SEGMENTS, DIR_UNDO};

    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        CLEANUP(mem_freep) char *path = path_join(disk->dir, folders[i]);
        if (fs_make_dirs(d->fs, path, 0700, err) < 0)
            return -1;
    }
    if ((!disk->elsewhere && make_head(d, disk, head, err) < 0)
        || digests_file_create(d->fs, digests, disk->size, err) < 0)
        return -1;
    return d->fs->sync_dir(d->fs, disk->dir, err);
}

/* A file's or a block device's, or that of a disk behind a private server. */
static int open_path(struct store_dir *d, struct dir_disk *disk, const char *path, struct err *err)
{
    const char *what = disk->elsewhere ? "reprotect it" : "remove the replica and protect again";

    if (d->fs->open(d->fs, path, d->released ? O_RDONLY : O_RDWR, 0, &disk->head, err) < 0) {
        if (!err || err->code != ERR_NOT_FOUND)
            return -1;
        return err_set(err, ERR_CORRUPT, err->sys,
                       "%s: disk %s of %s is gone; hint: restore it, or %s", path, disk->name,
                       d->group, what);
    }
    off_t size = lseek(disk->head, 0, SEEK_END);
    if (size < 0)
        return err_set(err, ERR_IO, errno, "%s: its size", path);
    if ((uint64_t)size != disk->size && !disk->resizing)
        return err_set(err, ERR_CORRUPT, 0, "%s: %jd bytes, but the disk has %" PRIu64 "; hint: %s",
                       path, (intmax_t)size, disk->size, what);
    return 0;
}

bool dir_disk_is_served(const struct dir_disk *disk)
{
    return disk->elsewhere && !str_eq(disk->format, "raw");
}

bool dir_disk_is_plain(const struct dir_disk *disk)
{
    return !disk->luks && !dir_disk_is_served(disk);
}

static int check_key(const struct store_dir *d, const struct dir_disk *disk, struct err *err)
{
    if (!disk->luks || d->luks_key)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "disk %s of %s is a LUKS container, and no key was given that opens it",
                   disk->name, d->group);
}

static int open_head(struct store_dir *d, struct dir_disk *disk, struct err *err)
{
    if (disk->head >= 0 || (dir_disk_is_served(disk) && d->released))
        return 0;
    if (dir_disk_is_served(disk) && !d->nbd)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "%s: disk %s of %s is of format %s, and there is no folder for its server",
                       disk->elsewhere, disk->name, d->group, disk->format);
    if (dir_disk_is_served(disk))
        fs_nbd_serve(d->nbd, disk->elsewhere, disk->format, d->run_dir);
    CLEANUP(mem_freep) char *path = dir_head_path(disk);
    if (disk->luks)
        fs_luks_map(d->luks, path, d->luks_key, &disk->luks_uuid);
    if (open_path(d, disk, path, err) == 0) {
        if (disk->luks)
            fs_luks_holes(d->luks, disk->head, d->base == STORE_COPYING);
        return 0;
    }
    if (disk->head >= 0)
        (void)d->fs->close(d->fs, disk->head);
    disk->head = -1;
    return -1;
}

int dir_heads_open(struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks)
        if (disk->elsewhere && open_head(d, disk, err) < 0)
            return -1;
    return 0;
}

static int open_disk(struct store_dir *d, struct dir_disk *disk, struct err *err)
{
    CLEANUP(mem_freep) char *head = dir_head_path(disk);
    CLEANUP(mem_freep) char *digests = path_join(disk->dir, DIR_DIGESTS);

    if (check_key(d, disk, err) < 0)
        return -1;
    if (disk->digests < 0 && d->base == STORE_COPYING
        && make_files(d, disk, head, digests, err) < 0)
        return -1;
    if (open_head(d, disk, err) < 0)
        return -1;
    if (disk->digests >= 0)
        return 0;
    if (disk->resizing) /* it may be of either size */
        return d->fs->open(d->fs, digests, O_RDWR, 0, &disk->digests, err);
    if (digests_file_open(d->fs, digests, disk->size, &disk->digests, err) < 0) {
        if (err && err->code == ERR_NOT_FOUND)
            err->code = ERR_CORRUPT;
        return -1;
    }
    if (d->base == STORE_COPYING)
        disk->known = mem_new_array(uint8_t, chunk_count(disk->size) / 8 + 1);
    return 0;
}

int dir_disks_open(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *manifests = dir_path(d, DIR_FILE_MANIFESTS);

    if (d->base == STORE_COPYING && fs_make_dirs(d->fs, manifests, 0700, err) < 0)
        return -1;
    VEC_FOREACH(disk, &d->disks)
        if (open_disk(d, disk, err) < 0)
            return -1;
    return 0;
}

void dir_heads_close(struct store_dir *d)
{
    VEC_FOREACH(disk, &d->disks) {
        if (disk->head >= 0)
            (void)d->fs->close(d->fs, disk->head);
        disk->head = -1;
    }
}

void dir_disks_close(struct store_dir *d)
{
    dir_heads_close(d);
    VEC_FOREACH(disk, &d->disks) {
        if (disk->digests >= 0)
            (void)d->fs->close(d->fs, disk->digests);
        free(disk->known);
        free(disk->seed);
        free(disk->saved);
        free(disk->dir);
        free(disk->elsewhere);
    }
    dir_disks_free(&d->disks);
}
