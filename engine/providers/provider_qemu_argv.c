// SPDX-License-Identifier: Apache-2.0
/* The command line. A machine's own disk is one node over its file; a served one is
 *
 *   guest -> diskN (throttle without a limit: bitmaps, backups and the mirror are here)
 *         -> overlayN (qcow2, its own writes) -> pointN (raw) -> serverN (NBD: nbdkit, our plugin)
 *
 * (diskN lets a stream run on overlayN beside them. It must be a node that QEMU knows for a filter:
 * a raw one hides that what overlayN lacks is in pointN, and a full mirror takes it for zeros.) It
 * and waits for its server when that dies: first in the NBD node (reconnect-delay), then stopped by
 * its error, until `repair`. Disks that are served have no iothread: the NBD client of some QEMUs
 * does not survive a reconnect in one. */
#include "providers/provider_qemu.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NO_LIMIT "nolimit"

void qemu_argv_done(struct qemu_argv *argv)
{
    for (size_t i = 0; i < argv->len; i++)
        free(argv->at[i]);
    free(argv->at);
    memset(argv, 0, sizeof(*argv));
}

/* Takes the text. */
static void add_taken(struct qemu_argv *argv, char *text)
{
    argv->at = mem_grow(argv->at, argv->len + 2, sizeof(*argv->at));
    argv->at[argv->len++] = text;
    argv->at[argv->len] = NULL;
}

static void add(struct qemu_argv *argv, const char *text)
{
    add_taken(argv, mem_strdup(text));
}

static void add_pair(struct qemu_argv *argv, const char *option, char *taken_value)
{
    add(argv, option);
    add_taken(argv, taken_value);
}

/* QEMU's option parser takes a doubled comma for one. */
static char *quoted(const char *path)
{
    struct str text = STR_EMPTY;

    for (; *path; path++) {
        str_add_bytes(&text, path, 1);
        if (*path == ',')
            str_add(&text, ",");
    }
    return str_take(&text);
}

static char *quoted_file(const struct provider_instance *instance, const char *name)
{
    CLEANUP(mem_freep) char *path = qemu_file(instance, name);

    return quoted(path);
}

void qemu_node(size_t disk, char ret_node[QEMU_NODE_BYTES])
{
    (void)snprintf(ret_node, QEMU_NODE_BYTES, "disk%u", (unsigned)disk);
}

/* --- Disks --------------------------------------------------------------------------------- */

static json_t *own_disk(const struct machine_disk *disk, const char *node)
{
    struct stat st;
    bool is_device = stat(disk->path, &st) == 0 && S_ISBLK(st.st_mode);

    return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "driver", disk->format, "node-name", node,
                     "discard", "unmap", "file", "driver", is_device ? "host_device" : "file",
                     "filename", disk->path);
}

static json_t *served_disk(const struct provider_qemu *qemu,
                           const struct provider_instance *instance, size_t i, const char *node)
{
    const struct provider_served_disk *disk = &instance->served->at[i];
    CLEANUP(mem_freep) char *socket = qemu_served_file(instance, disk->name, "");
    char overlay[32], point[32], server[32];
    json_t *nbd;
    json_t *below;

    (void)snprintf(overlay, sizeof(overlay), "overlay%zu", i);
    (void)snprintf(point, sizeof(point), "point%zu", i);
    (void)snprintf(server, sizeof(server), "server%zu", i);
    nbd = json_pack("{s:s, s:s, s:b, s:{s:s, s:s}, s:s, s:i}", "driver", "nbd", "node-name", server,
                    "read-only", 1, "server", "type", "unix", "path", socket, "export", "",
                    "reconnect-delay", (int)qemu->reconnect_s);
    below = json_pack("{s:s, s:s, s:b, s:o}", "driver", "raw", "node-name", point, "read-only", 1,
                      "file", nbd);
    if (disk->own) {
        json_decref(below);
        below = json_null();
    }
    return json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:{s:s, s:s}, s:o}}", "driver", "throttle",
                     "node-name", node, "throttle-group", NO_LIMIT, "file", "driver", "qcow2",
                     "node-name", overlay, "file", "driver", "file", "filename", disk->overlay,
                     "backing", below);
}

static void add_disk(struct qemu_argv *argv, const struct provider_qemu *qemu,
                     const struct provider_instance *instance, size_t i)
{
    CLEANUP(json_freep) json_t *blockdev = NULL;
    bool iothread = instance->machine->disks.at[i].iothread && !instance->served;
    char node[QEMU_NODE_BYTES];
    char own_thread[40] = "";

    qemu_node(i, node);
    blockdev = instance->served ? served_disk(qemu, instance, i, node)
                                : own_disk(&instance->machine->disks.at[i], node);
    if (iothread) {
        add_pair(argv, "-object", mem_printf("iothread,id=thread%zu", i));
        (void)snprintf(own_thread, sizeof(own_thread), ",iothread=thread%zu", i);
    }
    add_pair(argv, "-blockdev", json_text(blockdev));
    add_pair(argv, "-device",
             mem_printf("virtio-blk-pci,id=blk%zu,drive=%s,bootindex=%zu%s%s", i, node, i + 1,
                        own_thread, instance->served ? ",werror=stop,rerror=stop" : ""));
}

