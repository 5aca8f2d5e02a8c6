// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "support/expect.h"
#include "support/verbs/scene.h"

static json_t *args(void)
{
    return json_pack("{s:s, s:[s, s], s:s}", "value", "/usr/local/bin/open-shop", "args", "--site",
                     "lyon", "within", "5m");
}

static json_t *args_at(const char *site)
{
    json_t *json = args();

    (void)json_object_set_new(json, "at", json_string(site));
    return json;
}

static int act(struct scene *scene, json_t *json)
{
    return scene_act(scene, "run_command", RUN_PLANNED, json, &err);
}

static unsigned started(struct scene *scene)
{
    return sim_done(&scene->world, "command.start", NULL);
}

static enum verb_answer answer_of(struct scene *scene)
{
    enum verb_answer answer;

    EXPECT_OK(scene_probe(scene, "run_command", RUN_PLANNED, args(), &answer, &err));
    return answer;
}

static void a_command_that_ends_well_is_done(void **state)
{
    struct scene *scene = *state;

    scene->world.command_ms = 3000;
    EXPECT_OK(act(scene, args()));
    assert_int_equal(json_get_u64(scene->result, "exit_status", 9), 0);
    assert_int_equal(started(scene), 1);
}

static void a_failed_command_fails_with_its_last_lines(void **state)
{
    struct scene *scene = *state;

    scene->world.command_exit = 3;
    EXPECT_ERR(ERR_IO, act(scene, args()));
    EXPECT_TEXT("/usr/local/bin/open-shop: exit status 3; its last output: first line / last line");
    assert_int_equal(json_integer_value(json_object_get(scene->result, "exit_status")), 3);
}

static void one_that_takes_too_long_is_a_timeout(void **state)
{
    struct scene *scene = *state;

    scene->world.command_ms = 600000;
    EXPECT_ERR(ERR_TIMEOUT, act(scene, args()));
    EXPECT_TEXT("did not end within 5m and was ended by SIGTERM");
}

static void one_is_stopped_when_its_step_s_time_is_over(void **state)
{
    struct scene *scene = *state;

    scene->world.command_ms = 100000;
    EXPECT_ERR(ERR_TIMEOUT,
               scene_act_within(scene, "run_command", RUN_PLANNED, args(), 2000, &err));
    assert_int_equal(sim_done(&scene->world, "command.stop", NULL), 1);
}

static void after_a_crash_it_is_gone_on_with_and_not_begun_again(void **state)
{
    struct scene *scene = *state;

    scene->world.command_ms = 100000;
    assert_int_equal(answer_of(scene), ANSWER_NOT_DONE);
    CLEANUP(json_freep)
    json_t *asked = json_pack("{s:s, s:s, s:s, s:i}", "group", "db1", "run", "lyon-1", "id",
                              "3.1.0", "within_ms", 300000);
    EXPECT_OK(site_ask(scene->here, "command.start", json_incref(asked), NULL, NULL, &err));
    assert_int_equal(answer_of(scene), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, args()));
    assert_int_equal(started(scene), 1);
    assert_int_equal(answer_of(scene), ANSWER_DONE);
    scene->action_id = "3.2.0"; /* another attempt is another command */
    EXPECT_OK(act(scene, args()));
    assert_int_equal(started(scene), 2);
}

static void what_nobody_can_tell_is_asked_of_a_person(void **state)
{
    struct scene *scene = *state;
    enum verb_answer answer;

    EXPECT_OK(act(scene, args()));
    scene->world.command_lost = true;
    EXPECT_ERR(ERR_UNKNOWN, scene_probe(scene, "run_command", RUN_PLANNED, args(), &answer, &err));
    EXPECT_TEXT("it cannot be told how it ended: the simulated host was started anew");
    EXPECT_ERR(ERR_UNKNOWN, act(scene, args()));
}

static void at_the_other_site_it_is_asked_of_that_one(void **state)
{
    struct scene *scene = *state;

    EXPECT_OK(act(scene, args_at("paris")));
    scene->world.unreachable = true;
    scene->action_id = "3.2.0";
    EXPECT_ERR(ERR_NET, act(scene, args_at("paris")));
    EXPECT_TEXT("run /usr/local/bin/open-shop at paris");
    EXPECT_ERR(ERR_INVALID, act(scene, args_at("rome")));
    EXPECT_TEXT("hint: lyon or paris");
    assert_int_equal(started(scene), 1);
}

static void an_answer_that_was_lost_stops_it_or_is_unknown(void **state)
{
    struct scene *scene = *state;

    scene->world.command_ms = 100000;
    sim_fail(&scene->world, "command.start", "db1", 1, ERR_NET);
    scene->world.faults[0].after = true;
    EXPECT_ERR(ERR_NET, act(scene, args_at("paris")));
    assert_int_equal(sim_done(&scene->world, "command.stop", NULL), 1);
    scene->action_id = "3.2.0";
    sim_fail(&scene->world, "command.stop", "db1", 1, ERR_NET);
    scene->world.faults[0].times = 1;
    EXPECT_ERR(ERR_UNKNOWN, act(scene, args_at("paris")));
    EXPECT_TEXT("it cannot be told whether it was started at paris");
}

static void a_test_runs_nothing_at_the_source(void **state)
{
    struct scene *scene = *state;

    EXPECT_ERR(ERR_STATE, scene_act(scene, "run_command", RUN_TEST, args_at("paris"), &err));
    EXPECT_TEXT("a test touches nothing at paris");
    EXPECT_OK(scene_act(scene, "run_command", RUN_TEST, args(), &err));
}

static void the_runbook_has_the_line_to_type(void **state)
{
    CLEANUP(json_freep) json_t *json = args_at("paris");
    CLEANUP(mem_freep) char *text = verb_find("run_command")->describe(json, RUN_PLANNED);

    (void)state;
    assert_string_equal(text, "Run /usr/local/bin/open-shop --site lyon at paris, at most 5m.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(a_command_that_ends_well_is_done),
        SCENE_TEST(a_failed_command_fails_with_its_last_lines),
        SCENE_TEST(one_that_takes_too_long_is_a_timeout),
        SCENE_TEST(one_is_stopped_when_its_step_s_time_is_over),
        SCENE_TEST(after_a_crash_it_is_gone_on_with_and_not_begun_again),
        SCENE_TEST(what_nobody_can_tell_is_asked_of_a_person),
        SCENE_TEST(at_the_other_site_it_is_asked_of_that_one),
        SCENE_TEST(an_answer_that_was_lost_stops_it_or_is_unknown),
        SCENE_TEST(a_test_runs_nothing_at_the_source),
        cmocka_unit_test(the_runbook_has_the_line_to_type),
    };

    return cmocka_run_group_tests_name("run_command", tests, NULL, NULL);
}
