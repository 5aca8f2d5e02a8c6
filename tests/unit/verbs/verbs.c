// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "sites/site_sim.h"
#include "support/expect.h"
#include "verbs/verb.h"

#define WALL_MS 1700000000000

struct scene {
    struct clock_fake clock;
    struct sim_world world;
    struct sim *sim;
    struct site *here;
    struct site *there;
    json_t *machines;
    json_t *result;
};

static int setup(void **state)
{
    struct scene *scene = mem_new(struct scene);

    clock_fake_init(&scene->clock, WALL_MS);
    sim_machine_add(&scene->world, "db1", 5, WALL_MS - 2000);
    scene->sim = sim_new(&scene->world, &scene->clock.clock);
    scene->here = sim_site_recovery(scene->sim, "lyon");
    scene->there = sim_site_source(scene->sim, "paris");
    scene->machines = json_pack("{s:{s:s, s:s, s:s, s:i, s:i}}", "db1", "group", "db1", "peer",
                                "paris", "run", "lyon-1", "point", 0, "generation", 1);
    *state = scene;
    return 0;
}

static int teardown(void **state)
{
    struct scene *scene = *state;

    site_close(scene->here);
    site_close(scene->there);
    sim_free(scene->sim);
    json_decref(scene->machines);
    json_decref(scene->result);
    free(scene);
    return 0;
}

static struct verb_call call_of(const struct scene *scene, enum run_kind kind, const json_t *args)
{
    return (struct verb_call){.kind = kind,
                              .run = "lyon-1",
                              .args = args,
                              .machines = scene->machines,
                              .here = scene->here,
                              .there = scene->there,
                              .clock = (struct clock *)(uintptr_t)&scene->clock.clock};
}

/* Takes the result; its facts become the run's, as in a run. */
static void learn(struct scene *scene, json_t *result)
{
    json_t *facts = json_object_get(json_object_get(result, "facts"), "db1");

    if (facts)
        (void)json_object_update(json_object_get(scene->machines, "db1"), facts);
    json_decref(scene->result);
    scene->result = result;
}

/* Runs the verb. */
static int act_within(struct scene *scene, const char *verb, enum run_kind kind, json_t *args,
                      int64_t within_ms)
{
    CLEANUP(json_freep) json_t *owned = args;
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(&scene->clock.clock, NULL, within_ms);
    struct verb_call call = call_of(scene, kind, owned);
    json_t *result = NULL;
    int rc = verb_find(verb)->run(&call, &result, cancel, &err);

    learn(scene, result);
    return rc;
}

static int act(struct scene *scene, const char *verb, enum run_kind kind, json_t *args)
{
    return act_within(scene, verb, kind, args, CANCEL_NEVER);
}

static enum verb_answer probe(struct scene *scene, const char *verb, enum run_kind kind,
                              json_t *args)
{
    CLEANUP(json_freep) json_t *owned = args;
    struct verb_call call = call_of(scene, kind, owned);
    enum verb_answer answer = ANSWER_UNKNOWN;
    json_t *result = NULL;

    EXPECT_OK(verb_find(verb)->probe(&call, &answer, &result, NULL, &err));
    learn(scene, result);
    return answer;
}

static int undo(struct scene *scene, const char *verb, enum run_kind kind, json_t *args)
{
    CLEANUP(json_freep) json_t *owned = args;
    struct verb_call call = call_of(scene, kind, owned);

    return verb_find(verb)->undo(&call, NULL, &err);
}

static json_t *machine(void)
{
    return json_pack("{s:s}", "machine", "db1");
}

static json_t *group(void)
{
    return json_pack("{s:s}", "group", "db1");
}

static void prepare_test(struct scene *scene)
{
    EXPECT_OK(act(scene, "core_pin", RUN_TEST, group()));
    EXPECT_OK(act(scene, "core_network", RUN_TEST, json_object()));
}

/* --- The table --------------------------------------------------------------------------------------- */

static void every_verb_with_an_effect_can_be_probed(void **state)
{
    size_t count;
    const struct verb *const *all = verb_all(&count);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        if (all[i]->effect != EFFECT_NONE && !all[i]->probe && !all[i]->idempotent)
            fail_msg("%s has no probe", all[i]->name);
        assert_non_null(all[i]->run);
        assert_non_null(all[i]->describe);
        assert_ptr_equal(verb_find(all[i]->name), all[i]);
    }
    assert_null(verb_find("format_disk"));
}

