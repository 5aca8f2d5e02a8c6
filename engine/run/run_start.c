// SPDX-License-Identifier: Apache-2.0
/* May a run start, and with what.
 *
 * Two runs never work on one machine at once. A test keeps off the machine itself (an isolated copy
 * of a kept point), so it holds up no real failover; it does hold up another test, until it is
 * cleaned.
 *
 * A failover that failed is gone on with by the next real run of the same machine: that one takes
 * over the name under which the machine was held, promoted and started, so that nothing is done
 * twice and nobody is locked out by his own first try. */
#include "run/run_start.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void run_request_done(struct run_request *request)
{
    json_decref(request->document);
    free(request->source);
    json_decref(request->machines);
    json_decref(request->test_inputs);
    plan_tasks_done(&request->tasks);
    plan_free(request->plan);
    memset(request, 0, sizeof(*request));
}

/* --- What is to be run ---------------------------------------------------------------------------- */

static int find_document(struct runner *runner, const struct runner_spec *spec,
                         struct run_request *request, struct err *err)
{
    CLEANUP(state_plan_done) struct state_plan plan = {0};

    (void)snprintf(request->plan_name, sizeof(request->plan_name), "%s",
                   spec->plan ? spec->plan : "");
    if (spec->document) {
        request->document = json_deep_copy(spec->document);
        return 0;
    }
    if (state_plan_get(runner->world.state, spec->plan, &plan, err) < 0)
        return err->code == ERR_NOT_FOUND ? err_set(
                   err, ERR_NOT_FOUND, 0, "no plan \"%s\"; hint: muster plan list", spec->plan)
                                          : -1;
    if (json_parse(plan.document, strlen(plan.document), &request->document, err) < 0)
        return -1;
    if (json_object_get(request->document, "source"))
        request->source = mem_strdup(plan.source);
    return 0;
}

/* --- Its machines ---------------------------------------------------------------------------------- */

/* This site must hold the replica: a run executes where the machines are to be. */
static int check_side(const struct runner *runner, enum run_kind kind, const char *machine,
                      const struct state_protection *row, struct err *err)
{
    const char *here = runner->world.here->name;
    bool moving = str_eq(row->state, "failing-over");

    if (str_eq(row->role, "replica"))
        return 0;
    if (moving || str_eq(row->state, "failed-over"))
        return err_set(err, ERR_STATE, 0,
                       "%s %s failed over to %s: the run that has it is there; hint: `muster run "
                       "list` at %s",
                       machine, moving ? "is being" : "was", row->peer, row->peer);
    if (kind == RUN_FAILBACK)
        return err_set(err, ERR_STATE, 0, "%s is at %s, protected to %s: it need not come back",
                       machine, here, row->peer);
    return err_set(err, ERR_STATE, 0,
                   "%s is protected from %s to %s: its replica is there; hint: run this at %s",
                   machine, here, row->peer, row->peer);
}

/* The way back has a name of its own, by which plans know it. */
static int check_way(const struct runner *runner, enum run_kind kind, const char *machine,
                     struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine own = {0};
    struct err missing = ERR_EMPTY;

    if (kind != RUN_FAILBACK && kind != RUN_PLANNED)
        return 0;
    bool from_here = state_machine_get(runner->world.state, machine, &own, &missing) == 0;
    if (!from_here && missing.code != ERR_NOT_FOUND) {
        *err = missing;
        return -1;
    }
    if (from_here == (kind == RUN_FAILBACK))
        return 0;
    return from_here ? err_set(err, ERR_STATE, 0,
                               "%s came from %s: this is its way back; hint: `muster failback %s`, "
                               "`muster run PLAN --kind failback`",
                               machine, runner->world.here->name, machine)
                     : err_set(err, ERR_STATE, 0,
                               "%s did not come from %s, there is no way back to it; hint: `muster "
                               "failover %s --planned`",
                               machine, runner->world.here->name, machine);
}

/* The newest real run of the machine that was not taken back, when it failed: its knowledge of the
 * machine (borrowed from `inputs`). */
static const json_t *unfinished(const struct state_runs *rows, const char *machine,
                                int64_t protected_ms, json_t **ret_inputs)
{
    VEC_FOREACH(row, rows) { /* newest first */
        if (row->declared_ms < protected_ms)
            return NULL; /* of an earlier replica under that name */
        CLEANUP(json_freep) json_t *inputs = NULL;
        int kind = run_kind_parse(row->kind);
        if (kind < 0 || !run_is_real((enum run_kind)kind)
            || json_parse(row->inputs, strlen(row->inputs), &inputs, NULL) < 0)
            continue;
        const json_t *known = json_object_get(json_object_get(inputs, "machines"), machine);
        if (!known || str_eq(row->state, "cancelled"))
            continue;
        if (!str_eq(row->state, "failed"))
            return NULL;
        *ret_inputs = json_incref(inputs);
        return known;
    }
    return NULL;
}

