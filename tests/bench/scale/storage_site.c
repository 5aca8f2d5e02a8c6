// SPDX-License-Identifier: Apache-2.0
/* The program, with a provider whose machines are block nodes of storage daemons: node NAME is
 * machine NAME's only disk, and $MUSTER_STORAGE/NAME/qmp a monitor of the qemu-storage-daemon that
 * has it. So one host can have a thousand disks whose changes QEMU tracks. For tests/bench/scale.sh. */
#include "base/command.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "daemon/daemon.h"
#include "host/host.h"
#include "providers/provider.h"

#include <stdio.h>
#include <stdlib.h>

static char *monitor(const char *name)
{
    const char *dir = getenv("MUSTER_STORAGE");

    return mem_printf("%s/%s/qmp", dir ? dir : ".", name);
}

static int storage_check(struct provider *provider, const struct machine *machine,
                         struct str *ret_problems, struct err *err)
{
    CLEANUP(mem_freep) char *path = monitor(machine->name);

    (void)provider;
    (void)err;
    if (!fs_exists(path))
        str_addf(ret_problems, "no storage daemon listens at %s\n", path);
    return 0;
}

static int storage_observe(struct provider *provider, const struct provider_instance *instance,
                           enum instance_state *ret_state, struct cancel *cancel, struct err *err)
{
    (void)provider;
    (void)instance;
    (void)cancel;
    (void)err;
    *ret_state = INSTANCE_RUNNING;
    return 0;
}

/* Who runs them starts and stops them. */
static int storage_nothing(struct provider *provider, const struct provider_instance *instance,
                           struct cancel *cancel, struct err *err)
{
    (void)provider;
    (void)instance;
    (void)cancel;
    (void)err;
    return 0;
}

static int storage_start(struct provider *provider, const struct provider_instance *instance,
                         bool paused, struct cancel *cancel, struct err *err)
{
    (void)paused;
    return storage_nothing(provider, instance, cancel, err);
}

static int storage_repair(struct provider *provider, const struct provider_instance *instance,
                          uint32_t *ret_repaired, struct cancel *cancel, struct err *err)
{
    *ret_repaired = 0;
    return storage_nothing(provider, instance, cancel, err);
}

static int storage_source(struct provider *provider, const struct provider_instance *instance,
                          const char *group, uint64_t generation, const char *work_dir,
                          struct source **ret_source, struct cancel *cancel, struct err *err)
{
    const char *name = instance->machine->name;
    CLEANUP(mem_freep) char *path = monitor(name);
    const struct machine_disk *disk = &instance->machine->disks.at[0];
    const struct source_qemu_disk node = {
        .name = disk->name, .node = name, .path = disk->path, .format = disk->format};
    const struct source_qemu_config config = {.group = group,
                                              .generation = generation,
                                              .qmp_path = path,
                                              .disks = &node,
                                              .disk_count = 1,
                                              .work_dir = work_dir};

    (void)provider;
    return source_qemu_open(&config, ret_source, cancel, err);
}

static int serve(const char *config_path, int ready_fd, struct err *err)
{
    struct provider provider = {
        .name = "storage",
        .check = storage_check,
        .start = storage_start,
        .resume = storage_nothing,
        .pause = storage_nothing,
        .observe = storage_observe,
        .shutdown = storage_nothing,
        .stop = storage_nothing,
        .repair = storage_repair,
        .open_source = storage_source,
    };

    return daemon_serve_machines(&provider, config_path, ready_fd, err);
}

int main(int argc, char **argv)
{
    const struct cli_hooks hooks = {.serve = serve, .lua_host = host_main};

    if (argc > 1 && str_eq(argv[1], COMMAND_WORD))
        return command_main(argc, argv);
    return cli_main(argc, argv, &hooks);
}
