// SPDX-License-Identifier: Apache-2.0
/* Served disks: an nbdkit with our plugin shows a point of the replica on a unix socket. It is
 * detached, like the machine that uses it, and found again by its pid file. */
#include "providers/provider_qemu.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "block/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define START_MS 30000
#define LOOK_MS  5
#define GRACE_MS 5000

/* What the server said last. */
static int server_ended(const struct provider_served_disk *disk, const char *log, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    const char *last;

    if (fs_read_file(fs_real(), log, 65536, &text, &none) < 0)
        str_clear(&text);
    while (text.len && text.ptr[text.len - 1] == '\n')
        text.ptr[--text.len] = '\0';
    last = strrchr(str_text(&text), '\n');
    return err_set(err, ERR_IO, 0, "disk %s: the server of point %" PRIu64 " of %s ended: %s",
                   disk->name, disk->point, disk->replica_dir, last ? last + 1 : str_text(&text));
}

/* nbdkit writes its pid file when it is ready for connections. */
static int wait_ready(const struct provider_instance *instance,
                      const struct provider_served_disk *disk, const struct proc_id *id,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, START_MS);
    CLEANUP(mem_freep) char *pid_path = qemu_served_file(instance, disk->name, ".pid");
    CLEANUP(mem_freep) char *log = qemu_served_file(instance, disk->name, ".log");

    while (!fs_exists(pid_path)) {
        if (!proc_is_alive(id))
            return server_ended(disk, log, err);
        if (cancel_sleep(limit, LOOK_MS, err) < 0)
            return err_wrap(err, "disk %s: wait for its server", disk->name);
    }
    return 0;
}

static int start_server(const struct provider_qemu *qemu, const struct provider_instance *instance,
                        const struct provider_served_disk *disk, struct proc_id *ret_id,
                        struct err *err)
{
    CLEANUP(mem_freep) char *socket = qemu_served_file(instance, disk->name, "");
    CLEANUP(mem_freep) char *pid_path = qemu_served_file(instance, disk->name, ".pid");
    CLEANUP(mem_freep) char *log = qemu_served_file(instance, disk->name, ".log");
    CLEANUP(mem_freep) char *dir = mem_printf("dir=%s", disk->replica_dir);
    CLEANUP(mem_freep) char *name = mem_printf("disk=%s", disk->replica_disk);
    CLEANUP(mem_freep) char *point = mem_printf("point=%" PRIu64, disk->point);
    CLEANUP(mem_freep) char *key = mem_printf("keyfile=%s", disk->key_path);
    CLEANUP(mem_freep) char *luks = mem_printf("luks=%s", disk->luks_path);
    const char *const argv[] = {"nbdkit",     "--foreground",
                                "--readonly", "--unix",
                                socket,       "--pidfile",
                                pid_path,     qemu->plugin_path,
                                "mode=view",  dir,
                                name,         point,
                                key,          disk->luks_path[0] ? luks : NULL,
                                NULL};
    const struct proc_spec spec = {.argv = argv, .log_path = log};

    (void)unlink(pid_path);
    (void)unlink(socket);
    (void)unlink(log);
    if (proc_spawn_detached(&spec, ret_id, err) < 0) {
        if (err && err->code == ERR_NOT_FOUND && fs_exists(log))
            return server_ended(disk, log, err);
        return err_wrap(err, "disk %s", disk->name);
    }
    CRASH_POINT("provider.server-spawned");
    return 0;
}

/* --- Overlays ------------------------------------------------------------------------------ */

static int served_size(const struct provider_instance *instance,
                       const struct provider_served_disk *disk, uint64_t *ret_size, struct err *err)
{
    CLEANUP(mem_freep) char *socket = qemu_served_file(instance, disk->name, "");
    struct nbd_handle *nbd = nbd_create();
    int64_t size = -1;

    if (nbd && nbd_connect_unix(nbd, socket) == 0)
        size = nbd_get_size(nbd);
    if (size <= 0)
        err_put(err, ERR_IO, nbd_get_errno(), "disk %s: ask its server for the size: %s",
                disk->name, nbd_get_error());
    else
        *ret_size = (uint64_t)size;
    nbd_close(nbd);
    return size <= 0 ? -1 : 0;
}

