// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/fs.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Noise on all of the disks, so that what travels can be told from what does not. */
static void fill_disks(struct fixture *f)
{
    for (size_t d = 0; d < f->machine->disk_count; d++) {
        struct fake_disk *disk = &f->machine->disks[d];
        CLEANUP(mem_freep) uint8_t *noise = mem_alloc(disk->size, 1);
        random_bytes(noise, disk->size);
        fake_write(f->machine, d, 0, noise, disk->size);
    }
}

static void prepare_noise(struct fixture *f, const char *dir)
{
    prepare(f, dir);
    fill_disks(f);
}

/* Both disks are at the other site as they were some writes ago. */
static void prepare_seeds(struct fixture *f, const char *dir)
{
    prepare_noise(f, dir);
    bed_seed_file(&f->bed, 0, "a.raw", two_disks[0]);
    bed_seed_file(&f->bed, 1, "b.raw", two_disks[1]);
    bed_seed(&f->bed, 0, "a.raw");
    bed_seed(&f->bed, 1, "b.raw");
    fake_write_random(f->machine, &f->seed, 4);
}

static void point_1(struct fixture *f)
{
    bed_turns_until(&f->bed, 1, 40);
    assert_true(bed_replica_equals_cut(&f->bed));
}

static void only_what_differs_from_a_seed_travels(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_seeds(&f, *state);
    bed_open_session(&f.bed);
    f.machine->on_piece = write_during_scan;
    f.machine->on_piece_ctx = &f.seed;
    point_1(&f);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_true(f.bed.sent < (two_disks[0] + two_disks[1]) / 3);
    assert_true(s.seed_data_bytes > two_disks[0]);
    assert_true(s.seed_same_bytes > s.seed_data_bytes / 2);
    assert_true(s.seed_same_bytes < s.seed_data_bytes);
    assert_int_equal(s.resync.cause, RESYNC_NONE);
}

static void a_disk_without_a_seed_is_copied_once(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_noise(&f, *state);
    bed_seed_file(&f.bed, 0, "a.raw", two_disks[0]);
    bed_seed(&f.bed, 0, "a.raw");
    bed_open_session(&f.bed);
    point_1(&f);
    assert_true(f.bed.sent > two_disks[1]);
    assert_true(f.bed.sent < two_disks[1] + two_disks[0] / 4);
}

static void an_unordered_scan_compares_the_same(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_seeds(&f, *state);
    f.machine->unordered = true;
    bed_open_session(&f.bed);
    point_1(&f);
    assert_true(f.bed.sent < (two_disks[0] + two_disks[1]) / 3);
}

static void a_machine_that_is_off_is_seeded_too(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_seeds(&f, *state);
    f.machine->running = false;
    bed_open_session(&f.bed);
    point_1(&f);
}

static void a_smaller_seed_is_used_as_far_as_it_goes(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_noise(&f, *state);
    bed_seed_file(&f.bed, 1, "part.raw", two_disks[1] / 2 + 777);
    bed_seed(&f.bed, 1, "part.raw");
    bed_open_session(&f.bed);
    point_1(&f);
    uint64_t all = two_disks[0] + two_disks[1];
    assert_true(f.bed.sent > all / 2 && f.bed.sent < all - two_disks[1] / 3);
}

static void the_seed_of_another_disk_costs_time_and_nothing_else(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_noise(&f, *state);
    bed_seed_file(&f.bed, 0, "a.raw", two_disks[0]);
    bed_seed(&f.bed, 1, "a.raw");
    bed_open_session(&f.bed);
    point_1(&f);
    assert_int_equal(bed_status(&f.bed).seed_same_bytes, 0);
}

static void a_seed_is_not_altered(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *path = mem_printf("%s/seeds/a.raw", (const char *)*state);
    CLEANUP(str_free) struct str before = STR_EMPTY;
    CLEANUP(str_free) struct str after = STR_EMPTY;

    prepare_seeds(&f, *state);
    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 24, &before, &err));
    bed_open_session(&f.bed);
    point_1(&f);
    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 24, &after, &err));
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.ptr, after.ptr, before.len);
}

static void once_the_head_is_filled_the_seed_may_go(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *seeds = mem_printf("%s/seeds", (const char *)*state);

    prepare_seeds(&f, *state);
    bed_open_session(&f.bed);
    for (int i = 0; bed_status(&f.bed).state != SESSION_RESYNCING; i++) {
        assert_true(i < 20);
        bed_turn(&f.bed);
    }
    EXPECT_OK(fs_remove_tree(fs_real(), seeds, &err));
    bed_restart_replica(&f.bed);
    point_1(&f);
}

static void a_seed_that_is_not_there_is_named_and_nothing_is_copied(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_noise(&f, *state);
    bed_seed_file(&f.bed, 0, "a.raw", 512);
    bed_seed(&f.bed, 0, "lost.raw");
    bed_open_session(&f.bed);
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_CRITICAL);
    assert_int_equal(s.error.code, ERR_NOT_FOUND);
    assert_non_null(strstr(s.error.text, "lost.raw"));
    assert_true(f.bed.sent < 65536);
    /* It is put there, and a person says so. */
    bed_seed_file(&f.bed, 0, "lost.raw", two_disks[0]);
    session_retry(f.bed.session);
    point_1(&f);
}

