// SPDX-License-Identifier: Apache-2.0
/* The simulated world, its counting of effects, and the door. Each ask is a function over the world
 * (site_sim_asks.c), under one lock. */
#include "sites/site_sim.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/str.h"
#include "sites/site_sim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sim_site {
    struct site site;
    struct sim *sim;
    bool source;
};

void sim_copy_name(char *to, const char *from)
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
        sim_copy_name(machine->name, name);
        sim_copy_name(machine->group, name);
        machine->state = INSTANCE_RUNNING;
        machine->generation = 1;
        machine->durable_point = point;
        machine->applied_point = point;
        machine->delivered = point;
        machine->durable_cut_ms = cut_wall_ms;
        return;
    }
    abort();
}

void sim_group_join(struct sim_world *world, const char *machine, const char *group)
{
    sim_copy_name(sim_machine(world, machine)->group, group);
}

struct sim_machine *sim_group(struct sim_world *world, const char *group)
{
    for (size_t i = 0; i < SIM_MACHINES_MAX; i++)
        if (world->machines[i].name[0] && str_eq(world->machines[i].group, group))
            return &world->machines[i];
    return NULL;
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
        sim_copy_name(fault->object, object);
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

static struct sim_effect *effect_of(struct sim_ask *ask)
{
    for (size_t i = 0; i < SIM_EFFECTS_MAX; i++) {
        struct sim_effect *effect = &ask->world->effects[i];
        if (!effect->what[0]) {
            (void)snprintf(effect->what, sizeof(effect->what), "%s", ask->what);
            sim_copy_name(effect->object, ask->object);
            sim_copy_name(effect->run, ask->run);
        }
        if (str_eq(effect->what, ask->what) && str_eq(effect->object, ask->object)
            && str_eq(effect->run, ask->run))
            return effect;
    }
    abort();
}

static int fault_of(struct sim_ask *ask, bool after, struct err *err)
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

int sim_begin(struct sim_ask *ask, struct err *err)
{
    if (fault_of(ask, false, err) < 0)
        return -1;
    effect_of(ask)->asked++;
    CRASH_POINT("sim.before");
    return 0;
}

int sim_end(struct sim_ask *ask, bool changed, struct err *err)
{
    if (changed)
        effect_of(ask)->done++;
    CRASH_POINT("sim.after");
    return fault_of(ask, true, err);
}

int sim_look(struct sim_ask *ask, struct err *err)
{
    return fault_of(ask, false, err);
}

/* --- The door -------------------------------------------------------------------------------- */

static int sim_ask(struct site *site, const char *what, const json_t *args, json_t **ret_result,
                   struct cancel *cancel, struct err *err)
{
    struct sim_site *self = (struct sim_site *)site;
    struct sim *sim = self->sim;
    const char *run = json_get_str(args, "run", "");
    const char *first = str_starts(what, "group.") ? "group" : "machine";
    const char *then = str_starts(what, "group.") ? "machine" : "group";
    struct sim_ask ask = {sim,       sim->world,
                          what,      args,
                          run,       json_get_str(args, first, json_get_str(args, then, run)),
                          ret_result};
    sim_fn *fn = sim_find(what, self->source);

    (void)cancel;
    if (!fn)
        return err_set(err, ERR_DENIED, 0, "%s does not do \"%s\"", site->name, what);
    (void)pthread_mutex_lock(&sim->lock);
    int rc = -1;
    if (self->source && sim->world->unreachable) {
        (void)err_set(err, ERR_NET, 0, "%s cannot be reached", site->name);
    } else {
        sim_replicate(&ask);
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
    sim_copy_name(self->site.name, name);
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
