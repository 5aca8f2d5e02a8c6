// SPDX-License-Identifier: Apache-2.0
#include "replica/generation.h"

#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t generation_of(const char *dir)
{
    uint64_t gen = 99;

    EXPECT_OK(generation_read(fs_real(), dir, &gen, &err));
    return gen;
}

static void a_new_replica_is_at_zero(void **dir)
{
    assert_int_equal(generation_of(*dir), 0);
}

static void a_stale_writer_is_fenced(void **dir)
{
    EXPECT_OK(generation_raise(fs_real(), *dir, 0, 1, &err));
    EXPECT_ERR(ERR_FENCED, generation_raise(fs_real(), *dir, 0, 1, &err));
    assert_int_equal(generation_of(*dir), 1);
}

static void it_never_goes_back(void **dir)
{
    EXPECT_OK(generation_raise(fs_real(), *dir, 0, 5, &err));
    EXPECT_ERR(ERR_FENCED, generation_raise(fs_real(), *dir, 5, 4, &err));
    assert_int_equal(generation_of(*dir), 5);
}

static void a_failed_sync_leaves_the_old_generation(void **dir)
{
    EXPECT_OK(generation_raise(fs_real(), *dir, 0, 1, &err));
    fault_arm("fs.sync", 0, EIO);
    EXPECT_ERR(ERR_IO, generation_raise(fs_real(), *dir, 1, 2, &err));
    fault_clear();
    assert_int_equal(generation_of(*dir), 1);
}

static void a_lost_number_is_not_taken_for_zero(void **dir)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/manifests/00000000000000000001", (char *)*dir);
    CLEANUP(mem_freep) char *folder = path_join(*dir, "manifests");
    uint64_t gen;

    EXPECT_OK(fs_make_dirs(fs_real(), folder, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, "x", 1, 0600, &err));
    EXPECT_ERR(ERR_CORRUPT, generation_read(fs_real(), *dir, &gen, &err));
    EXPECT_TEXT("generation");
}

static void a_changed_digit_is_found(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, "generation");
    uint64_t gen;

    EXPECT_OK(generation_raise(fs_real(), *dir, 0, 7, &err));
    for (off_t at = 0; at < 18; at++) {
        CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
        char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        char changed = (char)(byte ^ 1);
        assert_int_equal(pwrite(fd, &changed, 1, at), 1);
        EXPECT_ERR(ERR_CORRUPT, generation_read(fs_real(), *dir, &gen, &err));
        EXPECT_TEXT(path);
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_int_equal(generation_of(*dir), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_new_replica_is_at_zero),
        TMPDIR_TEST(a_stale_writer_is_fenced),
        TMPDIR_TEST(it_never_goes_back),
        TMPDIR_TEST(a_failed_sync_leaves_the_old_generation),
        TMPDIR_TEST(a_lost_number_is_not_taken_for_zero),
        TMPDIR_TEST(a_changed_digit_is_found),
    };
    return cmocka_run_group_tests_name("generation", tests, NULL, NULL);
}
