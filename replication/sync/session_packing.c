// SPDX-License-Identifier: Apache-2.0
/* What data is packed with: as the policy says, or, adaptive, as it pays. */
#include "sync/session_copy.h"
#include "sync/session_internal.h"

#include "base/log.h"

#include <stdio.h>

static void show(struct session *s, enum adaptive_kind kind)
{
    (void)pthread_mutex_lock(&s->lock);
    (void)snprintf(s->status.packing, sizeof(s->status.packing), "%s", adaptive_name(kind));
    (void)pthread_mutex_unlock(&s->lock);
}

static void tell(const struct session *s)
{
    log_info("session", "compression group=%s now=\"%s\"", s->config.group,
             adaptive_name(s->adaptive.now));
}

static enum adaptive_kind fixed(const struct policy *policy)
{
    struct adaptive begin;

    adaptive_init(&begin, policy->compression);
    return begin.now;
}

enum adaptive_kind session_packing(struct session *s, const struct policy *policy)
{
    if (policy->adaptive && adaptive_decide(&s->adaptive))
        tell(s);
    show(s, policy->adaptive ? s->adaptive.now : fixed(policy));
    return policy->adaptive ? adaptive_next(&s->adaptive) : fixed(policy);
}

enum adaptive_kind session_copy_packing(struct session *s, const struct policy *policy)
{
    show(s, policy->adaptive ? s->adaptive.now : fixed(policy));
    return policy->adaptive ? adaptive_flow_next(&s->adaptive) : fixed(policy);
}

void session_copy_sent(struct session *s, enum adaptive_kind kind, uint64_t in, int64_t ms)
{
    if (adaptive_flow_sent(&s->adaptive, kind, in, (double)ms))
        tell(s);
}

static void show_percent(struct session *s, int percent)
{
    (void)pthread_mutex_lock(&s->lock);
    s->status.packed_percent = percent;
    (void)pthread_mutex_unlock(&s->lock);
}

void session_copy_packed(struct session *s, uint64_t in, uint64_t out)
{
    s->copy->packed_in += in;
    s->copy->packed_out += out;
    show_percent(s, (int)(100 * (double)s->copy->packed_out / (double)s->copy->packed_in + 0.5));
}

void session_packed(struct session *s, enum adaptive_kind kind, uint64_t in, uint64_t out,
                    int64_t ms)
{
    adaptive_packed(&s->adaptive, kind, in, out, (double)ms);
    show_percent(s, adaptive_percent(&s->adaptive));
}

void session_note_sent(struct session *s, uint64_t bytes, int64_t ms)
{
    adaptive_sent(&s->adaptive, bytes, (double)ms);
}
