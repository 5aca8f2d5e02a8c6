// SPDX-License-Identifier: Apache-2.0
/* Starting, shutting down and ending a machine's process. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "providers/provider_qemu.h"
#include "qemu/agent.h"
#include "qemu/blocks.h"
#include "qemu/standstill.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define START_MS      60000
#define LOOK_MS       10
#define QUIT_MS       10000 /* a disk whose server is gone may hold it up for longer */
#define END_MS        5000
#define AGENT_FIND_MS 3000
#define ASK_AGAIN_MS  10000 /* a guest that is still booting ignores the power button */
#define STATUS_MS     200
#define PAUSE_MS      15000 /* longer than the cut of a group may hold its machines */

/* --- Start and stop ------------------------------------------------------------------------ */

/* Why the process ended, from its log, unless `err` tells more: ERR_BUSY when somebody else holds a
 * disk. */
static int start_failed(const struct provider_instance *instance, struct err *err)
{
    CLEANUP(mem_freep) char *log = qemu_file(instance, "qemu.log");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    const char *words;

    if (fs_read_file(fs_real(), log, 65536, &text, &none) < 0)
        str_clear(&text);
    while (text.len && text.ptr[text.len - 1] == '\n')
        text.ptr[--text.len] = '\0';
    for (char *p = text.ptr; p && *p; p++)
        if (*p == '\n')
            *p = ' ';
    if (!text.len && err->code != ERR_NONE && err->code != ERR_NET)
        return err_wrap(err, "machine %s", instance->machine->name);
    words = text.len ? str_text(&text) : "it said nothing";
    if (strstr(words, "Failed to get") && strstr(words, "lock"))
        return err_set(err, ERR_BUSY, 0, "machine %s: a disk is in use elsewhere: %.600s",
                       instance->machine->name, words);
    return err_set(err, ERR_IO, 0, "machine %s: QEMU ended: %.600s", instance->machine->name,
                   words);
}

static int wait_started(struct provider *provider, const struct provider_instance *instance,
                        const struct proc_id *id, struct cancel *cancel, struct err *err)
{
    struct clock *clock = provider_qemu(provider)->clock;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, START_MS);
    CLEANUP(mem_freep) char *path = qemu_file(instance, "qmp");
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;

    while (qmp_open(path, clock, &qmp, limit, err) < 0) {
        if (!proc_is_alive(id))
            return start_failed(instance, err);
        if (err->code != ERR_NET || cancel_sleep(limit, LOOK_MS, err) < 0)
            return err_wrap(err, "machine %s: start", instance->machine->name);
    }
    return 0;
}

static int start_process(struct provider *provider, const struct provider_instance *instance,
                         bool paused, struct cancel *cancel, struct err *err)
{
    static const char *const old[] = {"console.log", "qemu.log",  "qemu.pid", "qmp",
                                      "qmp-data",    "qmp-spare", "agent",    STANDSTILL_FILE};
    CLEANUP(qemu_argv_done) struct qemu_argv argv = {0};
    CLEANUP(mem_freep) char *log = qemu_file(instance, "qemu.log");
    struct proc_spec spec = {.log_path = log, .netns = instance->netns[0] ? instance->netns : NULL};
    struct proc_id id;

    for (size_t i = 0; i < ARRAY_LEN(old); i++) {
        CLEANUP(mem_freep) char *path = qemu_file(instance, old[i]);
        (void)unlink(path);
    }
    qemu_argv_make(provider_qemu(provider), instance, qemu_accel(instance->machine->accel), paused,
                   &argv);
    spec.argv = (const char *const *)argv.at;
    if (proc_spawn_detached(&spec, &id, err) < 0)
        return start_failed(instance, err);
    CRASH_POINT("provider.spawned");
    return wait_started(provider, instance, &id, cancel, err);
}

static int check_instance(const struct provider_instance *instance, struct err *err)
{
    const struct machine *machine = instance->machine;

    if (instance->run_dir[0] != '/')
        return err_set(err, ERR_INVALID, 0, "machine %s: run folder %s is not absolute",
                       machine->name, instance->run_dir);
    if (instance->served && instance->served->len != machine->disks.len)
        return err_set(err, ERR_INVALID, 0, "machine %s: %zu disks, but %zu are served",
                       machine->name, machine->disks.len, instance->served->len);
    for (size_t i = 0; instance->served && i < machine->disks.len; i++)
        if (!str_eq(instance->served->at[i].name, machine->disks.at[i].name))
            return err_set(err, ERR_INVALID, 0, "machine %s: disk %s, but %s is served",
                           machine->name, machine->disks.at[i].name, instance->served->at[i].name);
    return 0;
}

/* Its guest is off: a reset and it starts again, with its change maps. */
static int start_again(const struct provider_instance *instance, struct qmp *qmp, bool paused,
                       struct cancel *cancel, struct err *err)
{
    static const char *const names[] = {"RESET", NULL};
    const struct qmp_want reset = {names, NULL, NULL};
    CLEANUP(json_freep) json_t *event = NULL;

