// SPDX-License-Identifier: Apache-2.0
/* Once a minute: a replica that is kept here, and whose policy says so, has the next part of it read and
 * compared, by a job like any other, which rests more than it works. One at a time at this site: disks
 * have other things to do. What is due stands beside the replica (sites/verified.h), so a restart
 * shifts nothing. A part that fails to be read is tried again in an hour. */
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"
#include "sites/verified.h"

#define EVERY_MS INT64_C(60000)
#define AGAIN_MS INT64_C(3600000)
#define FIRST_MS INT64_C(5000)

struct look {
    struct pool_job base; /* first */
    struct daemon *daemon;
    json_t *groups; /* name -> {verify_ms, parts}; then {due} besides */
};

/* What is read may lie on a disk that is asleep. */
static void run(struct pool_job *base)
{
    struct look *look = (struct look *)base;
    struct clock *clock = look->daemon->clock;
    const char *name;
    json_t *group;

    json_object_foreach(look->groups, name, group) {
        CLEANUP(json_freep) json_t *verified = verified_read(look->daemon->estate, name);
        uint32_t due =
            verified_due(verified, (int64_t)json_get_u64(group, "verify_ms", 0),
                         (uint32_t)json_get_u64(group, "parts", 1), clock->wall_ms(clock));
        (void)json_object_set_new(group, "due", json_integer((json_int_t)due));
    }
}

static bool was_tried(const struct daemon *daemon, const char *name, int64_t now)
{
    const json_t *at = json_object_get(daemon->verify_tried, name);

    return at && now - json_integer_value(at) < AGAIN_MS;
}

/* True: it was begun. */
static bool begin(struct daemon *daemon, const char *name, const json_t *group)
{
    uint64_t parts = json_get_u64(group, "parts", 1);
    const struct job_verify spec = {
        .machine = name,
        .subset = parts > 1 ? json_get_u64(group, "due", 0) : 0,
        .of = parts > 1 ? parts : 0,
        .gently = true,
        .who = "policy",
    };
    struct err err = ERR_EMPTY;
    int64_t job;

    if (jobs_verify(daemon->jobs, &spec, &job, &err) == 0)
        return true;
    if (err.code != ERR_STATE) /* somebody reads it by hand */
        log_warn("daemon", "not verified group=%s error=\"%s\"", name, err.text);
    return false;
}

static void schedule(void *ctx);

static void done(struct pool_job *base)
{
    struct look *look = (struct look *)base;
    struct daemon *daemon = look->daemon;
    int64_t now = daemon->clock->now_ms(daemon->clock);
    bool busy = cancel_is_fired(daemon->stop);
    const char *name;
    json_t *group;

    json_object_foreach(look->groups, name, group) {
        if (busy || json_get_u64(group, "due", 0) == 0 || was_tried(daemon, name, now))
            continue;
        (void)json_object_set_new(daemon->verify_tried, name, json_integer(now));
        busy = begin(daemon, name, group);
    }
    json_decref(look->groups);
    cancel_free(base->cancel);
    free(look);
    if (!cancel_is_fired(daemon->stop))
        (void)loop_timer(daemon->loop, EVERY_MS, schedule, daemon);
}

static void add_group(const struct state_protection *row, json_t *groups)
{
    struct job_settings settings;
    struct err err = ERR_EMPTY;

    if (!str_eq(row->role, "replica") || !str_eq(row->state, "protected")
        || job_settings_parse(row->settings, &settings, &err) < 0 || settings.policy.verify_ms == 0)
        return;
    (void)json_object_set_new(groups, row->group,
                              json_pack("{s:I, s:I}", "verify_ms",
                                        (json_int_t)settings.policy.verify_ms, "parts",
                                        (json_int_t)policy_verify_parts(&settings.policy)));
}

static bool one_is_at_it(struct daemon *daemon)
{
    CLEANUP(state_jobs_done) struct state_jobs rows = VEC_EMPTY;
    struct err err = ERR_EMPTY;

    if (state_job_list(daemon->state, true, &rows, &err) < 0)
        return true;
    VEC_FOREACH(row, &rows)
        if (str_eq(row->kind, "verify") && str_eq(row->who, "policy"))
            return true;
    return false;
}

static void schedule(void *ctx)
{
    struct daemon *daemon = ctx;
    CLEANUP(state_protections_done) struct state_protections rows = VEC_EMPTY;
    struct look *look = mem_new(struct look);
    struct err err = ERR_EMPTY;

    look->base = (struct pool_job){.run = run, .done = done};
    look->base.cancel = cancel_new(daemon->clock, daemon->stop, CANCEL_NEVER);
    look->daemon = daemon;
    look->groups = json_object();
    if (state_protection_list(daemon->state, &rows, &err) < 0)
        log_error("daemon", "verify error=\"%s\"", err.text);
    else if (!one_is_at_it(daemon))
        VEC_FOREACH(row, &rows)
            add_group(row, look->groups);
    pool_submit(daemon->pool, &look->base);
}

void daemon_verify(struct daemon *daemon)
{
    daemon->verify_tried = json_object();
    (void)loop_timer(daemon->loop, FIRST_MS, schedule, daemon);
}
