// SPDX-License-Identifier: Apache-2.0
/* Steps that ask a person. */
#include "base/mem.h"
#include "plan/plan.h"
#include "run/run.h"
#include "support/expect.h"
#include "support/run/run_world.h"

#include <stdlib.h>

#define HOUR_MS 3600000

static json_t *plan_asking(const char *fields)
{
    CLEANUP(mem_freep)
    char *text = mem_printf("\"actions\": [{\"verb\": \"approve\", \"args\": {\"value\":"
                            " \"Send users here?\"%s}}]",
                            fields);

    return run_world_plan_with(text);
}

static json_t *parse(const char *text)
{
    json_t *json = NULL;

    EXPECT_OK(json_parse(text, strlen(text), &json, &err));
    return json;
}

static int64_t asking(struct run_world *world, const char *fields)
{
    int64_t run = run_world_start(world, plan_asking(fields), RUN_PLANNED);

    assert_string_equal(run_world_settle(world, run), "paused");
    return run;
}

static int answer(struct run_world *world, int64_t run, bool granted, const char *who)
{
    size_t step = 99;

    return runner_answer(world->runner, run, SIZE_MAX, granted, "seen", who, &step, &err);
}

/* A piece of the step "It": its state, its error, or something of its first action's result. */
static json_t *step_of(struct run_world *world, int64_t run, const char *title)
{
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    json_t *step;
    size_t i;

    json_array_foreach(json_object_get(json, "steps"), i, step) {
        if (str_eq(json_get_str(step, "title", ""), title))
            return json_incref(step);
    }
    fail_msg("no step \"%s\"", title);
    return NULL;
}

static void expect_step(struct run_world *world, int64_t run, const char *title, const char *want)
{
    CLEANUP(json_freep) json_t *step = step_of(world, run, title);

    assert_string_equal(json_get_str(step, "state", ""), want);
}

static void expect_reason(struct run_world *world, int64_t run, const char *part)
{
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);

    if (!strstr(json_get_str(json, "reason", ""), part))
        fail_msg("reason \"%s\" lacks \"%s\"", json_get_str(json, "reason", ""), part);
}

static void restart(struct run_world *world)
{
    CLEANUP(mem_freep) char *dir = mem_strdup(world->dir);
    struct clock_tick *tick = world->tick;
    struct sim_world *sim_world = world->sim_world;

    run_world_close(world);
    run_world_open(world, dir, tick, sim_world);
    EXPECT_OK(runner_recover(world->runner, &err));
    run_world_commit(world);
}

/* --- Answers ------------------------------------------------------------------------------------ */

static void a_question_pauses_the_run_and_yes_lets_it_go_on(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, ", \"by\": \"root\"");

    expect_step(world, run, "It", "asking");
    expect_reason(world, run, "asks root: \"Send users here?\" until ");
    expect_reason(world, run, "then it is denied; hint: muster run approve ");
    EXPECT_OK(answer(world, run, true, "root"));
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    CLEANUP(json_freep) json_t *step = step_of(world, run, "It");
    const json_t *result =
        json_object_get(json_array_get(json_object_get(step, "actions"), 0), "result");
    assert_true(json_get_bool(result, "granted", false));
    assert_string_equal(json_get_str(result, "by", ""), "root");
    assert_string_equal(json_get_str(result, "note", ""), "seen");
    assert_string_equal(json_get_str(result, "plan_hash", "?"), json_get_str(json, "hash", "!"));
    assert_int_equal(strlen(json_get_str(result, "plan_hash", "")), 64);
}

static void no_fails_the_step_and_is_not_asked_again(void **state)
{
    struct run_world *world = *state;
    json_t *plan = run_world_plan_with("\"retry\": {\"times\": 3}, \"actions\": [{\"verb\":"
                                       " \"approve\", \"args\": {\"value\": \"Well?\"}}]");
    int64_t run = run_world_start(world, plan, RUN_PLANNED);

    assert_string_equal(run_world_settle(world, run), "paused");
    EXPECT_OK(answer(world, run, false, "ada"));
    assert_string_equal(run_world_settle(world, run), "failed");
    CLEANUP(json_freep) json_t *step = step_of(world, run, "It");
    assert_string_equal(json_get_str(step, "error", ""), "\"Well?\" was denied by ada: seen");
    assert_string_equal(json_get_str(step, "error_code", ""), "denied");
    assert_int_equal(json_get_u64(step, "attempts", 0), 1);
}

