// SPDX-License-Identifier: Apache-2.0
/* What is told of a protection whose machine was failed over, from a real state and estate. */
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
               "runs here although it was failed over to lyon (generation 2): it is there twice; "
               "stop it: `muster machine stop db1 --force`");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(a_machine_that_still_runs_after_its_failover_is_critical),
        API_TEST(what_that_hint_says_mends_it),
        API_TEST(a_machine_held_for_a_failover_is_a_warning),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