static void the_words_are_those_that_plans_may_use(void **state)
{
    CLEANUP(json_freep) json_t *words = verb_words();

    (void)state;
    assert_string_equal(json_get_str(words, "failover", ""), "machine");
    assert_true(json_is_null(json_object_get(words, "wait_until")));
    assert_null(json_object_get(words, "core_promote"));
}

static void kinds_have_names(void **state)
{
    (void)state;
    for (int kind = 0; kind < RUN_KIND_COUNT; kind++)
        assert_int_equal(run_kind_parse(run_kind_name((enum run_kind)kind)), kind);
    assert_int_equal(run_kind_parse("accidental"), -1);
}

static void each_verb_is_described_for_the_runbook(void **state)
{
    CLEANUP(json_freep) json_t *args = machine();
    CLEANUP(mem_freep) char *test = verb_find("failover")->describe(args, RUN_TEST);
    CLEANUP(mem_freep) char *real = verb_find("failover")->describe(args, RUN_PLANNED);
    CLEANUP(mem_freep) char *back = verb_find("failover")->describe(args, RUN_FAILBACK);

    (void)state;
    assert_string_equal(back, "Start db1 here, on its own disks.");
    assert_string_equal(test, "Start a copy of db1 from the kept point, on the isolated network.");
    assert_string_equal(real, "Start db1 here, from the promoted point.");
}

/* --- failover ------------------------------------------------------------------------------------------ */

static void failover_is_done_when_the_machine_is_seen_running(void **state)
{
    struct scene *scene = *state;

    prepare_test(scene);
    assert_int_equal(probe(scene, "failover", RUN_TEST, machine()), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, "failover", RUN_TEST, machine()));
    assert_int_equal(probe(scene, "failover", RUN_TEST, machine()), ANSWER_DONE);
    assert_int_equal(sim_instance(&scene->world, "db1")->point, 5);
}

static void failover_without_a_point_is_refused(void **state)
{
    EXPECT_ERR(ERR_STATE, act(*state, "failover", RUN_TEST, machine()));
    EXPECT_TEXT("no point was taken");
}

static void a_real_machine_never_starts_without_promotion(void **state)
{
    struct scene *scene = *state;

    EXPECT_OK(act(scene, "core_pin", RUN_UNPLANNED, group()));
    EXPECT_ERR(ERR_STATE, act(scene, "failover", RUN_UNPLANNED, machine()));
    EXPECT_TEXT("it may still run at paris");
    EXPECT_OK(act(scene, "core_promote", RUN_UNPLANNED, group()));
    EXPECT_OK(act(scene, "failover", RUN_UNPLANNED, machine()));
}

static void undoing_failover_removes_the_machine(void **state)
{
    struct scene *scene = *state;

    prepare_test(scene);
    EXPECT_OK(act(scene, "failover", RUN_TEST, machine()));
    EXPECT_OK(undo(scene, "failover", RUN_TEST, machine()));
    EXPECT_OK(undo(scene, "failover", RUN_TEST, machine()));
    assert_null(sim_instance(&scene->world, "db1"));
}

/* --- wait_until, check ---------------------------------------------------------------------------------- */

static void start_db1(struct scene *scene)
{
    prepare_test(scene);
    EXPECT_OK(act(scene, "failover", RUN_TEST, machine()));
}

static void wait_until_returns_when_it_answers(void **state)
{
    struct scene *scene = *state;

    start_db1(scene);
    EXPECT_OK(act(scene, "wait_until", RUN_TEST, json_pack("{s:s}", "tcp", "db1:5432")));
    EXPECT_OK(act(scene, "wait_until", RUN_TEST, json_pack("{s:s}", "agent", "db1")));
    EXPECT_OK(
        act(scene, "check", RUN_TEST, json_pack("{s:s, s:s}", "console", "db1", "line", "READY")));
}

static void wait_until_gives_up_in_time_and_says_for_what(void **state)
{
    struct scene *scene = *state;

    scene->world.boot_ms = 3600000;
    start_db1(scene);
    EXPECT_ERR(ERR_TIMEOUT, act(scene, "wait_until", RUN_TEST,
                                json_pack("{s:s, s:s}", "tcp", "db1:5432", "within", "0ms")));
    EXPECT_TEXT("db1:5432 accepts connections");
}

static void wait_until_does_not_wait_for_what_cannot_come(void **state)
{
    EXPECT_ERR(ERR_NOT_FOUND,
               act(*state, "wait_until", RUN_TEST, json_pack("{s:s}", "agent", "db1")));
}

