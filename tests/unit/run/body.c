// SPDX-License-Identifier: Apache-2.0
/* Steps that are functions, in whole runs over simulated sites. */
#include "base/mem.h"
#include "plan/plan.h"
#include "run/run.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/run/marks.h"
#include "support/run/run_world.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WALL_MS 1700000000000

/* A world with a host and the marks, that can be left and entered again as a daemon does. */
struct desk {
    struct run_world world;
    struct clock_tick tick;
    struct sim_world sim;
    struct marks marks;
    struct host host;
    char *dir;
};

static void enter(struct desk *desk)
{
    struct run_tools tools = {.host = &desk->host};

    tools.verbs = marks_verbs(&tools.verb_count);
    run_world_open_with(&desk->world, desk->dir, &desk->tick, &desk->sim, &tools);
}

static int setup(void **state)
{
    struct desk *desk = mem_new(struct desk);
    void *dir;

    if (tmpdir_setup(&dir) < 0)
        return -1;
    desk->dir = dir;
    desk->host = host_for_test();
    clock_tick_init(&desk->tick, WALL_MS, 10);
    run_world_people(&desk->sim, &desk->tick);
    marks_use(&desk->marks);
    enter(desk);
    run_world_protect(&desk->world);
    *state = desk;
    return 0;
}

static int teardown(void **state)
{
    struct desk *desk = *state;
    void *dir = desk->dir;

    run_world_close(&desk->world);
    free(desk);
    return tmpdir_teardown(&dir);
}

/* A plan of these steps behind one that brings up db1; "shop:3" is its first line. */
static void store(struct desk *desk, const char *steps)
{
    CLEANUP(mem_freep)
    char *text = mem_printf(
        "return plan \"shop\" { stage \"S\" {\nstep \"Up\" { failover \"db1\" },\n%s } }\n", steps);
    CLEANUP(plan_freep) struct plan *plan = NULL;
    struct plan_world world = {.here = "lyon"};

    world.verbs = marks_verbs(&world.verb_count);
    if (plan_load(&desk->host, &world, "shop.lua", text, strlen(text), &plan, NULL, NULL, &err) < 0)
        fail_msg("%s", err.text);
    run_world_store(&desk->world, "shop", text, plan->document);
}

static int64_t start(struct desk *desk, const char *steps, enum run_kind kind)
{
    store(desk, steps);
    return run_world_start_stored(&desk->world, "shop", kind);
}

static json_t *step_of(const json_t *run, const char *title)
{
    json_t *step;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step)
        if (str_eq(json_get_str(step, "title", ""), title))
            return step;
    fail_msg("no step \"%s\"", title);
    return NULL;
}

/* "mark:done check:failed return:done" of the newest attempt. */
static const char *actions_of(const json_t *run, const char *title)
{
    static char text[512];
    const json_t *action;
    size_t i;

    text[0] = '\0';
    json_array_foreach(json_object_get(step_of(run, title), "actions"), i, action)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s:%s", i ? " " : "",
                       json_get_str(action, "verb", "?"), json_get_str(action, "state", "?"));
    return text;
}

static json_t *value_of(const json_t *run, const char *title)
{
    const json_t *actions = json_object_get(step_of(run, title), "actions");
    const json_t *end = json_array_get(actions, json_array_size(actions) - 1);

    return json_object_get(json_object_get(end, "result"), "value");
}

static unsigned done(const struct desk *desk, const char *name)
{
    const struct mark *mark = marks_find(&desk->marks, name);

    return mark ? mark->done : 0;
}

/* A test of these steps, to its end; the last one, "T", is what is looked at. */
static json_t *drill(struct desk *desk, const char *steps)
{
    int64_t run = start(desk, steps, RUN_TEST);

    assert_string_equal(run_world_settle(&desk->world, run), "cleanup-due");
    return run_world_get(&desk->world, run);
}

static void fails_with(struct desk *desk, const char *body, const char *code, const char *text)
{
    CLEANUP(mem_freep)
    char *steps = mem_printf(
        "step \"T\" { function(act)\n%s end, retry = { times = 2, wait = \"1s\" } }", body);
    CLEANUP(json_freep) json_t *run = drill(desk, steps);
    const json_t *step = step_of(run, "T");

    assert_string_equal(run_world_step(run, "T"), "failed");
    assert_string_equal(json_get_str(step, "error_code", ""), code);
    if (!strstr(json_get_str(step, "error", ""), text))
        fail_msg("\"%s\" lacks \"%s\"", json_get_str(step, "error", ""), text);
}

