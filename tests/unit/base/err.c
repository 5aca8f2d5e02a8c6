// SPDX-License-Identifier: Apache-2.0
#include "support/expect.h"

#include <errno.h>
#include <stdio.h>

static void the_cause_stands_behind_the_text(void **state)
{
    (void)state;
    assert_int_equal(err_set(&err, ERR_IO, EACCES, "/a/b: open"), -1);
    assert_string_equal(err.text, "/a/b: open: Permission denied");
    assert_int_equal(err.code, ERR_IO);
    assert_int_equal(err.sys, EACCES);
}

static void the_cause_stands_before_the_hint(void **state)
{
    (void)state;
    err_put(&err, ERR_IO, EACCES, "/a/b: open; hint: run as root");
    assert_string_equal(err.text, "/a/b: open: Permission denied; hint: run as root");
}

static void a_full_disk_is_a_matter_of_space(void **state)
{
    (void)state;
    err_put(&err, ERR_IO, ENOSPC, "write");
    assert_int_equal(err.code, ERR_SPACE);
    err_put(&err, ERR_IO, EDQUOT, "write");
    assert_int_equal(err.code, ERR_SPACE);
    err_put(&err, ERR_NET, ENOSPC, "send");
    assert_int_equal(err.code, ERR_NET);
}

static void wrapping_keeps_code_and_errno(void **state)
{
    (void)state;
    err_put(&err, ERR_CORRUPT, EIO, "chunk %d", 7);
    assert_int_equal(err_wrap(&err, "disk %s", "vda"), -1);
    assert_string_equal(err.text, "disk vda: chunk 7: Input/output error");
    assert_int_equal(err.code, ERR_CORRUPT);
    assert_int_equal(err.sys, EIO);
}

static void an_old_text_can_be_part_of_the_new_one(void **state)
{
    (void)state;
    err_put(&err, ERR_IO, 0, "inner");
    err_put(&err, ERR_STATE, 0, "outer (%s)", err.text);
    assert_string_equal(err.text, "outer (inner)");
    err_prefix(&err, "again %s", err.text);
    assert_string_equal(err.text, "again outer (inner): outer (inner)");
}

static void too_long_a_text_is_cut_and_keeps_its_front(void **state)
{
    char big[3000];

    (void)state;
    memset(big, 'x', sizeof(big));
    big[sizeof(big) - 1] = '\0';
    err_put(&err, ERR_IO, ENOENT, "%s", big);
    assert_int_equal(strlen(err.text) < sizeof(err.text), 1);
    EXPECT_TEXT("No such file");
    for (int i = 0; i < 50; i++)
        err_prefix(&err, "layer %d of the tale that is told again and again", i);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    assert_memory_equal(err.text, "layer 49 ", 9);
    err_prefix(&err, "%s", big);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void nobody_has_to_take_an_error(void **state)
{
    (void)state;
    assert_int_equal(err_set(NULL, ERR_IO, EIO, "x"), -1);
    assert_int_equal(err_wrap(NULL, "y"), -1);
    err_clear(NULL);
}

static void errno_survives(void **state)
{
    (void)state;
    errno = EPIPE;
    err_put(&err, ERR_IO, ENOENT, "x");
    err_prefix(&err, "y");
    assert_int_equal(errno, EPIPE);
}

static void every_code_has_a_word_of_its_own(void **state)
{
    (void)state;
    for (int code = 0; code < ERR_CODE_COUNT; code++)
        assert_int_equal(err_code_parse(err_code_name((enum err_code)code)), code);
    assert_string_equal(err_code_name(ERR_NOT_FOUND), "not-found");
    assert_int_equal(err_code_parse("no-such-word"), ERR_PROTOCOL);
    assert_int_equal(err_code_parse(NULL), ERR_PROTOCOL);
}

static void retry_helps_for_the_first_five_only(void **state)
{
    (void)state;
    assert_true(err_is_retryable(ERR_BUSY));
    assert_true(err_is_retryable(ERR_IO));
    assert_true(err_is_retryable(ERR_NET));
    assert_false(err_is_retryable(ERR_NONE));
    assert_false(err_is_retryable(ERR_CORRUPT));
    assert_false(err_is_retryable(ERR_INVALID));
    assert_false(err_is_retryable(ERR_UNKNOWN));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cause_stands_behind_the_text),
        cmocka_unit_test(the_cause_stands_before_the_hint),
        cmocka_unit_test(a_full_disk_is_a_matter_of_space),
        cmocka_unit_test(wrapping_keeps_code_and_errno),
        cmocka_unit_test(an_old_text_can_be_part_of_the_new_one),
        cmocka_unit_test(too_long_a_text_is_cut_and_keeps_its_front),
        cmocka_unit_test(nobody_has_to_take_an_error),
        cmocka_unit_test(errno_survives),
        cmocka_unit_test(every_code_has_a_word_of_its_own),
        cmocka_unit_test(retry_helps_for_the_first_five_only),
    };
    return cmocka_run_group_tests_name("err", tests, NULL, NULL);
}
