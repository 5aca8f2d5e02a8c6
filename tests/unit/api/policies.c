// SPDX-License-Identifier: Apache-2.0
/* Named policies as whoever uses them sees them: over the API, with real state and jobs. */
#include "run/policies.h"
#include "base/mem.h"
#include "support/api/world.h"
#include "support/expect.h"

/* A source's row whose settings are of that policy, with a keep of its own. */
static void put_user(struct api_site *site, const char *name, const char *policy)
{
    struct state_protection row;
    struct job_settings settings;
    CLEANUP(json_freep) json_t *own = json_pack("{s:i}", "keep", 7);

    api_site_protect(site, name, "source", "protected");
    EXPECT_OK(policies_settings(site->state, policy, own, &settings, &err));
    EXPECT_OK(state_protection_get(site->state, name, &row, &err));
    EXPECT_OK(job_settings_change(&row.settings, &settings, &err));
    EXPECT_OK(state_protection_put(site->state, &row, &err));
    EXPECT_OK(state_turn_end(site->state, &err));
    state_protection_done(&row);
}

static void settings_of(struct api_site *site, const char *name, struct job_settings *ret_settings)
{
    struct state_protection row;

    EXPECT_OK(state_protection_get(site->state, name, &row, &err));
    EXPECT_OK(job_settings_parse(row.settings, ret_settings, &err));
    state_protection_done(&row);
}

static void the_built_in_policy_is_always_there(void **state)
{
    api_expect(*state, "GET", "/v1/policies", NULL, 200, "\"name\":\"default\"");
    api_expect(*state, "GET", "/v1/policies/default", NULL, 200, "\"interval_ms\":15000");
    api_expect(*state, "DELETE", "/v1/policies/default", NULL, 409, "always there");
    api_expect(*state, "POST", "/v1/policies", "{\"name\":\"default\"}", 409, "already");
    api_expect(*state, "PUT", "/v1/policies/default", "{\"interval_ms\":30000}", 200,
               "\"interval_ms\":30000");
    api_expect(*state, "GET", "/v1/policies/default", NULL, 200, "\"interval_ms\":30000");
    api_expect(*state, "DELETE", "/v1/policies/default", NULL, 409, "always there");
}

static void a_policy_is_made_listed_changed_and_removed(void **state)
{
    api_expect(*state, "POST", "/v1/policies", "{\"name\":\"gold\",\"interval_ms\":5000}", 200,
               "\"interval_ms\":5000");
    api_expect(*state, "POST", "/v1/policies", "{\"name\":\"gold\"}", 409,
               "muster policy change gold");
    api_expect(*state, "GET", "/v1/policies", NULL, 200, "\"name\":\"gold\"");
    api_expect(*state, "PUT", "/v1/policies/gold", "{\"retention\":\"1h for 2d\"}", 200,
               "\"retention\":\"1h for 2d\"");
    api_expect(*state, "GET", "/v1/policies/gold", NULL, 200, "\"interval_ms\":5000");
    api_expect(*state, "GET", "/v1/policies/glod", NULL, 404, "did you mean \\\"gold\\\"?");
    api_expect(*state, "DELETE", "/v1/policies/gold", NULL, 200, "{}");
    api_expect(*state, "GET", "/v1/policies/gold", NULL, 404, "no policy");
    api_expect(*state, "GET", "/v1/audit", NULL, 200, "\"act\":\"policy.add\"");
    api_expect(*state, "GET", "/v1/audit", NULL, 200, "\"act\":\"policy.change\"");
    api_expect(*state, "GET", "/v1/audit", NULL, 200, "\"act\":\"policy.remove\"");
}

