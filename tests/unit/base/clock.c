// SPDX-License-Identifier: Apache-2.0
#include "base/clock.h"

#include "support/expect.h"

static void the_real_clock_does_not_go_back(void **state)
{
    struct clock *clock = clock_real();
    int64_t last = clock->now_ms(clock);

    (void)state;
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock->now_ms(clock);
        assert_true(now >= last);
        last = now;
    }
    assert_true(clock->wall_ms(clock) > INT64_C(1700000000000));
}

static void a_fake_clock_stands_until_it_is_moved(void **state)
{
    struct clock_fake fake;
    struct clock *clock = &fake.clock;

    (void)state;
    clock_fake_init(&fake, 1000000);
    assert_int_equal(clock->now_ms(clock), 0);
    assert_int_equal(clock->wall_ms(clock), 1000000);
    clock_fake_advance(&fake, 250);
    assert_int_equal(clock->now_ms(clock), 250);
    assert_int_equal(clock->wall_ms(clock), 1000250);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_real_clock_does_not_go_back),
        cmocka_unit_test(a_fake_clock_stands_until_it_is_moved),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
