// SPDX-License-Identifier: Apache-2.0
/* How a read stays right while another process applies:
 *
 *   1. the map is brought up to the chain page's sequence: it covers all undo files listed there
 *   2. a chunk the map has is read from its undo file, which never changes
 *   3. any other chunk is read from head, and compared with its digest when that is the first time
 *   4. the sequence is looked at again; has it moved, what was read from head may be newer than
 *      the point: start over. The store publishes undo files before it writes head under them, so
 *      the new map has every chunk that head may have lost.
 *
 * Records are opened by one thread at a time, with a few coders and a few chunks kept: a guest
 * reads 4 KiB here and there, and the same chunk again soon. */
#include "replica/view.h"

#include "base/fs.h"
#include "base/fs_nbd.h"
#include "base/mem.h"
#include "base/vec.h"
#include "replica/chain.h"
#include "replica/chunk.h"
#include "replica/head.h"
#include "replica/undo.h"
#include "replica/view_check.h"
#include "replica/view_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CODERS      8U
#define CHUNKS_KEPT 32U
#define RUN_CHUNKS  16U /* read from head in one go */
#define TRIES       3U  /* of a chunk without its digest: a repair may be writing it */

struct view_file {
    uint64_t point;
    uint64_t size; /* of the disk at that point */
    struct uuid uuid;
};
VEC_DEFINE(view_files, struct view_file)

/* Where a chunk's old content is. */
struct old_place {
    struct view_place place;
    struct view_file file;
};

struct coder_slot {
    uint32_t file_plus_1;
    uint64_t used;
    int fd;
    struct frame_coder *coder;
};

struct chunk_slot {
    uint64_t chunk_plus_1;
    uint64_t used;
    uint8_t *bytes; /* CHUNK_BYTES, once needed */
};

struct view {
    char *dir; /* of the disk */
    struct fs *heads;
    struct fs *nbd; /* ours, for a head in another format; or NULL */
    int head;
    uint64_t size;          /* of head, when it was opened */
    _Atomic uint64_t shown; /* of the disk at the point: smaller than head when that grew since */
    uint64_t point;
    struct key key;
    struct chain *chain;
    struct view_check *check; /* NULL: there is nothing to compare with */

    pthread_rwlock_t map_lock; /* map, files, seq */
    struct view_map *map;
    struct view_files files;
    uint64_t seq;

    pthread_mutex_t record_lock; /* what is below */
    uint64_t clock;
    struct coder_slot coders[CODERS];
    struct chunk_slot kept[CHUNKS_KEPT];
};

static char *undo_path(const struct view *v, uint64_t point)
{
    return mem_printf("%s/undo/%020" PRIu64, v->dir, point);
}

/* --- The map ----------------------------------------------------------------------------- */

static int no_point(const struct view *v, uint64_t head, const struct chain_points *points,
                    struct err *err)
{
    CLEANUP(str_free) struct str kept = STR_EMPTY;

    VEC_FOREACH(point, points)
        if (!(*point & CHAIN_GONE))
            str_addf(&kept, " %" PRIu64, *point);
    if (head)
        str_addf(&kept, " %" PRIu64, head);
    return err_set(err, ERR_NOT_FOUND, 0, "%s: point %" PRIu64 " is not kept (there are:%.400s)",
                   v->dir, v->point, kept.len ? kept.ptr : " none");
}

static int check_point(const struct view *v, uint64_t head, const struct chain_points *points,
                       struct err *err)
{
    if (v->point != 0 && head == v->point)
        return 0;
    VEC_FOREACH(point, points)
        if (*point == v->point)
            return 0;
    return no_point(v, head, points, err);
}

static int add_file(struct view *v, uint64_t point, struct err *err)
{
    CLEANUP(mem_freep) char *path = undo_path(v, point);
    CLEANUP(undo_freep) struct undo *undo = NULL;
    uint32_t file = (uint32_t)v->files.len;

    if (undo_open(path, &undo, err) < 0)
        return -1;
    const struct undo_head want = {strrchr(v->dir, '/') + 1, v->size, point};
    if (undo_check_head(undo, &want, err) < 0)
        return -1;
    for (size_t i = 0; i < undo->row_count; i++) {
        const struct undo_row *row = &undo->rows[i];
        const struct view_place place = {file, row->len, row->pos, row->crc};
        if (view_map_add(v->map, row->chunk, &place, err) < 0)
            return -1;
    }
    if (point == v->point)
        v->shown = undo->disk_size;
    *view_files_push(&v->files) = (struct view_file){point, undo->disk_size, undo->uuid};
    return 0;
}

