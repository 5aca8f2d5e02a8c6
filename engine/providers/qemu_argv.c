// SPDX-License-Identifier: Apache-2.0
/* QEMU's command line. Node names: "disk-NAME" is what the guest writes to; below it
 *
 *   plain   disk-NAME (its format) -> file-NAME
 *   served  disk-NAME (raw) -> over-NAME (qcow2 overlay) -> view-NAME (raw) -> nbd
 *
 * No backing file is named in the overlay's header: it would collide with the `backing` node. */
#include "base/json.h"
#include "base/mem.h"
#include "providers/qemu_instance.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* How long a guest's request waits for a served disk's server before the machine stops. */
#define RECONNECT_SECONDS 30

void argv_free(struct argv *argv)
{
    for (size_t i = 0; i < argv->len; i++)
        free(argv->at[i]);
    free(argv->at);
    memset(argv, 0, sizeof(*argv));
}

static void add(struct argv *argv, char *taken)
{
    if (argv->len == argv->cap) {
        argv->cap = argv->cap ? argv->cap * 2 : 64;
        argv->at = mem_grow(argv->at, argv->cap, sizeof(*argv->at));
    }
    argv->at[argv->len++] = taken;
}

static void add_text(struct argv *argv, const char *text)
{
    add(argv, mem_strdup(text));
}

static void add_option(struct argv *argv, const char *option, char *taken)
{
    add_text(argv, option);
    add(argv, taken);
}

/* In QEMU's option syntax a comma within a value is written twice. Malloc'ed. */
static char *quoted(const char *value)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    for (const char *c = value; *c; c++)
        str_add_bytes(&text, *c == ',' ? ",," : c, *c == ',' ? 2 : 1);
    return mem_strdup(str_text(&text));
}

static void add_base(struct argv *argv, const struct provider_instance *instance, const char *accel,
                     bool paused)
{
    const struct machine *machine = instance->machine;
    CLEANUP(mem_freep) char *name = quoted(machine->name);

    add_option(argv, "-name", mem_strdup(name));
    add_text(argv, "-nodefaults");
    add_text(argv, "-no-user-config");
    add_option(argv, "-display", mem_strdup("none"));
    add_option(argv, "-machine", mem_printf("q35,accel=%s", accel));
    add_option(argv, "-cpu", mem_strdup("max"));
    add_option(argv, "-m", mem_printf("%" PRIu64 "M", machine->memory_bytes >> 20));
    add_option(argv, "-smp", mem_printf("%u", machine->cpus));
    add_option(argv, "-rtc", mem_strdup("base=utc"));
    add_option(argv, "-device", mem_strdup("virtio-rng-pci"));
    /* After the guest's shutdown the process stays, with disks and dirty bitmaps. */
    add_text(argv, "-no-shutdown");
    add_option(argv, "-pidfile", instance_path(instance, INSTANCE_PID_FILE));
    if (paused)
        add_text(argv, "-S");
    if (machine->firmware[0])
        add_option(argv, "-bios", mem_strdup(machine->firmware));
    if (machine->kernel[0])
        add_option(argv, "-kernel", mem_strdup(machine->kernel));
    if (machine->initrd[0])
        add_option(argv, "-initrd", mem_strdup(machine->initrd));
    if (machine->cmdline[0])
        add_option(argv, "-append", mem_strdup(machine->cmdline));
}

static void add_socket(struct argv *argv, const struct provider_instance *instance, const char *id,
                       const char *file)
{
    CLEANUP(mem_freep) char *path = instance_path(instance, file);
    CLEANUP(mem_freep) char *value = quoted(path);

    add_option(argv, "-chardev", mem_printf("socket,id=%s,path=%s,server=on,wait=off", id, value));
}

static void add_channels(struct argv *argv, const struct provider_instance *instance)
{
    static const char *const monitors[][2] = {
        {"qmp0", INSTANCE_QMP}, {"qmp1", INSTANCE_QMP_DATA}, {"qmp2", INSTANCE_QMP_MORE}};
    CLEANUP(mem_freep) char *path = instance_path(instance, INSTANCE_CONSOLE);
    CLEANUP(mem_freep) char *console = quoted(path);

    for (size_t i = 0; i < ARRAY_LEN(monitors); i++) {
        add_socket(argv, instance, monitors[i][0], monitors[i][1]);
        add_option(argv, "-mon", mem_printf("chardev=%s,mode=control", monitors[i][0]));
    }
    add_option(argv, "-chardev", mem_printf("file,id=console,path=%s", console));
    add_option(argv, "-serial", mem_strdup("chardev:console"));
    if (!instance->machine->agent)
        return;
    add_option(argv, "-device", mem_strdup("virtio-serial-pci"));
    add_socket(argv, instance, "agent", INSTANCE_AGENT);
    add_option(argv, "-device",
               mem_strdup("virtserialport,chardev=agent,name=org.qemu.guest_agent.0"));
}

