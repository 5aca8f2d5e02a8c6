// SPDX-License-Identifier: Apache-2.0
/* What would stop a start, all of it, before it is tried. */
#include "base/fs.h"
#include "base/mem.h"
#include "providers/qemu_instance.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "QFI\xfb": qcow2's magic (QEMU, docs/interop/qcow2.txt). */
static const unsigned char qcow2_magic[4] = {'Q', 'F', 'I', 0xfb};

static void check_readable(const char *path, const char *what, struct str *problems)
{
    if (path[0] && access(path, R_OK) < 0)
        str_addf(problems, "%s %s: %s\n", what, path, strerror(errno));
}

static void check_disk(const struct machine_disk *disk, struct str *problems)
{
    CLEANUP(fd_close) int fd = open(disk->path, O_RDWR | O_CLOEXEC);
    unsigned char magic[sizeof(qcow2_magic)] = {0};
    struct stat st;

    if (fd < 0) {
        str_addf(problems, "disk %s %s: %s\n", disk->name, disk->path, strerror(errno));
        return;
    }
    if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))) {
        str_addf(problems, "disk %s %s: neither a file nor a block device\n", disk->name,
                 disk->path);
        return;
    }
    bool is_qcow2 = pread(fd, magic, sizeof(magic), 0) == (ssize_t)sizeof(magic)
                    && memcmp(magic, qcow2_magic, sizeof(magic)) == 0;
    if (is_qcow2 != str_eq(disk->format, "qcow2"))
        str_addf(problems, "disk %s %s: its format is %s, the definition says %s\n", disk->name,
                 disk->path, is_qcow2 ? "qcow2" : "not qcow2", disk->format);
}

static void check_nic(const struct machine_nic *nic, struct str *problems)
{
    const char *bridge = nic->network + strlen("bridge ");

    if (str_eq(nic->network, "user"))
        return;
    CLEANUP(mem_freep) char *path = mem_printf("/sys/class/net/%s/bridge", bridge);
    if (!fs_exists(path))
        str_addf(problems, "nic %s: no bridge '%s' on this host\n", nic->mac, bridge);
}

/* True when `program` is there: a path, or a name in PATH. */
static bool program_exists(const char *program)
{
    const char *path = getenv("PATH");
    CLEANUP(mem_freep) char *folders = mem_strdup(path ? path : "/usr/bin:/bin");
    char *rest = NULL;

    if (strchr(program, '/'))
        return access(program, X_OK) == 0;
    for (char *dir = strtok_r(folders, ":", &rest); dir; dir = strtok_r(NULL, ":", &rest)) {
        CLEANUP(mem_freep) char *full = path_join(dir, program);

        if (access(full, X_OK) == 0)
            return true;
    }
    return false;
}

int qemu_check(struct provider *provider, const struct machine *machine, struct str *ret_problems,
               struct err *err)
{
    const struct provider_qemu *qemu = (const struct provider_qemu *)provider;
    const char *const programs[] = {qemu->qemu_path, "qemu-img", "qemu-nbd", "nbdkit", "ip"};

    (void)err;
    for (size_t i = 0; i < ARRAY_LEN(programs); i++)
        if (!program_exists(programs[i]))
            str_addf(ret_problems, "%s: no such program on this host\n", programs[i]);
    if (access(qemu->plugin_path, R_OK) < 0)
        str_addf(ret_problems, "%s: %s\n", qemu->plugin_path, strerror(errno));
    if (str_eq(machine->accel, "kvm") && access("/dev/kvm", R_OK | W_OK) < 0)
        str_addf(ret_problems, "accel = \"kvm\": /dev/kvm: %s\n", strerror(errno));
    check_readable(machine->kernel, "kernel", ret_problems);
    check_readable(machine->initrd, "initrd", ret_problems);
    check_readable(machine->firmware, "firmware", ret_problems);
    VEC_FOREACH(disk, &machine->disks)
        check_disk(disk, ret_problems);
    VEC_FOREACH(nic, &machine->nics)
        check_nic(nic, ret_problems);
    return 0;
}
