// SPDX-License-Identifier: Apache-2.0
/* What the parts of a session share:
 *
 *   session.c         what others see: open, close, status; a turn and what its error means
 *   session_now.c     what others' threads ask for: retry, pause, a cycle now, forget
 *   session_fail.c    what an error means
 *   session_turn.c    one turn: replica, source, where we are, what is next
 *   session_required.c  what is pending; when a resync is required, and when it may run
 *   session_grow.c    disks of another size
 *   session_lag.c     whether it keeps pace with the changes
 *   session_start.c   an initial copy that waits for its time
 *   session_copy.c    a slice of the initial copy
 *   session_seed.c    an initial copy that begins from files at the peer
 *   session_resync.c  a slice of a rescan
 *   session_narrow.c  what it found, narrowed to blocks
 *   session_repair.c  what is damaged at the replica, read here once more
 *   session_delta.c   the cut, and sealing it into the outbox
 *   session_application.c  which cuts freeze the guest, and what came of it
 *   session_send.c    from the outbox to the replica's newest applied point
 *   session_branch.c  the last changes of a machine that lost the right to write
 *
 * Fields below "in a turn" belong to whoever holds the turn (session_take). The others are guarded
 * by `lock`. Functions return -1 with `err`, having noted in `blame` whose fault it was. */
#pragma once

#include "base/crypto.h"
#include "link/shaper.h"
#include "replica/chunk.h"
#include "sync/adaptive.h"
#include "sync/checkpoint.h"
#include "sync/digests.h"
#include "sync/pace.h"
#include "sync/remote.h"
#include "sync/rescan.h"
#include "sync/retry.h"
#include "sync/session.h"

#include <pthread.h>

#define SLICE_BYTES (64u * 1024u * 1024u)

enum blame { BLAME_NONE, BLAME_SOURCE, BLAME_PEER };

struct copy;       /* session_copy.c */
struct scan_state; /* session_resync.c */

struct session {
    struct session_config config;
    int turn_fd; /* a semaphore of one: readable while nobody is in a turn */

    struct shaper *own_shaper; /* where the config has none */
    struct shaper_flow *flow;

    pthread_mutex_t lock;
    uint32_t flow_weight;
    struct session_status status;
    struct policy policy;
    bool paused;
    bool retry_asked;
    bool look_again; /* the machine was started or stopped: its source is opened anew */
    bool look_asked; /* the same, until a turn was begun for it */
    bool forgotten;
    bool resync_asked;   /* the file says so, too */
    int64_t durable_cut; /* monotonic: when the newest point's cut was, at the latest */
    int64_t applied_cut;

    /* In a turn. */
    struct checkpoint ck;
    struct source *source;
    bool source_is_old; /* held over from an earlier turn */
    struct source_state state;
    struct link *link;
    struct remote remote;
    struct store_info info; /* of the replica, as last heard */
    struct copy *copy;
    struct rescan *rescan;
    struct scan_state *resync_scan;
    struct digests *digests; /* open while a rescan runs */
    struct digests_end digests_end;
    uint64_t copy_told; /* the copy that the replica was told of last, by seed_slice; 0: none */
    bool scanning;      /* source->scan is open */
    bool begins_anew;   /* a disk is compared anew, and the checkpoint does not say so yet */
    bool base_lost;     /* the config's base could not be read */
    bool whole_chunks;  /* the replica does not tell the digests of blocks */
    struct digester *digester;
    struct adaptive adaptive;
    enum adaptive_kind seal_packing; /* of the segment that is being sealed, and since when */
    int64_t seal_began_ms;
    struct retry retry;
    enum blame blame;
    uint32_t source_failures; /* in a row */
    bool instant_used;        /* the one retry at once for a link that was working */
    int64_t failing_since_ms; /* wall clock, of the first failure of a row; 0: none */
    int64_t started_ms;       /* of the latest turn, monotonic */
    int64_t due_ms;           /* of the next turn, unless it is the interval's */
    bool waits_interval;      /* the next turn is due an interval after the latest began */
    int64_t cut_ms;           /* monotonic, of the cut under way; 0: made in an earlier life */
    uint64_t cut_point;       /* the point of that cut */
    int64_t cut_age_ms;       /* how long before it its instant lay (struct source_cut) */
    int64_t durable_cut_now;  /* what the status will show as durable_cut */
    int64_t applied_cut_now;
    bool waits_window;          /* a resync is required, and may not run now */
    bool start_now;             /* a person said so: the initial copy waits no longer */
    int64_t start_ms;           /* wall clock the initial copy waits for; 0: it does not */
    bool hurry;                 /* somebody waits for a point: no window, and no limit */
    bool hurry_point;           /* and somebody wants just this one (session_point_now) */
    enum session_freeze freeze; /* of the point that is hurried for */
    char freeze_note[CHECKPOINT_APPLICATION_NOTE_BYTES]; /* of it: why the guest could not be */
    int64_t watch_ms;   /* backing off, the source is looked at then; CANCEL_NEVER */
    uint64_t room_then; /* free bytes when there was not room enough for a cut; 0: there was */
    struct pace pace;
    struct pace_cycle cycle; /* under way */
    int64_t last_cut_ms;     /* monotonic; 0: none in this life */
    uint64_t sent_before;    /* bytes over links that are closed */
    uint64_t sent_seen;      /* of all links, when the latest turn ended */
};

