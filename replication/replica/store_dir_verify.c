// SPDX-License-Identifier: Apache-2.0
/* The scrub: records and manifests first, then disk by disk the undo files, oldest first, and head.
 * What is read comes from the medium, not from memory: clean pages are dropped before.
 *
 * With one point, the first undo file at or after it that has a chunk is the one that matters, and
 * head only for chunks that none has. */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/undo.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_CHUNKS 64U
#define SLICE_BYTES   (UINT64_C(64) * 1024 * 1024)

enum stage { STAGE_RECORDS, STAGE_UNDO, STAGE_HEAD };

/* One slice. */
struct slice {
    struct store_dir *d;
    struct store_scrub *scrub;
    struct cancel *cancel;
    struct dir_disk *disk;
    size_t number; /* of the disk */
    uint64_t left; /* bytes of work */
    struct dir_damages list;
    struct chunks found; /* of one undo file, or of head */
    int64_t now_ms;
};

static void slice_done(struct slice *s)
{
    dir_damages_free(&s->list);
    chunks_free(&s->found);
}

void store_scrub_done(struct store_scrub *scrub)
{
    free(scrub->old);
    scrub->old = NULL;
}

void dir_scrub_say(struct store_scrub *scrub, const char *text)
{
    if (scrub->text_count < STORE_SCRUB_TEXTS)
        (void)snprintf(scrub->texts[scrub->text_count++], sizeof(scrub->texts[0]), "%.300s", text);
}

static void say(struct slice *s, const char *text)
{
    dir_scrub_say(s->scrub, text);
}

static void did(struct slice *s, uint64_t bytes)
{
    s->left -= bytes < s->left ? bytes : s->left;
    s->scrub->done_bytes += bytes;
}

static bool is_in_subset(const struct store_scrub *scrub, uint64_t chunk)
{
    return scrub->ask.of == 0 || chunk % scrub->ask.of == scrub->ask.subset - 1;
}

/* --- Undo -------------------------------------------------------------------------------- */

static bool is_bad_read(enum err_code code)
{
    return code == ERR_CORRUPT || code == ERR_IO;
}

/* Puts what was found of the disk on the list: of head with `point` 0. */
static int note_found(struct slice *s, uint64_t point, struct err *err)
{
    struct chunks fresh = VEC_EMPTY;
    size_t kept = 0;

    for (size_t i = 0; i < s->found.len; i++) {
        uint64_t chunk = s->found.at[i];
        bool known = point ? dir_damages_has_past(&s->list, s->number, chunk, point)
                           : dir_damages_has_head(&s->list, s->number, chunk);
        if (!known)
            s->found.at[kept++] = chunk;
    }
    *(point ? &s->scrub->damaged_past : &s->scrub->damaged_head) += s->found.len;
    fresh.at = s->found.at;
    fresh.len = kept;
    s->found.len = 0;
    if (kept == 0)
        return 0;
    CLEANUP(mem_freep) uint64_t *from = mem_new_array(uint64_t, kept);
    if (dir_damage_since(s->d, s->disk, &fresh, point, from, err) < 0)
        return -1;
    for (size_t i = 0; i < kept; i++)
        dir_damages_add(&s->list, s->number, fresh.at[i], from[i], point, s->now_ms);
    return 0;
}

/* Is the row the one by which the asked point has its chunk? */
static bool is_needed(const struct slice *s, uint64_t chunk)
{
    struct store_scrub *scrub = s->scrub;
    uint8_t bit = (uint8_t)(1U << (chunk % 8));

    /* Beyond its end: of a time when the disk was larger. */
    if (!scrub->old || chunk >= chunk_count(s->disk->size))
        return true;
    if (scrub->old[chunk / 8] & bit)
        return false;
    scrub->old[chunk / 8] |= bit;
    return true;
}

static void check_row(struct slice *s, const struct undo *undo, struct frame_coder *coder,
                      const struct undo_row *row)
{
    uint8_t buf[CHUNK_BYTES];
    struct err why = ERR_EMPTY;

    if (!is_needed(s, row->chunk) || !is_in_subset(s->scrub, row->chunk))
        return;
    if (undo_record_read(undo->fd, undo->path, coder, row, undo->disk_size, buf, &why) < 0) {
        say(s, why.text);
        *chunks_push(&s->found) = row->chunk;
    } else if (dir_damages_cut_past(&s->list, s->number, row->chunk, undo->point)) {
        s->scrub->healed++;
    }
}

