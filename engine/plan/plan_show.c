// SPDX-License-Identifier: Apache-2.0
/* The runbook. Tasks of one heading are numbered under it: 2.1, 2.2; what may be done at the same
 * time says so. */
#include "base/mem.h"
#include "plan/plan_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What people must know before they begin, and how it ends. */
struct story {
    const char *name;
    const char *notes[4];
    const char *ends_in;
    const char *end; /* the same for people */
};

static const struct story stories[RUN_KIND_COUNT] = {
    [RUN_TEST] = {"test failover",
                  {"Replication goes on; source, replica and production networks are not touched.",
                   "The machines run as copies in an isolated network.", NULL},
                  "cleanup-due",
                  "the test machines run until they are cleaned up: muster cleanup"},
    [RUN_PLANNED] =
        {"planned failover",
         {"Both sites must answer. Nothing is lost: the machines are shut down, then the last changes "
          "are sent.",
          "Any error stops it; running it again goes on where it stopped.", NULL},
         "awaiting-commit",
         "the machines run here; a person commits, or rolls back"},
    [RUN_UNPLANNED] =
        {"unplanned failover",
         {"What was written after the newest point that is durable here is lost; muster status names "
          "its age.",
          "If the other site cannot be reached, Muster cannot stop the old machines: be sure they are "
          "off.",
          "An error of one machine does not stop the others.", NULL},
         "awaiting-commit",
         "the machines run here; a person commits, or rolls back"},
    [RUN_FAILBACK] =
        {"failback",
         {"As a planned failover, in the other direction. Nothing is lost.",
          "The machines start on their own disks. There is no rollback of that: the way "
          "back is a commit and another failover.",
          NULL},
         "awaiting-commit",
         "the machines run here, on their own disks; a person commits"},
    [RUN_COMMIT] = {"commit of a failover",
                    {"The failover is final: no rollback, no other point. Older points stay.",
                     "The other site becomes the replica afterwards; see `muster jobs`.", NULL},
                    "committed",
                    "the machines belong here"},
    [RUN_ROLLBACK] = {"rollback of a failover",
                      {"What the recovered machines wrote is given up.",
                       "The old machines go on where they were; both sites are needed.", NULL},
                      "rolled-back",
                      "the machines run where they were"},
    [RUN_CHANGE_POINT] =
        {"change of the point",
         {"What the recovered machines wrote is given up; all points stay.", NULL},
         "awaiting-commit",
         "the machines run here, from that point; a person commits, or rolls back"},
    [RUN_CLEANUP] = {"cleanup after a test",
                     {"Everything the test made is removed; what it wrote is gone.", NULL},
                     "clean",
                     "nothing of the test is left"},
};

/* A plan may commit all that it brings up. */
static const struct story *story_of(const struct plan_tasks *tasks, enum run_kind kind)
{
    size_t up = 0;
    size_t committed = 0;

    VEC_FOREACH(task, tasks) {
        VEC_FOREACH(action, &task->actions) {
            up += plan_brings_up(action->verb);
            committed += str_eq(action->verb->name, "commit");
        }
    }
    return up > 0 && up == committed ? &stories[RUN_COMMIT] : &stories[kind];
}

static char *describe(const struct plan_task_action *action, enum run_kind kind)
{
    if (action->verb->describe)
        return action->verb->describe(action->args, kind);
    CLEANUP(mem_freep) char *args = json_text(action->args);
    return mem_printf("%s %s", action->verb->name, args);
}

/* "2.1" for task `i`; `heading` and `number` go along. */
static void count(const struct plan_tasks *tasks, size_t i, unsigned *heading, unsigned *number)
{
    bool same = i > 0 && str_eq(tasks->at[i].stage, tasks->at[i - 1].stage)
                && tasks->at[i].phase == tasks->at[i - 1].phase;

    *heading += !same;
    *number = same ? *number + 1 : 1;
}

/* --- For people ------------------------------------------------------------------------------ */

static void show_head(struct str *text, const struct plan *plan, enum run_kind kind)
{
    const struct story *story = &stories[kind];
    char buf[32];

    str_addf(text, "Runbook of plan %s: %s\n", plan->name, story->name);
    if (plan->rto_ms && kind != RUN_CLEANUP)
        str_addf(text, "Promised: back within %s.\n", str_duration(plan->rto_ms, buf, sizeof(buf)));
    if (plan->rpo_ms && kind == RUN_UNPLANNED)
        str_addf(text, "Promised: at most the last %s are lost.\n",
                 str_duration(plan->rpo_ms, buf, sizeof(buf)));
    str_add(text, "\n");
    for (const char *const *note = story->notes; *note; note++)
        str_addf(text, "* %s\n", *note);
}

