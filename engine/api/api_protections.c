// SPDX-License-Identifier: Apache-2.0
#include "api/api_status.h"
#include "api/api_tables.h"
#include "base/mem.h"
#include "run/job.h"
#include "sites/estate.h"
#include "state/state.h"
#include "sync/scheduler.h"
#include "sync/session.h"

#include <inttypes.h>

#define OBSERVE_MS 10000

/* --- Listing ------------------------------------------------------------------------------- */

static int row_entry(const struct state_protection *row, json_t **ret_entry, struct err *err)
{
    struct job_settings settings;

    if (job_settings_parse(row->settings, &settings, err) < 0)
        return err_wrap(err, "protection %s", row->group);
    *ret_entry = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I}", "name", row->group, "role",
                           row->role, "peer", row->peer, "state", row->state, "since_ms",
                           (json_int_t)row->since_ms, "generation", (json_int_t)row->generation,
                           "recreated_ms", (json_int_t)settings.recreated_ms);
    policy_put(&settings.policy, *ret_entry);
    (void)json_object_set_new(*ret_entry, "rpo_target_ms",
                              json_integer((json_int_t)policy_rpo_ms(&settings.policy)));
    return 0;
}

/* When the run of that name ("lyon-7") was declared; 0: its row is not here. */
static int64_t run_since(const struct api_world *world, const char *run)
{
    CLEANUP(state_run_done) struct state_run row = {0};
    const char *dash = strrchr(run, '-');
    struct err none = ERR_EMPTY;
    uint64_t id = 0;

    if (!dash || !str_to_u64(dash + 1, &id)
        || state_run_get(world->state, (int64_t)id, &row, &none) < 0)
        return 0;
    return row.declared_ms;
}

/* The test runs that have machines of these groups up here. */
static int add_tests(const struct api_world *world, json_t *list, struct err *err)
{
    CLEANUP(state_instances_done) struct state_instances instances = VEC_EMPTY;
    json_t *entry;
    size_t i;

    if (state_instance_list(world->state, &instances, err) < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        json_t *tests = json_array();

        VEC_FOREACH(instance, &instances)
            if (instance->test && str_eq(instance->group, json_get_str(entry, "name", "")))
                (void)json_array_append_new(
                    tests, json_pack("{s:s, s:I}", "run", instance->run, "since_ms",
                                     (json_int_t)run_since(world, instance->run)));
        (void)json_object_set_new(entry, "tests", tests);
    }
    return 0;
}

static int entries(const struct api_world *world, const char *name, json_t **ret_in,
                   struct err *err)
{
    struct state_protections rows = VEC_EMPTY;
    json_t *list;
    int rc = 0;

    if (state_protection_list(world->state, &rows, err) < 0)
        return -1;
    list = json_array();
    VEC_FOREACH(row, &rows) {
        json_t *entry = NULL;

        if (rc < 0 || (name && !str_eq(name, row->group)))
            continue;
        rc = row_entry(row, &entry, err);
        if (rc == 0)
            (void)json_array_append_new(list, entry);
    }
    state_protections_done(&rows);
    if (rc < 0 || add_tests(world, list, err) < 0) {
        json_decref(list);
        return -1;
    }
    *ret_in = json_pack("{s:o}", "protections", list);
    return 0;
}

static int list_protections(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *in;

    (void)ret_reply;
    if (entries(api_world_of(req), NULL, &in, err) < 0)
        return -1;
    return api_defer(req, in, OBSERVE_MS, api_status_work, api_status_finish);
}

/* ERR_NOT_FOUND names the nearest protection. */
static int need_protection(const struct api_world *world, const char *name,
                           struct state_protection *ret_row, struct err *err)
{
    struct state_protections rows = VEC_EMPTY;
    const char **words;
    const char *near;

