// SPDX-License-Identifier: Apache-2.0
/* The safe core per kind, with the plan's steps in it. A table says what the core does; the order of
 * its rows is the order of action. */
#include "base/mem.h"
#include "plan/plan_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum per {
    PER_RUN,          /* once */
    PER_MACHINE,      /* for each machine, in the plan's order */
    PER_MACHINE_BACK, /* last one first; what the plan brings up together, together */
    PER_MACHINE_AT_ONCE,
    PLAN_STEPS, /* here the plan's own steps stand */
};

struct core_row {
    enum per per;
    enum plan_on_failure on_failure;
    const char *verb;
    const char *arg; /* "machine", "group" or NULL */
    const char *stage;
    const char *title; /* %s: the machine */
    const char *id;    /* "core.ID" or "core.ID.MACHINE" */
};

/* Once this site owns the machines, an old side that cannot be told keeps nobody from working: the
 * generation fences it when it comes back. */
#define RETIRE                                                                           \
    {                                                                                    \
        PER_MACHINE_AT_ONCE, PLAN_FAIL_CONTINUE, "core_retire", "group", "Change sides", \
            "Retire the old side of %s", "retire"                                        \
    }
#define STEPS                                                       \
    {                                                               \
        PLAN_STEPS, PLAN_FAIL_DEFAULT, NULL, NULL, NULL, NULL, NULL \
    }
#define END                                                      \
    {                                                            \
        PER_RUN, PLAN_FAIL_DEFAULT, NULL, NULL, NULL, NULL, NULL \
    }

static const struct core_row planned[] = {
    {PER_MACHINE_BACK, PLAN_FAIL_STOP, "core_shutdown", "machine", "Shut down at the source",
     "Shut down %s", "shutdown"},
    {PER_MACHINE_AT_ONCE, PLAN_FAIL_STOP, "core_final_sync", "group", "Send the last changes",
     "Send the last changes of %s", "final-sync"},
    {PER_MACHINE, PLAN_FAIL_STOP, "core_promote", "group", "Change sides", "Promote %s here",
     "promote"},
    RETIRE,
    STEPS,
    END,
};

static const struct core_row unplanned[] = {
    {PER_MACHINE_AT_ONCE, PLAN_FAIL_CONTINUE, "core_hold", "group", "Hold the source",
     "Hold the replication of %s", "hold"},
    {PER_MACHINE, PLAN_FAIL_CONTINUE, "core_promote", "group", "Change sides", "Promote %s here",
     "promote"},
    RETIRE,
    STEPS,
    END,
};

static const struct core_row test[] = {
    {PER_MACHINE, PLAN_FAIL_STOP, "core_pin", "group", "Prepare the test",
     "Keep a point of %s for the test", "pin"},
    {PER_RUN, PLAN_FAIL_STOP, "core_network", NULL, "Prepare the test", "Make the isolated network",
     "network"},
    STEPS,
    END,
};

/* Each removes what it can, whatever the others met; the last one tells what is left. */
static const struct core_row cleanup[] = {
    {PER_MACHINE_BACK, PLAN_FAIL_CONTINUE, "core_cleanup", "machine", "Clean up",
     "Remove the test copy of %s", "cleanup"},
    {PER_MACHINE, PLAN_FAIL_CONTINUE, "core_unpin", "group", "Clean up", "Let the point of %s go",
     "unpin"},
    {PER_RUN, PLAN_FAIL_CONTINUE, "core_network_remove", NULL, "Clean up",
     "Remove the isolated network", "network-remove"},
    {PER_RUN, PLAN_FAIL_STOP, "core_leftovers", NULL, "Clean up", "Look for leftovers",
     "leftovers"},
    END,
};

static const struct core_row commit[] = {
    {PER_MACHINE, PLAN_FAIL_STOP, "commit", "machine", "Commit", "Commit %s", "commit"},
    END,
};

static const struct core_row rollback[] = {
    {PER_MACHINE_BACK, PLAN_FAIL_STOP, "rollback", "machine", "Roll back", "Roll %s back",
     "rollback"},
    END,
};

/* Then all that the plan does with a machine that was brought up. */
static const struct core_row change_point[] = {
    {PER_MACHINE, PLAN_FAIL_STOP, "change_point", "machine", "Change the point",
     "Start %s from another point", "change-point"},
    STEPS,
    END,
};

