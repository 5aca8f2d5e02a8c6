// SPDX-License-Identifier: Apache-2.0
/* Inside of the qemu provider: where an instance keeps what, and its parts. An instance is found
 * again by its run_dir alone:
 *
 *   qemu.pid      written and kept locked by QEMU: the lock says whether it lives, and who it is
 *   qmp.sock      monitor of the provider        qmp-data.sock   monitor of the source
 *   qmp-spare.sock                                agent.sock      the guest agent's channel
 *   console.log   the guest's serial console, since QEMU was started
 *   qemu.log      what QEMU itself said
 *   DISK.nbd      a served disk's socket: whoever listens there is its nbdkit (SO_PEERCRED)
 *   DISK.log      what that nbdkit said
 *   taps          names of the tap devices made for it, one a line */
#pragma once

#include "providers/provider.h"

#include <sys/types.h>

#define INSTANCE_PID_FILE "qemu.pid"
#define INSTANCE_QMP      "qmp.sock"
#define INSTANCE_QMP_DATA "qmp-data.sock"
#define INSTANCE_QMP_MORE "qmp-spare.sock"
#define INSTANCE_AGENT    "agent.sock"
#define INSTANCE_CONSOLE  "console.log"
#define INSTANCE_LOG      "qemu.log"
#define INSTANCE_TAPS     "taps"

struct provider_qemu {
    struct provider provider; /* first */
    char *qemu_path;
    char *plugin_path;
    struct clock *clock;
    /* With accel = "auto": KVM was tried and did not work. */
    _Atomic bool kvm_is_broken;
};

/* Names of nodes in QEMU: what the guest writes to is "disk-NAME". */
#define INSTANCE_NODE_BYTES 32
void instance_node(const char *disk, char ret_node[INSTANCE_NODE_BYTES]);
/* Malloc'ed "RUN_DIR/NAME". */
char *instance_path(const struct provider_instance *instance, const char *name);
/* "tap name" of NIC number `nic`: at most 15 bytes, the same each time. */
#define INSTANCE_TAP_BYTES 16
void instance_tap(const struct provider_instance *instance, size_t nic,
                  char ret_tap[INSTANCE_TAP_BYTES]);
const struct provider_served_disk *instance_served(const struct provider_instance *instance,
                                                   const char *disk);
/* QEMU's pid while it lives, else 0. */
pid_t instance_pid(const struct provider_instance *instance);
/* The pid of who listens on a unix socket, 0: nobody. */
pid_t socket_pid(const char *path);

/* qemu_argv.c: the whole command line, NULL-terminated; free with argv_free. */
struct argv {
    char **at;
    size_t len;
    size_t cap;
};
void argv_free(struct argv *argv); /* also for CLEANUP */
void argv_build(const struct provider_qemu *qemu, const struct provider_instance *instance,
                const char *accel, bool paused, struct argv *ret_argv);

/* qemu_served.c: nbdkit and overlay of each served disk; there already is fine. */
int served_start(const struct provider_qemu *qemu, const struct provider_instance *instance,
                 struct cancel *cancel, struct err *err) MUST_CHECK;
/* Counts those that were dead and are served again. */
int served_repair(const struct provider_qemu *qemu, const struct provider_instance *instance,
                  uint32_t *ret_repaired, struct cancel *cancel, struct err *err) MUST_CHECK;
int served_stop(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* qemu_taps.c: tap devices of NICs on bridges. */
int taps_create(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
    MUST_CHECK;
int taps_remove(const struct provider_instance *instance, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* qemu_check.c */
int qemu_check(struct provider *provider, const struct machine *machine, struct str *ret_problems,
               struct err *err);
