// SPDX-License-Identifier: Apache-2.0
/* What follows a failover: the commit, what a rollback gives back, the other direction. */
#include "sites/site_sim_internal.h"

#include <inttypes.h>
#include <string.h>

uint64_t sim_source_generation(const struct sim_machine *machine)
{
    return machine->returned ? machine->returned : 1;
}

/* On its own disks again it is an ordinary machine: nothing is left that a run started. */
int sim_instance_commit(struct sim_ask *ask, struct err *err)
{
    const struct sim_machine *machine = sim_need_machine(ask, err);
    struct sim_instance *instance = sim_find_instance(ask);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    bool own = sim_group(ask->world, machine->group)->own;
    if (!instance && !own)
        return err_set(err, ERR_NOT_FOUND, 0, "%s is not here", ask->object);
    if (instance && instance->test)
        return err_set(err, ERR_STATE, 0, "%s of run %s is a test", ask->object, ask->run);
    bool changed = instance && !instance->committed;
    if (instance && own)
        memset(instance, 0, sizeof(*instance));
    else if (instance)
        instance->committed = true;
    *ask->ret_result = json_pack("{s:b}", "own", own);
    return sim_end(ask, changed, err);
}

/* Those that are named, or, when none is, all. */
static bool is_to_start(const struct sim_ask *ask, const char *machine)
{
    const json_t *named = json_object_get(ask->args, "machines");
    bool among = !named;
    const json_t *name;
    size_t i;

    json_array_foreach(named, i, name)
        among = among || str_eq(json_string_value(name), machine);
    return among && json_get_bool(ask->args, "start", false);
}

int sim_group_return(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);
    uint64_t generation = json_get_u64(ask->args, "generation", 0);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    if (machine->retired > generation || sim_source_generation(machine) > generation)
        return err_set(err, ERR_FENCED, 0, "%s: generation %" PRIu64 " is over", machine->name,
                       generation);
    bool changed = machine->returned != generation;
    if (changed) {
        for (struct sim_machine *of = machine; of; of = sim_next(ask, machine->group, of))
            of->state = INSTANCE_OFF;
        machine->held[0] = '\0';
        machine->final_point = 0;
        machine->retired = 0;
        machine->delivered = 0; /* its session begins anew */
        machine->returned = generation;
    }
    for (struct sim_machine *of = machine; of; of = sim_next(ask, machine->group, of)) {
        if (!is_to_start(ask, of->name) || of->state == INSTANCE_RUNNING)
            continue;
        of->state = INSTANCE_RUNNING;
        changed = true;
    }
    *ask->ret_result = json_object();
    return sim_end(ask, changed, err);
}

/* It asks the daemon, which does it when the machine is committed here, and else says no to itself. */
int sim_group_reprotect(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    bool committed = true;
    for (struct sim_machine *of = machine; of; of = sim_next(ask, machine->group, of)) {
        const struct sim_instance *instance = sim_instance(ask->world, of->name);
        committed = committed && instance && instance->committed;
    }
    bool changed = !machine->asked_back && (machine->own || committed);
    if (changed) {
        machine->asked_back = true;
        machine->back_ms = ask->sim->clock->now_ms(ask->sim->clock) + ask->world->back_ms;
    }
    machine->accepts_branch = json_get_bool(ask->args, "accept_branch", false);
    *ask->ret_result = json_object();
    return sim_end(ask, changed, err);
}
