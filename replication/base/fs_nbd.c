// SPDX-License-Identifier: Apache-2.0
/* A mapped file is a memfd without content, for its number and its size, and a connection. */
#include "base/fs_nbd.h"

#include "base/mem.h"
#include "base/nbd_server.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)8 << 20) /* per request; servers take 32 MiB at least */
#define TRIES       100U              /* to reach a server of our own that may be about to end */
#define TRY_MS      50

struct mapping {
    char *path;
    char *socket; /* NULL: a server of our own */
    char *format;
    char *run_dir;
    bool pinned; /* and only read */
    struct nbd_pin pin;
};
VEC_DEFINE(mappings, struct mapping)

struct nbd_file {
    int fd;
    struct mapping mapping;
    bool writes;
    pthread_mutex_t use; /* a connection is used by one thread at a time */
    struct nbd_handle *nbd;
};
VEC_DEFINE(nbd_files, struct nbd_file *)

struct fs_nbd {
    struct fs fs;
    struct fs *below;
    pthread_mutex_t lock; /* what follows */
    struct mappings mappings;
    struct nbd_files files;
};

static struct fs_nbd *self_of(struct fs *fs)
{
    return (struct fs_nbd *)(void *)fs; /* its first member */
}

static int failed(const struct nbd_file *file, const char *what, struct err *err)
{
    int sys = nbd_get_errno();

    return err_set(err, sys == ENOSPC ? ERR_SPACE : ERR_IO, sys, "%s: %s through its server: %s",
                   file->mapping.path, what, nbd_get_error());
}

/* --- Files ---------------------------------------------------------------------------------- */

static void mapping_done(struct mapping *mapping)
{
    free(mapping->path);
    free(mapping->socket);
    free(mapping->format);
    free(mapping->run_dir);
}

static void file_free(struct nbd_file *file)
{
    nbd_close(file->nbd);
    fd_close(&file->fd);
    (void)pthread_mutex_destroy(&file->use);
    mapping_done(&file->mapping);
    free(file);
}

static void file_freep(struct nbd_file **file)
{
    if (*file)
        file_free(*file);
}

/* The file of that number, locked for one call; NULL: one of `below`. */
static struct nbd_file *take(struct fs_nbd *self, int fd)
{
    struct nbd_file *found = NULL;

    (void)pthread_mutex_lock(&self->lock);
    VEC_FOREACH(file, &self->files)
        if ((*file)->fd == fd)
            found = *file;
    (void)pthread_mutex_unlock(&self->lock);
    if (found)
        (void)pthread_mutex_lock(&found->use);
    return found;
}

static void give(struct nbd_file *file)
{
    (void)pthread_mutex_unlock(&file->use);
}

static int connect_once(struct nbd_file *file, const char *socket, struct err *err)
{
    nbd_close(file->nbd);
    file->nbd = nbd_create();
    if (!file->nbd || nbd_connect_unix(file->nbd, socket) < 0)
        return failed(file, "connect", err);
    if (nbd_is_read_only(file->nbd) == 0 && nbd_can_flush(file->nbd) != 1)
        return err_set(err, ERR_UNSUPPORTED, 0, "%s: its server cannot sync", file->mapping.path);
    return 0;
}

/* A server of our own may be about to end, for its last client just left: then there is soon none,
 * and the next one can be started. */
static int connect_file(struct nbd_file *file, struct err *err)
{
    const struct mapping *m = &file->mapping;
    const struct nbd_server server = {m->run_dir, m->path, m->format, m->pinned,
                                      m->pinned ? &m->pin : NULL};

    if (m->socket)
        return connect_once(file, m->socket, err);
    for (unsigned tries = 0;; tries++) {
        CLEANUP(mem_freep) char *socket = NULL;
        struct err why = ERR_EMPTY;
        if (nbd_server_need(&server, &socket, err) < 0)
            return -1;
        if (connect_once(file, socket, &why) == 0)
            return 0;
        if (tries == TRIES || why.code == ERR_UNSUPPORTED)
            return err_set(err, why.code, why.sys, "%s", why.text);
        (void)poll(NULL, 0, TRY_MS);
    }
}

/* Its number, of the disk's size. */
static int make_descriptor(struct nbd_file *file, struct err *err)
{
    int64_t size = nbd_get_size(file->nbd);

    if (size < 0)
        return failed(file, "ask for its size", err);
    file->fd = memfd_create("nbd", MFD_CLOEXEC);
    if (file->fd < 0 || ftruncate(file->fd, (off_t)size) < 0)
        return err_set(err, ERR_IO, errno, "%s: a descriptor for it", file->mapping.path);
    return 0;
}

