// SPDX-License-Identifier: Apache-2.0
/* For site_local_*.c: the asks by themselves, each a plain function over the estate, and the table
 * that names them. */
#pragma once

#include "base/str.h"
#include "sites/estate.h"
#include "sites/estate_internal.h"
#include "sites/site.h"

/* `ret_result` is NULL at first; left so, the answer is {}. */
typedef int site_ask_fn(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err);

struct site_ask_row {
    const char *what;
    site_ask_fn *fn;
    bool peer; /* a peer may ask it, for what it shares with us */
};
const struct site_ask_row *site_ask_find(const char *what);

site_ask_fn ask_machine_observe, ask_machine_shutdown, ask_machine_start, ask_machine_stop;
site_ask_fn ask_machine_release;
site_ask_fn ask_group_final_sync, ask_group_hold, ask_group_release, ask_group_retire,
    ask_group_branches;
site_ask_fn ask_group_observe, ask_group_point, ask_group_points, ask_group_verify, ask_group_pin,
    ask_group_unpin, ask_group_promote;
site_ask_fn ask_group_keep_point, ask_group_free_point, ask_group_prune;
site_ask_fn ask_net_create, ask_net_observe, ask_net_remove;
site_ask_fn ask_instance_start, ask_instance_shutdown, ask_instance_stop;
site_ask_fn ask_instance_observe, ask_instance_remove, ask_instance_leftovers;
site_ask_fn ask_instance_keep;
site_ask_fn ask_instance_commit, ask_group_reprotect, ask_group_return;
site_ask_fn ask_instance_stream, ask_instance_stream_stop;
site_ask_fn ask_probe_tcp, ask_probe_agent, ask_probe_console;

site_ask_fn ask_guest_network, ask_guest_assign, ask_guest_restore;
site_ask_fn ask_hook_post;
site_ask_fn ask_command_start, ask_command_observe, ask_command_stop;

/* Which points a person asks to be kept: `keep` of the arguments, or, without it, what the store was
 * told last; false: nobody said yet. */
bool site_retention(struct store *store, const json_t *args, struct retention *ret_retention);
/* Points in one answer of "group.points". */
#define SITE_POINTS_PAGE 1000
#define SITE_NETNS_BYTES (NAME_MAX_BYTES + 32)

/* A recovered machine as its folder tells: instances/RUN-MACHINE/instance.json. */
struct site_instance {
    char run[NAME_MAX_BYTES];
    char name[MACHINE_NAME_BYTES];
    char group[NAME_MAX_BYTES];
    bool test;
    bool committed; /* its failover is final */
    bool own;       /* it runs on its own disks again, by our own definition of it */
    uint64_t point;
    char *dir;
    char *run_dir; /* the provider's: `dir`, or the own machine's */
    char netns[SITE_NETNS_BYTES];
    struct machine machine;
    struct machine_names
        machines; /* of its group, when it was started: how its disks are named there */
    struct provider_served_disks served;
};
void site_instance_done(struct site_instance *instance); /* also for CLEANUP */
/* Each folder of instances/, until one returns -1; `name` is the last part of `dir`. */
typedef int site_instance_fn(void *ctx, const char *name, const char *dir, struct err *err);
int site_instance_each(struct estate *estate, site_instance_fn *fn, void *ctx, struct err *err)
    MUST_CHECK;
/* "DIR/instances/RUN-MACHINE"; free with free(). */
char *site_instance_dir(struct estate *estate, const char *run, const char *machine);
/* ERR_NOT_FOUND: no such folder, or nothing was started in it yet. */
int site_instance_load(struct estate *estate, const char *run, const char *machine,
                       struct site_instance *ret_instance, struct err *err) MUST_CHECK;
/* Writes its file: what was asked for, and what became of it. */
int site_instance_save(const struct site_instance *instance, struct err *err) MUST_CHECK;
/* The provider's view of it; borrows from `instance`. */
struct provider_instance site_instance_view(const struct site_instance *instance);
/* A machine of a group as it runs here: our own of that name, or, with a run, the recovered one that
 * became ours. Filled in place: `view` points into it. */
