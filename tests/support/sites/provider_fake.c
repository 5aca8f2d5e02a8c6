// SPDX-License-Identifier: Apache-2.0
#include "support/sites/provider_fake.h"

#include "base/fs.h"
#include "base/str.h"
#include "block/overlay.h"
#include "block/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_machine *at(struct provider_fake *fake, const char *run_dir)
{
    struct fake_machine *free_place = NULL;

    for (size_t i = FAKE_MACHINES_MAX; i-- > 0;) {
        struct fake_machine *machine = &fake->machines[i];
        if (str_eq(machine->run_dir, run_dir))
            return machine;
        if (!machine->run_dir[0])
            free_place = machine;
    }
    if (!free_place)
        abort();
    (void)snprintf(free_place->run_dir, sizeof(free_place->run_dir), "%s", run_dir);
    return free_place;
}

static int refuse(struct provider_fake *fake, const char *what, struct err *err)
{
    enum err_code code = fake->fail;

    fake->fail = ERR_NONE;
    return code ? err_set(err, code, 0, "%s fails, as the test wants", what) : 0;
}

/* Runs `fn` under the lock. */
typedef int fake_fn(struct provider_fake *fake, struct fake_machine *machine,
                    const struct provider_instance *instance, void *arg, struct err *err);

static int locked(struct provider *provider, const struct provider_instance *instance, fake_fn *fn,
                  void *arg, struct err *err)
{
    struct provider_fake *fake = (struct provider_fake *)provider;

    (void)pthread_mutex_lock(&fake->lock);
    int rc = fn(fake, at(fake, instance->run_dir), instance, arg, err);
    (void)pthread_mutex_unlock(&fake->lock);
    return rc;
}

static int do_start(struct provider_fake *fake, struct fake_machine *machine,
                    const struct provider_instance *instance, void *arg, struct err *err)
{
    const bool *paused = arg;

    if (refuse(fake, "start", err) < 0)
        return -1;
    machine->starts++;
    if (machine->state == INSTANCE_OFF)
        machine->tracked = machine->marked = 0;
    machine->state = *paused ? INSTANCE_PAUSED : INSTANCE_RUNNING;
    machine->ran_untracked = machine->ran_untracked || (!*paused && !machine->tracked);
    machine->isolated = instance->isolated;
    (void)snprintf(machine->netns, sizeof(machine->netns), "%s", instance->netns);
    if (instance->machine->nics.len > 0)
        (void)snprintf(machine->network, sizeof(machine->network), "%s",
                       instance->machine->nics.at[0].network);
    if (instance->served && instance->served->len > 0) {
        machine->point = instance->served->at[0].point;
        (void)snprintf(machine->replica_disk, sizeof(machine->replica_disk), "%s",
                       instance->served->at[0].replica_disk);
        machine->servers = instance->served->at[0].own ? 0 : 1;
        (void)snprintf(machine->overlay, sizeof(machine->overlay), "%s",
                       instance->served->at[0].overlay);
    }
    return 0;
}

static int fake_start(struct provider *provider, const struct provider_instance *instance,
                      bool paused, struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return locked(provider, instance, do_start, &paused, err);
}

static int do_set(struct provider_fake *fake, struct fake_machine *machine,
                  const struct provider_instance *instance, void *arg, struct err *err)
{
    const enum instance_state *state = arg;

    (void)instance;
    if (*state == INSTANCE_OFF && refuse(fake, "stop", err) < 0)
        return -1;
    if (*state == INSTANCE_OFF && machine->state != INSTANCE_OFF)
        machine->stops++;
    if (*state == INSTANCE_OFF) {
        machine->tracked = machine->marked = 0;
        machine->streaming = false;
        machine->servers = 0;
    }
    if (*state == INSTANCE_RUNNING && !machine->tracked)
        machine->ran_untracked = true;
    machine->state = *state;
    return 0;
}

static int fake_resume(struct provider *provider, const struct provider_instance *instance,
                       struct cancel *cancel, struct err *err)
{
    enum instance_state state = INSTANCE_RUNNING;

    (void)cancel;
    return locked(provider, instance, do_set, &state, err);
}

static int do_pause(struct provider_fake *fake, struct fake_machine *machine,
                    const struct provider_instance *instance, void *arg, struct err *err)
{
    (void)instance;
    (void)arg;
    if (refuse(fake, "pause", err) < 0)
        return -1;
    if (machine->state == INSTANCE_RUNNING || machine->state == INSTANCE_IO_ERROR)
        machine->state = INSTANCE_PAUSED;
    return 0;
}

static int fake_pause(struct provider *provider, const struct provider_instance *instance,
                      struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return locked(provider, instance, do_pause, NULL, err);
}

