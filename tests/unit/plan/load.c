// SPDX-License-Identifier: Apache-2.0
/* From text to graph, and every mistake with its line. */
#include "base/mem.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/plan/plan_world.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define HEAD "return plan \"shop\" {\n  stage \"A\" {\n"
#define UP   "    step \"Up\" { failover \"db1\" },\n" /* line 3 */
#define TAIL "  },\n}\n"

static struct plan *load(const char *text)
{
    struct host host = host_for_test();
    struct plan *plan = NULL;

    EXPECT_OK(plan_load(&host, plan_world_for_test(), "shop.lua", text, strlen(text), &plan, NULL,
                        NULL, &err));
    return plan;
}

static char *problems_in(const struct plan_world *world, const char *text, int want)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    struct host host = host_for_test();
    struct plan *plan = NULL;

    err_clear(&err);
    int rc = plan_load(&host, world, "shop.lua", text, strlen(text), &plan, &problems, NULL, &err);
    if (rc != want)
        fail_msg("got %d: %s", rc, err.text);
    plan_free(plan);
    return plan_problems_text(&problems, "shop.lua");
}

/* Loads a plan that is no good; gives all problems as text. */
static char *problems_of(const char *text, int want)
{
    return problems_in(plan_world_for_test(), text, want);
}

static void refused(const char *text, const char *part)
{
    CLEANUP(mem_freep) char *problems = problems_of(text, -1);

    if (!strstr(problems, part))
        fail_msg("no \"%s\" among:\n%s\n%s", part, problems, err.text);
    assert_int_equal(err.code, ERR_INVALID);
}

/* Wrong before there is a graph: told by the error alone. */
static void not_loaded(const char *text, const char *message)
{
    struct host host = host_for_test();
    struct plan *plan = NULL;

    EXPECT_ERR(ERR_INVALID, plan_load(&host, plan_world_for_test(), "shop.lua", text, strlen(text),
                                      &plan, NULL, NULL, &err));
    EXPECT_TEXT(message);
}

static void warned(const char *text, const char *part)
{
    CLEANUP(mem_freep) char *problems = problems_of(text, 0);

    if (!strstr(problems, part))
        fail_msg("no \"%s\" among:\n%s", part, problems);
}

static void a_plan_becomes_a_graph(void **state)
{
    CLEANUP(plan_freep)
    struct plan *plan = load(
        "return plan \"shop\" {\n"
        "  rto = \"15m\", rpo = \"30s\",\n"
        "  stage \"Database\" {\n"
        "    step \"Bring up the database\" { failover \"db1\",\n"
        "      within = \"10m\", on_failure = \"pause\", retry = { times = 3, wait = \"5s\" } },\n"
        "    step \"Wait\" { wait_until { tcp = \"db1:5432\", within = \"5m\" } },\n"
        "  },\n"
        "  stage \"Web\" {\n"
        "    only = { \"test\", \"planned\" },\n"
        "    parallel {\n"
        "      step \"Bring up web1\" { failover \"web1\" },\n"
        "      step \"Bring up web2\" { failover \"web2\", only = \"planned\" },\n"
        "    },\n"
        "    step \"Look\" { check { tcp = \"web1:80\" }, check { agent = \"web1\" } },\n"
        "  },\n"
        "}\n");

    (void)state;
    assert_string_equal(plan->name, "shop");
    assert_int_equal(plan->rto_ms, 900000);
    assert_int_equal(plan->rpo_ms, 30000);
    assert_int_equal(plan->stages.len, 2);
    assert_int_equal(plan->steps.len, 5);
    const struct plan_step *up = &plan->steps.at[0];
    assert_string_equal(up->id, "s1");
    assert_string_equal(up->title, "Bring up the database");
    assert_int_equal(up->line, 4);
    assert_int_equal(up->within_ms, 600000);
    assert_int_equal(up->on_failure, PLAN_FAIL_PAUSE);
    assert_int_equal(up->retry_times, 3);
    assert_int_equal(up->retry_wait_ms, 5000);
    assert_string_equal(up->actions.at[0].verb->name, "failover");
    assert_string_equal(json_get_str(up->actions.at[0].args, "machine", ""), "db1");
    assert_true(up->kinds & PLAN_KIND_BIT(RUN_UNPLANNED));
    assert_int_equal(plan->steps.at[2].group, 1);
    assert_int_equal(plan->steps.at[3].group, 1);
    assert_int_equal(plan->steps.at[4].group, 0);
    assert_false(plan->steps.at[2].kinds & PLAN_KIND_BIT(RUN_UNPLANNED));
    assert_true(plan->steps.at[2].kinds & PLAN_KIND_BIT(RUN_TEST));
    assert_false(plan->steps.at[3].kinds & PLAN_KIND_BIT(RUN_TEST));
    assert_int_equal(plan->steps.at[4].actions.len, 2);
    assert_int_equal(plan->steps.at[4].stage, 1);
}

