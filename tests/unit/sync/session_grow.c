// SPDX-License-Identifier: Apache-2.0
#include "replica/view.h"
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

#include <fcntl.h>

#define NEW_SIZE (3 * MIB + 4096) /* of disk0, which has 2 MiB */
#define ODD_SIZE (4 * MIB + 512)  /* of disk1, which has 3 MiB, 4096 and 512 bytes */

/* The disk as the point has it; free with free(). */
static uint8_t *point_of(struct fixture *f, const char *disk, uint64_t point, uint64_t *ret_size)
{
    CLEANUP(mem_freep) char *dir = path_join(f->bed.dir, "replica");
    CLEANUP(view_closep) struct view *view = NULL;

    EXPECT_OK(view_open(dir, disk, point, &f->bed.config.group_key, NULL, &view, &err));
    *ret_size = view_size(view);
    uint8_t *bytes = mem_alloc(*ret_size, 1);
    EXPECT_OK(view_read(view, 0, bytes, *ret_size, &err));
    return bytes;
}

static void a_disk_that_grew_is_followed_by_a_point_of_the_new_size(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t size;

    start_protected(&f, *state);
    CLEANUP(mem_freep) uint8_t *before = mem_alloc(two_disks[0], 1);
    memcpy(before, f.machine->disks[0].cut, two_disks[0]);
    uint64_t scanned = f.machine->scanned;
    uint64_t sent = f.bed.sent;
    fake_resize(f.machine, 0, NEW_SIZE);
    fake_write(f.machine, 0, NEW_SIZE - 600, "the very end", 12);
    bed_turns_until(&f.bed, 2, 3);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_int_equal(s.disks[0].size, NEW_SIZE);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_int_equal(f.machine->scanned, scanned); /* a file grows by zeros: nothing is read */
    assert_true(f.bed.sent - sent < 65536);

    CLEANUP(mem_freep) uint8_t *old = point_of(&f, "disk0", 1, &size);
    assert_int_equal(size, two_disks[0]);
    assert_memory_equal(old, before, size);
    CLEANUP(mem_freep) uint8_t *new = point_of(&f, "disk0", 2, &size);
    assert_int_equal(size, NEW_SIZE);
    assert_memory_equal(new, f.machine->disks[0].cut, size);

    for (uint64_t point = 3; point < 6; point++) {
        fake_write_random(f.machine, &f.seed, 30);
        bed_turns_until(&f.bed, point, 3);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

/* Sizes that end within a chunk, before and after, again and again. */
static void disks_of_odd_sizes_grow_while_the_machine_writes(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t size;

    start_protected(&f, *state);
    f.bed.config.policy.retention.keep = 20;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    for (uint64_t point = 2; point < 12; point++) {
        uint64_t to = two_disks[1] + (point - 1) * 33792;
        fake_write_random(f.machine, &f.seed, 15);
        fake_resize(f.machine, 1, to);
        fake_write_random(f.machine, &f.seed, 15);
        bed_turns_until(&f.bed, point, 4);
        assert_true(bed_replica_equals_cut(&f.bed));
        free(point_of(&f, "disk1", point - 1, &size));
        assert_int_equal(size, to - 33792);
    }
    struct store *store = bed_store(&f.bed);
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    bed_store_put(&f.bed);
    bed_restart_replica(&f.bed);
    bed_turns_until(&f.bed, 12, 5);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* Points go, and their undo files become one; what is pinned stays as it was. */
static void points_of_all_sizes_outlive_those_in_between(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint8_t *images[64] = {0};
    uint64_t sizes[64] = {0};
    uint64_t size, pinned;

    start_protected(&f, *state);
    for (uint64_t point = 2; point < 60; point++) {
        if (point % 5 == 0)
            fake_resize(f.machine, 1, f.machine->disks[1].size + 33792);
        fake_write_random(f.machine, &f.seed, 10);
        bed_turns_until(&f.bed, point, 4);
        sizes[point] = f.machine->disks[1].size;
        images[point] = mem_alloc(sizes[point], 1);
        memcpy(images[point], f.machine->disks[1].cut, sizes[point]);
        if (point % 17 != 3)
            continue;
        CLEANUP(mem_freep) char *label = mem_printf("pin%llu", (unsigned long long)point);
        struct store *store = bed_store(&f.bed);
        EXPECT_OK(store->ops->pin(store, 0, label, &pinned, &err));
        assert_int_equal(pinned, point);
        bed_store_put(&f.bed);
    }
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    struct store *store = bed_store(&f.bed);
    EXPECT_OK(store->ops->points(store, &points, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    bed_store_put(&f.bed);
    assert_in_range(points.len, 6, 8); /* three kept, four pinned */
    VEC_FOREACH(point, &points) {
        CLEANUP(mem_freep) uint8_t *bytes = point_of(&f, "disk1", point->point, &size);
        assert_int_equal(size, sizes[point->point]);
        assert_memory_equal(bytes, images[point->point], size);
    }
    for (size_t i = 0; i < 64; i++)
        free(images[i]);
}

static void a_resync_after_a_growth_needs_no_digests_from_the_replica(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_resize(f.machine, 1, ODD_SIZE);
    fake_write_random(f.machine, &f.seed, 15);
    bed_turns_until(&f.bed, 2, 3);
    fake_restart(f.machine);
    uint64_t sent = f.bed.sent;
    bed_turns_until(&f.bed, 3, 6);
    assert_true(f.bed.sent - sent < 65536); /* nothing differs, also where the old end was */
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void what_a_block_device_grew_by_is_compared(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    f.machine->dirty_tail = true;
    fake_resize(f.machine, 0, NEW_SIZE);
    fake_write_random(f.machine, &f.seed, 10);
    uint64_t scanned = f.machine->scanned;
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_RESYNCING);
    assert_int_equal(s.resync.cause, RESYNC_GREW);
    assert_non_null(strstr(s.resync.why, "disk disk0 grew from 2.0 MiB to 3.0 MiB"));
    bed_turns_until(&f.bed, 2, 6);
    assert_true(f.machine->scanned - scanned < 8); /* that part only */
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_int_equal(bed_status(&f.bed).resync.cause, RESYNC_NONE);
}

static void a_disk_grown_while_its_tracking_was_lost_is_compared_as_a_whole(void **state)
{
    for (int dirty = 0; dirty < 2; dirty++) {
        CLEANUP(fixture_done) struct fixture f;
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", (const char *)*state, dirty);

        start_protected(&f, dir);
        f.machine->dirty_tail = dirty != 0;
        fake_write_random(f.machine, &f.seed, 10);
        fake_restart(f.machine);
        fake_resize(f.machine, 1, ODD_SIZE);
        fake_write_random(f.machine, &f.seed, 10);
        bed_turns_until(&f.bed, 2, 10);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void a_disk_grown_while_its_machine_is_off_becomes_a_point(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    fake_resize(f.machine, 0, NEW_SIZE);
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).durable_point, 2); /* and no more of them */
}

static void a_disk_that_grows_during_its_copy_is_copied_on(void **state)
{
    for (int unordered = 0; unordered < 2; unordered++) {
        CLEANUP(fixture_done) struct fixture f;
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", (const char *)*state, unordered);

        start(&f, dir);
        f.machine->unordered = unordered != 0;
        bed_turn(&f.bed);
        bed_turn(&f.bed); /* disk0 is done */
        fake_resize(f.machine, 0, NEW_SIZE);
        fake_resize(f.machine, 1, ODD_SIZE);
        fake_write_random(f.machine, &f.seed, 10);
        bed_turns_until(&f.bed, 1, 20);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void a_disk_that_grows_between_its_copy_and_the_first_point_is_followed(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start(&f, *state);
    for (int i = 0; i < 3; i++)
        bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).durable_point, 0);
    bed_turn(&f.bed);
    fake_resize(f.machine, 1, ODD_SIZE);
    bed_turns_until(&f.bed, 2, 20);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_disk_that_grows_during_a_resync_is_compared_to_its_new_end(void **state)
{
    for (int kind = 0; kind < 4; kind++) {
        CLEANUP(fixture_done) struct fixture f;
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", (const char *)*state, kind);

        start_protected(&f, dir);
        f.machine->unordered = kind % 2 != 0;
        f.machine->dirty_tail = kind / 2 != 0;
        fake_write_random(f.machine, &f.seed, 20);
        fake_restart(f.machine);
        fake_write_random(f.machine, &f.seed, 20);
        bed_turn(&f.bed);
        bed_turn(&f.bed);
        fake_resize(f.machine, 0, NEW_SIZE);
        fake_resize(f.machine, 1, ODD_SIZE);
        fake_write_random(f.machine, &f.seed, 10);
        bed_turns_until(&f.bed, 2, 20);
        assert_true(bed_replica_equals_cut(&f.bed));
    }
}

static void a_growth_survives_a_restart_before_its_point(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_resize(f.machine, 1, ODD_SIZE);
    f.bed.break_link = true;
    f.bed.unreachable = true;
    bed_turn(&f.bed);
    bed_drop_session(&f.bed);
    f.bed.unreachable = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 2, 5);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_disk_that_has_its_size_back_goes_on(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_resize(f.machine, 0, MIB);
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_CRITICAL);
    assert_non_null(strstr(s.error.text, "; hint: give it its size back"));
    fake_resize(f.machine, 0, two_disks[0]);
    memcpy(f.machine->disks[0].bytes + MIB, f.machine->disks[0].cut + MIB, MIB);
    session_retry(f.bed.session);
    bed_turns_until(&f.bed, 2, 5);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* A promotion takes head back: the disk is as large as it was, and what it had grown by is kept. */
static void the_way_back_to_a_point_before_the_growth_has_its_size(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t generation, chosen, applied, size;
    struct store_info info;

    start_protected(&f, *state);
    CLEANUP(mem_freep) uint8_t *first = mem_alloc(two_disks[1], 1);
    memcpy(first, f.machine->disks[1].cut, two_disks[1]);
    fake_resize(f.machine, 1, ODD_SIZE);
    fake_write_random(f.machine, &f.seed, 30);
    fake_write(f.machine, 1, ODD_SIZE - 100, "lost?", 5);
    bed_turns_until(&f.bed, 2, 5);
    CLEANUP(mem_freep) uint8_t *second = mem_alloc(ODD_SIZE, 1);
    memcpy(second, f.machine->disks[1].cut, ODD_SIZE);

    struct store *store = bed_store(&f.bed);
    EXPECT_OK(store->ops->promote(store, 1, 1, "run-1", "lyon", f.bed.config.sign_key, 1,
                                  &generation, &chosen, &err));
    EXPECT_OK(store->ops->point_apply(store, &applied, NULL, NULL, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_int_equal(info.applied_point, 3);
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    bed_store_put(&f.bed);
    for (int again = 0; again < 2; again++) {
        CLEANUP(mem_freep) uint8_t *head = point_of(&f, "disk1", 3, &size);
        assert_int_equal(size, two_disks[1]);
        assert_memory_equal(head, first, size);
        CLEANUP(mem_freep) uint8_t *branch = point_of(&f, "disk1", 2, &size);
        assert_int_equal(size, ODD_SIZE);
        assert_memory_equal(branch, second, size);
        CLEANUP(mem_freep) uint8_t *old = point_of(&f, "disk1", 1, &size);
        assert_int_equal(size, two_disks[1]);
        assert_memory_equal(old, first, size);
        bed_restart_replica(&f.bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_disk_that_grew_is_followed_by_a_point_of_the_new_size),
        TMPDIR_TEST(disks_of_odd_sizes_grow_while_the_machine_writes),
        TMPDIR_TEST(points_of_all_sizes_outlive_those_in_between),
        TMPDIR_TEST(a_resync_after_a_growth_needs_no_digests_from_the_replica),
        TMPDIR_TEST(what_a_block_device_grew_by_is_compared),
        TMPDIR_TEST(a_disk_grown_while_its_tracking_was_lost_is_compared_as_a_whole),
        TMPDIR_TEST(a_disk_grown_while_its_machine_is_off_becomes_a_point),
        TMPDIR_TEST(a_disk_that_grows_during_its_copy_is_copied_on),
        TMPDIR_TEST(a_disk_that_grows_between_its_copy_and_the_first_point_is_followed),
        TMPDIR_TEST(a_disk_that_grows_during_a_resync_is_compared_to_its_new_end),
        TMPDIR_TEST(a_growth_survives_a_restart_before_its_point),
        TMPDIR_TEST(a_disk_that_has_its_size_back_goes_on),
        TMPDIR_TEST(the_way_back_to_a_point_before_the_growth_has_its_size),
    };
    return cmocka_run_group_tests_name("session and disks of another size", tests, NULL, NULL);
}
