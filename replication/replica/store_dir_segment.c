// SPDX-License-Identifier: Apache-2.0
/* Segments on their way: UUID.part grows as bytes come in, whatever restarts in between; it
 * becomes UUID.seg when all of it has the root that was announced and is durable. Bytes that a
 * power cut took show in the root, and the segment is sent anew. */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/segment_format.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define OPEN_MAX 16U /* segments coming in at a time, each an open file */

static int file_size(const char *path, uint64_t *ret_size, struct err *err)
{
    struct stat st;

    if (lstat(path, &st) < 0) {
        if (errno != ENOENT)
            return err_set(err, ERR_IO, errno, "%s: stat", path);
        *ret_size = 0;
        return 0;
    }
    *ret_size = (uint64_t)st.st_size;
    return 0;
}

static void receive_close(struct store_dir *d, size_t i)
{
    (void)d->fs->close(d->fs, d->receives.at[i].fd);
    d->receives.at[i] = d->receives.at[--d->receives.len];
}

void dir_receives_close(struct store_dir *d)
{
    while (d->receives.len > 0)
        receive_close(d, 0);
    dir_receives_free(&d->receives);
}

static struct dir_receive *receive_find(struct store_dir *d, size_t disk, const struct uuid *uuid)
{
    VEC_FOREACH(receive, &d->receives)
        if (receive->disk == disk && memcmp(&receive->uuid, uuid, sizeof(*uuid)) == 0)
            return receive;
    return NULL;
}

static int receive_open(struct store_dir *d, struct dir_disk *disk, const struct uuid *uuid,
                        struct dir_receive **ret_receive, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_segment_path(disk, uuid, false);
    size_t index = (size_t)(disk - d->disks.at);
    struct dir_receive *receive = receive_find(d, index, uuid);
    uint64_t have;
    int fd;

    if (!receive) {
        if (d->receives.len == OPEN_MAX)
            receive_close(d, 0); /* what it has is in its file */
        if (file_size(path, &have, err) < 0
            || d->fs->open(d->fs, path, O_RDWR | O_CREAT, 0600, &fd, err) < 0)
            return -1;
        receive = dir_receives_push(&d->receives);
        *receive = (struct dir_receive){index, *uuid, fd, have};
    }
    *ret_receive = receive;
    return 0;
}

static struct dir_disk *receiving_disk(struct store_dir *d, const char *name, struct err *err)
{
    if (d->base != STORE_COPIED) {
        err_put(err, ERR_STATE, 0, "%s: segments come after the initial copy", d->group);
        return NULL;
    }
    if (guard_fs_check(&d->guard, err) < 0 || dir_own_held(d, err) < 0)
        return NULL;
    return dir_disk_find(d, name, err);
}

/* One that rotted is sent anew, and replaced when all of that is here. */
static bool is_whole(const char *path)
{
    struct segment_head head;
    struct segment_info info;
    struct err why = ERR_EMPTY;

    return segment_check(path, &head, &info, &why) == 0
           || (why.code != ERR_CORRUPT && why.code != ERR_IO);
}

int store_dir_segment_open(struct store *store, const char *disk, const struct uuid *uuid,
                           uint64_t *ret_have, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    struct dir_disk *to = receiving_disk(d, disk, err);
    struct dir_receive *receive;

    if (!to)
        return -1;
    CLEANUP(mem_freep) char *complete = dir_segment_path(to, uuid, true);
    if (fs_exists(complete) && is_whole(complete))
        return file_size(complete, ret_have, err);
    if (receive_open(d, to, uuid, &receive, err) < 0)
        return -1;
    *ret_have = receive->have;
    return 0;
}

int store_dir_segment_write(struct store *store, const char *disk, const struct uuid *uuid,
                            uint64_t off, const void *bytes, size_t len, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    struct dir_disk *to = receiving_disk(d, disk, err);
    struct dir_receive *receive;

    if (!to)
        return -1;
    CLEANUP(mem_freep) char *complete = dir_segment_path(to, uuid, true);
    bool anew = receive_find(d, (size_t)(to - d->disks.at), uuid) != NULL;
    if (!anew && fs_exists(complete))
        return err_set(err, ERR_EXISTS, 0, "%s: this segment is complete already", complete);
    if (receive_open(d, to, uuid, &receive, err) < 0)
        return -1;
    if (off > receive->have)
        return err_set(err, ERR_INVALID, 0,
                       "segment for disk %s: bytes at %" PRIu64 ", but only %" PRIu64 " are here",
                       disk, off, receive->have);
    if (d->fs->pwrite(d->fs, receive->fd, bytes, len, off, err) < 0)
        return -1;
    if (off + len > receive->have)
        receive->have = off + len;
    return 0;
}

/* Do its bytes, header and root agree with what was announced? */
static int check_received(const struct store_dir *d, const struct dir_disk *disk, const char *path,
                          const struct uuid *uuid, const struct sha256 *root, uint64_t bytes,
                          struct err *err)
{
    struct segment_head head;
    struct segment_info info;
    uint64_t have;

