// SPDX-License-Identifier: Apache-2.0
#include "api/api_health.h"
#include "support/expect.h"

#define NOW   INT64_C(1772366400000)
#define SINCE (NOW - 3600000)
#define RPO   15000

static struct health_reasons reasons;
static struct session_status status;

static const char *reason_at(size_t i)
{
    return i < reasons.len ? reasons.at[i].reason : "";
}

static const char *hint_at(size_t i)
{
    return i < reasons.len ? reasons.at[i].hint : "";
}

static enum health tell(const struct health_of *of)
{
    health_reasons_clear(&reasons);
    return health_tell(of, &reasons);
}

static struct health_of db1(const char *state, int64_t age_ms)
{
    return (struct health_of){
        .machine_state = state,
        .state_since_ms = SINCE,
        .now_ms = NOW,
        .rpo_ms = RPO,
        .durable_age_ms = age_ms,
        .fence_problem = "",
        .name = "db1",
        .peer = "lyon",
        .recovers_at = "lyon",
    };
}

static enum health health(const char *state, const char *session, int64_t age_ms)
{
    struct health_of of = db1(state, age_ms);

    status = (struct session_status){.state = SESSION_STATE_COUNT};
    for (int s = 0; s < SESSION_STATE_COUNT; s++)
        if (str_eq(session, session_state_name((enum session_state)s))) {
            status.state = (enum session_state)s;
            of.status = &status;
        }
    status.paused = status.state == SESSION_PAUSED;
    return tell(&of);
}

static void a_fresh_point_is_healthy(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "protected", 5900), HEALTH_HEALTHY);
    assert_int_equal(reasons.len, 0);
    assert_int_equal(health("protected", "", 5900), HEALTH_HEALTHY);
}

static void a_point_as_old_as_the_target_is_no_warning(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "sending", RPO), HEALTH_HEALTHY);
}

static void a_point_older_than_the_target_is_a_warning_since_it_passed_it(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "sending", 16000), HEALTH_WARNING);
    assert_string_equal(reason_at(0), "the newest point is 16.0 s old, the RPO target is 15.0 s");
    assert_int_equal(reasons.at[0].since_ms, NOW - 1000);
}

static void a_point_far_too_old_is_critical(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "sending", 5 * RPO), HEALTH_WARNING);
    assert_int_equal(health("protected", "sending", 5 * RPO + 1), HEALTH_CRITICAL);
    assert_int_equal(health("protected", "backing-off", 111000), HEALTH_CRITICAL);
}

static void a_hiccup_within_a_minute_is_never_critical(void **state)
{
    struct health_of of = db1("protected", 59000);

    (void)state;
    of.rpo_ms = 2000;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    of.durable_age_ms = 61000;
    assert_int_equal(tell(&of), HEALTH_CRITICAL);
}

static void protected_without_a_point_is_critical(void **state)
{
    (void)state;
    assert_int_equal(health("protected", "protected", -1), HEALTH_CRITICAL);
    assert_string_equal(reason_at(0), "there is no point yet");
    assert_int_equal(reasons.at[0].since_ms, SINCE);
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
    assert_string_equal(hint_at(0), "`muster resume db1`");
    assert_int_equal(health("protected", "backing-off", 100), HEALTH_WARNING);
    assert_int_equal(health("protected", "resyncing", 100), HEALTH_WARNING);
}

/* db1 as `of` has it, and what else is known of its session. */
static enum health with(const struct session_status *known)
{
    struct health_of of = db1("protected", 5900);

    status = *known;
    of.status = &status;
    return tell(&of);
}

static void a_required_resync_says_why_since_when_and_when_it_goes_on(void **state)
{
    struct session_status known = {.state = SESSION_RESYNC_REQUIRED,
                                   .resync = {.cause = RESYNC_LOG,
                                              .since_ms = SINCE,
                                              .next_ms = NOW,
                                              .waits = true,
                                              .why = "1.2 GiB of disk vda (2.0 GiB) are pending"}};

    (void)state;
    assert_int_equal(with(&known), HEALTH_WARNING);
    assert_string_equal(reasons.at[0].code, "resync-required");
    assert_int_equal(reasons.at[0].since_ms, SINCE);
    assert_string_equal(reason_at(0), "resynchronization required: 1.2 GiB of disk vda (2.0 GiB) "
                                      "are pending; it goes on at 2026-03-01T12:00:00.000Z");
    assert_string_equal(hint_at(0), "`muster resync db1 --now` begins at once");
    known.resync.next_ms = 0;
    assert_int_equal(with(&known), HEALTH_WARNING);
    assert_string_equal(hint_at(0), "`muster resync db1`");
    known.resync.next_ms = NOW;
    known.resync.cause = RESYNC_ASKED; /* points go on until then */
    known.state = SESSION_PROTECTED;
    assert_int_equal(with(&known), HEALTH_HEALTHY);
    assert_string_equal(reasons.at[0].code, "resync-asked");
}

