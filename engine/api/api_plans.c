// SPDX-License-Identifier: Apache-2.0
/* A plan's text is run by the Lua host in the pool, never here; what is stored is the text and the
 * document made of it. Every paired site gets a copy: a plan must be there when its author's site
 * is not. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "link/tls.h"
#include "plan/plan.h"
#include "run/job.h"
#include "run/run.h"
#include "state/state.h"

#include <inttypes.h>

#define LOAD_MS    60000
#define SOURCE_MAX (1024u * 1024u)

/* --- What a plan may name ------------------------------------------------------------------ */

VEC_DEFINE(words, const char *)

static void add_words(struct words *words, const json_t *list)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
        *words_push(words) = json_string_value(item);
}

static int known_peers(const struct api_world *world, json_t **ret_names, struct err *err)
{
    struct tls_peer *peers = NULL;
    size_t count = 0;
    json_t *names;

    if (pair_list(world->keys_dir, &peers, &count, err) < 0)
        return -1;
    names = json_array();
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(names, json_string(peers[i].name));
    free(peers);
    *ret_names = names;
    return 0;
}

/* --- Loading ------------------------------------------------------------------------------- */

static json_t *problems_json(const struct plan_problems *problems)
{
    json_t *list = json_array();

    VEC_FOREACH(problem, problems)
        (void)json_array_append_new(list, json_pack("{s:b, s:I, s:s}", "warning", problem->warning,
                                                    "line", (json_int_t)problem->line, "text",
                                                    problem->text));
    return list;
}

static int load(const struct api_world *world, const json_t *in, const json_t *peers,
                struct plan **ret_plan, struct plan_problems *problems, struct cancel *cancel,
                struct err *err)
{
    const char *source = json_get_str(in, "source", "");
    CLEANUP(words_free) struct words machines = VEC_EMPTY;
    CLEANUP(words_free) struct words sites = VEC_EMPTY;
    struct plan_world plans = {0};

    add_words(&machines, json_object_get(in, "machines"));
    *words_push(&machines) = NULL;
    *words_push(&sites) = world->config->site;
    add_words(&sites, peers);
    *words_push(&sites) = NULL;
    plans.verbs = verb_all(&plans.verb_count);
    plans.machines = machines.at;
    plans.sites = sites.at;
    plans.groups = json_object_get(in, "groups");
    return plan_load(world->host, &plans, json_get_str(in, "file", "plan"), source, strlen(source),
                     ret_plan, problems, cancel, err);
}

/* {name, hash, document, source, peers, problems}; without a plan when it is not sound and
 * `in`.only_check. */
static int load_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *peers = NULL;
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    CLEANUP(plan_freep) struct plan *plan = NULL;

    if (known_peers(world, &peers, err) < 0)
        return -1;
    if (load(world, in, peers, &plan, &problems, cancel, err) < 0) {
        if (!json_get_bool(in, "only_check", false) || problems.len == 0)
            return -1;
        *ret_out = json_pack("{s:b, s:o}", "sound", false, "problems", problems_json(&problems));
        return 0;
    }
    *ret_out = json_pack("{s:b, s:s, s:s, s:O, s:O, s:o}", "sound", true, "name", plan->name,
                         "hash", plan->hash, "document", plan->document, "peers", peers, "problems",
                         problems_json(&problems));
    return 0;
}

static int begin_load(struct api_request *req, bool only_check, api_finish_fn *finish,
                      struct err *err)
{
    const json_t *in = api_in(req);
    const char *source = json_get_str(in, "source", "");
    CLEANUP(json_freep) json_t *names = NULL;
    json_t *groups;

    if (strlen(source) > SOURCE_MAX)
        return err_set(err, ERR_LIMIT, 0, "the plan has %zu bytes, the most is %u", strlen(source),
                       SOURCE_MAX);
    if (runner_machines(api_world_of(req)->state, &names, err) < 0
        || runner_groups(api_world_of(req)->state, &groups, err) < 0)
        return -1;
    return api_defer(req,
                     json_pack("{s:s, s:s, s:b, s:O, s:o}", "source", source, "file",
                               json_get_str(in, "file", "plan"), "only_check", only_check,
                               "machines", names, "groups", groups),
                     LOAD_MS, load_work, finish);
}

