// SPDX-License-Identifier: Apache-2.0
/* For estate_*.c: what the registry holds. Everything behind `lock` is touched only under it; it is
 * never held over a call that blocks. */
#pragma once

#include "sites/estate.h"

#include <pthread.h>

VEC_DEFINE(estate_machines, struct machine *)

struct estate_name_lock {
    char name[NAME_MAX_BYTES * 2];
    pthread_mutex_t mutex;
};
VEC_DEFINE(estate_name_locks, struct estate_name_lock *)

struct estate_base_reader;                                       /* estate_base.c */
void estate_base_reader_free(struct estate_base_reader *reader); /* NULL is fine */

struct estate_sender {
    struct estate *estate;
    struct estate_group group;
    struct session *session;
    struct estate_base_reader *base; /* of the session, or NULL */
    uint64_t tip_point;              /* of our promotion, or 0 */
    unsigned users;                  /* between estate_session_get and _put */
    bool leaving;
    bool fencing;           /* somebody settles it */
    int64_t fence_retry_ms; /* monotonic */
    char fence_problem[512];
};
VEC_DEFINE(estate_senders, struct estate_sender *)

struct estate_holder {
    struct estate_replica replica;
    pthread_mutex_t use; /* the store's lock: held between get and put */
    struct store *store; /* open, or NULL */
    unsigned users;      /* have it or wait for it */
    bool leaving;
    bool reopen; /* its writer's key changed */
};
VEC_DEFINE(estate_holders, struct estate_holder *)
struct estate_clock {
    char peer[NAME_MAX_BYTES];
    int64_t apart_ms;
    int64_t since_ms; /* wall clock; 0: not apart */
};
VEC_DEFINE(estate_clocks, struct estate_clock)
VEC_DEFINE(estate_retirings, struct estate_retiring)
VEC_DEFINE(estate_links, struct link *)

struct estate_pair {
    char peer[NAME_MAX_BYTES];
    struct shaper *shaper;
};
VEC_DEFINE(estate_pairs, struct estate_pair *)

struct estate {
    struct estate_config config;
    char *site;
    char *dir;
    pthread_mutex_t lock;
    pthread_cond_t idle; /* a `users` became 0 */
    struct estate_machines machines;
    struct estate_name_locks name_locks;
    struct estate_senders senders;
    struct estate_holders holders;
    struct estate_links links; /* of sessions, idle; estate_links.c */
    struct estate_clocks clocks;
    json_t *networks;                  /* group -> its own; estate_networks.c */
    json_t *seeds;                     /* group -> {disk: file}; estate_seeds.c */
    struct estate_pairs pairs;         /* how fast each peer is sent to; estate_links.c */
    struct estate_retirings retirings; /* as their files say */
    struct receiver_host receiver_host;
    pthread_mutex_t boot_lock; /* what follows, and its file */
    char boot_id[64];
    json_t *doubted; /* groups; estate_boot.c */
};

void estate_lock(struct estate *estate);
void estate_unlock(struct estate *estate);
/* "DIR/folder/NAME" + suffix; free with free(). */
char *estate_path(const struct estate *estate, const char *folder, const char *name,
                  const char *suffix);
/* Under the lock; NULL: none. */
struct estate_sender *estate_find_sender(struct estate *estate, const char *group);
struct estate_holder *estate_find_holder(struct estate *estate, const char *group);
void estate_sender_free(struct estate_sender *sender);
void estate_holder_free(struct estate_holder *holder);

/* --- estate_source.c: what a session sends ----------------------------------------------------- */

/* Over the disks of all machines of its group: of one alone as its provider has it, of several as one,
 * named as by machine_disk_in. ERR_BUSY: a recovered one is off; ERR_NOT_FOUND: one is not known. */
int estate_source_open(struct estate_sender *sender, struct source **ret_source,
                       struct cancel *cancel, struct err *err) MUST_CHECK;
/* Definitions by name, as points keep them; without those that are not known here. A new reference. */
json_t *estate_source_machines(struct estate_sender *sender);

/* --- estate_links.c: idle links of sessions --------------------------------------------------- */

/* One to that peer, or NULL: then it is to be made. */
struct link *estate_links_take(struct estate *estate, const char *peer);
/* Takes the link. Each takes the one that was given last: those that are not needed grow old. */
void estate_links_give(struct estate *estate, struct link *link);
void estate_pairs_done(struct estate *estate);

/* Writes the mark; one that says nothing is removed. */
int estate_mark_write(struct estate *estate, const char *group, const struct estate_mark *mark,
                      struct err *err) MUST_CHECK;
/* A promotion of the group is about to raise it to `generation`: its old site is to be retired. */
int estate_retiring_begin(struct estate *estate, const char *group, const char *run,
                          uint64_t generation, struct err *err) MUST_CHECK;
/* Reads the files; those that cannot be read are left out, and logged. */
void estate_retiring_load(struct estate *estate);
/* Tells the daemon. */
void estate_tell(struct estate *estate, const char *group, const char *what, uint64_t generation);
/* Is the machine's group, or the group of that name, shared with that peer, in either role? */
bool estate_shares(struct estate *estate, const char *name, const char *peer);
/* Notes in `mark`, and durably, what the disks of the stopped machine look like from outside (size,
 * times, inode): whoever writes them meanwhile is noticed. */
int estate_seal(struct estate *estate, const char *group, struct estate_mark *mark, struct err *err)
    MUST_CHECK;
bool estate_seal_matches(struct estate *estate, const char *group, const struct estate_mark *mark);
/* Groups held for it, or retired, are not sent. */
bool estate_mark_stops(const struct estate_mark *mark);
