// SPDX-License-Identifier: Apache-2.0
#include "api/api_health.h"

#include "base/mem.h"
#include "base/str.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define RECREATED_MS (24 * 3600 * 1000)
#define HINT         "; hint: "

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

/* --- The list -------------------------------------------------------------------------------- */

void health_add(struct health_reasons *list, enum health level, const char *code, int64_t since_ms,
                const char *fmt, ...)
{
    struct health_reason *reason = health_reasons_push(list);
    char text[sizeof(reason->reason) + sizeof(reason->hint)];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    char *hint = strstr(text, HINT);
    if (hint) {
        *hint = '\0';
        (void)snprintf(reason->hint, sizeof(reason->hint), "%.*s", (int)sizeof(reason->hint) - 1,
                       hint + strlen(HINT));
    }
    (void)snprintf(reason->reason, sizeof(reason->reason), "%.*s", (int)sizeof(reason->reason) - 1,
                   text);
    (void)snprintf(reason->code, sizeof(reason->code), "%s", code);
    reason->level = level;
    reason->since_ms = since_ms;
}

/* Worst first; of two as bad, the one that was added first. */
static void sort(struct health_reasons *list)
{
    for (size_t i = 1; i < list->len; i++) {
        struct health_reason moved = list->at[i];
        size_t to = i;

        for (; to > 0 && list->at[to - 1].level < moved.level; to--)
            list->at[to] = list->at[to - 1];
        list->at[to] = moved;
    }
}

json_t *health_reasons_json(const struct health_reasons *list)
{
    json_t *json = json_array();

    VEC_FOREACH(reason, list)
        (void)json_array_append_new(
            json, json_pack("{s:s, s:s, s:s, s:I, s:s}", "level",
                            reason->level > HEALTH_HEALTHY ? health_name(reason->level) : "note",
                            "code", reason->code, "reason", reason->reason, "since_ms",
                            (json_int_t)reason->since_ms, "hint", reason->hint));
    return json;
}

/* --- States ---------------------------------------------------------------------------------- */

static bool is_one_of(const char *const *states, const char *state)
{
    for (; *states; states++)
        if (str_eq(*states, state))
            return true;
    return false;
}

/* States in which there is no replication that could be healthy. */
static bool is_moved(const struct health_of *of)
{
    static const char *const states[] = {
        "unprotected", "failed-over", "committing", "rolling-back", "changing-point",
        "retired",     "disabling",   "kept",       NULL,
    };

    return is_one_of(states, of->machine_state);
}

/* On the way to the first point: no point yet is no fault. */
static bool is_early(const struct health_of *of)
{
    static const char *const states[] = {"enabling", "initial-copy", "finalizing", NULL};

    return is_one_of(states, of->machine_state);
}

static bool is_in(const struct health_of *of, enum session_state state)
{
    return of->status && of->status->state == state;
}

static bool is_held(const struct health_of *of)
{
    return str_eq(of->machine_state, "failing-over") && !is_in(of, SESSION_FENCED);
}

/* --- After a failover ------------------------------------------------------------------------ */

/* The machine works, and nothing is sent, or not yet. `%s`: its name. */
static const struct after_state {
    const char *state;
    enum health health;
    const char *reason;
    const char *hint_before;
    const char *hint_after;
} after_states[] = {
    {"committed", HEALTH_WARNING, "committed, and not protected yet",
     "`muster jobs` shows why, `muster reprotect ", "` tries again"},
    {"reprotecting", HEALTH_WARNING,
     "the other side becomes the replica, the machine is not protected meanwhile",
     "`muster jobs` shows how far that is", NULL},
    {"reprotecting-failed", HEALTH_CRITICAL, "the other side did not become the replica",
     "`muster jobs` shows why; mend that, then `muster reprotect ", "` where it runs"},
    {"rolling-back-failed", HEALTH_CRITICAL, "the rollback failed",
     "`muster run list` shows why; mend that, then `muster rollback ", "`"},
    {"changing-point-failed", HEALTH_CRITICAL, "the change of the point failed",
     "`muster run list` shows why; then `muster change-point ", "`, commit, or roll back"},
};

