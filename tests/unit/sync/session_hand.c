// SPDX-License-Identifier: Apache-2.0
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

/* --- Whose writes count ---------------------------------------------------------------------- */

static void a_promoted_replica_fences_the_session(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t generation;
    uint64_t point;
    int64_t next;

    start_protected(&f, *state);
    struct store *store = bed_store(&f.bed);
    EXPECT_OK(store->ops->promote(store, 1, 0, "run-1", "lyon", f.bed.config.sign_key, 1,
                                  &generation, &point, &err));
    bed_store_put(&f.bed);
    uint64_t cuts = f.machine->cuts;
    session_turn(f.bed.session, NULL, &next);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_FENCED);
    assert_int_equal(next, CANCEL_NEVER);
    assert_int_equal(f.machine->cuts, cuts);
    assert_non_null(strstr(s.error.text, "generation 2"));
    session_retry(f.bed.session);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).state, SESSION_FENCED);
    EXPECT_ERR(ERR_FENCED, session_sync_now(f.bed.session, false, &point, NULL, &err));
}

static void a_replica_that_lost_its_points_is_not_written_to(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/replica", (const char *)*state);

    start_protected(&f, *state);
    bed_restart_replica(&f.bed);
    EXPECT_OK(fs_remove_tree(fs_real(), dir, &err));
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_CRITICAL);
    assert_int_equal(s.error.code, ERR_CORRUPT);
    /* Unprotecting removes what is there: nobody is told that it would be compared. */
    assert_non_null(strstr(s.error.text, "protect it again: that is a full copy"));
}

static void a_replica_removed_in_mid_copy_is_copied_from_the_beginning(void **state)
{
    for (int turns = 2; turns < 4; turns++) {
        CLEANUP(fixture_done) struct fixture f;
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", (const char *)*state, turns);
        CLEANUP(mem_freep) char *replica = path_join(dir, "replica");

        start(&f, dir);
        for (int i = 0; i < turns; i++)
            bed_turn(&f.bed);
        assert_int_equal(bed_status(&f.bed).state, SESSION_COPYING);
        bed_restart_replica(&f.bed);
        EXPECT_OK(fs_remove_tree(fs_real(), replica, &err));
        bed_turns_until(&f.bed, 1, 20);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void a_session_without_a_checkpoint_compares_with_the_replica_there_is(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/session", (const char *)*state);

    start_protected(&f, *state);
    bed_drop_session(&f.bed);
    EXPECT_OK(fs_remove_tree(fs_real(), dir, &err));
    fake_write(f.machine, 0, 12345, "x", 1);
    bed_open_session(&f.bed);
    uint64_t before = f.bed.sent;
    bed_turns_until(&f.bed, 2, 20);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_true(f.bed.sent - before < 2 * 65536);
}

static void an_unreadable_checkpoint_is_kept_and_named(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *path = mem_printf("%s/session/checkpoint", (const char *)*state);
    struct session *session = NULL;

    start_protected(&f, *state);
    bed_drop_session(&f.bed);
    EXPECT_OK(fs_replace_file(fs_real(), path, "{}", 2, 0600, &err));
    f.bed.config.dir = mem_printf("%s/session", (const char *)*state);
    EXPECT_ERR(ERR_CORRUPT, session_open(&f.bed.config, &session, &err));
    EXPECT_TEXT(path);
    assert_true(fs_exists(path));
}

/* --- By a person's hand ---------------------------------------------------------------------- */

static void a_pause_stops_the_points_and_survives_a_restart(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start_protected(&f, *state);
    session_pause(f.bed.session, true);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(next, CANCEL_NEVER);
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).state, SESSION_PAUSED);
    assert_int_equal(bed_status(&f.bed).durable_point, 1);
    session_pause(f.bed.session, false);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).durable_point, 2);
}

/* What a session says of itself when it is paused in the middle of making a point. */
static enum session_state seen_in_the_middle;

static json_t *pause_in_the_middle(void *ctx)
{
    struct bed *bed = ctx;

    session_pause(bed->session, true);
    seen_in_the_middle = bed_status(bed).state;
    return json_object();
}

static void a_pause_is_not_shown_while_a_point_is_still_on_its_way(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start_protected(&f, *state);
    bed_drop_session(&f.bed);
    f.bed.config.machines = pause_in_the_middle;
    bed_open_session(&f.bed);
    seen_in_the_middle = SESSION_PAUSED;
    fake_write_random(f.machine, &f.seed, 20);
    session_turn(f.bed.session, NULL, &next);
    assert_int_not_equal(seen_in_the_middle, SESSION_PAUSED);
    assert_int_equal(bed_status(&f.bed).state, SESSION_PAUSED);
    assert_int_equal(bed_status(&f.bed).applied_point, 2);
}

static void sync_now_makes_a_point_of_all_that_was_written(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    start_protected(&f, *state);
    fake_write_random(f.machine, &f.seed, 20);
    EXPECT_OK(session_sync_now(f.bed.session, false, &point, NULL, &err));
    assert_int_equal(point, 2);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_memory_equal(f.machine->disks[0].bytes, f.machine->disks[0].cut, two_disks[0]);
}

