// SPDX-License-Identifier: Apache-2.0
/* The provider seam: what runs machines. Machines and served disks outlive the daemon: every call
 * finds them again by what lies in `run_dir` (pid and start time, sockets, console log), so the
 * calls keep no state and any pool thread may make them; calls for one machine are serialised by
 * the caller. Asking for what is already so succeeds. */
#pragma once

#include "base/cancel.h"
#include "base/crypto.h"
#include "block/source.h"
#include "providers/machine.h"

enum instance_state {
    INSTANCE_OFF,
    INSTANCE_RUNNING,
    INSTANCE_PAUSED,   /* by somebody, or started paused */
    INSTANCE_SHUTDOWN, /* the guest is off; the process still holds the disks and their maps */
    INSTANCE_IO_ERROR, /* stopped by an I/O error of a disk (a served disk that is gone) */
};
const char *instance_state_name(enum instance_state state);

/* A disk of a recovered machine: guest -> top (a filter) -> overlay (qcow2) -> served point. */
struct provider_served_disk {
    char name[MACHINE_NAME_BYTES];
    char overlay[MACHINE_PATH_BYTES];      /* made when missing; never remade */
    char replica_dir[MACHINE_PATH_BYTES];  /* replicas/GROUP */
    char replica_disk[MACHINE_NAME_BYTES]; /* what it is called there (machine_disk_in) */
    char key_path[MACHINE_PATH_BYTES];
    char luks_path[MACHINE_PATH_BYTES]; /* the key of a replica encrypted at rest; "": it is none */
    uint64_t point;
    bool own; /* all of it is in the overlay (streamed): no point and no server any more */
};
VEC_DEFINE(provider_served_disks, struct provider_served_disk)

struct provider_instance {
    const struct machine *machine;
    const char *run_dir; /* of this instance: sockets, pid files, console.log; made when missing */
    const char *netns;   /* "" or the network namespace it runs in */
    bool isolated;       /* a test: NICs go to the namespace's bridge, or user,restrict=on */
    const struct provider_served_disks *served; /* NULL: the definition's own paths */
};

/* A served disk on its way to be one of its own. */
struct provider_stream {
    bool own;       /* it is: QEMU uses the point no longer */
    bool there;     /* the job is, at work or waiting */
    bool copied;    /* all is: stream_settle makes it one of its own */
    bool failed;    /* it waits because of an error */
    bool no_space;  /* ... and the file system is full */
    uint64_t done;  /* bytes looked at */
    uint64_t total; /* the disk's size */
};

/* A machine that runs already, started by somebody else. */
struct provider_adoption {
    const char *name;            /* what it is to be called here */
    const char *qmp;             /* its monitor's socket, an absolute path */
    const char *agent;           /* "": found out */
    const struct machine *given; /* what its owner says about it; NULL: found out */
};
struct provider_adopted {
    struct machine machine; /* with qmp, agent_socket and complete */
    struct str problems;    /* why it cannot be, one line each; "": it can */
    struct str notes;       /* what a recovered one will not have, one line each */
};
void provider_adopted_done(struct provider_adopted *adopted); /* also for CLEANUP */

struct provider {
    const char *name;
    /* Everything that would stop a start, one line each, added to `ret_problems` ("" when fine). */
    int (*check)(struct provider *provider, const struct machine *machine, struct str *ret_problems,
                 struct err *err);
    /* Has the machine's process all that tracking its changes takes? ERR_UNSUPPORTED names what is
     * missing. `ret_running` false: there is no process, and whoever starts it has it. May be NULL. */
    int (*can_track)(struct provider *provider, const struct provider_instance *instance,
                     bool *ret_running, struct cancel *cancel, struct err *err);
    /* Starts the machine (paused when asked: tracking is armed before its first instruction).
     * For served disks it starts their nbdkit first. ERR_BUSY: its disk is in use elsewhere. */
    int (*start)(struct provider *provider, const struct provider_instance *instance, bool paused,
                 struct cancel *cancel, struct err *err);
    int (*resume)(struct provider *provider, const struct provider_instance *instance,
                  struct cancel *cancel, struct err *err);
    /* Its processors stand still from the return on; it keeps its disks and maps. Off, shut down or
     * paused: nothing to do. */
    int (*pause)(struct provider *provider, const struct provider_instance *instance,
                 struct cancel *cancel, struct err *err);
    int (*observe)(struct provider *provider, const struct provider_instance *instance,
                   enum instance_state *ret_state, struct cancel *cancel, struct err *err);
    /* Asks the guest to shut down (agent, then ACPI) and waits until it has; the process stays
     * (INSTANCE_SHUTDOWN). ERR_TIMEOUT: the guest did not within the cancel's time. */
    int (*shutdown)(struct provider *provider, const struct provider_instance *instance,
                    struct cancel *cancel, struct err *err);
    /* Ends the process and the served disks' servers; overlays stay. */
    int (*stop)(struct provider *provider, const struct provider_instance *instance,
                struct cancel *cancel, struct err *err);
    /* Served disks whose server died are served again on the same socket, and a machine that
     * waits on them is continued. `ret_repaired` counts. */
    int (*repair)(struct provider *provider, const struct provider_instance *instance,
                  uint32_t *ret_repaired, struct cancel *cancel, struct err *err);

