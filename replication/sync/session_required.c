// SPDX-License-Identifier: Apache-2.0
/* When all of a group's disks are compared with the replica, and what comes before that:
 *
 *   cause   set by                                   begins                       points meanwhile
 *   lost    the source keeps no map of the changes   at once                      none: what changed
 *                                                                                 is not known
 *   log     pending changes of a disk passed the     in the policy's window, or   none: the replica
 *           policy's share of it                     by hand                      stays where it is
 *   asked   a person                                 in the window, or at once    as always
 *
 * A comparison that is bound to the window stops where it is when the window closes, and goes on
 * in the next; one that reads a disk in disorder (QEMU's mirror) cannot be taken up in its middle,
 * and reads that disk to its end. Tracking goes on in any case: what is pending stays known, and
 * whoever needs a point now (a failover) gets it from the map.
 *
 * A person asks by a file "resync" ("now" or "window") in the session's folder; the next turn takes
 * it over into the checkpoint and removes it. */
#include "sync/session_internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ASKED_FILE "resync"
#define ROOM_SPARE (UINT64_C(16) * 1024 * 1024) /* for manifests, indexes, the checkpoint */
#define ROOM_STEP  (UINT64_C(64) * 1024 * 1024) /* so much more is worth another try */

char *required_path(const struct session *s)
{
    return path_join(s->config.dir, ASKED_FILE);
}

/* --- What is required ------------------------------------------------------------------------ */

void required_note(struct session *s, enum resync_cause cause, bool now, const char *why)
{
    struct checkpoint_resync *resync = &s->ck.resync;

    resync->now = resync->now || now;
    if (resync->cause != RESYNC_NONE)
        return;
    resync->cause = cause;
    resync->since_ms = session_wall(s);
    (void)snprintf(resync->why, sizeof(resync->why), "%s", why);
}

void required_clear(struct session *s)
{
    memset(&s->ck.resync, 0, sizeof(s->ck.resync));
}

static int take(struct session *s, struct err *err)
{
    CLEANUP(mem_freep) char *path = required_path(s);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err gone = ERR_EMPTY;

    if (fs_read_file(fs_real(), path, 64, &text, &gone) < 0) {
        if (gone.code == ERR_NOT_FOUND)
            return 0;
        return err_set(err, gone.code, gone.sys, "%s", gone.text);
    }
    /* Before the first point all is copied or compared anyway. */
    if (s->ck.phase == PHASE_DELTA || s->ck.phase == PHASE_RESYNC) {
        required_note(s, RESYNC_ASKED, str_starts(str_text(&text), "now"), "asked for by a person");
        if (session_save(s, err) < 0)
            return -1;
    }
    return fs_real()->unlink(fs_real(), path, err);
}

int required_take(struct session *s, struct err *err)
{
    int rc = 0;

    (void)pthread_mutex_lock(&s->lock);
    if (s->resync_asked)
        rc = take(s, err);
    if (rc == 0)
        s->resync_asked = false;
    (void)pthread_mutex_unlock(&s->lock);
    return rc;
}

bool required_runs(struct session *s)
{
    const struct checkpoint_resync *resync = &s->ck.resync;
    struct policy policy;

    if (resync->now || s->hurry || resync->cause == RESYNC_NONE || resync->cause == RESYNC_LOST
        || resync_is_bound(s))
        return true;
    session_policy(s, &policy);
    if (!policy.resync_auto)
        return resync->cause == RESYNC_ASKED;
    return day_span_holds(&policy.resync_window, session_wall(s));
}

/* Wall clock; 0: by hand only. */
static int64_t next_ms(struct session *s)
{
    struct policy policy;

    session_policy(s, &policy);
    return policy.resync_auto ? day_span_next_ms(&policy.resync_window, session_wall(s)) : 0;
}

void required_show(struct session *s)
{
    const struct checkpoint_resync *resync = &s->ck.resync;
    bool waits = resync->cause != RESYNC_NONE && !required_runs(s);
    int64_t next = waits ? next_ms(s) : 0;

    (void)pthread_mutex_lock(&s->lock);
    s->status.resync = (struct session_resync){.cause = resync->cause,
                                               .now = resync->now || resync->cause == RESYNC_LOST,
                                               .since_ms = resync->since_ms,
                                               .next_ms = next,
                                               .waits = waits};
    memcpy(s->status.resync.why, resync->why, sizeof(resync->why));
    (void)pthread_mutex_unlock(&s->lock);
}

