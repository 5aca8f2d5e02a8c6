// SPDX-License-Identifier: Apache-2.0
/* The recorder does each operation by fs_real() and notes it when it succeeded. */
#include "base/fs_record_log.h"
#include "base/mem.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct fs_record *record_of(struct fs *fs)
{
    return (struct fs_record *)fs;
}

/* The number behind a descriptor; 0 when it was not opened here or is another one by now. */
static uint64_t fd_id(const struct fs_record *r, int fd, bool *ret_is_dir)
{
    struct stat st;
    uint64_t id = fd >= 0 && (size_t)fd < r->fds.len ? r->fds.at[fd] : 0;

    if (!id || fstat(fd, &st) < 0 || r->inodes.at[id - 1].ino != st.st_ino
        || r->inodes.at[id - 1].dev != st.st_dev)
        return 0;
    *ret_is_dir = S_ISDIR(st.st_mode);
    return id;
}

static void fd_set_id(struct fs_record *r, int fd, uint64_t id)
{
    while (r->fds.len <= (size_t)fd)
        (void)record_fds_push(&r->fds);
    r->fds.at[fd] = id;
}

static uint64_t note_open(struct fs_record *r, const char *path, int flags, bool existed, int fd)
{
    CLEANUP(record_place_done) struct record_place place = {0};
    char full[PATH_MAX];
    struct stat st;

    if (fstat(fd, &st) < 0 || !realpath(path, full))
        return 0;
    if (S_ISDIR(st.st_mode))
        return record_below_root(r, full) ? record_dir_id(r, full) : 0;
    record_place_find(r, path, &place);
    if (!place.dir)
        return 0;
    if (!existed) {
        size_t slot = record_slot_of(r, record_dir_id(r, place.dir), place.name);
        uint64_t id = record_new_id(r, &st);
        record_note(r, FS_OP_CREATE, id, slot, place.path)->file = id;
        return id;
    }
    uint64_t id = record_find_id(r, &st);
    if (!id)
        return record_take_in(r, full);
    if (flags & O_TRUNC)
        record_note_size(r, id, 0);
    return id;
}

static int record_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                       struct err *err)
{
    struct fs_record *r = record_of(fs);
    bool existed = fs_exists(path);
    int fd;

    if (fs_real()->open(fs_real(), path, flags, mode, &fd, err) < 0)
        return -1;
    fd_set_id(r, fd, note_open(r, path, flags, existed, fd));
    *ret_fd = fd;
    return 0;
}

static int record_close(struct fs *fs, int fd)
{
    if (fd >= 0 && (size_t)fd < record_of(fs)->fds.len)
        record_of(fs)->fds.at[fd] = 0;
    return fs_real()->close(fs_real(), fd);
}

static int record_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err)
{
    (void)fs;
    return fs_real()->pread(fs_real(), fd, buf, len, off, err);
}

static int record_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                         struct err *err)
{
    bool is_dir;
    uint64_t id = fd_id(record_of(fs), fd, &is_dir);

    if (fs_real()->pwrite(fs_real(), fd, buf, len, off, err) < 0)
        return -1;
    if (id)
        record_note_write(record_of(fs), id, buf, len, off);
    return 0;
}

static void note_sync_dir(struct fs_record *r, const char *path)
{
    char full[PATH_MAX];
    const char *below = realpath(path, full) ? record_below_root(r, full) : NULL;

    if (below)
        (void)record_note(r, FS_OP_SYNC_DIR, record_dir_id(r, full), RECORD_NO_SLOT, below);
}

static int record_sync(struct fs *fs, int fd, struct err *err)
{
    struct fs_record *r = record_of(fs);
    bool is_dir = false;
    uint64_t id = fd_id(r, fd, &is_dir);

    if (fs_real()->sync(fs_real(), fd, err) < 0)
        return -1;
    if (is_dir) {
        char link[64];
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        note_sync_dir(r, link);
    } else if (id) {
        record_note(r, FS_OP_SYNC, id, RECORD_NO_SLOT, NULL)->file = id;
    }
    return 0;
}

void fs_record_sync_failed(struct fs_record *record, int fd)
{
    bool is_dir = false;
    uint64_t id = fd_id(record, fd, &is_dir);

    for (size_t i = record->ops.len; id && !is_dir && i > record->initial; i--) {
        const struct fs_op *op = &record->ops.at[i - 1];
        if (op->kind == FS_OP_SYNC && op->file == id)
            break;
        if (op->file == id && op->kind != FS_OP_CREATE)
            record->steps.at[i - 1].doomed = true;
    }
}

static int record_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    bool is_dir;
    uint64_t id = fd_id(record_of(fs), fd, &is_dir);

    if (fs_real()->truncate(fs_real(), fd, size, err) < 0)
        return -1;
    if (id)
        record_note_size(record_of(fs), id, size);
    return 0;
}

static int record_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct fs_record *r = record_of(fs);
    bool is_dir;
    uint64_t id = fd_id(r, fd, &is_dir);

    if (fs_real()->punch(fs_real(), fd, off, len, err) < 0)
        return -1;
    if (id) {
        struct fs_op *op = record_note(r, FS_OP_PUNCH, id, RECORD_NO_SLOT, NULL);
        op->file = id;
        op->off = off;
        op->len = len;
    }
    return 0;
}

/* The number of what stands at `path`, which may come from other hands; 0 outside the root. */
static uint64_t id_at(struct fs_record *r, const struct record_place *place)
{
    CLEANUP(mem_freep) char *full = place->dir ? path_join(place->dir, place->name) : NULL;
    struct stat st;

    if (!full || lstat(full, &st) < 0)
        return 0;
    uint64_t id = record_find_id(r, &st);
    return id ? id : record_take_in(r, full);
}