    /* Probes. 1: yes, 0: no, -1: cannot tell. */
    int (*agent_answers)(struct provider *provider, const struct provider_instance *instance,
                         struct cancel *cancel, struct err *err);
    /* A line of the console since the instance's start that contains `text`. */
    int (*console_has)(struct provider *provider, const struct provider_instance *instance,
                       const char *text, struct err *err);
    /* A network card of the guest, by its agent: as guest_net_read and guest_net_assign have it
     * (qemu/guest_net.h). ERR_TIMEOUT: no agent answers; ERR_UNSUPPORTED: it has no port. */
    int (*guest_network)(struct provider *provider, const struct provider_instance *instance,
                         const char *mac, const json_t *wanted, json_t **ret_network,
                         struct cancel *cancel, struct err *err);
    int (*guest_assign)(struct provider *provider, const struct provider_instance *instance,
                        const char *mac, const json_t *wanted, json_t **ret_network,
                        struct cancel *cancel, struct err *err);
    /* A source over the instance's disks (source_qemu when it lives, source_file when it is
     * off and has plain disks). */
    int (*open_source)(struct provider *provider, const struct provider_instance *instance,
                       const char *group, uint64_t generation, const char *work_dir,
                       struct source **ret_source, struct cancel *cancel, struct err *err);
    /* For how long nothing may be copied from a machine that runs: while its guest finds its disks, what
     * does could end it (docs/qemu.md). 0: go on. May be NULL: it may always. */
    int64_t (*settling_ms)(struct provider *provider, const struct provider_instance *instance);
    /* The monitor by which others than its session find the machine, while it lives: a guardian continues
     * it there. Free with free(). May be NULL: nobody but the session can. */
    char *(*monitor)(struct provider *provider, const struct provider_instance *instance);

    /* Change maps of a living machine, seen beside a session that has its source open. Serial of
     * the map that is open on all its disks, 0: none (nothing is tracked, or it is off). */
    int (*tracked)(struct provider *provider, const struct provider_instance *instance,
                   const char *group, uint64_t generation, uint64_t *ret_serial,
                   struct cancel *cancel, struct err *err);
    /* Before a stop: a machine that runs is paused, for good, and what its maps hold is read:
     * `ret_marks`, one per disk of the machine. `ret_serial` as above; 0: nothing was read. */
    int (*last_marks)(struct provider *provider, const struct provider_instance *instance,
                      const char *group, uint64_t generation, uint64_t *ret_serial,
                      struct source_extents *ret_marks, struct cancel *cancel, struct err *err);

    /* Streaming, of disk number `disk` of a living recovered machine (ERR_STATE: it is off), while
     * it works: its job belongs to the machine's process and outlives the daemon. */
    int (*stream_look)(struct provider *provider, const struct provider_instance *instance,
                       size_t disk, struct provider_stream *ret_stream, struct cancel *cancel,
                       struct err *err);
    /* Starts it, or lets one that waits go on, with that rate (bytes per second, 0: no limit). What
     * was copied before is not copied again. */
    int (*stream_begin)(struct provider *provider, const struct provider_instance *instance,
                        size_t disk, uint64_t rate_per_s, struct cancel *cancel, struct err *err);
    /* Ends all streams of the machine where they are; none and off are fine. */
    int (*stream_stop)(struct provider *provider, const struct provider_instance *instance,
                       struct cancel *cancel, struct err *err);
    /* Of a disk that is copied, or its own already: QEMU lets go of the point, all of it is durable in
     * the overlay, and was seen there. ERR_CORRUPT: it is not all there; ERR_STATE: not copied yet. */
    int (*stream_settle)(struct provider *provider, const struct provider_instance *instance,
                         size_t disk, struct cancel *cancel, struct err *err);
    /* What was written to the overlay so far, durable when this returns. */
    int (*overlay_extents)(struct provider *provider, const struct provider_instance *instance,
                           size_t disk, struct source_extents *ret_extents, uint64_t *ret_size,
                           struct cancel *cancel, struct err *err);
    /* The servers of disks that are their own end. */
    int (*unserve)(struct provider *provider, const struct provider_instance *instance,
                   struct cancel *cancel, struct err *err);

    /* Learns the running machine's definition, or checks the given one against it; changes nothing.
     * From then on it is an instance with `machine.qmp`: each call above finds it there, and makes
     * sure that its process outlives its guest. Both may be NULL: no such thing. */
    int (*adopt)(struct provider *provider, const struct provider_adoption *what,
                 struct provider_adopted *ret_adopted, struct cancel *cancel, struct err *err);
    /* Gives it back as it was; it goes on running. Off already is fine. */
    int (*release)(struct provider *provider, const struct provider_instance *instance,
                   struct cancel *cancel, struct err *err);
};

struct provider_qemu_config {
    const char *qemu_path;   /* "qemu-system-x86_64" */
    const char *plugin_path; /* nbdkit-muster-plugin.so */
    struct clock *clock;
    /* How long a guest's read waits for a served disk's server before the machine is stopped with
     * INSTANCE_IO_ERROR; 0: 30 s. Meanwhile the monitor may wait, too. */
    uint32_t reconnect_s;
};
struct provider *provider_qemu_new(const struct provider_qemu_config *config);
void provider_free(struct provider *provider);

/* Networks of test runs: a network namespace with a bridge "br0" and no way out. */
int testnet_create(const char *netns, struct err *err) MUST_CHECK; /* there already: fine */
int testnet_remove(const char *netns, struct err *err) MUST_CHECK; /* gone already: fine */
/* Can a TCP connection be made to address:port from within `netns` ("" for ours)? 1, 0, -1. */
int probe_tcp(const char *netns, const char *address, uint16_t port, struct cancel *cancel,
              struct err *err);