static const struct after_state *after_state(const struct health_of *of)
{
    for (size_t i = 0; i < ARRAY_LEN(after_states); i++)
        if (str_eq(after_states[i].state, of->machine_state))
            return &after_states[i];
    return NULL;
}

static void after_failover(const struct health_of *of, struct health_reasons *list)
{
    const struct after_state *after = after_state(of);

    if (after)
        health_add(list, after->health, after->state, of->state_since_ms, "%s" HINT "%s%s%s",
                   after->reason, after->hint_before, after->hint_after ? of->name : "",
                   after->hint_after ? after->hint_after : "");
    if (of->recovered && str_eq(of->machine_state, "failed-over"))
        health_add(list, HEALTH_HEALTHY, "awaits-commit", of->state_since_ms,
                   "awaits its commit, and is not protected meanwhile" HINT "`muster commit %s`",
                   of->name);
}

static void fence(const struct health_of *of, struct health_reasons *list)
{
    if (of->fence_problem && *of->fence_problem)
        health_add(list, HEALTH_CRITICAL, "branch-not-kept", of->marked_ms,
                   "failed over to %s, stopped here for good, but its last writes are not yet "
                   "kept as a branch: %s",
                   of->peer, of->fence_problem);
    if (of->runs_twice)
        health_add(list, HEALTH_CRITICAL, "runs-twice", of->marked_ms,
                   "runs here although it was failed over to %s (generation %" PRIu64
                   "): it is there twice" HINT "stop it: `muster machine stop %s --force`",
                   of->peer, of->promoted, of->name);
}

static void held(const struct health_of *of, struct health_reasons *list)
{
    if (is_held(of))
        health_add(list, HEALTH_WARNING, "held", of->state_since_ms,
                   "held for a failover, it is not protected meanwhile" HINT
                   "if its run is over, start it again at %s, or `muster run cancel` there",
                   of->recovers_at);
}

/* --- The session ----------------------------------------------------------------------------- */

/* An error's own hint is the better one. */
static void failure(const struct health_of *of, struct health_reasons *list, enum health level,
                    const char *code, const char *what)
{
    const struct err *error = &of->status->error;
    const char *hint = strstr(error->text, HINT) ? "" : HINT "`muster retry ";

    health_add(list, level, code, of->status->error_since_ms, "%s%s%s%s%s%s", what,
               error->code ? ": " : "", error->code ? error->text : "", hint, *hint ? of->name : "",
               *hint ? "` tries at once" : "");
}

static void session(const struct health_of *of, struct health_reasons *list)
{
    const struct session_status *status = of->status;

    if (!status || is_moved(of))
        return;
    if (status->state == SESSION_FENCED)
        health_add(list, HEALTH_HEALTHY, "fenced", status->error_since_ms,
                   "the replica was promoted: this side may not write any more");
    else if (status->state == SESSION_CRITICAL)
        failure(of, list, HEALTH_CRITICAL, "stopped", "replication has stopped and needs a person");
    else if (status->error.code != ERR_NONE || status->state == SESSION_BACKING_OFF)
        failure(of, list, HEALTH_WARNING, "failing",
                status->paused ? "replication failed before it was paused"
                               : "replication failed and is tried again");
    if (status->paused && !is_held(of))
        health_add(list, HEALTH_WARNING, "paused", status->paused_since_ms,
                   "replication is paused" HINT "`muster resume %s`", of->name);
}

/* A comparison with the replica: waited for, or under way. */
static void resync(const struct health_of *of, struct health_reasons *list)
{
    const struct session_status *status = of->status;
    char at[32];

    if (!status || is_moved(of) || after_state(of))
        return;
    const struct session_resync *resync = &status->resync;
    if (resync->waits && resync->cause == RESYNC_ASKED)
        health_add(list, HEALTH_HEALTHY, "resync-asked", resync->since_ms,
                   "it will be compared with its replica from %s on" HINT
                   "`muster resync %s --now` begins at once",
                   str_time(resync->next_ms, at, sizeof(at)), of->name);
    else if (resync->waits && resync->next_ms)
        health_add(list, HEALTH_WARNING, "resync-required", resync->since_ms,
                   "resynchronization required: %s; it goes on at %s" HINT
                   "`muster resync %s --now` begins at once",
                   resync->why, str_time(resync->next_ms, at, sizeof(at)), of->name);
    else if (resync->waits)
        health_add(list, HEALTH_WARNING, "resync-required", resync->since_ms,
                   "resynchronization required: %s; its policy starts none" HINT
                   "`muster resync %s`",
                   resync->why, of->name);
    else if (status->state == SESSION_RESYNCING)
        health_add(list, HEALTH_WARNING, "resyncing", resync->since_ms,
                   "the replica is compared and brought up: %s",
                   resync->why[0] ? resync->why : "tracking was lost");
}

