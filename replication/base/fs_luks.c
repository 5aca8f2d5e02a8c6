// SPDX-License-Identifier: Apache-2.0
/* An open container is a memfd without content, for its number and its size, and the file below. */
#include "base/fs_luks.h"

#include "base/mem.h"
#include "base/vec.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE_BYTES   ((size_t)256 << 10) /* sealed in one go */
#define PIECE_SECTORS (PIECE_BYTES / LUKS_SECTOR_BYTES)
#define HOLE_BYTES    (UINT64_C(64) << 10)
#define BEGIN_BYTES   ((size_t)1024)
#define CREATE_FLAGS  (O_RDWR | O_CREAT | O_TRUNC)

struct container {
    char *path;
    char *key_path;
    bool checked; /* `uuid` is the only one */
    struct uuid uuid;
};
VEC_DEFINE(containers, struct container)

struct luks_file {
    int fd;
    int below;
    char *path;
    uint64_t size;
    bool holes;
    struct luks_volume volume;
};
VEC_DEFINE(luks_files, struct luks_file *)

struct fs_luks {
    struct fs fs;
    struct fs *below;
    pthread_mutex_t lock; /* what follows */
    struct containers containers;
    struct luks_files files;
};

static struct fs_luks *self_of(struct fs *fs)
{
    return (struct fs_luks *)(void *)fs; /* its first member */
}

/* The file of that number; NULL: one of `below`. It stays until it is closed. */
static struct luks_file *find(struct fs_luks *self, int fd)
{
    struct luks_file *found = NULL;

    (void)pthread_mutex_lock(&self->lock);
    VEC_FOREACH(file, &self->files)
        if ((*file)->fd == fd)
            found = *file;
    (void)pthread_mutex_unlock(&self->lock);
    return found;
}

/* --- Opening ------------------------------------------------------------------------------ */

static void file_free(struct fs_luks *self, struct luks_file *file)
{
    if (file->below >= 0)
        (void)self->below->close(self->below, file->below);
    fd_close(&file->fd);
    luks_volume_wipe(&file->volume);
    free(file->path);
    free(file);
}

/* A copy; false: the path is not mapped. */
static bool get_container(struct fs_luks *self, const char *path, struct container *ret_container)
{
    bool found = false;

    (void)pthread_mutex_lock(&self->lock);
    VEC_FOREACH(container, &self->containers)
        if (str_eq(container->path, path)) {
            *ret_container = *container;
            ret_container->path = mem_strdup(container->path);
            ret_container->key_path = mem_strdup(container->key_path);
            found = true;
        }
    (void)pthread_mutex_unlock(&self->lock);
    return found;
}

static void container_done(struct container *container)
{
    free(container->path);
    free(container->key_path);
}

static int unlock(struct fs_luks *self, struct luks_file *file, const struct container *container,
                  struct err *err)
{
    CLEANUP(luks_secret_wipe) struct luks_secret secret;
    CLEANUP(mem_freep) uint8_t *header = NULL;
    uint8_t begin[BEGIN_BYTES];
    uint64_t len;

    if (luks_secret_read(container->key_path, &secret, err) < 0) {
        if (err && err->code == ERR_NOT_FOUND) /* the container is there */
            return err_set(err, ERR_AUTH, 0,
                           "the key of %s is gone: %s; hint: restore it from a backup of the site",
                           file->path, container->key_path);
        return err_wrap(err, "the key of %s", file->path);
    }
    if (self->below->pread(self->below, file->below, begin, sizeof(begin), 0, err) < 0
        || luks_header_bytes(begin, sizeof(begin), file->path, &len, err) < 0)
        return -1;
    header = mem_alloc(len, 1);
    if (self->below->pread(self->below, file->below, header, len, 0, err) < 0
        || luks_unlock(header, len, &secret, file->path, &file->volume, err) < 0)
        return -1;
    if (container->checked
        && memcmp(&container->uuid, &file->volume.uuid, sizeof(container->uuid)) != 0)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: a LUKS container, but not the one of this disk; hint: put that back",
                       file->path);
    return 0;
}