static void check_looks_once(void **state)
{
    struct scene *scene = *state;

    scene->world.boot_ms = 3600000;
    start_db1(scene);
    EXPECT_ERR(ERR_STATE, act(scene, "check", RUN_TEST, json_pack("{s:s}", "agent", "db1")));
    EXPECT_TEXT("not so: the guest agent of db1 answers");
}

static void a_target_without_a_port_is_refused(void **state)
{
    static const char *const bad[] = {"db1", "db1:", ":5432", "db1:0", "db1:70000", "db1:http"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        EXPECT_ERR(ERR_INVALID, act(*state, "check", RUN_TEST, json_pack("{s:s}", "tcp", bad[i])));
    EXPECT_OK(act(*state, "check", RUN_TEST, json_pack("{s:s}", "tcp", "10.0.0.5:80")));
    EXPECT_OK(act(*state, "check", RUN_TEST, json_pack("{s:s}", "tcp", "[fd00::5]:80")));
}

static void a_bad_duration_is_refused(void **state)
{
    EXPECT_ERR(ERR_INVALID, act(*state, "wait_until", RUN_TEST,
                                json_pack("{s:s, s:s}", "agent", "db1", "within", "5")));
    EXPECT_ERR(ERR_INVALID, act(*state, "check", RUN_TEST, json_object()));
}

/* --- The core --------------------------------------------------------------------------------------------- */

static void the_planned_core_moves_a_machine(void **state)
{
    struct scene *scene = *state;
    const struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(act(scene, "core_final_sync", RUN_PLANNED, group()));
    EXPECT_OK(act(scene, "core_promote", RUN_PLANNED, group()));
    EXPECT_OK(act(scene, "core_retire", RUN_PLANNED, group()));
    assert_int_equal(db1->promoted_point, 6);
    assert_int_equal(db1->generation, 2);
    assert_int_equal(db1->retired, 2);
}

static void each_step_of_the_core_is_found_done(void **state)
{
    struct scene *scene = *state;

    assert_int_equal(probe(scene, "core_shutdown", RUN_PLANNED, machine()), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    assert_int_equal(probe(scene, "core_shutdown", RUN_PLANNED, machine()), ANSWER_DONE);
    assert_int_equal(probe(scene, "core_final_sync", RUN_PLANNED, group()), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, "core_final_sync", RUN_PLANNED, group()));
    assert_int_equal(probe(scene, "core_final_sync", RUN_PLANNED, group()), ANSWER_DONE);
    assert_int_equal(probe(scene, "core_promote", RUN_PLANNED, group()), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, "core_promote", RUN_PLANNED, group()));
    assert_int_equal(probe(scene, "core_promote", RUN_PLANNED, group()), ANSWER_DONE);
    assert_int_equal(sim_done(&scene->world, "group.promote", "db1"), 1);
    assert_int_equal(probe(scene, "core_retire", RUN_PLANNED, group()), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, "core_retire", RUN_PLANNED, group()));
    assert_int_equal(probe(scene, "core_retire", RUN_PLANNED, group()), ANSWER_DONE);
}

static void a_machine_that_was_marked_but_still_runs_is_not_retired(void **state)
{
    struct scene *scene = *state;
    struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(act(scene, "core_final_sync", RUN_PLANNED, group()));
    EXPECT_OK(act(scene, "core_promote", RUN_PLANNED, group()));
    db1->retired = 2; /* and then the daemon there was killed */
    db1->state = INSTANCE_RUNNING;
    assert_int_equal(probe(scene, "core_retire", RUN_PLANNED, group()), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, "core_retire", RUN_PLANNED, group()));
    assert_int_equal(db1->state, INSTANCE_OFF);
    assert_int_equal(probe(scene, "core_retire", RUN_PLANNED, group()), ANSWER_DONE);
}

static void a_promotion_by_somebody_else_is_not_ours(void **state)
{
    struct scene *scene = *state;
    struct verb_call call;
    CLEANUP(json_freep) json_t *args = group();
    enum verb_answer answer;
    json_t *result = NULL;

    scene->world.machines[0].generation = 2;
    call = call_of(scene, RUN_UNPLANNED, args);
    EXPECT_ERR(ERR_FENCED, verb_find("core_promote")->probe(&call, &answer, &result, NULL, &err));
}

