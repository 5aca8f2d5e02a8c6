// SPDX-License-Identifier: Apache-2.0
/* What opening checks, read file by file: where opening ends at the first fault, this goes on. A daemon
 * that works on the replica meanwhile makes two records differ for a moment; then it is read again.
 *
 *   protection   record: one line of JSON, an object that the daemon made (docs/formats.md) */
#include "replica/inspect.h"

#include "base/luks.h"
#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/generation.h"
#include "replica/record.h"
#include "replica/store_dir.h"
#include "replica/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES    5U /* while it is in use */
#define AGAIN_MS 50

struct inspection {
    struct store_dir d;
    json_t *report;
    json_t *faults;
    struct err err; /* the last fault */
};

static void done(struct inspection *in)
{
    dir_disks_close(&in->d);
    dir_points_free(&in->d.points);
    dir_pins_free(&in->d.pins);
    dir_gones_free(&in->d.gones);
    dir_numbers_free(&in->d.listed);
    dir_files_free(&in->d.files);
    free(in->d.run_dir);
    free(in->d.dir);
    json_decref(in->report);
    json_decref(in->faults);
}

/* Notes what `err` says, unless `rc` is a success. */
static bool fits(struct inspection *in, int rc)
{
    if (rc >= 0)
        return true;
    (void)json_array_append_new(in->faults, json_string(in->err.text));
    err_clear(&in->err);
    return false;
}

static void put(struct inspection *in, const char *key, json_t *value)
{
    (void)json_object_set_new(in->report, key, value);
}

/* --- Disks -------------------------------------------------------------------------------- */

static int check_size(const struct dir_disk *disk, const char *path, const struct stat *st,
                      struct err *err)
{
    uint64_t want = disk->size;
    uint8_t begin[1024];
    struct fs *fs = fs_real();
    int fd;

    if (disk->resizing) /* of either size, until it is opened */
        return 0;
    if (disk->luks) {
        if (fs->open(fs, path, O_RDONLY, 0, &fd, err) < 0)
            return -1;
        int rc = fs->pread(fs, fd, begin, sizeof(begin), 0, err);
        (void)fs->close(fs, fd);
        if (rc < 0 || luks_header_bytes(begin, sizeof(begin), path, &want, err) < 0)
            return -1;
        want += disk->size;
    }
    if (!disk->elsewhere && (uint64_t)st->st_size != want)
        return err_set(err, ERR_CORRUPT, 0, "%s: %jd bytes, but it is to have %" PRIu64, path,
                       (intmax_t)st->st_size, want);
    return 0;
}

static int check_digests(const struct dir_disk *disk, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(disk->dir, DIR_DIGESTS);
    struct fs *fs = fs_real();
    int fd;

    if (disk->resizing)
        return 0;
    if (digests_file_look(fs, path, disk->size, &fd, err) < 0)
        return -1;
    (void)fs->close(fs, fd);
    return 0;
}

static void add_disk(struct inspection *in, const struct dir_disk *disk)
{
    CLEANUP(mem_freep) char *path = dir_head_path(disk);
    struct stat st = {0};

    if (fits(in, stat(path, &st) < 0
                     ? err_set(&in->err, ERR_IO, errno, "%s: disk %s", path, disk->name)
                     : 0))
        (void)fits(in, check_size(disk, path, &st, &in->err));
    (void)fits(in, check_digests(disk, &in->err));
    (void)json_array_append_new(json_object_get(in->report, "disks"),
                                json_pack("{s:s, s:I, s:s, s:s, s:b, s:I}", "name", disk->name,
                                          "size", (json_int_t)disk->size, "head", disk->format,
                                          "path", path, "own", disk->elsewhere != NULL, "held",
                                          (json_int_t)st.st_blocks * 512));
}

/* Missing ones are named by dir_undo_check. */
static void check_undo(struct inspection *in, const struct dir_disk *disk)
{
    VEC_FOREACH(file, &in->d.files) {
        CLEANUP(mem_freep) char *path = dir_undo_path(disk, file->point);
        CLEANUP(undo_freep) struct undo *undo = NULL;
        if (fs_exists(path))
            (void)fits(in, undo_open(path, &undo, &in->err));
    }
}

static void check_disks(struct inspection *in)
{
    bool at_rest = false;

    put(in, "disks", json_array());
    VEC_FOREACH(disk, &in->d.disks) {
        at_rest |= disk->luks;
        add_disk(in, disk);
        if (!in->d.released && in->d.base == STORE_COPIED) {
            (void)fits(in, dir_undo_check(&in->d, disk, &in->err));
            check_undo(in, disk);
        }
    }
    put(in, "encryption", json_string(at_rest ? "at-rest" : "none"));
}

