// SPDX-License-Identifier: Apache-2.0
/* A protection's health, from what is known of it now: every reason there is, and the worst of
 * them. Pure. A new cause of bad health is one function in api_health.c that looks at a
 * `struct health_of` and calls health_add; whoever knows a fact first puts it there. */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/vec.h"
#include "sync/session.h"

#include <stdbool.h>
#include <stdint.h>

enum health { HEALTH_NOT_APPLICABLE, HEALTH_HEALTHY, HEALTH_WARNING, HEALTH_CRITICAL };
const char *health_name(enum health health);

/* Older than the RPO target is worth a warning; older than this is critical. Never within a minute:
 * a link may hiccup. */
#define HEALTH_CRITICAL_TIMES 5
#define HEALTH_CRITICAL_MS(rpo) \
    (HEALTH_CRITICAL_TIMES * (rpo) > 60000 ? HEALTH_CRITICAL_TIMES * (rpo) : 60000)

struct health_reason {
    enum health level; /* HEALTH_HEALTHY: a note, worth saying and no fault */
    char code[32];     /* for programs: "point-too-old" */
    int64_t since_ms;  /* wall clock; 0: whoever shows it knows since when it was seen */
    char reason[768];  /* one line with names and numbers */
    char hint[384];    /* what to do; "" */
};
VEC_DEFINE(health_reasons, struct health_reason)

/* Appends one. A part of the text after "; hint: " is its hint. A time after `now` is not taken. */
void health_add(struct health_reasons *list, enum health level, const char *code, int64_t since_ms,
                const char *fmt, ...) PRINTF_LIKE(5, 6);

/* Everything is borrowed. Texts that are not known: "". */
struct health_of {
    const char *name;
    const char *peer;
    const char *recovers_at;   /* the site that holds the replica, and runs its failovers */
    const char *machine_state; /* state_protection.state */
    int64_t state_since_ms;
    int64_t now_ms;            /* wall clock */
    int64_t rpo_ms;            /* the target */
    int64_t durable_age_ms;    /* -1: no point yet */
    int64_t recreated_ms;      /* as in struct job_settings */
    const char *fence_problem; /* it stands still, but could not be put away */
    int64_t marked_ms; /* when this site learned that it was held or promoted elsewhere; 0 */
    uint64_t promoted;
    bool recovered;         /* this site holds the replica: failed over means it is here */
    bool runs_twice;        /* runs here though it was promoted at the peer, as `promoted` */
    int64_t clock_apart_ms; /* of the peer's, ahead of ours; looked at with clock_since_ms not 0 */
    int64_t clock_since_ms;
    const struct session_status *status; /* of what is sent from here; NULL: not sent */
    const struct err *unread;            /* why the replica here cannot be read; NULL: it can */
    const json_t *seen;                  /* group.observe of the replica here; NULL */
    int64_t verify_ms;   /* in which all of the replica here is to be read; 0: by hand only */
    const json_t *tests; /* names of the test runs that use the replica here; NULL */
};
/* Adds every reason there is, worst first, and says the worst: healthy without any. */
enum health health_tell(const struct health_of *of, struct health_reasons *list);
/* [{level: "critical"|"warning"|"note", code, reason, since_ms, hint}] */
json_t *health_reasons_json(const struct health_reasons *list);
