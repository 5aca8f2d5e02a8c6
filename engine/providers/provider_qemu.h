// SPDX-License-Identifier: Apache-2.0
/* What the files of the QEMU provider share. In an instance's run_dir:
 *
 *   qemu.pid                  written and removed by QEMU; names this folder in its arguments
 *   qmp, qmp-data, qmp-spare  monitors: ours, the replication session's, a person's
 *   agent                     the guest agent's port
 *   console.log, qemu.log     of the running process; made anew by each start
 *   graph.lock                held by whoever begins or ends a block job (qemu/graph.h)
 *   nbd-DISK, nbd-DISK.pid, nbd-DISK.log   the server of a served disk */
#pragma once

#include "base/proc.h"
#include "providers/provider.h"
#include "qemu/qmp.h"

struct provider_qemu {
    struct provider base; /* first */
    char *qemu_path;
    char *plugin_path;
    struct clock *clock;
    uint32_t reconnect_s;
};

static inline struct provider_qemu *provider_qemu(struct provider *provider)
{
    return (struct provider_qemu *)provider;
}

/* "RUN_DIR/NAME"; free with free(). */
char *qemu_file(const struct provider_instance *instance, const char *name);
/* "RUN_DIR/nbd-DISK" + suffix ("", ".pid", ".log"). */
char *qemu_served_file(const struct provider_instance *instance, const char *disk,
                       const char *suffix);

/* The process that was told to write its pid to `pid_path`: by that file, or, before it is written,
 * by its arguments. False when it is gone. So a pid that was given to somebody else is never taken
 * for ours. */
bool qemu_find_process(const char *pid_path, struct proc_id *ret_id);

bool qemu_find(const struct provider_instance *instance, struct proc_id *ret_id);
/* A monitor of a living process; it may still be on its way up. ERR_NET: it has ended. */
int qemu_open_monitor(struct provider *provider, const struct provider_instance *instance,
                      const struct proc_id *id, struct qmp **ret_qmp, struct cancel *cancel,
                      struct err *err) MUST_CHECK;
int qemu_monitor_state(struct qmp *qmp, enum instance_state *ret_state, struct cancel *cancel,
                       struct err *err) MUST_CHECK;
/* The state, and an open monitor unless it is off (NULL). */
int qemu_look(struct provider *provider, const struct provider_instance *instance,
              enum instance_state *ret_state, struct qmp **ret_qmp, struct cancel *cancel,
              struct err *err) MUST_CHECK;

/* provider_qemu_check.c */
int qemu_can_track(struct provider *provider, const struct provider_instance *instance,
                   bool *ret_running, struct cancel *cancel, struct err *err);

/* provider_qemu_run.c */
int qemu_start(struct provider *provider, const struct provider_instance *instance, bool paused,
               struct cancel *cancel, struct err *err);
int qemu_resume(struct provider *provider, const struct provider_instance *instance,
                struct cancel *cancel, struct err *err);
/* "stop" or "cont", for good: what a cut stopped for a moment is not continued by it any more. */
int qemu_tell(const struct provider_instance *instance, struct qmp *qmp, const char *command,
              struct cancel *cancel, struct err *err);
int qemu_pause(struct provider *provider, const struct provider_instance *instance,
               struct cancel *cancel, struct err *err);
int qemu_shutdown(struct provider *provider, const struct provider_instance *instance,
                  struct cancel *cancel, struct err *err);
int qemu_stop(struct provider *provider, const struct provider_instance *instance,
              struct cancel *cancel, struct err *err);

/* provider_qemu_argv.c: the whole command line. `taps`: a device per NIC, "" for none. */
struct qemu_argv {
    char **at; /* NULL-terminated */
    size_t len;
};
void qemu_argv_done(struct qemu_argv *argv); /* for CLEANUP */
void qemu_argv_make(const struct provider_qemu *qemu, const struct provider_instance *instance,
                    const char *accel, bool paused, struct qemu_argv *ret_argv);
/* "disk0": the node the guest writes to. */
#define QEMU_NODE_BYTES 16
void qemu_node(size_t disk, char ret_node[QEMU_NODE_BYTES]);

/* provider_qemu_net.c: network devices of the host's side. Names depend on run_dir alone. */
#define QEMU_TAP_BYTES 16
/* False when that NIC needs none. */
bool qemu_tap_name(const struct provider_instance *instance, size_t nic,
                   char ret_name[QEMU_TAP_BYTES]);
