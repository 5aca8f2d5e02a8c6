// SPDX-License-Identifier: Apache-2.0
/* What there is to ask, each a function over the world. */
#include "base/mem.h"
#include "base/str.h"
#include "sites/site_sim_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Finding what an ask is about ------------------------------------------------------------ */

struct sim_machine *sim_need_machine(struct sim_ask *ask, struct err *err)
{
    bool of_group = str_starts(ask->what, "group.");
    struct sim_machine *machine =
        of_group ? sim_group(ask->world, ask->object) : sim_machine(ask->world, ask->object);

    if (!machine)
        (void)err_set(err, ERR_NOT_FOUND, 0, "no %s \"%s\"", of_group ? "group" : "machine",
                      ask->object);
    return machine;
}

struct sim_machine *sim_next(struct sim_ask *ask, const char *group, struct sim_machine *before)
{
    struct sim_machine *end = ask->world->machines + SIM_MACHINES_MAX;
    struct sim_machine *machine = before ? before + 1 : ask->world->machines;

    while (machine < end && !(machine->name[0] && str_eq(machine->group, group)))
        machine++;
    return machine < end ? machine : NULL;
}

struct sim_instance *sim_find_instance(struct sim_ask *ask)
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

static bool is_sending(const struct sim_ask *ask, const struct sim_machine *machine)
{
    return !ask->world->unreachable && !machine->held[0] && !machine->retired
           && machine->generation == sim_source_generation(machine) && machine->interval_ms > 0;
}

/* Points that came since the last look. */
void sim_replicate(struct sim_ask *ask)
{
    int64_t now = ask->sim->clock->wall_ms(ask->sim->clock);

    for (size_t i = 0; i < SIM_MACHINES_MAX; i++) {
        struct sim_machine *machine = &ask->world->machines[i];
        while (machine->name[0] && machine == sim_group(ask->world, machine->group)
               && is_sending(ask, machine)
               && machine->durable_cut_ms + machine->interval_ms <= now) {
            machine->durable_cut_ms += machine->interval_ms;
            machine->delivered = machine->applied_point = ++machine->durable_point;
        }
    }
}

/* --- The source ------------------------------------------------------------------------------ */

static int machine_observe(struct sim_ask *ask, struct err *err)
{
    const struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_look(ask, err) < 0)
        return -1;
    *ask->ret_result = json_pack("{s:s}", "state", instance_state_name(machine->state));
    return 0;
}

static int set_state(struct sim_ask *ask, enum instance_state state, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    bool changed = machine->state != state;
    if (state == INSTANCE_SHUTDOWN && machine->state == INSTANCE_OFF)
        changed = false;
    else
        machine->state = state;
    return sim_end(ask, changed, err);
}

static int machine_shutdown(struct sim_ask *ask, struct err *err)
{
    return set_state(ask, INSTANCE_SHUTDOWN, err);
}

static int machine_start(struct sim_ask *ask, struct err *err)
{
    const struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine)
        return -1;
    if (sim_group(ask->world, machine->group)->retired)
        return err_set(err, ERR_FENCED, 0, "%s was failed over", machine->name);
    return set_state(ask, INSTANCE_RUNNING, err);
}

static int machine_stop(struct sim_ask *ask, struct err *err)
{
    return set_state(ask, INSTANCE_OFF, err);
}

static int group_hold(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    if (machine->held[0] && !str_eq(machine->held, ask->run))
        return err_set(err, ERR_STATE, 0, "%s is held for %s", machine->name, machine->held);
    bool changed = !machine->held[0];
    sim_copy_name(machine->held, ask->run);
    return sim_end(ask, changed, err);
}

static int group_release(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    if (machine->retired)
        return err_set(err, ERR_FENCED, 0, "%s was failed over", machine->name);
    bool changed = machine->held[0] && str_eq(machine->held, ask->run);
    if (changed) {
        machine->held[0] = '\0';
        machine->final_point = 0;
    }
    return sim_end(ask, changed, err);
}

static int group_final_sync(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    for (struct sim_machine *of = machine; of; of = sim_next(ask, machine->group, of))
        if (of->state != INSTANCE_SHUTDOWN && of->state != INSTANCE_OFF)
            return err_set(err, ERR_STATE, 0, "%s still writes", of->name);
    bool changed = machine->final_point == 0;
    if (changed) {
        machine->final_point = machine->applied_point = ++machine->durable_point;
        machine->delivered = machine->final_point;
        machine->durable_cut_ms = ask->sim->clock->wall_ms(ask->sim->clock);
        sim_copy_name(machine->held, ask->run);
    }
    *ask->ret_result = json_pack("{s:I}", "point", (json_int_t)machine->final_point);
    return sim_end(ask, changed, err);
}

static int group_retire(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);
    uint64_t generation = json_get_u64(ask->args, "generation", 0);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    bool changed = machine->retired < generation;
    if (changed)
        machine->retired = generation;
    for (struct sim_machine *of = machine; of; of = sim_next(ask, machine->group, of))
        of->state = INSTANCE_OFF;
    return sim_end(ask, changed, err);
}