/* When the replica was begun. */
static int64_t created_ms(const struct state_protection *row)
{
    CLEANUP(json_freep) json_t *settings = NULL;

    if (json_parse(row->settings, strlen(row->settings), &settings, NULL) < 0)
        return 0;
    return (int64_t)json_get_u64(settings, "created_ms", 0);
}

/* Under the same name nothing is done twice. Once one of the tries may have promoted the machine,
 * there is no way back for the next ones either. */
static void inherit(json_t *known, const json_t *before)
{
    static const char *const keys[] = {"run", "generation", "promoted", "past", "cut_ms", "was"};

    for (size_t i = 0; before && i < ARRAY_LEN(keys); i++)
        if (json_object_get(before, keys[i]))
            (void)json_object_set(known, keys[i], json_object_get(before, keys[i]));
    if (json_object_get(before, "promoted"))
        (void)json_object_set(known, "point", json_object_get(before, "point"));
}

static int add_machine(struct runner *runner, const struct runner_spec *spec, const char *machine,
                       struct run_request *request, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_protection_of(runner->world.state, machine, &row, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, 0,
                             "%s holds no replica of \"%s\"; hint: muster status shows what is"
                             " protected",
                             runner->world.here->name, machine)
                   : -1;
    if (check_side(runner, spec->kind, machine, &row, err) < 0
        || check_way(runner, spec->kind, machine, err) < 0)
        return -1;
    json_t *known = json_pack("{s:s, s:s, s:I, s:I, s:b}", "group", row.group, "peer", row.peer,
                              "point", (json_int_t)0, "generation", (json_int_t)row.generation,
                              "last_delta", spec->last_delta);
    (void)json_object_set_new(request->machines, machine, known);
    return 0;
}

static void set_points(const struct runner_spec *spec, json_t *machines)
{
    const char *machine;
    json_t *known;

    json_object_foreach(machines, machine, known)
        (void)json_object_set_new(known, "point",
                                  json_integer((json_int_t)run_point_of(spec, machines, machine)));
}

static int inherit_all(struct runner *runner, json_t *machines, struct err *err)
{
    CLEANUP(state_runs_done) struct state_runs rows = VEC_EMPTY;
    const char *machine;
    json_t *known;

    if (state_run_list(runner->world.state, false, &rows, err) < 0)
        return -1;
    json_object_foreach(machines, machine, known) {
        CLEANUP(state_protection_done) struct state_protection row = {0};
        CLEANUP(json_freep) json_t *inputs = NULL;
        if (state_protection_of(runner->world.state, machine, &row, err) < 0)
            return -1;
        inherit(known, unfinished(&rows, machine, created_ms(&row), &inputs));
    }
    return 0;
}

static int add_machines(struct runner *runner, const struct runner_spec *spec,
                        struct run_request *request, struct err *err)
{
    CLEANUP(json_freep) json_t *names = plan_machines(request->plan, spec->kind);
    json_t *name;
    size_t i;

    request->machines = json_object();
    json_array_foreach(names, i, name)
        if (add_machine(runner, spec, json_string_value(name), request, err) < 0)
            return -1;
    if (run_check_points(spec, request->machines, err) < 0)
        return -1;
    set_points(spec, request->machines);
    return run_is_real(spec->kind) ? inherit_all(runner, request->machines, err) : 0;
}

/* --- Who has them now -------------------------------------------------------------------------------- */

static const char *shared_machine(const json_t *machines, const struct state_run *row)
{
    CLEANUP(json_freep) json_t *inputs = NULL;
    const char *name;
    json_t *known;

    if (json_parse(row->inputs, strlen(row->inputs), &inputs, NULL) < 0)
        return NULL;
    json_object_foreach((json_t *)(uintptr_t)machines, name, known)
        if (json_object_get(json_object_get(inputs, "machines"), name))
            return name;
    return NULL;
}

static int refuse(const struct state_run *row, const char *machine, const char *hint,
                  struct err *err)
{
    return err_set(err, ERR_STATE, 0, "run %" PRId64 " (%s of %s, %s) has %s; hint: %s", row->id,
                   row->kind, row->plan, row->state, machine, hint);
}

static int check_conflict(const struct state_run *row, enum run_kind kind, const char *machine,
                          struct err *err)
{
    int state = sm_parse(&run_sm, row->state);
    bool is_test = str_eq(row->kind, "test");

