// SPDX-License-Identifier: Apache-2.0
#include "sites/site.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <stdatomic.h>

static json_t *start_args(const char *run, bool test, int point)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run", run,
                     "test", test, "point", point);
}

/* --- The replica --------------------------------------------------------------------------------------- */

static void a_replica_tells_its_points_and_their_age(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *seen = NULL;

    clock_fake_advance(&e->clock, 5000);
    seen = estates_ask(e->at_lyon, "group.observe", estates_group_args("lyon-4"));
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

/* --- What people say about points ---------------------------------------------------------------- */

static json_t *label_args(int point, const char *label)
{
    return json_pack("{s:s, s:i, s:s}", "group", "db1", "point", point, "label", label);
}

static const json_t *point_named(const json_t *answer, uint64_t number)
{
    const json_t *point;
    size_t i;

    json_array_foreach(json_object_get(answer, "points"), i, point)
        if (json_get_u64(point, "point", 0) == number)
            return point;
    return NULL;
}

static void a_person_pins_a_point_from_either_site_and_it_survives_pruning(void **state)
{
    struct estates *e = *state;
    json_t *keep_one = json_pack("{s:s, s:i}", "group", "db1", "keep", 1);

    e->lyon_answers = true;
    CLEANUP(json_freep)
    json_t *pin = estates_ask(e->lyon_from_paris, "group.keep-point", label_args(1, "upgrade"));
    assert_int_equal(json_get_u64(pin, "point", 0), 1);
    CLEANUP(json_freep) json_t *plan = estates_ask(e->at_lyon, "group.points", json_copy(keep_one));
    assert_string_equal(json_get_str(point_named(plan, 1), "why", ""), "held");
    assert_string_equal(json_get_str(point_named(plan, 2), "why", ""), "goes");
    assert_string_equal(json_get_str(point_named(plan, 3), "why", ""), "newest");
    assert_string_equal(json_get_str(point_named(plan, 1), "label", ""), "upgrade");
    CLEANUP(json_freep) json_t *done = estates_ask(e->lyon_from_paris, "group.prune", keep_one);
    assert_int_equal(json_get_u64(done, "removed", 0), 1);
    CLEANUP(json_freep) json_t *left = estates_ask(e->at_lyon, "group.points", points_args(0));
    assert_int_equal(json_array_size(json_object_get(left, "points")), 2);
    assert_non_null(point_named(left, 1));
    CLEANUP(json_freep)
    json_t *freed = estates_ask(e->lyon_from_paris, "group.free-point", label_args(0, "upgrade"));
    assert_int_equal(json_get_u64(freed, "point", 0), 1);
    EXPECT_ERR(ERR_NOT_FOUND, site_ask(e->at_lyon, "group.free-point", label_args(0, "upgrade"),
                                       NULL, NULL, &err));
    EXPECT_TEXT("`muster points db1` lists what is");
}

static void pins_of_runs_are_not_a_persons_to_end(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep)
    json_t *run =
        estates_ask(e->at_lyon, "group.pin",
                    json_pack("{s:s, s:s, s:i}", "group", "db1", "run", "lyon-4", "point", 2));
    assert_int_equal(json_get_u64(run, "point", 0), 2);

    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_lyon, "group.free-point", label_args(0, "lyon-4"), NULL, NULL, &err));
    EXPECT_TEXT("point 2 of db1 is held by run lyon-4");
    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_lyon, "group.keep-point", label_args(3, "lyon-4"), NULL, NULL, &err));
    EXPECT_ERR(ERR_INVALID,
               site_ask(e->at_lyon, "group.keep-point", label_args(3, "view-1"), NULL, NULL, &err));
    EXPECT_ERR(ERR_INVALID,
               site_ask(e->at_lyon, "group.keep-point", label_args(3, "a b"), NULL, NULL, &err));
    EXPECT_ERR(ERR_NOT_FOUND,
               site_ask(e->at_lyon, "group.keep-point", label_args(9, "x"), NULL, NULL, &err));
    /* Both on one point: each is told. */
    CLEANUP(json_freep)
    json_t *mine = estates_ask(e->at_lyon, "group.keep-point", label_args(2, "x"));
    assert_int_equal(json_get_u64(mine, "point", 0), 2);
    CLEANUP(json_freep) json_t *all = estates_ask(e->at_lyon, "group.points", points_args(0));
    assert_int_equal(json_array_size(json_object_get(point_named(all, 2), "pins")), 2);
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_lyon, "group.observe", estates_group_args("lyon-4"));
    assert_int_equal(json_get_u64(json_object_get(seen, "pinned"), "point", 0), 2);
    EXPECT_ERR(ERR_EXISTS,
               site_ask(e->at_lyon, "group.keep-point", label_args(3, "x"), NULL, NULL, &err));
    EXPECT_TEXT("muster point unpin db1 x");
}

