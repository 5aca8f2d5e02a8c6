// SPDX-License-Identifier: Apache-2.0
#include "replica/guard_fs.h"

#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* Every way to change something through it. */
static void all_changes_are_refused(struct fs *fs, int fd, const char *dir)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "other");
    int other;

    EXPECT_ERR(ERR_IO, fs->open(fs, path, O_RDWR | O_CREAT, 0600, &other, &err));
    EXPECT_ERR(ERR_IO, fs->pwrite(fs, fd, "x", 1, 0, &err));
    EXPECT_ERR(ERR_IO, fs->sync(fs, fd, &err));
    EXPECT_ERR(ERR_IO, fs->truncate(fs, fd, 5, &err));
    EXPECT_ERR(ERR_IO, fs->punch(fs, fd, 0, 512, &err));
    EXPECT_ERR(ERR_IO, fs->rename(fs, path, path, &err));
    EXPECT_ERR(ERR_IO, fs->mkdir(fs, path, 0700, &err));
    EXPECT_ERR(ERR_IO, fs->rmdir(fs, path, &err));
    EXPECT_ERR(ERR_IO, fs->sync_dir(fs, dir, &err));
    EXPECT_TEXT("earlier sync failed");
}

static void after_a_failed_sync_only_reading_and_taking_away_is_left(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, "file");
    struct guard_fs guard;
    struct fs *fs = &guard.fs;
    char byte;
    int fd;

    guard_fs_init(&guard, fs_real());
    EXPECT_OK(fs->open(fs, path, O_RDWR | O_CREAT, 0600, &fd, &err));
    EXPECT_OK(fs->pwrite(fs, fd, "hello", 5, 0, &err));
    EXPECT_OK(fs->sync(fs, fd, &err));
    EXPECT_OK(guard_fs_check(&guard, &err));
    fault_arm("fs.sync", 0, EIO);
    EXPECT_ERR(ERR_IO, fs->sync(fs, fd, &err));
    fault_clear();
    all_changes_are_refused(fs, fd, *dir);
    EXPECT_OK(fs->pread(fs, fd, &byte, 1, 4, &err));
    assert_int_equal(byte, 'o');
    EXPECT_OK(fs->unlink(fs, path, &err));
    (void)fs->close(fs, fd);
}

static void a_failed_sync_of_a_folder_counts_too(void **dir)
{
    struct guard_fs guard;
    struct fs *fs = &guard.fs;

    guard_fs_init(&guard, fs_real());
    fault_arm("fs.sync_dir", 0, EIO);
    EXPECT_ERR(ERR_IO, fs->sync_dir(fs, *dir, &err));
    fault_clear();
    EXPECT_ERR(ERR_IO, guard_fs_check(&guard, &err));
}

static void a_full_disk_is_no_failed_sync(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, "file");
    struct guard_fs guard;
    struct fs *fs = &guard.fs;
    int fd;

    guard_fs_init(&guard, fs_real());
    EXPECT_OK(fs->open(fs, path, O_RDWR | O_CREAT, 0600, &fd, &err));
    fault_arm("fs.pwrite", 0, ENOSPC);
    EXPECT_ERR(ERR_SPACE, fs->pwrite(fs, fd, "hello", 5, 0, &err));
    fault_clear();
    EXPECT_OK(fs->pwrite(fs, fd, "hello", 5, 0, &err));
    (void)fs->close(fs, fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(after_a_failed_sync_only_reading_and_taking_away_is_left),
        TMPDIR_TEST(a_failed_sync_of_a_folder_counts_too),
        TMPDIR_TEST(a_full_disk_is_no_failed_sync),
    };
    return cmocka_run_group_tests_name("guard_fs", tests, NULL, NULL);
}