static void helper_functions_may_build_steps(void **state)
{
    CLEANUP(plan_freep)
    struct plan *plan =
        load("local function bring_up(machine)\n"
             "  return step(\"Bring up \" .. machine) { failover(machine) }\n"
             "end\n"
             "return plan \"shop\" { stage \"A\" { bring_up(\"db1\"), bring_up(\"web1\") } }\n");

    (void)state;
    assert_int_equal(plan->steps.len, 2);
    assert_string_equal(plan->steps.at[1].title, "Bring up web1");
    assert_int_equal(plan->steps.at[1].line, 2);
}

static void the_hash_stands_for_what_is_done(void **state)
{
    CLEANUP(plan_freep) struct plan *one = load(HEAD UP TAIL);
    CLEANUP(plan_freep) struct plan *same = load(HEAD UP TAIL "-- a remark\n");
    CLEANUP(plan_freep)
    struct plan *other = load(HEAD "    step \"Up\" { failover \"web1\" },\n" TAIL);

    (void)state;
    assert_int_equal(strlen(one->hash), 64);
    assert_string_equal(one->hash, same->hash);
    assert_string_not_equal(one->hash, other->hash);
}

static void a_stored_document_gives_the_same_plan(void **state)
{
    CLEANUP(plan_freep) struct plan *plan = load(HEAD UP TAIL);
    CLEANUP(plan_freep) struct plan *again = NULL;
    CLEANUP(mem_freep) char *text = json_text(plan->document);
    CLEANUP(json_freep) json_t *stored = NULL;

    (void)state;
    EXPECT_OK(json_parse(text, strlen(text), &stored, &err));
    EXPECT_OK(plan_from_document(plan_world_for_test(), "shop", stored, &again, NULL, &err));
    assert_string_equal(again->hash, plan->hash);
    assert_int_equal(again->steps.len, 1);
    assert_string_equal(again->steps.at[0].title, "Up");
}

static void a_damaged_document_is_refused(void **state)
{
    static const char *const documents[] = {
        "[]",
        "{}",
        "{\"name\": \"x\", \"stages\": 5}",
        "{\"name\": \"x\", \"stages\": [5]}",
        "{\"name\": \"x\", \"stages\": [{\"title\": \"A\", \"items\": [{}]}]}",
        "{\"name\": \"x\", \"stages\": [{\"title\": \"A\", \"items\": [{\"step\": 7}]}]}",
        "{\"name\": \"x\", \"stages\": [{\"title\": \"A\", \"items\": [{\"step\": {\"title\": \"B\","
        "\"actions\": [{\"verb\": \"core_promote\", \"args\": {\"group\": \"db1\"}}]}}]}]}",
        "{\"name\": \"x\", \"stages\": [{\"title\": \"A\", \"items\": [{\"step\": {\"title\": \"B\","
        "\"actions\": [{\"verb\": \"failover\", \"args\": [1]}]}}]}]}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        CLEANUP(json_freep) json_t *json = NULL;
        struct plan *plan = NULL;
        EXPECT_OK(json_parse(documents[i], strlen(documents[i]), &json, &err));
        EXPECT_ERR(ERR_INVALID,
                   plan_from_document(plan_world_for_test(), "kept", json, &plan, NULL, &err));
    }
}