static void pruning_without_a_policy_asks_for_a_number(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_STATE, site_ask(e->at_lyon, "group.prune", json_pack("{s:s}", "group", "db1"),
                                   NULL, NULL, &err));
    EXPECT_TEXT("--keep N");
    EXPECT_ERR(ERR_INVALID,
               site_ask(e->at_lyon, "group.prune",
                        json_pack("{s:s, s:i}", "group", "db1", "keep", 10001), NULL, NULL, &err));
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
    json_t *seen = estates_ask(e->at_lyon, "group.observe", estates_group_args("lyon-4"));
    assert_int_equal(json_get_u64(json_object_get(seen, "pinned"), "point", 0), 3);
    estates_tell(e->at_lyon, "group.unpin", estates_group_args("lyon-4"));
    estates_tell(e->at_lyon, "group.unpin", estates_group_args("lyon-4"));
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

    estates_tell(e->at_paris, "group.hold", estates_group_args("lyon-4"));
    estates_restart_paris(e);
    CLEANUP(json_freep)
    json_t *held = estates_ask(e->at_paris, "group.observe", estates_group_args("lyon-4"));
    assert_string_equal(json_get_str(held, "held", ""), "lyon-4");
    assert_string_equal(json_get_str(held, "state", ""), "paused");
    estates_tell(e->at_paris, "group.release",
                 estates_group_args("lyon-5")); /* another's: nothing */
    estates_tell(e->at_paris, "group.release", estates_group_args("lyon-4"));
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_paris, "group.observe", estates_group_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "held", "?"), "");
    assert_string_equal(e->told, "db1 released 0");
}

static void two_failovers_do_not_hold_one_group(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_paris, "group.hold", estates_group_args("lyon-4"));
    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_paris, "group.hold", estates_group_args("lyon-9"), NULL, NULL, &err));
    EXPECT_TEXT("held for the failover lyon-4");
}

static void a_held_machine_is_not_started(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_paris, "group.hold", estates_group_args("lyon-4"));
    EXPECT_ERR(ERR_STATE, estate_may_start(e->paris, "db1", &err));
    estates_tell(e->at_paris, "group.release", estates_group_args("lyon-4"));
    EXPECT_OK(estate_may_start(e->paris, "db1", &err));
}

static void a_retired_machine_is_stopped_and_never_starts_again(void **state)
{
    struct estates *e = *state;
    json_t *args = estates_group_args("lyon-4");

    estates_tell(e->at_paris, "machine.start", estates_machine_args("lyon-4"));
    (void)json_object_set_new(args, "generation", json_integer(2));
    estates_tell(e->at_paris, "group.retire", args);
    assert_int_equal(provider_fake_find(&e->fake, "machines/db1")->state, INSTANCE_OFF);
    estates_restart_paris(e);
    EXPECT_ERR(ERR_FENCED, site_ask(e->at_paris, "machine.start", estates_machine_args("lyon-4"),
                                    NULL, NULL, &err));
    EXPECT_TEXT("failed over to lyon (generation 2)");
    EXPECT_ERR(ERR_FENCED, site_ask(e->at_paris, "group.release", estates_group_args("lyon-4"),
                                    NULL, NULL, &err));
}

static void shutdown_keeps_the_process_and_start_brings_it_back(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_paris, "machine.start", estates_machine_args("lyon-4"));
    estates_tell(e->at_paris, "machine.shutdown", estates_machine_args("lyon-4"));
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_paris, "machine.observe", estates_machine_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "state", ""), "shutdown");
    estates_tell(e->at_paris, "machine.start", estates_machine_args("lyon-4"));
    assert_int_equal(provider_fake_find(&e->fake, "machines/db1")->state, INSTANCE_RUNNING);
}

