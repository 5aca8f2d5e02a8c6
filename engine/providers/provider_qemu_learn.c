// SPDX-License-Identifier: Apache-2.0
/* Which drives a running QEMU has, and what each of them is:
 *
 *   query-block               device, node the guest writes to, its image; "qdev" is the device's path
 *   qom-get TYPE, iothread    of that device
 *   query-named-block-nodes   the file or host device below the node
 */
#include "providers/provider_qemu_learn.h"

#include "base/fs.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512

/* --- The process --------------------------------------------------------------------------- */

/* One of its virtual processors is a thread of that process: so it is QEMU itself, and in our own
 * process namespace. */
static bool has_thread(pid_t pid, uint64_t thread)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%ld/task/%" PRIu64, (long)pid, thread);
    return fs_exists(path);
}

/* The folder it was started in, by the way its owner wrote the path of the monitor: one that went into
 * the background (-daemonize) is in "/" now. */
static int learn_folder(struct qmp *qmp, struct qemu_peer *peer, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    const char *own = qmp_path(qmp);
    json_t *entry;
    size_t i;

    if (qmp_command(qmp, "query-chardev", NULL, &list, cancel, err) < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        CLEANUP(mem_freep) char *path = qemu_chardev_path(entry);
        size_t head = path && strlen(path) < strlen(own) ? strlen(own) - strlen(path) : 0;

        if (path && path[0] != '/' && head > 1 && own[head - 1] == '/' && str_eq(own + head, path)
            && head <= sizeof(peer->cwd))
            (void)snprintf(peer->cwd, sizeof(peer->cwd), "%.*s", (int)head - 1, own);
    }
    return 0;
}

/* "unix:PATH,server=on", "disconnected:unix:PATH,server=on". */
char *qemu_chardev_path(const json_t *chardev)
{
    const char *at = strstr(json_get_str(chardev, "filename", ""), "unix:");

    if (!at)
        return NULL;
    at += strlen("unix:");
    return mem_printf("%.*s", (int)strcspn(at, ","), at);
}

int qemu_peer_find(struct qmp *qmp, struct qemu_peer *ret_peer, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(json_freep) json_t *cpus = NULL;
    struct qemu_peer peer = {0};
    struct ucred who = {0};
    socklen_t len = sizeof(who);
    struct err gone = ERR_EMPTY;
    char path[64];

    if (qmp_command(qmp, "query-cpus-fast", NULL, &cpus, cancel, err) < 0)
        return -1;
    uint64_t thread = json_get_u64(json_array_get(cpus, 0), "thread-id", 0);
    if (getsockopt(qmp_fd(qmp), SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.pid > 0
        && has_thread(who.pid, thread) && proc_identify(who.pid, &peer.id, &gone) == 0) {
        (void)snprintf(path, sizeof(path), "/proc/%ld/cwd", (long)who.pid);
        ssize_t n = readlink(path, peer.cwd, sizeof(peer.cwd) - 1);
        peer.cwd[n > 1 ? n : 0] = '\0';
        peer.known = true;
    }
    if (learn_folder(qmp, &peer, cancel, err) < 0)
        return -1;
    *ret_peer = peer;
    return 0;
}

/* --- Paths --------------------------------------------------------------------------------- */

bool qemu_path_absolute(const struct qemu_peer *peer, const char *path,
                        char ret_path[MACHINE_PATH_BYTES])
{
    char made[2 * MACHINE_PATH_BYTES];

    if (strlen(path) >= MACHINE_PATH_BYTES || (path[0] != '/' && !peer->cwd[0]))
        return false;
    (void)snprintf(made, sizeof(made), "%s%s%s", path[0] == '/' ? "" : peer->cwd,
                   path[0] == '/' ? "" : "/", path);
    if (strlen(made) >= MACHINE_PATH_BYTES)
        return false;
    memcpy(ret_path, made, strlen(made) + 1);
    return true;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
        return a->st_rdev == b->st_rdev;
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool qemu_same_file(const char *a, const char *b)
{
    struct stat at_a, at_b;

    if (str_eq(a, b))
        return true;
    return stat(a, &at_a) == 0 && stat(b, &at_b) == 0 && is_same(&at_a, &at_b);
}

/* What lies at that path now may be another file than the one that QEMU opened. */
static bool is_replaced(const struct qemu_peer *peer, const char *path)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};
    struct err hidden = ERR_EMPTY;
    struct stat here, there;
    char folder[64];

    (void)snprintf(folder, sizeof(folder), "/proc/%ld/fd", (long)peer->id.pid);
    if (!peer->known || stat(path, &here) < 0 || fs_list(folder, &names, &hidden) < 0)
        return false;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *fd = path_join(folder, names.at[i]);

        if (stat(fd, &there) == 0 && is_same(&here, &there))
            return false;
    }
    return names.len > 0;
}

