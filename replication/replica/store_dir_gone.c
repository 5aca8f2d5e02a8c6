// SPDX-License-Identifier: Apache-2.0
/* Points that are not kept any more. A point goes when a durable note (the record "pruned") says
 * so, at once and for all disks; what is left of it goes later:
 *
 *   its manifest        after the note. The note has the hash of the last point of a gap, so that
 *                       what comes after the gap continues it, and says which numbers are missing:
 *                       a manifest that is missing otherwise is damage
 *   its undo files      stay as long as an older kept point needs them: with what changed before
 *                       it, they lead back from head. The note lists them. They are merged
 *                       (store_dir_merge.c) when that pays
 *
 *      files    4     5     6     9          head
 *      kept     4     -     6     9          12      5 was removed: 4 = head + 9 + 6 + 5 + 4, the
 *                                                    oldest file that has a chunk has the last word
 *
 * The point that head holds may be noted as gone, too: head leaves it with the next apply, and then
 * only those chunks are saved that no file since the newest kept point has (none without such a
 * point). So points that are never kept cost nothing but their way through head. */
#include "replica/store_dir.h"

#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* --- What the note says ------------------------------------------------------------------ */

/* Gaps and listed numbers ascend. */
bool dir_is_gone(const struct store_dir *d, uint64_t point)
{
    size_t low = 0;

    for (size_t high = d->gones.len; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (d->gones.at[middle].last < point)
            low = middle + 1;
        else
            high = middle;
    }
    return point <= d->before || (low < d->gones.len && d->gones.at[low].first <= point);
}

