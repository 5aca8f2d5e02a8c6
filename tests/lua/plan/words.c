// SPDX-License-Identifier: Apache-2.0
/* Runs tests/lua/cases/NAME.lua. The first line of each says what comes of it:
 *   -- fine                    it is a plan, without a warning
 *   -- invalid|denied|limit: TEXT   that error, with TEXT in it */
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/plan/plan_world.h"

#include <stdlib.h>
#include <unistd.h>

#define CASES "tests/lua/cases"

static void check_fine(const char *path)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    CLEANUP(plan_freep) struct plan *plan = NULL;
    struct host host = host_for_test();

    if (plan_load_file(&host, plan_world_for_test(), path, &plan, &problems, NULL, &err) < 0)
        fail_msg("%s", err.text);
    CLEANUP(mem_freep) char *said = plan_problems_text(&problems, path);
    assert_string_equal(said, "");
}

static void check_error(const char *path, enum err_code code, const char *part)
{
    struct host host = host_for_test();
    struct plan *plan = NULL;

    host.limits.cpu_ms = 200;
    host.limits.memory_bytes = 8U << 20;
    EXPECT_ERR(code, plan_load_file(&host, plan_world_for_test(), path, &plan, NULL, NULL, &err));
    EXPECT_TEXT(path);
    EXPECT_TEXT(part);
}

static void check_case(const char *name)
{
    CLEANUP(mem_freep) char *path = mem_printf(CASES "/%s", name);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 20, &text, &err));
    char *line = text.ptr;
    line[strcspn(line, "\n")] = '\0';
    print_message("%s: %s\n", path, line);
    if (str_eq(line, "-- fine")) {
        check_fine(path);
        return;
    }
    char *colon = strchr(line, ':');
    if (!str_starts(line, "-- ") || !colon)
        fail_msg("%s: the first line says nothing", path);
    *colon = '\0';
    check_error(path, err_code_parse(line + 3), colon + 2);
}

static void every_case_ends_as_it_says(void **state)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};

    (void)state;
    assert_int_equal(chdir(MUSTER_SOURCE_DIR), 0);
    EXPECT_OK(fs_list(CASES, &names, &err));
    assert_true(names.len > 5);
    for (size_t i = 0; i < names.len; i++)
        check_case(names.at[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_ends_as_it_says),
    };
    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
