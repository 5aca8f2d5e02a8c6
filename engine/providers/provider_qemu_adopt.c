// SPDX-License-Identifier: Apache-2.0
/* A running machine's definition, learned from its monitor:
 *
 *   memory, cpus       query-memory-size-summary, query-cpus-fast
 *   kernel, firmware   properties of /machine (relative to its process's folder)
 *   disks              provider_qemu_learn.c
 *   nics               "info network", the only place that tells peers as well as addresses
 *   agent              the virtserialport of its name, and that one's chardev
 *
 * What stands in the way is collected, one line each, so that nobody mends one thing after
 * another.
 * A definition that is given is compared with the learned one (provider_qemu_compare.c). */
#include "base/fs.h"
#include "base/mem.h"
#include "providers/provider_qemu_learn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_MS      20000
#define VERSION_MIN    602 /* 6.2 */
#define AGENT_PORT     "org.qemu.guest_agent.0"
#define GIVE_ITS       "hint: give its definition with --definition FILE"
#define PROPERTY_BYTES 1024

struct adoption {
    const struct provider_adoption *what;
    struct provider_adopted *out;
    struct qmp *qmp;
    struct qemu_peer peer;
    struct cancel *cancel;
};

void provider_adopted_done(struct provider_adopted *adopted)
{
    machine_done(&adopted->machine);
    str_free(&adopted->problems);
    str_free(&adopted->notes);
    memset(adopted, 0, sizeof(*adopted));
}

static void PRINTF_LIKE(2, 3) problem(struct adoption *a, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    str_addf(&a->out->problems, "%s\n", text);
}

static int get(struct adoption *a, const char *command, json_t **ret_result, struct err *err)
{
    return qmp_command(a->qmp, command, NULL, ret_result, a->cancel, err);
}

static int property(struct adoption *a, const char *path, const char *name,
                    char ret_text[PROPERTY_BYTES], struct err *err)
{
    return qemu_property(a->qmp, path, name, ret_text, PROPERTY_BYTES, a->cancel, err);
}

/* --- Reaching it --------------------------------------------------------------------------- */

static int check_socket(const char *path, struct err *err)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return err_set(err,
                       errno == ENOENT   ? ERR_NOT_FOUND
                       : errno == EACCES ? ERR_DENIED
                                         : ERR_IO,
                       errno, "%s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(err, ERR_INVALID, 0,
                       "%s is no socket; hint: the path given to QEMU's -qmp unix:PATH,server=on",
                       path);
    return 0;
}

static int reach(struct adoption *a, const struct provider_qemu *qemu, struct err *err)
{
    const char *path = a->what->qmp;

    if (check_socket(path, err) < 0)
        return -1;
    if (qmp_open(path, qemu->clock, &a->qmp, a->cancel, err) == 0)
        return 0;
    if (err->code == ERR_NET && err->sys == ECONNREFUSED)
        return err_set(err, ERR_NOT_FOUND, 0,
                       "nobody listens at %s; hint: the machine must be running to be adopted",
                       path);
    if (err->code == ERR_NET && (err->sys == EACCES || err->sys == EPERM))
        return err_set(err, ERR_DENIED, err->sys,
                       "%s; hint: let the user that Muster runs as use it", path);
    if (err->code == ERR_NET)
        return err_set(err, ERR_PROTOCOL, 0, "whoever listens at %s closes at once: no QMP", path);
    return -1;
}

static int check_version(struct adoption *a, struct err *err)
{
    CLEANUP(json_freep) json_t *version = NULL;

    if (get(a, "query-version", &version, err) < 0)
        return -1;
    const json_t *qemu = json_object_get(version, "qemu");
    uint64_t major = json_get_u64(qemu, "major", 0), minor = json_get_u64(qemu, "minor", 0);
    if (major * 100 + minor >= VERSION_MIN)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "QEMU %" PRIu64 ".%" PRIu64 " at %s is too old; 6.2 or newer can be adopted",
                   major, minor, a->what->qmp);
}