static void undoing_the_planned_core_gives_the_machine_back(void **state)
{
    struct scene *scene = *state;
    const struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(act(scene, "core_final_sync", RUN_PLANNED, group()));
    EXPECT_OK(undo(scene, "core_final_sync", RUN_PLANNED, group()));
    EXPECT_OK(undo(scene, "core_shutdown", RUN_PLANNED, machine()));
    assert_int_equal(db1->state, INSTANCE_RUNNING);
    assert_string_equal(db1->held, "");
}

static void undoing_leaves_a_machine_off_that_was_off_before(void **state)
{
    struct scene *scene = *state;
    struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    db1->state = INSTANCE_OFF;
    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(undo(scene, "core_shutdown", RUN_PLANNED, machine()));
    assert_int_equal(db1->state, INSTANCE_OFF);
}

/* The first try found it running: that it is off by the second one was our doing. */
static void undoing_starts_a_machine_that_an_earlier_try_shut_down(void **state)
{
    struct scene *scene = *state;
    struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    (void)json_object_set_new(json_object_get(scene->machines, "db1"), "was",
                              json_string("running"));
    db1->state = INSTANCE_SHUTDOWN;
    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(undo(scene, "core_shutdown", RUN_PLANNED, machine()));
    assert_int_equal(db1->state, INSTANCE_RUNNING);
}

/* Off when an earlier try looked, started by somebody since. */
static void undoing_starts_a_machine_that_ran_when_this_try_began(void **state)
{
    struct scene *scene = *state;
    struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    (void)json_object_set_new(json_object_get(scene->machines, "db1"), "was", json_string("off"));
    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(undo(scene, "core_shutdown", RUN_PLANNED, machine()));
    assert_int_equal(db1->state, INSTANCE_RUNNING);
}

/* --- Holding with a last delta, and its undo ------------------------------------------------ */

static void ask_for_a_last_delta(struct scene *scene)
{
    (void)json_object_set_new(json_object_get(scene->machines, "db1"), "last_delta", json_true());
}

static enum instance_state state_after_hold_and_undo(struct scene *scene)
{
    const struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    EXPECT_OK(act(scene, "core_hold", RUN_UNPLANNED, group()));
    EXPECT_OK(undo(scene, "core_hold", RUN_UNPLANNED, group()));
    assert_string_equal(db1->held, "");
    return db1->state;
}

static void undoing_a_last_delta_starts_what_was_shut_down_for_it(void **state)
{
    struct scene *scene = *state;

    ask_for_a_last_delta(scene);
    assert_int_equal(state_after_hold_and_undo(scene), INSTANCE_RUNNING);
    assert_int_equal(sim_done(&scene->world, "machine.shutdown", "db1"), 1);
}

static void undoing_a_last_delta_that_failed_starts_what_was_shut_down_for_it(void **state)
{
    struct scene *scene = *state;

    ask_for_a_last_delta(scene);
    sim_fail(&scene->world, "group.final-sync", "db1", 1, ERR_NET);
    assert_int_equal(state_after_hold_and_undo(scene), INSTANCE_RUNNING);
    assert_int_equal(sim_done(&scene->world, "machine.shutdown", "db1"), 1);
}

static void undoing_a_last_delta_leaves_off_what_was_off(void **state)
{
    struct scene *scene = *state;

    ask_for_a_last_delta(scene);
    sim_machine(&scene->world, "db1")->state = INSTANCE_OFF;
    assert_int_equal(state_after_hold_and_undo(scene), INSTANCE_OFF);
}

/* It was out of reach, so nothing was done to it. */
static void undoing_a_hold_leaves_alone_what_it_did_not_reach(void **state)
{
    struct scene *scene = *state;
    struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    ask_for_a_last_delta(scene);
    scene->world.unreachable = true;
    EXPECT_OK(act(scene, "core_hold", RUN_UNPLANNED, group()));
    scene->world.unreachable = false;
    db1->state = INSTANCE_OFF;
    EXPECT_OK(undo(scene, "core_hold", RUN_UNPLANNED, group()));
    assert_int_equal(db1->state, INSTANCE_OFF);
    /* The next try sees it. */
    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(undo(scene, "core_shutdown", RUN_PLANNED, machine()));
    assert_int_equal(db1->state, INSTANCE_OFF);
}

static void undoing_a_hold_that_asked_for_no_last_delta_starts_nothing(void **state)
{
    struct scene *scene = *state;

    sim_machine(&scene->world, "db1")->state = INSTANCE_OFF;
    assert_int_equal(state_after_hold_and_undo(scene), INSTANCE_OFF);
}

