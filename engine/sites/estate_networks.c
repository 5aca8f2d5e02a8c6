// SPDX-License-Identifier: Apache-2.0
/* Which network of this site a recovered machine's card is put to: by what was said of its group when
 * it was protected, else by config.lua, else one of the same name. */
#include "base/mem.h"
#include "sites/estate_internal.h"

#include <stdio.h>

void estate_networks_set(struct estate *estate, const char *group, const json_t *networks)
{
    estate_lock(estate);
    if (!estate->networks)
        estate->networks = json_object();
    if (json_object_size(networks) > 0)
        (void)json_object_set_new(estate->networks, group, json_deep_copy(networks));
    else
        (void)json_object_del(estate->networks, group);
    estate_unlock(estate);
}

void estate_networks_map(const struct estate *estate, const json_t *networks,
                         struct machine *machine)
{
    VEC_FOREACH(nic, &machine->nics) {
        const char *here = json_get_str(networks, nic->network, NULL);

        if (!here)
            here = json_get_str(estate->config.networks, nic->network, NULL);
        if (here)
            (void)snprintf(nic->network, sizeof(nic->network), "%s", here);
    }
}

void estate_map_networks(struct estate *estate, const char *group, struct machine *machine)
{
    estate_lock(estate);
    estate_networks_map(estate, json_object_get(estate->networks, group), machine);
    estate_unlock(estate);
}