/* What migrates, or has failed, is no machine to rely on. */
static int check_status(struct adoption *a, struct err *err)
{
    static const char *const fine[] = {"running",  "paused",    "prelaunch",
                                       "shutdown", "suspended", "io-error"};
    char status[32];

    if (blocks_machine_status(a->qmp, status, sizeof(status), a->cancel, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(fine); i++)
        if (str_eq(status, fine[i]))
            return 0;
    problem(a, "its state is %s", status);
    return 0;
}

/* It must be able to open what we put beside its disks. */
static void check_process(struct adoption *a)
{
    char path[64], root[MACHINE_PATH_BYTES];
    struct stat st;

    if (!a->peer.known)
        return;
    (void)snprintf(path, sizeof(path), "/proc/%ld", (long)a->peer.id.pid);
    if (stat(path, &st) == 0 && st.st_uid != 0 && st.st_uid != geteuid())
        problem(a,
                "QEMU runs as user %u and cannot open the files that Muster, user %u, stages "
                "changes in; hint: run both as one user",
                (unsigned)st.st_uid, (unsigned)geteuid());
    (void)snprintf(path, sizeof(path), "/proc/%ld/root", (long)a->peer.id.pid);
    ssize_t n = readlink(path, root, sizeof(root) - 1);
    root[n > 0 ? n : 0] = '\0';
    if (n > 0 && !str_eq(root, "/"))
        problem(a, "QEMU runs in the root folder %s and sees other files than Muster", root);
}

/* --- Memory, kernel, disks ----------------------------------------------------------------- */

static int learn_size(struct adoption *a, struct err *err)
{
    CLEANUP(json_freep) json_t *memory = NULL;
    CLEANUP(json_freep) json_t *cpus = NULL;
    struct machine *machine = &a->out->machine;

    if (get(a, "query-memory-size-summary", &memory, err) < 0
        || get(a, "query-cpus-fast", &cpus, err) < 0)
        return -1;
    machine->memory_bytes =
        json_get_u64(memory, "base-memory", 0) + json_get_u64(memory, "plugged-memory", 0);
    machine->cpus = (uint32_t)json_array_size(cpus);
    if (machine->memory_bytes % (1U << 20))
        problem(a, "it has %" PRIu64 " bytes of memory, and not whole MiB", machine->memory_bytes);
    return 0;
}

static void take_file(struct adoption *a, const char *what, const char *value, char *ret_path)
{
    char path[MACHINE_PATH_BYTES];

    if (!value[0] || (a->what->given && !a->peer.cwd[0] && value[0] != '/'))
        return;
    if (qemu_path_absolute(&a->peer, value, path))
        (void)snprintf(ret_path, MACHINE_PATH_BYTES, "%s", path);
    else
        problem(a, "its %s %s cannot be told from here; " GIVE_ITS, what, value);
}

static int learn_boot(struct adoption *a, struct err *err)
{
    struct machine *machine = &a->out->machine;
    char kernel[PROPERTY_BYTES], initrd[PROPERTY_BYTES], append[PROPERTY_BYTES];
    char firmware[PROPERTY_BYTES], type[PROPERTY_BYTES];

    if (property(a, "/machine", "kernel", kernel, err) < 0
        || property(a, "/machine", "initrd", initrd, err) < 0
        || property(a, "/machine", "append", append, err) < 0
        || property(a, "/machine", "firmware", firmware, err) < 0
        || property(a, "/machine", "type", type, err) < 0)
        return -1;
    take_file(a, "kernel", kernel, machine->kernel);
    take_file(a, "initrd", initrd, machine->initrd);
    if (kernel[0])
        (void)snprintf(machine->cmdline, sizeof(machine->cmdline), "%s", append);
    /* QEMU says the name of its own one, too, which it looks for in its own folder. */
    if (strchr(firmware, '/'))
        take_file(a, "firmware", firmware, machine->firmware);
    else if (firmware[0] && !str_starts(firmware, "bios") && !a->what->given)
        problem(a, "its firmware %s is not QEMU's usual one; " GIVE_ITS, firmware);
    if (!strstr(type, "q35"))
        str_addf(&a->out->notes, "it is a %s; a recovered one is a q35\n", type);
    (void)snprintf(machine->accel, sizeof(machine->accel), "auto");
    return 0;
}

static int learn_disks(struct adoption *a, struct err *err)
{
    CLEANUP(qemu_drives_free) struct qemu_drives drives = VEC_EMPTY;
    struct machine *machine = &a->out->machine;

    if (qemu_drives_find(a->qmp, &a->peer, &drives, a->cancel, err) < 0)
        return -1;
    VEC_FOREACH(drive, &drives) {
        if (drive->firmware && a->what->given && a->what->given->firmware[0]) {
            str_addf(&a->out->notes, "%s (%s) is not replicated\n", drive->device, drive->path);
        } else if (drive->firmware) {
            problem(a, "its firmware is on the flash drive %s (UEFI); " GIVE_ITS, drive->path);
        } else if (drive->read_only) {
            str_addf(&a->out->notes, "%s (%s) is read-only and left out\n", drive->device,
                     drive->path);
        } else if (drive->problem[0]) {
            problem(a, "drive %s: %s", drive->device, drive->problem);
        } else {
            struct machine_disk *disk = machine_disks_push(&machine->disks);

            (void)snprintf(disk->path, sizeof(disk->path), "%s", drive->path);
            (void)snprintf(disk->format, sizeof(disk->format), "%s", drive->format);
            disk->iothread = drive->iothread;
        }
    }
    if (machine->disks.len == 0)
        problem(a, "it has no disk that could be replicated");
    return 0;
}

/* --- Network ------------------------------------------------------------------------------- */

/* The value of "NAME=" in a line of "info network". */
static bool value_in(const char *line, const char *name, char *ret_value, size_t len)
{
    for (const char *at = strstr(line, name); at; at = strstr(at + 1, name)) {
        size_t n;

        if (at != line && at[-1] != ',' && at[-1] != ' ')
            continue;
        at += strlen(name);
        n = strcspn(at, ",\r\n");
        if (n == 0 || n >= len)
            return false;
        (void)snprintf(ret_value, len, "%.*s", (int)n, at);
        return true;
    }
    return false;
}

/* "user", or the bridge that a tap device is in; "" when it cannot be told. */
static void network_of(const char *peer, char *ret_network, size_t len)
{
    char type[32] = "", name[16], path[64], link[256];

    ret_network[0] = '\0';
    (void)value_in(peer, "type=", type, sizeof(type));
    if (str_eq(type, "user")) {
        (void)snprintf(ret_network, len, "user");
    } else if (value_in(peer, "br=", name, sizeof(name))) {
        (void)snprintf(ret_network, len, "bridge %s", name);
    } else if (str_eq(type, "tap") && value_in(peer, "ifname=", name, sizeof(name))) {
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/master", name);
        ssize_t n = readlink(path, link, sizeof(link) - 1);
        link[n > 0 ? n : 0] = '\0';
        if (n > 0 && strrchr(link, '/'))
            (void)snprintf(ret_network, len, "bridge %.15s", strrchr(link, '/') + 1);
    }
}

static void learn_nic(struct adoption *a, const char *line, const char *peer)
{
    struct machine_nic *nic = machine_nics_push(&a->out->machine.nics);
    char model[64] = "?";

    if (!value_in(line, "macaddr=", nic->mac, sizeof(nic->mac)))
        (void)snprintf(nic->mac, sizeof(nic->mac), "?");
    network_of(peer, nic->network, sizeof(nic->network));
    if (!nic->network[0] && !a->what->given)
        problem(a, "nic %s: its network cannot be told (%.100s); " GIVE_ITS, nic->mac,
                peer[0] ? peer : "it has none");
    (void)value_in(line, "model=", model, sizeof(model));
    if (!str_starts(model, "virtio-net"))
        str_addf(&a->out->notes, "nic %s is a %s; a recovered one is a virtio-net-pci\n", nic->mac,
                 model);
}

/* A line per device of the guest, and behind it one for what it is plugged into:
 *
 *   virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56
 *    \ n0: index=0,type=user,net=10.0.2.0,restrict=off
 */
static int learn_nics(struct adoption *a, struct err *err)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    CLEANUP(mem_freep) char *text = NULL;
    char *save = NULL, *nic = NULL;

    if (qmp_command(a->qmp, "human-monitor-command",
                    json_pack("{s:s}", "command-line", "info network"), &answer, a->cancel, err)
        < 0)
        return -1;
    text = mem_strdup(json_is_string(answer) ? json_string_value(answer) : "");
    for (char *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        bool is_peer = line[strspn(line, " ")] == '\\';

        if (nic) {
            learn_nic(a, nic, is_peer ? line : "");
            nic = NULL;
        }
        if (!is_peer && strstr(line, "type=nic,"))
            nic = line;
    }
    if (nic)
        learn_nic(a, nic, "");
    return 0;
}

