// SPDX-License-Identifier: Apache-2.0
/* What this site has, live: machines, groups it sends (sessions), replicas it holds (stores),
 * recovered instances. Filled by the daemon from state.db at start and on each change; used by
 * pool threads (verbs, the local site, links) and the API alike: every call locks for itself.
 * It keeps nothing durable; what must last is told to the daemon by `changed`, on any thread. */
#pragma once

#include "base/cancel.h"
#include "providers/provider.h"
#include "replica/store.h"
#include "sync/receiver.h"
#include "sync/scheduler.h"

struct estate;
struct estate_config {
    const char *site;
    const char *dir; /* the site's state directory */
    struct clock *clock;
    struct provider *provider;   /* borrowed */
    struct scheduler *scheduler; /* borrowed */
    uint8_t sign_key[SIGN_KEY_BYTES];
    json_t *networks;  /* recovery networks (config); borrowed, may be NULL */
    const char *seeds; /* the folder of folders, PEER/, that seeds are in (config); borrowed;
                          NULL: DIR/seeds */
    json_t *commands;  /* programs that plans may run here (config); borrowed, may be NULL */
    const char *self;  /* the program with command_main (base/command.h); NULL: this one */
    void *ctx;
    /* A link to that peer, for sessions and remote asks. */
    int (*open_link)(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *err);
    /* The group here was "held", "released", "retired" or "promoted" (with the new generation),
     * by this site's peer or our own run. Any thread; may be NULL. */
    void (*changed)(void *ctx, const char *group, const char *what, uint64_t generation);
};
struct estate *estate_new(const struct estate_config *config);
void estate_free(struct estate *estate);
const char *estate_site(const struct estate *estate);

/* Machines of this site (its own ones). */
void estate_machine_put(struct estate *estate, const struct machine *machine);
void estate_machine_remove(struct estate *estate, const char *name);
/* A copy; ERR_NOT_FOUND lists the nearest name. */
int estate_machine_get(struct estate *estate, const char *name, struct machine *ret_machine,
                       struct err *err) MUST_CHECK;
/* "DIR/machines/NAME": the run_dir of a machine's own instance. Free with free(). */
char *estate_machine_dir(struct estate *estate, const char *name);

/* The group that the machine is in here, sent or held; a group's own name is its name. False: in none,
 * and `ret_group` is the machine's name. */
bool estate_group_of(struct estate *estate, const char *machine, char ret_group[NAME_MAX_BYTES]);
/* The machines of a group, sent or held; of one that is not known here, the one of its name. */
void estate_group_machines(struct estate *estate, const char *group,
                           struct machine_names *ret_machines);

/* Groups this site sends. The session is opened by estate_group_add and turned by the scheduler. */
struct estate_group {
    char group[NAME_MAX_BYTES];
    char peer[NAME_MAX_BYTES];
    char run[NAME_MAX_BYTES]; /* whose recovered machines are sent; "": our own of these names */
    uint64_t generation;
    struct policy policy;
    struct machine_names machines; /* none: the one of the group's name */
};
int estate_group_add(struct estate *estate, const struct estate_group *group, struct err *err)
    MUST_CHECK;
/* Its session begins anew from its checkpoint: what it compares with may be another map by now. */
int estate_group_reopen(struct estate *estate, const char *group, struct err *err) MUST_CHECK;
/* Stops turning it; the checkpoint stays. Waits for a turn or a call that is under way. */
void estate_group_remove(struct estate *estate, const char *group);
/* For good: tracking ends, checkpoint and marks are removed, then as estate_group_remove. On an
 * error the group stays as it is. */
int estate_group_forget(struct estate *estate, const char *group, struct cancel *cancel,
                        struct err *err) MUST_CHECK;
/* What a failover left on this side's group, durable in sessions/GROUP.mark. */
struct estate_mark {
    char held[NAME_MAX_BYTES]; /* name of the run that holds it; "": nobody */
    uint64_t final_point;      /* of a final sync by that run; 0: none */
    uint64_t retired;          /* generation it was promoted to elsewhere; 0: not */
    char by[NAME_MAX_BYTES];   /* the site that has it since */
    int64_t since_ms;          /* when we learned of it, wall clock */
    uint64_t clean;            /* the point beyond which it wrote nothing; 0: not known */
    uint64_t settled;    /* equal to `retired`: the machine's process is gone, its branch kept */
    uint64_t seal;       /* of its disks when it was retired (estate_seal); 0: not known */
    uint64_t generation; /* under which it was given back to us; 0: it was not */
};
int estate_mark_read(struct estate *estate, const char *group, struct estate_mark *ret_mark,
                     struct err *err) MUST_CHECK;
