// SPDX-License-Identifier: Apache-2.0
/* A real QEMU whose guest is the test, and a raw disk on a file system that clones: what its scan reads,
 * and what the first cut says changed, are the disk together. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "block/scan.h"
#include "block/source.h"
#include "support/block/bare_qemu.h"
#include "support/expect.h"
#include "support/reflink.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB       (UINT64_C(1) << 20)
#define DISK_SIZE (32 * MIB)

static struct bare_qemu qemu;
static struct source *source;
static struct cancel *cancel;
static const char *root;
static char *folder; /* NULL: nothing can be cloned here */
static char *image, *work_dir, *copy_path;

static void reopen(void)
{
    const struct source_qemu_disk disk = {"vda", "d0", image, "raw"};
    const struct source_qemu_config config = {.group = "shop",
                                              .generation = 3,
                                              .qmp_path = qemu.path,
                                              .disks = &disk,
                                              .disk_count = 1,
                                              .work_dir = work_dir};

    source_closep(&source);
    EXPECT_OK(source_qemu_open(&config, &source, cancel, &err));
}

static void start_machine(void)
{
    CLEANUP(mem_freep) char *raw = mem_printf("raw:%s", image);

    bare_qemu_start(&qemu, root, (const char *const[]){raw, NULL});
    reopen();
}

static int start(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    root = *state;
    if (!reflink_mount(root, &folder))
        return 0;
    cancel = cancel_new(NULL, NULL, 60000);
    image = path_join(folder, "a.raw");
    work_dir = path_join(root, "work");
    copy_path = path_join(root, "copy.raw");
    int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)DISK_SIZE), 0);
    (void)close(fd);
    start_machine();
    return 0;
}

static int stop(void **state)
{
    fault_clear();
    source_closep(&source);
    bare_qemu_kill(&qemu);
    cancel_freep(&cancel);
    free(TAKE(image));
    free(TAKE(work_dir));
    free(TAKE(copy_path));
    reflink_unmount(&folder);
    return tmpdir_teardown(state);
}

#define NEEDS_CLONES() \
    do {               \
        if (!folder)   \
            skip();    \
    } while (0)

static void track(uint64_t serial)
{
    EXPECT_OK(source->ops->track(source, serial, cancel, &err));
}

static struct scan *scan_from(uint64_t from)
{
    struct scan *scan = NULL;

    EXPECT_OK(source->ops->scan_open(source, "vda", from, &scan, cancel, &err));
    assert_non_null(scan);
    return scan;
}

/* Pieces until `to`, into the copy. */
static void copy_until(struct scan *scan, uint64_t to)
{
    CLEANUP(fd_close) int fd = open(copy_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct source_piece piece = {0};

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)DISK_SIZE), 0);
    do {
        EXPECT_OK(scan_next(scan, &piece, cancel, &err));
        if (piece.zero)
            EXPECT_OK(fs_real()->punch(fs_real(), fd, piece.off, piece.len, &err));
        else if (piece.len > 0)
            EXPECT_OK(fs_real()->pwrite(fs_real(), fd, piece.data, piece.len, piece.off, &err));
    } while (piece.len > 0 && piece.off + piece.len < to);
}

static uint8_t byte_of(const char *path, uint64_t off)
{
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t byte = 0xff;

    assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
    return byte;
}

/* The copy and what changed since `serial` - 1 began are the disk. */
static void expect_the_disk_after_cut(uint64_t serial)
{
    struct source_cut made;

    EXPECT_OK(source->ops->cut(source, serial, &made, cancel, &err));
    assert_int_equal(made.age_ms, 0);
    (void)source_apply_changes(source, "vda", copy_path, cancel);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    bare_qemu_flush(&qemu, "d0");
    assert_true(source_apply_equal(copy_path, image));
}