static int check_rows(struct slice *s, const struct undo *undo, struct err *err)
{
    CLEANUP(frame_coder_freep) struct frame_coder *coder = undo_coder_new(&s->d->key, &undo->uuid);
    struct store_scrub *scrub = s->scrub;

    (void)posix_fadvise(undo->fd, 0, 0, POSIX_FADV_DONTNEED);
    for (; scrub->row < undo->row_count && s->left > 0; scrub->row++) {
        const struct undo_row *row = &undo->rows[scrub->row];
        if (cancel_check(s->cancel, err) < 0)
            return -1;
        check_row(s, undo, coder, row);
        did(s, row->len + sizeof(*row));
    }
    if (note_found(s, undo->point, err) < 0)
        return -1;
    if (scrub->row == undo->row_count) {
        scrub->row = 0;
        scrub->at = undo->point + 1;
    }
    return 0;
}

static int check_undo(struct slice *s, uint64_t point, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_undo_path(s->disk, point);
    CLEANUP(undo_freep) struct undo *undo = NULL;
    const struct undo_head want = {s->disk->name, s->disk->size, point};
    struct err why = ERR_EMPTY;

    if (undo_open(path, &undo, &why) == 0 && undo_check_head(undo, &want, &why) == 0) {
        if (s->scrub->row == 0 && dir_damages_cut_past(&s->list, s->number, UINT64_MAX, point))
            s->scrub->healed++;
        return check_rows(s, undo, err);
    }
    if (!is_bad_read(why.code) && why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, why.sys, "%s", why.text);
    say(s, why.text);
    if (!dir_damages_has_past(&s->list, s->number, UINT64_MAX, point))
        dir_damages_add(&s->list, s->number, UINT64_MAX, 0, point, s->now_ms);
    s->scrub->damaged_past += chunk_count(s->disk->size);
    s->scrub->row = 0;
    s->scrub->at = point + 1;
    return 0;
}

static int check_past(struct slice *s, struct err *err)
{
    struct store_scrub *scrub = s->scrub;

    while (s->left > 0) {
        const struct dir_file *next = NULL;
        for (size_t i = s->d->files.len; i-- > 0;) {
            const struct dir_file *file = &s->d->files.at[i];
            if (file->point >= scrub->at && file->point >= scrub->ask.point)
                next = file;
        }
        if (!next) {
            scrub->stage = STAGE_HEAD;
            scrub->at = 0;
            return 0;
        }
        if (next->point != scrub->at) /* the one that was under way is pruned */
            scrub->row = 0;
        scrub->at = next->point;
        if (check_undo(s, next->point, err) < 0)
            return -1;
        did(s, 1);
    }
    return 0;
}

/* --- Head -------------------------------------------------------------------------------- */

static void say_head(struct slice *s, uint64_t chunk, const struct err *why)
{
    const struct dir_disk *disk = s->disk;
    size_t len = chunk_len(disk->size, chunk);
    CLEANUP(mem_freep) char *path = dir_head_path(disk);
    CLEANUP(mem_freep)
    char *text = mem_printf("%s: the %zu bytes at %" PRIu64 " (chunk %" PRIu64 ") %s", path, len,
                            chunk * CHUNK_BYTES, chunk,
                            why->code == ERR_NONE ? "do not have their digest" : why->text);

    say(s, text);
}

static void check_chunk(struct slice *s, uint64_t chunk, const struct digest *want)
{
    static const struct digest zeros;
    uint8_t buf[CHUNK_BYTES];
    struct digest digest;
    size_t len = chunk_len(s->disk->size, chunk);
    struct err why = ERR_EMPTY;
    struct dir_damage was;

    /* A hole has no bytes that could be wrong. */
    if (memcmp(want, &zeros, sizeof(zeros)) == 0 && dir_disk_is_plain(s->disk)
        && dir_next_data(s->disk->head, chunk * CHUNK_BYTES, s->disk->size)
               >= chunk * CHUNK_BYTES + len)
        memset(&digest, 0, sizeof(digest));
    else if (s->d->fs->pread(s->d->fs, s->disk->head, buf, len, chunk * CHUNK_BYTES, &why) == 0)
        chunk_digest(s->d->digester, buf, len, &digest);
    if (why.code != ERR_NONE || memcmp(&digest, want, sizeof(digest)) != 0) {
        say_head(s, chunk, &why);
        *chunks_push(&s->found) = chunk;
    } else if (dir_damages_cut_head(&s->list, s->number, chunk, &was)) {
        s->scrub->healed++;
    }
}

