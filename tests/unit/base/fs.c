// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"

#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/process.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int setup(void **state)
{
    fault_clear();
    return tmpdir_setup(state);
}

static int teardown(void **state)
{
    fault_clear();
    return tmpdir_teardown(state);
}

#define FS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static int open_file(const char *path, int flags)
{
    int fd = -1;

    EXPECT_OK(fs_real()->open(fs_real(), path, flags, 0600, &fd, &err));
    return fd;
}

static void put(const char *path, const char *text)
{
    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
}

static void expect_text(const char *path, const char *want)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    EXPECT_OK(fs_read_file(fs_real(), path, 10000, &text, &err));
    assert_string_equal(str_text(&text), want);
}

static void bytes_come_back_from_where_they_were_put(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "disk");
    CLEANUP(fd_close) int fd = open_file(path, O_RDWR | O_CREAT | O_EXCL);
    struct fs *fs = fs_real();
    char buf[8] = "";
    struct stat st;

    EXPECT_OK(fs->pwrite(fs, fd, "hello", 5, 10000, &err));
    EXPECT_OK(fs->sync(fs, fd, &err));
    EXPECT_OK(fs->pread(fs, fd, buf, 5, 10000, &err));
    assert_string_equal(buf, "hello");
    EXPECT_OK(fs->truncate(fs, fd, 20000, &err));
    EXPECT_OK(fs->punch(fs, fd, 8192, 4096, &err));
    EXPECT_OK(fs->punch(fs, fd, 0, 0, &err));
    EXPECT_OK(fs->pread(fs, fd, buf, 5, 10000, &err));
    assert_memory_equal(buf, "\0\0\0\0\0", 5);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, 20000);
}

static void reading_past_the_end_is_corrupt_and_names_file_and_numbers(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "disk");
    char buf[100];

    put(path, "hello");
    CLEANUP(fd_close) int fd = open_file(path, O_RDONLY);
    EXPECT_ERR(ERR_CORRUPT, fs_real()->pread(fs_real(), fd, buf, 100, 2, &err));
    EXPECT_TEXT(path);
    EXPECT_TEXT("100 bytes at 2");
    EXPECT_TEXT("short");
    assert_int_equal(fs_real()->pread(fs_real(), fd, buf, 100, 2, NULL), -1);
}

static void missing_and_present_files_have_codes_of_their_own(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "x");
    struct fs *fs = fs_real();
    int fd;

    EXPECT_ERR(ERR_NOT_FOUND, fs->open(fs, path, O_RDONLY, 0, &fd, &err));
    EXPECT_TEXT(path);
    EXPECT_ERR(ERR_NOT_FOUND, fs->unlink(fs, path, &err));
    EXPECT_ERR(ERR_NOT_FOUND, fs->rename(fs, path, path, &err));
    put(path, "");
    EXPECT_ERR(ERR_EXISTS, fs->open(fs, path, O_RDWR | O_CREAT | O_EXCL, 0600, &fd, &err));
    EXPECT_ERR(ERR_EXISTS, fs->mkdir(fs, path, 0700, &err));
    EXPECT_ERR(ERR_IO, fs->sync_dir(fs, path, &err));
}

static void a_full_disk_is_a_matter_of_space(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "x");
    CLEANUP(fd_close) int fd = open_file(path, O_RDWR | O_CREAT);

    fault_arm("fs.pwrite", 0, ENOSPC);
    EXPECT_ERR(ERR_SPACE, fs_real()->pwrite(fs_real(), fd, "x", 1, 0, &err));
    EXPECT_TEXT(path);
    EXPECT_TEXT("No space left");
}

