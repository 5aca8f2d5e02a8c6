// SPDX-License-Identifier: Apache-2.0
#include "base/sm.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/process.h"

enum { LIGHT_RED, LIGHT_GREEN, LIGHT_YELLOW };

static const char *const names[] = {"red", "green", "yellow"};
static const struct sm_move moves[] = {
    {LIGHT_RED, LIGHT_GREEN},
    {LIGHT_GREEN, LIGHT_YELLOW},
    {LIGHT_YELLOW, LIGHT_RED},
};
static const struct sm light = {
    .what = "light",
    .names = names,
    .name_count = ARRAY_LEN(names),
    .moves = moves,
    .move_count = ARRAY_LEN(moves),
};

static void only_moves_of_the_table_are_allowed(void **state)
{
    (void)state;
    assert_true(sm_allows(&light, LIGHT_RED, LIGHT_GREEN));
    assert_false(sm_allows(&light, LIGHT_GREEN, LIGHT_RED));
    assert_true(sm_allows(&light, LIGHT_YELLOW, LIGHT_YELLOW));
}

static void a_move_changes_the_state(void **state)
{
    int now = LIGHT_RED;

    (void)state;
    sm_move(&light, &now, LIGHT_GREEN);
    assert_int_equal(now, LIGHT_GREEN);
    sm_move(&light, &now, LIGHT_GREEN);
    assert_int_equal(now, LIGHT_GREEN);
}

static void green_to_red(void *unused)
{
    int now = LIGHT_GREEN;

    (void)unused;
    sm_move(&light, &now, LIGHT_RED);
}

static void a_wrong_move_aborts(void **state)
{
    (void)state;
    assert_true(process_aborts(green_to_red, NULL));
}

static void names_go_both_ways(void **state)
{
    (void)state;
    assert_string_equal(sm_name(&light, LIGHT_YELLOW), "yellow");
    assert_int_equal(sm_parse(&light, "yellow"), LIGHT_YELLOW);
    assert_int_equal(sm_parse(&light, "blue"), -1);
    assert_int_equal(sm_parse(&light, NULL), -1);
    assert_string_equal(sm_name(&light, 3), "?");
    assert_string_equal(sm_name(&light, -1), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_moves_of_the_table_are_allowed),
        cmocka_unit_test(a_move_changes_the_state),
        cmocka_unit_test(a_wrong_move_aborts),
        cmocka_unit_test(names_go_both_ways),
    };
    return cmocka_run_group_tests_name("sm", tests, NULL, NULL);
}
