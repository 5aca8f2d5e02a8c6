// SPDX-License-Identifier: Apache-2.0
/* What would stop a start, and the probes. */
#include "providers/provider_qemu.h"

#include "base/fs.h"
#include "base/mem.h"
#include "qemu/agent.h"
#include "qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm.h>

#define CPUID_ENTRIES    128
#define CPUID_1_ECX_SSE3 1U
#define AGENT_MS         5000

/* --- KVM ----------------------------------------------------------------------------------- */

/* A device that is there may still not do: where KVM is itself emulated it can lack what every
 * 64-bit processor has, and QEMU aborts later on. So it is asked what it offers to guests. */
static bool kvm_offers_a_processor(int kvm)
{
    CLEANUP(mem_freep)
    struct kvm_cpuid2 *cpuid =
        mem_alloc(1, sizeof(*cpuid) + CPUID_ENTRIES * sizeof(struct kvm_cpuid_entry2));

    cpuid->nent = CPUID_ENTRIES;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) < 0)
        return false;
    for (uint32_t i = 0; i < cpuid->nent && i < CPUID_ENTRIES; i++)
        if (cpuid->entries[i].function == 1)
            return cpuid->entries[i].ecx & CPUID_1_ECX_SSE3;
    return false;
}

static bool kvm_is_usable(void)
{
    CLEANUP(fd_close) int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    CLEANUP(fd_close) int machine = -1;

    if (kvm < 0 || ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return false;
    machine = ioctl(kvm, KVM_CREATE_VM, 0);
    return machine >= 0 && kvm_offers_a_processor(kvm);
}

const char *qemu_accel(const char *wanted)
{
    if (!str_eq(wanted, "auto"))
        return wanted;
    return kvm_is_usable() ? "kvm" : "tcg";
}

/* --- Check --------------------------------------------------------------------------------- */

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    CLEANUP(mem_freep) char *folders = mem_strdup(path ? path : "/usr/bin:/bin");
    char *rest = folders;
    char *folder;

    if (strchr(program, '/'))
        return access(program, X_OK) == 0;
    while ((folder = strsep(&rest, ":")) != NULL) {
        CLEANUP(mem_freep) char *candidate = path_join(folder[0] ? folder : ".", program);
        if (access(candidate, X_OK) == 0)
            return true;
    }
    return false;
}

static void need_program(const char *program, struct str *problems)
{
    if (!in_path(program))
        str_addf(problems, "program %s: not found in PATH; hint: install it\n", program);
}

static void need_file(const char *what, const char *path, int mode, struct str *problems)
{
    if (path[0] && access(path, mode) < 0)
        str_addf(problems, "%s %s: %s\n", what, path, strerror(errno));
}

static void check_format(const struct machine_disk *disk, struct str *problems)
{
    CLEANUP(fd_close) int fd = open(disk->path, O_RDONLY | O_CLOEXEC);
    char magic[4] = "";
    bool is_qcow2 = fd >= 0 && pread(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic)
                    && memcmp(magic, "QFI\xfb", sizeof(magic)) == 0;

    if (fd < 0)
        return;
    /* A raw disk whose guest writes such a header is not taken for one, either. */
    if (is_qcow2 && str_eq(disk->format, "raw"))
        str_addf(problems, "disk %s: %s is a qcow2 image, but format is \"raw\"\n", disk->name,
                 disk->path);
    if (!is_qcow2 && str_eq(disk->format, "qcow2"))
        str_addf(problems, "disk %s: %s is no qcow2 image\n", disk->name, disk->path);
}

static void check_nic(const struct machine_nic *nic, struct str *problems)
{
    const char *bridge = nic->network + strlen("bridge ");

    if (!str_starts(nic->network, "bridge "))
        return;
    CLEANUP(mem_freep) char *path = mem_printf("/sys/class/net/%s/bridge", bridge);
    if (!fs_exists(path))
        str_addf(problems, "nic %s: there is no bridge %s\n", nic->mac, bridge);
}

int qemu_check(struct provider *provider, const struct machine *machine, struct str *ret_problems,
               struct err *err)
{
    const struct provider_qemu *qemu = provider_qemu(provider);