/* Adds the undo files that the page lists and the map does not have yet. With the map's lock. */
static int update_map(struct view *v, struct err *err)
{
    CLEANUP(chain_points_free) struct chain_points points = VEC_EMPTY;
    uint64_t seq;
    uint64_t head;

    chain_read(v->chain, &seq, &head, &points);
    if (check_point(v, head, &points, err) < 0)
        return -1;
    uint64_t last = v->files.len ? v->files.at[v->files.len - 1].point : 0;
    VEC_FOREACH(point, &points) {
        uint64_t file = *point & ~CHAIN_GONE;
        if (file >= v->point && file > last && add_file(v, file, err) < 0)
            return -1;
    }
    v->seq = seq;
    return 0;
}

/* The map as of now, locked for reading. */
static int lock_map(struct view *v, uint64_t *ret_seq, struct err *err)
{
    for (;;) {
        uint64_t seq = chain_seq(v->chain);
        (void)pthread_rwlock_rdlock(&v->map_lock);
        if (v->seq == seq) {
            *ret_seq = seq;
            return 0;
        }
        (void)pthread_rwlock_unlock(&v->map_lock);
        (void)pthread_rwlock_wrlock(&v->map_lock);
        int rc = v->seq == chain_seq(v->chain) ? 0 : update_map(v, err);
        (void)pthread_rwlock_unlock(&v->map_lock);
        if (rc < 0)
            return -1;
    }
}

/* --- Records ----------------------------------------------------------------------------- */

static void coder_clear(struct coder_slot *slot)
{
    fd_close(&slot->fd);
    frame_coder_freep(&slot->coder);
    slot->file_plus_1 = 0;
}

static int coder_of(struct view *v, uint32_t file, const struct uuid *uuid, const char *path,
                    struct coder_slot **ret_slot, struct err *err)
{
    struct coder_slot *oldest = &v->coders[0];
    struct fs *fs = fs_real();

    for (size_t i = 0; i < CODERS; i++) {
        struct coder_slot *slot = &v->coders[i];
        if (slot->file_plus_1 == file + 1) {
            *ret_slot = slot;
            return 0;
        }
        if (slot->used < oldest->used)
            oldest = slot;
    }
    coder_clear(oldest);
    if (fs->open(fs, path, O_RDONLY, 0, &oldest->fd, err) < 0)
        return -1;
    oldest->coder = undo_coder_new(&v->key, uuid);
    oldest->file_plus_1 = file + 1;
    *ret_slot = oldest;
    return 0;
}

static int read_record(struct view *v, uint64_t chunk, const struct old_place *old, uint8_t *buf,
                       struct err *err)
{
    CLEANUP(mem_freep) char *path = undo_path(v, old->file.point);
    const struct undo_row row = {chunk, old->place.pos, old->place.len, old->place.crc};
    struct coder_slot *slot;

    if (coder_of(v, old->place.file, &old->file.uuid, path, &slot, err) < 0)
        return -1;
    slot->used = ++v->clock;
    memset(buf, 0, CHUNK_BYTES); /* what the disk did not have at that point */
    return undo_record_read(slot->fd, path, slot->coder, &row, old->file.size, buf, err);
}

/* Part of a chunk's old content through the kept ones: a chunk's place never changes once it has
 * one. */
static int read_old(struct view *v, uint64_t off, const struct old_place *old, void *buf,
                    size_t len, struct err *err)
{
    struct chunk_slot *slot = &v->kept[0];
    uint64_t chunk = off / CHUNK_BYTES;

    for (size_t i = 0; i < CHUNKS_KEPT; i++) {
        if (v->kept[i].chunk_plus_1 == chunk + 1) {
            slot = &v->kept[i];
            break;
        }
        if (v->kept[i].used < slot->used)
            slot = &v->kept[i];
    }
    if (slot->chunk_plus_1 != chunk + 1) {
        slot->chunk_plus_1 = 0;
        if (!slot->bytes)
            slot->bytes = mem_grow(NULL, CHUNK_BYTES, 1);
        if (read_record(v, chunk, old, slot->bytes, err) < 0)
            return -1;
        slot->chunk_plus_1 = chunk + 1;
    }
    slot->used = ++v->clock;
    memcpy(buf, slot->bytes + off % CHUNK_BYTES, len);
    return 0;
}

/* --- Reading ----------------------------------------------------------------------------- */

/* What one look at the map says about the beginning of a range. */
struct piece {
    size_t len;
    bool is_old; /* from the undo file; else from head */
    struct old_place old;
    uint64_t seq;
};

