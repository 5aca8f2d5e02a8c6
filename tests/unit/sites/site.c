// SPDX-License-Identifier: Apache-2.0
#include "sites/site.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sites/estates.h"

static json_t *group_args(const char *run)
{
    return json_pack("{s:s, s:s}", "group", "db1", "run", run);
}

static json_t *start_args(const char *run, bool test, int point)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run", run,
                     "test", test, "point", point);
}

static json_t *machine_args(const char *run)
{
    return json_pack("{s:s, s:s, s:b}", "machine", "db1", "run", run, "test", 1);
}

static void tell(struct site *site, const char *what, json_t *args)
{
    json_decref(estates_ask(site, what, args));
}

/* --- Recovered machines ---------------------------------------------------------------------------- */

static void a_test_copy_starts_from_its_point_in_its_own_network(void **state)
{
    struct estates *e = *state;

    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
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

    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->starts, 1);
}

static void a_start_that_failed_is_taken_up_again(void **state)
{
    struct estates *e = *state;

    e->fake.fail = ERR_BUSY;
    EXPECT_ERR(ERR_BUSY, site_ask(e->at_lyon, "instance.start", start_args("lyon-4", true, 2), NULL,
                                  NULL, &err));
    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_lyon, "instance.observe", machine_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "state", ""), "running");
    assert_non_null(json_object_get(json_object_get(seen, "definition"), "memory"));
}

static void the_real_machine_starts_paused_and_then_runs(void **state)
{
    struct estates *e = *state;

    tell(e->at_lyon, "instance.start", start_args("lyon-4", false, 3));
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

    tell(e->at_lyon, "instance.start", start_args("lyon-4", false, 2));
    tell(e->at_lyon, "instance.shutdown", instance_args("lyon-4"));
    tell(e->at_lyon, "instance.stop", instance_args("lyon-4"));
    const struct fake_machine *machine = provider_fake_find(&e->fake, "lyon-4-db1");
    assert_int_equal(machine->state, INSTANCE_OFF);
    assert_true(fs_exists(dir));
    tell(e->at_lyon, "instance.start", instance_args("lyon-4"));
    assert_int_equal(machine->state, INSTANCE_RUNNING);
    assert_int_equal(machine->starts, 2);
    assert_int_equal(machine->point, 2);
    assert_non_null(strstr(machine->overlay, "instances/lyon-4-db1/vda.qcow2"));
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

    tell(e->at_lyon, "instance.start", start_args("lyon-4", false, 2));
    tell(e->at_lyon, "instance.stop", instance_args("lyon-4"));
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

    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    assert_true(fs_exists(dir));
    tell(e->at_lyon, "instance.remove", machine_args("lyon-4"));
    tell(e->at_lyon, "instance.remove", machine_args("lyon-4"));
    assert_false(fs_exists(dir));
    assert_int_equal(provider_fake_find(&e->fake, "lyon-4-db1")->stops, 1);
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_lyon, "instance.observe", machine_args("lyon-4"));
    assert_false(json_get_bool(seen, "exists", true));
}

static void what_a_test_leaves_is_listed(void **state)
{
    struct estates *e = *state;
    json_t *run = json_pack("{s:s}", "run", "lyon-4");

    tell(e->at_lyon, "group.pin",
         json_pack("{s:s, s:s, s:i}", "group", "db1", "run", "lyon-4", "point", 2));
    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    CLEANUP(json_freep)
    json_t *found = estates_ask(e->at_lyon, "instance.leftovers", json_incref(run));
    assert_int_equal(json_array_size(json_object_get(found, "left")), 3); /* folder, file, point */
    tell(e->at_lyon, "instance.remove", machine_args("lyon-4"));
    tell(e->at_lyon, "group.unpin", group_args("lyon-4"));
    CLEANUP(json_freep) json_t *after = estates_ask(e->at_lyon, "instance.leftovers", run);
    assert_int_equal(json_array_size(json_object_get(after, "left")), 0);
}

