// SPDX-License-Identifier: Apache-2.0
/* An old primary and the site that took over, each by its files and over restarts. */
#include "sites/branch.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <unistd.h>

static json_t *retire_args(const char *run, int generation)
{
    return json_pack("{s:s, s:s, s:i}", "group", "db1", "run", run, "generation", generation);
}

static struct estate_mark mark_of_db1(struct estates *e)
{
    struct estate_mark mark;

    EXPECT_OK(estate_mark_read(e->paris, "db1", &mark, &err));
    return mark;
}

static enum instance_state old_machine(struct estates *e)
{
    return provider_fake_find(&e->fake, "machines/db1")->state;
}

static void start_db1(struct estates *e)
{
    estates_tell(e->at_paris, "machine.start", estates_machine_args("paris-1"));
}

static size_t branches_of_db1(struct estates *e)
{
    json_t *list = NULL;

    EXPECT_OK(branch_list(e->paris, "db1", &list, &err));
    size_t count = json_array_size(list);
    json_decref(list);
    return count;
}

/* Nothing can be written where a file stands in the way. */
static void spoil_branches(struct estates *e, bool spoil)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/paris/branches", e->root);

    if (spoil)
        EXPECT_OK(fs_replace_file(fs_real(), path, "", 0, 0600, &err));
    else
        assert_int_equal(unlink(path), 0);
}

/* --- The old primary -------------------------------------------------------------------------- */

static void a_retired_group_tells_who_has_it_and_since_when(void **state)
{
    struct estates *e = *state;

    start_db1(e);
    clock_fake_advance(&e->clock, 5000);
    estates_tell(e->at_paris, "group.retire", retire_args("lyon-4", 2));
    struct estate_mark mark = mark_of_db1(e);
    assert_int_equal(mark.retired, 2);
    assert_string_equal(mark.by, "lyon");
    assert_int_equal(mark.since_ms, e->clock.clock.wall_ms(&e->clock.clock));
    assert_int_equal(mark.settled, 2);
    assert_int_equal(old_machine(e), INSTANCE_OFF);
    assert_string_equal(e->told, "db1 retired 2");
    EXPECT_ERR(ERR_FENCED, estate_may_start(e->paris, "db1", &err));
    EXPECT_TEXT("failed over to lyon (generation 2), as is known here since 2023-11-14T22:13:25");
}

static void a_generation_that_is_not_higher_retires_nobody(void **state)
{
    struct estates *e = *state;

    start_db1(e);
    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_paris, "group.retire", retire_args("lyon-4", 1), NULL, NULL, &err));
    EXPECT_TEXT("paris writes under generation 1");
    assert_int_equal(old_machine(e), INSTANCE_RUNNING);
    assert_int_equal(mark_of_db1(e).retired, 0);
}

/* The planned failover that held it was cut off; an unplanned one promoted the replica. */
static void the_generation_decides_over_another_runs_hold(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_paris, "group.hold", estates_group_args("lyon-4"));
    estates_tell(e->at_paris, "group.retire", retire_args("lyon-9", 2));
    assert_int_equal(mark_of_db1(e).retired, 2);
}

static void a_branch_that_cannot_be_kept_leaves_the_machine_paused(void **state)
{
    struct estates *e = *state;
    struct estate_fence fence;
    uint32_t done;

    start_db1(e);
    spoil_branches(e, true);
    CLEANUP(json_freep)
    json_t *reply = estates_ask(e->at_paris, "group.retire", retire_args("lyon-4", 2));
    assert_false(json_get_bool(reply, "settled", true));
    assert_non_null(strstr(json_get_str(reply, "problem", ""), "branches"));
    assert_int_equal(old_machine(e), INSTANCE_PAUSED);
    EXPECT_OK(estate_fence_show(e->paris, "db1", &fence, &err));
    assert_non_null(strstr(fence.problem, "muster retry"));
    EXPECT_ERR(ERR_FENCED, site_ask(e->at_paris, "machine.start", estates_machine_args("paris-1"),
                                    NULL, NULL, &err));

    spoil_branches(e, false);
    EXPECT_OK(estate_fence_all(e->paris, &done, NULL, &err)); /* not yet due */
    assert_int_equal(old_machine(e), INSTANCE_PAUSED);
    clock_fake_advance(&e->clock, 60000);
    EXPECT_OK(estate_fence_all(e->paris, &done, NULL, &err));
    assert_int_equal(done, 1);
    assert_int_equal(old_machine(e), INSTANCE_OFF);
    assert_int_equal(branches_of_db1(e), 1);
    EXPECT_OK(estate_fence_show(e->paris, "db1", &fence, &err));
    assert_string_equal(fence.problem, "");
}

