// SPDX-License-Identifier: Apache-2.0
/* Bringing head to the next point, over all disks of the group at once:
 *
 *   segments, manifest   durable before (the point exists)
 *   intent               "applied" names the point that is coming
 *   repair               damaged chunks of head that come as they were (store_dir_heal.c)
 *   undo/A of each disk  what the touched chunks hold at the applied point A; durable as a whole
 *   damaged              what is still damaged then; a chunk without its digest is not saved for undo
 *   chain page           views of A and older look there from now on
 *   head, digests        in place, in offset order; synced
 *   applied              names the new point
 *
 * Until the undo files of all disks are durable, head was not touched, and a cut apply begins
 * anew; an undo file that is complete is never written again. After that the same segments are
 * written once more from the start: redo is idempotent. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/undo.h"

#include <inttypes.h>
#include <string.h>

#define RUN_CHUNKS 256U /* digests written in one go */

VEC_DEFINE(changes, struct dir_change)

struct apply {
    struct store_dir *d;
    const struct dir_point *to;
    struct manifest manifest;
    struct changes changes; /* one per disk, in the order of the store's disks */
    struct chunks *chunks;  /* the same */
    bool damaged;           /* an undo file lacks chunks, or may */
    struct cancel *cancel;
};

static void apply_done(struct apply *a)
{
    for (size_t i = 0; a->chunks && i < a->d->disks.len; i++)
        chunks_free(&a->chunks[i]);
    free(a->chunks);
    changes_free(&a->changes);
    manifest_done(&a->manifest);
}

/* --- The chain page ---------------------------------------------------------------------- */

void dir_chain_publish(struct store_dir *d, uint64_t head, uint64_t end)
{
    CLEANUP(chain_points_free) struct chain_points points = VEC_EMPTY;

    VEC_FOREACH(point, &d->points)
        if (point->point < end)
            *chain_points_push(&points) = point->point;
    chain_publish(d->chain, head, &points);
}

static bool has_undo(const struct dir_disk *disk, uint64_t point)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(disk, point);

    return fs_exists(path);
}

static int check_undo(const struct store_dir *d, const struct dir_disk *disk, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(disk->dir, DIR_UNDO);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    uint64_t number;

    VEC_FOREACH(point, &d->points)
        if (point->point < d->applied && !has_undo(disk, point->point))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s: undo file of point %" PRIu64 " is missing; hint: restore it from a"
                           " backup, or remove the replica and protect again",
                           folder, point->point);
    if (fs_list(folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (dir_number_of(names.at[i], &number)
            && (number > d->applied || (number == d->applied && d->intent == 0)))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s/%s: an undo file, but head is at point %" PRIu64
                           "; hint: move it away (nothing was changed)",
                           folder, names.at[i], d->applied);
    return 0;
}

bool dir_head_touched(const struct store_dir *d)
{
    bool touched = d->intent != 0;

    VEC_FOREACH(disk, &d->disks)
        touched = touched && (d->applied == 0 || has_undo(disk, d->applied));
    return touched;
}

int dir_chain_restore(struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks)
        if (check_undo(d, disk, err) < 0)
            return -1;
    if (d->released)
        dir_chain_publish(d, 0, 0);
    /* With all undo files there, head may be anything between two points. */
    else if (dir_head_touched(d))
        dir_chain_publish(d, 0, d->applied + 1);
    else
        dir_chain_publish(d, d->applied, d->applied);
    return 0;
}

/* --- The steps --------------------------------------------------------------------------- */

/* The older point that a promotion goes back to; 0: none, head is where it is to be. */
static int back_to(const struct apply *a, uint64_t *ret_point, struct err *err)
{
    const struct manifest *m = &a->manifest;

    *ret_point = 0;
    if (!m->promotion || memcmp(&m->parent, &a->d->applied_hash, sizeof(m->parent)) == 0)
        return 0;
    VEC_FOREACH(point, &a->d->points)
        if (memcmp(&point->hash, &m->parent, sizeof(m->parent)) == 0) {
            *ret_point = point->point;
            return 0;
        }
    return err_set(err, ERR_CORRUPT, 0,
                   "%s: the point that promotion %" PRIu64 " chose is not kept any more",
                   a->d->group, m->point);
}

static int plan_disk(struct apply *a, struct dir_disk *disk, uint64_t back, struct err *err)
{
    struct dir_change *change = changes_push(&a->changes);

    *change = (struct dir_change){a->d, disk, &a->manifest, NULL, back, a->cancel};
    VEC_FOREACH(part, &a->manifest.disks)
        if (str_eq(part->name, disk->name))
            change->part = part;
    if (!change->part)
        return err_set(err, ERR_CORRUPT, 0, "point %" PRIu64 ": its manifest lacks disk %s",
                       a->to->point, disk->name);
    /* All bytes once more: what was damaged since it came must not get as far as head. */
    VEC_FOREACH(segment, &change->part->segments)
        if (dir_segment_match(a->d, disk, &a->manifest, segment, true, err) < 0)
            return -1;
    return dir_change_chunks(change, &a->chunks[disk - a->d->disks.at], err);
}