static int check_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                        struct err *err)
{
    (void)req;
    (void)in;
    (void)err;
    (void)json_object_del(out, "document");
    (void)json_object_del(out, "peers");
    *ret_reply = json_incref(out);
    return 0;
}

static int check_plan(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    return begin_load(req, true, check_finish, err);
}

/* A copy that waits for its peer already takes the newest text along. */
static int copy_to_peers(struct api_request *req, const char *name, const json_t *peers,
                         json_t *ret_copies, struct err *err)
{
    const json_t *peer;
    size_t i;

    json_array_foreach(peers, i, peer) {
        int64_t job = 0;

        if (jobs_copy_plan(api_world_of(req)->jobs, name, json_string_value(peer), api_who(req),
                           &job, err)
            < 0) {
            if (err->code != ERR_STATE)
                return -1;
            err_clear(err);
            continue;
        }
        (void)json_array_append_new(ret_copies,
                                    json_pack("{s:O, s:I}", "peer", peer, "job", (json_int_t)job));
    }
    return 0;
}

static int add_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                      struct err *err)
{
    const struct api_world *world = api_world_of(req);
    CLEANUP(mem_freep) char *document = json_text(json_object_get(out, "document"));
    CLEANUP(state_plan_done)
    struct state_plan row = {
        .name = mem_strdup(json_get_str(out, "name", "")),
        .source = mem_strdup(json_get_str(in, "source", "")),
        .document = mem_strdup(document),
        .hash = mem_strdup(json_get_str(out, "hash", "")),
        .origin = mem_strdup(world->config->site),
        .added_ms = world->clock->wall_ms(world->clock),
    };
    json_t *copies = json_array();

    if (state_plan_put(world->state, &row, err) < 0
        || api_audit(req, "plan.add", row.name, row.hash, err) < 0
        || copy_to_peers(req, row.name, json_object_get(out, "peers"), copies, err) < 0) {
        json_decref(copies);
        return -1;
    }
    *ret_reply = json_pack("{s:s, s:s, s:O, s:o}", "name", row.name, "hash", row.hash, "problems",
                           json_object_get(out, "problems"), "copies", copies);
    return 0;
}

static int add_plan(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    return begin_load(req, false, add_finish, err);
}

/* --- Looking at stored ones ---------------------------------------------------------------- */

static json_t *plan_json(const struct state_plan *row)
{
    return json_pack("{s:s, s:s, s:s, s:I}", "name", row->name, "hash", row->hash, "origin",
                     row->origin, "added_ms", (json_int_t)row->added_ms);
}

static int list_plans(struct api_request *req, json_t **ret_reply, struct err *err)
{
    struct state_plans plans = VEC_EMPTY;
    json_t *list;

    if (state_plan_list(api_world_of(req)->state, &plans, err) < 0)
        return -1;
    list = json_array();
    VEC_FOREACH(plan, &plans)
        (void)json_array_append_new(list, plan_json(plan));
    state_plans_done(&plans);
    *ret_reply = json_pack("{s:o}", "plans", list);
    return 0;
}

static int need_plan(const struct api_world *world, const char *name, struct state_plan *ret_plan,
                     struct err *err)
{
    CLEANUP(words_free) struct words words = VEC_EMPTY;
    struct state_plans plans = VEC_EMPTY;
    const char *near;

    if (state_plan_get(world->state, name, ret_plan, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND || state_plan_list(world->state, &plans, err) < 0)
        return -1;
    VEC_FOREACH(plan, &plans)
        *words_push(&words) = plan->name;
    *words_push(&words) = NULL;
    near = str_nearest(name, words.at);
    if (near)
        err_put(err, ERR_NOT_FOUND, 0, "no plan \"%s\"; hint: did you mean \"%s\"?", name, near);
    else
        err_put(err, ERR_NOT_FOUND, 0,
                "no plan \"%s\"; hint: `muster plan list` shows what there is", name);
    state_plans_done(&plans);
    return -1;
}

static int show_plan(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_plan_done) struct state_plan row = {0};
    json_t *document;

