// SPDX-License-Identifier: Apache-2.0
/* What each verb's arguments may be, told at load with the line. */
#include "base/mem.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/plan/plan_world.h"

#include <stdlib.h>

/* The action stands on line 4. */
#define HEAD \
    "return plan \"shop\" {\n  stage \"A\" {\n    step \"Up\" { failover \"db1\" },\n    step \"It\" { "
#define TAIL " },\n  },\n}\n"

static char *problems_of(const char *action, int *ret_rc)
{
    CLEANUP(plan_problems_done) struct plan_problems problems = VEC_EMPTY;
    CLEANUP(mem_freep) char *text = mem_printf(HEAD "%s" TAIL, action);
    struct host host = host_for_test();
    struct plan *plan = NULL;

    err_clear(&err);
    *ret_rc = plan_load(&host, plan_world_for_test(), "shop.lua", text, strlen(text), &plan,
                        &problems, NULL, &err);
    plan_free(plan);
    return plan_problems_text(&problems, "shop.lua");
}

static void refused(const char *action, const char *part)
{
    int rc;
    CLEANUP(mem_freep) char *problems = problems_of(action, &rc);

    if (rc == 0 || !strstr(problems, part))
        fail_msg("%s: no \"%s\" among:\n%s\n%s", action, part, problems, err.text);
    assert_int_equal(err.code, ERR_INVALID);
}

static void taken(const char *action)
{
    int rc;
    CLEANUP(mem_freep) char *problems = problems_of(action, &rc);

    if (rc < 0 || *problems)
        fail_msg("%s: %s\n%s", action, err.text, problems);
}

static void run_command_takes_a_path_texts_and_a_site(void **state)
{
    (void)state;
    taken("run_command { \"/bin/x\", args = { \"-a\", \"b\" }, at = \"paris\", within = \"5m\","
          " env = { COLOUR = \"blue\" } }");
    taken("run_command \"/bin/x\"");
    taken("run_command { \"/bin/x\", args = \"-a\", env = {} }");
    taken("run_command { \"/bin/x\", args = { lyon = { \"a\" }, paris = \"b\" } }");
    refused("run_command \"x\"", "shop.lua:4: error: run_command: value: \"x\" is no absolute path;"
                                 " hint: \"/usr/local/bin/x\"");
    refused("run_command { args = \"a\" }", "shop.lua:4: error: run_command lacks its value");
    refused("run_command { \"/bin/x\",\n args = { 5 } }",
            "shop.lua:5: error: run_command: args must be a text or a list of texts");
    refused("run_command { \"/bin/x\", env = { A = 5 } }", "run_command: env.A must be a text");
    refused("run_command { \"/bin/x\", env = { [\"A=\"] = \"b\" } }", "env: \"A=\" is no name");
    refused("run_command { \"/bin/x\", env = \"A=b\" }", "env must be a table");
    refused("run_command { \"/bin/x\", at = \"pari\" }",
            "unknown site 'pari' (did you mean 'paris'?)");
    refused("run_command { \"/bin/x\", within = \"soon\" }", "within: \"soon\" is no duration");
}

static void approve_takes_a_line_a_person_and_a_word(void **state)
{
    (void)state;
    taken("approve \"Well?\"");
    taken("approve { \"Well?\", by = \"@operators\", within = \"1h\", silence = \"grant\" }");
    refused("approve { by = \"ada\" }", "shop.lua:4: error: approve lacks its value");
    refused("approve { \"Well?\", by = \"ada lovelace\" }",
            "approve: by must be a user's name or \"@GROUP\"");
    refused("approve { \"Well?\", by = \"@\" }", "approve: by must be");
    refused("approve { \"Well?\", silence = \"dney\" }",
            "approve: silence is one of \"deny\", \"grant\" (did you mean 'deny'?)");
    refused("approve { \"Well?\", silence = true }", "approve: silence is one of");
    refused("approve \"Well?\\27[2J\"", "the question has control characters");
}