    if (kind == RUN_CLEANUP) /* the test's own state has been looked at */
        return str_eq(row->kind, "cleanup") && run_is_active(state)
                   ? refuse(row, machine, "wait for its end", err)
                   : 0;
    if ((run_is_real(kind) || run_is_after(kind)) && (is_test || str_eq(row->kind, "cleanup")))
        return 0;
    if (run_is_active(state))
        return refuse(row, machine, "wait for its end, or muster run cancel", err);
    if (run_is_after(kind)) /* the failover's own state has been looked at */
        return 0;
    if (state == RUN_AWAITING_COMMIT)
        return refuse(row, machine, "it was failed over already and awaits commit", err);
    if (state == RUN_ROLLING_BACK)
        return refuse(row, machine, "`muster rollback` brings it to its end", err);
    return is_test ? refuse(row, machine, "muster cleanup, then again", err) : 0;
}

static int check_conflicts(struct runner *runner, enum run_kind kind, const json_t *machines,
                           struct err *err)
{
    CLEANUP(state_runs_done) struct state_runs rows = VEC_EMPTY;

    if (state_run_list(runner->world.state, true, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows) {
        const char *machine = shared_machine(machines, row);
        if (machine && check_conflict(row, kind, machine, err) < 0)
            return -1;
    }
    return 0;
}

/* A new failover of what is here already would promote it once more. */
static int check_not_over(struct runner *runner, const json_t *machines, struct err *err)
{
    const char *machine;
    json_t *known;

    json_object_foreach((json_t *)(uintptr_t)machines, machine, known) {
        CLEANUP(state_protection_done) struct state_protection row = {0};
        if (json_object_get(known, "run"))
            continue; /* goes on with one that failed */
        if (state_protection_of(runner->world.state, machine, &row, err) < 0)
            return -1;
        if (str_eq(row.state, "failed-over"))
            return err_set(err, ERR_STATE, 0, "%s was failed over to %s already", machine,
                           runner->world.here->name);
        if (!str_eq(row.state, "protected") && !str_eq(row.state, "initial-copy")
            && !str_eq(row.state, "failing-over") && !str_eq(row.state, "kept"))
            return err_set(err, ERR_STATE, 0, "%s is %s at %s: there is nothing to fail over",
                           machine, row.state, runner->world.here->name);
    }
    return 0;
}

/* --- The request as a whole ---------------------------------------------------------------------------- */

static int check_spec(const struct runner_spec *spec, struct err *err)
{
    switch (spec->kind) {
    case RUN_TEST:
    case RUN_UNPLANNED: break;
    case RUN_PLANNED:
    case RUN_FAILBACK:
        if (spec->point != 0)
            return err_set(err, ERR_INVALID, 0,
                           "a %s loses nothing: it takes the last point it makes, not"
                           " point %" PRIu64 "; hint: --unplanned --point",
                           spec->kind == RUN_FAILBACK ? "failback" : "planned failover",
                           spec->point);
        if (run_has_points(spec))
            return err_set(err, ERR_INVALID, 0,
                           "a %s loses nothing: it takes the last point it makes, no other; hint: "
                           "--unplanned --point",
                           spec->kind == RUN_FAILBACK ? "failback" : "planned failover");
        break;
    case RUN_CLEANUP:
        if (!spec->plan && spec->of_run == 0)
            return err_set(err, ERR_INVALID, 0, "name the plan or the test run to clean up");
        return 0;
    case RUN_CHANGE_POINT:
        if (!run_has_points(spec))
            return err_set(err, ERR_INVALID, 0,
                           "name the point; hint: `muster points NAME` lists what is kept");
        break;
    case RUN_COMMIT:
    case RUN_ROLLBACK:
        if (run_has_points(spec))
            return err_set(err, ERR_INVALID, 0, "a %s has no point", run_kind_name(spec->kind));
        break;
    case RUN_DRY:
    case RUN_KIND_COUNT:
        return err_set(err, ERR_UNSUPPORTED, 0, "there are no %s runs in this version",
                       run_kind_name(spec->kind));
    }
    if (!spec->plan && !spec->document && (!run_is_after(spec->kind) || spec->of_run == 0))
        return err_set(err, ERR_INVALID, 0, "name a plan");
    return 0;
}

static int make_tasks(struct runner *runner, struct run_request *request, const json_t *groups,
                      struct err *err)
{
    const struct run_of of = {request->kind, request->of_kind, groups};