/* --- What it does ------------------------------------------------------------------------------ */

static void it_acts_and_its_value_is_kept(void **state)
{
    struct desk *desk = *state;
    CLEANUP(json_freep)
    json_t *run = drill(desk, "step \"T\" { function(act)\n"
                              " local m = act(mark \"a\")\n"
                              " for i = 1, 2 do act(mark(m.mark .. i)) end\n"
                              " act(wait_until { tcp = \"db1:5432\", within = \"1m\" })\n"
                              " return { warmed = 2 } end }");

    assert_string_equal(run_world_step(run, "T"), "done");
    assert_string_equal(actions_of(run, "T"),
                        "mark:done mark:done mark:done wait_until:done return:done");
    assert_int_equal(json_get_u64(value_of(run, "T"), "warmed", 0), 2);
    assert_int_equal(done(desk, "a2"), 1);
}

static void each_of_a_parallel_block_works_by_itself(void **state)
{
    struct desk *desk = *state;
    CLEANUP(json_freep)
    json_t *run =
        drill(desk, "parallel {\n"
                    " step \"A\" { function(act) act(mark \"a\") act(mark \"b\") end },\n"
                    " step \"B\" { function(act) act(mark \"c\") act(mark \"d\") end } },\n"
                    "step \"T\" { function(act) act(mark \"e\") end }");

    assert_string_equal(run_world_step(run, "T"), "done");
    assert_string_equal(actions_of(run, "A"), "mark:done mark:done return:done");
    assert_string_equal(actions_of(run, "B"), "mark:done mark:done return:done");
}

static void a_question_is_answered_and_not_raised(void **state)
{
    struct desk *desk = *state;

    desk->sim.boot_ms = 3000;
    CLEANUP(json_freep)
    json_t *run = drill(desk, "step \"T\" { function(act)\n"
                              " if act(check { agent = \"db1\" }).answer then return \"up\" end\n"
                              " act(wait_until { agent = \"db1\", within = \"10m\" })\n"
                              " return act(check { agent = \"db1\" }).answer end }");
    assert_string_equal(actions_of(run, "T"), "check:done wait_until:done check:done return:done");
    assert_true(json_is_true(value_of(run, "T")));
}

static void an_earlier_steps_value_is_read_by_its_title(void **state)
{
    struct desk *desk = *state;
    CLEANUP(json_freep)
    json_t *run = drill(
        desk, "step \"One\" { function(act) act(mark \"a\") return { n = 4 } end },\n"
              "step \"Two\" { mark \"b\", mark \"c\" },\n"
              "step \"Three\" { function(act) act(mark \"d\") end },\n"
              "step \"Real\" { function(act) act(mark \"e\") return 1 end, only = \"planned\" },\n"
              "step \"Broken\" { function(act) error(\"no\") end, on_failure = \"continue\" },\n"
              "step \"T\" { function(act)\n"
              " return { result(\"One\").n, result(\"Two\")[2].mark, result \"Three\" == nil,\n"
              " result \"Real\" == nil, result \"Broken\" == nil, #result \"Promote\" } end }");

    assert_string_equal(run_world_step(run, "T"), "failed");
    assert_non_null(strstr(json_get_str(step_of(run, "T"), "error", ""),
                           "shop:10: result: no step is called \"Promote\""));
}

static void earlier_values_are_what_they_were(void **state)
{
    struct desk *desk = *state;
    CLEANUP(json_freep)
    json_t *run = drill(
        desk, "step \"One\" { function(act) act(mark \"a\") return { n = 4 } end },\n"
              "step \"Two\" { mark \"b\", mark \"c\" },\n"
              "step \"Three\" { function(act) act(mark \"d\") end },\n"
              "step \"Real\" { function(act) act(mark \"e\") return 1 end, only = \"planned\" },\n"
              "step \"Broken\" { function(act) error(\"no\") end, on_failure = \"continue\" },\n"
              "step \"T\" { function(act)\n"
              " return { result(\"One\").n, result(\"Two\")[2].mark, result \"Three\" == nil,\n"
              " result \"Real\" == nil, result \"Broken\" == nil } end }");
    CLEANUP(mem_freep) char *text = json_text(value_of(run, "T"));

    assert_string_equal(text, "[4,\"c\",true,true,true]");
}

/* --- Errors ------------------------------------------------------------------------------------- */

