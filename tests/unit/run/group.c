// SPDX-License-Identifier: Apache-2.0
/* Runs over a protection group of several machines, on simulated sites: db1 and web1 are "shop", web2 is
 * alone. */
#include "run/run.h"

#include "base/mem.h"
#include "plan/plan.h"
#include "support/expect.h"
#include "support/run/run_world.h"

static int setup(void **state)
{
    if (run_world_setup(state) < 0)
        return -1;
    run_world_group(*state);
    return 0;
}

#define GROUP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, run_world_teardown)

static json_t *shop_alone(struct run_world *world)
{
    char group[64];
    json_t *document = runner_group_document(world->state, "web1", group);

    assert_string_equal(group, "shop");
    return document;
}

static int64_t start(struct run_world *world, enum run_kind kind)
{
    int64_t run = run_world_start(world, run_world_plan(), kind);

    return run;
}

static int64_t after(struct run_world *world, enum run_kind kind, const char *name, uint64_t point)
{
    const struct runner_spec spec = {.plan = name, .kind = kind, .point = point, .who = "ada"};
    int64_t run = 0;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    run_world_commit(world);
    return run;
}

static struct sim_machine *machine(struct run_world *world, const char *name)
{
    return sim_machine(world->sim_world, name);
}

static void expect_protection(struct run_world *world, const char *want, uint64_t generation)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    EXPECT_OK(state_protection_get(world->state, "shop", &row, &err));
    assert_string_equal(row.state, want);
    assert_int_equal(row.generation, generation);
}

static size_t instances(struct run_world *world)
{
    CLEANUP(state_instances_done) struct state_instances rows = VEC_EMPTY;

    EXPECT_OK(state_instance_list(world->state, &rows, &err));
    return rows.len;
}

static void expect_once(struct run_world *world, const char *what)
{
    assert_int_equal(sim_asked(world->sim_world, what, "shop"), 1);
    assert_int_equal(sim_asked(world->sim_world, what, "db1"), 0);
    assert_int_equal(sim_asked(world->sim_world, what, "web1"), 0);
}

/* --- Tests ------------------------------------------------------------------------------------- */

static void a_test_keeps_one_point_and_all_machines_start_from_it(void **state)
{
    struct run_world *world = *state;
    int64_t run = start(world, RUN_TEST);

    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    expect_once(world, "group.pin");
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 7);
    assert_int_equal(sim_instance(world->sim_world, "web1")->point, 7);
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(run_world_step(json, "Keep a point of shop (db1, web1) for the test"),
                        "done");
    run = after(world, RUN_CLEANUP, "shop", 0);
    assert_string_equal(run_world_settle(world, run), "succeeded");
    expect_once(world, "group.unpin");
    assert_int_equal(instances(world), 0);
    assert_int_equal(machine(world, "db1")->state, INSTANCE_RUNNING);
}

static void a_plan_of_a_part_of_the_group_does_not_start(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = plan_document_for_machine("db1", false);
    const struct runner_spec spec = {.document = document, .kind = RUN_TEST, .who = "ada"};
    int64_t run = 0;

    EXPECT_ERR(ERR_INVALID, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("covers a part of group shop: db1, but not web1");
}

static void naming_a_machine_tests_its_group(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, shop_alone(world), RUN_TEST);

    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(json_get_str(json, "plan", ""), "shop");
    assert_int_equal(json_object_size(json_object_get(json, "machines")), 2);
    assert_string_equal(run_world_step(json, "Wait until web1 is up"), "done");
}

static void a_point_of_one_machine_is_one_of_its_group(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = shop_alone(world);
    CLEANUP(json_freep) json_t *points = json_pack("{s:i}", "web1", 4);
    CLEANUP(json_freep) json_t *two = json_pack("{s:i, s:i}", "web1", 4, "db1", 5);
    struct runner_spec spec = {.document = document, .kind = RUN_TEST, .points = two, .who = "ada"};
    int64_t run = 0;

    EXPECT_ERR(ERR_INVALID, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("a point is one of the whole group");
    spec.points = points;
    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    run_world_commit(world);
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 4);
    assert_int_equal(sim_instance(world->sim_world, "web1")->point, 4);
}

