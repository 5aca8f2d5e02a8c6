// SPDX-License-Identifier: Apache-2.0
/* What others see of a session, and its turns. What an error of one means: session_fail.c. */
#include "sync/session_internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SINCE_BYTES 32

static const char *const state_names[SESSION_STATE_COUNT] = {
    [SESSION_COPYING] = "copying",         [SESSION_PROTECTED] = "protected",
    [SESSION_SENDING] = "sending",         [SESSION_RESYNCING] = "resyncing",
    [SESSION_BACKING_OFF] = "backing-off", [SESSION_CRITICAL] = "critical",
    [SESSION_FENCED] = "fenced",           [SESSION_PAUSED] = "paused",
    [SESSION_SCHEDULED] = "scheduled",     [SESSION_RESYNC_REQUIRED] = "resync-required",
};

const char *session_state_name(enum session_state state)
{
    return state < SESSION_STATE_COUNT ? state_names[state] : "?";
}

int64_t session_now(const struct session *s)
{
    return s->config.clock->now_ms(s->config.clock);
}

int64_t session_wall(const struct session *s)
{
    return s->config.clock->wall_ms(s->config.clock);
}

int64_t session_since(const struct session *s, int64_t wall_ms)
{
    int64_t ago = session_wall(s) - wall_ms;

    /* Before a clock that was set back it was that long ago, at least. */
    return session_now(s) - (ago < 0 ? -ago : ago);
}

/* --- What is shown --------------------------------------------------------------------------- */

void session_set_state(struct session *s, enum session_state state)
{
    (void)pthread_mutex_lock(&s->lock);
    s->status.state = state;
    (void)pthread_mutex_unlock(&s->lock);
}

void session_set_note(struct session *s, const char *note)
{
    (void)pthread_mutex_lock(&s->lock);
    if (note != s->status.note)
        (void)snprintf(s->status.note, sizeof(s->status.note), "%s", note);
    (void)pthread_mutex_unlock(&s->lock);
}

void session_show_progress(struct session *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->status.disk_count = s->ck.disks.len;
    for (size_t i = 0; i < s->ck.disks.len; i++) {
        struct session_disk_progress *to = &s->status.disks[i];
        const struct checkpoint_disk *disk = &s->ck.disks.at[i];
        memcpy(to->name, disk->name, sizeof(to->name));
        to->size = disk->size;
        to->total_bytes = disk->size;
        to->done_bytes = disk->done || s->ck.phase == PHASE_DELTA ? disk->size : disk->scanned;
    }
    (void)pthread_mutex_unlock(&s->lock);
}

void session_show_points(struct session *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->status.durable_point = s->ck.durable_point;
    s->status.durable_cut_ms = s->ck.durable_cut_ms;
    s->status.applied_point = s->ck.applied_point;
    s->status.applied_cut_ms = s->ck.applied_cut_ms;
    s->durable_cut = s->durable_cut_now;
    s->applied_cut = s->applied_cut_now;
    (void)pthread_mutex_unlock(&s->lock);
}

void session_status(struct session *session, struct session_status *ret_status)
{
    (void)pthread_mutex_lock(&session->lock);
    *ret_status = session->status;
    ret_status->paused = session->paused;
    ret_status->durable_age_ms = session_now(session) - session->durable_cut;
    ret_status->applied_age_ms = session_now(session) - session->applied_cut;
    ret_status->application_age_ms = session_wall(session) - ret_status->application_cut_ms;
    if (session->policy.application_ms == 0) { /* nobody asks for them any more */
        ret_status->application_failing_ms = 0;
        ret_status->application_note[0] = '\0';
    }
    (void)pthread_mutex_unlock(&session->lock);
    if (ret_status->durable_point == 0)
        ret_status->durable_age_ms = -1;
    if (ret_status->applied_point == 0)
        ret_status->applied_age_ms = -1;
    if (ret_status->application_point == 0)
        ret_status->application_age_ms = -1;
    else if (ret_status->application_age_ms < 0) /* the clock was set back */
        ret_status->application_age_ms = 0;
}

/* The state of a session that works. */
static enum session_state working_state(const struct session *s)
{
    if (s->waits_window)
        return SESSION_RESYNC_REQUIRED;
    if (s->start_ms)
        return SESSION_SCHEDULED;
    switch (s->ck.phase) {
    case PHASE_NEW:
    case PHASE_COPY: return SESSION_COPYING;
    case PHASE_RESYNC: return SESSION_RESYNCING;
    case PHASE_DELTA: break;
    }
    return SESSION_PROTECTED;
}

