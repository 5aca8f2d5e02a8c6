// SPDX-License-Identifier: Apache-2.0
#include "api/api_health.h"

#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *health_name(enum health health)
{
    static const char *const names[] = {
        [HEALTH_NOT_APPLICABLE] = "not-applicable",
        [HEALTH_HEALTHY] = "healthy",
        [HEALTH_WARNING] = "warning",
        [HEALTH_CRITICAL] = "critical",
    };

    return names[health];
}

/* States in which there is no replication that could be healthy. */
static const char *const moved_states[] = {
    "unprotected", "failed-over", "committing", "rolling-back", "changing-point",
    "retired",     "disabling",   "kept",       NULL,
};
/* States on the way to the first point: no point yet is no fault. */
static const char *const early_states[] = {"enabling", "initial-copy", "finalizing", NULL};

/* After a failover: the machine works, and nothing is sent, or not yet. %s: its name. */
static const struct {
    const char *state;
    enum health health;
    const char *reason;
} after_states[] = {
    {"committed", HEALTH_WARNING,
     "committed, and not protected yet; `muster jobs` shows why, `muster reprotect %s` tries again"},
    {"reprotecting", HEALTH_WARNING,
     "the other side becomes the replica of %s, which is not protected meanwhile; `muster jobs` "
     "shows how far that is"},
    {"reprotecting-failed", HEALTH_CRITICAL,
     "the other side did not become the replica; `muster jobs` shows why; mend that, then `muster "
     "reprotect %s` where it runs"},
    {"rolling-back-failed", HEALTH_CRITICAL,
     "the rollback failed; `muster run list` shows why; mend that, then `muster rollback %s`"},
    {"changing-point-failed", HEALTH_CRITICAL,
     "the change of the point failed; `muster run list` shows why; then `muster change-point %s`, "
     "commit, or roll back"},
};

/* What a session's state says by itself; the RPO may say worse. */
static const struct {
    const char *session;
    enum health health;
    const char *reason;
} sessions[] = {
    {"critical", HEALTH_CRITICAL, "replication has stopped and needs a person"},
    {"fenced", HEALTH_NOT_APPLICABLE, "the replica was promoted: this side may not write any more"},
    {"paused", HEALTH_WARNING, "replication is paused"},
    {"backing-off", HEALTH_WARNING, "replication failed and is tried again"},
    {"resyncing", HEALTH_WARNING, "tracking was lost: the replica is compared and brought up"},
};

static bool is_one_of(const char *const *states, const char *state)
{
    for (; *states; states++)
        if (str_eq(*states, state))
            return true;
    return false;
}

static enum health by_age(const struct health_of *of, char *ret_reason, size_t len)
{
    char age[32], limit[32];
    int64_t warning = HEALTH_WARNING_MS(of->interval_ms);
    int64_t critical = HEALTH_CRITICAL_MS(of->interval_ms);
    int64_t passed = of->durable_age_ms > critical ? critical : warning;

    if (of->durable_age_ms < 0) {
        (void)snprintf(ret_reason, len, "there is no point yet");
        return HEALTH_CRITICAL;
    }
    if (of->durable_age_ms <= warning)
        return HEALTH_HEALTHY;
    (void)snprintf(ret_reason, len, "the newest point is %s old, more than %s",
                   str_duration(of->durable_age_ms, age, sizeof(age)),
                   str_duration(passed, limit, sizeof(limit)));
    return passed == critical ? HEALTH_CRITICAL : HEALTH_WARNING;
}

/* A session in trouble says more. */
static bool after_failover(const struct health_of *of, enum health *ret_health, char *ret_reason,
                           size_t len)
{
    const char *format = NULL;

    if (str_eq(of->session, "critical") || str_eq(of->session, "backing-off"))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(after_states); i++) {
        if (!str_eq(after_states[i].state, of->machine_state))
            continue;
        *ret_health = after_states[i].health;
        format = after_states[i].reason;
    }
    if (!format)
        return false;
    const char *at = strstr(format, "%s");
    (void)snprintf(ret_reason, len, "%.*s%s%s", (int)(at - format), format, of->name, at + 2);
    return true;
}

enum health health_tell(const struct health_of *of, char *ret_reason, size_t len)
{
    char none[1], age_reason[160] = "";
    enum health aged;
    bool early;

    if (!ret_reason) {
        ret_reason = none;
        len = sizeof(none);
    }
    ret_reason[0] = '\0';
    if (of->fence_problem && *of->fence_problem) {
        (void)snprintf(ret_reason, len,
                       "failed over to %s, stopped here for good, but its last writes are not yet "
                       "kept as a branch: %s",
                       of->peer, of->fence_problem);
        return HEALTH_CRITICAL;
    }
    if (of->runs_twice) {
        (void)snprintf(ret_reason, len,
                       "runs here although it was failed over to %s (generation %" PRIu64
                       "): it is there twice; stop it: `muster machine stop %s --force`",
                       of->peer, of->promoted, of->name);
        return HEALTH_CRITICAL;
    }
    if (str_eq(of->machine_state, "failing-over") && !str_eq(of->session, "fenced")) {
        (void)snprintf(ret_reason, len,
                       "held for a failover, it is not protected meanwhile; if its run is over, "
                       "start it again at %s, or `muster run cancel` there",
                       of->recovers_at);
        return HEALTH_WARNING;
    }
    if (after_failover(of, &aged, ret_reason, len))
        return aged;
    if (of->recovered && str_eq(of->machine_state, "failed-over"))
        (void)snprintf(ret_reason, len,
                       "awaits its commit, and is not protected meanwhile: `muster commit %s`",
                       of->name);
    if (is_one_of(moved_states, of->machine_state))
        return HEALTH_NOT_APPLICABLE;
    early = is_one_of(early_states, of->machine_state);
    for (size_t i = 0; i < ARRAY_LEN(sessions); i++) {
        if (!str_eq(sessions[i].session, of->session))
            continue;
        (void)snprintf(ret_reason, len, "%s", sessions[i].reason);
        if (sessions[i].health != HEALTH_WARNING || early)
            return sessions[i].health;
        aged = by_age(of, age_reason, sizeof(age_reason));
        return aged > HEALTH_WARNING ? aged : HEALTH_WARNING;
    }
    return early ? HEALTH_NOT_APPLICABLE : by_age(of, ret_reason, len);
}
