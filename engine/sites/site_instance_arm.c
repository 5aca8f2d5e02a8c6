// SPDX-License-Identifier: Apache-2.0
/* How a recovered machine is started so that its way back is complete from its first write on:
 *
 *   QEMU, paused ─ armed.json: serial S, not yet ─ map S opened, marks in it ─ armed.json: armed
 *     ─ DISK.map removed ─ resume
 *
 * Killed in between, the paused machine is found and armed anew: it has not run. The marks are what
 * is known to differ: nothing for a new overlay; else what the maps held when the machine was stopped
 * last (DISK.map: tracking goes on under the same serial as if it had not been stopped), or, when it
 * ended otherwise, all that lies in the overlays and in DISK.changes. When that is more than half of
 * the disks, a comparison is less work than sending it: the map begins empty, and claims nothing.
 *
 * In the machine's folder:
 *   armed.json     {generation, serial, base, armed}: see struct site_armed
 *   DISK.map       a change map (block/change_map.h) with a serial, from its last stop
 *   DISK.changes   one without: what the overlay held before it was streamed */
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/change_map.h"
#include "block/overlay.h"
#include "sites/site_local.h"
#include "sync/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME     "armed.json"
#define FILE_MAX      4096
#define STOP_LOOK_MS  30000
#define SHARE_TO_SEND 2 /* more than 1 / 2 of the disks: compared instead */

/* --- The mark ------------------------------------------------------------------------------- */

