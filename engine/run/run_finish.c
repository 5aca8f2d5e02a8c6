// SPDX-License-Identifier: Apache-2.0
/* What a run ends in, and what its end means for others: the test it cleaned, the protections and
 * recovered machines that this site shows. */
#include "base/log.h"
#include "base/mem.h"
#include "run/run_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- Protections and instances ------------------------------------------------------------------ */

static void set_protection(struct run *run, const char *machine, const char *text)
{
    struct runner *runner = run->runner;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    const json_t *known = run_known(run->machines, machine);
    struct err err = ERR_EMPTY;

    if (state_protection_get(runner->world.state, json_get_str(known, "group", machine), &row, &err)
        < 0)
        return; /* given up meanwhile: nothing to say about it */
    uint64_t promoted = json_get_u64(known, "promoted", 0);
    if (promoted > row.generation)
        row.generation = promoted;
    if (!str_eq(row.state, text)) {
        free(row.state);
        row.state = mem_strdup(text);
        row.since_ms = runner_wall(runner);
    }
    run_must(state_protection_put(runner->world.state, &row, &err), &err);
}

void run_set_protections(struct run *run, const char *text)
{
    const char *machine;
    json_t *known;

    json_object_foreach(run->machines, machine, known)
        set_protection(run, machine, text);
}

/* After promotion the machine is failed over, whatever the plan's own steps still meet. */
static void settle_protections(struct run *run)
{
    const char *machine;
    json_t *known;

    json_object_foreach(run->machines, machine, known)
        set_protection(run, machine,
                       json_get_bool(known, "committed", false) ? "committed"
                       : json_get_u64(known, "promoted", 0)     ? "failed-over"
                                                                : "failing-over");
}

static void put_instance(struct run *run, const json_t *instance)
{
    CLEANUP(mem_freep) char *definition = NULL;
    struct err err = ERR_EMPTY;

    if (json_object_get(instance, "definition"))
        definition = json_text(json_object_get(instance, "definition"));
    CLEANUP(state_instance_done)
    struct state_instance row = {
        .run = mem_strdup(json_get_str(instance, "run", run->name)),
        .machine = mem_strdup(json_get_str(instance, "machine", "")),
        .test = json_get_bool(instance, "test", true),
        .definition = mem_strdup(definition ? definition : "{}"),
        .group = mem_strdup(json_get_str(instance, "group", "")),
        .point = json_get_u64(instance, "point", 0),
        .run_dir = mem_strdup(json_get_str(instance, "run_dir", "")),
        .netns = mem_strdup(json_get_str(instance, "netns", "")),
    };
    run_must(state_instance_put(run->runner->world.state, &row, &err), &err);
}

static void remove_instance(struct run *run, const char *machine)
{
    const json_t *known = json_object_get(run->machines, machine);
    struct err err = ERR_EMPTY;
    int rc = state_instance_remove(run->runner->world.state, json_get_str(known, "run", run->name),
                                   machine, &err);

    if (rc < 0 && err.code == ERR_NOT_FOUND)
        return;
    run_must(rc, &err);
}

/* A name, or a list of names. */
static void remove_instances(struct run *run, const json_t *names)
{
    const json_t *name;
    size_t i;

    if (json_is_string(names))
        remove_instance(run, json_string_value(names));
    json_array_foreach(names, i, name)
        remove_instance(run, json_string_value(name));
}

/* One, or a list. */
static void put_instances(struct run *run, const json_t *instances)
{
    const json_t *instance;
    size_t i;

    if (json_is_object(instances))
        put_instance(run, instances);
    json_array_foreach(instances, i, instance)
        put_instance(run, instance);
}

/* Of any machine: all of a group learn it together. */
static bool tells_promotion(const json_t *facts)
{
    const char *machine;
    json_t *fact;

    json_object_foreach((json_t *)(uintptr_t)facts, machine, fact)
        if (json_object_get(fact, "promoted"))
            return true;
    return false;
}