/* --- The rest ------------------------------------------------------------------------------ */

static void add_monitor(struct qemu_argv *argv, const struct provider_instance *instance,
                        const char *name)
{
    CLEANUP(mem_freep) char *path = quoted_file(instance, name);

    add_pair(argv, "-chardev", mem_printf("socket,id=%s,path=%s,server=on,wait=off", name, path));
    add_pair(argv, "-mon", mem_printf("chardev=%s,mode=control", name));
}

static void add_channels(struct qemu_argv *argv, const struct provider_instance *instance)
{
    CLEANUP(mem_freep) char *console = quoted_file(instance, "console.log");
    CLEANUP(mem_freep) char *agent = quoted_file(instance, "agent");

    add_monitor(argv, instance, "qmp");
    add_monitor(argv, instance, "qmp-data");
    add_monitor(argv, instance, "qmp-spare");
    add_pair(argv, "-chardev", mem_printf("file,id=console,path=%s", console));
    add_pair(argv, "-serial", mem_strdup("chardev:console"));
    if (!instance->machine->agent)
        return;
    add_pair(argv, "-device", mem_strdup("virtio-serial-pci"));
    add_pair(argv, "-chardev", mem_printf("socket,id=agent,path=%s,server=on,wait=off", agent));
    add_pair(argv, "-device",
             mem_strdup("virtserialport,chardev=agent,name=org.qemu.guest_agent.0"));
}

static void add_nic(struct qemu_argv *argv, const struct provider_instance *instance, size_t i)
{
    char tap[QEMU_TAP_BYTES];

    if (qemu_tap_name(instance, i, tap))
        add_pair(argv, "-netdev",
                 mem_printf("tap,id=nic%zu,ifname=%s,script=no,downscript=no", i, tap));
    else
        add_pair(argv, "-netdev",
                 mem_printf("user,id=nic%zu%s", i, instance->isolated ? ",restrict=on" : ""));
    add_pair(
        argv, "-device",
        mem_printf("virtio-net-pci,netdev=nic%zu,mac=%s", i, instance->machine->nics.at[i].mac));
}

static void add_boot(struct qemu_argv *argv, const struct machine *machine)
{
    if (machine->firmware[0])
        add_pair(argv, "-bios", mem_strdup(machine->firmware));
    if (machine->kernel[0])
        add_pair(argv, "-kernel", mem_strdup(machine->kernel));
    if (machine->initrd[0])
        add_pair(argv, "-initrd", mem_strdup(machine->initrd));
    if (machine->cmdline[0])
        add_pair(argv, "-append", mem_strdup(machine->cmdline));
}

void qemu_argv_make(const struct provider_qemu *qemu, const struct provider_instance *instance,
                    const char *accel, bool paused, struct qemu_argv *ret_argv)
{
    const struct machine *machine = instance->machine;
    struct qemu_argv argv = {0};

    add(&argv, qemu->qemu_path);
    add_pair(&argv, "-name", mem_printf("guest=%s", machine->name));
    add(&argv, "-nodefaults");
    add(&argv, "-no-user-config");
    add_pair(&argv, "-display", mem_strdup("none"));
    add_pair(&argv, "-sandbox",
             mem_strdup("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
    add_pair(&argv, "-accel", mem_strdup(accel));
    add_pair(&argv, "-machine", mem_strdup("q35"));
    add_pair(&argv, "-cpu", mem_strdup("max"));
    add_pair(&argv, "-m", mem_printf("%" PRIu64 "M", machine->memory_bytes >> 20));
    add_pair(&argv, "-smp", mem_printf("%" PRIu32, machine->cpus));
    /* The guest's power-off leaves the process: it holds the disks and their change maps. */
    add(&argv, "-no-shutdown");
    add_pair(&argv, "-pidfile", qemu_file(instance, "qemu.pid"));
    add_boot(&argv, machine);
    add_channels(&argv, instance);
    if (instance->served)
        add_pair(&argv, "-object", mem_strdup("throttle-group,id=" NO_LIMIT));
    for (size_t i = 0; i < machine->disks.len; i++)
        add_disk(&argv, qemu, instance, i);
    for (size_t i = 0; i < machine->nics.len; i++)
        add_nic(&argv, instance, i);
    if (paused)
        add(&argv, "-S");
    *ret_argv = argv;
}