    if (state_protection_get(world->state, name, ret_row, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND || state_protection_list(world->state, &rows, err) < 0)
        return -1;
    words = mem_new_array(const char *, rows.len + 1);
    for (size_t i = 0; i < rows.len; i++)
        words[i] = rows.at[i].group;
    near = str_nearest(name, words);
    if (near)
        err_put(err, ERR_NOT_FOUND, 0, "%s is not protected; hint: did you mean \"%s\"?", name,
                near);
    else
        err_put(err, ERR_NOT_FOUND, 0, "%s is not protected; hint: `muster status` lists what is",
                name);
    mem_freep(&words);
    state_protections_done(&rows);
    return -1;
}

static int show_protection(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    json_t *in;

    (void)ret_reply;
    if (need_protection(world, api_param(req, "name"), &row, err) < 0
        || entries(world, row.group, &in, err) < 0)
        return -1;
    return api_defer(req, in, OBSERVE_MS, api_status_work, api_status_finish_one);
}

/* --- Points -------------------------------------------------------------------------------- */

/* The peer's answer, with what it is about; a hint that is there already is a better one. */
static int not_answered(const char *name, const char *peer, struct err *err)
{
    const struct err cause = *err;

    if (strstr(cause.text, "; hint: "))
        return err_wrap(err, "the points of %s are kept at %s", name, peer);
    return err_set(err, cause.code, 0,
                   "the points of %s are kept at %s: %.700s; hint: try again when %s answers, or "
                   "ask there: `muster points %s`",
                   name, peer, cause.text, peer, name);
}

/* All pages, as one list. */
static int all_points(struct site *site, const char *name, json_t *ret_points,
                      struct cancel *cancel, struct err *err)
{
    uint64_t before = 0;
    bool more = true;

    while (more) {
        CLEANUP(json_freep) json_t *page = NULL;

        if (site_ask(site, "group.points",
                     json_pack("{s:s, s:I}", "group", name, "before", (json_int_t)before), &page,
                     cancel, err)
            < 0)
            return -1;
        const json_t *points = json_object_get(page, "points");
        (void)json_array_extend(ret_points, json_object_get(page, "points"));
        before = json_get_u64(json_array_get(points, json_array_size(points) - 1), "point", 0);
        more = json_get_bool(page, "more", false) && before > 0;
    }
    return 0;
}

/* Where the replica is: here, or at the peer, which says the same in the same words. */
static int points_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                       struct cancel *cancel, struct err *err)
{
    const char *name = json_get_str(in, "name", "");
    const char *peer = json_get_str(in, "peer", "");
    CLEANUP(json_freep) json_t *points = json_array();
    CLEANUP(site_closep)
    struct site *site =
        *peer ? site_remote_new(world->estate, peer) : site_local_new(world->estate);

    if (all_points(site, name, points, cancel, err) < 0)
        return *peer ? not_answered(name, peer, err) : -1;
    *ret_out = json_pack("{s:s, s:O}", "name", name, "points", points);
    return 0;
}

static int list_points(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    (void)ret_reply;
    if (need_protection(api_world_of(req), api_param(req, "name"), &row, err) < 0)
        return -1;
    bool here = str_eq(row.role, "replica");
    return api_defer(req, json_pack("{s:s, s:s}", "name", row.group, "peer", here ? "" : row.peer),
                     OBSERVE_MS, points_work, NULL);
}

/* --- Protecting ---------------------------------------------------------------------------- */