static void the_plan_for_one_machine_is_a_plan(void **state)
{
    CLEANUP(json_freep) json_t *document = plan_document_for_machine("web1", false);
    CLEANUP(plan_freep) struct plan *plan = NULL;

    (void)state;
    EXPECT_OK(plan_from_document(plan_world_for_test(), "web1", document, &plan, NULL, &err));
    assert_string_equal(plan->name, "web1");
    assert_string_equal(plan->steps.at[0].title, "Bring up web1");
    CLEANUP(json_freep) json_t *machines = plan_machines(plan, RUN_UNPLANNED);
    assert_int_equal(json_array_size(machines), 1);
}

static void the_plan_for_one_machine_with_an_agent_ends_with_its_being_up(void **state)
{
    CLEANUP(json_freep) json_t *document = plan_document_for_machine("web1", true);
    CLEANUP(plan_freep) struct plan *plan = NULL;

    (void)state;
    EXPECT_OK(plan_from_document(plan_world_for_test(), "web1", document, &plan, NULL, &err));
    assert_int_equal(plan->steps.len, 2);
    assert_string_equal(plan->steps.at[1].title, "Wait until web1 is up");
}

/* --- Mistakes ------------------------------------------------------------------------------- */

static void an_unknown_verb_is_told_with_its_line(void **state)
{
    (void)state;
    not_loaded(HEAD "    step \"Up\" {\n      failovr \"db1\" },\n" TAIL,
               "shop.lua:4: unknown word 'failovr' (did you mean 'failover'?)");
    not_loaded(HEAD "    step \"Up\" { core_promote \"db1\" },\n" TAIL,
               "shop.lua:3: unknown word 'core_promote'");
}

static void an_unknown_machine_names_the_nearest(void **state)
{
    (void)state;
    refused(HEAD "    step \"Up\" {\n      failover \"bd1\" },\n" TAIL,
            "shop.lua:4: error: failover: unknown machine 'bd1' (did you mean 'db1'?)");
    refused(HEAD UP "    step \"W\" { wait_until {\n      tcp = \"dbx:5432\" } },\n" TAIL,
            "shop.lua:5: error: wait_until: unknown machine 'dbx' (did you mean 'db1'?)");
    refused(HEAD "    step \"Up\" { failover \"mainframe\" },\n" TAIL,
            "unknown machine 'mainframe'; hint: muster machine list");
    refused(HEAD "    step \"Up\" { failover \"DB 1\" },\n" TAIL,
            "\"DB 1\" is not a machine's name");
}

static void a_misspelt_field_is_told_where_it_stands(void **state)
{
    (void)state;
    refused(HEAD "    step \"Up\" { failover \"db1\",\n      wihtin = \"5m\" },\n" TAIL,
            "shop.lua:4: error: step \"Up\": unknown field 'wihtin' (did you mean 'within'?)");
    refused(
        HEAD UP
        "    step \"W\" {\n      wait_until { tcp = \"db1:1\",\n        witihn = \"5m\" } },\n" TAIL,
        "shop.lua:6: error: wait_until: unknown field 'witihn' (did you mean 'within'?)");
    refused("return plan \"shop\" {\n  stage \"A\" {\n" UP "    oly = \"test\",\n" TAIL,
            "shop.lua:4: error: stage \"A\": unknown field 'oly' (did you mean 'only'?)");
    refused("return plan \"shop\" {\n  rpto = \"1m\",\n  stage \"A\" {\n" UP TAIL,
            "shop.lua:2: error: plan \"shop\": unknown field 'rpto' (did you mean 'rto'?)");
    refused(
        HEAD
        "    step \"Up\" { failover \"db1\",\n      retry = { times = 2,\n        wiat = \"1s\" },\n"
        "    },\n" TAIL,
        "shop.lua:5: error: 'retry': unknown field 'wiat' (did you mean 'wait'?)");
}

static void all_mistakes_are_told_at_once(void **state)
{
    CLEANUP(mem_freep)
    char *problems =
        problems_of(HEAD "    step \"Up\" { failover \"bd1\", whitin = \"1m\" },\n"
                         "    step \"Up\" { failover \"db1\", on_failure = \"stopp\" },\n"
                         "    step \"Wait\" { wait_until { within = \"5 min\" } },\n" TAIL,
                    -1);

    (void)state;
    assert_string_equal(
        problems,
        "shop.lua:3: error: step \"Up\": unknown field 'whitin' (did you mean 'within'?)\n"
        "shop.lua:3: error: failover: unknown machine 'bd1' (did you mean 'db1'?)\n"
        "shop.lua:4: error: 'on_failure' is \"stop\", \"continue\" or \"pause\", not stopp (did you "
        "mean 'stop'?)\n"
        "shop.lua:4: error: two steps are called \"Up\": here and on line 3\n"
        "shop.lua:5: error: wait_until: within: \"5 min\" is no duration; hint: \"90s\", \"15m\"\n"
        "shop.lua:5: error: wait_until needs exactly one of tcp, agent, console; it has 0\n");
    EXPECT_TEXT("shop.lua:3: step \"Up\": unknown field 'whitin'");
    EXPECT_TEXT("(1 of 6 errors)");
}

