// SPDX-License-Identifier: Apache-2.0
/* What follows a failover, and works on its run:
 *
 *   commit         awaiting-commit -> committed
 *   rollback       awaiting-commit -> rolling-back -> rolled-back
 *   change-point   awaiting-commit, from another point
 *
 * A failover that failed after a promotion may be committed or taken back as well: the machine is
 * here, and somebody has to decide. One that fails stays where it was and is asked for again. */
#include "base/mem.h"
#include "run/run_internal.h"
#include "run/run_start.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool run_is_after(enum run_kind kind)
{
    return kind == RUN_COMMIT || kind == RUN_ROLLBACK || kind == RUN_CHANGE_POINT;
}

/* --- The failover it is about ------------------------------------------------------------------- */

static bool is_of(const struct state_run *row, const json_t *inputs, const char *name)
{
    return str_eq(row->plan, name) || run_known(json_object_get(inputs, "machines"), name) != NULL;
}

/* The newest real run of that plan or machine. */
static int find(struct runner *runner, const struct runner_spec *spec, struct state_run *ret_row,
                struct err *err)
{
    CLEANUP(state_runs_done) struct state_runs rows = VEC_EMPTY;

    if (spec->of_run != 0)
        return state_run_get(runner->world.state, spec->of_run, ret_row, err);
    if (state_run_list(runner->world.state, false, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows) {
        CLEANUP(json_freep) json_t *inputs = NULL;
        int kind = run_kind_parse(row->kind);
        if (kind < 0 || !run_is_real((enum run_kind)kind) || str_eq(row->state, "cancelled")
            || json_parse(row->inputs, strlen(row->inputs), &inputs, NULL) < 0
            || !is_of(row, inputs, spec->plan))
            continue;
        *ret_row = *row;
        memset(row, 0, sizeof(*row));
        return 0;
    }
    return err_set(err, ERR_NOT_FOUND, 0,
                   "no failover of %s was run here; hint: `muster run list`, at the site that the "
                   "machine was failed over to",
                   spec->plan);
}

static bool any_promoted(const json_t *inputs)
{
    const char *machine;
    json_t *known;

    json_object_foreach(json_object_get(inputs, "machines"), machine, known)
        if (json_get_u64(known, "promoted", 0))
            return true;
    return false;
}

static int check_state(const struct state_run *row, const json_t *inputs, enum run_kind kind,
                       struct err *err)
{
    int real = run_kind_parse(row->kind);
    int state = sm_parse(&run_sm, row->state);

    if (real < 0 || !run_is_real((enum run_kind)real))
        return err_set(err, ERR_INVALID, 0, "run %" PRId64 " is %s; only a failover has a %s",
                       row->id, row->kind, run_kind_name(kind));
    if (state == RUN_AWAITING_COMMIT || (state == RUN_FAILED && any_promoted(inputs))
        || (state == RUN_ROLLING_BACK && kind == RUN_ROLLBACK))
        return 0;
    if (state == RUN_COMMITTED)
        return err_set(
            err, ERR_STATE, 0, "run %" PRId64 " of %s is committed already: %s", row->id, row->plan,
            kind == RUN_COMMIT ? "there is nothing to do"
                               : "that is final; hint: `muster failback` brings machines "
                                 "back");
    if (state == RUN_ROLLING_BACK || state == RUN_ROLLED_BACK)
        return err_set(
            err, ERR_STATE, 0, "run %" PRId64 " of %s is %s%s", row->id, row->plan, row->state,
            state == RUN_ROLLING_BACK ? "; hint: `muster rollback` again brings it to its "
                                        "end"
                                      : ": the machines are where they were");
    if (run_is_active(state))
        return err_set(err, ERR_STATE, 0, "run %" PRId64 " of %s is %s; hint: wait for its end",
                       row->id, row->plan, row->state);
    return err_set(err, ERR_STATE, 0, "run %" PRId64 " of %s is %s, it moved nothing", row->id,
                   row->plan, row->state);
}

bool run_is_own(const json_t *known)
{
    return json_get_bool(known, "own", false);
}

int run_refuse_own(enum run_kind kind, const char *machine, const char *plan, struct err *err)
{
    return err_set(
        err, ERR_UNSUPPORTED, 0,
        "%s runs on its own disks here again, which hold what it wrote since: there is no "
        "%s of that; hint: `muster commit %s`, then fail it over again",
        machine, kind == RUN_ROLLBACK ? "rollback" : "change of the point", plan);
}

static int check_own(const json_t *inputs, enum run_kind kind, const char *plan, struct err *err)
{
    const char *machine;
    json_t *known;

    if (kind == RUN_COMMIT)
        return 0;
    json_object_foreach(json_object_get(inputs, "machines"), machine, known)
        if (run_is_own(known))
            return run_refuse_own(kind, machine, plan, err);
    return 0;
}

/* Those that came over; of a run that failed in the middle, not all. */
static json_t *moved(const json_t *inputs)
{
    json_t *machines = json_deep_copy(json_object_get(inputs, "machines"));
    const char *machine;
    json_t *known;
    void *next;

    json_object_foreach_safe(machines, next, machine, known)
    {
        if (!json_get_u64(known, "promoted", 0))
            (void)json_object_del(machines, machine);
    }
    return machines;
}

static void set_wanted(const struct runner_spec *spec, json_t *machines)
{
    const char *machine;
    json_t *known;

    json_object_foreach(machines, machine, known)
        (void)json_object_set_new(known, "wanted",
                                  json_integer((json_int_t)run_point_of(spec, machines, machine)));
}

int run_request_after(struct runner *runner, const struct runner_spec *spec,
                      struct run_request *request, struct err *err)
{
    CLEANUP(state_run_done) struct state_run row = {0};
    CLEANUP(json_freep) json_t *inputs = NULL;

