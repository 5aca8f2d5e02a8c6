// SPDX-License-Identifier: Apache-2.0
/* A machine that somebody else started, and that we speak to by its monitor. That monitor may be
 * the only one there is, and takes one client at a time: every call connects, works and leaves.
 *
 * Each time we meet it, `set-action shutdown=pause` is said again: it lasts as long as the process,
 * and the owner may have started another one. In run_dir:
 *
 *   adopted   "PID START-TICKS" of the process that answered last, when it could be seen from here.
 *             So one that lives without a monitor is not taken for off, and one that does not hear
 *             can be ended.
 */
#include "base/fs.h"
#include "base/mem.h"
#include "block/maps.h"
#include "providers/provider_qemu_learn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 10000 /* a living QEMU answers within this time */
#define QUIT_MS   10000
#define END_MS    5000
#define LOOK_MS   20

bool qemu_has_owner(const struct provider_instance *instance)
{
    return instance->machine->qmp[0] && !instance->served && !instance->isolated
           && !instance->netns[0];
}

/* --- The note ------------------------------------------------------------------------------ */

static bool note_read(const struct provider_instance *instance, struct proc_id *ret_id)
{
    CLEANUP(mem_freep) char *path = qemu_file(instance, "adopted");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err missing = ERR_EMPTY;
    uint64_t pid, start;

    if (fs_read_file(fs_real(), path, 64, &text, &missing) < 0 || !text.ptr)
        return false;
    char *space = strchr(text.ptr, ' ');
    if (!space)
        return false;
    *space = '\0';
    if (!str_to_u64(text.ptr, &pid) || pid > INT32_MAX || !str_to_u64(space + 1, &start))
        return false;
    *ret_id = (struct proc_id){.pid = (pid_t)pid, .start_ticks = start};
    return true;
}

static void note_remove(const struct provider_instance *instance)
{
    CLEANUP(mem_freep) char *path = qemu_file(instance, "adopted");

    (void)unlink(path);
}

bool qemu_adopted_process(const struct provider_instance *instance, struct proc_id *ret_id)
{
    return note_read(instance, ret_id) && proc_is_alive(ret_id);
}

static const struct qemu_drive *find_drive(const struct qemu_drives *drives, const char *path)
{
    VEC_FOREACH(drive, drives)
        if (!drive->read_only && !drive->firmware && qemu_same_file(drive->path, path))
            return drive;
    return NULL;
}

/* Its owner may have started another one at the same place. */
static int check_identity(const struct machine *machine, struct qmp *qmp,
                          const struct qemu_peer *peer, struct cancel *cancel, struct err *err)
{
    CLEANUP(qemu_drives_free) struct qemu_drives drives = VEC_EMPTY;

    if (qemu_drives_find(qmp, peer, &drives, cancel, err) < 0)
        return -1;
    VEC_FOREACH(disk, &machine->disks)
        if (find_drive(&drives, disk->path))
            return 0;
    return err_set(
        err, ERR_STATE, 0,
        "another machine is at its monitor %s: it has none of its disks; hint: remove it "
        "and adopt the machine that is there",
        machine->qmp);
}

