// SPDX-License-Identifier: Apache-2.0
#include "api/api_tables.h"
#include "base/mem.h"
#include "plan/plan.h"
#include "run/run.h"
#include "state/state.h"

#include <inttypes.h>

#define PREVIEW_MS 30000
#define LIST_LIMIT 50
#define LIST_MAX   1000

/* What a spec borrows. */
struct made {
    json_t *document; /* for the occasion: of the machine's group; NULL */
    char group[PLAN_NAME_BYTES];
};

static void made_done(struct made *made)
{
    json_decref(made->document);
}

/* What the body asks for; naming a machine names its group. */
static int read_spec(const struct api_request *req, struct runner_spec *ret_spec,
                     struct made *ret_made, struct err *err)
{
    const json_t *in = api_in(req);
    const char *plan = json_get_str(in, "plan", NULL);
    const char *machine = json_get_str(in, "machine", NULL);
    const char *kind_name = json_get_str(in, "kind", "");
    int kind = run_kind_parse(kind_name);

    bool after = kind == RUN_CLEANUP || kind == RUN_COMMIT || kind == RUN_ROLLBACK
                 || kind == RUN_CHANGE_POINT;

    if (kind < 0 || kind == RUN_DRY)
        return err_set(err, ERR_INVALID, 0,
                       "unknown kind \"%.32s\"; hint: test, planned, unplanned, failback, cleanup, "
                       "commit, rollback or change-point",
                       kind_name);
    if (plan && machine)
        return err_set(err, ERR_INVALID, 0, "name either a plan or a machine");
    if (!plan && !machine && (!after || !json_object_get(in, "of_run")))
        return err_set(err, ERR_INVALID, 0, "name a plan or a machine");
    if (machine)
        ret_made->document =
            runner_group_document(api_world_of(req)->state, machine, ret_made->group);
    *ret_spec = (struct runner_spec){
        .plan = plan      ? plan
                : machine ? ret_made->group
                          : NULL,
        .document = after ? NULL : ret_made->document,
        .kind = (enum run_kind)kind,
        .point = json_get_u64(in, "point", 0),
        .points = json_object_get(in, "points"),
        .last_delta = json_get_bool(in, "last_delta", false),
        .of_run = (int64_t)json_get_u64(in, "of_run", 0),
        .who = api_who(req),
    };
    return 0;
}

static int start_run(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(made_done) struct made made = {0};
    struct runner_spec spec;
    int64_t run;

    if (read_spec(req, &spec, &made, err) < 0
        || runner_start(api_world_of(req)->runner, &spec, &run, err) < 0)
        return -1;
    CLEANUP(mem_freep)
    char *detail = mem_printf("run %" PRId64 " %s", run, run_kind_name(spec.kind));
    if (api_audit(req, "run.start", spec.plan ? spec.plan : "", detail, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:I}", "run", (json_int_t)run);
    return 0;
}

static int ask_preview(void *what, json_t **ret_out, struct cancel *cancel, struct err *err)
{
    return runner_preview_ask(what, ret_out, cancel, err);
}

static void free_preview(void *what)
{
    runner_preview_free(what);
}

static int preview_run(struct api_request *req, json_t **ret_reply, struct err *err)
{
    CLEANUP(made_done) struct made made = {0};
    struct runner_preview *preview;
    struct runner_spec spec;

    (void)ret_reply;
    if (read_spec(req, &spec, &made, err) < 0
        || runner_preview_begin(api_world_of(req)->runner, &spec, &preview, err) < 0)
        return -1;
    return api_defer_over(req, preview, free_preview, PREVIEW_MS, ask_preview);
}

static int list_runs(struct api_request *req, json_t **ret_reply, struct err *err)
{
    uint64_t limit = json_get_u64(api_in(req), "limit", LIST_LIMIT);
    json_t *list;

    if (limit > LIST_MAX)
        return err_set(err, ERR_INVALID, 0, "limit is %" PRIu64 ", the most is %d", limit,
                       LIST_MAX);
    if (runner_list(api_world_of(req)->runner, (size_t)limit, &list, err) < 0)
        return -1;
    *ret_reply = json_pack("{s:o}", "runs", list);
    return 0;
}

static int get_run(struct api_request *req, json_t **ret_reply, struct err *err)
{
    return runner_get(api_world_of(req)->runner, (int64_t)api_param_u64(req, "id"), ret_reply, err);
}

static int cancel_run(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    if (runner_cancel(api_world_of(req)->runner, (int64_t)api_param_u64(req, "id"), api_who(req),
                      err)
        < 0)
        return -1;
    return api_audit(req, "run.cancel", api_param(req, "id"), NULL, err);
}

static int decide(struct api_request *req, json_t **ret_reply, struct err *err)
{
    static const struct {
        const char *word;
        enum runner_decision decision;
    } words[] = {
        {"retry", RUNNER_RETRY},
        {"skip", RUNNER_SKIP},
        {"fail", RUNNER_FAIL},
    };
    const char *word = json_get_str(api_in(req), "decision", "");
    const char *reason = json_get_str(api_in(req), "reason", "");

    (void)ret_reply;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (!str_eq(words[i].word, word))
            continue;
        if (words[i].decision == RUNNER_SKIP && !*reason)
            return err_set(err, ERR_INVALID, 0, "a step is skipped with a reason");
        if (runner_decide(api_world_of(req)->runner, (int64_t)api_param_u64(req, "id"),
                          (size_t)json_get_u64(api_in(req), "step", 0), words[i].decision, reason,
                          api_who(req), err)
            < 0)
            return -1;
        return api_audit(req, "run.decide", api_param(req, "id"), word, err);
    }
    return err_set(err, ERR_INVALID, 0, "unknown decision \"%.32s\"; hint: retry, skip or fail",
                   word);
}

