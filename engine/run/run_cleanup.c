// SPDX-License-Identifier: Apache-2.0
/* Which test a cleanup is of: by the plan's name, by that of a machine or a group that was tested, or by the
 * test's number. */
#include "run/run_start.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool tests_machine(const struct state_run *row, const char *name)
{
    CLEANUP(json_freep) json_t *inputs = NULL;

    return json_parse(row->inputs, strlen(row->inputs), &inputs, NULL) == 0
           && run_known(json_object_get(inputs, "machines"), name);
}

/* The newest test of that plan, else of that machine (or group), that is to be cleaned; or the one that
 * was named by its number. */
static int find_test(struct runner *runner, const struct runner_spec *spec,
                     struct state_run *ret_test, struct err *err)
{
    CLEANUP(state_runs_done) struct state_runs rows = VEC_EMPTY;
    struct state_run *found = NULL;

    if (spec->of_run != 0)
        return state_run_get(runner->world.state, spec->of_run, ret_test, err);
    if (state_run_list(runner->world.state, true, &rows, err) < 0)
        return -1;
    VEC_FOREACH(row, &rows)
        if (!found && str_eq(row->kind, "test") && str_eq(row->plan, spec->plan))
            found = row;
    VEC_FOREACH(row, &rows)
        if (!found && str_eq(row->kind, "test") && tests_machine(row, spec->plan))
            found = row;
    if (!found)
        return err_set(err, ERR_NOT_FOUND, 0, "no test of %s is to be cleaned", spec->plan);
    *ret_test = *found;
    memset(found, 0, sizeof(*found));
    return 0;
}

static int check_test(const struct state_run *test, struct err *err)
{
    int state = sm_parse(&run_sm, test->state);

    if (!str_eq(test->kind, "test"))
        return err_set(err, ERR_INVALID, 0, "run %" PRId64 " is %s; only a test is cleaned up",
                       test->id, test->kind);
    if (state == RUN_CLEANUP_DUE || state == RUN_CLEANUP_FAILED)
        return 0;
    if (state == RUN_PAUSED)
        return err_set(err, ERR_STATE, 0,
                       "test %" PRId64 " of %s is paused, it waits for a person; hint: `muster run "
                       "cancel %" PRId64 "` ends it and takes it away",
                       test->id, test->plan, test->id);
    if (run_is_active(state))
        return err_set(err, ERR_STATE, 0,
                       "test %" PRId64
                       " of %s is %s; hint: wait for its end, or `muster run cancel "
                       "%" PRId64 "`",
                       test->id, test->plan, test->state, test->id);
    return err_set(err, ERR_STATE, 0, "test %" PRId64 " of %s is %s", test->id, test->plan,
                   test->state);
}

/* A cleanup removes what the test brought up, by the plan as the test had it. */
int run_request_cleanup(struct runner *runner, const struct runner_spec *spec,
                        struct run_request *request, struct err *err)
{
    CLEANUP(state_run_done) struct state_run test = {0};
    CLEANUP(json_freep) json_t *inputs = NULL;

    if (find_test(runner, spec, &test, err) < 0 || check_test(&test, err) < 0
        || json_parse(test.inputs, strlen(test.inputs), &inputs, err) < 0)
        return -1;
    request->of_run = test.id;
    (void)snprintf(request->plan_name, sizeof(request->plan_name), "%s", test.plan);
    request->document = json_incref(json_object_get(inputs, "document"));
    request->machines = json_incref(json_object_get(inputs, "machines"));
    request->test_inputs = json_incref(inputs);
    return 0;
}
