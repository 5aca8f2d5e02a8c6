// SPDX-License-Identifier: Apache-2.0
/* A branch has a folder, named by its point's number:
 *
 *   branches/GROUP/POINT/branch.json   what is known of it: {"point", "parent", "generation",
 *                                      "cut_ms", "extent", "note", "site", "by", "promoted",
 *                                      "since_ms", "disks": [{"name", "size", "bytes", "sealed",
 *                                      "path", "format", "seen": {...}}]}
 *                       /manifest      with its segments: only when the extent is known
 *                       /DISK-UUID     (sync/session_branch.c)
 *
 * "seen" is the file of the disk after its machine's process had ended: {"size", "mtime_ns",
 * "ctime_ns", "inode"}. A file that looks otherwise was changed, and is no longer the branch. */
#include "sites/branch.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "sites/site_local.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_NAME      "branch.json"
#define FILE_MAX_BYTES (1024 * 1024)

char *branch_dir(struct estate *estate, const char *group)
{
    return estate_path(estate, "branches", group, "");
}

static char *folder_of(struct estate *estate, const char *group, uint64_t point)
{
    CLEANUP(mem_freep) char *dir = branch_dir(estate, group);

    return mem_printf("%s/%" PRIu64, dir, point);
}

static int load(const char *folder, json_t **ret_json, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(folder, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, ret_json, err) < 0) {
        err->code = ERR_CORRUPT;
        return err_wrap(err, "%s", path);
    }
    return 0;
}

static int save(const char *folder, const json_t *json, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(folder, FILE_NAME);
    CLEANUP(mem_freep) char *text = json_text(json);

    if (fs_make_dirs(fs_real(), folder, 0700, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

/* --- Noting ---------------------------------------------------------------------------------- */

static json_t *find_disk(const json_t *branch, const char *name)
{
    json_t *disk;
    size_t i;

    json_array_foreach(json_object_get(branch, "disks"), i, disk)
        if (str_eq(json_get_str(disk, "name", ""), name))
            return disk;
    return NULL;
}

/* A branch that is found again, without its maps, does not know how much was changed. */
static int64_t changed_bytes(const struct session_branch_disk *disk, bool sealed,
                             const json_t *before)
{
    const json_t *known = json_object_get(find_disk(before, disk->name), "bytes");

    if (!sealed)
        return -1;
    return disk->bytes == 0 && known ? json_integer_value(known) : (int64_t)disk->bytes;
}

static json_t *disks_json(const struct group_owns *owns, const struct session_branch *branch,
                          const json_t *before)
{
    json_t *list = json_array();
    bool sealed = branch->kind == SESSION_BRANCH_SEALED;

    for (size_t i = 0; i < branch->disk_count; i++) {
        const struct session_branch_disk *disk = &branch->disks[i];
        const struct group_own *own = group_owns_find(owns, disk->name);

        (void)json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:I, s:s, s:s}", "name", disk->name, "size",
                            (json_int_t)disk->size, "bytes",
                            (json_int_t)changed_bytes(disk, sealed, before), "sealed",
                            (json_int_t)(sealed ? (int64_t)disk->sealed : -1), "path",
                            own ? own->disk.path : "", "format", own ? own->disk.format : ""));
    }
    return list;
}

int branch_note(struct estate *estate, const char *group, const struct group_owns *owns,
                const struct estate_mark *mark, const struct session_branch *branch,
                struct err *err)
{
    CLEANUP(mem_freep) char *folder = folder_of(estate, group, branch->point);
    CLEANUP(json_freep) json_t *before = NULL;
    bool sealed = branch->kind == SESSION_BRANCH_SEALED;
    struct err none = ERR_EMPTY;

    if (load(folder, &before, &none) < 0)
        before = NULL;
    CLEANUP(json_freep)
    json_t *json = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:o}", "group", group, "point",
        (json_int_t)branch->point, "parent", (json_int_t)branch->parent, "generation",
        (json_int_t)branch->generation, "cut_ms", (json_int_t)branch->cut_wall_ms, "extent",
        sealed ? "known" : "unknown", "note",
        sealed ? ""
               : "nobody kept track of what was written: the disks hold it as they are; how "
                 "much it is, the comparison finds when the group is protected again",
        "site", estate->site, "by", mark->by, "promoted", (json_int_t)mark->retired, "since_ms",
        (json_int_t)mark->since_ms, "disks", disks_json(owns, branch, before));
    return save(folder, json, err);
}

