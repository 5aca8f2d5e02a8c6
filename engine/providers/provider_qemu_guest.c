// SPDX-License-Identifier: Apache-2.0
/* The inside of a guest, through its agent. */
#include "base/mem.h"
#include "providers/provider_qemu.h"
#include "qemu/agent.h"
#include "qemu/guest_net.h"

#include <stdlib.h>

static int open_agent(struct provider *provider, const struct provider_instance *instance,
                      struct agent **ret_agent, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *path = qemu_file(instance, "agent");
    const char *name = instance->machine->name;

    if (!instance->machine->agent)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "machine %s has no agent channel; hint: agent = true in its definition",
                       name);
    if (agent_open(path, provider_qemu(provider)->clock, ret_agent, cancel, err) == 0)
        return 0;
    if (err->code == ERR_TIMEOUT)
        return err_set(err, ERR_TIMEOUT, 0,
                       "the guest agent of %s does not answer; hint: is qemu-guest-agent installed"
                       " and running in the guest?",
                       name);
    if (err->code == ERR_NET)
        return err_set(err, ERR_NET, 0, "%s does not run, or has just ended", name);
    return -1;
}

int qemu_guest_network(struct provider *provider, const struct provider_instance *instance,
                       const char *mac, const json_t *wanted, json_t **ret_network,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(agent_closep) struct agent *agent = NULL;

    if (open_agent(provider, instance, &agent, cancel, err) < 0)
        return -1;
    return guest_net_read(agent, mac, wanted, ret_network, cancel, err);
}

int qemu_guest_assign(struct provider *provider, const struct provider_instance *instance,
                      const char *mac, const json_t *wanted, json_t **ret_network,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(agent_closep) struct agent *agent = NULL;

    if (open_agent(provider, instance, &agent, cancel, err) < 0)
        return -1;
    return guest_net_assign(agent, mac, wanted, ret_network, cancel, err);
}
