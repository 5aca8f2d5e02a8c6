// SPDX-License-Identifier: Apache-2.0
/* Each ask is a function over the world, under one lock. Asks that change something go through
 * `begin` and `end`: they count, fail on request, and are places where the process may be killed,
 * before the change and after it. */
#include "sites/site_sim.h"

#include "base/fault.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim {
    struct sim_world *world;
    struct clock *clock;
    pthread_mutex_t lock;
};

struct sim_site {
    struct site site;
    struct sim *sim;
    bool source;
};

/* One ask under way. */
struct ask {
    struct sim *sim;
    struct sim_world *world;
    const char *what;
    const json_t *args;
    const char *run;
    const char *object; /* machine or group, or the run when neither is named */
    json_t **ret_result;
};

typedef int sim_fn(struct ask *ask, struct err *err);

static void copy_name(char *to, const char *from)
{
    (void)snprintf(to, SIM_NAME_BYTES, "%s", from);
}

/* --- The world ------------------------------------------------------------------------------ */

struct sim_machine *sim_machine(struct sim_world *world, const char *name)
{
    for (size_t i = 0; i < SIM_MACHINES_MAX; i++)
        if (world->machines[i].name[0] && str_eq(world->machines[i].name, name))
            return &world->machines[i];
    return NULL;
}

void sim_machine_add(struct sim_world *world, const char *name, uint64_t point, int64_t cut_wall_ms)
{
    for (size_t i = 0; i < SIM_MACHINES_MAX; i++) {
        struct sim_machine *machine = &world->machines[i];
        if (machine->name[0])
            continue;
        copy_name(machine->name, name);
        machine->state = INSTANCE_RUNNING;
        machine->generation = 1;
        machine->durable_point = point;
        machine->applied_point = point;
        machine->durable_cut_ms = cut_wall_ms;
        return;
    }
    abort();
}

struct sim_instance *sim_instance(struct sim_world *world, const char *machine)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        if (world->instances[i].machine[0] && str_eq(world->instances[i].machine, machine))
            return &world->instances[i];
    return NULL;
}

void sim_fail(struct sim_world *world, const char *what, const char *object, unsigned times,
              enum err_code code)
{
    for (size_t i = 0; i < SIM_FAULTS_MAX; i++) {
        struct sim_fault *fault = &world->faults[i];
        if (fault->what[0])
            continue;
        (void)snprintf(fault->what, sizeof(fault->what), "%s", what);
        copy_name(fault->object, object);
        fault->times = times;
        fault->code = code;
        return;
    }
    abort();
}

static unsigned sum(const struct sim_world *world, const char *what, const char *object, bool done)
{
    unsigned total = 0;

    for (size_t i = 0; i < SIM_EFFECTS_MAX; i++) {
        const struct sim_effect *effect = &world->effects[i];
        if (str_eq(effect->what, what) && (!object || str_eq(effect->object, object)))
            total += done ? effect->done : effect->asked;
    }
    return total;
}

unsigned sim_asked(const struct sim_world *world, const char *what, const char *object)
{
    return sum(world, what, object, false);
}

unsigned sim_done(const struct sim_world *world, const char *what, const char *object)
{
    return sum(world, what, object, true);
}

/* --- Counting, failing, crashing ------------------------------------------------------------ */

static struct sim_effect *effect_of(struct ask *ask)
{
    for (size_t i = 0; i < SIM_EFFECTS_MAX; i++) {
        struct sim_effect *effect = &ask->world->effects[i];
        if (!effect->what[0]) {
            (void)snprintf(effect->what, sizeof(effect->what), "%s", ask->what);
            copy_name(effect->object, ask->object);
            copy_name(effect->run, ask->run);
        }
        if (str_eq(effect->what, ask->what) && str_eq(effect->object, ask->object)
            && str_eq(effect->run, ask->run))
            return effect;
    }
    abort();
}

static int fault_of(struct ask *ask, bool after, struct err *err)
{
    for (size_t i = 0; i < SIM_FAULTS_MAX; i++) {
        struct sim_fault *fault = &ask->world->faults[i];
        if (!str_eq(fault->what, ask->what) || fault->after != after || fault->times == 0
            || (fault->object[0] && !str_eq(fault->object, ask->object)))
            continue;
        if (fault->skip > 0) {
            fault->skip--;
            continue;
        }
        fault->times--;
        return err_set(err, fault->code, 0, "%s of %s fails, as the test wants", ask->what,
                       ask->object);
    }
    return 0;
}