/* That try was cut: nobody knows who shut it down. */
static void undoing_a_last_delta_that_was_cut_starts_the_machine(void **state)
{
    struct scene *scene = *state;
    struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    ask_for_a_last_delta(scene);
    db1->state = INSTANCE_SHUTDOWN;
    assert_int_equal(probe(scene, "core_hold", RUN_UNPLANNED, group()), ANSWER_NOT_DONE);
    assert_int_equal(state_after_hold_and_undo(scene), INSTANCE_RUNNING);
}

static void once_it_was_promoted_no_undo_starts_the_old_machine(void **state)
{
    struct scene *scene = *state;

    ask_for_a_last_delta(scene);
    EXPECT_OK(act(scene, "core_hold", RUN_UNPLANNED, group()));
    EXPECT_OK(act(scene, "core_promote", RUN_UNPLANNED, group()));
    EXPECT_OK(undo(scene, "core_hold", RUN_UNPLANNED, group()));
    assert_int_equal(sim_machine(&scene->world, "db1")->state, INSTANCE_SHUTDOWN);
}

static void a_group_without_a_point_leaves_the_source_alone(void **state)
{
    struct scene *scene = *state;

    sim_machine(&scene->world, "db1")->durable_point = 0;
    EXPECT_ERR(ERR_NOT_FOUND, act(scene, "core_hold", RUN_UNPLANNED, group()));
    EXPECT_TEXT("initial copy has not ended");
    assert_int_equal(sim_asked(&scene->world, "group.hold", NULL), 0);
}

static void a_replica_behind_the_last_delta_is_not_believed(void **state)
{
    struct scene *scene = *state;
    struct sim_machine *db1 = sim_machine(&scene->world, "db1");

    EXPECT_OK(act(scene, "core_shutdown", RUN_PLANNED, machine()));
    EXPECT_OK(act(scene, "core_final_sync", RUN_PLANNED, group()));
    db1->applied_point = 4;
    EXPECT_ERR(ERR_STATE, act(scene, "core_final_sync", RUN_PLANNED, group()));
    EXPECT_TEXT("the replica is at 4");
}

static void a_source_out_of_reach_is_a_warning_only_when_unplanned(void **state)
{
    struct scene *scene = *state;

    scene->world.unreachable = true;
    EXPECT_OK(act(scene, "core_hold", RUN_UNPLANNED, group()));
    assert_non_null(strstr(json_get_str(scene->result, "warning", ""), "cannot be reached"));
    EXPECT_OK(act(scene, "core_promote", RUN_UNPLANNED, group()));
    EXPECT_OK(act(scene, "core_retire", RUN_UNPLANNED, group()));
    assert_non_null(strstr(json_get_str(scene->result, "warning", ""), "may still run at paris"));
    EXPECT_ERR(ERR_NET, act(scene, "core_retire", RUN_PLANNED, group()));
    EXPECT_ERR(ERR_NET, act(scene, "core_shutdown", RUN_PLANNED, machine()));
}

static void a_point_that_is_not_kept_leaves_the_source_alone(void **state)
{
    struct scene *scene = *state;

    (void)json_object_set_new(json_object_get(scene->machines, "db1"), "point", json_integer(9999));
    EXPECT_ERR(ERR_NOT_FOUND, act(scene, "core_hold", RUN_UNPLANNED, group()));
    EXPECT_TEXT("has no point 9999");
    assert_int_equal(sim_asked(&scene->world, "group.hold", NULL), 0);
}

static void a_hold_that_a_person_cancels_is_not_forgiven(void **state)
{
    struct scene *scene = *state;
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(&scene->clock.clock, NULL, CANCEL_NEVER);
    CLEANUP(json_freep) json_t *args = group();
    struct verb_call call = call_of(scene, RUN_UNPLANNED, args);
    json_t *result = NULL;

    cancel_fire(cancel);
    EXPECT_ERR(ERR_CANCELLED, verb_find("core_hold")->run(&call, &result, cancel, &err));
}

static void the_old_machine_stays_until_somebody_was_promoted(void **state)
{
    EXPECT_ERR(ERR_STATE, act(*state, "core_retire", RUN_PLANNED, group()));
}