static void a_title_that_moves_the_cursor_is_refused_where_it_stands(void **state)
{
    static const char *const titles[] = {"Up\\27[2J", "Up\\nDone", "Up\\127", "Up\\u{9b}2J",
                                         "\\r x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(titles); i++) {
        CLEANUP(mem_freep)
        char *text = mem_printf(HEAD UP "    step \"%s\" { failover \"web1\" },\n" TAIL, titles[i]);
        CLEANUP(mem_freep) char *problems = problems_of(text, -1);
        assert_string_equal(problems,
                            "shop.lua:4: error: the title of this step has control characters; "
                            "hint: a title is one line of text\n");
    }
    refused("return plan \"shop\" {\n  stage \"A\\27[1A\" {\n" UP TAIL,
            "shop.lua:2: error: the title of this stage has control characters");
}

static void two_refused_titles_are_not_called_the_same(void **state)
{
    CLEANUP(mem_freep)
    char *problems = problems_of(HEAD "    step \"a\\27\" { failover \"db1\" },\n"
                                      "    step \"b\\27\" { failover \"web1\" },\n" TAIL,
                                 -1);

    (void)state;
    assert_null(strstr(problems, "two steps"));
    assert_null(strchr(problems, 27));
}

static void words_of_later_versions_are_refused_not_ignored(void **state)
{
    static const char *const fields[] = {"when", "after", "undo", "each"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        CLEANUP(mem_freep)
        char *text = mem_printf(
            HEAD "    step \"Up\" { failover \"db1\",\n      %s = \"x\" },\n" TAIL, fields[i]);
        CLEANUP(mem_freep)
        char *want =
            mem_printf("shop.lua:4: error: step \"Up\": '%s' comes in a later version", fields[i]);
        refused(text, want);
    }
}

static void a_step_outside_the_plan_is_an_error(void **state)
{
    (void)state;
    refused("local lost = step \"Lost\" { failover \"web1\" }\n" HEAD UP TAIL,
            "shop.lua:1: error: step \"Lost\" is not part of the plan that is returned");
    refused("local lost = failover \"web1\"\n" HEAD UP TAIL,
            "shop.lua:1: error: failover is not part of the plan");
    refused("local old = plan \"old\" { stage \"O\" { step \"X\" { failover \"db1\" } } }\n" HEAD
            "    step \"Up\" { failover \"db1\" },\n" TAIL,
            "shop.lua:1: error: plan \"old\" is not part of the plan that is returned");
}

static void words_in_the_wrong_place_are_told(void **state)
{
    (void)state;
    refused("return plan \"shop\" {\n  stage \"A\" {\n    failover \"db1\",\n" UP TAIL,
            "shop.lua:3: error: stage \"A\": failover cannot stand here; hint: step \"Do this\" { "
            "failover ... }");
    refused(
        "return plan \"shop\" {\n  step \"Up\" { failover \"db1\" },\n}\n",
        "shop.lua:2: error: plan \"shop\": step \"Up\" cannot stand here; hint: put it into stage");
    refused(HEAD UP "    step \"Empty\" {},\n" TAIL,
            "shop.lua:4: error: step \"Empty\" does nothing");
    refused(HEAD UP "    step \"Open\",\n" TAIL,
            "shop.lua:4: error: step \"Open\" lacks its { ... }");
    refused(HEAD UP "    \"text\",\n" TAIL, "stage \"A\": the text \"text\" cannot stand here");
    refused(HEAD UP "    parallel { failover \"web1\" },\n" TAIL,
            "shop.lua:4: error: parallel: failover cannot stand here");
    refused("local function none() end\n" HEAD UP
            "    none(), step \"B\" { failover \"web1\" },\n" TAIL,
            "stage \"A\": value 2 of it is nil");
    refused("return plan \"shop\" {}\n", "shop.lua:1: error: plan \"shop\" is empty");
}