static int begin(struct ask *ask, struct err *err)
{
    if (fault_of(ask, false, err) < 0)
        return -1;
    effect_of(ask)->asked++;
    CRASH_POINT("sim.before");
    return 0;
}

static int end(struct ask *ask, bool changed, struct err *err)
{
    if (changed)
        effect_of(ask)->done++;
    CRASH_POINT("sim.after");
    return fault_of(ask, true, err);
}

/* --- Finding what an ask is about ------------------------------------------------------------ */

static struct sim_machine *need_machine(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_machine(ask->world, ask->object);

    if (!machine)
        (void)err_set(err, ERR_NOT_FOUND, 0, "no machine \"%s\"", ask->object);
    return machine;
}

static struct sim_instance *find_instance(struct ask *ask)
{
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        struct sim_instance *instance = &ask->world->instances[i];
        if (instance->machine[0] && str_eq(instance->machine, ask->object)
            && str_eq(instance->run, ask->run))
            return instance;
    }
    return NULL;
}

static struct sim_pin *find_pin(struct sim_machine *machine, const char *label)
{
    for (size_t i = 0; i < SIM_PINS_MAX; i++)
        if (machine->pins[i].point && str_eq(machine->pins[i].label, label))
            return &machine->pins[i];
    return NULL;
}

static bool is_sending(const struct ask *ask, const struct sim_machine *machine)
{
    return !ask->world->unreachable && !machine->held[0] && !machine->retired
           && machine->generation == 1 && machine->interval_ms > 0;
}

/* Points that came since the last look. */
static void replicate(struct ask *ask)
{
    int64_t now = ask->sim->clock->wall_ms(ask->sim->clock);

    for (size_t i = 0; i < SIM_MACHINES_MAX; i++) {
        struct sim_machine *machine = &ask->world->machines[i];
        while (machine->name[0] && is_sending(ask, machine)
               && machine->durable_cut_ms + machine->interval_ms <= now) {
            machine->durable_cut_ms += machine->interval_ms;
            machine->applied_point = ++machine->durable_point;
        }
    }
}

/* --- The source ------------------------------------------------------------------------------ */

static int machine_observe(struct ask *ask, struct err *err)
{
    const struct sim_machine *machine = need_machine(ask, err);

    if (!machine || fault_of(ask, false, err) < 0)
        return -1;
    *ask->ret_result = json_pack("{s:s}", "state", instance_state_name(machine->state));
    return 0;
}

static int set_state(struct ask *ask, enum instance_state state, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);

    if (!machine || begin(ask, err) < 0)
        return -1;
    bool changed = machine->state != state;
    if (state == INSTANCE_SHUTDOWN && machine->state == INSTANCE_OFF)
        changed = false;
    else
        machine->state = state;
    return end(ask, changed, err);
}

static int machine_shutdown(struct ask *ask, struct err *err)
{
    return set_state(ask, INSTANCE_SHUTDOWN, err);
}

static int machine_start(struct ask *ask, struct err *err)
{
    const struct sim_machine *machine = need_machine(ask, err);

    if (!machine)
        return -1;
    if (machine->retired)
        return err_set(err, ERR_FENCED, 0, "%s was failed over", machine->name);
    return set_state(ask, INSTANCE_RUNNING, err);
}

static int machine_stop(struct ask *ask, struct err *err)
{
    return set_state(ask, INSTANCE_OFF, err);
}

static int group_hold(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);

    if (!machine || begin(ask, err) < 0)
        return -1;
    if (machine->held[0] && !str_eq(machine->held, ask->run))
        return err_set(err, ERR_STATE, 0, "%s is held for %s", machine->name, machine->held);
    bool changed = !machine->held[0];
    copy_name(machine->held, ask->run);
    return end(ask, changed, err);
}

static int group_release(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);

    if (!machine || begin(ask, err) < 0)
        return -1;
    if (machine->retired)
        return err_set(err, ERR_FENCED, 0, "%s was failed over", machine->name);
    bool changed = machine->held[0] && str_eq(machine->held, ask->run);
    if (changed) {
        machine->held[0] = '\0';
        machine->final_point = 0;
    }
    return end(ask, changed, err);
}