static int look_at(const char *path, json_t **ret_seen, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
    *ret_seen =
        json_pack("{s:I, s:I, s:I, s:I}", "size", (json_int_t)st.st_size, "mtime_ns",
                  (json_int_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, "ctime_ns",
                  (json_int_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec, "inode",
                  (json_int_t)st.st_ino);
    return 0;
}

/* A disk that is gone is noted by having no "seen": there is nothing to show of it. */
int branch_note_disks(struct estate *estate, const char *group, uint64_t point,
                      const struct group_owns *owns, struct err *err)
{
    CLEANUP(mem_freep) char *folder = folder_of(estate, group, point);
    CLEANUP(json_freep) json_t *json = NULL;

    if (load(folder, &json, err) < 0)
        return -1;
    VEC_FOREACH(own, owns) {
        json_t *disk = find_disk(json, own->name);
        struct err gone = ERR_EMPTY;
        json_t *seen = NULL;

        if (!disk)
            continue;
        if (look_at(own->disk.path, &seen, &gone) == 0)
            (void)json_object_set_new(disk, "seen", seen);
        else if (gone.code != ERR_NOT_FOUND)
            return err_set(err, gone.code, gone.sys, "%s", gone.text);
    }
    return save(folder, json, err);
}

/* --- Listing --------------------------------------------------------------------------------- */

static int by_point(const void *a, const void *b)
{
    uint64_t left = json_get_u64(*(json_t *const *)a, "point", 0);
    uint64_t right = json_get_u64(*(json_t *const *)b, "point", 0);

    return left < right ? -1 : left > right;
}

static json_t *sorted(json_t **at, size_t count)
{
    json_t *list = json_array();

    qsort(at, count, sizeof(*at), by_point);
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, at[i]);
    return list;
}

int branch_list(struct estate *estate, const char *group, json_t **ret_list, struct err *err)
{
    CLEANUP(mem_freep) char *dir = branch_dir(estate, group);
    CLEANUP(fs_names_free) struct fs_names names = {0};
    size_t count = 0;
    int rc = 0;

    if (fs_exists(dir) && fs_list(dir, &names, err) < 0)
        return -1;
    CLEANUP(mem_freep) json_t **at = mem_new_array(json_t *, names.len + 1);
    for (size_t i = 0; rc == 0 && i < names.len; i++) {
        CLEANUP(mem_freep) char *folder = path_join(dir, names.at[i]);
        struct err missing = ERR_EMPTY;
        uint64_t number;

        if (!str_to_u64(names.at[i], &number))
            continue; /* one that is being made */
        if (load(folder, &at[count], &missing) == 0) {
            (void)json_object_set_new(at[count], "where", json_string(folder));
            count++;
        } else if (missing.code != ERR_NOT_FOUND) {
            rc = err_set(err, missing.code, missing.sys, "%s", missing.text);
        }
    }
    json_t *list = sorted(at, count);
    if (rc < 0)
        json_decref(list);
    else
        *ret_list = list;
    return rc;
}

int ask_group_branches(struct estate *estate, const json_t *args, json_t **ret_result,
                       struct cancel *cancel, struct err *err)
{
    const char *group;
    json_t *list = NULL;

    (void)cancel;
    if (json_need_str(args, "group", "ask", &group, err) < 0
        || branch_list(estate, group, &list, err) < 0)
        return -1;
    *ret_result = json_pack("{s:o}", "branches", list);
    return 0;
}

/* --- Where its content is -------------------------------------------------------------------- */

static int check_machine_idle(struct estate *estate, const char *name, const char *group,
                              const char *disk, struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(mem_freep) char *run_dir = estate_machine_dir(estate, name);
    struct err missing = ERR_EMPTY;
    enum instance_state state;

    machine_init(&machine);
    if (estate_machine_get(estate, name, &machine, &missing) < 0)
        return 0;
    const struct provider_instance view = {.machine = &machine, .run_dir = run_dir, .netns = ""};
    if (provider->observe(provider, &view, &state, cancel, err) < 0)
        return -1;
    if (state != INSTANCE_OFF)
        return err_set(err, ERR_BUSY, 0, "disk %s of %s is in use: its machine is %s", disk, group,
                       instance_state_name(state));
    return 0;
}

/* The machine that has it, of those of the group. */
static int check_idle(struct estate *estate, const char *group, const char *disk,
                      struct cancel *cancel, struct err *err)
{
    struct machine_names machines;

    estate_group_machines(estate, group, &machines);
    for (size_t i = 0; i < machines.count; i++) {
        CLEANUP(mem_freep) char *prefix = mem_printf("%s.", machines.at[i]);
        if ((machines.count == 1 || str_starts(disk, prefix))
            && check_machine_idle(estate, machines.at[i], group, disk, cancel, err) < 0)
            return -1;
    }
    return 0;
}

static int check_unchanged(const char *group, const json_t *disk, struct err *err)
{
    const char *name = json_get_str(disk, "name", "");
    const char *path = json_get_str(disk, "path", "");
    const json_t *seen = json_object_get(disk, "seen");
    CLEANUP(json_freep) json_t *now = NULL;
    struct err gone = ERR_EMPTY;

    if (!seen)
        return err_set(err, ERR_STATE, 0, "disk %s of %s: nobody saw %s when the machine had ended",
                       name, group, path);
    if (look_at(path, &now, &gone) < 0)
        return err_set(err, ERR_STATE, gone.sys, "disk %s of %s: %s", name, group, gone.text);
    if (!json_equal(seen, now))
        return err_set(err, ERR_STATE, 0,
                       "disk %s of %s is not the branch any more: %s was changed since its machine "
                       "was stopped",
                       name, group, path);
    return 0;
}

/* The machine's own disk: until it becomes the head of a replica. */
static int at_own_disk(struct estate *estate, const char *group, const json_t *branch,
                       const json_t *disk, struct branch_place *ret_place, struct cancel *cancel,
                       struct err *err)
{
    struct branch_place place = {.kind = BRANCH_AT_DISK};

    (void)branch;
    if (check_idle(estate, group, json_get_str(disk, "name", ""), cancel, err) < 0
        || check_unchanged(group, disk, err) < 0)
        return -1;
    (void)snprintf(place.disk, sizeof(place.disk), "%s", json_get_str(disk, "name", ""));
    (void)snprintf(place.path, sizeof(place.path), "%s", json_get_str(disk, "path", ""));
    (void)snprintf(place.format, sizeof(place.format), "%s", json_get_str(disk, "format", ""));
    *ret_place = place;
    return 0;
}

static bool has_point(const struct store_points *points, const json_t *branch)
{
    VEC_FOREACH(point, points)
        if (point->point == json_get_u64(branch, "point", 0) && !point->promotion
            && point->generation == json_get_u64(branch, "generation", 0))
            return true;
    return false;
}

/* Its disk is the head of a replica: the branch is a point of that, the oldest. */
static int at_replica(struct estate *estate, const char *group, const json_t *branch,
                      const json_t *disk, struct branch_place *ret_place, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, group);
    struct branch_place place = {.kind = BRANCH_AT_POINT};
    struct store *store;

    (void)cancel;
    if (estate_store_get(estate, group, &store, err) < 0)
        return err->code == ERR_STATE ? err_set(err, ERR_NOT_FOUND, 0, "it was given up") : -1;
    int rc = store->ops->points(store, &points, err);
    estate_store_put(estate, group, store, rc < 0);
    if (rc < 0)
        return -1;
    if (!has_point(&points, branch))
        return err_set(err, ERR_NOT_FOUND, 0, "no point of a replica");
    place.point = json_get_u64(branch, "point", 0);
    (void)snprintf(place.disk, sizeof(place.disk), "%s", json_get_str(disk, "name", ""));
    (void)snprintf(place.path, sizeof(place.path), "%s", dir);
    *ret_place = place;
    return 0;
}

