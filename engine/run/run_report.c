// SPDX-License-Identifier: Apache-2.0
/* A run for people and programs. RTO counts from the declaration to the end of the last step, of a
 * run that reached its end; RPO is the age, at the declaration, of the oldest point that was used, and
 * nothing where a planned run sent what had changed last: the point may be old then, but it has all. */
#include "base/mem.h"
#include "run/run_internal.h"
#include "run/run_start.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- Head ------------------------------------------------------------------------------------- */

static json_t *head_json(const struct state_run *row, const json_t *inputs, int state)
{
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:b, s:s, s:I}", "id",
                     (json_int_t)row->id, "name", json_get_str(inputs, "name", ""), "plan",
                     row->plan, "kind", row->kind, "state", row->state, "reason", row->reason,
                     "who", row->who, "declared_ms", (json_int_t)row->declared_ms, "ended_ms",
                     (json_int_t)row->ended_ms, "active",
                     run_is_active(state) || state == RUN_CLEANING, "outcome",
                     json_get_str(inputs, "outcome", ""), "of_run",
                     (json_int_t)json_get_u64(inputs, "of_run", 0));
}

int runner_list(struct runner *runner, size_t limit, json_t **ret_json, struct err *err)
{
    CLEANUP(state_runs_done) struct state_runs rows = VEC_EMPTY;
    json_t *list;

    if (state_run_list(runner->world.state, false, &rows, err) < 0)
        return -1;
    list = json_array();
    for (size_t i = 0; i < rows.len && i < limit; i++) {
        CLEANUP(json_freep) json_t *inputs = NULL;
        const struct state_run *row = &rows.at[i];
        if (json_parse(row->inputs, strlen(row->inputs), &inputs, NULL) < 0)
            inputs = json_object();
        (void)json_array_append_new(list, head_json(row, inputs, sm_parse(&run_sm, row->state)));
    }
    *ret_json = list;
    return 0;
}

/* --- Steps ------------------------------------------------------------------------------------ */

static json_t *result_json(const struct state_action *row)
{
    json_t *result = NULL;

    if (!row->result[0] || json_parse(row->result, strlen(row->result), &result, NULL) < 0)
        return json_null();
    /* Definitions are long, and shown with the machine. */
    json_t *instances = json_object_get(result, "instance");
    json_t *instance;
    size_t i;
    (void)json_object_del(instances, "definition");
    json_array_foreach(instances, i, instance)
        (void)json_object_del(instance, "definition");
    return result;
}

static json_t *action_json(struct run *run, const struct run_step *step, size_t index)
{
    const struct plan_task_action *action = &run_task(step)->actions.at[index];
    const struct state_action *row = run_journal_newest(run, step->index, index);

    if (!row)
        return json_pack("{s:s, s:O, s:s}", "verb", action->verb->name, "args", action->args,
                         "state", "waiting");
    return json_pack("{s:s, s:O, s:s, s:o, s:s, s:I}", "verb", action->verb->name, "args",
                     action->args, "state", row->state, "result", result_json(row), "error",
                     row->error, "attempt", (json_int_t)row->attempt);
}

/* What its function asked for in the newest attempt, and its end. */
static void add_body_actions(struct run *run, const struct run_step *step, json_t *actions)
{
    VEC_FOREACH(row, &run->journal) {
        if (row->step != (int64_t)step->index || row->attempt != step->attempt)
            continue;
        (void)json_array_append_new(actions,
                                    json_pack("{s:s, s:o, s:s, s:o, s:s, s:I}", "verb", row->verb,
                                              "args", run_row_args(run, row), "state", row->state,
                                              "result", result_json(row), "error", row->error,
                                              "attempt", (json_int_t)row->attempt));
    }
}

static json_t *step_json(struct run *run, const struct run_step *step)
{
    const struct plan_task *task = run_task(step);
    json_t *actions = json_array();

    if (step_has_body(step))
        add_body_actions(run, step, actions);
    for (size_t i = 0; i < task->actions.len; i++)
        (void)json_array_append_new(actions, action_json(run, step, i));
    return json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:s, s:s, s:s, s:b, s:o, s:o*}", "index",
        (json_int_t)step->index, "id", task->id, "stage", task->stage, "title", task->title,
        "state", sm_name(&step_sm, step->state), "required", task->on_failure != PLAN_FAIL_CONTINUE,
        "started_ms", (json_int_t)step->started_ms, "ended_ms", (json_int_t)step->ended_ms,
        "attempts", (json_int_t)step->attempt, "error", step->error.text, "error_code",
        step->error.code ? err_code_name(step->error.code) : "", "on_failure",
        plan_on_failure_name(task->on_failure), "point_of_no_return", task->point_of_no_return,
        "actions", actions, "asks", step->state == STEP_ASKING ? run_ask_json(step) : NULL);
}

static json_t *steps_json(struct run *run)
{
    json_t *steps = json_array();

    for (size_t i = 0; i < run->tasks.len; i++)
        (void)json_array_append_new(steps, step_json(run, &run->steps[i]));
    return steps;
}

/* --- Report ----------------------------------------------------------------------------------- */