static void an_error_that_is_caught_does_not_end_it(void **state)
{
    struct desk *desk = *state;

    desk->marks.fail_times = 1;
    desk->marks.fail_code = ERR_NET;
    CLEANUP(json_freep)
    json_t *run = drill(desk, "step \"T\" { function(act)\n"
                              " local ok, e = pcall(act, mark \"a\")\n"
                              " if not ok then act(mark(e.code)) end\n"
                              " return e.message .. \" \" .. e.verb end }");
    assert_string_equal(actions_of(run, "T"), "mark:failed mark:done return:done");
    assert_int_equal(done(desk, "net"), 1);
    assert_string_equal(json_string_value(value_of(run, "T")), "made to fail mark");
}

static void another_attempt_begins_at_the_first_line(void **state)
{
    struct desk *desk = *state;

    desk->marks.fail_skip = 1;
    desk->marks.fail_times = 2;
    desk->marks.fail_code = ERR_TIMEOUT;
    CLEANUP(json_freep)
    json_t *run = drill(desk, "step \"T\" { function(act) act(shout \"a\") act(mark \"b\") end,\n"
                              " retry = { times = 3, wait = \"1s\" } }");
    assert_string_equal(run_world_step(run, "T"), "done");
    assert_int_equal(json_get_u64(step_of(run, "T"), "attempts", 0), 3);
    assert_int_equal(done(desk, "a"), 2);
    assert_int_equal(done(desk, "b"), 1);
}

static void an_error_that_is_let_pass_fails_the_step_with_its_line(void **state)
{
    struct desk *desk = *state;

    desk->marks.fail_times = 9;
    desk->marks.fail_code = ERR_NET;
    fails_with(desk, " act(mark \"a\")", "net", "shop:4: made to fail");
    assert_int_equal(desk->marks.fail_times, 6); /* three attempts */
}

static void what_the_author_raises_is_tried_again(void **state)
{
    struct desk *desk = *state;

    fails_with(desk, " act(shout \"a\") error(\"only 2 of 3\")", "state", "shop:4: only 2 of 3");
    assert_int_equal(done(desk, "a"), 3);
}

static void a_mistake_is_told_with_its_line_and_not_tried_again(void **state)
{
    struct desk *desk = *state;

    fails_with(desk, " act(shout \"a\")\n act(mark)", "invalid", "shop:5: act is given a function");
    assert_int_equal(done(desk, "a"), 1);
}

static void arguments_are_checked_as_at_load(void **state)
{
    struct desk *desk = *state;

    fails_with(desk, " act(check { tcp = \"web9:80\" })", "invalid",
               "shop:4: check: unknown machine 'web9' (did you mean 'web1'?)");
}

static void a_field_that_is_unknown_is_told_where_it_stands(void **state)
{
    struct desk *desk = *state;

    fails_with(desk, " pcall(act, check {\n tcpp = \"x\", agent = \"db1\" })", "invalid",
               "shop:5: check: unknown field 'tcpp' (did you mean 'tcp'?)");
}

static void a_verb_that_moves_ownership_is_refused(void **state)
{
    struct desk *desk = *state;

    fails_with(desk, " act(mark \"a\")\n pcall(act, failover \"web1\")", "invalid",
               "shop:5: failover stands only as a step of its own, never in a function");
    assert_null(sim_instance(&desk->sim, "web1"));
}

static void a_loop_of_acts_that_never_ends_is_ended(void **state)
{
    struct desk *desk = *state;

    desk->sim.boot_ms = 0;
    fails_with(desk, " while true do act(mark \"a\") end", "limit",
               "shop:4: more than 1000 actions in one attempt");
}

static void a_loop_without_acts_is_ended(void **state)
{
    struct desk *desk = *state;

    desk->host.limits.cpu_ms = 100;
    fails_with(desk, " while true do end", "limit", "shop: ran for more than 100 ms of processor");
}

static void within_bounds_the_whole_attempt(void **state)
{
    struct desk *desk = *state;

    desk->sim.boot_ms = 1000000;
    CLEANUP(json_freep)
    json_t *run = drill(desk, "step \"T\" { function(act)\n"
                              " pcall(act, wait_until { agent = \"db1\", within = \"1h\" })\n"
                              " act(mark \"a\") end, within = \"10s\" }");
    assert_string_equal(run_world_step(run, "T"), "failed");
    assert_string_equal(json_get_str(step_of(run, "T"), "error_code", ""), "timeout");
    assert_string_equal(json_get_str(step_of(run, "T"), "error", ""), "not finished within 10.0 s");
    assert_string_equal(actions_of(run, "T"), "wait_until:failed return:failed");
    assert_int_equal(done(desk, "a"), 0);
}

