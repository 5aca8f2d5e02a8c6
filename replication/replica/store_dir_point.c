// SPDX-License-Identifier: Apache-2.0
/* Manifests: manifests/N is a record of two lines, the manifest's text and "received MS", the
 * store's own clock when it came. A point is there when that file is. */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/record.h"

#include <inttypes.h>
#include <string.h>

#define RECEIVED "received "

struct dir_point *dir_point_find(const struct store_dir *d, uint64_t point)
{
    size_t low = 0;

    for (size_t high = d->points.len; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (d->points.at[middle].point < point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < d->points.len && d->points.at[low].point == point ? &d->points.at[low] : NULL;
}

struct dir_point *dir_point_newest(const struct store_dir *d)
{
    return d->points.len ? &d->points.at[d->points.len - 1] : NULL;
}

/* "4, 6 to 9, 12"; numbers that never were part no run. */
static void add_kept(const struct store_dir *d, struct str *text)
{
    for (size_t i = 0; i < d->points.len;) {
        uint64_t first = d->points.at[i].point;
        uint64_t last = first;
        for (i++; i < d->points.len && d->points.at[i].point == last + 1; i++)
            last++;
        str_addf(text, "%s%" PRIu64, text->len ? ", " : "", first);
        if (last != first)
            str_addf(text, " to %" PRIu64, last);
    }
}

int dir_no_point(const struct store_dir *d, uint64_t point, struct err *err)
{
    const struct dir_point *newest = dir_point_newest(d);
    CLEANUP(str_free) struct str kept = STR_EMPTY;

    if (!newest)
        return err_set(err, ERR_NOT_FOUND, 0, "%s has no point %" PRIu64 ", nor any other yet",
                       d->group, point);
    add_kept(d, &kept);
    return err_set(err, ERR_NOT_FOUND, 0, "%s has no point %" PRIu64 "; kept are %.300s", d->group,
                   point, kept.ptr);
}

static struct dir_point point_of(const struct manifest *m, int64_t received_wall_ms)
{
    struct dir_point point = {
        .point = m->point,
        .generation = m->generation,
        .parent = m->parent,
        .base = m->base,
        .cut_wall_ms = m->cut_wall_ms,
        .received_wall_ms = received_wall_ms,
        .stall_us = m->stall_us,
        .consistency = m->consistency,
        .promotion = m->promotion,
    };
    manifest_hash(m, &point.hash);
    VEC_FOREACH(disk, &m->disks)
        VEC_FOREACH(segment, &disk->segments)
            point.bytes += segment->bytes;
    return point;
}

/* --- Reading ----------------------------------------------------------------------------- */

static int read_manifest(struct store_dir *d, uint64_t point, struct manifest *ret_manifest,
                         int64_t *ret_received, char **ret_text, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_manifest_path(d, point);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(manifest_done) struct manifest m;
    uint64_t received;

    manifest_init(&m);
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    char *end = text.len ? strchr(text.ptr, '\n') : NULL;
    if (!end || !str_starts(end + 1, RECEIVED)
        || !str_to_u64(end + 1 + strlen(RECEIVED), &received))
        return err_set(err, ERR_CORRUPT, 0, "%s: not a manifest's record", path);
    *end = '\0';
    if (manifest_parse(text.ptr, (size_t)(end - text.ptr), &m, err) < 0)
        return err_wrap(err, "%s", path);
    if (m.point != point || (d->group[0] && !str_eq(m.group, d->group)))
        return err_set(err, ERR_CORRUPT, 0, "%s: it is point %" PRIu64 " of group %s", path,
                       m.point, m.group);
    *ret_received = (int64_t)received;
    *ret_manifest = m;
    manifest_init(&m);
    if (ret_text)
        *ret_text = str_take(&text);
    return 0;
}

int dir_manifest_read(struct store_dir *d, uint64_t point, struct manifest *ret_manifest,
                      char **ret_text, struct err *err)
{
    int64_t received;

    return read_manifest(d, point, ret_manifest, &received, ret_text, err);
}

int dir_point_read(struct store_dir *d, uint64_t number, struct manifest *ret_manifest,
                   struct dir_point *ret_point, struct err *err)
{
    int64_t received;

    if (read_manifest(d, number, ret_manifest, &received, NULL, err) < 0)
        return -1;
    *ret_point = point_of(ret_manifest, received);
    return 0;
}

static bool same_hash(const struct sha256 *a, const struct sha256 *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* A point's base, or, without one, its parent is the point before. Only with a base may numbers be
 * skipped. (A promotion without a base: its parent may be any older point, which need not be kept
 * any more; it was made by the first release.) */
int dir_point_check(const struct store_dir *d, const struct dir_point *point, struct err *err)
{
    static const struct sha256 none;
    bool has_base = !same_hash(&point->base, &none);
    uint64_t before;
    struct sha256 hash;
    bool is_end;

    dir_before(d, point->point, &before, &hash, &is_end);
    if (is_end && same_hash(&point->hash, &hash)) /* head's, about to be left */
        return 0;
    bool next = has_base ? same_hash(&point->base, &hash)
                         : point->promotion || same_hash(&point->parent, &hash);
    if (point->point <= before || (point->point != before + 1 && !(has_base && next)))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: manifests: point %" PRIu64 " is missing (there are %" PRIu64
                       " and %" PRIu64 "); hint: restore the file from a backup, or remove the"
                       " replica and protect again",
                       d->dir, before + 1, before, point->point);
    if (!next)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: manifests: point %" PRIu64 " does not follow point %" PRIu64
                       "; hint: somebody changed the history",
                       d->dir, point->point, before);
    return 0;
}

static int load_point(struct store_dir *d, uint64_t number, struct err *err)
{
    CLEANUP(manifest_done) struct manifest m;
    struct dir_point point;

    manifest_init(&m);
    if (dir_point_read(d, number, &m, &point, err) < 0 || dir_point_check(d, &point, err) < 0)
        return -1;
    *dir_points_push(&d->points) = point;
    return 0;
}

int dir_points_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_MANIFESTS);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    uint64_t number;

