// SPDX-License-Identifier: Apache-2.0
/* What is known to be damaged. The record "damaged" has a line for each run of chunks:
 *
 *   damage CHUNK COUNT FROM TO SINCE DISK
 *
 * Points FROM to TO cannot be shown where they need these chunks (TO 0: head has them so, and they
 * are to be fetched again; COUNT 0: the undo file of TO cannot be read). SINCE is this site's wall
 * clock, in ms. A run of head ends when an apply touches it: then TO becomes the point head was at,
 * and its undo file says of itself that the chunk was damaged (undo.c). So bytes that are damaged are
 * never saved as good ones.
 *
 * A chunk of head that is written only in part stays damaged, and what its digest would be is not
 * known: the file of digests then has sixteen bytes of ones, which no chunk ever has. So the list can
 * be made anew when its own record is damaged, but for what only reading finds. */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/record.h"
#include "replica/undo.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_CHUNKS 1024U
#define NAMED_POINTS  4U

struct digest dir_digest_of_damaged(void)
{
    struct digest digest;

    memset(&digest, 0xff, sizeof(digest));
    return digest;
}

/* --- The list ---------------------------------------------------------------------------- */

static bool has(const struct dir_damage *run, size_t disk, uint64_t chunk)
{
    return run->disk == disk && chunk >= run->chunk && chunk - run->chunk < run->count;
}

/* Is it what an undo file of `point` holds, the file as a whole with `count` 0? */
static bool is_past(const struct dir_damage *run, uint64_t point)
{
    return run->to != 0 && point >= run->from && point <= run->to;
}

void dir_damages_copy(struct dir_damages *to, const struct dir_damages *from)
{
    dir_damages_clear(to);
    VEC_FOREACH(run, from)
        *dir_damages_push(to) = *run;
}

void dir_damages_add(struct dir_damages *list, size_t disk, uint64_t chunk, uint64_t from,
                     uint64_t to, int64_t since_ms)
{
    struct dir_damage *last = list->len ? &list->at[list->len - 1] : NULL;
    bool whole = chunk == UINT64_MAX;

    if (last && !whole && last->count > 0 && last->disk == disk && last->from == from
        && last->to == to && last->since_ms == since_ms && last->chunk + last->count == chunk)
        last->count++;
    else
        *dir_damages_push(list) =
            (struct dir_damage){disk, whole ? 0 : chunk, whole ? 0 : 1, from, to, since_ms};
}

/* Takes `chunk` out of the run at `i`; UINT64_MAX: all of it. */
static void cut_run(struct dir_damages *list, size_t i, uint64_t chunk)
{
    struct dir_damage run = list->at[i];
    struct dir_damage after = run;

    if (chunk == UINT64_MAX || run.count <= 1) {
        list->at[i] = list->at[--list->len];
        return;
    }
    after.chunk = chunk + 1;
    after.count = run.chunk + run.count - after.chunk;
    list->at[i].count = chunk - run.chunk;
    if (list->at[i].count == 0)
        list->at[i] = after;
    else if (after.count > 0)
        *dir_damages_push(list) = after;
}

bool dir_damages_cut_head(struct dir_damages *list, size_t disk, uint64_t chunk,
                          struct dir_damage *ret_was)
{
    for (size_t i = 0; i < list->len; i++)
        if (list->at[i].to == 0 && has(&list->at[i], disk, chunk)) {
            *ret_was = list->at[i];
            cut_run(list, i, chunk);
            return true;
        }
    return false;
}

static bool is_past_of(const struct dir_damage *run, size_t disk, uint64_t chunk, uint64_t point)
{
    if (!is_past(run, point))
        return false;
    return chunk == UINT64_MAX ? run->disk == disk && run->count == 0 && run->to == point
                               : has(run, disk, chunk);
}

bool dir_damages_cut_past(struct dir_damages *list, size_t disk, uint64_t chunk, uint64_t point)
{
    bool cut = false;

    for (size_t i = 0; i < list->len;)
        if (is_past_of(&list->at[i], disk, chunk, point)) {
            cut_run(list, i, chunk);
            cut = true;
        } else {
            i++;
        }
    return cut;
}

bool dir_damages_has_head(const struct dir_damages *list, size_t disk, uint64_t chunk)
{
    VEC_FOREACH(run, list)
        if (run->to == 0 && has(run, disk, chunk))
            return true;
    return false;
}

bool dir_damages_has_past(const struct dir_damages *list, size_t disk, uint64_t chunk,
                          uint64_t point)
{
    VEC_FOREACH(run, list)
        if (is_past_of(run, disk, chunk, point))
            return true;
    return false;
}