/* The peer's daemon was restarted since the last cycle: nobody has noticed yet. */
static void sync_now_takes_a_new_link_where_the_old_one_is_broken(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    start_protected(&f, *state);
    fake_write_random(f.machine, &f.seed, 20);
    f.bed.break_link = true;
    EXPECT_OK(session_sync_now(f.bed.session, false, &point, NULL, &err));
    assert_int_equal(point, 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_final_sync_wants_the_machine_shut_down_and_pauses(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    start_protected(&f, *state);
    EXPECT_ERR(ERR_STATE, session_sync_now(f.bed.session, true, &point, NULL, &err));
    EXPECT_TEXT("shut the machine down");
    assert_int_equal(bed_status(&f.bed).state, SESSION_PROTECTED);
    fake_write_random(f.machine, &f.seed, 20);
    f.machine->quiet = true;
    EXPECT_OK(session_sync_now(f.bed.session, true, &point, NULL, &err));
    assert_int_equal(point, 2);
    assert_int_equal(bed_status(&f.bed).state, SESSION_PAUSED);
    assert_memory_equal(f.machine->disks[1].bytes, f.machine->disks[1].cut, two_disks[1]);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_final_sync_of_a_machine_that_is_off_compares_first(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    start_protected(&f, *state);
    fake_write_random(f.machine, &f.seed, 20);
    fake_restart(f.machine);
    f.machine->running = false;
    EXPECT_OK(session_sync_now(f.bed.session, true, &point, NULL, &err));
    assert_int_equal(point, 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void there_is_no_sync_before_the_initial_copy(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    start(&f, *state);
    EXPECT_ERR(ERR_STATE, session_sync_now(f.bed.session, false, &point, NULL, &err));
    EXPECT_TEXT("initial copy");
}

static void a_forgotten_group_tracks_nothing_and_leaves_the_replica(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/session", (const char *)*state);
    int64_t next;

    start_protected(&f, *state);
    EXPECT_OK(session_forget(f.bed.session, NULL, &err));
    assert_int_equal(f.machine->open, 0);
    assert_false(fs_exists(dir));
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(next, CANCEL_NEVER);
    assert_false(fs_exists(dir));
    struct store *store = bed_store(&f.bed);
    struct store_info info;
    EXPECT_OK(store->ops->info(store, &info, &err));
    bed_store_put(&f.bed);
    assert_int_equal(info.durable_point, 1);
}

static void a_group_whose_machine_is_gone_can_be_forgotten(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    f.bed.no_machine = true;
    EXPECT_OK(session_forget(f.bed.session, NULL, &err));
}

static void a_cancelled_turn_is_no_failure(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    int64_t next;

    start(&f, *state);
    bed_turn(&f.bed);
    cancel_fire(cancel);
    session_turn(f.bed.session, cancel, &next);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_COPYING);
    assert_int_equal(s.error.code, ERR_NONE);
    bed_turns_until(&f.bed, 1, 20);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void since_when_it_is_paused_survives_a_restart(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct clock *clock = &f.bed.clock.clock;

    start_protected(&f, *state);
    int64_t since = clock->wall_ms(clock);
    session_pause(f.bed.session, true);
    clock_fake_advance(&f.bed.clock, 60000);
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    assert_true(bed_status(&f.bed).paused);
    assert_int_equal(bed_status(&f.bed).paused_since_ms, since);
    session_pause(f.bed.session, false);
    assert_false(bed_status(&f.bed).paused);
    assert_int_equal(bed_status(&f.bed).paused_since_ms, 0);
}

static void since_when_it_fails_survives_a_restart_and_ends_with_the_failure(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct clock *clock = &f.bed.clock.clock;
    int64_t next;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    f.bed.break_link = true;
    int64_t since = clock->wall_ms(clock);
    session_turn(f.bed.session, NULL, &next);
    clock_fake_advance(&f.bed.clock, 60000);
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).error_since_ms, since);
    f.bed.unreachable = false;
    session_retry(f.bed.session);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).state, SESSION_PROTECTED);
    assert_int_equal(bed_status(&f.bed).error_since_ms, 0);
    bed_drop_session(&f.bed);
    clock_fake_advance(&f.bed.clock, 60000);
    bed_open_session(&f.bed);
    f.bed.unreachable = true;
    int64_t again = clock->wall_ms(clock);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).error_since_ms, again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(since_when_it_is_paused_survives_a_restart),
        TMPDIR_TEST(since_when_it_fails_survives_a_restart_and_ends_with_the_failure),
        TMPDIR_TEST(a_promoted_replica_fences_the_session),
        TMPDIR_TEST(a_replica_that_lost_its_points_is_not_written_to),
        TMPDIR_TEST(a_replica_removed_in_mid_copy_is_copied_from_the_beginning),
        TMPDIR_TEST(a_session_without_a_checkpoint_compares_with_the_replica_there_is),
        TMPDIR_TEST(an_unreadable_checkpoint_is_kept_and_named),
        TMPDIR_TEST(a_pause_stops_the_points_and_survives_a_restart),
        TMPDIR_TEST(a_pause_is_not_shown_while_a_point_is_still_on_its_way),
        TMPDIR_TEST(sync_now_makes_a_point_of_all_that_was_written),
        TMPDIR_TEST(sync_now_takes_a_new_link_where_the_old_one_is_broken),
        TMPDIR_TEST(a_final_sync_wants_the_machine_shut_down_and_pauses),
        TMPDIR_TEST(a_final_sync_of_a_machine_that_is_off_compares_first),
        TMPDIR_TEST(there_is_no_sync_before_the_initial_copy),
        TMPDIR_TEST(a_forgotten_group_tracks_nothing_and_leaves_the_replica),
        TMPDIR_TEST(a_group_whose_machine_is_gone_can_be_forgotten),
        TMPDIR_TEST(a_cancelled_turn_is_no_failure),
    };
    return cmocka_run_group_tests_name("session and others", tests, NULL, NULL);
}
