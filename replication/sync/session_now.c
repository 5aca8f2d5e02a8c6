// SPDX-License-Identifier: Apache-2.0
/* What others' threads ask a session for: try again, look again, pause; a cycle at once; to forget. */
#include "sync/session_internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

#define LINK_TRIES    3
#define LINK_AGAIN_MS 500
/* Until the point is pinned no other one is made. */
#define KEEP_MS 30000

void session_retry(struct session *session)
{
    (void)pthread_mutex_lock(&session->lock);
    session->retry_asked = session->status.state != SESSION_FENCED;
    (void)pthread_mutex_unlock(&session->lock);
}

void session_source_changed(struct session *session)
{
    (void)pthread_mutex_lock(&session->lock);
    session->look_again = true;
    session->look_asked = true;
    (void)pthread_mutex_unlock(&session->lock);
}

void session_set_policy(struct session *session, const struct policy *policy)
{
    (void)pthread_mutex_lock(&session->lock);
    session->policy = *policy;
    uint32_t weight = session->flow_weight;
    (void)pthread_mutex_unlock(&session->lock);
    shaper_flow_set(session->flow, &policy->throttle, weight);
}

static bool turn_is_free(const struct session *s)
{
    struct pollfd poller = {.fd = s->turn_fd, .events = POLLIN};

    return poll(&poller, 1, 0) == 1;
}

/* A pause survives a restart: a daemon that comes back in the middle of a failover must not send. */
void session_pause(struct session *session, bool paused)
{
    CLEANUP(mem_freep) char *path = session_paused_path(session);
    struct err err = ERR_EMPTY;
    struct fs *fs = fs_real();
    int rc = 0;

    (void)pthread_mutex_lock(&session->lock);
    bool changed = session->paused != paused;
    session->paused = paused;
    if (changed && paused) {
        /* A turn under way still makes its point; it says "paused" when it has ended. */
        if (turn_is_free(session))
            session->status.state = SESSION_PAUSED;
        session->status.paused_since_ms = session->config.clock->wall_ms(session->config.clock);
        rc = session_since_write(path, session->status.paused_since_ms, &err);
    } else if (changed) {
        session->status.paused_since_ms = 0;
        rc = fs->unlink(fs, path, &err);
        if (rc == 0)
            rc = fs->sync_dir(fs, session->config.dir, &err);
    }
    (void)pthread_mutex_unlock(&session->lock);
    if (rc < 0)
        log_warn("session", "pause not kept group=%s text=\"%s\"", session->config.group, err.text);
}

/* --- A comparison ---------------------------------------------------------------------------- */

static int refuse_resync(const struct session *s, struct err *err)
{
    if (s->status.state == SESSION_FENCED)
        return err_set(err, s->status.error.code, s->status.error.sys, "%s", s->status.error.text);
    if (s->forgotten)
        return err_set(err, ERR_STATE, 0, "%s is not protected any more", s->config.group);
    if (s->status.durable_point == 0)
        return err_set(err, ERR_STATE, 0,
                       "%s has no point yet, there is nothing to compare with; hint: wait for the "
                       "initial copy, muster status shows how far it is",
                       s->config.group);
    return 0;
}

int session_resync(struct session *session, bool now, int64_t *ret_at_ms, struct err *err)
{
    CLEANUP(mem_freep) char *path = required_path(session);
    int64_t wall = session_wall(session);

    (void)pthread_mutex_lock(&session->lock);
    const struct policy *policy = &session->policy;
    now = now || !policy->resync_auto;
    int rc = refuse_resync(session, err);
    /* What was asked for before stays asked for. */
    if (rc == 0 && (now || !session->resync_asked))
        rc = fs_replace_file(fs_real(), path, now ? "now\n" : "window\n", now ? 4 : 7, 0600, err);
    if (rc == 0) {
        session->resync_asked = true;
        now = now || session->status.resync.now;
        *ret_at_ms = now ? wall : day_span_next_ms(&policy->resync_window, wall);
    }
    (void)pthread_mutex_unlock(&session->lock);
    return rc;
}

/* --- A cycle now ----------------------------------------------------------------------------- */

static int refuse_state(struct session *s, struct err *err)
{
    struct session_status status;

    session_status(s, &status);
    if (status.state == SESSION_FENCED)
        return err_set(err, status.error.code, status.error.sys, "%s", status.error.text);
    if (s->forgotten)
        return err_set(err, ERR_STATE, 0, "%s is not protected any more", s->config.group);
    if (s->ck.phase == PHASE_NEW || s->ck.phase == PHASE_COPY)
        return err_set(err, ERR_STATE, 0,
                       "the initial copy of %s is not complete, there is no point yet; hint: wait "
                       "for it, muster status shows how far it is",
                       s->config.group);
    return 0;
}

static int check_quiet(struct session *s, bool after, struct cancel *cancel, struct err *err)
{
    uint64_t pending = 0;

    if (turn_look(s, cancel, err) < 0)
        return -1;
    if (!s->state.quiet)
        return err_set(err, ERR_STATE, 0, "%s is %s; hint: shut the machine down first",
                       s->config.group, after ? "running again" : "running");
    if (!after || !s->state.running)
        return 0;
    if (s->source->ops->pending(s->source, &pending, cancel, err) < 0)
        return session_blame_source(s);
    if (pending > 0 || s->state.open != s->ck.base)
        return err_set(err, ERR_STATE, 0,
                       "%s: something wrote %" PRIu64 " bytes after the last cut; hint: try again",
                       s->config.group, pending);
    return 0;
}