static int look_up(struct view *v, uint64_t off, size_t len, struct piece *ret_piece,
                   struct err *err)
{
    uint64_t chunk = off / CHUNK_BYTES;
    uint64_t end = (chunk + 1) * CHUNK_BYTES;
    struct piece piece = {0};

    if (lock_map(v, &piece.seq, err) < 0)
        return -1;
    const struct view_place *place = view_map_find(v->map, chunk);
    if (place) {
        piece.is_old = true;
        piece.old = (struct old_place){*place, v->files.at[place->file]};
    } else {
        uint64_t last = chunk + RUN_CHUNKS;
        for (chunk++; chunk < last && end < off + len && !view_map_find(v->map, chunk); chunk++)
            end += CHUNK_BYTES;
    }
    (void)pthread_rwlock_unlock(&v->map_lock);
    piece.len = end - off < len ? (size_t)(end - off) : len;
    *ret_piece = piece;
    return 0;
}

/* A chunk of head that was not read before: all of it, and compared. `ret_right` false: not, or head
 * has moved on. */
static int check_chunk(struct view *v, uint64_t chunk, uint64_t seq, uint8_t *buf, bool *ret_right,
                       struct err *err)
{
    size_t len = chunk_len(v->size, chunk);

    *ret_right = false;
    if (v->heads->pread(v->heads, v->head, buf, len, chunk * CHUNK_BYTES, err) < 0
        || view_check_run(v->check, chunk, buf, ret_right, err) < 0)
        return -1;
    /* Bytes and digest belong together only while nothing was applied. */
    *ret_right &= chain_seq(v->chain) == seq;
    if (*ret_right)
        view_check_note(v->check, chunk);
    return 0;
}

static int read_unchecked(struct view *v, uint64_t off, uint8_t *to, size_t len, uint64_t seq,
                          size_t *ret_done, struct err *err)
{
    uint64_t chunk = off / CHUNK_BYTES;
    uint8_t buf[CHUNK_BYTES];
    bool right = false;

    for (unsigned i = 0; i < TRIES && !right; i++) {
        if (check_chunk(v, chunk, seq, buf, &right, err) < 0)
            return -1;
        if (!right && chain_seq(v->chain) != seq) {
            *ret_done = 0;
            return 0;
        }
    }
    if (!right)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: chunk %" PRIu64 " of head, at %" PRIu64
                       ", does not have its digest: point %" PRIu64
                       " cannot be shown there; hint: `muster verify` finds all that is damaged,"
                       " and while the source lives it is fetched again",
                       v->dir, chunk, chunk * CHUNK_BYTES, v->point);
    *ret_done = (size_t)((chunk + 1) * CHUNK_BYTES - off);
    *ret_done = *ret_done < len ? *ret_done : len;
    memcpy(to, buf + off % CHUNK_BYTES, *ret_done);
    return 0;
}

static bool is_checked(const struct view *v, uint64_t chunk)
{
    return !v->check || view_check_knows(v->check, chunk);
}

/* A piece that no undo file has, or its beginning. */
static int read_head(struct view *v, uint64_t off, uint8_t *buf, const struct piece *piece,
                     size_t *ret_done, struct err *err)
{
    uint64_t chunk = off / CHUNK_BYTES;
    uint64_t end = off + piece->len;
    off_t now = lseek(v->head, 0, SEEK_END);
    uint64_t size = now >= 0 && (uint64_t)now < v->size ? (uint64_t)now : v->size;

    if (off >= size) { /* the disk was larger at the point, and what is not in undo was zeros */
        memset(buf, 0, piece->len);
        *ret_done = chain_seq(v->chain) == piece->seq ? piece->len : 0;
        return 0;
    }
    end = end < size ? end : size;
    if (!is_checked(v, chunk))
        return read_unchecked(v, off, buf, (size_t)(end - off), piece->seq, ret_done, err);
    while (chunk * CHUNK_BYTES < end && is_checked(v, chunk))
        chunk++;
    end = chunk * CHUNK_BYTES < end ? chunk * CHUNK_BYTES : end;
    if (v->heads->pread(v->heads, v->head, buf, (size_t)(end - off), off, err) < 0)
        return -1;
    *ret_done = chain_seq(v->chain) == piece->seq ? (size_t)(end - off) : 0;
    return 0;
}

/* The first part of a range; `ret_done` 0: head moved on meanwhile, try again. */
static int read_piece(struct view *v, uint64_t off, uint8_t *buf, size_t len, size_t *ret_done,
                      struct err *err)
{
    struct piece piece;

