// SPDX-License-Identifier: Apache-2.0
/* views/NAME/view.json: {"group", "pid", "start", "point"}; written before the point is pinned, so
 * that no pin stays that nobody knows of. */
#include "sites/viewing.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/proc.h"
#include "sites/branch.h"
#include "sites/estate_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

#define FILE_NAME      "view.json"
#define FILE_MAX_BYTES 4096

void viewing_done(struct viewing *viewing)
{
    free(viewing->dir);
    free(viewing->replica_dir);
    free(viewing->key_path);
    free(viewing->luks_path);
    memset(viewing, 0, sizeof(*viewing));
}

static int save(const struct viewing *viewing, const char *group, const struct proc_id *id,
                struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(viewing->dir, FILE_NAME);
    CLEANUP(json_freep)
    json_t *json =
        json_pack("{s:s, s:I, s:I, s:I}", "group", group, "pid", (json_int_t)id->pid, "start",
                  (json_int_t)id->start_ticks, "point", (json_int_t)viewing->point);
    CLEANUP(mem_freep) char *text = json_text(json);

    if (fs_make_dirs(fs_real(), viewing->dir, 0700, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

/* --- A point ---------------------------------------------------------------------------------- */

/* Its name in the group, or, of the machine's, its own. */
static bool is_disk(const char *disk, const char *machine, const char *name)
{
    size_t len = strlen(machine);

    return str_eq(disk, name)
           || (len && str_starts(disk, machine) && disk[len] == '.'
               && str_eq(disk + len + 1, name));
}

static bool is_of(const char *disk, const char *machine)
{
    size_t len = strlen(machine);

    return len == 0 || (str_starts(disk, machine) && disk[len] == '.');
}

static int choose_disk(struct store *store, const char *group, const struct viewing_want *want,
                       struct viewing *viewing, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    CLEANUP(str_free) struct str names = STR_EMPTY;
    const char *machine = want->machine ? want->machine : "";
    const char *name = want->disk;
    const char *found = NULL;
    size_t count = 0;

    if (store->ops->disks(store, &disks, err) < 0)
        return -1;
    VEC_FOREACH(disk, &disks) {
        if (!is_of(disk->name, machine))
            continue;
        count++;
        if (!*name || is_disk(disk->name, machine, name))
            found = disk->name;
        str_addf(&names, "%s%s", names.len ? ", " : "", disk->name);
    }
    if (found && (*name || count == 1)) {
        (void)snprintf(viewing->disk, sizeof(viewing->disk), "%s", found);
        return 0;
    }
    return err_set(err, *name ? ERR_NOT_FOUND : ERR_INVALID, 0,
                   *name ? "%s has no disk \"%s\"; hint: it has %s"
                         : "%s has several disks%s; hint: name one: %s",
                   *machine ? machine : group, name, str_text(&names));
}

static int pin(struct store *store, const char *group, const struct viewing_want *want,
               const struct proc_id *id, struct viewing *viewing, struct err *err)
{
    uint64_t point;

    if (choose_disk(store, group, want, viewing, err) < 0 || save(viewing, group, id, err) < 0)
        return -1;
    CRASH_POINT("view.noted");
    if (store_dir_check_point(store, viewing->point, err) < 0)
        return -1;
    return store->ops->pin(store, viewing->point, viewing->name, &point, err);
}

static int begin_point(struct estate *estate, const char *group, const struct viewing_want *want,
                       const struct proc_id *id, struct viewing *viewing, struct err *err)
{
    struct store *store;

    if (estate_store_get(estate, group, &store, err) < 0)
        return -1;
    int rc = pin(store, group, want, id, viewing, err);
    estate_store_put(estate, group, store,
                     rc < 0 && (err->code == ERR_IO || err->code == ERR_SPACE));
    viewing->replica_dir = estate_replica_dir(estate, group);
    viewing->key_path = estate_key_path(estate, group);
    viewing->luks_path = estate_luks_path(estate, group);
    if (!fs_exists(viewing->luks_path))
        mem_freep(&viewing->luks_path);
    return rc;
}

/* --- Beginning and ending --------------------------------------------------------------------- */

/* What the disk is called in the group's points. */
static int name_in_group(struct estate *estate, const char *group, const struct viewing_want *want,
                         char ret_name[GROUP_NAME_BYTES], struct err *err)
{
    struct machine_names machines;

    if (want->machine && *want->machine && *want->disk) {
        estate_group_machines(estate, group, &machines);
        return machine_disk_in(&machines, want->machine, want->disk, ret_name, err);
    }
    (void)snprintf(ret_name, GROUP_NAME_BYTES, "%s", want->disk);
    return 0;
}

static int begin(struct estate *estate, const char *group, const struct viewing_want *want,
                 const struct proc_id *id, struct viewing *viewing, struct cancel *cancel,
                 struct err *err)
{
    struct branch_place place = {.kind = BRANCH_AT_POINT, .point = want->point};
    struct viewing_want found = *want;
    char disk[GROUP_NAME_BYTES];

    if (want->point == 0) {
        if (name_in_group(estate, group, want, disk, err) < 0
            || branch_find(estate, group, want->branch, disk, &place, cancel, err) < 0)
            return -1;
        found.disk = place.disk;
        found.machine = NULL;
    }
    viewing->point = place.point;
    if (place.kind == BRANCH_AT_POINT)
        return begin_point(estate, group, &found, id, viewing, err);
    memcpy(viewing->disk, place.disk, sizeof(viewing->disk));
    memcpy(viewing->path, place.path, sizeof(viewing->path));
    memcpy(viewing->format, place.format, sizeof(viewing->format));
    return save(viewing, group, id, err);
}

int viewing_begin(struct estate *estate, const char *group, const struct viewing_want *want,
                  struct viewing *ret_viewing, struct cancel *cancel, struct err *err)
{
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};
    struct err ignored = ERR_EMPTY;
    struct proc_id id;

    if (want->pid <= 0 || want->pid > INT_MAX || proc_identify((pid_t)want->pid, &id, err) < 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no process %" PRId64 " looks at it", want->pid);
    (void)snprintf(viewing.name, sizeof(viewing.name), "view-%ld-%" PRIu64, (long)id.pid,
                   id.start_ticks);
    viewing.dir = estate_path(estate, "views", viewing.name, "");
    if (fs_exists(viewing.dir))
        return err_set(err, ERR_STATE, 0, "process %" PRId64 " looks at something already",
                       want->pid);
    if (begin(estate, group, want, &id, &viewing, cancel, err) < 0) {
        (void)(viewing_end(estate, viewing.name, &ignored) < 0); /* else the next tidying does it */
        return -1;
    }
    *ret_viewing = viewing;
    memset(&viewing, 0, sizeof(viewing));
    return 0;
}

static int load(const char *dir, json_t **ret_json, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0)
        return -1;
    return json_parse(str_text(&text), text.len, ret_json, err);
}

static int unpin(struct estate *estate, const char *group, const char *name, struct err *err)
{
    struct store *store;

    if (estate_store_get(estate, group, &store, err) == 0) {
        int rc = store->ops->unpin(store, name, err);
        estate_store_put(estate, group, store,
                         rc < 0 && (err->code == ERR_IO || err->code == ERR_SPACE));
        if (rc == 0)
            return 0;
    }
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err); /* the pin, or the replica, is gone */
    return 0;
}

int viewing_end(struct estate *estate, const char *name, struct err *err)
{
    CLEANUP(mem_freep) char *dir = estate_path(estate, "views", name, "");
    CLEANUP(json_freep) json_t *json = NULL;
    struct err none = ERR_EMPTY;

    if (!fs_exists(dir))
        return 0;
    if (load(dir, &json, &none) == 0 && json_get_u64(json, "point", 0) != 0
        && unpin(estate, json_get_str(json, "group", ""), name, err) < 0)
        return err_wrap(err, "view %s", name);
    return fs_remove_tree(fs_real(), dir, err);
}

/* The name says who looks, whatever became of its file. */
static bool is_over(const char *name)
{
    struct proc_id id;
    uint64_t start;
    long pid;

    if (sscanf(name, "view-%ld-%" SCNu64, &pid, &start) != 2 || pid <= 0 || pid > INT_MAX)
        return true;
    id = (struct proc_id){.pid = (pid_t)pid, .start_ticks = start};
    return !proc_is_alive(&id);
}

int viewing_tidy(struct estate *estate, struct err *err)
{
    CLEANUP(mem_freep) char *dir = path_join(estate->dir, "views");
    CLEANUP(fs_names_free) struct fs_names names = {0};
    int rc = 0;

    if (!fs_exists(dir))
        return 0;
    if (fs_list(dir, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++)
        if (is_over(names.at[i]) && viewing_end(estate, names.at[i], err) < 0)
            rc = -1;
    return rc;
}
