// SPDX-License-Identifier: Apache-2.0
/* Steps that are functions, as far as a plan knows them: where they stand, what stands for them in
 * document, hash and runbook, and what may be asked for from inside. */
#include "base/mem.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/plan/plan_world.h"

#include <stdlib.h>

#define HEAD "return plan \"shop\" {\n  stage \"A\" {\n    step \"Up\" { failover \"db1\" },\n"
#define TAIL "  },\n}\n"
#define BODY                                                                             \
    "    step \"Warm\" {\n      function(act)\n        act(check { agent = \"db1\" })\n" \
    "      end,\n      within = \"5m\", retry = { times = 2 },\n    },\n"

static const char shop[] = HEAD BODY TAIL;

static struct plan *load(const char *text)
{
    struct host host = host_for_test();
    struct plan *plan = NULL;

    EXPECT_OK(plan_load(&host, plan_world_for_test(), "shop.lua", text, strlen(text), &plan, NULL,
                        NULL, &err));
    return plan;
}

static void refused(const char *text, const char *part)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    struct host host = host_for_test();
    struct plan *plan = NULL;

    EXPECT_ERR(ERR_INVALID, plan_load(&host, plan_world_for_test(), "shop.lua", text, strlen(text),
                                      &plan, &problems, NULL, &err));
    EXPECT_TEXT(part);
}

/* --- Where they stand ------------------------------------------------------------------------ */

static void a_step_may_be_a_function(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    const struct plan_step *step = &plan->steps.at[1];

    (void)state;
    assert_string_equal(step->id, "s2");
    assert_int_equal(step->actions.len, 0);
    assert_int_equal(step->body_first, 5);
    assert_int_equal(step->body_last, 7);
    assert_int_equal(step->within_ms, 300000);
    assert_int_equal(step->retry_times, 2);
}

static void a_function_stands_alone_in_its_step(void **state)
{
    (void)state;
    refused(HEAD "    step \"F\" { function(act) end, failover \"web1\" },\n" TAIL,
            "shop.lua:4: step \"F\" holds a function and more; hint: verbs, or one function");
    refused(HEAD "    step \"F\" { failover \"web1\", function(act) end },\n" TAIL,
            "step \"F\" holds a function and more");
    refused(HEAD "    step \"F\" { function(act) end, function(act) end },\n" TAIL,
            "step \"F\" holds a function and more");
}

static void only_functions_of_the_plan_can_be_steps(void **state)
{
    (void)state;
    refused(HEAD "    step \"F\" { failover },\n" TAIL,
            "shop.lua:4: step \"F\": 'failover' lacks its value");
    refused(HEAD "    step \"F\" { pcall },\n" TAIL, "step \"F\": a function cannot stand here");
    refused(HEAD "    function() end,\n" TAIL, "hint: step \"Do this\" { function(act) ... end }");
    refused(HEAD "    step \"F\" { function(act) end, when = function() end },\n" TAIL,
            "'when' comes in a later version");
}

static void a_mistake_in_the_grammar_of_a_function_is_told_at_load(void **state)
{
    (void)state;
    refused(HEAD "    step \"F\" {\n      function(act)\n        act(check {)\n      end },\n" TAIL,
            "shop.lua:6: unexpected symbol near ')'");
}

static void outside_of_functions_there_is_neither_act_nor_result(void **state)
{
    struct host host = host_for_test();
    static const char acts[] = "act(5)\n" HEAD TAIL;
    static const char results[] = "local x = result \"Up\"\n" HEAD TAIL;
    struct plan *plan;

    (void)state;
    EXPECT_ERR(ERR_DENIED, plan_load(&host, plan_world_for_test(), "shop.lua", acts, strlen(acts),
                                     &plan, NULL, NULL, &err));
    EXPECT_TEXT("shop.lua:1: 'act' is what a step's function is given");
    refused(results, "shop.lua:1: result is read inside of a step's function only");
}

/* --- Document and hash ------------------------------------------------------------------------ */

static void the_hash_stands_for_what_a_function_does(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(plan_freep)
    struct plan *other = load(HEAD "    step \"Warm\" {\n      function(act)\n"
                                   "        act(check { agent = \"db2\" })\n"
                                   "      end,\n      within = \"5m\", retry = { times = 2 },\n"
                                   "    },\n" TAIL);

    (void)state;
    assert_string_not_equal(plan->hash, other->hash);
}

static void without_functions_only_the_document_counts(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(HEAD TAIL);
    CLEANUP(plan_freep) struct plan *other = load(HEAD TAIL "-- a remark\n");

    (void)state;
    assert_string_equal(plan->hash, other->hash);
    assert_null(json_object_get(plan->document, "source"));
}

static void a_stored_document_gives_the_same_plan(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(plan_freep) struct plan *again = NULL;

    (void)state;
    EXPECT_OK(
        plan_from_document(plan_world_for_test(), "shop", plan->document, &again, NULL, &err));
    assert_string_equal(again->hash, plan->hash);
    assert_int_equal(again->steps.at[1].body_first, 5);
    EXPECT_OK(plan_source_check(again, shop, &err));
    EXPECT_ERR(ERR_INVALID, plan_source_check(again, NULL, &err));
    EXPECT_TEXT("plan shop: a step of it is a function, and its source is missing");
    EXPECT_ERR(ERR_INVALID, plan_source_check(again, HEAD TAIL, &err));
    EXPECT_TEXT("is not the one it was made of");
}

