// SPDX-License-Identifier: Apache-2.0
/* What people say about a replica's points: pins, and pruning now. The site that keeps the replica
 * does it, whichever is asked. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "replica/retention.h"
#include "run/job.h"
#include "sites/estate.h"
#include "state/state.h"

#include <inttypes.h>
#include <stdio.h>

#define PIN_MS   30000
#define PRUNE_MS 600000

/* Who keeps the replica: "" for this site. `extra` is stolen and sent along. */
static int ask_args(const struct api_request *req, json_t *extra, json_t **ret_in, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *in = extra;
    const char *name = api_param(req, "name");

    if (state_protection_of(api_world_of(req)->state, name, &row, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, 0,
                             "%s is not protected; hint: `muster status` lists what is", name)
                   : -1;
    (void)json_object_set_new(in, "group", json_string(row.group));
    (void)json_object_set_new(in, "peer", json_string(str_eq(row.role, "replica") ? "" : row.peer));
    *ret_in = TAKE(in);
    return 0;
}

static struct site *site_of(const struct api_world *world, const json_t *in)
{
    const char *peer = json_get_str(in, "peer", "");

    return *peer ? site_remote_new(world->estate, peer) : site_local_new(world->estate);
}

static int ask(const struct api_world *world, const char *what, const json_t *in,
               json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(site_closep) struct site *site = site_of(world, in);
    json_t *args = json_deep_copy(in);

    (void)json_object_del(args, "peer");
    return site_ask(site, what, args, ret_result, cancel, err);
}

/* --- A point now ----------------------------------------------------------------------------- */

static int make_point(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    const json_t *in = api_in(req);
    struct job_point spec = {
        .machine = api_param(req, "name"), /* its own, or its group's */
        .consistency = json_get_str(in, "consistency", ""),
        .label = json_get_str(in, "label", ""),
        .who = api_who(req),
    };
    struct err none = ERR_EMPTY; /* jobs_point says it */
    int64_t job;

    if (state_protection_of(api_world_of(req)->state, spec.machine, &row, &none) == 0)
        spec.machine = row.group;
    if (jobs_point(api_world_of(req)->jobs, &spec, &job, err) < 0
        || api_audit(req, "point.create", spec.machine, *spec.label ? spec.label : NULL, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "job", (json_int_t)job);
    return 0;
}

/* --- Pins ------------------------------------------------------------------------------------ */

static int pin_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                    struct cancel *cancel, struct err *err)
{
    return ask(world, "group.keep-point", in, ret_out, cancel, err);
}

static int unpin_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    return ask(world, "group.free-point", in, ret_out, cancel, err);
}

static int audited(const struct api_request *req, const char *act, const json_t *in,
                   const json_t *out, struct err *err)
{
    CLEANUP(mem_freep)
    char *detail = mem_printf("point %" PRIu64 " as %s", json_get_u64(out, "point", 0),
                              json_get_str(out, "label", ""));

    return api_audit(req, act, json_get_str(in, "group", ""), detail, err);
}

static int pin_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                      struct err *err)
{
    *ret_reply = json_incref(out);
    return audited(req, "point.pin", in, out, err);
}

static int unpin_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                        struct err *err)
{
    *ret_reply = json_incref(out);
    return audited(req, "point.unpin", in, out, err);
}

static int pin_point(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *in;

    (void)ret_reply;
    if (ask_args(req, json_deep_copy(api_in(req)), &in, err) < 0)
        return -1;
    return api_defer(req, in, PIN_MS, pin_work, pin_finish);
}

static int unpin_point(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *in;

    (void)ret_reply;
    if (ask_args(req, json_pack("{s:s}", "label", api_param(req, "label")), &in, err) < 0)
        return -1;
    return api_defer(req, in, PIN_MS, unpin_work, unpin_finish);
}

/* --- Pruning --------------------------------------------------------------------------------- */