static void leftovers_of_run_1_are_not_those_of_run_12(void **state)
{
    struct estates *e = *state;

    tell(e->at_lyon, "instance.start", start_args("lyon-12", true, 2));
    CLEANUP(json_freep)
    json_t *found =
        estates_ask(e->at_lyon, "instance.leftovers", json_pack("{s:s}", "run", "lyon-1"));
    assert_int_equal(json_array_size(json_object_get(found, "left")), 0);
}

static void a_restarted_daemon_repairs_what_runs(void **state)
{
    struct estates *e = *state;
    uint32_t repaired;

    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    provider_fake_find(&e->fake, "lyon-4-db1")->state = INSTANCE_IO_ERROR;
    EXPECT_OK(estate_repair(e->lyon, &repaired, NULL, &err));
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

    tell(e->at_lyon, "instance.start", start_args("lyon-4", true, 2));
    e->fake.agent = 1;
    e->fake.console = "READY 3.5\n";
    json_t *args = machine_args("lyon-4");
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

    EXPECT_ERR(ERR_NOT_FOUND,
               site_ask(e->at_lyon, "probe.agent", machine_args("lyon-4"), NULL, NULL, &err));
    EXPECT_TEXT("db1 was not started by run lyon-4");
}

/* --- The replica --------------------------------------------------------------------------------------- */

static void a_replica_tells_its_points_and_their_age(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *seen = NULL;

    clock_fake_advance(&e->clock, 5000);
    seen = estates_ask(e->at_lyon, "group.observe", group_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "role", ""), "replica");
    assert_int_equal(json_get_u64(seen, "durable_point", 0), 3);
    assert_int_equal(json_get_u64(seen, "durable_age_ms", 0), 12000);
    assert_true(json_is_null(json_object_get(seen, "pinned")));
}

static json_t *points_args(int before)
{
    return json_pack("{s:s, s:i}", "group", "db1", "before", before);
}

static uint64_t point_at(const json_t *answer, size_t index)
{
    return json_get_u64(json_array_get(json_object_get(answer, "points"), index), "point", 0);
}

static void points_are_listed_newest_first_and_below_a_number(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *all = estates_ask(e->at_lyon, "group.points", points_args(0));
    CLEANUP(json_freep) json_t *older = estates_ask(e->at_lyon, "group.points", points_args(3));

    assert_int_equal(json_array_size(json_object_get(all, "points")), 3);
    assert_int_equal(point_at(all, 0), 3);
    assert_int_equal(point_at(all, 2), 1);
    assert_false(json_get_bool(all, "more", true));
    assert_int_equal(json_array_size(json_object_get(older, "points")), 2);
    assert_int_equal(point_at(older, 0), 2);
}

static void both_sites_tell_the_same_points(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *here = estates_ask(e->at_lyon, "group.points", points_args(0));

    e->lyon_answers = true;
    CLEANUP(json_freep)
    json_t *there = estates_ask(e->lyon_from_paris, "group.points", points_args(0));
    assert_true(json_equal(here, there));
    EXPECT_ERR(ERR_NOT_FOUND,
               site_ask(e->at_paris, "group.points", points_args(0), NULL, NULL, &err));
}

static void a_pin_names_its_point(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep)
    json_t *pin =
        estates_ask(e->at_lyon, "group.pin",
                    json_pack("{s:s, s:s, s:i}", "group", "db1", "run", "lyon-4", "point", 0));
    assert_int_equal(json_get_u64(pin, "point", 0), 3);
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_lyon, "group.observe", group_args("lyon-4"));
    assert_int_equal(json_get_u64(json_object_get(seen, "pinned"), "point", 0), 3);
    tell(e->at_lyon, "group.unpin", group_args("lyon-4"));
    tell(e->at_lyon, "group.unpin", group_args("lyon-4"));
}

static json_t *promote_args(const char *run, int expected)
{
    return json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", run, "point", 0, "expected",
                     expected);
}

