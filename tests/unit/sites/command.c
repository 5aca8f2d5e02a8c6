// SPDX-License-Identifier: Apache-2.0
/* Programs at a site. The runner is this program itself, called as `PROGRAM run-command DIR`. */
#include "base/command.h"

#include "base/mem.h"
#include "sites/estate_internal.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#define WAIT_MS 30000

static json_t *asked(const char *id)
{
    return json_pack("{s:s, s:s, s:s}", "group", "db1", "run", "lyon-4", "id", id);
}

static json_t *start_args(const char *id, const char *program, const char *script)
{
    json_t *args = asked(id);

    (void)json_object_set_new(args, "program", json_string(program));
    (void)json_object_set_new(args, "args", json_pack("[s, s]", "-c", script));
    (void)json_object_set_new(args, "env", json_pack("{s:s}", "MUSTER_KIND", "planned"));
    (void)json_object_set_new(args, "within_ms", json_integer(60000));
    return args;
}

static void allow(struct estate *estate, json_t *programs)
{
    estate->config.commands = programs;
}

static json_t *ended(struct site *site, const char *id)
{
    CLEANUP(cancel_freep) struct cancel *wait = cancel_new(NULL, NULL, WAIT_MS);

    for (;;) {
        json_t *seen = estates_ask(site, "command.observe", asked(id));
        if (!str_eq(json_get_str(seen, "state", ""), "running"))
            return seen;
        json_decref(seen);
        EXPECT_OK(cancel_sleep(wait, 5, &err));
    }
}

static void an_allowed_program_is_run_and_its_end_known(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *programs = json_pack("[s]", "/bin/sh");

    allow(e->lyon, programs);
    estates_tell(e->at_lyon, "command.start",
                 start_args("3.1.0", "/bin/sh", "echo $MUSTER_KIND; exit 4"));
    CLEANUP(json_freep) json_t *seen = ended(e->at_lyon, "3.1.0");
    assert_string_equal(json_get_str(seen, "state", ""), "ended");
    assert_int_equal(json_integer_value(json_object_get(seen, "exit_status")), 4);
    assert_string_equal(json_get_str(seen, "output", ""), "planned\n");
    assert_non_null(strstr(json_get_str(seen, "folder", ""), "/lyon/runs/lyon-4/3.1.0"));
}

static void a_program_that_the_config_does_not_name_is_refused(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *programs = json_pack("[s]", "/bin/true");

    EXPECT_ERR(ERR_DENIED, site_ask(e->at_lyon, "command.start",
                                    start_args("3.1.0", "/bin/sh", "true"), NULL, NULL, &err));
    EXPECT_TEXT("lyon does not allow \"/bin/sh\" to be run; hint: commands = { \"/bin/sh\" } in the"
                " config.lua of lyon");
    allow(e->lyon, programs);
    EXPECT_ERR(ERR_DENIED, site_ask(e->at_lyon, "command.start",
                                    start_args("3.1.0", "/bin/sh", "true"), NULL, NULL, &err));
    CLEANUP(json_freep) json_t *seen = ended(e->at_lyon, "3.1.0");
    assert_string_equal(json_get_str(seen, "state", ""), "none");
}

static void a_peer_may_run_what_the_other_site_s_config_allows(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *programs = json_pack("[s]", "/bin/sh");

    EXPECT_ERR(ERR_DENIED, site_ask(e->paris_from_lyon, "command.start",
                                    start_args("3.1.0", "/bin/sh", "true"), NULL, NULL, &err));
    EXPECT_TEXT("paris does not allow");
    allow(e->paris, programs);
    estates_tell(e->paris_from_lyon, "command.start", start_args("3.1.0", "/bin/sh", "true"));
    CLEANUP(json_freep) json_t *seen = ended(e->paris_from_lyon, "3.1.0");
    assert_string_equal(json_get_str(seen, "state", ""), "ended");
    json_t *stranger = start_args("3.2.0", "/bin/sh", "true");
    (void)json_object_set_new(stranger, "group", json_string("web1"));
    EXPECT_ERR(ERR_DENIED,
               site_ask(e->paris_from_lyon, "command.start", stranger, NULL, NULL, &err));
    EXPECT_TEXT("shares no group");
}

static void names_that_are_no_names_make_no_paths(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *programs = json_pack("[s]", "/bin/sh");

    allow(e->lyon, programs);
    EXPECT_ERR(ERR_INVALID, site_ask(e->at_lyon, "command.start",
                                     start_args("../x", "/bin/sh", "true"), NULL, NULL, &err));
    json_t *args = start_args("3.1.0", "/bin/sh", "true");
    (void)json_object_set_new(args, "args", json_pack("[i]", 5));
    EXPECT_ERR(ERR_INVALID, site_ask(e->at_lyon, "command.start", args, NULL, NULL, &err));
}

static void a_stop_ends_a_command(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *programs = json_pack("[s]", "/bin/sh");

    allow(e->lyon, programs);
    estates_tell(e->at_lyon, "command.start", start_args("3.1.0", "/bin/sh", "exec sleep 1000"));
    estates_tell(e->at_lyon, "command.stop", asked("3.1.0"));
    CLEANUP(json_freep) json_t *seen = ended(e->at_lyon, "3.1.0");
    assert_true(json_get_bool(seen, "stopped", false));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(an_allowed_program_is_run_and_its_end_known),
        ESTATES_TEST(a_program_that_the_config_does_not_name_is_refused),
        ESTATES_TEST(a_peer_may_run_what_the_other_site_s_config_allows),
        ESTATES_TEST(names_that_are_no_names_make_no_paths),
        ESTATES_TEST(a_stop_ends_a_command),
    };

    if (argc > 1 && str_eq(argv[1], COMMAND_WORD))
        return command_main(argc, argv);
    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