int site_armed_read(const struct site_instance *instance, struct site_armed *ret_armed,
                    struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(instance->dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    struct site_armed armed = {0};

    if (fs_read_file(fs_real(), path, FILE_MAX, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, &json, err) < 0
        || json_need_u64(json, "generation", FILE_NAME, &armed.generation, err) < 0
        || json_need_u64(json, "serial", FILE_NAME, &armed.serial, err) < 0)
        return err_wrap(err, "%s", path);
    armed.base = json_get_bool(json, "base", false);
    armed.armed = json_get_bool(json, "armed", false);
    *ret_armed = armed;
    return 0;
}

static int write_mark(const struct site_instance *instance, const struct site_armed *armed,
                      struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(instance->dir, FILE_NAME);
    CLEANUP(json_freep)
    json_t *json =
        json_pack("{s:I, s:I, s:b, s:b}", "generation", (json_int_t)armed->generation, "serial",
                  (json_int_t)armed->serial, "base", armed->base, "armed", armed->armed);
    CLEANUP(mem_freep) char *text = json_text(json);

    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

/* As it was left; never armed: of the generation that the replica was promoted to. */
static int need_mark(struct estate *estate, const struct site_instance *instance,
                     struct site_armed *ret_armed, struct err *err)
{
    struct store_info info;
    struct store *store;
    struct err why = ERR_EMPTY;

    if (site_armed_read(instance, ret_armed, &why) == 0)
        return 0;
    if (why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, why.sys, "%s", why.text);
    if (estate_store_get(estate, instance->group, &store, err) < 0)
        return -1;
    int rc = store->ops->info(store, &info, err);
    estate_store_put(estate, instance->group, store, rc < 0);
    if (rc == 0)
        *ret_armed = (struct site_armed){.generation = info.generation};
    return rc;
}

/* --- What is known to differ ---------------------------------------------------------------- */

struct marks {
    uint64_t serial;
    bool base;
    size_t count;
    struct source_extents *extents; /* by disk */
};

static void marks_done(struct marks *marks)
{
    for (size_t i = 0; i < marks->count; i++)
        source_extents_free(&marks->extents[i]);
    free(marks->extents);
}

static char *map_path(const struct site_instance *instance, size_t disk, const char *suffix)
{
    return mem_printf("%s/%s%s", instance->dir, instance->machine.disks.at[disk].name, suffix);
}

/* 1: it is of this disk and history; 0: there is none that can be used. */
static int read_map(const struct site_instance *instance, uint64_t generation, size_t disk,
                    const char *suffix, struct change_map *map)
{
    CLEANUP(mem_freep) char *path = map_path(instance, disk, suffix);
    struct err why = ERR_EMPTY;

    if (change_map_read(path, map, &why) < 0) {
        if (why.code != ERR_NOT_FOUND)
            log_warn("sites", "change map not used error=\"%s\"", why.text);
        return 0;
    }
    if (str_eq(map->group, instance->group) && map->generation == generation
        && str_eq(map->disk, instance->machine.disks.at[disk].name)
        && map->point == instance->point)
        return 1;
    log_warn("sites", "change map of another history not used path=%s", path);
    return 0;
}

/* As the last stop left them: all disks or none. */
static bool take_saved(const struct site_instance *instance, const struct site_armed *last,
                       struct marks *marks)
{
    uint64_t serial = 0;

    for (size_t i = 0; i < marks->count; i++) {
        CLEANUP(change_map_done) struct change_map map = {0};

        if (!read_map(instance, last->generation, i, ".map", &map) || map.serial == 0
            || (serial && map.serial != serial))
            return false;
        serial = map.serial;
        source_extents_clear(&marks->extents[i]);
        source_extents_unite(&marks->extents[i], &map.extents);
    }
    marks->serial = serial;
    marks->base = last->base && last->serial == serial; /* never cut since it was the base */
    return true;
}

static uint64_t highest_serial(const struct estate *estate, const struct site_instance *instance,
                               const struct site_armed *last)
{
    CLEANUP(mem_freep) char *dir = estate_path(estate, "sessions", instance->group, "");
    CLEANUP(checkpoint_done) struct checkpoint ck = {0};
    struct err why = ERR_EMPTY;

    if (checkpoint_load(dir, &ck, &why) < 0 && why.code != ERR_NOT_FOUND)
        log_warn("sites", "group=%s error=\"%s\"", instance->group, why.text);
    return ck.serial > last->serial ? ck.serial : last->serial;
}

/* All that was ever written to the overlays, which outlive every end of QEMU. */
static int take_overlays(const struct site_instance *instance, const struct site_armed *last,
                         struct marks *marks, struct err *err)
{
    uint64_t marked = 0, whole = 0;

    for (size_t i = 0; i < marks->count; i++) {
        CLEANUP(change_map_done) struct change_map map = {0};
        struct err why = ERR_EMPTY;
        uint64_t size = 0;

        source_extents_clear(&marks->extents[i]);
        if (overlay_allocated(instance->served.at[i].overlay, &marks->extents[i], &size, &why) < 0
            && why.code != ERR_NOT_FOUND)
            return err_set(err, why.code, why.sys, "%s", why.text);
        if (read_map(instance, last->generation, i, ".changes", &map))
            source_extents_unite(&marks->extents[i], &map.extents);
        marked += source_extents_bytes(&marks->extents[i]);
        whole += size;
    }
    marks->base = marked <= whole / SHARE_TO_SEND;
    for (size_t i = 0; i < marks->count && !marks->base; i++)
        source_extents_clear(&marks->extents[i]);
    return 0;
}

static int find_marks(const struct estate *estate, const struct site_instance *instance,
                      const struct site_armed *last, struct marks *marks, struct err *err)
{
    marks->count = instance->machine.disks.len;
    marks->extents = mem_new_array(struct source_extents, marks->count);
    if (take_saved(instance, last, marks))
        return 0;
    marks->serial = highest_serial(estate, instance, last) + 1;
    return take_overlays(instance, last, marks, err);
}

/* --- Arming --------------------------------------------------------------------------------- */

static int open_map(struct estate *estate, const struct site_instance *instance,
                    const struct site_armed *armed, const struct marks *marks,
                    struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    CLEANUP(mem_freep) char *work_dir = site_work_dir(estate, instance->group, instance->name);
    CLEANUP(mem_freep)
    struct source_marks *list = mem_new_array(struct source_marks, marks->count);
    CLEANUP(source_closep) struct source *source = NULL;

    for (size_t i = 0; i < marks->count; i++)
        list[i] = (struct source_marks){instance->machine.disks.at[i].name, &marks->extents[i]};
    if (fs_make_dirs(fs_real(), work_dir, 0700, err) < 0
        || provider->open_source(provider, &view, instance->group, armed->generation, work_dir,
                                 &source, cancel, err)
               < 0)
        return -1;
    return source_track_from(source, armed->serial, list, marks->count, cancel, err);
}

static void tell(const struct site_instance *instance, const struct site_armed *armed,
                 const struct marks *marks)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < marks->count; i++)
        bytes += source_extents_bytes(&marks->extents[i]);
    log_info("sites",
             "tracked machine=%s run=%s generation=%" PRIu64 " serial=%" PRIu64 " from=%s "
             "bytes=%" PRIu64,
             instance->name, instance->run, armed->generation, armed->serial,
             armed->base ? "its point" : "its last stop or start", bytes);
}