    if (need_plan(api_world_of(req), api_param(req, "name"), &row, err) < 0
        || json_parse(row.document, strlen(row.document), &document, err) < 0)
        return -1;
    *ret_reply = plan_json(&row);
    (void)json_object_set_new(*ret_reply, "source", json_string(row.source));
    (void)json_object_set_new(*ret_reply, "document", document);
    return 0;
}

static int show_runbook(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *kind_name = json_get_str(api_in(req), "kind", run_kind_name(RUN_PLANNED));
    int kind = run_kind_parse(kind_name);
    CLEANUP(state_plan_done) struct state_plan row = {0};
    CLEANUP(json_freep) json_t *document = NULL;
    CLEANUP(json_freep) json_t *runbook = NULL;
    CLEANUP(json_freep) json_t *groups = NULL;
    CLEANUP(plan_freep) struct plan *plan = NULL;
    CLEANUP(mem_freep) char *text = NULL;
    struct plan_world plans = {0};

    if (kind < 0)
        return err_set(err, ERR_INVALID, 0,
                       "unknown kind \"%.32s\"; hint: test, planned, unplanned or cleanup",
                       kind_name);
    plans.verbs = verb_all(&plans.verb_count);
    if (need_plan(api_world_of(req), api_param(req, "name"), &row, err) < 0
        || json_parse(row.document, strlen(row.document), &document, err) < 0
        || plan_from_document(&plans, row.name, document, &plan, NULL, err) < 0
        || runner_groups(api_world_of(req)->state, &groups, err) < 0)
        return -1;
    plans.groups = groups; /* for its tasks only: it may be shown whatever became of its groups */
    if (plan_show_text(plan, &plans, (enum run_kind)kind, &text, err) < 0
        || plan_show_json(plan, &plans, (enum run_kind)kind, &runbook, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:s, s:O}", "text", text, "runbook", runbook);
    return 0;
}

static int remove_plan(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(state_plan_done) struct state_plan row = {0};

    (void)ret_reply;
    if (need_plan(api_world_of(req), api_param(req, "name"), &row, err) < 0
        || state_plan_remove(api_world_of(req)->state, row.name, err) < 0)
        return -1;
    return api_audit(req, "plan.remove", row.name, row.hash, err);
}

const struct api_route *api_routes_plans(void)
{
    static const struct api_field add_fields[] = {
        {"source", API_TEXT, true, "the Lua text, at most 1 MiB"},
        {"file", API_TEXT, false, "its name in messages"},
        {0},
    };
    static const struct api_field runbook_fields[] = {
        {"kind", API_TEXT, false, "`test`, `planned`, `unplanned` or `cleanup`; `planned`"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/plans", list_plans, "Lists plans.",
         "`{plans: [{name, hash, origin, added_ms}]}`", NULL},
        {"POST", "/v1/plans", add_plan,
         "Loads, checks and stores a plan, and copies it to every paired site; one of that name is "
         "replaced.",
         "`{name, hash, problems: [{warning, line, text}], copies: [{peer, job}]}`", add_fields},
        {"POST", "/v1/plans/check", check_plan, "Loads and checks a plan, and stores nothing.",
         "`{sound, name, hash, problems: [{warning, line, text}]}`", add_fields},
        {"GET", "/v1/plans/{name}", show_plan, "Shows a plan.",
         "as in the list, with `source` and `document`", NULL},
        {"GET", "/v1/plans/{name}/runbook", show_runbook,
         "Shows what a run of that kind does, step by step.",
         "`{text, runbook: {plan, hash, kind, ends_in, notes, tasks}}`", runbook_fields},
        {"DELETE", "/v1/plans/{name}", remove_plan,
         "Removes a plan at this site; what runs has its own copy.", "`{}`", NULL},
        {0},
    };

    return routes;
}
