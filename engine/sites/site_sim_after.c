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
    if (!instance && !machine->own)
        return err_set(err, ERR_NOT_FOUND, 0, "%s is not here", ask->object);
    if (instance && instance->test)
        return err_set(err, ERR_STATE, 0, "%s of run %s is a test", ask->object, ask->run);
    bool changed = instance && !instance->committed;
    if (instance && machine->own)
        memset(instance, 0, sizeof(*instance));
    else if (instance)
        instance->committed = true;
    *ask->ret_result = json_pack("{s:b}", "own", machine->own);
    return sim_end(ask, changed, err);
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
        machine->state = INSTANCE_OFF;
        machine->held[0] = '\0';
        machine->final_point = 0;
        machine->retired = 0;
        machine->delivered = 0; /* its session begins anew */
        machine->returned = generation;
    }
    if (json_get_bool(ask->args, "start", false) && machine->state != INSTANCE_RUNNING) {
        machine->state = INSTANCE_RUNNING;
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
    const struct sim_instance *instance = sim_instance(ask->world, ask->object);
    bool changed = !machine->asked_back && (machine->own || (instance && instance->committed));
    if (changed) {
        machine->asked_back = true;
        machine->back_ms = ask->sim->clock->now_ms(ask->sim->clock) + ask->world->back_ms;
    }
    machine->accepts_branch = json_get_bool(ask->args, "accept_branch", false);
    *ask->ret_result = json_object();
    return sim_end(ask, changed, err);
}
