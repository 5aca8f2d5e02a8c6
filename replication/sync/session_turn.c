// SPDX-License-Identifier: Apache-2.0
/* Where a turn begins is the same after a second and after a crash. What the checkpoint says is
 * held against what the source says, B being the checkpoint's base and C its intended cut:
 *
 *   source has open   frozen   C     means                           then
 *   B                 none     no    all is well
 *   B                 none     B+1   the cut was not made            C is dropped
 *   B                 some     no    delivered, durable, not ended   end(delivered)
 *   C                 B        B+1   cut, but not sealed in full     end(not delivered); B = C
 *   C                 none     B+1   so far did the crash get        B = C
 *   anything else                    the changes since B are lost    rescan, or copy again
 *
 * (A point that was sealed in full stands in the outbox and was sent before this is looked at.) */
#include "sync/session_internal.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "sync/outbox.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void turn_store_disks(const struct session *s, struct store_disks *ret_disks)
{
    store_disks_clear(ret_disks);
    VEC_FOREACH(disk, &s->ck.disks) {
        struct store_disk *to = store_disks_push(ret_disks);
        (void)snprintf(to->name, sizeof(to->name), "%s", disk->name);
        to->size = disk->size;
    }
}

/* --- The replica ----------------------------------------------------------------------------- */