static void promoting_twice_by_one_run_raises_once(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep)
    json_t *first = estates_ask(e->at_lyon, "group.promote", promote_args("lyon-4", 1));
    CLEANUP(json_freep)
    json_t *second = estates_ask(e->at_lyon, "group.promote", promote_args("lyon-4", 1));

    assert_int_equal(json_get_u64(first, "generation", 0), 2);
    assert_int_equal(json_get_u64(first, "point", 0), 3);
    assert_true(json_equal(first, second));
    EXPECT_ERR(ERR_FENCED,
               site_ask(e->at_lyon, "group.promote", promote_args("lyon-5", 1), NULL, NULL, &err));
}

/* --- The source ------------------------------------------------------------------------------------------ */

static void a_hold_survives_a_restart_and_ends_with_its_release(void **state)
{
    struct estates *e = *state;

    tell(e->at_paris, "group.hold", group_args("lyon-4"));
    estates_restart_paris(e);
    CLEANUP(json_freep)
    json_t *held = estates_ask(e->at_paris, "group.observe", group_args("lyon-4"));
    assert_string_equal(json_get_str(held, "held", ""), "lyon-4");
    assert_string_equal(json_get_str(held, "state", ""), "paused");
    tell(e->at_paris, "group.release", group_args("lyon-5")); /* another's: nothing */
    tell(e->at_paris, "group.release", group_args("lyon-4"));
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_paris, "group.observe", group_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "held", "?"), "");
    assert_string_equal(e->told, "db1 released 0");
}

static void two_failovers_do_not_hold_one_group(void **state)
{
    struct estates *e = *state;

    tell(e->at_paris, "group.hold", group_args("lyon-4"));
    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_paris, "group.hold", group_args("lyon-9"), NULL, NULL, &err));
    EXPECT_TEXT("held for the failover lyon-4");
}

static void a_held_machine_is_not_started(void **state)
{
    struct estates *e = *state;

    tell(e->at_paris, "group.hold", group_args("lyon-4"));
    EXPECT_ERR(ERR_STATE, estate_may_start(e->paris, "db1", &err));
    tell(e->at_paris, "group.release", group_args("lyon-4"));
    EXPECT_OK(estate_may_start(e->paris, "db1", &err));
}

static void a_retired_machine_is_stopped_and_never_starts_again(void **state)
{
    struct estates *e = *state;
    json_t *args = group_args("lyon-4");

    tell(e->at_paris, "machine.start", machine_args("lyon-4"));
    (void)json_object_set_new(args, "generation", json_integer(2));
    tell(e->at_paris, "group.retire", args);
    assert_int_equal(provider_fake_find(&e->fake, "machines/db1")->state, INSTANCE_OFF);
    estates_restart_paris(e);
    EXPECT_ERR(ERR_FENCED,
               site_ask(e->at_paris, "machine.start", machine_args("lyon-4"), NULL, NULL, &err));
    EXPECT_TEXT("failed over to lyon (generation 2)");
    EXPECT_ERR(ERR_FENCED,
               site_ask(e->at_paris, "group.release", group_args("lyon-4"), NULL, NULL, &err));
}

static void shutdown_keeps_the_process_and_start_brings_it_back(void **state)
{
    struct estates *e = *state;

    tell(e->at_paris, "machine.start", machine_args("lyon-4"));
    tell(e->at_paris, "machine.shutdown", machine_args("lyon-4"));
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_paris, "machine.observe", machine_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "state", ""), "shutdown");
    tell(e->at_paris, "machine.start", machine_args("lyon-4"));
    assert_int_equal(provider_fake_find(&e->fake, "machines/db1")->state, INSTANCE_RUNNING);
}

static uint32_t shutdowns_of(struct provider_fake *fake)
{
    (void)pthread_mutex_lock(&fake->lock);
    uint32_t count = fake->shutdowns;
    (void)pthread_mutex_unlock(&fake->lock);
    return count;
}