static void a_cleanup_removes_what_the_test_made(void **state)
{
    struct scene *scene = *state;

    start_db1(scene);
    EXPECT_ERR(ERR_STATE, act(scene, "core_leftovers", RUN_CLEANUP, json_object()));
    assert_int_equal(json_array_size(json_object_get(scene->result, "left")), 3);
    assert_int_equal(probe(scene, "core_cleanup", RUN_CLEANUP, machine()), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene, "core_cleanup", RUN_CLEANUP, machine()));
    EXPECT_OK(act(scene, "core_unpin", RUN_CLEANUP, group()));
    EXPECT_OK(act(scene, "core_network_remove", RUN_CLEANUP, json_object()));
    assert_int_equal(probe(scene, "core_cleanup", RUN_CLEANUP, machine()), ANSWER_DONE);
    assert_int_equal(probe(scene, "core_unpin", RUN_CLEANUP, group()), ANSWER_DONE);
    assert_int_equal(probe(scene, "core_network_remove", RUN_CLEANUP, json_object()), ANSWER_DONE);
    EXPECT_OK(act(scene, "core_leftovers", RUN_CLEANUP, json_object()));
}

static void a_test_is_undone_piece_by_piece(void **state)
{
    struct scene *scene = *state;

    prepare_test(scene);
    assert_int_equal(probe(scene, "core_pin", RUN_TEST, group()), ANSWER_DONE);
    assert_int_equal(probe(scene, "core_network", RUN_TEST, json_object()), ANSWER_DONE);
    EXPECT_OK(undo(scene, "core_network", RUN_TEST, json_object()));
    EXPECT_OK(undo(scene, "core_pin", RUN_TEST, group()));
    assert_int_equal(probe(scene, "core_pin", RUN_TEST, group()), ANSWER_NOT_DONE);
    assert_int_equal(probe(scene, "core_network", RUN_TEST, json_object()), ANSWER_NOT_DONE);
}

#define VERB_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verb_with_an_effect_can_be_probed),
        cmocka_unit_test(the_words_are_those_that_plans_may_use),
        cmocka_unit_test(kinds_have_names),
        cmocka_unit_test(each_verb_is_described_for_the_runbook),
        VERB_TEST(failover_is_done_when_the_machine_is_seen_running),
        VERB_TEST(failover_without_a_point_is_refused),
        VERB_TEST(a_real_machine_never_starts_without_promotion),
        VERB_TEST(undoing_failover_removes_the_machine),
        VERB_TEST(wait_until_returns_when_it_answers),
        VERB_TEST(wait_until_gives_up_in_time_and_says_for_what),
        VERB_TEST(wait_until_does_not_wait_for_what_cannot_come),
        VERB_TEST(check_looks_once),
        VERB_TEST(a_target_without_a_port_is_refused),
        VERB_TEST(a_bad_duration_is_refused),
        VERB_TEST(the_planned_core_moves_a_machine),
        VERB_TEST(each_step_of_the_core_is_found_done),
        VERB_TEST(a_machine_that_was_marked_but_still_runs_is_not_retired),
        VERB_TEST(a_promotion_by_somebody_else_is_not_ours),
        VERB_TEST(undoing_the_planned_core_gives_the_machine_back),
        VERB_TEST(undoing_leaves_a_machine_off_that_was_off_before),
        VERB_TEST(undoing_starts_a_machine_that_an_earlier_try_shut_down),
        VERB_TEST(undoing_starts_a_machine_that_ran_when_this_try_began),
        VERB_TEST(a_group_without_a_point_leaves_the_source_alone),
        VERB_TEST(undoing_a_last_delta_starts_what_was_shut_down_for_it),
        VERB_TEST(undoing_a_last_delta_that_failed_starts_what_was_shut_down_for_it),
        VERB_TEST(undoing_a_last_delta_leaves_off_what_was_off),
        VERB_TEST(undoing_a_hold_leaves_alone_what_it_did_not_reach),
        VERB_TEST(undoing_a_hold_that_asked_for_no_last_delta_starts_nothing),
        VERB_TEST(undoing_a_last_delta_that_was_cut_starts_the_machine),
        VERB_TEST(once_it_was_promoted_no_undo_starts_the_old_machine),
        VERB_TEST(a_replica_behind_the_last_delta_is_not_believed),
        VERB_TEST(a_source_out_of_reach_is_a_warning_only_when_unplanned),
        VERB_TEST(a_point_that_is_not_kept_leaves_the_source_alone),
        VERB_TEST(a_hold_that_a_person_cancels_is_not_forgiven),
        VERB_TEST(the_old_machine_stays_until_somebody_was_promoted),
        VERB_TEST(a_cleanup_removes_what_the_test_made),
        VERB_TEST(a_test_is_undone_piece_by_piece),
    };

    return cmocka_run_group_tests_name("verbs", tests, NULL, NULL);
}