static void a_larger_seed_is_refused_with_both_sizes(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_noise(&f, *state);
    bed_seed_file(&f.bed, 1, "b.raw", two_disks[1]);
    bed_seed(&f.bed, 0, "b.raw");
    bed_open_session(&f.bed);
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.error.code, ERR_STATE);
    assert_non_null(strstr(s.error.text, "2097152"));
    assert_non_null(strstr(s.error.text, "3150336"));
}

static void flip_a_bit(struct fixture *f, const char *path, unsigned bit)
{
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t at = (off_t)(fake_random(&f->seed) % two_disks[0]);
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

/* Before the copy has ended: what head holds then is what is compared. */
static void a_bit_that_flips_in_what_was_seeded_is_never_in_a_point(void **state)
{
    for (unsigned bit = 0; bit < 8; bit++) {
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%u", (const char *)*state, bit);
        CLEANUP(mem_freep) char *head = mem_printf("%s/replica/disk0/head.raw", dir);
        CLEANUP(fixture_done) struct fixture f;

        prepare_seeds(&f, dir);
        bed_open_session(&f.bed);
        bed_turn(&f.bed); /* begins */
        bed_turn(&f.bed); /* fills disk0 */
        assert_int_equal(bed_status(&f.bed).disks[0].done_bytes, two_disks[0]);
        flip_a_bit(&f, head, bit);
        bed_restart_replica(&f.bed);
        point_1(&f);
        EXPECT_OK(store_dir_verify(bed_store(&f.bed), NULL, &err));
        bed_store_put(&f.bed);
    }
}

static void faults_of_the_replica_s_disk_only_cost_time(void **state)
{
    static const char *const calls[] = {"fs.pread", "fs.pwrite", "fs.sync", "fs.rename"};
    unsigned number = 0;

    for (size_t c = 0; c < ARRAY_LEN(calls); c++)
        for (int skip = 0; skip < 40; skip += 7) {
            CLEANUP(mem_freep) char *dir = mem_printf("%s/%u", (const char *)*state, number++);
            CLEANUP(fixture_done) struct fixture f;

            prepare_seeds(&f, dir);
            bed_open_session(&f.bed);
            bed_turn(&f.bed);
            fault_arm(calls[c], skip, EIO);
            bed_turn(&f.bed);
            fault_clear();
            session_retry(f.bed.session);
            point_1(&f);
        }
}

static void a_link_that_breaks_anywhere_loses_nothing(void **state)
{
    for (uint64_t cut = 200; cut < 20000; cut = cut * 3 / 2) {
        CLEANUP(mem_freep)
        char *dir = mem_printf("%s/%llu", (const char *)*state, (unsigned long long)cut);
        CLEANUP(fixture_done) struct fixture f;

        prepare_seeds(&f, dir);
        f.bed.cut_next = cut;
        bed_open_session(&f.bed);
        point_1(&f);
    }
}

static void another_seed_of_the_same_disk_begins_anew(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare_noise(&f, *state);
    bed_seed_file(&f.bed, 0, "wrong.raw", 4096);
    bed_seed_file(&f.bed, 0, "right.raw", two_disks[0]);
    bed_seed(&f.bed, 0, "wrong.raw");
    bed_seed(&f.bed, 1, "lost.raw");
    bed_open_session(&f.bed);
    for (int i = 0; i < 4; i++)
        bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_CRITICAL);
    bed_drop_session(&f.bed);
    bed_seed(&f.bed, 0, "right.raw");
    json_object_del(f.bed.seeds, "disk1");
    bed_open_session(&f.bed);
    point_1(&f);
    assert_true(bed_status(&f.bed).seed_same_bytes > two_disks[0] / 2);
}

static void a_replica_that_was_removed_in_the_middle_is_seeded_anew(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *store = mem_printf("%s/replica", (const char *)*state);

    prepare_seeds(&f, *state);
    bed_open_session(&f.bed);
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    bed_restart_replica(&f.bed);
    EXPECT_OK(store_dir_remove(fs_real(), store, &err));
    session_retry(f.bed.session);
    bed_turns_until(&f.bed, 1, 60);
    assert_true(bed_replica_equals_cut(&f.bed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(only_what_differs_from_a_seed_travels),
        TMPDIR_TEST(a_disk_without_a_seed_is_copied_once),
        TMPDIR_TEST(an_unordered_scan_compares_the_same),
        TMPDIR_TEST(a_machine_that_is_off_is_seeded_too),
        TMPDIR_TEST(a_smaller_seed_is_used_as_far_as_it_goes),
        TMPDIR_TEST(the_seed_of_another_disk_costs_time_and_nothing_else),
        TMPDIR_TEST(a_seed_is_not_altered),
        TMPDIR_TEST(once_the_head_is_filled_the_seed_may_go),
        TMPDIR_TEST(a_seed_that_is_not_there_is_named_and_nothing_is_copied),
        TMPDIR_TEST(a_larger_seed_is_refused_with_both_sizes),
        TMPDIR_TEST(a_bit_that_flips_in_what_was_seeded_is_never_in_a_point),
        TMPDIR_TEST(faults_of_the_replica_s_disk_only_cost_time),
        TMPDIR_TEST(a_link_that_breaks_anywhere_loses_nothing),
        TMPDIR_TEST(another_seed_of_the_same_disk_begins_anew),
        TMPDIR_TEST(a_replica_that_was_removed_in_the_middle_is_seeded_anew),
    };
    return cmocka_run_group_tests_name("seeds", tests, NULL, NULL);
}