/* All points, with what becomes of them. */
static int plan_points(const struct api_world *world, const json_t *in, json_t *ret_points,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *args = json_deep_copy(in);
    bool more = true;

    while (more) {
        CLEANUP(json_freep) json_t *page = NULL;
        if (ask(world, "group.points", args, &page, cancel, err) < 0)
            return -1;
        const json_t *points = json_object_get(page, "points");
        const json_t *last = json_array_get(points, json_array_size(points) - 1);
        (void)json_array_extend(ret_points, json_object_get(page, "points"));
        (void)json_object_set_new(args, "before",
                                  json_integer((json_int_t)json_get_u64(last, "point", 0)));
        more = json_get_bool(page, "more", false) && last;
    }
    return 0;
}

static int prune_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *points = json_array();
    CLEANUP(json_freep) json_t *done = NULL;

    if (plan_points(world, in, points, cancel, err) < 0)
        return -1;
    if (!json_get_bool(in, "dry_run", false)
        && ask(world, "group.prune", in, &done, cancel, err) < 0)
        return -1;
    *ret_out =
        json_pack("{s:s, s:O, s:b, s:I}", "name", json_get_str(in, "group", ""), "points", points,
                  "dry_run", done == NULL, "removed", (json_int_t)json_get_u64(done, "removed", 0));
    return 0;
}

static int prune_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                        struct err *err)
{
    CLEANUP(mem_freep)
    char *detail = mem_printf("keep %" PRIu64 ", removed %" PRIu64, json_get_u64(in, "keep", 0),
                              json_get_u64(out, "removed", 0));

    *ret_reply = json_incref(out);
    return json_get_bool(out, "dry_run", false)
               ? 0
               : api_audit(req, "point.prune", json_get_str(in, "group", ""), detail, err);
}

static int prune_points(struct api_request *req, json_t **ret_reply, struct err *err)
{
    uint64_t keep = json_get_u64(api_in(req), "keep", 0);
    json_t *in;

    (void)ret_reply;
    if (json_object_get(api_in(req), "keep") && (keep < 1 || keep > RETENTION_KEEP_MAX))
        return err_set(err, ERR_INVALID, 0, "keep must be 1 to %d", RETENTION_KEEP_MAX);
    if (ask_args(req, json_deep_copy(api_in(req)), &in, err) < 0)
        return -1;
    return api_defer(req, in, PRUNE_MS, prune_work, prune_finish);
}

const struct api_route *api_routes_points(void)
{
    static const struct api_field point_fields[] = {
        {"consistency", API_TEXT, false,
         "`application`: the guest's file systems are frozen for the cut; `crash`: they are not; "
         "without it as the policy has them"},
        {"label", API_TEXT, false, "it stays, pinned as this"},
        {0},
    };
    static const struct api_field pin_fields[] = {
        {"point", API_NUMBER, false, "the point; the newest that is ready without it"},
        {"label", API_TEXT, true, "a name for the pin, one of its own"},
        {0},
    };
    static const struct api_field prune_fields[] = {
        {"keep", API_NUMBER, false,
         "keep only that many of the newest, this once, 1 to 10000; as the policy says without it"},
        {"dry_run", API_BOOL, false, "remove nothing, only say what would go"},
        {0},
    };
    static const struct api_route routes[] = {
        {"POST", "/v1/protections/{name}/points", make_point,
         "Makes a point now; the job ends when it is there.",
         "`{job}`; its task has `result`: `{point, made, consistency, cut_ms, stall_us, note, "
         "label}`, `made` false for a machine that is off and the newest point holds its disks, "
         "`note` why the guest could not be frozen",
         point_fields},
        {"POST", "/v1/protections/{name}/pins", pin_point,
         "Pins a point: it stays until it is unpinned.", "`{point, label}`", pin_fields},
        {"DELETE", "/v1/protections/{name}/pins/{label}", unpin_point,
         "Ends a person's pin. Those of runs, views and branches end with them.",
         "`{point, label}`", NULL},
        {"POST", "/v1/protections/{name}/prune", prune_points,
         "Removes the points that are not to be kept.",
         "`{name, dry_run, removed, points}`: `points` as they were before, `why` says what becomes "
         "of each: `held`, `newest` and `tier` stay, `goes` goes",
         prune_fields},
        {0},
    };

    return routes;
}
