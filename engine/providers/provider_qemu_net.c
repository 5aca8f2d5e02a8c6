// SPDX-License-Identifier: Apache-2.0
/* A NIC on a bridge gets a tap device: on the host's bridge, or, in a test, on "br0" of the test's
 * network namespace. Its name is made from run_dir, so that whoever stops the instance finds it:
 * "mt", eight hex digits, "-", the NIC's number. */
#include "providers/provider_qemu.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BRIDGE "bridge "

bool qemu_tap_name(const struct provider_instance *instance, size_t nic,
                   char ret_name[QEMU_TAP_BYTES])
{
    uint32_t hash = 2166136261U; /* FNV-1a */

    if (!str_starts(instance->machine->nics.at[nic].network, BRIDGE))
        return false;
    /* A test without a namespace of its own has no bridge that leads nowhere. */
    if (instance->isolated && !instance->netns[0])
        return false;
    for (const char *p = instance->run_dir; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 16777619U;
    (void)snprintf(ret_name, QEMU_TAP_BYTES, "mt%08" PRIx32 "-%u", hash, (unsigned)nic % 100);
    return true;
}

static bool tap_exists(const char *netns, const char *tap, struct cancel *cancel)
{
    const char *const argv[] = {"ip", "link", "show", tap, NULL};
    const struct proc_spec spec = {.argv = argv, .netns = netns[0] ? netns : NULL};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    struct err unknown = ERR_EMPTY;
    int status = 1;

    return proc_run(&spec, 4096, &output, &status, cancel, &unknown) == 0 && status == 0;
}

/* `ip`, in the instance's namespace. */
static int ip(const struct provider_instance *instance, const char *const *words,
              struct cancel *cancel, struct err *err)
{
    const char *argv[16] = {"ip"};
    size_t argc = 1;

    while (*words && argc < ARRAY_LEN(argv) - 1)
        argv[argc++] = *words++;
    return proc_must_in(instance->netns[0] ? instance->netns : NULL, argv, cancel, err);
}

static int tap_remove(const struct provider_instance *instance, const char *tap,
                      struct cancel *cancel, struct err *err)
{
    const char *const del[] = {"link", "delete", tap, NULL};

    if (!tap_exists(instance->netns, tap, cancel))
        return 0;
    return ip(instance, del, cancel, err);
}

static int tap_create(const struct provider_instance *instance, size_t nic, const char *tap,
                      struct cancel *cancel, struct err *err)
{
    const char *own = instance->machine->nics.at[nic].network + strlen(BRIDGE);
    const char *bridge = instance->isolated ? "br0" : own;
    const char *const add[] = {"tuntap", "add", "dev", tap, "mode", "tap", NULL};
    const char *const join[] = {"link", "set", tap, "master", bridge, "up", NULL};

    /* One that is there was left by a start that was cut short. */
    if (tap_remove(instance, tap, cancel, err) < 0 || ip(instance, add, cancel, err) < 0)
        return -1;
    if (ip(instance, join, cancel, err) < 0) {
        struct err ignored = ERR_EMPTY;
        if (tap_remove(instance, tap, cancel, &ignored) < 0)
            err_clear(&ignored);
        return err_wrap(err, "put nic %zu on bridge %s", nic + 1, bridge);
    }
    return 0;
}

int qemu_taps_create(const struct provider_instance *instance, struct cancel *cancel,
                     struct err *err)
{
    char tap[QEMU_TAP_BYTES];

    for (size_t i = 0; i < instance->machine->nics.len; i++)
        if (qemu_tap_name(instance, i, tap) && tap_create(instance, i, tap, cancel, err) < 0)
            return err_wrap(err, "machine %s", instance->machine->name);
    return 0;
}

int qemu_taps_remove(const struct provider_instance *instance, struct cancel *cancel,
                     struct err *err)
{
    char tap[QEMU_TAP_BYTES];

    for (size_t i = 0; i < instance->machine->nics.len; i++)
        if (qemu_tap_name(instance, i, tap) && tap_remove(instance, tap, cancel, err) < 0)
            return err_wrap(err, "machine %s", instance->machine->name);
    return 0;
}
