// SPDX-License-Identifier: Apache-2.0
/* Bringing head to the next point, over all disks of the group at once:
 *
 *   segments, manifest   durable before (the point exists)
 *   intent               "applied" names the point that is coming
 *   repair               damaged chunks of head that come as they were (store_dir_heal.c)
 *   undo/A of each disk  what the touched chunks hold at the applied point A; durable as a whole
 *   damaged              what is still damaged then; a chunk without its digest is not saved for undo
 *   chain page           views of A and older look there from now on
 *   sizes                of disks that grew, or are smaller again (store_dir_resize.c)
 *   head, digests        in place, in offset order; synced
 *   applied              names the new point
 *
 * Until the undo files of all disks are durable, head was not touched, and a cut apply begins
 * anew; an undo file that is complete is never written again. After that the same segments are
 * written once more from the start: redo is idempotent.
 *
 * Whether the applied point A is kept is decided first, and noted (store_dir_gone.c). When it is
 * not, only those chunks are saved that no file since the newest kept point has; without an older
 * kept point, nothing is. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/undo.h"

#include <inttypes.h>
#include <string.h>

VEC_DEFINE(changes, struct dir_change)

struct apply {
    struct store_dir *d;
    const struct dir_point *to;
    struct manifest manifest;
    struct changes changes; /* one per disk, in the order of the store's disks */
    struct chunks *chunks;  /* the same */
    uint64_t from;          /* the point that head leaves; 0: the base */
    bool leaving;           /* it is not kept */
    bool saves;             /* its chunks, or those not saved yet, are saved */
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

    VEC_FOREACH(file, &d->files)
        if (file->point < end)
            *chain_points_push(&points) =
                file->point | (dir_is_kept(d, file->point) ? 0 : CHAIN_GONE);
    if (end > d->applied && dir_saves(d))
        *chain_points_push(&points) = d->applied | (dir_leaving(d) ? CHAIN_GONE : 0);
    chain_publish(d->chain, head, &points);
}

static bool has_undo(const struct dir_disk *disk, uint64_t point)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(disk, point);

    return fs_exists(path);
}

int dir_undo_check(const struct store_dir *d, const struct dir_disk *disk, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(disk->dir, DIR_UNDO);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    uint64_t number;

    VEC_FOREACH(file, &d->files)
        if (!has_undo(disk, file->point))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s: undo file of point %" PRIu64 " is missing; hint: restore it from a"
                           " backup, or remove the replica and protect again",
                           folder, file->point);
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
        touched = touched && (!dir_saves(d) || has_undo(disk, d->applied));
    return touched;
}

int dir_chain_restore(struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks)
        if (dir_undo_check(d, disk, err) < 0)
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

/* --- What is saved already --------------------------------------------------------------- */

static bool is_saved(const struct dir_disk *disk, uint64_t chunk)
{
    return disk->saved[chunk / 8] & 1U << chunk % 8;
}

static void set_saved(struct dir_disk *disk, uint64_t chunk)
{
    disk->saved[chunk / 8] |= (uint8_t)(1U << chunk % 8);
}

static int clear_saved(struct dir_disk *disk, struct err *err)
{
    size_t len = (size_t)(chunk_count(disk->size) + 7) / 8;

    if (!disk->saved)
        disk->saved = mem_try_alloc(len, "map of saved chunks", err);
    if (!disk->saved)
        return -1;
    memset(disk->saved, 0, len);
    return 0;
}

static int load_saved_file(struct dir_disk *disk, uint64_t point, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(disk, point);
    CLEANUP(undo_freep) struct undo *undo = NULL;

    if (undo_open(path, &undo, err) < 0)
        return -1;
    for (size_t i = 0; i < undo->row_count; i++)
        if (undo->rows[i].chunk < chunk_count(disk->size))
            set_saved(disk, undo->rows[i].chunk);
    return 0;
}

