// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "support/expect.h"
#include "support/verbs/scene.h"

static json_t *args(void)
{
    return json_pack("{s:s, s:s, s:{s:s}}", "value", "https://hooks.example.com/T0/secret", "text",
                     "The shop is at Lyon.", "json", "colour", "blue");
}

static void a_hook_is_told_run_plan_kind_and_text(void **state)
{
    struct scene *scene = *state;
    CLEANUP(json_freep) json_t *body = NULL;

    EXPECT_OK(scene_act(scene, "notify", RUN_TEST, args(), &err));
    EXPECT_OK(json_parse(scene->world.hook_body, strlen(scene->world.hook_body), &body, &err));
    assert_string_equal(json_get_str(body, "run", ""), "lyon-1");
    assert_string_equal(json_get_str(body, "plan", ""), "shop");
    assert_string_equal(json_get_str(body, "kind", ""), "test");
    assert_string_equal(json_get_str(body, "site", ""), "lyon");
    assert_string_equal(json_get_str(body, "step", ""), "It");
    assert_string_equal(json_get_str(body, "text", ""), "The shop is at Lyon.");
    assert_string_equal(json_get_str(json_object_get(body, "json"), "colour", ""), "blue");
    assert_int_equal(json_get_u64(scene->result, "status", 0), 204);
}

static void the_same_action_has_the_same_key_and_another_attempt_has_not(void **state)
{
    struct scene *scene = *state;

    EXPECT_OK(scene_act(scene, "notify", RUN_PLANNED, args(), &err));
    assert_string_equal(scene->world.hook_key, "lyon-1.3.1.0");
    EXPECT_OK(scene_act(scene, "notify", RUN_PLANNED, args(), &err));
    assert_string_equal(scene->world.hook_key, "lyon-1.3.1.0");
    scene->action_id = "3.2.0";
    EXPECT_OK(scene_act(scene, "notify", RUN_PLANNED, args(), &err));
    assert_string_equal(scene->world.hook_key, "lyon-1.3.2.0");
}

static void in_doubt_it_is_sent_again_and_not_asked_for(void **state)
{
    (void)state;
    assert_true(verb_find("notify")->idempotent);
    assert_null(verb_find("notify")->probe);
}

static void a_failure_names_the_host_and_not_the_secret_path(void **state)
{
    struct scene *scene = *state;

    sim_fail(&scene->world, "hook.post", "", 1, ERR_NET);
    EXPECT_ERR(ERR_NET, scene_act(scene, "notify", RUN_PLANNED, args(), &err));
    EXPECT_TEXT("notify https://hooks.example.com: ");
    assert_null(strstr(err.text, "secret"));
}

static void the_runbook_names_the_host_and_not_the_secret_path(void **state)
{
    CLEANUP(json_freep) json_t *json = args();
    CLEANUP(mem_freep) char *real = verb_find("notify")->describe(json, RUN_PLANNED);
    CLEANUP(mem_freep) char *test = verb_find("notify")->describe(json, RUN_TEST);

    (void)state;
    assert_string_equal(real, "Tell https://hooks.example.com: \"The shop is at Lyon.\"");
    assert_string_equal(test, "Tell https://hooks.example.com (marked as a test):"
                              " \"The shop is at Lyon.\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(a_hook_is_told_run_plan_kind_and_text),
        SCENE_TEST(the_same_action_has_the_same_key_and_another_attempt_has_not),
        cmocka_unit_test(in_doubt_it_is_sent_again_and_not_asked_for),
        SCENE_TEST(a_failure_names_the_host_and_not_the_secret_path),
        cmocka_unit_test(the_runbook_names_the_host_and_not_the_secret_path),
    };

    return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
