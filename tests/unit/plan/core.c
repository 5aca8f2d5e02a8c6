// SPDX-License-Identifier: Apache-2.0
/* The list of tasks that runbook and executor share. */
#include "base/mem.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/plan/plan_world.h"

#include <stdlib.h>

static const char shop[] =
    "return plan \"shop\" {\n"
    "  stage \"Database\" {\n"
    "    step \"Up db\" { failover \"db1\" },\n"
    "    step \"Wait\" { wait_until { tcp = { lyon = \"db1:5432\", paris = \"db1:5433\" } } },\n"
    "  },\n"
    "  stage \"Web\" {\n"
    "    parallel { step \"Up web1\" { failover \"web1\" }, step \"Up web2\" { failover \"web2\" } },\n"
    "  },\n"
    "  stage \"Open\" { only = { \"planned\", \"unplanned\" },\n"
    "    step \"Look\" { check { agent = \"web1\" }, on_failure = \"continue\", within = \"1m\" },\n"
    "  },\n"
    "}\n";

static struct plan *load(const char *text)
{
    struct host host = host_for_test();
    struct plan *plan = NULL;

    EXPECT_OK(plan_load(&host, plan_world_for_test(), "shop.lua", text, strlen(text), &plan, NULL,
                        NULL, &err));
    return plan;
}

/* The ids in order, with the number of their group behind a '*'. */
static char *ids_of(const struct plan *plan, enum run_kind kind)
{
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    struct str text = STR_EMPTY;

    EXPECT_OK(plan_expand(plan, plan_world_for_test(), kind, &tasks, &err));
    VEC_FOREACH(task, &tasks) {
        str_addf(&text, "%s%s", text.len ? " " : "", task->id);
        if (task->group)
            str_addf(&text, "*%u", task->group);
    }
    return str_take(&text);
}

static void expands_to(enum run_kind kind, const char *want)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(mem_freep) char *ids = ids_of(plan, kind);

    assert_string_equal(ids, want);
}

static void a_planned_run_shuts_down_first_and_back_to_front(void **state)
{
    (void)state;
    expands_to(RUN_PLANNED, "core.shutdown.web2*1 core.shutdown.web1*1 core.shutdown.db1 "
                            "core.final-sync.db1*2 core.final-sync.web1*2 core.final-sync.web2*2 "
                            "core.promote.db1 core.promote.web1 core.promote.web2 "
                            "core.retire.db1*3 core.retire.web1*3 core.retire.web2*3 "
                            "s1 s2 s3*4 s4*4 s5");
    expands_to(RUN_FAILBACK, "core.shutdown.web2*1 core.shutdown.web1*1 core.shutdown.db1 "
                             "core.final-sync.db1*2 core.final-sync.web1*2 core.final-sync.web2*2 "
                             "core.promote.db1 core.promote.web1 core.promote.web2 "
                             "core.retire.db1*3 core.retire.web1*3 core.retire.web2*3 "
                             "s1 s2 s3*4 s4*4");
}

static void an_unplanned_run_never_shuts_down(void **state)
{
    (void)state;
    expands_to(RUN_UNPLANNED, "core.hold.db1*1 core.hold.web1*1 core.hold.web2*1 "
                              "core.promote.db1 core.promote.web1 core.promote.web2 "
                              "core.retire.db1*2 core.retire.web1*2 core.retire.web2*2 "
                              "s1 s2 s3*3 s4*3 s5");
}

static void a_test_changes_no_owner_and_its_cleanup_removes_what_it_made(void **state)
{
    (void)state;
    expands_to(RUN_TEST, "core.pin.db1 core.pin.web1 core.pin.web2 core.network s1 s2 s3*1 s4*1");
    expands_to(RUN_CLEANUP, "core.cleanup.web2*1 core.cleanup.web1*1 core.cleanup.db1 "
                            "core.unpin.db1 core.unpin.web1 core.unpin.web2 "
                            "core.network-remove core.leftovers");
}

static const struct plan_task *find(const struct plan_tasks *tasks, const char *id)
{
    VEC_FOREACH(task, tasks)
        if (str_eq(task->id, id))
            return task;
    fail_msg("no task %s", id);
    abort();
}