static int arm(struct estate *estate, const struct site_instance *instance,
               const struct site_armed *last, struct cancel *cancel, struct err *err)
{
    CLEANUP(marks_done) struct marks marks = {0};
    struct site_armed armed = {.generation = last->generation};

    if (find_marks(estate, instance, last, &marks, err) < 0)
        return -1;
    armed.serial = marks.serial;
    armed.base = marks.base;
    if (write_mark(instance, &armed, err) < 0)
        return -1;
    CRASH_POINT("instance.arming");
    if (open_map(estate, instance, &armed, &marks, cancel, err) < 0)
        return -1;
    CRASH_POINT("instance.tracked");
    armed.armed = true;
    if (write_mark(instance, &armed, err) < 0)
        return -1;
    tell(instance, &armed, &marks);
    return 0;
}

/* What the last stop left is old as soon as the machine runs. */
static int drop_saved(const struct site_instance *instance, struct err *err)
{
    for (size_t i = 0; i < instance->machine.disks.len; i++) {
        CLEANUP(mem_freep) char *path = map_path(instance, i, ".map");

        if (change_map_remove(path, err) < 0)
            return -1;
    }
    return 0;
}

/* It is paused. */
static int arm_and_resume(struct estate *estate, const struct site_instance *instance,
                          struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    struct site_armed last;
    uint64_t open = 0;

    if (need_mark(estate, instance, &last, err) < 0
        || provider->tracked(provider, &view, instance->group, last.generation, &open, cancel, err)
               < 0)
        return -1;
    if ((open == 0 || !last.armed) && arm(estate, instance, &last, cancel, err) < 0)
        return err_wrap(err, "machine %s: track its writes before it runs", instance->name);
    CRASH_POINT("instance.armed");
    if (drop_saved(instance, err) < 0)
        return -1;
    return provider->resume(provider, &view, cancel, err);
}

/* --- Starting ------------------------------------------------------------------------------- */

static int start_test(struct provider *provider, const struct provider_instance *view,
                      enum instance_state state, struct cancel *cancel, struct err *err)
{
    if (state == INSTANCE_PAUSED)
        return provider->resume(provider, view, cancel, err);
    if (state == INSTANCE_SHUTDOWN && provider->stop(provider, view, cancel, err) < 0)
        return -1;
    if (provider->start(provider, view, false, cancel, err) < 0)
        return -1;
    CRASH_POINT("instance.started");
    return 0;
}

/* A process that is new has no maps, whatever the last one had. */
static int disarm(const struct site_instance *instance, struct err *err)
{
    struct site_armed last;
    struct err why = ERR_EMPTY;

    if (site_armed_read(instance, &last, &why) < 0)
        return why.code == ERR_NOT_FOUND ? 0 : err_set(err, why.code, why.sys, "%s", why.text);
    if (!last.armed)
        return 0;
    last.armed = false;
    return write_mark(instance, &last, err);
}

static int start_real(struct estate *estate, const struct site_instance *instance,
                      enum instance_state state, struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);

    if (state == INSTANCE_OFF && disarm(instance, err) < 0)
        return -1;
    if (state != INSTANCE_PAUSED && provider->start(provider, &view, true, cancel, err) < 0)
        return -1;
    CRASH_POINT("instance.started");
    return arm_and_resume(estate, instance, cancel, err);
}

