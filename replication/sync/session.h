// SPDX-License-Identifier: Apache-2.0
/* The sending half of a group's replication, one `struct session` per group:
 *
 *   copying -> protected <-> sending        resync-required, resyncing, backing-off, critical,
 *                                           fenced, paused
 *
 * A session works in turns (`session_turn`), each run to its end by one data thread: a slice of
 * the initial copy or of a rescan, or one delta cycle (cut, seal, send, durable, applied). What
 * it knows is in its checkpoint file, replaced atomically before each effect; a killed daemon
 * goes on from there. `session_status` may be called by any thread at any time. */
#pragma once

#include "base/cancel.h"
#include "base/crypto.h"
#include "base/json.h"
#include "block/source.h"
#include "link/link.h"
#include "replica/chunk.h"
#include "replica/manifest.h"
#include "sync/checkpoint.h"
#include "sync/policy.h"

#include <stdbool.h>
#include <stdint.h>

enum session_state {
    SESSION_COPYING,   /* initial copy */
    SESSION_PROTECTED, /* the newest point is at the replica; waiting for the next cut */
    SESSION_SENDING,
    SESSION_RESYNCING,       /* tracking was lost: digests are compared, differences sent */
    SESSION_BACKING_OFF,     /* a recoverable error; tried again at `retry_at` */
    SESSION_CRITICAL,        /* an error that trying again does not mend; a person is needed */
    SESSION_FENCED,          /* the replica was promoted: this side may not write any more */
    SESSION_PAUSED,          /* by a person, or for a failover */
    SESSION_SCHEDULED,       /* the initial copy waits for its time: next_cut_ms, and in the note */
    SESSION_RESYNC_REQUIRED, /* waits for its window; the replica stays at its last point */
    SESSION_STATE_COUNT
};
const char *session_state_name(enum session_state state);

struct session_disk_progress {
    char name[SOURCE_NAME_BYTES];
    uint64_t size;
    uint64_t total_bytes; /* to copy or compare in this phase */
    uint64_t done_bytes;
    uint64_t pending_bytes; /* changed since the last cut, as last seen */
};
#define SESSION_DISKS_MAX 64

/* A comparison of all disks that is required, asked for, or under way. */
struct session_resync {
    enum resync_cause cause; /* RESYNC_NONE: none is */
    bool now;                /* bound to no window */
    int64_t since_ms;        /* wall clock */
    int64_t next_ms;         /* while it waits: when it begins or goes on; 0: only by hand */
    bool waits;
    char why[CHECKPOINT_NOTE_BYTES];
};

/* Changes come faster than they get to the replica (sync/pace.h). */
struct session_lag {
    int64_t since_ms;       /* wall clock; 0: it keeps pace */
    uint64_t changed_per_s; /* bytes of changed blocks, over the last cycles */
    uint64_t sent_per_s;    /* of those, while they were being sent */
    char advice[160];
};

/* A snapshot; plain values. Times are wall clock of this site, 0: never. */
struct session_status {
    enum session_state state;
    struct err error; /* of backing-off, critical, fenced; ERR_NONE else */
    int64_t error_since_ms;
    int64_t retry_at_ms;
    uint32_t failures; /* in a row */
    bool paused;       /* by a person or for a failover, whatever else there is to say */
    int64_t paused_since_ms;
    uint64_t generation;
    uint64_t durable_point; /* newest point the replica said is durable */
    int64_t durable_cut_ms; /* when that point was cut, for people */
    int64_t
        durable_age_ms; /* the RPO now: -1 without a point. Monotonic since the cut, whatever the
                               wall clock did; of a cut made in an earlier life: no less than it says */
    uint64_t applied_point;
    int64_t applied_cut_ms;
    int64_t applied_age_ms;
    int64_t next_cut_ms;
    uint64_t pending_bytes; /* changed since the last cut, as last seen */
    uint64_t last_bytes;    /* sent for the last point */
    int64_t last_cycle_ms;  /* cut to durable */
    int64_t last_stall_us;
    uint64_t rate_per_s;   /* bytes sent per second, over the last turns */
    uint64_t sent_bytes;   /* since the session was opened */
    uint64_t damaged_head; /* chunks at the replica, as last heard: its newest point lacks them */
    uint64_t damaged_past; /* which only older points of it lack */
    int64_t damaged_since_ms;       /* the replica's clock; 0: none is */
    uint64_t application_point;     /* the newest application-consistent one; 0: none */
    int64_t application_cut_ms;     /* of it */
    int64_t application_age_ms;     /* of it; -1: none */
    int64_t application_failing_ms; /* since when none could be made; 0: no try failed since */
    char application_note[320];     /* why */
    int64_t application_next_ms;    /* when the guest is frozen next at the earliest; 0: never */
    char packing[16];               /* how data is compressed now: adaptive_name */
    int packed_percent;             /* of its size, lately; -1: nothing was packed in this life */
    uint64_t
        seed_data_bytes; /* compared with seeds: what is no zeros. 0: there were none, or not yet */
    uint64_t seed_same_bytes; /* of these, what was there already */
    char note[160];           /* what a person should know: scope and reason of a rescan */
    struct session_resync resync;
    struct session_lag lag;
    size_t disk_count;
    struct session_disk_progress disks[SESSION_DISKS_MAX];
};