/* The process at the other end, looked at more closely when it is a new one. */
static int note_process(const struct provider_instance *instance, struct qmp *qmp,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *path = qemu_file(instance, "adopted");
    CLEANUP(mem_freep) char *text = NULL;
    struct qemu_peer peer;
    struct proc_id noted;

    if (qemu_peer_find(qmp, &peer, cancel, err) < 0)
        return -1;
    if (peer.known && note_read(instance, &noted) && noted.pid == peer.id.pid
        && noted.start_ticks == peer.id.start_ticks)
        return 0;
    if (check_identity(instance->machine, qmp, &peer, cancel, err) < 0)
        return -1;
    if (!peer.known) {
        note_remove(instance);
        return 0;
    }
    text = mem_printf("%ld %" PRIu64 "\n", (long)peer.id.pid, peer.id.start_ticks);
    if (fs_make_dirs(fs_real(), instance->run_dir, 0700, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

/* --- Its monitor --------------------------------------------------------------------------- */

/* Nobody listens there. */
static bool is_dead(const struct err *err)
{
    return err->code == ERR_NET && (err->sys == ECONNREFUSED || err->sys == ENOENT);
}

/* ERR_NET with is_dead(): nobody listens. A QEMU that is about to end closes at once, and one that is
 * about to start is not there yet: only the next look tells. */
static int open_monitor(const struct provider_qemu *qemu, const struct provider_instance *instance,
                        struct qmp **ret_qmp, struct cancel *cancel, struct err *err)
{
    const char *path = instance->machine->qmp;

    while (qmp_open(path, qemu->clock, ret_qmp, cancel, err) < 0) {
        if (err->code == ERR_NET && (err->sys == EACCES || err->sys == EPERM))
            return err_set(err, ERR_DENIED, err->sys,
                           "its monitor %s; hint: let the user that Muster runs as use it", path);
        if (err->code != ERR_NET || is_dead(err))
            return -1;
        struct err why = *err;
        if (cancel_sleep(cancel, LOOK_MS, err) < 0)
            return err->code == ERR_TIMEOUT ? err_set(err, why.code, why.sys, "%s", why.text) : -1;
    }
    return 0;
}

static int without_monitor(const struct provider_instance *instance, struct err *err)
{
    const char *name = instance->machine->name;
    struct proc_id id;

    if (qemu_adopted_process(instance, &id))
        return err_set(err, ERR_STATE, 0,
                       "machine %s: nobody listens at its monitor %s, but its process %ld lives; "
                       "hint: `muster machine remove %s`, and adopt it by the monitor it has",
                       name, instance->machine->qmp, (long)id.pid, name);
    err_clear(err);
    return 0;
}

/* What we are there for: its process must not end with its guest. */
static int take_care(struct qmp *qmp, const struct provider_instance *instance,
                     enum instance_state *ret_state, struct cancel *cancel, struct err *err)
{
    if (note_process(instance, qmp, cancel, err) < 0
        || qmp_command(qmp, "set-action", json_pack("{s:s}", "shutdown", "pause"), NULL, cancel,
                       err)
               < 0)
        return -1;
    return qemu_monitor_state(qmp, ret_state, cancel, err);
}

int qemu_adopted_look(struct provider *provider, const struct provider_instance *instance,
                      enum instance_state *ret_state, struct qmp **ret_qmp, struct cancel *cancel,
                      struct err *err)
{
    const struct provider_qemu *qemu = provider_qemu(provider);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(qemu->clock, cancel, ANSWER_MS);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    struct err spare = ERR_EMPTY;

    err = err ? err : &spare; /* the code is looked at */
    if (open_monitor(qemu, instance, &qmp, limit, err) < 0) {
        if (!is_dead(err))
            return err_wrap(err, "machine %s", instance->machine->name);
        *ret_state = INSTANCE_OFF;
        *ret_qmp = NULL;
        return without_monitor(instance, err);
    }
    if (take_care(qmp, instance, ret_state, limit, err) < 0)
        return err_wrap(err, "machine %s", instance->machine->name);
    *ret_qmp = TAKE(qmp);
    return 0;
}

int qemu_adopted_off(const struct provider_instance *instance, struct err *err)
{
    const struct machine *machine = instance->machine;

    if (machine->complete)
        return 0;
    return err_set(err, ERR_STATE, 0,
                   "machine %s is off, and it was adopted: whoever started it knows more about it "
                   "than Muster; hint: start it as it was started before, and Muster finds it "
                   "again at %s",
                   machine->name, machine->qmp);
}

/* --- Its end ------------------------------------------------------------------------------- */

static int wait_dead(const struct provider_qemu *qemu, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err)
{
    for (;;) {
        CLEANUP(qmp_closep) struct qmp *qmp = NULL;
        struct err why = ERR_EMPTY;

        if (qmp_open(instance->machine->qmp, qemu->clock, &qmp, cancel, &why) < 0 && is_dead(&why))
            return 0;
        if (cancel_sleep(cancel, LOOK_MS, err) < 0)
            return -1;
    }
}

/* `quit`; one that does not hear is ended by signal, when we have met its process. */
static int end_unseen(const struct provider_qemu *qemu, const struct provider_instance *instance,
                      struct qmp *qmp, struct cancel *cancel, struct err *err)
{
    struct err why = ERR_EMPTY;

    /* That it closes without an answer is an answer. */
    int rc = qmp_command(qmp, "quit", NULL, NULL, cancel, &why);
    qmp_close(qmp);
    if (rc < 0 && why.code != ERR_NET)
        return err_set(err, why.code, why.sys, "%s", why.text);
    return wait_dead(qemu, instance, cancel, err);
}

static int end_seen(const struct proc_id *id, struct qmp *qmp, struct cancel *limit,
                    struct cancel *cancel, struct err *err)
{
    struct err ignored = ERR_EMPTY;
    bool asked = qmp != NULL;

    if (qmp && qmp_command(qmp, "quit", NULL, NULL, limit, &ignored) < 0)
        err_clear(&ignored); /* what does not hear is ended by signal */
    qmp_close(qmp);
    while (asked && proc_is_alive(id) && cancel_sleep(limit, LOOK_MS, &ignored) == 0)
        ;
    return cancel_check(cancel, err) < 0 ? -1 : proc_end(id, END_MS, cancel, err);
}

/* `quit`; one that does not hear is ended by signal, when we have met its process. */
int qemu_adopted_end(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err)
{
    const struct provider_qemu *qemu = provider_qemu(provider);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(qemu->clock, cancel, QUIT_MS);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    struct err why = ERR_EMPTY;
    struct proc_id id;
    int rc = open_monitor(qemu, instance, &qmp, limit, &why);

    /* It may have been started anew since we last looked, or be another one. */
    if (rc == 0)
        rc = note_process(instance, qmp, limit, &why);
    if (rc < 0)
        qmp_closep(&qmp);
    bool known = qemu_adopted_process(instance, &id);
    if (rc < 0 && is_dead(&why) && !known)
        return 0;
    if (rc < 0 && !known)
        return err_set(err, why.code, why.sys, "machine %s: %s", instance->machine->name, why.text);
    rc = known ? end_seen(&id, TAKE(qmp), limit, cancel, err)
               : end_unseen(qemu, instance, TAKE(qmp), limit, err);
    if (rc < 0)
        return err_wrap(err, "machine %s: end its process", instance->machine->name);
    note_remove(instance);
    return 0;
}

/* --- Giving it back ------------------------------------------------------------------------ */

static int drop_maps(struct qmp *qmp, const char *group, struct cancel *cancel, struct err *err)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    json_t *actions = json_array();
    uint64_t generation, serial;

    if (blocks_list(qmp, &nodes, cancel, err) < 0) {
        json_decref(actions);
        return -1;
    }
    VEC_FOREACH(node, &nodes) {
        VEC_FOREACH(map, &node->bitmaps)
            if (maps_parse(map->name, group, &generation, &serial))
                (void)json_array_append_new(actions, blocks_bitmap_remove(node->name, map->name));
    }
    return blocks_transaction(qmp, actions, cancel, err);
}

int qemu_release(struct provider *provider, const struct provider_instance *instance,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    const char *name = instance->machine->name;
    enum instance_state state;
    struct err why = ERR_EMPTY;
    struct proc_id id;

    if (!qemu_has_owner(instance))
        return err_set(err, ERR_STATE, 0, "machine %s was not adopted", name);
    if (qemu_find(instance, &id))
        return err_set(err, ERR_STATE, 0,
                       "machine %s was started by Muster; hint: `muster machine stop %s` first",
                       name, name);
    if (qemu_adopted_look(provider, instance, &state, &qmp, cancel, &why) < 0
        && why.code != ERR_STATE && why.code != ERR_PROTOCOL)
        return err_set(err, why.code, why.sys, "%s", why.text);
    /* What is not there, or another one, is nothing to give back. */
    if (qmp
        && (drop_maps(qmp, name, cancel, err) < 0
            || qmp_command(qmp, "set-action", json_pack("{s:s}", "shutdown", "poweroff"), NULL,
                           cancel, err)
                   < 0))
        return err_wrap(err, "give machine %s back", name);
    note_remove(instance);
    return 0;
}

/* --- Its disks ----------------------------------------------------------------------------- */

/* QEMU's locks on an image (block/file-posix.c there): byte 100 + 1 is held, shared, by whoever may
 * write. */
#define LOCK_OF_WRITERS 101

static int check_unused(const struct machine *machine, struct err *err)
{
    VEC_FOREACH(disk, &machine->disks) {
        CLEANUP(fd_close) int fd = open(disk->path, O_RDWR | O_CLOEXEC);
        struct flock lock = {
            .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_OF_WRITERS, .l_len = 1};

        if (fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
            return err_set(err, ERR_BUSY, 0,
                           "nobody listens at its monitor %s, but its disk %s is in use; hint: a "
                           "machine started with another monitor is removed and adopted again",
                           machine->qmp, disk->path);
    }
    return 0;
}

/* The node of each disk, in the definition's order. The machine may have been started anew, with
 * other disks: then nothing is read from them. */
static int find_nodes(struct qmp *qmp, const struct machine *machine,
                      struct source_qemu_disk *disks, struct qemu_drives *drives,
                      struct cancel *cancel, struct err *err)
{
    struct qemu_peer peer;

    if (qemu_peer_find(qmp, &peer, cancel, err) < 0
        || qemu_drives_find(qmp, &peer, drives, cancel, err) < 0)
        return -1;
    for (size_t i = 0; i < machine->disks.len; i++) {
        const struct machine_disk *disk = &machine->disks.at[i];
        const struct qemu_drive *drive = find_drive(drives, disk->path);

        if (!drive)
            return err_set(err, ERR_STATE, 0,
                           "the QEMU at %s has no disk %s any more; hint: unprotect the machine, "
                           "remove and adopt it again",
                           machine->qmp, disk->path);
        if (drive->problem[0] || !str_eq(drive->format, disk->format))
            return err_set(err, ERR_STATE, 0, "disk %s: %s", disk->name,
                           drive->problem[0] ? drive->problem
                                             : "its format is not what it was when adopted");
        disks[i] = (struct source_qemu_disk){disk->name, drive->node, disk->path, disk->format};
    }
    return 0;
}

int qemu_adopted_source(struct provider *provider, const struct provider_instance *instance,
                        struct source_qemu_config *config, struct source **ret_source,
                        struct cancel *cancel, struct err *err)
{
    const struct machine *machine = instance->machine;
    CLEANUP(mem_freep)
    struct source_qemu_disk *disks = mem_new_array(struct source_qemu_disk, machine->disks.len);
    CLEANUP(qemu_drives_free) struct qemu_drives drives = VEC_EMPTY;
    CLEANUP(mem_freep) char *still = qemu_file(instance, STANDSTILL_FILE);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    enum instance_state state;

    if (qemu_adopted_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_OFF) {
        *ret_source = NULL;
        return check_unused(machine, err);
    }
    if (find_nodes(qmp, machine, disks, &drives, cancel, err) < 0)
        return -1;
    qmp_closep(&qmp); /* the source needs it */
    config->qmp_path = machine->qmp;
    config->still_path = still;
    config->lent = true;
    config->machine = machine->name;
    config->agent_path = machine->agent_socket;
    config->disks = disks;
    config->disk_count = machine->disks.len;
    config->plugin_path = provider_qemu(provider)->plugin_path;
    config->clock = provider_qemu(provider)->clock;
    return source_qemu_open(config, ret_source, cancel, err);
}