/* The power button was pressed three times: now somebody pulls the plug. */
static void *pull_the_plug(void *ctx)
{
    struct estates *e = ctx;
    struct err none = ERR_EMPTY;

    while (shutdowns_of(&e->fake) < 3)
        clock_fake_advance(&e->clock, 100);
    if (site_ask(e->at_paris, "machine.stop", machine_args("lyon-4"), NULL, NULL, &none) < 0)
        fail_msg("%s", none.text);
    clock_fake_advance(&e->clock, 1000); /* for its next look */
    return NULL;
}

static void a_guest_that_ignores_its_shutdown_can_be_stopped_meanwhile(void **state)
{
    struct estates *e = *state;
    pthread_t thread;
    struct err over = ERR_EMPTY;

    tell(e->at_paris, "machine.start", machine_args("lyon-4"));
    e->fake.stubborn = true;
    assert_int_equal(pthread_create(&thread, NULL, pull_the_plug, e), 0);
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(NULL, NULL, 60000);
    int rc = site_ask(e->at_paris, "machine.shutdown", machine_args("lyon-4"), NULL, cancel, &over);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(rc, 0);
    assert_true(shutdowns_of(&e->fake) >= 3);
    assert_int_equal(provider_fake_find(&e->fake, "machines/db1")->stops, 1);
}

static void a_guest_that_never_shuts_down_is_a_timeout(void **state)
{
    struct estates *e = *state;
    json_t *args = machine_args("lyon-4");

    tell(e->at_paris, "machine.start", machine_args("lyon-4"));
    e->fake.stubborn = true;
    (void)json_object_set_new(args, "within_ms", json_integer(0));
    EXPECT_ERR(ERR_TIMEOUT, site_ask(e->at_paris, "machine.shutdown", args, NULL, NULL, &err));
    EXPECT_TEXT("did not shut down");
}

/* How often db1's session has tried to work, after one more turn. */
static unsigned tries_of_db1(struct estates *e)
{
    struct session *session = estate_session_get(e->paris, "db1");
    int64_t next_ms;

    session_turn(session, NULL, &next_ms);
    estate_session_put(e->paris, "db1");
    return e->links_asked;
}

static void replication_learns_at_once_of_a_start_and_a_stop_and_of_nothing_else(void **state)
{
    struct estates *e = *state;

    assert_int_equal(tries_of_db1(e), 1); /* its peer is away: it waits a minute */
    assert_int_equal(tries_of_db1(e), 1);
    tell(e->at_paris, "machine.start", machine_args("lyon-4"));
    assert_int_equal(tries_of_db1(e), 2);
    assert_int_equal(tries_of_db1(e), 2);
    tell(e->at_paris, "machine.start", machine_args("lyon-4")); /* it runs already */
    assert_int_equal(tries_of_db1(e), 2);
    tell(e->at_paris, "machine.stop", machine_args("lyon-4"));
    assert_int_equal(tries_of_db1(e), 3);
}

static void a_last_delta_without_an_initial_copy_is_refused(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_paris, "group.final-sync", group_args("lyon-4"), NULL, NULL, &err));
}

/* --- By link --------------------------------------------------------------------------------------------- */

static void a_peer_asks_for_the_safe_core(void **state)
{
    struct estates *e = *state;

    tell(e->paris_from_lyon, "machine.start", machine_args("lyon-4"));
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->paris_from_lyon, "machine.observe", machine_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "state", ""), "running");
    tell(e->paris_from_lyon, "group.hold", group_args("lyon-4"));
    assert_string_equal(e->told, "db1 held 0");
}

static void a_peer_may_ask_for_nothing_else(void **state)
{
    struct estates *e = *state;
    static const char *const denied[] = {"group.pin",      "group.promote",      "net.create",
                                         "instance.start", "instance.leftovers", "probe.tcp"};

    for (size_t i = 0; i < ARRAY_LEN(denied); i++)
        EXPECT_ERR(ERR_DENIED, site_ask(e->paris_from_lyon, denied[i],
                                        start_args("lyon-4", true, 1), NULL, NULL, &err));
}

