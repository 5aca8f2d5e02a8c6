// SPDX-License-Identifier: Apache-2.0
/* Recovered machines, one folder each, named after run and machine:
 *
 *   instances/RUN-MACHINE/instance.json  what was asked for: {run, machine, group, test, own,
 *                                        committed, point, netns, definition, machines: [NAME] of a
 *                                        group of several}; written before anything starts
 *                        /DISK.qcow2     the overlay above the served point
 *                        /armed.json ... how its writes are tracked (site_instance_arm.c)
 *                        /...            the provider's: sockets, pid files, console.log
 */
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "sites/site_local.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME      "instance.json"
#define FILE_MAX_BYTES (1024 * 1024)

void site_netns_name(const struct estate *estate, const char *run, char ret_name[SITE_NETNS_BYTES])
{
    uint32_t hash = crc32c(0, estate->dir, strlen(estate->dir));

    (void)snprintf(ret_name, SITE_NETNS_BYTES, "muster-t-%s-%08" PRIx32, run, hash);
}

char *site_instance_dir(struct estate *estate, const char *run, const char *machine)
{
    return mem_printf("%s/instances/%s-%s", estate->dir, run, machine);
}

void site_instance_done(struct site_instance *instance)
{
    machine_done(&instance->machine);
    provider_served_disks_free(&instance->served);
    free(instance->dir);
    free(instance->run_dir);
    memset(instance, 0, sizeof(*instance));
}

struct provider_instance site_instance_view(const struct site_instance *instance)
{
    return (struct provider_instance){
        .machine = &instance->machine,
        .run_dir = instance->run_dir,
        .netns = instance->netns,
        .isolated = instance->test,
        .served = instance->own ? NULL : &instance->served,
    };
}

/* --- Its file ------------------------------------------------------------------------------- */

static int add_served(struct estate *estate, struct site_instance *instance, struct err *err)
{
    CLEANUP(mem_freep) char *replica_dir = estate_replica_dir(estate, instance->group);
    CLEANUP(mem_freep) char *key_path = estate_key_path(estate, instance->group);
    CLEANUP(mem_freep) char *luks_path = estate_luks_path(estate, instance->group);

    instance->run_dir =
        instance->own ? estate_machine_dir(estate, instance->name) : mem_strdup(instance->dir);
    if (instance->own)
        return 0;
    VEC_FOREACH(disk, &instance->machine.disks) {
        struct provider_served_disk *served = provider_served_disks_push(&instance->served);
        int most = (int)sizeof(served->overlay);
        served->point = instance->point;
        (void)snprintf(served->name, sizeof(served->name), "%s", disk->name);
        if (machine_disk_in(&instance->machines, instance->name, disk->name, served->replica_disk,
                            err)
            < 0)
            return -1;
        if (snprintf(served->overlay, sizeof(served->overlay), "%s/%s.qcow2", instance->dir,
                     disk->name)
                >= most
            || snprintf(served->replica_dir, sizeof(served->replica_dir), "%s", replica_dir) >= most
            || snprintf(served->key_path, sizeof(served->key_path), "%s", key_path) >= most
            || snprintf(served->luks_path, sizeof(served->luks_path), "%s",
                        fs_exists(luks_path) ? luks_path : "")
                   >= most)
            return err_set(err, ERR_LIMIT, 0, "%s: path longer than %d bytes", instance->dir, most);
    }
    return 0;
}

static int parse(const json_t *json, struct site_instance *instance, struct err *err)
{
    const char *run;
    const char *machine;
    const char *group;
    json_t *definition;

    if (json_need_str(json, "run", FILE_NAME, &run, err) < 0
        || json_need_str(json, "machine", FILE_NAME, &machine, err) < 0
        || json_need_str(json, "group", FILE_NAME, &group, err) < 0
        || json_need_u64(json, "point", FILE_NAME, &instance->point, err) < 0
        || json_need_object(json, "definition", FILE_NAME, &definition, err) < 0)
        return -1;
    (void)snprintf(instance->run, sizeof(instance->run), "%s", run);
    (void)snprintf(instance->name, sizeof(instance->name), "%s", machine);
    (void)snprintf(instance->group, sizeof(instance->group), "%s", group);
    (void)snprintf(instance->netns, sizeof(instance->netns), "%s", json_get_str(json, "netns", ""));
    instance->test = json_get_bool(json, "test", true);
    instance->own = json_get_bool(json, "own", false);
    instance->committed = json_get_bool(json, "committed", false);
    if (machine_from_json(definition, &instance->machine, err) < 0
        || machine_names_parse(json_object_get(json, "machines"), instance->group,
                               &instance->machines, err)
               < 0)
        return -1;
    if (!instance->own)
        machine_make_portable(&instance->machine);
    return 0;
}

