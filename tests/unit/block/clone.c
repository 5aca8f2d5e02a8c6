// SPDX-License-Identifier: Apache-2.0
#include "block/clone.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/scan.h"
#include "support/expect.h"
#include "support/reflink.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static char *folder; /* on a file system that clones */
static char *image;  /* 8 MiB of ones in it */
static int from = -1;

static void write_at(const char *path, uint64_t off, size_t len, int value)
{
    CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(len, 1);

    memset(buf, value, len);
    assert_int_equal(pwrite(fd, buf, len, (off_t)off), len);
}

static int start(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    if (!reflink_mount(*state, &folder))
        return 0;
    image = path_join(folder, "a.raw");
    write_at(image, 0, 8 * MIB, 1);
    from = open(image, O_RDONLY | O_CLOEXEC);
    return from < 0 ? -1 : 0;
}

static int stop(void **state)
{
    fault_clear();
    fd_close(&from);
    free(TAKE(image));
    reflink_unmount(&folder);
    return tmpdir_teardown(state);
}

static uint8_t byte_of(int fd, uint64_t off)
{
    uint8_t byte = 0xff;

    assert_int_equal(pread(fd, &byte, 1, (off_t)off), 1);
    return byte;
}

static int make(bool written, uint64_t room, int *ret_fd)
{
    const struct clone_wish wish = {.from = from, .path = image, .room = room, .written = written};

    return clone_make(&wish, ret_fd, &err);
}

static void a_clone_stays_as_the_image_was(void **unused)
{
    (void)unused;
    if (!folder)
        skip();
    for (int written = 0; written < 2; written++) {
        CLEANUP(fd_close) int clone = -1;
        struct stat st;

        EXPECT_OK(make(written, clone_room(image), &clone));
        write_at(image, 5 * MIB, 4096, 9);
        write_at(image, 9 * MIB, 4096, 9);
        assert_int_equal(byte_of(clone, 5 * MIB), 1);
        assert_int_equal(byte_of(clone, 8 * MIB - 1), 1);
        assert_int_equal(fstat(clone, &st), 0);
        assert_int_equal(st.st_size, 8 * MIB);
        assert_int_equal(st.st_mode & 0777, 0600);
        write_at(image, 5 * MIB, 4096, 1);
        assert_int_equal(truncate(image, 8 * MIB), 0);
    }
}

static uint64_t free_bytes(void)
{
    uint64_t bytes = 0;

    sync();
    EXPECT_OK(fs_free_bytes(folder, &bytes, &err));
    return bytes;
}

static void a_clone_has_no_name_and_takes_room_only_while_it_is_open(void **unused)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};
    int clone = -1;

    (void)unused;
    if (!folder)
        skip();
    uint64_t before = free_bytes();
    EXPECT_OK(make(false, 0, &clone));
    assert_true(free_bytes() + MIB > before);
    write_at(image, 0, 8 * MIB, 2);
    assert_true(free_bytes() + 7 * MIB < before);
    EXPECT_OK(fs_list(folder, &names, &err));
    assert_int_equal(names.len, 1);
    fd_close(&clone);
    for (int i = 0; i < 500 && free_bytes() + 2 * MIB < before; i++) /* freed in the background */
        EXPECT_OK(cancel_sleep(NULL, 10, &err));
    assert_true(free_bytes() + 2 * MIB > before);
}

static void a_clone_by_a_link_lies_where_the_image_does(void **state)
{
    CLEANUP(mem_freep) char *link = path_join(*state, "link");
    CLEANUP(fd_close) int clone = -1;
    struct stat st, there;

    if (!folder)
        skip();
    assert_int_equal(symlink(image, link), 0);
    const struct clone_wish wish = {.from = from, .path = link};
    EXPECT_OK(clone_make(&wish, &clone, &err));
    assert_int_equal(fstat(clone, &st), 0);
    assert_int_equal(stat(image, &there), 0);
    assert_int_equal(st.st_dev, there.st_dev);
}

static void where_nothing_can_be_cloned_there_is_no_clone(void **unused)
{
    int clone = -1;

    (void)unused;
    if (!folder)
        skip();
    fault_arm("fs.clone", 0, EOPNOTSUPP);
    EXPECT_ERR(ERR_UNSUPPORTED, make(false, 0, &clone));
    fault_arm("fs.clone", 0, EIO);
    EXPECT_ERR(ERR_UNSUPPORTED, make(true, 0, &clone));
    assert_int_equal(clone, -1);
}

static void a_folder_or_a_device_is_not_cloned(void **unused)
{
    static const char *const paths[] = {"/dev/null", "/"};
    int clone = -1;

    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        CLEANUP(fd_close) int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
        const struct clone_wish wish = {.from = fd, .path = paths[i]};
        EXPECT_ERR(ERR_UNSUPPORTED, clone_make(&wish, &clone, &err));
        assert_int_equal(clone_room(paths[i]), 0);
    }
}