static int group_final_sync(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);

    if (!machine || begin(ask, err) < 0)
        return -1;
    if (machine->state != INSTANCE_SHUTDOWN && machine->state != INSTANCE_OFF)
        return err_set(err, ERR_STATE, 0, "%s still writes", machine->name);
    bool changed = machine->final_point == 0;
    if (changed) {
        machine->final_point = machine->applied_point = ++machine->durable_point;
        machine->durable_cut_ms = ask->sim->clock->wall_ms(ask->sim->clock);
        copy_name(machine->held, ask->run);
    }
    *ask->ret_result = json_pack("{s:I}", "point", (json_int_t)machine->final_point);
    return end(ask, changed, err);
}

static int group_retire(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);
    uint64_t generation = json_get_u64(ask->args, "generation", 0);

    if (!machine || begin(ask, err) < 0)
        return -1;
    bool changed = machine->retired < generation;
    if (changed)
        machine->retired = generation;
    machine->state = INSTANCE_OFF;
    return end(ask, changed, err);
}

static int source_observe(struct ask *ask, struct err *err)
{
    const struct sim_machine *machine = need_machine(ask, err);

    if (!machine || fault_of(ask, false, err) < 0)
        return -1;
    *ask->ret_result =
        json_pack("{s:s, s:s, s:I, s:s, s:I, s:I}", "role", "source", "state",
                  machine->held[0] ? "paused" : "protected", "generation", (json_int_t)1, "held",
                  machine->held, "final_point", (json_int_t)machine->final_point, "retired",
                  (json_int_t)machine->retired);
    return 0;
}

/* --- The replica ----------------------------------------------------------------------------- */

static int replica_observe(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);

    if (!machine || fault_of(ask, false, err) < 0)
        return -1;
    const struct sim_pin *pin = find_pin(machine, ask->run);
    int64_t age = ask->sim->clock->wall_ms(ask->sim->clock) - machine->durable_cut_ms;
    *ask->ret_result =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "role", "replica", "state",
                  "ready", "generation", (json_int_t)machine->generation, "durable_point",
                  (json_int_t)machine->durable_point, "durable_cut_ms",
                  (json_int_t)machine->durable_cut_ms, "durable_age_ms", (json_int_t)age,
                  "applied_point", (json_int_t)machine->applied_point, "applied_cut_ms",
                  (json_int_t)machine->durable_cut_ms, "applied_age_ms", (json_int_t)age, "pinned",
                  pin ? json_pack("{s:I, s:I}", "point", (json_int_t)pin->point, "cut_ms",
                                  (json_int_t)machine->durable_cut_ms)
                      : json_null());
    uint64_t asked = json_get_u64(ask->args, "point", 0);
    if (asked && asked <= machine->durable_point)
        (void)json_object_set_new(
            *ask->ret_result, "asked_age_ms",
            json_integer(age + (int64_t)(machine->durable_point - asked) * machine->interval_ms));
    return 0;
}

static int group_pin(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);
    uint64_t wanted = json_get_u64(ask->args, "point", 0);

    if (!machine || begin(ask, err) < 0)
        return -1;
    if (wanted > machine->durable_point)
        return err_set(err, ERR_NOT_FOUND, 0, "%s has no point %llu", machine->name,
                       (unsigned long long)wanted);
    struct sim_pin *pin = find_pin(machine, ask->run);
    bool changed = !pin;
    for (size_t i = 0; !pin && i < SIM_PINS_MAX; i++)
        if (machine->pins[i].point == 0)
            pin = &machine->pins[i];
    if (!pin)
        return err_set(err, ERR_LIMIT, 0, "too many pins");
    if (changed) {
        copy_name(pin->label, ask->run);
        pin->point = wanted ? wanted : machine->applied_point;
    }
    *ask->ret_result = json_pack("{s:I, s:I}", "point", (json_int_t)pin->point, "cut_ms",
                                 (json_int_t)machine->durable_cut_ms);
    return end(ask, changed, err);
}

static int group_unpin(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);

    if (!machine || begin(ask, err) < 0)
        return -1;
    struct sim_pin *pin = find_pin(machine, ask->run);
    bool changed = pin != NULL;
    if (pin)
        memset(pin, 0, sizeof(*pin));
    return end(ask, changed, err);
}

static int group_promote(struct ask *ask, struct err *err)
{
    struct sim_machine *machine = need_machine(ask, err);
    uint64_t wanted = json_get_u64(ask->args, "point", 0);

    if (!machine || begin(ask, err) < 0)
        return -1;
    bool again = str_eq(machine->token, ask->run);
    if (!again && machine->generation != json_get_u64(ask->args, "expected", 0))
        return err_set(err, ERR_FENCED, 0, "%s is at generation %llu", machine->name,
                       (unsigned long long)machine->generation);
    if (!again) {
        machine->generation++;
        machine->promoted_point = wanted ? wanted : machine->durable_point;
        machine->durable_point++;
        copy_name(machine->token, ask->run);
    }
    *ask->ret_result = json_pack("{s:I, s:I}", "generation", (json_int_t)machine->generation,
                                 "point", (json_int_t)machine->promoted_point);
    return end(ask, !again, err);
}