static int sync_now(struct session *s, bool quiet, uint64_t *ret_point, struct cancel *cancel,
                    struct err *err)
{
    bool again;
    bool point = false;

    if (refuse_state(s, err) < 0 || (quiet && check_quiet(s, false, cancel, err) < 0))
        return -1;
    /* Slices of a rescan first, if one is under way or turns out to be needed. */
    for (unsigned broken = 0; !point;) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        if (session_run(s, &again, &point, cancel, err) == 0)
            continue;
        /* The link at hand may be to a peer's daemon that was restarted since. */
        if (err->code != ERR_NET || ++broken > LINK_TRIES)
            return -1;
        err_clear(err);
        if (cancel_sleep(cancel, LINK_AGAIN_MS, err) < 0)
            return -1;
    }
    if (quiet) {
        if (check_quiet(s, true, cancel, err) < 0)
            return -1;
        session_pause(s, true);
    }
    *ret_point = s->ck.applied_point;
    return 0;
}

int session_sync_now(struct session *session, bool quiet, uint64_t *ret_point,
                     struct cancel *cancel, struct err *err)
{
    if (session_take(session, cancel, err) < 0)
        return -1;
    session->hurry = true;
    int rc = sync_now(session, quiet, ret_point, cancel, err);
    session->hurry = false;
    session_give(session);
    return rc;
}

static int refuse_paused(struct session *s, struct err *err)
{
    struct session_status status;

    session_status(s, &status);
    if (!status.paused)
        return 0;
    return err_set(
        err, ERR_STATE, 0,
        "the replication of %s is paused, no point can be made; hint: `muster resume %s`",
        s->config.group, s->config.group);
}

/* With a limit: a peer that does not answer must not hold up the points that come. */
static int keep(struct session *s, const struct session_point_ask *ask, uint64_t point,
                struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(s->config.clock, cancel, KEEP_MS);

    if (!ask->keep || ask->keep(ask->ctx, point, limit, err) == 0)
        return 0;
    (void)err_wrap(err, "point %" PRIu64 " is there, but it is not pinned", point);
    if (strstr(err->text, "; hint: "))
        return -1;
    CLEANUP(mem_freep) char *text = mem_strdup(err->text);
    return err_set(err, err->code, 0,
                   "%s; hint: `muster point pin %s %" PRIu64
                   " --label L` pins it, as long as it is "
                   "kept without",
                   text, s->config.group, point);
}

static int point_now(struct session *s, const struct session_point_ask *ask,
                     struct session_point *ret_point, struct cancel *cancel, struct err *err)
{
    struct session_point point = {0};
    uint64_t before = s->ck.durable_point;

    s->freeze_note[0] = '\0';
    if (refuse_paused(s, err) < 0 || sync_now(s, false, &point.point, cancel, err) < 0)
        return -1;
    point.made = point.point > before;
    point.application = s->ck.application.point == point.point;
    point.cut_wall_ms = s->ck.applied_cut_ms;
    point.stall_us = point.made ? s->status.last_stall_us : 0;
    (void)snprintf(point.note, sizeof(point.note), "%s", s->freeze_note);
    if (keep(s, ask, point.point, cancel, err) < 0)
        return -1;
    *ret_point = point;
    return 0;
}

int session_point_now(struct session *session, const struct session_point_ask *ask,
                      struct session_point *ret_point, struct cancel *cancel, struct err *err)
{
    if (session_take(session, cancel, err) < 0)
        return -1;
    session->hurry = true;
    session->hurry_point = true;
    session->freeze = ask->freeze;
    int rc = point_now(session, ask, ret_point, cancel, err);
    session->freeze = SESSION_FREEZE_POLICY;
    session->hurry_point = false;
    session->hurry = false;
    session_give(session);
    return rc;
}

/* --- No more ---------------------------------------------------------------------------------- */

static int forget_source(struct session *s, struct cancel *cancel, struct err *err)
{
    session_drop_source(s);
    if (s->config.open_source(s->config.ctx, &s->source, cancel, err) < 0) {
        s->source = NULL;
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err); /* a machine that is gone tracks nothing */
        return 0;
    }
    int rc = s->source->ops->forget(s->source, cancel, err);
    session_drop_source(s);
    return rc;
}

static int forget(struct session *s, struct cancel *cancel, struct err *err)
{
    if (forget_source(s, cancel, err) < 0 || fs_remove_tree(fs_real(), s->config.dir, err) < 0)
        return err_wrap(err, "forget the replication of %s", s->config.group);
    session_drop_link(s);
    (void)pthread_mutex_lock(&s->lock);
    s->forgotten = true;
    (void)pthread_mutex_unlock(&s->lock);
    log_info("session", "forgotten group=%s", s->config.group);
    return 0;
}

int session_forget(struct session *session, struct cancel *cancel, struct err *err)
{
    if (session_take(session, cancel, err) < 0)
        return -1;
    int rc = forget(session, cancel, err);
    session_give(session);
    return rc;
}