void run_note_result(struct run *run, const struct run_step *step, const json_t *result)
{
    const char *group = json_get_str(run_action(step)->args, "group", "");

    put_instances(run, json_object_get(result, "instance"));
    remove_instances(run, json_object_get(result, "removed"));
    if (json_get_bool(result, "own", false))
        /* our own machines again, nothing else */
        remove_instances(run, json_object_get(result, "committed"));
    if (*group && tells_promotion(json_object_get(result, "facts")))
        set_protection(run, group, "failing-over");
}

/* --- The run that this one works on ---------------------------------------------------------------- */

/* What the last look for leftovers found (borrowed by the run's journal: new reference). */
static json_t *leftovers_of(const struct run *run)
{
    json_t *left = NULL;

    VEC_FOREACH(row, &run->journal) {
        CLEANUP(json_freep) json_t *result = NULL;
        if (!str_eq(row->verb, "core_leftovers") || !row->result[0]
            || json_parse(row->result, strlen(row->result), &result, NULL) < 0)
            continue;
        json_decref(left);
        left = json_incref(json_object_get(result, "left"));
    }
    return left ? left : json_array();
}

void run_move_of(struct run *run, enum run_state state, const char *reason)
{
    struct runner *runner = run->runner;
    int64_t id = (int64_t)json_get_u64(run->inputs, "of_run", 0);
    CLEANUP(state_run_done) struct state_run row = {0};
    CLEANUP(json_freep) json_t *inputs = NULL;
    struct err err = ERR_EMPTY;

    run_must(state_run_get(runner->world.state, id, &row, &err), &err);
    run_must(json_parse(row.inputs, strlen(row.inputs), &inputs, &err), &err);
    int from = sm_parse(&run_sm, row.state);
    sm_move(&run_sm, &from, (int)state);
    if (run->kind == RUN_CLEANUP) {
        (void)json_object_set_new(inputs, "cleanup", json_integer(run->row.id));
        (void)json_object_set_new(inputs, "leftovers", leftovers_of(run));
    } else {
        (void)json_object_set_new(inputs, "followed_by", json_integer(run->row.id));
    }
    free(row.state);
    free(row.reason);
    free(row.inputs);
    row.state = mem_strdup(sm_name(&run_sm, (int)state));
    row.reason = mem_strdup(reason);
    row.inputs = json_text(inputs);
    bool over = state == RUN_CLEAN || state == RUN_COMMITTED || state == RUN_ROLLED_BACK;
    row.ended_ms = over ? runner_wall(runner) : 0;
    run_must(state_run_put(runner->world.state, &row, &err), &err);
    runner->changes++;
    if (runner->world.changed)
        runner->world.changed(runner->world.ctx, id);
}

void run_note_of(struct run *run, const char *reason)
{
    struct runner *runner = run->runner;
    CLEANUP(state_run_done) struct state_run row = {0};
    struct err err = ERR_EMPTY;

    run_must(state_run_get(runner->world.state, (int64_t)json_get_u64(run->inputs, "of_run", 0),
                           &row, &err),
             &err);
    free(row.reason);
    row.reason = mem_strdup(reason);
    run_must(state_run_put(runner->world.state, &row, &err), &err);
}

/* --- Ends ---------------------------------------------------------------------------------------- */

static size_t count_steps(const struct run *run, enum step_state state)
{
    size_t count = 0;

    for (size_t i = 0; i < run->tasks.len; i++)
        count += run->steps[i].state == (int)state;
    return count;
}

static bool any_promoted(const struct run *run)
{
    const char *machine;
    json_t *known;

    json_object_foreach(run->machines, machine, known)
        if (json_get_u64(known, "promoted", 0))
            return true;
    return false;
}

static void finish_cleanup(struct run *run, bool failed, const char *reason)
{
    run_move(run, failed ? RUN_FAILED : RUN_SUCCEEDED, reason);
    run_move_of(run, failed ? RUN_CLEANUP_FAILED : RUN_CLEAN, reason);
}

/* All that came over were committed by steps of the plan. */
static bool all_committed(const struct run *run)
{
    const char *machine;
    json_t *known;

    json_object_foreach(run->machines, machine, known)
        if (json_get_u64(known, "promoted", 0) && !json_get_bool(known, "committed", false))
            return false;
    return true;
}