static void a_damaged_document_is_refused(void **state)
{
    static const char *const bodies[] = {"5", "{}", "{\"first\": 0, \"last\": 3}",
                                         "{\"first\": 7, \"last\": 5}",
                                         "{\"first\": 1, \"last\": 99999999999}"};
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    struct plan *none;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        CLEANUP(json_freep) json_t *document = json_deep_copy(plan->document);
        json_t *stage = json_array_get(json_object_get(document, "stages"), 0);
        json_t *item = json_array_get(json_object_get(stage, "items"), 1);
        json_t *body = json_loads(bodies[i], JSON_DECODE_ANY, NULL);
        (void)json_object_set_new(json_object_get(item, "step"), "body", body);
        EXPECT_ERR(ERR_INVALID,
                   plan_from_document(plan_world_for_test(), "kept", document, &none, NULL, &err));
        EXPECT_TEXT("step \"Warm\": its function is malformed");
    }
    CLEANUP(json_freep) json_t *document = json_deep_copy(plan->document);
    (void)json_object_del(document, "source");
    EXPECT_ERR(ERR_INVALID,
               plan_from_document(plan_world_for_test(), "kept", document, &none, NULL, &err));
    EXPECT_TEXT("the hash of its source is missing");
}

/* --- The runbook ------------------------------------------------------------------------------ */

static void the_runbook_names_the_lines_and_guesses_nothing(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(shop);
    CLEANUP(mem_freep) char *text = NULL;
    CLEANUP(json_freep) json_t *json = NULL;

    (void)state;
    EXPECT_OK(plan_show_text(plan, plan_world_for_test(), RUN_TEST, &text, &err));
    assert_non_null(strstr(text, "2.2  Warm\n       Runs a function (lines 5-7).\n"
                                 "       (at most 5 m; tried again 2 times"));
    EXPECT_OK(plan_show_json(plan, plan_world_for_test(), RUN_TEST, &json, &err));
    const json_t *tasks = json_object_get(json, "tasks");
    const json_t *task = json_array_get(tasks, json_array_size(tasks) - 1);
    assert_int_equal(json_get_u64(task, "line", 0), 5);
    assert_int_equal(json_get_u64(json_object_get(task, "body"), "last", 0), 7);
}

/* --- What is asked for from inside ------------------------------------------------------------- */

static int ask(const char *verb, const char *args, json_t **ret_args)
{
    CLEANUP(json_freep) json_t *json = json_loads(args, JSON_DECODE_ANY, NULL);
    const struct plan_act act = {"shop", "\n\nact(check {\n  tcpp = \"x\",\n})", verb, json, 3};
    const struct verb *found;
    json_t *here = NULL;

    int rc = plan_check_act(plan_world_for_test(), &act, &found, &here, &err);
    if (rc == 0)
        assert_string_equal(found->name, verb);
    if (rc == 0 && ret_args)
        *ret_args = json_incref(here);
    json_decref(here);
    return rc;
}

static void arguments_are_checked_with_the_words_of_the_load(void **state)
{
    (void)state;
    EXPECT_OK(ask("check", "{\"tcp\": \"db1:80\"}", NULL));
    EXPECT_ERR(ERR_INVALID, ask("check", "{\"agent\": \"db1\", \"tcpp\": \"x\"}", NULL));
    EXPECT_TEXT("shop:4: check: unknown field 'tcpp' (did you mean 'tcp'?)");
    EXPECT_ERR(ERR_INVALID, ask("check", "{\"tcp\": \"db9:80\"}", NULL));
    EXPECT_TEXT("check: unknown machine 'db9' (did you mean 'db1'?)");
    EXPECT_ERR(ERR_INVALID, ask("check", "[]", NULL));
    EXPECT_TEXT("shop:3: check needs exactly one of tcp, agent, console; it has 0");
    EXPECT_ERR(ERR_INVALID, ask("check", "[1]", NULL));
    EXPECT_ERR(ERR_INVALID, ask("check", "7", NULL));
    EXPECT_ERR(ERR_INVALID, ask("chek", "{}", NULL));
    EXPECT_ERR(ERR_INVALID, ask("core_promote", "{\"group\": \"db1\"}", NULL));
}

static void a_verb_that_moves_ownership_is_refused(void **state)
{
    (void)state;
    EXPECT_ERR(ERR_INVALID, ask("failover", "{\"machine\": \"db1\"}", NULL));
    EXPECT_TEXT("shop:3: failover stands only as a step of its own, never in a function");
}

static void the_value_of_this_site_is_taken(void **state)
{
    CLEANUP(json_freep) json_t *args = NULL;

    (void)state;
    EXPECT_OK(
        ask("check", "{\"tcp\": {\"lyon\": \"10.2.0.1:80\", \"paris\": \"10.1.0.1:80\"}}", &args));
    assert_string_equal(json_get_str(args, "tcp", ""), "10.2.0.1:80");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_may_be_a_function),
        cmocka_unit_test(a_function_stands_alone_in_its_step),
        cmocka_unit_test(only_functions_of_the_plan_can_be_steps),
        cmocka_unit_test(a_mistake_in_the_grammar_of_a_function_is_told_at_load),
        cmocka_unit_test(outside_of_functions_there_is_neither_act_nor_result),
        cmocka_unit_test(the_hash_stands_for_what_a_function_does),
        cmocka_unit_test(without_functions_only_the_document_counts),
        cmocka_unit_test(a_stored_document_gives_the_same_plan),
        cmocka_unit_test(a_damaged_document_is_refused),
        cmocka_unit_test(the_runbook_names_the_lines_and_guesses_nothing),
        cmocka_unit_test(arguments_are_checked_with_the_words_of_the_load),
        cmocka_unit_test(a_verb_that_moves_ownership_is_refused),
        cmocka_unit_test(the_value_of_this_site_is_taken),
    };
    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