void required_wait(struct session *s)
{
    CLEANUP(mem_freep) char *note = mem_printf("resynchronization required: %s", s->ck.resync.why);

    resync_drop(s);
    s->waits_window = true;
    session_set_note(s, note);
}

/* --- What is pending ------------------------------------------------------------------------- */

static bool is_too_much(const struct checkpoint_disk *disk, uint64_t pending, uint32_t percent)
{
    /* The last block may be counted beyond the disk's end. */
    pending = pending < disk->size ? pending : disk->size;
    return (double)pending > (double)disk->size * percent / 100;
}

static void mark(struct session *s, const struct checkpoint_disk *disk, uint64_t pending,
                 uint32_t percent)
{
    char size[32], changed[32], why[CHECKPOINT_NOTE_BYTES];

    (void)snprintf(why, sizeof(why),
                   "%s of disk %s (%s) are pending, %u %% of it; more than %u %% need a comparison",
                   str_bytes(pending, changed, sizeof(changed)), disk->name,
                   str_bytes(disk->size, size, sizeof(size)),
                   (unsigned)((double)pending * 100 / (double)disk->size), percent);
    required_note(s, RESYNC_LOG, false, why);
    log_warn("session", "resynchronization required group=%s reason=\"%s\"", s->config.group, why);
}

/* Holds what is pending against the policy's limit. */
static int judge(struct session *s, const uint64_t *pending, struct err *err)
{
    const struct checkpoint_resync *resync = &s->ck.resync;
    struct policy policy;
    size_t over = s->ck.disks.len;

    session_policy(s, &policy);
    for (size_t i = s->ck.disks.len; i-- > 0;)
        if (is_too_much(&s->ck.disks.at[i], pending[i], policy.log_limit_percent))
            over = i;
    bool much = over < s->ck.disks.len;
    if (s->ck.phase != PHASE_DELTA || much == (resync->cause == RESYNC_LOG))
        return 0;
    if (!much) {
        log_info("session", "no resynchronization required any more group=%s", s->config.group);
        required_clear(s);
        session_set_note(s, s->ck.note);
    } else if (resync->cause == RESYNC_NONE) {
        mark(s, &s->ck.disks.at[over], pending[over], policy.log_limit_percent);
    } else {
        return 0;
    }
    return session_save(s, err);
}

static void show(struct session *s, const uint64_t *pending)
{
    uint64_t sum = 0;

    (void)pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->ck.disks.len; i++) {
        s->status.disks[i].pending_bytes = pending[i];
        sum += pending[i];
    }
    s->status.pending_bytes = sum;
    (void)pthread_mutex_unlock(&s->lock);
}

int required_look(struct session *s, struct cancel *cancel, struct err *err)
{
    uint64_t pending[SESSION_DISKS_MAX] = {0};

    if (source_pending(s->source, pending, s->ck.disks.len, cancel, err) < 0)
        return session_blame_source(s);
    show(s, pending);
    return judge(s, pending, err);
}

bool required_watch(struct session *s, struct cancel *cancel)
{
    struct err ignored = ERR_EMPTY;
    uint64_t room = 0;

    if (s->ck.phase != PHASE_DELTA && s->ck.phase != PHASE_RESYNC)
        return false;
    if (turn_look(s, cancel, &ignored) == 0 && !s->scanning && s->state.open
        && (s->state.open == s->ck.base || s->state.open == s->ck.cut))
        (void)(required_look(s, cancel, &ignored) < 0);
    s->blame = BLAME_NONE;
    return s->room_then && required_free(s, &room, &ignored) == 0
           && room >= s->room_then + ROOM_STEP;
}

/* --- Room ------------------------------------------------------------------------------------ */

int required_free(const struct session *s, uint64_t *ret_bytes, struct err *err)
{
    if (s->config.free_bytes)
        return s->config.free_bytes(s->config.ctx, ret_bytes, err);
    return fs_free_bytes(s->config.dir, ret_bytes, err);
}

int required_room(struct session *s, uint64_t bytes, struct err *err)
{
    char need[32], have[32];
    uint64_t room;

    if (required_free(s, &room, err) < 0)
        return -1;
    if (room >= bytes + ROOM_SPARE)
        return 0;
    (void)err_set(err, ERR_SPACE, 0,
                  "%s: %s needed to seal the changes of %s, %s free; the machine works on, and no "
                  "point is made; hint: make room there",
                  s->config.dir, str_bytes(bytes + ROOM_SPARE, need, sizeof(need)), s->config.group,
                  str_bytes(room, have, sizeof(have)));
    s->blame = BLAME_SOURCE; /* this site's fault; its source is kept */
    return -1;
}