static int need_replica(struct session *s, struct cancel *cancel, struct err *err)
{
    if (s->link && link_is_broken(s->link))
        session_drop_link(s);
    if (!s->link) {
        if (s->config.open_link(s->config.ctx, &s->link, cancel, err) < 0) {
            s->link = NULL;
            s->blame = BLAME_PEER;
            return -1;
        }
        remote_init(&s->remote, s->link, s->config.group, s->config.generation);
    }
    session_pace(s);
    link_set_flow(s->link, s->flow);
    if (remote_info(&s->remote, &s->info, cancel, err) < 0)
        return session_blame_peer(s);
    (void)pthread_mutex_lock(&s->lock);
    s->status.damaged_head = s->info.damaged_head;
    s->status.damaged_past = s->info.damaged_past;
    s->status.damaged_since_ms = s->info.damaged_since_ms;
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

static int check_generation(const struct session *s, struct err *err)
{
    bool fresh = s->info.state == STORE_EMPTY && s->info.generation < s->config.generation;

    if (fresh || s->info.generation == s->config.generation)
        return 0;
    return err_set(err, ERR_FENCED, 0,
                   "the replica of %s at %s is at generation %" PRIu64 ", this site writes under "
                   "generation %" PRIu64 "; hint: %s",
                   s->config.group, s->config.peer, s->info.generation, s->config.generation,
                   s->info.generation > s->config.generation
                       ? "it was promoted there; do not run the machine here, fail back instead"
                       : "this is not the replica that belongs to this machine");
}

static int check_chain(const struct session *s, struct err *err)
{
    const char *hint =
        "hint: if it was restored from a copy, stop the daemon here, move the group's "
        "checkpoint away and start it: disks are compared, differences travel; else "
        "unprotect the machine and protect it again: that is a full copy";

    if (s->ck.phase != PHASE_DELTA && s->ck.phase != PHASE_RESYNC)
        return 0;
    if (s->info.state != STORE_COPIED && s->info.state != STORE_READY)
        return err_set(err, ERR_CORRUPT, 0,
                       "the replica of %s at %s has no copy any more, but was at point %" PRIu64
                       "; %s",
                       s->config.group, s->config.peer, s->ck.durable_point, hint);
    if (s->info.durable_point != s->ck.durable_point)
        return err_set(
            err, ERR_CORRUPT, 0,
            "the newest point of %s at %s is %" PRIu64 ", but %" PRIu64 " was delivered last; %s",
            s->config.group, s->config.peer, s->info.durable_point, s->ck.durable_point, hint);
    if (memcmp(&s->info.durable_hash, &s->ck.durable_hash, sizeof(struct sha256)) != 0)
        return err_set(err, ERR_CORRUPT, 0,
                       "point %" PRIu64 " of %s at %s is not the one that was delivered; %s",
                       s->ck.durable_point, s->config.group, s->config.peer, hint);
    return 0;
}

/* A point that was sealed before goes on its way first; it needs no source. */
static int settle_outbox(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(manifest_done) struct manifest manifest;
    CLEANUP(mem_freep) char *text = NULL;
    struct manifest next; /* only where it stands in the chain */
    struct err why = ERR_EMPTY;

    manifest_init(&manifest);
    if (s->ck.cut == 0)
        return 0;
    if (outbox_load(s->config.dir, &manifest, &text, &why) < 0) {
        if (why.code == ERR_NOT_FOUND)
            return 0;
        return err_set(err, why.code, why.sys, "%s", why.text);
    }
    /* Sealed under a generation that is over, or before the replica changed: of no use. */
    manifest_init(&next);
    delta_chain(s, &next);
    if (manifest.generation != s->config.generation || manifest.point != next.point
        || memcmp(&manifest.parent, &next.parent, sizeof(next.parent)) != 0
        || memcmp(&manifest.base, &next.base, sizeof(next.base)) != 0)
        return outbox_clear(s->config.dir, err);
    log_info("session", "sending on group=%s point=%" PRIu64, s->config.group, manifest.point);
    if (s->cut_point != manifest.point)
        s->cut_ms = 0;
    return send_outbox(s, &manifest, text, false, cancel, err);
}

/* --- The source ------------------------------------------------------------------------------ */

static int open_source(struct session *s, struct source **ret_source, struct cancel *cancel,
                       struct err *err)
{
    struct source *source = NULL;

    if (s->config.open_source(s->config.ctx, &source, cancel, err) < 0) {
        s->blame = BLAME_SOURCE;
        return -1;
    }
    *ret_source = source;
    return 0;
}

/* The disks are what they were, or larger; at first, what they are is noted. */
static int check_disks(struct session *s, bool *ret_grew, struct cancel *cancel, struct err *err)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;

    *ret_grew = false;
    if (s->source->ops->disks(s->source, &disks, cancel, err) < 0)
        return session_blame_source(s);
    if (s->ck.phase != PHASE_NEW)
        return grow_follow(s, &disks, ret_grew, err);
    if (disks.len == 0 || disks.len > SESSION_DISKS_MAX)
        return err_set(err, ERR_LIMIT, 0, "%s has %zu disks, 1 to %d can be protected together",
                       s->config.group, disks.len, SESSION_DISKS_MAX);
    checkpoint_disks_clear(&s->ck.disks);
    VEC_FOREACH(disk, &disks) {
        struct checkpoint_disk *to = checkpoint_disks_push(&s->ck.disks);
        memcpy(to->name, disk->name, sizeof(to->name));
        to->size = disk->size;
    }
    return 0;
}

/* An old source without a machine cannot see that one was started since: a new one can. */
static int look_for_machine(struct session *s, struct cancel *cancel, struct err *err)
{
    CLEANUP(source_closep) struct source *fresh = NULL;
    struct source_state state = {0};

    if (open_source(s, &fresh, cancel, err) < 0)
        return -1;
    if (fresh->ops->inspect(fresh, &state, cancel, err) < 0) {
        s->blame = BLAME_SOURCE;
        return -1;
    }
    if (!state.running)
        return 0;
    session_drop_source(s);
    s->source = TAKE(fresh);
    s->state = state;
    return 0;
}