static void later_steps_and_neighbours_cannot_be_read(void **state)
{
    struct desk *desk = *state;
    CLEANUP(json_freep)
    json_t *run = drill(
        desk, "step \"A\" { function() return result \"T\" end, on_failure = \"continue\" },\n"
              "step \"B\" { function() return result \"B\" end, on_failure = \"continue\" },\n"
              "parallel { step \"C\" { mark \"c\" }, step \"D\" {\n"
              " function() return result \"C\" end, on_failure = \"continue\" } },\n"
              "step \"T\" { mark \"t\" }");

    assert_non_null(strstr(json_get_str(step_of(run, "A"), "error", ""),
                           "shop:3: result: step \"T\" is not over before this one"));
    assert_non_null(strstr(json_get_str(step_of(run, "B"), "error", ""), "is not over before"));
    assert_non_null(strstr(json_get_str(step_of(run, "D"), "error", ""),
                           "shop:6: result: step \"C\" runs at the same time as this one"));
    assert_string_equal(run_world_step(run, "T"), "done");
}

/* --- Taken back, and cleaned up -------------------------------------------------------------------- */

static void cancel_takes_back_what_each_attempt_did_last_first(void **state)
{
    struct desk *desk = *state;

    desk->marks.fail_skip = 2;
    desk->marks.fail_times = 1;
    desk->marks.fail_code = ERR_NET;
    int64_t run = start(desk,
                        "step \"T\" { function(act)\n"
                        " local n = act(mark \"a\") and 1\n"
                        " act(mark \"b\") act(mark \"c\")\n"
                        " act(wait_until { agent = \"web1\", within = \"1h\" }) end,\n"
                        " retry = { times = 1, wait = \"1s\" } }",
                        RUN_TEST);
    run_world_commit(&desk->world);
    for (int turn = 0; turn < 1000 && done(desk, "c") == 0; turn++)
        (void)run_world_turn(&desk->world);
    EXPECT_OK(runner_cancel(desk->world.runner, run, "ada", &err));
    assert_string_equal(run_world_settle(&desk->world, run), "cancelled");
    assert_true(str_starts(desk->marks.order, "c b a "));
    assert_false(marks_find(&desk->marks, "a")->is_set);
    assert_false(marks_find(&desk->marks, "c")->is_set);
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(run_world_step(json, "T"), "undone");
}

static void a_test_with_functions_is_cleaned_up_as_any(void **state)
{
    struct desk *desk = *state;
    CLEANUP(json_freep)
    json_t *run = drill(desk, "step \"T\" { function(act) act(mark \"a\") end }");

    assert_string_equal(run_world_step(run, "T"), "done");
    int64_t cleanup = run_world_start_stored(&desk->world, "shop", RUN_CLEANUP);
    assert_string_equal(run_world_settle(&desk->world, cleanup), "succeeded");
    assert_null(sim_instance(&desk->sim, "db1"));
}

/* --- After a crash ----------------------------------------------------------------------------------- */

static const char two_marks[] =
    "step \"T\" { function(act) act(mark \"a\") act(shout \"b\") act(mark \"c\") return 3 end }";

/* Runs until `name` was done, then the process ends with that action's result unwritten. */
static int64_t die_after(struct desk *desk, const char *steps, const char *name)
{
    int64_t run = start(desk, steps, RUN_TEST);

    run_world_commit(&desk->world);
    for (int turn = 0; turn < 1000 && done(desk, name) == 0; turn++)
        (void)run_world_turn(&desk->world);
    struct state_actions rows = VEC_EMPTY;
    EXPECT_OK(state_turn_end(desk->world.state, &err));
    EXPECT_OK(state_action_list(desk->world.state, run, &rows, &err));
    struct state_action *last = &rows.at[rows.len - 1];
    if (str_eq(last->state, "done")) { /* as if the turn had not been committed */
        free(last->state);
        free(last->result);
        last->state = mem_strdup("started");
        last->result = mem_strdup("");
    }
    run_world_close(&desk->world);
    CLEANUP(mem_freep) char *path = mem_printf("%s/state.db", desk->dir);
    struct state *db = NULL;
    EXPECT_OK(state_open(path, &db, &err));
    EXPECT_OK(state_action_put(db, last, &err));
    EXPECT_OK(state_turn_end(db, &err));
    state_close(db);
    state_actions_done(&rows);
    return run;
}

