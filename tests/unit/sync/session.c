// SPDX-License-Identifier: Apache-2.0
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

static void the_initial_copy_and_a_first_delta_make_point_1(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start(&f, *state);
    assert_int_equal(bed_status(&f.bed).state, SESSION_COPYING);
    f.machine->on_piece = write_during_scan;
    f.machine->on_piece_ctx = &f.seed;
    bed_turns_until(&f.bed, 1, 20);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.durable_point, 1);
    assert_int_equal(s.disk_count, 2);
    assert_int_equal(s.disks[1].done_bytes, two_disks[1]);
    assert_true(s.durable_cut_ms > 0);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void an_unordered_scan_copies_the_same(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start(&f, *state);
    f.machine->unordered = true;
    f.machine->on_piece = write_during_scan;
    f.machine->on_piece_ctx = &f.seed;
    bed_turns_until(&f.bed, 1, 20);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void the_replica_equals_the_source_at_every_cut(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    for (uint64_t point = 2; point < 20; point++) {
        fake_write_random(f.machine, &f.seed, (unsigned)(fake_random(&f.seed) % 40));
        bed_turns_until(&f.bed, point, 3);
        fake_write_random(f.machine, &f.seed, 5);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void a_point_is_made_when_nothing_changed(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    uint64_t before = f.bed.sent;
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.applied_point, 2);
    assert_int_equal(s.last_bytes, 0);
    assert_true(f.bed.sent - before < 8192);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void points_come_an_interval_apart_and_late_ones_are_not_made_up_for(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start_protected(&f, *state);
    int64_t now = f.bed.clock.clock.now_ms(&f.bed.clock.clock);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(next, now + BED_INTERVAL_MS);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).durable_point, 2);

    clock_fake_advance(&f.bed.clock, 10 * BED_INTERVAL_MS);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).durable_point, 3);
    assert_int_equal(next, now + 11 * BED_INTERVAL_MS);
}

static void a_shorter_interval_counts_from_the_last_cut(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start_protected(&f, *state);
    session_turn(f.bed.session, NULL, &next);
    f.bed.config.policy.interval_ms = 1000;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(next, f.bed.clock.clock.now_ms(&f.bed.clock.clock) + 1000);
}

static void only_as_many_points_are_kept_as_wanted(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;

    start(&f, *state);
    bed_turns_until(&f.bed, 7, 30);
    struct store *store = bed_store(&f.bed);
    EXPECT_OK(store->ops->points(store, &points, &err));
    bed_store_put(&f.bed);
    assert_int_equal(points.len, 3);
}

/* --- The link -------------------------------------------------------------------------------- */

static void start_sharing(struct fixture *f, const char *dir)
{
    prepare(f, dir);
    bed_share_links(&f->bed);
    bed_open_session(&f->bed);
    bed_turns_until(&f->bed, 1, 20);
}

static void between_its_turns_a_session_holds_no_link(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_sharing(&f, *state);
    for (uint64_t point = 2; point < 5; point++) {
        assert_non_null(f.bed.idle);
        fake_write_random(f.machine, &f.seed, 20);
        bed_turns_until(&f.bed, point, 3);
    }
    assert_non_null(f.bed.idle);
    assert_int_equal(f.bed.links, 1);
    assert_int_equal(bed_status(&f.bed).sent_bytes > 0, true);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* It was idle when the other daemon ended; the next one is made anew, at once. */
static void an_idle_link_that_is_dead_costs_no_point(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_sharing(&f, *state);
    f.bed.break_link = true;
    fake_write_random(f.machine, &f.seed, 20);
    bed_turn(&f.bed);
    assert_int_equal(f.bed.lost_links, 1);
    assert_null(f.bed.idle);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).applied_point, 2);
    assert_int_equal(f.bed.links, 2);
    assert_non_null(f.bed.idle);
}