static int plan(struct apply *a, struct err *err)
{
    uint64_t back;

    if (dir_manifest_read(a->d, a->to->point, &a->manifest, NULL, err) < 0
        || back_to(a, &back, err) < 0)
        return -1;
    a->chunks = mem_new_array(struct chunks, a->d->disks.len);
    VEC_FOREACH(disk, &a->d->disks)
        if (plan_disk(a, disk, back, err) < 0)
            return -1;
    return 0;
}

/* Digests of head before it is written, read in windows. */
struct digest_window {
    uint64_t first;
    uint64_t count;
    struct digest digests[RUN_CHUNKS];
};

static int digest_before(struct store_dir *d, const struct dir_disk *disk, uint64_t chunk,
                         struct digest_window *w, struct digest *ret_digest, struct err *err)
{
    uint64_t chunks = chunk_count(disk->size);

    if (chunk < w->first || chunk - w->first >= w->count) {
        w->first = chunk - chunk % RUN_CHUNKS;
        w->count = chunks - w->first < RUN_CHUNKS ? chunks - w->first : RUN_CHUNKS;
        if (digests_file_read(d->fs, disk->digests, w->first, w->count, w->digests, err) < 0) {
            w->count = 0;
            return -1;
        }
    }
    *ret_digest = w->digests[chunk - w->first];
    return 0;
}

/* What is damaged is not saved as if it were what the disk held. */
static int save_chunk(struct apply *a, const struct dir_disk *disk, uint64_t chunk,
                      struct digest_window *window, struct undo_writer *writer, struct err *err)
{
    struct store_dir *d = a->d;
    uint8_t buf[CHUNK_BYTES];
    struct digest want;
    struct digest have;
    size_t len = chunk_len(disk->size, chunk);
    size_t number = (size_t)(disk - d->disks.at);

    if (cancel_check(a->cancel, err) < 0)
        return -1;
    if (dir_damages_has_head(&d->damages, number, chunk)) {
        a->damaged = true;
        undo_writer_add_damaged(writer, chunk);
        return 0;
    }
    if (d->fs->pread(d->fs, disk->head, buf, len, chunk * CHUNK_BYTES, err) < 0
        || digest_before(d, disk, chunk, window, &want, err) < 0)
        return -1;
    chunk_digest(d->digester, buf, len, &have);
    if (memcmp(&want, &have, sizeof(want)) == 0)
        return undo_writer_add(writer, chunk, buf, len, err);
    a->damaged = true;
    undo_writer_add_damaged(writer, chunk);
    return 0;
}

static int save_undo(struct apply *a, size_t i, struct err *err)
{
    struct store_dir *d = a->d;
    struct dir_disk *disk = &d->disks.at[i];
    CLEANUP(mem_freep) char *path = dir_undo_path(disk, d->applied);
    CLEANUP(undo_writer_freep) struct undo_writer *writer = NULL;
    CLEANUP(undo_freep) struct undo *complete = NULL;
    struct digest_window window = {.count = 0};

    if (fs_exists(path)) { /* from before a cut; head may be changed already */
        a->damaged = true;
        return undo_open(path, &complete, err);
    }
    const struct undo_head head = {disk->name, disk->size, d->applied};
    if (undo_writer_open(d->fs, path, &head, &d->key, &writer, err) < 0)
        return -1;
    VEC_FOREACH(chunk, &a->chunks[i])
        if (save_chunk(a, disk, *chunk, &window, writer, err) < 0)
            return -1;
    return undo_writer_finish(writer, err);
}

static int write_digests(struct apply *a, size_t i, struct store_digests *ret_digests,
                         struct err *err)
{
    struct store_dir *d = a->d;
    struct dir_disk *disk = &d->disks.at[i];
    const struct chunks *chunks = &a->chunks[i];
    struct digest run[RUN_CHUNKS];
    uint8_t buf[CHUNK_BYTES];

    for (size_t k = 0; k < chunks->len;) {
        uint64_t first = chunks->at[k];
        size_t n = 0;
        do {
            size_t len = chunk_len(disk->size, first + n);
            if (d->fs->pread(d->fs, disk->head, buf, len, (first + n) * CHUNK_BYTES, err) < 0)
                return -1;
            chunk_digest(d->digester, buf, len, &run[n]);
            if (dir_damages_has_head(&d->damages, i, first + n))
                run[n] = dir_digest_of_damaged();
            if (ret_digests)
                *store_digests_push(ret_digests) = (struct store_digest){first + n, run[n]};
            n++;
        } while (n < RUN_CHUNKS && k + n < chunks->len && chunks->at[k + n] == first + n);
        if (cancel_check(a->cancel, err) < 0
            || digests_file_write(d->fs, disk->digests, first, n, run, err) < 0)
            return -1;
        k += n;
    }
    return 0;
}

/* On the way back to an older point they could not be had: the new point is damaged there. */
static int note_lost(struct apply *a, size_t i, const struct chunks *lost, struct err *err)
{
    struct store_dir *d = a->d;
    CLEANUP(dir_damages_free) struct dir_damages list = VEC_EMPTY;

    dir_damages_copy(&list, &d->damages);
    VEC_FOREACH(chunk, lost)
        if (!dir_damages_has_head(&list, i, *chunk))
            dir_damages_add(&list, i, *chunk, a->to->point, 0, d->clock->wall_ms(d->clock));
    return lost->len ? dir_damage_save(d, &list, err) : 0;
}