static int source_observe(struct sim_ask *ask, struct err *err)
{
    const struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_look(ask, err) < 0)
        return -1;
    *ask->ret_result =
        json_pack("{s:s, s:s, s:I, s:s, s:I, s:I, s:I}", "role", "source", "state",
                  machine->held[0] ? "paused" : "protected", "generation",
                  (json_int_t)sim_source_generation(machine), "held", machine->held, "final_point",
                  (json_int_t)machine->final_point, "retired", (json_int_t)machine->retired,
                  "durable_point", (json_int_t)machine->delivered);
    return 0;
}

/* --- The replica ----------------------------------------------------------------------------- */

static int replica_observe(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_look(ask, err) < 0)
        return -1;
    bool is_back =
        machine->asked_back && ask->sim->clock->now_ms(ask->sim->clock) >= machine->back_ms;
    if (is_back) {
        json_int_t tip = (json_int_t)machine->durable_point;
        *ask->ret_result =
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "role", "source", "state", "protected",
                      "generation", (json_int_t)machine->generation, "durable_point", tip + 1,
                      "applied_point", tip + 1, "tip_point", tip);
        return 0;
    }
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

static int group_pin(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);
    uint64_t wanted = json_get_u64(ask->args, "point", 0);

    if (!machine || sim_begin(ask, err) < 0)
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
        sim_copy_name(pin->label, ask->run);
        pin->point = wanted ? wanted : machine->applied_point;
    }
    *ask->ret_result = json_pack("{s:I, s:I}", "point", (json_int_t)pin->point, "cut_ms",
                                 (json_int_t)machine->durable_cut_ms);
    return sim_end(ask, changed, err);
}

static int group_unpin(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    struct sim_pin *pin = find_pin(machine, ask->run);
    bool changed = pin != NULL;
    if (pin)
        memset(pin, 0, sizeof(*pin));
    return sim_end(ask, changed, err);
}

static int group_promote(struct sim_ask *ask, struct err *err)
{
    struct sim_machine *machine = sim_need_machine(ask, err);
    uint64_t wanted = json_get_u64(ask->args, "point", 0);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    bool again = str_eq(machine->token, ask->run);
    if (!again && machine->generation != json_get_u64(ask->args, "expected", 0))
        return err_set(err, ERR_FENCED, 0, "%s is at generation %llu", machine->name,
                       (unsigned long long)machine->generation);
    if (!again) {
        machine->generation++;
        machine->promoted_point = wanted ? wanted : machine->durable_point;
        machine->durable_point++;
        machine->yielded = json_get_bool(ask->args, "yield", false);
        sim_copy_name(machine->token, ask->run);
    }
    *ask->ret_result = json_pack("{s:I, s:I}", "generation", (json_int_t)machine->generation,
                                 "point", (json_int_t)machine->promoted_point);
    return sim_end(ask, !again, err);
}

/* --- Networks and instances ------------------------------------------------------------------ */

static char *find_net(struct sim_ask *ask, const char *run)
{
    for (size_t i = 0; i < SIM_NETS_MAX; i++)
        if (str_eq(ask->world->nets[i], run))
            return ask->world->nets[i];
    return NULL;
}

static int net_create(struct sim_ask *ask, struct err *err)
{
    if (sim_begin(ask, err) < 0)
        return -1;
    bool changed = !find_net(ask, ask->run);
    char *net = changed ? find_net(ask, "") : NULL;
    if (changed && !net)
        return err_set(err, ERR_LIMIT, 0, "too many networks");
    if (net)
        sim_copy_name(net, ask->run);
    *ask->ret_result = json_pack("{s:s}", "netns", ask->run);
    return sim_end(ask, changed, err);
}

static int net_observe(struct sim_ask *ask, struct err *err)
{
    bool there = find_net(ask, ask->run) != NULL;

    if (sim_look(ask, err) < 0)
        return -1;
    *ask->ret_result =
        json_pack("{s:s, s:b, s:b}", "netns", ask->run, "exists", there, "complete", there);
    return 0;
}

static int net_remove(struct sim_ask *ask, struct err *err)
{
    if (sim_begin(ask, err) < 0)
        return -1;
    char *net = find_net(ask, ask->run);
    bool changed = net != NULL;
    if (net)
        net[0] = '\0';
    return sim_end(ask, changed, err);
}

