// SPDX-License-Identifier: Apache-2.0
/* Served disks: one nbdkit with our plugin per disk, on RUN_DIR/DISK.nbd. It lives as long as
 * somebody listens on that socket. The overlay is made once, and never again. */
#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/qemu_instance.h"
#include "replica/view.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define START_MS 20000
#define STEP_MS  10
#define STOP_MS  5000

static char *socket_of(const struct provider_instance *instance, const char *disk)
{
    CLEANUP(mem_freep) char *name = mem_printf("%s.nbd", disk);

    return instance_path(instance, name);
}

static int read_key(const char *path, struct key *ret_key, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, KEY_BYTES, &text, err) < 0)
        return -1;
    if (text.len != KEY_BYTES)
        return err_set(err, ERR_CORRUPT, 0, "%s: %zu bytes, a key has %d", path, text.len,
                       KEY_BYTES);
    memcpy(ret_key->bytes, text.ptr, KEY_BYTES);
    return 0;
}

/* Looks at the point as the plugin will, so that what is wrong is said here, and by name. */
static int size_of_point(const struct provider_served_disk *disk, uint64_t *ret_size,
                         struct err *err)
{
    CLEANUP(view_closep) struct view *view = NULL;
    CLEANUP(key_wipe) struct key key = {0};

    if (read_key(disk->key_path, &key, err) < 0
        || view_open(disk->replica_dir, disk->name, disk->point, &key, &view, err) < 0)
        return -1;
    *ret_size = view_size(view);
    return 0;
}

static int make_overlay(const struct provider_served_disk *disk, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(mem_freep) char *half = mem_printf("%s.new", disk->overlay);
    CLEANUP(mem_freep) char *size = NULL;
    uint64_t bytes;

    if (fs_exists(disk->overlay))
        return 0;
    if (size_of_point(disk, &bytes, err) < 0)
        return -1;
    size = mem_printf("%" PRIu64, bytes);
    const char *const argv[] = {"qemu-img", "create", "-q", "-f", "qcow2", half, size, NULL};
    if (proc_must(argv, cancel, err) < 0
        || fs_real()->rename(fs_real(), half, disk->overlay, err) < 0)
        return -1;
    return 0;
}

/* Waits until somebody listens; ends early with the log's words when the process is gone. */
static int wait_listening(const char *path, const struct proc_id *id, const char *log,
                          struct cancel *cancel, struct err *err)
{
    for (int64_t waited = 0; waited < START_MS; waited += STEP_MS) {
        CLEANUP(str_free) struct str said = STR_EMPTY;
        struct err ignored = ERR_EMPTY;

        if (socket_pid(path) != 0)
            return 0;
        if (!proc_is_alive(id)) {
            if (fs_read_file(fs_real(), log, 1 << 20, &said, &ignored) < 0)
                str_add(&said, ignored.text);
            return err_set(err, ERR_IO, 0, "nbdkit ended at once: %.600s",
                           said.len > 600 ? said.ptr + said.len - 600 : str_text(&said));
        }
        if (cancel_sleep(cancel, STEP_MS, err) < 0)
            return -1;
    }
    return err_set(err, ERR_TIMEOUT, 0, "nbdkit does not listen on %s after %d ms", path, START_MS);
}

static int serve(const struct provider_qemu *qemu, const struct provider_instance *instance,
                 const struct provider_served_disk *disk, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *path = socket_of(instance, disk->name);
    CLEANUP(mem_freep) char *log_name = mem_printf("%s.log", disk->name);
    CLEANUP(mem_freep) char *log = instance_path(instance, log_name);
    CLEANUP(mem_freep) char *dir = mem_printf("dir=%s", disk->replica_dir);
    CLEANUP(mem_freep) char *name = mem_printf("disk=%s", disk->name);
    CLEANUP(mem_freep) char *point = mem_printf("point=%" PRIu64, disk->point);
    CLEANUP(mem_freep) char *key = mem_printf("keyfile=%s", disk->key_path);
    const char *const argv[] = {"nbdkit", "-f", "-r",  "-U", path, qemu->plugin_path,
                                dir,      name, point, key,  NULL};
    const struct proc_spec spec = {.argv = argv, .log_path = log};
    struct proc_id id;

    if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return err_set(err, ERR_LIMIT, 0, "%s: %zu bytes, a socket's path has at most %zu", path,
                       strlen(path), sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
    if (socket_pid(path) != 0)
        return 0;
    (void)unlink(path); /* its server is dead */
    if (proc_spawn_detached(&spec, &id, err) < 0)
        return -1;
    return wait_listening(path, &id, log, cancel, err);
}

int served_start(const struct provider_qemu *qemu, const struct provider_instance *instance,
                 struct cancel *cancel, struct err *err)
{
    if (!instance->served)
        return 0;
    VEC_FOREACH(disk, instance->served)
        if (make_overlay(disk, cancel, err) < 0 || serve(qemu, instance, disk, cancel, err) < 0)
            return err_wrap(err, "serve point %" PRIu64 " of %s", disk->point, disk->name);
    return 0;
}

int served_repair(const struct provider_qemu *qemu, const struct provider_instance *instance,
                  uint32_t *ret_repaired, struct cancel *cancel, struct err *err)
{
    uint32_t repaired = 0;

    if (instance->served)
        VEC_FOREACH(disk, instance->served) {
            CLEANUP(mem_freep) char *path = socket_of(instance, disk->name);

            if (socket_pid(path) != 0)
                continue;
            if (serve(qemu, instance, disk, cancel, err) < 0)
                return err_wrap(err, "serve %s again", disk->name);
            repaired++;
        }
    *ret_repaired = repaired;
    return 0;
}

int served_stop(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
{
    if (!instance->served)
        return 0;
    VEC_FOREACH(disk, instance->served) {
        CLEANUP(mem_freep) char *path = socket_of(instance, disk->name);
        pid_t pid = socket_pid(path);
        struct proc_id id;

        if (pid != 0 && proc_identify(pid, &id, err) < 0) {
            if (err->code != ERR_NOT_FOUND)
                return -1;
            err_clear(err); /* gone in between */
            pid = 0;
        }
        if (pid != 0 && proc_end(&id, STOP_MS, cancel, err) < 0)
            return err_wrap(err, "stop the server of %s", disk->name);
        if (unlink(path) < 0 && errno != ENOENT)
            return err_set(err, ERR_IO, errno, "remove %s", path);
    }
    return 0;
}
