// SPDX-License-Identifier: Apache-2.0
#include "run/run.h"

#include "plan/plan.h"

#include "support/expect.h"
#include "support/run/run_world.h"

static unsigned done(struct run_world *world, const char *what)
{
    return sim_done(world->sim_world, what, NULL);
}

static void assert_source_untouched(struct run_world *world)
{
    static const char *const touching[] = {"machine.shutdown", "machine.start", "machine.stop",
                                           "group.hold",       "group.release", "group.final-sync",
                                           "group.retire",     "group.promote"};

    for (size_t i = 0; i < ARRAY_LEN(touching); i++)
        assert_int_equal(sim_asked(world->sim_world, touching[i], NULL), 0);
}

static void assert_outcome(struct run_world *world, int64_t run, const char *want)
{
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);

    assert_string_equal(json_get_str(json, "outcome", ""), want);
}

/* --- Each kind to its end ---------------------------------------------------------------------- */

static void a_test_brings_up_copies_and_touches_nothing_else(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_outcome(world, run, "succeeded");
    assert_int_equal(done(world, "instance.start"), 3);
    assert_true(sim_instance(world->sim_world, "web1")->test);
    assert_int_equal(sim_instance(world->sim_world, "web1")->point, 7);
    assert_source_untouched(world);
}

static void points_go_on_arriving_while_a_test_runs(void **state)
{
    struct run_world *world = *state;

    sim_machine(world->sim_world, "db1")->interval_ms = 1000;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);
    (void)run_world_settle(world, run);
    assert_true(sim_machine(world->sim_world, "db1")->durable_point
                > sim_instance(world->sim_world, "db1")->point + 1);
}

static void steps_for_real_runs_are_not_in_a_test(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    (void)run_world_settle(world, run);
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(run_world_step(json, "Look once more"), "no such step");
    assert_string_equal(run_world_step(json, "Look at web1"), "done");
}

static void a_cleanup_leaves_nothing_of_the_test(void **state)
{
    struct run_world *world = *state;
    int64_t test = run_world_start(world, run_world_plan(), RUN_TEST);
    struct state_instances instances = VEC_EMPTY;

    (void)run_world_settle(world, test);
    EXPECT_OK(state_instance_list(world->state, &instances, &err));
    assert_int_equal(instances.len, 3);
    state_instances_done(&instances);
    int64_t run = run_world_start(world, run_world_plan(), RUN_CLEANUP);
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_string_equal(run_world_settle(world, test), "clean");
    assert_null(sim_instance(world->sim_world, "db1"));
    assert_int_equal(done(world, "group.unpin"), 3);
    assert_int_equal(done(world, "net.remove"), 1);
    EXPECT_OK(state_instance_list(world->state, &instances, &err));
    assert_int_equal(instances.len, 0);
    state_instances_done(&instances);
    assert_source_untouched(world);
}

static void leftovers_are_listed_and_counted(void **state)
{
    struct run_world *world = *state;
    int64_t test = run_world_start(world, run_world_plan(), RUN_TEST);

    (void)run_world_settle(world, test);
    (void)snprintf(world->sim_world->leftover, SIM_NAME_BYTES, "overlay.qcow2");
    int64_t run = run_world_start(world, run_world_plan(), RUN_CLEANUP);
    assert_string_equal(run_world_settle(world, run), "failed");
    assert_string_equal(run_world_settle(world, test), "cleanup-failed");
    CLEANUP(json_freep) json_t *json = run_world_get(world, test);
    const json_t *report = json_object_get(json, "report");
    assert_int_equal(json_get_u64(report, "leftover_count", 0), 1);
    assert_string_equal(json_string_value(json_array_get(json_object_get(report, "leftovers"), 0)),
                        "file overlay.qcow2");

    world->sim_world->leftover[0] = '\0';
    run = run_world_start(world, run_world_plan(), RUN_CLEANUP);
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_string_equal(run_world_settle(world, test), "clean");
}