static int look(struct session *s, struct cancel *cancel, struct err *err)
{
    (void)pthread_mutex_lock(&s->lock);
    bool look_again = s->look_again;
    s->look_again = false;
    (void)pthread_mutex_unlock(&s->lock);
    if (look_again)
        session_drop_source(s);

    if (s->source && s->scanning && s->state.running)
        return 0; /* a scan that goes on says enough */
    if (s->source && !s->scanning) {
        struct err gone = ERR_EMPTY;
        if (s->source->ops->inspect(s->source, &s->state, cancel, &gone) < 0) {
            if (cancel_check(cancel, err) < 0)
                return -1;
            session_drop_source(s);
        }
    }
    if (s->source && !s->state.running && s->source_is_old && look_for_machine(s, cancel, err) < 0)
        return -1;
    if (!s->source) {
        if (open_source(s, &s->source, cancel, err) < 0)
            return -1;
        if (s->source->ops->inspect(s->source, &s->state, cancel, err) < 0)
            return session_blame_source(s);
    }
    s->source_is_old = true;
    return 0;
}

int turn_look(struct session *s, struct cancel *cancel, struct err *err)
{
    bool grew = false;

    do {
        if (look(s, cancel, err) < 0 || (!s->scanning && check_disks(s, &grew, cancel, err) < 0))
            return -1;
    } while (!s->source);
    return 0;
}

static int not_delivered(struct session *s, struct cancel *cancel, struct err *err)
{
    if (outbox_clear(s->config.dir, err) < 0)
        return -1;
    if (s->source->ops->end(s->source, false, cancel, err) < 0)
        return session_blame_source(s);
    CRASH_POINT("sync.merged");
    s->state.frozen = 0;
    s->ck.base = s->ck.cut;
    s->ck.cut = 0;
    return session_save(s, err);
}

/* The table at the top. */
int turn_reconcile(struct session *s, bool *ret_lost, struct cancel *cancel, struct err *err)
{
    *ret_lost = false;
    if (s->scanning || s->ck.phase == PHASE_NEW)
        return 0;
    if (s->ck.cut && s->state.open == s->ck.cut)
        return not_delivered(s, cancel, err);
    if (s->state.open != s->ck.base) {
        *ret_lost = true;
        return 0;
    }
    if (s->state.frozen) {
        if (s->source->ops->end(s->source, true, cancel, err) < 0)
            return session_blame_source(s);
        s->state.frozen = 0;
    }
    if (s->ck.cut) {
        s->ck.cut = 0;
        return session_save(s, err);
    }
    return 0;
}

/* --- What is next ---------------------------------------------------------------------------- */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

int turn_begin_phase(struct session *s, enum phase phase, bool keep_map, const char *note,
                     struct cancel *cancel, struct err *err)
{
    /* Never a number that a map of an earlier life may have. */
    uint64_t highest = max_u64(s->ck.serial, max_u64(s->state.open, s->state.frozen));

    highest =
        max_u64(highest, s->config.base.serial); /* it may be lost, and is not this one then */
    /* A checkpoint that is lost: the replica may know a copy of ours of a higher number. */
    highest = max_u64(highest, s->info.copy);
    uint64_t serial = keep_map ? s->state.open : highest + 1;

    s->ck.serial = max_u64(highest, serial);
    s->ck.base = serial;
    s->ck.cut = 0;
    s->ck.phase = phase;
    (void)snprintf(s->ck.note, sizeof(s->ck.note), "%s", note);
    VEC_FOREACH(disk, &s->ck.disks) {
        disk->scanned = 0;
        disk->done = false;
    }
    if (outbox_clear(s->config.dir, err) < 0 || session_save(s, err) < 0)
        return -1;
    CRASH_POINT("sync.begin");
    session_set_state(s, phase == PHASE_COPY ? SESSION_COPYING : SESSION_RESYNCING);
    session_set_note(s, note);
    session_show_progress(s);
    if (keep_map)
        return 0;
    if (s->source->ops->track(s->source, serial, cancel, err) < 0
        || s->source->ops->inspect(s->source, &s->state, cancel, err) < 0)
        return session_blame_source(s);
    CRASH_POINT("sync.track");
    if (s->state.open == serial)
        return 0;
    (void)err_set(err, ERR_BUSY, 0, "%s: tracking map %" PRIu64 " was opened and is not there",
                  s->config.group, serial);
    return session_blame_source(s);
}

