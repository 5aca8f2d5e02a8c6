// SPDX-License-Identifier: Apache-2.0
#include "state/state.h"

#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdio.h>

static struct state *open_state(const char *dir)
{
    struct state *state = NULL;
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/state.db", dir);
    EXPECT_OK(state_open(path, &state, &err));
    return state;
}

/* Fields are not const, because rows that are read own them. */
#define TEXT(literal) ((char[]){literal})

static void a_machine_comes_back_as_it_was_put_and_is_replaced_by_name(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_machine machine = {.name = TEXT("db1"),
                                    .host = TEXT("h1"),
                                    .definition = TEXT("{\"cpus\":1}"),
                                    .wanted_running = true,
                                    .added_ms = 5};
    struct state_machines all;
    struct state_machine found;

    EXPECT_OK(state_machine_put(state, &machine, &err));
    machine.added_ms = 6;
    EXPECT_OK(state_machine_put(state, &machine, &err));
    EXPECT_OK(state_machine_get(state, "db1", &found, &err));
    assert_string_equal(found.host, "h1");
    assert_string_equal(found.definition, "{\"cpus\":1}");
    assert_true(found.wanted_running);
    assert_int_equal(found.added_ms, 6);
    state_machine_done(&found);
    EXPECT_OK(state_machine_list(state, &all, &err));
    assert_int_equal(all.len, 1);
    state_machines_done(&all);
    EXPECT_OK(state_machine_remove(state, "db1", &err));
    EXPECT_ERR(ERR_NOT_FOUND, state_machine_remove(state, "db1", &err));
    state_close(state);
}

static void a_protection_comes_back_as_it_was_put(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_protection put = {.group = TEXT("db1"),
                                   .peer = TEXT("lyon"),
                                   .role = TEXT("source"),
                                   .state = TEXT("enabling"),
                                   .settings = TEXT("{}"),
                                   .generation = 7,
                                   .since_ms = 9};
    struct state_protection found;
    struct state_protections all;

    EXPECT_OK(state_protection_put(state, &put, &err));
    EXPECT_OK(state_protection_get(state, "db1", &found, &err));
    assert_string_equal(found.peer, "lyon");
    assert_string_equal(found.role, "source");
    assert_string_equal(found.state, "enabling");
    assert_int_equal(found.generation, 7);
    assert_int_equal(found.since_ms, 9);
    state_protection_done(&found);
    EXPECT_OK(state_protection_list(state, &all, &err));
    assert_int_equal(all.len, 1);
    state_protections_done(&all);
    EXPECT_OK(state_protection_remove(state, "db1", &err));
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(state, "db1", &found, &err));
    put.role = TEXT("spectator");
    EXPECT_ERR(ERR_INVALID, state_protection_put(state, &put, &err));
    state_close(state);
}

static char *group_of(struct state *state, const char *name)
{
    struct state_protection found;

    if (state_protection_of(state, name, &found, &err) < 0)
        return NULL;
    char *group = TAKE(found.group);
    state_protection_done(&found);
    return group;
}

static void assert_group(struct state *state, const char *name, const char *group)
{
    char *found = group_of(state, name);

    assert_non_null(found);
    assert_string_equal(found, group);
    free(found);
}

static void a_protection_is_found_by_its_groups_name_and_by_its_machines(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_protection shop = {.group = TEXT("shop"),
                                    .peer = TEXT("lyon"),
                                    .role = TEXT("source"),
                                    .state = TEXT("protected"),
                                    .settings = TEXT("{\"machines\":[\"db1\",\"web1\"]}")};
    struct state_protection alone = {.group = TEXT("web"),
                                     .peer = TEXT("lyon"),
                                     .role = TEXT("source"),
                                     .state = TEXT("protected"),
                                     .settings = TEXT("{}")};

    EXPECT_OK(state_protection_put(state, &shop, &err));
    EXPECT_OK(state_protection_put(state, &alone, &err));
    assert_group(state, "shop", "shop");
    assert_group(state, "db1", "shop");
    assert_group(state, "web1", "shop");
    assert_group(state, "web", "web");
    EXPECT_ERR(ERR_NOT_FOUND, group_of(state, "machines") ? 0 : -1);
    alone.settings = TEXT("{half");
    EXPECT_OK(state_protection_put(state, &alone, &err)); /* one bad row hides no other one */
    assert_group(state, "web1", "shop");
    state_close(state);
}

