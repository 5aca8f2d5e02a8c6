// SPDX-License-Identifier: Apache-2.0
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

#include <time.h>

#define NOON   INT64_C(1699963200000) /* 2023-11-14 12:00 UTC; the window is 18:30-06:30 */
#define HOUR   INT64_C(3600000)
#define MINUTE INT64_C(60000)

/* --- The hand on the clock ------------------------------------------------------------------- */

/* Both clocks move; what is due in between is not done. */
static void go_to(struct fixture *f, int64_t wall_ms)
{
    clock_fake_advance(&f->bed.clock, wall_ms - f->bed.clock.wall);
}

static void turn(struct fixture *f)
{
    int64_t next;

    session_turn(f->bed.session, NULL, &next);
}

/* It is noon, the default limit holds, and there is a first point. */
static void start_at_noon(struct fixture *f, const char *dir)
{
    prepare(f, dir);
    f->bed.clock.wall = NOON - MINUTE;
    f->bed.config.policy.log_limit_percent = 50;
    bed_open_session(&f->bed);
    bed_turns_until(&f->bed, 1, 20);
    go_to(f, NOON);
}

/* More than half of disk0 is written. */
static void write_too_much(struct fixture *f)
{
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(MIB + 8192, 1);

    for (size_t i = 0; i < MIB + 8192; i++)
        noise[i] = (uint8_t)fake_random(&f->seed);
    fake_write(f->machine, 0, 65536, noise, MIB + 8192);
}

/* --- The log limit --------------------------------------------------------------------------- */

static void more_than_half_of_a_disk_pending_waits_for_the_window(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    write_too_much(&f);
    uint64_t cuts = f.machine->cuts;
    for (int i = 0; i < 4; i++)
        bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNC_REQUIRED);
    assert_int_equal(s.error.code, ERR_NONE);
    assert_int_equal(s.durable_point, 1);
    assert_int_equal(f.machine->cuts, cuts);
    assert_int_equal(s.resync.cause, RESYNC_LOG);
    assert_int_equal(s.resync.since_ms, NOON);
    assert_true(s.resync.waits);
    assert_int_equal(s.resync.next_ms, NOON + 13 * HOUR / 2); /* 18:30 */
    assert_non_null(strstr(s.resync.why, "1.0 MiB of disk disk0 (2.0 MiB) are pending, 50 %"));
    assert_non_null(strstr(s.note, "resynchronization required"));
    assert_int_equal(s.disks[0].pending_bytes, MIB + 8192);
    assert_int_equal(s.disks[1].pending_bytes, 0);
    assert_int_equal(s.pending_bytes, MIB + 8192);

    go_to(&f, NOON + 13 * HOUR / 2);
    bed_turns_until(&f.bed, 2, 10);
    s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.resync.cause, RESYNC_NONE);
    assert_string_equal(s.note, "");
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void what_is_required_survives_a_restart(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    write_too_much(&f);
    bed_turn(&f.bed);
    bed_drop_session(&f.bed);
    go_to(&f, NOON + HOUR);
    bed_open_session(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNC_REQUIRED);
    assert_int_equal(s.resync.cause, RESYNC_LOG);
    assert_int_equal(s.resync.since_ms, NOON);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).durable_point, 1);
}