/* Its number, of the disk's size. */
static int make_descriptor(struct luks_file *file, struct err *err)
{
    off_t size = lseek(file->below, 0, SEEK_END);

    if (size < 0 || (uint64_t)size < file->volume.payload)
        return err_set(err, ERR_CORRUPT, size < 0 ? errno : 0, "%s: %jd bytes, with its header",
                       file->path, (intmax_t)size);
    file->size = (uint64_t)size - file->volume.payload;
    file->fd = memfd_create("luks", MFD_CLOEXEC);
    if (file->fd < 0 || ftruncate(file->fd, (off_t)file->size) < 0)
        return err_set(err, ERR_IO, errno, "%s: a descriptor for it", file->path);
    return 0;
}

static int luks_fs_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                        struct err *err)
{
    struct fs_luks *self = self_of(fs);
    CLEANUP(container_done) struct container container = {0};
    int below;

    if (self->below->open(self->below, path, flags, mode, &below, err) < 0)
        return -1;
    if (!get_container(self, path, &container)) {
        *ret_fd = below;
        return 0;
    }
    struct luks_file *file = mem_new(struct luks_file);
    file->fd = -1;
    file->below = below;
    file->path = mem_strdup(path);
    if (unlock(self, file, &container, err) < 0 || make_descriptor(file, err) < 0) {
        file_free(self, file);
        return -1;
    }
    *ret_fd = file->fd;
    (void)pthread_mutex_lock(&self->lock);
    *luks_files_push(&self->files) = file;
    (void)pthread_mutex_unlock(&self->lock);
    return 0;
}

static int luks_fs_close(struct fs *fs, int fd)
{
    struct fs_luks *self = self_of(fs);
    struct luks_file *file = NULL;

    (void)pthread_mutex_lock(&self->lock);
    for (size_t i = 0; i < self->files.len; i++)
        if (self->files.at[i]->fd == fd) {
            file = self->files.at[i];
            self->files.at[i] = self->files.at[--self->files.len];
            break;
        }
    (void)pthread_mutex_unlock(&self->lock);
    if (!file)
        return self->below->close(self->below, fd);
    file_free(self, file);
    return 0;
}

/* --- Bytes -------------------------------------------------------------------------------- */

static int check_range(const struct luks_file *file, uint64_t off, uint64_t len, bool whole,
                       struct err *err)
{
    if (off > file->size || len > file->size - off)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: short: %" PRIu64 " bytes at %" PRIu64 " of %" PRIu64, file->path, len,
                       off, file->size);
    if (whole && (off % LUKS_SECTOR_BYTES || len % LUKS_SECTOR_BYTES))
        return err_set(err, ERR_INVALID, 0,
                       "%s: %" PRIu64 " bytes at %" PRIu64 " are not whole sectors", file->path,
                       len, off);
    return 0;
}

/* Whole sectors, in place. */
static int read_sectors(struct fs_luks *self, const struct luks_file *file, void *buf, size_t len,
                        uint64_t off, struct err *err)
{
    if (self->below->pread(self->below, file->below, buf, len, file->volume.payload + off, err) < 0)
        return -1;
    luks_open(&file->volume, off / LUKS_SECTOR_BYTES, buf, len, buf);
    return 0;
}

/* Part of one sector. */
static int read_part(struct fs_luks *self, const struct luks_file *file, void *buf, size_t len,
                     uint64_t off, struct err *err)
{
    uint8_t sector[LUKS_SECTOR_BYTES];
    size_t at = off % LUKS_SECTOR_BYTES;

    if (read_sectors(self, file, sector, sizeof(sector), off - at, err) < 0)
        return -1;
    memcpy(buf, sector + at, len);
    return 0;
}

static int luks_fs_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off,
                         struct err *err)
{
    struct fs_luks *self = self_of(fs);
    const struct luks_file *file = find(self, fd);
    uint8_t *at = buf;

