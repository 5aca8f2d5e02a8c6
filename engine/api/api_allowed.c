// SPDX-License-Identifier: Apache-2.0
/* What may be done with a machine now, each with the reason when not. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "run/job.h"
#include "run/run.h"
#include "sites/estate.h"
#include "state/state.h"

static void add(json_t *list, const char *operation, int rc, const struct err *why)
{
    json_t *entry = json_pack("{s:s, s:b}", "operation", operation, "allowed", rc == 0);

    if (rc < 0)
        (void)json_object_set_new(entry, "why", json_string(why->text));
    (void)json_array_append_new(list, entry);
}

static int may_protect(const struct api_world *world, const char *name,
                       const struct state_protection *row, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine own = {0};

    if (row->group)
        return err_set(err, ERR_EXISTS, 0, "%s is protected already: with %s, %s here (%s)%s%s",
                       name, row->peer, row->role, row->state,
                       str_eq(row->group, name) ? "" : ", in the group ",
                       str_eq(row->group, name) ? "" : row->group);
    return state_machine_get(world->state, name, &own, err);
}

static int may_unprotect(const struct api_world *world, const char *name,
                         const struct state_protection *row, struct err *err)
{
    if (!row->group)
        return err_set(err, ERR_NOT_FOUND, 0, "%s is not protected", name);
    return jobs_may_unprotect(world->jobs, row->group, err);
}

static int may_start(const struct api_world *world, const char *name, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine own = {0};
    CLEANUP(state_instance_done) struct state_instance recovered = {0};
    struct err none = ERR_EMPTY;

    if (state_machine_get(world->state, name, &own, err) == 0)
        return estate_may_start(world->estate, name, err);
    if (err->code != ERR_NOT_FOUND)
        return -1;
    if (state_instance_recovered(world->state, name, &recovered, &none) < 0) {
        if (none.code != ERR_NOT_FOUND)
            *err = none;
        return -1; /* of a machine that is not there, the first error says more */
    }
    err_clear(err);
    return estate_may_start(world->estate, recovered.group, err);
}

static int show(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const char *name = api_param(req, "name");
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct err why = ERR_EMPTY;
    bool is_protected = state_protection_of(world->state, name, &row, &why) == 0;

    if (!is_protected && why.code != ERR_NOT_FOUND) {
        *err = why;
        return -1;
    }
    int start = may_start(world, name, &why);
    if (!is_protected && start < 0 && why.code == ERR_NOT_FOUND) {
        *err = why;
        return -1;
    }
    const char *group = is_protected ? row.group : name;
    json_t *list = json_array();
    add(list, "machine start", start, &why);
    err_clear(&why);
    add(list, "protect", may_protect(world, name, &row, &why), &why);
    err_clear(&why);
    json_t *runs = runner_allowed(world->runner, name);
    (void)json_array_extend(list, runs);
    json_decref(runs);
    add(list, "reprotect", jobs_may_reprotect(world->jobs, group, &why), &why);
    err_clear(&why);
    add(list, "unprotect", may_unprotect(world, name, &row, &why), &why);
    err_clear(&why);
    add(list, "machine keep", api_may_keep(world, name, &why), &why);
    *ret_reply =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:o}", "name", name, "group",
                  is_protected ? row.group : "", "role", is_protected ? row.role : "", "peer",
                  is_protected ? row.peer : "", "state", is_protected ? row.state : "unprotected",
                  "generation", (json_int_t)row.generation, "since_ms", (json_int_t)row.since_ms,
                  "operations", list);
    return 0;
}

const struct api_route *api_routes_allowed(void)
{
    static const struct api_route routes[] = {
        {"GET", "/v1/machines/{name}/operations", show,
         "Says what may be done with a machine here now, by the checks that a start makes.",
         "`{name, group, role, peer, state, generation, since_ms, operations: [{operation, allowed, why}]}`; "
         "`role` \"\" and `state` `unprotected` for a machine that is not protected; `operation` as the "
         "command line has it",
         NULL},
        {0},
    };

    return routes;
}