/* Takes `node`. */
static void add_blockdev(struct argv *argv, json_t *node)
{
    add_option(argv, "-blockdev", json_text(node));
    json_decref(node);
}

static void add_plain(struct argv *argv, const struct machine_disk *disk, const char *node)
{
    add_blockdev(argv, json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s}}", "driver", disk->format,
                                 "node-name", node, "discard", "unmap", "file", "driver", "file",
                                 "filename", disk->path, "discard", "unmap"));
}

static void add_served(struct argv *argv, const struct provider_instance *instance,
                       const struct provider_served_disk *disk, const char *node)
{
    CLEANUP(mem_freep) char *socket_name = mem_printf("%s.nbd", disk->name);
    CLEANUP(mem_freep) char *path = instance_path(instance, socket_name);
    CLEANUP(mem_freep) char *view = mem_printf("view-%s", disk->name);
    CLEANUP(mem_freep) char *overlay = mem_printf("over-%s", disk->name);

    add_blockdev(argv, json_pack("{s:s, s:s, s:b, s:{s:s, s:{s:s, s:s}, s:s, s:i, s:b}}", "driver",
                                 "raw", "node-name", view, "read-only", 1, "file", "driver", "nbd",
                                 "server", "type", "unix", "path", path, "export", "",
                                 "reconnect-delay", RECONNECT_SECONDS, "read-only", 1));
    add_blockdev(argv, json_pack("{s:s, s:s, s:s, s:s, s:{s:s, s:s, s:s}}", "driver", "qcow2",
                                 "node-name", overlay, "backing", view, "discard", "unmap", "file",
                                 "driver", "file", "filename", disk->overlay, "discard", "unmap"));
    add_blockdev(argv, json_pack("{s:s, s:s, s:s, s:s}", "driver", "raw", "node-name", node,
                                 "discard", "unmap", "file", overlay));
}

static void add_disks(struct argv *argv, const struct provider_instance *instance)
{
    VEC_FOREACH(disk, &instance->machine->disks) {
        const struct provider_served_disk *served = instance_served(instance, disk->name);
        CLEANUP(mem_freep) char *thread = mem_printf(",iothread=io-%s", disk->name);
        char node[INSTANCE_NODE_BYTES];

        instance_node(disk->name, node);
        if (served)
            add_served(argv, instance, served, node);
        else
            add_plain(argv, disk, node);
        if (disk->iothread)
            add_option(argv, "-object", mem_printf("iothread,id=io-%s", disk->name));
        add_option(argv, "-device",
                   mem_printf("virtio-blk-pci,drive=%s,id=dev-%s%s%s", node, disk->name,
                              disk->iothread ? thread : "",
                              served ? ",rerror=stop,werror=stop" : ""));
    }
}

static void add_nics(struct argv *argv, const struct provider_instance *instance)
{
    const struct machine *machine = instance->machine;

    for (size_t i = 0; i < machine->nics.len; i++) {
        const struct machine_nic *nic = &machine->nics.at[i];
        char tap[INSTANCE_TAP_BYTES];

        instance_tap(instance, i, tap);
        if (instance->netns[0] || !str_eq(nic->network, "user"))
            add_option(argv, "-netdev",
                       mem_printf("tap,id=net%zu,ifname=%s,script=no,downscript=no", i, tap));
        else
            add_option(argv, "-netdev",
                       mem_printf("user,id=net%zu%s", i, instance->isolated ? ",restrict=on" : ""));
        add_option(argv, "-device", mem_printf("virtio-net-pci,netdev=net%zu,mac=%s", i, nic->mac));
    }
}

void argv_build(const struct provider_qemu *qemu, const struct provider_instance *instance,
                const char *accel, bool paused, struct argv *ret_argv)
{
    struct argv argv = {0};

    add_text(&argv, qemu->qemu_path);
    add_base(&argv, instance, accel, paused);
    add_channels(&argv, instance);
    add_disks(&argv, instance);
    add_nics(&argv, instance);
    add(&argv, NULL);
    argv.len--; /* the NULL is not an argument */
    *ret_argv = argv;
}