/* In the order they are asked: ERR_NOT_FOUND says that another place has it. */
typedef int place_fn(struct estate *estate, const char *group, const json_t *branch,
                     const json_t *disk, struct branch_place *ret_place, struct cancel *cancel,
                     struct err *err);
static place_fn *const places[] = {at_replica, at_own_disk};

static int choose_disk(const char *group, const json_t *branch, const char *name,
                       const json_t **ret_disk, struct err *err)
{
    const json_t *disks = json_object_get(branch, "disks");
    CLEANUP(str_free) struct str names = STR_EMPTY;
    const json_t *disk;
    size_t i;

    *ret_disk = *name ? find_disk(branch, name) : json_array_get(disks, 0);
    if (*ret_disk && (*name || json_array_size(disks) == 1))
        return 0;
    json_array_foreach(disks, i, disk)
        str_addf(&names, "%s%s", i ? ", " : "", json_get_str(disk, "name", ""));
    if (*name)
        return err_set(err, ERR_NOT_FOUND, 0, "%s has no disk \"%s\"; hint: it has %s", group, name,
                       str_text(&names));
    return err_set(err, ERR_INVALID, 0, "%s has several disks; hint: name one: %s", group,
                   str_text(&names));
}

static int no_branch(struct estate *estate, const char *group, uint64_t point, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, 0,
                   "%s keeps no branch %" PRIu64 " of %s; hint: `muster branches %s` lists what "
                   "there is",
                   estate->site, point, group, group);
}

int branch_find(struct estate *estate, const char *group, uint64_t point, const char *disk,
                struct branch_place *ret_place, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *folder = folder_of(estate, group, point);
    CLEANUP(json_freep) json_t *branch = NULL;
    struct err missing = ERR_EMPTY;
    const json_t *chosen;

    if (load(folder, &branch, &missing) < 0) {
        if (missing.code == ERR_NOT_FOUND)
            return no_branch(estate, group, point, err);
        return err_set(err, missing.code, missing.sys, "%s", missing.text);
    }
    if (choose_disk(group, branch, disk, &chosen, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (places[i](estate, group, branch, chosen, ret_place, cancel, err) == 0)
            return 0;
        if (err->code != ERR_NOT_FOUND || i + 1 == ARRAY_LEN(places))
            return -1;
        err_clear(err);
    }
    return no_branch(estate, group, point, err);
}