static struct mapping *find_mapping(struct fs_nbd *self, const char *path)
{
    VEC_FOREACH(mapping, &self->mappings)
        if (str_eq(mapping->path, path))
            return mapping;
    return NULL;
}

/* A copy; false: the path is not mapped. */
static bool get_mapping(struct fs_nbd *self, const char *path, struct mapping *ret_mapping)
{
    (void)pthread_mutex_lock(&self->lock);
    const struct mapping *found = find_mapping(self, path);
    if (found)
        *ret_mapping = (struct mapping){
            mem_strdup(found->path),
            found->socket ? mem_strdup(found->socket) : NULL,
            found->format ? mem_strdup(found->format) : NULL,
            found->run_dir ? mem_strdup(found->run_dir) : NULL,
            found->pinned,
            found->pin,
        };
    (void)pthread_mutex_unlock(&self->lock);
    return found != NULL;
}

static int served_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                       struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    struct mapping mapping;

    if (!get_mapping(self, path, &mapping))
        return self->below->open(self->below, path, flags, mode, ret_fd, err);
    CLEANUP(file_freep) struct nbd_file *file = mem_new(struct nbd_file);
    (void)pthread_mutex_init(&file->use, NULL);
    file->fd = -1;
    file->mapping = mapping;
    file->writes = (flags & O_ACCMODE) != O_RDONLY;
    if (connect_file(file, err) < 0 || make_descriptor(file, err) < 0)
        return -1;
    *ret_fd = file->fd;
    (void)pthread_mutex_lock(&self->lock);
    *nbd_files_push(&self->files) = TAKE(file);
    (void)pthread_mutex_unlock(&self->lock);
    return 0;
}

static int served_close(struct fs *fs, int fd)
{
    struct fs_nbd *self = self_of(fs);
    struct nbd_file *file = NULL;

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
    file_free(file);
    return 0;
}

/* --- Their bytes ---------------------------------------------------------------------------- */

/* Who only reads has lost nothing with a server that died: the next one shows the same. */
static int read_piece(struct nbd_file *file, void *buf, size_t len, uint64_t off, struct err *err)
{
    if (file->nbd && nbd_pread(file->nbd, buf, len, off, 0) == 0)
        return 0;
    if (file->writes)
        return failed(file, "read", err);
    if (connect_file(file, err) < 0)
        return -1;
    return nbd_pread(file->nbd, buf, len, off, 0) == 0 ? 0 : failed(file, "read", err);
}

static int served_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    struct nbd_file *file = take(self, fd);
    uint8_t *at = buf;
    int rc = 0;

    if (!file)
        return self->below->pread(self->below, fd, buf, len, off, err);
    while (rc == 0 && len > 0) {
        size_t n = len < PIECE_BYTES ? len : PIECE_BYTES;
        rc = read_piece(file, at, n, off, err);
        at += n;
        off += n;
        len -= n;
    }
    give(file);
    return rc;
}

static int served_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                         struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    struct nbd_file *file = take(self, fd);
    const uint8_t *at = buf;
    int rc = 0;

    if (!file)
        return self->below->pwrite(self->below, fd, buf, len, off, err);
    while (rc == 0 && len > 0) {
        size_t n = len < PIECE_BYTES ? len : PIECE_BYTES;
        if (nbd_pwrite(file->nbd, at, n, off, 0) < 0)
            rc = failed(file, "write", err);
        at += n;
        off += n;
        len -= n;
    }
    give(file);
    return rc;
}

static int served_sync(struct fs *fs, int fd, struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    struct nbd_file *file = take(self, fd);

    if (!file)
        return self->below->sync(self->below, fd, err);
    int rc = nbd_flush(file->nbd, 0) < 0 ? failed(file, "sync", err) : 0;
    give(file);
    return rc;
}

static int served_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    struct nbd_file *file = take(self, fd);
    int rc = 0;

    if (!file)
        return self->below->punch(self->below, fd, off, len, err);
    while (rc == 0 && len > 0) {
        uint64_t n = len < PIECE_BYTES ? len : PIECE_BYTES;
        if (nbd_zero(file->nbd, n, off, 0) < 0)
            rc = failed(file, "write zeros", err);
        off += n;
        len -= n;
    }
    give(file);
    return rc;
}

/* --- What only goes on below ---------------------------------------------------------------- */

static int below_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    struct nbd_file *file = take(self, fd);

    if (!file)
        return self->below->truncate(self->below, fd, size, err);
    int rc =
        err_set(err, ERR_UNSUPPORTED, 0, "%s: a served disk keeps its size", file->mapping.path);
    give(file);
    return rc;
}

static int below_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    struct fs_nbd *self = self_of(fs);

    return self->below->rename(self->below, from, to, err);
}