int qemu_taps_create(const struct provider_instance *instance, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
int qemu_taps_remove(const struct provider_instance *instance, struct cancel *cancel,
                     struct err *err) MUST_CHECK;

/* provider_qemu_served.c. Starts the servers that are not there (counted) and makes overlays that
 * are missing. */
int qemu_serve(const struct provider_qemu *qemu, const struct provider_instance *instance,
               uint32_t *ret_started, struct cancel *cancel, struct err *err) MUST_CHECK;
int qemu_unserve(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Only those of disks that are their own. */
int qemu_unserve_own(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err);

/* provider_qemu_maps.c */
int qemu_tracked(struct provider *provider, const struct provider_instance *instance,
                 const char *group, uint64_t generation, uint64_t *ret_serial,
                 struct cancel *cancel, struct err *err);
int qemu_last_marks(struct provider *provider, const struct provider_instance *instance,
                    const char *group, uint64_t generation, uint64_t *ret_serial,
                    struct source_extents *ret_marks, struct cancel *cancel, struct err *err);

/* provider_qemu_stream.c */
int qemu_stream_look(struct provider *provider, const struct provider_instance *instance,
                     size_t disk, struct provider_stream *ret_stream, struct cancel *cancel,
                     struct err *err);
int qemu_stream_begin(struct provider *provider, const struct provider_instance *instance,
                      size_t disk, uint64_t rate_per_s, struct cancel *cancel, struct err *err);
int qemu_stream_stop(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err);
int qemu_stream_settle(struct provider *provider, const struct provider_instance *instance,
                       size_t disk, struct cancel *cancel, struct err *err);
int qemu_overlay_extents(struct provider *provider, const struct provider_instance *instance,
                         size_t disk, struct source_extents *ret_extents, uint64_t *ret_size,
                         struct cancel *cancel, struct err *err);

/* provider_qemu_adopted.c: an own machine that somebody else started, by its monitor. */
/* False for a recovered one, wherever its definition came from. */
bool qemu_has_owner(const struct provider_instance *instance);
/* The process that was met at the last look, if it still lives. */
bool qemu_adopted_process(const struct provider_instance *instance, struct proc_id *ret_id);
/* As qemu_look; what is not started by us is looked at. ERR_STATE: its process lives, but nobody
 * listens at its monitor. ERR_DENIED, ERR_TIMEOUT, ERR_PROTOCOL: that is no monitor for us. */
int qemu_adopted_look(struct provider *provider, const struct provider_instance *instance,
                      enum instance_state *ret_state, struct qmp **ret_qmp, struct cancel *cancel,
                      struct err *err) MUST_CHECK;
/* It is off: may we start it? ERR_STATE says who does. */
int qemu_adopted_off(const struct provider_instance *instance, struct err *err) MUST_CHECK;
int qemu_adopted_end(struct provider *provider, const struct provider_instance *instance,
                     struct cancel *cancel, struct err *err) MUST_CHECK;
int qemu_release(struct provider *provider, const struct provider_instance *instance,
                 struct cancel *cancel, struct err *err);
/* NULL in `ret_source`: it is off, and nobody uses its disks (ERR_BUSY: somebody does). */
int qemu_adopted_source(struct provider *provider, const struct provider_instance *instance,
                        struct source_qemu_config *config, struct source **ret_source,
                        struct cancel *cancel, struct err *err) MUST_CHECK;

/* provider_qemu_adopt.c */
int qemu_adopt(struct provider *provider, const struct provider_adoption *what,
               struct provider_adopted *ret_adopted, struct cancel *cancel, struct err *err);

/* The agent's port: of an adopted machine that its owner started, that one's; "" when there is
 * none. Free with free(). */
char *qemu_agent_path(const struct provider_instance *instance);

/* provider_qemu_check.c */
int qemu_check(struct provider *provider, const struct machine *machine, struct str *ret_problems,
               struct err *err);
/* "kvm" or "tcg" for "auto"; else what was asked for. */
const char *qemu_accel(const char *wanted);
int qemu_agent_answers(struct provider *provider, const struct provider_instance *instance,
                       struct cancel *cancel, struct err *err);
int qemu_console_has(struct provider *provider, const struct provider_instance *instance,
                     const char *text, struct err *err);

/* provider_qemu_guest.c */
int qemu_guest_network(struct provider *provider, const struct provider_instance *instance,
                       const char *mac, const json_t *wanted, json_t **ret_network,
                       struct cancel *cancel, struct err *err);
int qemu_guest_assign(struct provider *provider, const struct provider_instance *instance,
                      const char *mac, const json_t *wanted, json_t **ret_network,
                      struct cancel *cancel, struct err *err);
