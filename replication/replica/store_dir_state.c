// SPDX-License-Identifier: Apache-2.0
/* The store's records, as lines of words:
 *
 *   replica     "muster replica 1", "group NAME", "state copying|copied", "disk SIZE NAME" ...,
 *               each followed by "head FORMAT PATH" when it is a machine's own disk, or by "luks UUID" (hex)
 *               when its head is a LUKS container; "run DIR", where
 *               such heads have their servers, if any; "released", when the machine has them back;
 *               "resize SIZE NAME" of a disk that is being brought to that size; "copy N", which initial
 *               copy it is (store_ops.base_begin), 0 without
 *   applied     "applied N HASH", "intent N"      (N 0 and a hash of zeros: the base; intent 0), and
 *               "stamp INODE SIZE MTIME CTIME NAME" (ns) of each own disk that can be told
 *   pruned      "pruned N HASH", what stands before the oldest manifest; then, ascending,
 *               "gone FIRST LAST HASH" where points between kept ones were removed: HASH is that of
 *               LAST; and "file N" for each undo file of a removed point that older points need
 *   retention   "keep N", "tiers TEXT" (retention.h)
 *   pins        "pin N LABEL" ...
 */
#include "replica/store_dir.h"

#include "base/mem.h"
#include "replica/record.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FIRST_LINE "muster replica 1"
#define HEX_BYTES  (2 * SHA256_BYTES + 1)

static int wrong_line(const char *path, const char *line, struct err *err)
{
    return err_set(err, ERR_CORRUPT, 0, "%s: cannot read the line \"%.100s\"", path, line);
}

/* The next line of *at, cut out of the text; NULL at its end. */
static char *next_line(char **at)
{
    char *line = *at;

    if (!line || !*line)
        return NULL;
    char *end = strchr(line, '\n');
    if (end)
        *end = '\0';
    *at = end ? end + 1 : line + strlen(line);
    return line;
}

/* "WORD NUMBER REST": what follows WORD. `ret_rest` may be NULL. */
static bool split(char *line, const char *word, uint64_t *ret_number, const char **ret_rest)
{
    size_t len = strlen(word);

    if (strncmp(line, word, len) != 0 || line[len] != ' ')
        return false;
    char *number = line + len + 1;
    char *space = strchr(number, ' ');
    if (space)
        *space = '\0';
    if (ret_rest)
        *ret_rest = space ? space + 1 : "";
    return str_to_u64(number, ret_number);
}

static bool get_hash(const char *hex, struct sha256 *ret_hash)
{
    return strlen(hex) == HEX_BYTES - 1 && str_unhex(hex, ret_hash->bytes, SHA256_BYTES);
}

/* --- replica ----------------------------------------------------------------------------- */

static bool get_disk(struct store_dir *d, char *line)
{
    const char *name;
    uint64_t size;

    if (!split(line, "disk", &size, &name) || !str_is_name(name) || dir_name_is_reserved(name)
        || size % 512)
        return false;
    dir_disk_add(d, name, size, NULL, "raw");
    return true;
}

static bool get_resize(struct store_dir *d, char *line)
{
    const char *name;
    uint64_t size;

    if (!str_starts(line, "resize ") || !split(line, "resize", &size, &name) || size == 0
        || size % 512)
        return false;
    VEC_FOREACH(disk, &d->disks)
        if (str_eq(disk->name, name)) {
            disk->resizing = size;
            return true;
        }
    return false;
}

static bool get_head(struct store_dir *d, const char *line)
{
    struct dir_disk *disk = d->disks.len ? &d->disks.at[d->disks.len - 1] : NULL;
    const char *format = line + strlen("head ");
    const char *path = str_starts(line, "head ") ? strchr(format, ' ') : NULL;

    if (!disk || disk->elsewhere || !path || path == format || path[1] != '/'
        || (size_t)(path - format) >= sizeof(disk->format))
        return false;
    (void)snprintf(disk->format, sizeof(disk->format), "%.*s", (int)(path - format), format);
    disk->elsewhere = mem_strdup(path + 1);
    return true;
}