static void a_link_cut_in_a_segment_goes_on_with_the_rest(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(2 * MIB, 1);

    start_protected(&f, *state);
    f.bed.config.policy.compression = COMPRESSION_NONE;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    for (size_t i = 0; i < 2 * MIB; i++)
        noise[i] = (uint8_t)fake_random(&f.seed);
    fake_write(f.machine, 0, 0, noise, 2 * MIB);
    uint64_t cuts = f.machine->cuts;
    f.bed.break_link = true;
    f.bed.cut_next = 3 * MIB / 2;
    bed_turn(&f.bed); /* the old link: broken, tried again at once */
    bed_turn(&f.bed); /* cut in the middle of the segment */
    assert_int_equal(bed_status(&f.bed).state, SESSION_BACKING_OFF);
    assert_int_equal(bed_status(&f.bed).error.code, ERR_NET);
    assert_int_equal(bed_status(&f.bed).durable_point, 1);
    uint64_t before = f.bed.sent;
    fake_write_random(f.machine, &f.seed, 10);
    bed_turns_until(&f.bed, 2, 3);
    assert_true(f.bed.sent - before < 5 * MIB / 4);
    assert_int_equal(f.machine->cuts, cuts + 1 + 1); /* its own, and the next point's */
    bed_turns_until(&f.bed, 3, 3);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_replica_that_restarts_is_gone_on_with(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start(&f, *state);
    for (uint64_t point = 1; point < 6; point++) {
        bed_restart_replica(&f.bed);
        fake_write_random(f.machine, &f.seed, 20);
        bed_turns_until(&f.bed, point, 10);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void an_unreachable_replica_is_tried_by_the_schedule(void **state)
{
    static const int64_t minutes[] = {1, 2, 4, 8, 10, 40, 70};
    CLEANUP(fixture_done) struct fixture f;
    struct clock *clock = &f.bed.clock.clock;
    int64_t next;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    f.bed.break_link = true;
    int64_t first = clock->now_ms(clock);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(next, first); /* a link that was working: at once, once */
    assert_int_equal(bed_status(&f.bed).state, SESSION_BACKING_OFF);
    for (size_t i = 0; i < ARRAY_LEN(minutes); i++) {
        session_turn(f.bed.session, NULL, &next);
        int64_t now = clock->now_ms(clock);
        int64_t wait = first + minutes[i] * 60000 - now;
        int64_t again = bed_status(&f.bed).retry_at_ms - clock->wall_ms(clock);
        assert_in_range(again, wait * 9 / 10, wait * 11 / 10);
        assert_true(next <= now + again); /* sooner only to see what is pending */
        assert_int_equal(bed_status(&f.bed).failures, i + 2);
        clock_fake_advance(&f.bed.clock, wait * 11 / 10 + 1);
    }
    f.bed.unreachable = false;
    session_turn(f.bed.session, NULL, &next);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.failures, 0);
    assert_int_equal(s.durable_point, 2);
}

static void a_person_can_have_it_tried_at_once(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    f.bed.break_link = true;
    session_turn(f.bed.session, NULL, &next);
    session_turn(f.bed.session, NULL, &next);
    f.bed.unreachable = false;
    session_turn(f.bed.session, NULL, &next); /* not due */
    assert_int_equal(bed_status(&f.bed).state, SESSION_BACKING_OFF);
    session_retry(f.bed.session);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).state, SESSION_PROTECTED);
}

/* Else a peer that comes back with the link of its former daemon still open is waited for. */
static void a_link_that_breaks_after_a_retry_by_hand_is_tried_at_once_again(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct clock *clock = &f.bed.clock.clock;
    int64_t next;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    f.bed.break_link = true;
    session_turn(f.bed.session, NULL, &next);
    session_turn(f.bed.session, NULL, &next);
    f.bed.unreachable = false;
    f.bed.cut_next = MIB / 16;
    fake_write_random(f.machine, &f.seed, 100);
    session_retry(f.bed.session);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).error.code, ERR_NET);
    assert_int_equal(next, clock->now_ms(clock));
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).state, SESSION_PROTECTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(the_initial_copy_and_a_first_delta_make_point_1),
        TMPDIR_TEST(an_unordered_scan_copies_the_same),
        TMPDIR_TEST(the_replica_equals_the_source_at_every_cut),
        TMPDIR_TEST(a_point_is_made_when_nothing_changed),
        TMPDIR_TEST(points_come_an_interval_apart_and_late_ones_are_not_made_up_for),
        TMPDIR_TEST(a_shorter_interval_counts_from_the_last_cut),
        TMPDIR_TEST(only_as_many_points_are_kept_as_wanted),
        TMPDIR_TEST(between_its_turns_a_session_holds_no_link),
        TMPDIR_TEST(an_idle_link_that_is_dead_costs_no_point),
        TMPDIR_TEST(a_link_cut_in_a_segment_goes_on_with_the_rest),
        TMPDIR_TEST(a_replica_that_restarts_is_gone_on_with),
        TMPDIR_TEST(an_unreachable_replica_is_tried_by_the_schedule),
        TMPDIR_TEST(a_person_can_have_it_tried_at_once),
        TMPDIR_TEST(a_link_that_breaks_after_a_retry_by_hand_is_tried_at_once_again),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
