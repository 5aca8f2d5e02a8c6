// SPDX-License-Identifier: Apache-2.0
/* Machines recovered from a replica: started, found again, repaired, removed, probed. */
#include "base/fs.h"
#include "base/mem.h"
#include "sites/estate_internal.h"
#include "support/expect.h"
#include "support/sites/estates.h"

static json_t *start_args(const char *run, bool test, int point)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run", run,
                     "test", test, "point", point);
}

/* --- Recovered machines ---------------------------------------------------------------------------- */

static void a_test_copy_starts_from_its_point_in_its_own_network(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    const struct fake_machine *machine = provider_fake_find(&e->fake, "instances/lyon-4-db1");
    assert_non_null(machine);
    assert_int_equal(machine->state, INSTANCE_RUNNING);
    assert_true(machine->isolated);
    assert_int_equal(machine->point, 2);
    assert_non_null(strstr(machine->netns, "muster-t-lyon-4-"));
    assert_non_null(strstr(machine->overlay, "instances/lyon-4-db1/vda.qcow2"));
}

static void starting_twice_starts_once(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->starts, 1);
}

static void a_start_that_failed_is_taken_up_again(void **state)
{
    struct estates *e = *state;

    e->fake.fail = ERR_BUSY;
    EXPECT_ERR(ERR_BUSY, site_ask(e->at_lyon, "instance.start", start_args("lyon-4", true, 2), NULL,
                                  NULL, &err));
    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_lyon, "instance.observe", estates_machine_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "state", ""), "running");
    assert_non_null(json_object_get(json_object_get(seen, "definition"), "memory"));
}

static void the_real_machine_starts_paused_and_then_runs(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", false, 3));
    const struct fake_machine *machine = provider_fake_find(&e->fake, "lyon-4-db1");
    assert_int_equal(machine->state, INSTANCE_RUNNING);
    assert_false(machine->isolated);
    assert_string_equal(machine->netns, "");
    assert_string_equal(machine->network, "bridge lan");
}

static json_t *instance_args(const char *run)
{
    return json_pack("{s:s, s:s}", "machine", "db1", "run", run);
}

static void a_recovered_machine_that_was_stopped_starts_from_what_it_wrote(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/instances/lyon-4-db1", e->root);

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", false, 2));
    estates_tell(e->at_lyon, "instance.shutdown", instance_args("lyon-4"));
    estates_tell(e->at_lyon, "instance.stop", instance_args("lyon-4"));
    const struct fake_machine *machine = provider_fake_find(&e->fake, "lyon-4-db1");
    assert_int_equal(machine->state, INSTANCE_OFF);
    assert_true(fs_exists(dir));
    estates_tell(e->at_lyon, "instance.start", instance_args("lyon-4"));
    assert_int_equal(machine->state, INSTANCE_RUNNING);
    assert_int_equal(machine->starts, 2);
    assert_int_equal(machine->point, 2);
    assert_non_null(strstr(machine->overlay, "instances/lyon-4-db1/vda.qcow2"));
}

static void a_recovered_machine_that_went_on_elsewhere_is_not_started(void **state)
{
    struct estates *e = *state;
    const struct estate_mark retired = {.retired = 3, .by = "paris"};
    const struct estate_mark held = {.held = "paris-7"};

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", false, 2));
    estates_tell(e->at_lyon, "instance.stop", instance_args("lyon-4"));
    EXPECT_OK(estate_mark_write(e->lyon, "db1", &held, &err));
    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_lyon, "instance.start", instance_args("lyon-4"), NULL, NULL, &err));
    EXPECT_TEXT("db1 is held for the failover paris-7");
    err_clear(&err);
    EXPECT_OK(estate_mark_write(e->lyon, "db1", &retired, &err));
    EXPECT_ERR(ERR_FENCED,
               site_ask(e->at_lyon, "instance.start", instance_args("lyon-4"), NULL, NULL, &err));
    EXPECT_TEXT("started here, too, it would be there twice");
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->state, INSTANCE_OFF);
    estates_tell(e->at_lyon, "instance.start", start_args("lyon-9", true, 2)); /* a test may */
}