static void a_planned_failover_moves_the_machines_and_loses_nothing(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    const struct sim_machine *db1 = sim_machine(world->sim_world, "db1");

    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(db1->generation, 2);
    assert_int_equal(db1->promoted_point, 8); /* the last delta's */
    assert_int_equal(db1->retired, 2);
    assert_int_equal(db1->state, INSTANCE_OFF);
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 8);
    assert_false(sim_instance(world->sim_world, "db1")->test);
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_int_equal(json_get_u64(json_object_get(json, "report"), "rpo_ms", 99), 0);
    assert_true(json_get_bool(json_object_get(json, "report"), "met", false));
}

static void an_unplanned_failover_needs_nobody_at_the_source(void **state)
{
    struct run_world *world = *state;

    world->sim_world->unreachable = true;
    int64_t run = run_world_start(world, run_world_plan(), RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_outcome(world, run, "succeeded");
    assert_int_equal(sim_machine(world->sim_world, "web2")->promoted_point, 7);
    assert_int_equal(done(world, "instance.start"), 3);
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    int64_t rpo = (int64_t)json_get_u64(json_object_get(json, "report"), "rpo_ms", 0);
    assert_in_range(rpo, 3000, 4000);
}

static void an_unplanned_failover_holds_and_retires_a_source_that_answers(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_UNPLANNED);

    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(done(world, "group.hold"), 3);
    assert_int_equal(done(world, "group.retire"), 3);
    assert_int_equal(done(world, "machine.shutdown"), 0);
}

static void a_last_delta_is_fetched_when_asked_for(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {.plan = "shop",
                                     .document = document,
                                     .kind = RUN_UNPLANNED,
                                     .last_delta = true,
                                     .who = "ada"};
    int64_t run;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(sim_machine(world->sim_world, "db1")->promoted_point, 8);
}

static void protections_say_where_the_machine_is(void **state)
{
    struct run_world *world = *state;
    struct state_protection row = {0};
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);

    EXPECT_OK(state_protection_get(world->state, "db1", &row, &err));
    assert_string_equal(row.state, "failing-over");
    state_protection_done(&row);
    (void)run_world_settle(world, run);
    EXPECT_OK(state_protection_get(world->state, "db1", &row, &err));
    assert_string_equal(row.state, "failed-over");
    assert_int_equal(row.generation, 2);
    state_protection_done(&row);
}

static void a_chosen_point_is_the_one_that_starts(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    struct runner_spec spec = {.plan = "shop", .document = document, .kind = RUN_TEST, .point = 4};
    int64_t run;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    (void)run_world_settle(world, run);
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 4);
    spec.kind = RUN_UNPLANNED;
    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    (void)run_world_settle(world, run);
    assert_int_equal(sim_machine(world->sim_world, "db1")->promoted_point, 4);
}

static void each_machine_may_start_from_a_point_of_its_own(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    CLEANUP(json_freep) json_t *points = json_pack("{s:i, s:i}", "db1", 4, "web1", 6);
    const struct runner_spec spec = {
        .plan = "shop", .document = document, .kind = RUN_TEST, .point = 5, .points = points};
    int64_t run;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    (void)run_world_settle(world, run);
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 4);
    assert_int_equal(sim_instance(world->sim_world, "web1")->point, 6);
    assert_int_equal(sim_instance(world->sim_world, "web2")->point, 5);
}