static void what_is_returned_must_be_a_plan(void **state)
{
    (void)state;
    not_loaded("local p = plan \"x\" {}\n", "shop.lua: returns nothing; hint: the file ends with");
    not_loaded("return 5", "returns a number; hint");
    not_loaded("return step \"x\" { failover \"db1\" }", "returns step \"x\"; hint");
    not_loaded("return plan \"x\"", "plan \"x\" lacks its { ... }");
    not_loaded("\nlocal s = step { failover \"db1\" }\n", "shop.lua:2: step needs a title");
    not_loaded("return plan {}", "shop.lua: plan needs a title: plan \"Do this\" { ... }");
    not_loaded(HEAD "    step \"Up\" \"db1\",\n" TAIL,
               "shop.lua:3: step \"Up\" is given the text \"db1\"");
    not_loaded(HEAD "    step \"Up\" { failover() },\n" TAIL,
               "shop.lua:3: failover is given one value");
}

static void arguments_are_checked_by_the_verbs_table(void **state)
{
    (void)state;
    refused(HEAD UP "    step \"W\" { wait_until { tcp = \"db1:1\", agent = \"db1\" } },\n" TAIL,
            "shop.lua:4: error: wait_until needs exactly one of tcp, agent, console; it has 2");
    refused(HEAD UP "    step \"W\" { wait_until { console = \"db1\" } },\n" TAIL,
            "shop.lua:4: error: wait_until: 'console' goes with 'line', which is missing");
    refused(HEAD UP "    step \"W\" { wait_until { agent = \"db1\", line = \"x\" } },\n" TAIL,
            "wait_until: 'line' goes with 'console', which is missing");
    refused(HEAD UP "    step \"W\" { wait_until { tcp = \"db1\" } },\n" TAIL,
            "wait_until: tcp: \"db1\" is not host:port");
    refused(HEAD UP "    step \"W\" { wait_until { tcp = \"db1:99999\" } },\n" TAIL,
            "is not host:port");
    refused(HEAD UP "    step \"W\" { wait_until { tcp = 5432 } },\n" TAIL,
            "tcp must be \"host:port\"");
    refused(HEAD UP "    step \"W\" { wait_until { tcp = \"db1:1\", within = 5 } },\n" TAIL,
            "within must be a duration like \"90s\"");
    refused(HEAD UP "    step \"W\" { wait_until \"db1:1\" },\n" TAIL,
            "wait_until takes named values only: wait_until { name = value }");
    refused(HEAD "    step \"Up\" { failover { \"db1\", \"web1\" } },\n" TAIL,
            "shop.lua:3: error: failover takes one value without a name");
    refused(HEAD "    step \"Up\" { failover {} },\n" TAIL,
            "failover lacks its machine; hint: The mach");
    refused(HEAD UP "    step \"W\" { wait_until { tcp = function() end } },\n" TAIL,
            "wait_until: 'tcp': a function cannot stand here; hint: write the value itself");
    refused(
        HEAD UP
        "    step \"I\" { set_address { \"db1\", address = \"a\", mtu = \"x\", announce = 1 } },\n" TAIL,
        "set_address: mtu must be a number");
    refused(HEAD UP "    step \"I\" { set_address { \"db1\" } },\n" TAIL,
            "shop.lua:4: error: set_address lacks 'address'");
}

static void addresses_outside_are_allowed(void **state)
{
    static const char *const addresses[] = {"10.0.0.5:80", "[2001:db8::1]:443"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        CLEANUP(mem_freep)
        char *text = mem_printf(HEAD UP "    step \"W\" { wait_until { tcp = \"%s\" } },\n" TAIL,
                                addresses[i]);
        CLEANUP(plan_freep) struct plan *plan = load(text);
        assert_int_equal(plan->steps.len, 2);
    }
}

static void a_name_of_a_host_outside_is_refused_with_what_to_write(void **state)
{
    (void)state;
    refused(HEAD UP
            "    step \"W\" { wait_until {\n      tcp = \"mail.example.com:25\" } },\n" TAIL,
            "unknown machine 'mail.example.com'; hint: other hosts are written by address");
}