static void exactly_the_limit_is_not_above_it(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    static const uint8_t block[4096] = {1};

    start_at_noon(&f, *state);
    for (uint64_t off = 0; off < MIB; off += sizeof(block))
        fake_write(f.machine, 0, off, block, sizeof(block));
    bed_turns_until(&f.bed, 2, 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_limit_that_is_raised_lets_the_changes_go_as_a_delta(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    write_too_much(&f);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_RESYNC_REQUIRED);
    f.bed.config.policy.log_limit_percent = 80;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    uint64_t scanned = f.machine->scanned;
    bed_turns_until(&f.bed, 2, 2);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.resync.cause, RESYNC_NONE);
    assert_string_equal(s.note, "");
    assert_int_equal(f.machine->scanned, scanned);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* The peer is away for long: what is pending is seen all the same, and counted. */
static void changes_are_counted_while_the_peer_is_away(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    f.bed.unreachable = true;
    f.bed.break_link = true;
    turn(&f);
    fake_write(f.machine, 1, 0, "x", 1);
    turn(&f);
    assert_int_equal(bed_status(&f.bed).state, SESSION_BACKING_OFF);
    assert_int_equal(bed_status(&f.bed).disks[1].pending_bytes, 4096);
    write_too_much(&f);
    while (f.bed.clock.wall < NOON + HOUR)
        bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_BACKING_OFF);
    assert_int_equal(s.error.code, ERR_NET);
    assert_int_equal(s.resync.cause, RESYNC_LOG);
    assert_true(s.resync.since_ms < NOON + 11 * MINUTE);
    f.bed.unreachable = false;
    session_retry(f.bed.session);
    turn(&f);
    assert_int_equal(bed_status(&f.bed).state, SESSION_RESYNC_REQUIRED);
    go_to(&f, NOON + 7 * HOUR);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_failover_gets_its_point_in_spite_of_the_limit(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    start_at_noon(&f, *state);
    write_too_much(&f);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_RESYNC_REQUIRED);
    f.machine->quiet = true;
    EXPECT_OK(session_sync_now(f.bed.session, true, &point, NULL, &err));
    assert_int_equal(point, 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* --- The window ------------------------------------------------------------------------------ */

static void a_resync_stops_at_the_windows_end_and_goes_on_in_the_next(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    write_too_much(&f);
    bed_turn(&f.bed);
    go_to(&f, NOON + 18 * HOUR); /* 06:00 */
    turn(&f);                    /* begins */
    turn(&f);                    /* disk0 */
    assert_int_equal(bed_status(&f.bed).state, SESSION_RESYNCING);
    uint64_t scanned = f.machine->scanned;
    go_to(&f, NOON + 37 * HOUR / 2); /* 06:30 */
    turn(&f);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNC_REQUIRED);
    assert_int_equal(s.disks[0].done_bytes, two_disks[0]);
    assert_int_equal(s.disks[1].done_bytes, 0);
    assert_int_equal(s.resync.next_ms, NOON + 61 * HOUR / 2); /* 18:30 */
    assert_int_equal(f.machine->scanned, scanned);

    bed_drop_session(&f.bed); /* and a restart in between */
    bed_open_session(&f.bed);
    fake_write_random(f.machine, &f.seed, 20);
    go_to(&f, NOON + 31 * HOUR);
    bed_turns_until(&f.bed, 2, 10);
    /* Each disk was read once: pieces of 256 KiB, and an end for each. */
    assert_true(f.machine->scanned - scanned <= two_disks[1] / 262144 + 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_disk_read_in_disorder_is_read_to_its_end(void **state)
{
    static const uint64_t sizes[] = {80 * MIB};
    struct fixture f = {.seed = 1};
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(80 * MIB, 1);

    memset(bytes, 0x55, 80 * MIB);
    f.machine = fake_machine_new(sizes, 1);
    fake_write(f.machine, 0, 0, bytes, 80 * MIB);
    f.machine->unordered = true;
    bed_init(&f.bed, *state, f.machine);
    f.bed.clock.wall = NOON - HOUR;
    f.bed.config.policy.log_limit_percent = 50;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 30);
    fake_write(f.machine, 0, 0, bytes, 60 * MIB);
    bed_turn(&f.bed);
    go_to(&f, NOON + 18 * HOUR);
    turn(&f);
    turn(&f); /* 64 MiB of it */
    go_to(&f, NOON + 19 * HOUR);
    turn(&f);
    assert_int_equal(bed_status(&f.bed).disks[0].done_bytes, 80 * MIB);
    bed_turns_until(&f.bed, 2, 5); /* nothing is left to compare: no window for the rest */
    assert_true(bed_replica_equals_cut(&f.bed));
    fixture_done(&f);
}

static void lost_tracking_is_made_good_at_any_time_of_the_day(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    fake_restart(f.machine);
    fake_write_random(f.machine, &f.seed, 20);
    turn(&f);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNCING);
    assert_int_equal(s.resync.cause, RESYNC_LOST);
    assert_false(s.resync.waits);
    assert_non_null(strstr(s.resync.why, "QEMU was restarted"));
    bed_turns_until(&f.bed, 2, 10);
    assert_true(f.bed.clock.wall < NOON + HOUR);
    assert_int_equal(bed_status(&f.bed).resync.cause, RESYNC_NONE);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* It is required for its log, and waits; then QEMU dies. */
static void a_restart_of_qemu_opens_a_new_map_and_keeps_the_window(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    write_too_much(&f);
    bed_turn(&f.bed);
    fake_restart(f.machine);
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNC_REQUIRED);
    assert_int_equal(s.resync.cause, RESYNC_LOG);
    assert_true(f.machine->open > 0);
    fake_write(f.machine, 1, 0, "x", 1);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).pending_bytes, 4096);
    go_to(&f, NOON + 7 * HOUR);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_policy_that_starts_no_resync_leaves_it_to_a_person(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t at;

    start_at_noon(&f, *state);
    f.bed.config.policy.resync_auto = false;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    write_too_much(&f);
    bed_turn(&f.bed);
    go_to(&f, NOON + 10 * HOUR);
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNC_REQUIRED);
    assert_int_equal(s.resync.next_ms, 0);
    EXPECT_OK(session_resync(f.bed.session, false, &at, &err));
    assert_int_equal(at, f.bed.clock.wall);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* --- By hand --------------------------------------------------------------------------------- */

