// SPDX-License-Identifier: Apache-2.0
/* The rows of a step that is a function. Its actions are numbered per attempt as it asked for them;
 * the last one of an attempt that ended is "return": "done" with {"value": V}, "failed" or "skipped".
 * So the newest attempt's last row says how far the step is. */
#include "base/mem.h"
#include "run/run_internal.h"

#include <stdlib.h>
#include <string.h>

#define END "return"

const struct verb *run_row_verb(const struct run *run, const struct state_action *row)
{
    const struct plan_task *task = &run->tasks.at[row->step];

    if (task->body_first)
        return runner_verb(run->runner, row->verb);
    return (size_t)row->action < task->actions.len ? task->actions.at[row->action].verb : NULL;
}

json_t *run_row_args(const struct run *run, const struct state_action *row)
{
    const struct plan_task *task = &run->tasks.at[row->step];
    json_t *args;

    if (!task->body_first && (size_t)row->action < task->actions.len)
        return json_incref(task->actions.at[row->action].args);
    return json_parse(row->args, strlen(row->args), &args, NULL) == 0 ? args : json_object();
}

/* The last row of the step's attempt; NULL: it has none. */
static struct state_action *last_row(const struct run_step *step)
{
    struct state_action *last = NULL;

    VEC_FOREACH(row, &step->run->journal)
        if (row->step == (int64_t)step->index && row->attempt == step->attempt
            && (!last || row->action > last->action))
            last = row;
    return last;
}

size_t run_body_rows(const struct run_step *step)
{
    const struct state_action *last = last_row(step);

    return last ? (size_t)last->action + 1 : 0;
}

void run_body_write_end(struct run_step *step, const char *state, const json_t *value,
                        const struct err *error)
{
    CLEANUP(json_freep) json_t *result = NULL;

    if (value)
        result = json_pack("{s:O}", "value", (json_t *)(uintptr_t)value);
    step->action = run_body_rows(step);
    run_write_result(step->run, run_journal_add(step, END, NULL), state, result, error);
}

int run_body_decide(struct run_step *step, const char *state, const char *text, struct err *err)
{
    struct run *run = step->run;
    struct state_action *row = last_row(step);

    if (!row || !str_eq(row->verb, END)) {
        step->action = run_body_rows(step);
        row = run_journal_add(step, END, NULL);
    }
    free(row->state);
    free(row->error);
    free(row->error_code);
    row->state = mem_strdup(state);
    row->error = mem_strdup(text);
    row->error_code = mem_strdup(""); /* nobody's error: it is not tried again */
    row->ended_ms = runner_wall(run->runner);
    return state_action_put(run->runner->world.state, row, err);
}

static bool is_undone(const struct run_step *step)
{
    VEC_FOREACH(row, &step->run->journal)
        if (row->step == (int64_t)step->index
            && (str_eq(row->state, "undoing") || str_eq(row->state, "undone")
                || str_eq(row->state, "undo-failed")))
            return true;
    return false;
}

static enum step_state state_of(const struct state_action *last)
{
    if (str_eq(last->state, "unknown"))
        return STEP_UNKNOWN;
    if (!str_eq(last->verb, END))
        return STEP_RUNNING; /* between two actions, or in one */
    return str_eq(last->state, "done")      ? STEP_DONE
           : str_eq(last->state, "skipped") ? STEP_SKIPPED
                                            : STEP_FAILED;
}

void run_body_rebuild(struct run_step *step)
{
    const struct state_action *last = last_row(step);

    step->state = is_undone(step) ? STEP_UNDONE : (int)state_of(last);
    if (step->state != STEP_DONE && step->state != STEP_RUNNING)
        step_load_error(step, last);
}

/* --- What other steps may read ------------------------------------------------------------------- */

static const struct run_step *find_step(const struct run *run, const char *title)
{
    for (size_t i = 0; i < run->tasks.len; i++)
        if (str_eq(run->tasks.at[i].title, title))
            return &run->steps[i];
    return NULL;
}

/* A step of the plan that runs of this kind do not have: nothing to read. */
static int check_title(const struct run *run, const char *title, struct err *err)
{
    const char **titles = mem_new_array(const char *, run->plan->steps.len + 1);
    bool known = false;

    for (size_t i = 0; i < run->plan->steps.len; i++) {
        titles[i] = run->plan->steps.at[i].title;
        known = known || str_eq(titles[i], title);
    }
    const char *nearest = known ? NULL : str_nearest(title, titles);
    free(titles);
    if (known)
        return 0;
    CLEANUP(json_freep) json_t *text = json_string(title);
    CLEANUP(mem_freep) char *quoted = json_dumps(text, JSON_ENCODE_ANY);
    return err_set(err, ERR_INVALID, 0, "result: no step is called %.200s%s%s%s", quoted,
                   nearest ? " (did you mean \"" : "", nearest ? nearest : "",
                   nearest ? "\"?)" : "");
}

static json_t *result_of_row(const struct state_action *row)
{
    json_t *result = NULL;

    return json_parse(row->result, strlen(row->result), &result, NULL) == 0 ? result
                                                                            : json_object();
}

/* The value of a function, a list of what its verbs gave of another. NULL: nothing. */
static json_t *value_of(const struct run_step *step)
{
    json_t *list;

    if (step->state != STEP_DONE)
        return NULL;
    if (step_has_body(step)) {
        CLEANUP(json_freep) json_t *end = result_of_row(last_row(step));
        json_t *value = json_object_get(end, "value");
        return json_is_null(value) ? NULL : json_incref(value);
    }
    list = json_array();
    for (size_t i = 0; i < run_task(step)->actions.len; i++) {
        const struct state_action *row = run_journal_newest(step->run, step->index, i);
        (void)json_array_append_new(list, row ? result_of_row(row) : json_object());
    }
    return list;
}

int run_body_result_of(const struct run_step *step, const char *title, json_t **ret_answer,
                       struct err *err)
{
    const struct run_step *of = find_step(step->run, title);
    json_t *value = NULL;

    if (!of && check_title(step->run, title, err) < 0)
        return -1;
    if (of && of->index >= step->index)
        return err_set(err, ERR_INVALID, 0, "result: step \"%s\" is not over before this one",
                       title);
    if (of && run_task(of)->group && run_task(of)->group == run_task(step)->group)
        return err_set(err, ERR_INVALID, 0, "result: step \"%s\" runs at the same time as this one",
                       title);
    if (of)
        value = value_of(of);
    *ret_answer = value ? json_pack("{s:o}", "result", value) : json_object();
    return 0;
}