struct expansion {
    const struct plan *plan;
    const struct plan_world *world;
    enum run_kind kind;
    struct plan_bring_ups ups; /* of this kind */
    struct plan_tasks *tasks;
    unsigned groups; /* numbers given out */
    struct err *err;
};

void plan_tasks_done(struct plan_tasks *tasks)
{
    VEC_FOREACH(task, tasks) {
        VEC_FOREACH(action, &task->actions)
            json_decref(action->args);
        plan_task_actions_free(&task->actions);
        free(task->title);
        free(task->stage);
    }
    plan_tasks_free(tasks);
}

static const struct core_row *core_of(enum run_kind kind)
{
    switch (kind) {
    case RUN_TEST: return test;
    case RUN_PLANNED:
    case RUN_FAILBACK: return planned;
    case RUN_UNPLANNED: return unplanned;
    case RUN_CLEANUP: return cleanup;
    case RUN_COMMIT: return commit;
    case RUN_ROLLBACK: return rollback;
    case RUN_CHANGE_POINT: return change_point;
    case RUN_DRY:
    case RUN_KIND_COUNT: break;
    }
    return NULL;
}

/* What a cleanup removes is what the test brought up; what follows a failover is about what that
 * brought up, whichever it was. */
static unsigned bit_of(enum run_kind kind)
{
    if (kind == RUN_COMMIT || kind == RUN_ROLLBACK || kind == RUN_CHANGE_POINT)
        return RUN_KINDS_REAL;
    return PLAN_KIND_BIT(kind == RUN_CLEANUP ? RUN_TEST : kind);
}

static void keep_of_kind(const struct plan *plan, enum run_kind kind, struct plan_bring_ups *ups)
{
    size_t kept = 0;

    plan_collect(plan, ups);
    for (size_t i = 0; i < ups->len; i++)
        if (plan->steps.at[ups->at[i].step].kinds & bit_of(kind))
            ups->at[kept++] = ups->at[i];
    ups->len = kept;
}

static int add_core_task(struct expansion *x, const struct core_row *row, const char *machine,
                         unsigned group)
{
    const struct verb *verb = NULL;

    for (size_t i = 0; i < x->world->verb_count; i++)
        if (str_eq(x->world->verbs[i]->name, row->verb))
            verb = x->world->verbs[i];
    if (!verb)
        return err_set(x->err, ERR_UNSUPPORTED, 0, "%s runs need %s, which is not there",
                       run_kind_name(x->kind), row->verb);
    struct plan_task *task = plan_tasks_push(x->tasks);
    (void)snprintf(task->id, sizeof(task->id), "core.%s%s%s", row->id, machine ? "." : "",
                   machine ? machine : "");
    CLEANUP(str_free) struct str title = STR_EMPTY;
    const char *place = strstr(row->title, "%s");
    str_add_bytes(&title, row->title, place ? (size_t)(place - row->title) : strlen(row->title));
    if (place)
        str_addf(&title, "%s%s", machine ? machine : "", place + 2);
    task->phase = PLAN_CORE_BEFORE;
    task->title = str_take(&title);
    task->stage = mem_strdup(row->stage);
    task->group = group;
    task->on_failure = row->on_failure;
    struct plan_task_action *action = plan_task_actions_push(&task->actions);
    action->verb = verb;
    action->args = row->arg ? json_pack("{s:s}", row->arg, machine) : json_object();
    return 0;
}

static unsigned plan_group(const struct expansion *x, const struct plan_bring_up *up)
{
    return x->plan->steps.at[up->step].group;
}

/* Machines that are brought up by one parallel block go down together, too. */
static int add_back(struct expansion *x, const struct core_row *row)
{
    unsigned before = 0;

    for (size_t i = x->ups.len; i-- > 0;) {
        unsigned group = plan_group(x, &x->ups.at[i]);
        if (group && group != before)
            x->groups++;
        before = group;
        if (add_core_task(x, row, x->ups.at[i].machine, group ? x->groups : 0) < 0)
            return -1;
    }
    return 0;
}

static int add_core(struct expansion *x, const struct core_row *row)
{
    unsigned group = 0;

    if (row->per == PER_RUN)
        return add_core_task(x, row, NULL, 0);
    if (row->per == PER_MACHINE_BACK)
        return add_back(x, row);
    if (row->per == PER_MACHINE_AT_ONCE && x->ups.len > 1)
        group = ++x->groups;
    VEC_FOREACH(up, &x->ups)
        if (add_core_task(x, row, up->machine, group) < 0)
            return -1;
    return 0;
}