    if (!file)
        return self->below->pread(self->below, fd, buf, len, off, err);
    if (check_range(file, off, len, false, err) < 0)
        return -1;
    while (len > 0) {
        size_t in = off % LUKS_SECTOR_BYTES;
        bool part = in != 0 || len < LUKS_SECTOR_BYTES;
        size_t n = part ? LUKS_SECTOR_BYTES - in : len - len % LUKS_SECTOR_BYTES;
        n = n < len ? n : len;
        if ((part ? read_part(self, file, at, n, off, err)
                  : read_sectors(self, file, at, n, off, err))
            < 0)
            return -1;
        at += n;
        off += n;
        len -= n;
    }
    return 0;
}

/* `plain` NULL: zeros. */
static int write_sectors(struct fs_luks *self, const struct luks_file *file, const uint8_t *plain,
                         uint64_t len, uint64_t off, struct err *err)
{
    CLEANUP(mem_freep) uint8_t *sealed = mem_alloc(len < PIECE_BYTES ? len + 1 : PIECE_BYTES, 1);

    while (len > 0) {
        size_t n = len < PIECE_BYTES ? (size_t)len : PIECE_BYTES;
        if (!plain)
            memset(sealed, 0, n);
        luks_seal(&file->volume, off / LUKS_SECTOR_BYTES, plain ? plain : sealed, n, sealed);
        if (self->below->pwrite(self->below, file->below, sealed, n, file->volume.payload + off,
                                err)
            < 0)
            return -1;
        plain = plain ? plain + n : NULL;
        off += n;
        len -= n;
    }
    return 0;
}

static int luks_fs_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                          struct err *err)
{
    struct fs_luks *self = self_of(fs);
    const struct luks_file *file = find(self, fd);

    if (!file)
        return self->below->pwrite(self->below, fd, buf, len, off, err);
    if (check_range(file, off, len, true, err) < 0)
        return -1;
    return write_sectors(self, file, buf, len, off, err);
}

/* --- Zeros and holes ---------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

/* Which sectors of a piece zeros are to be written to: holes, and unless only these, those whose content
 * is not zeros yet. The piece is opened in place. */
static void mark_wanted(const struct luks_file *file, uint8_t *piece, size_t count, uint64_t off,
                        bool only_holes, bool ret_wanted[PIECE_SECTORS])
{
    for (size_t i = 0; i < count; i++)
        ret_wanted[i] = is_zero(piece + i * LUKS_SECTOR_BYTES, LUKS_SECTOR_BYTES);
    if (only_holes)
        return;
    luks_open(&file->volume, off / LUKS_SECTOR_BYTES, piece, count * LUKS_SECTOR_BYTES, piece);
    for (size_t i = 0; i < count; i++)
        ret_wanted[i] |= !is_zero(piece + i * LUKS_SECTOR_BYTES, LUKS_SECTOR_BYTES);
}

/* In as few writes as there are runs of such sectors. */
static int seal_zeros(struct fs_luks *self, const struct luks_file *file, uint8_t *piece,
                      size_t len, uint64_t off, bool only_holes, uint64_t *written, struct err *err)
{
    bool wanted[PIECE_SECTORS];
    size_t count = len / LUKS_SECTOR_BYTES;

    if (self->below->pread(self->below, file->below, piece, len, file->volume.payload + off, err)
        < 0)
        return -1;
    mark_wanted(file, piece, count, off, only_holes, wanted);
    for (size_t i = 0, n; i < count; i += n + 1) {
        for (n = 0; i + n < count && wanted[i + n];)
            n++;
        if (n > 0
            && write_sectors(self, file, NULL, n * LUKS_SECTOR_BYTES, off + i * LUKS_SECTOR_BYTES,
                             err)
                   < 0)
            return -1;
        *written += n * LUKS_SECTOR_BYTES;
    }
    return 0;
}