/* Our site's promotion: the first point that follows it is its successor. Number 0: none. */
struct session_tip {
    uint64_t point;
    struct sha256 hash;
};

/* What the disks held when the source's map `serial` was opened, where this site keeps that (the
 * replica a machine was recovered from): a comparison then needs no scan of the disks. Called by
 * data threads with the config's ctx. `digests` NULL: it is not kept. */
struct session_base {
    uint64_t serial;
    int (*digests)(void *ctx, const char *disk, uint64_t first, uint64_t count,
                   struct digest *ret_digests, struct err *err);
    int (*read)(void *ctx, const char *disk, uint64_t off, void *buf, size_t len, struct err *err);
};

struct shaper; /* link/shaper.h */
struct session_config {
    char group[NAME_MAX_BYTES];
    char site[NAME_MAX_BYTES]; /* ours */
    char peer[NAME_MAX_BYTES];
    char *dir; /* sessions/GROUP: checkpoint, outbox, digests; owned by the session */
    struct policy policy;
    struct key group_key;
    uint8_t sign_key[SIGN_KEY_BYTES];
    uint64_t generation; /* the one this side may write under */
    struct session_tip tip;
    struct session_base base;
    /* Disks whose heads begin from files at the peer, {disk: file} (replica/seed.h), for an initial copy;
     * NULL: none do. A reference of the session's own, also when opening fails. */
    json_t *seeds;
    struct clock *clock;
    /* Of the peer, shared by all sessions to it; outlives the session. NULL: the policy's throttle is
     * all there is. */
    struct shaper *shaper;
    void *ctx;
    /* Opens a source over the group's disks as they are now. */
    int (*open_source)(void *ctx, struct source **ret_source, struct cancel *cancel,
                       struct err *err);
    int (*open_link)(void *ctx, struct link **ret_link, struct cancel *cancel, struct err *err);
    /* Takes a link that works, and over which nothing is on the way, when a turn has ended: another
     * session's may use it meanwhile. NULL: it is held until it breaks. */
    void (*give_link)(void *ctx, struct link *link);
    /* A link broke: others to that peer that are idle may be as dead. May be NULL. */
    void (*lost_link)(void *ctx);
    /* Free bytes where the session seals; NULL: of the file system that `dir` is on. */
    int (*free_bytes)(void *ctx, uint64_t *ret_bytes, struct err *err);
    /* Definitions that travel with each manifest (a new reference). */
    json_t *(*machines)(void *ctx);
};

struct session;
/* Reads the checkpoint (none: a new protection, starting with the initial copy; or, if the peer
 * has a replica of this group already, with a comparison). Takes config->dir and config->seeds, also when it fails.
 * ERR_CORRUPT: the checkpoint cannot be read; it is kept. */
int session_open(const struct session_config *config, struct session **ret_session, struct err *err)
    MUST_CHECK;
void session_close(struct session *session); /* keeps everything on disk */

/* One turn. `ret_next_ms` (monotonic): when it wants the next one; CANCEL_NEVER: not before
 * something changes (paused, fenced, critical). Errors are kept in the status, not returned. */
void session_turn(struct session *session, struct cancel *cancel, int64_t *ret_next_ms);

void session_status(struct session *session, struct session_status *ret_status);
/* Tries again at once: leaves backing-off and critical. */
void session_retry(struct session *session);
void session_pause(struct session *session, bool paused);
/* Has all disks compared with the replica: in the policy's window, or, `now`, at once; without a
 * window at once, too. Survives a restart. Any thread; then scheduler_kick. `ret_at_ms`: when it
 * begins, or goes on, wall clock. ERR_STATE: there is no point to compare with yet; ERR_FENCED. */