/* --- What is given up ------------------------------------------------------------------------ */

static uint64_t sent_total(const struct session *s)
{
    return s->sent_before + (s->link ? s->remote.sent_bytes : 0);
}

void session_pace(struct session *s)
{
    struct policy policy;
    uint32_t weight = s->ck.phase == PHASE_DELTA ? SHAPER_DELTA : SHAPER_BULK;

    (void)pthread_mutex_lock(&s->lock);
    s->flow_weight = weight;
    policy = s->policy;
    (void)pthread_mutex_unlock(&s->lock);
    shaper_flow_set(s->flow, &policy.throttle, weight);
}

void session_drop_link(struct session *s)
{
    s->sent_before = sent_total(s);
    if (s->link && link_is_broken(s->link) && s->config.lost_link)
        s->config.lost_link(s->config.ctx);
    link_close(s->link);
    s->link = NULL;
    copy_drop(s); /* what was on the way is not known to be there */
}

/* Between two turns a link serves others: so there are as many as data threads, not as groups. */
static void give_link(struct session *s)
{
    if (!s->link || !s->config.give_link || s->remote.waiting > 0 || link_is_broken(s->link))
        return;
    s->sent_before = sent_total(s);
    link_set_flow(s->link, NULL);
    s->config.give_link(s->config.ctx, s->link);
    s->link = NULL;
}

void session_drop_source(struct session *s)
{
    copy_drop(s);
    resync_drop(s);
    source_close(s->source);
    s->source = NULL;
    s->source_is_old = false;
    memset(&s->state, 0, sizeof(s->state));
}

int session_blame_source(struct session *s)
{
    s->blame = BLAME_SOURCE;
    session_drop_source(s);
    return -1;
}

int session_blame_peer(struct session *s)
{
    s->blame = BLAME_PEER;
    if (s->link && link_is_broken(s->link))
        session_drop_link(s);
    copy_drop(s); /* what it could not write or sync is sent again from where it was durable */
    return -1;
}

int session_save(struct session *s, struct err *err)
{
    return checkpoint_save(s->config.dir, &s->ck, err);
}

/* --- Since when -------------------------------------------------------------------------------- */

/* A file of a time: what began before a restart did not begin with it. 0: not there, or of a release
 * that wrote no time. */
static int64_t since_read(const struct session *s, const char *name)
{
    CLEANUP(mem_freep) char *path = path_join(s->config.dir, name);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    uint64_t ms = 0;

    if (fs_read_file(fs_real(), path, SINCE_BYTES, &text, &none) < 0
        || !str_to_u64(str_text(&text), &ms))
        return 0;
    return (int64_t)ms;
}

int session_since_write(const char *path, int64_t ms, struct err *err)
{
    char text[SINCE_BYTES];
    int len = snprintf(text, sizeof(text), "%lld\n", (long long)ms);

    return fs_replace_file(fs_real(), path, text, (size_t)len, 0600, err);
}

static void note_working(struct session *s)
{
    CLEANUP(mem_freep) char *path = path_join(s->config.dir, SESSION_FAILING);
    struct err none = ERR_EMPTY;

    if (s->failing_since_ms)
        (void)fs_real()->unlink(fs_real(), path, &none);
    s->failing_since_ms = 0;
}

/* --- Open and close -------------------------------------------------------------------------- */

char *session_paused_path(const struct session *s)
{
    return path_join(s->config.dir, "paused");
}

