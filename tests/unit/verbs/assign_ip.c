// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "support/expect.h"
#include "support/verbs/scene.h"

static json_t *args(void)
{
    return json_pack("{s:s, s:s, s:s}", "machine", "db1", "address", "10.20.0.11/24", "gateway",
                     "10.20.0.1");
}

static int act(struct scene *scene)
{
    return scene_act(scene, "assign_ip", RUN_PLANNED, args(), &err);
}

static enum verb_answer answer_of(struct scene *scene)
{
    enum verb_answer answer;

    EXPECT_OK(scene_probe(scene, "assign_ip", RUN_PLANNED, args(), &answer, &err));
    return answer;
}

static void a_machine_gets_its_address_when_its_agent_answers(void **state)
{
    struct scene *scene = *state;

    scene->world.boot_ms = 20000;
    scene_start(scene, RUN_PLANNED);
    EXPECT_OK(act(scene));
    assert_string_equal(sim_instance(&scene->world, "db1")->addresses, "10.20.0.11/24");
    assert_string_equal(sim_instance(&scene->world, "db1")->gateways, "10.20.0.1");
    assert_int_equal(answer_of(scene), ANSWER_DONE);
    assert_string_equal(json_get_str(json_object_get(scene->machines, "db1"), "address", ""),
                        "10.20.0.11");
}

static void a_test_copy_gets_it_as_well(void **state)
{
    struct scene *scene = *state;

    scene_start(scene, RUN_TEST);
    EXPECT_OK(scene_act(scene, "assign_ip", RUN_TEST, args(), &err));
    assert_string_equal(sim_instance(&scene->world, "db1")->addresses, "10.20.0.11/24");
}

static void a_guest_whose_agent_never_answers_is_given_up_in_time(void **state)
{
    struct scene *scene = *state;

    scene->world.boot_ms = 10000000;
    scene_start(scene, RUN_PLANNED);
    EXPECT_ERR(ERR_TIMEOUT, act(scene));
    EXPECT_TEXT("give db1 its address: the guest agent of db1 does not answer");
}

static void what_the_guest_refuses_is_not_tried_for_long(void **state)
{
    struct scene *scene = *state;

    scene_start(scene, RUN_PLANNED);
    sim_fail(&scene->world, "guest.assign", "db1", 1, ERR_STATE);
    EXPECT_ERR(ERR_STATE, act(scene));
    assert_int_equal(sim_done(&scene->world, "guest.assign", NULL), 0);
}

static void undoing_it_gives_back_what_was_there_before_the_first_try(void **state)
{
    struct scene *scene = *state;

    scene_start(scene, RUN_PLANNED);
    (void)snprintf(sim_instance(&scene->world, "db1")->addresses, SIM_LIST_BYTES, "10.10.0.11/24");
    assert_int_equal(answer_of(scene), ANSWER_NOT_DONE);
    EXPECT_OK(act(scene));
    scene->action_id = "3.2.0"; /* a second attempt */
    EXPECT_OK(act(scene));
    EXPECT_OK(scene_undo(scene, "assign_ip", RUN_PLANNED, args(), &err));
    assert_string_equal(sim_instance(&scene->world, "db1")->addresses, "10.10.0.11/24");
    EXPECT_OK(scene_undo(scene, "assign_ip", RUN_PLANNED, args(), &err));
    assert_string_equal(sim_instance(&scene->world, "db1")->addresses, "10.10.0.11/24");
}

static void the_runbook_says_what_to_type(void **state)
{
    CLEANUP(json_freep)
    json_t *both = json_pack("{s:s, s:s, s:[s, s], s:[s, s]}", "machine", "db1", "nic",
                             "52:54:00:00:00:01", "address", "10.20.0.11/24", "2001:db8::11/64",
                             "gateway", "10.20.0.1", "2001:db8::1");
    CLEANUP(mem_freep) char *text = verb_find("assign_ip")->describe(both, RUN_PLANNED);

    (void)state;
    assert_string_equal(text, "In db1, give network card 52:54:00:00:00:01 the address"
                              " 10.20.0.11/24 and 2001:db8::11/64, gateway 10.20.0.1 and"
                              " 2001:db8::1.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(a_machine_gets_its_address_when_its_agent_answers),
        SCENE_TEST(a_test_copy_gets_it_as_well),
        SCENE_TEST(a_guest_whose_agent_never_answers_is_given_up_in_time),
        SCENE_TEST(what_the_guest_refuses_is_not_tried_for_long),
        SCENE_TEST(undoing_it_gives_back_what_was_there_before_the_first_try),
        cmocka_unit_test(the_runbook_says_what_to_type),
    };

    return cmocka_run_group_tests_name("assign_ip", tests, NULL, NULL);
}