/* The map of what undo files since the newest kept point have: it lives on from apply to apply. */
static int load_saved(struct store_dir *d, struct err *err)
{
    uint64_t since = dir_newest_behind(d);

    if (d->saved_since == since)
        return 0;
    d->saved_since = 0;
    VEC_FOREACH(disk, &d->disks) {
        if (clear_saved(disk, err) < 0)
            return -1;
        VEC_FOREACH(file, &d->files) {
            struct err why = ERR_EMPTY;
            if (file->point < since || load_saved_file(disk, file->point, &why) == 0)
                continue;
            /* What a damaged file has is saved once more: it stands in nobody's way here. */
            if (why.code == ERR_CORRUPT)
                continue;
            if (err)
                *err = why;
            return -1;
        }
    }
    d->saved_since = since;
    return 0;
}

/* Head left a point, and what it held is saved. */
static void note_saved(struct apply *a)
{
    struct store_dir *d = a->d;

    for (size_t i = 0; i < d->disks.len; i++) {
        if (!a->leaving && clear_saved(&d->disks.at[i], NULL) < 0) {
            d->saved_since = 0;
            return;
        }
        VEC_FOREACH(chunk, &a->chunks[i])
            if (*chunk < chunk_count(d->disks.at[i].size)) /* it may be smaller now */
                set_saved(&d->disks.at[i], *chunk);
    }
    if (!a->leaving)
        d->saved_since = a->from;
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
        if (dir_segment_match(a->d, disk, &a->manifest, segment, true, err) < 0) {
            a->d->rotten = err && (err->code == ERR_CORRUPT || err->code == ERR_NOT_FOUND);
            return -1;
        }
    struct chunks *chunks = &a->chunks[disk - a->d->disks.at];
    return dir_change_chunks(change, chunks, err);
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

static int save_undo(struct apply *a, size_t i, struct err *err)
{
    struct store_dir *d = a->d;
    struct dir_disk *disk = &d->disks.at[i];
    CLEANUP(mem_freep) char *path = dir_undo_path(disk, d->applied);
    CLEANUP(undo_freep) struct undo *complete = NULL;
    CLEANUP(chunks_free) struct chunks wanted = VEC_EMPTY;

    if (fs_exists(path)) { /* from before a cut; head may be changed already */
        a->damaged = true;
        return undo_open(path, &complete, err);
    }
    VEC_FOREACH(chunk, &a->chunks[i])
        if (*chunk >= chunk_count(disk->size) || !a->leaving || !is_saved(disk, *chunk))
            *chunks_push(&wanted) = *chunk;
    return dir_chunks_save(d, disk, path, &wanted, &a->damaged, a->cancel, err);
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
        || dir_chunks_digest(d, disk, &a->chunks[i], ret_digests, a->cancel, err) < 0)
        return -1;
    CRASH_POINT("replica.apply-written");
    if (d->fs->sync(d->fs, disk->head, err) < 0)
        return -1;
    return d->fs->sync(d->fs, disk->digests, err);
}

/* --- All of it --------------------------------------------------------------------------- */

/* Chunks that are not saved are compared now, while head is as it was: no undo file could tell later
 * that they were damaged. */