/* What concerns one machine does not hold up the others of an unplanned run. */
static enum plan_on_failure on_failure_of(const struct expansion *x, const struct plan_step *step)
{
    if (step->on_failure != PLAN_FAIL_DEFAULT)
        return step->on_failure;
    if (x->kind == RUN_UNPLANNED)
        VEC_FOREACH(action, &step->actions)
            if (plan_brings_up(action->verb))
                return PLAN_FAIL_CONTINUE;
    return PLAN_FAIL_STOP;
}

/* A change of the point does the plan's steps again, but none that has no part in it: who wants another
 * point has not said that it is final. */
static bool has_part(const struct expansion *x, const struct plan_step *step)
{
    VEC_FOREACH(action, &step->actions)
        if (x->kind == RUN_CHANGE_POINT && action->verb->only
            && !(action->verb->only & PLAN_KIND_BIT(x->kind)))
            return false;
    return (step->kinds & bit_of(x->kind)) != 0;
}

static void add_steps(struct expansion *x)
{
    unsigned from = 0; /* the plan's number of the parallel block at hand */

    VEC_FOREACH(step, &x->plan->steps) {
        if (!has_part(x, step))
            continue;
        if (step->group && step->group != from)
            x->groups++;
        from = step->group;
        struct plan_task *task = plan_tasks_push(x->tasks);
        (void)snprintf(task->id, sizeof(task->id), "%s", step->id);
        task->phase = PLAN_STAGES;
        task->title = mem_strdup(step->title);
        task->stage = mem_strdup(x->plan->stages.at[step->stage].title);
        task->group = step->group ? x->groups : 0;
        task->within_ms = step->within_ms;
        task->retry_times = step->retry_times;
        task->retry_wait_ms = step->retry_wait_ms;
        task->on_failure = on_failure_of(x, step);
        task->body_first = step->body_first;
        task->body_last = step->body_last;
        VEC_FOREACH(action, &step->actions) {
            struct plan_task_action *copy = plan_task_actions_push(&task->actions);
            copy->verb = action->verb;
            copy->args = plan_args_here(x->world, action->verb, action->args);
            copy->line = action->line;
        }
    }
}

static void mark_no_return(struct plan_tasks *tasks)
{
    VEC_FOREACH(task, tasks) {
        VEC_FOREACH(action, &task->actions) {
            if (action->verb->effect != EFFECT_DESTRUCTIVE)
                continue;
            task->point_of_no_return = true;
            return;
        }
    }
}

static int expand(struct expansion *x)
{
    for (const struct core_row *row = core_of(x->kind); row->per == PLAN_STEPS || row->verb;
         row++) {
        if (row->per == PLAN_STEPS)
            add_steps(x);
        else if (add_core(x, row) < 0)
            return -1;
    }
    mark_no_return(x->tasks);
    return 0;
}

int plan_expand(const struct plan *plan, const struct plan_world *world, enum run_kind kind,
                struct plan_tasks *ret_tasks, struct err *err)
{
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    struct expansion x = {.plan = plan, .world = world, .kind = kind, .tasks = &tasks, .err = err};

    if (!core_of(kind))
        return err_set(err, ERR_UNSUPPORTED, 0, "plan %s: there are no %s runs in this version",
                       plan->name, run_kind_name(kind));
    keep_of_kind(plan, kind, &x.ups);
    int rc = x.ups.len ? expand(&x)
                       : err_set(err, ERR_INVALID, 0,
                                 "plan %s has nothing to do in %s runs: no step of it fails over a "
                                 "machine",
                                 plan->name, run_kind_name(kind));
    plan_bring_ups_free(&x.ups);
    if (rc == 0) {
        *ret_tasks = tasks;
        memset(&tasks, 0, sizeof(tasks));
    }
    return rc;
}

json_t *plan_machines(const struct plan *plan, enum run_kind kind)
{
    CLEANUP(plan_bring_ups_free) struct plan_bring_ups ups = VEC_EMPTY;
    json_t *machines = json_array();

    keep_of_kind(plan, kind, &ups);
    VEC_FOREACH(up, &ups)
        (void)json_array_append_new(machines, json_string(up->machine));
    return machines;
}