static void values_by_site_cover_the_sites(void **state)
{
    CLEANUP(plan_freep)
    struct plan *plan = load(
        HEAD UP "    step \"I\" { set_address { \"db1\",\n"
                "      address = { lyon = \"10.2.0.1/24\", paris = \"10.1.0.1/24\" } } },\n" TAIL);

    (void)state;
    assert_int_equal(plan->steps.len, 2);
    refused(
        HEAD UP
        "    step \"I\" { set_address { \"db1\",\n      address = { lyon = \"10.2.0.1\" } } },\n" TAIL,
        "shop.lua:5: error: set_address: address has no value for site 'paris'");
    refused(
        HEAD UP
        "    step \"I\" { set_address { \"db1\",\n      address = {\n        lyon = \"a\",\n"
        "        pariss = \"b\" } } },\n" TAIL,
        "shop.lua:7: error: set_address: address: unknown site 'pariss' (did you mean 'paris'?)");
    refused(
        HEAD UP
        "    step \"I\" { set_address { \"db1\", address = { lyon = 1, paris = \"b\" } } },\n" TAIL,
        "set_address: address.lyon must be a text");
    refused(HEAD
            "    step \"I\" { failover { machine = { lyon = \"db1\", paris = \"db1\" } } },\n" TAIL,
            "failover: machine cannot differ by site");
}

static void durations_and_names_are_checked(void **state)
{
    (void)state;
    refused(HEAD "    step \"Up\" { failover \"db1\",\n      within = 300 },\n" TAIL,
            "shop.lua:4: error: 'within' is no duration; hint: write it as");
    refused(HEAD "    step \"Up\" { failover \"db1\",\n      within = \"0s\" },\n" TAIL,
            "shop.lua:4: error: 'within': \"0s\" is no duration");
    refused("return plan \"My shop\" { stage \"A\" { step \"U\" { failover \"db1\" } } }",
            "plan \"My shop\": not a name");
    refused(HEAD "    step \"Up\" { failover \"db1\",\n      only = { \"tests\" } },\n" TAIL,
            "shop.lua:4: error: 'only': unknown kind 'tests' (did you mean 'test'?)");
    refused(HEAD "    step \"Up\" { failover \"db1\", only = {} },\n" TAIL, "'only' is empty");
    refused("return plan \"shop\" {\n  stage \"A\" { only = \"test\",\n"
            "    step \"Up\" { failover \"db1\", only = \"planned\" },\n  },\n}\n",
            "shop.lua:3: error: step \"Up\" would never run");
    refused(HEAD "    step \"Up\" { failover \"db1\", retry = 3 },\n" TAIL, "'retry' is a table");
    refused(HEAD "    step \"Up\" { failover \"db1\", retry = { times = 0 } },\n" TAIL,
            "'times' is a number from 1 to 100");
}

/* --- Dangers -------------------------------------------------------------------------------- */

static void a_machine_failed_over_twice_is_an_error(void **state)
{
    (void)state;
    refused(HEAD UP "    step \"Again\" { failover \"db1\" },\n" TAIL,
            "shop.lua:4: error: db1 is failed over twice: here and on line 3");
    CLEANUP(plan_freep)
    struct plan *plan = load(
        HEAD "    step \"T\" { failover \"db1\", only = \"test\" },\n"
             "    step \"R\" { failover \"db1\", only = { \"planned\", \"unplanned\" } },\n" TAIL);
    assert_int_equal(plan->steps.len, 2);
}

static void a_plan_without_a_machine_is_an_error(void **state)
{
    (void)state;
    refused(HEAD "    step \"W\" { wait_until { tcp = \"10.0.0.1:80\" } },\n" TAIL,
            "shop.lua:1: error: the plan fails over no machine");
}