    if (find(runner, spec, &row, err) < 0
        || json_parse(row.inputs, strlen(row.inputs), &inputs, err) < 0
        || check_state(&row, inputs, spec->kind, err) < 0
        || check_own(inputs, spec->kind, row.plan, err) < 0)
        return -1;
    request->of_run = row.id;
    request->of_kind = (enum run_kind)run_kind_parse(row.kind); /* check_state looked at it */
    (void)snprintf(request->plan_name, sizeof(request->plan_name), "%s", row.plan);
    request->document = json_incref(json_object_get(inputs, "document"));
    if (json_object_get(inputs, "source"))
        request->source = mem_strdup(json_get_str(inputs, "source", ""));
    request->machines = moved(inputs);
    request->test_inputs = json_incref(inputs);
    if (run_check_points(spec, request->machines, err) < 0)
        return -1;
    if (spec->kind == RUN_CHANGE_POINT)
        set_wanted(spec, request->machines);
    return 0;
}

/* --- Its life ------------------------------------------------------------------------------------- */

static const char *const states[RUN_KIND_COUNT] = {
    [RUN_COMMIT] = "committing",
    [RUN_ROLLBACK] = "rolling-back",
    [RUN_CHANGE_POINT] = "changing-point",
};

void run_after_begun(struct run *run)
{
    run_set_protections(run, states[run->kind]);
    if (run->kind == RUN_ROLLBACK)
        run_move_of(run, RUN_ROLLING_BACK, "");
}

/* What the failover's run must know from now on. */
static void teach_of(struct run *run)
{
    struct runner *runner = run->runner;
    int64_t id = (int64_t)json_get_u64(run->inputs, "of_run", 0);
    CLEANUP(state_run_done) struct state_run row = {0};
    CLEANUP(json_freep) json_t *inputs = NULL;
    struct err err = ERR_EMPTY;

    run_must(state_run_get(runner->world.state, id, &row, &err), &err);
    run_must(json_parse(row.inputs, strlen(row.inputs), &inputs, &err), &err);
    (void)json_object_update(json_object_get(inputs, "machines"), run->machines);
    free(row.inputs);
    row.inputs = json_text(inputs);
    run_must(state_run_put(runner->world.state, &row, &err), &err);
}

void run_tell_committed(struct run *run)
{
    const struct runner_world *world = &run->runner->world;
    const char *machine;
    json_t *known;

    if (!world->committed)
        return;
    json_object_foreach(run->machines, machine, known) {
        const char *group = run_group_name(run->machines, machine);
        CLEANUP(json_freep) json_t *machines = run_group_machines(run->machines, group);
        if (json_get_bool(known, "committed", false)
            && run_is_first_of_group(run->machines, machine))
            world->committed(world->ctx, group, machines, run->row.who);
    }
}

void run_finish_after(struct run *run, bool failed, const char *reason)
{
    teach_of(run);
    if (failed) {
        run_set_protections(run, run->kind == RUN_COMMIT     ? "failed-over"
                                 : run->kind == RUN_ROLLBACK ? "rolling-back-failed"
                                                             : "changing-point-failed");
        if (run->kind == RUN_ROLLBACK)
            run_note_of(run, reason);
        run_move(run, RUN_FAILED, reason);
        return;
    }
    run_move(run, RUN_SUCCEEDED, reason);
    switch (run->kind) {
    case RUN_COMMIT:
        run_move_of(run, RUN_COMMITTED, "");
        run_set_protections(run, "committed");
        run_tell_committed(run);
        break;
    case RUN_ROLLBACK:
        run_move_of(run, RUN_ROLLED_BACK, "");
        run_set_protections(run, "protected");
        break;
    case RUN_CHANGE_POINT: run_set_protections(run, "failed-over"); break;
    case RUN_TEST:
    case RUN_PLANNED:
    case RUN_UNPLANNED:
    case RUN_FAILBACK:
    case RUN_CLEANUP:
    case RUN_DRY:
    case RUN_KIND_COUNT: break;
    }
}
