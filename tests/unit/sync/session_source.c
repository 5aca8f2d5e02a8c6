// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"
#include "sync/checkpoint.h"

#include <errno.h>

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

static void break_link(struct fake_machine *machine, void *ctx)
{
    struct bed *bed = ctx;

    machine->on_piece = NULL;
    bed->break_link = true;
}

static void a_link_that_breaks_while_disks_are_compared_is_the_links_fault_and_no_scan_ends(
    void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_restart(f.machine);
    fake_write(f.machine, 1, 65536 * 7 + 100, "difference", 10);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_RESYNCING);
    bed_turn(&f.bed);
    f.machine->on_piece = break_link; /* the replica is asked about what was found, then */
    f.machine->on_piece_ctx = &f.bed;
    while (f.machine->on_piece || bed_status(&f.bed).state != SESSION_BACKING_OFF)
        bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).error.code, ERR_NET);
    while (bed_status(&f.bed).applied_point < 2) {
        bed_turn(&f.bed);
        if (bed_status(&f.bed).error.code != ERR_NONE)
            fail_msg("%s", bed_status(&f.bed).error.text);
    }
    assert_true(bed_replica_equals_cut(&f.bed));
}

struct disk_fault {
    const char *call;
    int sys;
};

/* Of this site's own disk: the replica's rests meanwhile. */
static void fail_our_disk(struct fake_machine *machine, void *ctx)
{
    const struct disk_fault *fault = ctx;

    machine->on_piece = NULL;
    fault_arm(fault->call, 0, fault->sys);
}