static void come_back(struct desk *desk)
{
    enter(desk);
    EXPECT_OK(runner_recover(desk->world.runner, &err));
}

static void what_was_done_is_told_and_not_done_again(void **state)
{
    struct desk *desk = *state;
    int64_t run = die_after(desk, two_marks, "c");

    come_back(desk);
    assert_string_equal(run_world_settle(&desk->world, run), "cleanup-due");
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(actions_of(json, "T"), "mark:done shout:done mark:done return:done");
    assert_int_equal(done(desk, "a"), 1);
    assert_int_equal(done(desk, "b"), 1);
    assert_int_equal(done(desk, "c"), 1);
    assert_int_equal(json_get_u64(step_of(json, "T"), "attempts", 0), 1);
}

static void what_nobody_can_tell_waits_for_a_person(void **state)
{
    struct desk *desk = *state;
    int64_t run = die_after(desk, two_marks, "b");

    come_back(desk);
    assert_string_equal(run_world_settle(&desk->world, run), "paused");
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(run_world_step(json, "T"), "unknown");
    assert_string_equal(actions_of(json, "T"), "mark:done shout:unknown");

    run_world_close(&desk->world); /* it waits as long as it takes */
    come_back(desk);
    assert_string_equal(run_world_settle(&desk->world, run), "paused");
    const json_t *step = step_of(json, "T");
    size_t index = (size_t)json_get_u64(step, "index", 0);
    EXPECT_OK(runner_decide(desk->world.runner, run, index, RUNNER_RETRY, "", "ada", &err));
    assert_string_equal(run_world_settle(&desk->world, run), "cleanup-due");
    CLEANUP(json_freep) json_t *after = run_world_get(&desk->world, run);
    assert_int_equal(json_get_u64(step_of(after, "T"), "attempts", 0), 2);
    assert_int_equal(done(desk, "b"), 2);
}

static void decided(struct desk *desk, enum runner_decision decision, const char *end,
                    const char *step_state)
{
    int64_t run = die_after(desk, two_marks, "b");

    come_back(desk);
    (void)run_world_settle(&desk->world, run);
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    size_t index = (size_t)json_get_u64(step_of(json, "T"), "index", 0);
    EXPECT_OK(runner_decide(desk->world.runner, run, index, decision, "heard it", "ada", &err));
    assert_string_equal(run_world_settle(&desk->world, run), end);
    run_world_close(&desk->world);
    come_back(desk);
    CLEANUP(json_freep) json_t *after = run_world_get(&desk->world, run);
    assert_string_equal(run_world_step(after, "T"), step_state);
    assert_int_equal(done(desk, "b"), 1);
    assert_int_equal(done(desk, "c"), 0);
}

static void a_person_may_skip_what_nobody_can_tell(void **state)
{
    decided(*state, RUNNER_SKIP, "cleanup-due", "skipped");
}

static void a_person_may_fail_what_nobody_can_tell(void **state)
{
    decided(*state, RUNNER_FAIL, "cleanup-due", "failed");
}

/* The journal of action 0 is made to say something else. */
static void falsify(struct desk *desk, int64_t run, const char *verb, const char *args)
{
    struct state_actions rows = VEC_EMPTY;
    CLEANUP(mem_freep) char *path = mem_printf("%s/state.db", desk->dir);
    struct state *db = NULL;

    EXPECT_OK(state_open(path, &db, &err));
    EXPECT_OK(state_action_list(db, run, &rows, &err));
    VEC_FOREACH(row, &rows) {
        if (row->step != 3 || row->action != 0)
            continue;
        free(row->verb);
        free(row->args);
        row->verb = mem_strdup(verb);
        row->args = mem_strdup(args);
        EXPECT_OK(state_action_put(db, row, &err));
    }
    EXPECT_OK(state_turn_end(db, &err));
    state_close(db);
    state_actions_done(&rows);
}

static void differs(struct desk *desk, const char *verb, const char *args, const char *text)
{
    int64_t run = die_after(desk,
                            "step \"T\" { function(act) act(mark \"a\") act(mark \"c\") end,\n"
                            " retry = { times = 3, wait = \"1s\" } }",
                            "c");

    falsify(desk, run, verb, args);
    come_back(desk);
    assert_string_equal(run_world_settle(&desk->world, run), "cleanup-due");
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    const json_t *step = step_of(json, "T");
    assert_string_equal(run_world_step(json, "T"), "failed");
    assert_int_equal(json_get_u64(step, "attempts", 0), 1);
    if (!strstr(json_get_str(step, "error", ""), text))
        fail_msg("\"%s\" lacks \"%s\"", json_get_str(step, "error", ""), text);
}