static int by_place(const void *a, const void *b)
{
    const struct dir_damage *x = a;
    const struct dir_damage *y = b;
    const uint64_t left[] = {x->disk, x->to, x->from, x->chunk, (uint64_t)x->since_ms};
    const uint64_t right[] = {y->disk, y->to, y->from, y->chunk, (uint64_t)y->since_ms};

    for (size_t i = 0; i < ARRAY_LEN(left); i++)
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    return 0;
}

static bool hits(const struct dir_damage *run, uint64_t point)
{
    return point >= run->from && (run->to == 0 || point <= run->to);
}

/* Does any kept point, or one to come, need it? */
static bool matters(const struct store_dir *d, const struct dir_damage *run)
{
    if (run->to == 0)
        return true;
    VEC_FOREACH(point, &d->points)
        if (hits(run, point->point) && dir_is_kept(d, point->point))
            return true;
    return false;
}

/* Sorted, joined, without what retention dropped. */
static void tidy(const struct store_dir *d, struct dir_damages *list)
{
    size_t kept = 0;

    if (list->len > 1)
        qsort(list->at, list->len, sizeof(*list->at), by_place);
    VEC_FOREACH(run, list) {
        struct dir_damage *last = kept ? &list->at[kept - 1] : NULL;
        if (!matters(d, run))
            continue;
        if (last && last->disk == run->disk && last->to == run->to && last->from == run->from
            && last->count > 0 && last->chunk + last->count == run->chunk && run->count > 0) {
            last->count += run->count;
            last->since_ms = last->since_ms < run->since_ms ? last->since_ms : run->since_ms;
        } else {
            list->at[kept++] = *run;
        }
    }
    list->len = kept;
}

/* --- The record -------------------------------------------------------------------------- */

static bool get_run(struct store_dir *d, const char *line)
{
    struct dir_damage run = {0};
    char name[NAME_MAX_BYTES];

    if (sscanf(line, "damage %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNi64 " %63s",
               &run.chunk, &run.count, &run.from, &run.to, &run.since_ms, name)
        != 6)
        return false;
    for (run.disk = 0; run.disk < d->disks.len; run.disk++)
        if (str_eq(d->disks.at[run.disk].name, name))
            break;
    uint64_t chunks = run.disk < d->disks.len ? chunk_count(d->disks.at[run.disk].size) : 0;
    if (run.chunk > chunks || run.count > chunks - run.chunk || run.disk == d->disks.len
        || (run.count == 0 && run.to == 0))
        return false;
    *dir_damages_push(&d->damages) = run;
    return true;
}

/* What undo files say of themselves. */
static int rebuild_past(struct store_dir *d, size_t i, int64_t now, struct dir_damages *list,
                        struct err *err)
{
    const struct dir_disk *disk = &d->disks.at[i];

    VEC_FOREACH(point, &d->files) {
        CLEANUP(mem_freep) char *path = dir_undo_path(disk, point->point);
        CLEANUP(undo_freep) struct undo *undo = NULL;
        if (!fs_exists(path))
            continue;
        struct err why = ERR_EMPTY;
        if (undo_open(path, &undo, &why) < 0) {
            if (why.code != ERR_CORRUPT)
                return err_set(err, why.code, why.sys, "%s", why.text);
            dir_damages_add(list, i, UINT64_MAX, 0, point->point, now);
            continue;
        }
        for (size_t k = 0; k < undo->row_count; k++) {
            struct chunks one = {&undo->rows[k].chunk, 1, 1};
            uint64_t from;
            if (!undo_row_is_damaged(&undo->rows[k]))
                continue;
            if (dir_damage_since(d, disk, &one, point->point, &from, err) < 0)
                return -1;
            dir_damages_add(list, i, one.at[0], from, point->point, now);
        }
    }
    return 0;
}

static int rebuild_head(struct store_dir *d, size_t i, int64_t now, struct dir_damages *list,
                        struct err *err)
{
    const struct dir_disk *disk = &d->disks.at[i];
    const struct digest damaged = dir_digest_of_damaged();
    struct digest digests[WINDOW_CHUNKS];
    CLEANUP(chunks_free) struct chunks found = VEC_EMPTY;
    uint64_t chunks = chunk_count(disk->size);

