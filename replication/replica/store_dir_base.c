// SPDX-License-Identifier: Apache-2.0
/* The initial copy: frames go straight into head. There is no undo, for there is no point yet;
 * a cut copy goes on, and whatever is sent twice is written twice. */
#include "replica/store_dir.h"

#include "base/fs_luks.h"
#include "base/mem.h"
#include "replica/base_frame.h"
#include "replica/digests_file.h"
#include "replica/generation.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WINDOW_CHUNKS 1024U                /* digests looked at in one go */
#define FILL_BYTES    (UINT64_C(64) << 20) /* of containers, by one call: others wait meanwhile */
#define READ_BYTES    (UINT64_C(1) << 30) /* of heads, by one call of base_end: for the same reason */
#define ZERO_DIGESTS  256U

/* --- Begin ------------------------------------------------------------------------------- */

static int check_names(const struct store_disks *disks, struct err *err)
{
    if (disks->len == 0)
        return err_set(err, ERR_INVALID, 0, "a replica without disks");
    for (size_t i = 0; i < disks->len; i++) {
        const struct store_disk *disk = &disks->at[i];
        if (!memchr(disk->name, '\0', sizeof(disk->name)) || !str_is_name(disk->name))
            return err_set(err, ERR_INVALID, 0, "disk %zu has no valid name", i);
        if (dir_name_is_reserved(disk->name))
            return err_set(err, ERR_INVALID, 0,
                           "a replica's disk cannot be called \"%s\"; hint: give it another name",
                           disk->name);
        if (disk->size % 512)
            return err_set(err, ERR_INVALID, 0,
                           "disk %s: %" PRIu64 " bytes are not in units of 512", disk->name,
                           disk->size);
        for (size_t k = 0; k < i; k++)
            if (str_eq(disks->at[k].name, disk->name))
                return err_set(err, ERR_INVALID, 0, "disk %s is there twice", disk->name);
    }
    return 0;
}

/* A machine's own disk is never copied over. */
static int check_own(const struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks)
        if (disk->elsewhere)
            return err_set(err, ERR_STATE, 0,
                           "%s: the replica's disk %s is %s, the machine's own; it is followed, not"
                           " copied to",
                           d->group, disk->name, disk->elsewhere);
    return 0;
}

static int check_same(const struct store_dir *d, const struct store_disks *disks, struct err *err)
{
    VEC_FOREACH(wanted, disks) {
        const struct dir_disk *disk = dir_disk_find(d, wanted->name, err);
        if (!disk)
            return err_set(err, ERR_STATE, 0,
                           "the copy was begun without disk %s; hint: remove the replica and"
                           " protect again",
                           wanted->name);
        if (disk->size > wanted->size || (disk->size < wanted->size && d->base != STORE_COPYING))
            return err_set(err, ERR_STATE, 0,
                           "disk %s has %" PRIu64 " bytes at the source, %" PRIu64 " here; hint:"
                           " remove the replica and protect again",
                           wanted->name, wanted->size, disk->size);
    }
    if (disks->len != d->disks.len)
        return err_set(err, ERR_STATE, 0,
                       "the copy was begun with %zu disks, now there are %zu; hint: remove the"
                       " replica and protect again",
                       d->disks.len, disks->len);
    return 0;
}

/* A container takes the whole size of its disk. */
static uint64_t needed(const struct store_dir *d, const struct store_disks *disks,
                       uint64_t need_bytes)
{
    uint64_t whole = 0;

    VEC_FOREACH(disk, disks)
        whole += disk->size + LUKS_HEADER_BYTES;
    return d->at_rest && whole > need_bytes ? whole : need_bytes;
}

static int check_room(const struct store_dir *d, const struct store_disks *disks,
                      uint64_t need_bytes, struct err *err)
{
    uint64_t room;
    char need_text[32];
    char room_text[32];

    need_bytes = needed(d, disks, need_bytes);
    if (fs_free_bytes(d->dir, &room, err) < 0)
        return -1;
    if (need_bytes > room)
        return err_set(err, ERR_SPACE, 0,
                       "%s: the disks need %s (%" PRIu64 " bytes), free are %s (%" PRIu64 ")",
                       d->dir, str_bytes(need_bytes, need_text, sizeof(need_text)), need_bytes,
                       str_bytes(room, room_text, sizeof(room_text)), room);
    return 0;
}

