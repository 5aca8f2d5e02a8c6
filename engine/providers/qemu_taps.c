// SPDX-License-Identifier: Apache-2.0
/* Tap devices: a NIC on "bridge NAME" gets one on that bridge; in a network namespace every NIC
 * gets one on the namespace's "br0". Their names follow from the run_dir, so that they are found
 * and removed again whoever made them. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/qemu_instance.h"

#include <string.h>

static bool link_exists(const char *netns, const char *name, struct cancel *cancel)
{
    const char *const inside[] = {"ip", "-n", netns, "link", "show", name, NULL};
    const char *const here[] = {"ip", "link", "show", name, NULL};
    const struct proc_spec spec = {.argv = netns[0] ? inside : here};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    struct err ignored = ERR_EMPTY;
    int status = 1;

    return proc_run(&spec, 4096, &output, &status, cancel, &ignored) == 0 && status == 0;
}

/* Runs "ip [-n NETNS] WORDS..."; at most ten words. */
static int ip(const char *netns, const char *const *words, struct cancel *cancel, struct err *err)
{
    const char *argv[16] = {"ip"};
    size_t len = 1;

    if (netns[0]) {
        argv[len++] = "-n";
        argv[len++] = netns;
    }
    for (size_t i = 0; words[i] && len < ARRAY_LEN(argv) - 1; i++)
        argv[len++] = words[i];
    return proc_must(argv, cancel, err);
}

static int create_one(const char *netns, const char *tap, const char *bridge, struct cancel *cancel,
                      struct err *err)
{
    const char *const add[] = {"tuntap", "add", "dev", tap, "mode", "tap", NULL};
    const char *const join[] = {"link", "set", "dev", tap, "master", bridge, NULL};
    const char *const up[] = {"link", "set", "dev", tap, "up", NULL};

    if (!link_exists(netns, bridge, cancel))
        return err_set(err, ERR_NOT_FOUND, 0,
                       "no bridge '%s'%s%s; hint: ip link add %s type bridge", bridge,
                       netns[0] ? " in network namespace " : "", netns, bridge);
    if (!link_exists(netns, tap, cancel) && ip(netns, add, cancel, err) < 0)
        return -1;
    if (ip(netns, join, cancel, err) < 0 || ip(netns, up, cancel, err) < 0)
        return -1;
    return 0;
}

int taps_create(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
{
    const struct machine *machine = instance->machine;
    char tap[INSTANCE_TAP_BYTES];

    for (size_t i = 0; i < machine->nics.len; i++) {
        const char *network = machine->nics.at[i].network;
        const char *bridge = instance->netns[0] ? "br0" : network + strlen("bridge ");

        if (!instance->netns[0] && str_eq(network, "user"))
            continue;
        instance_tap(instance, i, tap);
        if (create_one(instance->netns, tap, bridge, cancel, err) < 0)
            return err_wrap(err, "nic %zu of %s", i + 1, machine->name);
    }
    return 0;
}

int taps_remove(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *space = path_join("/run/netns", instance->netns);
    char tap[INSTANCE_TAP_BYTES];

    if (instance->netns[0] && !fs_exists(space))
        return 0; /* they went with it */
    for (size_t i = 0; i < instance->machine->nics.len; i++) {
        const char *const del[] = {"link", "delete", "dev", tap, NULL};

        instance_tap(instance, i, tap);
        if (link_exists(instance->netns, tap, cancel) && ip(instance->netns, del, cancel, err) < 0)
            return err_wrap(err, "remove the tap of nic %zu of %s", i + 1, instance->machine->name);
    }
    return 0;
}
