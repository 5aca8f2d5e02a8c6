// SPDX-License-Identifier: Apache-2.0
#include "sync/policy.h"
#include "sync/policy_fields.h"

#include "base/mem.h"
#include "support/expect.h"

#include <string.h>

static int take(const char *text, struct policy *policy)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(json_parse(text, strlen(text), &json, &err));
    return policy_from_json(json, policy, &err);
}

static void what_is_written_reads_the_same(void **state)
{
    struct policy policy;
    struct policy again;

    (void)state;
    policy_init(&policy);
    assert_int_equal(
        take("{\"interval_ms\":5000,\"keep\":7,\"retention\":\"15m for 4h, 1h for 2d, 1d for 30d\","
             "\"application_ms\":3600000,\"compression\":\"adaptive\",\"encryption\":\"at-rest\","
             "\"throttle\":\"none; mon-fri 08:00-18:00 10MiB; sat-sun always none\","
             "\"copy_start\":\"22:00\",\"copy_disks\":4,\"copy_workers\":3,"
             "\"resync_window\":\"01:00-05:00\",\"log_limit_percent\":20,\"verify_ms\":604800000,"
             "\"rpo_ms\":60000}",
             &policy),
        0);
    CLEANUP(json_freep) json_t *json = policy_to_json(&policy);
    policy_init(&again);
    assert_false(policy_equal(&policy, &again));
    EXPECT_OK(policy_from_json(json, &again, &err));
    assert_true(policy_equal(&policy, &again));
    assert_true(again.adaptive);
    assert_int_equal(policy_verify_parts(&again), 7);
    again.verify_ms = 3600000;
    assert_int_equal(policy_verify_parts(&again), 1);
    assert_int_equal(again.encryption, POLICY_ENCRYPTION_AT_REST);
    assert_int_equal(again.retention.tier_count, 3);
    assert_int_equal(again.throttle.window_count, 2);
    assert_int_equal(again.copy_start, 22 * 60);
    for (size_t i = 0; policy_keys[i]; i++)
        assert_non_null(json_object_get(json, policy_keys[i]));
}

static void fields_that_are_not_there_stay(void **state)
{
    struct policy policy;

    (void)state;
    policy_init(&policy);
    policy.interval_ms = 7000;
    assert_int_equal(take("{\"keep\":3,\"machines\":[\"db1\"]}", &policy), 0);
    assert_int_equal(policy.interval_ms, 7000);
    assert_int_equal(policy.retention.keep, 3);
}

static void never_keeps_the_window_for_later(void **state)
{
    struct policy policy;

    (void)state;
    policy_init(&policy);
    assert_int_equal(take("{\"resync_window\":\"never\"}", &policy), 0);
    assert_false(policy.resync_auto);
    assert_int_equal(policy.resync_window.from, 18 * 60 + 30);
}