static int below_unlink(struct fs *fs, const char *path, struct err *err)
{
    struct fs_nbd *self = self_of(fs);

    return self->below->unlink(self->below, path, err);
}

static int below_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    struct fs_nbd *self = self_of(fs);

    return self->below->mkdir(self->below, path, mode, err);
}

static int below_rmdir(struct fs *fs, const char *path, struct err *err)
{
    struct fs_nbd *self = self_of(fs);

    return self->below->rmdir(self->below, path, err);
}

/* A qcow2 file with bitmaps of its own is written to whenever it is opened and closed. (QEMU,
 * docs/interop/qcow2.txt: autoclear_features at 88, bit 0.) */
static int has_bitmaps(struct fs *fs, const char *path, bool *ret_has, struct err *err)
{
    uint8_t head[96];
    int fd;

    if (fs->open(fs, path, O_RDONLY, 0, &fd, err) < 0)
        return -1;
    int rc = fs->pread(fs, fd, head, sizeof(head), 0, err);
    (void)fs->close(fs, fd);
    *ret_has = rc == 0 && memcmp(head, "QFI\xfb", 4) == 0 && head[7] >= 3 && (head[95] & 1) != 0;
    return rc;
}

/* Of the file that the server writes to. */
static int below_stamp(struct fs *fs, const char *path, struct fs_stamp *ret_stamp, struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    CLEANUP(mapping_done) struct mapping mapping = {0};
    bool has = false;

    if (fs_stamp(self->below, path, ret_stamp, err) < 0)
        return -1;
    if (ret_stamp->known && get_mapping(self, path, &mapping)
        && has_bitmaps(self->below, path, &has, err) < 0)
        return -1;
    ret_stamp->known = ret_stamp->known && !has;
    return 0;
}

static int below_clone(struct fs *fs, int from, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct fs_nbd *self = self_of(fs);
    struct nbd_file *file = take(self, fd);

    if (!file)
        return fs_clone(self->below, from, fd, off, len, err);
    int rc = err_set(err, ERR_UNSUPPORTED, 0, "%s: a served disk", file->mapping.path);
    give(file);
    return rc;
}

static int below_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    struct fs_nbd *self = self_of(fs);

    return self->below->sync_dir(self->below, path, err);
}

/* --- The filter ----------------------------------------------------------------------------- */

struct fs *fs_nbd_new(struct fs *below)
{
    struct fs_nbd *self = mem_new(struct fs_nbd);

    self->fs = (struct fs){
        .open = served_open,
        .close = served_close,
        .pread = served_pread,
        .pwrite = served_pwrite,
        .sync = served_sync,
        .truncate = below_truncate,
        .punch = served_punch,
        .rename = below_rename,
        .unlink = below_unlink,
        .mkdir = below_mkdir,
        .rmdir = below_rmdir,
        .sync_dir = below_sync_dir,
        .stamp = below_stamp,
        .clone = below_clone,
    };
    self->below = below;
    (void)pthread_mutex_init(&self->lock, NULL);
    return &self->fs;
}

void fs_nbd_free(struct fs *fs)
{
    if (!fs)
        return;
    struct fs_nbd *self = self_of(fs);
    VEC_FOREACH(mapping, &self->mappings)
        mapping_done(mapping);
    mappings_free(&self->mappings);
    VEC_FOREACH(file, &self->files)
        file_free(*file);
    nbd_files_free(&self->files);
    (void)pthread_mutex_destroy(&self->lock);
    free(self);
}

/* Takes the texts. */
static void set_mapping(struct fs_nbd *self, struct mapping mapping)
{
    (void)pthread_mutex_lock(&self->lock);
    struct mapping *found = find_mapping(self, mapping.path);
    if (found)
        mapping_done(found);
    else
        found = mappings_push(&self->mappings);
    *found = mapping;
    (void)pthread_mutex_unlock(&self->lock);
}

void fs_nbd_map(struct fs *fs, const char *path, const char *socket)
{
    set_mapping(self_of(fs),
                (struct mapping){.path = mem_strdup(path), .socket = mem_strdup(socket)});
}

void fs_nbd_serve(struct fs *fs, const char *path, const char *format, const char *run_dir)
{
    set_mapping(self_of(fs), (struct mapping){.path = mem_strdup(path),
                                              .format = mem_strdup(format),
                                              .run_dir = mem_strdup(run_dir)});
}

void fs_nbd_serve_pinned(struct fs *fs, const char *name, const struct nbd_pin *pin,
                         const char *format, const char *run_dir)
{
    set_mapping(self_of(fs), (struct mapping){.path = mem_strdup(name),
                                              .format = mem_strdup(format),
                                              .run_dir = mem_strdup(run_dir),
                                              .pinned = true,
                                              .pin = *pin});
}
