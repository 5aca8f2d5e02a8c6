// SPDX-License-Identifier: Apache-2.0
/* What an error means:
 *
 *   cancelled         nothing; the turn is taken up where it was
 *   fenced            fenced, until a person decides
 *   of the source     it is opened anew and tried after the interval (a machine that merely was
 *                     restarted must not wait for minutes); an error that trying again does not
 *                     mend gets one such try
 *   worth a retry     by the schedule (retry.c); a link that was working is tried at once, once
 *   any other         critical: a person is needed, and the text says for what */
#include "sync/session_internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define SOURCE_WAIT_MIN_MS 1000
#define SOURCE_SOON_MS     60000  /* at the interval for so long; then by the schedule */
#define WATCH_MS           300000 /* what is pending is looked at while nobody can be sent to */
#define WATCH_ROOM_MS      60000  /* and whether there is room again */

int64_t session_watch_wait(const struct session *s)
{
    return s->room_then ? WATCH_ROOM_MS : WATCH_MS;
}

/* The first failure of a row is noted. Without its file only the time is lost, at a restart. */
static void note_failing(struct session *s)
{
    CLEANUP(mem_freep) char *path = path_join(s->config.dir, SESSION_FAILING);
    struct err none = ERR_EMPTY;
    int64_t since = s->failing_since_ms ? s->failing_since_ms : session_wall(s);

    if (s->failing_since_ms == 0 && session_since_write(path, since, &none) < 0)
        log_warn("session", "time not kept group=%s text=\"%s\"", s->config.group, none.text);
    s->failing_since_ms = since;
    (void)pthread_mutex_lock(&s->lock);
    s->status.error_since_ms = since;
    (void)pthread_mutex_unlock(&s->lock);
}

/* What to do about an error that no retry mends, unless its text says so already. */
static const char *advice(enum err_code code)
{
    switch ((int)code) {
    case ERR_AUTH: return "pair the two sites again";
    case ERR_DENIED: return "allow this group at the other site";
    case ERR_NOT_FOUND: return "check that the machine and its replica are still there";
    case ERR_CORRUPT: return "look at the replica with `muster points` before anything is removed";
    case ERR_PROTOCOL:
    case ERR_UNSUPPORTED: return "run the same release at both sites";
    default: return "mend the cause, then retry";
    }
}

static void stop(struct session *s, enum session_state state, const struct err *err)
{
    struct err shown = *err;
    size_t len = strlen(shown.text);

    if (!strstr(shown.text, "; hint: "))
        (void)snprintf(shown.text + len, sizeof(shown.text) - len, "; hint: %s", advice(err->code));
    s->waits_interval = false;
    s->due_ms = CANCEL_NEVER;
    s->watch_ms = CANCEL_NEVER;
    note_failing(s);
    (void)pthread_mutex_lock(&s->lock);
    s->status.state = state;
    s->status.error = shown;
    s->status.retry_at_ms = 0;
    s->status.next_cut_ms = 0;
    s->status.failures++;
    (void)pthread_mutex_unlock(&s->lock);
    log_error("session", "%s group=%s error=%s text=\"%s\"", session_state_name(state),
              s->config.group, err_code_name(err->code), shown.text);
}

static void back_off(struct session *s, const struct err *err, int64_t at_ms)
{
    int64_t wait = at_ms - session_now(s);

    s->waits_interval = false;
    s->due_ms = at_ms;
    s->watch_ms = session_now(s) + session_watch_wait(s);
    note_failing(s);
    (void)pthread_mutex_lock(&s->lock);
    s->status.state = s->paused ? SESSION_PAUSED : SESSION_BACKING_OFF;
    s->status.error = *err;
    s->status.retry_at_ms = session_wall(s) + wait;
    s->status.next_cut_ms = 0;
    s->status.failures = s->retry.failures;
    (void)pthread_mutex_unlock(&s->lock);
    log_warn("session", "backing off group=%s again_in_ms=%lld error=%s text=\"%s\"",
             s->config.group, (long long)wait, err_code_name(err->code), err->text);
}

/* There was no room for a cut; more than there is now is worth a try before its time. */
static void note_room(struct session *s, const struct err *err)
{
    struct err ignored = ERR_EMPTY;

    s->room_then = 0;
    if (err->code == ERR_SPACE && s->blame == BLAME_SOURCE
        && required_free(s, &s->room_then, &ignored) == 0 && s->room_then == 0)
        s->room_then = 1;
}

void session_fail(struct session *s, const struct err *err, bool was_working)
{
    int64_t now = session_now(s);

    if (err->code == ERR_FENCED) {
        stop(s, SESSION_FENCED, err);
        return;
    }
    note_room(s, err);
    if (s->blame == BLAME_SOURCE) {
        s->source_failures++;
        bool hopeless = !err_is_retryable(err->code) && s->source_failures > 1;
        bool soon = s->retry.failures == 0 || now - s->retry.first_ms < SOURCE_SOON_MS;
        if (!hopeless && soon) {
            (void)pthread_mutex_lock(&s->lock);
            int64_t wait = s->policy.interval_ms;
            (void)pthread_mutex_unlock(&s->lock);
            wait = wait > SOURCE_WAIT_MIN_MS ? wait : SOURCE_WAIT_MIN_MS;
            back_off(s, err, retry_soon(&s->retry, now, wait));
            return;
        }
    }
    if (!err_is_retryable(err->code)) {
        stop(s, SESSION_CRITICAL, err);
        return;
    }
    if (err->code == ERR_NET && was_working && !s->instant_used) {
        s->instant_used = true;
        back_off(s, err, retry_soon(&s->retry, now, 0));
        return;
    }
    back_off(s, err, retry_next(&s->retry, now, retry_jitter()));
}