static int check_window(struct slice *s, uint64_t first, uint64_t count, struct err *err)
{
    struct digest digests[WINDOW_CHUNKS];
    const uint8_t *old = s->scrub->old;

    if (digests_file_read(s->d->fs, s->disk->digests, first, count, digests, err) < 0)
        return -1;
    if (dir_disk_is_plain(s->disk))
        (void)posix_fadvise(s->disk->head, (off_t)(first * CHUNK_BYTES),
                            (off_t)(count * CHUNK_BYTES), POSIX_FADV_DONTNEED);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t chunk = first + i;
        if (cancel_check(s->cancel, err) < 0)
            return -1;
        if (is_in_subset(s->scrub, chunk) && !(old && (old[chunk / 8] >> (chunk % 8) & 1)))
            check_chunk(s, chunk, &digests[i]);
        did(s, chunk_len(s->disk->size, chunk));
    }
    return 0;
}

/* All was read: own disks that others had written to are known again, unless somebody still does. */
static int take_over(struct slice *s, struct err *err)
{
    struct store_scrub *scrub = s->scrub;
    uint64_t now;

    if (scrub->stamps == 0 || scrub->ask.of > 1 || scrub->ask.point)
        return 0;
    if (dir_own_now(s->d, &now, err) < 0)
        return -1;
    if (now != scrub->stamps) {
        scrub->faults++;
        say(s, "a machine's own disk was written to while it was compared; hint: end whatever "
               "writes to it, and verify again");
        return 0;
    }
    scrub->taken_over = true;
    if (dir_damage_save(s->d, &s->list, err) < 0)
        return -1;
    return dir_own_take_over(s->d, err);
}

static int next_disk(struct slice *s, struct err *err)
{
    struct store_scrub *scrub = s->scrub;

    store_scrub_done(scrub);
    scrub->at = scrub->row = 0;
    scrub->stage = STAGE_UNDO;
    if (s->number + 1 < s->d->disks.len)
        memcpy(scrub->disk, s->d->disks.at[s->number + 1].name, sizeof(scrub->disk));
    else
        scrub->done = true;
    return scrub->done ? take_over(s, err) : 0;
}

static int check_head(struct slice *s, struct err *err)
{
    uint64_t chunks = chunk_count(s->disk->size);

    while (s->left > 0 && s->scrub->at < chunks) {
        uint64_t left = chunks - s->scrub->at;
        uint64_t count = left < WINDOW_CHUNKS ? left : WINDOW_CHUNKS;
        if (check_window(s, s->scrub->at, count, err) < 0)
            return -1;
        s->scrub->at += count;
    }
    if (note_found(s, 0, err) < 0)
        return -1;
    return s->scrub->at == chunks ? next_disk(s, err) : 0;
}

/* --- Slices ------------------------------------------------------------------------------ */

static int check_store(const struct store_dir *d, struct err *err)
{
    if (d->base != STORE_COPIED)
        return err_set(err, ERR_STATE, 0, "%s: there is no complete copy to verify yet", d->group);
    return dir_own_held(d, err);
}

static uint64_t bytes_to_read(const struct store_dir *d)
{
    uint64_t bytes = 0;

    VEC_FOREACH(disk, &d->disks)
        bytes += disk->size;
    VEC_FOREACH(file, &d->files)
        bytes += file->bytes;
    return bytes;
}

int store_dir_scrub_begin(struct store *store, const struct store_scrub_ask *ask,
                          struct store_scrub *ret_scrub, struct err *err)
{
    const struct store_dir *d = store_dir_of(store);

    if (check_store(d, err) < 0)
        return -1;
    if (ask->of ? ask->subset == 0 || ask->subset > ask->of : ask->subset != 0)
        return err_set(err, ERR_INVALID, 0,
                       "%s: subset %" PRIu64 " of %" PRIu64 "; hint: 1/5 to 5/5 are five fifths",
                       d->group, ask->subset, ask->of);
    if (ask->point && !dir_is_kept(d, ask->point))
        return dir_no_point(d, ask->point, err);
    *ret_scrub = (struct store_scrub){.ask = *ask, .total_bytes = bytes_to_read(d)};
    memcpy(ret_scrub->disk, d->disks.at[0].name, sizeof(ret_scrub->disk));
    struct err why = ERR_EMPTY;
    if (dir_own_check(d, &why) == 0)
        return 0;
    if (why.code != ERR_CORRUPT)
        return err_set(err, why.code, why.sys, "%s", why.text);
    return dir_own_now(d, &ret_scrub->stamps, err);
}

