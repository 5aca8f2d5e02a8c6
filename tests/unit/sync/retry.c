// SPDX-License-Identifier: Apache-2.0
#include "sync/retry.h"

#include "base/mem.h"
#include "support/expect.h"

#define MINUTE INT64_C(60000)

static void attempts_come_at_1_2_4_8_10_minutes_then_every_30(void **state)
{
    static const int64_t minutes[] = {1, 2, 4, 8, 10, 40, 70, 100};
    struct retry retry = {0};
    int64_t now = 12345;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(minutes); i++) {
        now = retry_next(&retry, now, 0);
        assert_int_equal(now, 12345 + minutes[i] * MINUTE);
        assert_int_equal(retry.failures, i + 1);
    }
}

static void an_attempt_that_takes_long_skips_the_slots_it_missed(void **state)
{
    struct retry retry = {0};

    (void)state;
    assert_int_equal(retry_next(&retry, 0, 0), MINUTE);
    assert_int_equal(retry_next(&retry, 5 * MINUTE, 0), 8 * MINUTE);
    assert_int_equal(retry_next(&retry, 50 * MINUTE, 0), 70 * MINUTE);
}

static void an_attempt_that_came_early_does_not_use_its_slot_twice(void **state)
{
    struct retry retry = {0};

    (void)state;
    assert_int_equal(retry_next(&retry, 0, -100), 54000);
    assert_int_equal(retry_next(&retry, 54000, 0), 2 * MINUTE);
}

static void jitter_stays_within_a_tenth_of_the_wait(void **state)
{
    struct retry retry = {0};

    (void)state;
    assert_int_equal(retry_next(&retry, 0, 100), 66000);
    for (int i = 0; i < 1000; i++)
        assert_in_range(retry_jitter() + RETRY_JITTER_PERMILLE, 0, 2 * RETRY_JITTER_PERMILLE);
}

static void after_a_success_it_begins_anew(void **state)
{
    struct retry retry = {0};

    (void)state;
    (void)retry_next(&retry, 0, 0);
    (void)retry_next(&retry, MINUTE, 0);
    retry_reset(&retry);
    assert_int_equal(retry_next(&retry, 100, 0), 100 + MINUTE);
}

static void a_try_outside_the_schedule_uses_no_slot(void **state)
{
    struct retry retry = {0};

    (void)state;
    assert_int_equal(retry_soon(&retry, 0, 0), 0);
    assert_int_equal(retry_next(&retry, 10, 0), MINUTE);
    assert_int_equal(retry.failures, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attempts_come_at_1_2_4_8_10_minutes_then_every_30),
        cmocka_unit_test(an_attempt_that_takes_long_skips_the_slots_it_missed),
        cmocka_unit_test(an_attempt_that_came_early_does_not_use_its_slot_twice),
        cmocka_unit_test(jitter_stays_within_a_tenth_of_the_wait),
        cmocka_unit_test(after_a_success_it_begins_anew),
        cmocka_unit_test(a_try_outside_the_schedule_uses_no_slot),
    };
    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
