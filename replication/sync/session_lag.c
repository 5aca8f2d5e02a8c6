// SPDX-License-Identifier: Apache-2.0
/* Whether a session keeps pace with the changes (pace.h): what a cycle was, and what is said of it. */
#include "sync/session_internal.h"

#include "base/log.h"
#include "base/str.h"
#include "link/throttle_plan.h"

#include <stdio.h>
#include <string.h>

void lag_begin(struct session *s)
{
    int64_t last = s->last_cut_ms;

    s->last_cut_ms = session_now(s);
    s->cycle = (struct pace_cycle){.gap_ms = last ? s->last_cut_ms - last : 0};
}

void lag_changed(struct session *s, uint64_t bytes)
{
    s->cycle.changed += bytes;
}

void lag_sent(struct session *s, int64_t ms)
{
    s->cycle.sent_ms += ms;
}

void lag_applied(struct session *s, int64_t ms)
{
    s->cycle.applied_ms += ms;
}

static void tell(struct session *s, struct session_lag *lag)
{
    char changed[32], sent[32];

    if (lag->since_ms)
        log_warn("session",
                 "not converging group=%s changed_per_s=\"%s\" sent_per_s=\"%s\" advice=\"%s\"",
                 s->config.group, str_bytes(lag->changed_per_s, changed, sizeof(changed)),
                 str_bytes(lag->sent_per_s, sent, sizeof(sent)), lag->advice);
    else
        log_info("session", "keeps pace again group=%s", s->config.group);
}

void lag_end(struct session *s)
{
    struct session_lag lag = {0};
    struct policy policy;

    if (s->cut_ms == 0 || s->cycle.gap_ms == 0)
        return; /* of an earlier life, or the first: nobody knows how long its changes took */
    session_policy(s, &policy);
    bool was_behind = s->pace.behind;
    s->cycle.busy_ms = session_now(s) - s->cut_ms;
    pace_note(&s->pace, &s->cycle, policy.interval_ms);
    s->cycle.gap_ms = 0; /* noted once */
    (void)pthread_mutex_lock(&s->lock);
    if (s->pace.behind) {
        const struct pace_policy of = {
            .peer = s->config.peer,
            .compression = policy.compression,
            .throttle_per_s = throttle_plan_at(&policy.throttle, session_wall(s)),
            .wire_per_s = s->status.rate_per_s,
            .interval_ms = policy.interval_ms,
        };
        lag.since_ms = was_behind ? s->status.lag.since_ms : session_wall(s);
        lag.changed_per_s = pace_changed_per_s(&s->pace);
        lag.sent_per_s = pace_sent_per_s(&s->pace);
        pace_advice(&s->pace, &of, lag.advice, sizeof(lag.advice));
    }
    s->status.lag = lag;
    (void)pthread_mutex_unlock(&s->lock);
    if (was_behind != s->pace.behind)
        tell(s, &lag);
}