static void every_operation_can_be_made_to_fail(void **state)
{
    static const char *const names[] = {"fs.open",     "fs.pread", "fs.pwrite",  "fs.sync",
                                        "fs.truncate", "fs.punch", "fs.rename",  "fs.unlink",
                                        "fs.mkdir",    "fs.rmdir", "fs.sync_dir"};
    CLEANUP(mem_freep) char *path = path_join(*state, "x");
    CLEANUP(mem_freep) char *dir = path_join(*state, "d");
    CLEANUP(fd_close) int fd = open_file(path, O_RDWR | O_CREAT);
    struct fs *fs = fs_real();
    char c = 'c';
    int other;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        fault_arm(names[i], 0, EIO);
    EXPECT_ERR(ERR_IO, fs->open(fs, path, O_RDONLY, 0, &other, &err));
    EXPECT_ERR(ERR_IO, fs->pread(fs, fd, &c, 1, 0, &err));
    EXPECT_ERR(ERR_IO, fs->pwrite(fs, fd, &c, 1, 0, &err));
    EXPECT_ERR(ERR_IO, fs->sync(fs, fd, &err));
    EXPECT_ERR(ERR_IO, fs->truncate(fs, fd, 9, &err));
    EXPECT_ERR(ERR_IO, fs->punch(fs, fd, 0, 1, &err));
    EXPECT_ERR(ERR_IO, fs->rename(fs, path, dir, &err));
    EXPECT_ERR(ERR_IO, fs->unlink(fs, path, &err));
    EXPECT_ERR(ERR_IO, fs->mkdir(fs, dir, 0700, &err));
    EXPECT_ERR(ERR_IO, fs->rmdir(fs, *state, &err));
    EXPECT_ERR(ERR_IO, fs->sync_dir(fs, *state, &err));
    expect_text(path, "");
}

static void a_file_larger_than_allowed_is_not_read(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "x");
    CLEANUP(str_free) struct str text = STR_EMPTY;

    put(path, "12345");
    EXPECT_OK(fs_read_file(fs_real(), path, 5, &text, &err));
    assert_string_equal(str_text(&text), "12345");
    EXPECT_ERR(ERR_LIMIT, fs_read_file(fs_real(), path, 4, &text, &err));
    assert_string_equal(str_text(&text), "12345");
    EXPECT_OK(fs_read_file(fs_real(), "/proc/self/stat", 10000, &text, &err));
    assert_true(text.len > 20);
}

static void a_failed_replacement_leaves_the_old_file_and_nothing_else(void **state)
{
    static const char *const points[] = {"fs.open", "fs.pwrite", "fs.sync", "fs.rename"};
    CLEANUP(mem_freep) char *path = path_join(*state, "x");

    put(path, "old");
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
        fault_arm(points[i], 0, EIO);
        EXPECT_ERR(ERR_IO, fs_replace_file(fs_real(), path, "new", 3, 0600, &err));
        EXPECT_TEXT(path);
        expect_text(path, "old");
        EXPECT_OK(fs_list(*state, &names, &err));
        assert_int_equal(names.len, 1);
    }
    put(path, "new");
    expect_text(path, "new");
}

static void a_leftover_of_a_crash_does_not_hinder_a_replacement(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "x");
    CLEANUP(mem_freep) char *tmp = path_join(*state, "x.tmp");
    struct stat st;

    put(tmp, "something much longer");
    assert_int_equal(chmod(tmp, 0666), 0);
    put(path, "short");
    expect_text(path, "short");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void folders_are_made_on_the_way(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "a//b/c/");
    CLEANUP(mem_freep) char *file = path_join(*state, "f");
    CLEANUP(mem_freep) char *below_file = path_join(*state, "f/x");

    EXPECT_OK(fs_make_dirs(fs_real(), path, 0700, &err));
    EXPECT_OK(fs_make_dirs(fs_real(), path, 0700, &err));
    assert_true(fs_exists(path));
    put(file, "");
    EXPECT_ERR(ERR_EXISTS, fs_make_dirs(fs_real(), below_file, 0700, &err));
    EXPECT_TEXT(file);
    fault_arm("fs.sync_dir", 0, EIO);
    CLEANUP(mem_freep) char *fresh = path_join(*state, "fresh");
    EXPECT_ERR(ERR_IO, fs_make_dirs(fs_real(), fresh, 0700, &err));
    assert_false(fs_exists(fresh));
}