static void one_that_is_asked_for_begins_at_once_with_now(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t at;

    start_at_noon(&f, *state);
    write_too_much(&f);
    bed_turn(&f.bed);
    EXPECT_OK(session_resync(f.bed.session, true, &at, &err));
    assert_int_equal(at, f.bed.clock.wall);
    turn(&f);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNCING);
    assert_int_equal(s.resync.cause, RESYNC_LOG);
    assert_true(s.resync.now);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(f.bed.clock.wall < NOON + HOUR);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void points_go_on_until_one_that_is_asked_for_begins(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t at;

    start_at_noon(&f, *state);
    EXPECT_OK(session_resync(f.bed.session, false, &at, &err));
    assert_int_equal(at, NOON + 13 * HOUR / 2);
    bed_drop_session(&f.bed); /* before any turn saw it */
    bed_open_session(&f.bed);
    uint64_t scanned = f.machine->scanned;
    fake_write_random(f.machine, &f.seed, 10);
    bed_turns_until(&f.bed, 3, 4);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.resync.cause, RESYNC_ASKED);
    assert_true(s.resync.waits);
    assert_int_equal(s.resync.next_ms, at);
    assert_int_equal(f.machine->scanned, scanned);
    go_to(&f, at);
    turn(&f);
    assert_int_equal(bed_status(&f.bed).state, SESSION_RESYNCING);
    bed_turns_until(&f.bed, 4, 10);
    assert_int_equal(bed_status(&f.bed).resync.cause, RESYNC_NONE);
    assert_true(f.machine->scanned > scanned);
}