    if (file_size(path, &have, err) < 0)
        return -1;
    if (have != bytes)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: %" PRIu64 " bytes came, %" PRIu64 " were announced", path, have, bytes);
    if (segment_check(path, &head, &info, err) < 0)
        return -1;
    if (memcmp(&info.root, root, sizeof(*root)) != 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: not the segment that was announced", path);
    if (memcmp(&head.uuid, uuid, sizeof(*uuid)) != 0 || !str_eq(head.disk, disk->name)
        || !str_eq(head.group, d->group))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: a segment of disk %s of group %s, announced for disk %s of group %s",
                       path, head.disk, head.group, disk->name, d->group);
    return 0;
}

static int keep_received(struct store_dir *d, const struct dir_disk *disk, int fd, const char *part,
                         const char *complete, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(disk->dir, DIR_SEGMENTS);

    if (d->fs->sync(d->fs, fd, err) < 0 || d->fs->rename(d->fs, part, complete, err) < 0)
        return -1;
    return d->fs->sync_dir(d->fs, folder, err);
}

int store_dir_segment_close(struct store *store, const char *disk, const struct uuid *uuid,
                            const struct sha256 *root, uint64_t bytes, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    struct dir_disk *to = receiving_disk(d, disk, err);
    struct dir_receive *receive;
    struct err ignored;

    if (!to)
        return -1;
    CLEANUP(mem_freep) char *complete = dir_segment_path(to, uuid, true);
    CLEANUP(mem_freep) char *part = dir_segment_path(to, uuid, false);
    bool anew = receive_find(d, (size_t)(to - d->disks.at), uuid) != NULL;
    if (!anew && fs_exists(complete))
        return check_received(d, to, complete, uuid, root, bytes, err);
    if (receive_open(d, to, uuid, &receive, err) < 0)
        return -1;
    int fd = receive->fd;
    int rc = check_received(d, to, part, uuid, root, bytes, err);
    if (rc == 0)
        rc = keep_received(d, to, fd, part, complete, err);
    /* Damaged, or its sync failed: then its bytes must not be taken for durable later. */
    if (rc < 0 && fs_exists(part))
        (void)d->fs->unlink(d->fs, part, &ignored);
    receive_close(d, (size_t)(receive - d->receives.at));
    return rc;
}

/* What the manifest says of the disk: it may not be applied yet. */
static uint64_t size_in(const struct manifest *manifest, const struct dir_disk *disk)
{
    VEC_FOREACH(part, &manifest->disks)
        if (str_eq(part->name, disk->name))
            return part->size;
    return disk->size;
}

int dir_segment_match(struct store_dir *d, const struct dir_disk *disk,
                      const struct manifest *manifest, const struct manifest_segment *segment,
                      bool whole, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_segment_path(disk, &segment->uuid, true);
    CLEANUP(segment_reader_freep) struct segment_reader *reader = NULL;
    struct segment_head head;
    struct segment_info info;

    if (whole) {
        if (segment_check(path, &head, &info, err) < 0)
            return -1;
    } else {
        if (segment_reader_open(path, &d->key, &reader, err) < 0)
            return -1;
        head = *segment_reader_head(reader);
        info = *segment_reader_info(reader);
    }
    if (memcmp(&info.root, &segment->root, sizeof(info.root)) != 0 || info.bytes != segment->bytes)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: not the segment that the manifest of point %" PRIu64 " names", path,
                       manifest->point);
    if (!str_eq(head.group, manifest->group) || !str_eq(head.disk, disk->name)
        || head.disk_size != size_in(manifest, disk) || head.generation != manifest->generation
        || head.point != manifest->point
        || memcmp(&head.parent, &manifest->parent, sizeof(head.parent)) != 0)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: made for %s/%s of %" PRIu64 " bytes, generation %" PRIu64 ", point"
                       " %" PRIu64 "; the manifest has it for %s/%s of %" PRIu64 " bytes,"
                       " generation %" PRIu64 ", point %" PRIu64 " (or another parent)",
                       path, head.group, head.disk, head.disk_size, head.generation, head.point,
                       manifest->group, disk->name, size_in(manifest, disk), manifest->generation,
                       manifest->point);
    return 0;
}

/* --- Cleaning ---------------------------------------------------------------------------- */

/* The point that a file in segments/ was made for; false when it cannot be told. */
static bool point_of(const char *path, uint64_t *ret_point)
{
    struct segment_head head;
    struct err ignored;

    if (segment_head_read(path, &head, &ignored) < 0)
        return false;
    *ret_point = head.point;
    return true;
}

static bool is_part(const char *name)
{
    return str_eq(strrchr(name, '.'), ".part");
}

static int clean_disk(struct store_dir *d, const struct dir_disk *disk, bool opening,
                      struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(disk->dir, DIR_SEGMENTS);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    if (fs_list(folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = path_join(folder, names.at[i]);
        uint64_t point;
        /* Points up to the applied one are in head; a segment made for one of them is left
         * over, whether the point took it or not. One on its way whose header did not come, or
         * was lost with the power, is better begun anew; but not while its sender is at it. */
        bool left_over =
            point_of(path, &point) ? point <= d->applied : opening && is_part(names.at[i]);
        if (left_over && d->fs->unlink(d->fs, path, err) < 0)
            return -1;
    }
    return 0;
}

int dir_segments_clean(struct store_dir *d, bool opening, struct err *err)
{
    /* An open file that loses its name would swallow what still comes. */
    dir_receives_close(d);
    VEC_FOREACH(disk, &d->disks)
        if (clean_disk(d, disk, opening, err) < 0)
            return -1;
    return 0;
}