static int begin_anew(struct store_dir *d, const struct store_disks *disks, struct err *err)
{
    if (d->at_rest && !d->luks_key)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "%s: the copy is to be encrypted at rest, and there is no key", d->group);
    VEC_FOREACH(wanted, disks) {
        dir_disk_add(d, wanted->name, wanted->size, NULL, d->at_rest ? "luks" : "raw");
        struct dir_disk *disk = &d->disks.at[d->disks.len - 1];
        disk->luks = d->at_rest;
        if (disk->luks)
            uuid_new(&disk->luks_uuid);
    }
    /* The record first: from here on the folders of the disks are files of ours. */
    if (dir_state_save(d, STORE_COPYING, err) < 0) {
        dir_disks_close(d);
        return -1;
    }
    return dir_disks_open(d, err);
}

/* Disks that grew during their copy: what came is kept, the digests begin anew. */
static int grow(struct store_dir *d, const struct store_disks *disks, struct err *err)
{
    bool any = false;

    for (size_t i = 0; i < d->disks.len; i++)
        VEC_FOREACH(wanted, disks)
            any = any
                  || (str_eq(wanted->name, d->disks.at[i].name)
                      && wanted->size > d->disks.at[i].size);
    if (!any)
        return 0;
    dir_disks_close(d);
    return begin_anew(d, disks, err);
}

/* Durable before a frame of it comes: after a restart, too, those of the one before are late. */
static int take_copy(struct store_dir *d, uint64_t copy, struct err *err)
{
    uint64_t before = d->copy;

    if (copy == before)
        return 0;
    d->copy = copy;
    if (d->base == STORE_EMPTY || dir_state_save(d, d->base, err) == 0)
        return 0; /* an empty one's record is written when its disks are there */
    d->copy = before;
    return -1;
}

static int take_generation(struct store_dir *d, uint64_t generation, struct err *err)
{
    if (generation == d->generation)
        return 0;
    if (d->base != STORE_EMPTY || generation < d->generation)
        return err_set(err, ERR_FENCED, 0,
                       "%s: the copy is of generation %" PRIu64 ", the replica is at %" PRIu64,
                       d->group, generation, d->generation);
    if (generation_raise(d->fs, d->dir, d->generation, generation, err) < 0)
        return -1;
    d->generation = generation;
    return 0;
}

/* What was on the way over a link that broke when the copy was begun anew: the changes made since it
 * was read may be known to nobody. */
static int check_late(const struct store_dir *d, bool is_late, struct err *err)
{
    if (!is_late)
        return 0;
    return err_set(err, ERR_STATE, 0,
                   "%s: the copy was begun anew, what belongs to an earlier one came late",
                   d->group);
}

int store_dir_base_begin(struct store *store, const struct store_disks *disks, uint64_t need_bytes,
                         uint64_t generation, uint64_t copy, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (guard_fs_check(&d->guard, err) < 0 || check_names(disks, err) < 0 || check_own(d, err) < 0)
        return -1;
    if (d->points.len > 0)
        return err_set(err, ERR_STATE, 0,
                       "%s: the replica has points; a copy cannot begin; hint: resynchronize, or"
                       " remove the replica first",
                       d->group);
    if (check_late(d, copy < d->copy, err) < 0)
        return -1;
    if (d->base != STORE_EMPTY) {
        if (check_same(d, disks, err) < 0 || take_generation(d, generation, err) < 0
            || take_copy(d, copy, err) < 0 || grow(d, disks, err) < 0)
            return -1;
        return dir_disks_open(d, err);
    }
    if (check_room(d, disks, need_bytes, err) < 0 || take_generation(d, generation, err) < 0
        || take_copy(d, copy, err) < 0)
        return -1;
    return begin_anew(d, disks, err);
}

/* --- Frames ------------------------------------------------------------------------------ */

void dir_digest_known(struct dir_disk *disk, uint64_t chunk, bool known)
{
    uint8_t bit = (uint8_t)(1U << (chunk % 8));

    if (known)
        disk->known[chunk / 8] |= bit;
    else
        disk->known[chunk / 8] &= (uint8_t)~bit;
}

static bool is_known(const struct dir_disk *disk, uint64_t chunk)
{
    return (disk->known[chunk / 8] >> (chunk % 8) & 1) != 0;
}

/* base_end reads the others back. */
int dir_digests_note(struct store_dir *d, struct dir_disk *disk, const struct extent *extent,
                     const struct digest **digests, struct err *err)
{
    static const struct digest zeros[ZERO_DIGESTS];
    uint64_t end = extent->off + extent->len;
    uint64_t first = (extent->off + CHUNK_BYTES - 1) / CHUNK_BYTES;
    uint64_t whole = end == disk->size ? chunk_count(end) : end / CHUNK_BYTES;

    for (uint64_t chunk = extent->off / CHUNK_BYTES; chunk * CHUNK_BYTES < end; chunk++)
        dir_digest_known(disk, chunk, false);
    while (first < whole) {
        uint64_t n = whole - first;
        if (!digests && n > ZERO_DIGESTS)
            n = ZERO_DIGESTS;
        if (digests_file_write(d->fs, disk->digests, first, n, digests ? *digests : zeros, err) < 0)
            return -1;
        if (digests)
            *digests += n;
        for (uint64_t end_of = first + n; first < end_of; first++)
            dir_digest_known(disk, first, true);
    }
    return 0;
}