static void assign_ip_takes_what_a_machine_can_have(void **state)
{
    (void)state;
    taken("assign_ip { \"db1\", address = \"10.20.0.11/24\" }");
    taken("assign_ip { \"db1\", nic = 2, gateway = { lyon = \"10.20.0.1\", paris = \"10.10.0.1\" },"
          " address = { lyon = \"10.20.0.11/24\", paris = \"10.10.0.11/24\" } }");
    taken(
        "assign_ip { \"db1\", nic = \"52:54:00:00:00:01\", dns = { \"10.20.0.2\", \"2001:db8::2\" },"
        " address = { \"10.20.0.11/24\", \"2001:db8::11/64\" }, gateway = { \"10.20.0.1\","
        " \"fe80::1\" }, within = \"1m\" }");
    refused("assign_ip { \"db1\" }", "shop.lua:4: error: assign_ip lacks 'address'");
    refused("assign_ip { \"db1\",\n address = \"10.20.0.11\" }",
            "shop.lua:5: error: assign_ip: address: \"10.20.0.11\" is no address with a prefix");
    refused("assign_ip { \"db1\", address = \"10.20.0.0/24\" }",
            "10.20.0.0/24 cannot be a machine's");
    refused("assign_ip { \"db1\", address = \"10.20.0.256/24\" }", "is no address with a prefix");
    refused("assign_ip { \"db1\", address = {} }", "assign_ip: no address is given");
    refused("assign_ip { \"db1\", address = { \"10.0.0.5/24\", \"10.0.0.5/16\" } }",
            "the address 10.0.0.5/16 is given twice");
    refused("assign_ip { \"db1\", address = { lyon = \"10.20.0.11/24\" } }",
            "address has no value for site 'paris'");
    refused("assign_ip { \"db2\", address = \"10.20.0.11/24\" }", "unknown machine 'db2'");
    refused("assign_ip { \"db1\", nic = 0, address = \"10.20.0.11/24\" }",
            "assign_ip: nic must be");
    refused("assign_ip { \"db1\", nic = \"eth0\", address = \"10.20.0.11/24\" }", "nic must be");
}

static void assign_ip_s_gateway_must_be_reached_from_its_address(void **state)
{
    (void)state;
    refused("assign_ip { \"db1\", address = \"10.20.0.11/24\",\n gateway = \"10.20.1.1\" }",
            "shop.lua:5: error: assign_ip: the gateway 10.20.1.1 is outside of 10.20.0.11/24");
    refused("assign_ip { \"db1\", address = \"10.20.0.11/24\", gateway = \"2001:db8::1\" }",
            "the gateway 2001:db8::1 is IPv6, and no such address is given");
    refused("assign_ip { \"db1\", address = \"10.20.0.11/24\", gateway = \"10.20.0.11\" }",
            "is the machine's own address");
    refused("assign_ip { \"db1\", address = \"10.20.0.11/24\", gateway = \"10.20.0.1/24\" }",
            "\"10.20.0.1/24\" is no address of a machine");
    refused("assign_ip { \"db1\", address = \"10.20.0.11/24\", gateway = { \"10.20.0.1\","
            " \"10.20.0.2\" } }",
            "two gateways of one family");
    refused(
        "assign_ip { \"db1\", address = { lyon = \"10.20.0.11/24\", paris = \"10.10.0.11/24\" },"
        " gateway = \"10.20.0.1\" }",
        "assign_ip: paris: the gateway 10.20.0.1 is outside of 10.10.0.11/24");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run_command_takes_a_path_texts_and_a_site),
        cmocka_unit_test(approve_takes_a_line_a_person_and_a_word),
        cmocka_unit_test(assign_ip_takes_what_a_machine_can_have),
        cmocka_unit_test(assign_ip_s_gateway_must_be_reached_from_its_address),
    };

    return cmocka_run_group_tests_name("verbs of plans", tests, NULL, NULL);
}