static void an_error_stops_except_where_one_machine_must_not_stop_the_others(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(plan_tasks_done) struct plan_tasks planned = VEC_EMPTY;
    CLEANUP(plan_tasks_done) struct plan_tasks unplanned = VEC_EMPTY;

    (void)state;
    EXPECT_OK(plan_expand(plan, plan_world_for_test(), RUN_PLANNED, &planned, &err));
    EXPECT_OK(plan_expand(plan, plan_world_for_test(), RUN_UNPLANNED, &unplanned, &err));
    assert_int_equal(find(&planned, "core.shutdown.db1")->on_failure, PLAN_FAIL_STOP);
    assert_int_equal(find(&planned, "core.promote.db1")->on_failure, PLAN_FAIL_STOP);
    assert_int_equal(find(&planned, "core.retire.db1")->on_failure, PLAN_FAIL_CONTINUE);
    assert_int_equal(find(&planned, "s1")->on_failure, PLAN_FAIL_STOP);
    assert_int_equal(find(&planned, "s5")->on_failure, PLAN_FAIL_CONTINUE);
    assert_int_equal(find(&unplanned, "core.promote.db1")->on_failure, PLAN_FAIL_CONTINUE);
    assert_int_equal(find(&unplanned, "s1")->on_failure, PLAN_FAIL_CONTINUE);
    assert_int_equal(find(&unplanned, "s2")->on_failure, PLAN_FAIL_STOP);
    assert_int_equal(find(&unplanned, "s5")->within_ms, 60000);
}

/* The first task that cannot be taken back, or "". */
static const char *no_return(const struct plan *plan, enum run_kind kind, char *buf)
{
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    unsigned count = 0;

    buf[0] = '\0';
    EXPECT_OK(plan_expand(plan, plan_world_for_test(), kind, &tasks, &err));
    VEC_FOREACH(task, &tasks) {
        if (task->point_of_no_return)
            (void)strcpy(buf, task->id);
        count += task->point_of_no_return;
    }
    assert_true(count <= 1);
    return buf;
}

static void the_point_of_no_return_is_the_first_that_destroys(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(plan_freep)
    struct plan *wiping =
        load("return plan \"w\" { stage \"A\" { step \"U\" { failover \"db1\" },\n"
             "  step \"W\" { wipe \"the cache\" } } }");
    char id[PLAN_ID_BYTES];

    (void)state;
    assert_string_equal(no_return(plan, RUN_PLANNED, id), "core.promote.db1");
    assert_string_equal(no_return(plan, RUN_UNPLANNED, id), "core.promote.db1");
    assert_string_equal(no_return(plan, RUN_TEST, id), "");
    assert_string_equal(no_return(wiping, RUN_TEST, id), "s2");
    assert_string_equal(no_return(wiping, RUN_PLANNED, id), "core.promote.db1");
}

static void values_by_site_become_this_sites(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(plan_tasks_done) struct plan_tasks here = VEC_EMPTY;
    CLEANUP(plan_tasks_done) struct plan_tasks there = VEC_EMPTY;
    struct plan_world paris = *plan_world_for_test();

    (void)state;
    paris.here = "paris";
    EXPECT_OK(plan_expand(plan, plan_world_for_test(), RUN_TEST, &here, &err));
    EXPECT_OK(plan_expand(plan, &paris, RUN_TEST, &there, &err));
    assert_string_equal(json_get_str(find(&here, "s2")->actions.at[0].args, "tcp", ""), "db1:5432");
    assert_string_equal(json_get_str(find(&there, "s2")->actions.at[0].args, "tcp", ""),
                        "db1:5433");
}

static void core_actions_name_their_machine(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;

    (void)state;
    EXPECT_OK(plan_expand(plan, plan_world_for_test(), RUN_PLANNED, &tasks, &err));
    const struct plan_task *down = find(&tasks, "core.shutdown.web1");
    assert_string_equal(down->actions.at[0].verb->name, "core_shutdown");
    assert_string_equal(json_get_str(down->actions.at[0].args, "machine", ""), "web1");
    assert_string_equal(down->title, "Shut down web1");
    const struct plan_task *promote = find(&tasks, "core.promote.web1");
    assert_string_equal(json_get_str(promote->actions.at[0].args, "group", ""), "web1");
    assert_int_equal(promote->phase, PLAN_CORE_BEFORE);
}

