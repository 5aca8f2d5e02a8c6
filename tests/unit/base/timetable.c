// SPDX-License-Identifier: Apache-2.0
#include "base/timetable.h"
#include "support/expect.h"

#include <stdlib.h>
#include <time.h>

#define HOUR_MS INT64_C(3600000)

/* 2026-03-23 is a Monday; the clocks of Paris go forward on Sunday the 29th at 02:00. */
static int64_t at(int day, int hour, int minute)
{
    struct tm tm = {.tm_year = 126,
                    .tm_mon = 2,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_isdst = -1};

    return (int64_t)mktime(&tm) * 1000;
}

static int in_paris(void **state)
{
    (void)state;
    (void)setenv("TZ", "Europe/Paris", 1);
    tzset();
    /* Without the zone's table these tests would only see UTC. */
    return at(23, 12, 0) == INT64_C(1774263600000) ? 0
                                                   : setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
}

static void a_span_past_midnight_holds_on_both_sides(void **state)
{
    struct day_span span;

    (void)state;
    EXPECT_OK(day_span_parse("18:30-06:30", &span, &err));
    assert_false(day_span_holds(&span, at(23, 18, 29)));
    assert_true(day_span_holds(&span, at(23, 18, 30)));
    assert_true(day_span_holds(&span, at(24, 6, 29)));
    assert_false(day_span_holds(&span, at(24, 6, 30)));
    assert_true(day_span_next_ms(&span, at(23, 12, 0)) == at(23, 18, 30));
    assert_true(day_span_next_ms(&span, at(23, 23, 0)) == at(23, 23, 0));
}

static void a_span_of_the_day_begins_again_tomorrow(void **state)
{
    struct day_span span;

    (void)state;
    EXPECT_OK(day_span_parse("08:00-24:00", &span, &err));
    assert_true(day_span_holds(&span, at(23, 23, 59)));
    assert_false(day_span_holds(&span, at(24, 0, 0)));
    EXPECT_OK(day_span_parse("08:00-09:00", &span, &err));
    assert_true(day_span_next_ms(&span, at(23, 9, 0)) == at(24, 8, 0));
}

/* 02:30 does not exist on that Sunday; the night is an hour shorter. */
static void a_night_of_the_changed_clock_goes_by_the_wall(void **state)
{
    struct day_span span;

    (void)state;
    EXPECT_OK(day_span_parse("22:00-06:00", &span, &err));
    int64_t begins = day_span_next_ms(&span, at(28, 12, 0));
    assert_true(day_span_holds(&span, begins + 7 * HOUR_MS - 60000));
    assert_false(day_span_holds(&span, begins + 7 * HOUR_MS));
}

static void always_is_always(void **state)
{
    struct day_span span;
    char text[TIMETABLE_TEXT];

    (void)state;
    EXPECT_OK(day_span_parse("always", &span, &err));
    for (int hour = 0; hour < 24; hour++)
        assert_true(day_span_holds(&span, at(25, hour, 17)));
    assert_string_equal(day_span_text(&span, text, sizeof(text)), "always");
}

static void days_and_nights_of_the_week(void **state)
{
    struct week_span span;

    (void)state;
    EXPECT_OK(week_span_parse("mon-fri 22:00-06:00", &span, &err));
    assert_true(week_span_holds(&span, at(23, 22, 0)));
    assert_false(week_span_holds(&span, at(23, 5, 0))); /* Sunday's night */
    assert_true(week_span_holds(&span, at(28, 5, 59))); /* Friday's, on Saturday */
    assert_false(week_span_holds(&span, at(28, 22, 0)));
}

static void what_is_read_is_written_the_same(void **state)
{
    static const char *const texts[] = {"mon-fri 08:00-18:00", "sat-sun always", "22:00-06:00",
                                        "mon,wed,fri,sun 00:00-01:30", "always"};
    char text[TIMETABLE_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct week_span span;
        EXPECT_OK(week_span_parse(texts[i], &span, &err));
        assert_string_equal(week_span_text(&span, text, sizeof(text)), texts[i]);
    }
}

static void what_is_no_span_is_refused_with_an_example(void **state)
{
    static const char *const texts[] = {"",     "18:30",       "18:30-25:00",  "24:00-06:00",
                                        "18-6", "18:60-06:00", "18:30-06:30x", "-06:30",
                                        "al",   "1830-0630"};
    struct day_span span;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        EXPECT_ERR(ERR_INVALID, day_span_parse(texts[i], &span, &err));
        EXPECT_TEXT("hint: ");
    }
}

static void days_that_do_not_exist_are_refused(void **state)
{
    static const char *const texts[] = {"mo 08:00-09:00", "mon- 08:00-09:00", ",mon 08:00-09:00",
                                        "mon,, 08:00-09:00", "monday 08:00-09:00"};
    struct week_span span;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        EXPECT_ERR(ERR_INVALID, week_span_parse(texts[i], &span, &err));
}

static void a_minute_that_is_past_comes_tomorrow(void **state)
{
    uint16_t minute;

    (void)state;
    EXPECT_OK(day_minute_parse("22:00", &minute, &err));
    assert_true(day_minute_next_ms(minute, at(23, 21, 0)) == at(23, 22, 0));
    assert_true(day_minute_next_ms(minute, at(23, 22, 0)) == at(23, 22, 0));
    assert_true(day_minute_next_ms(minute, at(23, 22, 1)) == at(24, 22, 0));
    EXPECT_ERR(ERR_INVALID, day_minute_parse("24:00", &minute, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_span_past_midnight_holds_on_both_sides),
        cmocka_unit_test(a_span_of_the_day_begins_again_tomorrow),
        cmocka_unit_test(a_night_of_the_changed_clock_goes_by_the_wall),
        cmocka_unit_test(always_is_always),
        cmocka_unit_test(days_and_nights_of_the_week),
        cmocka_unit_test(what_is_read_is_written_the_same),
        cmocka_unit_test(what_is_no_span_is_refused_with_an_example),
        cmocka_unit_test(days_that_do_not_exist_are_refused),
        cmocka_unit_test(a_minute_that_is_past_comes_tomorrow),
    };

    return cmocka_run_group_tests_name("timetable", tests, in_paris, NULL);
}