static int instance_start(struct sim_ask *ask, struct err *err)
{
    bool test = json_get_bool(ask->args, "test", true);
    const struct sim_machine *machine = sim_need_machine(ask, err);

    if (!machine || sim_begin(ask, err) < 0)
        return -1;
    if (test && !find_net(ask, ask->run))
        return err_set(err, ERR_STATE, 0, "no test network for %s", ask->run);
    if (!find_pin(sim_group(ask->world, machine->group), ask->run))
        return err_set(err, ERR_STATE, 0, "no point of %s is kept for %s", machine->name, ask->run);
    struct sim_instance *instance = sim_find_instance(ask);
    for (size_t i = 0; !instance && i < SIM_INSTANCES_MAX; i++)
        if (!ask->world->instances[i].machine[0])
            instance = &ask->world->instances[i];
    if (!instance)
        return err_set(err, ERR_LIMIT, 0, "too many instances");
    bool changed = !instance->machine[0] || instance->state != INSTANCE_RUNNING;
    sim_copy_name(instance->machine, ask->object);
    sim_copy_name(instance->run, ask->run);
    instance->test = test;
    instance->point = json_get_u64(ask->args, "point", 0);
    if (changed)
        instance->up_ms = ask->sim->clock->now_ms(ask->sim->clock) + ask->world->boot_ms;
    instance->state = INSTANCE_RUNNING;
    return sim_end(ask, changed, err);
}

static int instance_observe(struct sim_ask *ask, struct err *err)
{
    const struct sim_instance *instance = sim_find_instance(ask);
    enum instance_state state = instance ? instance->state : INSTANCE_OFF;

    if (sim_look(ask, err) < 0)
        return -1;
    const struct sim_machine *machine = sim_machine(ask->world, ask->object);
    *ask->ret_result = json_pack("{s:s, s:b, s:b, s:b}", "state", instance_state_name(state),
                                 "exists", instance != NULL, "own",
                                 instance && machine && sim_group(ask->world, machine->group)->own,
                                 "committed", instance && instance->committed);
    return 0;
}

static int instance_remove(struct sim_ask *ask, struct err *err)
{
    if (sim_begin(ask, err) < 0)
        return -1;
    struct sim_instance *instance = sim_find_instance(ask);
    bool changed = instance != NULL;
    if (instance)
        memset(instance, 0, sizeof(*instance));
    return sim_end(ask, changed, err);
}

static void add_left(json_t *left, const char *what, const char *name)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %s", what, name);

    (void)json_array_append_new(left, json_string(text));
}

static int leftovers(struct sim_ask *ask, struct err *err)
{
    json_t *left = json_array();

    (void)err;
    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        if (ask->world->instances[i].machine[0] && str_eq(ask->world->instances[i].run, ask->run))
            add_left(left, "machine", ask->world->instances[i].machine);
    for (size_t i = 0; i < SIM_MACHINES_MAX; i++)
        if (find_pin(&ask->world->machines[i], ask->run))
            add_left(left, "kept point of", ask->world->machines[i].group);
    if (find_net(ask, ask->run))
        add_left(left, "network", ask->run);
    if (ask->world->leftover[0])
        add_left(left, "file", ask->world->leftover);
    *ask->ret_result = json_pack("{s:o}", "left", left);
    return 0;
}

/* All three probes: a machine answers when it is up, a bare address always. */
static int probe(struct sim_ask *ask, struct err *err)
{
    const struct sim_instance *instance = sim_find_instance(ask);

    if (sim_look(ask, err) < 0)
        return -1;
    if (!instance && *ask->object)
        return err_set(err, ERR_NOT_FOUND, 0, "%s was not started by %s", ask->object, ask->run);
    bool up = !instance
              || (instance->state == INSTANCE_RUNNING
                  && ask->sim->clock->now_ms(ask->sim->clock) >= instance->up_ms);
    *ask->ret_result = json_pack("{s:b}", "answer", up);
    return 0;
}

static int hook_post(struct sim_ask *ask, struct err *err)
{
    CLEANUP(mem_freep) char *body = json_text(json_object_get(ask->args, "body"));

    if (sim_begin(ask, err) < 0)
        return -1;
    (void)snprintf(ask->world->hook_body, sizeof(ask->world->hook_body), "%s", body);
    sim_copy_name(ask->world->hook_key, json_get_str(ask->args, "key", ""));
    *ask->ret_result = json_pack("{s:i}", "status", 204);
    return sim_end(ask, true, err);
}

/* --- The table ------------------------------------------------------------------------------- */

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
    {"group.return", sim_group_return, NULL},
    {"group.reprotect", NULL, sim_group_reprotect},
    {"command.start", sim_command_start, sim_command_start},
    {"command.observe", sim_command_observe, sim_command_observe},
    {"command.stop", sim_command_stop, sim_command_stop},
    {"net.create", NULL, net_create},
    {"net.observe", NULL, net_observe},
    {"net.remove", NULL, net_remove},
    {"instance.start", NULL, instance_start},
    {"instance.observe", NULL, instance_observe},
    {"instance.remove", NULL, instance_remove},
    {"instance.commit", NULL, sim_instance_commit},
    {"instance.leftovers", NULL, leftovers},
    {"hook.post", NULL, hook_post},
    {"guest.network", NULL, sim_guest_network},
    {"guest.assign", NULL, sim_guest_assign},
    {"guest.restore", NULL, sim_guest_restore},
    {"probe.tcp", NULL, probe},
    {"probe.agent", NULL, probe},
    {"probe.console", NULL, probe},
};

sim_fn *sim_find(const char *what, bool source)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (str_eq(table[i].what, what))
            return source ? table[i].source : table[i].recovery;
    return NULL;
}