static int answer(struct api_request *req, bool granted, struct err *err)
{
    const json_t *named = json_object_get(api_in(req), "step");
    size_t step = named ? (size_t)json_get_u64(api_in(req), "step", 0) : SIZE_MAX;
    const char *note = json_get_str(api_in(req), "note", "");

    if (runner_answer(api_world_of(req)->runner, (int64_t)api_param_u64(req, "id"), step, granted,
                      note, api_who(req), &step, err)
        < 0)
        return -1;
    CLEANUP(mem_freep)
    char *detail = mem_printf("step %zu%s%s", step + 1, *note ? ": " : "", note);
    return api_audit(req, granted ? "run.approve" : "run.deny", api_param(req, "id"), detail, err);
}

static int approve_run(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    return answer(req, true, err);
}

static int deny_run(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    return answer(req, false, err);
}

const struct api_route *api_routes_runs(void)
{
    static const struct api_field start_fields[] = {
        {"plan", API_NAME, false, "a stored plan; this or `machine`"},
        {"machine", API_NAME, false,
         "one machine, with all of its group, without a plan of one's own"},
        {"kind", API_TEXT, true,
         "`test`, `planned`, `unplanned`, `failback`, `cleanup`, `commit`, `rollback` or "
         "`change-point`"},
        {"point", API_NUMBER, false, "the point to use; the newest one without it"},
        {"points", API_OBJECT, false,
         "`{MACHINE: point}`, of the machines of a plan for which it is another one, with all of their group"},
        {"last_delta", API_BOOL, false,
         "unplanned: try to shut the machines down and fetch a last delta"},
        {"of_run", API_NUMBER, false,
         "cleanup: the test run; commit, rollback, change-point: the failover's; without it the "
         "newest of that plan or machine"},
        {0},
    };
    static const struct api_field list_fields[] = {
        {"limit", API_NUMBER, false, "how many, 50 without it, at most 1000"},
        {0},
    };
    static const struct api_field decide_fields[] = {
        {"step", API_NUMBER, true, "which step, its `index`: counted from 0"},
        {"decision", API_TEXT, true, "`retry`, `skip` (taken as done) or `fail`"},
        {"reason", API_TEXT, false, "why; needed to skip"},
        {0},
    };
    static const struct api_field answer_fields[] = {
        {"step", API_NUMBER, false,
         "which step, its `index`: counted from 0; the only one that asks without it"},
        {"note", API_TEXT, false, "why; it is kept"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/runs", list_runs, "Lists runs, newest first, without their steps.",
         "`{runs: [run]}`", list_fields},
        {"POST", "/v1/runs", start_run, "Starts a run.", "`{run}`, its number", start_fields},
        {"POST", "/v1/runs/preview", preview_run,
         "Says what a run would do and could lose, and starts nothing.",
         "`{plan, kind, machines: [{machine, group, peer, durable_point, durable_age_ms, "
         "applied_point, applied_age_ms, point, loss_bound_ms, peer_answers}], loss_bound_ms, "
         "steps: [title], warnings: [text]}`",
         start_fields},
        {"GET", "/v1/runs/{id}", get_run, "Shows a run, its steps and its report.",
         "`{id, plan, kind, state, reason, who, declared_ms, ended_ms, active, outcome, of_run, "
         "cancellable, reversible, past_no_return, machines, steps: [{index, stage, title, state, required, "
         "started_ms, ended_ms, attempts, error, error_code, point_of_no_return, asks, actions}], "
         "report: {rto_ms, rto_goal_ms, rpo_ms, rpo_goal_ms, met, leftovers, leftover_count}}`; "
         "the last of `actions` of a step that is a function is `return`, its result `{value}`; "
         "`rto_ms` is -1 for a run that did not bring up all; "
         "`active` turns false when nothing is being done and nobody is waited for",
         NULL},
        {"POST", "/v1/runs/{id}/cancel", cancel_run,
         "Lets what is in flight finish, then takes back what can be.", "`{}`", NULL},
        {"POST", "/v1/runs/{id}/decide", decide, "Answers for a step that waits for a person.",
         "`{}`", decide_fields},
        {"POST", "/v1/runs/{id}/approve", approve_run,
         "Says yes to a step that asks. The caller must be one of those the plan names.", "`{}`",
         answer_fields},
        {"POST", "/v1/runs/{id}/deny", deny_run, "Says no to a step that asks: it fails.", "`{}`",
         answer_fields},
        {0},
    };

    return routes;
}