static void what_our_disk_did_not_keep_of_a_comparison_is_looked_for_again(void **state)
{
    static struct disk_fault faults[] = {
        {"fs.pwrite", ENOSPC}, {"fs.pwrite", EIO}, {"fs.sync", EIO}, {"fs.pread", EIO}};

    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%zu", (const char *)*state, i);
        CLEANUP(fixture_done) struct fixture f;
        start_protected(&f, dir);
        fake_restart(f.machine);
        for (uint64_t at = 0; at < f.machine->disks[0].size; at += 65536)
            fake_write(f.machine, 0, at, "difference", 10);
        bed_turn(&f.bed);
        assert_int_equal(bed_status(&f.bed).state, SESSION_RESYNCING);
        f.machine->on_piece = fail_our_disk;
        f.machine->on_piece_ctx = &faults[i];
        uint64_t scanned = f.machine->scanned;
        bed_turn(&f.bed);
        fault_clear();
        struct session_status s = bed_status(&f.bed);
        assert_int_equal(s.state, SESSION_BACKING_OFF);
        assert_int_equal(s.error.code, faults[i].sys == ENOSPC ? ERR_SPACE : ERR_IO);
        assert_non_null(strstr(s.error.text, "/session/"));
        uint64_t pieces = f.machine->scanned - scanned;
        bed_turn(&f.bed); /* the disk from its beginning */
        assert_true(f.machine->scanned - scanned >= 2 * pieces);
        bed_turns_until(&f.bed, 2, 10);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void what_was_found_goes_only_after_the_checkpoint_has_let_go_of_it(void **state)
{
    static struct disk_fault fault = {"fs.sync_dir", EIO};
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_restart(f.machine);
    fake_write(f.machine, 0, 65536, "difference", 10);
    bed_turn(&f.bed);
    f.machine->on_piece = fail_our_disk;
    f.machine->on_piece_ctx = &fault;
    bed_turn(&f.bed); /* the checkpoint that says "compared" is there, and an error */
    fault_clear();
    assert_int_equal(bed_status(&f.bed).error.code, ERR_IO);
    f.machine->on_piece = break_link;
    f.machine->on_piece_ctx = &f.bed;
    bed_turn(&f.bed); /* begins anew, and does not come far */
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed); /* the daemon was killed there */
    bed_turns_until(&f.bed, 2, 20);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* As a source that reads a clone says. */
static void cut_the_past(struct fake_machine *machine, struct source_cut *cut, void *ctx)
{
    struct bed *bed = ctx;

    cut->wall_ms = bed->clock.clock.wall_ms(&bed->clock.clock);
    if (machine->cuts > 1)
        return;
    cut->wall_ms -= 60000;
    cut->age_ms = 60000;
}

static void a_point_of_the_past_is_as_old_as_its_instant_until_the_disks_were_seen_since(
    void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start(&f, *state);
    clock_fake_advance(&f.bed.clock, 1000000);
    f.machine->running = false;
    f.machine->on_cut = cut_the_past;
    f.machine->on_cut_ctx = &f.bed;
    bed_turns_until(&f.bed, 1, 20);
    assert_int_equal(f.machine->cuts, 1);
    assert_true(bed_status(&f.bed).durable_age_ms >= 60000);
    assert_true(bed_status(&f.bed).applied_age_ms >= 60000);
    assert_int_equal(bed_status(&f.bed).next_cut_ms, 0); /* at once */
    bed_turn(&f.bed);
    assert_int_equal(f.machine->cuts, 2);
    assert_true(bed_status(&f.bed).durable_age_ms < BED_INTERVAL_MS * 2);
    assert_int_equal(bed_status(&f.bed).durable_point, 1);
}

static void disks_that_are_found_equal_were_so_at_that_instant(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start(&f, *state);
    f.machine->running = false;
    bed_turns_until(&f.bed, 1, 20);
    clock_fake_advance(&f.bed.clock, 300000);
    session_source_changed(f.bed.session);
    f.machine->cuts = 0;
    f.machine->on_cut = cut_the_past;
    f.machine->on_cut_ctx = &f.bed;
    for (int i = 0; i < 10 && f.machine->cuts == 0; i++)
        bed_turn(&f.bed);
    assert_int_equal(f.machine->cuts, 1);
    assert_in_range(bed_status(&f.bed).durable_age_ms, 60000, 90000);
    assert_in_range(bed_status(&f.bed).applied_age_ms, 60000, 90000);
    assert_int_equal(bed_status(&f.bed).next_cut_ms, 0); /* at once */
    bed_turn(&f.bed);
    assert_int_equal(f.machine->cuts, 2);
    assert_true(bed_status(&f.bed).durable_age_ms < BED_INTERVAL_MS * 2);
    assert_int_equal(bed_status(&f.bed).durable_point, 1);
}

static void a_wish_for_a_point_now_is_not_met_by_one_of_the_past(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    start(&f, *state);
    f.machine->running = false;
    bed_turns_until(&f.bed, 1, 20);
    fake_write_random(f.machine, &f.seed, 20);
    f.machine->cuts = 0;
    f.machine->on_cut = cut_the_past;
    f.machine->on_cut_ctx = &f.bed;
    EXPECT_OK(session_sync_now(f.bed.session, true, &point, NULL, &err));
    assert_int_equal(point, 2);
    assert_int_equal(f.machine->cuts, 2);
    assert_true(bed_status(&f.bed).durable_age_ms < 60000);
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

static void a_disk_that_shrank_is_refused_with_both_sizes(void **state)
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
    assert_non_null(strstr(s.error.text, "disk0 of shop shrank from 2097152 to 1048576"));
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

/* It applied the point, and we were killed before we heard it: no later point says it for us. */
static void what_a_replica_applied_unheard_is_learned_without_another_point(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *dir = path_join(*state, "session");
    CLEANUP(checkpoint_done) struct checkpoint ck = {0};

    prepare(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    bed_drop_session(&f.bed);
    EXPECT_OK(checkpoint_load(dir, &ck, &err));
    ck.applied_point = 0;
    ck.applied_cut_ms = 0;
    EXPECT_OK(checkpoint_save(dir, &ck, &err));
    bed_open_session(&f.bed);
    for (int i = 0; i < 10; i++)
        bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.durable_point, 1);
    assert_int_equal(s.applied_point, 1);
    assert_int_equal(s.applied_cut_ms, s.durable_cut_ms);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(lost_tracking_sends_only_what_differs),
        TMPDIR_TEST(a_rescan_while_the_machine_writes_makes_one_consistent_point),
        TMPDIR_TEST(a_rescan_needs_no_digests_from_the_replica_while_ours_are_good),
        TMPDIR_TEST(
            a_link_that_breaks_while_disks_are_compared_is_the_links_fault_and_no_scan_ends),
        TMPDIR_TEST(what_our_disk_did_not_keep_of_a_comparison_is_looked_for_again),
        TMPDIR_TEST(what_was_found_goes_only_after_the_checkpoint_has_let_go_of_it),
        TMPDIR_TEST(a_point_of_the_past_is_as_old_as_its_instant_until_the_disks_were_seen_since),
        TMPDIR_TEST(disks_that_are_found_equal_were_so_at_that_instant),
        TMPDIR_TEST(a_wish_for_a_point_now_is_not_met_by_one_of_the_past),
        TMPDIR_TEST(a_machine_that_restarts_in_mid_copy_is_copied_anew_without_waiting),
        TMPDIR_TEST(a_failing_cut_changes_nothing_and_the_next_has_it_all),
        TMPDIR_TEST(a_source_that_stays_broken_becomes_critical),
        TMPDIR_TEST(a_disk_that_shrank_is_refused_with_both_sizes),
        TMPDIR_TEST(a_machine_that_is_off_is_copied_and_then_only_watched),
        TMPDIR_TEST(what_a_replica_applied_unheard_is_learned_without_another_point),
        TMPDIR_TEST(disks_touched_while_off_are_compared_and_sent),
        TMPDIR_TEST(a_machine_that_was_off_is_compared_when_it_runs_again),
        TMPDIR_TEST(a_machine_started_and_stopped_between_two_looks_is_compared),
        TMPDIR_TEST(a_comparison_that_finds_nothing_makes_no_point),
    };
    return cmocka_run_group_tests_name("session and its source", tests, NULL, NULL);
}