static void waiting_for_a_machine_that_is_not_up_is_a_warning(void **state)
{
    (void)state;
    warned(HEAD "    step \"W\" { wait_until {\n      tcp = \"db1:1\" } },\n"
                "    step \"Up\" { failover \"db1\" },\n" TAIL,
           "shop.lua:4: warning: wait_until: in test runs nothing has brought up db1 before");
    warned(HEAD "    parallel {\n      step \"Up\" { failover \"db1\" },\n"
                "      step \"W\" { wait_until { agent = \"db1\" } },\n    },\n" TAIL,
           "shop.lua:5: warning: wait_until: in test runs");
    warned(HEAD "    step \"Up\" { failover \"db1\" },\n"
                "    step \"U2\" { failover \"web1\", only = { \"test\", \"planned\" } },\n"
                "    step \"W\" { wait_until { agent = \"web1\" } },\n" TAIL,
           "shop.lua:5: warning: wait_until: in unplanned runs nothing has brought up web1");
    CLEANUP(mem_freep)
    char *none = problems_of(
        HEAD "    step \"Up\" { failover \"db1\", wait_until { agent = \"db1\" } },\n" TAIL, 0);
    assert_string_equal(none, "");
}

static void a_machine_no_drill_covers_is_a_warning(void **state)
{
    (void)state;
    warned(HEAD UP "    step \"B\" { failover \"web1\", only = \"unplanned\" },\n" TAIL,
           "shop.lua:4: warning: web1 is not part of a test run");
}

static void a_step_that_ends_its_verb_early_is_a_warning(void **state)
{
    (void)state;
    warned(
        HEAD UP
        "    step \"W\" { wait_until { agent = \"db1\", within = \"5m\" }, within = \"1m\" },\n" TAIL,
        "shop.lua:4: warning: wait_until waits up to 5m, but its step is ended before that");
}

/* --- The host's bounds hold for plans, too ---------------------------------------------------- */

static void a_plan_that_never_ends_is_refused(void **state)
{
    struct host host = host_for_test();
    struct plan *plan = NULL;
    static const char text[] = "while true do local x = step end";

    (void)state;
    host.limits.cpu_ms = 150;
    EXPECT_ERR(ERR_LIMIT, plan_load(&host, plan_world_for_test(), "shop.lua", text,
                                    sizeof(text) - 1, &plan, NULL, NULL, &err));
}

static void two_different_loads_are_refused(void **state)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/child", (const char *)*state);
    struct host host = host_for_test();
    struct plan *plan = NULL;
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    (void)fprintf(file,
                  "#!/bin/sh\necho \"{\\\"value\\\": {\\\"plan\\\": {\\\"pid\\\": $$}}}\" >&$2\n");
    (void)fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    host.program = path;
    EXPECT_ERR(ERR_INVALID, plan_load(&host, plan_world_for_test(), "shop.lua", "x", 1, &plan, NULL,
                                      NULL, &err));
    EXPECT_TEXT("two different plans");
}

/* --- Groups of several machines ---------------------------------------------------------------- */

static char *problems_with_group(const char *text, int want)
{
    CLEANUP(json_freep)
    json_t *groups = json_pack("{s:{s:s}, s:{s:s}, s:{s:s}}", "db1", "group", "shop", "web1",
                               "group", "shop", "web2", "group", "shop");
    struct plan_world world = *plan_world_for_test();

    world.groups = groups;
    return problems_in(&world, text, want);
}

static void a_plan_that_covers_a_part_of_a_group_is_refused_and_told_the_rest(void **state)
{
    CLEANUP(mem_freep) char *problems = problems_with_group(HEAD UP TAIL, -1);

    (void)state;
    assert_non_null(strstr(problems,
                           "shop.lua:3: error: in test runs the plan covers a part of group "
                           "shop: db1, but not web1, web2; hint: machines of a group move "
                           "together"));
    assert_null(strstr(strstr(problems, "covers a part") + 1, "covers a part"));
}

static void a_kind_of_run_covers_a_group_or_none_of_it(void **state)
{
    CLEANUP(mem_freep)
    char *problems = problems_with_group(
        HEAD UP "    step \"W1\" { failover \"web1\" },\n"
                "    step \"W2\" { failover \"web2\", only = { \"test\", \"planned\" } },\n" TAIL,
        -1);
    CLEANUP(mem_freep)
    char *sound = problems_with_group(HEAD UP "    step \"W1\" { failover \"web1\" },\n"
                                              "    step \"W2\" { failover \"web2\" },\n" TAIL,
                                      0);

    (void)state;
    assert_non_null(strstr(problems, "in unplanned runs the plan covers a part of group shop: db1, "
                                     "web1, but not web2"));
    assert_string_equal(sound, "");
}

