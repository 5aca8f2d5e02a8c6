// SPDX-License-Identifier: Apache-2.0
/* What an old primary wrote that no point holds: sealed as a point that the replica, had it not been
 * promoted, could have taken. So the tests give it to the replica and look at its heads. */
#include "support/expect.h"
#include "support/sync/bed_branch.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

struct kept {
    struct session_branch branch;
};

static int try_branch(struct fixture *f, struct kept *kept, bool alive)
{
    return bed_branch(&f->bed, alive, &kept->branch, &err);
}

static void branch_off(struct fixture *f, struct kept *kept, bool alive)
{
    EXPECT_OK(try_branch(f, kept, alive));
}

/* The replica takes the branch as its next point, and holds what the machine's disks hold then. */
static void expect_bit_exact(struct fixture *f, const struct kept *kept)
{
    CLEANUP(mem_freep) char *folder = bed_branch_folder(&f->bed, kept->branch.point);

    bed_give_point(&f->bed, folder);
    assert_true(bed_replica_equals_machine(&f->bed));
}

static bool has_folder(const struct fixture *f, uint64_t point)
{
    CLEANUP(mem_freep) char *folder = bed_branch_folder(&f->bed, point);

    return fs_exists(folder);
}

static void what_was_written_after_the_last_point_is_in_the_branch(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    fake_write_random(f.machine, &f.seed, 40);
    branch_off(&f, &kept, true);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_SEALED);
    assert_int_equal(kept.branch.parent, 1);
    assert_int_equal(kept.branch.point, 2);
    assert_int_equal(kept.branch.disk_count, 2);
    assert_true(kept.branch.disks[0].bytes + kept.branch.disks[1].bytes > 0);
    assert_true(kept.branch.disks[0].sealed + kept.branch.disks[1].sealed > 0);
    expect_bit_exact(&f, &kept);
}

static void what_was_written_until_it_was_stopped_is_in_the_branch(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    f.bed.last_writes = 40;
    branch_off(&f, &kept, true);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_SEALED);
    expect_bit_exact(&f, &kept);
}

static void a_machine_that_wrote_nothing_has_no_branch(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    start_protected(&f, *state);
    branch_off(&f, &kept, true);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_NONE);
    assert_false(has_folder(&f, 2));
}

/* A point is sealed, and on its way when the link breaks for good. */
static void break_in_mid_point(struct fixture *f, const char *dir)
{
    CLEANUP(mem_freep) char *sealed = mem_printf("%s/session/outbox/manifest", dir);

    start_protected(f, dir);
    fake_write_random(f->machine, &f->seed, 40);
    f->bed.break_link = true;
    f->bed.cut_next = MIB / 16;
    bed_turn(&f->bed); /* finds the link broken; the next one breaks in the middle of the point */
    bed_turn(&f->bed);
    f->bed.unreachable = true;
    assert_int_equal(bed_status(&f->bed).durable_point, 1);
    assert_true(fs_exists(sealed));
    fake_write_random(f->machine, &f->seed, 10);
}

static void a_point_that_did_not_arrive_is_part_of_the_branch(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    break_in_mid_point(&f, *state);
    branch_off(&f, &kept, true);
    assert_int_equal(kept.branch.point, 2);
    expect_bit_exact(&f, &kept);
}

static void a_point_that_arrived_unconfirmed_is_what_the_branch_begins_at(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;
    CLEANUP(mem_freep) char *outbox = mem_printf("%s/session/outbox", (const char *)*state);

    break_in_mid_point(&f, *state);
    bed_give_point(&f.bed, outbox);
    branch_off(&f, &kept, true);
    assert_int_equal(kept.branch.parent, 2);
    assert_int_equal(kept.branch.point, 3);
    expect_bit_exact(&f, &kept);
}

static void a_branch_that_could_not_be_read_is_made_at_the_next_try(void **state)
{
    static const char *const ops[] = {"cut", "read"};
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    fake_write_random(f.machine, &f.seed, 40);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        fake_fail(f.machine, ops[i], 0, ERR_IO);
        assert_int_equal(try_branch(&f, &kept, true), -1);
        assert_false(has_folder(&f, 2));
    }
    branch_off(&f, &kept, true);
    expect_bit_exact(&f, &kept);
}

/* The daemon is killed after the branch is there, before the machine's process was ended. */
static void a_branch_is_made_again_by_the_next_daemon(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    fake_write_random(f.machine, &f.seed, 40);
    branch_off(&f, &kept, true);
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    branch_off(&f, &kept, true);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_SEALED);
    assert_int_equal(kept.branch.point, 2);
    expect_bit_exact(&f, &kept);
}

static void a_branch_that_is_there_outlives_its_machine(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    fake_write_random(f.machine, &f.seed, 40);
    branch_off(&f, &kept, true);
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    f.machine->running = false;
    branch_off(&f, &kept, false);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_SEALED);
    assert_true(kept.branch.disks[0].sealed + kept.branch.disks[1].sealed > 0);
    f.machine->running = true;
    expect_bit_exact(&f, &kept);
}

static void a_machine_whose_maps_are_lost_has_a_branch_of_unknown_extent(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    fake_write_random(f.machine, &f.seed, 40);
    fake_restart(f.machine);
    branch_off(&f, &kept, true);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_UNKNOWN);
    assert_int_equal(kept.branch.point, 2);
    assert_false(has_folder(&f, 2));
    branch_off(&f, &kept, false);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_UNKNOWN);
}

/* Off since before its last point, and watched since: nobody wrote. */
static void a_machine_that_was_off_all_the_time_has_no_branch(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct kept kept;

    prepare(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    bed_turn(&f.bed);
    branch_off(&f, &kept, false);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_NONE);
    fake_write_random(f.machine, &f.seed, 3);
    branch_off(&f, &kept, false);
    assert_int_equal(kept.branch.kind, SESSION_BRANCH_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(what_was_written_after_the_last_point_is_in_the_branch),
        TMPDIR_TEST(what_was_written_until_it_was_stopped_is_in_the_branch),
        TMPDIR_TEST(a_machine_that_wrote_nothing_has_no_branch),
        TMPDIR_TEST(a_point_that_did_not_arrive_is_part_of_the_branch),
        TMPDIR_TEST(a_point_that_arrived_unconfirmed_is_what_the_branch_begins_at),
        TMPDIR_TEST(a_branch_that_could_not_be_read_is_made_at_the_next_try),
        TMPDIR_TEST(a_branch_is_made_again_by_the_next_daemon),
        TMPDIR_TEST(a_branch_that_is_there_outlives_its_machine),
        TMPDIR_TEST(a_machine_whose_maps_are_lost_has_a_branch_of_unknown_extent),
        TMPDIR_TEST(a_machine_that_was_off_all_the_time_has_no_branch),
    };
    return cmocka_run_group_tests_name("session_branch", tests, NULL, NULL);
}
