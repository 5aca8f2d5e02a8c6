// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "support/expect.h"
#include "support/sync/bed.h"
#include "support/tmpdir.h"

#define MIB (1024u * 1024u)

static const uint64_t two_disks[] = {2 * MIB, 3 * MIB + 4096 + 512};

struct fixture {
    struct fake_machine *machine;
    struct bed bed;
    uint64_t seed;
};

static void fixture_done(struct fixture *f)
{
    bed_done(&f->bed);
    fake_machine_free(f->machine);
}

static void prepare(struct fixture *f, const char *dir)
{
    memset(f, 0, sizeof(*f));
    f->seed = 1;
    f->machine = fake_machine_new(two_disks, ARRAY_LEN(two_disks));
    fake_write_random(f->machine, &f->seed, 100);
    bed_init(&f->bed, dir, f->machine);
}

static void start(struct fixture *f, const char *dir)
{
    prepare(f, dir);
    bed_open_session(&f->bed);
}

/* Copied, and with a first point. */
static void start_protected(struct fixture *f, const char *dir)
{
    start(f, dir);
    bed_turns_until(&f->bed, 1, 20);
}

static void write_during_scan(struct fake_machine *machine, void *ctx)
{
    fake_write_random(machine, ctx, 3);
}

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
    session_set_interval(f.bed.session, 1000, 3);
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

