// SPDX-License-Identifier: Apache-2.0
#include "api/api_tables.h"
#include "run/job.h"
#include "state/state.h"

#include <inttypes.h>

#define AUDIT_LIMIT 200

static int list_jobs(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *list;

    if (jobs_list(api_world_of(req)->jobs, json_get_bool(api_in(req), "open", false), &list, err)
        < 0)
        return -1;
    *ret_reply = json_pack("{s:o}", "jobs", list);
    return 0;
}

static int get_job(struct api_request *req, json_t **ret_reply, struct err *err)
{
    return jobs_get(api_world_of(req)->jobs, (int64_t)api_param_u64(req, "id"), ret_reply, err);
}

static int cancel_job(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    if (jobs_cancel(api_world_of(req)->jobs, (int64_t)api_param_u64(req, "id"), api_who(req), err)
        < 0)
        return -1;
    return api_audit(req, "job.cancel", api_param(req, "id"), NULL, err);
}

const struct api_route *api_routes_jobs(void)
{
    static const struct api_field list_fields[] = {
        {"open", API_BOOL, false, "only those that have not ended"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/jobs", list_jobs, "Lists jobs, newest first.", "`{jobs: [job]}`", list_fields},
        {"GET", "/v1/jobs/{id}", get_job, "Shows a job and its tasks.",
         "`{id, kind, object, state, error, error_code, who, started_ms, ended_ms, tasks: [{name, state, done, "
         "total, unit, started_ms, ended_ms, error, note, rate_per_s, left_ms, disks}]}`; state is "
         "`running`, `succeeded`, `failed` or `cancelled`",
         NULL},
        {"POST", "/v1/jobs/{id}/cancel", cancel_job, "Stops a job and takes back what it did.",
         "`{}`", NULL},
        {0},
    };

    return routes;
}

/* --- Audit --------------------------------------------------------------------------------- */

static int list_audit(struct api_request *req, json_t **ret_reply, struct err *err)
{
    uint64_t limit = json_get_u64(api_in(req), "limit", AUDIT_LIMIT);
    json_t *entries;

    if (limit > STATE_AUDIT_LIST_MAX)
        return err_set(err, ERR_INVALID, 0, "limit is %" PRIu64 ", the most is %d", limit,
                       STATE_AUDIT_LIST_MAX);
    if (state_audit_list(api_world_of(req)->state, (size_t)limit, &entries, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:o}", "entries", entries);
    return 0;
}

static int verify_audit(struct api_request *req, json_t **ret_reply, struct err *err)
{
    int64_t entries;

    if (state_audit_verify(api_world_of(req)->state, &entries, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "entries", (json_int_t)entries);
    return 0;
}

const struct api_route *api_routes_audit(void)
{
    static const struct api_field list_fields[] = {
        {"limit", API_NUMBER, false, "how many, 200 without it, at most 10000"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/audit", list_audit, "Lists the audit log, newest first.",
         "`{entries: [{seq, at_ms, who, act, object, detail}]}`", list_fields},
        {"GET", "/v1/audit/verify", verify_audit,
         "Checks the chain of hashes; `corrupt` names the first entry that does not fit.",
         "`{entries}`, how many were checked", NULL},
        {0},
    };

    return routes;
}