    return run_tasks(runner, request->document, request->source, &of, &request->plan,
                     &request->tasks, err);
}

int run_request_make(struct runner *runner, const struct runner_spec *spec,
                     struct run_request *request, struct err *err)
{
    if (check_spec(spec, err) < 0)
        return -1;
    request->kind = spec->kind;
    if (spec->kind == RUN_CLEANUP || run_is_after(spec->kind)) {
        if ((spec->kind == RUN_CLEANUP ? run_request_cleanup(runner, spec, request, err)
                                       : run_request_after(runner, spec, request, err))
                < 0
            || make_tasks(runner, request, request->machines, err) < 0)
            return -1;
    } else {
        CLEANUP(json_freep) json_t *groups = NULL;
        if (find_document(runner, spec, request, err) < 0
            || runner_groups(runner->world.state, &groups, err) < 0
            || make_tasks(runner, request, groups, err) < 0
            || add_machines(runner, spec, request, err) < 0)
            return -1;
    }
    if (!request->plan_name[0])
        (void)snprintf(request->plan_name, sizeof(request->plan_name), "%s", request->plan->name);
    if (check_conflicts(runner, spec->kind, request->machines, err) < 0)
        return -1;
    return run_is_real(spec->kind) ? check_not_over(runner, request->machines, err) : 0;
}

/* --- Starting --------------------------------------------------------------------------------------------- */

/* Machines without a name from an earlier run are this run's own. */
static void name_machines(json_t *machines, const char *name)
{
    const char *machine;
    json_t *known;

    json_object_foreach(machines, machine, known)
        if (!json_object_get(known, "run"))
            (void)json_object_set_new(known, "run", json_string(name));
}

static json_t *make_inputs(const struct runner *runner, const struct runner_spec *spec,
                           const struct run_request *request, const char *name)
{
    const char *call =
        request->test_inputs ? json_get_str(request->test_inputs, "call", name) : name;

    name_machines(request->machines, name);
    json_t *inputs =
        json_pack("{s:s, s:s, s:s, s:O, s:s, s:I, s:b, s:I, s:s, s:I, s:O}", "name", name, "site",
                  runner->world.here->name, "call", call, "document", request->document, "hash",
                  request->plan->hash, "point", (json_int_t)spec->point, "last_delta",
                  spec->last_delta, "of_run", (json_int_t)request->of_run, "outcome", "",
                  "finished_ms", (json_int_t)0, "machines", request->machines);
    if (run_is_after(spec->kind))
        (void)json_object_set_new(inputs, "of_kind", json_string(run_kind_name(request->of_kind)));
    if (spec->points)
        (void)json_object_set_new(inputs, "points", json_deep_copy(spec->points));
    if (request->source)
        (void)json_object_set_new(inputs, "source", json_string(request->source));
    return inputs;
}

static int put_row(struct runner *runner, const struct runner_spec *spec,
                   const struct run_request *request, struct state_run *row, struct err *err)
{
    char name[64];

    *row = (struct state_run){
        .plan = mem_strdup(request->plan_name),
        .kind = mem_strdup(run_kind_name(spec->kind)),
        .state = mem_strdup(sm_name(&run_sm, RUN_CHECKING)),
        .reason = mem_strdup(""),
        .inputs = mem_strdup("{}"),
        .who = mem_strdup(spec->who ? spec->who : ""),
        .declared_ms = runner_wall(runner),
    };
    /* The first put gives the number that the name needs. */
    if (state_run_put(runner->world.state, row, err) < 0)
        return -1;
    if (snprintf(name, sizeof(name), "%s-%" PRId64, runner->world.here->name, row->id)
        >= (int)sizeof(name))
        return err_set(err, ERR_LIMIT, 0, "the site's name \"%s\" is too long to name runs by",
                       runner->world.here->name);
    CLEANUP(json_freep) json_t *inputs = make_inputs(runner, spec, request, name);
    free(row->inputs);
    row->inputs = json_text(inputs);
    CRASH_POINT("run.declared");
    return state_run_put(runner->world.state, row, err);
}

static void first_turn(void *ctx)
{
    run_schedule(ctx);
}

int runner_start(struct runner *runner, const struct runner_spec *spec, int64_t *ret_run,
                 struct err *err)
{
    CLEANUP(run_request_done) struct run_request request = {0};
    CLEANUP(state_run_done) struct state_run row = {0};
    struct run *run;

    if (run_request_make(runner, spec, &request, err) < 0
        || put_row(runner, spec, &request, &row, err) < 0 || run_load(runner, &row, &run, err) < 0)
        return -1;
    *run_list_push(&runner->runs) = run;
    if (run->kind == RUN_CLEANUP)
        run_move_of(run, RUN_CLEANING, "");
    else if (run_is_after(run->kind))
        run_after_begun(run);
    else if (run_is_real(run->kind))
        run_set_protections(run, "failing-over");
    log_info("run", "declared run=%s plan=%s kind=%s who=%s steps=%zu", run->name, run->row.plan,
             run->row.kind, run->row.who, run->tasks.len);
    run_changed(run);
    loop_post(runner->world.loop, first_turn, run);
    *ret_run = run->row.id;
    return 0;
}