static void show_bounds(struct str *text, const struct plan_task *task)
{
    char buf[32];
    const char *with = "       (";

    if (task->within_ms) {
        str_addf(text, "%sat most %s", with, str_duration(task->within_ms, buf, sizeof(buf)));
        with = "; ";
    }
    if (task->retry_times) {
        str_addf(text, "%stried again %u times, every %s", with, task->retry_times,
                 str_duration(task->retry_wait_ms, buf, sizeof(buf)));
        with = "; ";
    }
    /* What the core does about failures, the notes say. */
    if (task->on_failure != PLAN_FAIL_STOP && task->phase == PLAN_STAGES) {
        str_addf(text, "%s%s", with,
                 task->on_failure == PLAN_FAIL_PAUSE ? "if it fails, a person is asked"
                                                     : "if it fails, the run goes on");
        with = "; ";
    }
    if (*with == ';')
        str_add(text, ")\n");
}

static void show_task(struct str *text, const struct plan_tasks *tasks, size_t i,
                      enum run_kind kind, const unsigned at[2])
{
    const struct plan_task *task = &tasks->at[i];
    bool beside = task->group
                  && ((i > 0 && tasks->at[i - 1].group == task->group)
                      || (i + 1 < tasks->len && tasks->at[i + 1].group == task->group));

    if (at[1] == 1)
        str_addf(text, "\n%u. %s%s\n", at[0], task->stage,
                 task->phase == PLAN_CORE_BEFORE ? "  [Muster]" : "");
    if (task->point_of_no_return)
        str_add(text, "   ---- point of no return: from here on the run only goes forward ----\n");
    str_addf(text, "  %u.%u  %s%s\n", at[0], at[1], task->title,
             beside ? "  [at the same time]" : "");
    VEC_FOREACH(action, &task->actions) {
        CLEANUP(mem_freep) char *line = describe(action, kind);
        str_addf(text, "       %s\n", line);
    }
    if (task->body_first)
        str_addf(text, "       Runs a function (lines %u-%u).\n", task->body_first,
                 task->body_last);
    show_bounds(text, task);
}

int plan_show_text(const struct plan *plan, const struct plan_world *world, enum run_kind kind,
                   char **ret_text, struct err *err)
{
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    struct str text = STR_EMPTY;
    unsigned at[2] = {0, 0};

    if (plan_expand(plan, world, kind, &tasks, err) < 0)
        return -1;
    show_head(&text, plan, kind);
    for (size_t i = 0; i < tasks.len; i++) {
        count(&tasks, i, &at[0], &at[1]);
        show_task(&text, &tasks, i, kind, at);
    }
    str_addf(&text, "\nIt ends: %s.\n", story_of(&tasks, kind)->end);
    *ret_text = str_take(&text);
    return 0;
}

/* --- For programs ---------------------------------------------------------------------------- */

static json_t *actions_json(const struct plan_task *task, enum run_kind kind)
{
    json_t *actions = json_array();

    VEC_FOREACH(action, &task->actions) {
        CLEANUP(mem_freep) char *line = describe(action, kind);
        (void)json_array_append_new(actions,
                                    json_pack("{s:s, s:O, s:s}", "verb", action->verb->name, "args",
                                              action->args, "describe", line));
    }
    return actions;
}

static json_t *task_json(const struct plan_task *task, enum run_kind kind, const unsigned at[2])
{
    CLEANUP(mem_freep) char *number = mem_printf("%u.%u", at[0], at[1]);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:o}", "id", task->id, "number", number, "phase",
        task->phase == PLAN_CORE_BEFORE ? "core" : "stages", "stage", task->stage, "title",
        task->title, "on_failure", plan_on_failure_name(task->on_failure), "point_of_no_return",
        task->point_of_no_return, "line",
        (int)(task->body_first ? task->body_first : task->actions.at[0].line), "actions",
        actions_json(task, kind));

    if (task->body_first)
        (void)json_object_set_new(
            json, "body",
            json_pack("{s:i, s:i}", "first", (int)task->body_first, "last", (int)task->body_last));

    if (task->group)
        (void)json_object_set_new(json, "group", json_integer(task->group));
    if (task->within_ms)
        (void)json_object_set_new(json, "within_ms", json_integer(task->within_ms));
    if (task->retry_times)
        (void)json_object_set_new(json, "retry",
                                  json_pack("{s:i, s:I}", "times", (int)task->retry_times,
                                            "wait_ms", (json_int_t)task->retry_wait_ms));
    return json;
}

int plan_show_json(const struct plan *plan, const struct plan_world *world, enum run_kind kind,
                   json_t **ret_json, struct err *err)
{
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    unsigned at[2] = {0, 0};

    if (plan_expand(plan, world, kind, &tasks, err) < 0)
        return -1;
    json_t *notes = json_array();
    json_t *list = json_array();
    for (const char *const *note = stories[kind].notes; *note; note++)
        (void)json_array_append_new(notes, json_string(*note));
    for (size_t i = 0; i < tasks.len; i++) {
        count(&tasks, i, &at[0], &at[1]);
        (void)json_array_append_new(list, task_json(&tasks.at[i], kind, at));
    }
    *ret_json = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "plan", plan->name, "hash", plan->hash,
                          "kind", run_kind_name(kind), "ends_in", story_of(&tasks, kind)->ends_in,
                          "notes", notes, "tasks", list);
    return 0;
}