    if (!fs_exists(path))
        return 0;
    if (fs_list(path, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (dir_number_of(names.at[i], &number) && (number == d->applied || !dir_is_gone(d, number))
            && load_point(d, number, err) < 0)
            return -1;
    return 0;
}

/* --- Committing -------------------------------------------------------------------------- */

static int check_writer(const struct store_dir *d, const struct manifest *m, struct err *err)
{
    static const uint8_t any[SIGN_KEY_BYTES];

    if (!str_eq(m->group, d->group))
        return err_set(err, ERR_INVALID, 0, "a manifest of group %s for the replica of %s",
                       m->group, d->group);
    if (m->generation != d->generation)
        return err_set(err, ERR_FENCED, 0,
                       "%s: point %" PRIu64 " is of generation %" PRIu64
                       ", the replica is at %" PRIu64,
                       d->group, m->point, m->generation, d->generation);
    if (memcmp(d->writer_key, any, SIGN_KEY_BYTES) != 0
        && memcmp(d->writer_key, m->writer_key, SIGN_KEY_BYTES) != 0)
        return err_set(err, ERR_AUTH, 0,
                       "%s: point %" PRIu64 " is signed by another key than that of the site we"
                       " are paired with",
                       d->group, m->point);
    if (m->promotion)
        return err_set(err, ERR_INVALID, 0,
                       "%s: point %" PRIu64 " is a promotion; those are made here, not received",
                       d->group, m->point);
    return 0;
}

/* What follows a promotion elsewhere: its segments lead from our newest point to a point of there. */
static int check_tip(const struct store_dir *d, const struct dir_point *newest,
                     const struct manifest *m, struct err *err)
{
    if (m->base_point == newest->point && same_hash(&m->base, &newest->hash)
        && m->point == d->tip.point + 1 && same_hash(&m->parent, &d->tip.hash))
        return 0;
    return err_set(err, ERR_CORRUPT, 0,
                   "%s: point %" PRIu64 " on the base %" PRIu64 " does not lead from point %" PRIu64
                   " here over promotion %" PRIu64,
                   d->group, m->point, m->base_point, newest->point, d->tip.point);
}

/* The very first may stand anywhere in a chain; then that is where this history begins. */
static int check_parent(const struct store_dir *d, const struct manifest *m, struct err *err)
{
    const struct dir_point *newest = dir_point_newest(d);

    if (!newest && m->base_point == 0)
        return 0;
    if (newest && dir_follows(d))
        return check_tip(d, newest, m, err);
    if (m->base_point)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: point %" PRIu64 " has point %" PRIu64
                       " for its base, but no promotion elsewhere is followed",
                       d->group, m->point, m->base_point);
    if (m->point != newest->point + 1 || !same_hash(&m->parent, &newest->hash))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: point %" PRIu64 " does not follow the newest one here, %" PRIu64 "%s",
                       d->group, m->point, newest->point,
                       m->point == newest->point + 1 ? " (its parent is another)" : "");
    return 0;
}

/* A disk's size at the newest point, which may not be applied yet. */
static uint64_t newest_size(const struct dir_disk *disk, const struct manifest *newest)
{
    VEC_FOREACH(part, &newest->disks)
        if (str_eq(part->name, disk->name))
            return part->size;
    return disk->size;
}

static int check_disks(struct store_dir *d, const struct manifest *m, struct err *err)
{
    CLEANUP(manifest_done) struct manifest newest;
    const struct dir_point *last = dir_point_newest(d);

    manifest_init(&newest);
    if (last && last->point != d->applied
        && dir_manifest_read(d, last->point, &newest, NULL, err) < 0)
        return -1;
    VEC_FOREACH(part, &m->disks) {
        const struct dir_disk *disk = dir_disk_find(d, part->name, err);
        if (!disk) {
            if (err)
                err->code = ERR_STATE;
            return -1;
        }
        if (dir_resize_check(d, disk, newest_size(disk, &newest), part->size, err) < 0)
            return -1;
        VEC_FOREACH(segment, &part->segments)
            if (dir_segment_match(d, disk, m, segment, false, err) < 0)
                return err_wrap(err, "point %" PRIu64, m->point);
    }
    if (m->disks.len != d->disks.len)
        return err_set(err, ERR_STATE, 0,
                       "%s: point %" PRIu64 " has %zu disks, the replica %zu; hint: protect the"
                       " machine again",
                       d->group, m->point, m->disks.len, d->disks.len);
    return 0;
}