static int write_frame(struct store_dir *d, struct dir_disk *disk, const struct base_frame *frame,
                       struct err *err)
{
    const struct frame_view *view = &frame->view;
    const struct digest *digests = frame->digests;
    const uint8_t *at = view->payload;

    disk->settled = 0;
    for (size_t i = 0; i < view->extent_count; i++) {
        const struct extent *extent = &view->extents[i];
        int rc = extent->zero
                     ? d->fs->punch(d->fs, disk->head, extent->off, extent->len, err)
                     : d->fs->pwrite(d->fs, disk->head, at, (size_t)extent->len, extent->off, err);
        if (rc < 0 || dir_digests_note(d, disk, extent, extent->zero ? NULL : &digests, err) < 0)
            return -1;
        at += extent->zero ? 0 : extent->len;
    }
    return 0;
}

struct dir_disk *dir_copying_disk(struct store_dir *d, const char *name, struct err *err)
{
    if (d->points.len > 0 || d->base == STORE_EMPTY) {
        err_put(err, ERR_STATE, 0, "%s: no initial copy is under way", d->group);
        return NULL;
    }
    return check_own(d, err) < 0 ? NULL : dir_disk_find(d, name, err);
}

/* A frame that comes after the end was on the way over a link that broke, and is older than what its
 * chunk holds by now: the writer sends none once its copy has ended. */
int dir_check_copying(const struct store_dir *d, struct err *err)
{
    if (d->base == STORE_COPYING)
        return 0;
    return err_set(err, ERR_STATE, 0, "%s: the initial copy has ended, a frame of it came late",
                   d->group);
}

int store_dir_base_ready(struct store *store, const char *disk, const struct uuid *uuid,
                         struct base_frame *frame, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    const struct dir_disk *to = dir_copying_disk(d, disk, err);

    if (!to || check_late(d, frame->copy != d->copy, err) < 0)
        return -1;
    base_frame_init(frame, &d->key, uuid, to->size);
    return 0;
}

int store_dir_base_put(struct store *store, const char *disk, const struct base_frame *frame,
                       struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    struct dir_disk *to = dir_copying_disk(d, disk, err);

    if (!to || guard_fs_check(&d->guard, err) < 0 || dir_check_copying(d, err) < 0
        || check_late(d, frame->copy != d->copy, err) < 0)
        return -1;
    if (frame->disk_size != to->size)
        return err_set(err, ERR_STATE, 0, "%s: another copy of disk %s was begun", d->group, disk);
    return write_frame(d, to, frame, err);
}

/* NOLINTNEXTLINE(readability-function-size): the seam's signature */
int store_dir_base_frame(struct store *store, const char *disk, const struct uuid *uuid,
                         enum compression compression, uint64_t number, const void *frame,
                         size_t len, struct err *err)
{
    CLEANUP(base_frame_done) struct base_frame opened = {.copy = store_dir_of(store)->copy};

    (void)compression; /* each frame says its own */
    if (store_dir_base_ready(store, disk, uuid, &opened, err) < 0)
        return -1;
    if (base_frame_open(&opened, number, frame, len, err) < 0)
        return err_wrap(err, "copy of disk %s", disk);
    return store_dir_base_put(store, disk, &opened, err);
}

int store_dir_base_sync(struct store *store, const char *disk, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    struct dir_disk *to = dir_copying_disk(d, disk, err);

    return to ? d->fs->sync(d->fs, to->head, err) : -1;
}

/* --- End --------------------------------------------------------------------------------- */

uint64_t dir_next_data(int fd, uint64_t off, uint64_t size)
{
    off_t at = lseek(fd, (off_t)off, SEEK_DATA);

    if (at < 0)
        return errno == ENXIO ? size : off;
    return (uint64_t)at;
}