static void two_tests_of_a_group_do_not_meet(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, shop_alone(world), RUN_TEST);
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {.document = document, .kind = RUN_TEST, .who = "ada"};

    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    EXPECT_ERR(ERR_STATE, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("muster cleanup, then again");
}

/* --- Failovers --------------------------------------------------------------------------------- */

static void a_planned_failover_moves_the_group_once_and_stops_each_machine(void **state)
{
    struct run_world *world = *state;
    int64_t run = start(world, RUN_PLANNED);

    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    expect_once(world, "group.final-sync");
    expect_once(world, "group.promote");
    expect_once(world, "group.retire");
    assert_int_equal(sim_done(world->sim_world, "machine.shutdown", "db1"), 1);
    assert_int_equal(sim_done(world->sim_world, "machine.shutdown", "web1"), 1);
    assert_int_equal(machine(world, "web1")->state, INSTANCE_OFF);
    assert_int_equal(sim_instance(world->sim_world, "web1")->point, 8);
    expect_protection(world, "failed-over", 2);
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_int_equal(json_get_u64(json_object_get(json, "report"), "rpo_ms", 99), 0);
    assert_true(json_get_bool(json, "past_no_return", false));
}

static void an_unplanned_failover_goes_on_with_the_others_when_a_group_has_no_point(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *names = json_pack("[s, s, s]", "db1", "web1", "web2");
    int64_t run;

    world->sim_world->unreachable = true;
    sim_fail(world->sim_world, "group.promote", "shop", 1, ERR_INVALID);
    run = run_world_start(world, plan_document_for_group("all", names, NULL), RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_null(sim_instance(world->sim_world, "db1"));
    assert_null(sim_instance(world->sim_world, "web1"));
    assert_non_null(sim_instance(world->sim_world, "web2"));
    expect_protection(world, "failing-over", 1);
}

static void a_last_delta_shuts_down_all_machines_of_the_group(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = shop_alone(world);
    const struct runner_spec spec = {
        .document = document, .kind = RUN_UNPLANNED, .last_delta = true, .who = "ada"};
    int64_t run = 0;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    run_world_commit(world);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(sim_done(world->sim_world, "machine.shutdown", "db1"), 1);
    assert_int_equal(sim_done(world->sim_world, "machine.shutdown", "web1"), 1);
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 8);
}

