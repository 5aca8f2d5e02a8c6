// SPDX-License-Identifier: Apache-2.0
/* The part of a scrub that reads the small files: records, manifests, and segments that are not applied
 * yet. A record whose content is known is written anew. */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/generation.h"
#include "replica/record.h"

#include <inttypes.h>
#include <string.h>

struct check {
    struct store_dir *d;
    struct store_scrub *scrub;
    struct cancel *cancel;
};

static void fault(struct check *s, const struct err *why, const char *what)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s%s", why->text, what);

    s->scrub->faults++;
    dir_scrub_say(s->scrub, text);
}

static int note_anew(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) bool *goes = mem_new_array(bool, d->points.len + 1);
    CLEANUP(dir_note_done) struct dir_note note = {0};

    dir_note_plan(d, goes, &note);
    return dir_note_save(d, &note, err);
}

/* What is in memory came from the record when that was right. */
static int write_anew(struct store_dir *d, const char *name, struct err *err)
{
    if (str_eq(name, DIR_FILE_REPLICA))
        return dir_state_save(d, d->base, err);
    if (str_eq(name, DIR_FILE_APPLIED))
        return dir_applied_save(d, dir_point_find(d, d->applied), d->intent, err);
    if (str_eq(name, DIR_FILE_PRUNED))
        return note_anew(d, err);
    return dir_pins_save(d, &d->pins, err);
}

static int check_record(struct check *s, const char *name, bool is_known, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(s->d, name);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err why = ERR_EMPTY;

    if (!fs_exists(path) || record_read(s->d->fs, path, &text, &why) == 0)
        return 0;
    if (why.code != ERR_CORRUPT || !is_known) {
        fault(s, &why, "");
        return 0;
    }
    fault(s, &why, "; it was written anew");
    return write_anew(s->d, name, err);
}

static int check_records(struct check *s, struct err *err)
{
    static const struct {
        const char *name;
        bool is_known;
    } records[] = {
        {DIR_FILE_REPLICA, true},    {DIR_FILE_APPLIED, true},     {DIR_FILE_PRUNED, true},
        {DIR_FILE_PINS, true},       {DIR_FILE_PROMOTION, false},  {DIR_FILE_TIP, false},
        {DIR_FILE_RETENTION, false}, {DIR_FILE_PROTECTION, false}, {DIR_FILE_VERIFIED, false},
    };
    struct err why = ERR_EMPTY;
    uint64_t generation;

    for (size_t i = 0; i < ARRAY_LEN(records); i++)
        if (check_record(s, records[i].name, records[i].is_known, err) < 0)
            return -1;
    if (generation_read(s->d->fs, s->d->dir, &generation, &why) < 0)
        fault(s, &why, "");
    return 0;
}

static int check_segments(struct store_dir *d, const struct manifest *m, struct err *err)
{
    VEC_FOREACH(part, &m->disks) {
        const struct dir_disk *disk = dir_disk_find(d, part->name, err);
        if (!disk)
            return -1;
        VEC_FOREACH(segment, &part->segments)
            if (dir_segment_match(d, disk, m, segment, true, err) < 0)
                return -1;
    }
    return 0;
}

static int check_manifest(struct store_dir *d, const struct dir_point *point, struct err *err)
{
    CLEANUP(manifest_done) struct manifest m;
    struct sha256 hash;

    manifest_init(&m);
    if (dir_manifest_read(d, point->point, &m, NULL, err) < 0)
        return -1;
    manifest_hash(&m, &hash);
    if (memcmp(&hash, &point->hash, sizeof(hash)) != 0)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s/" DIR_FILE_MANIFESTS ": point %" PRIu64
                       " was changed since the store was opened",
                       d->dir, point->point);
    return point->point > d->applied ? check_segments(d, &m, err) : 0;
}

static int check_manifests(struct check *s, struct err *err)
{
    VEC_FOREACH(point, &s->d->points) {
        struct err why = ERR_EMPTY;
        if (cancel_check(s->cancel, err) < 0)
            return -1;
        if (check_manifest(s->d, point, &why) < 0)
            fault(s, &why, "");
    }
    return 0;
}

int dir_records_check(struct store_dir *d, struct store_scrub *scrub, struct cancel *cancel,
                      struct err *err)
{
    struct check check = {d, scrub, cancel};

    return check_records(&check, err) < 0 ? -1 : check_manifests(&check, err);
}
