// SPDX-License-Identifier: Apache-2.0
#include "api/api_health.h"
#include "support/expect.h"

static char reason[256];

static enum health health(const char *state, const char *session, int64_t age_ms)
{
    const struct health_of of = {
        .machine_state = state,
        .session = session,
        .interval_ms = 5000,
        .durable_age_ms = age_ms,
        .name = "db1",
        .peer = "lyon",
        .recovers_at = "lyon",
    };

    return health_tell(&of, reason, sizeof(reason));
}

static void a_fresh_point_is_healthy(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "protected", 5900), HEALTH_HEALTHY);
    assert_string_equal(reason, "");
    assert_int_equal(health("protected", "", 5900), HEALTH_HEALTHY);
}

static void a_cycle_under_way_is_no_warning(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "sending", HEALTH_WARNING_MS(5000)), HEALTH_HEALTHY);
}

static void a_point_too_old_is_a_warning_with_both_numbers(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "sending", 16000), HEALTH_WARNING);
    assert_string_equal(reason, "the newest point is 16.0 s old, more than 15.0 s");
}

static void a_point_far_too_old_is_critical(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "sending", 111000), HEALTH_CRITICAL);
    assert_int_equal(health("protected", "backing-off", 111000), HEALTH_CRITICAL);
}

static void protected_without_a_point_is_critical(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "protected", -1), HEALTH_CRITICAL);
    assert_string_equal(reason, "there is no point yet");
}

static void no_point_yet_is_no_fault_in_the_initial_copy(void **state)
{
    (void)state;
    assert_int_equal(health("initial-copy", "copying", -1), HEALTH_NOT_APPLICABLE);
    assert_int_equal(health("enabling", "", -1), HEALTH_NOT_APPLICABLE);
}

static void a_failing_initial_copy_is_a_warning(void **state)
{
    (void)state;
    assert_int_equal(health("initial-copy", "backing-off", -1), HEALTH_WARNING);
    assert_int_equal(health("initial-copy", "critical", -1), HEALTH_CRITICAL);
}

static void a_session_that_needs_a_person_is_critical_however_fresh(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "critical", 100), HEALTH_CRITICAL);
}

static void a_paused_or_retrying_session_is_a_warning_at_least(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "paused", 100), HEALTH_WARNING);
    assert_int_equal(health("protected", "backing-off", 100), HEALTH_WARNING);
    assert_int_equal(health("protected", "resyncing", 100), HEALTH_WARNING);
}

static void what_was_failed_over_has_no_health(void **state)
{
    (void)state;
    assert_int_equal(health("failed-over", "paused", 100000), HEALTH_NOT_APPLICABLE);
    assert_int_equal(health("failed-over", "", 100000), HEALTH_NOT_APPLICABLE);
    assert_int_equal(health("protected", "fenced", 100000), HEALTH_NOT_APPLICABLE);
}

static void what_awaits_its_commit_says_that_it_is_not_protected(void **state)
{
    const struct health_of of = {.machine_state = "failed-over",
                                 .session = "",
                                 .durable_age_ms = 100,
                                 .name = "db1",
                                 .recovered = true};

    (void)state;
    assert_int_equal(health_tell(&of, reason, sizeof(reason)), HEALTH_NOT_APPLICABLE);
    assert_string_equal(reason, "awaits its commit, and is not protected meanwhile: `muster commit "
                                "db1`");
}

static void a_committed_machine_without_a_replica_is_no_healthy_one(void **state)
{
    (void)state;
    assert_int_equal(health("committed", "", 100), HEALTH_WARNING);
    assert_string_equal(reason,
                        "committed, and not protected yet; `muster jobs` shows why, `muster "
                        "reprotect db1` tries again");
    assert_int_equal(health("reprotecting", "resyncing", 100), HEALTH_WARNING);
    assert_int_equal(health("reprotecting-failed", "", 100), HEALTH_CRITICAL);
    assert_int_equal(health("reprotecting", "critical", 100), HEALTH_CRITICAL);
    assert_string_equal(reason, "replication has stopped and needs a person");
}

static void a_rollback_that_failed_needs_a_person(void **state)
{
    (void)state;
    assert_int_equal(health("rolling-back", "", 900000), HEALTH_NOT_APPLICABLE);
    assert_int_equal(health("rolling-back-failed", "", 100), HEALTH_CRITICAL);
    assert_non_null(strstr(reason, "then `muster rollback db1`"));
}

static void a_machine_held_for_a_failover_is_not_protected(void **state)
{
    (void)state;
    assert_int_equal(health("failing-over", "paused", 100), HEALTH_WARNING);
    assert_string_equal(reason, "held for a failover, it is not protected meanwhile; if its run is "
                                "over, start it again at lyon, or `muster run cancel` there");
}

static void a_machine_that_runs_at_both_sites_is_critical(void **state)
{
    const struct health_of of = {
        .machine_state = "failed-over",
        .session = "fenced",
        .interval_ms = 5000,
        .durable_age_ms = 100,
        .name = "db1",
        .peer = "lyon",
        .recovers_at = "lyon",
        .runs_twice = true,
        .promoted = 2,
    };

    (void)state;
    assert_int_equal(health_tell(&of, reason, sizeof(reason)), HEALTH_CRITICAL);
    assert_string_equal(reason,
                        "runs here although it was failed over to lyon (generation 2): it is "
                        "there twice; stop it: `muster machine stop db1 --force`");
}

static void an_old_machine_whose_branch_is_not_kept_is_critical(void **state)
{
    const struct health_of of = {
        .machine_state = "failed-over",
        .session = "fenced",
        .name = "db1",
        .peer = "lyon",
        .recovers_at = "lyon",
        .fence_problem = "no room; hint: mend that",
    };

    (void)state;
    assert_int_equal(health_tell(&of, reason, sizeof(reason)), HEALTH_CRITICAL);
    assert_string_equal(reason, "failed over to lyon, stopped here for good, but its last writes "
                                "are not yet kept as a branch: no room; hint: mend that");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_point_is_healthy),
        cmocka_unit_test(a_cycle_under_way_is_no_warning),
        cmocka_unit_test(a_point_too_old_is_a_warning_with_both_numbers),
        cmocka_unit_test(a_point_far_too_old_is_critical),
        cmocka_unit_test(protected_without_a_point_is_critical),
        cmocka_unit_test(no_point_yet_is_no_fault_in_the_initial_copy),
        cmocka_unit_test(a_failing_initial_copy_is_a_warning),
        cmocka_unit_test(a_session_that_needs_a_person_is_critical_however_fresh),
        cmocka_unit_test(a_paused_or_retrying_session_is_a_warning_at_least),
        cmocka_unit_test(what_was_failed_over_has_no_health),
        cmocka_unit_test(what_awaits_its_commit_says_that_it_is_not_protected),
        cmocka_unit_test(a_committed_machine_without_a_replica_is_no_healthy_one),
        cmocka_unit_test(a_rollback_that_failed_needs_a_person),
        cmocka_unit_test(a_machine_held_for_a_failover_is_not_protected),
        cmocka_unit_test(a_machine_that_runs_at_both_sites_is_critical),
        cmocka_unit_test(an_old_machine_whose_branch_is_not_kept_is_critical),
    };
    return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