static const char *why_lost(const struct session *s)
{
    return s->state.note[0] ? s->state.note : "nothing kept track of its changes";
}

/* The replica's newest point is older than our promotion, and not it. */
static void take_tip(struct session *s)
{
    const struct session_tip *tip = &s->config.tip;

    s->ck.tip_point = 0;
    if (tip->point == 0 || tip->point < s->info.durable_point
        || memcmp(&tip->hash, &s->info.durable_hash, sizeof(tip->hash)) == 0)
        return;
    s->ck.tip_point = tip->point;
    s->ck.tip_hash = tip->hash;
}

static int begin(struct session *s, struct cancel *cancel, struct err *err)
{
    if (s->info.state == STORE_EMPTY || s->info.state == STORE_COPYING) {
        bool waits;
        if (start_waits(s, &waits, err) < 0)
            return -1;
        if (waits)
            return 0;
        take_tip(s);
        return turn_begin_phase(s, PHASE_COPY, false, "", cancel, err);
    }
    s->ck.durable_point = s->info.durable_point;
    s->ck.durable_hash = s->info.durable_hash;
    s->ck.applied_point = s->info.applied_point;
    take_tip(s);
    return resync_begin(s, "a replica is there already", cancel, err);
}

static bool all_done(const struct session *s)
{
    bool done = true;

    VEC_FOREACH(disk, &s->ck.disks)
        done = done && disk->done;
    return done;
}

static int copy_turn(struct session *s, bool lost, struct cancel *cancel, struct err *err)
{
    bool done = all_done(s);

    if (s->info.state == STORE_READY || (s->info.state == STORE_COPIED && (lost || !done)))
        return resync_begin(s, lost ? why_lost(s) : "a replica is there already", cancel, err);
    if (lost) {
        log_warn("session", "copying anew group=%s reason=\"%s\"", s->config.group, why_lost(s));
        copy_drop(s);
        return turn_begin_phase(s, PHASE_COPY, false, why_lost(s), cancel, err);
    }
    return copy_slice(s, cancel, err);
}

/* A machine that is off: its disks were not touched since the newest point. */
static int quiet_turn(struct session *s, bool *ret_point, struct cancel *cancel, struct err *err)
{
    struct err why = ERR_EMPTY;

    if (delta_quiet_check(s, cancel, &why) < 0) {
        if (why.code != ERR_STATE)
            return err_set(err, why.code, why.sys, "%s", why.text);
        s->blame = BLAME_NONE; /* they were; the next turn finds nothing tracked, and compares */
        session_set_note(s, why.text);
        return 0;
    }
    *ret_point = true;
    if (s->ck.phase == PHASE_DELTA)
        return 0;
    required_clear(s);
    log_info("session", "no differences group=%s point=%" PRIu64, s->config.group,
             s->ck.durable_point);
    resync_drop(s);
    s->ck.phase = PHASE_DELTA;
    s->ck.note[0] = '\0';
    session_set_note(s, "");
    if (session_save(s, err) < 0)
        return -1;
    return rescan_remove(s->config.dir, err);
}

static bool found_nothing(const struct session *s)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < s->ck.disks.len; i++)
        bytes += rescan_bytes(s->rescan, i);
    return bytes == 0;
}

/* What was cut lies in the past: whether it is still what the disks hold, the next turn sees. */
static void look_again_if_old(const struct session *s, bool *ret_again, bool *ret_point)
{
    if (!*ret_point || s->cut_age_ms == 0)
        return;
    *ret_again = true;
    *ret_point = false;
}

static int cut_point(struct session *s, bool *ret_point, struct cancel *cancel, struct err *err)
{
    bool same =
        !grow_is_to_be_sent(s) && (s->rescan ? found_nothing(s) : s->ck.phase == PHASE_DELTA);

    if (!s->state.running && s->ck.durable_point > 0 && s->ck.tip_point == 0 && same)
        return quiet_turn(s, ret_point, cancel, err);
    if (delta_cycle(s, cancel, err) < 0)
        return -1;
    *ret_point = true;
    return 0;
}