static void a_retry_by_a_person_does_not_wait(void **state)
{
    struct estates *e = *state;
    uint32_t done;

    start_db1(e);
    spoil_branches(e, true);
    estates_tell(e->at_paris, "group.retire", retire_args("lyon-4", 2));
    spoil_branches(e, false);
    estate_fence_retry(e->paris, "db1");
    EXPECT_OK(estate_fence_all(e->paris, &done, NULL, &err));
    assert_int_equal(done, 1);
}

/* A daemon killed after the mark: its next one does the rest before anything else. */
static void what_a_killed_daemon_left_is_settled_by_the_next(void **state)
{
    struct estates *e = *state;
    uint32_t done;

    start_db1(e);
    spoil_branches(e, true);
    estates_tell(e->at_paris, "group.retire", retire_args("lyon-4", 2));
    spoil_branches(e, false);
    estates_restart_paris(e);
    EXPECT_OK(estate_fence_all(e->paris, &done, NULL, &err));
    assert_int_equal(done, 1);
    assert_int_equal(old_machine(e), INSTANCE_OFF);
    assert_int_equal(mark_of_db1(e).settled, 2);
    EXPECT_OK(estate_fence_all(e->paris, &done, NULL, &err));
    assert_int_equal(done, 0);
}

static void a_second_promotion_makes_no_second_branch(void **state)
{
    struct estates *e = *state;

    start_db1(e);
    estates_tell(e->at_paris, "group.retire", retire_args("lyon-4", 2));
    size_t before = branches_of_db1(e);
    estates_tell(e->at_paris, "group.retire", retire_args("lyon-5", 3));
    assert_int_equal(mark_of_db1(e).retired, 3);
    assert_int_equal(mark_of_db1(e).settled, 3);
    assert_int_equal(branches_of_db1(e), before);
}

static void a_branch_of_unknown_extent_says_so(void **state)
{
    struct estates *e = *state;

    start_db1(e);
    estates_tell(e->at_paris, "group.retire", retire_args("lyon-4", 2));
    CLEANUP(json_freep)
    json_t *reply = estates_ask(e->at_paris, "group.branches", estates_group_args("lyon-4"));
    const json_t *branch = json_array_get(json_object_get(reply, "branches"), 0);
    assert_string_equal(json_get_str(branch, "extent", ""), "unknown");
    assert_non_null(strstr(json_get_str(branch, "note", ""), "protected again"));
    assert_int_equal(json_get_u64(branch, "promoted", 0), 2);
}

/* --- The site that took over -------------------------------------------------------------------- */

static json_t *promote_args(const char *run)
{
    return json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", run, "point", 0, "expected", 1);
}

static size_t to_retire(struct estates *e, struct estate_retiring *ret_first)
{
    size_t count;
    struct estate_retiring *list = estate_retiring_list(e->lyon, &count);

    if (count > 0)
        *ret_first = list[0];
    free(list);
    return count;
}

static void an_old_site_that_was_away_is_retired_when_it_is_back(void **state)
{
    struct estates *e = *state;
    struct estate_retiring retiring;
    bool asked;

    start_db1(e);
    estates_tell(e->at_lyon, "group.promote", promote_args("lyon-4"));
    assert_int_equal(to_retire(e, &retiring), 1);
    assert_int_equal(retiring.generation, 2);
    e->unreachable = true;
    EXPECT_ERR(ERR_NET, estate_retiring_ask(e->lyon, &retiring, &asked, NULL, &err));
    assert_int_equal(to_retire(e, &retiring), 1);
    e->unreachable = false;
    estates_restart_lyon(e);
    assert_int_equal(to_retire(e, &retiring), 1);
    EXPECT_OK(estate_retiring_ask(e->lyon, &retiring, &asked, NULL, &err));
    assert_int_equal(to_retire(e, &retiring), 0);
    assert_int_equal(mark_of_db1(e).retired, 2);
    assert_int_equal(old_machine(e), INSTANCE_OFF);
    estates_restart_lyon(e);
    assert_int_equal(to_retire(e, &retiring), 0);
}