static void impossible_values_and_unknown_fields_are_refused_by_name(void **state)
{
    static const char *const wrong[][2] = {
        {"{\"name\":\"gold\",\"interval_ms\":999}", "1000 (1.0 s)"},
        {"{\"name\":\"gold\",\"intervall_ms\":1000}", "did you mean \\\"interval_ms\\\"?"},
        {"{\"name\":\"gold\",\"rpo_ms\":1000}", "cannot be met by a point every 15.0 s"},
        {"{\"name\":\"gold\",\"keep\":10001}", "1 to 10000"},
        {"{\"name\":\"gold\",\"throttle\":\"1KiB\"}", "throttle"},
        {"{\"name\":\"gold\",\"copy_start\":7}", "must be a text"},
        {"{\"name\":\"Gold\"}", "must be a name"},
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        api_expect(*state, "POST", "/v1/policies", wrong[i][0], 400, wrong[i][1]);
    api_expect(*state, "GET", "/v1/policies/gold", NULL, 404, "no policy");
}

static void a_changed_policy_changes_its_users_and_leaves_what_is_theirs(void **state)
{
    struct job_settings settings;

    api_expect(*state, "POST", "/v1/policies", "{\"name\":\"gold\",\"interval_ms\":5000}", 200, "");
    put_user(*state, "db1", "gold");
    put_user(*state, "db2", "default");
    api_expect(*state, "GET", "/v1/policies/gold", NULL, 200, "\"machines\":[\"db1\"]");
    api_expect(*state, "GET", "/v1/policies/gold", NULL, 200, "\"own\":{\"db1\":[\"keep\"]}");
    api_expect(*state, "PUT", "/v1/policies/gold", "{\"interval_ms\":60000,\"keep\":99}", 200,
               "\"changed\":[\"db1\"]");
    settings_of(*state, "db1", &settings);
    assert_int_equal(settings.policy.interval_ms, 60000);
    assert_int_equal(settings.policy.retention.keep, 7);
    settings_of(*state, "db2", &settings);
    assert_int_equal(settings.policy.interval_ms, 15000);
    api_expect(*state, "GET", "/v1/jobs", NULL, 200, "\"kind\":\"copy-settings\"");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "\"policy\":\"gold\"");
    api_expect(*state, "GET", "/v1/protections/db1", NULL, 200, "\"overrides\":[\"keep\"]");
}

static void a_change_that_one_user_cannot_take_changes_nothing(void **state)
{
    struct job_settings settings;

    put_user(*state, "db1", "default");
    api_expect(*state, "PUT", "/v1/policies/default",
               "{\"encryption\":\"at-rest\",\"interval_ms\":5000}", 409, "used by db1");
    api_expect(*state, "GET", "/v1/policies/default", NULL, 200, "\"interval_ms\":15000");
    settings_of(*state, "db1", &settings);
    assert_int_equal(settings.policy.interval_ms, 15000);
}

static void a_used_policy_is_not_removed(void **state)
{
    api_expect(*state, "POST", "/v1/policies", "{\"name\":\"gold\"}", 200, "");
    put_user(*state, "db1", "gold");
    put_user(*state, "db2", "gold");
    api_expect(*state, "DELETE", "/v1/policies/gold", NULL, 409, "gold is used by db1, db2");
}

static void a_protection_wants_a_policy_that_is_there(void **state)
{
    api_expect(*state, "POST", "/v1/protections",
               "{\"machine\":\"db1\",\"peer\":\"lyon\",\"policy\":\"gold\"}", 404,
               "no policy \\\"gold\\\"");
}

static void protecting_can_be_looked_at_first_and_changes_nothing(void **state)
{
    api_expect(*state, "POST", "/v1/machines",
               "{\"definition\":{\"name\":\"db1\",\"memory\":\"64MiB\",\"disks\":[{\"path\":"
               "\"/nowhere/db1.raw\",\"format\":\"raw\"}]}}",
               200, "");
    api_expect(*state, "POST", "/v1/protections/check", "{\"machine\":\"db1\",\"peer\":\"lyon\"}",
               200, "\"failed\":3");
    api_expect(*state, "POST", "/v1/protections/check", "{\"machine\":\"db1\",\"peer\":\"lyon\"}",
               200, "\"what\":\"room for staging\"");
    api_expect(*state, "GET", "/v1/jobs", NULL, 200, "{\"jobs\":[]}");
    api_expect(*state, "GET", "/v1/protections", NULL, 200, "{\"protections\":[]}");
    api_expect(*state, "POST", "/v1/protections/check", "{\"machine\":\"db2\",\"peer\":\"lyon\"}",
               404, "db2");
}

