// SPDX-License-Identifier: Apache-2.0
/* Once a second: a served disk whose server died is served again and its machine continued; a
 * machine of ours that ended by itself is told of, once. One look at a time: a slow one delays the
 * next. */
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

#define EVERY_MS   1000
#define OBSERVE_MS 5000

struct look {
    struct pool_job base; /* first */
    struct daemon *daemon;
    json_t *states; /* machine -> state's name, of those that are wanted running */
    uint32_t repaired;
    struct err err;
};

static void observe(struct look *look, const char *name)
{
    struct estate *estate = look->daemon->estate;
    struct provider *provider = estate_provider(estate);
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(mem_freep) char *run_dir = estate_machine_dir(estate, name);
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(look->daemon->clock, look->base.cancel, OBSERVE_MS);
    enum instance_state state = INSTANCE_OFF;
    struct err err = ERR_EMPTY;

    machine_init(&machine);
    if (estate_machine_get(estate, name, &machine, &err) < 0)
        return;
    const struct provider_instance instance = {
        .machine = &machine, .run_dir = run_dir, .netns = ""};
    estate_machine_lock(estate, name);
    int rc = provider->observe(provider, &instance, &state, cancel, &err);
    estate_machine_unlock(estate, name);
    if (rc == 0)
        (void)json_object_set_new(look->states, name, json_string(instance_state_name(state)));
}

static void run(struct pool_job *base)
{
    struct look *look = (struct look *)base;
    const char *name;
    json_t *value;

    struct err why = ERR_EMPTY;

    if (estate_repair(look->daemon->estate, &look->repaired, base->cancel, &why) < 0)
        look->err = why;
    json_object_foreach(look->states, name, value)
        observe(look, name);
}

/* Says what became of a machine only when it changed, and only what nobody asked for. */
static void tell(struct daemon *daemon, const char *name, const char *before, const char *now)
{
    const char *off = instance_state_name(INSTANCE_OFF);
    const char *stuck = instance_state_name(INSTANCE_IO_ERROR);

    if (str_eq(before, now))
        return;
    if (str_eq(now, off) && *before)
        log_warn("daemon", "machine ended by itself machine=%s was=%s", name, before);
    else if (str_eq(now, stuck))
        log_warn("daemon", "machine stopped by an error of its disk machine=%s", name);
    else if (str_eq(before, stuck) || str_eq(before, off))
        log_info("daemon", "machine is back machine=%s state=%s", name, now);
    if (daemon->api)
        api_changed(daemon->api);
}

static void tell_repair(struct daemon *daemon, const struct err *err)
{
    if (err->code != ERR_NONE && !str_eq(daemon->repair_said, err->text))
        log_warn("daemon", "repair error=\"%s\"", err->text);
    free(daemon->repair_said);
    daemon->repair_said = err->code != ERR_NONE ? mem_strdup(err->text) : NULL;
}

static void schedule(void *ctx);

static void done(struct pool_job *base)
{
    struct look *look = (struct look *)base;
    struct daemon *daemon = look->daemon;
    const char *name;
    json_t *value;

    json_object_foreach(look->states, name, value)
        tell(daemon, name, json_get_str(daemon->seen, name, ""), json_string_value(value));
    json_decref(daemon->seen);
    daemon->seen = look->states;
    if (look->repaired > 0)
        log_info("daemon", "served disks repaired count=%u", look->repaired);
    tell_repair(daemon, &look->err);
    cancel_free(base->cancel);
    free(look);
    if (!cancel_is_fired(daemon->stop))
        (void)loop_timer(daemon->loop, EVERY_MS, schedule, daemon);
}

/* A failover stops the machine here; that is no news. */
static bool is_moving(struct daemon *daemon, const char *machine)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    return state_protection_of(daemon->state, machine, &row, NULL) == 0
           && (str_starts(row.state, "failing") || str_starts(row.state, "failed-over"));
}

static void schedule(void *ctx)
{
    struct daemon *daemon = ctx;
    CLEANUP(state_machines_done) struct state_machines machines = VEC_EMPTY;
    struct err err = ERR_EMPTY;
    struct look *look = mem_new(struct look);

    look->base = (struct pool_job){.run = run, .done = done};
    look->base.cancel = cancel_new(daemon->clock, daemon->stop, CANCEL_NEVER);
    look->daemon = daemon;
    look->states = json_object();
    if (state_machine_list(daemon->state, &machines, &err) < 0)
        log_error("daemon", "watch error=\"%s\"", err.text);
    VEC_FOREACH(row, &machines)
        if (row->wanted_running && !is_moving(daemon, row->name))
            (void)json_object_set_new(look->states, row->name, json_string(""));
    pool_submit(daemon->pool, &look->base);
}

void daemon_watch(struct daemon *daemon)
{
    daemon->seen = json_object();
    schedule(daemon);
}