int qemu_property(struct qmp *qmp, const char *path, const char *name, char *ret_text, size_t len,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *value = NULL;
    struct err why = ERR_EMPTY;

    ret_text[0] = '\0';
    if (qmp_command(qmp, "qom-get", json_pack("{s:s, s:s}", "path", path, "property", name), &value,
                    cancel, &why)
        < 0) {
        if (why.code == ERR_STATE || why.code == ERR_NOT_FOUND)
            return 0;
        return err_set(err, why.code, why.sys, "%s", why.text);
    }
    const char *text = json_string_value(value);
    if (text && strlen(text) >= len)
        return err_set(err, ERR_LIMIT, 0, "%s of %s has %zu bytes, at most %zu are allowed", name,
                       path, strlen(text), len - 1);
    (void)snprintf(ret_text, len, "%s", text ? text : "");
    return 0;
}

/* --- Drives -------------------------------------------------------------------------------- */

static void PRINTF_LIKE(2, 3) wrong(struct qemu_drive *drive, const char *fmt, ...)
{
    va_list ap;

    if (drive->problem[0])
        return; /* the first one says enough */
    va_start(ap, fmt);
    (void)vsnprintf(drive->problem, sizeof(drive->problem), fmt, ap);
    va_end(ap);
}

static bool is_image(const char *format)
{
    return str_eq(format, "raw") || str_eq(format, "qcow2");
}

/* The node of the file or device itself, by the name that both have. */
static const json_t *protocol_node(const json_t *nodes, const char *file)
{
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *driver = json_get_str(node, "drv", "");

        if ((str_eq(driver, "file") || str_eq(driver, "host_device"))
            && str_eq(json_get_str(node, "file", ""), file))
            return node;
    }
    return NULL;
}

static void check_image(struct qemu_drive *drive, const json_t *inserted, const json_t *nodes)
{
    const json_t *image = json_object_get(inserted, "image");
    const char *file = json_get_str(inserted, "file", "");
    const json_t *below = protocol_node(nodes, file);
    uint64_t size = json_get_u64(image, "virtual-size", 0);
    uint64_t room = json_get_u64(json_object_get(below, "image"), "virtual-size", 0);
    const json_t *special = json_object_get(json_object_get(image, "format-specific"), "data");

    if (!is_image(drive->format))
        wrong(drive, "its node is of driver %s; only raw and qcow2 can be replicated",
              drive->format);
    if (!below)
        wrong(drive, "it is neither a file nor a block device, but %.100s", file);
    if (json_get_bool(inserted, "encrypted", false))
        wrong(drive, "its image is encrypted");
    if (json_object_get(special, "data-file"))
        wrong(drive, "its image keeps its data in another file");
    if (str_eq(drive->format, "raw") && below && (room + SECTOR - 1) / SECTOR * SECTOR != size)
        wrong(drive, "it shows %" PRIu64 " of the %" PRIu64 " bytes of its file", size, room);
    for (const json_t *base = json_object_get(image, "backing-image"); base;
         base = json_object_get(base, "backing-image"))
        if (!is_image(json_get_str(base, "format", "")))
            wrong(drive, "its backing file %.100s is of format %s; only raw and qcow2 can be",
                  json_get_str(base, "filename", ""), json_get_str(base, "format", "?"));
}

