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
    PER_MACHINE_BACK, /* last one first; what the plan brings up together, together */
    PER_GROUP,        /* for each group, in the order of their first machines */
    PER_GROUP_BACK,
    PER_GROUP_AT_ONCE,
    PLAN_STEPS, /* here the plan's own steps stand */
};

struct core_row {
    enum per per;
    enum plan_on_failure on_failure;
    const char *verb;
    const char *arg; /* "machine" (of a group: its first one), "group" or NULL */
    const char *stage;
    const char *title; /* %s: the machine, or the group */
    const char *id;    /* "core.ID" or "core.ID.MACHINE" or "core.ID.GROUP" */
};

/* Once this site owns the machines, an old side that cannot be told keeps nobody from working: the
 * generation fences it when it comes back. */
#define RETIRE                                                                         \
    {                                                                                  \
        PER_GROUP_AT_ONCE, PLAN_FAIL_CONTINUE, "core_retire", "group", "Change sides", \
            "Retire the old side of %s", "retire"                                      \
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
    {PER_GROUP_AT_ONCE, PLAN_FAIL_STOP, "core_final_sync", "group", "Send the last changes",
     "Send the last changes of %s", "final-sync"},
    {PER_GROUP, PLAN_FAIL_STOP, "core_promote", "group", "Change sides", "Promote %s here",
     "promote"},
    RETIRE,
    STEPS,
    END,
};

static const struct core_row unplanned[] = {
    {PER_GROUP_AT_ONCE, PLAN_FAIL_CONTINUE, "core_hold", "group", "Hold the source",
     "Hold the replication of %s", "hold"},
    {PER_GROUP, PLAN_FAIL_CONTINUE, "core_promote", "group", "Change sides", "Promote %s here",
     "promote"},
    RETIRE,
    STEPS,
    END,
};