    if (look_up(v, off, len, &piece, err) < 0)
        return -1;
    if (!piece.is_old)
        return read_head(v, off, buf, &piece, ret_done, err);
    *ret_done = piece.len;
    (void)pthread_mutex_lock(&v->record_lock);
    int rc = read_old(v, off, &piece.old, buf, piece.len, err);
    (void)pthread_mutex_unlock(&v->record_lock);
    return rc;
}

int view_read(struct view *view, uint64_t off, void *buf, size_t len, struct err *err)
{
    uint8_t *at = buf;

    if (off > view->shown || len > view->shown - off)
        return err_set(err, ERR_INVALID, 0, "%s has %" PRIu64 " bytes, asked for %zu at %" PRIu64,
                       view->dir, view->shown, len, off);
    while (len > 0) {
        size_t done;
        if (read_piece(view, off, at, len, &done, err) < 0)
            return -1;
        off += done;
        at += done;
        len -= done;
    }
    return 0;
}

uint64_t view_size(const struct view *view)
{
    return view->shown;
}

/* --- Opening ----------------------------------------------------------------------------- */

static int open_head(struct view *v, const char *dir, const char *disk, struct err *err)
{
    CLEANUP(mem_freep) char *path = NULL;
    CLEANUP(mem_freep) char *format = NULL;
    CLEANUP(mem_freep) char *run_dir = NULL;

    if (head_path(dir, disk, &path, &format, &run_dir, err) < 0)
        return -1;
    if (!v->heads) {
        v->heads = fs_real();
        if (str_eq(format, "luks"))
            return err_set(err, ERR_UNSUPPORTED, 0,
                           "%s is a LUKS container, and no key was given that opens it", path);
        if (!str_eq(format, "raw") && run_dir) {
            v->heads = v->nbd = fs_nbd_new(fs_real());
            fs_nbd_serve(v->nbd, path, format, run_dir);
        }
    }
    if (v->heads->open(v->heads, path, O_RDONLY, 0, &v->head, err) < 0)
        return -1;
    off_t size = lseek(v->head, 0, SEEK_END);
    if (size < 0)
        return err_set(err, ERR_IO, errno, "%s: its size", path);
    v->size = (uint64_t)size;
    v->shown = v->size;
    return 0;
}

/* A machine's own disk that is to become a head has no digests yet: they are made of what it holds. */
static int open_check(struct view *v, const char *dir, struct err *err)
{
    bool has;

    if (head_has_digests(dir, &has, err) < 0)
        return -1;
    return has ? view_check_open(v->dir, v->size, &v->key, &v->check, err) : 0;
}

int view_open(const char *dir, const char *disk, uint64_t point, const struct key *group_key,
              struct fs *heads, struct view **ret_view, struct err *err)
{
    if (!str_is_name(disk))
        return err_set(err, ERR_INVALID, 0, "\"%.63s\" is no name for a disk", disk);
    CLEANUP(view_closep) struct view *v = mem_new(struct view);
    v->dir = path_join(dir, disk);
    v->heads = heads;
    v->head = -1;
    v->point = point;
    v->key = *group_key;
    v->map = view_map_new();
    for (size_t i = 0; i < CODERS; i++)
        v->coders[i].fd = -1;
    (void)pthread_rwlock_init(&v->map_lock, NULL);
    (void)pthread_mutex_init(&v->record_lock, NULL);
    if (open_head(v, dir, disk, err) < 0 || open_check(v, dir, err) < 0
        || chain_map(dir, &v->chain, err) < 0 || chain_hold(v->chain, point, err) < 0
        || update_map(v, err) < 0)
        return -1;
    *ret_view = TAKE(v);
    return 0;
}

void view_close(struct view *view)
{
    if (!view)
        return;
    for (size_t i = 0; i < CODERS; i++)
        coder_clear(&view->coders[i]);
    for (size_t i = 0; i < CHUNKS_KEPT; i++)
        free(view->kept[i].bytes);
    if (view->head >= 0)
        (void)view->heads->close(view->heads, view->head);
    fs_nbd_free(view->nbd);
    chain_free(view->chain);
    view_check_close(view->check);
    view_map_free(view->map);
    view_files_free(&view->files);
    key_wipe(&view->key);
    (void)pthread_rwlock_destroy(&view->map_lock);
    (void)pthread_mutex_destroy(&view->record_lock);
    free(view->dir);
    free(view);
}

void view_closep(struct view **view)
{
    view_close(*view);
    *view = NULL;
}