static void a_kind_without_machines_has_no_run(void **state)
{
    CLEANUP(plan_freep)
    struct plan *plan = load(
        "return plan \"t\" { stage \"A\" { step \"U\" { failover \"db1\", only = \"test\" } } }");
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;

    (void)state;
    EXPECT_ERR(ERR_INVALID, plan_expand(plan, plan_world_for_test(), RUN_PLANNED, &tasks, &err));
    EXPECT_TEXT("plan t has nothing to do in planned runs");
    EXPECT_ERR(ERR_UNSUPPORTED, plan_expand(plan, plan_world_for_test(), RUN_DRY, &tasks, &err));
    struct plan_world bare = *plan_world_for_test();
    bare.verb_count = 0;
    EXPECT_ERR(ERR_UNSUPPORTED, plan_expand(plan, &bare, RUN_TEST, &tasks, &err));
    EXPECT_TEXT("test runs need core_pin");
    CLEANUP(json_freep) json_t *machines = plan_machines(plan, RUN_PLANNED);
    assert_int_equal(json_array_size(machines), 0);
}

static void the_runbook_for_programs_has_every_task(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(json_freep) json_t *json = NULL;

    (void)state;
    EXPECT_OK(plan_show_json(plan, plan_world_for_test(), RUN_TEST, &json, &err));
    assert_string_equal(json_get_str(json, "ends_in", ""), "cleanup-due");
    assert_string_equal(json_get_str(json, "hash", ""), plan->hash);
    const json_t *tasks = json_object_get(json, "tasks");
    assert_int_equal(json_array_size(tasks), 8);
    const json_t *wait = json_array_get(tasks, 5);
    assert_string_equal(json_get_str(wait, "id", ""), "s2");
    assert_string_equal(json_get_str(wait, "number", ""), "2.2");
    assert_int_equal(json_get_u64(wait, "line", 0), 4);
}

static void what_follows_a_failover_is_about_each_machine(void **state)
{
    (void)state;
    expands_to(RUN_COMMIT, "core.commit.db1 core.commit.web1 core.commit.web2");
    expands_to(RUN_ROLLBACK, "core.rollback.web2*1 core.rollback.web1*1 core.rollback.db1");
    expands_to(RUN_CHANGE_POINT, "core.change-point.db1 core.change-point.web1 "
                                 "core.change-point.web2 s1 s2 s3*1 s4*1 s5");
}

static const char final[] =
    "return plan \"final\" {\n"
    "  stage \"All\" {\n"
    "    step \"Up\" { failover \"db1\" },\n"
    "    step \"Make it final\" { commit \"db1\" },\n"
    "    step \"And protected\" { reprotect { \"db1\", accept_branch = true } },\n"
    "    step \"Look\" { check { agent = \"db1\" } },\n"
    "  },\n"
    "}\n";

static void expect_ids(enum run_kind kind, const char *want)
{
    CLEANUP(plan_freep) struct plan *plan = load(final);
    CLEANUP(mem_freep) char *ids = ids_of(plan, kind);

    assert_string_equal(ids, want);
}

static void a_test_commits_nothing_and_neither_does_a_change_of_the_point(void **state)
{
    (void)state;
    expect_ids(RUN_TEST, "core.pin.db1 core.network s1 s4");
    expect_ids(RUN_UNPLANNED, "core.hold.db1 core.promote.db1 core.retire.db1 s1 s2 s3 s4");
    expect_ids(RUN_CHANGE_POINT, "core.change-point.db1 s1 s4");
    expect_ids(RUN_COMMIT, "core.commit.db1");
}

/* The problems of a plan that must not load. */
static void refused(const char *text, const char *want)
{
    struct host host = host_for_test();
    struct plan *plan = NULL;

    EXPECT_ERR(ERR_INVALID, plan_load(&host, plan_world_for_test(), "shop.lua", text, strlen(text),
                                      &plan, NULL, NULL, &err));
    EXPECT_TEXT(want);
}

static void a_step_that_tests_leave_out_has_nothing_else_in_it(void **state)
{
    (void)state;
    refused("return plan \"w\" { stage \"A\" {\n"
            "  step \"Up\" { failover \"db1\" },\n"
            "  step \"Mixed\" { commit \"db1\", check { agent = \"db1\" } } } }",
            "step \"Mixed\": commit is left out of tests, and check would be with it");
    refused("return plan \"w\" { stage \"A\" {\n"
            "  step \"Up\" { failover \"db1\" },\n"
            "  step \"Never\" { commit \"db1\", only = \"test\" } } }",
            "step \"Never\" would never run: commit is no part of the kinds it is for");
}