static int load(struct session *s, struct err *err)
{
    CLEANUP(mem_freep) char *path = session_paused_path(s);
    CLEANUP(mem_freep) char *asked = required_path(s);
    struct err why = ERR_EMPTY;

    if (fs_make_dirs(fs_real(), s->config.dir, 0700, err) < 0)
        return -1;
    if (checkpoint_load(s->config.dir, &s->ck, &why) < 0 && why.code != ERR_NOT_FOUND)
        return err_set(err, why.code, why.sys, "%s", why.text);
    s->paused = fs_exists(path);
    s->status.paused_since_ms = s->paused ? since_read(s, "paused") : 0;
    s->failing_since_ms = since_read(s, SESSION_FAILING);
    s->resync_asked = fs_exists(asked);
    s->durable_cut_now = session_since(s, s->ck.durable_cut_ms);
    s->applied_cut_now = session_since(s, s->ck.applied_cut_ms);
    s->waits_window = s->ck.resync.cause != RESYNC_NONE && s->ck.resync.cause != RESYNC_ASKED
                      && !required_runs(s);
    s->status.state = s->paused ? SESSION_PAUSED : working_state(s);
    session_set_note(s, s->ck.note);
    session_show_points(s);
    application_show(s);
    s->status.packed_percent = -1;
    session_show_progress(s);
    seed_show(s);
    required_show(s);
    return 0;
}

void session_policy(struct session *s, struct policy *ret_policy)
{
    (void)pthread_mutex_lock(&s->lock);
    *ret_policy = s->policy;
    (void)pthread_mutex_unlock(&s->lock);
}

int session_open(const struct session_config *config, struct session **ret_session, struct err *err)
{
    struct session *s = mem_new(struct session);

    s->config = *config;
    s->policy = config->policy;
    s->status.generation = config->generation;
    s->turn_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (s->turn_fd < 0 || pthread_mutex_init(&s->lock, NULL) != 0)
        abort();
    s->digester = chunk_digester_new(&config->group_key);
    if (!config->shaper)
        s->own_shaper = shaper_new(config->clock);
    s->flow = shaper_flow_new(config->shaper ? config->shaper : s->own_shaper);
    s->flow_weight = SHAPER_BULK;
    adaptive_init(&s->adaptive, config->policy.compression);
    s->due_ms = session_now(s);
    s->watch_ms = CANCEL_NEVER;
    if (load(s, err) < 0) {
        session_close(s);
        return -1;
    }
    *ret_session = s;
    return 0;
}

void session_close(struct session *session)
{
    if (!session)
        return;
    session_drop_source(session);
    session_drop_link(session);
    shaper_flow_free(session->flow);
    shaper_free(session->own_shaper);
    digester_free(session->digester);
    checkpoint_done(&session->ck);
    key_wipe(&session->config.group_key);
    explicit_bzero(session->config.sign_key, sizeof(session->config.sign_key));
    (void)pthread_mutex_destroy(&session->lock);
    (void)close(session->turn_fd);
    free(session->config.dir);
    json_decref(session->config.seeds);
    free(session);
}

/* --- A turn ---------------------------------------------------------------------------------- */

int session_take(struct session *s, struct cancel *cancel, struct err *err)
{
    uint64_t one;

    for (;;) {
        if (read(s->turn_fd, &one, sizeof(one)) == (ssize_t)sizeof(one))
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return err_set(err, ERR_IO, errno, "turn of a session");
        if (cancel_poll(cancel, s->turn_fd, POLLIN, err) < 0)
            return -1;
    }
}