static void silence_means_no(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, ", \"within\": \"1h\"");

    world->tick->now += HOUR_MS - 60000;
    assert_string_equal(run_world_settle(world, run), "paused");
    world->tick->now += 61000;
    while (run_world_turn(world))
        ;
    assert_string_equal(run_world_settle(world, run), "failed");
    CLEANUP(json_freep) json_t *step = step_of(world, run, "It");
    assert_string_equal(json_get_str(step, "error", ""),
                        "\"Send users here?\" was denied by silence: nobody answered in time");
}

static void silence_may_mean_yes(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, ", \"within\": \"1h\", \"silence\": \"grant\"");

    expect_reason(world, run, "then it is granted");
    world->tick->now += HOUR_MS + 1000;
    while (run_world_turn(world))
        ;
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
}

/* --- Who ---------------------------------------------------------------------------------------- */

static void somebody_else_is_refused_and_told_who_may(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, ", \"by\": \"duty-manager\"");

    EXPECT_ERR(ERR_DENIED, answer(world, run, true, "root"));
    EXPECT_TEXT("root may not answer step ");
    EXPECT_TEXT("hint: duty-manager may");
    expect_step(world, run, "It", "asking");
    EXPECT_OK(answer(world, run, true, "duty-manager"));
}

static void of_a_group_each_member_may_answer(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, ", \"by\": \"@root\"");

    EXPECT_ERR(ERR_DENIED, answer(world, run, true, "daemon"));
    EXPECT_TEXT("whoever is in the group root");
    EXPECT_ERR(ERR_DENIED, answer(world, run, true, "nobody-of-that-name"));
    EXPECT_OK(answer(world, run, true, "root"));
}

static void an_answer_nobody_asked_for_is_refused(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, "");
    size_t step;

    EXPECT_ERR(ERR_STATE, answer(world, run + 1, true, "ada"));
    EXPECT_ERR(ERR_STATE, runner_answer(world->runner, run, 0, true, "", "ada", &step, &err));
    EXPECT_TEXT("step 1 is done; it asks nobody");
    EXPECT_ERR(ERR_NOT_FOUND, runner_answer(world->runner, run, 99, true, "", "ada", &step, &err));
    EXPECT_OK(answer(world, run, true, "ada"));
    EXPECT_ERR(ERR_STATE, answer(world, run, true, "ada"));
}

/* --- Over a restart, and with others ------------------------------------------------------------- */

static void a_question_survives_a_restart_and_its_time_goes_on(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, ", \"within\": \"1h\"");
    CLEANUP(json_freep) json_t *before = step_of(world, run, "It");

    world->tick->now += HOUR_MS / 2;
    restart(world);
    assert_string_equal(run_world_settle(world, run), "paused");
    CLEANUP(json_freep) json_t *after = step_of(world, run, "It");
    assert_string_equal(json_get_str(after, "state", ""), "asking");
    assert_true(json_equal(json_object_get(before, "asks"), json_object_get(after, "asks")));
    EXPECT_OK(answer(world, run, true, "ada"));
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
}

static void a_time_that_ran_out_while_the_daemon_was_down_is_silence(void **state)
{
    struct run_world *world = *state;
    int64_t run = asking(world, ", \"within\": \"1h\"");

    world->tick->now += 2 * HOUR_MS;
    restart(world);
    while (run_world_turn(world))
        ;
    assert_string_equal(run_world_settle(world, run), "failed");
}

static void a_yes_holds_when_the_step_is_tried_again(void **state)
{
    struct run_world *world = *state;
    json_t *plan = run_world_plan_with(
        "\"retry\": {\"times\": 2, \"wait\": \"1s\"}, \"actions\": [{\"verb\": \"approve\","
        " \"args\": {\"value\": \"Well?\"}}, {\"verb\": \"check\", \"args\": {\"tcp\":"
        " \"10.0.0.5:80\"}}]");
    int64_t run = run_world_start(world, plan, RUN_PLANNED);

    assert_string_equal(run_world_settle(world, run), "paused");
    sim_fail(world->sim_world, "probe.tcp", "", 2, ERR_NET);
    EXPECT_OK(answer(world, run, true, "ada"));
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    CLEANUP(json_freep) json_t *step = step_of(world, run, "It");
    assert_int_equal(json_get_u64(step, "attempts", 0), 3);
    const json_t *result =
        json_object_get(json_array_get(json_object_get(step, "actions"), 0), "result");
    assert_string_equal(json_get_str(result, "by", ""), "ada");
}