static bool get_luks(struct store_dir *d, const char *line)
{
    struct dir_disk *disk = d->disks.len ? &d->disks.at[d->disks.len - 1] : NULL;
    const char *hex = line + strlen("luks ");

    if (!str_starts(line, "luks ") || !disk || disk->elsewhere || disk->luks
        || strlen(hex) != (size_t)2 * UUID_BYTES
        || !str_unhex(hex, disk->luks_uuid.bytes, UUID_BYTES))
        return false;
    (void)snprintf(disk->format, sizeof(disk->format), "luks");
    disk->luks = true;
    return true;
}

static bool get_run(struct store_dir *d, const char *line)
{
    if (str_eq(line, "released")) {
        d->released = true;
        return true;
    }
    if (!str_starts(line, "run /"))
        return false;
    const char *dir = line + strlen("run ");
    if (d->run_dir) /* the opener's is newer */
        d->run_moved = !str_eq(d->run_dir, dir);
    else
        d->run_dir = mem_strdup(dir);
    return true;
}

static bool get_state(struct store_dir *d, const char *line)
{
    if (str_eq(line, "state copying"))
        d->base = STORE_COPYING;
    else if (str_eq(line, "state copied"))
        d->base = STORE_COPIED;
    else
        return false;
    return true;
}

static bool get_copy(struct store_dir *d, char *line)
{
    return str_starts(line, "copy ") && split(line, "copy", &d->copy, NULL) && d->copy > 0;
}

static int get_group(struct store_dir *d, const char *path, const char *line, struct err *err)
{
    if (!line || !str_starts(line, "group "))
        return wrong_line(path, line ? line : "", err);
    const char *group = line + strlen("group ");
    if (!d->group[0] && str_is_name(group))
        memcpy(d->group, group, strlen(group) + 1);
    if (!str_eq(group, d->group))
        return err_set(err, ERR_STATE, 0, "%s: the replica of group \"%s\", not of \"%s\"", path,
                       group, d->group);
    return 0;
}

int dir_state_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_REPLICA);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    d->base = STORE_EMPTY;
    d->copy = 0;
    if (!fs_exists(path))
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    char *at = text.ptr;
    char *line = next_line(&at);
    if (!str_eq(line, FIRST_LINE))
        return err_set(err, ERR_UNSUPPORTED, 0, "%s: not the record of a replica of version 1",
                       path);
    if (get_group(d, path, next_line(&at), err) < 0)
        return -1;
    while ((line = next_line(&at)) != NULL)
        if (!get_head(d, line) && !get_luks(d, line) && !get_resize(d, line) && !get_disk(d, line)
            && !get_state(d, line) && !get_copy(d, line) && !get_run(d, line))
            return wrong_line(path, line, err);
    if (d->base == STORE_EMPTY || d->disks.len == 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: no state or no disk in it", path);
    return 0;
}

static bool has_own(const struct store_dir *d)
{
    VEC_FOREACH(disk, &d->disks)
        if (disk->elsewhere)
            return true;
    return false;
}

int dir_state_save(struct store_dir *d, enum store_state base, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_REPLICA);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char hex[2 * UUID_BYTES + 1];

    str_addf(&text, FIRST_LINE "\ngroup %s\nstate %s\n", d->group,
             base == STORE_COPIED ? "copied" : "copying");
    if (d->copy)
        str_addf(&text, "copy %" PRIu64 "\n", d->copy);
    VEC_FOREACH(disk, &d->disks) {
        str_addf(&text, "disk %" PRIu64 " %s\n", disk->size, disk->name);
        if (disk->elsewhere)
            str_addf(&text, "head %s %s\n", disk->format, disk->elsewhere);
        if (!disk->luks)
            continue;
        str_hex(disk->luks_uuid.bytes, UUID_BYTES, hex);
        str_addf(&text, "luks %s\n", hex);
    }
    VEC_FOREACH(disk, &d->disks)
        if (disk->resizing)
            str_addf(&text, "resize %" PRIu64 " %s\n", disk->resizing, disk->name);
    if (d->run_dir && has_own(d))
        str_addf(&text, "run %s\n", d->run_dir);
    if (d->released)
        str_add(&text, "released\n");
    if (record_write(d->fs, path, text.ptr, err) < 0)
        return -1;
    d->base = base;
    return 0;
}