static void points_of_machines_that_are_not_the_run_s_are_refused(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    CLEANUP(json_freep) json_t *stray = json_pack("{s:i}", "mail", 4);
    CLEANUP(json_freep) json_t *none = json_pack("{s:i}", "db1", 0);
    struct runner_spec spec = {
        .plan = "shop", .document = document, .kind = RUN_UNPLANNED, .points = stray};
    int64_t run;

    EXPECT_ERR(ERR_INVALID, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("no machine \"mail\"");
    spec.points = none;
    EXPECT_ERR(ERR_INVALID, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("that of db1 is no number");
    spec.kind = RUN_PLANNED;
    EXPECT_ERR(ERR_INVALID, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("loses nothing");
}

/* --- Refusals ------------------------------------------------------------------------------------ */

static int try_start(struct run_world *world, json_t *document, enum run_kind kind)
{
    CLEANUP(json_freep) json_t *owned = document;
    const struct runner_spec spec = {.plan = "shop", .document = owned, .kind = kind, .who = "ada"};
    int64_t run;

    return runner_start(world->runner, &spec, &run, &err);
}

static void a_second_run_of_a_machine_is_refused_with_the_firsts_number(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);

    EXPECT_ERR(ERR_STATE, try_start(world, run_world_plan(), RUN_UNPLANNED));
    EXPECT_TEXT("run 1 (planned of shop");
    EXPECT_ERR(ERR_STATE, try_start(world, run_world_plan(), RUN_TEST));
    (void)run_world_settle(world, run);
    EXPECT_ERR(ERR_STATE, try_start(world, run_world_plan(), RUN_PLANNED));
    EXPECT_TEXT("awaits commit");
}

/* Both sites want it at once: the one that sends it has nothing to promote, and says who has. */
static void a_failover_asked_for_at_the_site_that_sends_is_refused(void **state)
{
    static const struct {
        const char *state;
        const char *text;
    } cases[] = {
        {"protected", "db1 is protected from lyon to paris: its replica is there"},
        {"failing-over", "db1 is being failed over to paris"},
        {"failed-over", "db1 was failed over to paris"},
    };
    struct run_world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(state_protection_done) struct state_protection row = {0};
        EXPECT_OK(state_protection_get(world->state, "db1", &row, &err));
        free(row.role);
        free(row.state);
        row.role = mem_strdup("source");
        row.state = mem_strdup(cases[i].state);
        EXPECT_OK(state_protection_put(world->state, &row, &err));
        EXPECT_ERR(ERR_STATE, try_start(world, plan_document_for_machine("db1", false),
                                        i % 2 ? RUN_UNPLANNED : RUN_PLANNED));
        EXPECT_TEXT(cases[i].text);
    }
}

static void a_second_test_waits_for_the_cleanup_of_the_first(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    (void)run_world_settle(world, run);
    EXPECT_ERR(ERR_STATE, try_start(world, run_world_plan(), RUN_TEST));
    EXPECT_TEXT("muster cleanup");
}

static void a_test_does_not_block_a_real_failover(void **state)
{
    struct run_world *world = *state;
    int64_t test = run_world_start(world, run_world_plan(), RUN_TEST);
    int64_t run;

    (void)run_world_settle(world, test);
    run = run_world_start(world, run_world_plan(), RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    run = run_world_start(world, run_world_plan(), RUN_CLEANUP);
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_false(sim_instance(world->sim_world, "db1")->test);
}

static void an_unknown_machine_is_refused(void **state)
{
    EXPECT_ERR(ERR_NOT_FOUND, try_start(*state, plan_document_for_machine("db9", false), RUN_TEST));
    EXPECT_TEXT("lyon holds no replica of \"db9\"");
}

static void an_unknown_plan_is_refused(void **state)
{
    struct run_world *world = *state;
    const struct runner_spec spec = {.plan = "shpo", .kind = RUN_TEST};
    int64_t run;

    EXPECT_ERR(ERR_NOT_FOUND, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("no plan \"shpo\"");
}

static void the_wrong_site_names_the_right_one(void **state)
{
    struct run_world *world = *state;
    const struct state_protection row = {
        .group = (char[]){"db1"},
        .peer = (char[]){"rome"},
        .role = (char[]){"source"},
        .state = (char[]){"protected"},
        .settings = (char[]){"{}"},
        .generation = 1,
    };

    EXPECT_OK(state_protection_put(world->state, &row, &err));
    EXPECT_ERR(ERR_STATE, try_start(world, plan_document_for_machine("db1", false), RUN_TEST));
    EXPECT_TEXT("run this at rome");
}

static void a_planned_failover_to_an_older_point_is_refused(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {
        .plan = "shop", .document = document, .kind = RUN_PLANNED, .point = 3};
    int64_t run;

    EXPECT_ERR(ERR_INVALID, runner_start(world->runner, &spec, &run, &err));
}

static void nothing_to_clean_is_said(void **state)
{
    EXPECT_ERR(ERR_NOT_FOUND, try_start(*state, NULL, RUN_CLEANUP));
    EXPECT_TEXT("no test of shop is to be cleaned");
}

/* --- Failures -------------------------------------------------------------------------------------- */

static void an_unreachable_source_stops_a_planned_failover_before_anything(void **state)
{
    struct run_world *world = *state;

    world->sim_world->unreachable = true;
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    assert_int_equal(done(world, "group.promote"), 0);
    assert_int_equal(done(world, "instance.start"), 0);
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_non_null(strstr(json_get_str(json, "reason", ""), "cannot be reached"));
}

static void a_second_run_goes_on_with_a_failover_that_failed(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "instance.start", "web1", 1, ERR_IO);
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(done(world, "group.promote"), 3);
    assert_int_equal(done(world, "group.final-sync"), 3);
    assert_int_equal(done(world, "instance.start"), 3);
    assert_int_equal(sim_machine(world->sim_world, "db1")->generation, 2);
}

/* Another replica under the same name: what an earlier run did to the first is not its history. */
static void a_run_knows_nothing_of_an_earlier_replica(void **state)
{
    struct run_world *world = *state;
    CLEANUP(state_protection_done) struct state_protection row = {0};

    sim_fail(world->sim_world, "machine.shutdown", "db1", 1, ERR_DENIED);
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    EXPECT_OK(state_protection_get(world->state, "db1", &row, &err));
    free(row.settings);
    row.settings = mem_printf("{\"created_ms\":%lld}",
                              (long long)world->tick->clock.wall_ms(&world->tick->clock));
    EXPECT_OK(state_protection_put(world->state, &row, &err));
    run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    CLEANUP(mem_freep) char *own = mem_printf("lyon-%lld", (long long)run);
    assert_string_equal(sim_machine(world->sim_world, "db1")->held, own);
    assert_string_equal(sim_machine(world->sim_world, "web1")->held, "lyon-1");
}

static void a_second_try_after_the_promotion_has_no_way_back_either(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "instance.start", "web1", 1, ERR_IO);
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    EXPECT_ERR(ERR_STATE, runner_cancel(world->runner, run, "ada", &err)); /* promoted before */
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(done(world, "group.promote"), 3);
}

static void one_machine_that_fails_does_not_stop_the_others_of_an_unplanned_run(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "group.promote", "web1", 9, ERR_CORRUPT);
    int64_t run = run_world_start(world,
                                  run_world_plan_with("\"actions\": [{\"verb\": "
                                                      "\"failover\", \"args\": "
                                                      "{\"machine\": \"web1\"}}]"),
                                  RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_outcome(world, run, "succeeded-with-errors");
    assert_non_null(sim_instance(world->sim_world, "db1"));
    assert_null(sim_instance(world->sim_world, "web1")); /* never without promotion */
}

static void an_unplanned_failover_without_any_promotion_has_failed(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "group.promote", "", 9, ERR_CORRUPT);
    int64_t run = run_world_start(world, plan_document_for_machine("db1", false), RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    assert_outcome(world, run, "failed");
}

static void a_test_whose_step_fails_is_still_to_be_cleaned(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "instance.start", "db1", 1, ERR_SPACE);
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_outcome(world, run, "failed");
}

