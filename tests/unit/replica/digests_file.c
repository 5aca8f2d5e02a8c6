// SPDX-License-Identifier: Apache-2.0
#include "replica/digests_file.h"

#include "base/mem.h"
#include "replica/chunk.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdlib.h>
#include <unistd.h>

#define DISK ((uint64_t)10 * CHUNK_BYTES + 512)

static void digests_are_zero_at_first_and_then_what_was_written(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, "digests");
    struct digest have[11];
    struct digest want[3];
    const struct digest zero = {{0}};
    int fd;

    random_bytes(want, sizeof(want));
    for (size_t round = 0; round < 2; round++) { /* made again, it is empty again */
        EXPECT_OK(digests_file_create(fs_real(), path, DISK, &err));
        EXPECT_OK(digests_file_open(fs_real(), path, DISK, &fd, &err));
        EXPECT_OK(digests_file_read(fs_real(), fd, 0, 11, have, &err));
        for (size_t i = 0; i < 11; i++)
            assert_memory_equal(&have[i], &zero, sizeof(zero));
        EXPECT_OK(digests_file_write(fs_real(), fd, 8, 3, want, &err));
        EXPECT_OK(digests_file_read(fs_real(), fd, 0, 11, have, &err));
        assert_memory_equal(&have[8], want, sizeof(want));
        assert_memory_equal(&have[7], &zero, sizeof(zero));
        fd_close(&fd);
    }
}

static void digests_of_another_disk_size_are_refused(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, "digests");
    int fd;

    EXPECT_OK(digests_file_create(fs_real(), path, DISK, &err));
    EXPECT_ERR(ERR_CORRUPT, digests_file_open(fs_real(), path, DISK + 512, &fd, &err));
    EXPECT_TEXT(path);
    assert_int_equal(truncate(path, 4096), 0);
    EXPECT_ERR(ERR_CORRUPT, digests_file_open(fs_real(), path, DISK, &fd, &err));
    assert_int_equal(truncate(path, 3), 0);
    EXPECT_ERR(ERR_CORRUPT, digests_file_open(fs_real(), path, DISK, &fd, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(digests_are_zero_at_first_and_then_what_was_written),
        TMPDIR_TEST(digests_of_another_disk_size_are_refused),
    };
    return cmocka_run_group_tests_name("digests_file", tests, NULL, NULL);
}