static void a_groups_name_is_no_machine_of_a_plan(void **state)
{
    CLEANUP(mem_freep)
    char *problems = problems_with_group(HEAD "    step \"Up\" { failover \"shop\" },\n" TAIL, -1);

    (void)state;
    assert_non_null(strstr(problems,
                           "failover: shop is a group; hint: name its machines: shop (db1, "
                           "web1, web2)"));
}

static void a_group_without_a_plan_comes_up_at_once_and_waits_for_its_agents(void **state)
{
    CLEANUP(json_freep) json_t *machines = json_pack("[s, s]", "db1", "web1");
    CLEANUP(json_freep) json_t *agents = json_pack("[s]", "web1");
    CLEANUP(json_freep) json_t *document = plan_document_for_group("shop", machines, agents);
    CLEANUP(plan_tasks_done) struct plan_tasks tasks = VEC_EMPTY;
    CLEANUP(plan_freep) struct plan *plan = NULL;

    (void)state;
    EXPECT_OK(plan_from_document(plan_world_for_test(), "it", document, &plan, NULL, &err));
    EXPECT_OK(plan_expand(plan, plan_world_for_test(), RUN_TEST, &tasks, &err));
    assert_string_equal(plan->name, "shop");
    assert_int_equal(plan->steps.len, 3);
    assert_string_equal(plan->steps.at[0].title, "Bring up db1");
    assert_int_equal(plan->steps.at[0].group, plan->steps.at[1].group);
    assert_string_equal(plan->steps.at[2].title, "Wait until web1 is up");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_becomes_a_graph),
        cmocka_unit_test(helper_functions_may_build_steps),
        cmocka_unit_test(the_hash_stands_for_what_is_done),
        cmocka_unit_test(a_stored_document_gives_the_same_plan),
        cmocka_unit_test(a_damaged_document_is_refused),
        cmocka_unit_test(the_plan_for_one_machine_is_a_plan),
        cmocka_unit_test(the_plan_for_one_machine_with_an_agent_ends_with_its_being_up),
        cmocka_unit_test(an_unknown_verb_is_told_with_its_line),
        cmocka_unit_test(an_unknown_machine_names_the_nearest),
        cmocka_unit_test(a_misspelt_field_is_told_where_it_stands),
        cmocka_unit_test(all_mistakes_are_told_at_once),
        cmocka_unit_test(a_title_that_moves_the_cursor_is_refused_where_it_stands),
        cmocka_unit_test(two_refused_titles_are_not_called_the_same),
        cmocka_unit_test(words_of_later_versions_are_refused_not_ignored),
        cmocka_unit_test(a_step_outside_the_plan_is_an_error),
        cmocka_unit_test(words_in_the_wrong_place_are_told),
        cmocka_unit_test(what_is_returned_must_be_a_plan),
        cmocka_unit_test(arguments_are_checked_by_the_verbs_table),
        cmocka_unit_test(addresses_outside_are_allowed),
        cmocka_unit_test(a_name_of_a_host_outside_is_refused_with_what_to_write),
        cmocka_unit_test(values_by_site_cover_the_sites),
        cmocka_unit_test(durations_and_names_are_checked),
        cmocka_unit_test(a_machine_failed_over_twice_is_an_error),
        cmocka_unit_test(a_plan_without_a_machine_is_an_error),
        cmocka_unit_test(waiting_for_a_machine_that_is_not_up_is_a_warning),
        cmocka_unit_test(a_machine_no_drill_covers_is_a_warning),
        cmocka_unit_test(a_step_that_ends_its_verb_early_is_a_warning),
        cmocka_unit_test(a_plan_that_never_ends_is_refused),
        TMPDIR_TEST(two_different_loads_are_refused),
        cmocka_unit_test(a_plan_that_covers_a_part_of_a_group_is_refused_and_told_the_rest),
        cmocka_unit_test(a_kind_of_run_covers_a_group_or_none_of_it),
        cmocka_unit_test(a_groups_name_is_no_machine_of_a_plan),
        cmocka_unit_test(a_group_without_a_plan_comes_up_at_once_and_waits_for_its_agents),
    };
    return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