static void impossible_values_are_refused_and_change_nothing(void **state)
{
    static const struct {
        const char *json;
        const char *says;
    } bad[] = {
        {"{\"interval_ms\":999}", "interval_ms is 999; hint: 1000 (1.0 s) to 86400000 (1 d)"},
        {"{\"interval_ms\":\"5s\"}", "interval_ms is \"5s\""},
        {"{\"interval_ms\":-5}", "interval_ms is -5"},
        {"{\"interval_ms\":1.5}", "interval_ms is 1.5"},
        {"{\"keep\":0}", "keep is 0; hint: 1 to 10000"},
        {"{\"keep\":10001}", "keep is 10001"},
        {"{\"application_ms\":59999}", "application_ms is 59999"},
        {"{\"log_limit_percent\":0}", "log_limit_percent is 0; hint: 1 to 100"},
        {"{\"log_limit_percent\":101}", "log_limit_percent is 101"},
        {"{\"copy_disks\":4294967297}", "copy_disks is 4294967297; hint: 1 to 16"},
        {"{\"copy_workers\":9}", "copy_workers is 9"},
        {"{\"verify_ms\":1000}", "verify_ms is 1000; hint: 3600000 (1 h) to "},
        {"{\"rpo_ms\":10}", "rpo_ms is 10; hint: 1000 (1.0 s) to 2592000000 (30 d), or 0 for none"},
        {"{\"compression\":\"gzip\"}", "compression \"gzip\"; hint: zstd, lz4, none or adaptive"},
        {"{\"encryption\":\"aes\"}", "encryption \"aes\"; hint: none or at-rest"},
        {"{\"throttle\":\"10\"}", "throttle \"10\" is no rate; hint: bytes per second, 64KiB"},
        {"{\"throttle\":\"none; mon 10MiB\"}", "is no span of the day"},
        {"{\"throttle\":\"none;10MiB\"}", "throttle \"10MiB\" is no window"},
        {"{\"throttle\":7}", "throttle is no text"},
        {"{\"retention\":\"1h\"}", "retention \"1h\" is no tier; hint: EVERY for LONG"},
        {"{\"retention\":\"1d for 7d, 1h for 2d\"}", "from the densest to the sparsest"},
        {"{\"retention\":\"1h for 30m\"}", "for at least as long"},
        {"{\"retention\":\"\"}", "is no tier"},
        {"{\"copy_start\":\"24:00\"}", "is no time of day"},
        {"{\"resync_window\":\"night\"}", "is no span of the day"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct policy policy;
        struct policy before;
        policy_init(&policy);
        policy_init(&before);
        err_clear(&err);
        assert_int_equal(take(bad[i].json, &policy), -1);
        assert_int_equal(err.code, ERR_INVALID);
        EXPECT_TEXT(bad[i].says);
        assert_true(policy_equal(&policy, &before));
    }
}

static void a_rate_goes_by_the_first_window_that_holds(void **state)
{
    struct throttle_plan plan;
    const int64_t monday_noon = INT64_C(1774267200000); /* 2026-03-23 12:00 UTC */

    (void)state;
    EXPECT_OK(throttle_plan_parse("50MiB; mon 11:00-13:00 1MiB; mon always none", &plan, &err));
    (void)setenv("TZ", "UTC", 1);
    assert_int_equal(throttle_plan_at(&plan, monday_noon), 1 << 20);
    assert_int_equal(throttle_plan_at(&plan, monday_noon + 3600 * 1000), 0);
    assert_int_equal(throttle_plan_at(&plan, monday_noon + 24 * 3600 * 1000), 50 << 20);
}

static void without_a_target_the_interval_tells(void **state)
{
    struct policy policy;

    (void)state;
    policy_init(&policy);
    assert_int_equal(policy_rpo_ms(&policy), 35000);
    policy.rpo_ms = 60000;
    assert_int_equal(policy_rpo_ms(&policy), 60000);
}

/* --- Fields ------------------------------------------------------------------------------------ */

static void every_key_has_one_option_and_its_help_says_the_true_default(void **state)
{
    CLEANUP(json_freep) json_t *json = NULL;
    struct policy policy;
    char text[64];
    size_t count = 0;

    (void)state;
    policy_init(&policy);
    json = policy_to_json(&policy);
    for (const struct policy_field *field = policy_fields; field->option; field++, count++) {
        const json_t *value = json_object_get(json, field->key);
        json_t *read = NULL;

        assert_non_null(value);
        assert_string_equal(policy_field_text(field, value, text, sizeof(text)), field->fallback);
        EXPECT_OK(policy_field_parse(field, field->fallback, &read, &err));
        assert_true(json_equal(read, value));
        json_decref(read);
        assert_ptr_equal(policy_field_find(field->option), field);
        assert_ptr_equal(policy_field_find(field->key), field);
    }
    assert_int_equal(count, json_object_size(json));
    assert_int_equal(count, POLICY_FIELD_COUNT);
    assert_null(policy_field_find("intervall"));
}

static void a_value_of_the_wrong_form_says_what_it_may_be(void **state)
{
    static const char *const wrong[][3] = {
        {"interval", "5", "\"5\" is no duration; hint: a number with its unit, like 15s"},
        {"interval", "none", "\"none\" is no duration"},
        {"rpo", "0s", "0s is out of range; hint: the target"},
        {"keep", "-1", "\"-1\" is no number"},
        {"keep", "99999999999999999999", "is no number"},
        {"copy-workers", "9", "9 is out of range; hint: threads of the initial copy, 1 to 8"},
        {"compression", "lzma", "zstd, lz4, none or adaptive"},
        {"resync-window", "18:30", "resync_window: "},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        json_t *value;

        EXPECT_ERR(ERR_INVALID,
                   policy_field_parse(policy_field_find(wrong[i][0]), wrong[i][1], &value, &err));
        if (!strstr(err.text, wrong[i][2]))
            fail_msg("%s %s: %s", wrong[i][0], wrong[i][1], err.text);
    }
}

static void settings_that_contradict_each_other_are_refused_with_both(void **state)
{
    struct policy policy;

    (void)state;
    policy_init(&policy);
    EXPECT_OK(policy_check(&policy, &err));
    policy.rpo_ms = 10000;
    EXPECT_ERR(ERR_INVALID, policy_check(&policy, &err));
    EXPECT_TEXT("an RPO target of 10.0 s cannot be met by a point every 15.0 s; hint: a shorter "
                "interval, or a target of at least one");
    policy.rpo_ms = 0;
    policy.interval_ms = 3600000;
    policy.application_ms = 60000;
    EXPECT_ERR(ERR_INVALID, policy_check(&policy, &err));
    assert_non_null(strstr(err.text, "more than there are points"));
}

static void tiers_denser_than_points_are_said_and_allowed(void **state)
{
    CLEANUP(str_free) struct str notes = STR_EMPTY;
    struct policy policy;

    (void)state;
    policy_init(&policy);
    policy_notes(&policy, &notes);
    assert_int_equal(notes.len, 0);
    policy.interval_ms = 7200000;
    EXPECT_OK(policy_check(&policy, &err));
    policy_notes(&policy, &notes);
    assert_non_null(strstr(str_text(&notes), "all of them are kept for 1 d"));
}

static void only_what_is_marked_is_taken_over(void **state)
{
    struct policy own;
    struct policy policy;
    struct policy plain;

    (void)state;
    policy_init(&own);
    policy_init(&policy);
    policy_init(&plain);
    own.interval_ms = 7000;
    own.rpo_ms = 60000;
    own.compression = COMPRESSION_LZ4;
    uint32_t all = policy_differences(&own, &plain);
    policy_override(&own, all, &policy);
    assert_true(policy_equal(&own, &policy));
    policy_init(&policy);
    policy_override(&own, 1, &policy); /* the first key: interval_ms */
    assert_int_equal(policy.interval_ms, 7000);
    assert_int_equal(policy.rpo_ms, 0);
    assert_int_equal(policy_differences(&policy, &plain), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_the_same),
        cmocka_unit_test(fields_that_are_not_there_stay),
        cmocka_unit_test(never_keeps_the_window_for_later),
        cmocka_unit_test(impossible_values_are_refused_and_change_nothing),
        cmocka_unit_test(a_rate_goes_by_the_first_window_that_holds),
        cmocka_unit_test(without_a_target_the_interval_tells),
        cmocka_unit_test(every_key_has_one_option_and_its_help_says_the_true_default),
        cmocka_unit_test(a_value_of_the_wrong_form_says_what_it_may_be),
        cmocka_unit_test(settings_that_contradict_each_other_are_refused_with_both),
        cmocka_unit_test(tiers_denser_than_points_are_said_and_allowed),
        cmocka_unit_test(only_what_is_marked_is_taken_over),
    };

    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
