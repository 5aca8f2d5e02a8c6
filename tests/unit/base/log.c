// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

/* The log goes to a file in the test's folder. */
static int setup(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    char *path = path_join(*state, "log");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    free(path);
    if (fd < 0)
        return -1;
    log_set_fd(fd);
    log_set_level(LOG_LEVEL_INFO);
    return 0;
}

static int teardown(void **state)
{
    log_set_fd(STDERR_FILENO);
    return tmpdir_teardown(state);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void lines_of(const char *dir, struct str *ret_text)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "log");

    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 20, ret_text, &err));
}

/* Behind the time. */
#define EXPECT_LINE(text, want) assert_string_equal(str_text(text) + 25, want)

static void a_line_has_time_level_area_and_message(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    int year, month, day;

    log_info("sync", "point durable group=%s number=%" PRIu64 " took_ms=%d", "shop", UINT64_MAX, 7);
    lines_of(*state, &text);
    EXPECT_LINE(&text,
                "info sync point durable group=shop number=18446744073709551615 took_ms=7\n");
    assert_int_equal(sscanf(text.ptr, "%4d-%2d-%2dT", &year, &month, &day), 3);
    assert_int_equal(text.ptr[23], 'Z');
}

static void values_are_quoted_when_needed(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    log_warn("run", "x a=%s b=%s c=%s d=%s", "plain", "two words", "", "say \"a=b\\\"");
    lines_of(*state, &text);
    EXPECT_LINE(&text, "warn run x a=plain b=\"two words\" c=\"\" d=\"say \\\"a=b\\\\\\\"\"\n");
}

static void a_value_cannot_begin_a_line_of_its_own(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    log_error("api", "refused %s name=%s", "a\nb\x1b[0m", "x\n2026 info api all fine y=1");
    lines_of(*state, &text);
    EXPECT_LINE(&text, "error api refused a\\nb\\x1b[0m name=\"x\\n2026 info api all fine y=1\"\n");
}

static void all_kinds_of_arguments_come_through(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    log_info("a", "%d|%ld|%lld|%zu|%5.1f|%x|%c|%%|%.*s|%-4s|%hhu", -1, -2L, -3LL, (size_t)4, 5.25,
             255u, 'z', 2, "abc", "l", (unsigned char)200);
    lines_of(*state, &text);
    EXPECT_LINE(&text, "info a -1|-2|-3|4|  5.2|ff|z|%|ab|l   |200\n");
}

static void lines_below_the_level_are_not_written(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    log_debug("a", "one");
    log_set_level(LOG_LEVEL_WARN);
    log_info("a", "two");
    log_warn("a", "three");
    lines_of(*state, &text);
    EXPECT_LINE(&text, "warn a three\n");
}

static void *write_many(void *arg)
{
    for (int i = 0; i < 200; i++)
        log_info("thread", "line of=%s end", (const char *)arg);
    return NULL;
}

static void lines_of_threads_never_mix(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    char b[] = "b";
    pthread_t threads[2];
    int lines = 0;

    assert_int_equal(pthread_create(&threads[0], NULL, write_many, a), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, write_many, b), 0);
    (void)pthread_join(threads[0], NULL);
    (void)pthread_join(threads[1], NULL);
    lines_of(*state, &text);
    for (char *line = strtok(text.ptr, "\n"); line; line = strtok(NULL, "\n"), lines++) {
        size_t len = strlen(line);
        assert_true(len > 30);
        assert_string_equal(line + len - 4, " end");
    }
    assert_int_equal(lines, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(a_line_has_time_level_area_and_message),
        LOG_TEST(values_are_quoted_when_needed),
        LOG_TEST(a_value_cannot_begin_a_line_of_its_own),
        LOG_TEST(all_kinds_of_arguments_come_through),
        LOG_TEST(lines_below_the_level_are_not_written),
        LOG_TEST(lines_of_threads_never_mix),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