/* --- Groups of several machines ---------------------------------------------------------------- */

/* `ids_of` with db1 and web1 in group "shop"; web2 is alone. */
static void in_groups_expands_to(enum run_kind kind, const char *want)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    CLEANUP(json_freep)
    json_t *groups =
        json_pack("{s:{s:s}, s:{s:s}}", "db1", "group", "shop", "web1", "group", "shop");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct plan_world world = *plan_world_for_test();

    world.groups = groups;
    EXPECT_OK(plan_expand(plan, &world, kind, &tasks, &err));
    VEC_FOREACH(task, &tasks)
        str_addf(&text, "%s%s", text.len ? " " : "", task->id);
    assert_string_equal(str_text(&text), want);
}

static void what_a_group_does_it_does_once_and_what_a_machine_does_each(void **state)
{
    (void)state;
    in_groups_expands_to(RUN_PLANNED, "core.shutdown.web2 core.shutdown.web1 core.shutdown.db1 "
                                      "core.final-sync.shop core.final-sync.web2 "
                                      "core.promote.shop core.promote.web2 "
                                      "core.retire.shop core.retire.web2 s1 s2 s3 s4 s5");
    in_groups_expands_to(RUN_UNPLANNED, "core.hold.shop core.hold.web2 "
                                        "core.promote.shop core.promote.web2 "
                                        "core.retire.shop core.retire.web2 s1 s2 s3 s4 s5");
    in_groups_expands_to(RUN_TEST, "core.pin.shop core.pin.web2 core.network s1 s2 s3 s4");
    in_groups_expands_to(RUN_CLEANUP, "core.cleanup.web2 core.cleanup.web1 core.cleanup.db1 "
                                      "core.unpin.shop core.unpin.web2 "
                                      "core.network-remove core.leftovers");
    in_groups_expands_to(RUN_COMMIT, "core.commit.shop core.commit.web2");
    in_groups_expands_to(RUN_ROLLBACK, "core.rollback.web2 core.rollback.shop");
    in_groups_expands_to(RUN_CHANGE_POINT,
                         "core.change-point.shop core.change-point.web2 s1 s2 s3 s4 s5");
}

static void a_runbook_says_the_group_and_its_machines(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(json_freep)
    json_t *groups =
        json_pack("{s:{s:s}, s:{s:s}}", "db1", "group", "shop", "web1", "group", "shop");
    CLEANUP(mem_freep) char *text = NULL;
    struct plan_world world = *plan_world_for_test();

    (void)state;
    world.groups = groups;
    EXPECT_OK(plan_show_text(plan, &world, RUN_PLANNED, &text, &err));
    assert_non_null(strstr(text, "Promote shop (db1, web1) here"));
    assert_non_null(strstr(text, "Shut down web1"));
    assert_non_null(strstr(text, "Promote web2 here"));
    assert_non_null(strstr(text, "Send the last changes of shop (db1, web1)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_planned_run_shuts_down_first_and_back_to_front),
        cmocka_unit_test(an_unplanned_run_never_shuts_down),
        cmocka_unit_test(a_test_changes_no_owner_and_its_cleanup_removes_what_it_made),
        cmocka_unit_test(an_error_stops_except_where_one_machine_must_not_stop_the_others),
        cmocka_unit_test(the_point_of_no_return_is_the_first_that_destroys),
        cmocka_unit_test(values_by_site_become_this_sites),
        cmocka_unit_test(core_actions_name_their_machine),
        cmocka_unit_test(a_kind_without_machines_has_no_run),
        cmocka_unit_test(what_a_group_does_it_does_once_and_what_a_machine_does_each),
        cmocka_unit_test(a_runbook_says_the_group_and_its_machines),
        cmocka_unit_test(the_runbook_for_programs_has_every_task),
        cmocka_unit_test(what_follows_a_failover_is_about_each_machine),
        cmocka_unit_test(a_test_commits_nothing_and_neither_does_a_change_of_the_point),
        cmocka_unit_test(a_step_that_tests_leave_out_has_nothing_else_in_it),
    };
    return cmocka_run_group_tests_name("core", tests, NULL, NULL);
}