static int do_shutdown(struct provider_fake *fake, struct fake_machine *machine,
                       const struct provider_instance *instance, void *arg, struct err *err)
{
    fake->shutdowns++;
    if (fake->stubborn)
        return err_set(err, ERR_TIMEOUT, 0, "machine %s: its guest did not shut down",
                       instance->machine->name);
    return do_set(fake, machine, instance, arg, err);
}

static int fake_shutdown(struct provider *provider, const struct provider_instance *instance,
                         struct cancel *cancel, struct err *err)
{
    enum instance_state state = INSTANCE_SHUTDOWN;

    (void)cancel;
    return locked(provider, instance, do_shutdown, &state, err);
}

static int fake_stop(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err)
{
    enum instance_state state = INSTANCE_OFF;

    (void)cancel;
    return locked(provider, instance, do_set, &state, err);
}

static int do_observe(struct provider_fake *fake, struct fake_machine *machine,
                      const struct provider_instance *instance, void *arg, struct err *err)
{
    (void)fake;
    (void)instance;
    (void)err;
    *(enum instance_state *)arg = machine->state;
    return 0;
}

static int fake_observe(struct provider *provider, const struct provider_instance *instance,
                        enum instance_state *ret_state, struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return locked(provider, instance, do_observe, ret_state, err);
}

static int fake_check(struct provider *provider, const struct machine *machine,
                      struct str *ret_problems, struct err *err)
{
    (void)provider;
    (void)machine;
    (void)err;
    str_clear(ret_problems);
    return 0;
}

static int fake_repair(struct provider *provider, const struct provider_instance *instance,
                       uint32_t *ret_repaired, struct cancel *cancel, struct err *err)
{
    struct provider_fake *fake = (struct provider_fake *)provider;
    enum instance_state state;

    (void)cancel;
    *ret_repaired = 0;
    if (locked(provider, instance, do_observe, &state, err) < 0)
        return -1;
    if (state != INSTANCE_IO_ERROR)
        return 0;
    state = INSTANCE_RUNNING;
    *ret_repaired = 1;
    fake->repairs++;
    return locked(provider, instance, do_set, &state, err);
}

static int fake_agent(struct provider *provider, const struct provider_instance *instance,
                      struct cancel *cancel, struct err *err)
{
    (void)instance;
    (void)cancel;
    (void)err;
    return ((struct provider_fake *)provider)->agent;
}

static int fake_console(struct provider *provider, const struct provider_instance *instance,
                        const char *text, struct err *err)
{
    const struct provider_fake *fake = (struct provider_fake *)provider;

    (void)instance;
    (void)err;
    return fake->console && strstr(fake->console, text) ? 1 : 0;
}

/* --- Tracking: a source that does that alone -------------------------------------------------- */

struct fake_source {
    struct source base;
    struct provider_fake *fake;
    struct fake_machine *machine;
    uint64_t generation;
};

static void source_done(struct source *source)
{
    free(source);
}

static int source_track(struct source *source, uint64_t serial, const struct source_marks *marks,
                        size_t count, struct cancel *cancel, struct err *err)
{
    struct fake_source *own = (struct fake_source *)source;

    (void)cancel;
    (void)pthread_mutex_lock(&own->fake->lock);
    int rc = own->fake->trackless ? err_set(err, ERR_IO, 0, "no map is opened in this test") : 0;
    if (rc == 0) {
        own->machine->tracked = serial;
        own->machine->marked = 0;
        own->machine->generation = own->generation;
        for (size_t i = 0; i < count; i++)
            own->machine->marked += source_extents_bytes(marks[i].extents);
    }
    (void)pthread_mutex_unlock(&own->fake->lock);
    return rc;
}

static int source_inspect(struct source *source, struct source_state *ret_state,
                          struct cancel *cancel, struct err *err)
{
    struct fake_source *own = (struct fake_source *)source;

    (void)cancel;
    (void)err;
    (void)pthread_mutex_lock(&own->fake->lock);
    *ret_state = (struct source_state){.running = true, .open = own->machine->tracked};
    (void)pthread_mutex_unlock(&own->fake->lock);
    return 0;
}

static int source_track_all(struct source *source, uint64_t serial, struct cancel *cancel,
                            struct err *err)
{
    return source_track(source, serial, NULL, 0, cancel, err);
}

static const struct source_ops fake_source_ops = {.close = source_done,
                                                  .inspect = source_inspect,
                                                  .track = source_track_all,
                                                  .track_from = source_track};

/* Only of a machine that lives; who reads a disk is in another test. */
static int fake_open_source(struct provider *provider, const struct provider_instance *instance,
                            const char *group, uint64_t generation, const char *work_dir,
                            struct source **ret_source, struct cancel *cancel, struct err *err)
{
    struct provider_fake *fake = (struct provider_fake *)provider;
    enum instance_state state;
    struct fake_source *source;