static void a_step_is_tried_again_as_often_as_the_plan_says(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "probe.tcp", "db1", 2, ERR_STATE);
    int64_t run = run_world_start(
        world,
        run_world_plan_with("\"retry\": {\"times\": 2, \"wait\": \"3s\"}, \"actions\": [{\"verb\": "
                            "\"check\", \"args\": {\"tcp\": \"db1:80\"}}]"),
        RUN_TEST);
    world->sim_world->boot_ms = 0;
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_outcome(world, run, "succeeded");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    const json_t *last = json_array_get(json_object_get(json, "steps"), 3);
    assert_int_equal(json_get_u64(last, "attempts", 0), 3);
    assert_true(json_get_u64(last, "ended_ms", 0) - json_get_u64(last, "started_ms", 0) >= 6000);
}

static void retries_end(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "probe.tcp", "db1", 9, ERR_STATE);
    int64_t run = run_world_start(
        world,
        run_world_plan_with("\"retry\": {\"times\": 1, \"wait\": \"1s\"}, \"actions\": [{\"verb\": "
                            "\"check\", \"args\": {\"tcp\": \"db1:80\"}}]"),
        RUN_TEST);
    (void)run_world_settle(world, run);
    assert_outcome(world, run, "failed");
    assert_int_equal(world->sim_world->faults[0].times, 7);
}