static void a_peer_may_touch_only_what_it_shares(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_DENIED, site_ask(e->paris_from_lyon, "machine.stop",
                                    json_pack("{s:s}", "machine", "payroll"), NULL, NULL, &err));
    EXPECT_TEXT("paris shares no group \"payroll\" with lyon");
    EXPECT_ERR(ERR_DENIED, site_ask(e->paris_from_lyon, "machine.stop",
                                    json_pack("{s:s, s:s}", "machine", "payroll", "group", "db1"),
                                    NULL, NULL, &err));
    EXPECT_ERR(ERR_INVALID,
               site_ask(e->paris_from_lyon, "machine.stop", json_object(), NULL, NULL, &err));
}

static void a_peer_that_is_away_is_a_network_error(void **state)
{
    struct estates *e = *state;

    e->unreachable = true;
    EXPECT_ERR(ERR_NET, site_ask(e->paris_from_lyon, "machine.observe", machine_args("lyon-4"),
                                 NULL, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(a_test_copy_starts_from_its_point_in_its_own_network),
        ESTATES_TEST(starting_twice_starts_once),
        ESTATES_TEST(a_start_that_failed_is_taken_up_again),
        ESTATES_TEST(the_real_machine_starts_paused_and_then_runs),
        ESTATES_TEST(a_recovered_machine_that_was_stopped_starts_from_what_it_wrote),
        ESTATES_TEST(a_recovered_machine_that_is_gone_is_not_made_anew),
        ESTATES_TEST(a_recovered_machine_that_is_off_stays_off_over_a_restart),
        ESTATES_TEST(a_point_that_is_not_there_starts_nothing),
        ESTATES_TEST(removing_leaves_no_folder_and_can_be_repeated),
        ESTATES_TEST(what_a_test_leaves_is_listed),
        ESTATES_TEST(leftovers_of_run_1_are_not_those_of_run_12),
        ESTATES_TEST(a_restarted_daemon_repairs_what_runs),
        ESTATES_TEST(a_name_with_a_slash_is_refused),
        ESTATES_TEST(probes_tell_what_the_provider_says),
        ESTATES_TEST(a_machine_that_was_not_started_cannot_be_probed),
        ESTATES_TEST(a_replica_tells_its_points_and_their_age),
        ESTATES_TEST(points_are_listed_newest_first_and_below_a_number),
        ESTATES_TEST(both_sites_tell_the_same_points),
        ESTATES_TEST(a_pin_names_its_point),
        ESTATES_TEST(promoting_twice_by_one_run_raises_once),
        ESTATES_TEST(a_hold_survives_a_restart_and_ends_with_its_release),
        ESTATES_TEST(two_failovers_do_not_hold_one_group),
        ESTATES_TEST(a_held_machine_is_not_started),
        ESTATES_TEST(a_retired_machine_is_stopped_and_never_starts_again),
        ESTATES_TEST(shutdown_keeps_the_process_and_start_brings_it_back),
        ESTATES_TEST(a_guest_that_ignores_its_shutdown_can_be_stopped_meanwhile),
        ESTATES_TEST(a_guest_that_never_shuts_down_is_a_timeout),
        ESTATES_TEST(replication_learns_at_once_of_a_start_and_a_stop_and_of_nothing_else),
        ESTATES_TEST(a_last_delta_without_an_initial_copy_is_refused),
        ESTATES_TEST(a_peer_asks_for_the_safe_core),
        ESTATES_TEST(a_peer_may_ask_for_nothing_else),
        ESTATES_TEST(a_peer_may_touch_only_what_it_shares),
        ESTATES_TEST(a_peer_that_is_away_is_a_network_error),
    };

    return cmocka_run_group_tests_name("site", tests, NULL, NULL);
}