/* --- session.c ----------------------------------------------------------------------------- */

int64_t session_now(const struct session *s);
int64_t session_wall(const struct session *s);
/* The monotonic time of a moment that another life of ours, or another clock, noted by wall clock:
 * never later than it may have been, as far as can be told. */
int64_t session_since(const struct session *s, int64_t wall_ms);
void session_set_state(struct session *s, enum session_state state);
void session_set_note(struct session *s, const char *note);
/* The disks' progress in this phase, from the checkpoint. */
void session_show_progress(struct session *s);
/* As it is now: it may be changed at any time. */
void session_policy(struct session *s, struct policy *ret_policy);
/* What the checkpoint says about points. */
void session_show_points(struct session *s);
/* What is packed now is packed so: by the policy, or by what pays; shown. */
enum adaptive_kind session_packing(struct session *s, const struct policy *policy);
/* What came of a piece of data. */
void session_packed(struct session *s, enum adaptive_kind kind, uint64_t in, uint64_t out,
                    int64_t ms);
/* The same for pieces of a copy; and that the next one was sent, so long after the one before it
 * (adaptive_flow_sent). */
enum adaptive_kind session_copy_packing(struct session *s, const struct policy *policy);
void session_copy_sent(struct session *s, enum adaptive_kind kind, uint64_t in, int64_t ms);
void session_copy_packed(struct session *s, uint64_t in, uint64_t out); /* for the status */
/* A sender was busy so long with bytes of packed data. */
void session_note_sent(struct session *s, uint64_t bytes, int64_t ms);
/* What is sent from now on waits for its share: by the policy's limit, and as what the phase makes it. */
void session_pace(struct session *s);
void session_drop_link(struct session *s);
void session_drop_source(struct session *s);
/* Notes the fault and gives what was at fault up; evaluate to -1. */
int session_blame_source(struct session *s);
int session_blame_peer(struct session *s);
int session_save(struct session *s, struct err *err) MUST_CHECK;
/* The file that is there while the session is paused; free with free(). */
char *session_paused_path(const struct session *s);
/* Writes the file of a time that it is. */
int session_since_write(const char *path, int64_t ms, struct err *err) MUST_CHECK;
/* Waits until nobody is in a turn, and enters one. */
int session_take(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;
void session_give(struct session *s);
/* One turn for the caller, who has taken it: what came of it is kept in the status. */
int session_run(struct session *s, bool *ret_again, bool *ret_point, struct cancel *cancel,
                struct err *err) MUST_CHECK;

/* --- session_fail.c -------------------------------------------------------------------------- */

#define SESSION_FAILING "failing" /* the file of the time of the first failure of a row */
/* A turn ended with `err`: when it is tried again, and what is shown meanwhile. `was_working`: over a
 * link that had carried something. */
void session_fail(struct session *s, const struct err *err, bool was_working);
/* Until the source is looked at next, backing off. */
int64_t session_watch_wait(const struct session *s);

/* --- session_turn.c -------------------------------------------------------------------------- */

/* One turn's work. `ret_again`: there is more to do at once. `*ret_point`: the
 * replica now equals a cut made in this call, or was seen to equal a quiet source. */
int turn_run(struct session *s, bool *ret_again, bool *ret_point, struct cancel *cancel,
             struct err *err) MUST_CHECK;
/* The source as it is now, opened if need be; `s->state`. */
int turn_look(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Holds the checkpoint against the source (the table in session_turn.c). `ret_lost`: the changes since
 * its base are not known. */
int turn_reconcile(struct session *s, bool *ret_lost, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Opens a new map, or, `keep_map`, goes on with the one that is open; saves the phase that begins. */
int turn_begin_phase(struct session *s, enum phase phase, bool keep_map, const char *note,
                     struct cancel *cancel, struct err *err) MUST_CHECK;
/* The checkpoint's disks in the form the store wants. */
void turn_store_disks(const struct session *s, struct store_disks *ret_disks);

/* --- session_required.c ---------------------------------------------------------------------- */

/* Notes that a resync is required, unless one is. */
void required_note(struct session *s, enum resync_cause cause, bool now, const char *why);
/* Takes over what a person asked for by session_resync. */
int required_take(struct session *s, struct err *err) MUST_CHECK;
char *required_path(const struct session *s); /* of the file by which it was asked */
/* Reads what is pending; marks the group when that is above the policy's limit, and takes the mark
 * back when it is not any more. */
int required_look(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;
/* May the one that is required run now? */
bool required_runs(struct session *s);
/* It may not: what it holds open is given up, what it found is kept. */
void required_wait(struct session *s);
void required_show(struct session *s);
/* There is none any more; the caller saves. */
void required_clear(struct session *s);
/* Room to seal `bytes` of changes. ERR_SPACE: no cut may be made. */
int required_room(struct session *s, uint64_t bytes, struct err *err) MUST_CHECK;
int required_free(const struct session *s, uint64_t *ret_bytes, struct err *err) MUST_CHECK;
/* Backing off: looks at what is pending. True: there is room again, it is worth a try. */
bool required_watch(struct session *s, struct cancel *cancel);

/* --- session_grow.c -------------------------------------------------------------------------- */

/* Holds the source's disks against the checkpoint's: ERR_STATE where they cannot be followed. `ret_grew`:
 * the checkpoint has their new sizes, and the source is to be opened anew. */
int grow_follow(struct session *s, const struct source_disks *disks, bool *ret_grew,
                struct err *err) MUST_CHECK;
/* The replica has an older size. */
bool grow_is_to_be_sent(const struct session *s);
/* Begins to compare what is new. */
int grow_compare(struct session *s, struct err *err) MUST_CHECK;
/* A point that the replica has; the caller saves. */
void grow_durable(struct session *s, const struct manifest *manifest);

/* --- session_lag.c --------------------------------------------------------------------------- */

/* A cut that holds so many changed bytes; the cycle ends with lag_end. */
void lag_begin(struct session *s);
void lag_changed(struct session *s, uint64_t bytes);
/* It took so long, in ms, to send and to apply. */
void lag_sent(struct session *s, int64_t ms);
void lag_applied(struct session *s, int64_t ms);
void lag_end(struct session *s);

/* --- session_start.c ------------------------------------------------------------------------- */

/* Has the initial copy, which was not begun, to wait for its time? Notes it in `start_ms` and for people. */
int start_waits(struct session *s, bool *ret_waits, struct err *err) MUST_CHECK;
void start_forget(struct session *s);

/* --- session_copy.c -------------------------------------------------------------------------- */

int copy_slice(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;
void copy_drop(struct session *s);
/* Nobody knows for how long nothing is read: clones of machines that run are given up. */
void copy_rest(struct session *s);
/* Tells the replica which disks come. */
int copy_prepare(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;

/* --- session_seed.c -------------------------------------------------------------------------- */

/* Has the replica fill heads from their seeds, for a while. `ret_worked` false: none is to be filled. */
int seed_slice(struct session *s, bool *ret_worked, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* A disk was filled from a seed: what is there must be compared before it counts. */
bool seed_is_used(const struct session *s);
/* The copy has ended: begins to compare. */
int seed_compare(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Compares the first time; `disk` began from a seed. */
bool seed_counts(const struct session *s, size_t disk);
/* What was compared, for people. */
void seed_note(struct session *s);
void seed_show(struct session *s);

/* --- session_resync.c ------------------------------------------------------------------------ */

int resync_begin(struct session *s, const char *why, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* `ret_done`: all disks are compared. */
int resync_slice(struct session *s, bool *ret_done, struct cancel *cancel, struct err *err)
    MUST_CHECK;
void resync_drop(struct session *s);
void resync_rest(struct session *s); /* as copy_rest */
/* In the middle of a disk that is read in disorder: it cannot be taken up there. */
bool resync_is_bound(const struct session *s);
/* session_narrow.c: what was found on a disk since the last rescan_sync, before that is noted for good. */
int resync_narrow(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Chunks of a disk that the replica has: ours may have grown. What it does not have is zero. */
uint64_t resync_chunks_there(const struct checkpoint_disk *disk);
/* Makes our copy of the replica's digests at `tip` by asking for all of them. */
int resync_fetch_digests(struct session *s, const struct digests_tip *tip, struct cancel *cancel,
                         struct err *err) MUST_CHECK;

/* --- session_repair.c ------------------------------------------------------------------------ */

/* In phase delta: chunks that the replica says are damaged become the session's rescan, which the next
 * cut sends as a segment of its own. Nothing is damaged: there is none. */
int repair_gather(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;

/* --- session_delta.c ------------------------------------------------------------------------- */

/* Where the next point stands in the chain: number, parent, base. */
void delta_chain(const struct session *s, struct manifest *m);
/* Fills in what the next point is, but for what its cut says. */
void delta_manifest(struct session *s, struct manifest *m);
/* Intent, then the cut (`application`: with the guest's file systems frozen, if that can be): map base + 1 is open, the base's map frozen. */
int delta_cut(struct session *s, bool application, struct source_cut *ret_cut,
              struct cancel *cancel, struct err *err) MUST_CHECK;
/* What changed on one disk up to the cut, as a segment in `folder` (NULL: the outbox). */
int delta_seal(struct session *s, const struct checkpoint_disk *disk, const char *folder,
               struct manifest_disk *into, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Cut, seal, deliver. */
int delta_cycle(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;
/* For a source without a machine: nothing was written between the point and the cut. ERR_STATE: something
 * was. */
int delta_quiet_check(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;

/* --- session_application.c ------------------------------------------------------------------- */

/* Is the next cut to be an application-consistent one? Then the try is noted; delta_cut saves it. */
bool application_begin(struct session *s);
/* What came of it. */
void application_cut(struct session *s, const struct source_cut *cut);
/* That point is at the replica; the caller saves the checkpoint. */
void application_durable(struct session *s, const struct manifest *manifest);
void application_show(struct session *s);

/* --- session_send.c -------------------------------------------------------------------------- */

/* The outbox's point: to the replica, durable, applied, pruned. `sent`: all its segments are on
 * the way already, by send_ahead. */
int send_outbox(struct session *s, const struct manifest *manifest, const char *text, bool sent,
                struct cancel *cancel, struct err *err) MUST_CHECK;
/* Sends a segment sealed in this very turn without waiting: the replica makes one durable while
 * we seal the next. Its answers are collected by send_outbox. */
int send_ahead(struct session *s, const char *disk, const struct manifest_segment *segment,
               struct cancel *cancel, struct err *err) MUST_CHECK;
/* The outbox's point is durable at the replica: from here on it is the base. */
int send_mark_durable(struct session *s, const struct manifest *manifest, struct err *err)
    MUST_CHECK;
/* Has the replica apply what is durable there, and takes the digests over. */
int send_apply(struct session *s, struct cancel *cancel, struct err *err) MUST_CHECK;