/* In parallel: a question, and a command that takes ten seconds. */
static json_t *parallel_plan(const char *second)
{
    CLEANUP(mem_freep)
    char *text = mem_printf(
        "{\"name\": \"one\", \"stages\": [{\"title\": \"All\", \"items\": ["
        " {\"step\": {\"title\": \"Bring up db1\", \"actions\":"
        "  [{\"verb\": \"failover\", \"args\": {\"machine\": \"db1\"}}]}},"
        " {\"parallel\": ["
        "  {\"title\": \"Ask\", \"actions\": [{\"verb\": \"approve\", \"args\":"
        "   {\"value\": \"Well?\"}}]},"
        "  {\"title\": \"Beside\", \"actions\": [%s]}]},"
        " {\"step\": {\"title\": \"After\", \"actions\": [{\"verb\": \"check\", \"args\":"
        "   {\"tcp\": \"10.0.0.5:80\"}}]}}]}]}",
        second);

    return parse(text);
}

#define COMMAND "{\"verb\": \"run_command\", \"args\": {\"value\": \"/bin/x\"}}"

static void others_of_the_block_go_on_while_it_asks(void **state)
{
    struct run_world *world = *state;

    world->sim_world->command_ms = 10000;
    int64_t run = run_world_start(world, parallel_plan(COMMAND ", " COMMAND), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "paused");
    expect_step(world, run, "Ask", "asking");
    expect_step(world, run, "Beside", "done");
    expect_step(world, run, "After", "waiting");
    assert_int_equal(sim_done(world->sim_world, "command.start", NULL), 2);
    EXPECT_OK(answer(world, run, true, "ada"));
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
}

static void a_question_is_dropped_when_a_step_beside_it_stops_the_run(void **state)
{
    struct run_world *world = *state;

    world->sim_world->command_exit = 1;
    int64_t run = run_world_start(world, parallel_plan(COMMAND), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    CLEANUP(json_freep) json_t *step = step_of(world, run, "Ask");
    assert_string_equal(json_get_str(step, "state", ""), "failed");
    assert_string_equal(json_get_str(step, "error", ""), "the run stopped before it was answered");
}

static void of_two_questions_the_one_meant_must_be_named(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(
        world,
        parallel_plan("{\"verb\": \"approve\", \"args\": {\"value\": \"And?\", \"by\": \"eve\"}}"),
        RUN_PLANNED);
    size_t step;

    assert_string_equal(run_world_settle(world, run), "paused");
    expect_reason(world, run, "(and 1 more)");
    EXPECT_ERR(ERR_STATE, answer(world, run, true, "ada"));
    EXPECT_TEXT("2 steps of run");
    CLEANUP(json_freep) json_t *ask = step_of(world, run, "Ask");
    CLEANUP(json_freep) json_t *beside = step_of(world, run, "Beside");
    EXPECT_OK(runner_answer(world->runner, run, (size_t)json_get_u64(ask, "index", 99), true, "",
                            "ada", &step, &err));
    assert_string_equal(run_world_settle(world, run), "paused");
    EXPECT_OK(runner_answer(world->runner, run, (size_t)json_get_u64(beside, "index", 99), true, "",
                            "eve", &step, &err));
    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
}

static void a_run_that_asks_can_be_cancelled(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, plan_asking(""), RUN_TEST);

    assert_string_equal(run_world_settle(world, run), "paused");
    EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
    assert_string_equal(run_world_settle(world, run), "cancelled");
    CLEANUP(json_freep) json_t *step = step_of(world, run, "It");
    assert_string_equal(json_get_str(step, "error", ""),
                        "the run was cancelled before it was answered");
    EXPECT_ERR(ERR_STATE, answer(world, run, true, "ada"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST_CASE(a_question_pauses_the_run_and_yes_lets_it_go_on),
        RUN_TEST_CASE(no_fails_the_step_and_is_not_asked_again),
        RUN_TEST_CASE(silence_means_no),
        RUN_TEST_CASE(silence_may_mean_yes),
        RUN_TEST_CASE(somebody_else_is_refused_and_told_who_may),
        RUN_TEST_CASE(of_a_group_each_member_may_answer),
        RUN_TEST_CASE(an_answer_nobody_asked_for_is_refused),
        RUN_TEST_CASE(a_question_survives_a_restart_and_its_time_goes_on),
        RUN_TEST_CASE(a_time_that_ran_out_while_the_daemon_was_down_is_silence),
        RUN_TEST_CASE(a_yes_holds_when_the_step_is_tried_again),
        RUN_TEST_CASE(others_of_the_block_go_on_while_it_asks),
        RUN_TEST_CASE(a_question_is_dropped_when_a_step_beside_it_stops_the_run),
        RUN_TEST_CASE(of_two_questions_the_one_meant_must_be_named),
        RUN_TEST_CASE(a_run_that_asks_can_be_cancelled),
    };

    return cmocka_run_group_tests_name("ask", tests, NULL, NULL);
}