/* Made complete under another name first: one that is there is never made again, since it has the
 * guest's writes. */
static int need_overlay(const struct provider_instance *instance,
                        const struct provider_served_disk *disk, struct err *err)
{
    CLEANUP(mem_freep) char *half = mem_printf("%s.new", disk->overlay);
    CLEANUP(mem_freep) char *folder = mem_strdup(disk->overlay);
    CLEANUP(fd_close) int fd = -1;
    struct fs *fs = fs_real();
    uint64_t size;

    if (fs_exists(disk->overlay))
        return 0;
    *strrchr(folder, '/') = '\0';
    if (fs_make_dirs(fs, folder, 0700, err) < 0 || served_size(instance, disk, &size, err) < 0
        || stage_make(half, size, 0, err) < 0)
        return err_wrap(err, "disk %s: make its overlay", disk->name);
    CRASH_POINT("provider.overlay");
    if (fs->open(fs, half, O_RDWR, 0, &fd, err) < 0 || fs->sync(fs, fd, err) < 0
        || fs->rename(fs, half, disk->overlay, err) < 0 || fs->sync_dir(fs, folder, err) < 0)
        return err_wrap(err, "disk %s: make its overlay", disk->name);
    return 0;
}

int qemu_serve(const struct provider_qemu *qemu, const struct provider_instance *instance,
               uint32_t *ret_started, struct cancel *cancel, struct err *err)
{
    uint32_t started = 0;

    for (size_t i = 0; instance->served && i < instance->served->len; i++) {
        const struct provider_served_disk *disk = &instance->served->at[i];
        CLEANUP(mem_freep) char *pid_path = qemu_served_file(instance, disk->name, ".pid");
        struct proc_id id;

        if (disk->own)
            continue;
        if (!qemu_find_process(pid_path, &id)) {
            if (start_server(qemu, instance, disk, &id, err) < 0)
                return err_wrap(err, "machine %s", instance->machine->name);
            started++;
        }
        /* One that is there may have been started by a daemon that was killed just then. */
        if (wait_ready(instance, disk, &id, cancel, err) < 0
            || need_overlay(instance, disk, err) < 0)
            return err_wrap(err, "machine %s", instance->machine->name);
    }
    *ret_started = started;
    return 0;
}

static int end_server(const struct provider_instance *instance, const char *pid_path,
                      struct cancel *cancel, struct err *err)
{
    struct proc_id id;

    if (qemu_find_process(pid_path, &id) && proc_end(&id, GRACE_MS, cancel, err) < 0)
        return err_wrap(err, "machine %s: end the server of a disk", instance->machine->name);
    return 0;
}

int qemu_unserve_own(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err)
{
    static const char *const suffixes[] = {"", ".pid", ".log"};

    (void)provider;
    for (size_t i = 0; instance->served && i < instance->served->len; i++) {
        const struct provider_served_disk *disk = &instance->served->at[i];
        CLEANUP(mem_freep) char *pid_path = qemu_served_file(instance, disk->name, ".pid");

        if (!disk->own)
            continue;
        if (end_server(instance, pid_path, cancel, err) < 0)
            return -1;
        for (size_t k = 0; k < ARRAY_LEN(suffixes); k++) {
            CLEANUP(mem_freep) char *path = qemu_served_file(instance, disk->name, suffixes[k]);
            (void)unlink(path);
        }
    }
    return 0;
}

/* By what lies in run_dir, too: an older definition may have had other disks. */
int qemu_unserve(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};

    if (!fs_exists(instance->run_dir))
        return 0;
    if (fs_list(instance->run_dir, &names, err) < 0)
        return -1;
    for (size_t i = 0; instance->served && i < instance->served->len; i++) {
        CLEANUP(mem_freep)
        char *path = qemu_served_file(instance, instance->served->at[i].name, ".pid");

        if (end_server(instance, path, cancel, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = qemu_file(instance, names.at[i]);

        if (str_starts(names.at[i], "nbd-") && str_eq(strrchr(names.at[i], '.'), ".pid")
            && end_server(instance, path, cancel, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = qemu_file(instance, names.at[i]);

        if (str_starts(names.at[i], "nbd-"))
            (void)unlink(path);
    }
    return 0;
}