/* --- Other devices ------------------------------------------------------------------------- */

static int chardev_socket(struct adoption *a, const char *id, char ret_path[MACHINE_PATH_BYTES],
                          struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    json_t *entry;
    size_t i;

    ret_path[0] = '\0';
    if (get(a, "query-chardev", &list, err) < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        CLEANUP(mem_freep) char *path = qemu_chardev_path(entry);

        if (path && str_eq(json_get_str(entry, "label", ""), id)
            && !qemu_path_absolute(&a->peer, path, ret_path))
            ret_path[0] = '\0';
    }
    return 0;
}

static int learn_port(struct adoption *a, const char *device, struct err *err)
{
    struct machine *machine = &a->out->machine;
    char name[PROPERTY_BYTES], chardev[PROPERTY_BYTES];

    if (property(a, device, "name", name, err) < 0)
        return -1;
    if (!str_eq(name, AGENT_PORT))
        return 0;
    machine->agent = true;
    if (property(a, device, "chardev", chardev, err) < 0)
        return -1;
    return chardev_socket(a, chardev, machine->agent_socket, err);
}

static bool is_usual(const char *type)
{
    static const char *const usual[] = {"virtio-blk",     "virtio-net", "virtio-serial",
                                        "virtserialport", "iothread",   "pcie-root-port"};

    for (size_t i = 0; i < ARRAY_LEN(usual); i++)
        if (str_starts(type, usual[i]))
            return true;
    return false;
}