static void changes_above_the_link_are_said_with_both_rates_and_a_way_out(void **state)
{
    const struct session_status known = {.state = SESSION_SENDING,
                                         .lag = {.since_ms = SINCE,
                                                 .changed_per_s = 12 << 20,
                                                 .sent_per_s = 8 << 20,
                                                 .advice = "the link is what is slow"}};

    (void)state;
    assert_int_equal(with(&known), HEALTH_WARNING);
    assert_string_equal(reasons.at[0].code, "not-converging");
    assert_int_equal(reasons.at[0].since_ms, SINCE);
    assert_non_null(
        strstr(reason_at(0), "not converging: 12.0 MiB/s change, 8.0 MiB/s get to lyon"));
    assert_string_equal(hint_at(0), "the link is what is slow");
}

static void points_that_are_not_application_consistent_as_asked_are_a_warning(void **state)
{
    struct health_of of = db1("protected", 100);

    (void)state;
    status = (struct session_status){
        .state = SESSION_PROTECTED,
        .application_failing_ms = SINCE,
        .application_note = "the guest agent of db1 does not answer; hint: start it",
    };
    of.status = &status;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    assert_string_equal(reason_at(0), "there is no application-consistent point yet: the guest "
                                      "agent of db1 does not answer");
    assert_string_equal(hint_at(0), "start it");
    assert_int_equal(reasons.at[0].since_ms, SINCE);
    status.application_point = 7;
    status.application_age_ms = 7500000;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    assert_string_equal(reason_at(0), "the newest application-consistent point is 2 h 5 m old: the "
                                      "guest agent of db1 does not answer");
    status.application_failing_ms = 0;
    assert_int_equal(tell(&of), HEALTH_HEALTHY);
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
    struct health_of of = db1("failed-over", 100);

    (void)state;
    of.recovered = true;
    assert_int_equal(tell(&of), HEALTH_NOT_APPLICABLE);
    assert_string_equal(reason_at(0), "awaits its commit, and is not protected meanwhile");
    assert_string_equal(hint_at(0), "`muster commit db1`");
}

static void a_committed_machine_without_a_replica_is_no_healthy_one(void **state)
{
    (void)state;
    assert_int_equal(health("committed", "", 100), HEALTH_WARNING);
    assert_string_equal(reason_at(0), "committed, and not protected yet");
    assert_string_equal(hint_at(0), "`muster jobs` shows why, `muster reprotect db1` tries again");
    assert_int_equal(health("reprotecting", "resyncing", 100), HEALTH_WARNING);
    assert_int_equal(health("reprotecting-failed", "", 100), HEALTH_CRITICAL);
    assert_int_equal(health("reprotecting", "critical", 100), HEALTH_CRITICAL);
    assert_string_equal(reason_at(0), "replication has stopped and needs a person");
    assert_int_equal(reasons.at[1].level, HEALTH_WARNING);
}

static void a_rollback_that_failed_needs_a_person(void **state)
{
    (void)state;
    assert_int_equal(health("rolling-back", "", 900000), HEALTH_NOT_APPLICABLE);
    assert_int_equal(health("rolling-back-failed", "", 100), HEALTH_CRITICAL);
    assert_non_null(strstr(hint_at(0), "then `muster rollback db1`"));
}

static void a_machine_held_for_a_failover_is_not_protected(void **state)
{
    (void)state;
    assert_int_equal(health("failing-over", "paused", 100), HEALTH_WARNING);
    assert_int_equal(reasons.len, 1);
    assert_string_equal(reason_at(0), "held for a failover, it is not protected meanwhile");
    assert_string_equal(hint_at(0), "if its run is over, start it again at lyon, or `muster run "
                                    "cancel` there");
}

static void a_machine_that_runs_at_both_sites_is_critical(void **state)
{
    struct health_of of = db1("failed-over", 100);

    (void)state;
    status = (struct session_status){.state = SESSION_FENCED};
    of.status = &status;
    of.runs_twice = true;
    of.promoted = 2;
    of.marked_ms = SINCE;
    assert_int_equal(tell(&of), HEALTH_CRITICAL);
    assert_string_equal(reason_at(0), "runs here although it was failed over to lyon (generation "
                                      "2): it is there twice");
    assert_string_equal(hint_at(0), "stop it: `muster machine stop db1 --force`");
    assert_int_equal(reasons.at[0].since_ms, SINCE);
}