/* The changes come faster than they are sent. */
static void lag(const struct health_of *of, struct health_reasons *list)
{
    const struct session_lag *lag = of->status ? &of->status->lag : NULL;
    char changed[32], sent[32];

    if (!lag || lag->since_ms == 0 || is_moved(of))
        return;
    health_add(list, HEALTH_WARNING, "not-converging", lag->since_ms,
               "not converging: %s/s change, %s/s get to %s; the replica stays at its last point "
               "for as long as each delta takes" HINT "%s",
               str_bytes(lag->changed_per_s, changed, sizeof(changed)),
               str_bytes(lag->sent_per_s, sent, sizeof(sent)), of->peer, lag->advice);
}

/* --- Points ---------------------------------------------------------------------------------- */

static void age(const struct health_of *of, struct health_reasons *list)
{
    char text[32], target[32];
    int64_t critical = HEALTH_CRITICAL_MS(of->rpo_ms);

    if (is_moved(of) || is_early(of) || is_held(of) || after_state(of) || is_in(of, SESSION_FENCED)
        || of->unread)
        return;
    if (of->durable_age_ms < 0) {
        health_add(list, HEALTH_CRITICAL, "no-point", of->state_since_ms, "there is no point yet");
        return;
    }
    if (of->durable_age_ms <= of->rpo_ms)
        return;
    bool far = of->durable_age_ms > critical;
    health_add(list, far ? HEALTH_CRITICAL : HEALTH_WARNING, "point-too-old",
               of->now_ms - of->durable_age_ms + of->rpo_ms,
               "the newest point is %s old, the RPO target is %s",
               str_duration(of->durable_age_ms, text, sizeof(text)),
               str_duration(of->rpo_ms, target, sizeof(target)));
}

/* Its points are there, and as new as they should be; but for what a crash leaves. */
static void application(const struct health_of *of, struct health_reasons *list)
{
    const struct session_status *status = of->status;
    char text[32];

    if (!status || is_moved(of) || is_early(of) || after_state(of)
        || status->application_failing_ms == 0)
        return;
    if (status->application_point == 0) {
        health_add(list, HEALTH_WARNING, "no-application-point", status->application_failing_ms,
                   "there is no application-consistent point yet: %s", status->application_note);
        return;
    }
    health_add(list, HEALTH_WARNING, "no-application-point", status->application_failing_ms,
               "the newest application-consistent point is %s old: %s",
               str_duration(status->application_age_ms, text, sizeof(text)),
               status->application_note);
}

/* A store that cannot be read is no replica to rely on. */
static void unread(const struct health_of *of, struct health_reasons *list)
{
    if (of->unread && !is_moved(of) && !is_early(of))
        health_add(list, HEALTH_CRITICAL, "replica-unreadable", 0, "the replica cannot be read: %s",
                   of->unread->text);
}

/* Of the replica, as its own site says it, or as it was heard last. */
static void damage(const struct health_of *of, struct health_reasons *list)
{
    const struct session_status *status = of->status;
    uint64_t head = status ? status->damaged_head : json_get_u64(of->seen, "damaged_head", 0);
    uint64_t past = status ? status->damaged_past : json_get_u64(of->seen, "damaged_past", 0);
    int64_t since =
        status ? status->damaged_since_ms : (int64_t)json_get_u64(of->seen, "damaged_since_ms", 0);

    if (is_moved(of) || is_early(of))
        return;
    if (head > 0)
        health_add(list, HEALTH_CRITICAL, "newest-point-damaged", since,
                   "%" PRIu64
                   " chunks of the replica's newest point are damaged: it is not promoted" HINT
                   "while the source lives, the next point brings them again; look at that"
                   " disk",
                   head);
    else if (past > 0)
        health_add(list, HEALTH_WARNING, "points-damaged", since,
                   "%" PRIu64 " chunks of older points of the replica are damaged" HINT
                   "`muster points %s` shows which are whole; look at that disk",
                   past, of->name);
}