/* The machine of that name, a group of its own, is no more: what is marked of it holds for nobody. */
int estate_mark_clear(struct estate *estate, const char *machine, struct err *err) MUST_CHECK;
/* May the machine be started here? ERR_FENCED: its group was failed over to another site (says
 * where); ERR_STATE: a failover holds it (names the run). */
int estate_may_start(struct estate *estate, const char *machine, struct err *err) MUST_CHECK;
/* After a start of the host (estate_boot.c). `boot_id` tells one start from another (estate_boot_id: the
 * kernel's). When it is another than last time, and the daemon had not been ended by command
 * (estate_boot_end), each group that is sent from here is in doubt until its peer was heard. Once, when
 * all groups are added. */
int estate_boot_begin(struct estate *estate, const char *boot_id, struct err *err) MUST_CHECK;
int estate_boot_end(struct estate *estate, struct err *err) MUST_CHECK;
int estate_boot_id(char *ret_id, size_t len, struct err *err) MUST_CHECK;
/* A machine's group, or the group of that name. */
bool estate_boot_doubts(struct estate *estate, const char *machine);
/* Its peer was heard, or a person takes it on himself. The same names. */
int estate_boot_trust(struct estate *estate, const char *machine, struct err *err) MUST_CHECK;
/* Asks the peer of a group that is sent from here for its generation: one above ours retires the group
 * here, another one ends its doubt. */
