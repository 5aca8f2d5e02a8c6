// SPDX-License-Identifier: Apache-2.0
/* What data is packed with: as the policy says, or, adaptive, as it pays. */
#include "sync/session_internal.h"

#include "base/log.h"

#include <stdio.h>

enum adaptive_kind session_packing(struct session *s, const struct policy *policy)
{
    struct adaptive fixed;
    enum adaptive_kind kind;

    if (!policy->adaptive) {
        adaptive_init(&fixed, policy->compression);
        kind = fixed.now;
    } else {
        if (adaptive_decide(&s->adaptive, policy->copy_workers))
            log_info("session", "compression group=%s now=\"%s\"", s->config.group,
                     adaptive_name(s->adaptive.now));
        kind = s->adaptive.now;
    }
    (void)pthread_mutex_lock(&s->lock);
    (void)snprintf(s->status.packing, sizeof(s->status.packing), "%s", adaptive_name(kind));
    (void)pthread_mutex_unlock(&s->lock);
    return policy->adaptive ? adaptive_next(&s->adaptive) : kind;
}

void session_packed(struct session *s, enum adaptive_kind kind, uint64_t in, uint64_t out,
                    int64_t ms)
{
    adaptive_packed(&s->adaptive, kind, in, out, (double)ms);
    (void)pthread_mutex_lock(&s->lock);
    s->status.packed_percent = adaptive_percent(&s->adaptive);
    (void)pthread_mutex_unlock(&s->lock);
}

void session_note_sent(struct session *s, uint64_t bytes, int64_t ms)
{
    adaptive_sent(&s->adaptive, bytes, (double)ms);
}