int dir_manifest_add(struct store_dir *d, const struct manifest *manifest, const char *text,
                     struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_manifest_path(d, manifest->point);
    int64_t now = d->clock->wall_ms(d->clock);

    if (now < 0)
        now = 0;
    CLEANUP(mem_freep) char *record = mem_printf("%s\n" RECEIVED "%" PRIi64 "\n", text, now);
    if (record_write(d->fs, path, record, err) < 0)
        return err_wrap(err, "manifest of point %" PRIu64, manifest->point);
    *dir_points_push(&d->points) = point_of(manifest, now);
    return 0;
}

static int add_first(struct store_dir *d, const struct manifest *m, const char *text,
                     struct err *err)
{
    /* Written whenever it differs from what is there: a first one that did not come to be may
     * have left its own. */
    if ((m->point - 1 != d->before || !same_hash(&m->parent, &d->before_hash))
        && dir_pruned_save(d, m->point - 1, &m->parent, err) < 0)
        return -1;
    return dir_manifest_add(d, m, text, err);
}

int store_dir_point_commit(struct store *store, const char *text, size_t len, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    CLEANUP(manifest_done) struct manifest m;
    struct sha256 hash;

    manifest_init(&m);
    if (guard_fs_check(&d->guard, err) < 0 || manifest_parse(text, len, &m, err) < 0)
        return -1;
    manifest_hash(&m, &hash);
    const struct dir_point *same = dir_point_find(d, m.point);
    if (same && same_hash(&same->hash, &hash) && str_eq(m.group, d->group))
        return 0;
    if (d->base != STORE_COPIED)
        return err_set(err, ERR_STATE, 0, "%s: points come after the initial copy", d->group);
    if (dir_own_held(d, err) < 0 || check_writer(d, &m, err) < 0 || check_parent(d, &m, err) < 0
        || check_disks(d, &m, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *canonical = manifest_text(&m);
    return d->points.len == 0 ? add_first(d, &m, canonical, err)
                              : dir_manifest_add(d, &m, canonical, err);
}

/* --- Telling ----------------------------------------------------------------------------- */

static const struct store_pin *pin_of(const struct store_dir *d, uint64_t point)
{
    VEC_FOREACH(pin, &d->pins)
        if (pin->point == point)
            return pin;
    return NULL;
}

/* Its own file, and those of removed points up to the next kept one. */
uint64_t dir_undo_bytes(const struct store_dir *d, uint64_t point)
{
    uint64_t bytes = 0;

    VEC_FOREACH(file, &d->files) {
        if (file->point > point && dir_is_kept(d, file->point))
            break;
        if (file->point >= point)
            bytes += file->bytes;
    }
    return bytes;
}

int store_dir_plan(struct store *store, const struct retention *retention,
                   struct store_points *ret_points, struct err *err)
{
    static const struct retention all = {.keep = UINT64_MAX};
    const struct store_dir *d = store_dir_of(store);
    CLEANUP(dir_fates_free) struct dir_fates fates = VEC_EMPTY;

    (void)err;
    if (!retention)
        retention = d->retains ? &d->retention : &all;
    /* Those that are not applied yet are the newest. */
    dir_fates_of(d, retention, d->intent ? d->intent : d->applied, &fates);
    while (fates.len < d->points.len)
        dir_fates_push(&fates)->why = RETENTION_NEWEST;
    store_points_clear(ret_points);
    VEC_FOREACH(point, &d->points) {
        const struct retention_point *fate = &fates.at[point - d->points.at];
        struct store_point *to = store_points_push(ret_points);
        const struct store_pin *pin = pin_of(d, point->point);
        *to = (struct store_point){
            .point = point->point,
            .generation = point->generation,
            .hash = point->hash,
            .cut_wall_ms = point->cut_wall_ms,
            .received_wall_ms = point->received_wall_ms,
            .stall_us = point->stall_us,
            .consistency = point->consistency,
            .promotion = point->promotion,
            .applied = point->point <= d->applied,
            .pinned = pin != NULL,
            .bytes = point->bytes,
            .damaged_chunks = dir_damage_of(d, point->point),
            .undo_bytes = dir_undo_bytes(d, point->point),
            .why = fate->why,
            .every_ms = fate->every_ms,
        };
        if (pin)
            memcpy(to->label, pin->label, sizeof(to->label));
    }
    return 0;
}

int store_dir_points(struct store *store, struct store_points *ret_points, struct err *err)
{
    return store_dir_plan(store, NULL, ret_points, err);
}

int store_dir_point_manifest(struct store *store, uint64_t point, char **ret_text, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    if (!dir_point_find(d, point))
        return dir_no_point(d, point, err);
    return dir_manifest_read(d, point, &m, ret_text, err);
}