static void an_instance_is_known_by_run_and_machine(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_instance put = {.run = TEXT("3"),
                                 .machine = TEXT("db1"),
                                 .test = true,
                                 .group = TEXT("db1"),
                                 .point = 12,
                                 .run_dir = TEXT("/r"),
                                 .netns = TEXT("ns3")};
    struct state_instances all;

    EXPECT_OK(state_instance_put(state, &put, &err));
    put.run = TEXT("4");
    EXPECT_OK(state_instance_put(state, &put, &err));
    EXPECT_OK(state_instance_remove(state, "3", "db1", &err));
    EXPECT_ERR(ERR_NOT_FOUND, state_instance_remove(state, "3", "db1", &err));
    EXPECT_OK(state_instance_list(state, &all, &err));
    assert_int_equal(all.len, 1);
    assert_string_equal(all.at[0].run, "4");
    assert_true(all.at[0].test);
    assert_int_equal(all.at[0].point, 12);
    assert_string_equal(all.at[0].netns, "ns3");
    assert_string_equal(all.at[0].definition, "");
    state_instances_done(&all);
    state_close(state);
}

static bool touched(struct state *state, const char *name)
{
    CLEANUP(json_freep) json_t *names = state_touched_take(state);

    return json_object_size(names) == 1 && json_object_get(names, name);
}

static void what_was_written_or_removed_is_told_once(void **dir)
{
    struct state *state = open_state(*dir);
    const struct state_machine machine = {.name = TEXT("db1"), .definition = TEXT("{}")};
    const struct state_protection protection = {.group = TEXT("shop"),
                                                .peer = TEXT("lyon"),
                                                .role = TEXT("source"),
                                                .state = TEXT("protected"),
                                                .settings = TEXT("{}")};
    CLEANUP(json_freep) json_t *none = state_touched_take(state);

    assert_int_equal(json_object_size(none), 0);
    EXPECT_OK(state_machine_put(state, &machine, &err));
    assert_true(touched(state, "db1"));
    assert_false(touched(state, "db1"));
    EXPECT_OK(state_protection_put(state, &protection, &err));
    assert_true(touched(state, "shop"));
    EXPECT_OK(state_machine_remove(state, "db1", &err));
    assert_true(touched(state, "db1"));
    EXPECT_OK(state_protection_remove(state, "shop", &err));
    assert_true(touched(state, "shop"));
    state_close(state);
}

static void a_recovered_machine_is_found_and_a_test_s_is_not(void **dir)
{
    struct state *state = open_state(*dir);
    CLEANUP(state_instance_done) struct state_instance found = {0};
    struct state_instance put = {
        .run = TEXT("lyon-3"), .machine = TEXT("db1"), .test = true, .group = TEXT("db1")};

    EXPECT_OK(state_instance_put(state, &put, &err));
    EXPECT_ERR(ERR_NOT_FOUND, state_instance_recovered(state, "db1", &found, &err));
    put.run = TEXT("lyon-2");
    put.test = false;
    EXPECT_OK(state_instance_put(state, &put, &err));
    err_clear(&err);
    EXPECT_OK(state_instance_recovered(state, "db1", &found, &err));
    assert_string_equal(found.run, "lyon-2");
    EXPECT_ERR(ERR_NOT_FOUND, state_instance_recovered(state, "db2", &found, &err));
    EXPECT_TEXT("db2 was not failed over to here");
    state_close(state);
}

static void a_plan_is_replaced_by_name_and_removed(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_plan put = {.name = TEXT("shop"), .source = TEXT("return"), .hash = TEXT("aa")};
    struct state_plan found;

    EXPECT_OK(state_plan_put(state, &put, &err));
    put.hash = TEXT("bb");
    EXPECT_OK(state_plan_put(state, &put, &err));
    EXPECT_OK(state_plan_get(state, "shop", &found, &err));
    assert_string_equal(found.hash, "bb");
    assert_string_equal(found.source, "return");
    state_plan_done(&found);
    EXPECT_OK(state_plan_remove(state, "shop", &err));
    EXPECT_ERR(ERR_NOT_FOUND, state_plan_get(state, "shop", &found, &err));
    state_close(state);
}