int site_instance_bring_up(struct estate *estate, const struct site_instance *instance,
                           struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    enum instance_state state;
    uint32_t repaired;

    if (provider->observe(provider, &view, &state, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_RUNNING)
        return 0;
    if (state == INSTANCE_IO_ERROR)
        return provider->repair(provider, &view, &repaired, cancel, err);
    return instance->test ? start_test(provider, &view, state, cancel, err)
                          : start_real(estate, instance, state, cancel, err);
}

/* --- Ending --------------------------------------------------------------------------------- */

static int save_disk(const struct site_instance *instance, uint64_t generation, uint64_t serial,
                     size_t disk, const struct source_extents *extents, struct err *err)
{
    CLEANUP(mem_freep) char *path = map_path(instance, disk, ".map");
    CLEANUP(change_map_done)
    struct change_map map = {.generation = generation, .point = instance->point, .serial = serial};

    (void)snprintf(map.group, sizeof(map.group), "%s", instance->group);
    (void)snprintf(map.disk, sizeof(map.disk), "%s", instance->machine.disks.at[disk].name);
    source_extents_unite(&map.extents, extents);
    return change_map_write(path, &map, err);
}

static int save_maps(struct estate *estate, const struct site_instance *instance,
                     struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    CLEANUP(marks_done)
    struct marks marks = {.count = instance->machine.disks.len,
                          .extents =
                              mem_new_array(struct source_extents, instance->machine.disks.len)};
    struct site_armed last;

    if (site_armed_read(instance, &last, err) < 0)
        return -1;
    if (!last.armed)
        return 0; /* it has not run since its last start: what the stop before kept holds */
    if (provider->last_marks(provider, &view, instance->group, last.generation, &marks.serial,
                             marks.extents, cancel, err)
        < 0)
        return -1;
    for (size_t i = 0; marks.serial && i < marks.count; i++)
        if (save_disk(instance, last.generation, marks.serial, i, &marks.extents[i], err) < 0)
            return -1;
    return 0;
}

int site_instance_end(struct estate *estate, const struct site_instance *instance,
                      struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(estate_clock(estate), cancel, STOP_LOOK_MS);
    struct err why = ERR_EMPTY;

    /* Without them the disks are compared after the next start: no reason not to stop. */
    if (!instance->test && save_maps(estate, instance, limit, &why) < 0
        && why.code != ERR_NOT_FOUND)
        log_warn("sites", "change maps not kept machine=%s run=%s error=\"%s\"", instance->name,
                 instance->run, why.text);
    CRASH_POINT("instance.saved");
    if (provider->stop(provider, &view, cancel, err) < 0)
        return -1;
    VEC_FOREACH(disk, &instance->served)
        if (disk->own && overlay_release(disk->overlay, &why) < 0)
            log_warn("sites", "room not given back error=\"%s\"", why.text);
    return 0;
}

/* --- For the session ------------------------------------------------------------------------ */

/* Between the start of its process and the opening of its map it is nobody's. */
static int check_armed(const struct site_instance *instance, struct err *err)
{
    struct site_armed armed;
    struct err why = ERR_EMPTY;

    if (site_armed_read(instance, &armed, &why) < 0 && why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, why.sys, "%s", why.text);
    if (why.code == ERR_NOT_FOUND || !armed.armed)
        return err_set(err, ERR_BUSY, 0, "machine %s is being started by run %s", instance->name,
                       instance->run);
    return 0;
}

int estate_instance_source(struct estate *estate, const char *run, const char *machine,
                           uint64_t generation, struct source **ret_source, struct cancel *cancel,
                           struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    char lock[NAME_MAX_BYTES * 2];

    machine_init(&instance.machine);
    (void)snprintf(lock, sizeof(lock), "%s-%s", run, machine);
    estate_machine_lock(estate, lock);
    int rc = site_instance_load(estate, run, machine, &instance, err);
    if (rc == 0)
        rc = check_armed(&instance, err);
    if (rc == 0) {
        struct provider_instance view = site_instance_view(&instance);
        CLEANUP(mem_freep) char *work_dir = site_work_dir(estate, instance.group, machine);

        rc = fs_make_dirs(fs_real(), work_dir, 0700, err);
        if (rc == 0)
            rc = provider->open_source(provider, &view, instance.group, generation, work_dir,
                                       ret_source, cancel, err);
    }
    estate_machine_unlock(estate, lock);
    return rc;
}
