// SPDX-License-Identifier: Apache-2.0
/* What follows a failover, verb by verb: commit, rollback, another point, the other direction. */
#include "base/mem.h"
#include "support/expect.h"
#include "support/verbs/scene.h"

static json_t *machine(void)
{
    return json_pack("{s:s}", "machine", "db1");
}

static json_t *point(int number)
{
    return json_pack("{s:s, s:i}", "machine", "db1", "point", number);
}

static struct sim_machine *db1(struct scene *scene)
{
    return sim_machine(&scene->world, "db1");
}

static void retire(struct scene *scene)
{
    EXPECT_OK(
        scene_act(scene, "core_retire", RUN_UNPLANNED, json_pack("{s:s}", "group", "db1"), &err));
}

/* db1 runs here from point 5, the old side knows. */
static void fail_over(struct scene *scene)
{
    scene_start(scene, RUN_UNPLANNED);
    retire(scene);
    assert_int_equal(db1(scene)->generation, 2);
    assert_int_equal(db1(scene)->state, INSTANCE_OFF);
}

static bool fact(struct scene *scene, const char *name)
{
    const json_t *facts = json_object_get(json_object_get(scene->result, "facts"), "db1");

    return json_get_bool(facts, name, false);
}

static enum verb_answer probe(struct scene *scene, const char *verb, enum run_kind kind)
{
    enum verb_answer answer = ANSWER_UNKNOWN;

    EXPECT_OK(scene_probe(scene, verb, kind, machine(), &answer, &err));
    return answer;
}

/* --- commit ------------------------------------------------------------------------------------ */

