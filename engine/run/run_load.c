// SPDX-License-Identifier: Apache-2.0
/* A run's row carries all it needs to go on, in `inputs`:
 *
 *   {name: "lyon-12", site, call: the name verbs use (a cleanup's: its test's), document, hash,
 *    point, last_delta, of_run, of_kind: the failover's, outcome, finished_ms, source: the plan's text when a step of it is
 *    a function,
 *    machines: {NAME: {group, peer, run, point, generation, last_delta; of an earlier try of the
 *               same failover: promoted, cut_ms, past, was: what its machine did}}}
 *
 * The plan's file is never looked at again. What was learnt since (the point that was taken, the
 * generation after promotion) is in the journal's results, and added to `machines` when a real run
 * ends. */
#include "base/fault.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A cleanup, say, does the core's steps only. */
static int check_bodies(const struct runner *runner, const struct plan *plan,
                        const struct plan_tasks *tasks, const char *source, struct err *err)
{
    bool any = false;

    VEC_FOREACH(task, tasks)
        any = any || task->body_first;
    if (!any)
        return 0;
    if (!runner->world.host)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "plan %s: a step of it is a function; there is nothing here to run it",
                       plan->name);
    return plan_source_check(plan, source, err);
}

int run_tasks(struct runner *runner, const json_t *document, const char *source,
              const struct run_of *of, struct plan **ret_plan, struct plan_tasks *ret_tasks,
              struct err *err)
{
    CLEANUP(plan_freep) struct plan *plan = NULL;
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    struct plan_world world = runner_plan_world(runner);

    world.of_kind = of->of_kind;
    world.groups = of->groups;
    if (plan_from_document(&world, "the plan", document, &plan, NULL, err) < 0
        || plan_expand(plan, &world, of->kind, &tasks, err) < 0
        || check_bodies(runner, plan, &tasks, source, err) < 0)
        return -1;
    *ret_tasks = tasks;
    tasks = (struct plan_tasks)VEC_EMPTY;
    *ret_plan = TAKE(plan);
    return 0;
}

void run_learn(struct run *run, const json_t *result)
{
    const json_t *facts = json_object_get(result, "facts");
    const char *name;
    json_t *fact;

    /* The iteration does not change `facts`; jansson's macro wants it not const. */
    json_object_foreach((json_t *)(uintptr_t)facts, name, fact) {
        json_t *machine = json_object_get(run->machines, name);
        if (machine)
            (void)json_object_update(machine, fact);
    }
}

struct state_action *run_journal_find(struct run *run, const struct run_step *step)
{
    VEC_FOREACH(row, &run->journal)
        if (row->step == (int64_t)step->index && row->attempt == step->attempt
            && row->action == (int64_t)step->action)
            return row;
    return NULL;
}

struct state_action *run_journal_newest(struct run *run, size_t step, size_t action)
{
    struct state_action *newest = NULL;

    VEC_FOREACH(row, &run->journal)
        if (row->step == (int64_t)step && row->action == (int64_t)action
            && (!newest || row->attempt > newest->attempt))
            newest = row;
    return newest;
}

static int parse_inputs(struct run *run, struct err *err)
{
    const json_t *document;
    json_t *machines;
    const char *name;

    if (json_parse(run->row.inputs, strlen(run->row.inputs), &run->inputs, err) < 0
        || json_need_str(run->inputs, "name", "inputs", &name, err) < 0
        || json_need_object(run->inputs, "machines", "inputs", &machines, err) < 0)
        return -1;
    document = json_object_get(run->inputs, "document");
    int kind = run_kind_parse(run->row.kind);
    run->state = sm_parse(&run_sm, run->row.state);
    if (kind < 0 || run->state < 0)
        return err_set(err, ERR_CORRUPT, 0, "kind \"%s\", state \"%s\"", run->row.kind,
                       run->row.state);
    run->kind = (enum run_kind)kind;
    (void)snprintf(run->name, sizeof(run->name), "%s", name);
    run->machines = json_deep_copy(machines);
    run->source = json_get_str(run->inputs, "source", "");
    int of_kind = run_kind_parse(json_get_str(run->inputs, "of_kind", ""));
    /* The groups as they were then: the tasks stay what they were. */
    const struct run_of of = {run->kind, of_kind < 0 ? RUN_TEST : (enum run_kind)of_kind,
                              run->machines};
    return run_tasks(run->runner, document, run->source, &of, &run->plan, &run->tasks, err);
}

static void make_steps(struct run *run)
{
    run->steps = mem_new_array(struct run_step, run->tasks.len);
    for (size_t i = 0; i < run->tasks.len; i++) {
        run->steps[i].run = run;
        run->steps[i].index = i;
    }
}

static void learn_all(struct run *run)
{
    VEC_FOREACH(row, &run->journal) {
        CLEANUP(json_freep) json_t *result = NULL;
        if (row->result[0] && json_parse(row->result, strlen(row->result), &result, NULL) == 0)
            run_learn(run, result);
    }
}

int run_load(struct runner *runner, struct state_run *row, struct run **ret_run, struct err *err)
{
    struct run *run = mem_new(struct run);

    run->runner = runner;
    run->row = *row;
    memset(row, 0, sizeof(*row));
    if (parse_inputs(run, err) < 0
        || state_action_list(runner->world.state, run->row.id, &run->journal, err) < 0) {
        (void)err_wrap(err, "run %" PRId64, run->row.id);
        run_free(run);
        return -1;
    }
    make_steps(run);
    learn_all(run);
    run_rebuild(run);
    *ret_run = run;
    return 0;
}
