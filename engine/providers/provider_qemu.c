// SPDX-License-Identifier: Apache-2.0
/* Machines as detached QEMU processes. Nothing is remembered here: what is so is asked of the
 * process each time. */
#include "providers/provider_qemu.h"

#include "base/fs.h"
#include "base/mem.h"
#include "qemu/blocks.h"
#include "qemu/standstill.h"
#include "qemu/stream.h"

#include <stdio.h>
#include <string.h>

#define RECONNECT_S 30
#define ANSWER_MS   10000 /* a living QEMU answers within this time */
#define LOOK_MS     10
#define SETTLING_MS 20000 /* from its start until a guest has found its disks */

const char *instance_state_name(enum instance_state state)
{
    static const char *const names[] = {
        [INSTANCE_OFF] = "off",           [INSTANCE_RUNNING] = "running",
        [INSTANCE_PAUSED] = "paused",     [INSTANCE_SHUTDOWN] = "shutdown",
        [INSTANCE_IO_ERROR] = "io-error",
    };
    return names[state];
}

char *qemu_file(const struct provider_instance *instance, const char *name)
{
    return path_join(instance->run_dir, name);
}

char *qemu_served_file(const struct provider_instance *instance, const char *disk,
                       const char *suffix)
{
    return mem_printf("%s/nbd-%s%s", instance->run_dir, disk, suffix);
}

char *qemu_agent_path(const struct provider_instance *instance)
{
    struct proc_id id;

    if (qemu_has_owner(instance) && !qemu_find(instance, &id))
        return mem_strdup(instance->machine->agent_socket);
    return instance->machine->agent ? qemu_file(instance, "agent") : mem_strdup("");
}

/* --- Finding it ---------------------------------------------------------------------------- */

/* Was that program told to write its pid there? Merely naming the file makes nobody ours. */
static bool is_owner(pid_t pid, const char *pid_path)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err gone = ERR_EMPTY;
    const char *before = "";
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%ld/cmdline", (long)pid);
    if (fs_read_file(fs_real(), path, 1 << 20, &text, &gone) < 0)
        return false;
    for (size_t at = 0; at < text.len; at += strlen(text.ptr + at) + 1) {
        const char *word = text.ptr + at;
        if (str_eq(word, pid_path) && (str_eq(before, "-pidfile") || str_eq(before, "--pidfile")))
            return true;
        before = word;
    }
    return false;
}

static bool is_ours(uint64_t pid, const char *pid_path, struct proc_id *ret_id)
{
    struct err gone = ERR_EMPTY;
    struct proc_id id;

    if (pid == 0 || pid > INT32_MAX || proc_identify((pid_t)pid, &id, &gone) < 0
        || !proc_is_alive(&id) || !is_owner(id.pid, pid_path))
        return false;
    *ret_id = id;
    return true;
}

/* One that was started and has not written its file yet: its starter may have been killed. */
static bool find_by_arguments(const char *pid_path, struct proc_id *ret_id)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};
    struct err none = ERR_EMPTY;
    uint64_t pid;

    if (fs_list("/proc", &names, &none) < 0)
        return false;
    for (size_t i = 0; i < names.len; i++)
        if (str_to_u64(names.at[i], &pid) && is_ours(pid, pid_path, ret_id))
            return true;
    return false;
}

bool qemu_find_process(const char *pid_path, struct proc_id *ret_id)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err gone = ERR_EMPTY;
    uint64_t pid;

    if (fs_read_file(fs_real(), pid_path, 64, &text, &gone) == 0
        && str_to_u64(str_text(&text), &pid))
        return is_ours(pid, pid_path, ret_id);
    return find_by_arguments(pid_path, ret_id);
}

bool qemu_find(const struct provider_instance *instance, struct proc_id *ret_id)
{
    CLEANUP(mem_freep) char *path = qemu_file(instance, "qemu.pid");

    return qemu_find_process(path, ret_id);
}

int qemu_open_monitor(struct provider *provider, const struct provider_instance *instance,
                      const struct proc_id *id, struct qmp **ret_qmp, struct cancel *cancel,
                      struct err *err)
{
    struct clock *clock = provider_qemu(provider)->clock;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, ANSWER_MS);
    CLEANUP(mem_freep) char *path = qemu_file(instance, "qmp");
    struct err why = ERR_EMPTY;

    while (qmp_open(path, clock, ret_qmp, limit, &why) < 0) {
        if (why.code != ERR_NET || !proc_is_alive(id)) {
            if (err)
                *err = why;
            return err_wrap(err, "machine %s", instance->machine->name);
        }
        if (cancel_sleep(limit, LOOK_MS, err) < 0)
            return err_wrap(err, "machine %s: its monitor does not answer",
                            instance->machine->name);
    }
    return 0;
}

