// SPDX-License-Identifier: Apache-2.0
/* A definition that was given against what runs: each difference is a line. What could not be learned
 * of the running machine ("") is taken as given. */
#include "providers/provider_qemu_learn.h"

#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

static void PRINTF_LIKE(2, 3) add(struct str *problems, const char *fmt, ...)
{
    char text[1400];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    str_addf(problems, "%s\n", text);
}

static void differs(struct str *problems, const char *field, const char *given, const char *runs)
{
    if (runs[0] && !str_eq(given, runs))
        add(problems, "%s: \"%s\" in the definition, but it runs with \"%s\"", field, given, runs);
}

static void differs_in_file(struct str *problems, const char *field, const char *given,
                            const char *runs)
{
    if (!qemu_same_file(given, runs))
        differs(problems, field, given, runs);
}

static const struct machine_disk *disk_at(const struct machine_disks *disks, const char *path)
{
    VEC_FOREACH(disk, disks)
        if (qemu_same_file(disk->path, path))
            return disk;
    return NULL;
}

static void compare_disks(struct str *problems, const struct machine *given,
                          const struct machine *runs)
{
    VEC_FOREACH(disk, &given->disks) {
        const struct machine_disk *real = disk_at(&runs->disks, disk->path);

        if (!real) {
            add(problems, "disk %s: %s is in the definition, but not among its disks", disk->name,
                disk->path);
            continue;
        }
        differs(problems, disk->path, disk->format, real->format);
        if (disk->iothread != real->iothread)
            add(problems, "disk %s: iothread = %s in the definition, but it %s one", disk->name,
                disk->iothread ? "true" : "false", real->iothread ? "has" : "has not");
    }
    VEC_FOREACH(disk, &runs->disks)
        if (!disk_at(&given->disks, disk->path))
            add(problems, "it has the disk %s, which is not in the definition", disk->path);
}

static const struct machine_nic *nic_of(const struct machine_nics *nics, const char *mac)
{
    VEC_FOREACH(nic, nics)
        if (strcasecmp(nic->mac, mac) == 0)
            return nic;
    return NULL;
}

static void compare_nics(struct str *problems, const struct machine *given,
                         const struct machine *runs)
{
    VEC_FOREACH(nic, &given->nics) {
        const struct machine_nic *real = nic_of(&runs->nics, nic->mac);

        if (real)
            differs(problems, nic->mac, nic->network, real->network);
        else
            add(problems, "nic %s is in the definition, but it has none of that address", nic->mac);
    }
    VEC_FOREACH(nic, &runs->nics)
        if (!nic_of(&given->nics, nic->mac))
            add(problems, "it has the nic %s, which is not in the definition", nic->mac);
}

void qemu_compare(const struct machine *given, const struct machine *runs, struct str *problems)
{
    char ours[32], theirs[32];

    (void)snprintf(ours, sizeof(ours), "%" PRIu64 "MiB", given->memory_bytes >> 20);
    (void)snprintf(theirs, sizeof(theirs), "%" PRIu64 "MiB", runs->memory_bytes >> 20);
    differs(problems, "memory", ours, theirs);
    (void)snprintf(ours, sizeof(ours), "%" PRIu32, given->cpus);
    (void)snprintf(theirs, sizeof(theirs), "%" PRIu32, runs->cpus);
    differs(problems, "cpus", ours, theirs);
    differs_in_file(problems, "kernel", given->kernel, runs->kernel);
    differs_in_file(problems, "initrd", given->initrd, runs->initrd);
    differs_in_file(problems, "firmware", given->firmware, runs->firmware);
    differs(problems, "cmdline", given->cmdline, runs->cmdline);
    if (given->agent && !runs->agent)
        add(problems, "agent = true in the definition, but it has no port for an agent");
    compare_disks(problems, given, runs);
    compare_nics(problems, given, runs);
}
