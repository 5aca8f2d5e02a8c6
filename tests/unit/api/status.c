// SPDX-License-Identifier: Apache-2.0
/* What is told of a protection whose machine was failed over, from a real state and estate. */
#include "base/clock.h"
#include "base/mem.h"
#include "sites/estate.h"
#include "state/state.h"
#include "support/api/world.h"
#include "support/expect.h"

#define DB1                                                                                   \
    "{\"definition\":{\"name\":\"db1\",\"memory\":\"64MiB\",\"cpus\":1,\"disks\":[{\"path\":" \
    "\"/nowhere/db1.raw\",\"format\":\"raw\"}]}}"

/* db1 runs here, protected to lyon, in that state. */
static void run_db1(struct api_site *site, const char *state)
{
    api_expect(site, "POST", "/v1/machines", DB1, 200, "\"name\":\"db1\"");
    api_expect(site, "POST", "/v1/machines/db1/start", NULL, 200, "");
    api_site_protect(site, "db1", "source", state);
}

static void a_machine_that_still_runs_after_its_failover_is_critical(void **state)
{
    run_db1(*state, "failed-over");
    api_expect(*state, "GET", "/v1/protections", NULL, 200, "\"health\":\"critical\"");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200,
               "runs here although it was failed over to lyon (generation 2): it is there twice\"");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200,
               "\"hint\":\"stop it: `muster machine stop db1 --force`\"");
}

static void what_that_hint_says_mends_it(void **state)
{
    run_db1(*state, "failed-over");
    api_expect(*state, "POST", "/v1/machines/db1/stop", "{\"force\":true}", 200, "");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "\"health\":\"not-applicable\"");
}

static void a_machine_held_for_a_failover_is_a_warning(void **state)
{
    run_db1(*state, "failing-over");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "\"health\":\"warning\"");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "it is not protected meanwhile");
}

static int64_t since_of(struct api_site *site, const char *code)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    const json_t *reason;
    size_t i;

    assert_int_equal(api_ask(site, "GET", "/v1/protections/db1", NULL, &answer), 200);
    json_array_foreach(json_object_get(answer, "health_reasons"), i, reason) {
        if (str_eq(json_get_str(reason, "code", ""), code))
            return (int64_t)json_get_u64(reason, "since_ms", 0);
    }
    return -1;
}

static void what_nobody_dated_is_dated_by_when_it_was_seen_first(void **state)
{
    struct api_site *site = *state;

    api_site_protect(site, "db1", "replica", "protected");
    int64_t first = since_of(site, "replica-unreadable");
    assert_true(first > 0);
    while (clock_real()->wall_ms(clock_real()) <= first + 1)
        ;
    assert_int_equal(since_of(site, "replica-unreadable"), first);
}

static void a_peer_whose_clock_is_off_is_said_as_long_as_it_is(void **state)
{
    struct api_site *site = *state;

    api_site_protect(site, "db1", "replica", "protected");
    estate_clock_note(site->estate, "lyon", ESTATE_CLOCK_APART_MS - 1);
    assert_int_equal(since_of(site, "clocks-apart"), -1);
    estate_clock_note(site->estate, "lyon", ESTATE_CLOCK_APART_MS);
    int64_t since = since_of(site, "clocks-apart");
    assert_true(since > 0);
    estate_clock_note(site->estate, "lyon", 2 * ESTATE_CLOCK_APART_MS);
    assert_int_equal(since_of(site, "clocks-apart"), since);
    estate_clock_note(site->estate, "lyon", 0);
    assert_int_equal(since_of(site, "clocks-apart"), -1);
}

static void a_test_that_is_up_is_said_and_is_no_fault(void **state)
{
    struct api_site *site = *state;
    struct state_instance instance = {
        .run = (char[]){"paris-7"},
        .machine = (char[]){"db1"},
        .test = true,
        .definition = (char[]){"{}"},
        .group = (char[]){"db1"},
        .run_dir = (char[]){"/nowhere"},
        .netns = (char[]){""},
    };

    api_site_protect(site, "db1", "replica", "failed-over");
    EXPECT_OK(state_instance_put(site->state, &instance, &err));
    EXPECT_OK(state_turn_end(site->state, &err));
    api_expect(site, "GET", "/v1/protections/db1", NULL, 200,
               "a test failover of it is up: run paris-7");
    api_expect(site, "GET", "/v1/protections/db1", NULL, 200, "\"health\":\"not-applicable\"");
    api_expect(site, "GET", "/v1/protections/db1", NULL, 200, "\"level\":\"note\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(a_machine_that_still_runs_after_its_failover_is_critical),
        API_TEST(what_that_hint_says_mends_it),
        API_TEST(what_nobody_dated_is_dated_by_when_it_was_seen_first),
        API_TEST(a_peer_whose_clock_is_off_is_said_as_long_as_it_is),
        API_TEST(a_test_that_is_up_is_said_and_is_no_fault),
        API_TEST(a_machine_held_for_a_failover_is_a_warning),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