/* --- Points ------------------------------------------------------------------------------- */

static json_t *labels_of(const struct inspection *in, uint64_t point)
{
    json_t *labels = json_array();

    VEC_FOREACH(pin, &in->d.pins)
        if (pin->point == point)
            (void)json_array_append_new(labels, json_string(pin->label));
    return labels;
}

static void add_point(struct inspection *in, const struct dir_point *point)
{
    char hex[2 * SHA256_BYTES + 1];

    str_hex(point->hash.bytes, SHA256_BYTES, hex);
    (void)json_array_append_new(
        json_object_get(in->report, "points"),
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:b, s:b, s:o, s:s}", "point",
                  (json_int_t)point->point, "generation", (json_int_t)point->generation, "cut_ms",
                  (json_int_t)point->cut_wall_ms, "received_ms",
                  (json_int_t)point->received_wall_ms, "stall_us", (json_int_t)point->stall_us,
                  "consistency", point->consistency == CONSISTENCY_CRASH ? "crash" : "application",
                  "bytes", (json_int_t)point->bytes, "undo_bytes",
                  (json_int_t)dir_undo_bytes(&in->d, point->point), "promotion", point->promotion,
                  "applied", point->point <= in->d.applied, "pins", labels_of(in, point->point),
                  "hash", hex));
}

/* Its segments, while they are needed. */
static void check_segments(struct inspection *in, const struct manifest *m)
{
    VEC_FOREACH(part, &m->disks)
        VEC_FOREACH(disk, &in->d.disks) {
            if (!str_eq(part->name, disk->name))
                continue;
            VEC_FOREACH(segment, &part->segments)
                (void)fits(in, dir_segment_match(&in->d, disk, m, segment, false, &in->err));
        }
}

static void take_newest(struct inspection *in, const struct manifest *m)
{
    char hex[2 * SIGN_KEY_BYTES + 1];

    if (!m->promotion) {
        str_hex(m->writer_key, SIGN_KEY_BYTES, hex);
        put(in, "writer_key", json_string(hex));
        put(in, "site", json_string(m->site));
    }
    put(in, "machines", m->machines ? json_incref(m->machines) : json_object());
    if (!in->d.group[0])
        memcpy(in->d.group, m->group, sizeof(in->d.group));
}

static void look_at_point(struct inspection *in, uint64_t number)
{
    CLEANUP(manifest_done) struct manifest m;
    struct dir_point point;

    manifest_init(&m);
    if (!fits(in, dir_point_read(&in->d, number, &m, &point, &in->err)))
        return;
    (void)fits(in, dir_point_check(&in->d, &point, &in->err));
    *dir_points_push(&in->d.points) = point;
    take_newest(in, &m);
    if (number > in->d.applied)
        check_segments(in, &m);
}

static void check_points(struct inspection *in)
{
    CLEANUP(mem_freep) char *path = dir_path(&in->d, DIR_FILE_MANIFESTS);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    uint64_t number;

    put(in, "points", json_array());
    if (!fs_exists(path) || !fits(in, fs_list(path, &names, &in->err)))
        return;
    for (size_t i = 0; i < names.len; i++)
        if (dir_number_of(names.at[i], &number)
            && (number == in->d.applied || !dir_is_gone(&in->d, number)))
            look_at_point(in, number);
    dir_files_load(&in->d);
    VEC_FOREACH(point, &in->d.points)
        if (dir_is_kept(&in->d, point->point))
            add_point(in, point);
    VEC_FOREACH(pin, &in->d.pins)
        if (!dir_point_find(&in->d, pin->point))
            (void)fits(in, err_set(&in->err, ERR_CORRUPT, 0,
                                   "%s/" DIR_FILE_PINS ": pin \"%s\" holds point %" PRIu64
                                   ", which is not there",
                                   in->d.dir, pin->label, pin->point));
    if (in->d.applied && !dir_point_find(&in->d, in->d.applied))
        (void)fits(in, err_set(&in->err, ERR_CORRUPT, 0,
                               "%s/" DIR_FILE_APPLIED ": head is at point %" PRIu64
                               ", but there is no such manifest",
                               in->d.dir, in->d.applied));
}

/* --- Records ------------------------------------------------------------------------------ */

static int read_description(const struct store_dir *d, json_t **ret_json, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_PROTECTION);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (!fs_exists(path))
        return 0;
    if (record_read(fs_real(), path, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, ret_json, err) < 0)
        return err_wrap(err, "%s", path);
    return 0;
}