static int protect(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const json_t *in = api_in(req);
    struct job_protect spec = {
        .machine = json_get_str(in, "machine", ""),
        .peer = json_get_str(in, "peer", ""),
        .who = api_who(req),
    };
    int64_t job;

    policy_init(&spec.policy);
    if (policy_from_json(in, &spec.policy, err) < 0
        || jobs_protect(api_world_of(req)->jobs, &spec, &job, err) < 0
        || api_audit(req, "protection.add", spec.machine, spec.peer, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "job", (json_int_t)job);
    return 0;
}

static int unprotect(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const json_t *in = api_in(req);
    const struct job_unprotect spec = {
        .machine = api_param(req, "name"),
        .keep = json_get_bool(in, "keep_replica", false),
        .force = json_get_bool(in, "force", false),
        .who = api_who(req),
    };
    int64_t job;

    if (jobs_unprotect(api_world_of(req)->jobs, &spec, &job, err) < 0
        || api_audit(req, "protection.remove", spec.machine, spec.force ? "force" : NULL, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "job", (json_int_t)job);
    return 0;
}

static int reprotect(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const struct job_reprotect spec = {
        .machine = api_param(req, "name"),
        .accept_branch = json_get_bool(api_in(req), "accept_branch", false),
        .who = api_who(req),
    };
    int64_t job;

    if (jobs_reprotect(api_world_of(req)->jobs, &spec, &job, err) < 0
        || api_audit(req, "protection.reprotect", spec.machine,
                     spec.accept_branch ? "accept branch" : NULL, err)
               < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "job", (json_int_t)job);
    return 0;
}

/* --- Turning knobs ------------------------------------------------------------------------- */

/* The session this site sends `name` by; estate_session_put it. NULL with an error. */
static struct session *need_session(const struct api_request *req, const char *name,
                                    struct state_protection *ret_row, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    struct session *session;

    if (need_protection(world, name, ret_row, err) < 0)
        return NULL;
    if (str_eq(ret_row->role, "replica")) {
        err_put(err, ERR_STATE, 0, "%s is sent from %s; hint: say it there", name, ret_row->peer);
        return NULL;
    }
    session = estate_session_get(world->estate, name);
    if (!session)
        err_put(err, ERR_STATE, 0, "%s is not being sent: it is %s", name, ret_row->state);
    return session;
}

static void done_with(const struct api_request *req, const char *name, struct session *session)
{
    const struct api_world *world = api_world_of(req);

    scheduler_kick(world->scheduler, session);
    estate_session_put(world->estate, name);
}

static int retry(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct session *session = need_session(req, name, &row, err);

    (void)ret_reply;
    if (!session)
        return -1;
    session_retry(session);
    estate_fence_retry(api_world_of(req)->estate, name);
    done_with(req, name, session);
    return api_audit(req, "protection.retry", name, NULL, err);
}

static int resync(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_protection_done) struct state_protection row = {0};
    bool now = json_get_bool(api_in(req), "now", false);
    struct session *session = need_session(req, name, &row, err);
    struct session_status status;
    int64_t at = 0;

    if (!session)
        return -1;
    int rc = session_resync(session, now, &at, err);
    session_status(session, &status);
    done_with(req, name, session);
    if (rc < 0)
        return -1;
    *ret_reply = json_pack("{s:I, s:b, s:b}", "at_ms", (json_int_t)at, "now",
                           at <= api_world_of(req)->clock->wall_ms(api_world_of(req)->clock),
                           "paused", status.paused);
    return api_audit(req, "protection.resync", name, now ? "now" : NULL, err);
}

/* A failover's hold is not ours to lift. */
static int check_not_held(const struct api_request *req, const char *name, struct err *err)
{
    struct estate_mark mark;

    if (estate_mark_read(api_world_of(req)->estate, name, &mark, err) < 0)
        return -1;
    if (mark.retired)
        return err_set(err, ERR_FENCED, 0,
                       "%s was failed over: generation %" PRIu64 " writes at the other site", name,
                       mark.retired);
    if (mark.held[0])
        return err_set(err, ERR_STATE, 0, "%s is held by run %s; hint: end that run first", name,
                       mark.held);
    return 0;
}

static int set_paused(struct api_request *req, bool paused, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct session *session = need_session(req, name, &row, err);

    if (!session)
        return -1;
    if (!paused && check_not_held(req, name, err) < 0) {
        estate_session_put(api_world_of(req)->estate, name);
        return -1;
    }
    session_pause(session, paused);
    done_with(req, name, session);
    return api_audit(req, paused ? "protection.pause" : "protection.resume", name, NULL, err);
}

static int pause_protection(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    return set_paused(req, true, err);
}

static int resume_protection(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    return set_paused(req, false, err);
}

static int change_settings(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct job_settings settings;
    struct session *session;
    int64_t job = 0;
    int rc;

    if (job_settings_check(api_in(req), err) < 0)
        return -1;
    session = need_session(req, name, &row, err);
    if (!session)
        return -1;
    rc = job_settings_parse(row.settings, &settings, err);
    if (rc == 0)
        rc = policy_from_json(api_in(req), &settings.policy, err);
    if (rc == 0)
        rc = job_settings_change(&row.settings, &settings.policy, err);
    if (rc == 0)
        rc = state_protection_put(api_world_of(req)->state, &row, err);
    if (rc == 0)
        rc = jobs_copy_settings(api_world_of(req)->jobs, name, row.peer, api_who(req), &job, err);
    if (rc == 0)
        session_set_policy(session, &settings.policy);
    done_with(req, name, session);
    if (rc < 0 || api_audit(req, "protection.change", name, row.settings, err) < 0)
        return -1;
    *ret_reply = policy_to_json(&settings.policy);
    (void)json_object_set_new(*ret_reply, "job", json_integer((json_int_t)job));
    return 0;
}

const struct api_route *api_routes_protections(void)
{
    static const struct api_field protect_fields[] = {
        {"machine", API_NAME, true, "a machine of this site"},
        {"peer", API_NAME, true, "the paired site that is to keep its replica"},
        {"interval_ms", API_NUMBER, false, "from point to point, 1000 to 86400000; 15000"},
        {"keep", API_NUMBER, false, "how many points the replica keeps, 1 to 10000; 24"},
        {"compression", API_TEXT, false, "`none`, `zstd` or `lz4`; `zstd`"},
        {0},
    };
    static const struct api_field unprotect_fields[] = {
        {"force", API_BOOL, false, "go on when the other site does not answer"},
        {"keep_replica", API_BOOL, false, "the replica stays at the other site, as it is"},
        {0},
    };
    static const struct api_field settings_fields[] = {
        {"interval_ms", API_NUMBER, false, "from point to point, 1000 to 86400000"},
        {"keep", API_NUMBER, false, "how many points the replica keeps, 1 to 10000"},
        {0},
    };
    static const struct api_field resync_fields[] = {
        {"now", API_BOOL, false, "at once, not in the policy's window"},
        {0},
    };
    static const struct api_field reprotect_fields[] = {
        {"accept_branch", API_BOOL, false,
         "the other site may have writes of its own: they stay there, as a branch"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/protections", list_protections, "Lists protections with their status.",
         "`{protections: [{name, role, peer, state, since_ms, generation, interval_ms, keep, "
         "compression, recreated_ms, rpo_target_ms, tests: [{run, since_ms}], health, health_reasons: [{level, code, reason, since_ms, hint}], durable_point, durable_cut_ms, durable_age_ms, "
         "applied_point, applied_cut_ms, applied_age_ms}]}`. Ages are -1 without a point; the RPO "
         "now is `durable_age_ms` (what is safe) and `applied_age_ms` (what is ready). `recreated_ms` is "
         "when its rows were made again, their database being lost. `health_reasons` lists every cause there is, worst first: `level` is "
         "`critical`, `warning` or `note` (no fault), `code` is for programs, `hint` may be \"\"; `health` is the worst of them. `tests` are "
         "test runs whose machines are up here. A `source` "
         "has besides: `session`, `pending_bytes` (-1: held or failed over, nobody counts), `rate_per_s`, `sent_bytes`, `last_bytes`, "
         "`last_cycle_ms`, `last_stall_us`, `next_cut_ms`, `note`, `disks: [{name, size, total, "
         "done, pending_bytes}]` with `left_ms`, while a comparison is required or under way `resync: "
         "{cause: \"tracking-lost\"|\"log-too-large\"|\"asked\", now, waits, since_ms, next_ms, why}` "
         "(`next_ms` 0: by hand), when changes come faster than they are sent `not_converging: "
         "{since_ms, changed_per_s, sent_per_s, advice}`, and, after a failure, `error: {code, message, hint}`, "
         "`error_since_ms`, `retry_at_ms`, `failures`. A `replica` has `store`",
         NULL},
        {"POST", "/v1/protections", protect,
         "Protects a machine: checks, copies, keeps it current.", "`{job}`", protect_fields},
        {"GET", "/v1/protections/{name}", show_protection, "Shows one protection.",
         "as an entry of the list", NULL},
        {"DELETE", "/v1/protections/{name}", unprotect, "Ends a protection.", "`{job}`",
         unprotect_fields},
        {"POST", "/v1/protections/{name}/reprotect", reprotect,
         "Protects a committed machine again, in the other direction.", "`{job}`",
         reprotect_fields},
        {"GET", "/v1/protections/{name}/points", list_points,
         "Lists the points of a replica, newest first; at the site that sends it, its peer is asked.",
         "`{name, points: [{point, generation, cut_ms, received_ms, age_ms, consistency, applied, "
         "pinned, promotion, label, bytes, hash}]}`; ages by the clock of the site that keeps them",
         NULL},
        {"POST", "/v1/protections/{name}/retry", retry, "Tries again now, whatever stopped it.",
         "`{}`", NULL},
        {"POST", "/v1/protections/{name}/resync", resync,
         "Compares all of the disks with the replica, and sends what differs as one point.",
         "`{at_ms, now, paused}`: when it begins, or goes on; `paused`: not before `resume`",
         resync_fields},
        {"POST", "/v1/protections/{name}/pause", pause_protection, "Makes no more points.", "`{}`",
         NULL},
        {"POST", "/v1/protections/{name}/resume", resume_protection, "Makes points again.", "`{}`",
         NULL},
        {"PUT", "/v1/protections/{name}/settings", change_settings,
         "Changes how often points are made and how many are kept.",
         "`{interval_ms, keep, job}`; that job tells the peer, as soon as it answers",
         settings_fields},
        {0},
    };

    return routes;
}