    for (uint64_t first = 0; first < chunks; first += WINDOW_CHUNKS) {
        uint64_t n = chunks - first < WINDOW_CHUNKS ? chunks - first : WINDOW_CHUNKS;
        if (digests_file_read(d->fs, disk->digests, first, n, digests, err) < 0)
            return -1;
        for (uint64_t k = 0; k < n; k++)
            if (memcmp(&digests[k], &damaged, sizeof(damaged)) == 0)
                *chunks_push(&found) = first + k;
    }
    CLEANUP(mem_freep) uint64_t *from = mem_new_array(uint64_t, found.len + 1);
    if (dir_damage_since(d, disk, &found, 0, from, err) < 0)
        return -1;
    for (size_t k = 0; k < found.len; k++)
        dir_damages_add(list, i, found.at[k], from[k], 0, now);
    return 0;
}

static int rebuild(struct store_dir *d, struct err *err)
{
    CLEANUP(dir_damages_free) struct dir_damages list = VEC_EMPTY;
    int64_t now = d->clock->wall_ms(d->clock);

    dir_damages_clear(&d->damages);
    for (size_t i = 0; i < d->disks.len; i++)
        if (rebuild_past(d, i, now, &list, err) < 0 || rebuild_head(d, i, now, &list, err) < 0)
            return -1;
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_DAMAGED);
    if (list.len == 0)
        return d->fs->unlink(d->fs, path, err);
    return dir_damage_save(d, &list, err);
}

static int parse(struct store_dir *d, struct str *text)
{
    char *save = NULL;

    if (text->len == 0)
        return 0;
    for (char *line = strtok_r(text->ptr, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        if (!get_run(d, line))
            return -1;
    return 0;
}

int dir_damage_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_DAMAGED);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err why = ERR_EMPTY;

    if (!fs_exists(path))
        return 0;
    if (record_read(d->fs, path, &text, &why) < 0) {
        if (why.code != ERR_CORRUPT)
            return err_set(err, why.code, why.sys, "%s", why.text);
        return rebuild(d, err);
    }
    return parse(d, &text) < 0 ? rebuild(d, err) : 0;
}

int dir_damage_save(struct store_dir *d, struct dir_damages *list, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_DAMAGED);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    tidy(d, list);
    if (list->len == d->damages.len
        && (list->len == 0 || memcmp(list->at, d->damages.at, list->len * sizeof(*list->at)) == 0))
        return 0;
    VEC_FOREACH(run, list)
        str_addf(&text, "damage %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIi64 " %s\n",
                 run->chunk, run->count, run->from, run->to, run->since_ms,
                 d->disks.at[run->disk].name);
    if (record_write(d->fs, path, str_text(&text), err) < 0)
        return err_wrap(err, "note what is damaged");
    dir_damages_copy(&d->damages, list);
    return 0;
}

/* --- Asking ------------------------------------------------------------------------------ */

/* Those of `chunks` that are not settled yet, and that the file of `point` has. */
static int since_file(const struct dir_disk *disk, uint64_t point, const struct chunks *chunks,
                      bool *settled, uint64_t *ret_from, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(disk, point);
    CLEANUP(undo_freep) struct undo *undo = NULL;
    struct err why = ERR_EMPTY;

    if (!fs_exists(path))
        return 0;
    /* What is before a file that cannot be read is damaged anyway. */
    bool lost = undo_open(path, &undo, &why) < 0;
    if (lost && why.code != ERR_CORRUPT)
        return err_set(err, why.code, why.sys, "%s", why.text);
    for (size_t i = 0; i < chunks->len; i++)
        if (!settled[i] && (lost || undo_find(undo, chunks->at[i]))) {
            settled[i] = true;
            ret_from[i] = point + 1;
        }
    return 0;
}

int dir_damage_since(struct store_dir *d, const struct dir_disk *disk, const struct chunks *chunks,
                     uint64_t before, uint64_t *ret_from, struct err *err)
{
    CLEANUP(mem_freep) bool *settled = mem_new_array(bool, chunks->len + 1);
    uint64_t end = before ? before : d->applied;

    memset(ret_from, 0, chunks->len * sizeof(*ret_from));
    for (size_t i = d->files.len; i-- > 0;)
        if (d->files.at[i].point < end
            && since_file(disk, d->files.at[i].point, chunks, settled, ret_from, err) < 0)
            return -1;
    return 0;
}

static uint64_t chunks_of(const struct store_dir *d, const struct dir_damage *run)
{
    return run->count ? run->count : chunk_count(d->disks.at[run->disk].size);
}

uint64_t dir_damage_of(const struct store_dir *d, uint64_t point)
{
    uint64_t count = 0;

    VEC_FOREACH(run, &d->damages)
        if (hits(run, point))
            count += chunks_of(d, run);
    return count;
}