static enum instance_state state_of(const char *status)
{
    if (str_eq(status, "running"))
        return INSTANCE_RUNNING;
    if (str_eq(status, "shutdown"))
        return INSTANCE_SHUTDOWN;
    if (str_eq(status, "io-error"))
        return INSTANCE_IO_ERROR;
    return INSTANCE_PAUSED;
}

int qemu_monitor_state(struct qmp *qmp, enum instance_state *ret_state, struct cancel *cancel,
                       struct err *err)
{
    char status[32];

    if (blocks_machine_status(qmp, status, sizeof(status), cancel, err) < 0)
        return -1;
    *ret_state = state_of(status);
    return 0;
}

int qemu_look(struct provider *provider, const struct provider_instance *instance,
              enum instance_state *ret_state, struct qmp **ret_qmp, struct cancel *cancel,
              struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    struct proc_id id;

    if (!qemu_find(instance, &id)) {
        if (qemu_has_owner(instance))
            return qemu_adopted_look(provider, instance, ret_state, ret_qmp, cancel, err);
        *ret_state = INSTANCE_OFF;
        *ret_qmp = NULL;
        return 0;
    }
    if (qemu_open_monitor(provider, instance, &id, &qmp, cancel, err) < 0
        || qemu_monitor_state(qmp, ret_state, cancel, err) < 0) {
        if (proc_is_alive(&id))
            return -1;
        err_clear(err); /* it ended while we looked */
        *ret_state = INSTANCE_OFF;
        *ret_qmp = NULL;
        return 0;
    }
    *ret_qmp = TAKE(qmp);
    return 0;
}

int qemu_tell(const struct provider_instance *instance, struct qmp *qmp, const char *command,
              struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *still = qemu_file(instance, STANDSTILL_FILE);
    CLEANUP(fd_close) int lock = -1;

    if (fs_make_dirs(fs_real(), instance->run_dir, 0700, err) < 0
        || standstill_take_over(still, &lock, cancel, err) < 0)
        return -1;
    return stream_safely(qmp, command, cancel, err);
}

static int qemu_observe(struct provider *provider, const struct provider_instance *instance,
                        enum instance_state *ret_state, struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;

    return qemu_look(provider, instance, ret_state, &qmp, cancel, err);
}

/* --- Repair, source ------------------------------------------------------------------------ */

static int qemu_repair(struct provider *provider, const struct provider_instance *instance,
                       uint32_t *ret_repaired, struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    enum instance_state state;
    uint32_t repaired = 0;
    struct proc_id id;

    *ret_repaired = 0;
    if (!qemu_find(instance, &id) || !instance->served)
        return 0;
    if (qemu_serve(provider_qemu(provider), instance, &repaired, cancel, err) < 0
        || qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_IO_ERROR) {
        if (qemu_tell(instance, qmp, "cont", cancel, err) < 0)
            return err_wrap(err, "machine %s: continue it", instance->machine->name);
        repaired = repaired ? repaired : 1;
    }
    *ret_repaired = repaired;
    return 0;
}

static int living_source(struct provider *provider, const struct provider_instance *instance,
                         struct source_qemu_config *config, struct source **ret_source,
                         struct cancel *cancel, struct err *err)
{
    const struct machine *machine = instance->machine;
    CLEANUP(mem_freep) char *monitor = qemu_file(instance, "qmp-data");
    CLEANUP(mem_freep) char *still = qemu_file(instance, STANDSTILL_FILE);
    CLEANUP(mem_freep) char *agent = qemu_agent_path(instance);
    CLEANUP(mem_freep)
    struct source_qemu_disk *disks = mem_new_array(struct source_qemu_disk, machine->disks.len);
    CLEANUP(mem_freep) char *nodes = mem_alloc(machine->disks.len, QEMU_NODE_BYTES);

    for (size_t i = 0; i < machine->disks.len; i++) {
        const struct machine_disk *disk = &machine->disks.at[i];
        char *node = nodes + i * QEMU_NODE_BYTES;

        qemu_node(i, node);
        disks[i] = instance->served
                       ? (struct source_qemu_disk){disk->name, node, NULL, "served"}
                       : (struct source_qemu_disk){disk->name, node, disk->path, disk->format};
    }
    config->qmp_path = monitor;
    config->still_path = still;
    config->machine = machine->name;
    config->agent_path = agent;
    config->disks = disks;
    config->disk_count = machine->disks.len;
    config->plugin_path = provider_qemu(provider)->plugin_path;
    config->clock = provider_qemu(provider)->clock;
    return source_qemu_open(config, ret_source, cancel, err);
}