/* Its replica is gone then: the machine runs on those disks. */
static void an_old_site_is_retired_by_one_whose_machine_came_back_to_its_own_disks(void **state)
{
    static const char base[] =
        "{\"point\":4,\"hash\":\"0000000000000000000000000000000000000000000000000000000000000000\","
        "\"generation\":2,\"cut_ms\":0,\"armed\":1,\"disks\":[],\"tip\":\"\",\"first\":\"\"}";
    struct estates *e = *state;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/sessions/db1.base", e->root);
    CLEANUP(mem_freep) char *file = path_join(dir, "base.json");
    struct estate_retiring retiring;
    struct store *store;
    bool asked;

    start_db1(e);
    e->unreachable = true;
    estates_tell(e->at_lyon, "group.promote", promote_args("lyon-4"));
    EXPECT_OK(estate_store_get(e->lyon, "db1", &store, &err));
    estate_store_put(e->lyon, "db1", store, true); /* closed, as when its disks are given back */
    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), file, base, strlen(base), 0600, &err));
    e->unreachable = false;
    assert_int_equal(to_retire(e, &retiring), 1);
    EXPECT_OK(estate_retiring_ask(e->lyon, &retiring, &asked, NULL, &err));
    assert_true(asked);
    assert_int_equal(to_retire(e, &retiring), 0);
    assert_int_equal(mark_of_db1(e).retired, 2);
    assert_int_equal(old_machine(e), INSTANCE_OFF);
}

/* The daemon was killed between the note and the promotion. */
static void a_promotion_that_did_not_come_about_retires_nobody(void **state)
{
    struct estates *e = *state;
    struct estate_retiring retiring = {.group = "db1", .peer = "paris", .generation = 2};
    bool asked;

    start_db1(e);
    EXPECT_OK(estate_retiring_ask(e->lyon, &retiring, &asked, NULL, &err));
    assert_false(asked);
    assert_int_equal(old_machine(e), INSTANCE_RUNNING);
}

static void a_promotion_that_was_refused_retires_nobody(void **state)
{
    struct estates *e = *state;
    struct estate_retiring retiring;

    start_db1(e);
    EXPECT_ERR(ERR_NOT_FOUND, site_ask(e->at_lyon, "group.promote",
                                       json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run",
                                                 "lyon-4", "point", 77, "expected", 1),
                                       NULL, NULL, &err));
    assert_int_equal(to_retire(e, &retiring), 0);
    assert_int_equal(old_machine(e), INSTANCE_RUNNING);
    assert_int_equal(mark_of_db1(e).retired, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(an_old_site_is_retired_by_one_whose_machine_came_back_to_its_own_disks),
        ESTATES_TEST(a_retired_group_tells_who_has_it_and_since_when),
        ESTATES_TEST(a_generation_that_is_not_higher_retires_nobody),
        ESTATES_TEST(the_generation_decides_over_another_runs_hold),
        ESTATES_TEST(a_branch_that_cannot_be_kept_leaves_the_machine_paused),
        ESTATES_TEST(a_retry_by_a_person_does_not_wait),
        ESTATES_TEST(what_a_killed_daemon_left_is_settled_by_the_next),
        ESTATES_TEST(a_second_promotion_makes_no_second_branch),
        ESTATES_TEST(a_branch_of_unknown_extent_says_so),
        ESTATES_TEST(an_old_site_that_was_away_is_retired_when_it_is_back),
        ESTATES_TEST(a_promotion_that_did_not_come_about_retires_nobody),
        ESTATES_TEST(a_promotion_that_was_refused_retires_nobody),
    };
    return cmocka_run_group_tests_name("fence", tests, NULL, NULL);
}