static void a_scan_is_of_one_instant_and_the_first_cut_has_the_rest(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    bare_qemu_write(&qemu, "d0", 0, 16 * MIB, 1);
    track(1);
    struct scan *scan = scan_from(0);
    assert_true(scan_is_clone(scan));
    bare_qemu_write(&qemu, "d0", 0, 65536, 2);
    copy_until(scan, 8 * MIB);
    bare_qemu_write(&qemu, "d0", 12 * MIB, 65536, 2);
    bare_qemu_write(&qemu, "d0", 20 * MIB, 65536, 2);
    copy_until(scan, DISK_SIZE);
    scan_close(scan);
    assert_int_equal(byte_of(copy_path, 0), 1);
    assert_int_equal(byte_of(copy_path, 12 * MIB), 1);
    assert_int_equal(byte_of(copy_path, 20 * MIB), 0);
    expect_the_disk_after_cut(2);
}

/* The map is lost with the machine; what it wrote between that and the next map is in no map. */
static void a_clone_of_before_the_map_is_never_read(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    bare_qemu_write(&qemu, "d0", 0, 16 * MIB, 1);
    track(1);
    struct scan *scan = scan_from(0);
    assert_true(scan_is_clone(scan));
    copy_until(scan, 8 * MIB);
    scan_close(scan);
    bare_qemu_kill(&qemu);
    start_machine();
    bare_qemu_write(&qemu, "d0", 4 * MIB, 8 * MIB, 3);
    track(2);
    bare_qemu_write(&qemu, "d0", MIB, 65536, 4);
    scan = scan_from(0);
    copy_until(scan, DISK_SIZE);
    scan_close(scan);
    assert_int_equal(byte_of(copy_path, 5 * MIB), 3);
    assert_int_equal(byte_of(copy_path, 10 * MIB), 3);
    expect_the_disk_after_cut(3);
}

/* Its daemon was restarted, or its link broke: the rest is of a later instant, under the same map. */
static void a_scan_that_goes_on_where_one_broke_off_is_covered_by_the_map(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    bare_qemu_write(&qemu, "d0", 0, 16 * MIB, 1);
    track(1);
    struct scan *scan = scan_from(0);
    copy_until(scan, 8 * MIB);
    scan_close(scan);
    bare_qemu_write(&qemu, "d0", 6 * MIB, 4 * MIB, 2);
    reopen();
    scan = scan_from(8 * MIB);
    bare_qemu_write(&qemu, "d0", 9 * MIB, 65536, 5);
    copy_until(scan, DISK_SIZE);
    scan_close(scan);
    assert_int_equal(byte_of(copy_path, 7 * MIB), 1);
    assert_int_equal(byte_of(copy_path, 9 * MIB), 2);
    expect_the_disk_after_cut(2);
}

static void a_scan_that_gives_its_clone_up_is_covered_by_the_map(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    bare_qemu_write(&qemu, "d0", 0, 16 * MIB, 1);
    track(1);
    struct scan *scan = scan_from(0);
    copy_until(scan, 8 * MIB);
    bare_qemu_write(&qemu, "d0", 6 * MIB, 4 * MIB, 2);
    scan_give_up_clone(scan);
    copy_until(scan, DISK_SIZE);
    scan_close(scan);
    assert_int_equal(byte_of(copy_path, 7 * MIB), 1);
    assert_int_equal(byte_of(copy_path, 9 * MIB), 2);
    expect_the_disk_after_cut(2);
}

static void where_nothing_is_cloned_the_disk_itself_is_scanned(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    bare_qemu_write(&qemu, "d0", 0, 16 * MIB, 1);
    track(1);
    fault_arm("fs.clone", 0, EOPNOTSUPP);
    struct scan *scan = scan_from(0);
    assert_false(scan_is_clone(scan));
    bare_qemu_write(&qemu, "d0", 12 * MIB, 65536, 2);
    copy_until(scan, DISK_SIZE);
    scan_close(scan);
    assert_int_equal(byte_of(copy_path, 12 * MIB), 2);
    expect_the_disk_after_cut(2);
}

#define CLONES_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLONES_TEST(a_scan_is_of_one_instant_and_the_first_cut_has_the_rest),
        CLONES_TEST(a_clone_of_before_the_map_is_never_read),
        CLONES_TEST(a_scan_that_goes_on_where_one_broke_off_is_covered_by_the_map),
        CLONES_TEST(a_scan_that_gives_its_clone_up_is_covered_by_the_map),
        CLONES_TEST(where_nothing_is_cloned_the_disk_itself_is_scanned),
    };
    return cmocka_run_group_tests_name("source_qemu_clones", tests, NULL, NULL);
}