static int make_point(struct session *s, bool *ret_again, bool *ret_point, struct cancel *cancel,
                      struct err *err)
{
    if (cut_point(s, ret_point, cancel, err) < 0)
        return -1;
    look_again_if_old(s, ret_again, ret_point);
    return 0;
}

/* Tracked changes: `ret_compare`, all is compared; or it waits for that; or the next point is made. */
static int delta_or_not(struct session *s, bool *ret_compare, struct cancel *cancel,
                        struct err *err)
{
    *ret_compare = false;
    if (required_look(s, cancel, err) < 0)
        return -1;
    if (s->ck.resync.cause == RESYNC_NONE || s->hurry)
        return 0;
    if (required_runs(s))
        *ret_compare = true;
    else if (s->ck.resync.cause == RESYNC_LOG)
        required_wait(s);
    return 0;
}

static int next_step(struct session *s, bool lost, bool *ret_again, bool *ret_point,
                     struct cancel *cancel, struct err *err)
{
    bool compared = false;
    bool compare;

    *ret_again = true;
    switch (s->ck.phase) {
    case PHASE_NEW: {
        int rc = begin(s, cancel, err);
        *ret_again = s->start_ms == 0;
        return rc;
    }
    case PHASE_COPY: return copy_turn(s, lost, cancel, err);
    case PHASE_RESYNC:
        if (lost)
            return resync_begin(s, why_lost(s), cancel, err);
        if (!required_runs(s) && !all_done(s)) {
            *ret_again = false;
            required_wait(s);
            return required_look(s, cancel, err);
        }
        session_set_note(s, s->ck.note);
        if (resync_slice(s, &compared, cancel, err) < 0)
            return -1;
        if (!compared)
            return 0;
        break;
    case PHASE_DELTA:
        if (lost)
            return resync_begin(s, why_lost(s), cancel, err);
        if (!all_done(s))
            return grow_compare(s, err);
        if (delta_or_not(s, &compare, cancel, err) < 0)
            return -1;
        if (compare)
            return resync_begin(s, s->ck.resync.why, cancel, err);
        if (repair_gather(s, cancel, err) < 0)
            return -1;
        break;
    }
    *ret_again = false;
    if (s->waits_window)
        return 0;
    return make_point(s, ret_again, ret_point, cancel, err);
}

/* Our site was promoted once more before the first point got there: it is the new one's successor. */
static int follow_tip(struct session *s, struct err *err)
{
    const struct session_tip *tip = &s->config.tip;
    bool same = memcmp(&tip->hash, &s->ck.tip_hash, sizeof(tip->hash)) == 0;

    if (s->ck.tip_point == 0 || tip->point == 0 || same)
        return 0;
    s->ck.tip_point = tip->point;
    s->ck.tip_hash = tip->hash;
    return session_save(s, err);
}

int turn_run(struct session *s, bool *ret_again, bool *ret_point, struct cancel *cancel,
             struct err *err)
{
    bool lost;

    *ret_again = false;
    *ret_point = false;
    s->blame = BLAME_NONE;
    if (required_take(s, err) < 0 || need_replica(s, cancel, err) < 0
        || check_generation(s, err) < 0 || follow_tip(s, err) < 0
        || settle_outbox(s, cancel, err) < 0 || check_chain(s, err) < 0)
        return -1;
    /* Also when it has: we may have been killed before we heard it. */
    if ((s->ck.phase == PHASE_DELTA || s->ck.phase == PHASE_RESYNC)
        && send_apply(s, cancel, err) < 0)
        return -1;
    if (turn_look(s, cancel, err) < 0 || turn_reconcile(s, &lost, cancel, err) < 0)
        return -1;
    return next_step(s, lost, ret_again, ret_point, cancel, err);
}