/* Whoever writes must not run out of room for our sake. */
static void without_room_for_what_may_be_written_there_is_no_clone(void **unused)
{
    CLEANUP(fd_close) int clone = -1;

    (void)unused;
    if (!folder)
        skip();
    uint64_t have = free_bytes();
    EXPECT_ERR(ERR_UNSUPPORTED, make(true, have, &clone));
    EXPECT_TEXT("are free");
    EXPECT_OK(make(true, have / 2, &clone));
    assert_false(clone_lacks_room(clone));
}

/* Its guest would wait while each piece is shared. */
static void an_image_in_many_pieces_is_not_cloned_under_its_guest(void **unused)
{
    CLEANUP(fd_close) int clone = -1;
    CLEANUP(fd_close) int fd = -1;

    (void)unused;
    if (!folder)
        skip();
    fd = open(image, O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 40 * MIB), 0);
    for (uint64_t i = 0; i < 2100; i++) /* every second block */
        assert_int_equal(pwrite(fd, "x", 1, (off_t)(16 * MIB + i * 8192)), 1);
    EXPECT_ERR(ERR_UNSUPPORTED, make(true, 0, &clone));
    EXPECT_TEXT("pieces");
    EXPECT_OK(make(false, 0, &clone));
}

/* --- Scans ------------------------------------------------------------------------------------ */

static uint8_t next_byte(struct scan *scan)
{
    struct source_piece piece;

    EXPECT_OK(scan_next(scan, &piece, NULL, &err));
    assert_false(piece.zero);
    return piece.data[piece.len - 1];
}

static struct scan *scan_of(uint64_t from_off)
{
    struct scan *scan = NULL;

    EXPECT_OK(scan_written_open("vda", image, 8 * MIB, from_off, clone_room(image), &scan, &err));
    return scan;
}

static void a_scan_of_a_written_image_reads_it_as_it_was(void **unused)
{
    (void)unused;
    if (!folder)
        skip();
    struct scan *scan = scan_of(0);
    assert_true(scan_is_clone(scan));
    assert_int_equal(next_byte(scan), 1);
    write_at(image, 0, 8 * MIB, 2);
    for (int i = 1; i < 8; i++)
        assert_int_equal(next_byte(scan), 1);
    scan_close(scan);
}

static void where_it_cannot_be_cloned_it_is_read_itself(void **unused)
{
    (void)unused;
    if (!folder)
        skip();
    fault_arm("fs.clone", 0, EOPNOTSUPP);
    struct scan *scan = scan_of(0);
    assert_false(scan_is_clone(scan));
    write_at(image, 0, 8 * MIB, 2);
    assert_int_equal(next_byte(scan), 2);
    scan_close(scan);
}

static void a_scan_whose_clone_is_given_up_goes_on_with_the_image(void **unused)
{
    (void)unused;
    if (!folder)
        skip();
    struct scan *scan = scan_of(0);
    assert_int_equal(next_byte(scan), 1);
    write_at(image, 0, 8 * MIB, 2);
    scan_mind_room(scan);
    assert_true(scan_is_clone(scan));
    assert_int_equal(next_byte(scan), 1);
    scan_give_up_clone(scan);
    assert_false(scan_is_clone(scan));
    assert_int_equal(next_byte(scan), 2);
    scan_close(scan);
}

static void a_clone_is_given_up_when_the_file_system_gets_full(void **unused)
{
    CLEANUP(mem_freep) char *filler = NULL;
    CLEANUP(fd_close) int fd = -1;

    (void)unused;
    if (!folder)
        skip();
    filler = path_join(folder, "filler");
    struct scan *scan = scan_of(0);
    write_at(image, 0, 8 * MIB, 2);
    fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)(free_bytes() - 8 * MIB)), 0);
    scan_mind_room(scan);
    assert_false(scan_is_clone(scan));
    assert_int_equal(next_byte(scan), 2);
    scan_close(scan);
}

#define CLONE_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLONE_TEST(a_clone_stays_as_the_image_was),
        CLONE_TEST(a_clone_has_no_name_and_takes_room_only_while_it_is_open),
        CLONE_TEST(a_clone_by_a_link_lies_where_the_image_does),
        CLONE_TEST(where_nothing_can_be_cloned_there_is_no_clone),
        CLONE_TEST(a_folder_or_a_device_is_not_cloned),
        CLONE_TEST(without_room_for_what_may_be_written_there_is_no_clone),
        CLONE_TEST(an_image_in_many_pieces_is_not_cloned_under_its_guest),
        CLONE_TEST(a_scan_of_a_written_image_reads_it_as_it_was),
        CLONE_TEST(where_it_cannot_be_cloned_it_is_read_itself),
        CLONE_TEST(a_scan_whose_clone_is_given_up_goes_on_with_the_image),
        CLONE_TEST(a_clone_is_given_up_when_the_file_system_gets_full),
    };
    return cmocka_run_group_tests_name("clone", tests, NULL, NULL);
}