static void check_generation(struct inspection *in)
{
    const struct dir_point *newest = dir_point_newest(&in->d);
    uint64_t wanted = newest ? newest->generation : 0;

    if (wanted < in->d.tip.generation)
        wanted = in->d.tip.generation;
    if (newest && wanted != in->d.generation)
        (void)fits(in, err_set(&in->err, ERR_CORRUPT, 0,
                               "%s/" DIR_FILE_GENERATION ": %" PRIu64 ", but its newest point says"
                               " %" PRIu64,
                               in->d.dir, in->d.generation, wanted));
}

/* The lock is only asked for, and never made. */
static bool is_in_use(const struct store_dir *d)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_LOCK);
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static void read_records(struct inspection *in)
{
    struct store_dir *d = &in->d;
    CLEANUP(mem_freep) char *record = dir_path(d, DIR_FILE_REPLICA);
    json_t *protection = NULL;

    if (fs_exists(record))
        (void)fits(in, dir_state_load(d, &in->err));
    else
        (void)fits(in, err_set(&in->err, ERR_CORRUPT, 0, "%s is missing", record));
    (void)fits(in, dir_check_files(d->dir, &d->disks, &in->err));
    (void)fits(in, generation_read(d->fs, d->dir, &d->generation, &in->err));
    (void)fits(in, dir_pruned_load(d, &in->err));
    (void)fits(in, dir_applied_load(d, &in->err));
    (void)fits(in, dir_retention_load(d, &in->err));
    (void)fits(in, dir_pins_load(d, &in->err));
    (void)fits(in, dir_tip_load(d, &in->err));
    (void)fits(in, read_description(d, &protection, &in->err));
    put(in, "protection", protection ? protection : json_null());
}

static const char *state_name(const struct store_dir *d)
{
    if (d->base == STORE_COPIED)
        return d->points.len ? "ready" : "copied";
    return d->base == STORE_COPYING ? "copying" : "empty";
}

static void inspect_once(struct inspection *in, const char *dir)
{
    struct store_dir *d = &in->d;

    *in = (struct inspection){.d = {.fs = fs_real(), .dir = mem_strdup(dir)},
                              .report = json_object(),
                              .faults = json_array()};
    put(in, "site", json_string(""));
    put(in, "writer_key", json_string(""));
    put(in, "machines", json_object());
    read_records(in);
    check_points(in);
    check_disks(in);
    check_generation(in);
    put(in, "followed",
        d->tip.generation ? json_pack("{s:I, s:I}", "point", (json_int_t)d->tip.point, "generation",
                                      (json_int_t)d->tip.generation)
                          : json_null());
    put(in, "dir", json_string(dir));
    put(in, "group", json_string(d->group));
    put(in, "state", json_string(state_name(d)));
    put(in, "generation", json_integer((json_int_t)d->generation));
    put(in, "applied", json_integer((json_int_t)d->applied));
    put(in, "applying", json_integer((json_int_t)d->intent));
    put(in, "in_use", json_boolean(is_in_use(d)));
    put(in, "faults", json_incref(in->faults));
}

static bool is_replica(const char *dir)
{
    static const char *const names[] = {DIR_FILE_REPLICA, DIR_FILE_MANIFESTS, DIR_FILE_GENERATION,
                                        DIR_FILE_APPLIED};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *path = path_join(dir, names[i]);
        if (fs_exists(path))
            return true;
    }
    return false;
}

int replica_inspect(const char *dir, json_t **ret_report, struct err *err)
{
    if (!is_replica(dir))
        return err_set(err, ERR_NOT_FOUND, 0, "%s: there is no replica in it%s", dir,
                       fs_exists(dir) ? "; hint: its folder holds a file \"" DIR_FILE_REPLICA "\""
                                      : ", nor is there such a folder");
    for (unsigned tries = 1;; tries++) {
        CLEANUP(done) struct inspection in;
        inspect_once(&in, dir);
        if (tries < TRIES && json_array_size(in.faults) > 0 && is_in_use(&in.d)) {
            (void)poll(NULL, 0, AGAIN_MS);
            continue;
        }
        *ret_report = json_incref(in.report);
        return 0;
    }
}

int replica_describe(struct fs *fs, const char *dir, const json_t *protection, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, DIR_FILE_PROTECTION);
    CLEANUP(mem_freep) char *json = json_text(protection);
    CLEANUP(mem_freep) char *line = mem_printf("%s\n", json);

    return record_write(fs, path, line, err);
}