static void what_has_no_replica_any_more_is_unpinned_already(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "group.unpin",
                 json_pack("{s:s, s:s}", "group", "web9", "run", "lyon-4"));
}

static void a_mark_goes_with_its_machine(void **state)
{
    struct estates *e = *state;
    const struct estate_mark retired = {.retired = 3, .by = "paris"};

    EXPECT_OK(estate_mark_write(e->lyon, "db1", &retired, &err));
    EXPECT_ERR(ERR_FENCED, estate_may_start(e->lyon, "db1", &err));
    err_clear(&err);
    EXPECT_OK(estate_mark_clear(e->lyon, "db1", &err));
    EXPECT_OK(estate_may_start(e->lyon, "db1", &err));
}

static void a_recovered_machine_that_is_gone_is_not_made_anew(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_NOT_FOUND,
               site_ask(e->at_lyon, "instance.start", instance_args("lyon-4"), NULL, NULL, &err));
    EXPECT_ERR(ERR_NOT_FOUND,
               site_ask(e->at_lyon, "instance.stop", instance_args("lyon-4"), NULL, NULL, &err));
    assert_null(provider_fake_find(&e->fake, "lyon-4-db1"));
}

static void a_recovered_machine_that_is_off_stays_off_over_a_restart(void **state)
{
    struct estates *e = *state;
    uint32_t repaired;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", false, 2));
    estates_tell(e->at_lyon, "instance.stop", instance_args("lyon-4"));
    EXPECT_OK(estate_repair(e->lyon, &repaired, NULL, &err));
    assert_int_equal(repaired, 0);
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->state, INSTANCE_OFF);
}

static void a_point_that_is_not_there_starts_nothing(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_NOT_FOUND, site_ask(e->at_lyon, "instance.start", start_args("lyon-4", true, 9),
                                       NULL, NULL, &err));
    assert_null(provider_fake_find(&e->fake, "lyon-4-db1"));
}

static void removing_leaves_no_folder_and_can_be_repeated(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/instances/lyon-4-db1", e->root);

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    assert_true(fs_exists(dir));
    estates_tell(e->at_lyon, "instance.remove", estates_machine_args("lyon-4"));
    estates_tell(e->at_lyon, "instance.remove", estates_machine_args("lyon-4"));
    assert_false(fs_exists(dir));
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->stops, 1);
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_lyon, "instance.observe", estates_machine_args("lyon-4"));
    assert_false(json_get_bool(seen, "exists", true));
}

static void what_a_test_leaves_is_listed(void **state)
{
    struct estates *e = *state;
    json_t *run = json_pack("{s:s}", "run", "lyon-4");

    estates_tell(e->at_lyon, "group.pin",
                 json_pack("{s:s, s:s, s:i}", "group", "db1", "run", "lyon-4", "point", 2));
    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    CLEANUP(json_freep)
    json_t *found = estates_ask(e->at_lyon, "instance.leftovers", json_incref(run));
    assert_int_equal(json_array_size(json_object_get(found, "left")), 3); /* folder, file, point */
    estates_tell(e->at_lyon, "instance.remove", estates_machine_args("lyon-4"));
    estates_tell(e->at_lyon, "group.unpin", estates_group_args("lyon-4"));
    CLEANUP(json_freep) json_t *after = estates_ask(e->at_lyon, "instance.leftovers", run);
    assert_int_equal(json_array_size(json_object_get(after, "left")), 0);
}

static void leftovers_of_run_1_are_not_those_of_run_12(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-12", true, 2));
    CLEANUP(json_freep)
    json_t *found =
        estates_ask(e->at_lyon, "instance.leftovers", json_pack("{s:s}", "run", "lyon-1"));
    assert_int_equal(json_array_size(json_object_get(found, "left")), 0);
}

static void a_restarted_daemon_repairs_what_runs(void **state)
{
    struct estates *e = *state;
    uint32_t repaired;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    provider_fake_find(&e->fake, "lyon-4-db1")->state = INSTANCE_IO_ERROR;
    EXPECT_OK(estate_repair(e->lyon, &repaired, NULL, &err));
    assert_int_equal(repaired, 1);
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->state, INSTANCE_RUNNING);
}

