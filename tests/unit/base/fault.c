// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/process.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

static int setup(void **state)
{
    fault_clear();
    return tmpdir_setup(state);
}

static int teardown(void **state)
{
    fault_clear();
    return tmpdir_teardown(state);
}

#define FAULT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void a_fault_strikes_once_after_the_uses_skipped(void **state)
{
    (void)state;
    fault_arm("disk", 2, ENOSPC);
    assert_int_equal(fault_hit("net"), 0);
    assert_int_equal(fault_hit("disk"), 0);
    assert_int_equal(fault_hit("disk"), 0);
    assert_int_equal(fault_hit("disk"), ENOSPC);
    assert_int_equal(fault_hit("disk"), 0);
}

static void faults_of_one_name_strike_one_after_the_other(void **state)
{
    (void)state;
    fault_arm("disk", 0, 0);
    fault_arm("disk", 0, ENOSPC);
    fault_arm("disk", 3, EDQUOT);
    assert_int_equal(fault_hit("disk"), EIO);
    assert_int_equal(fault_hit("disk"), ENOSPC);
    assert_int_equal(fault_hit("disk"), 0);
    assert_int_equal(fault_hit("disk"), EDQUOT);
    assert_int_equal(fault_hit("disk"), 0);
}

static void cleared_faults_never_strike(void **state)
{
    (void)state;
    fault_arm("disk", 0, 0);
    fault_clear();
    assert_int_equal(fault_hit("disk"), 0);
}

/* Three points, the second one twice. */
static void pass_points(void *unused)
{
    (void)unused;
    CRASH_POINT("one");
    CRASH_POINT("two");
    CRASH_POINT("two");
    CRASH_POINT("three");
}

struct environment {
    const char *crash;
    const char *list;
};

static void pass_points_with(void *arg)
{
    const struct environment *env = arg;

    if (env->crash)
        (void)setenv("MUSTER_CRASH", env->crash, 1);
    if (env->list)
        (void)setenv("MUSTER_CRASH_LIST", env->list, 1);
    pass_points(NULL);
}

static void expect_passed(const char *dir, const char *crash, bool dies, const char *names)
{
    CLEANUP(mem_freep) char *list = path_join(dir, "list");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct environment env = {crash, list};

    int status = process_status(pass_points_with, &env);
    assert_int_equal(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, dies);
    EXPECT_OK(fs_read_file(fs_real(), list, 1000, &text, &err));
    assert_string_equal(str_text(&text), names);
}

static void the_process_dies_at_the_pass_asked_for(void **state)
{
    expect_passed(*state, "two:2", true, "one\ntwo\ntwo\n");
}

static void a_star_counts_all_points(void **state)
{
    expect_passed(*state, "*:4", true, "one\ntwo\ntwo\nthree\n");
}

static void a_point_never_passed_kills_nobody(void **state)
{
    expect_passed(*state, "two:3", false, "one\ntwo\ntwo\nthree\n");
}

static void points_are_listed_without_a_crash(void **state)
{
    expect_passed(*state, NULL, false, "one\ntwo\ntwo\nthree\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAULT_TEST(a_fault_strikes_once_after_the_uses_skipped),
        FAULT_TEST(faults_of_one_name_strike_one_after_the_other),
        FAULT_TEST(cleared_faults_never_strike),
        FAULT_TEST(the_process_dies_at_the_pass_asked_for),
        FAULT_TEST(a_star_counts_all_points),
        FAULT_TEST(a_point_never_passed_kills_nobody),
        FAULT_TEST(points_are_listed_without_a_crash),
    };
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
