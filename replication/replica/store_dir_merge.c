// SPDX-License-Identifier: Apache-2.0
/* Merging undo files: those of removed points into the one before, a run of files at a time. Of each
 * chunk the oldest record stays, as it has the last word anyway; so before and after, every kept
 * point reads the same, and a run that was merged twice is merged once.
 *
 *   A.tmp of each disk   all that the run has, once; sealed
 *   chain page locked    no view is at or before the run's end, and none opens (chain.c)
 *   rename to A          of each disk: from here on the run's other files say nothing new
 *   note                 lists them no longer
 *   chain page           nor does it; unlocked
 *   unlink               of the others
 *
 * A merge goes on from call to call, between applies, a bounded part at a time, and begins anew after
 * a restart. It costs what the run holds, so a run must be worth it: groups are the files from one
 * kept point up to the next. In a group that is closed by a point that stays, all is merged as soon
 * as half of the first file's size stands after it. In others the next removed point comes soon, and
 * files are merged when RUN_FILES of them are of one order of magnitude: each byte is written once
 * per magnitude. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "replica/undo.h"

#include <inttypes.h>
#include <string.h>

#define RUN_FILES   8U
#define LEVEL_BYTES (UINT64_C(1) << 20) /* smaller files are of one order */
#define SPARE_BYTES (UINT64_C(16) << 20)

struct input {
    struct undo *undo;
    struct frame_coder *coder;
    size_t at; /* row */
};

struct dir_merge {
    struct dir_numbers files;     /* the run; the first one takes the others in */
    struct undo_writer **writers; /* one per disk */
    size_t disk_count;
    size_t disk;          /* the one being written; disk_count: all are sealed */
    struct input *inputs; /* of that disk, one per file; or NULL */
};

static void inputs_close(struct dir_merge *m)
{
    for (size_t i = 0; m->inputs && i < m->files.len; i++) {
        undo_free(m->inputs[i].undo);
        frame_coder_free(m->inputs[i].coder);
    }
    free(m->inputs);
    m->inputs = NULL;
}

void dir_merge_stop(struct store_dir *d)
{
    struct dir_merge *m = d->merge;

    if (!m)
        return;
    inputs_close(m);
    for (size_t i = 0; i < m->disk_count; i++)
        undo_writer_free(m->writers[i]);
    free(m->writers);
    dir_numbers_free(&m->files);
    free(m);
    d->merge = NULL;
}

/* --- What to merge ----------------------------------------------------------------------- */

static unsigned level_of(uint64_t bytes)
{
    unsigned level = 0;

    for (uint64_t limit = LEVEL_BYTES; bytes >= limit && level < 16; limit *= RUN_FILES)
        level++;
    return level;
}

/* The longest end of [first, end) that is of one order, the largest there is; `end` when there is
 * none of RUN_FILES files. */
static size_t run_by_level(const struct store_dir *d, size_t first, size_t end)
{
    size_t start = end;
    unsigned level = 0;

    for (size_t i = end; i-- > first;) {
        unsigned own = level_of(d->files.at[i].bytes);
        if (own > level)
            level = own;
        /* Those of a higher order wait for enough of their own. */
        bool whole = i == first || level_of(d->files.at[i - 1].bytes) > level;
        if (whole && end - i >= RUN_FILES)
            start = i;
        else if (whole && start != end)
            break;
    }
    return start;
}

static bool is_hurt(const struct store_dir *d, uint64_t point)
{
    VEC_FOREACH(number, &d->hurt)
        if (*number == point)
            return true;
    return false;
}

static bool has_number(const struct dir_numbers *numbers, uint64_t point)
{
    VEC_FOREACH(number, numbers)
        if (*number == point)
            return true;
    return false;
}

static bool choose_in_group(const struct store_dir *d, size_t first, size_t end, bool closed,
                            size_t *ret_start)
{
    uint64_t behind = 0;

    for (size_t i = first + 1; i < end; i++)
        behind += d->files.at[i].bytes;
    *ret_start = closed && end - first > 1 && 2 * behind >= d->files.at[first].bytes
                     ? first
                     : run_by_level(d, first, end);
    return *ret_start < end && !is_hurt(d, d->files.at[*ret_start].point);
}

/* From the newest group to the oldest: those of the newest grow most. */
static bool choose_run(const struct store_dir *d, const struct dir_numbers *closed,
                       size_t *ret_start, size_t *ret_end)
{
    uint64_t next = d->applied;

    for (size_t end = d->files.len, i = end; i-- > 0;) {
        if (i > 0 && !dir_is_kept(d, d->files.at[i].point))
            continue;
        if (choose_in_group(d, i, end, has_number(closed, next), ret_start)) {
            *ret_end = end;
            return true;
        }
        next = d->files.at[i].point;
        end = i;
    }
    return false;
}

