// SPDX-License-Identifier: Apache-2.0
/* Each plan we ship loads without a warning, and its runbooks read as they did when somebody last
 * read them: tests/plans/golden/PLAN.KIND.txt. With MUSTER_GOLDEN=write they are written anew. */
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/plan/plan_world.h"

#include <stdlib.h>

#define GOLDEN MUSTER_SOURCE_DIR "/tests/plans/golden"

static struct plan_world shipped_world(void)
{
    static const char *const machines[] = {"app1", "db1", "web1", "web2", NULL};
    struct plan_world world = *plan_world_for_test();

    world.machines = machines;
    return world;
}

static struct plan *load(const char *name)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    CLEANUP(mem_freep) char *path = mem_printf(MUSTER_SOURCE_DIR "/plans/%s.lua", name);
    struct plan_world world = shipped_world();
    struct host host = host_for_test();
    struct plan *plan = NULL;

    EXPECT_OK(plan_load_file(&host, &world, path, &plan, &problems, NULL, &err));
    CLEANUP(mem_freep) char *said = plan_problems_text(&problems, path);
    assert_string_equal(said, "");
    assert_string_equal(plan->name, name);
    return plan;
}

static void compare(const struct plan *plan, enum run_kind kind)
{
    CLEANUP(mem_freep)
    char *path = mem_printf(GOLDEN "/%s.%s.txt", plan->name, run_kind_name(kind));
    CLEANUP(str_free) struct str want = STR_EMPTY;
    CLEANUP(mem_freep) char *text = NULL;
    struct plan_world world = shipped_world();

    EXPECT_OK(plan_show_text(plan, &world, kind, &text, &err));
    if (str_eq(getenv("MUSTER_GOLDEN"), "write"))
        EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0644, &err));
    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 20, &want, &err));
    assert_string_equal(text, str_text(&want));
}

static void runbooks_are_as_they_were(const char *name)
{
    static const enum run_kind kinds[] = {RUN_TEST, RUN_PLANNED, RUN_UNPLANNED, RUN_FAILBACK,
                                          RUN_CLEANUP};
    CLEANUP(plan_freep) struct plan *plan = load(name);

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        compare(plan, kinds[i]);
}

static void the_shop_plan_reads_as_it_did(void **state)
{
    (void)state;
    runbooks_are_as_they_were("shop");
}

static void the_plan_for_a_single_machine_reads_as_it_did(void **state)
{
    (void)state;
    runbooks_are_as_they_were("single");
}

static void the_plan_for_a_pool_reads_as_it_did(void **state)
{
    (void)state;
    runbooks_are_as_they_were("pool");
}

static void the_plan_that_people_guide_reads_as_it_did(void **state)
{
    (void)state;
    runbooks_are_as_they_were("guided");
}

/* A plan that nobody reads in a test is one that nobody reads. */
static void every_shipped_plan_is_tested(void **state)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};

    (void)state;
    EXPECT_OK(fs_list(MUSTER_SOURCE_DIR "/plans", &names, &err));
    for (size_t i = 0; i < names.len; i++) {
        size_t len = strlen(names.at[i]);
        if (len < 4 || strcmp(names.at[i] + len - 4, ".lua") != 0)
            continue;
        CLEANUP(mem_freep)
        char *golden = mem_printf(GOLDEN "/%.*s.test.txt", (int)(len - 4), names.at[i]);
        if (!fs_exists(golden))
            fail_msg("%s: no %s", names.at[i], golden);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_shop_plan_reads_as_it_did),
        cmocka_unit_test(the_plan_for_a_single_machine_reads_as_it_did),
        cmocka_unit_test(the_plan_for_a_pool_reads_as_it_did),
        cmocka_unit_test(the_plan_that_people_guide_reads_as_it_did),
        cmocka_unit_test(every_shipped_plan_is_tested),
    };
    return cmocka_run_group_tests_name("shipped", tests, NULL, NULL);
}