/* --- Networks and instances ------------------------------------------------------------------ */

static char *find_net(struct ask *ask, const char *run)
{
    for (size_t i = 0; i < SIM_NETS_MAX; i++)
        if (str_eq(ask->world->nets[i], run))
            return ask->world->nets[i];
    return NULL;
}

static int net_create(struct ask *ask, struct err *err)
{
    if (begin(ask, err) < 0)
        return -1;
    bool changed = !find_net(ask, ask->run);
    char *net = changed ? find_net(ask, "") : NULL;
    if (changed && !net)
        return err_set(err, ERR_LIMIT, 0, "too many networks");
    if (net)
        copy_name(net, ask->run);
    *ask->ret_result = json_pack("{s:s}", "netns", ask->run);
    return end(ask, changed, err);
}

static int net_observe(struct ask *ask, struct err *err)
{
    bool there = find_net(ask, ask->run) != NULL;

    if (fault_of(ask, false, err) < 0)
        return -1;
    *ask->ret_result =
        json_pack("{s:s, s:b, s:b}", "netns", ask->run, "exists", there, "complete", there);
    return 0;
}

static int net_remove(struct ask *ask, struct err *err)
{
    if (begin(ask, err) < 0)
        return -1;
    char *net = find_net(ask, ask->run);
    bool changed = net != NULL;
    if (net)
        net[0] = '\0';
    return end(ask, changed, err);
}

static int instance_start(struct ask *ask, struct err *err)
{
    bool test = json_get_bool(ask->args, "test", true);
    struct sim_machine *machine = need_machine(ask, err);

    if (!machine || begin(ask, err) < 0)
        return -1;
    if (test && !find_net(ask, ask->run))
        return err_set(err, ERR_STATE, 0, "no test network for %s", ask->run);
    if (!find_pin(machine, ask->run))
        return err_set(err, ERR_STATE, 0, "no point of %s is kept for %s", machine->name, ask->run);
    struct sim_instance *instance = find_instance(ask);
    for (size_t i = 0; !instance && i < SIM_INSTANCES_MAX; i++)
        if (!ask->world->instances[i].machine[0])
            instance = &ask->world->instances[i];
    if (!instance)
        return err_set(err, ERR_LIMIT, 0, "too many instances");
    bool changed = !instance->machine[0] || instance->state != INSTANCE_RUNNING;
    copy_name(instance->machine, ask->object);
    copy_name(instance->run, ask->run);
    instance->test = test;
    instance->point = json_get_u64(ask->args, "point", 0);
    if (changed)
        instance->up_ms = ask->sim->clock->now_ms(ask->sim->clock) + ask->world->boot_ms;
    instance->state = INSTANCE_RUNNING;
    return end(ask, changed, err);
}

static int instance_observe(struct ask *ask, struct err *err)
{
    const struct sim_instance *instance = find_instance(ask);
    enum instance_state state = instance ? instance->state : INSTANCE_OFF;

    if (fault_of(ask, false, err) < 0)
        return -1;
    *ask->ret_result =
        json_pack("{s:s, s:b}", "state", instance_state_name(state), "exists", instance != NULL);
    return 0;
}

static int instance_remove(struct ask *ask, struct err *err)
{
    if (begin(ask, err) < 0)
        return -1;
    struct sim_instance *instance = find_instance(ask);
    bool changed = instance != NULL;
    if (instance)
        memset(instance, 0, sizeof(*instance));
    return end(ask, changed, err);
}

static void add_left(json_t *left, const char *what, const char *name)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %s", what, name);

    (void)json_array_append_new(left, json_string(text));
}

static int leftovers(struct ask *ask, struct err *err)
{
    json_t *left = json_array();

    (void)err;
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        if (ask->world->instances[i].machine[0] && str_eq(ask->world->instances[i].run, ask->run))
            add_left(left, "machine", ask->world->instances[i].machine);
    for (size_t i = 0; i < SIM_MACHINES_MAX; i++)
        if (find_pin(&ask->world->machines[i], ask->run))
            add_left(left, "kept point of", ask->world->machines[i].name);
    if (find_net(ask, ask->run))
        add_left(left, "network", ask->run);
    if (ask->world->leftover[0])
        add_left(left, "file", ask->world->leftover);
    *ask->ret_result = json_pack("{s:o}", "left", left);
    return 0;
}