static void an_old_machine_whose_branch_is_not_kept_is_critical(void **state)
{
    struct health_of of = db1("failed-over", 100);

    (void)state;
    of.fence_problem = "no room; hint: mend that";
    assert_int_equal(tell(&of), HEALTH_CRITICAL);
    assert_string_equal(reason_at(0), "failed over to lyon, stopped here for good, but its last "
                                      "writes are not yet kept as a branch: no room");
    assert_string_equal(hint_at(0), "mend that");
}

/* --- Several at once --------------------------------------------------------------------------- */

static void all_reasons_are_listed_the_worst_first(void **state)
{
    struct health_of of = db1("protected", 100000);
    CLEANUP(json_freep)
    json_t *tests = json_pack("[{s:s, s:I}]", "run", "lyon-7", "since_ms", (json_int_t)SINCE);

    (void)state;
    status = (struct session_status){
        .state = SESSION_PAUSED,
        .paused = true,
        .paused_since_ms = NOW - 90000,
        .error_since_ms = NOW - 95000,
    };
    err_put(&status.error, ERR_NET, 0, "lyon: refused; hint: is its daemon up?");
    of.status = &status;
    of.recreated_ms = SINCE;
    of.tests = tests;
    assert_int_equal(tell(&of), HEALTH_CRITICAL);
    assert_int_equal(reasons.len, 5);
    assert_string_equal(reasons.at[0].code, "point-too-old");
    assert_string_equal(reasons.at[1].code, "failing");
    assert_string_equal(reason_at(1), "replication failed before it was paused: lyon: refused");
    assert_string_equal(hint_at(1), "is its daemon up?");
    assert_int_equal(reasons.at[1].since_ms, NOW - 95000);
    assert_string_equal(reasons.at[2].code, "paused");
    assert_int_equal(reasons.at[2].since_ms, NOW - 90000);
    assert_string_equal(reasons.at[3].code, "recreated");
    assert_string_equal(reasons.at[4].code, "test-failover");
    assert_int_equal(reasons.at[4].level, HEALTH_HEALTHY);
}

static void a_note_alone_harms_no_health(void **state)
{
    struct health_of of = db1("protected", 100);
    CLEANUP(json_freep)
    json_t *tests = json_pack("[{s:s, s:I}]", "run", "lyon-7", "since_ms", (json_int_t)SINCE);
    CLEANUP(json_freep) json_t *json = NULL;

    (void)state;
    of.tests = tests;
    assert_int_equal(tell(&of), HEALTH_HEALTHY);
    json = health_reasons_json(&reasons);
    assert_string_equal(json_get_str(json_array_get(json, 0), "level", ""), "note");
    assert_string_equal(json_get_str(json_array_get(json, 0), "reason", ""),
                        "a test failover of it is up: run lyon-7");
}

static void a_replica_that_cannot_be_read_is_critical_and_says_why(void **state)
{
    struct health_of of = db1("protected", -1);
    struct err why = ERR_EMPTY;

    (void)state;
    err_put(&why, ERR_CORRUPT, 0, "manifest 7 is torn");
    of.unread = &why;
    assert_int_equal(tell(&of), HEALTH_CRITICAL);
    assert_int_equal(reasons.len, 1);
    assert_string_equal(reason_at(0), "the replica cannot be read: manifest 7 is torn");
}

static void clocks_apart_are_said_with_how_far_and_which_way(void **state)
{
    struct health_of of = db1("protected", 100);

    (void)state;
    of.clock_apart_ms = -7000;
    of.clock_since_ms = SINCE;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    assert_string_equal(reason_at(0),
                        "the clock of lyon is 7.0 s behind ours: ages of points are wrong by that");
    of.machine_state = "failed-over";
    assert_int_equal(tell(&of), HEALTH_NOT_APPLICABLE);
    assert_int_equal(reasons.len, 1);
}

static void a_time_to_come_is_now(void **state)
{
    struct health_of of = db1("protected", 100);

    (void)state;
    status = (struct session_status){
        .state = SESSION_PAUSED, .paused = true, .paused_since_ms = NOW + 60000};
    of.status = &status;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    assert_int_equal(reasons.at[0].since_ms, NOW);
}

static void a_text_too_long_is_cut_and_no_more(void **state)
{
    CLEANUP(health_reasons_free) struct health_reasons list = VEC_EMPTY;
    char text[4000];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    health_add(&list, HEALTH_WARNING, text, 0, "%s", text);
    assert_int_equal(strlen(list.at[0].reason), sizeof(list.at[0].reason) - 1);
    assert_int_equal(strlen(list.at[0].code), sizeof(list.at[0].code) - 1);
    assert_string_equal(list.at[0].hint, "");
}

static int forget(void **state)
{
    (void)state;
    health_reasons_free(&reasons);
    return 0;
}

/* --- What was read of it -------------------------------------------------------------------------- */

#define DAY (INT64_C(24) * 3600 * 1000)