    qmp_drop_events(qmp);
    if (qmp_command(qmp, "system_reset", NULL, NULL, cancel, err) < 0
        || qmp_wait_event(qmp, &reset, &event, cancel, err) < 0)
        return err_wrap(err, "reset");
    return paused ? 0 : qemu_tell(instance, qmp, "cont", cancel, err);
}

static int undo_start(struct provider *provider, const struct provider_instance *instance);

static int start_anew(struct provider *provider, const struct provider_instance *instance,
                      bool paused, struct cancel *cancel, struct err *err)
{
    uint32_t served;

    if (check_instance(instance, err) < 0
        || fs_make_dirs(fs_real(), instance->run_dir, 0700, err) < 0)
        return -1;
    if (qemu_taps_create(instance, cancel, err) == 0
        && qemu_serve(provider_qemu(provider), instance, &served, cancel, err) == 0
        && start_process(provider, instance, paused, cancel, err) == 0)
        return 0;
    return undo_start(provider, instance);
}

int qemu_start(struct provider *provider, const struct provider_instance *instance, bool paused,
               struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    enum instance_state state;
    struct err spare = ERR_EMPTY;

    err = err ? err : &spare; /* the code is looked at */
    if (qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    switch (state) {
    case INSTANCE_OFF:
        if (qemu_has_owner(instance) && qemu_adopted_off(instance, err) < 0)
            return -1;
        return start_anew(provider, instance, paused, cancel, err);
    case INSTANCE_SHUTDOWN:
        if (start_again(instance, qmp, paused, cancel, err) < 0)
            return err_wrap(err, "machine %s: start it again", instance->machine->name);
        return 0;
    case INSTANCE_PAUSED:
    case INSTANCE_IO_ERROR: return paused ? 0 : qemu_tell(instance, qmp, "cont", cancel, err);
    case INSTANCE_RUNNING: return 0;
    }
    return 0;
}

int qemu_resume(struct provider *provider, const struct provider_instance *instance,
                struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    enum instance_state state;

    if (qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_OFF)
        return err_set(err, ERR_STATE, 0, "machine %s is off", instance->machine->name);
    if (state == INSTANCE_SHUTDOWN)
        return err_set(err, ERR_STATE, 0, "machine %s: its guest is shut down; hint: start it",
                       instance->machine->name);
    if (state == INSTANCE_RUNNING)
        return 0;
    if (qemu_tell(instance, qmp, "cont", cancel, err) < 0)
        return err_wrap(err, "machine %s", instance->machine->name);
    return 0;
}

/* An I/O error's stop ends with the next write that succeeds, and the one for a group's cut with the cut:
 * `stop` makes it last. */
int qemu_pause(struct provider *provider, const struct provider_instance *instance,
               struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    enum instance_state state;

    if (qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_OFF || state == INSTANCE_SHUTDOWN)
        return 0;
    if (qemu_tell(instance, qmp, "stop", cancel, err) < 0)
        return err_wrap(err, "machine %s: stop it", instance->machine->name);
    return 0;
}

static void ask_to_quit(struct provider *provider, const struct provider_instance *instance,
                        const struct proc_id *id, struct cancel *cancel)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    struct err ignored = ERR_EMPTY;

    /* What does not hear is ended by signal. */
    if (qemu_open_monitor(provider, instance, id, &qmp, cancel, &ignored) == 0
        && qmp_command(qmp, "quit", NULL, NULL, cancel, &ignored) < 0)
        err_clear(&ignored);
}

static int end_process(struct provider *provider, const struct provider_instance *instance,
                       struct cancel *cancel, struct err *err)
{
    struct clock *clock = provider_qemu(provider)->clock;
    CLEANUP(cancel_freep) struct cancel *quit = cancel_new(clock, cancel, QUIT_MS);
    struct err over = ERR_EMPTY;
    struct proc_id id;

    if (!qemu_find(instance, &id))
        return 0;
    ask_to_quit(provider, instance, &id, quit);
    while (proc_is_alive(&id) && cancel_sleep(quit, LOOK_MS, &over) == 0)
        ;
    if (cancel_check(cancel, err) < 0 || proc_end(&id, END_MS, cancel, err) < 0)
        return err_wrap(err, "machine %s: end its process", instance->machine->name);
    return 0;
}

/* What we started, and what belongs to it. */
static int stop_ours(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err)
{
    static const char *const gone[] = {"qemu.pid", "qmp", "qmp-data", "qmp-spare", "agent"};

    if (end_process(provider, instance, cancel, err) < 0)
        return -1;
    CRASH_POINT("provider.ended");
    if (qemu_unserve(instance, cancel, err) < 0 || qemu_taps_remove(instance, cancel, err) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(gone); i++) {
        CLEANUP(mem_freep) char *path = qemu_file(instance, gone[i]);
        (void)unlink(path);
    }
    return 0;
}