    (void)err;
    need_program(qemu->qemu_path, ret_problems);
    need_program("qemu-nbd", ret_problems);
    need_program("nbdkit", ret_problems);
    if (machine->nics.len > 0)
        need_program("ip", ret_problems);
    need_file("nbdkit plugin", qemu->plugin_path, R_OK, ret_problems);
    need_file("kernel", machine->kernel, R_OK, ret_problems);
    need_file("initrd", machine->initrd, R_OK, ret_problems);
    need_file("firmware", machine->firmware, R_OK, ret_problems);
    if (str_eq(machine->accel, "kvm") && !kvm_is_usable())
        str_add(ret_problems, "accel \"kvm\": this host's KVM is not usable; hint: \"auto\" takes "
                              "it where it is\n");
    VEC_FOREACH(disk, &machine->disks) {
        char what[MACHINE_NAME_BYTES + 8];
        (void)snprintf(what, sizeof(what), "disk %s:", disk->name);
        need_file(what, disk->path, R_OK | W_OK, ret_problems);
        check_format(disk, ret_problems);
    }
    VEC_FOREACH(nic, &machine->nics)
        check_nic(nic, ret_problems);
    return 0;
}

/* What a cut takes: maps that are merged in one transaction, and copying by one of them. */
static const char *const tracking_commands[] = {
    "block-dirty-bitmap-add",
    "block-dirty-bitmap-merge",
    "block-dirty-bitmap-remove",
    "transaction",
    "blockdev-add",
    "blockdev-backup",
};

static bool has_command(const json_t *commands, const char *name)
{
    const json_t *command;
    size_t i;

    json_array_foreach(commands, i, command) {
        if (str_eq(json_get_str(command, "name", ""), name))
            return true;
    }
    return false;
}

int qemu_can_track(struct provider *provider, const struct provider_instance *instance,
                   bool *ret_running, struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    CLEANUP(json_freep) json_t *commands = NULL;
    CLEANUP(str_free) struct str missing = STR_EMPTY;
    enum instance_state state;

    if (qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    if (qmp && qmp_command(qmp, "query-commands", NULL, &commands, cancel, err) < 0)
        return -1;
    for (size_t i = 0; qmp && i < ARRAY_LEN(tracking_commands); i++)
        if (!has_command(commands, tracking_commands[i]))
            str_addf(&missing, "%s%s", missing.len ? ", " : "", tracking_commands[i]);
    if (missing.len)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "its QEMU cannot keep track of changes, it has no %s; hint: 6.2 or newer",
                       str_text(&missing));
    *ret_running = qmp != NULL;
    return 0;
}

/* --- Probes -------------------------------------------------------------------------------- */

int qemu_agent_answers(struct provider *provider, const struct provider_instance *instance,
                       struct cancel *cancel, struct err *err)
{
    const struct provider_qemu *qemu = provider_qemu(provider);
    CLEANUP(mem_freep) char *path = qemu_agent_path(instance);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(qemu->clock, cancel, AGENT_MS);
    CLEANUP(agent_closep) struct agent *agent = NULL;
    struct err why = ERR_EMPTY;

    if (!path[0])
        return err_set(err, ERR_UNSUPPORTED, 0, "machine %s has no agent channel; hint: %s",
                       instance->machine->name,
                       qemu_has_owner(instance) ? "adopt it with --agent SOCKET"
                                                : "agent = true in its definition");
    if (agent_open(path, qemu->clock, &agent, limit, &why) == 0)
        return 1;
    if (why.code == ERR_TIMEOUT || why.code == ERR_NET)
        return 0;
    if (err)
        *err = why;
    return -1;
}

int qemu_console_has(struct provider *provider, const struct provider_instance *instance,
                     const char *text, struct err *err)
{
    CLEANUP(mem_freep) char *path = qemu_file(instance, "console.log");
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    int found = 0;

    (void)provider;
    if (!file)
        return errno == ENOENT ? 0 : err_set(err, ERR_IO, errno, "open %s", path);
    while (!found && getline(&line, &room, file) >= 0)
        found = strstr(line, text) != NULL;
    free(line);
    (void)fclose(file);
    return found;
}