struct site_seat {
    struct machine machine;        /* our own */
    struct site_instance instance; /* the recovered one */
    char *dir;
    char lock[NAME_MAX_BYTES * 2]; /* for estate_machine_lock */
    struct provider_instance view;
};
void site_seat_done(struct site_seat *seat); /* also for CLEANUP, of one that is zero */
int site_seat_get(struct estate *estate, const char *machine, const char *run,
                  struct site_seat *ret_seat, struct err *err) MUST_CHECK;
/* Where the machine's source stages its cuts: sessions/GROUP/work, in a group of several a folder of its
 * own therein. Free with free(). */
char *site_work_dir(struct estate *estate, const char *group, const char *machine);
/* The machine was started or stopped: replication, if there is any, looks at its disks anew, at once. */
void site_tell_session(struct estate *estate, const char *machine);
/* The run whose recovered machines this site sends, of the machine's group (or the group of that name);
 * "": none. */
void estate_seat_run(struct estate *estate, const char *machine, char ret_run[NAME_MAX_BYTES]);

/* Are the machine's own disks here what the group's next start uses: heads of its replica, or taken
 * back from it already? */
int site_own_look(struct estate *estate, const char *group, bool *ret_own, struct err *err)
    MUST_CHECK;
/* They were taken back already. */
int site_own_back(struct estate *estate, const char *group, bool *ret_back, struct err *err)
    MUST_CHECK;
/* Starts it on them: the replica that they were the heads of is given up, what is written is tracked
 * from the first instruction. Under the machine's lock. */
int site_own_start(struct estate *estate, const struct site_instance *instance,
                   const struct provider_instance *view, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* The same for one whose base is there and was never armed: a machine that was given back. */
int site_own_arm_start(struct estate *estate, const char *group,
                       const struct provider_instance *view, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* What is done to the disks of all machines of a group is done by one at a time. */
void site_own_lock(struct estate *estate, const char *group, bool lock);

/* Until the guest is off or `cancel` ends: ERR_TIMEOUT. Takes the lock of that name for each try;
 * the caller does not hold it. */
int site_shutdown(struct estate *estate, const struct provider_instance *view, const char *lock,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
/* "muster-t-RUN-HASH", of the state directory: whoever shares this host's network namespaces (two
 * sites, two installations of one name) does not meet. */
void site_netns_name(const struct estate *estate, const char *run, char ret_name[SITE_NETNS_BYTES]);

/* site_instance_arm.c: the real machine's way back.
 *
 * Before its first instruction a map is open on its disks that holds all that they differ in from the
 * point it was recovered from, or nothing is claimed. What is so is durable beside it. */
struct site_armed {
    uint64_t generation;
    uint64_t serial; /* of the map, when it was opened */
    bool base;       /* it holds every change since the point: the session's base */
    bool armed;      /* false: it was about to be opened */
};
/* ERR_NOT_FOUND: never armed. */
int site_armed_read(const struct site_instance *instance, struct site_armed *ret_armed,
                    struct err *err) MUST_CHECK;
/* Starts it, or takes up what a killed daemon left; its lock is held. A test is not tracked. */
int site_instance_bring_up(struct estate *estate, const struct site_instance *instance,
                           struct cancel *cancel, struct err *err) MUST_CHECK;
/* Ends it; what its maps hold is kept for the next start. */
int site_instance_end(struct estate *estate, const struct site_instance *instance,
                      struct cancel *cancel, struct err *err) MUST_CHECK;

/* site_instance_stream.c: its disks become its own. Fills `own` of the served disks from what is
 * durable; to be called under its lock. */
int site_stream_load(struct site_instance *instance, struct err *err) MUST_CHECK;
/* {streamed, stream}, for "instance.observe". */
int site_stream_observe(struct estate *estate, const struct site_instance *instance,
                        enum instance_state state, json_t *into, struct cancel *cancel,
                        struct err *err) MUST_CHECK;