    (void)cancel;
    if (locked(provider, instance, do_observe, &state, err) < 0)
        return -1;
    if (state == INSTANCE_OFF)
        return err_set(err, ERR_UNSUPPORTED, 0, "%s: nothing is read in this test", group);
    source = calloc(1, sizeof(*source));
    if (!source)
        abort();
    source->base.ops = &fake_source_ops;
    source->fake = fake;
    source->generation = generation;
    (void)pthread_mutex_lock(&fake->lock);
    source->machine = at(fake, instance->run_dir);
    (void)snprintf(source->machine->work_dir, sizeof(source->machine->work_dir), "%s", work_dir);
    (void)pthread_mutex_unlock(&fake->lock);
    *ret_source = &source->base;
    return 0;
}

static int fake_tracked(struct provider *provider, const struct provider_instance *instance,
                        const char *group, uint64_t generation, uint64_t *ret_serial,
                        struct cancel *cancel, struct err *err)
{
    struct provider_fake *fake = (struct provider_fake *)provider;

    (void)group;
    (void)cancel;
    (void)err;
    (void)pthread_mutex_lock(&fake->lock);
    const struct fake_machine *machine = at(fake, instance->run_dir);
    *ret_serial = machine->generation == generation ? machine->tracked : 0;
    (void)pthread_mutex_unlock(&fake->lock);
    return 0;
}

/* The whole map is told as one piece of the first disk. */
static int fake_last_marks(struct provider *provider, const struct provider_instance *instance,
                           const char *group, uint64_t generation, uint64_t *ret_serial,
                           struct source_extents *ret_marks, struct cancel *cancel, struct err *err)
{
    struct provider_fake *fake = (struct provider_fake *)provider;

    if (fake_tracked(provider, instance, group, generation, ret_serial, cancel, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&fake->lock);
    struct fake_machine *machine = at(fake, instance->run_dir);
    if (machine->state == INSTANCE_RUNNING)
        machine->state = INSTANCE_PAUSED;
    if (*ret_serial && machine->marked)
        *source_extents_push(ret_marks) = (struct source_extent){0, machine->marked};
    (void)pthread_mutex_unlock(&fake->lock);
    return 0;
}

/* --- Streaming ---------------------------------------------------------------------------------- */

static int do_stream_look(struct provider_fake *fake, struct fake_machine *machine,
                          const struct provider_instance *instance, void *arg, struct err *err)
{
    struct provider_stream *now = arg;

    if (machine->state == INSTANCE_OFF)
        return err_set(err, ERR_STATE, 0, "machine %s is off", instance->machine->name);
    if (machine->streaming && fake->stream_failures == 0 && machine->streamed < FAKE_DISK_BYTES)
        machine->streamed += FAKE_DISK_BYTES / 4;
    bool all = machine->streamed >= FAKE_DISK_BYTES;
    *now = (struct provider_stream){.own = all && !machine->streaming,
                                    .there = machine->streaming,
                                    .copied = all && machine->streaming,
                                    .done = machine->streamed,
                                    .total = FAKE_DISK_BYTES};
    if (machine->streaming && !all && fake->stream_failures > 0) {
        fake->stream_failures--;
        now->failed = true;
        now->no_space = fake->stream_full;
    }
    return 0;
}

static int fake_stream_look(struct provider *provider, const struct provider_instance *instance,
                            size_t disk, struct provider_stream *ret_stream, struct cancel *cancel,
                            struct err *err)
{
    (void)disk;
    (void)cancel;
    return locked(provider, instance, do_stream_look, ret_stream, err);
}

static int do_stream_begin(struct provider_fake *fake, struct fake_machine *machine,
                           const struct provider_instance *instance, void *arg, struct err *err)
{
    (void)fake;
    (void)instance;
    (void)err;
    machine->rate = *(uint64_t *)arg;
    machine->streams += !machine->streaming;
    machine->streaming = true;
    return 0;
}

static int fake_stream_begin(struct provider *provider, const struct provider_instance *instance,
                             size_t disk, uint64_t rate_per_s, struct cancel *cancel,
                             struct err *err)
{
    (void)disk;
    (void)cancel;
    return locked(provider, instance, do_stream_begin, &rate_per_s, err);
}

static int do_stream_stop(struct provider_fake *fake, struct fake_machine *machine,
                          const struct provider_instance *instance, void *arg, struct err *err)
{
    (void)fake;
    (void)instance;
    (void)arg;
    (void)err;
    machine->streaming = false;
    return 0;
}

static int fake_stream_stop(struct provider *provider, const struct provider_instance *instance,
                            struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return locked(provider, instance, do_stream_stop, NULL, err);
}

static int do_stream_settle(struct provider_fake *fake, struct fake_machine *machine,
                            const struct provider_instance *instance, void *arg, struct err *err)
{
    (void)arg;
    if (machine->streamed < FAKE_DISK_BYTES)
        return err_set(err, ERR_STATE, 0, "machine %s still needs its point",
                       instance->machine->name);
    machine->streaming = false;
    if (fake->stream_holes)
        return err_set(err, ERR_CORRUPT, 0, "machine %s: it is not all there",
                       instance->machine->name);
    return 0;
}

static int fake_stream_settle(struct provider *provider, const struct provider_instance *instance,
                              size_t disk, struct cancel *cancel, struct err *err)
{
    (void)disk;
    (void)cancel;
    return locked(provider, instance, do_stream_settle, NULL, err);
}

/* What the test put there; else nothing was written, to a file that is made now. */
static int fake_overlay_extents(struct provider *provider, const struct provider_instance *instance,
                                size_t disk, struct source_extents *ret_extents, uint64_t *ret_size,
                                struct cancel *cancel, struct err *err)
{
    const char *path = instance->served->at[disk].overlay;

