// SPDX-License-Identifier: Apache-2.0
/* What is damaged at the replica comes from the source once more. */
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK 17u

/* Of disk 0's head at the replica. */
static void rot(struct fixture *f, uint64_t chunk)
{
    CLEANUP(mem_freep)
    char *path = mem_printf("%s/replica/%s/head.raw", f->bed.dir, f->machine->disks[0].name);
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t at = (off_t)(chunk * 65536 + 40000);
    uint8_t byte = 0;

    assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static int verify(struct fixture *f)
{
    struct store *store = bed_store(&f->bed);

    err_clear(&err);
    int rc = store_dir_verify(store, NULL, &err);
    bed_store_put(&f->bed);
    return rc;
}

static uint64_t damaged_at(struct fixture *f, uint64_t point)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    struct store *store = bed_store(&f->bed);
    uint64_t damaged = 99;

    EXPECT_OK(store->ops->points(store, &points, &err));
    bed_store_put(&f->bed);
    VEC_FOREACH(at, &points)
        if (at->point == point)
            damaged = at->damaged_chunks;
    return damaged;
}

static void damaged_chunks_come_again_with_the_next_point_and_all_points_are_whole(void **state)
{
    for (int unordered = 0; unordered < 2; unordered++) {
        CLEANUP(fixture_done) struct fixture f;
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", (const char *)*state, unordered);
        uint8_t bytes[65536];

        start_protected(&f, dir);
        f.machine->unordered = unordered != 0;
        memset(bytes, 0x3c, sizeof(bytes));
        fake_write(f.machine, 0, CHUNK * 65536, bytes, sizeof(bytes));
        bed_turns_until(&f.bed, 2, 3);
        rot(&f, CHUNK);
        rot(&f, CHUNK + 1);
        rot(&f, 2);
        EXPECT_ERR(ERR_CORRUPT, verify(&f));
        assert_int_equal(damaged_at(&f, 2), 3);
        uint64_t before = f.bed.sent;
        bed_turns_until(&f.bed, 3, 3);
        assert_true(f.bed.sent - before < 4 * 65536);
        assert_int_equal(damaged_at(&f, 2), 0);
        assert_int_equal(damaged_at(&f, 1), 0);
        assert_int_equal(damaged_at(&f, 3), 0);
        EXPECT_OK(verify(&f));
        assert_true(bed_replica_equals_cut(&f.bed));
        assert_string_equal(bed_status(&f.bed).note, "");
        before = f.bed.sent;
        bed_turns_until(&f.bed, 4, 3);
        assert_true(f.bed.sent - before < 65536);
    }
}

static void a_chunk_that_the_guest_writes_meanwhile_is_whole_from_the_new_point_on(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    rot(&f, CHUNK);
    EXPECT_ERR(ERR_CORRUPT, verify(&f));
    fake_write(f.machine, 0, CHUNK * 65536 + 12000, "changed", 7);
    bed_turns_until(&f.bed, 2, 3);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_int_equal(damaged_at(&f, 2), 0);
    assert_int_equal(damaged_at(&f, 1), 1);
}

static void rot_that_an_apply_finds_is_repaired_by_the_point_after_it(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    rot(&f, CHUNK);
    fake_write(f.machine, 0, CHUNK * 65536 + 12000, "changed", 7);
    bed_turns_until(&f.bed, 2, 3);
    assert_int_equal(damaged_at(&f, 2), 1);
    assert_false(bed_replica_equals_cut(&f.bed));
    bed_turns_until(&f.bed, 3, 3);
    assert_int_equal(damaged_at(&f, 3), 0);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_machine_that_is_off_repairs_its_replica_too(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    for (int i = 0; i < 3; i++)
        bed_turn(&f.bed);
    uint64_t newest = bed_status(&f.bed).durable_point;
    rot(&f, CHUNK);
    EXPECT_ERR(ERR_CORRUPT, verify(&f));
    bed_turns_until(&f.bed, newest + 1, 4);
    EXPECT_OK(verify(&f));
    assert_int_equal(damaged_at(&f, newest), 0);
    for (int i = 0; i < 3; i++)
        bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).durable_point, newest + 1); /* and is quiet again */
}

static void a_repair_that_breaks_off_begins_again(void **state)
{
    static const char *const ops[] = {"scan", "cut", "read", "end"};
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        uint64_t point = bed_status(&f.bed).durable_point;
        rot(&f, CHUNK + i);
        EXPECT_ERR(ERR_CORRUPT, verify(&f));
        fake_write_random(f.machine, &f.seed, 10);
        fake_fail(f.machine, ops[i], 0, ERR_NET);
        bed_turn(&f.bed);
        fake_write_random(f.machine, &f.seed, 10);
        bed_turns_until(&f.bed, point + 2, 8);
        assert_true(bed_replica_equals_cut(&f.bed));
        assert_int_equal(damaged_at(&f, bed_status(&f.bed).durable_point), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(damaged_chunks_come_again_with_the_next_point_and_all_points_are_whole),
        TMPDIR_TEST(a_chunk_that_the_guest_writes_meanwhile_is_whole_from_the_new_point_on),
        TMPDIR_TEST(rot_that_an_apply_finds_is_repaired_by_the_point_after_it),
        TMPDIR_TEST(a_machine_that_is_off_repairs_its_replica_too),
        TMPDIR_TEST(a_repair_that_breaks_off_begins_again),
    };
    return cmocka_run_group_tests_name("session and its repairs", tests, NULL, NULL);
}
