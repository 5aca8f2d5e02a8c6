// SPDX-License-Identifier: Apache-2.0
/* The notes themselves: what a path means now, and one more operation. What is below the root
 * already, at the start or later by other hands, is noted as if it were made when first seen. */
#include "base/fs_record_log.h"
#include "base/mem.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE ((size_t)1 << 16)

void record_place_done(struct record_place *place)
{
    free(place->dir);
    free(place->name);
    free(place->path);
}

const char *record_below_root(const struct fs_record *r, const char *full)
{
    size_t len = strlen(r->root);

    if (strncmp(full, r->root, len) != 0)
        return NULL;
    if (full[len] == '\0')
        return ".";
    return full[len] == '/' ? full + len + 1 : NULL;
}

void record_place_find(const struct fs_record *r, const char *path, struct record_place *ret)
{
    CLEANUP(mem_freep) char *copy = mem_strdup(path);
    size_t len = strlen(copy);
    char dir[PATH_MAX];

    memset(ret, 0, sizeof(*ret));
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    if (slash)
        *slash = '\0';
    if (!realpath(!slash ? "." : *copy ? copy : "/", dir))
        return;
    const char *below = record_below_root(r, dir);
    if (!below)
        return;
    ret->dir = mem_strdup(dir);
    ret->name = mem_strdup(name);
    ret->path = strcmp(below, ".") == 0 ? mem_strdup(name) : path_join(below, name);
}

uint64_t record_find_id(const struct fs_record *r, const struct stat *st)
{
    for (size_t i = r->inodes.len; i > 0; i--) {
        const struct record_inode *inode = &r->inodes.at[i - 1];
        if (inode->ino == st->st_ino && inode->dev == st->st_dev && !inode->is_gone)
            return i;
    }
    return 0;
}

uint64_t record_new_id(struct fs_record *r, const struct stat *st)
{
    struct record_inode *inode = record_inodes_push(&r->inodes);

    inode->dev = st->st_dev;
    inode->ino = st->st_ino;
    inode->mode = st->st_mode & 07777;
    return r->inodes.len;
}

size_t record_slot_of(struct fs_record *r, uint64_t dir, const char *name)
{
    for (size_t i = r->slots.len; i > 0; i--)
        if (r->slots.at[i - 1].dir == dir && strcmp(r->slots.at[i - 1].name, name) == 0)
            return i - 1;
    struct record_slot *slot = record_slots_push(&r->slots);
    slot->dir = dir;
    slot->name = mem_strdup(name);
    return r->slots.len - 1;
}

struct fs_op *record_note(struct fs_record *r, enum fs_op_kind kind, uint64_t id, size_t slot,
                          const char *path)
{
    struct record_step *step = record_steps_push(&r->steps);
    struct fs_op *op = record_ops_push(&r->ops);

    step->id = id;
    step->slot = slot;
    step->slot_to = RECORD_NO_SLOT;
    op->kind = kind;
    op->path = path ? mem_strdup(path) : NULL;
    return op;
}

void record_note_write(struct fs_record *r, uint64_t id, const void *bytes, size_t len,
                       uint64_t off)
{
    struct fs_op *op = record_note(r, FS_OP_WRITE, id, RECORD_NO_SLOT, NULL);

    op->file = id;
    op->off = off;
    op->len = len;
    op->bytes = mem_alloc(len, 1);
    if (len > 0)
        memcpy(op->bytes, bytes, len);
}

void record_note_size(struct fs_record *r, uint64_t id, uint64_t size)
{
    struct fs_op *op = record_note(r, FS_OP_TRUNCATE, id, RECORD_NO_SLOT, NULL);

    op->file = id;
    op->len = size;
}

/* --- What others made ---------------------------------------------------------------------- */

static bool is_zero(const char *bytes, size_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static void take_in_bytes(struct fs_record *r, uint64_t id, const char *full, uint64_t size)
{
    CLEANUP(fd_close) int fd = open(full, O_RDONLY | O_CLOEXEC);
    CLEANUP(mem_freep) char *buf = mem_alloc(PIECE, 1);
    uint64_t off = 0;
    ssize_t n;

    record_note_size(r, id, size);
    while ((n = pread(fd, buf, PIECE, (off_t)off)) > 0) {
        if (!is_zero(buf, (size_t)n))
            record_note_write(r, id, buf, (size_t)n, off);
        off += (uint64_t)n;
    }
}

uint64_t record_dir_id(struct fs_record *r, const char *full)
{
    struct stat st;
    uint64_t id = stat(full, &st) == 0 ? record_find_id(r, &st) : 0;

    return id ? id : record_take_in(r, full);
}

uint64_t record_take_in(struct fs_record *r, const char *full)
{
    struct record_place place;
    struct stat st;
    uint64_t id = 0;

    record_place_find(r, full, &place);
    if (place.dir && lstat(full, &st) == 0 && (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode))) {
        size_t slot = record_slot_of(r, record_dir_id(r, place.dir), place.name);
        id = record_new_id(r, &st);
        struct fs_op *op =
            record_note(r, S_ISDIR(st.st_mode) ? FS_OP_MKDIR : FS_OP_CREATE, id, slot, place.path);
        if (S_ISREG(st.st_mode)) {
            op->file = id;
            if (st.st_size > 0)
                take_in_bytes(r, id, full, (uint64_t)st.st_size);
        }
    }
    record_place_done(&place);
    return id;
}

void record_take_in_tree(struct fs_record *r, const char *dir)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    if (fs_list(dir, &names, NULL) < 0)
        return;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *child = path_join(dir, names.at[i]);
        struct stat st;
        if (record_take_in(r, child) && lstat(child, &st) == 0 && S_ISDIR(st.st_mode))
            record_take_in_tree(r, child);
    }
}