static const struct core_row test[] = {
    {PER_GROUP, PLAN_FAIL_STOP, "core_pin", "group", "Prepare the test",
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
    {PER_GROUP, PLAN_FAIL_CONTINUE, "core_unpin", "group", "Clean up", "Let the point of %s go",
     "unpin"},
    {PER_RUN, PLAN_FAIL_CONTINUE, "core_network_remove", NULL, "Clean up",
     "Remove the isolated network", "network-remove"},
    {PER_RUN, PLAN_FAIL_STOP, "core_leftovers", NULL, "Clean up", "Look for leftovers",
     "leftovers"},
    END,
};

static const struct core_row commit[] = {
    {PER_GROUP, PLAN_FAIL_STOP, "commit", "machine", "Commit", "Commit %s", "commit"},
    END,
};

static const struct core_row rollback[] = {
    {PER_GROUP_BACK, PLAN_FAIL_STOP, "rollback", "machine", "Roll back", "Roll %s back",
     "rollback"},
    END,
};

/* Then all that the plan does with a machine that was brought up. */
static const struct core_row change_point[] = {
    {PER_GROUP, PLAN_FAIL_STOP, "change_point", "machine", "Change the point",
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
static unsigned bit_of(enum run_kind kind, enum run_kind of_kind)
{
    if (kind == RUN_COMMIT || kind == RUN_ROLLBACK || kind == RUN_CHANGE_POINT)
        return of_kind == RUN_TEST ? RUN_KINDS_REAL : PLAN_KIND_BIT(of_kind);
    return PLAN_KIND_BIT(kind == RUN_CLEANUP ? RUN_TEST : kind);
}

static void keep_of_kind(const struct plan *plan, enum run_kind kind, enum run_kind of_kind,
                         struct plan_bring_ups *ups)
{
    size_t kept = 0;

    plan_collect(plan, ups);
    for (size_t i = 0; i < ups->len; i++)
        if (plan->steps.at[ups->at[i].step].kinds & bit_of(kind, of_kind))
            ups->at[kept++] = ups->at[i];
    ups->len = kept;
}

/* Whom a core's task is for; all NULL: the run. */
struct subject {
    const char *name;    /* a machine, or a group */
    const char *title;   /* for people */
    const char *machine; /* itself, or the group's first */
    unsigned group;      /* number of those that go at once; 0: alone */
};

static int add_core_task(struct expansion *x, const struct core_row *row,
                         const struct subject *subject)
{
    const struct verb *verb = NULL;

    for (size_t i = 0; i < x->world->verb_count; i++)
        if (str_eq(x->world->verbs[i]->name, row->verb))
            verb = x->world->verbs[i];
    if (!verb)
        return err_set(x->err, ERR_UNSUPPORTED, 0, "%s runs need %s, which is not there",
                       run_kind_name(x->kind), row->verb);
    struct plan_task *task = plan_tasks_push(x->tasks);
    (void)snprintf(task->id, sizeof(task->id), "core.%s%s%s", row->id, subject->name ? "." : "",
                   subject->name ? subject->name : "");
    CLEANUP(str_free) struct str title = STR_EMPTY;
    const char *place = strstr(row->title, "%s");
    str_add_bytes(&title, row->title, place ? (size_t)(place - row->title) : strlen(row->title));
    if (place)
        str_addf(&title, "%s%s", subject->title ? subject->title : "", place + 2);
    task->phase = PLAN_CORE_BEFORE;
    task->title = str_take(&title);
    task->stage = mem_strdup(row->stage);
    task->group = subject->group;
    task->on_failure = row->on_failure;
    struct plan_task_action *action = plan_task_actions_push(&task->actions);
    action->verb = verb;
    action->args = !row->arg
                       ? json_object()
                       : json_pack("{s:s}", row->arg,
                                   str_eq(row->arg, "group") ? subject->name : subject->machine);
    return 0;
}

static unsigned plan_group(const struct expansion *x, const struct plan_bring_up *up)
{
    return x->plan->steps.at[up->step].group;
}

/* The first machine of its group that the plan brings up? */
static bool is_first(const struct expansion *x, size_t at)
{
    const char *group = plan_group_of(x->world, x->ups.at[at].machine);

    for (size_t i = 0; i < at; i++)
        if (str_eq(plan_group_of(x->world, x->ups.at[i].machine), group))
            return false;
    return true;
}

static int add_machine(struct expansion *x, const struct core_row *row, size_t at, unsigned number)
{
    const char *machine = x->ups.at[at].machine;
    const struct subject subject = {machine, machine, machine, number};

    return add_core_task(x, row, &subject);
}

static int add_group(struct expansion *x, const struct core_row *row, size_t first, unsigned number)
{
    const char *machine = x->ups.at[first].machine;
    const char *group = plan_group_of(x->world, machine);
    CLEANUP(mem_freep) char *title = plan_group_title(x->world, group);
    const struct subject subject = {group, title, machine, number};

    return add_core_task(x, row, &subject);
}

/* Machines that are brought up by one parallel block go down together, too. */
static int add_back(struct expansion *x, const struct core_row *row)
{
    unsigned before = 0;

    for (size_t i = x->ups.len; i-- > 0;) {
        unsigned group = plan_group(x, &x->ups.at[i]);
        if (row->per == PER_GROUP_BACK && !is_first(x, i))
            continue;
        if (group && group != before)
            x->groups++;
        before = group;
        unsigned number = group ? x->groups : 0;
        if ((row->per == PER_GROUP_BACK ? add_group : add_machine)(x, row, i, number) < 0)
            return -1;
    }
    return 0;
}

static int add_core(struct expansion *x, const struct core_row *row)
{
    const struct subject run = {0};
    unsigned number = 0;
    size_t count = 0;

    if (row->per == PER_RUN)
        return add_core_task(x, row, &run);
    if (row->per == PER_MACHINE_BACK || row->per == PER_GROUP_BACK)
        return add_back(x, row);
    for (size_t i = 0; i < x->ups.len; i++)
        count += is_first(x, i);
    if (row->per == PER_GROUP_AT_ONCE && count > 1)
        number = ++x->groups;
    for (size_t i = 0; i < x->ups.len; i++)
        if (is_first(x, i) && add_group(x, row, i, number) < 0)
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
    return (step->kinds & bit_of(x->kind, x->world->of_kind)) != 0;
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
    keep_of_kind(plan, kind, world->of_kind, &x.ups);
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

    keep_of_kind(plan, kind, RUN_TEST, &ups);
    VEC_FOREACH(up, &ups)
        (void)json_array_append_new(machines, json_string(up->machine));
    return machines;
}