static void a_failover_that_failed_is_gone_on_with_for_the_whole_group(void **state)
{
    struct run_world *world = *state;
    int64_t run;

    sim_fail(world->sim_world, "instance.start", "web1", 1, ERR_INVALID);
    run = start(world, RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    run = start(world, RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(sim_done(world->sim_world, "group.promote", "shop"), 1);
    assert_int_equal(sim_done(world->sim_world, "instance.start", "db1"), 1);
    assert_int_equal(sim_done(world->sim_world, "instance.start", "web1"), 1);
}

static void a_cancelled_failover_leaves_all_machines_as_they_were(void **state)
{
    struct run_world *world = *state;
    int64_t run;

    machine(world, "web1")->state = INSTANCE_OFF;
    sim_fail(world->sim_world, "group.promote", "shop", 1, ERR_INVALID);
    run = start(world, RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    run_world_commit(world);
    assert_string_equal(run_world_settle(world, run), "cancelled");
    assert_int_equal(machine(world, "db1")->state, INSTANCE_RUNNING);
    assert_int_equal(machine(world, "web1")->state, INSTANCE_OFF);
    assert_string_equal(machine(world, "db1")->held, "");
    expect_protection(world, "protected", 1);
}

static void a_preview_asks_a_group_once_and_lists_its_machines(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = shop_alone(world);
    const struct runner_spec spec = {.document = document, .kind = RUN_UNPLANNED, .who = "ada"};
    CLEANUP(json_freep) json_t *json = NULL;
    struct runner_preview *preview;

    world->sim_world->unreachable = true;
    EXPECT_OK(runner_preview_begin(world->runner, &spec, &preview, &err));
    EXPECT_OK(runner_preview_ask(preview, &json, NULL, &err));
    runner_preview_free(preview);
    const json_t *machines = json_object_get(json, "machines");
    assert_int_equal(json_array_size(machines), 2);
    assert_string_equal(json_get_str(json_array_get(machines, 1), "machine", ""), "web1");
    assert_string_equal(json_get_str(json_array_get(machines, 1), "group", ""), "shop");
    assert_int_equal(json_get_u64(json_array_get(machines, 1), "point", 0), 7);
    assert_int_equal(json_array_size(json_object_get(json, "warnings")), 3);
}

/* --- After it ---------------------------------------------------------------------------------- */

static void a_commit_commits_all_machines_of_the_group(void **state)
{
    struct run_world *world = *state;

    assert_string_equal(run_world_settle(world, start(world, RUN_PLANNED)), "awaiting-commit");
    assert_string_equal(run_world_settle(world, after(world, RUN_COMMIT, "web1", 0)), "succeeded");
    assert_true(sim_instance(world->sim_world, "db1")->committed);
    assert_true(sim_instance(world->sim_world, "web1")->committed);
    expect_protection(world, "committed", 2);
}

static void a_rollback_gives_the_group_back_and_starts_what_ran_before(void **state)
{
    struct run_world *world = *state;

    machine(world, "web1")->state = INSTANCE_OFF;
    assert_string_equal(run_world_settle(world, start(world, RUN_PLANNED)), "awaiting-commit");
    assert_string_equal(run_world_settle(world, after(world, RUN_ROLLBACK, "shop", 0)),
                        "succeeded");
    expect_once(world, "group.return");
    assert_int_equal(machine(world, "db1")->state, INSTANCE_RUNNING);
    assert_int_equal(machine(world, "web1")->state, INSTANCE_OFF);
    assert_int_equal(instances(world), 0);
    expect_protection(world, "protected", 3);
}

static void another_point_starts_all_machines_of_the_group_anew(void **state)
{
    struct run_world *world = *state;

    assert_string_equal(run_world_settle(world, start(world, RUN_PLANNED)), "awaiting-commit");
    assert_string_equal(run_world_settle(world, after(world, RUN_CHANGE_POINT, "shop", 4)),
                        "succeeded");
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 4);
    assert_int_equal(sim_instance(world->sim_world, "web1")->point, 4);
    assert_int_equal(instances(world), 3);
    expect_protection(world, "failed-over", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUP_TEST(a_test_keeps_one_point_and_all_machines_start_from_it),
        GROUP_TEST(a_plan_of_a_part_of_the_group_does_not_start),
        GROUP_TEST(naming_a_machine_tests_its_group),
        GROUP_TEST(a_point_of_one_machine_is_one_of_its_group),
        GROUP_TEST(two_tests_of_a_group_do_not_meet),
        GROUP_TEST(a_planned_failover_moves_the_group_once_and_stops_each_machine),
        GROUP_TEST(an_unplanned_failover_goes_on_with_the_others_when_a_group_has_no_point),
        GROUP_TEST(a_last_delta_shuts_down_all_machines_of_the_group),
        GROUP_TEST(a_failover_that_failed_is_gone_on_with_for_the_whole_group),
        GROUP_TEST(a_cancelled_failover_leaves_all_machines_as_they_were),
        GROUP_TEST(a_preview_asks_a_group_once_and_lists_its_machines),
        GROUP_TEST(a_commit_commits_all_machines_of_the_group),
        GROUP_TEST(a_rollback_gives_the_group_back_and_starts_what_ran_before),
        GROUP_TEST(another_point_starts_all_machines_of_the_group_anew),
    };
    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