/* What was never read may be rotten, and nobody knows. Half as long again as it may take. */
static void verified(const struct health_of *of, struct health_reasons *list)
{
    const json_t *seen = json_object_get(of->seen, "verified");
    int64_t whole = (int64_t)json_get_u64(seen, "whole_ms", 0);
    int64_t began = (int64_t)json_get_u64(json_object_get(seen, "pass"), "began_ms", 0);
    int64_t since = whole ? whole : began ? began : of->state_since_ms;
    uint64_t faults = json_get_u64(seen, "faults", 0);
    char a[32];
    char b[32];

    if (!of->seen || is_moved(of) || is_early(of))
        return;
    if (faults > 0)
        health_add(list, HEALTH_WARNING, "files-damaged", (int64_t)json_get_u64(seen, "at_ms", 0),
                   "%" PRIu64 " files of the replica were damaged when it was read last" HINT
                   "`muster verify %s` names them; look at that disk",
                   faults, of->name);
    if (of->verify_ms == 0 || of->now_ms - since <= of->verify_ms + of->verify_ms / 2)
        return;
    health_add(list, HEALTH_WARNING, "not-verified", since + of->verify_ms,
               "all of the replica %s%s, and should be read every %s" HINT
               "`muster verify %s` reads it now; `muster jobs` shows why it was not",
               whole ? "was read last before " : "was never read",
               whole ? str_duration(of->now_ms - whole, a, sizeof(a)) : "",
               str_duration(of->verify_ms, b, sizeof(b)), of->name);
}

/* Points are dated by the clock of the site that made them. */
static void clocks(const struct health_of *of, struct health_reasons *list)
{
    bool ahead = of->clock_apart_ms > 0;
    char text[32];

    if (of->clock_since_ms)
        health_add(
            list, is_moved(of) || is_early(of) ? HEALTH_HEALTHY : HEALTH_WARNING, "clocks-apart",
            of->clock_since_ms,
            "the clock of %s is %s %s ours: ages of points are wrong by that" HINT
            "set both by NTP",
            of->peer,
            str_duration(ahead ? of->clock_apart_ms : -of->clock_apart_ms, text, sizeof(text)),
            ahead ? "ahead of" : "behind");
}

static void tests(const struct health_of *of, struct health_reasons *list)
{
    const json_t *run;
    size_t i;

    json_array_foreach(of->tests, i, run)
        health_add(list, HEALTH_HEALTHY, "test-failover", (int64_t)json_get_u64(run, "since_ms", 0),
                   "a test failover of it is up: run %s" HINT "`muster cleanup %s` takes it away",
                   json_get_str(run, "run", ""), of->name);
}

/* For a day: whoever lost a database should hear what came of it. */
static void recreated(const struct health_of *of, struct health_reasons *list)
{
    if (of->recreated_ms == 0 || of->now_ms - of->recreated_ms > RECREATED_MS)
        return;
    health_add(list, is_moved(of) || is_early(of) ? HEALTH_HEALTHY : HEALTH_WARNING, "recreated",
               of->recreated_ms,
               "its rows were missing from state.db and were made again; runs, plans and the audit "
               "log of before are not there");
}

/* --- All of it ------------------------------------------------------------------------------- */

enum health health_tell(const struct health_of *of, struct health_reasons *list)
{
    static void (*const causes[])(const struct health_of *of, struct health_reasons *list) = {
        fence, held,     session,     resync,         lag,       unread, damage,
        age,   verified, application, after_failover, recreated, clocks, tests,
    };
    bool none = is_moved(of) || is_early(of) || is_in(of, SESSION_FENCED);

    for (size_t i = 0; i < ARRAY_LEN(causes); i++)
        causes[i](of, list);
    VEC_FOREACH(reason, list)
        if (reason->since_ms > of->now_ms)
            reason->since_ms = of->now_ms;
    sort(list);
    if (list->len > 0 && list->at[0].level > HEALTH_HEALTHY)
        return list->at[0].level;
    return none ? HEALTH_NOT_APPLICABLE : HEALTH_HEALTHY;
}