/* What was seen of the undo files before this slice. */
static int look_back(struct slice *s, struct err *err)
{
    struct store_scrub *scrub = s->scrub;
    bool undo_done = scrub->stage == STAGE_HEAD;

    scrub->old = mem_try_alloc((size_t)(chunk_count(s->disk->size) / 8 + 1), "map of a scrub", err);
    if (!scrub->old)
        return -1;
    VEC_FOREACH(file, &s->d->files) {
        CLEANUP(mem_freep) char *path = dir_undo_path(s->disk, file->point);
        CLEANUP(undo_freep) struct undo *undo = NULL;
        struct err why = ERR_EMPTY;
        if (file->point < scrub->ask.point || (!undo_done && file->point > scrub->at))
            continue;
        if (undo_open(path, &undo, &why) < 0)
            continue; /* on the list already */
        size_t rows = undo_done || file->point < scrub->at ? undo->row_count : scrub->row;
        for (size_t i = 0; i < rows && i < undo->row_count; i++)
            (void)is_needed(s, undo->rows[i].chunk);
    }
    return 0;
}

static int do_some(struct slice *s, struct err *err)
{
    struct store_scrub *scrub = s->scrub;

    if (scrub->stage != STAGE_RECORDS && scrub->ask.point && !scrub->old && look_back(s, err) < 0)
        return -1;
    switch ((enum stage)scrub->stage) {
    case STAGE_RECORDS:
        if (dir_records_check(s->d, scrub, s->cancel, err) < 0)
            return -1;
        scrub->stage = STAGE_UNDO;
        return 0;
    case STAGE_UNDO: return check_past(s, err);
    case STAGE_HEAD: return check_head(s, err);
    }
    return 0;
}

/* What was found is noted all the same. */
static int give_up(struct slice *s)
{
    uint64_t point = s->scrub->stage == STAGE_UNDO ? s->scrub->at : 0;
    struct err why = ERR_EMPTY;
    int rc = note_found(s, point, &why);

    if (rc == 0)
        rc = dir_damage_save(s->d, &s->list, &why);
    (void)rc; /* there is an error already */
    return -1;
}

int store_dir_scrub_slice(struct store *store, struct store_scrub *scrub, uint64_t bytes,
                          struct cancel *cancel, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    CLEANUP(slice_done)
    struct slice s = {.d = d,
                      .scrub = scrub,
                      .cancel = cancel,
                      .left = bytes ? bytes : 1,
                      .now_ms = d->clock->wall_ms(d->clock)};

    if (check_store(d, err) < 0 || guard_fs_check(&d->guard, err) < 0)
        return -1;
    if (d->intent)
        return err_set(err, ERR_STATE, 0,
                       "%s: point %" PRIu64 " is being applied; hint: let that end first", d->group,
                       d->intent);
    if (scrub->stage > STAGE_HEAD)
        return err_set(err, ERR_INVALID, 0, "%s: a scrub has no stage %u", d->group, scrub->stage);
    dir_damages_copy(&s.list, &d->damages);
    while (s.left > 0 && !scrub->done) {
        s.disk = dir_disk_find(d, scrub->disk, err);
        if (!s.disk)
            return -1;
        s.number = (size_t)(s.disk - d->disks.at);
        if (do_some(&s, err) < 0)
            return give_up(&s);
    }
    if (scrub->done || scrub->done_bytes > scrub->total_bytes)
        scrub->done_bytes = scrub->total_bytes;
    return dir_damage_save(d, &s.list, err);
}

int store_dir_verify(struct store *store, struct cancel *cancel, struct err *err)
{
    const struct store_scrub_ask all = {0};
    CLEANUP(store_scrub_done) struct store_scrub scrub = {.stage = STAGE_RECORDS};

    if (store_dir_scrub_begin(store, &all, &scrub, err) < 0)
        return -1;
    while (!scrub.done)
        if (store_dir_scrub_slice(store, &scrub, SLICE_BYTES, cancel, err) < 0)
            return -1;
    if (scrub.text_count == 0)
        return 0;
    return err_set(err, ERR_CORRUPT, 0,
                   "%s; damaged are %" PRIu64 " chunks of head, %" PRIu64
                   " of older points, %" PRIu64 " other files; hint: what head lacks is fetched"
                   " again while the source lives",
                   scrub.texts[0], scrub.damaged_head, scrub.damaged_past, scrub.faults);
}