static int look_at_device(struct qmp *qmp, struct qemu_drive *drive, const char *qdev,
                          struct cancel *cancel, struct err *err)
{
    static const char backend[] = "/virtio-backend";
    CLEANUP(mem_freep) char *path = mem_strdup(qdev);
    size_t len = strlen(path);
    char type[64], iothread[256];

    if (len > strlen(backend) && str_eq(path + len - strlen(backend), backend))
        path[len - strlen(backend)] = '\0';
    if (qemu_property(qmp, path, "type", type, sizeof(type), cancel, err) < 0
        || qemu_property(qmp, path, "iothread", iothread, sizeof(iothread), cancel, err) < 0)
        return -1;
    drive->iothread = iothread[0] != '\0';
    drive->firmware = str_starts(type, "cfi.pflash");
    if (!str_starts(type, "virtio-blk"))
        wrong(drive, "it is on %s; only disks on virtio-blk can be",
              type[0] ? type : "an unknown device");
    return 0;
}

static void name_of(const json_t *entry, const char *qdev, char *ret_name, size_t len)
{
    const char *device = json_get_str(entry, "device", "");
    const char *peripheral = "/machine/peripheral/";

    if (device[0])
        (void)snprintf(ret_name, len, "%s", device);
    else if (str_starts(qdev, peripheral))
        (void)snprintf(ret_name, len, "%.*s", (int)strcspn(qdev + strlen(peripheral), "/"),
                       qdev + strlen(peripheral));
    else
        (void)snprintf(ret_name, len, "%s", qdev);
}

static int look_at_drive(struct qmp *qmp, const struct qemu_peer *peer, const json_t *entry,
                         const json_t *nodes, struct qemu_drive *drive, struct cancel *cancel,
                         struct err *err)
{
    const json_t *inserted = json_object_get(entry, "inserted");
    const char *qdev = json_get_str(entry, "qdev", "");
    const char *node = json_get_str(inserted, "node-name", "");
    const char *file = json_get_str(inserted, "file", "");

    name_of(entry, qdev, drive->device, sizeof(drive->device));
    (void)snprintf(drive->format, sizeof(drive->format), "%s", json_get_str(inserted, "drv", "?"));
    (void)snprintf(drive->path, sizeof(drive->path), "%s", file);
    drive->read_only = json_get_bool(inserted, "ro", false);
    if (look_at_device(qmp, drive, qdev, cancel, err) < 0)
        return -1;
    if (drive->read_only || drive->firmware) {
        drive->problem[0] = '\0';
        return 0;
    }
    if (strlen(node) >= sizeof(drive->node))
        wrong(drive, "its node's name is too long");
    else
        (void)snprintf(drive->node, sizeof(drive->node), "%s", node);
    check_image(drive, inserted, nodes);
    if (!qemu_path_absolute(peer, file, drive->path))
        wrong(drive, "nobody here can tell which folder its path %.100s begins in", file);
    else if (!fs_exists(drive->path))
        wrong(drive, "there is no %.150s", drive->path);
    if (is_replaced(peer, drive->path))
        wrong(drive, "the file at %.150s is not the one that QEMU has open", drive->path);
    return 0;
}

/* What is inserted nowhere, or in nothing that the guest has, is no drive of its. */
int qemu_drives_find(struct qmp *qmp, const struct qemu_peer *peer, struct qemu_drives *ret_drives,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    CLEANUP(json_freep) json_t *nodes = NULL;
    json_t *entry;
    size_t i;

    qemu_drives_clear(ret_drives);
    if (qmp_command(qmp, "query-block", NULL, &list, cancel, err) < 0
        || qmp_command(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), &nodes,
                       cancel, err)
               < 0)
        return -1;
    json_array_foreach(list, i, entry)
        if (json_object_get(entry, "inserted") && json_object_get(entry, "qdev")
            && look_at_drive(qmp, peer, entry, nodes, qemu_drives_push(ret_drives), cancel, err)
                   < 0)
            return -1;
    return 0;
}
