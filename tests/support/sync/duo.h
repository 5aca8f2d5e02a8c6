// SPDX-License-Identifier: Apache-2.0
/* Two sites in one thread: a session at paris on a fake machine, the store of its replica at lyon,
 * each over a disk of its own (site_fs.h) and by a clock of its own; between them a wire in memory
 * whose other end answers while the session waits. So everything happens in one order, which a seed
 * decides. What is wrong with the duo itself aborts. */
#pragma once

#include "replica/store.h"
#include "support/sync/site_fs.h"
#include "support/sync/source_fake.h"
#include "sync/receiver.h"
#include "sync/session.h"

#define DUO_GROUP       "shop"
#define DUO_INTERVAL_MS 5000
#define DUO_KEEP        3
#define DUO_LATE_MAX    16

/* What the disks held at a cut, and until when they held it. */
struct duo_image {
    uint64_t cut;
    uint64_t touched; /* the machine's count of writes then */
    int64_t same_until_ms;
    uint8_t *bytes[FAKE_DISKS_MAX];
};
VEC_DEFINE(duo_images, struct duo_image)

/* A request that was on the way when its connection broke, and may still be heard. */
struct duo_late {
    uint8_t *bytes;
    size_t len;
};

struct duo_wire;

/* A build that is wrong: other operations in the place of some of the seam's, each time it is opened. */
struct duo_bug {
    void (*store)(struct store *store, void *ctx);
    void (*source)(struct source *source, void *ctx);
    void *ctx;
};

struct duo {
    struct fake_machine *machine;
    struct duo_images images;
    size_t borrowed;        /* of `images`: another duo's */
    struct clock_fake time; /* the true one; nobody is told but the oracle */
    struct clock_fake clock[2];
    struct site_fs paris;
    struct site_fs lyon;
    struct session_config config;
    struct session *session; /* NULL: its daemon does not run */
    struct store *store;     /* opened when it is asked for */
    struct receiver_host host;
    struct duo_bug bug;

    bool unreachable;
    uint64_t cut_up;    /* the next wire breaks after so many bytes to lyon; 0: never */
    uint64_t cut_down;  /* the same of answers: what was asked for is done then */
    bool break_now;     /* the wire that is there */
    int64_t latency_ms; /* of each answer */
    struct duo_wire *wire;
    struct duo_late late[DUO_LATE_MAX];
    size_t late_count;
    void (*on_served)(struct duo *duo, void *ctx); /* after each request; may be NULL */
    void *on_served_ctx;
    uint64_t links;
    uint64_t served;
    uint64_t breaks;
};

/* Both below `dir`; `machine` stays the caller's. */
void duo_init(struct duo *duo, const char *dir, struct fake_machine *machine, uint64_t seed);
void duo_done(struct duo *duo);
/* 0, or why the daemon at paris cannot open its session. */
int duo_open_session(struct duo *duo, struct err *err);
void duo_drop_session(struct duo *duo);
/* Closes what lyon has open; its wire breaks. */
void duo_drop_store(struct duo *duo);
/* Both clocks, and time. */
void duo_pass(struct duo *duo, int64_t ms);
/* One turn, if the daemon at paris runs; time moves on to when the next one is due, at most
 * `max_ms`. */
void duo_turn(struct duo *duo, int64_t max_ms);
/* Has the oldest of the late requests heard. */
void duo_hear_late(struct duo *duo);
/* All of them, one after the other, over the connection that is still there for lyon. */
void duo_hear_all_late(struct duo *duo);
struct session_status duo_status(struct duo *duo);
/* The store at lyon, opened if need be, as its daemon has it. The caller has entered lyon. */
int duo_store(struct duo *duo, struct store **ret_store, struct err *err);
char *duo_replica_dir(const struct duo *duo);
/* The image of the cut that a point was made of; NULL: of none. */
const struct duo_image *duo_image_of(struct duo *duo, const char *manifest);
