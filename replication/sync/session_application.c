// SPDX-License-Identifier: Apache-2.0
/* Which cuts freeze the guest: one every `application_ms` of the policy. The time of a try is in the
 * checkpoint before its cut, so a restart does not shift the next one, and one that was missed is not
 * made up for twice. One that somebody asked for (session_point_now) counts like any other. A try that failed leaves a point that is as good as any other but for this; it
 * is made again soon, not at once: each may hold a cycle up for as long as a silent agent is waited
 * for. */
#include "sync/session_internal.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define AGAIN_MS (5 * 60 * 1000)

/* A clock that was set back makes no point later than a new interval would. */
static bool has_passed(int64_t since_ms, int64_t ms, int64_t now_ms)
{
    return since_ms == 0 || now_ms < since_ms || now_ms - since_ms >= ms;
}

static bool is_due(const struct session *s, int64_t every_ms, int64_t now_ms)
{
    const struct checkpoint_application *a = &s->ck.application;
    int64_t again_ms = every_ms < AGAIN_MS ? every_ms : AGAIN_MS;

    return has_passed(a->made_ms, every_ms, now_ms) && has_passed(a->tried_ms, again_ms, now_ms);
}

bool application_begin(struct session *s)
{
    struct policy policy;
    int64_t now = session_wall(s);
    bool asked = s->freeze == SESSION_FREEZE;

    session_policy(s, &policy);
    application_show(s); /* the policy may be another one */
    if (s->freeze == SESSION_FREEZE_POLICY && policy.application_ms)
        asked = s->hurry_point;
    /* Nobody writes: there is nobody to ask. */
    if (s->freeze == SESSION_FREEZE_NONE || s->state.quiet || !s->state.running)
        return false;
    if (!asked && (policy.application_ms == 0 || !is_due(s, policy.application_ms, now)))
        return false;
    s->ck.application.tried_ms = now;
    return true;
}

/* The agent's words go into our files and onto terminals. */
static void take_note(char *to, size_t size, const char *note)
{
    (void)snprintf(to, size, "%.*s", (int)size - 1, note);
    for (char *c = to; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
}

void application_cut(struct session *s, const struct source_cut *cut)
{
    struct checkpoint_application *a = &s->ck.application;
    struct policy policy;

    s->freeze_note[0] = '\0';
    if (cut->freeze != SOURCE_FREEZE_FAILED)
        return;
    take_note(s->freeze_note, sizeof(s->freeze_note), cut->freeze_note);
    log_warn("session", "not application-consistent group=%s text=\"%s\"", s->config.group,
             s->freeze_note);
    session_policy(s, &policy);
    if (policy.application_ms == 0) /* asked for once: nobody waits for the next one */
        return;
    if (a->failing_ms == 0)
        a->failing_ms = session_wall(s);
    (void)snprintf(a->note, sizeof(a->note), "%s", s->freeze_note);
    application_show(s);
}

void application_durable(struct session *s, const struct manifest *manifest)
{
    struct checkpoint_application *a = &s->ck.application;

    if (manifest->consistency != CONSISTENCY_APPLICATION)
        return;
    if (a->failing_ms)
        log_info("session", "application-consistent again group=%s point=%" PRIu64, s->config.group,
                 manifest->point);
    a->made_ms = a->tried_ms;
    a->point = manifest->point;
    a->cut_ms = manifest->cut_wall_ms;
    a->failing_ms = 0;
    a->note[0] = '\0';
    application_show(s);
}

/* As is_due. */
static int64_t next_ms(const struct session *s, int64_t every_ms)
{
    const struct checkpoint_application *a = &s->ck.application;
    int64_t again_ms = every_ms < AGAIN_MS ? every_ms : AGAIN_MS;
    int64_t by_made = a->made_ms ? a->made_ms + every_ms : 0;
    int64_t by_tried = a->tried_ms ? a->tried_ms + again_ms : 0;
    int64_t next = by_made > by_tried ? by_made : by_tried;
    int64_t now = session_wall(s);

    if (every_ms == 0)
        return 0;
    return is_due(s, every_ms, now) || next < now ? now : next;
}

void application_show(struct session *s)
{
    const struct checkpoint_application *a = &s->ck.application;
    struct policy policy;

    session_policy(s, &policy);
    int64_t next = next_ms(s, policy.application_ms);
    (void)pthread_mutex_lock(&s->lock);
    s->status.application_next_ms = next;
    s->status.application_point = a->point;
    s->status.application_cut_ms = a->cut_ms;
    s->status.application_failing_ms = a->failing_ms;
    (void)snprintf(s->status.application_note, sizeof(s->status.application_note), "%s", a->note);
    (void)pthread_mutex_unlock(&s->lock);
}