static int seal_range(struct fs_luks *self, const struct luks_file *file, uint64_t off,
                      uint64_t len, bool only_holes, uint64_t *written, struct err *err)
{
    CLEANUP(mem_freep) uint8_t *piece = mem_alloc(PIECE_BYTES, 1);

    while (len > 0) {
        size_t n = len < PIECE_BYTES ? (size_t)len : PIECE_BYTES;
        if (seal_zeros(self, file, piece, n, off, only_holes, written, err) < 0)
            return -1;
        off += n;
        len -= n;
    }
    return 0;
}

static int luks_fs_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct fs_luks *self = self_of(fs);
    const struct luks_file *file = find(self, fd);
    uint64_t written = 0;

    if (!file)
        return self->below->punch(self->below, fd, off, len, err);
    if (check_range(file, off, len, true, err) < 0)
        return -1;
    uint64_t end = off + len;
    uint64_t first = (off + HOLE_BYTES - 1) / HOLE_BYTES * HOLE_BYTES;
    uint64_t last = end == file->size ? end : end / HOLE_BYTES * HOLE_BYTES;
    if (!file->holes || first >= last)
        return seal_range(self, file, off, len, false, &written, err);
    if (seal_range(self, file, off, first - off, false, &written, err) < 0
        || self->below->punch(self->below, file->below, file->volume.payload + first, last - first,
                              err)
               < 0)
        return -1;
    return seal_range(self, file, last, end - last, false, &written, err);
}

void fs_luks_holes(struct fs *fs, int fd, bool allowed)
{
    struct luks_file *file = find(self_of(fs), fd);

    assert(file);
    file->holes = allowed;
}

int fs_luks_fill(struct fs *fs, int fd, uint64_t off, uint64_t len, uint64_t *ret_written,
                 struct err *err)
{
    struct fs_luks *self = self_of(fs);
    const struct luks_file *file = find(self, fd);
    uint64_t written = 0;

    assert(file);
    if (check_range(file, off, len, true, err) < 0
        || seal_range(self, file, off, len, true, &written, err) < 0)
        return -1;
    *ret_written = written;
    return 0;
}

/* --- The file as a whole ------------------------------------------------------------------ */

static int luks_fs_sync(struct fs *fs, int fd, struct err *err)
{
    struct fs_luks *self = self_of(fs);
    const struct luks_file *file = find(self, fd);

    return self->below->sync(self->below, file ? file->below : fd, err);
}

/* What it grows by reads as zeros, for others, too. */
static int luks_fs_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    struct fs_luks *self = self_of(fs);
    struct luks_file *file = find(self, fd);
    uint64_t written = 0;

    if (!file)
        return self->below->truncate(self->below, fd, size, err);
    if (size % LUKS_SECTOR_BYTES)
        return err_set(err, ERR_INVALID, 0, "%s: %" PRIu64 " bytes are not whole sectors",
                       file->path, size);
    uint64_t old = file->size;
    if (self->below->truncate(self->below, file->below, file->volume.payload + size, err) < 0)
        return -1;
    if (ftruncate(file->fd, (off_t)size) < 0)
        return err_set(err, ERR_IO, errno, "%s: a descriptor for it", file->path);
    file->size = size;
    if (size <= old || file->holes)
        return 0;
    return seal_range(self, file, old, size - old, true, &written, err);
}

/* --- What only goes on below -------------------------------------------------------------- */

static int below_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    struct fs_luks *self = self_of(fs);

    return self->below->rename(self->below, from, to, err);
}

static int below_unlink(struct fs *fs, const char *path, struct err *err)
{
    struct fs_luks *self = self_of(fs);

    return self->below->unlink(self->below, path, err);
}

static int below_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    struct fs_luks *self = self_of(fs);

    return self->below->mkdir(self->below, path, mode, err);
}

static int below_rmdir(struct fs *fs, const char *path, struct err *err)
{
    struct fs_luks *self = self_of(fs);

    return self->below->rmdir(self->below, path, err);
}

static int below_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    struct fs_luks *self = self_of(fs);

    return self->below->sync_dir(self->below, path, err);
}

