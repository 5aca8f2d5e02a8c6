// SPDX-License-Identifier: Apache-2.0
#include "replica/retention.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/vec.h"
#include "support/expect.h"

#include <inttypes.h>
#include <stdlib.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define START  (INT64_C(1700006400000)) /* a midnight */

VEC_DEFINE(history, struct retention_point)

static struct retention tiers(uint64_t keep, const char *text)
{
    struct retention retention = {.keep = keep};

    EXPECT_OK(retention_parse(text, &retention, &err));
    return retention;
}

static void come(struct history *h, int64_t ms)
{
    history_push(h)->received_ms = ms;
}

/* Removes what goes, as a store does. */
static void prune(struct history *h, const struct retention *retention)
{
    size_t kept = 0;

    retention_choose(retention, h->at, h->len);
    VEC_FOREACH(point, h)
        if (point->why != RETENTION_GOES)
            h->at[kept++] = *point;
    h->len = kept;
}

/* Minutes after START of what is there: "0 15 30". */
static void expect_minutes(const struct history *h, const char *want)
{
    CLEANUP(str_free) struct str have = STR_EMPTY;

    VEC_FOREACH(point, h)
        str_addf(&have, "%s%" PRId64, have.len ? " " : "", (point->received_ms - START) / MINUTE);
    assert_string_equal(str_text(&have), want);
}

static void without_tiers_the_newest_stay(void **state)
{
    CLEANUP(history_free) struct history h = VEC_EMPTY;
    const struct retention retention = tiers(3, "none");

    (void)state;
    for (int64_t i = 0; i < 6; i++)
        come(&h, START + i * MINUTE);
    retention_choose(&retention, h.at, h.len);
    assert_int_equal(h.at[2].why, RETENTION_GOES);
    assert_int_equal(h.at[3].why, RETENTION_NEWEST);
    prune(&h, &retention);
    expect_minutes(&h, "3 4 5");
    const struct retention more = tiers(9, "none");
    prune(&h, &more);
    expect_minutes(&h, "3 4 5");
    retention_choose(&more, h.at, 0);
}

static void a_tier_keeps_the_first_point_of_each_of_its_slots(void **state)
{
    CLEANUP(history_free) struct history h = VEC_EMPTY;
    const struct retention retention = tiers(2, "15m for 1h");

    (void)state;
    for (int64_t minute = 7; minute <= 55; minute += 4)
        come(&h, START + minute * MINUTE);
    prune(&h, &retention);
    expect_minutes(&h, "7 15 31 47 51 55");
    assert_int_equal(h.at[1].why, RETENTION_TIER);
    assert_int_equal(h.at[1].every_ms, 15 * MINUTE);
    /* One hour back from the newest, that itself included. */
    come(&h, START + 75 * MINUTE);
    prune(&h, &retention);
    expect_minutes(&h, "15 31 47 55 75");
    come(&h, START + 75 * MINUTE + 1);
    prune(&h, &retention);
    expect_minutes(&h, "31 47 75 75");
}

/* Simulated: a point every `step`, pruned each time; then held against what all points at once say. */
static void expect_as_if_never_pruned(const struct retention *retention, int64_t step, size_t count)
{
    CLEANUP(history_free) struct history all = VEC_EMPTY;
    CLEANUP(history_free) struct history often = VEC_EMPTY;

    for (size_t i = 0; i < count; i++) {
        come(&all, START + (int64_t)i * step + (int64_t)(i * 7919 % 911));
        *history_push(&often) = all.at[i];
        prune(&often, retention);
        prune(&often, retention); /* twice is once */
    }
    retention_choose(retention, all.at, all.len);
    size_t at = 0;
    VEC_FOREACH(point, &all) {
        if (point->why == RETENTION_GOES)
            continue;
        while (at < often.len && often.at[at].received_ms < point->received_ms)
            at++; /* one more than needed is no loss */
        if (at == often.len || often.at[at].received_ms != point->received_ms)
            fail_msg("the point at %" PRId64 " min is missing",
                     (point->received_ms - START) / MINUTE);
    }
    assert_true(often.len <= retention->keep + 8 * RETENTION_TIERS_MAX + 200);
}

static void pruning_often_loses_nothing_that_a_sparser_tier_needs(void **state)
{
    const struct retention usual = tiers(10, "15m for 4h, 1h for 2d, 1d for 30d");
    const struct retention odd = tiers(1, "7m for 1h, 25m for 5h, 11h for 9d");

    (void)state;
    expect_as_if_never_pruned(&usual, 5 * MINUTE, 4000);
    expect_as_if_never_pruned(&usual, 47 * MINUTE, 900);
    expect_as_if_never_pruned(&odd, 61 * SECOND, 3000);
    expect_as_if_never_pruned(&odd, 3 * HOUR, 300);
}

