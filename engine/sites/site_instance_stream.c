// SPDX-License-Identifier: Apache-2.0
/* A recovered machine's disks become its own: disk by disk, while it works,
 *
 *   overlay flushed ─ DISK.changes: what lies in it ─ room reserved ─ stream.json: begun ─ the job in QEMU
 *     ─ all is copied ─ QEMU lets go of the point ─ all of it durable and seen in the overlay ─ stream.json: own
 *     ─ the server of the point ends
 *
 * Each step finds what the one before left, so killed anywhere it goes on: the job lives in QEMU; when that was
 * ended too, what was copied is in the overlay and is not copied again. Until "own" is written every
 * start of the machine serves the point below the overlay, which is right at any time; after it none
 * does, which is why the overlay itself is looked at first.
 *
 * stream.json: {disks: {DISK: "begun" or "own"}} */
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "block/change_map.h"
#include "block/overlay.h"
#include "sites/site_local.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_NAME "stream.json"
#define FILE_MAX  65536
#define LOOK_MS   200
#define STOP_MS   2000
#define TRIES     10 /* in a row that bring it no further */
#define SLACK     (UINT64_C(16) << 20)

/* --- What is so ------------------------------------------------------------------------------ */

static int read_states(const struct site_instance *instance, json_t **ret_states, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(instance->dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    struct err why = ERR_EMPTY;
    json_t *disks;

    if (fs_read_file(fs_real(), path, FILE_MAX, &text, &why) < 0) {
        if (why.code != ERR_NOT_FOUND)
            return err_set(err, why.code, why.sys, "%s", why.text);
        *ret_states = json_object();
        return 0;
    }
    if (json_parse(str_text(&text), text.len, &json, err) < 0
        || json_need_object(json, "disks", FILE_NAME, &disks, err) < 0)
        return err_wrap(err, "%s", path);
    *ret_states = json_incref(disks);
    return 0;
}

static int write_state(const struct site_instance *instance, const char *disk, const char *state,
                       struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(instance->dir, FILE_NAME);
    CLEANUP(json_freep) json_t *states = NULL;
    CLEANUP(json_freep) json_t *json = NULL;

    if (read_states(instance, &states, err) < 0)
        return -1;
    (void)json_object_set_new(states, disk, json_string(state));
    json = json_pack("{s:O}", "disks", states);
    CLEANUP(mem_freep) char *text = json_text(json);
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

int site_stream_load(struct site_instance *instance, struct err *err)
{
    CLEANUP(json_freep) json_t *states = NULL;

    if (read_states(instance, &states, err) < 0)
        return -1;
    VEC_FOREACH(disk, &instance->served)
        disk->own = str_eq(json_get_str(states, disk->name, ""), "own");
    return 0;
}

int site_stream_observe(struct estate *estate, const struct site_instance *instance,
                        enum instance_state state, json_t *into, struct cancel *cancel,
                        struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    CLEANUP(json_freep) json_t *states = NULL;
    json_t *stream = NULL;
    uint64_t done = 0, total = 0;
    bool streamed = true;

    if (read_states(instance, &states, err) < 0)
        return -1;
    bool begun = json_object_size(states) > 0 && state != INSTANCE_OFF;
    for (size_t i = 0; i < instance->served.len; i++) {
        struct provider_stream now;

        streamed = streamed && instance->served.at[i].own;
        if (!begun)
            continue;
        if (provider->stream_look(provider, &view, i, &now, cancel, err) < 0)
            return -1;
        done += now.done;
        total += now.total;
    }
    if (begun)
        stream = json_pack("{s:I, s:I}", "done", (json_int_t)done, "total", (json_int_t)total);
    (void)json_object_set_new(into, "streamed", json_boolean(streamed));
    (void)json_object_set_new(into, "stream", stream ? stream : json_null());
    return 0;
}

/* --- A disk ---------------------------------------------------------------------------------- */

/* Until streaming begins the overlay says what the machine wrote; from then on this file does. */
static int keep_changes(const struct site_instance *instance, size_t disk,
                        const struct source_extents *extents, uint64_t size, struct err *err)
{
    CLEANUP(mem_freep)
    char *path = mem_printf("%s/%s.changes", instance->dir, instance->served.at[disk].name);
    CLEANUP(change_map_done)
    struct change_map map = {.point = instance->point, .size = size};
    struct site_armed armed = {0};
    struct err why = ERR_EMPTY;

    if (site_armed_read(instance, &armed, &why) < 0 && why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, why.sys, "%s", why.text);
    map.generation = armed.generation;
    (void)snprintf(map.group, sizeof(map.group), "%s", instance->group);
    (void)snprintf(map.disk, sizeof(map.disk), "%s", instance->served.at[disk].name);
    source_extents_unite(&map.extents, extents);
    return change_map_write(path, &map, err);
}

int estate_instance_drop_changes(struct estate *estate, const char *run, const char *machine,
                                 struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    char lock[NAME_MAX_BYTES * 2];

    machine_init(&instance.machine);
    (void)snprintf(lock, sizeof(lock), "%s-%s", run, machine);
    estate_machine_lock(estate, lock);
    int rc = site_instance_load(estate, run, machine, &instance, err);
    for (size_t i = 0; rc == 0 && i < instance.served.len; i++) {
        CLEANUP(mem_freep)
        char *path = mem_printf("%s/%s.changes", instance.dir, instance.served.at[i].name);

        rc = change_map_remove(path, err);
    }
    estate_machine_unlock(estate, lock);
    return rc;
}

/* The most that streaming may add: what the replica's head takes, as far as the overlay lacks it. */
static uint64_t room_needed(const struct provider_served_disk *disk, uint64_t size,
                            uint64_t written)
{
    CLEANUP(mem_freep)
    char *head = mem_printf("%s/%s/head.raw", disk->replica_dir, disk->replica_disk);
    uint64_t need = size > written ? size - written : 0;
    struct stat st;

    if (stat(head, &st) == 0 && (uint64_t)st.st_blocks * 512 < need)
        need = (uint64_t)st.st_blocks * 512;
    return need + need / 100 + SLACK;
}

static bool has_begun(const struct site_instance *instance, const char *disk)
{
    CLEANUP(json_freep) json_t *states = NULL;
    struct err none = ERR_EMPTY;

    return read_states(instance, &states, &none) == 0 && json_get_str(states, disk, NULL);
}

static int begin(struct estate *estate, const struct site_instance *instance, size_t disk,
                 uint64_t rate_per_s, struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    const struct provider_served_disk *served = &instance->served.at[disk];
    CLEANUP(source_extents_free) struct source_extents written = VEC_EMPTY;
    uint64_t size = 0;
    bool begun = has_begun(instance, served->name);

    if (provider->overlay_extents(provider, &view, disk, &written, &size, cancel, err) < 0
        || (!begun && keep_changes(instance, disk, &written, size, err) < 0))
        return -1;
    CRASH_POINT("stream.kept");
    if (overlay_reserve(served->overlay, room_needed(served, size, source_extents_bytes(&written)),
                        err)
        < 0)
        return err_wrap(err, "disk %s", served->name);
    if (!begun && write_state(instance, served->name, "begun", err) < 0)
        return -1;
    CRASH_POINT("stream.begun");
    if (provider->stream_begin(provider, &view, disk, rate_per_s, cancel, err) < 0)
        return -1;
    log_info("sites", "streaming machine=%s run=%s disk=%s size=%" PRIu64 " written=%" PRIu64,
             instance->name, instance->run, served->name, size, source_extents_bytes(&written));
    CRASH_POINT("stream.started");
    return 0;
}

static int finish(struct estate *estate, struct site_instance *instance, size_t disk,
                  struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    struct provider_served_disk *served = &instance->served.at[disk];

    if (provider->stream_settle(provider, &view, disk, cancel, err) < 0)
        return -1;
    CRASH_POINT("stream.settled");
    if (write_state(instance, served->name, "own", err) < 0)
        return -1;
    served->own = true;
    CRASH_POINT("stream.own");
    log_info("sites", "streamed machine=%s run=%s disk=%s", instance->name, instance->run,
             served->name);
    return provider->unserve(provider, &view, cancel, err);
}

struct progress {
    size_t disk;
    bool started; /* by this call: with its rate */
    uint64_t done;
    unsigned tries;
};

static int failed(struct estate *estate, const struct site_instance *instance,
                  const struct provider_stream *now, struct progress *progress,
                  struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    const struct provider_served_disk *served = &instance->served.at[progress->disk];
    uint64_t free_bytes = 0;
    char free_text[32], left[32];
    uint32_t repaired;

    if (now->no_space) {
        struct err unknown = ERR_EMPTY;

        if (provider->stream_stop(provider, &view, cancel, err) < 0
            || fs_free_bytes(served->overlay, &free_bytes, &unknown) < 0)
            err_clear(&unknown);
        return err_set(err, ERR_SPACE, 0,
                       "disk %s: %s is full (%s free) with at most %s of the disk still to copy; "
                       "hint: make room there and ask again: it goes on where it is",
                       served->name, served->overlay,
                       str_bytes(free_bytes, free_text, sizeof(free_text)),
                       str_bytes(now->total - now->done, left, sizeof(left)));
    }
    if (now->done > progress->done)
        progress->tries = 0;
    progress->done = now->done;
    if (++progress->tries > TRIES)
        return err_set(err, ERR_IO, 0,
                       "disk %s: its point could not be read to the end; hint: the log of its "
                       "server is %s/nbd-%s.log",
                       served->name, instance->dir, served->name);
    progress->started = false; /* begun again below */
    return provider->repair(provider, &view, &repaired, cancel, err);
}

/* One look, under the machine's lock. */
static int step(struct estate *estate, struct site_instance *instance, struct progress *progress,
                uint64_t rate_per_s, struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct provider_instance view = site_instance_view(instance);
    struct provider_stream now;

    while (progress->disk < instance->served.len) {
        if (instance->served.at[progress->disk].own) {
            *progress = (struct progress){.disk = progress->disk + 1};
            continue;
        }
        if (provider->stream_look(provider, &view, progress->disk, &now, cancel, err) < 0)
            return -1;
        if (now.own || now.copied) {
            if (finish(estate, instance, progress->disk, cancel, err) < 0)
                return -1;
            continue;
        }
        if (now.failed && failed(estate, instance, &now, progress, cancel, err) < 0)
            return -1;
        if (progress->started && now.there)
            return 0;
        if (progress->started)
            return err_set(err, ERR_CANCELLED, 0, "the streaming of disk %s was ended",
                           instance->served.at[progress->disk].name);
        progress->started = true;
        return begin(estate, instance, progress->disk, rate_per_s, cancel, err);
    }
    return provider->unserve(provider, &view, cancel, err);
}

/* --- The asks -------------------------------------------------------------------------------- */

struct asked {
    const char *run;
    const char *machine;
    char lock[NAME_MAX_BYTES * 2];
};

static int asked_get(const json_t *args, struct asked *ret_asked, struct err *err)
{
    if (json_need_str(args, "run", "ask", &ret_asked->run, err) < 0
        || json_need_str(args, "machine", "ask", &ret_asked->machine, err) < 0)
        return -1;
    (void)snprintf(ret_asked->lock, sizeof(ret_asked->lock), "%s-%s", ret_asked->run,
                   ret_asked->machine);
    return 0;
}

/* 1: all its disks are its own. */
static int locked_step(struct estate *estate, const struct asked *asked, struct progress *progress,
                       uint64_t rate_per_s, struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};

    machine_init(&instance.machine);
    estate_machine_lock(estate, asked->lock);
    int rc = site_instance_load(estate, asked->run, asked->machine, &instance, err);
    if (rc == 0 && instance.test)
        rc = err_set(err, ERR_INVALID, 0, "run %s is a test: its disks go with it", asked->run);
    if (rc == 0)
        rc = step(estate, &instance, progress, rate_per_s, cancel, err);
    estate_machine_unlock(estate, asked->lock);
    return rc < 0 ? err_wrap(err, "machine %s", asked->machine)
                  : progress->disk >= instance.served.len;
}

int ask_instance_stream(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *looks = cancel_new(NULL, cancel, CANCEL_NEVER);
    uint64_t rate_per_s = json_get_u64(args, "rate", 0);
    struct progress progress = {0};
    struct asked asked;
    int rc;

    (void)ret_result;
    if (asked_get(args, &asked, err) < 0)
        return -1;
    while ((rc = locked_step(estate, &asked, &progress, rate_per_s, cancel, err)) == 0)
        if (cancel_sleep(looks, LOOK_MS, err) < 0)
            return err_wrap(err, "machine %s: wait for its disks; the work goes on", asked.machine);
    return rc < 0 ? -1 : 0;
}

static int try_stop(struct estate *estate, const struct asked *asked, struct cancel *cancel,
                    struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(estate_clock(estate), cancel, STOP_MS);
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};

    machine_init(&instance.machine);
    estate_machine_lock(estate, asked->lock);
    int rc = site_instance_load(estate, asked->run, asked->machine, &instance, err);
    if (rc == 0) {
        struct provider_instance view = site_instance_view(&instance);
        rc = provider->stream_stop(provider, &view, limit, err);
    }
    estate_machine_unlock(estate, asked->lock);
    return rc;
}

/* Tried for moments: what it waits for, a cut, may need a repair, and that the machine's lock. */
int ask_instance_stream_stop(struct estate *estate, const json_t *args, json_t **ret_result,
                             struct cancel *cancel, struct err *err)
{
    struct asked asked;

    (void)ret_result;
    if (asked_get(args, &asked, err) < 0)
        return -1;
    while (try_stop(estate, &asked, cancel, err) < 0) {
        if (err->code != ERR_TIMEOUT || cancel_left_ms(cancel) == 0)
            return -1;
        err_clear(err);
        if (cancel_sleep(cancel, LOOK_MS, err) < 0)
            return err_wrap(err, "machine %s: end its streams", asked.machine);
    }
    return 0;
}