int site_instance_load(struct estate *estate, const char *run, const char *machine,
                       struct site_instance *ret_instance, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(str_free) struct str text = STR_EMPTY;

    machine_init(&instance.machine);
    instance.dir = site_instance_dir(estate, run, machine);
    CLEANUP(mem_freep) char *path = path_join(instance.dir, FILE_NAME);
    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0) {
        if (err->code == ERR_NOT_FOUND)
            return err_set(err, ERR_NOT_FOUND, 0, "%s was not started by run %s", machine, run);
        return -1;
    }
    if (json_parse(str_text(&text), text.len, &json, err) < 0 || parse(json, &instance, err) < 0
        || add_served(estate, &instance, err) < 0 || site_stream_load(&instance, err) < 0)
        return err_wrap(err, "%s", path);
    *ret_instance = instance;
    memset(&instance, 0, sizeof(instance));
    return 0;
}

int site_instance_save(const struct site_instance *instance, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(instance->dir, FILE_NAME);
    CLEANUP(json_freep)
    json_t *json = json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:I, s:s, s:o}", "run", instance->run,
                             "machine", instance->name, "group", instance->group, "test",
                             instance->test, "own", instance->own, "committed", instance->committed,
                             "point", (json_int_t)instance->point, "netns", instance->netns,
                             "definition", machine_to_json(&instance->machine));
    if (instance->machines.count > 1)
        (void)json_object_set_new(json, "machines", machine_names_json(&instance->machines));
    CLEANUP(mem_freep) char *text = json_text(json);

    if (fs_make_dirs(fs_real(), instance->dir, 0700, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

/* --- Its definition, from the chosen point -------------------------------------------------- */

static int read_definition(struct estate *estate, struct site_instance *instance, struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(mem_freep) char *text = NULL;
    struct store *store;

    manifest_init(&manifest);
    if (estate_store_get(estate, instance->group, &store, err) < 0)
        return -1;
    int rc = store->ops->point_manifest(store, instance->point, &text, err);
    estate_store_put(estate, instance->group, store, rc < 0 && err->code == ERR_IO);
    if (rc < 0 || manifest_parse(text, strlen(text), &manifest, err) < 0)
        return -1;
    const json_t *json = json_object_get(manifest.machines, instance->name);
    if (!json)
        return err_set(err, ERR_NOT_FOUND, 0,
                       "point %" PRIu64 " of %s carries no definition of machine %s",
                       instance->point, instance->group, instance->name);
    if (machine_names_of(manifest.machines, instance->group, &instance->machines, err) < 0
        || machine_from_json(json, &instance->machine, err) < 0)
        return -1;
    machine_make_portable(&instance->machine);
    return 0;
}

static int make(struct estate *estate, const json_t *args, struct site_instance *instance,
                struct err *err)
{
    const char *run;
    const char *machine;
    const char *group;

    if (json_need_str(args, "run", "ask", &run, err) < 0
        || json_need_str(args, "machine", "ask", &machine, err) < 0
        || json_need_str(args, "group", "ask", &group, err) < 0
        || json_need_u64(args, "point", "ask", &instance->point, err) < 0)
        return -1;
    instance->test = json_get_bool(args, "test", true);
    (void)snprintf(instance->run, sizeof(instance->run), "%s", run);
    (void)snprintf(instance->name, sizeof(instance->name), "%s", machine);
    (void)snprintf(instance->group, sizeof(instance->group), "%s", group);
    if (instance->test)
        site_netns_name(estate, run, instance->netns);
    instance->dir = site_instance_dir(estate, run, machine);
    if (!instance->test && site_own_look(estate, instance->group, &instance->own, err) < 0)
        return -1;
    if ((instance->own ? estate_machine_get(estate, instance->name, &instance->machine, err)
                       : read_definition(estate, instance, err))
        < 0)
        return -1;
    if (instance->own)
        estate_group_machines(estate, instance->group, &instance->machines);
    if (!instance->test && !instance->own)
        estate_map_networks(estate, instance->group, &instance->machine);
    return site_instance_save(instance, err) < 0 ? -1 : add_served(estate, instance, err);
}

/* --- The asks ------------------------------------------------------------------------------- */

struct named {
    const char *run;
    const char *machine;
    char lock[NAME_MAX_BYTES * 2];
};

static int named_get(const json_t *args, struct named *ret_named, struct err *err)
{
    if (json_need_str(args, "run", "ask", &ret_named->run, err) < 0
        || json_need_str(args, "machine", "ask", &ret_named->machine, err) < 0)
        return -1;
    (void)snprintf(ret_named->lock, sizeof(ret_named->lock), "%s-%s", ret_named->run,
                   ret_named->machine);
    return 0;
}

static json_t *armed_json(const struct site_instance *instance)
{
    struct site_armed armed;
    struct err none = ERR_EMPTY;

    if (site_armed_read(instance, &armed, &none) < 0 || !armed.armed)
        return json_null();
    return json_pack("{s:I, s:I, s:b}", "generation", (json_int_t)armed.generation, "serial",
                     (json_int_t)armed.serial, "base", armed.base);
}

/* What whoever started it keeps of it. */
static json_t *known_json(const struct site_instance *instance, enum instance_state state)
{
    return json_pack("{s:s, s:b, s:b, s:b, s:s, s:s, s:o, s:o}", "state",
                     instance_state_name(state), "exists", 1, "own", instance->own, "committed",
                     instance->committed, "run_dir", instance->run_dir, "netns", instance->netns,
                     "definition", machine_to_json(&instance->machine), "armed",
                     armed_json(instance));
}

/* Its views need what the store makes when it is first opened after the host's start. A store that
 * cannot be opened is told of by the view that needs it. */
static void touch_store(struct estate *estate, const char *group)
{
    struct store *store;
    struct err why = ERR_EMPTY;

    if (estate_store_get(estate, group, &store, &why) == 0)
        estate_store_put(estate, group, store, false);
    else
        log_warn("sites", "group=%s error=\"%s\"", group, why.text);
}

/* A machine that was recovered here may have been failed over since: started here, too, it would be there
 * twice. Not under its lock: who learns of that here stops it. */
static int check_free(struct estate *estate, const struct named *named, const json_t *args,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    struct err none = ERR_EMPTY;

    machine_init(&instance.machine);
    if (site_instance_load(estate, named->run, named->machine, &instance, &none) < 0)
        return 0; /* whoever starts it meets that again */
    /* Own disks: the mark of how they left here goes only when they are taken back, by this very start. */
    if (instance.test || instance.own)
        return 0;
    if (estate_may_start(estate, instance.group, err) < 0)
        return -1;
    return json_get_bool(args, "without_peer", false)
               ? estate_boot_trust(estate, instance.group, err)
               : estate_boot_check(estate, instance.group, cancel, err);
}

int ask_instance_start(struct estate *estate, const json_t *args, json_t **ret_result,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    struct named named;

    (void)ret_result;
    machine_init(&instance.machine);
    if (named_get(args, &named, err) < 0 || check_free(estate, &named, args, cancel, err) < 0)
        return -1;
    estate_machine_lock(estate, named.lock);
    int rc = site_instance_load(estate, named.run, named.machine, &instance, err);
    if (rc < 0 && err->code == ERR_NOT_FOUND && json_object_get(args, "point")) {
        err_clear(err);
        rc = make(estate, args, &instance, err);
        CRASH_POINT("instance.made");
    }
    /* Once more: who was told of it meanwhile waited for the lock, or will. */
    if (rc == 0 && !instance.test && !instance.own)
        rc = estate_may_start(estate, instance.group, err);
    if (rc == 0) {
        struct provider_instance view = site_instance_view(&instance);
        if (instance.own) {
            estate_machine_lock(estate, instance.name);
            rc = site_own_start(estate, &instance, &view, cancel, err);
            estate_machine_unlock(estate, instance.name);
        } else {
            touch_store(estate, instance.group);
            rc = site_instance_bring_up(estate, &instance, cancel, err);
        }
    }
    estate_machine_unlock(estate, named.lock);
    if (rc == 0 && !instance.test && instance.committed)
        rc = estate_group_reopen(estate, instance.group, err);
    return rc;
}

int ask_instance_shutdown(struct estate *estate, const json_t *args, json_t **ret_result,
                          struct cancel *cancel, struct err *err)
{
    int64_t within = (int64_t)json_get_u64(args, "within_ms", INT64_MAX);
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(estate_clock(estate), cancel, within);

    CLEANUP(site_instance_done) struct site_instance instance = {0};
    struct named named;

    (void)ret_result;
    machine_init(&instance.machine);
    if (named_get(args, &named, err) < 0
        || site_instance_load(estate, named.run, named.machine, &instance, err) < 0)
        return -1;
    struct provider_instance view = site_instance_view(&instance);
    return site_shutdown(estate, &view, named.lock, limit, err);
}

int ask_instance_stop(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    struct named named;

    (void)ret_result;
    machine_init(&instance.machine);
    if (named_get(args, &named, err) < 0)
        return -1;
    estate_machine_lock(estate, named.lock);
    int rc = site_instance_load(estate, named.run, named.machine, &instance, err);
    if (rc == 0 && instance.own) {
        struct provider_instance view = site_instance_view(&instance);
        rc = estate_provider(estate)->stop(estate_provider(estate), &view, cancel, err);
    } else if (rc == 0) {
        rc = site_instance_end(estate, &instance, cancel, err);
    }
    estate_machine_unlock(estate, named.lock);
    if (!instance.test && instance.committed)
        site_tell_session(estate, instance.group);
    return rc;
}

int ask_instance_observe(struct estate *estate, const json_t *args, json_t **ret_result,
                         struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    enum instance_state state = INSTANCE_OFF;
    struct named named;

    machine_init(&instance.machine);
    if (named_get(args, &named, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *dir = site_instance_dir(estate, named.run, named.machine);
    if (site_instance_load(estate, named.run, named.machine, &instance, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        bool own = false;
        char group[NAME_MAX_BYTES];
        (void)estate_group_of(estate, named.machine, group);
        if (!json_get_bool(args, "test", true) && site_own_back(estate, group, &own, err) < 0)
            return -1;
        *ret_result = json_pack("{s:s, s:b, s:b, s:b}", "state", instance_state_name(state),
                                "exists", fs_exists(dir), "own", own, "committed", own);
        return 0;
    }
    struct provider_instance view = site_instance_view(&instance);
    if (provider->observe(provider, &view, &state, cancel, err) < 0)
        return -1;
    *ret_result = known_json(&instance, state);
    return site_stream_observe(estate, &instance, state, *ret_result, cancel, err);
}

/* The machine ends before its folder goes: cut in between, the next try removes the rest. */
int ask_instance_remove(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    struct named named;

    (void)ret_result;
    machine_init(&instance.machine);
    if (named_get(args, &named, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *dir = site_instance_dir(estate, named.run, named.machine);
    estate_machine_lock(estate, named.lock);
    int rc = site_instance_load(estate, named.run, named.machine, &instance, err);
    if (rc == 0) {
        struct provider_instance view = site_instance_view(&instance);
        rc = provider->stop(provider, &view, cancel, err);
        CRASH_POINT("instance.stopped");
    } else if (err->code == ERR_NOT_FOUND) {
        err_clear(err); /* nothing was started: at most an empty folder is there */
        rc = 0;
    }
    if (rc == 0)
        rc = fs_remove_tree(fs_real(), dir, err);
    estate_machine_unlock(estate, named.lock);
    return rc;
}

/* --- All of them ---------------------------------------------------------------------------- */

int site_instance_each(struct estate *estate, site_instance_fn *fn, void *ctx, struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(estate->dir, "instances");
    CLEANUP(fs_names_free) struct fs_names names = {0};

    if (!fs_exists(folder))
        return 0;
    if (fs_list(folder, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *dir = path_join(folder, names.at[i]);
        if (fn(ctx, names.at[i], dir, err) < 0)
            return -1;
    }
    return 0;
}

/* --- Whose disks they are ------------------------------------------------------------------- */

struct unused {
    struct estate *estate;
    const char *group;
};

/* One whose disks are all its own, once and for all. */
static bool needs_no_point(struct estate *estate, const json_t *json)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    struct err none = ERR_EMPTY;

    machine_init(&instance.machine);
    if (site_instance_load(estate, json_get_str(json, "run", ""), json_get_str(json, "machine", ""),
                           &instance, &none)
        < 0)
        return false;
    VEC_FOREACH(disk, &instance.served)
        if (!disk->own)
            return false;
    return true;
}

static int check_other(void *ctx, const char *name, const char *dir, struct err *err)
{
    const struct unused *unused = ctx;
    const char *group = unused->group;
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;

    (void)name;
    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err); /* nothing was started in it yet */
        return 0;
    }
    if (json_parse(str_text(&text), text.len, &json, err) < 0)
        return err_wrap(err, "%s", path);
    if (!str_eq(json_get_str(json, "group", ""), group) || json_get_bool(json, "own", false)
        || needs_no_point(unused->estate, json))
        return 0;
    return err_set(
        err, ERR_STATE, 0, "the replica of %s is in use: run %s started %s from it (%s)%s", group,
        json_get_str(json, "run", "?"), json_get_str(json, "machine", "?"), dir,
        json_get_bool(json, "test", false) ? "; hint: `muster cleanup` that run first"
        : json_get_bool(json, "committed", false)
            ? "; its disks would go with it; hint: `muster stream` it first"
            : "; its disks would go with it; hint: commit its failover, or roll it back");
}

int estate_check_unused(struct estate *estate, const char *group, struct err *err)
{
    struct unused unused = {estate, group};

    return site_instance_each(estate, check_other, &unused, err);
}

/* --- Repair --------------------------------------------------------------------------------- */

static int repair_one(struct estate *estate, const char *dir, uint32_t *repaired,
                      struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    char lock[NAME_MAX_BYTES * 2];
    uint32_t count = 0;

    machine_init(&instance.machine);
    if (fs_read_file(fs_real(), path, FILE_MAX_BYTES, &text, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        return 0;
    }
    instance.dir = mem_strdup(dir);
    if (json_parse(str_text(&text), text.len, &json, err) < 0 || parse(json, &instance, err) < 0
        || add_served(estate, &instance, err) < 0)
        return err_wrap(err, "%s", path);
    if (instance.own)
        return 0; /* nothing is served to it */
    (void)snprintf(lock, sizeof(lock), "%s-%s", instance.run, instance.name);
    struct provider_instance view = site_instance_view(&instance);
    estate_machine_lock(estate, lock);
    /* It may have been removed while we waited for the lock. */
    int rc = 0;
    if (fs_exists(path) && (rc = site_stream_load(&instance, err)) == 0)
        rc = provider->repair(provider, &view, &count, cancel, err);
    estate_machine_unlock(estate, lock);
    *repaired += count;
    return rc < 0 ? err_wrap(err, "%s", dir) : 0;
}

struct repair {
    struct estate *estate;
    uint32_t *repaired;
    struct cancel *cancel;
    struct err last;
};

/* Errors of one do not stop the others. */
static int repair_next(void *ctx, const char *name, const char *dir, struct err *err)
{
    struct repair *repair = ctx;
    struct err why = ERR_EMPTY;

    (void)name;
    if (cancel_check(repair->cancel, err) < 0)
        return -1;
    if (repair_one(repair->estate, dir, repair->repaired, repair->cancel, &why) < 0)
        repair->last = why;
    return 0;
}

int estate_repair(struct estate *estate, uint32_t *ret_repaired, struct cancel *cancel,
                  struct err *err)
{
    struct repair repair = {estate, ret_repaired, cancel, ERR_EMPTY};

    *ret_repaired = 0;
    if (site_instance_each(estate, repair_next, &repair, err) < 0)
        return -1;
    if (repair.last.code == ERR_NONE)
        return 0;
    *err = repair.last;
    return -1;
}