static void another_verb_than_before_fails_the_step_for_good(void **state)
{
    differs(
        *state, "shout", "{\"value\":\"a\"}",
        "shop:3: step \"T\" is not deterministic: its action 1 was shout {\"value\":\"a\"}, and is"
        " mark {\"value\":\"a\"} when it is run again");
}

static void other_arguments_than_before_fail_the_step_for_good(void **state)
{
    differs(*state, "mark", "{\"value\":\"z\"}", "was mark {\"value\":\"z\"}, and is mark {\"val");
}

static void a_stop_of_the_daemon_loses_nothing(void **state)
{
    struct desk *desk = *state;
    int64_t run = start(desk, two_marks, RUN_TEST);

    run_world_commit(&desk->world);
    for (int turn = 0; turn < 1000 && done(desk, "a") == 0; turn++)
        (void)run_world_turn(&desk->world);
    run_world_close(&desk->world);
    come_back(desk);
    assert_string_equal(run_world_settle(&desk->world, run), "cleanup-due");
    assert_int_equal(done(desk, "a"), 1);
    assert_int_equal(done(desk, "b"), 1);
    assert_int_equal(done(desk, "c"), 1);
}

/* --- Asking a person ------------------------------------------------------------------------------------ */

static const char asks[] = "step \"T\" { function(act) act(mark \"a\")\n"
                           " local ok, e = pcall(act, approve { \"Go on?\", within = \"1h\" })\n"
                           " act(mark(ok and \"yes\" or e.code)) return ok end }";

static void answer(struct desk *desk, int64_t run, bool granted)
{
    size_t step;

    EXPECT_OK(runner_answer(desk->world.runner, run, SIZE_MAX, granted, "", "ada", &step, &err));
    (void)run_world_settle(&desk->world, run); /* a question that was answered pauses for a turn */
    assert_string_equal(run_world_settle(&desk->world, run), "cleanup-due");
}

static void a_function_may_ask_a_person(void **state)
{
    struct desk *desk = *state;
    int64_t run = start(desk, asks, RUN_TEST);

    assert_string_equal(run_world_settle(&desk->world, run), "paused");
    answer(desk, run, true);
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(actions_of(json, "T"), "mark:done approve:done mark:done return:done");
    assert_int_equal(done(desk, "yes"), 1);
}

static void a_no_is_an_error_that_may_be_caught(void **state)
{
    struct desk *desk = *state;
    int64_t run = start(desk, asks, RUN_TEST);

    (void)run_world_settle(&desk->world, run);
    answer(desk, run, false);
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(run_world_step(json, "T"), "done");
    assert_string_equal(actions_of(json, "T"), "mark:done approve:failed mark:done return:done");
    assert_int_equal(done(desk, "denied"), 1);
}

static void a_function_that_asks_still_asks_after_a_restart(void **state)
{
    struct desk *desk = *state;
    int64_t run = start(desk, asks, RUN_TEST);

    (void)run_world_settle(&desk->world, run);
    run_world_close(&desk->world);
    come_back(desk);
    assert_string_equal(run_world_settle(&desk->world, run), "paused");
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(run_world_step(json, "T"), "asking");
    assert_int_equal(done(desk, "a"), 1);
    answer(desk, run, true);
    assert_int_equal(done(desk, "a"), 1);
    assert_int_equal(done(desk, "yes"), 1);
}

static void a_yes_holds_for_the_next_attempt(void **state)
{
    struct desk *desk = *state;

    desk->marks.fail_skip = 1;
    desk->marks.fail_times = 1;
    desk->marks.fail_code = ERR_NET;
    int64_t run = start(desk,
                        "step \"T\" { function(act)\n"
                        " if not pcall(act, mark \"a\") then act(mark \"b\") end\n"
                        " act(approve { \"Go on?\" }) act(mark \"c\") end,\n"
                        " retry = { times = 2, wait = \"1s\" } }",
                        RUN_TEST);
    assert_string_equal(run_world_settle(&desk->world, run), "paused");
    answer(desk, run, true);
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(run_world_step(json, "T"), "done");
    assert_int_equal(json_get_u64(step_of(json, "T"), "attempts", 0), 2);
}