static void within_bounds_a_step(void **state)
{
    struct run_world *world = *state;

    world->sim_world->boot_ms = 3600 * 1000;
    int64_t run = run_world_start(
        world,
        run_world_plan_with(
            "\"within\": \"4s\", \"actions\": [{\"verb\": \"wait_until\", \"args\": "
            "{\"tcp\": \"db1:80\"}}]"),
        RUN_TEST);
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    const json_t *last = json_array_get(json_object_get(json, "steps"), 3);
    assert_string_equal(json_get_str(last, "error_code", ""), "timeout");
    assert_in_range(json_get_u64(last, "ended_ms", 0) - json_get_u64(last, "started_ms", 0), 4000,
                    9000);
}

static void on_failure_continue_goes_on_and_says_so(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "probe.agent", "db1", 1, ERR_STATE);
    int64_t run = run_world_start(
        world,
        run_world_plan_with("\"on_failure\": \"continue\", \"actions\": [{\"verb\": \"check\", "
                            "\"args\": {\"agent\": \"db1\"}}]"),
        RUN_TEST);
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_outcome(world, run, "succeeded-with-errors");
}

#define PAUSING                                                                            \
    "\"on_failure\": \"pause\", \"actions\": [{\"verb\": \"check\", \"args\": {\"agent\":" \
    " \"db1\"}}]"

static int64_t paused_run(struct run_world *world)
{
    world->sim_world->boot_ms = 0;
    sim_fail(world->sim_world, "probe.agent", "db1", 1, ERR_STATE);
    int64_t run = run_world_start(world, run_world_plan_with(PAUSING), RUN_TEST);

    assert_string_equal(run_world_settle(world, run), "paused");
    return run;
}

