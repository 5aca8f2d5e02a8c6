// SPDX-License-Identifier: Apache-2.0
#include "api/api_protected.h"
#include "api/api_status.h"
#include "api/api_tables.h"
#include "base/mem.h"
#include "run/policies.h"
#include "sites/estate.h"
#include "state/state.h"
#include "sync/policy_fields.h"
#include "sync/scheduler.h"
#include "sync/session.h"

#include <inttypes.h>

#define OBSERVE_MS 10000
#define CHECK_MS   60000

/* --- Protecting ---------------------------------------------------------------------------- */

static int protect_spec(const struct api_request *req, struct job_protect *ret_spec,
                        struct err *err)
{
    const json_t *in = api_in(req);

    if (!json_object_get(in, "machine") == !json_object_get(in, "machines"))
        return err_set(err, ERR_INVALID, 0, "name either a machine, or machines and their group");
    *ret_spec = (struct job_protect){
        .machine = json_get_str(in, "machine", NULL),
        .machines = json_object_get(in, "machines"),
        .group = json_get_str(in, "group", NULL),
        .peer = json_get_str(in, "peer", ""),
        .networks = json_object_get(in, "networks"),
        .seeds = json_object_get(in, "seeds"),
        .force = json_get_bool(in, "force", false),
        .who = api_who(req),
    };
    return policies_settings(api_world_of(req)->state, json_get_str(in, "policy", ""), in,
                             &ret_spec->settings, err);
}