static void runs_get_rising_ids_and_open_ones_are_listed_newest_first(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_run first = {.plan = TEXT("shop"), .kind = TEXT("test"), .state = TEXT("running")};
    struct state_run second = first;
    struct state_runs open;

    EXPECT_OK(state_run_put(state, &first, &err));
    EXPECT_OK(state_run_put(state, &second, &err));
    assert_true(first.id > 0 && second.id > first.id);
    EXPECT_OK(state_run_list(state, true, &open, &err));
    assert_int_equal(open.len, 2);
    assert_int_equal(open.at[0].id, second.id);
    state_runs_done(&open);
    first.ended_ms = 77;
    first.state = TEXT("clean");
    EXPECT_OK(state_run_put(state, &first, &err));
    EXPECT_OK(state_run_list(state, true, &open, &err));
    assert_int_equal(open.len, 1);
    state_runs_done(&open);
    struct state_run found;
    EXPECT_OK(state_run_get(state, first.id, &found, &err));
    assert_string_equal(found.state, "clean");
    state_run_done(&found);
    first.id = 999;
    EXPECT_ERR(ERR_NOT_FOUND, state_run_put(state, &first, &err));
    state_close(state);
}

static void an_intent_becomes_a_result_in_the_same_journal_row(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_run run = {.plan = TEXT("shop")};
    struct state_actions journal;

    EXPECT_OK(state_run_put(state, &run, &err));
    struct state_action action = {.run = run.id,
                                  .attempt = 1,
                                  .verb = TEXT("failover"),
                                  .state = TEXT("started"),
                                  .args = TEXT("{\"machine\":\"db1\"}")};
    EXPECT_OK(state_action_put(state, &action, &err));
    action.state = TEXT("done");
    action.result = TEXT("{}");
    EXPECT_OK(state_action_put(state, &action, &err));
    action.attempt = 2;
    action.state = TEXT("started");
    EXPECT_OK(state_action_put(state, &action, &err));
    EXPECT_OK(state_action_list(state, run.id, &journal, &err));
    assert_int_equal(journal.len, 2);
    assert_string_equal(journal.at[0].state, "done");
    assert_string_equal(journal.at[0].args, "{\"machine\":\"db1\"}");
    assert_string_equal(journal.at[1].state, "started");
    state_actions_done(&journal);
    action.run = 999;
    EXPECT_ERR(ERR_INVALID, state_action_put(state, &action, &err));
    state_close(state);
}

static void a_job_keeps_what_it_was_asked(void **dir)
{
    struct state *state = open_state(*dir);
    struct state_job put = {.kind = TEXT("protect"),
                            .object = TEXT("db1"),
                            .args = TEXT("{\"peer\":\"lyon\"}"),
                            .state = TEXT("running"),
                            .tasks = TEXT("[]"),
                            .who = TEXT("ann"),
                            .started_ms = 3};
    struct state_job found;
    struct state_jobs open;

    EXPECT_OK(state_job_put(state, &put, &err));
    EXPECT_OK(state_job_get(state, put.id, &found, &err));
    assert_string_equal(found.args, "{\"peer\":\"lyon\"}");
    state_job_done(&found);
    put.ended_ms = 4;
    put.error_code = TEXT("net");
    EXPECT_OK(state_job_put(state, &put, &err));
    EXPECT_OK(state_job_list(state, true, &open, &err));
    assert_int_equal(open.len, 0);
    state_jobs_done(&open);
    EXPECT_OK(state_job_list(state, false, &open, &err));
    assert_int_equal(open.len, 1);
    assert_string_equal(open.at[0].error_code, "net");
    state_jobs_done(&open);
    state_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_machine_comes_back_as_it_was_put_and_is_replaced_by_name),
        TMPDIR_TEST(a_protection_comes_back_as_it_was_put),
        TMPDIR_TEST(a_protection_is_found_by_its_groups_name_and_by_its_machines),
        TMPDIR_TEST(an_instance_is_known_by_run_and_machine),
        TMPDIR_TEST(a_recovered_machine_is_found_and_a_test_s_is_not),
        TMPDIR_TEST(what_was_written_or_removed_is_told_once),
        TMPDIR_TEST(a_plan_is_replaced_by_name_and_removed),
        TMPDIR_TEST(runs_get_rising_ids_and_open_ones_are_listed_newest_first),
        TMPDIR_TEST(an_intent_becomes_a_result_in_the_same_journal_row),
        TMPDIR_TEST(a_job_keeps_what_it_was_asked),
    };
    return cmocka_run_group_tests_name("nouns", tests, NULL, NULL);
}