/* --- applied ----------------------------------------------------------------------------- */

static bool get_stamp(struct store_dir *d, char *line)
{
    struct fs_stamp stamp = {.known = true};
    const char *name = "";

    if (sscanf(line, "stamp %" SCNu64 " %" SCNu64 " %" SCNi64 " %" SCNi64, &stamp.inode,
               &stamp.size, &stamp.mtime_ns, &stamp.ctime_ns)
        == 4)
        name = strrchr(line, ' ') + 1;
    VEC_FOREACH(disk, &d->disks)
        if (str_eq(disk->name, name)) {
            disk->stamp = stamp;
            return true;
        }
    return false;
}

int dir_applied_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_APPLIED);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const char *hash = "";

    if (!fs_exists(path)) /* nothing was applied yet, nor begun */
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    char *at = text.ptr;
    char *line = next_line(&at);
    if (!line || !split(line, "applied", &d->applied, &hash) || !get_hash(hash, &d->applied_hash))
        return wrong_line(path, line ? line : "", err);
    line = next_line(&at);
    if (!line || !split(line, "intent", &d->intent, NULL))
        return wrong_line(path, line ? line : "", err);
    while ((line = next_line(&at)) != NULL)
        if (!get_stamp(d, line))
            return wrong_line(path, line, err);
    return 0;
}

int dir_applied_save(struct store_dir *d, const struct dir_point *point, uint64_t intent,
                     struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_APPLIED);
    const struct sha256 none = {{0}};
    const struct sha256 hash = point ? point->hash : none;
    const uint64_t number = point ? point->point : 0;
    char hex[HEX_BYTES];

    str_hex(hash.bytes, SHA256_BYTES, hex);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    str_addf(&text, "applied %" PRIu64 " %s\nintent %" PRIu64 "\n", number, hex, intent);
    VEC_FOREACH(disk, &d->disks)
        if (disk->elsewhere && disk->stamp.known)
            str_addf(&text, "stamp %" PRIu64 " %" PRIu64 " %" PRIi64 " %" PRIi64 " %s\n",
                     disk->stamp.inode, disk->stamp.size, disk->stamp.mtime_ns,
                     disk->stamp.ctime_ns, disk->name);
    if (record_write(d->fs, path, text.ptr, err) < 0)
        return -1;
    d->applied = number;
    d->applied_hash = hash;
    d->intent = intent;
    return 0;
}

/* --- pruned ------------------------------------------------------------------------------ */

static bool get_gone(struct store_dir *d, char *line)
{
    struct dir_gone gone;
    const char *rest;

    if (!split(line, "gone", &gone.first, &rest))
        return false;
    CLEANUP(mem_freep) char *last = mem_printf("last %s", rest);
    if (!split(last, "last", &gone.last, &rest) || !get_hash(rest, &gone.hash)
        || gone.last < gone.first)
        return false;
    *dir_gones_push(&d->gones) = gone;
    return true;
}

static bool get_file(struct store_dir *d, char *line)
{
    uint64_t number;

    if (!split(line, "file", &number, NULL))
        return false;
    *dir_numbers_push(&d->listed) = number;
    return true;
}