void session_give(struct session *s)
{
    uint64_t one = 1;

    give_link(s);
    (void)pthread_mutex_lock(&s->lock);
    if (s->paused && s->status.error.code == ERR_NONE)
        s->status.state = SESSION_PAUSED;
    (void)pthread_mutex_unlock(&s->lock);
    if (write(s->turn_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
        abort(); /* nobody else has it */
}

static int64_t due(struct session *s)
{
    if (!s->waits_interval)
        return s->due_ms;
    (void)pthread_mutex_lock(&s->lock);
    int64_t interval = s->policy.interval_ms;
    (void)pthread_mutex_unlock(&s->lock);
    return s->started_ms + interval;
}

/* Bytes per second over this turn and, less and less, those before. */
static void note_rate(struct session *s)
{
    uint64_t total = sent_total(s);
    uint64_t bytes = total - s->sent_seen;
    int64_t ms = session_now(s) - s->started_ms;

    s->sent_seen = total;
    (void)pthread_mutex_lock(&s->lock);
    s->status.sent_bytes = total;
    if (bytes > 0) {
        uint64_t rate = bytes * 1000 / (uint64_t)(ms > 0 ? ms : 1);
        s->status.rate_per_s = s->status.rate_per_s ? (s->status.rate_per_s * 3 + rate) / 4 : rate;
    }
    (void)pthread_mutex_unlock(&s->lock);
}

static void succeed(struct session *s, bool again)
{
    retry_reset(&s->retry);
    s->source_failures = 0;
    s->instant_used = false;
    s->room_then = 0;
    s->watch_ms = CANCEL_NEVER;
    s->waits_interval = !again;
    s->due_ms = session_now(s);
    int64_t wait = due(s) - session_now(s);

    note_working(s);
    (void)pthread_mutex_lock(&s->lock);
    s->status.state = s->paused ? SESSION_PAUSED : working_state(s);
    err_clear(&s->status.error);
    s->status.error_since_ms = 0;
    s->status.retry_at_ms = 0;
    s->status.failures = 0;
    s->status.next_cut_ms = again ? 0 : session_wall(s) + (wait > 0 ? wait : 0);
    if (s->start_ms)
        s->status.next_cut_ms = s->start_ms;
    (void)pthread_mutex_unlock(&s->lock);
}

int session_run(struct session *s, bool *ret_again, bool *ret_point, struct cancel *cancel,
                struct err *err)
{
    /* Open since an earlier turn: when it breaks, its peer may long be back under another. */
    bool was_working = s->link != NULL;
    struct err ended;

    s->started_ms = session_now(s);
    s->waits_window = false;
    int rc = turn_run(s, ret_again, ret_point, cancel, err);
    note_rate(s);
    if (rc == 0) {
        succeed(s, *ret_again);
    } else if (cancel_check(cancel, &ended) < 0) {
        s->waits_interval = false;
        s->due_ms = session_now(s);
        s->watch_ms = CANCEL_NEVER;
        session_set_state(s, working_state(s));
    } else {
        bool of_peer = s->blame == BLAME_PEER;
        session_fail(s, err, was_working || (!s->link && s->remote.proven));
        if (of_peer && s->watch_ms != CANCEL_NEVER)
            (void)required_watch(s, cancel);
    }
    required_show(s);
    return rc;
}

/* What a person or the other rooms asked for; false when there is nothing to do. */
static bool may_run(struct session *s)
{
    (void)pthread_mutex_lock(&s->lock);
    bool retry = s->retry_asked;
    bool idle = s->paused || s->forgotten;
    s->retry_asked = false;
    if (s->paused)
        s->status.state = SESSION_PAUSED;
    else if (s->status.state == SESSION_PAUSED) {
        s->status.state = working_state(s);
        s->waits_interval = false;
        s->due_ms = session_now(s);
    }
    enum session_state state = s->status.state;
    bool looks = s->look_asked;
    bool asked = s->resync_asked && state != SESSION_FENCED;
    s->look_asked = false;
    (void)pthread_mutex_unlock(&s->lock);

    if (idle) {
        copy_rest(s);
        resync_rest(s);
        s->waits_interval = false;
        s->due_ms = CANCEL_NEVER;
        s->watch_ms = CANCEL_NEVER;
        return false;
    }
    if (retry || (asked && state != SESSION_BACKING_OFF && state != SESSION_CRITICAL)
        || (looks && state != SESSION_CRITICAL && state != SESSION_FENCED)) {
        retry_reset(&s->retry);
        s->start_now = retry && s->start_ms;
        /* A fresh start: the link that is still open may be one to a daemon that is no more. */
        s->instant_used = false;
        s->source_failures = 0;
        s->waits_interval = false;
        s->due_ms = session_now(s);
    }
    return due(s) <= session_now(s);
}

/* Waits to be tried again; true when it need not wait any longer. */
static bool watch(struct session *s, struct cancel *cancel)
{
    s->watch_ms = session_now(s) + session_watch_wait(s);
    bool room = required_watch(s, cancel);
    required_show(s);
    return room;
}

void session_turn(struct session *session, struct cancel *cancel, int64_t *ret_next_ms)
{
    struct err err = ERR_EMPTY;
    bool again;
    bool point;

    if (session_take(session, cancel, &err) < 0) {
        *ret_next_ms = session_now(session);
        return;
    }
    bool runs = may_run(session);
    if (!runs && session->watch_ms <= session_now(session))
        runs = watch(session, cancel);
    if (runs)
        (void)(session_run(session, &again, &point, cancel, &err) < 0);
    *ret_next_ms = due(session);
    if (session->watch_ms < *ret_next_ms)
        *ret_next_ms = session->watch_ms;
    session_give(session);
}
