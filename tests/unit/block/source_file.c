// SPDX-License-Identifier: Apache-2.0
/* As where nothing can be cloned; with clones: source_file_clones.c. */
#include "block/source_file.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static struct source *source;
static struct cancel *cancel;
static char *raw_path, *qcow2_path, *work_dir, *copy_path;

static void write_at(const char *path, uint64_t off, size_t len, int value)
{
    CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC);
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(len, 1);

    memset(buf, value, len);
    assert_int_equal(pwrite(fd, buf, len, (off_t)off), len);
}

static void open_source(void)
{
    const struct source_file_disk disks[] = {{"vda", raw_path, "raw"},
                                             {"vdb", qcow2_path, "qcow2"}};

    source_closep(&source);
    EXPECT_OK(source_file_open(disks, 2, work_dir, &source, &err));
    source_file_join(source);
}

/* A raw disk of 10 MiB + 512 with two islands of data, and the same as qcow2. */
static int start(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    cancel = cancel_new(NULL, NULL, 60000);
    raw_path = path_join(*state, "a.raw");
    qcow2_path = path_join(*state, "b.qcow2");
    work_dir = path_join(*state, "work");
    copy_path = path_join(*state, "copy.raw");
    int fd = open(raw_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, 10 * MIB + 512), 0);
    (void)close(fd);
    write_at(raw_path, 70000, 5000, 1);
    write_at(raw_path, 4 * MIB - 1, 3 * MIB, 2);
    write_at(raw_path, 10 * MIB, 512, 3);
    const char *const convert[] = {"qemu-img", "convert", "-q",     "-f",       "raw",
                                   "-O",       "qcow2",   raw_path, qcow2_path, NULL};
    if (proc_must(convert, NULL, &err) < 0)
        return -1;
    open_source();
    return 0;
}

static int stop(void **state)
{
    source_closep(&source);
    cancel_freep(&cancel);
    free(TAKE(raw_path));
    free(TAKE(qcow2_path));
    free(TAKE(work_dir));
    free(TAKE(copy_path));
    return tmpdir_teardown(state);
}

static void a_scan_of_a_raw_disk_is_its_copy(void **unused)
{
    (void)unused;
    assert_true(source_apply_scan(source, "vda", copy_path, cancel) < 8);
    assert_true(source_apply_equal(copy_path, raw_path));
}

static void a_scan_of_a_qcow2_disk_is_its_copy(void **unused)
{
    (void)unused;
    assert_true(source_apply_scan(source, "vdb", copy_path, cancel) < 12);
    assert_true(source_apply_equal(copy_path, raw_path));
}

static void a_broken_scan_goes_on_where_it_was(void **unused)
{
    static const char *const disks[] = {"vda", "vdb"};
    struct source_piece piece;
    bool ordered = false;

    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(disks); i++) {
        EXPECT_OK(
            source->ops->scan_begin(source, disks[i], 5 * MIB + 70000, &ordered, cancel, &err));
        EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
        assert_true(ordered);
        assert_int_equal(piece.off, 5 * MIB + 65536);
        assert_false(piece.zero);
        assert_int_equal(piece.data[0], 2);
        source->ops->scan_end(source);
    }
}

static void a_block_of_zeros_is_a_zero_piece(void **unused)
{
    struct source_piece piece;
    bool ordered;

    (void)unused;
    write_at(raw_path, 0, 2 * MIB, 0);
    EXPECT_OK(source->ops->scan_begin(source, "vda", 0, &ordered, cancel, &err));
    EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
    assert_int_equal(piece.len, MIB);
    assert_true(piece.zero);
}

static void a_cut_of_untouched_disks_has_no_changes(void **unused)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;
    struct source_state state;
    struct source_cut made;

    (void)unused;
    EXPECT_OK(source->ops->track(source, 5, cancel, &err));
    EXPECT_OK(source->ops->cut(source, 6, &made, cancel, &err));
    EXPECT_OK(source->ops->changes(source, "vdb", &extents, cancel, &err));
    assert_int_equal(extents.len, 0);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    EXPECT_OK(source->ops->inspect(source, &state, cancel, &err));
    assert_int_equal(state.open, 6);
    assert_true(state.quiet);
    assert_false(state.running);
}

static void writes_behind_our_back_refuse_the_cut(void **unused)
{
    struct source_cut made;

    (void)unused;
    EXPECT_OK(source->ops->track(source, 5, cancel, &err));
    usleep(20000); /* the times of files have a coarse clock */
    write_at(raw_path, 0, 1, 9);
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 6, &made, cancel, &err));
    EXPECT_TEXT("somebody wrote");
}

/* As its owner's QEMU does: for writing, with QEMU's locks. */
static int start_a_writer(const char *command)
{
    const char *const argv[] = {"qemu-io", "-f", "qcow2", "-c", command, qcow2_path, NULL};

    return proc_must(argv, NULL, &err);
}