/* All three probes: a machine answers when it is up, a bare address always. */
static int probe(struct ask *ask, struct err *err)
{
    const struct sim_instance *instance = find_instance(ask);

    if (fault_of(ask, false, err) < 0)
        return -1;
    if (!instance && *ask->object)
        return err_set(err, ERR_NOT_FOUND, 0, "%s was not started by %s", ask->object, ask->run);
    bool up = !instance
              || (instance->state == INSTANCE_RUNNING
                  && ask->sim->clock->now_ms(ask->sim->clock) >= instance->up_ms);
    *ask->ret_result = json_pack("{s:b}", "answer", up);
    return 0;
}

/* --- The door -------------------------------------------------------------------------------- */

static const struct {
    const char *what;
    sim_fn *source;
    sim_fn *recovery;
} table[] = {
    {"machine.observe", machine_observe, NULL},
    {"machine.shutdown", machine_shutdown, NULL},
    {"machine.start", machine_start, NULL},
    {"machine.stop", machine_stop, NULL},
    {"group.final-sync", group_final_sync, NULL},
    {"group.hold", group_hold, NULL},
    {"group.release", group_release, NULL},
    {"group.retire", group_retire, NULL},
    {"group.observe", source_observe, replica_observe},
    {"group.pin", NULL, group_pin},
    {"group.unpin", NULL, group_unpin},
    {"group.promote", NULL, group_promote},
    {"net.create", NULL, net_create},
    {"net.observe", NULL, net_observe},
    {"net.remove", NULL, net_remove},
    {"instance.start", NULL, instance_start},
    {"instance.observe", NULL, instance_observe},
    {"instance.remove", NULL, instance_remove},
    {"instance.leftovers", NULL, leftovers},
    {"probe.tcp", NULL, probe},
    {"probe.agent", NULL, probe},
    {"probe.console", NULL, probe},
};

static int sim_ask(struct site *site, const char *what, const json_t *args, json_t **ret_result,
                   struct cancel *cancel, struct err *err)
{
    struct sim_site *self = (struct sim_site *)site;
    struct sim *sim = self->sim;
    const char *run = json_get_str(args, "run", "");
    struct ask ask = {sim,       sim->world,
                      what,      args,
                      run,       json_get_str(args, "machine", json_get_str(args, "group", run)),
                      ret_result};
    sim_fn *fn = NULL;

    (void)cancel;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_eq(table[i].what, what))
            fn = self->source ? table[i].source : table[i].recovery;
    if (!fn)
        return err_set(err, ERR_DENIED, 0, "%s does not do \"%s\"", site->name, what);
    (void)pthread_mutex_lock(&sim->lock);
    int rc = -1;
    if (self->source && sim->world->unreachable) {
        (void)err_set(err, ERR_NET, 0, "%s cannot be reached", site->name);
    } else {
        replicate(&ask);
        rc = fn(&ask, err);
    }
    (void)pthread_mutex_unlock(&sim->lock);
    if (rc < 0 && *ret_result) {
        json_decref(*ret_result);
        *ret_result = NULL;
    }
    return rc;
}

static void sim_close(struct site *site)
{
    free(site);
}

static struct site *new_site(struct sim *sim, const char *name, bool source)
{
    static const struct site_ops ops = {sim_ask, sim_close};
    struct sim_site *self = mem_new(struct sim_site);

    self->site.ops = &ops;
    copy_name(self->site.name, name);
    self->sim = sim;
    self->source = source;
    return &self->site;
}

struct site *sim_site_source(struct sim *sim, const char *name)
{
    return new_site(sim, name, true);
}

struct site *sim_site_recovery(struct sim *sim, const char *name)
{
    return new_site(sim, name, false);
}

struct sim *sim_new(struct sim_world *world, struct clock *clock)
{
    struct sim *sim = mem_new(struct sim);

    sim->world = world;
    sim->clock = clock;
    if (pthread_mutex_init(&sim->lock, NULL) != 0)
        abort();
    return sim;
}

void sim_free(struct sim *sim)
{
    if (!sim)
        return;
    (void)pthread_mutex_destroy(&sim->lock);
    free(sim);
}