static void it_finds_what_no_map_knew_of(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t at;

    start_at_noon(&f, *state);
    f.machine->disks[1].bytes[70000] ^= 0xff; /* past QEMU */
    bed_turns_until(&f.bed, 2, 3);
    assert_false(bed_replica_equals_cut(&f.bed));
    EXPECT_OK(session_resync(f.bed.session, true, &at, &err));
    bed_turns_until(&f.bed, 3, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_pause_keeps_what_was_compared(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t at;

    start_at_noon(&f, *state);
    EXPECT_OK(session_resync(f.bed.session, true, &at, &err));
    turn(&f);
    turn(&f); /* disk0 */
    session_pause(f.bed.session, true);
    uint64_t scanned = f.machine->scanned;
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    turn(&f);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PAUSED);
    assert_int_equal(s.disks[0].done_bytes, two_disks[0]);
    assert_int_equal(f.machine->scanned, scanned);
    fake_write_random(f.machine, &f.seed, 20);
    session_pause(f.bed.session, false);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(f.machine->scanned - scanned <= two_disks[1] / 262144 + 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void there_is_nothing_to_compare_before_the_first_point(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t at;

    start(&f, *state);
    EXPECT_ERR(ERR_STATE, session_resync(f.bed.session, true, &at, &err));
    EXPECT_TEXT("no point yet");
}

/* --- Room ------------------------------------------------------------------------------------ */

static void without_room_to_seal_nothing_is_cut_until_there_is_some(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    uint64_t cuts = f.machine->cuts;
    uint64_t opened = f.machine->opened;
    fake_write_random(f.machine, &f.seed, 20);
    f.bed.room = 16 * MIB;
    for (int i = 0; i < 40; i++)
        bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_BACKING_OFF);
    assert_int_equal(s.error.code, ERR_SPACE);
    assert_non_null(strstr(s.error.text, "needed to seal the changes of shop, 16.0 MiB free"));
    assert_non_null(strstr(s.error.text, "; hint: "));
    assert_int_equal(s.resync.cause, RESYNC_NONE); /* that is for the share of a disk only */
    assert_int_equal(f.machine->cuts, cuts);
    assert_true(f.machine->opened <= opened + 1);
    assert_true(s.retry_at_ms > f.bed.clock.wall + 3 * MINUTE);
    int64_t then = f.bed.clock.wall;
    f.bed.room = 1024 * MIB;
    bed_turns_until(&f.bed, 2, 5);
    assert_true(f.bed.clock.wall <= then + 2 * MINUTE); /* seen, not waited for */
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_source_that_cannot_stage_is_tried_again_as_room_comes_back(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_at_noon(&f, *state);
    uint64_t cuts = f.machine->cuts;
    fake_write_random(f.machine, &f.seed, 20);
    f.bed.room = 100 * MIB;
    for (int i = 0; i < 20; i++) {
        fake_fail(f.machine, "cut", 0, ERR_SPACE);
        bed_turn(&f.bed);
    }
    assert_int_equal(bed_status(&f.bed).error.code, ERR_SPACE);
    assert_int_equal(f.machine->cuts, cuts);
    f.machine->fail_op[0] = '\0';
    f.bed.room = 200 * MIB;
    int64_t then = f.bed.clock.wall;
    bed_turns_until(&f.bed, 2, 5);
    assert_true(f.bed.clock.wall <= then + 2 * MINUTE);
    assert_true(bed_replica_equals_cut(&f.bed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(more_than_half_of_a_disk_pending_waits_for_the_window),
        TMPDIR_TEST(what_is_required_survives_a_restart),
        TMPDIR_TEST(exactly_the_limit_is_not_above_it),
        TMPDIR_TEST(a_limit_that_is_raised_lets_the_changes_go_as_a_delta),
        TMPDIR_TEST(changes_are_counted_while_the_peer_is_away),
        TMPDIR_TEST(a_failover_gets_its_point_in_spite_of_the_limit),
        TMPDIR_TEST(a_resync_stops_at_the_windows_end_and_goes_on_in_the_next),
        TMPDIR_TEST(a_disk_read_in_disorder_is_read_to_its_end),
        TMPDIR_TEST(lost_tracking_is_made_good_at_any_time_of_the_day),
        TMPDIR_TEST(a_restart_of_qemu_opens_a_new_map_and_keeps_the_window),
        TMPDIR_TEST(a_policy_that_starts_no_resync_leaves_it_to_a_person),
        TMPDIR_TEST(one_that_is_asked_for_begins_at_once_with_now),
        TMPDIR_TEST(points_go_on_until_one_that_is_asked_for_begins),
        TMPDIR_TEST(it_finds_what_no_map_knew_of),
        TMPDIR_TEST(a_pause_keeps_what_was_compared),
        TMPDIR_TEST(there_is_nothing_to_compare_before_the_first_point),
        TMPDIR_TEST(without_room_to_seal_nothing_is_cut_until_there_is_some),
        TMPDIR_TEST(a_source_that_cannot_stage_is_tried_again_as_room_comes_back),
    };
    (void)setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests_name("session and resync", tests, NULL, NULL);
}