static void one_that_cannot_be_repaired_keeps_nobody_else_from_it_and_is_told(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep)
    char *file = mem_printf("%s/lyon/instances/lyon-1-db1/instance.json", e->root);
    CLEANUP(mem_freep) char *empty = mem_printf("%s/lyon/instances/lyon-9-db1", e->root);
    uint32_t repaired;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-1", true, 2));
    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    EXPECT_OK(fs_replace_file(fs_real(), file, "{", 1, 0600, &err));
    EXPECT_OK(fs_make_dirs(fs_real(), empty, 0700, &err)); /* nothing was started in it yet */
    provider_fake_find(&e->fake, "lyon-4-db1")->state = INSTANCE_IO_ERROR;
    assert_int_equal(estate_repair(e->lyon, &repaired, NULL, &err), -1);
    EXPECT_TEXT("lyon-1-db1/instance.json");
    assert_int_equal(repaired, 1);
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->state, INSTANCE_RUNNING);
}

static void a_name_with_a_slash_is_refused(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_INVALID, site_ask(e->at_lyon, "instance.remove",
                                     json_pack("{s:s, s:s}", "machine", "../db1", "run", "x"), NULL,
                                     NULL, &err));
}

/* --- Probes ------------------------------------------------------------------------------------------ */

static void probes_tell_what_the_provider_says(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    e->fake.agent = 1;
    e->fake.console = "READY 3.5\n";
    json_t *args = estates_machine_args("lyon-4");
    CLEANUP(json_freep) json_t *agent = estates_ask(e->at_lyon, "probe.agent", json_incref(args));
    (void)json_object_set_new(args, "text", json_string("READY"));
    CLEANUP(json_freep) json_t *shown = estates_ask(e->at_lyon, "probe.console", json_incref(args));
    (void)json_object_set_new(args, "text", json_string("PANIC"));
    CLEANUP(json_freep) json_t *hidden = estates_ask(e->at_lyon, "probe.console", args);
    assert_true(json_get_bool(agent, "answer", false));
    assert_true(json_get_bool(shown, "answer", false));
    assert_false(json_get_bool(hidden, "answer", true));
}

static void a_machine_that_was_not_started_cannot_be_probed(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_NOT_FOUND, site_ask(e->at_lyon, "probe.agent", estates_machine_args("lyon-4"),
                                       NULL, NULL, &err));
    EXPECT_TEXT("db1 was not started by run lyon-4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(a_test_copy_starts_from_its_point_in_its_own_network),
        ESTATES_TEST(starting_twice_starts_once),
        ESTATES_TEST(a_start_that_failed_is_taken_up_again),
        ESTATES_TEST(the_real_machine_starts_paused_and_then_runs),
        ESTATES_TEST(a_recovered_machine_that_was_stopped_starts_from_what_it_wrote),
        ESTATES_TEST(a_recovered_machine_that_went_on_elsewhere_is_not_started),
        ESTATES_TEST(what_has_no_replica_any_more_is_unpinned_already),
        ESTATES_TEST(a_mark_goes_with_its_machine),
        ESTATES_TEST(a_recovered_machine_that_is_gone_is_not_made_anew),
        ESTATES_TEST(a_recovered_machine_that_is_off_stays_off_over_a_restart),
        ESTATES_TEST(a_point_that_is_not_there_starts_nothing),
        ESTATES_TEST(removing_leaves_no_folder_and_can_be_repeated),
        ESTATES_TEST(what_a_test_leaves_is_listed),
        ESTATES_TEST(leftovers_of_run_1_are_not_those_of_run_12),
        ESTATES_TEST(a_restarted_daemon_repairs_what_runs),
        ESTATES_TEST(one_that_cannot_be_repaired_keeps_nobody_else_from_it_and_is_told),
        ESTATES_TEST(a_name_with_a_slash_is_refused),
        ESTATES_TEST(probes_tell_what_the_provider_says),
        ESTATES_TEST(a_machine_that_was_not_started_cannot_be_probed),
    };
    return cmocka_run_group_tests_name("site_instance", tests, NULL, NULL);
}