static int check_unsaved(struct apply *a, struct err *err)
{
    for (size_t i = 0; i < a->d->disks.len; i++) {
        CLEANUP(chunks_free) struct chunks unsaved = VEC_EMPTY;
        const struct dir_disk *disk = &a->d->disks.at[i];
        VEC_FOREACH(chunk, &a->chunks[i])
            if (*chunk < chunk_count(disk->size) /* else it grows by that: nothing is there */
                && (!a->saves || (a->leaving && is_saved(disk, *chunk))))
                *chunks_push(&unsaved) = *chunk;
        if (unsaved.len > 0 && dir_heal_check(&a->changes.at[i], &unsaved, err) < 0)
            return -1;
    }
    return 0;
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

/* Decision and intent are durable. */
static int begin(struct apply *a, struct err *err)
{
    struct store_dir *d = a->d;
    struct dir_point *from = dir_point_find(d, d->applied); /* NULL: the base */
    bool again = d->intent == a->to->point;

    if (!again && dir_decide(d, a->to->point, err) < 0)
        return -1;
    CRASH_POINT("replica.apply-decided");
    a->from = d->applied;
    a->leaving = dir_leaving(d);
    a->saves = dir_saves(d);
    if (a->saves && a->leaving && load_saved(d, err) < 0)
        return -1;
    if (!again && (check_unsaved(a, err) < 0 || dir_applied_save(d, from, a->to->point, err) < 0))
        return -1;
    CRASH_POINT("replica.apply-intent");
    return 0;
}

static int save(struct apply *a, bool again, struct err *err)
{
    struct store_dir *d = a->d;
    bool untouched = !again || (a->saves && !dir_head_touched(d));

    if (untouched && heal(a, err) < 0)
        return -1;
    for (size_t i = 0; a->saves && i < d->disks.len; i++)
        if (save_undo(a, i, err) < 0)
            return err_wrap(err, "save what disk %s holds", d->disks.at[i].name);
    CRASH_POINT("replica.apply-undo");
    return settle(a, err);
}

/* Head is at the new point. */
static int arrive(struct apply *a, struct err *err)
{
    struct store_dir *d = a->d;
    CLEANUP(mem_freep) char *path = dir_manifest_path(d, a->from);

    if (a->saves) {
        dir_file_add(d, a->from);
        note_saved(a);
    }
    if (a->leaving)
        dir_gone_drop(d);
    dir_chain_publish(d, d->applied, d->applied);
    CRASH_POINT("replica.apply-done");
    return a->leaving && fs_exists(path) ? d->fs->unlink(d->fs, path, err) : 0;
}

static int run(struct apply *a, struct store_digests *ret_digests, struct err *err)
{
    struct store_dir *d = a->d;

    bool again = d->intent == a->to->point;

    if (plan(a, err) < 0 || begin(a, err) < 0 || save(a, again, err) < 0)
        return -1;
    dir_chain_publish(d, 0, d->applied + 1);
    if (dir_resize(d, &a->manifest, err) < 0)
        return -1;
    for (size_t i = 0; i < d->disks.len; i++)
        if (write_disk(a, i, ret_digests ? &ret_digests[i] : NULL, err) < 0)
            return err_wrap(err, "write disk %s", d->disks.at[i].name);
    CRASH_POINT("replica.apply-head");
    if (dir_own_stamp(d, err) < 0 || dir_applied_save(d, a->to, 0, err) < 0 || arrive(a, err) < 0)
        return -1;
    return dir_segments_clean(d, false, err);
}

static struct dir_point *next_point(struct store_dir *d)
{
    struct dir_point *next = NULL;

    for (size_t i = d->points.len; i > 0 && d->points.at[i - 1].point > d->applied; i--)
        next = &d->points.at[i - 1];
    return next;
}

static int apply_next(struct store_dir *d, struct store_digests *ret_digests, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(apply_done) struct apply apply = {.d = d, .to = next_point(d), .cancel = cancel};

    manifest_init(&apply.manifest);
    return run(&apply, ret_digests, err);
}

int store_dir_point_apply(struct store *store, uint64_t *ret_point,
                          struct store_digests *ret_digests, struct cancel *cancel, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    const struct dir_point *next = next_point(d);
    struct err why = ERR_EMPTY;

    if (guard_fs_check(&d->guard, err) < 0)
        return -1;
    if (!next) {
        *ret_point = 0;
        return 0;
    }
    if (d->files.len >= CHAIN_POINTS_MAX)
        return err_set(
            err, ERR_LIMIT, 0,
            "%s has %zu undo files, at most %u; hint: prune some points, and end views of"
            " old ones, so that files can be merged",
            d->group, d->files.len, CHAIN_POINTS_MAX);
    if (dir_own_held(d, err) < 0 || (!d->intent && dir_own_check(d, err) < 0))
        return -1;
    uint64_t number = next->point;
    int rc = apply_next(d, ret_digests, cancel, &why);
    /* A full disk: what is not to be kept any more makes room before anybody is refused. */
    if (rc < 0 && why.code == ERR_SPACE && d->applied != number && dir_make_room(d)) {
        err_clear(&why);
        rc = apply_next(d, ret_digests, cancel, &why);
    }
    if (rc < 0) {
        if (err)
            *err = why;
        return err_wrap(err, "apply point %" PRIu64 " of %s", number, d->group);
    }
    *ret_point = number;
    return 0;
}