static int below_stamp(struct fs *fs, const char *path, struct fs_stamp *ret_stamp, struct err *err)
{
    return fs_stamp(self_of(fs)->below, path, ret_stamp, err);
}

static int luks_fs_clone(struct fs *fs, int from, int fd, uint64_t off, uint64_t len,
                         struct err *err)
{
    struct fs_luks *self = self_of(fs);
    const struct luks_file *file = find(self, fd);

    if (file)
        return err_set(err, ERR_UNSUPPORTED, 0, "%s: a container", file->path);
    return fs_clone(self->below, from, fd, off, len, err);
}

/* --- The filter --------------------------------------------------------------------------- */

struct fs *fs_luks_new(struct fs *below)
{
    struct fs_luks *self = mem_new(struct fs_luks);

    self->fs = (struct fs){
        .open = luks_fs_open,
        .close = luks_fs_close,
        .pread = luks_fs_pread,
        .pwrite = luks_fs_pwrite,
        .sync = luks_fs_sync,
        .truncate = luks_fs_truncate,
        .punch = luks_fs_punch,
        .rename = below_rename,
        .unlink = below_unlink,
        .mkdir = below_mkdir,
        .rmdir = below_rmdir,
        .sync_dir = below_sync_dir,
        .stamp = below_stamp,
        .clone = luks_fs_clone,
    };
    self->below = below;
    (void)pthread_mutex_init(&self->lock, NULL);
    return &self->fs;
}

void fs_luks_free(struct fs *fs)
{
    if (!fs)
        return;
    struct fs_luks *self = self_of(fs);
    VEC_FOREACH(container, &self->containers)
        container_done(container);
    containers_free(&self->containers);
    VEC_FOREACH(file, &self->files)
        file_free(self, *file);
    luks_files_free(&self->files);
    (void)pthread_mutex_destroy(&self->lock);
    free(self);
}

void fs_luks_map(struct fs *fs, const char *path, const char *key_path, const struct uuid *uuid)
{
    struct fs_luks *self = self_of(fs);
    struct container container = {mem_strdup(path), mem_strdup(key_path), uuid != NULL,
                                  uuid ? *uuid : (struct uuid){{0}}};
    struct container *to = NULL;

    (void)pthread_mutex_lock(&self->lock);
    VEC_FOREACH(found, &self->containers)
        if (str_eq(found->path, path))
            to = found;
    if (to)
        container_done(to);
    else
        to = containers_push(&self->containers);
    *to = container;
    (void)pthread_mutex_unlock(&self->lock);
}

/* --- Making one --------------------------------------------------------------------------- */

static int write_new(struct fs *fs, const char *path, const uint8_t *header, uint64_t size,
                     struct err *err)
{
    int fd;

    if (fs->open(fs, path, CREATE_FLAGS, 0600, &fd, err) < 0)
        return -1;
    int rc = fs->pwrite(fs, fd, header, LUKS_HEADER_BYTES, 0, err);
    if (rc == 0)
        rc = fs->truncate(fs, fd, LUKS_HEADER_BYTES + size, err);
    if (rc == 0)
        rc = fs->sync(fs, fd, err);
    (void)fs->close(fs, fd);
    return rc;
}

int fs_luks_create(struct fs *fs, const char *path, const char *key_path, const struct uuid *uuid,
                   uint64_t size, struct err *err)
{
    CLEANUP(luks_secret_wipe) struct luks_secret secret;
    CLEANUP(mem_freep) uint8_t *header = NULL;
    CLEANUP(mem_freep) char *half = mem_printf("%s.tmp", path);
    CLEANUP(mem_freep) char *dir = mem_strdup(path);

    if (fs_exists(path))
        return 0;
    if (luks_secret_read(key_path, &secret, err) < 0)
        return err_wrap(err, "the key of %s", path);
    if (luks_format(&secret, uuid, &header, err) < 0 || write_new(fs, half, header, size, err) < 0
        || fs->rename(fs, half, path, err) < 0)
        return -1;
    *strrchr(dir, '/') = '\0';
    return fs->sync_dir(fs, dir, err);
}