static uint32_t shutdowns_of(struct provider_fake *fake)
{
    (void)pthread_mutex_lock(&fake->lock);
    uint32_t count = fake->shutdowns;
    (void)pthread_mutex_unlock(&fake->lock);
    return count;
}

struct plug {
    struct estates *e;
    atomic_bool over; /* nobody waits for the guest any more */
};

/* When the power button was pressed three times, somebody pulls the plug. Time goes on as long as the
 * other thread may wait by it: a last step that it began to wait after would be its last. */
static void *pull_the_plug(void *ctx)
{
    struct plug *plug = ctx;
    struct estates *e = plug->e;
    struct err none = ERR_EMPTY;
    bool pulled = false;

    while (!atomic_load(&plug->over)) {
        clock_fake_advance(&e->clock, 100);
        if (pulled || shutdowns_of(&e->fake) < 3)
            continue;
        pulled = true;
        if (site_ask(e->at_paris, "machine.stop", estates_machine_args("lyon-4"), NULL, NULL, &none)
            < 0)
            fail_msg("%s", none.text);
    }
    return NULL;
}

static void a_guest_that_ignores_its_shutdown_can_be_stopped_meanwhile(void **state)
{
    struct estates *e = *state;
    struct plug plug = {.e = e};
    pthread_t thread;
    struct err over = ERR_EMPTY;

    estates_tell(e->at_paris, "machine.start", estates_machine_args("lyon-4"));
    e->fake.stubborn = true;
    assert_int_equal(pthread_create(&thread, NULL, pull_the_plug, &plug), 0);
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(NULL, NULL, 60000);
    int rc = site_ask(e->at_paris, "machine.shutdown", estates_machine_args("lyon-4"), NULL, cancel,
                      &over);
    atomic_store(&plug.over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (rc < 0)
        fail_msg("[%s] %s", err_code_name(over.code), over.text);
    assert_true(shutdowns_of(&e->fake) >= 3);
    assert_int_equal(provider_fake_find(&e->fake, "machines/db1")->stops, 1);
}

static void a_guest_that_never_shuts_down_is_a_timeout(void **state)
{
    struct estates *e = *state;
    json_t *args = estates_machine_args("lyon-4");

    estates_tell(e->at_paris, "machine.start", estates_machine_args("lyon-4"));
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
    estates_tell(e->at_paris, "machine.start", estates_machine_args("lyon-4"));
    assert_int_equal(tries_of_db1(e), 2);
    assert_int_equal(tries_of_db1(e), 2);
    estates_tell(e->at_paris, "machine.start",
                 estates_machine_args("lyon-4")); /* it runs already */
    assert_int_equal(tries_of_db1(e), 2);
    estates_tell(e->at_paris, "machine.stop", estates_machine_args("lyon-4"));
    assert_int_equal(tries_of_db1(e), 3);
}

static void a_last_delta_without_an_initial_copy_is_refused(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_STATE, site_ask(e->at_paris, "group.final-sync", estates_group_args("lyon-4"),
                                   NULL, NULL, &err));
}

/* --- By link --------------------------------------------------------------------------------------------- */

static void a_peer_asks_for_the_safe_core(void **state)
{
    struct estates *e = *state;

    estates_tell(e->paris_from_lyon, "machine.start", estates_machine_args("lyon-4"));
    CLEANUP(json_freep)
    json_t *seen =
        estates_ask(e->paris_from_lyon, "machine.observe", estates_machine_args("lyon-4"));
    assert_string_equal(json_get_str(seen, "state", ""), "running");
    estates_tell(e->paris_from_lyon, "group.hold", estates_group_args("lyon-4"));
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
    EXPECT_ERR(ERR_NET, site_ask(e->paris_from_lyon, "machine.observe",
                                 estates_machine_args("lyon-4"), NULL, NULL, &err));
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(a_replica_tells_its_points_and_their_age),
        ESTATES_TEST(points_are_listed_newest_first_and_below_a_number),
        ESTATES_TEST(both_sites_tell_the_same_points),
        ESTATES_TEST(a_person_pins_a_point_from_either_site_and_it_survives_pruning),
        ESTATES_TEST(pins_of_runs_are_not_a_persons_to_end),
        ESTATES_TEST(pruning_without_a_policy_asks_for_a_number),
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
