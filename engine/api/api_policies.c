// SPDX-License-Identifier: Apache-2.0
#include "api/api_tables.h"
#include "base/mem.h"
#include "run/policies.h"
#include "sites/estate.h"
#include "sync/policy_fields.h"
#include "sync/scheduler.h"

static int list_policies(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *list;

    if (policies_list(api_world_of(req)->state, &list, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:o}", "policies", list);
    return 0;
}

static int show_policy(struct api_request *req, json_t **ret_reply, struct err *err)
{
    return policies_show(api_world_of(req)->state, api_param(req, "name"), ret_reply, err);
}

static int audit_fields(const struct api_request *req, const char *act, const char *name,
                        struct err *err)
{
    CLEANUP(mem_freep) char *text = json_text(api_in(req));

    return api_audit(req, act, name, text, err);
}

static int add_policy(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const char *name = json_get_str(api_in(req), "name", "");

    if (policies_add(world->state, name, api_in(req), world->clock->wall_ms(world->clock), err) < 0
        || audit_fields(req, "policy.add", name, err) < 0)
        return -1;
    return policies_show(world->state, name, ret_reply, err);
}

/* The session works by it from its next cut on, and the peer hears of it. */
static int tell(struct api_request *req, const struct policies_changed *changed, json_t *jobs,
                struct err *err)
{
    const struct api_world *world = api_world_of(req);
    struct session *session = estate_session_get(world->estate, changed->group);
    int64_t job = 0;

    if (session) {
        session_set_policy(session, &changed->policy);
        scheduler_kick(world->scheduler, session);
        estate_session_put(world->estate, changed->group);
    }
    if (jobs_copy_settings(world->jobs, changed->group, changed->peer, api_who(req), &job, err) < 0)
        return -1;
    (void)json_array_append_new(jobs, json_integer((json_int_t)job));
    return 0;
}

static int change_policy(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const char *name = api_param(req, "name");
    CLEANUP(policies_changes_free) struct policies_changes changes = VEC_EMPTY;
    CLEANUP(json_freep) json_t *jobs = json_array();
    CLEANUP(json_freep) json_t *changed = json_array();

    if (policies_change(world->state, name, api_in(req), world->clock->wall_ms(world->clock),
                        &changes, err)
            < 0
        || audit_fields(req, "policy.change", name, err) < 0)
        return -1;
    VEC_FOREACH(change, &changes) {
        if (tell(req, change, jobs, err) < 0)
            return -1;
        (void)json_array_append_new(changed, json_string(change->group));
    }
    if (policies_show(world->state, name, ret_reply, err) < 0)
        return -1;
    (void)json_object_set(*ret_reply, "changed", changed);
    (void)json_object_set(*ret_reply, "jobs", jobs);
    return 0;
}

static int remove_policy(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");

    (void)ret_reply;
    if (policies_remove(api_world_of(req)->state, name, err) < 0)
        return -1;
    return api_audit(req, "policy.remove", name, NULL, err);
}

const struct api_route *api_routes_policies(void)
{
    static const struct api_field add_fields[] = {
        {"name", API_NAME, true, "of the new policy"},
        POLICY_FIELDS(API_POLICY_FIELD){0},
    };
    static const struct api_field change_fields[] = {POLICY_FIELDS(API_POLICY_FIELD){0}};
    static const struct api_route routes[] = {
        {"GET", "/v1/policies", list_policies, "Lists policies, and who uses them.",
         "`{policies: [{name, added_ms, changed_ms, the fields, machines: [name], own: {MACHINE: "
         "[key]}, notes: [text]}]}`. `own` are the fields set for a machine alone; `notes` what one "
         "may not expect of these settings",
         NULL},
        {"POST", "/v1/policies", add_policy,
         "Makes a policy. What is not said is as the program has it built in.",
         "the policy, as an entry of the list", add_fields},
        {"GET", "/v1/policies/{name}", show_policy, "Shows a policy, and who uses it.",
         "as an entry of the list", NULL},
        {"PUT", "/v1/policies/{name}", change_policy,
         "Changes a policy, and every protection that uses it, while they run. What is a machine's "
         "own stays. What cannot change while machines are protected (encryption) changes nothing.",
         "the policy, with `changed: [name]` and `jobs: [id]` that tell the peers", change_fields},
        {"DELETE", "/v1/policies/{name}", remove_policy,
         "Removes a policy that no protection uses.", "`{}`", NULL},
        {0},
    };

    return routes;
}
