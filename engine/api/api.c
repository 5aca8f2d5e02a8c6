// SPDX-License-Identifier: Apache-2.0
#include "api/api.h"

#include "api/api_tables.h"
#include "base/mem.h"
#include "sites/estate.h"
#include "state/state.h"

#include <string.h>

void api_tables_fill(struct api_table out[API_TABLES_MAX])
{
    const struct api_table tables[] = {
        {"Site", "This site, and waiting for changes.", api_routes_site()},
        {"Peers", "The sites this one is paired with.", api_routes_peers()},
        {"Machines", "Machines of this site, and those that were recovered here.",
         api_routes_machines()},
        {"Protections",
         "Machines whose disks are kept at another site: those this site sends (role `source`) and "
         "those it keeps (role `replica`).",
         api_routes_protections()},
        {"Policies",
         "Named settings of protections. Durations are milliseconds here, 0 for none. `default` is "
         "always there.",
         api_routes_policies()},
        {"Operations", "What may be done with a machine now.", api_routes_allowed()},
        {"Points", "What people say about the points of a replica, at either site.",
         api_routes_points()},
        {"Branches and views",
         "What an old machine wrote that no point holds, and disks as they were, read-only.",
         api_routes_branches()},
        {"Replicas", "Folders of replicas that this site does not know.", api_routes_replicas()},
        {"Plans", "Recovery plans, as Lua text and as what was made of it.", api_routes_plans()},
        {"Runs", "Executions of plans. A run executes at the site that is to own the machines.",
         api_routes_runs()},
        {"Jobs", "Long operations that a person can watch.", api_routes_jobs()},
        {"Audit", "Who did what: hash-chained, written in the same transaction as the act.",
         api_routes_audit()},
        {0},
    };

    _Static_assert(sizeof(tables) / sizeof(tables[0]) <= API_TABLES_MAX, "room for all tables");
    memcpy(out, tables, sizeof(tables));
}

int api_start(const struct api_world *world, const char *socket_path, struct api **ret_api,
              struct err *err)
{
    struct api_table tables[API_TABLES_MAX];

    api_tables_fill(tables);
    return api_server_start(world, tables, socket_path, ret_api, err);
}

static const char preface[] =
    "<!-- Made from the program's tables (engine/api/); a test checks that it is so. -->\n"
    "# The API\n\n"
    "HTTP/1.1 and JSON on the unix socket of a site (`muster.sock` in its state directory, or "
    "`socket` of its\n`config.lua`; mode 0660). The caller is the user at the other end, by the "
    "kernel's word. A request's\nbody is one JSON object of at most 16 MiB; unknown and mistyped "
    "fields are refused. What a request\nchanged is durable before its answer leaves.\n\n"
    "    curl --unix-socket /run/muster/muster.sock http://muster/v1/protections\n\n"
    "Times are milliseconds since 1970 (`_ms`), ages and intervals milliseconds, 0 in a time means "
    "never.\n\n"
    "An error has a status of 400 or more and the body\n"
    "`{\"error\": {\"code\": \"not-found\", \"message\": \"...\", \"hint\": \"...\"}}`; decide by "
    "`code`:\n\n";

static void add_codes(struct str *out)
{
    str_add(out, "| code | status |\n|---|---|\n");
    for (int code = ERR_NONE + 1; code < ERR_CODE_COUNT; code++)
        str_addf(out, "| `%s` | %u |\n", err_code_name((enum err_code)code),
                 api_status_of((enum err_code)code));
    str_add(out, "\n");
}

char *api_markdown(void)
{
    struct api_table tables[API_TABLES_MAX];
    CLEANUP(mem_freep) char *body = NULL;
    struct str out = STR_EMPTY;

    api_tables_fill(tables);
    body = api_tables_markdown(tables);
    str_add(&out, preface);
    add_codes(&out);
    str_add(&out, body);
    /* One newline at the end, not two. */
    while (out.len > 1 && out.ptr[out.len - 1] == '\n' && out.ptr[out.len - 2] == '\n')
        out.ptr[--out.len] = '\0';
    return str_take(&out);
}

int api_audit(const struct api_request *req, const char *act, const char *object,
              const char *detail, struct err *err)
{
    const struct api_world *world = api_world_of(req);

    return state_audit(world->state, world->clock->wall_ms(world->clock), api_who(req), act, object,
                       detail ? detail : "", err);
}

int api_ask_here(const struct api_world *world, const char *what, json_t *args, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    struct site *here = site_local_new(world->estate);
    int rc = site_ask(here, what, args, ret_result, cancel, err);

    site_close(here);
    return rc;
}