static int digest_window(struct store_dir *d, struct dir_disk *disk, uint64_t first, uint64_t count,
                         uint64_t *read, struct err *err)
{
    struct digest digests[WINDOW_CHUNKS];
    uint8_t buf[CHUNK_BYTES];
    uint64_t data = 0;
    bool changed = false;

    if (digests_file_read(d->fs, disk->digests, first, count, digests, err) < 0)
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t off = (first + i) * CHUNK_BYTES;
        size_t len = chunk_len(disk->size, first + i);
        struct digest digest = {{0}};
        if (is_known(disk, first + i))
            continue;
        if (off >= data && dir_disk_is_plain(disk))
            data = dir_next_data(disk->head, off, disk->size);
        if (!dir_disk_is_plain(disk) || data < off + len) {
            if (d->fs->pread(d->fs, disk->head, buf, len, off, err) < 0)
                return -1;
            chunk_digest(d->digester, buf, len, &digest);
            *read += len;
        }
        changed |= memcmp(&digests[i], &digest, sizeof(digest)) != 0;
        digests[i] = digest;
    }
    return changed ? digests_file_write(d->fs, disk->digests, first, count, digests, err) : 0;
}

/* What a copy leaves out of a container, or says to be zeros, is a hole of its file, which only we read
 * as zeros. Chunks that came whole, and are not all zeros, have none. */
static int fill_window(struct store_dir *d, const struct dir_disk *disk, uint64_t first,
                       uint64_t count, uint64_t *filled, struct err *err)
{
    static const struct digest zeros;
    struct digest digests[WINDOW_CHUNKS];
    uint64_t written;

    if (!disk->luks)
        return 0;
    if (guard_fs_check(&d->guard, err) < 0
        || digests_file_read(d->fs, disk->digests, first, count, digests, err) < 0)
        return -1;
    for (uint64_t i = 0; i < count; i++) {
        if (is_known(disk, first + i) && memcmp(&digests[i], &zeros, sizeof(zeros)) != 0)
            continue;
        if (fs_luks_fill(d->luks, disk->head, (first + i) * CHUNK_BYTES,
                         chunk_len(disk->size, first + i), &written, err)
            < 0)
            return -1;
        *filled += written;
    }
    return 0;
}

static int end_disk(struct store_dir *d, struct dir_disk *disk, dir_progress_fn *progress,
                    void *ctx, struct cancel *cancel, struct err *err)
{
    uint64_t chunks = chunk_count(disk->size);
    uint64_t filled = 0;
    uint64_t read = 0;

    for (uint64_t first = disk->settled; first < chunks; first += WINDOW_CHUNKS) {
        uint64_t count = chunks - first < WINDOW_CHUNKS ? chunks - first : WINDOW_CHUNKS;
        if (filled >= FILL_BYTES)
            return err_set(err, ERR_BUSY, 0,
                           "its LUKS container is being filled with zeros, %d %% are done",
                           (int)(first * 100 / chunks));
        if (!progress && read >= READ_BYTES)
            return err_set(err, ERR_BUSY, 0, "its copy is being read back, %d %% are done",
                           (int)(first * 100 / chunks));
        if (cancel_check(cancel, err) < 0 || digest_window(d, disk, first, count, &read, err) < 0
            || fill_window(d, disk, first, count, &filled, err) < 0)
            return -1;
        disk->settled = first + count;
        if (progress)
            progress(ctx, disk->name,
                     first + count == chunks ? disk->size : (first + count) * CHUNK_BYTES,
                     disk->size);
    }
    if (d->fs->sync(d->fs, disk->head, err) < 0)
        return -1;
    return d->fs->sync(d->fs, disk->digests, err);
}

int dir_base_settle(struct store_dir *d, dir_progress_fn *progress, void *ctx,
                    struct cancel *cancel, struct err *err)
{
    VEC_FOREACH(disk, &d->disks)
        if (end_disk(d, disk, progress, ctx, cancel, err) < 0)
            return err_wrap(err, "digests of disk %s", disk->name);
    return 0;
}

int store_dir_base_end(struct store *store, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (d->points.len > 0 || d->base == STORE_EMPTY)
        return err_set(err, ERR_STATE, 0, "%s: no initial copy is under way", d->group);
    if (d->base == STORE_COPIED)
        return 0;
    if (check_own(d, err) < 0)
        return -1;
    struct dir_damages none = VEC_EMPTY; /* all of head was read, and has its digests */
    if (dir_base_settle(d, NULL, NULL, NULL, err) < 0 || dir_damage_save(d, &none, err) < 0)
        return -1;
    if (dir_state_save(d, STORE_COPIED, err) < 0)
        return -1;
    VEC_FOREACH(disk, &d->disks) {
        if (disk->luks)
            fs_luks_holes(d->luks, disk->head, false);
        free(TAKE(disk->known));
        free(TAKE(disk->seed));
    }
    return dir_seeds_remove(d, err);
}
