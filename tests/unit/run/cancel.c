// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "plan/plan.h"
#include "run/run.h"
#include "support/expect.h"
#include "support/run/run_world.h"

/* Turns until the step with that title is in that state. */
static void turn_until(struct run_world *world, int64_t run, const char *title, const char *want)
{
    for (int turn = 0; turn < 5000; turn++) {
        CLEANUP(json_freep) json_t *json = run_world_get(world, run);
        if (strcmp(run_world_step(json, title), want) == 0)
            return;
        (void)run_world_turn(world);
    }
    fail_msg("\"%s\" never was %s", title, want);
}

static void assert_as_before(struct run_world *world)
{
    const struct sim_machine *db1 = sim_machine(world->sim_world, "db1");

    assert_int_equal(db1->state, INSTANCE_RUNNING);
    assert_string_equal(db1->held, "");
    assert_int_equal(db1->generation, 1);
    assert_int_equal(db1->pins[0].point, 0);
    assert_null(sim_instance(world->sim_world, "db1"));
    assert_string_equal(world->sim_world->nets[0], "");
}

static void cancelling_a_test_takes_it_back(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    turn_until(world, run, "Bring up web1", "done");
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
    assert_null(sim_instance(world->sim_world, "web1"));
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(run_world_step(json, "Bring up db1"), "undone");
    assert_false(json_get_bool(json, "active", true));
}

static void cancelling_before_the_promotion_starts_the_source_again(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);

    turn_until(world, run, "Shut down db1", "done"); /* the last one: the last deltas begin */
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
    struct state_protection row = {0};
    EXPECT_OK(state_protection_get(world->state, "db1", &row, &err));
    assert_string_equal(row.state, "protected");
    state_protection_done(&row);
}

/* The second try finds off what the first one shut down: that was not so before. */
static void cancelling_a_second_try_starts_the_source_again(void **state)
{
    struct run_world *world = *state;
    int64_t run = 0;

    sim_fail(world->sim_world, "group.final-sync", "db1", 99, ERR_DENIED);
    for (int tries = 0; tries < 3; tries++) {
        run = run_world_start(world, run_world_plan(), RUN_PLANNED);
        assert_string_equal(run_world_settle(world, run), "failed");
    }
    assert_int_equal(sim_machine(world->sim_world, "db1")->state, INSTANCE_SHUTDOWN);
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
    assert_int_equal(sim_machine(world->sim_world, "web1")->state, INSTANCE_RUNNING);
}

static int64_t start_with_a_last_delta(struct run_world *world)
{
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {.plan = "shop",
                                     .document = document,
                                     .kind = RUN_UNPLANNED,
                                     .last_delta = true,
                                     .who = "ada"};
    int64_t run;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    return run;
}

/* Nobody was promoted; what was off before stays off. */
static void cancelling_an_unplanned_run_starts_what_its_last_delta_shut_down(void **state)
{
    struct run_world *world = *state;
    int64_t run = 0;

    sim_machine(world->sim_world, "web2")->state = INSTANCE_OFF;
    sim_fail(world->sim_world, "group.promote", "", 99, ERR_INVALID);
    for (int tries = 0; tries < 3; tries++) {
        run = start_with_a_last_delta(world);
        assert_string_equal(run_world_settle(world, run), "failed");
    }
    assert_int_equal(sim_machine(world->sim_world, "db1")->state, INSTANCE_SHUTDOWN);
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
    assert_int_equal(sim_machine(world->sim_world, "web1")->state, INSTANCE_RUNNING);
    assert_int_equal(sim_machine(world->sim_world, "web2")->state, INSTANCE_OFF);
}

static void what_was_cancelled_can_be_run_again(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);

    turn_until(world, run, "Shut down web1", "done");
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    (void)run_world_settle(world, run);
    run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
}

static void past_the_point_of_no_return_there_is_no_way_back(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);

    turn_until(world, run, "Promote db1 here", "done");
    EXPECT_ERR(ERR_STATE, runner_cancel(world->runner, run, "ada", &err));
    EXPECT_TEXT("past its point of no return");
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
}

static void a_failover_that_failed_early_can_be_taken_back(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "group.final-sync", "web1", 1, ERR_NET);
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
    EXPECT_ERR(ERR_STATE, runner_cancel(world->runner, run, "ada", &err));
}

static void a_promotion_that_was_refused_is_no_point_of_no_return(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "group.promote", "db1", 1, ERR_FENCED);
    int64_t run = run_world_start(world, plan_document_for_machine("db1", false), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
}

static void an_undo_is_tried_again(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    turn_until(world, run, "Bring up db1", "done");
    sim_fail(world->sim_world, "instance.remove", "db1", 2, ERR_BUSY);
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
}

static void a_test_that_cannot_be_taken_back_is_to_be_cleaned(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    turn_until(world, run, "Bring up db1", "done");
    sim_fail(world->sim_world, "instance.remove", "db1", 1, ERR_CORRUPT);
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    run = run_world_start(world, run_world_plan(), RUN_CLEANUP);
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_as_before(world);
}

static void a_source_that_stays_away_keeps_the_undo_for_later(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, plan_document_for_machine("db1", false), RUN_PLANNED);

    turn_until(world, run, "Shut down db1", "done");
    world->sim_world->unreachable = true;
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "failed");
    world->sim_world->unreachable = false;
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_as_before(world);
}

static void waiting_ends_at_once_when_cancelled(void **state)
{
    struct run_world *world = *state;

    world->sim_world->boot_ms = 5000;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);
    turn_until(world, run, "Bring up db1", "done");
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err)); /* asked for twice: fine */
    assert_string_equal(run_world_settle(world, run), "cancelled");
}

static void a_run_that_ended_well_cannot_be_cancelled(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    (void)run_world_settle(world, run);
    EXPECT_ERR(ERR_STATE, runner_cancel(world->runner, run, "ada", &err));
    EXPECT_TEXT("muster cleanup");
    EXPECT_ERR(ERR_NOT_FOUND, runner_cancel(world->runner, 99, "ada", &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST_CASE(cancelling_a_test_takes_it_back),
        RUN_TEST_CASE(cancelling_before_the_promotion_starts_the_source_again),
        RUN_TEST_CASE(cancelling_a_second_try_starts_the_source_again),
        RUN_TEST_CASE(cancelling_an_unplanned_run_starts_what_its_last_delta_shut_down),
        RUN_TEST_CASE(what_was_cancelled_can_be_run_again),
        RUN_TEST_CASE(past_the_point_of_no_return_there_is_no_way_back),
        RUN_TEST_CASE(a_failover_that_failed_early_can_be_taken_back),
        RUN_TEST_CASE(a_promotion_that_was_refused_is_no_point_of_no_return),
        RUN_TEST_CASE(an_undo_is_tried_again),
        RUN_TEST_CASE(a_test_that_cannot_be_taken_back_is_to_be_cleaned),
        RUN_TEST_CASE(a_source_that_stays_away_keeps_the_undo_for_later),
        RUN_TEST_CASE(waiting_ends_at_once_when_cancelled),
        RUN_TEST_CASE(a_run_that_ended_well_cannot_be_cancelled),
    };

    return cmocka_run_group_tests_name("run cancel", tests, NULL, NULL);
}