static void a_machine_can_be_started_on_an_image_that_we_read(void **unused)
{
    uint8_t before, after;
    struct source_cut made;

    (void)unused;
    EXPECT_OK(source->ops->track(source, 5, cancel, &err));
    EXPECT_OK(source->ops->read(source, "vdb", 5 * MIB, &before, 1, cancel, &err));
    usleep(20000); /* the times of files have a coarse clock */
    EXPECT_OK(start_a_writer("write -P 9 5M 64k"));
    EXPECT_ERR(ERR_STATE, source->ops->read(source, "vdb", 5 * MIB, &after, 1, cancel, &err));
    EXPECT_TEXT("somebody wrote");
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 6, &made, cancel, &err));
    EXPECT_OK(source->ops->read(source, "vdb", 5 * MIB, &after, 1, cancel, &err));
    assert_int_equal(before, 2);
    assert_int_equal(after, 9);
}

static void what_is_read_after_the_cut_is_of_the_cut(void **unused)
{
    uint8_t byte;
    struct source_cut made;
    struct source_state state;

    (void)unused;
    EXPECT_OK(source->ops->track(source, 5, cancel, &err));
    EXPECT_OK(source->ops->cut(source, 6, &made, cancel, &err));
    usleep(20000);
    write_at(raw_path, 5 * MIB, 1, 9);
    EXPECT_ERR(ERR_STATE, source->ops->read(source, "vda", 5 * MIB, &byte, 1, cancel, &err));
    EXPECT_OK(source->ops->inspect(source, &state, cancel, &err));
    assert_int_equal(state.open, 0);
    assert_int_equal(state.frozen, 0);
}

static void an_image_written_since_its_server_began_is_opened_anew(void **unused)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;
    const char *const grow[] = {"qemu-img", "resize", "-q", qcow2_path, "20M", NULL};
    uint8_t byte;

    (void)unused;
    EXPECT_OK(source->ops->disks(source, &disks, cancel, &err));
    usleep(20000);
    EXPECT_OK(start_a_writer("write -P 9 1M 64k"));
    EXPECT_OK(proc_must(grow, NULL, &err));
    EXPECT_OK(source->ops->disks(source, &disks, cancel, &err));
    assert_int_equal(disks.at[1].size, 20 * MIB);
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    EXPECT_OK(source->ops->read(source, "vdb", MIB, &byte, 1, cancel, &err));
    assert_int_equal(byte, 9);
}

static void another_object_tracks_nothing(void **unused)
{
    struct source_state state;

    (void)unused;
    EXPECT_OK(source->ops->track(source, 5, cancel, &err));
    open_source();
    EXPECT_OK(source->ops->inspect(source, &state, cancel, &err));
    assert_int_equal(state.open, 0);
    assert_true(state.note[0]);
}

static void any_part_of_a_disk_can_be_read(void **unused)
{
    static const char *const disks[] = {"vda", "vdb"};
    uint8_t buf[6000];

    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(disks); i++) {
        EXPECT_OK(source->ops->read(source, disks[i], 69999, buf, sizeof(buf), cancel, &err));
        assert_int_equal(buf[0], 0);
        assert_int_equal(buf[1], 1);
        assert_int_equal(buf[5000], 1);
        assert_int_equal(buf[5001], 0);
        EXPECT_OK(source->ops->read(source, disks[i], 10 * MIB, buf, 512, cancel, &err));
        assert_int_equal(buf[511], 3);
    }
}

static void an_image_that_is_broken_says_why(void **unused)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;

    (void)unused;
    write_at(qcow2_path, 0, 4096, 0x55);
    EXPECT_ERR(ERR_IO, source->ops->disks(source, &disks, cancel, &err));
    EXPECT_TEXT("qemu-nbd");
    EXPECT_TEXT("qcow2");
}

static void a_missing_image_is_named(void **unused)
{
    const struct source_file_disk disk = {"vda", "/nonexistent/a.raw", "raw"};
    struct source *none = NULL;

    (void)unused;
    EXPECT_ERR(ERR_NOT_FOUND, source_file_open(&disk, 1, work_dir, &none, &err));
    EXPECT_TEXT("/nonexistent/a.raw");
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(a_scan_of_a_raw_disk_is_its_copy),
        FILE_TEST(a_scan_of_a_qcow2_disk_is_its_copy),
        FILE_TEST(a_broken_scan_goes_on_where_it_was),
        FILE_TEST(a_block_of_zeros_is_a_zero_piece),
        FILE_TEST(a_cut_of_untouched_disks_has_no_changes),
        FILE_TEST(writes_behind_our_back_refuse_the_cut),
        FILE_TEST(a_machine_can_be_started_on_an_image_that_we_read),
        FILE_TEST(what_is_read_after_the_cut_is_of_the_cut),
        FILE_TEST(an_image_written_since_its_server_began_is_opened_anew),
        FILE_TEST(another_object_tracks_nothing),
        FILE_TEST(any_part_of_a_disk_can_be_read),
        FILE_TEST(an_image_that_is_broken_says_why),
        FILE_TEST(a_missing_image_is_named),
    };
    return cmocka_run_group_tests_name("source_file", tests, NULL, NULL);
}