static bool is_listed(const struct store_dir *d, uint64_t point)
{
    size_t low = 0;

    for (size_t high = d->listed.len; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (d->listed.at[middle] < point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < d->listed.len && d->listed.at[low] == point;
}

bool dir_leaving(const struct store_dir *d)
{
    return d->applied != 0 && dir_is_gone(d, d->applied);
}

bool dir_saves(const struct store_dir *d)
{
    return d->applied != 0 && (!dir_leaving(d) || is_listed(d, d->applied));
}

bool dir_is_kept(const struct store_dir *d, uint64_t point)
{
    return dir_point_find(d, point) && !dir_is_gone(d, point);
}

uint64_t dir_newest_behind(const struct store_dir *d)
{
    uint64_t newest = 0;

    VEC_FOREACH(point, &d->points)
        if (point->point < d->applied && !dir_is_gone(d, point->point))
            newest = point->point;
    return newest;
}

void dir_before(const struct store_dir *d, uint64_t point, uint64_t *ret_number,
                struct sha256 *ret_hash, bool *ret_end)
{
    const struct dir_point *last = dir_point_newest(d);
    uint64_t number = d->before;
    struct sha256 hash = d->before_hash;

    VEC_FOREACH(gone, &d->gones)
        if (gone->last <= point && gone->last > number) {
            number = gone->last;
            hash = gone->hash;
        }
    if (last && last->point > number) {
        number = last->point;
        hash = last->hash;
    }
    *ret_number = number;
    *ret_hash = hash;
    *ret_end = number == point;
}

/* --- Planning a note --------------------------------------------------------------------- */

struct walk {
    struct dir_note *note;
    struct dir_gone run; /* points that go, one after the other; first 0: none */
    bool kept_any;
};

static void walk_gone(struct walk *w, const struct dir_gone *gone)
{
    if (w->run.first == 0)
        w->run = *gone;
    w->run.last = gone->last;
    w->run.hash = gone->hash;
}

static void walk_kept(struct walk *w)
{
    if (w->run.first != 0 && !w->kept_any) {
        w->note->before = w->run.last;
        w->note->before_hash = w->run.hash;
    } else if (w->run.first != 0) {
        *dir_gones_push(&w->note->gones) = w->run;
    }
    w->run.first = 0;
    w->kept_any = true;
}

/* Points and gaps, in their order. */
static void walk_all(const struct store_dir *d, const bool *goes, struct walk *w)
{
    size_t gap = 0;

    for (size_t i = 0; i < d->points.len; i++) {
        const struct dir_point *point = &d->points.at[i];
        for (; gap < d->gones.len && d->gones.at[gap].first <= point->point; gap++)
            walk_gone(w, &d->gones.at[gap]);
        if (dir_is_gone(d, point->point)) /* head is about to leave it */
            continue;
        if (goes[i])
            walk_gone(w, &(struct dir_gone){point->point, point->point, point->hash});
        else
            walk_kept(w);
    }
}

static void list_files(const struct store_dir *d, const bool *goes, struct dir_note *note)
{
    uint64_t oldest = 0; /* kept */
    struct dir_numbers *to = &note->listed;
    bool applied_goes = false;

    for (size_t i = 0; i < d->points.len; i++) {
        uint64_t number = d->points.at[i].point;
        bool kept = !goes[i] && !dir_is_gone(d, number);
        if (kept && oldest == 0)
            oldest = number;
        applied_goes |= !kept && number == d->applied;
    }
    VEC_FOREACH(file, &d->files) {
        const struct dir_point *point = dir_point_find(d, file->point);
        bool kept = point && !goes[point - d->points.at];
        if (!kept && oldest != 0 && file->point > oldest)
            *dir_numbers_push(to) = file->point;
    }
    if (applied_goes && oldest != 0 && oldest < d->applied)
        *dir_numbers_push(to) = d->applied;
}

void dir_note_plan(const struct store_dir *d, const bool *goes, struct dir_note *ret_note)
{
    struct dir_note note = {.before = d->before, .before_hash = d->before_hash};
    struct walk walk = {.note = &note};

    walk_all(d, goes, &walk);
    list_files(d, goes, &note);
    *ret_note = note;
}

/* --- Files ------------------------------------------------------------------------------- */

static uint64_t bytes_of(const struct store_dir *d, uint64_t point)
{
    uint64_t bytes = 0;
    struct stat st;

    VEC_FOREACH(disk, &d->disks) {
        CLEANUP(mem_freep) char *path = dir_undo_path(disk, point);
        if (stat(path, &st) == 0)
            bytes += (uint64_t)st.st_size;
    }
    return bytes;
}

/* In its place, or its size anew. */
void dir_file_add(struct store_dir *d, uint64_t point)
{
    size_t at = d->files.len;

    while (at > 0 && d->files.at[at - 1].point >= point)
        at--;
    if (at == d->files.len || d->files.at[at].point != point) {
        (void)dir_files_push(&d->files);
        memmove(d->files.at + at + 1, d->files.at + at,
                (d->files.len - 1 - at) * sizeof(*d->files.at));
    }
    d->files.at[at] = (struct dir_file){point, bytes_of(d, point)};
}

void dir_files_load(struct store_dir *d)
{
    dir_files_clear(&d->files);
    VEC_FOREACH(point, &d->points)
        if (point->point < d->applied && !dir_is_gone(d, point->point))
            dir_file_add(d, point->point);
    VEC_FOREACH(number, &d->listed)
        if (*number < d->applied)
            dir_file_add(d, *number);
}

void dir_gone_drop(struct store_dir *d)
{
    size_t points = 0;
    size_t files = 0;

    for (size_t i = 0; i < d->points.len; i++)
        if (d->points.at[i].point == d->applied || !dir_is_gone(d, d->points.at[i].point))
            d->points.at[points++] = d->points.at[i];
    d->points.len = points;
    for (size_t i = 0; i < d->files.len; i++)
        if (dir_is_kept(d, d->files.at[i].point) || is_listed(d, d->files.at[i].point))
            d->files.at[files++] = d->files.at[i];
    d->files.len = files;
}

/* --- Removing ---------------------------------------------------------------------------- */

static bool is_undo_needed(const struct store_dir *d, uint64_t point)
{
    return point >= d->applied || !dir_is_gone(d, point) || is_listed(d, point);
}

static bool is_manifest_needed(const struct store_dir *d, uint64_t point)
{
    return point == d->applied || !dir_is_gone(d, point);
}

static int remove_numbers(struct store_dir *d, const char *folder,
                          bool (*is_needed)(const struct store_dir *d, uint64_t point),
                          struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    uint64_t number;

    if (fs_list(folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = path_join(folder, names.at[i]);
        if (dir_number_of(names.at[i], &number) && !is_needed(d, number)
            && d->fs->unlink(d->fs, path, err) < 0)
            return -1;
    }
    return 0;
}

int dir_prune_finish(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *manifests = dir_path(d, DIR_FILE_MANIFESTS);

    /* Without points the note says where the first one will stand, not what was pruned. */
    if ((d->before == 0 && d->gones.len == 0) || d->points.len == 0)
        return 0;
    VEC_FOREACH(disk, &d->disks) {
        CLEANUP(mem_freep) char *undo = path_join(disk->dir, DIR_UNDO);
        if (remove_numbers(d, undo, is_undo_needed, err) < 0)
            return -1;
    }
    return remove_numbers(d, manifests, is_manifest_needed, err);
}