static int protect(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(mem_freep) char *what = NULL;
    struct job_protect spec;
    int64_t job;

    if (protect_spec(req, &spec, err) < 0
        || jobs_protect(api_world_of(req)->jobs, &spec, &job, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *machines = spec.machines ? json_text(spec.machines) : NULL;
    what = machines ? mem_printf("%s %s", spec.peer, machines) : mem_strdup(spec.peer);
    const char *only = json_string_value(json_array_get(spec.machines, 0));
    const char *name = spec.group ? spec.group : spec.machine ? spec.machine : only;
    if (api_audit(req, "protection.add", name, what, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "job", (json_int_t)job);
    return 0;
}

static void free_check(void *check)
{
    jobs_check_free(check);
}

static int check_work(void *check, json_t **ret_out, struct cancel *cancel, struct err *err)
{
    return jobs_check_run(check, ret_out, cancel, err);
}

static int check_protect(struct api_request *req, json_t **ret_reply, struct err *err)
{
    struct job_protect spec;
    struct jobs_check *check;

    (void)ret_reply;
    if (protect_spec(req, &spec, err) < 0
        || jobs_check_new(api_world_of(req)->jobs, &spec, &check, err) < 0)
        return -1;
    return api_defer_over(req, check, free_check, CHECK_MS, check_work);
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

static int verify(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const json_t *in = api_in(req);
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (api_need_protection(api_world_of(req), api_param(req, "name"), &row, err) < 0)
        return -1;
    const struct job_verify spec = {
        .machine = row.group,
        .subset = json_get_u64(in, "subset", 0),
        .of = json_get_u64(in, "of", 0),
        .point = json_get_u64(in, "point", 0),
        .who = api_who(req),
    };
    int64_t job;

    if (jobs_verify(api_world_of(req)->jobs, &spec, &job, err) < 0
        || api_audit(req, "protection.verify", spec.machine, NULL, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "job", (json_int_t)job);
    return 0;
}

/* --- Turning knobs ------------------------------------------------------------------------- */

/* The session this site sends the group of that name, or of that machine, by; estate_session_put the
 * row's. NULL with an error. */
static struct session *need_session(const struct api_request *req, const char *name,
                                    struct state_protection *ret_row, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    struct session *session;

    if (api_need_protection(world, name, ret_row, err) < 0)
        return NULL;
    if (str_eq(ret_row->role, "replica")) {
        err_put(err, ERR_STATE, 0, "%s is sent from %s; hint: say it there", ret_row->group,
                ret_row->peer);
        return NULL;
    }
    session = estate_session_get(world->estate, ret_row->group);
    if (!session)
        err_put(err, ERR_STATE, 0, "%s is not being sent: it is %s", ret_row->group,
                ret_row->state);
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
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct session *session = need_session(req, api_param(req, "name"), &row, err);

    (void)ret_reply;
    if (!session)
        return -1;
    session_retry(session);
    estate_fence_retry(api_world_of(req)->estate, row.group);
    done_with(req, row.group, session);
    return api_audit(req, "protection.retry", row.group, NULL, err);
}

static int resync(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    bool now = json_get_bool(api_in(req), "now", false);
    struct session *session = need_session(req, api_param(req, "name"), &row, err);
    struct session_status status;
    int64_t at = 0;

    if (!session)
        return -1;
    int rc = session_resync(session, now, &at, err);
    session_status(session, &status);
    done_with(req, row.group, session);
    if (rc < 0)
        return -1;
    *ret_reply = json_pack("{s:I, s:b, s:b}", "at_ms", (json_int_t)at, "now",
                           at <= api_world_of(req)->clock->wall_ms(api_world_of(req)->clock),
                           "paused", status.paused);
    return api_audit(req, "protection.resync", row.group, now ? "now" : NULL, err);
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
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct session *session = need_session(req, api_param(req, "name"), &row, err);

    if (!session)
        return -1;
    if (!paused && check_not_held(req, row.group, err) < 0) {
        estate_session_put(api_world_of(req)->estate, row.group);
        return -1;
    }
    session_pause(session, paused);
    done_with(req, row.group, session);
    return api_audit(req, paused ? "protection.pause" : "protection.resume", row.group, NULL, err);
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

/* Those of a policy, of a request that has more. */
static json_t *fields_of(const json_t *in)
{
    json_t *fields = json_object();

    for (size_t i = 0; policy_keys[i]; i++)
        if (json_object_get(in, policy_keys[i]))
            (void)json_object_set(fields, policy_keys[i], json_object_get(in, policy_keys[i]));
    return fields;
}

/* "interval, rpo" as a list. */
static json_t *words_of(const char *text)
{
    CLEANUP(mem_freep) char *copy = mem_strdup(text);
    json_t *words = json_array();
    char *save = NULL;

    for (char *word = strtok_r(copy, ", ", &save); word; word = strtok_r(NULL, ", ", &save))
        (void)json_array_append_new(words, json_string(word));
    return words;
}

static int change_settings(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct job_settings settings;
    struct session *session;
    int64_t job = 0;
    int rc;

    const char *policy = json_get_str(api_in(req), "policy", NULL);
    CLEANUP(json_freep) json_t *fields = fields_of(api_in(req));
    CLEANUP(json_freep) json_t *reset = words_of(json_get_str(api_in(req), "reset", ""));

    if (job_settings_check(fields, err) < 0)
        return -1;
    session = need_session(req, api_param(req, "name"), &row, err);
    if (!session)
        return -1;
    rc = job_settings_parse(row.settings, &settings, err);
    if (rc == 0)
        rc = policies_resettle(api_world_of(req)->state, row.group, policy, fields, reset,
                               &settings, err);
    if (rc == 0)
        rc = job_settings_change(&row.settings, &settings, err);
    const json_t *networks = json_object_get(api_in(req), "networks");
    if (rc == 0 && networks)
        rc = job_networks_check(networks, err) < 0 ? -1
                                                   : job_networks_set(&row.settings, networks, err);
    if (rc == 0)
        rc = state_protection_put(api_world_of(req)->state, &row, err);
    if (rc == 0)
        rc = jobs_copy_settings(api_world_of(req)->jobs, row.group, row.peer, api_who(req), &job,
                                err);
    if (rc == 0)
        session_set_policy(session, &settings.policy);
    done_with(req, row.group, session);
    if (rc < 0 || api_audit(req, "protection.change", row.group, row.settings, err) < 0)
        return -1;
    *ret_reply = json_object();
    job_settings_put(&settings, *ret_reply);
    (void)json_object_set_new(*ret_reply, "networks", job_networks_get(row.settings));
    (void)json_object_set_new(*ret_reply, "job", json_integer((json_int_t)job));
    return 0;
}

const struct api_route *api_routes_protections(void)
{
    static const struct api_field protect_fields[] = {
        {"machine", API_NAME, false, "a machine of this site; or `machines`"},
        {"machines", API_NAMES, false,
         "several, up to 16, that share one history and one instant; or `machine`"},
        {"group", API_NAME, false,
         "what they are called together, a name that no machine has; a machine alone is a group of "
         "its own name"},
        {"peer", API_NAME, true, "the paired site that is to keep its replica"},
        {"policy", API_NAME, false, "what is not said here comes from it; `default`"},
        {"force", API_BOOL, false, "also when it could not be recovered there now"},
        {"networks", API_OBJECT, false,
         "`{NETWORK: NETWORK there}` of its cards when it is recovered; each `user` or `bridge "
         "NAME`. What is not listed goes by that site's config.lua"},
        {"seeds", API_OBJECT, false,
         "`{DISK: FILE at the peer}`: older copies of disks that are there, in the folder that site "
         "takes seeds of this one from; only what differs is sent. `\"\"` for DISK: the only one"},
        POLICY_FIELDS(API_POLICY_FIELD){0},
    };
    static const struct api_field unprotect_fields[] = {
        {"force", API_BOOL, false, "go on when the other site does not answer"},
        {"keep_replica", API_BOOL, false, "the replica stays at the other site, as it is"},
        {0},
    };
    static const struct api_field settings_fields[] = {
        {"policy", API_NAME, false, "another policy; what is the machine's own stays"},
        {"reset", API_TEXT, false,
         "fields that are to be the policy's again, with commas between; or `all`"},
        {"networks", API_OBJECT, false, "as when it was protected; all of them; `{}`: none"},
        POLICY_FIELDS(API_POLICY_FIELD){0},
    };
    static const struct api_field verify_fields[] = {
        {"subset", API_NUMBER, false,
         "only every `of`-th chunk, beginning with this one, 1 to `of`"},
        {"of", API_NUMBER, false, "how many subsets there are, 1 to 1000000"},
        {"point", API_NUMBER, false, "only what this point needs"},
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
        {"GET", "/v1/protections", api_list_protections,
         "Lists protections with their status: one "
         "for each group. Wherever a group is named, the name of one of its machines does, too.",
         "`{protections: [{name, machines, role, peer, state, since_ms, generation, policy, "
         "overrides: [key], the policy's fields, networks, recreated_ms, rpo_target_ms, tests: [{run, since_ms}], health, health_reasons: [{level, code, reason, since_ms, hint}], durable_point, durable_cut_ms, durable_age_ms, "
         "applied_point, applied_cut_ms, applied_age_ms}]}`. Ages are -1 without a point; the RPO "
         "now is `durable_age_ms` (what is safe) and `applied_age_ms` (what is ready). `recreated_ms` is "
         "when its rows were made again, their database being lost. `health_reasons` lists every cause there is, worst first: `level` is "
         "`critical`, `warning` or `note` (no fault), `code` is for programs, `hint` may be \"\"; `health` is the worst of them. `tests` are "
         "test runs whose machines are up here. A `source` "
         "has besides: `session`, `pending_bytes` (-1: held or failed over, nobody counts), `rate_per_s`, `sent_bytes`, `last_bytes`, "
         "`last_cycle_ms`, `last_stall_us`, `next_cut_ms`, `application_point`, "
         "`application_cut_ms`, `application_age_ms` (the newest application-consistent point), "
         "`application_failing_ms`, `application_note` (since when and why none could be made), "
         "`application_next_ms` (when the next one is due), `packing` and `packed_percent` (what data "
         "is compressed with now, and to how much of its size lately, -1: none was), "
         "`note`, `disks: [{name, size, total, "
         "done, pending_bytes}]` with `left_ms`, while a comparison is required or under way `resync: "
         "{cause: \"tracking-lost\"|\"log-too-large\"|\"asked\"|\"seed\"|\"disk-grew\", now, waits, since_ms, next_ms, why}` "
         "(`next_ms` 0: by hand), of an initial copy that began from seeds `seed_data_bytes` (compared, without "
         "zeros) and `seed_same_bytes` (of these, there already), when changes come faster than they are sent `not_converging: "
         "{since_ms, changed_per_s, sent_per_s, advice}`, and, after a failure, `error: {code, message, hint}`, "
         "`error_since_ms`, `retry_at_ms`, `failures`. A `replica` has `store`. "
         "Both have `damaged_head`: chunks of 64 KiB that are damaged at the replica's newest point; "
         "`damaged_past`: that are damaged at older points only; `damaged_since_ms`",
         NULL},
        {"POST", "/v1/protections", protect,
         "Protects a machine, or several as a group: checks, copies, keeps it current.", "`{job}`",
         protect_fields},
        {"POST", "/v1/protections/check", check_protect,
         "Looks at what protecting a machine takes, at both sites, and changes nothing.",
         "`{group, machines, peer, policy, failed, warnings, checks: [{what, site, state, needed, found, text, "
         "hint}]}`; `state` is `ok`, `warning` or `failed`",
         protect_fields},
        {"GET", "/v1/protections/{name}", api_show_protection, "Shows one protection.",
         "as an entry of the list", NULL},
        {"DELETE", "/v1/protections/{name}", unprotect, "Ends a protection.", "`{job}`",
         unprotect_fields},
        {"POST", "/v1/protections/{name}/reprotect", reprotect,
         "Protects a committed machine again, in the other direction.", "`{job}`",
         reprotect_fields},
        {"GET", "/v1/protections/{name}/points", api_list_points,
         "Lists the points of a replica, newest first; at the site that sends it, its peer is asked.",
         "`{name, points: [{point, generation, cut_ms, received_ms, age_ms, stall_us, consistency, applied, "
         "pinned, promotion, label, pins: [text], bytes, undo_bytes, why, every_ms, damaged, hash}]}`; `damaged` chunks of 64 KiB that the "
         "point needs are known to be damaged: it is not promoted; ages by the clock of the site that keeps them. "
         "`undo_bytes` is what the point costs now. `why` is what keeps "
         "it: `held` (a pin, or what is under way), `newest`, `tier` (one per `every_ms`), or `goes`. `pins` are like `run lyon-4`; "
         "or `person`, `view`, `branch`, and the label",
         NULL},
        {"POST", "/v1/protections/{name}/verify", verify,
         "Reads a replica and compares it with its digests; at the site that sends it, its peer is "
         "asked.",
         "`{job}`, which fails with `corrupt` when anything is damaged", verify_fields},
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
         "Changes the settings of one protection, while it runs. A field becomes its own.",
         "`{policy, overrides: [key], the policy's fields, job}`; that job tells the peer, as soon as "
         "it answers",
         settings_fields},
        {0},
    };

    return routes;
}