static void a_function_that_asks_can_be_cancelled(void **state)
{
    struct desk *desk = *state;
    int64_t run = start(desk, asks, RUN_TEST);

    (void)run_world_settle(&desk->world, run);
    EXPECT_OK(runner_cancel(desk->world.runner, run, "ada", &err));
    assert_string_equal(run_world_settle(&desk->world, run), "cancelled");
    assert_false(marks_find(&desk->marks, "a")->is_set);
    assert_null(marks_find(&desk->marks, "cancelled"));
}

static void a_run_that_stops_waits_for_no_answer(void **state)
{
    struct desk *desk = *state;
    CLEANUP(json_freep)
    json_t *run = drill(desk, "parallel {\n"
                              " step \"T\" { function(act) pcall(act, approve { \"Go on?\" })\n"
                              "   act(mark \"a\") end },\n"
                              " step \"Bad\" { mark \"bad\" } }");

    assert_string_equal(run_world_step(run, "T"), "failed");
    assert_string_equal(actions_of(run, "T"), "approve:failed return:failed");
    assert_int_equal(done(desk, "a"), 0);
}

/* --- A child that is not itself ---------------------------------------------------------------------- */

/* As if its Lua had been broken: what it says is decided by whoever broke it. */
static void taken_over(struct desk *desk, const char *script, const char *code, const char *text)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/child", desk->dir);
    FILE *file;

    store(desk, "step \"T\" { function(act) act(mark \"a\") end }");
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "#!/bin/bash\nread -r job <&$2\n%s\n", script);
    (void)fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    desk->host.program = path;
    int64_t run = run_world_start_stored(&desk->world, "shop", RUN_TEST);
    assert_string_equal(run_world_settle(&desk->world, run), "cleanup-due");
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    const json_t *step = step_of(json, "T");
    assert_string_equal(run_world_step(json, "T"), "failed");
    assert_string_equal(json_get_str(step, "error_code", ""), code);
    if (!strstr(json_get_str(step, "error", ""), text))
        fail_msg("\"%s\" lacks \"%s\"", json_get_str(step, "error", ""), text);
    assert_int_equal(sim_machine(&desk->sim, "db1")->generation, 1);
    desk->host = host_for_test();
    int64_t cleanup = run_world_start_stored(&desk->world, "shop", RUN_CLEANUP);
    assert_string_equal(run_world_settle(&desk->world, cleanup), "succeeded");
}

static void one_that_is_taken_over_gets_nothing_but_verbs_of_plans(void **state)
{
    struct desk *desk = *state;

    taken_over(desk, "echo '{\"act\": 5}' >&$2; read -r x <&$2", "invalid", "malformed");
    taken_over(
        desk,
        "echo '{\"act\": {\"verb\": \"core_promote\", \"args\": {\"group\": \"db1\"}}}' >&$2;"
        " read -r x <&$2",
        "invalid", "core_promote: malformed");
    taken_over(desk,
               "echo '{\"act\": {\"verb\": \"own\", \"args\": {\"value\": \"db1\"}}}' >&$2;"
               " read -r x <&$2",
               "invalid", "own stands only as a step of its own");
    taken_over(desk, "echo '{\"act\": {\"verb\": \"mark\", \"args\": [[1]]}}' >&$2; read -r x <&$2",
               "invalid", "mark: malformed");
    taken_over(desk, "echo '{\"result_of\": 7, \"line\": -3}' >&$2; read -r x <&$2", "invalid",
               "no step is called \"\"");
}

static void one_that_talks_nonsense_fails_the_step(void **state)
{
    struct desk *desk = *state;

    taken_over(desk, "echo nonsense >&$2", "protocol", "answer of the lua host");
    taken_over(desk, "echo '{}' >&$2", "protocol", "neither value nor error");
    taken_over(desk, "exit 3", "protocol", "ended with code 3");
    taken_over(desk, "while :; do printf '%4096d' 0 >&$2; done", "limit", "answers without end");
}

static void one_that_is_killed_each_time_is_given_up(void **state)
{
    taken_over(*state, "kill -KILL $$", "io", "the child that ran the function was killed");
}

/* --- Refusals ------------------------------------------------------------------------------------------ */