/* --- Beginning --------------------------------------------------------------------------- */

static uint64_t first_of(const struct dir_merge *m)
{
    return m->files.at[0];
}

static uint64_t last_of(const struct dir_merge *m)
{
    return m->files.at[m->files.len - 1];
}

/* As they are now, with nothing in between. */
static bool is_valid(const struct store_dir *d, const struct dir_merge *m)
{
    for (size_t i = 0; i + m->files.len <= d->files.len; i++) {
        if (d->files.at[i].point != first_of(m))
            continue;
        for (size_t k = 0; k < m->files.len; k++)
            if (d->files.at[i + k].point != m->files.at[k]
                || (k > 0 && dir_is_kept(d, m->files.at[k])))
                return false;
        return true;
    }
    return false;
}

static bool is_viewed(struct store_dir *d, uint64_t last)
{
    if (!chain_lock(d->chain, last))
        return true;
    chain_unlock(d->chain, last);
    return false;
}

static int begin(struct store_dir *d, size_t start, size_t end, struct err *err)
{
    struct dir_merge *m = d->merge = mem_new(struct dir_merge);

    for (size_t i = start; i < end; i++)
        *dir_numbers_push(&m->files) = d->files.at[i].point;
    m->disk_count = d->disks.len;
    m->writers = mem_new_array(struct undo_writer *, m->disk_count);
    for (size_t i = 0; i < m->disk_count; i++) {
        const struct dir_disk *disk = &d->disks.at[i];
        CLEANUP(mem_freep) char *path = dir_undo_path(disk, first_of(m));
        CLEANUP(undo_freep) struct undo *first = NULL;
        if (undo_open(path, &first, err) < 0)
            return -1;
        /* The size that the disk had then (store_dir_resize.c). */
        const struct undo_head head = {disk->name, first->disk_size, first_of(m)};
        if (undo_writer_open(d->fs, path, &head, &d->key, &m->writers[i], err) < 0)
            return -1;
    }
    return 0;
}

/* Is there something worth it, and room for it? */
static int begin_next(struct store_dir *d, const struct dir_numbers *closed, bool *ret_begun,
                      struct err *err)
{
    uint64_t need = SPARE_BYTES;
    uint64_t have;
    size_t start;
    size_t end;

    *ret_begun = false;
    if (!choose_run(d, closed, &start, &end))
        return 0;
    for (size_t i = start; i < end; i++)
        need += d->files.at[i].bytes;
    if (fs_free_bytes(d->dir, &have, err) < 0)
        return -1;
    if (have < need || is_viewed(d, d->files.at[end - 1].point))
        return 0;
    *ret_begun = true;
    return begin(d, start, end, err);
}

/* --- Writing ----------------------------------------------------------------------------- */

static int inputs_open(struct store_dir *d, struct err *err)
{
    struct dir_merge *m = d->merge;
    const struct dir_disk *disk = &d->disks.at[m->disk];

    m->inputs = mem_new_array(struct input, m->files.len);
    for (size_t i = 0; i < m->files.len; i++) {
        CLEANUP(mem_freep) char *path = dir_undo_path(disk, m->files.at[i]);
        if (undo_open(path, &m->inputs[i].undo, err) < 0)
            return -1;
        if (m->inputs[i].undo->point != m->files.at[i])
            return err_set(err, ERR_CORRUPT, 0, "%s: of another point, or another disk", path);
        m->inputs[i].coder = undo_coder_new(&d->key, &m->inputs[i].undo->uuid);
    }
    return 0;
}

static const struct undo_row *row_of(const struct input *input)
{
    return input->at < input->undo->row_count ? &input->undo->rows[input->at] : NULL;
}

/* The oldest file's record of the lowest chunk; the others' are passed over. NULL: no more. */
static struct input *next_input(struct dir_merge *m, const struct undo_row **ret_row)
{
    struct input *lowest = NULL;
    const struct undo_row *best = NULL;

    for (size_t i = 0; i < m->files.len; i++) {
        const struct undo_row *row = row_of(&m->inputs[i]);
        if (row && (!best || row->chunk < best->chunk)) {
            best = row;
            lowest = &m->inputs[i];
        }
    }
    for (size_t i = 0; best && i < m->files.len; i++) {
        const struct undo_row *row = row_of(&m->inputs[i]);
        if (row && row->chunk == best->chunk)
            m->inputs[i].at++;
    }
    *ret_row = best;
    return lowest;
}

/* One record, as the first file's disk had its chunks. What lies beyond that disk's end are zeros:
 * it grew by them. */
static int write_row(struct dir_merge *m, const struct input *from, const struct undo_row *row,
                     struct err *err)
{
    uint64_t size = m->inputs[0].undo->disk_size;
    uint8_t buf[CHUNK_BYTES] = {0};
    bool beyond = row->chunk >= chunk_count(size);
    struct err why = ERR_EMPTY;
    size_t len = beyond ? CHUNK_BYTES : chunk_len(size, row->chunk);