int qemu_stop(struct provider *provider, const struct provider_instance *instance,
              struct cancel *cancel, struct err *err)
{
    struct proc_id id;

    if (qemu_has_owner(instance) && !qemu_find(instance, &id)
        && qemu_adopted_end(provider, instance, cancel, err) < 0)
        return -1;
    return stop_ours(provider, instance, cancel, err);
}

/* A start that failed leaves nothing running; its error is the one that counts. */
static int undo_start(struct provider *provider, const struct provider_instance *instance)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, START_MS);
    struct err ignored = ERR_EMPTY;

    /* An adopted machine's owner may have been first: his stays. */
    if (stop_ours(provider, instance, limit, &ignored) < 0)
        err_clear(&ignored);
    return -1;
}

/* --- Shutdown ------------------------------------------------------------------------------ */

/* False when there is no agent to ask. */
static bool ask_agent(struct provider *provider, const struct provider_instance *instance,
                      struct cancel *cancel)
{
    struct clock *clock = provider_qemu(provider)->clock;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, AGENT_FIND_MS);
    CLEANUP(mem_freep) char *path = qemu_agent_path(instance);
    CLEANUP(agent_closep) struct agent *agent = NULL;
    struct err ignored = ERR_EMPTY;

    return path[0] && agent_open(path, clock, &agent, limit, &ignored) == 0
           && agent_shutdown(agent, limit, &ignored) == 0;
}

/* 1: the guest is off, 0: not within `ms`. */
static int wait_shutdown(struct provider *provider, struct qmp *qmp, int64_t ms,
                         struct cancel *cancel, struct err *err)
{
    static const char *const names[] = {"SHUTDOWN", NULL};
    const struct qmp_want shutdown = {names, NULL, NULL};
    struct clock *clock = provider_qemu(provider)->clock;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, ms);

    for (;;) {
        CLEANUP(cancel_freep) struct cancel *slice = cancel_new(clock, limit, STATUS_MS);
        CLEANUP(json_freep) json_t *event = NULL;
        struct err over = ERR_EMPTY;
        enum instance_state state;

        if (qemu_monitor_state(qmp, &state, cancel, err) < 0)
            return -1;
        if (state == INSTANCE_SHUTDOWN)
            return 1;
        /* The event only shortens the wait: a guest's reset has one, too. */
        if (qmp_wait_event(qmp, &shutdown, &event, slice, &over) < 0 && over.code == ERR_NET) {
            if (err)
                *err = over;
            return -1;
        }
        if (cancel_check(cancel, err) < 0)
            return -1;
        if (cancel_left_ms(limit) == 0)
            return 0;
    }
}

static int shut_down(struct provider *provider, const struct provider_instance *instance,
                     struct qmp *qmp, struct cancel *cancel, struct err *err)
{
    int off = 0;

    if (ask_agent(provider, instance, cancel))
        off = wait_shutdown(provider, qmp, ASK_AGAIN_MS, cancel, err);
    while (off == 0) {
        if (cancel_check(cancel, err) < 0
            || qmp_command(qmp, "system_powerdown", NULL, NULL, cancel, err) < 0)
            return -1;
        off = wait_shutdown(provider, qmp, ASK_AGAIN_MS, cancel, err);
    }
    return off < 0 ? -1 : 0;
}

/* A cut of several machines stops each for a moment, and one that lasts too long is given up. What is
 * paused else was paused by somebody. */
static int wait_pause(struct provider *provider, const struct provider_instance *instance,
                      struct qmp *qmp, enum instance_state *state, struct cancel *cancel,
                      struct err *err)
{
    struct clock *clock = provider_qemu(provider)->clock;
    CLEANUP(mem_freep) char *still = qemu_file(instance, STANDSTILL_FILE);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, PAUSE_MS);
    struct err over = ERR_EMPTY;

    while (standstill_is_momentary(still))
        if (cancel_sleep(limit, LOOK_MS, &over) < 0)
            break;
    if (standstill_is_momentary(still) && qemu_tell(instance, qmp, "cont", cancel, err) < 0)
        return -1;
    return qemu_monitor_state(qmp, state, cancel, err);
}

int qemu_shutdown(struct provider *provider, const struct provider_instance *instance,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    enum instance_state state;

    if (qemu_look(provider, instance, &state, &qmp, cancel, err) < 0)
        return -1;
    if (state == INSTANCE_PAUSED && wait_pause(provider, instance, qmp, &state, cancel, err) < 0)
        return err_wrap(err, "machine %s", instance->machine->name);
    if (state == INSTANCE_OFF || state == INSTANCE_SHUTDOWN)
        return 0;
    if (state != INSTANCE_RUNNING)
        return err_set(err, ERR_STATE, 0,
                       "machine %s is %s: its guest cannot shut down; hint: continue it, or stop "
                       "its process",
                       instance->machine->name, instance_state_name(state));
    if (shut_down(provider, instance, qmp, cancel, err) < 0)
        return err_wrap(err, "machine %s: its guest did not shut down", instance->machine->name);
    return 0;
}