int estate_meet(struct estate *estate, const char *group, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* 0 when the machine's group is not in doubt, or no more, its peer being asked. ERR_STATE: the peer does
 * not answer; ERR_FENCED: it has it. */
int estate_boot_check(struct estate *estate, const char *machine, struct cancel *cancel,
                      struct err *err) MUST_CHECK;

/* The fence (estate_fence.c): `by` has promoted our group to `generation`. Durable mark, nothing is
 * sent any more, the machine stands still: this much is so when it returns. Asking again is fine.
 * ERR_STATE: that generation is not above the one we write under. */
int estate_retire(struct estate *estate, const char *group, const char *by, uint64_t generation,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
/* The rest, for a group that is marked: machine stopped, its last writes kept as a branch, its
 * process ended. `ret_settled` false: somebody else is at it. On an error the machine stays as it is,
 * paused; estate_fence_show tells why. */
int estate_fence(struct estate *estate, const char *group, bool *ret_settled, struct cancel *cancel,
                 struct err *err) MUST_CHECK;
/* For now and then, any thread: marks each group whose session was fenced (its replica was promoted
 * without us), and settles what is marked and due for a try. `ret_done` counts what came about. */
int estate_fence_all(struct estate *estate, uint32_t *ret_done, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
/* The next estate_fence_all tries it. */
void estate_fence_retry(struct estate *estate, const char *group);
struct estate_fence {
    struct estate_mark mark;
    char problem[512]; /* why it could not be settled; "" */
};
int estate_fence_show(struct estate *estate, const char *group, struct estate_fence *ret_fence,
                      struct err *err) MUST_CHECK;

/* The other side of it (estate_retiring.c): groups promoted here whose old site has not said yet
 * that it retired them; durable. */
struct estate_retiring {
    char group[NAME_MAX_BYTES];
    char peer[NAME_MAX_BYTES];
    char run[NAME_MAX_BYTES];
    uint64_t generation;
    int64_t since_ms;
};
struct estate_retiring *estate_retiring_list(struct estate *estate, size_t *ret_count);
/* Asks the old site once; its yes is noted. `ret_asked` false: the promotion did not come about. */
int estate_retiring_ask(struct estate *estate, const struct estate_retiring *retiring,
                        bool *ret_asked, struct cancel *cancel, struct err *err) MUST_CHECK;
/* It said yes, or nobody needs it any more. */
void estate_retiring_over(struct estate *estate, const char *group);
/* Closes idle links to that peer (NULL: to all): it may be another by now, or gone. */
void estate_links_drop(struct estate *estate, const char *peer);
/* What all sessions to that peer send through; the same until estate_free. Any thread. */
struct shaper *estate_shaper(struct estate *estate, const char *peer);
/* Those there are; free with free(). */
struct estate_group *estate_group_list(struct estate *estate, size_t *ret_count);
/* Borrowed until estate_session_put; NULL when this site does not send that group. */
struct session *estate_session_get(struct estate *estate, const char *group);
void estate_session_put(struct estate *estate, const char *group);

/* Files at the peer from which heads of this group begin, {disk: file}, for its initial copy; NULL or
 * empty: none. By the next session of it; true: there were others before. */
bool estate_seeds_set(struct estate *estate, const char *group, const json_t *seeds);
json_t *estate_seeds_get(struct estate *estate, const char *group); /* a copy, or NULL */
/* A file of this site, below seeds/PEER, that this peer named; as seed_open. Any thread. */
int estate_seed_open(struct estate *estate, const char *peer, const char *name,
                     struct seed *ret_seed, struct err *err) MUST_CHECK;

/* Replicas this site holds. */
struct estate_replica {
    char group[NAME_MAX_BYTES];
    char peer[NAME_MAX_BYTES];
    uint8_t writer_key[SIGN_KEY_BYTES];
    bool at_rest; /* the heads of a copy that begins are LUKS containers, whose key is here */
    struct machine_names machines; /* none: the one of the group's name */
};
int estate_replica_add(struct estate *estate, const struct estate_replica *replica, struct err *err)
    MUST_CHECK;
void estate_replica_remove(struct estate *estate, const char *group);
struct estate_replica *estate_replica_list(struct estate *estate, size_t *ret_count);
/* The store, locked for the caller until estate_store_put; opened (and recovered) when needed.
 * `failed`: it is closed, and opened anew at the next use. */
int estate_store_get(struct estate *estate, const char *group, struct store **ret_store,
                     struct err *err) MUST_CHECK;
void estate_store_put(struct estate *estate, const char *group, struct store *store, bool failed);
/* The same for a scrub: also a store over own disks that somebody wrote to. */
int estate_store_get_to_scrub(struct estate *estate, const char *group, struct store **ret_store,
                              struct err *err) MUST_CHECK;
/* For receiver_serve: the same stores. */
const struct receiver_host *estate_receiver_host(struct estate *estate);
/* "DIR/replicas/GROUP", "DIR/keys/GROUP.key" (32 bytes, 0600), and "DIR/keys/GROUP.luks", what opens the
 * heads of a replica that is encrypted at rest (base/luks.h): at the site of the replica alone, never
 * sent anywhere. Free with free(). */
char *estate_replica_dir(struct estate *estate, const char *group);
char *estate_key_path(struct estate *estate, const char *group);
char *estate_luks_path(struct estate *estate, const char *group);
/* Makes that one, unless it is there: then it must be one that can be used. */
int estate_luks_need(struct estate *estate, const char *group, struct err *err) MUST_CHECK;
/* Removes a group's keys, both; gone already is fine. What they opened is lost. */
int estate_keys_remove(struct estate *estate, const char *group, struct err *err) MUST_CHECK;
int estate_key_read(struct estate *estate, const char *group, struct key *ret_key, struct err *err)
    MUST_CHECK;
/* From any file. ERR_DENIED: others can read it; ERR_CORRUPT: it is of another length. */
int estate_key_load(const char *path, struct key *ret_key, struct err *err) MUST_CHECK;
int estate_key_write(struct estate *estate, const char *group, const struct key *key,
                     struct err *err) MUST_CHECK;

/* This site's own promotion of the group, as manifests. */
struct estate_promotion {
    char *tip;     /* the promotion's own */
    char *first;   /* of the point it chose */
    json_t *proof; /* of the points between the two, texts: where an older point was chosen */
};
void estate_promotion_done(struct estate_promotion *promotion); /* also for CLEANUP */
/* ERR_STATE: it was not promoted here, or the chosen point is not kept any more. */
int estate_promotion_get(struct estate *estate, const char *group,
                         struct estate_promotion *ret_promotion, struct err *err) MUST_CHECK;

/* Another site was promoted: our side becomes its replica. Strings are borrowed. */
struct estate_follow {
    const char *group;
    const char *peer;
    uint8_t writer_key[SIGN_KEY_BYTES]; /* the peer's public one */
    uint64_t generation;                /* of the promotion */
    const char *tip;                    /* the promotion's manifest */
    const char *first;                  /* manifest of the point that was promoted */
    const json_t *proof;                /* as in estate_promotion */
    void *ctx;
    /* Now and then while disks are read; may be NULL. */
    void (*progress)(void *ctx, const char *disk, uint64_t done_bytes, uint64_t size);
};
/* The machine is stopped here and can be started no more; its disks, or the replica that is here,
 * take the peer's points from then on. Asking again goes on with what was cut. `ret_note`: what takes
 * long, and why; written before it begins. Blocks, as long as reading all disks. */
int estate_follow(struct estate *estate, const struct estate_follow *what, char *ret_note,
                  size_t note_size, struct cancel *cancel, struct err *err) MUST_CHECK;

/* One lock per machine name: calls of the provider for one machine never overlap. */
void estate_machine_lock(struct estate *estate, const char *name);
void estate_machine_unlock(struct estate *estate, const char *name);

struct provider *estate_provider(struct estate *estate);
/* The peer's clock against ours, as it was measured last: so far ahead (negative: behind). Any
 * thread. False: nobody measured it since the daemon started. `ret_since_ms`: since when it has been
 * apart by ESTATE_CLOCK_APART_MS or more; 0: it is not. */
#define ESTATE_CLOCK_APART_MS 5000
void estate_clock_note(struct estate *estate, const char *peer, int64_t apart_ms);
bool estate_clock_look(struct estate *estate, const char *peer, int64_t *ret_apart_ms,
                       int64_t *ret_since_ms);
/* A group's own networks, {there: here}; NULL or empty: none. Any thread. */
void estate_networks_set(struct estate *estate, const char *group, const json_t *networks);
/* A machine of the peer's, recovered here, gets this site's networks: by its group's own, else by the
 * config's (networks = { there = "here" }); one that neither lists keeps its name. */
void estate_map_networks(struct estate *estate, const char *group, struct machine *machine);
/* The same with `networks` for the group's own. */
void estate_networks_map(const struct estate *estate, const json_t *networks,
                         struct machine *machine);
struct clock *estate_clock(struct estate *estate);

/* Recovered machines (instances/): serves disks again whose server died, and continues machines
 * that waited for them. For the daemon's start and now and then; errors of one do not stop the
 * others, the last is returned. `ret_repaired` counts, always set. */
int estate_repair(struct estate *estate, uint32_t *ret_repaired, struct cancel *cancel,
                  struct err *err) MUST_CHECK;

/* A source over the disks of the machine that run `run` recovered here, for its group's session: its
 * work folder is in sessions/GROUP/work. ERR_NOT_FOUND: no such machine; ERR_BUSY: it is just being
 * started and not tracked yet; ERR_STATE: it is off. */
int estate_instance_source(struct estate *estate, const char *run, const char *machine,
                           uint64_t generation, struct source **ret_source, struct cancel *cancel,
                           struct err *err) MUST_CHECK;

/* The sites have a point in common again that was cut after the machine was recovered: the change maps
 * kept when its disks were streamed (DISK.changes) go. None there is fine. */
int estate_instance_drop_changes(struct estate *estate, const char *run, const char *machine,
                                 struct err *err) MUST_CHECK;

/* 0 when no recovered machine here reads its disks from the replica of `group`. ERR_STATE: one does,
 * running or not (its run is named); ERR_CORRUPT: a machine's file cannot be read, so nobody knows. */
int estate_check_unused(struct estate *estate, const char *group, struct err *err) MUST_CHECK;

/* The local site over an estate; the remote one over a peer's link; both as `struct site`. */
struct site;
struct site *site_local_new(struct estate *estate);
struct site *site_remote_new(struct estate *estate, const char *peer);
/* Does the peer's ask on this side; only what a peer may ask (ERR_DENIED else). */
bool site_serve_knows(const char *op);
int site_serve(struct estate *estate, struct link *link, struct link_msg *msg,
               struct cancel *cancel, struct err *err) MUST_CHECK;