static void set_gone(struct fs_record *r, uint64_t id)
{
    if (id)
        r->inodes.at[id - 1].is_gone = true;
}

static int record_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    struct fs_record *r = record_of(fs);
    CLEANUP(record_place_done) struct record_place place = {0};
    CLEANUP(record_place_done) struct record_place place_to = {0};

    record_place_find(r, from, &place);
    record_place_find(r, to, &place_to);
    uint64_t id = id_at(r, &place);
    uint64_t replaced = id_at(r, &place_to);
    if (fs_real()->rename(fs_real(), from, to, err) < 0)
        return -1;
    if (replaced != id)
        set_gone(r, replaced);
    if (!place_to.dir) { /* out of what we watch */
        if (id)
            (void)record_note(r, FS_OP_UNLINK, id,
                              record_slot_of(r, record_dir_id(r, place.dir), place.name),
                              place.path);
        set_gone(r, id);
    } else if (!id) { /* into it */
        CLEANUP(mem_freep) char *full = path_join(place_to.dir, place_to.name);
        (void)record_take_in(r, full);
        record_take_in_tree(r, full);
    } else {
        size_t slot = record_slot_of(r, record_dir_id(r, place.dir), place.name);
        size_t slot_to = record_slot_of(r, record_dir_id(r, place_to.dir), place_to.name);
        record_note(r, FS_OP_RENAME, id, slot, place.path)->path_to = mem_strdup(place_to.path);
        r->steps.at[r->steps.len - 1].slot_to = slot_to;
    }
    return 0;
}

/* For unlink and rmdir, which differ only in their name. */
static int remove_name(struct fs_record *r, enum fs_op_kind kind, const char *path,
                       int (*act)(struct fs *, const char *, struct err *), struct err *err)
{
    CLEANUP(record_place_done) struct record_place place = {0};

    record_place_find(r, path, &place);
    uint64_t id = id_at(r, &place);
    if (act(fs_real(), path, err) < 0)
        return -1;
    if (id)
        (void)record_note(r, kind, id, record_slot_of(r, record_dir_id(r, place.dir), place.name),
                          place.path);
    set_gone(r, id);
    return 0;
}

static int record_unlink(struct fs *fs, const char *path, struct err *err)
{
    return remove_name(record_of(fs), FS_OP_UNLINK, path, fs_real()->unlink, err);
}

static int record_rmdir(struct fs *fs, const char *path, struct err *err)
{
    return remove_name(record_of(fs), FS_OP_RMDIR, path, fs_real()->rmdir, err);
}

static int record_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    CLEANUP(record_place_done) struct record_place place = {0};

    if (fs_real()->mkdir(fs_real(), path, mode, err) < 0)
        return -1;
    record_place_find(record_of(fs), path, &place);
    if (place.dir) {
        CLEANUP(mem_freep) char *full = path_join(place.dir, place.name);
        (void)record_take_in(record_of(fs), full);
    }
    return 0;
}

static int record_stamp(struct fs *fs, const char *path, struct fs_stamp *ret_stamp,
                        struct err *err)
{
    (void)fs;
    return fs_stamp(fs_real(), path, ret_stamp, err);
}

static int record_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    if (fs_real()->sync_dir(fs_real(), path, err) < 0)
        return -1;
    note_sync_dir(record_of(fs), path);
    return 0;
}

/* ------------------------------------------------------------------------------------------- */

struct fs_record *fs_record_new(const char *root)
{
    static const struct fs ops = {
        .open = record_open,
        .close = record_close,
        .pread = record_pread,
        .pwrite = record_pwrite,
        .sync = record_sync,
        .truncate = record_truncate,
        .punch = record_punch,
        .rename = record_rename,
        .unlink = record_unlink,
        .mkdir = record_mkdir,
        .rmdir = record_rmdir,
        .sync_dir = record_sync_dir,
        .stamp = record_stamp,
    };
    struct fs_record *r = mem_new(struct fs_record);
    char full[PATH_MAX];
    struct stat st;

    r->fs = ops;
    if (!realpath(root, full) || stat(full, &st) < 0 || !S_ISDIR(st.st_mode)) {
        (void)fprintf(stderr, "muster: fs_record_new: %s: not a folder\n", root);
        abort();
    }
    r->root = mem_strdup(full);
    (void)record_new_id(r, &st);
    record_take_in_tree(r, full);
    r->initial = r->ops.len;
    return r;
}

void fs_record_free(struct fs_record *record)
{
    if (!record)
        return;
    VEC_FOREACH(op, &record->ops) {
        free(op->path);
        free(op->path_to);
        free(op->bytes);
    }
    VEC_FOREACH(slot, &record->slots)
        free(slot->name);
    record_ops_free(&record->ops);
    record_steps_free(&record->steps);
    record_slots_free(&record->slots);
    record_inodes_free(&record->inodes);
    record_fds_free(&record->fds);
    free(record->root);
    free(record);
}

struct fs *fs_record_fs(struct fs_record *record)
{
    return &record->fs;
}

void fs_record_mark(struct fs_record *record, const char *text)
{
    struct fs_op *op = record_note(record, FS_OP_MARK, 0, RECORD_NO_SLOT, NULL);

    op->len = strlen(text);
    op->bytes = mem_strdup(text);
}

size_t fs_record_count(const struct fs_record *record)
{
    return record->ops.len - record->initial;
}

const struct fs_op *fs_record_at(const struct fs_record *record, size_t i)
{
    return &record->ops.at[record->initial + i];
}