int session_resync(struct session *session, bool now, int64_t *ret_at_ms, struct err *err)
    MUST_CHECK;
/* The machine was started, stopped or given other disks: the source in hand is closed, and one
 * that nothing tracked is compared as a whole. Any thread; then scheduler_kick. A machine that is
 * off gets no points: the times of the newest one move on while its disks are seen untouched. */
void session_source_changed(struct session *session);
/* From the next cut on. Its encryption is that of the replica, which does not change. */
void session_set_policy(struct session *session, const struct policy *policy);

/* One cycle now, by the caller's thread (waits for a turn that is under way): returns when its
 * point is applied at the replica. `quiet`: refuses (ERR_STATE) unless the source is quiet,
 * before and after: then the replica equals the source, and the session pauses itself. */
int session_sync_now(struct session *session, bool quiet, uint64_t *ret_point,
                     struct cancel *cancel, struct err *err) MUST_CHECK;
/* What is asked of a point that somebody wants now. */
enum session_freeze {
    SESSION_FREEZE_POLICY, /* if the policy wants application-consistent points at all */
    SESSION_FREEZE,        /* the guest is asked, whatever the policy says */
    SESSION_FREEZE_NONE
};
struct session_point_ask {
    enum session_freeze freeze;
    /* When the point is applied, and before another one can be made: whoever wants it kept pins it,
     * within half a minute. May be NULL. */
    int (*keep)(void *ctx, uint64_t point, struct cancel *cancel, struct err *err);
    void *ctx;
};
struct session_point {
    uint64_t point;
    bool made;        /* false: the machine is off, and this one holds its disks as they are */
    bool application; /* consistent */
    int64_t cut_wall_ms;
    int64_t stall_us;
    char note[320]; /* why the guest could not be frozen, though it was asked for; else "" */
};
/* A point of now, as session_sync_now; it exists, applied, when this returns. A guest that cannot be
 * frozen makes it a crash-consistent one, and `note` says why. ERR_STATE: also while replication is
 * paused. An error of `keep` leaves the point to retention, and says so. */
int session_point_now(struct session *session, const struct session_point_ask *ask,
                      struct session_point *ret_point, struct cancel *cancel, struct err *err)
    MUST_CHECK;
enum session_branch_kind {
    SESSION_BRANCH_NONE,   /* nothing was written since the newest point the replica confirmed */
    SESSION_BRANCH_SEALED, /* what was, is in the folder */
    SESSION_BRANCH_UNKNOWN /* nobody kept track of it (QEMU ended, a comparison was under way): the
                              disks as they are hold it */
};
struct session_branch_disk {
    char name[SOURCE_NAME_BYTES];
    uint64_t size;
    uint64_t bytes;  /* changed since the parent */
    uint64_t sealed; /* of its segment */
};
struct session_branch {
    enum session_branch_kind kind;
    uint64_t point; /* the branch's own number: the parent's and one */
    uint64_t parent;
    uint64_t generation;
    int64_t cut_wall_ms; /* 0: not sealed */
    size_t disk_count;
    struct session_branch_disk disks[SESSION_DISKS_MAX];
};
struct session_branch_ask {
    const char *dir;
    bool alive; /* the machine has a process */
    /* Has the replica that point? Asked about one that was sent, and whose arrival nobody confirmed. */
    int (*holds)(void *ctx, uint64_t point, const struct sha256 *hash, bool *ret_holds,
                 struct cancel *cancel, struct err *err);
    /* Once more, now that no turn is under way: the machine stands still when it returns. NULL: it does. */
    int (*stop)(void *ctx, struct cancel *cancel, struct err *err);
    void *ctx;
};
/* For a session that is fenced: the machine's last changes, sealed as the point after the newest one
 * that the replica confirmed: segments and signed manifest in DIR/NUMBER, durable when this returns.
 * The machine must not run (stopped, shut down, or no process). Maps stay as they
 * are, so it can be asked again after any error or a crash, and is then made anew; without maps a
 * complete one that is there is the answer. Waits for a turn that is under way. */
int session_branch(struct session *session, const struct session_branch_ask *ask,
                   struct session_branch *ret_branch, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Stops tracking at the source and removes checkpoint and outbox; the replica is not touched. */
int session_forget(struct session *session, struct cancel *cancel, struct err *err) MUST_CHECK;
