// SPDX-License-Identifier: Apache-2.0
/* What a run's report claims of the promises, and what not. */
#include "run/run.h"

#include "support/expect.h"
#include "support/run/run_world.h"

static json_int_t reported(struct run_world *world, int64_t run, const char *key)
{
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    const json_t *report = json_object_get(json, "report");

    return json_integer_value(json_object_get(report, key));
}

static bool met(struct run_world *world, int64_t run)
{
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);

    return json_get_bool(json_object_get(json, "report"), "met", true);
}

static void a_test_that_succeeded_has_kept_its_promises(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);

    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_true(reported(world, run, "rto_ms") > 0);
    assert_true(met(world, run));
}

static void a_test_whose_check_failed_has_kept_no_promise(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "instance.start", "web1", 99, ERR_CORRUPT);
    int64_t run = run_world_start(world, run_world_plan(), RUN_TEST);
    assert_string_equal(run_world_settle(world, run), "cleanup-due");
    assert_int_equal(reported(world, run, "rto_ms"), -1);
    assert_false(met(world, run));
}

static void a_failover_without_one_of_its_machines_has_kept_no_promise(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "group.promote", "web1", 99, ERR_CORRUPT);
    int64_t run = run_world_start(world,
                                  run_world_plan_with("\"actions\": [{\"verb\": \"failover\", "
                                                      "\"args\": {\"machine\": \"web1\"}}]"),
                                  RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(reported(world, run, "rto_ms"), -1);
    assert_false(met(world, run));
}

/* As after a final sync that found nothing to send: the newest point is the old one. */
static void nothing_is_lost_by_a_planned_failover_however_old_its_point(void **state)
{
    static const char *const machines[] = {"db1", "web1", "web2"};
    struct run_world *world = *state;

    for (size_t i = 0; i < 3; i++) {
        struct sim_machine *machine = sim_machine(world->sim_world, machines[i]);
        machine->state = INSTANCE_OFF;
        machine->durable_cut_ms -= 3600000;
        (void)snprintf(machine->held, sizeof(machine->held), "lyon-1");
        machine->final_point = machine->durable_point;
    }
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    assert_int_equal(sim_machine(world->sim_world, "db1")->promoted_point, 7);
    assert_int_equal(reported(world, run, "rpo_ms"), 0);
    assert_true(met(world, run));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST_CASE(a_test_that_succeeded_has_kept_its_promises),
        RUN_TEST_CASE(a_test_whose_check_failed_has_kept_no_promise),
        RUN_TEST_CASE(a_failover_without_one_of_its_machines_has_kept_no_promise),
        RUN_TEST_CASE(nothing_is_lost_by_a_planned_failover_however_old_its_point),
    };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
