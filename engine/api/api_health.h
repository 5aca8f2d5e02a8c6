// SPDX-License-Identifier: Apache-2.0
/* A protection's health, from what is known of it now. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum health { HEALTH_NOT_APPLICABLE, HEALTH_HEALTHY, HEALTH_WARNING, HEALTH_CRITICAL };
const char *health_name(enum health health);

/* Later than this the RPO is worth a warning, or is critical: a cycle may be under way when the
 * next is due, and a link may hiccup. */
#define HEALTH_WARNING_MS(interval)  (2 * (interval) + 5000)
#define HEALTH_CRITICAL_MS(interval) (10 * (interval) + 60000)

struct health_of {
    const char *machine_state; /* state_protection.state */
    const char *session;       /* session_state_name; "" for a replica */
    int64_t interval_ms;
    int64_t durable_age_ms; /* -1: no point yet */
    const char *name;
    const char *peer;
    const char *recovers_at; /* the site that holds the replica, and runs its failovers */
    bool recovered;          /* this site holds the replica: failed over means it is here */
    bool runs_twice;         /* runs here though it was promoted at the peer, as `promoted` */
    uint64_t promoted;
    const char *fence_problem; /* it stands still, but could not be put away; "": none */
};
/* `ret_reason` (may be NULL) gets one line, "" when healthy. */
enum health health_tell(const struct health_of *of, char *ret_reason, size_t len);
