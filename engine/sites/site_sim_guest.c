// SPDX-License-Identifier: Apache-2.0
/* The network of simulated guests: one card each, whose addresses are what was assigned last. */
#include "base/json.h"
#include "base/str.h"
#include "sites/site_sim_internal.h"

#include <stdio.h>
#include <string.h>

static void join(const json_t *list, char ret_text[SIM_LIST_BYTES])
{
    const json_t *item;
    size_t len = 0;
    size_t i;

    (void)snprintf(ret_text, SIM_LIST_BYTES, "%s",
                   json_string_value(list) ? json_string_value(list) : "");
    json_array_foreach(list, i, item) {
        int n = snprintf(ret_text + len, SIM_LIST_BYTES - len, "%s%s", i ? " " : "",
                         json_string_value(item) ? json_string_value(item) : "");
        len = len + (size_t)n < SIM_LIST_BYTES ? len + (size_t)n : SIM_LIST_BYTES - 1;
    }
}

/* One that runs and has booted: only then its agent answers. */
static struct sim_instance *need_guest(struct sim_ask *ask, struct err *err)
{
    struct sim_instance *instance = sim_find_instance(ask);

    if (!instance || instance->state != INSTANCE_RUNNING) {
        (void)err_set(err, ERR_NET, 0, "%s does not run", ask->object);
        return NULL;
    }
    if (ask->sim->clock->now_ms(ask->sim->clock) < instance->up_ms) {
        (void)err_set(err, ERR_TIMEOUT, 0, "the guest agent of %s does not answer", ask->object);
        return NULL;
    }
    return instance;
}

static void tell(struct sim_ask *ask, const struct sim_instance *instance)
{
    char addresses[SIM_LIST_BYTES];
    char gateways[SIM_LIST_BYTES];

    join(json_object_get(ask->args, "addresses"), addresses);
    join(json_object_get(ask->args, "gateways"), gateways);
    bool holds = str_eq(addresses, instance->addresses)
                 && (!gateways[0] || str_eq(gateways, instance->gateways));
    *ask->ret_result = json_pack("{s:s, s:b, s:s, s:{s:s, s:s}}", "interface", "eth0", "holds",
                                 holds, "text", instance->addresses, "before", "addresses",
                                 instance->old_addresses, "gateways", instance->old_gateways);
}

int sim_guest_network(struct sim_ask *ask, struct err *err)
{
    const struct sim_instance *instance = need_guest(ask, err);

    if (!instance || sim_look(ask, err) < 0)
        return -1;
    tell(ask, instance);
    return 0;
}

int sim_guest_assign(struct sim_ask *ask, struct err *err)
{
    struct sim_instance *instance = need_guest(ask, err);
    const char *id = json_get_str(ask->args, "id", "");
    char addresses[SIM_LIST_BYTES];

    if (!instance || sim_begin(ask, err) < 0)
        return -1;
    if (!str_eq(instance->assigned, id)) {
        sim_copy_name(instance->assigned, id);
        memcpy(instance->old_addresses, instance->addresses, SIM_LIST_BYTES);
        memcpy(instance->old_gateways, instance->gateways, SIM_LIST_BYTES);
    }
    join(json_object_get(ask->args, "addresses"), addresses);
    bool changed = !str_eq(addresses, instance->addresses);
    memcpy(instance->addresses, addresses, SIM_LIST_BYTES);
    if (json_object_get(ask->args, "gateways"))
        join(json_object_get(ask->args, "gateways"), instance->gateways);
    tell(ask, instance);
    return sim_end(ask, changed, err);
}

int sim_guest_restore(struct sim_ask *ask, struct err *err)
{
    struct sim_instance *instance = sim_find_instance(ask);

    if (sim_begin(ask, err) < 0)
        return -1;
    bool changed = instance && str_eq(instance->assigned, json_get_str(ask->args, "id", ""));
    if (changed) {
        memcpy(instance->addresses, instance->old_addresses, SIM_LIST_BYTES);
        memcpy(instance->gateways, instance->old_gateways, SIM_LIST_BYTES);
        instance->assigned[0] = '\0';
    }
    return sim_end(ask, changed, err);
}