    (void)provider;
    (void)cancel;
    if (!fs_exists(path) && stage_make(path, FAKE_DISK_BYTES, 0, err) < 0)
        return -1;
    return overlay_allocated(path, ret_extents, ret_size, err);
}

static int do_unserve(struct provider_fake *fake, struct fake_machine *machine,
                      const struct provider_instance *instance, void *arg, struct err *err)
{
    (void)fake;
    (void)arg;
    (void)err;
    if (instance->served->at[0].own)
        machine->servers = 0;
    return 0;
}

static int fake_unserve(struct provider *provider, const struct provider_instance *instance,
                        struct cancel *cancel, struct err *err)
{
    (void)cancel;
    return locked(provider, instance, do_unserve, NULL, err);
}

static int fake_guest_network(struct provider *provider, const struct provider_instance *instance,
                              const char *mac, const json_t *wanted, json_t **ret_network,
                              struct cancel *cancel, struct err *err)
{
    struct provider_fake *fake = (struct provider_fake *)provider;

    (void)instance;
    (void)wanted;
    (void)cancel;
    (void)err;
    (void)snprintf(fake->guest_mac, sizeof(fake->guest_mac), "%s", mac);
    *ret_network = fake->guest ? json_deep_copy(fake->guest) : json_object();
    return 0;
}

static int fake_guest_assign(struct provider *provider, const struct provider_instance *instance,
                             const char *mac, const json_t *wanted, json_t **ret_network,
                             struct cancel *cancel, struct err *err)
{
    struct provider_fake *fake = (struct provider_fake *)provider;
    enum err_code fail = fake->guest_fail;
    const char *key;
    json_t *value;

    if (!fake->guest)
        fake->guest = json_object();
    fake->assignments++;
    json_object_foreach((json_t *)(uintptr_t)wanted, key, value) {
        if (!json_is_object(value)) {
            (void)json_object_set_new(fake->guest, key, json_deep_copy(value));
            continue;
        }
        if (!json_object_get(fake->guest, key))
            (void)json_object_set_new(fake->guest, key, json_object());
        (void)json_object_update(json_object_get(fake->guest, key), value);
    }
    fake->guest_fail = ERR_NONE;
    if (fail)
        return err_set(err, fail, 0, "the guest refuses, as the test wants");
    return fake_guest_network(provider, instance, mac, wanted, ret_network, cancel, err);
}

void provider_fake_init(struct provider_fake *fake)
{
    memset(fake, 0, sizeof(*fake));
    fake->provider = (struct provider){
        .name = "fake",
        .check = fake_check,
        .start = fake_start,
        .resume = fake_resume,
        .pause = fake_pause,
        .observe = fake_observe,
        .shutdown = fake_shutdown,
        .stop = fake_stop,
        .repair = fake_repair,
        .agent_answers = fake_agent,
        .guest_network = fake_guest_network,
        .guest_assign = fake_guest_assign,
        .console_has = fake_console,
        .open_source = fake_open_source,
        .tracked = fake_tracked,
        .last_marks = fake_last_marks,
        .stream_look = fake_stream_look,
        .stream_begin = fake_stream_begin,
        .stream_stop = fake_stream_stop,
        .stream_settle = fake_stream_settle,
        .overlay_extents = fake_overlay_extents,
        .unserve = fake_unserve,
    };
    if (pthread_mutex_init(&fake->lock, NULL) != 0)
        abort();
}

void provider_fake_done(struct provider_fake *fake)
{
    json_decref(fake->guest);
    (void)pthread_mutex_destroy(&fake->lock);
}

struct fake_machine *provider_fake_find(struct provider_fake *fake, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < FAKE_MACHINES_MAX; i++) {
        struct fake_machine *machine = &fake->machines[i];
        size_t have = strlen(machine->run_dir);
        if (have >= len && str_eq(machine->run_dir + have - len, name))
            return machine;
    }
    return NULL;
}