static void a_link_cut_in_a_segment_goes_on_with_the_rest(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(2 * MIB, 1);

    start_protected(&f, *state);
    f.bed.config.compression = COMPRESSION_NONE;
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
        assert_in_range(next, now + wait * 9 / 10, now + wait * 11 / 10);
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

/* --- The source ------------------------------------------------------------------------------ */

static void lost_tracking_sends_only_what_differs(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_restart(f.machine);
    fake_write(f.machine, 1, 65536 * 7 + 100, "difference", 10);
    uint64_t before = f.bed.sent;
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNCING);
    assert_non_null(strstr(s.note, "5.0 MiB"));
    assert_non_null(strstr(s.note, "QEMU was restarted"));
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_true(f.bed.sent - before < 2 * 65536);
    assert_string_equal(bed_status(&f.bed).note, "");
    fake_write_random(f.machine, &f.seed, 10);
    bed_turns_until(&f.bed, 3, 3);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_rescan_while_the_machine_writes_makes_one_consistent_point(void **state)
{
    for (int unordered = 0; unordered < 2; unordered++) {
        CLEANUP(fixture_done) struct fixture f;
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", (const char *)*state, unordered);
        start_protected(&f, dir);
        f.machine->unordered = unordered != 0;
        fake_write_random(f.machine, &f.seed, 30);
        fake_restart(f.machine);
        fake_write_random(f.machine, &f.seed, 30);
        f.machine->on_piece = write_during_scan;
        f.machine->on_piece_ctx = &f.seed;
        bed_turns_until(&f.bed, 2, 20);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void a_rescan_needs_no_digests_from_the_replica_while_ours_are_good(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *copy = NULL;

    start_protected(&f, *state);
    fake_write_random(f.machine, &f.seed, 20);
    bed_turns_until(&f.bed, 2, 3);
    fake_restart(f.machine);
    bed_turn(&f.bed);
    unsigned before = f.bed.messages;
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    unsigned with_copy = f.bed.messages - before;

    copy = mem_printf("%s/session/digests", (const char *)*state);
    bed_turns_until(&f.bed, 3, 5);
    EXPECT_OK(fs_real()->unlink(fs_real(), copy, &err));
    fake_restart(f.machine);
    bed_turn(&f.bed);
    before = f.bed.messages;
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    assert_int_equal(f.bed.messages - before, with_copy + 2); /* a fetch per disk */
    bed_turns_until(&f.bed, 4, 5);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_machine_that_restarts_in_mid_copy_is_copied_anew_without_waiting(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start(&f, *state);
    bed_turn(&f.bed);
    fake_fail(f.machine, "scan", 3, ERR_NET);
    session_turn(f.bed.session, NULL, &next);
    assert_int_equal(bed_status(&f.bed).state, SESSION_BACKING_OFF);
    assert_int_equal(next, f.bed.clock.clock.now_ms(&f.bed.clock.clock) + BED_INTERVAL_MS);
    fake_restart(f.machine);
    fake_write_random(f.machine, &f.seed, 50);
    uint8_t zeros[65536] = {0};
    fake_write(f.machine, 0, 0, zeros, sizeof(zeros)); /* a hole where data was copied */
    clock_fake_advance(&f.bed.clock, BED_INTERVAL_MS);
    bed_turns_until(&f.bed, 1, 20);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_failing_cut_changes_nothing_and_the_next_has_it_all(void **state)
{
    static const char *const ops[] = {"cut", "changes", "read", "end", "pending", "inspect"};
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        uint64_t point = bed_status(&f.bed).durable_point;
        fake_write_random(f.machine, &f.seed, 20);
        fake_fail(f.machine, ops[i], 0, ERR_SPACE);
        bed_turn(&f.bed);
        fake_write_random(f.machine, &f.seed, 20);
        bed_turns_until(&f.bed, point + 1, 5);
        bed_turns_until(&f.bed, point + 2, 5);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void a_source_that_stays_broken_becomes_critical(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_fail(f.machine, "cut", 0, ERR_UNSUPPORTED);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_BACKING_OFF);
    fake_fail(f.machine, "cut", 0, ERR_UNSUPPORTED);
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_CRITICAL);
    assert_non_null(strstr(s.error.text, "; hint: "));
    session_retry(f.bed.session);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_PROTECTED);
}

static void a_disk_that_changed_its_size_is_refused_with_both_sizes(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start_protected(&f, *state);
    f.machine->disks[0].size = MIB;
    session_turn(f.bed.session, NULL, &next);
    clock_fake_advance(&f.bed.clock, BED_INTERVAL_MS);
    session_turn(f.bed.session, NULL, &next);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_CRITICAL);
    assert_int_equal(next, CANCEL_NEVER);
    assert_non_null(strstr(s.error.text, "disk0 of shop changed its size from 2097152 to 1048576"));
    assert_non_null(strstr(s.error.text, "; hint: "));
    assert_int_equal(s.durable_point, 1);
}

/* --- Machines that are off ------------------------------------------------------------------- */

static void a_machine_that_is_off_is_copied_and_then_only_watched(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    assert_true(bed_replica_equals_cut(&f.bed));
    int64_t seen = bed_status(&f.bed).applied_cut_ms;
    uint64_t scanned = f.machine->scanned;
    for (int i = 0; i < 5; i++)
        bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.durable_point, 1);
    assert_true(s.durable_cut_ms > seen);
    assert_int_equal(f.machine->scanned, scanned);
}

static void disks_touched_while_off_are_compared_and_sent(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    fake_write(f.machine, 0, 70000, "by hand", 7);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_machine_that_was_off_is_compared_when_it_runs_again(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_write_random(f.machine, &f.seed, 20);
    fake_restart(f.machine);
    f.machine->running = false;
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
    bed_turn(&f.bed);
    f.machine->running = true;
    fake_write_random(f.machine, &f.seed, 20);
    bed_turns_until(&f.bed, 3, 10);
    fake_write_random(f.machine, &f.seed, 20);
    bed_turns_until(&f.bed, 4, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_machine_started_and_stopped_between_two_looks_is_compared(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    f.machine->disks[0].bytes[5] ^= 0xff; /* a block device: nothing shows that it was written */
    session_source_changed(f.bed.session);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_comparison_that_finds_nothing_makes_no_point(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_restart(f.machine);
    f.machine->running = false;
    fake_write_random(f.machine, &f.seed, 0);
    for (int i = 0; i < 6; i++)
        bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.durable_point, 1);
    assert_true(bed_replica_equals_cut(&f.bed));
}

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
        TMPDIR_TEST(a_link_cut_in_a_segment_goes_on_with_the_rest),
        TMPDIR_TEST(a_replica_that_restarts_is_gone_on_with),
        TMPDIR_TEST(an_unreachable_replica_is_tried_by_the_schedule),
        TMPDIR_TEST(a_person_can_have_it_tried_at_once),
        TMPDIR_TEST(lost_tracking_sends_only_what_differs),
        TMPDIR_TEST(a_rescan_while_the_machine_writes_makes_one_consistent_point),
        TMPDIR_TEST(a_rescan_needs_no_digests_from_the_replica_while_ours_are_good),
        TMPDIR_TEST(a_machine_that_restarts_in_mid_copy_is_copied_anew_without_waiting),
        TMPDIR_TEST(a_failing_cut_changes_nothing_and_the_next_has_it_all),
        TMPDIR_TEST(a_source_that_stays_broken_becomes_critical),
        TMPDIR_TEST(a_disk_that_changed_its_size_is_refused_with_both_sizes),
        TMPDIR_TEST(a_machine_that_is_off_is_copied_and_then_only_watched),
        TMPDIR_TEST(disks_touched_while_off_are_compared_and_sent),
        TMPDIR_TEST(a_machine_that_was_off_is_compared_when_it_runs_again),
        TMPDIR_TEST(a_machine_started_and_stopped_between_two_looks_is_compared),
        TMPDIR_TEST(a_comparison_that_finds_nothing_makes_no_point),
        TMPDIR_TEST(a_promoted_replica_fences_the_session),
        TMPDIR_TEST(a_replica_that_lost_its_points_is_not_written_to),
        TMPDIR_TEST(a_replica_removed_in_mid_copy_is_copied_from_the_beginning),
        TMPDIR_TEST(a_session_without_a_checkpoint_compares_with_the_replica_there_is),
        TMPDIR_TEST(an_unreadable_checkpoint_is_kept_and_named),
        TMPDIR_TEST(a_pause_stops_the_points_and_survives_a_restart),
        TMPDIR_TEST(sync_now_makes_a_point_of_all_that_was_written),
        TMPDIR_TEST(a_final_sync_wants_the_machine_shut_down_and_pauses),
        TMPDIR_TEST(a_final_sync_of_a_machine_that_is_off_compares_first),
        TMPDIR_TEST(there_is_no_sync_before_the_initial_copy),
        TMPDIR_TEST(a_forgotten_group_tracks_nothing_and_leaves_the_replica),
        TMPDIR_TEST(a_group_whose_machine_is_gone_can_be_forgotten),
        TMPDIR_TEST(a_cancelled_turn_is_no_failure),
    };
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