/* The last changes are over: the newest point is all there is of the machine. */
static bool is_equal_by_final_sync(const struct run *run, const char *machine)
{
    const char *group = run_group_name(run->machines, machine);

    if (run->kind == RUN_TEST || run->kind == RUN_UNPLANNED)
        return false;
    VEC_FOREACH(row, &run->journal) {
        if (!str_eq(row->verb, "core_final_sync") || !str_eq(row->state, "done"))
            continue;
        CLEANUP(json_freep) json_t *args = run_row_args(run, row);
        if (str_eq(json_get_str(args, "group", ""), group))
            return true;
    }
    return false;
}

/* -1: no point was used yet. */
static int64_t rpo_of(const struct run *run)
{
    int64_t worst = -1;
    const char *name;
    json_t *known;

    json_object_foreach(run->machines, name, known) {
        int64_t cut = (int64_t)json_get_u64(known, "cut_ms", 0);
        if (cut == 0)
            continue;
        int64_t age = run->row.declared_ms - cut;
        if (age < 0 || is_equal_by_final_sync(run, name))
            age = 0;
        worst = age > worst ? age : worst;
    }
    return worst;
}

static json_t *leftovers(const struct run *run)
{
    const json_t *left = json_object_get(run->inputs, "leftovers");

    VEC_FOREACH(row, &run->journal) {
        CLEANUP(json_freep) json_t *result = NULL;
        if (str_eq(row->verb, "core_leftovers") && row->result[0]
            && json_parse(row->result, strlen(row->result), &result, NULL) == 0)
            return json_deep_copy(json_object_get(result, "left"));
    }
    return left ? json_deep_copy(left) : json_array();
}

static bool brings_up(const struct plan_task *task)
{
    for (size_t i = 0; i < task->actions.len; i++)
        if (task->actions.at[i].verb->brings_up)
            return true;
    return false;
}

/* An unplanned run goes on without a machine that fails; back is only who has all. */
static bool reached_its_end(const struct run *run)
{
    if (!str_starts(json_get_str(run->inputs, "outcome", ""), "succeeded"))
        return false;
    for (size_t i = 0; i < run->tasks.len; i++)
        if (run->steps[i].state == STEP_FAILED && brings_up(run_task(&run->steps[i])))
            return false;
    return true;
}

static json_t *report_json(const struct run *run)
{
    int64_t finished = (int64_t)json_get_u64(run->inputs, "finished_ms", 0);
    bool good = reached_its_end(run);
    int64_t rto = good && finished ? finished - run->row.declared_ms : -1;
    int64_t rpo = rpo_of(run);
    json_t *left = leftovers(run);
    bool met = good && (run->plan->rto_ms == 0 || rto <= run->plan->rto_ms)
               && (run->plan->rpo_ms == 0 || rpo <= run->plan->rpo_ms);

    return json_pack("{s:I, s:I, s:I, s:I, s:b, s:I, s:o}", "rto_ms", (json_int_t)rto,
                     "rto_goal_ms", (json_int_t)run->plan->rto_ms, "rpo_ms", (json_int_t)rpo,
                     "rpo_goal_ms", (json_int_t)run->plan->rpo_ms, "met", met, "leftover_count",
                     (json_int_t)json_array_size(left), "leftovers", left);
}

/* Its failover may be rolled back, or get another point. */
static bool is_reversible(const struct run *run)
{
    const char *name;
    json_t *known;

    json_object_foreach(run->machines, name, known)
        if (run_is_own(known))
            return false;
    return run->kind != RUN_FAILBACK
           && (run->state == RUN_AWAITING_COMMIT
               || (run->state == RUN_FAILED && run_is_real(run->kind) && run_past_return(run)));
}

static json_t *run_json(struct run *run)
{
    json_t *json = head_json(&run->row, run->inputs, run->state);
    bool past = run_past_return(run);
    bool active = run_is_active(run->state);

    (void)json_object_set_new(json, "hash", json_string(json_get_str(run->inputs, "hash", "")));
    (void)json_object_set_new(json, "past_no_return", json_boolean(past));
    (void)json_object_set_new(json, "reversible", json_boolean(is_reversible(run)));
    (void)json_object_set_new(
        json, "cancellable",
        json_boolean(!past && (active || (run->state == RUN_FAILED && run_is_real(run->kind)))));
    (void)json_object_set(json, "machines", run->machines);
    (void)json_object_set_new(json, "steps", steps_json(run));
    (void)json_object_set_new(json, "report", report_json(run));
    json_t *copy = json_deep_copy(json); /* nothing of ours is shared with whoever gets it */
    json_decref(json);
    return copy;
}

int runner_get(struct runner *runner, int64_t id, json_t **ret_json, struct err *err)
{
    CLEANUP(state_run_done) struct state_run row = {0};
    struct run *run = runner_find(runner, id);

    if (run) {
        *ret_json = run_json(run);
        return 0;
    }
    if (state_run_get(runner->world.state, id, &row, err) < 0
        || run_load(runner, &row, &run, err) < 0)
        return -1;
    *ret_json = run_json(run);
    run_free(run);
    return 0;
}