static int write_disk(struct apply *a, size_t i, struct store_digests *ret_digests, struct err *err)
{
    struct store_dir *d = a->d;
    struct dir_disk *disk = &d->disks.at[i];

    if (ret_digests)
        store_digests_clear(ret_digests);
    if (a->chunks[i].len == 0)
        return 0;
    CLEANUP(chunks_free) struct chunks lost = VEC_EMPTY;
    if (dir_change_write(&a->changes.at[i], &lost, err) < 0 || note_lost(a, i, &lost, err) < 0
        || write_digests(a, i, ret_digests, err) < 0)
        return -1;
    CRASH_POINT("replica.apply-written");
    if (d->fs->sync(d->fs, disk->head, err) < 0)
        return -1;
    return d->fs->sync(d->fs, disk->digests, err);
}

/* What is damaged, and comes with this change. Head was not written to for it yet. */
static int heal(struct apply *a, struct err *err)
{
    struct store_dir *d = a->d;

    for (size_t i = 0; d->damages.len > 0 && i < d->disks.len; i++)
        if (dir_heal(&a->changes.at[i], &a->chunks[i], err) < 0)
            return err_wrap(err, "repair disk %s", d->disks.at[i].name);
    return 0;
}

/* The list as it is to be with the new point, before head is written. */
static int settle(struct apply *a, struct err *err)
{
    struct store_dir *d = a->d;
    CLEANUP(dir_damages_free) struct dir_damages list = VEC_EMPTY;

    if (!a->damaged && d->damages.len == 0)
        return 0;
    dir_damages_copy(&list, &d->damages);
    for (size_t i = 0; i < d->disks.len; i++)
        if (dir_heal_settle(&a->changes.at[i], &a->chunks[i], a->to->point, &list, err) < 0)
            return -1;
    return dir_damage_save(d, &list, err);
}

static int begin(struct apply *a, const struct dir_point *from, struct err *err)
{
    struct store_dir *d = a->d;
    bool again = d->intent == a->to->point;

    if (plan(a, err) < 0)
        return -1;
    for (size_t i = 0; !again && !from && i < d->disks.len; i++)
        if (dir_heal_check_base(&a->changes.at[i], &a->chunks[i], err) < 0)
            return -1;
    if (!again && dir_applied_save(d, from, a->to->point, err) < 0)
        return -1;
    CRASH_POINT("replica.apply-intent");
    return (from ? !dir_head_touched(d) : !again) ? heal(a, err) : 0;
}

static int run(struct apply *a, struct store_digests *ret_digests, struct err *err)
{
    struct store_dir *d = a->d;
    struct dir_point *from = dir_point_find(d, d->applied); /* NULL: the base */

    if (begin(a, from, err) < 0)
        return -1;
    for (size_t i = 0; from && i < d->disks.len; i++)
        if (save_undo(a, i, err) < 0)
            return err_wrap(err, "save what disk %s holds", d->disks.at[i].name);
    CRASH_POINT("replica.apply-undo");
    if (settle(a, err) < 0)
        return -1;
    dir_chain_publish(d, 0, d->applied + 1);
    for (size_t i = 0; i < d->disks.len; i++)
        if (write_disk(a, i, ret_digests ? &ret_digests[i] : NULL, err) < 0)
            return err_wrap(err, "write disk %s", d->disks.at[i].name);
    CRASH_POINT("replica.apply-head");
    if (dir_own_stamp(d, err) < 0 || dir_applied_save(d, a->to, 0, err) < 0)
        return -1;
    dir_chain_publish(d, d->applied, d->applied);
    CRASH_POINT("replica.apply-done");
    return dir_segments_clean(d, false, err);
}

int store_dir_point_apply(struct store *store, uint64_t *ret_point,
                          struct store_digests *ret_digests, struct cancel *cancel, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    struct dir_point *next = NULL;

    if (guard_fs_check(&d->guard, err) < 0)
        return -1;
    for (size_t i = d->points.len; i > 0 && d->points.at[i - 1].point > d->applied; i--)
        next = &d->points.at[i - 1];
    if (!next) {
        *ret_point = 0;
        return 0;
    }
    if (d->points.len > CHAIN_POINTS_MAX)
        return err_set(err, ERR_LIMIT, 0, "%s keeps %zu points, at most %u; hint: prune some",
                       d->group, d->points.len, CHAIN_POINTS_MAX);
    if (dir_own_held(d, err) < 0 || (!d->intent && dir_own_check(d, err) < 0))
        return -1;
    CLEANUP(apply_done) struct apply apply = {.d = d, .to = next, .cancel = cancel};
    manifest_init(&apply.manifest);
    if (run(&apply, ret_digests, err) < 0)
        return err_wrap(err, "apply point %" PRIu64 " of %s", next->point, d->group);
    *ret_point = next->point;
    return 0;
}