/* --- The rows' own --------------------------------------------------------------------------- */

static void resettle(struct api_site *site, const char *policy, const char *fields,
                     const char *reset, struct job_settings *settings)
{
    CLEANUP(json_freep) json_t *in = json_loads(fields, 0, NULL);
    CLEANUP(json_freep) json_t *words = json_loads(reset, 0, NULL);

    EXPECT_OK(policies_resettle(site->state, "db1", policy, in, words, settings, &err));
}

static void a_setting_is_a_machines_own_until_it_is_given_back(void **state)
{
    struct api_site *site = *state;
    struct job_settings settings;

    api_expect(site, "POST", "/v1/policies", "{\"name\":\"gold\",\"interval_ms\":5000}", 200, "");
    put_user(site, "db1", "default");
    settings_of(site, "db1", &settings);
    resettle(site, "gold", "{\"rpo_ms\":60000}", "[]", &settings);
    assert_string_equal(settings.policy_name, "gold");
    assert_int_equal(settings.policy.interval_ms, 5000);
    assert_int_equal(settings.policy.retention.keep, 7);
    assert_int_equal(settings.policy.rpo_ms, 60000);
    resettle(site, NULL, "{}", "[\"keep\"]", &settings);
    assert_int_equal(settings.policy.retention.keep, 24);
    assert_int_equal(settings.policy.rpo_ms, 60000);
    resettle(site, NULL, "{}", "[\"all\"]", &settings);
    assert_int_equal(settings.policy.rpo_ms, 0);
    assert_int_equal(settings.overrides, 0);
}

static void what_is_no_setting_cannot_be_given_back(void **state)
{
    struct api_site *site = *state;
    struct job_settings settings;
    CLEANUP(json_freep) json_t *none = json_object();
    CLEANUP(json_freep) json_t *words = json_pack("[s]", "colour");

    EXPECT_OK(policies_settings(site->state, "", none, &settings, &err));
    EXPECT_ERR(ERR_INVALID,
               policies_resettle(site->state, "db1", NULL, none, words, &settings, &err));
    assert_non_null(strstr(err.text, "\"colour\" is no setting"));
}

static void encryption_stays_as_it_was_when_it_was_protected(void **state)
{
    struct api_site *site = *state;
    struct job_settings settings;
    CLEANUP(json_freep) json_t *none = json_object();
    CLEANUP(json_freep) json_t *at_rest = json_pack("{s:s}", "encryption", "at-rest");
    CLEANUP(json_freep) json_t *words = json_array();

    EXPECT_OK(policies_settings(site->state, "", none, &settings, &err));
    EXPECT_ERR(ERR_STATE,
               policies_resettle(site->state, "db1", NULL, at_rest, words, &settings, &err));
    assert_non_null(strstr(err.text, "muster unprotect db1"));
}

static void a_row_of_before_there_were_policies_keeps_what_it_had(void **state)
{
    struct job_settings settings;

    (void)state;
    EXPECT_OK(job_settings_parse("{\"interval_ms\":5000,\"keep\":24,\"compression\":\"zstd\"}",
                                 &settings, &err));
    assert_string_equal(settings.policy_name, "default");
    assert_int_equal(settings.overrides, 1);
    assert_int_equal(settings.policy.interval_ms, 5000);
}

static void a_policy_nobody_knows_here_changes_nothing(void **state)
{
    struct api_site *site = *state;
    struct job_settings settings;

    EXPECT_OK(job_settings_parse("{\"policy\":\"of-lyon\",\"interval_ms\":5000}", &settings, &err));
    EXPECT_OK(policies_renew(site->state, &settings, &err));
    assert_int_equal(settings.policy.interval_ms, 5000);
    resettle(site, NULL, "{\"keep\":3}", "[]", &settings);
    assert_int_equal(settings.policy.interval_ms, 5000);
    assert_int_equal(settings.policy.retention.keep, 3);
}