static void names_are_listed_in_order(void **state)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    CLEANUP(mem_freep) char *none = path_join(*state, "none");

    for (const char *name = "cab.d"; *name; name++) {
        char one[] = {'n', *name, '\0'};
        CLEANUP(mem_freep) char *path = path_join(*state, one);
        put(path, "");
    }
    EXPECT_OK(fs_list(*state, &names, &err));
    assert_int_equal(names.len, 5);
    assert_string_equal(names.at[0], "n.");
    assert_string_equal(names.at[4], "nd");
    struct fs_names untouched = {NULL, 7};
    EXPECT_ERR(ERR_NOT_FOUND, fs_list(none, &untouched, &err));
    assert_int_equal(untouched.len, 7);
}

static void a_tree_is_removed_but_not_what_its_links_lead_to(void **state)
{
    CLEANUP(mem_freep) char *tree = path_join(*state, "tree");
    CLEANUP(mem_freep) char *deep = path_join(*state, "tree/a/b");
    CLEANUP(mem_freep) char *file = path_join(*state, "tree/a/b/file");
    CLEANUP(mem_freep) char *link = path_join(*state, "tree/link");
    CLEANUP(mem_freep) char *other = path_join(*state, "other");
    CLEANUP(mem_freep) char *kept = path_join(*state, "other/kept");

    EXPECT_OK(fs_make_dirs(fs_real(), deep, 0700, &err));
    EXPECT_OK(fs_make_dirs(fs_real(), other, 0700, &err));
    put(file, "");
    put(kept, "");
    assert_int_equal(symlink(other, link), 0);
    EXPECT_OK(fs_remove_tree(fs_real(), tree, &err));
    assert_false(fs_exists(tree));
    assert_true(fs_exists(kept));
    EXPECT_OK(fs_remove_tree(fs_real(), tree, &err));
}

static void lock_again(void *arg)
{
    int fd = -1;
    char mine[64];

    (void)snprintf(mine, sizeof(mine), "process %ld", (long)getppid());
    err_clear(&err);
    if (fs_lock(arg, &fd, &err) == 0 || err.code != ERR_BUSY || !strstr(err.text, mine))
        _exit(1);
}

static void a_lock_holds_others_off_and_names_its_holder(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "lock");
    CLEANUP(fd_close) int fd = -1;

    EXPECT_OK(fs_lock(path, &fd, &err));
    assert_int_equal(process_status(lock_again, path), 0);
    fd_close(&fd);
    assert_int_equal(fd, -1);
    EXPECT_OK(fs_lock(path, &fd, &err));
}

static void free_space_is_counted(void **state)
{
    CLEANUP(mem_freep) char *none = path_join(*state, "none");
    uint64_t bytes = 0;

    EXPECT_OK(fs_free_bytes(*state, &bytes, &err));
    assert_true(bytes > 0);
    EXPECT_ERR(ERR_NOT_FOUND, fs_free_bytes(none, &bytes, &err));
}

static void joined_paths_have_one_slash(void **state)
{
    CLEANUP(mem_freep) char *plain = path_join("a", "b");
    CLEANUP(mem_freep) char *slash = path_join("/", "b");

    (void)state;
    assert_string_equal(plain, "a/b");
    assert_string_equal(slash, "/b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_TEST(bytes_come_back_from_where_they_were_put),
        FS_TEST(reading_past_the_end_is_corrupt_and_names_file_and_numbers),
        FS_TEST(missing_and_present_files_have_codes_of_their_own),
        FS_TEST(a_full_disk_is_a_matter_of_space),
        FS_TEST(every_operation_can_be_made_to_fail),
        FS_TEST(a_file_larger_than_allowed_is_not_read),
        FS_TEST(a_failed_replacement_leaves_the_old_file_and_nothing_else),
        FS_TEST(a_leftover_of_a_crash_does_not_hinder_a_replacement),
        FS_TEST(folders_are_made_on_the_way),
        FS_TEST(names_are_listed_in_order),
        FS_TEST(a_tree_is_removed_but_not_what_its_links_lead_to),
        FS_TEST(a_lock_holds_others_off_and_names_its_holder),
        FS_TEST(free_space_is_counted),
        FS_TEST(joined_paths_have_one_slash),
    };
    return cmocka_run_group_tests_name("fs", tests, NULL, NULL);
}
