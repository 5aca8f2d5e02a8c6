// SPDX-License-Identifier: Apache-2.0
/* A test's network: a network namespace with lo up and a bridge "br0" without any port that
 * leads out. Everything in it (taps, addresses) goes with the namespace. The bridge gets an
 * address with the first probe (probe.c). */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "providers/provider.h"

#include <unistd.h>

#define NETNS_DIR "/run/netns"

static int check_name(const char *netns, struct err *err)
{
    if (!str_is_name(netns))
        return err_set(err, ERR_INVALID, 0, "network namespace '%s': not a name", netns);
    return 0;
}

static bool netns_exists(const char *netns)
{
    CLEANUP(mem_freep) char *path = path_join(NETNS_DIR, netns);

    return fs_exists(path);
}

static bool bridge_exists(const char *netns)
{
    const char *const argv[] = {"ip", "link", "show", "br0", NULL};
    const struct proc_spec spec = {.argv = argv, .netns = netns};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    struct err ignored = ERR_EMPTY;
    int status = 1;

    return proc_run(&spec, 4096, &output, &status, NULL, &ignored) == 0 && status == 0;
}

int testnet_create(const char *netns, struct err *err)
{
    const char *const add[] = {"ip", "netns", "add", netns, NULL};
    const char *const lo[] = {"ip", "link", "set", "lo", "up", NULL};
    const char *const bridge[] = {"ip", "link", "add", "br0", "type", "bridge", NULL};
    const char *const up[] = {"ip", "link", "set", "br0", "up", NULL};

    if (check_name(netns, err) < 0)
        return -1;
    if ((!netns_exists(netns) && proc_must(add, NULL, err) < 0)
        || proc_must_in(netns, lo, NULL, err) < 0
        || (!bridge_exists(netns) && proc_must_in(netns, bridge, NULL, err) < 0)
        || proc_must_in(netns, up, NULL, err) < 0)
        return err_wrap(err, "make test network %s", netns);
    return 0;
}

int testnet_remove(const char *netns, struct err *err)
{
    const char *const del[] = {"ip", "netns", "delete", netns, NULL};

    if (check_name(netns, err) < 0)
        return -1;
    if (netns_exists(netns) && proc_must(del, NULL, err) < 0)
        return err_wrap(err, "remove test network %s", netns);
    return 0;
}