void dir_damage_info(const struct store_dir *d, struct store_info *info)
{
    VEC_FOREACH(run, &d->damages) {
        if (!matters(d, run))
            continue;
        *(run->to ? &info->damaged_past : &info->damaged_head) += chunks_of(d, run);
        if (info->damaged_since_ms == 0 || run->since_ms < info->damaged_since_ms)
            info->damaged_since_ms = run->since_ms;
    }
}

/* Points that are whole, the nearest first: older and newer ones. */
static void name_whole(const struct store_dir *d, uint64_t point, struct str *ret_text)
{
    size_t named = 0;
    size_t at = 0;

    while (at < d->points.len && d->points.at[at].point < point)
        at++;
    for (size_t away = 1; away <= d->points.len && named < NAMED_POINTS; away++) {
        const struct dir_point *near[] = {
            away <= at ? &d->points.at[at - away] : NULL,
            at + away < d->points.len ? &d->points.at[at + away] : NULL,
        };
        for (size_t i = 0; i < ARRAY_LEN(near); i++)
            if (near[i] && near[i]->point <= d->applied && dir_is_kept(d, near[i]->point)
                && dir_damage_of(d, near[i]->point) == 0 && named++ < NAMED_POINTS)
                str_addf(ret_text, "%s%" PRIu64, ret_text->len ? ", " : "", near[i]->point);
    }
}

/* Undo files that cannot be opened are noticed now. */
static int check_files(struct store_dir *d, uint64_t point, struct err *err)
{
    CLEANUP(dir_damages_free) struct dir_damages list = VEC_EMPTY;
    int64_t now = d->clock->wall_ms(d->clock);

    dir_damages_copy(&list, &d->damages);
    for (size_t i = 0; i < d->disks.len; i++)
        VEC_FOREACH(at, &d->files) {
            CLEANUP(mem_freep) char *path = dir_undo_path(&d->disks.at[i], at->point);
            CLEANUP(undo_freep) struct undo *undo = NULL;
            const struct undo_head want = {d->disks.at[i].name, d->disks.at[i].size, at->point};
            struct err why = ERR_EMPTY;
            if (at->point < point)
                continue;
            if ((undo_open(path, &undo, &why) < 0 || undo_check_head(undo, &want, &why) < 0)
                && !dir_damages_has_past(&list, i, UINT64_MAX, at->point)) {
                if (why.code != ERR_CORRUPT)
                    return err_set(err, why.code, why.sys, "%s", why.text);
                dir_damages_add(&list, i, UINT64_MAX, 0, at->point, now);
            }
        }
    return dir_damage_save(d, &list, err);
}

int dir_damage_check(struct store_dir *d, uint64_t point, struct err *err)
{
    CLEANUP(str_free) struct str whole = STR_EMPTY;

    if (check_files(d, point, err) < 0)
        return -1;
    VEC_FOREACH(run, &d->damages) {
        if (!hits(run, point))
            continue;
        name_whole(d, point, &whole);
        return err_set(
            err, ERR_CORRUPT, 0,
            "point %" PRIu64 " of %s needs %" PRIu64 " damaged chunk%s of 64 KiB, the first of disk"
            " %s at %" PRIu64 "; whole are %s; hint: %s",
            point, d->group, dir_damage_of(d, point), dir_damage_of(d, point) == 1 ? "" : "s",
            d->disks.at[run->disk].name, run->chunk * CHUNK_BYTES,
            whole.len ? whole.ptr : "no others",
            run->to ? "take one of those"
                    : "take one of those, or wait for the next point: while the source lives, what"
                      " is damaged is fetched from there again");
    }
    return 0;
}

int store_dir_check_point(struct store *store, uint64_t point, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    point = point ? point : d->applied;
    if (point != d->applied && !dir_is_kept(d, point))
        return dir_no_point(d, point, err);
    return dir_damage_check(d, point, err);
}

int store_dir_damages(struct store *store, struct store_damages *ret_damages, struct err *err)
{
    const struct store_dir *d = store_dir_of(store);

    (void)err;
    store_damages_clear(ret_damages);
    VEC_FOREACH(run, &d->damages) {
        if (!matters(d, run))
            continue;
        struct store_damage *to = store_damages_push(ret_damages);
        memcpy(to->disk, d->disks.at[run->disk].name, sizeof(to->disk));
        to->chunk = run->chunk;
        to->count = run->count;
        to->from = run->from;
        to->to = run->to;
        to->since_wall_ms = run->since_ms;
    }
    return 0;
}