static void without_its_text_such_a_plan_is_refused(void **state)
{
    struct desk *desk = *state;
    struct state_plan plan = {0};
    int64_t run;

    store(desk, two_marks);
    EXPECT_OK(state_plan_get(desk->world.state, "shop", &plan, &err));
    CLEANUP(json_freep) json_t *document = json_loads(plan.document, 0, NULL);
    struct runner_spec spec = {
        .plan = "shop", .document = document, .kind = RUN_TEST, .who = "ada"};
    EXPECT_ERR(ERR_INVALID, runner_start(desk->world.runner, &spec, &run, &err));
    EXPECT_TEXT("plan shop: a step of it is a function, and its source is missing");
    run_world_store(&desk->world, "shop", "return 1", document);
    spec.document = NULL;
    EXPECT_ERR(ERR_INVALID, runner_start(desk->world.runner, &spec, &run, &err));
    EXPECT_TEXT("is not the one it was made of");
    state_plan_done(&plan);
}

static void where_nothing_can_run_it_such_a_plan_is_refused(void **state)
{
    struct desk *desk = *state;
    struct run_tools tools = {0};
    const struct runner_spec spec = {.plan = "shop", .kind = RUN_TEST, .who = "ada"};
    int64_t run;

    store(desk, two_marks);
    run_world_close(&desk->world);
    tools.verbs = marks_verbs(&tools.verb_count);
    run_world_open_with(&desk->world, desk->dir, &desk->tick, &desk->sim, &tools);
    EXPECT_ERR(ERR_UNSUPPORTED, runner_start(desk->world.runner, &spec, &run, &err));
}

static void another_point_does_the_plans_functions_again(void **state)
{
    struct desk *desk = *state;
    const struct runner_spec spec = {
        .plan = "shop", .kind = RUN_CHANGE_POINT, .point = 4, .who = "ada"};
    int64_t run = start(desk, "step \"T\" { function(act) act(mark \"a\") end }", RUN_UNPLANNED);

    assert_string_equal(run_world_settle(&desk->world, run), "awaiting-commit");
    EXPECT_OK(runner_start(desk->world.runner, &spec, &run, &err));
    assert_string_equal(run_world_settle(&desk->world, run), "succeeded");
    CLEANUP(json_freep) json_t *json = run_world_get(&desk->world, run);
    assert_string_equal(actions_of(json, "T"), "mark:done return:done");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(it_acts_and_its_value_is_kept),
        CASE(each_of_a_parallel_block_works_by_itself),
        CASE(a_question_is_answered_and_not_raised),
        CASE(an_earlier_steps_value_is_read_by_its_title),
        CASE(earlier_values_are_what_they_were),
        CASE(an_error_that_is_caught_does_not_end_it),
        CASE(another_attempt_begins_at_the_first_line),
        CASE(an_error_that_is_let_pass_fails_the_step_with_its_line),
        CASE(what_the_author_raises_is_tried_again),
        CASE(a_mistake_is_told_with_its_line_and_not_tried_again),
        CASE(arguments_are_checked_as_at_load),
        CASE(a_field_that_is_unknown_is_told_where_it_stands),
        CASE(a_verb_that_moves_ownership_is_refused),
        CASE(a_loop_of_acts_that_never_ends_is_ended),
        CASE(a_loop_without_acts_is_ended),
        CASE(within_bounds_the_whole_attempt),
        CASE(later_steps_and_neighbours_cannot_be_read),
        CASE(cancel_takes_back_what_each_attempt_did_last_first),
        CASE(a_test_with_functions_is_cleaned_up_as_any),
        CASE(what_was_done_is_told_and_not_done_again),
        CASE(what_nobody_can_tell_waits_for_a_person),
        CASE(a_person_may_skip_what_nobody_can_tell),
        CASE(a_person_may_fail_what_nobody_can_tell),
        CASE(another_verb_than_before_fails_the_step_for_good),
        CASE(other_arguments_than_before_fail_the_step_for_good),
        CASE(a_stop_of_the_daemon_loses_nothing),
        CASE(a_function_may_ask_a_person),
        CASE(a_no_is_an_error_that_may_be_caught),
        CASE(a_function_that_asks_still_asks_after_a_restart),
        CASE(a_yes_holds_for_the_next_attempt),
        CASE(a_function_that_asks_can_be_cancelled),
        CASE(a_run_that_stops_waits_for_no_answer),
        CASE(one_that_is_taken_over_gets_nothing_but_verbs_of_plans),
        CASE(one_that_talks_nonsense_fails_the_step),
        CASE(one_that_is_killed_each_time_is_given_up),
        CASE(without_its_text_such_a_plan_is_refused),
        CASE(where_nothing_can_run_it_such_a_plan_is_refused),
        CASE(another_point_does_the_plans_functions_again),
    };
    /* What is looked at is what was written, not that a disk kept it. */
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests_name("run body", tests, NULL, NULL);
}