static void each_hour_of_two_days_and_each_day_of_a_month_is_there(void **state)
{
    CLEANUP(history_free) struct history h = VEC_EMPTY;
    const struct retention retention = tiers(5, "1h for 2d, 1d for 30d");
    size_t days = 0;

    (void)state;
    for (int64_t i = 0; i < 40 * 24 * 12; i++) {
        come(&h, START + i * 5 * MINUTE);
        prune(&h, &retention);
    }
    assert_int_equal(h.len, 5 + 48 + 28); /* the newest, hours, days that are no hour of these */
    VEC_FOREACH(point, &h)
        days += point->every_ms == DAY;
    assert_int_equal(days, 30);
}

static void what_is_held_stays_and_counts_for_its_slot(void **state)
{
    CLEANUP(history_free) struct history h = VEC_EMPTY;
    const struct retention retention = tiers(1, "1h for 2h");

    (void)state;
    for (int64_t minute = 0; minute <= 300; minute += 20)
        come(&h, START + minute * MINUTE);
    h.at[1].held = true;
    h.at[12].held = true; /* 240, the beginning of an hour */
    prune(&h, &retention);
    expect_minutes(&h, "20 180 240 300");
    assert_int_equal(h.at[0].why, RETENTION_HELD);
    assert_int_equal(h.at[0].every_ms, 0);
    h.at[0].held = false;
    h.at[2].held = false;
    prune(&h, &retention);
    expect_minutes(&h, "180 240 300");
}

static void a_clock_set_back_lets_nothing_go_that_would_have_stayed(void **state)
{
    CLEANUP(history_free) struct history h = VEC_EMPTY;
    const struct retention retention = tiers(2, "15m for 1h");

    (void)state;
    for (int64_t minute = 0; minute <= 60; minute += 15)
        come(&h, START + minute * MINUTE);
    prune(&h, &retention);
    expect_minutes(&h, "0 15 30 45 60");
    /* Back by three hours: what came in the future is young, and the same slots begin anew. */
    for (int64_t minute = -120; minute <= -60; minute += 5) {
        come(&h, START + minute * MINUTE);
        prune(&h, &retention);
    }
    expect_minutes(&h, "0 15 30 45 60 -120 -105 -90 -75 -65 -60");
}

static void a_history_of_which_nothing_new_comes_does_not_melt_away(void **state)
{
    CLEANUP(history_free) struct history h = VEC_EMPTY;
    const struct retention retention = tiers(1, "1h for 1d");

    (void)state;
    for (int64_t hour = 0; hour < 24; hour++)
        come(&h, START + hour * HOUR);
    for (size_t i = 0; i < 3; i++)
        prune(&h, &retention);
    assert_int_equal(h.len, 24);
}

static void times_before_1970_have_slots_too(void **state)
{
    CLEANUP(history_free) struct history h = VEC_EMPTY;
    const struct retention retention = tiers(1, "1h for 1d");

    (void)state;
    come(&h, -HOUR);
    come(&h, -HOUR + MINUTE);
    come(&h, -MINUTE);
    come(&h, 0);
    come(&h, MINUTE);
    come(&h, 2 * MINUTE);
    retention_choose(&retention, h.at, h.len);
    assert_int_equal(h.at[0].why, RETENTION_TIER);
    assert_int_equal(h.at[1].why, RETENTION_GOES);
    assert_int_equal(h.at[2].why, RETENTION_GOES);
    assert_int_equal(h.at[3].why, RETENTION_TIER);
    assert_int_equal(h.at[4].why, RETENTION_GOES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_tiers_the_newest_stay),
        cmocka_unit_test(a_tier_keeps_the_first_point_of_each_of_its_slots),
        cmocka_unit_test(pruning_often_loses_nothing_that_a_sparser_tier_needs),
        cmocka_unit_test(each_hour_of_two_days_and_each_day_of_a_month_is_there),
        cmocka_unit_test(what_is_held_stays_and_counts_for_its_slot),
        cmocka_unit_test(a_clock_set_back_lets_nothing_go_that_would_have_stayed),
        cmocka_unit_test(a_history_of_which_nothing_new_comes_does_not_melt_away),
        cmocka_unit_test(times_before_1970_have_slots_too),
    };
    return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