static void a_paused_step_is_tried_again_on_demand(void **state)
{
    struct run_world *world = *state;
    int64_t run = paused_run(world);

    EXPECT_OK(runner_decide(world->runner, run, 3, RUNNER_RETRY, "", "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_outcome(world, run, "succeeded");
}

static void a_paused_step_is_skipped_with_a_reason(void **state)
{
    struct run_world *world = *state;
    int64_t run = paused_run(world);

    EXPECT_OK(runner_decide(world->runner, run, 3, RUNNER_SKIP, "known", "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(run_world_step(json, "It"), "skipped");
    const json_t *step = json_array_get(json_object_get(json, "steps"), 3);
    const json_t *action = json_array_get(json_object_get(step, "actions"), 0);
    assert_string_equal(json_get_str(action, "error", ""), "skipped by ada: known");
}

static void a_paused_step_is_failed_on_demand(void **state)
{
    struct run_world *world = *state;
    int64_t run = paused_run(world);

    EXPECT_OK(runner_decide(world->runner, run, 3, RUNNER_FAIL, "", "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_outcome(world, run, "failed");
    EXPECT_ERR(ERR_STATE, runner_decide(world->runner, run, 3, RUNNER_FAIL, "", "ada", &err));
}

/* --- Watching --------------------------------------------------------------------------------------- */

static void watchers_hear_of_each_change(void **state)
{
    struct run_world *world = *state;
    uint64_t before = runner_changes(world->runner);
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    (void)run_world_settle(world, run);
    assert_true(runner_changes(world->runner) > before + 10);
    assert_int_equal(runner_changes(world->runner), world->changed);
}

static void the_list_has_the_newest_first(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *list = NULL;
    int64_t test = run_world_start(world, run_world_plan(), RUN_TEST);

    (void)run_world_settle(world, test);
    int64_t cleanup = run_world_start(world, run_world_plan(), RUN_CLEANUP);
    (void)run_world_settle(world, cleanup);
    EXPECT_OK(runner_list(world->runner, 10, &list, &err));
    assert_int_equal(json_array_size(list), 2);
    assert_int_equal(json_get_u64(json_array_get(list, 0), "id", 0), cleanup);
    assert_int_equal(json_get_u64(json_array_get(list, 0), "of_run", 0), test);
}

static void a_failover_of_a_machine_with_an_agent_lasts_until_it_is_up(void **state)
{
    struct run_world *world = *state;

    world->sim_world->boot_ms = 20000;
    int64_t run = run_world_start(world, plan_document_for_machine("db1", true), RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(run_world_step(json, "Wait until db1 is up"), "done");
    assert_true(json_get_u64(json_object_get(json, "report"), "rto_ms", 0) >= 20000);
}

static void a_machine_whose_agent_keeps_silent_is_failed_over_all_the_same(void **state)
{
    struct run_world *world = *state;

    world->sim_world->boot_ms = 3600000;
    int64_t run = run_world_start(world, plan_document_for_machine("db1", true), RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(run_world_step(json, "Wait until db1 is up"), "failed");
    assert_string_equal(json_get_str(json, "outcome", ""), "succeeded-with-errors");
}

static json_t *preview(struct run_world *world, enum run_kind kind, uint64_t point)
{
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {
        .plan = "shop", .document = document, .kind = kind, .point = point};
    struct runner_preview *what;
    json_t *json = NULL;

    EXPECT_OK(runner_preview_begin(world->runner, &spec, &what, &err));
    EXPECT_OK(runner_preview_ask(what, &json, NULL, &err));
    runner_preview_free(what);
    return json;
}

static void the_preview_names_the_possible_loss(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *unplanned = preview(world, RUN_UNPLANNED, 0);
    CLEANUP(json_freep) json_t *planned = preview(world, RUN_PLANNED, 0);

    assert_in_range(json_get_u64(unplanned, "loss_bound_ms", 0), 3000, 6000);
    assert_int_equal(json_get_u64(planned, "loss_bound_ms", 9), 0);
    assert_int_equal(json_array_size(json_object_get(planned, "machines")), 3);
    assert_int_equal(sim_asked(world->sim_world, "group.promote", NULL), 0);
}

static void a_chosen_point_is_older_by_what_the_preview_says(void **state)
{
    const uint64_t hour = 3600000;
    struct run_world *world = *state;

    sim_machine(world->sim_world, "db1")->interval_ms = (int64_t)hour;
    CLEANUP(json_freep) json_t *newest = preview(world, RUN_UNPLANNED, 0);
    uint64_t point =
        json_get_u64(json_array_get(json_object_get(newest, "machines"), 0), "durable_point", 0);
    CLEANUP(json_freep) json_t *older = preview(world, RUN_UNPLANNED, point - 1);

    /* More than what passes between the two questions. */
    assert_true(json_get_u64(older, "loss_bound_ms", 0)
                >= json_get_u64(newest, "loss_bound_ms", 0) + hour);
}

static void a_point_that_is_not_kept_is_not_even_offered(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {
        .plan = "shop", .document = document, .kind = RUN_UNPLANNED, .point = 9999};
    struct runner_preview *what;
    json_t *json = NULL;

    EXPECT_OK(runner_preview_begin(world->runner, &spec, &what, &err));
    EXPECT_ERR(ERR_NOT_FOUND, runner_preview_ask(what, &json, NULL, &err));
    EXPECT_TEXT("has no point 9999");
    EXPECT_TEXT("muster points");
    runner_preview_free(what);
}

static void a_machine_in_its_initial_copy_is_not_failed_over(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {.plan = "shop", .document = document, .kind = RUN_UNPLANNED};
    struct runner_preview *what;
    json_t *json = NULL;

    sim_machine(world->sim_world, "db1")->durable_point = 0;
    EXPECT_OK(runner_preview_begin(world->runner, &spec, &what, &err));
    EXPECT_ERR(ERR_STATE, runner_preview_ask(what, &json, NULL, &err));
    EXPECT_TEXT("initial copy has not ended");
    runner_preview_free(what);
}

static void the_preview_warns_when_the_peer_is_silent(void **state)
{
    struct run_world *world = *state;

    world->sim_world->unreachable = true;
    CLEANUP(json_freep) json_t *json = preview(world, RUN_UNPLANNED, 0);
    const char *warning = json_string_value(json_array_get(json_object_get(json, "warnings"), 0));
    assert_non_null(strstr(warning, "may still run there, and Muster cannot stop it"));
    const char *meaning = json_string_value(json_array_get(json_object_get(json, "warnings"), 1));
    assert_non_null(strstr(meaning, "that only one db1 runs is not guaranteed"));
    const char *later = json_string_value(json_array_get(json_object_get(json, "warnings"), 2));
    assert_non_null(strstr(later, "the old db1 is stopped there for good"));
}

static void a_planned_failover_is_not_even_offered_when_the_peer_is_silent(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {.plan = "shop", .document = document, .kind = RUN_PLANNED};
    struct runner_preview *what;
    json_t *json = NULL;

    world->sim_world->unreachable = true;
    EXPECT_OK(runner_preview_begin(world->runner, &spec, &what, &err));
    EXPECT_ERR(ERR_NET, runner_preview_ask(what, &json, NULL, &err));
    EXPECT_TEXT("paris does not answer");
    EXPECT_TEXT("--unplanned");
    runner_preview_free(what);
}

static void expect_not_offered(struct run_world *world, const struct runner_spec *spec,
                               enum err_code code)
{
    struct runner_preview *what;
    json_t *json = NULL;

    EXPECT_OK(runner_preview_begin(world->runner, spec, &what, &err));
    EXPECT_ERR(code, runner_preview_ask(what, &json, NULL, &err));
    runner_preview_free(what);
}

/* Begun, it could not be ended, and no commit would be let through meanwhile. */
static void a_rollback_is_not_even_offered_when_the_peer_is_silent(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_UNPLANNED);
    const struct runner_spec back = {.kind = RUN_ROLLBACK, .of_run = run};
    const struct runner_spec commit = {.kind = RUN_COMMIT, .of_run = run};
    struct runner_preview *what;
    CLEANUP(json_freep) json_t *json = NULL;

    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    world->sim_world->unreachable = true;
    expect_not_offered(world, &back, ERR_NET);
    EXPECT_TEXT("needs both sites, and paris does not answer");
    EXPECT_TEXT("muster commit");
    EXPECT_OK(runner_preview_begin(world->runner, &commit, &what, &err));
    EXPECT_OK(runner_preview_ask(what, &json, NULL, &err));
    runner_preview_free(what);
}

static void a_point_that_is_not_kept_is_not_offered_for_a_change(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_UNPLANNED);
    const struct runner_spec change = {.kind = RUN_CHANGE_POINT, .of_run = run, .point = 9999};

    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    expect_not_offered(world, &change, ERR_NOT_FOUND);
    EXPECT_TEXT("has no point 9999");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST_CASE(a_rollback_is_not_even_offered_when_the_peer_is_silent),
        RUN_TEST_CASE(a_point_that_is_not_kept_is_not_offered_for_a_change),
        RUN_TEST_CASE(a_test_brings_up_copies_and_touches_nothing_else),
        RUN_TEST_CASE(points_go_on_arriving_while_a_test_runs),
        RUN_TEST_CASE(steps_for_real_runs_are_not_in_a_test),
        RUN_TEST_CASE(a_cleanup_leaves_nothing_of_the_test),
        RUN_TEST_CASE(leftovers_are_listed_and_counted),
        RUN_TEST_CASE(a_planned_failover_moves_the_machines_and_loses_nothing),
        RUN_TEST_CASE(an_unplanned_failover_needs_nobody_at_the_source),
        RUN_TEST_CASE(an_unplanned_failover_holds_and_retires_a_source_that_answers),
        RUN_TEST_CASE(a_last_delta_is_fetched_when_asked_for),
        RUN_TEST_CASE(protections_say_where_the_machine_is),
        RUN_TEST_CASE(a_chosen_point_is_the_one_that_starts),
        RUN_TEST_CASE(each_machine_may_start_from_a_point_of_its_own),
        RUN_TEST_CASE(points_of_machines_that_are_not_the_run_s_are_refused),
        RUN_TEST_CASE(a_second_run_of_a_machine_is_refused_with_the_firsts_number),
        RUN_TEST_CASE(a_second_test_waits_for_the_cleanup_of_the_first),
        RUN_TEST_CASE(a_failover_asked_for_at_the_site_that_sends_is_refused),
        RUN_TEST_CASE(a_test_does_not_block_a_real_failover),
        RUN_TEST_CASE(an_unknown_machine_is_refused),
        RUN_TEST_CASE(an_unknown_plan_is_refused),
        RUN_TEST_CASE(the_wrong_site_names_the_right_one),
        RUN_TEST_CASE(a_planned_failover_to_an_older_point_is_refused),
        RUN_TEST_CASE(nothing_to_clean_is_said),
        RUN_TEST_CASE(an_unreachable_source_stops_a_planned_failover_before_anything),
        RUN_TEST_CASE(a_second_run_goes_on_with_a_failover_that_failed),
        RUN_TEST_CASE(a_run_knows_nothing_of_an_earlier_replica),
        RUN_TEST_CASE(a_second_try_after_the_promotion_has_no_way_back_either),
        RUN_TEST_CASE(one_machine_that_fails_does_not_stop_the_others_of_an_unplanned_run),
        RUN_TEST_CASE(an_unplanned_failover_without_any_promotion_has_failed),
        RUN_TEST_CASE(a_test_whose_step_fails_is_still_to_be_cleaned),
        RUN_TEST_CASE(a_step_is_tried_again_as_often_as_the_plan_says),
        RUN_TEST_CASE(retries_end),
        RUN_TEST_CASE(within_bounds_a_step),
        RUN_TEST_CASE(on_failure_continue_goes_on_and_says_so),
        RUN_TEST_CASE(a_paused_step_is_tried_again_on_demand),
        RUN_TEST_CASE(a_paused_step_is_skipped_with_a_reason),
        RUN_TEST_CASE(a_paused_step_is_failed_on_demand),
        RUN_TEST_CASE(watchers_hear_of_each_change),
        RUN_TEST_CASE(the_list_has_the_newest_first),
        RUN_TEST_CASE(a_failover_of_a_machine_with_an_agent_lasts_until_it_is_up),
        RUN_TEST_CASE(a_machine_whose_agent_keeps_silent_is_failed_over_all_the_same),
        RUN_TEST_CASE(the_preview_names_the_possible_loss),
        RUN_TEST_CASE(a_machine_in_its_initial_copy_is_not_failed_over),
        RUN_TEST_CASE(a_chosen_point_is_older_by_what_the_preview_says),
        RUN_TEST_CASE(a_point_that_is_not_kept_is_not_even_offered),
        RUN_TEST_CASE(the_preview_warns_when_the_peer_is_silent),
        RUN_TEST_CASE(a_planned_failover_is_not_even_offered_when_the_peer_is_silent),
    };

    return cmocka_run_group_tests_name("run", tests, NULL, NULL);
}
