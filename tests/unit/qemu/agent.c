// SPDX-License-Identifier: Apache-2.0
#include "qemu/agent.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/qemu/fake_qmp.h"
#include "support/tmpdir.h"

#include <stdlib.h>

static struct fake_qmp *fake;
static struct agent *agent;
static struct cancel *cancel;
static char *path;

static void start(const char *dir, char *(*answer)(void *ctx, const json_t *command), void *ctx,
                  const char *left_behind)
{
    struct fake_qmp_config config = {.greeting = left_behind, .answer = answer, .ctx = ctx};

    config.path = path = path_join(dir, "agent");
    cancel = cancel_new(NULL, NULL, 20000);
    fake = fake_qmp_new(&config);
}

static int end(void **state)
{
    agent_closep(&agent);
    fake_qmp_free(fake);
    fake = NULL;
    cancel_freep(&cancel);
    free(TAKE(path));
    return tmpdir_teardown(state);
}

static char *sync_answer(const json_t *command)
{
    json_int_t id =
        json_integer_value(json_object_get(json_object_get(command, "arguments"), "id"));

    return mem_printf("\xff{\"return\": %lld}\n", (long long)id);
}

static char *good_agent(void *ctx, const json_t *command)
{
    const char *name = json_get_str(command, "execute", "");

    (void)ctx;
    if (str_eq(name, "guest-sync-delimited"))
        return sync_answer(command);
    if (str_eq(name, "guest-fsfreeze-freeze"))
        return fake_qmp_say("{\"return\": 2}");
    if (str_eq(name, "guest-exec"))
        return fake_qmp_say("{\"return\": {\"pid\": 7}}");
    if (str_eq(name, "guest-exec-status"))
        return fake_qmp_say("{\"return\": {\"exited\": true, \"exitcode\": 3, "
                            "\"out-data\": \"aGVsbG8K\", \"err-data\": \"Ynll\"}}");
    if (str_eq(name, "guest-network-get-interfaces"))
        return fake_qmp_say(
            "{\"return\": [{\"name\": \"lo\", \"ip-addresses\": [{\"ip-address\": \"127.0.0.1\"}]},"
            "{\"name\": \"eth0\", \"hardware-address\": \"52:54:00:00:00:01\", \"ip-addresses\": "
            "[{\"ip-address\": \"10.0.0.5\", \"prefix\": 24, \"ip-address-type\": \"ipv4\"}]},"
            "{\"name\": \"eth1\"}]}");
    if (str_eq(name, "guest-fsfreeze-thaw"))
        return fake_qmp_say("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command "
                            "guest-fsfreeze-thaw has been disabled for this instance\"}}");
    return fake_qmp_say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}");
}

static void what_a_former_client_left_behind_is_skipped(void **dir)
{
    uint64_t count = 0;

    start(*dir, good_agent, NULL, "alf a line}\n{\"return\": 1}\n{\"return\": {}}\n");
    EXPECT_OK(agent_open(path, NULL, &agent, cancel, &err));
    EXPECT_OK(agent_freeze(agent, &count, cancel, &err));
    assert_int_equal(count, 2);
}

/* Deaf until it has been asked twice; then it answers both questions. */
static char *late_agent(void *ctx, const json_t *command)
{
    int *asked = ctx;

    if (!str_eq(json_get_str(command, "execute", ""), "guest-sync-delimited"))
        return good_agent(NULL, command);
    if (++*asked < 2)
        return mem_strdup("");
    json_int_t id =
        json_integer_value(json_object_get(json_object_get(command, "arguments"), "id"));
    return mem_printf("\xff{\"return\": %lld}\n\xff{\"return\": %lld}\n", (long long)id - 1,
                      (long long)id);
}

static void an_agent_that_starts_late_is_found(void **dir)
{
    uint64_t count = 0;
    int asked = 0;

    start(*dir, late_agent, &asked, "");
    EXPECT_OK(agent_open(path, NULL, &agent, cancel, &err));
    EXPECT_OK(agent_freeze(agent, &count, cancel, &err));
    assert_int_equal(count, 2);
}

static char *deaf(void *ctx, const json_t *command)
{
    (void)ctx;
    (void)command;
    return mem_strdup("");
}

static void a_deaf_agent_times_out(void **dir)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 100);

    start(*dir, deaf, NULL, "");
    EXPECT_ERR(ERR_TIMEOUT, agent_open(path, NULL, &agent, soon, &err));
    EXPECT_TEXT("does not answer");
}

static void a_blocked_command_is_unsupported(void **dir)
{
    uint64_t count;

    start(*dir, good_agent, NULL, "");
    EXPECT_OK(agent_open(path, NULL, &agent, cancel, &err));
    EXPECT_ERR(ERR_UNSUPPORTED, agent_thaw(agent, &count, cancel, &err));
    EXPECT_ERR(ERR_STATE, agent_command(agent, "guest-x", NULL, NULL, cancel, &err));
    EXPECT_TEXT("refused guest-x: no");
}

static void a_programs_output_and_status_come_back(void **dir)
{
    static const char *const argv[] = {"/bin/ip", "addr", NULL};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status = 0;

    start(*dir, good_agent, NULL, "");
    EXPECT_OK(agent_open(path, NULL, &agent, cancel, &err));
    EXPECT_OK(agent_exec(agent, argv, NULL, &output, &status, cancel, &err));
    assert_string_equal(str_text(&output), "hello\nbye");
    assert_int_equal(status, 3);
}

static void addresses_are_those_of_all_cards_but_the_loopback(void **dir)
{
    CLEANUP(agent_addresses_free) struct agent_addresses addresses = VEC_EMPTY;

    start(*dir, good_agent, NULL, "");
    EXPECT_OK(agent_open(path, NULL, &agent, cancel, &err));
    EXPECT_OK(agent_addresses(agent, &addresses, cancel, &err));
    assert_int_equal(addresses.len, 1);
    assert_string_equal(addresses.at[0].address, "10.0.0.5");
    assert_string_equal(addresses.at[0].mac, "52:54:00:00:00:01");
    assert_int_equal(addresses.at[0].prefix, 24);
    assert_false(addresses.at[0].is_ipv6);
}

static char *dies(void *ctx, const json_t *command)
{
    (void)ctx;
    if (str_eq(json_get_str(command, "execute", ""), "guest-sync-delimited"))
        return sync_answer(command);
    return NULL;
}

static void a_machine_that_dies_is_a_net_error(void **dir)
{
    uint64_t count;

    start(*dir, dies, NULL, "");
    EXPECT_OK(agent_open(path, NULL, &agent, cancel, &err));
    EXPECT_ERR(ERR_NET, agent_freeze(agent, &count, cancel, &err));
}

#define AGENT_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        AGENT_TEST(what_a_former_client_left_behind_is_skipped),
        AGENT_TEST(an_agent_that_starts_late_is_found),
        AGENT_TEST(a_deaf_agent_times_out),
        AGENT_TEST(a_blocked_command_is_unsupported),
        AGENT_TEST(a_programs_output_and_status_come_back),
        AGENT_TEST(addresses_are_those_of_all_cards_but_the_loopback),
        AGENT_TEST(a_machine_that_dies_is_a_net_error),
    };
    return cmocka_run_group_tests_name("agent", tests, NULL, NULL);
}