static void a_commit_is_final_and_the_machine_runs_on(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    assert_int_equal(probe(scene, "commit", RUN_COMMIT), ANSWER_NOT_DONE);
    EXPECT_OK(scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    assert_true(fact(scene, "committed"));
    assert_false(fact(scene, "own"));
    assert_string_equal(json_get_str(scene->result, "committed", ""), "db1");
    assert_true(sim_instance(&scene->world, "db1")->committed);
    assert_int_equal(sim_instance(&scene->world, "db1")->state, INSTANCE_RUNNING);
    assert_int_equal(probe(scene, "commit", RUN_COMMIT), ANSWER_DONE);
    assert_true(fact(scene, "committed"));
}

static void a_second_commit_changes_nothing(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_OK(scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    EXPECT_OK(scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    assert_int_equal(sim_done(&scene->world, "instance.commit", "db1"), 1);
}

static void a_machine_that_was_not_promoted_is_not_committed(void **state)
{
    struct scene *scene = *state;

    EXPECT_ERR(ERR_STATE, scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    EXPECT_TEXT("db1 was not failed over by this run");
    assert_int_equal(sim_asked(&scene->world, "instance.commit", NULL), 0);
}

static void a_machine_of_another_run_is_left_alone(void **state)
{
    static const char *const verbs[] = {"commit", "rollback", "change_point"};
    static const enum run_kind kinds[] = {RUN_COMMIT, RUN_ROLLBACK, RUN_CHANGE_POINT};
    struct scene *scene = *state;

    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        EXPECT_OK(
            scene_act(scene, verbs[i], kinds[i], json_pack("{s:s}", "machine", "web9"), &err));
    assert_int_equal(sim_asked(&scene->world, "instance.commit", NULL), 0);
    assert_int_equal(sim_asked(&scene->world, "instance.remove", NULL), 0);
}

static void a_machine_on_its_own_disks_is_ours_again_after_the_commit(void **state)
{
    struct scene *scene = *state;

    db1(scene)->own = true;
    fail_over(scene);
    EXPECT_OK(scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    assert_true(fact(scene, "own"));
    assert_true(json_get_bool(scene->result, "own", false));
    assert_null(sim_instance(&scene->world, "db1"));
}

/* --- rollback ---------------------------------------------------------------------------------- */

static void a_rollback_gives_the_machine_back_and_starts_it(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_OK(scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    assert_null(sim_instance(&scene->world, "db1"));
    assert_int_equal(db1(scene)->generation, 3);
    assert_true(db1(scene)->yielded);
    assert_int_equal(db1(scene)->promoted_point, 5);
    assert_int_equal(db1(scene)->returned, 3);
    assert_int_equal(db1(scene)->retired, 0);
    assert_int_equal(db1(scene)->state, INSTANCE_RUNNING);
    assert_true(fact(scene, "rolled_back"));
    assert_string_equal(json_get_str(scene->result, "removed", ""), "db1");
    for (size_t i = 0; i < SIM_PINS_MAX; i++)
        assert_int_equal(db1(scene)->pins[i].point, 0);
}

static void a_machine_that_was_off_before_stays_off_after_a_rollback(void **state)
{
    static const char *const off[] = {"off", "shutdown"};

    for (size_t i = 0; i < ARRAY_LEN(off); i++) {
        void *own = NULL;

        assert_int_equal(scene_setup(&own), 0);
        struct scene *scene = own;
        (void)json_object_set_new(json_object_get(scene->machines, "db1"), "was",
                                  json_string(off[i]));
        fail_over(scene);
        EXPECT_OK(scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
        assert_int_equal(db1(scene)->state, INSTANCE_OFF);
        assert_int_equal(scene_teardown(&own), 0);
    }
    (void)state;
}

static void a_rollback_that_is_asked_for_again_changes_nothing(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    assert_int_equal(probe(scene, "rollback", RUN_ROLLBACK), ANSWER_NOT_DONE);
    sim_fail(&scene->world, "group.return", "", 1, ERR_NET);
    EXPECT_ERR(ERR_NET, scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    EXPECT_TEXT("give db1 back to paris");
    EXPECT_OK(scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    assert_int_equal(sim_done(&scene->world, "group.promote", "db1"), 2);
    assert_int_equal(db1(scene)->generation, 3);
    assert_int_equal(db1(scene)->returned, 3);
}

/* The machine is back, the answer was lost: its new session may not have delivered anything yet. */
static void a_rollback_whose_answer_was_lost_comes_to_its_end(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    sim_fail(&scene->world, "group.return", "", 1, ERR_NET);
    scene->world.faults[0].after = true;
    EXPECT_ERR(ERR_NET, scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    assert_int_equal(db1(scene)->returned, 3);
    EXPECT_OK(scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    assert_int_equal(db1(scene)->generation, 3);
    assert_int_equal(db1(scene)->state, INSTANCE_RUNNING);
}

static void nothing_is_given_up_before_the_other_site_has_answered(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    scene->world.unreachable = true;
    EXPECT_ERR(ERR_NET, scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    EXPECT_TEXT("a rollback needs both sites");
    assert_int_equal(sim_instance(&scene->world, "db1")->state, INSTANCE_RUNNING);
    assert_int_equal(db1(scene)->generation, 2);
    assert_int_equal(sim_asked(&scene->world, "instance.remove", NULL), 0);
}

static void a_committed_machine_is_not_rolled_back(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_OK(scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    EXPECT_ERR(ERR_STATE, scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    EXPECT_TEXT("db1 was committed: there is no rollback after that; hint: `muster failback db1`");
    assert_non_null(sim_instance(&scene->world, "db1"));
}

static void a_machine_on_its_own_disks_is_not_rolled_back(void **state)
{
    struct scene *scene = *state;

    db1(scene)->own = true;
    fail_over(scene);
    EXPECT_ERR(ERR_UNSUPPORTED, scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    EXPECT_TEXT("runs on its own disks here again");
    assert_int_equal(sim_asked(&scene->world, "instance.remove", NULL), 0);
}

static void a_machine_that_was_not_promoted_is_not_rolled_back(void **state)
{
    EXPECT_ERR(ERR_STATE, scene_act(*state, "rollback", RUN_ROLLBACK, machine(), &err));
    EXPECT_TEXT("db1 was not failed over by this run");
}

static void a_side_that_delivered_nothing_is_not_gone_back_to(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    db1(scene)->delivered = 0;
    EXPECT_ERR(ERR_STATE, scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    EXPECT_TEXT("paris has delivered no point of db1");
    assert_int_equal(sim_asked(&scene->world, "instance.remove", NULL), 0);
}

/* --- change_point ------------------------------------------------------------------------------ */

static void another_point_starts_under_a_generation_of_its_own(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_OK(scene_act(scene, "change_point", RUN_CHANGE_POINT, point(3), &err));
    assert_int_equal(sim_instance(&scene->world, "db1")->point, 3);
    assert_int_equal(sim_instance(&scene->world, "db1")->state, INSTANCE_RUNNING);
    assert_int_equal(db1(scene)->generation, 3);
    assert_int_equal(db1(scene)->promoted_point, 3);
    assert_int_equal(db1(scene)->retired, 3);
    assert_int_equal(db1(scene)->pins[0].point, 3);
    assert_int_equal(db1(scene)->pins[1].point, 0);
    const json_t *facts = json_object_get(json_object_get(scene->result, "facts"), "db1");
    assert_int_equal(json_get_u64(facts, "promoted", 0), 3);
    assert_int_equal(json_get_u64(facts, "point", 0), 3);
}

static void the_point_may_be_the_runs_own(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    (void)json_object_set_new(json_object_get(scene->machines, "db1"), "wanted", json_integer(2));
    EXPECT_OK(scene_act(scene, "change_point", RUN_CHANGE_POINT, machine(), &err));
    assert_int_equal(sim_instance(&scene->world, "db1")->point, 2);
}

static void no_point_is_no_wish(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_ERR(ERR_INVALID, scene_act(scene, "change_point", RUN_CHANGE_POINT, machine(), &err));
    EXPECT_TEXT("name the point; hint: `muster points db1`");
}

static void a_point_that_is_not_kept_stops_nothing(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_ERR(ERR_NOT_FOUND, scene_act(scene, "change_point", RUN_CHANGE_POINT, point(99), &err));
    EXPECT_TEXT("db1 has no point 99; hint: `muster points db1`");
    assert_int_equal(sim_instance(&scene->world, "db1")->state, INSTANCE_RUNNING);
    assert_int_equal(db1(scene)->generation, 2);
}

static void a_committed_machines_point_stays(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_OK(scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    EXPECT_ERR(ERR_STATE, scene_act(scene, "change_point", RUN_CHANGE_POINT, point(3), &err));
    EXPECT_TEXT("db1 was committed: its point cannot be changed any more");
    assert_int_equal(sim_instance(&scene->world, "db1")->point, 5);
}

static void a_machine_that_was_not_promoted_has_no_other_point(void **state)
{
    EXPECT_ERR(ERR_STATE, scene_act(*state, "change_point", RUN_CHANGE_POINT, point(3), &err));
    EXPECT_TEXT("db1 was not failed over by this run");
}

static void own_disks_have_no_other_points(void **state)
{
    struct scene *scene = *state;

    db1(scene)->own = true;
    fail_over(scene);
    EXPECT_ERR(ERR_UNSUPPORTED, scene_act(scene, "change_point", RUN_CHANGE_POINT, point(3), &err));
    EXPECT_TEXT("other points are not kept for them");
    assert_int_equal(sim_asked(&scene->world, "instance.remove", NULL), 0);
}

static void an_old_side_out_of_reach_is_a_warning(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    scene->world.unreachable = true;
    EXPECT_OK(scene_act(scene, "change_point", RUN_CHANGE_POINT, point(3), &err));
    assert_non_null(strstr(json_get_str(scene->result, "warning", ""), "cannot be reached"));
    assert_int_equal(sim_instance(&scene->world, "db1")->point, 3);
}

/* It is promoted once more, and could not be started: whoever comes next must know the generation. */
static void a_start_that_fails_leaves_the_next_try_and_the_rollback_open(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    sim_fail(&scene->world, "instance.start", "", 1, ERR_IO);
    EXPECT_ERR(ERR_IO, scene_act(scene, "change_point", RUN_CHANGE_POINT, point(3), &err));
    assert_int_equal(db1(scene)->generation, 3);
    EXPECT_OK(scene_act(scene, "rollback", RUN_ROLLBACK, machine(), &err));
    assert_int_equal(db1(scene)->generation, 4);
    assert_int_equal(db1(scene)->state, INSTANCE_RUNNING);
}

/* The daemon was killed after the start: what the machine wrote until it is there again is not lost. */
static void one_that_runs_from_the_point_already_is_not_started_anew(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    (void)json_object_set_new(json_object_get(scene->machines, "db1"), "wanted", json_integer(5));
    assert_int_equal(probe(scene, "change_point", RUN_CHANGE_POINT), ANSWER_NOT_DONE);
    EXPECT_OK(scene_act(scene, "change_point", RUN_CHANGE_POINT, machine(), &err));
    (void)json_object_set_new(json_object_get(scene->machines, "db1"), "promoted",
                              json_integer(2)); /* as the run knew it before */
    db1(scene)->retired = 2;
    assert_int_equal(probe(scene, "change_point", RUN_CHANGE_POINT), ANSWER_DONE);
    const json_t *learnt = json_object_get(json_object_get(scene->result, "facts"), "db1");
    assert_int_equal(json_get_u64(learnt, "promoted", 0), 3);
    assert_true(json_is_object(json_object_get(scene->result, "instance")));
    assert_int_equal(db1(scene)->retired, 3);
}

/* --- reprotect --------------------------------------------------------------------------------- */

static void it_waits_until_the_machine_is_protected_again(void **state)
{
    struct scene *scene = *state;

    fail_over(scene);
    EXPECT_OK(scene_act(scene, "commit", RUN_COMMIT, machine(), &err));
    scene->world.back_ms = 5000;
    assert_int_equal(probe(scene, "reprotect", RUN_PLANNED), ANSWER_NOT_DONE);
    EXPECT_OK(scene_act(scene, "reprotect", RUN_PLANNED,
                        json_pack("{s:s, s:b}", "machine", "db1", "accept_branch", 1), &err));
    assert_int_equal(sim_done(&scene->world, "group.reprotect", "db1"), 1);
    assert_true(db1(scene)->accepts_branch);
    assert_int_equal(probe(scene, "reprotect", RUN_PLANNED), ANSWER_DONE);
}

static void it_gives_up_in_time_and_says_where_to_look(void **state)
{
    struct scene *scene = *state;

    fail_over(scene); /* and is not committed: its job will refuse */
    EXPECT_ERR(ERR_TIMEOUT,
               scene_act(scene, "reprotect", RUN_PLANNED,
                         json_pack("{s:s, s:s}", "machine", "db1", "within", "3s"), &err));
    EXPECT_TEXT("db1 is not protected yet; hint: `muster jobs` shows why");
}

static void a_bad_duration_is_refused(void **state)
{
    EXPECT_ERR(ERR_INVALID,
               scene_act(*state, "reprotect", RUN_PLANNED,
                         json_pack("{s:s, s:s}", "machine", "db1", "within", "soon"), &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(a_commit_is_final_and_the_machine_runs_on),
        SCENE_TEST(a_second_commit_changes_nothing),
        SCENE_TEST(a_machine_that_was_not_promoted_is_not_committed),
        SCENE_TEST(a_machine_of_another_run_is_left_alone),
        SCENE_TEST(a_machine_on_its_own_disks_is_ours_again_after_the_commit),
        SCENE_TEST(a_rollback_gives_the_machine_back_and_starts_it),
        SCENE_TEST(a_machine_that_was_off_before_stays_off_after_a_rollback),
        SCENE_TEST(a_rollback_that_is_asked_for_again_changes_nothing),
        SCENE_TEST(a_rollback_whose_answer_was_lost_comes_to_its_end),
        SCENE_TEST(nothing_is_given_up_before_the_other_site_has_answered),
        SCENE_TEST(a_committed_machine_is_not_rolled_back),
        SCENE_TEST(a_machine_on_its_own_disks_is_not_rolled_back),
        SCENE_TEST(a_machine_that_was_not_promoted_is_not_rolled_back),
        SCENE_TEST(a_side_that_delivered_nothing_is_not_gone_back_to),
        SCENE_TEST(another_point_starts_under_a_generation_of_its_own),
        SCENE_TEST(the_point_may_be_the_runs_own),
        SCENE_TEST(no_point_is_no_wish),
        SCENE_TEST(a_point_that_is_not_kept_stops_nothing),
        SCENE_TEST(a_committed_machines_point_stays),
        SCENE_TEST(a_machine_that_was_not_promoted_has_no_other_point),
        SCENE_TEST(own_disks_have_no_other_points),
        SCENE_TEST(an_old_side_out_of_reach_is_a_warning),
        SCENE_TEST(a_start_that_fails_leaves_the_next_try_and_the_rollback_open),
        SCENE_TEST(one_that_runs_from_the_point_already_is_not_started_anew),
        SCENE_TEST(it_waits_until_the_machine_is_protected_again),
        SCENE_TEST(it_gives_up_in_time_and_says_where_to_look),
        SCENE_TEST(a_bad_duration_is_refused),
    };
    return cmocka_run_group_tests_name("after", tests, NULL, NULL);
}
