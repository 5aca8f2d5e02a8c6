// SPDX-License-Identifier: Apache-2.0
/* A test bed: one group's session on a fake machine, and its replica in a real directory store,
 * served by a thread over a link in memory. What is durable lies below `dir` and in the machine;
 * a bed over the same two goes on where another one was dropped. Whatever fails in the bed itself
 * aborts, so that it can also run in a forked child. */
#pragma once

#include "replica/store.h"
#include "support/sync/source_fake.h"
#include "sync/receiver.h"
#include "sync/session.h"

#include <pthread.h>

#define BED_GROUP       "shop"
#define BED_INTERVAL_MS 5000

struct bed {
    char *dir;
    struct fake_machine *machine;
    struct clock_fake clock;
    struct session_config config; /* may be changed before bed_open_session */
    struct session *session;

    pthread_mutex_t store_lock;
    struct store *store; /* opened when it is asked for */
    struct receiver_host host;

    pthread_t server;
    bool serving;
    struct link *server_link;

    uint64_t cut_next;       /* the next link breaks after so many bytes from us; 0: none */
    _Atomic bool break_link; /* at our next write */
    unsigned last_writes;    /* of the machine, until it is stopped for its branch */
    bool unreachable;
    bool first_release;        /* the replica's side does not know store.block-digests */
    unsigned busy_ends;        /* so many requests to end the copy are answered with "busy" */
    bool no_machine;           /* open_source says so */
    enum err_code store_fails; /* ERR_NONE: it does not */
    uint64_t link_per_s;       /* the clock moves on as bytes are sent; 0: not */
    json_t *seeds;             /* of the sessions that are opened: bed_seed */
    uint64_t room;             /* free bytes at the session's side; 0: plenty */
    unsigned links;            /* made */
    struct link *idle;         /* bed_share_links: what the session gave back */
    unsigned lost_links;
    _Atomic uint64_t sent;     /* bytes from us to the replica */
    _Atomic unsigned messages; /* served */
};

/* `machine` stays the caller's. */
void bed_init(struct bed *bed, const char *dir, struct fake_machine *machine);
void bed_done(struct bed *bed);
/* DIR/seeds/NAME, at the replica's side, becomes what the disk is now, its first `bytes`. */
void bed_seed_file(struct bed *bed, size_t disk, const char *name, uint64_t bytes);
/* Before it is opened: the session's initial copy of that disk begins from that seed. */
void bed_seed(struct bed *bed, size_t disk, const char *name);
/* Before it is opened: the session gives its link back after each turn. */
void bed_share_links(struct bed *bed);
void bed_open_session(struct bed *bed);
/* As a killed daemon leaves it: the object goes, nothing is tidied up. */
void bed_drop_session(struct bed *bed);
/* The replica's daemon restarts: link broken, store closed. */
void bed_restart_replica(struct bed *bed);

/* One turn; the clock moves on to when it is due. */
void bed_turn(struct bed *bed);
/* Turns until the newest point is at least `point` and applied; at most `max` of them. */
void bed_turns_until(struct bed *bed, uint64_t point, unsigned max);
struct session_status bed_status(struct bed *bed);
/* Is each disk's head at the replica what the machine's disk was at the latest cut? */
bool bed_replica_equals_cut(struct bed *bed);
/* The store, for a look; bed_store_put when done. */
struct store *bed_store(struct bed *bed);
void bed_store_put(struct bed *bed);

#define BED_OK(call, err)                               \
    do {                                                \
        if ((call) < 0)                                 \
            bed_fail(__FILE__, __LINE__, #call, (err)); \
    } while (0)
#define BED_CHECK(what)                                \
    do {                                               \
        if (!(what))                                   \
            bed_fail(__FILE__, __LINE__, #what, NULL); \
    } while (0)
void bed_fail(const char *file, int line, const char *what, const struct err *err)
    __attribute__((noreturn));