static void finish_real(struct run *run, bool failed, const char *reason)
{
    if (!failed && !any_promoted(run)) {
        failed = true;
        reason = "no machine was promoted; hint: see the steps' errors";
        (void)json_object_set_new(run->inputs, "outcome", json_string("failed"));
    }
    bool committed = all_committed(run);
    run_move(run, failed ? RUN_FAILED : committed ? RUN_COMMITTED : RUN_AWAITING_COMMIT, reason);
    settle_protections(run);
    run_tell_committed(run);
}

static void audit_end(struct run *run)
{
    struct runner *runner = run->runner;
    CLEANUP(mem_freep)
    char *detail = mem_printf("run %" PRId64 " %s: %s", run->row.id, run->row.kind,
                              sm_name(&run_sm, run->state));
    struct err err = ERR_EMPTY;

    run_must(state_audit(runner->world.state, runner_wall(runner), run->row.who, "run.end",
                         run->row.plan, detail, &err),
             &err);
}

/* What the next try of the same failover must know. */
static void keep_knowledge(struct run *run)
{
    const char *machine;
    json_t *known;

    json_object_foreach(run->machines, machine, known)
        (void)json_object_set_new(known, "past",
                                  json_boolean(run_machine_past_return(run, machine)));
    (void)json_object_set(run->inputs, "machines", run->machines);
}

void run_finish(struct run *run, const struct run_step *failed)
{
    size_t errors = count_steps(run, STEP_FAILED);
    CLEANUP(mem_freep) char *reason = NULL;

    if (failed)
        reason = mem_printf("step %zu \"%s\": %s", failed->index + 1, run_task(failed)->title,
                            failed->error.text);
    else if (errors > 0)
        reason = mem_printf("%zu of %zu steps failed", errors, run->tasks.len);
    else
        reason = mem_strdup("");
    (void)json_object_set_new(run->inputs, "outcome",
                              json_string(failed       ? "failed"
                                          : errors > 0 ? "succeeded-with-errors"
                                                       : "succeeded"));
    (void)json_object_set_new(run->inputs, "finished_ms", json_integer(runner_wall(run->runner)));
    if (run_is_real(run->kind))
        keep_knowledge(run);
    if (run->kind == RUN_TEST)
        run_move(run, RUN_CLEANUP_DUE, reason);
    else if (run->kind == RUN_CLEANUP)
        finish_cleanup(run, failed != NULL, reason);
    else if (run_is_after(run->kind))
        run_finish_after(run, failed != NULL, reason);
    else
        finish_real(run, failed != NULL, reason);
    audit_end(run);
    run_retire(run);
}

void run_finish_cancelled(struct run *run)
{
    CLEANUP(mem_freep) char *reason = mem_strdup(run->row.reason);

    for (size_t i = 0; i < run->tasks.len; i++)
        if (run->steps[i].state == STEP_RUNNING || run->steps[i].state == STEP_RETRYING)
            step_move(&run->steps[i], STEP_FAILED); /* was cut off */
    (void)json_object_set_new(run->inputs, "outcome", json_string("cancelled"));
    (void)json_object_set_new(run->inputs, "finished_ms", json_integer(runner_wall(run->runner)));
    if (run->undo_failed) {
        CLEANUP(mem_freep)
        char *text = mem_printf("%s, but not all of it could be undone; hint: %s", reason,
                                run->kind == RUN_TEST ? "muster cleanup removes the rest"
                                                      : "see the steps, then cancel again");
        run_move(run, run->kind == RUN_TEST ? RUN_CLEANUP_DUE : RUN_FAILED, text);
    } else {
        const char *machine;
        json_t *known;
        run_move(run, RUN_CANCELLED, reason);
        if (run->kind == RUN_TEST)
            json_object_foreach(run->machines, machine, known)
                remove_instance(run, machine);
        else if (run_is_real(run->kind))
            run_set_protections(run, "protected");
    }
    if (run->kind == RUN_CLEANUP)
        run_move_of(run, RUN_CLEANUP_DUE, "its cleanup was cancelled");
    audit_end(run);
    run_retire(run);
}