static void a_replica_that_is_not_read_as_its_policy_says_is_a_warning(void **state)
{
    CLEANUP(json_freep)
    json_t *seen = json_pack("{s:{s:I}}", "verified", "whole_ms", (json_int_t)(NOW - 10 * DAY));
    struct health_of of = db1("protected", 1000);

    (void)state;
    of.seen = seen;
    assert_int_equal(tell(&of), HEALTH_HEALTHY);
    of.verify_ms = 7 * DAY;
    assert_int_equal(tell(&of), HEALTH_HEALTHY);
    of.verify_ms = 6 * DAY;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    assert_string_equal(reasons.at[0].code, "not-verified");
    assert_int_equal(reasons.at[0].since_ms, NOW - 4 * DAY);
    assert_non_null(strstr(reason_at(0), "was read last before 10 d, and should be read every 6"));
    of.machine_state = "initial-copy";
    assert_int_not_equal(tell(&of), HEALTH_WARNING);
}

static void a_replica_never_read_counts_from_when_its_first_part_was(void **state)
{
    CLEANUP(json_freep) json_t *never = json_pack("{s:n}", "verified");
    CLEANUP(json_freep)
    json_t *begun = json_pack("{s:{s:i, s:{s:I}}}", "verified", "whole_ms", 0, "pass", "began_ms",
                              (json_int_t)(NOW - 1000));
    struct health_of of = db1("protected", 1000);

    (void)state;
    of.state_since_ms = NOW - 100 * DAY;
    of.verify_ms = 7 * DAY;
    of.seen = never;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    assert_non_null(strstr(reason_at(0), "was never read, and should be read every 7"));
    of.seen = begun;
    assert_int_equal(tell(&of), HEALTH_HEALTHY);
}

static void damaged_files_found_by_the_last_verification_are_a_warning(void **state)
{
    CLEANUP(json_freep)
    json_t *seen = json_pack("{s:{s:i, s:I}}", "verified", "faults", 2, "at_ms", (json_int_t)NOW);
    struct health_of of = db1("protected", 1000);

    (void)state;
    of.seen = seen;
    assert_int_equal(tell(&of), HEALTH_WARNING);
    assert_string_equal(reasons.at[0].code, "files-damaged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replica_that_is_not_read_as_its_policy_says_is_a_warning),
        cmocka_unit_test(a_replica_never_read_counts_from_when_its_first_part_was),
        cmocka_unit_test(damaged_files_found_by_the_last_verification_are_a_warning),
        cmocka_unit_test(a_fresh_point_is_healthy),
        cmocka_unit_test(a_point_as_old_as_the_target_is_no_warning),
        cmocka_unit_test(a_point_older_than_the_target_is_a_warning_since_it_passed_it),
        cmocka_unit_test(a_point_far_too_old_is_critical),
        cmocka_unit_test(a_hiccup_within_a_minute_is_never_critical),
        cmocka_unit_test(protected_without_a_point_is_critical),
        cmocka_unit_test(no_point_yet_is_no_fault_in_the_initial_copy),
        cmocka_unit_test(a_failing_initial_copy_is_a_warning),
        cmocka_unit_test(a_session_that_needs_a_person_is_critical_however_fresh),
        cmocka_unit_test(a_paused_or_retrying_session_is_a_warning_at_least),
        cmocka_unit_test(a_required_resync_says_why_since_when_and_when_it_goes_on),
        cmocka_unit_test(changes_above_the_link_are_said_with_both_rates_and_a_way_out),
        cmocka_unit_test(points_that_are_not_application_consistent_as_asked_are_a_warning),
        cmocka_unit_test(what_was_failed_over_has_no_health),
        cmocka_unit_test(what_awaits_its_commit_says_that_it_is_not_protected),
        cmocka_unit_test(a_committed_machine_without_a_replica_is_no_healthy_one),
        cmocka_unit_test(a_rollback_that_failed_needs_a_person),
        cmocka_unit_test(a_machine_held_for_a_failover_is_not_protected),
        cmocka_unit_test(a_machine_that_runs_at_both_sites_is_critical),
        cmocka_unit_test(an_old_machine_whose_branch_is_not_kept_is_critical),
        cmocka_unit_test(all_reasons_are_listed_the_worst_first),
        cmocka_unit_test(a_note_alone_harms_no_health),
        cmocka_unit_test(a_replica_that_cannot_be_read_is_critical_and_says_why),
        cmocka_unit_test(clocks_apart_are_said_with_how_far_and_which_way),
        cmocka_unit_test(a_time_to_come_is_now),
        cmocka_unit_test(a_text_too_long_is_cut_and_no_more),
    };
    return cmocka_run_group_tests_name("health", tests, NULL, forget);
}