/* Every device has a child<TYPE> in its folder. */
static int learn_folder(struct adoption *a, const char *folder, struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    json_t *entry;
    size_t i;

    if (qmp_command(a->qmp, "qom-list", json_pack("{s:s}", "path", folder), &list, a->cancel, err)
        < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        CLEANUP(mem_freep)
        char *device = mem_printf("%s/%s", folder, json_get_str(entry, "name", ""));
        const char *type = json_get_str(entry, "type", "");

        if (!str_starts(type, "child<"))
            continue;
        type += strlen("child<");
        if (str_starts(type, "virtserialport") && learn_port(a, device, err) < 0)
            return -1;
        /* Network cards are told of by their model, disks' controllers by their drives. */
        if (!is_usual(type) && !strstr(type, "scsi") && !strstr(type, "ide-"))
            str_addf(&a->out->notes, "a recovered one has no %.*s\n", (int)strcspn(type, ">"),
                     type);
    }
    return 0;
}

static int learn_devices(struct adoption *a, struct err *err)
{
    struct machine *machine = &a->out->machine;
    struct err why = ERR_EMPTY;

    if (learn_folder(a, "/machine/peripheral", err) < 0
        || learn_folder(a, "/machine/peripheral-anon", err) < 0)
        return -1;
    if (a->what->agent[0]) {
        machine->agent = true;
        if (check_socket(a->what->agent, &why) < 0)
            problem(a, "agent: %s", why.text);
        (void)snprintf(machine->agent_socket, sizeof(machine->agent_socket), "%s", a->what->agent);
    }
    return 0;
}

/* --- All of it ----------------------------------------------------------------------------- */

static int learn(struct adoption *a, struct err *err)
{
    if (check_version(a, err) < 0 || qemu_peer_find(a->qmp, &a->peer, a->cancel, err) < 0)
        return -1;
    check_process(a);
    if (check_status(a, err) < 0 || learn_size(a, err) < 0 || learn_boot(a, err) < 0
        || learn_disks(a, err) < 0 || learn_nics(a, err) < 0 || learn_devices(a, err) < 0)
        return -1;
    return 0;
}

/* The given one with the learned sockets, or the learned one; by way of JSON, so that it is checked
 * as any other, and its disks get their names. */
static int settle(struct adoption *a, struct err *err)
{
    struct machine *machine = &a->out->machine;
    CLEANUP(machine_done) struct machine learned = *machine;
    CLEANUP(json_freep) json_t *json = NULL;
    json_t *disk;
    size_t i;

    machine_init(machine);
    (void)snprintf(learned.name, sizeof(learned.name), "%s", a->what->name);
    json = machine_to_json(a->what->given ? a->what->given : &learned);
    (void)json_object_set_new(json, "qmp", json_string(a->what->qmp));
    if (learned.agent_socket[0])
        (void)json_object_set_new(json, "agent_socket", json_string(learned.agent_socket));
    if (a->what->given || !a->out->notes.len)
        (void)json_object_set_new(json, "complete", json_true());
    if (!a->what->given)
        json_array_foreach(json_object_get(json, "disks"), i, disk)
            (void)json_object_del(disk, "name");
    return machine_from_json(json, machine, err);
}

int qemu_adopt(struct provider *provider, const struct provider_adoption *what,
               struct provider_adopted *ret_adopted, struct cancel *cancel, struct err *err)
{
    const struct provider_qemu *qemu = provider_qemu(provider);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(qemu->clock, cancel, ANSWER_MS);
    CLEANUP(provider_adopted_done) struct provider_adopted out = {.problems = STR_EMPTY};
    struct adoption a = {.what = what, .out = &out, .cancel = limit};
    struct err spare = ERR_EMPTY;

    err = err ? err : &spare; /* the code is looked at */
    machine_init(&out.machine);
    int rc = reach(&a, qemu, err);
    if (rc == 0)
        rc = learn(&a, err);
    qmp_close(a.qmp);
    if (rc == 0 && what->given)
        qemu_compare(what->given, &out.machine, &out.problems);
    if (rc == 0 && !out.problems.len)
        rc = settle(&a, err);
    if (rc < 0)
        return err_wrap(err, "adopt %s", what->name);
    *ret_adopted = out;
    memset(&out, 0, sizeof(out));
    return 0;
}