int dir_pruned_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_PRUNED);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const char *hash = "";

    if (!fs_exists(path)) /* the chain begins with its first point */
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    char *at = text.ptr;
    char *line = next_line(&at);
    if (!line || !split(line, "pruned", &d->before, &hash) || !get_hash(hash, &d->before_hash))
        return wrong_line(path, line ? line : "", err);
    while ((line = next_line(&at)) != NULL)
        if (!get_gone(d, line) && !get_file(d, line))
            return wrong_line(path, line, err);
    return 0;
}

int dir_note_save(struct store_dir *d, struct dir_note *note, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_PRUNED);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char hex[HEX_BYTES];

    str_hex(note->before_hash.bytes, SHA256_BYTES, hex);
    str_addf(&text, "pruned %" PRIu64 " %s\n", note->before, hex);
    VEC_FOREACH(gone, &note->gones) {
        str_hex(gone->hash.bytes, SHA256_BYTES, hex);
        str_addf(&text, "gone %" PRIu64 " %" PRIu64 " %s\n", gone->first, gone->last, hex);
    }
    VEC_FOREACH(number, &note->listed)
        str_addf(&text, "file %" PRIu64 "\n", *number);
    if (record_write(d->fs, path, text.ptr, err) < 0)
        return -1;
    dir_gones_free(&d->gones);
    dir_numbers_free(&d->listed);
    d->before = note->before;
    d->before_hash = note->before_hash;
    d->gones = note->gones;
    d->listed = note->listed;
    *note = (struct dir_note){0};
    return 0;
}

int dir_pruned_save(struct store_dir *d, uint64_t point, const struct sha256 *hash, struct err *err)
{
    CLEANUP(dir_note_done) struct dir_note note = {.before = point, .before_hash = *hash};

    return dir_note_save(d, &note, err);
}

void dir_note_done(struct dir_note *note)
{
    dir_gones_free(&note->gones);
    dir_numbers_free(&note->listed);
}

/* --- retention --------------------------------------------------------------------------- */

int dir_retention_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_RETENTION);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct retention retention = {0};

    if (!fs_exists(path)) /* nobody said yet: all is kept */
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    char *at = text.ptr;
    char *line = next_line(&at);
    if (!line || !split(line, "keep", &retention.keep, NULL) || retention.keep == 0)
        return wrong_line(path, line ? line : "", err);
    line = next_line(&at);
    if (!line || !str_starts(line, "tiers ")
        || retention_parse(line + strlen("tiers "), &retention, err) < 0)
        return wrong_line(path, line ? line : "", err);
    d->retention = retention;
    d->retains = true;
    return 0;
}

int dir_retention_save(struct store_dir *d, const struct retention *retention, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_RETENTION);
    char tiers[RETENTION_TEXT_BYTES];

    CLEANUP(mem_freep)
    char *text = mem_printf("keep %" PRIu64 "\ntiers %s\n", retention->keep,
                            retention_text(retention, tiers, sizeof(tiers)));
    if (record_write(d->fs, path, text, err) < 0)
        return -1;
    d->retention = *retention;
    d->retains = true;
    return 0;
}

/* --- pins -------------------------------------------------------------------------------- */

int dir_pins_load(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_PINS);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char *line;

    if (!fs_exists(path))
        return 0;
    if (record_read(d->fs, path, &text, err) < 0)
        return -1;
    for (char *at = text.ptr; (line = next_line(&at)) != NULL;) {
        const char *label;
        struct store_pin *pin = dir_pins_push(&d->pins);
        if (!split(line, "pin", &pin->point, &label) || !str_is_name(label))
            return wrong_line(path, line, err);
        memcpy(pin->label, label, strlen(label) + 1);
    }
    return 0;
}

int dir_pins_save(struct store_dir *d, const struct dir_pins *pins, struct err *err)
{
    CLEANUP(mem_freep) char *path = dir_path(d, DIR_FILE_PINS);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    VEC_FOREACH(pin, pins)
        str_addf(&text, "pin %" PRIu64 " %s\n", pin->point, pin->label);
    return record_write(d->fs, path, str_text(&text), err);
}