static int resting_source(const struct provider_instance *instance, const char *work_dir,
                          struct source **ret_source, struct err *err)
{
    const struct machine *machine = instance->machine;
    CLEANUP(mem_freep)
    struct source_file_disk *disks = mem_new_array(struct source_file_disk, machine->disks.len);

    if (instance->served)
        return err_set(err, ERR_STATE, 0,
                       "machine %s is off, and its disks are only there while it runs",
                       machine->name);
    for (size_t i = 0; i < machine->disks.len; i++)
        disks[i] = (struct source_file_disk){machine->disks.at[i].name, machine->disks.at[i].path,
                                             machine->disks.at[i].format};
    return source_file_open(disks, machine->disks.len, work_dir, ret_source, err);
}

/* NOLINTNEXTLINE(readability-function-size): the seam's signature */
static int qemu_open_source(struct provider *provider, const struct provider_instance *instance,
                            const char *group, uint64_t generation, const char *work_dir,
                            struct source **ret_source, struct cancel *cancel, struct err *err)
{
    struct source_qemu_config config = {
        .group = group, .generation = generation, .work_dir = work_dir};
    struct source *source = NULL;
    struct proc_id id;
    int rc = 0;

    if (qemu_find(instance, &id))
        rc = living_source(provider, instance, &config, &source, cancel, err);
    else if (qemu_has_owner(instance))
        rc = qemu_adopted_source(provider, instance, &config, &source, cancel, err);
    if (rc == 0 && !source)
        rc = resting_source(instance, work_dir, &source, err);
    if (rc == 0)
        *ret_source = source;
    return rc < 0 ? err_wrap(err, "machine %s", instance->machine->name) : 0;
}

/* Free whenever the daemon is gone, and nearly always while it lives: calls open it and close it. */
static char *qemu_monitor(struct provider *provider, const struct provider_instance *instance)
{
    struct proc_id id;

    (void)provider;
    return qemu_has_owner(instance) && !qemu_find(instance, &id)
               ? mem_strdup(instance->machine->qmp)
               : qemu_file(instance, "qmp");
}

/* A guest that boots resets its disks, by its firmware and by its kernel. With an iothread QEMU moves
 * them to another thread then, and aborts when a job of theirs is just ending. */
static int64_t qemu_settling_ms(struct provider *provider, const struct provider_instance *instance)
{
    struct proc_id id;
    bool threads = false;

    (void)provider;
    VEC_FOREACH(disk, &instance->machine->disks)
        threads = threads || disk->iothread;
    if (!threads || (!qemu_find(instance, &id) && !qemu_adopted_process(instance, &id)))
        return 0;
    int64_t age = proc_age_ms(&id);
    return age < SETTLING_MS ? SETTLING_MS - age : 0;
}

/* --- The provider -------------------------------------------------------------------------- */

struct provider *provider_qemu_new(const struct provider_qemu_config *config)
{
    struct provider_qemu *qemu = mem_new(struct provider_qemu);

    qemu->base = (struct provider){
        .name = "qemu",
        .check = qemu_check,
        .can_track = qemu_can_track,
        .start = qemu_start,
        .resume = qemu_resume,
        .pause = qemu_pause,
        .observe = qemu_observe,
        .shutdown = qemu_shutdown,
        .stop = qemu_stop,
        .repair = qemu_repair,
        .agent_answers = qemu_agent_answers,
        .guest_network = qemu_guest_network,
        .guest_assign = qemu_guest_assign,
        .console_has = qemu_console_has,
        .open_source = qemu_open_source,
        .settling_ms = qemu_settling_ms,
        .monitor = qemu_monitor,
        .tracked = qemu_tracked,
        .last_marks = qemu_last_marks,
        .stream_look = qemu_stream_look,
        .stream_begin = qemu_stream_begin,
        .stream_stop = qemu_stream_stop,
        .stream_settle = qemu_stream_settle,
        .overlay_extents = qemu_overlay_extents,
        .unserve = qemu_unserve_own,
        .adopt = qemu_adopt,
        .release = qemu_release,
    };
    qemu->qemu_path = mem_strdup(config->qemu_path && config->qemu_path[0] ? config->qemu_path
                                                                           : "qemu-system-x86_64");
    qemu->plugin_path = mem_strdup(config->plugin_path ? config->plugin_path : "");
    qemu->clock = config->clock ? config->clock : clock_real();
    qemu->reconnect_s = config->reconnect_s ? config->reconnect_s : RECONNECT_S;
    return &qemu->base;
}

void provider_free(struct provider *provider)
{
    struct provider_qemu *qemu;

    if (!provider)
        return;
    qemu = provider_qemu(provider);
    free(qemu->qemu_path);
    free(qemu->plugin_path);
    free(qemu);
}
