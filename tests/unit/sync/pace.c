// SPDX-License-Identifier: Apache-2.0
#include "sync/pace.h"
#include "support/expect.h"

#include <string.h>

#define INTERVAL 15000
#define MIB      (UINT64_C(1) << 20)

/* Cycles of a disk that changes so many bytes a second (no block twice) over a link of that rate,
 * from an interval's delta on. */
static void cycles(struct pace *pace, uint64_t changed_per_s, uint64_t link_per_s, unsigned count)
{
    int64_t gap = INTERVAL;

    for (unsigned i = 0; i < count; i++) {
        struct pace_cycle c = {.changed = changed_per_s * (uint64_t)gap / 1000, .gap_ms = gap};
        c.busy_ms = (int64_t)(c.changed * 1000 / link_per_s);
        c.sent_ms = c.busy_ms;
        pace_note(pace, &c, INTERVAL);
        gap = c.busy_ms > INTERVAL ? c.busy_ms : INTERVAL;
    }
}

static void a_link_that_carries_the_changes_keeps_pace(void **state)
{
    struct pace pace = {0};

    (void)state;
    cycles(&pace, 8 * MIB, 9 * MIB, 50);
    assert_false(pace.behind);
    assert_int_equal(pace_changed_per_s(&pace), 8 * MIB);
}

static void changes_far_above_the_link_are_said_after_two_cycles(void **state)
{
    struct pace pace = {0};

    (void)state;
    cycles(&pace, 30 * MIB, 10 * MIB, 1);
    assert_false(pace.behind);
    memset(&pace, 0, sizeof(pace));
    cycles(&pace, 30 * MIB, 10 * MIB, 2);
    assert_true(pace.behind);
    assert_in_range(pace_changed_per_s(&pace), 30 * MIB - 1024, 30 * MIB);
    assert_in_range(pace_sent_per_s(&pace), 10 * MIB - 1024, 10 * MIB + 1024);
}

static void changes_a_little_above_the_link_are_said_after_some(void **state)
{
    struct pace pace = {0};

    (void)state;
    cycles(&pace, 12 * MIB, 10 * MIB, 3);
    assert_false(pace.behind);
    cycles(&pace, 12 * MIB, 10 * MIB, 5);
    assert_true(pace.behind);
}

static void one_large_write_is_no_lag(void **state)
{
    struct pace pace = {0};
    const struct pace_cycle large = {.changed = 2000 * MIB, .gap_ms = INTERVAL, .busy_ms = 200000};
    const struct pace_cycle after = {.changed = 10 * MIB, .gap_ms = 200000, .busy_ms = 1000};

    (void)state;
    cycles(&pace, MIB, 10 * MIB, 4);
    pace_note(&pace, &large, INTERVAL);
    assert_false(pace.behind);
    pace_note(&pace, &after, INTERVAL);
    assert_false(pace.behind);
}

static void slow_but_small_cycles_are_no_question_of_rates(void **state)
{
    struct pace pace = {0};

    (void)state;
    for (int i = 0; i < 10; i++) {
        const struct pace_cycle c = {.changed = 65536, .gap_ms = 2500, .busy_ms = 2500};
        pace_note(&pace, &c, 1000);
    }
    assert_false(pace.behind);
}

static void it_is_taken_back_after_two_cycles_in_time_and_not_after_one(void **state)
{
    struct pace pace = {0};
    const struct pace_cycle slow = {.changed = 100 * MIB, .gap_ms = 60000, .busy_ms = 58000};
    const struct pace_cycle fast = {.changed = 10 * MIB, .gap_ms = 60000, .busy_ms = 40000};

    (void)state;
    cycles(&pace, 30 * MIB, 10 * MIB, 3);
    pace_note(&pace, &fast, INTERVAL);
    assert_true(pace.behind);
    pace_note(&pace, &slow, INTERVAL);
    pace_note(&pace, &fast, INTERVAL);
    assert_true(pace.behind);
    pace_note(&pace, &fast, INTERVAL);
    assert_false(pace.behind);
}

static const char *advice(const struct pace_cycle *cycle, enum compression compression,
                          uint64_t throttle, uint64_t wire)
{
    static char text[160];
    struct pace pace = {0};
    const struct pace_policy policy = {
        .peer = "lyon", .compression = compression, .throttle_per_s = throttle, .wire_per_s = wire};

    pace_note(&pace, cycle, INTERVAL);
    pace_advice(&pace, &policy, text, sizeof(text));
    return text;
}

static void the_advice_is_about_what_holds_it_back(void **state)
{
    const struct pace_cycle link = {.changed = MIB, .busy_ms = 100, .sent_ms = 80, .applied_ms = 5};
    const struct pace_cycle disk = {.changed = MIB, .busy_ms = 100, .sent_ms = 5, .applied_ms = 80};
    const struct pace_cycle here = {.changed = MIB, .busy_ms = 100, .sent_ms = 5, .applied_ms = 5};

    (void)state;
    assert_non_null(strstr(advice(&link, COMPRESSION_ZSTD, 10 * MIB, 9 * MIB),
                           "its throttle of 10.0 MiB/s holds it back"));
    assert_non_null(strstr(advice(&link, COMPRESSION_ZSTD, 10 * MIB, MIB), "a longer interval"));
    assert_non_null(strstr(advice(&link, COMPRESSION_LZ4, 0, MIB), "zstd sends less"));
    assert_non_null(strstr(advice(&disk, COMPRESSION_ZSTD, 0, MIB), "the disks at lyon"));
    assert_non_null(strstr(advice(&here, COMPRESSION_ZSTD, 0, MIB), "lz4 or none costs less"));
    assert_non_null(strstr(advice(&here, COMPRESSION_NONE, 0, MIB), "reading the changes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_that_carries_the_changes_keeps_pace),
        cmocka_unit_test(changes_far_above_the_link_are_said_after_two_cycles),
        cmocka_unit_test(changes_a_little_above_the_link_are_said_after_some),
        cmocka_unit_test(one_large_write_is_no_lag),
        cmocka_unit_test(slow_but_small_cycles_are_no_question_of_rates),
        cmocka_unit_test(it_is_taken_back_after_two_cycles_in_time_and_not_after_one),
        cmocka_unit_test(the_advice_is_about_what_holds_it_back),
    };
    return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