    if (beyond && row->pos)
        return 0;
    if (undo_record_read(from->undo->fd, from->undo->path, from->coder, row, from->undo->disk_size,
                         buf, &why)
        < 0) {
        if (why.code != ERR_CORRUPT)
            return err_set(err, why.code, why.sys, "%s", why.text);
        undo_writer_add_damaged(m->writers[m->disk], row->chunk);
        return 0;
    }
    return undo_writer_add(m->writers[m->disk], row->chunk, buf, len, err);
}

static int write_some(struct store_dir *d, uint64_t *budget, struct err *err)
{
    struct dir_merge *m = d->merge;
    const struct undo_row *row;

    if (!m->inputs && inputs_open(d, err) < 0)
        return -1;
    while (*budget > 0) {
        const struct input *from = next_input(m, &row);
        if (!from) {
            inputs_close(m);
            return undo_writer_seal(m->writers[m->disk++], err);
        }
        if (write_row(m, from, row, err) < 0)
            return -1;
        *budget -= *budget < CHUNK_BYTES ? *budget : CHUNK_BYTES;
    }
    return 0;
}

/* --- Switching --------------------------------------------------------------------------- */

/* The first one takes the others' place; the page is locked. */
static int switch_files(struct store_dir *d, struct err *err)
{
    struct dir_merge *m = d->merge;
    CLEANUP(mem_freep) bool *goes = mem_new_array(bool, d->points.len);
    CLEANUP(dir_note_done) struct dir_note note = {0};
    size_t kept = 0;

    for (size_t i = 0; i < m->disk_count; i++)
        if (undo_writer_finish(m->writers[i], err) < 0)
            return -1;
    CRASH_POINT("replica.merge-renamed");
    dir_note_plan(d, goes, &note);
    for (size_t i = 0; i < note.listed.len; i++)
        if (note.listed.at[i] == first_of(m) || !has_number(&m->files, note.listed.at[i]))
            note.listed.at[kept++] = note.listed.at[i];
    note.listed.len = kept;
    if (dir_note_save(d, &note, err) < 0)
        return -1;
    CRASH_POINT("replica.merge-noted");
    dir_gone_drop(d);
    dir_file_add(d, first_of(m));
    return dir_chain_restore(d, err);
}

static int end_merge(struct store_dir *d, struct err *err)
{
    struct dir_merge *m = d->merge;
    uint64_t last = last_of(m);

    if (!chain_lock(d->chain, last)) /* somebody looks at it; later, anew */
        return 0;
    int rc = switch_files(d, err);
    chain_unlock(d->chain, last);
    for (size_t i = 0; rc == 0 && i < d->disks.len; i++)
        for (size_t k = 1; rc == 0 && k < m->files.len; k++) {
            CLEANUP(mem_freep) char *path = dir_undo_path(&d->disks.at[i], m->files.at[k]);
            rc = d->fs->unlink(d->fs, path, err);
        }
    return rc;
}

static int go_on(struct store_dir *d, uint64_t *budget, struct err *err)
{
    while (*budget > 0 && d->merge->disk < d->merge->disk_count)
        if (write_some(d, budget, err) < 0)
            return -1;
    if (d->merge->disk < d->merge->disk_count)
        return 0;
    CRASH_POINT("replica.merge-written");
    int rc = end_merge(d, err);
    dir_merge_stop(d);
    return rc;
}

/* Merging saves room, and nobody waits for it. */
static int give_up(struct store_dir *d, struct err *why, struct err *err)
{
    if (guard_fs_check(&d->guard, NULL) < 0
        || (why->code != ERR_SPACE && why->code != ERR_CORRUPT)) {
        dir_merge_stop(d);
        if (err)
            *err = *why;
        return err_wrap(err, "merge undo files of %s", d->group);
    }
    if (d->merge && why->code == ERR_CORRUPT) /* verify tells more about it */
        *dir_numbers_push(&d->hurt) = first_of(d->merge);
    dir_merge_stop(d);
    return 0;
}

int dir_merge_some(struct store_dir *d, const struct dir_numbers *closed, uint64_t budget,
                   struct err *err)
{
    if (d->merge && !is_valid(d, d->merge))
        dir_merge_stop(d);
    while (budget > 0) {
        struct err why = ERR_EMPTY;
        bool begun = d->merge != NULL;
        if (!begun && begin_next(d, closed, &begun, &why) < 0)
            return give_up(d, &why, err);
        if (!begun)
            return 0;
        uint64_t before = budget;
        if (go_on(d, &budget, &why) < 0)
            return give_up(d, &why, err);
        if (budget == before && !d->merge) /* it cost nothing, or could not end: enough for now */
            return 0;
    }
    return 0;
}