static void a_policy_that_comes_with_a_machine_is_made_of_what_is_not_its_own(void **state)
{
    struct api_site *site = *state;
    struct job_settings settings;
    struct policy policy;

    EXPECT_OK(job_settings_parse("{\"policy\":\"gold\",\"interval_ms\":5000,\"keep\":7,"
                                 "\"rpo_ms\":60000,\"overrides\":[\"keep\"]}",
                                 &settings, &err));
    const struct job_settings before = settings;
    EXPECT_OK(policies_arrive(site->state, &settings, 1000, &err));
    assert_true(policy_equal(&settings.policy, &before.policy));
    EXPECT_OK(policies_get(site->state, "gold", &policy, &err));
    assert_int_equal(policy.interval_ms, 5000);
    assert_int_equal(policy.rpo_ms, 60000);
    assert_int_equal(policy.retention.keep, 24);
    assert_int_equal(settings.overrides, before.overrides);
    /* The same again is the same. */
    EXPECT_OK(policies_arrive(site->state, &settings, 2000, &err));
    assert_true(job_settings_equal(&settings, &before));
}

static void a_policy_of_that_name_stays_and_what_differs_is_the_machines_own(void **state)
{
    struct api_site *site = *state;
    struct job_settings settings;
    struct policy policy;

    api_expect(site, "POST", "/v1/policies", "{\"name\":\"gold\",\"interval_ms\":30000}", 200, "");
    EXPECT_OK(job_settings_parse("{\"policy\":\"gold\",\"interval_ms\":5000,\"keep\":24,"
                                 "\"overrides\":[]}",
                                 &settings, &err));
    EXPECT_OK(policies_arrive(site->state, &settings, 1000, &err));
    assert_int_equal(settings.policy.interval_ms, 5000);
    EXPECT_OK(policies_get(site->state, "gold", &policy, &err));
    assert_int_equal(policy.interval_ms, 30000);
    CLEANUP(json_freep) json_t *own = job_overrides_json(settings.overrides);
    CLEANUP(mem_freep) char *text = json_text(own);
    assert_string_equal(text, "[\"interval_ms\"]");
    resettle(site, NULL, "{}", "[\"interval\"]", &settings);
    assert_int_equal(settings.policy.interval_ms, 30000);
}

/* Settings that contradict each other without what is its own are taken as they are. */
static void a_policy_that_could_not_hold_alone_is_made_with_what_is_the_machines_own(void **state)
{
    struct api_site *site = *state;
    struct job_settings settings;
    struct policy policy;

    EXPECT_OK(job_settings_parse("{\"policy\":\"fast\",\"interval_ms\":1000,\"rpo_ms\":3000,"
                                 "\"overrides\":[\"interval_ms\"]}",
                                 &settings, &err));
    EXPECT_OK(policies_arrive(site->state, &settings, 1000, &err));
    EXPECT_OK(policies_get(site->state, "fast", &policy, &err));
    EXPECT_OK(policy_check(&policy, &err));
    assert_int_equal(policy.interval_ms, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(the_built_in_policy_is_always_there),
        API_TEST(a_policy_is_made_listed_changed_and_removed),
        API_TEST(impossible_values_and_unknown_fields_are_refused_by_name),
        API_TEST(a_changed_policy_changes_its_users_and_leaves_what_is_theirs),
        API_TEST(a_change_that_one_user_cannot_take_changes_nothing),
        API_TEST(a_used_policy_is_not_removed),
        API_TEST(a_protection_wants_a_policy_that_is_there),
        API_TEST(protecting_can_be_looked_at_first_and_changes_nothing),
        API_TEST(a_setting_is_a_machines_own_until_it_is_given_back),
        API_TEST(what_is_no_setting_cannot_be_given_back),
        API_TEST(encryption_stays_as_it_was_when_it_was_protected),
        API_TEST(a_row_of_before_there_were_policies_keeps_what_it_had),
        API_TEST(a_policy_nobody_knows_here_changes_nothing),
        API_TEST(a_policy_that_comes_with_a_machine_is_made_of_what_is_not_its_own),
        API_TEST(a_policy_of_that_name_stays_and_what_differs_is_the_machines_own),
        API_TEST(a_policy_that_could_not_hold_alone_is_made_with_what_is_the_machines_own),
    };
    return cmocka_run_group_tests_name("policies", tests, NULL, NULL);
}
