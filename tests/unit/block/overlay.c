// SPDX-License-Identifier: Apache-2.0
/* Overlays as QEMU writes them: qemu-io is the guest. */
#include "block/overlay.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/stage.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static char *path;

static int set_up(void **dir)
{
    if (tmpdir_setup(dir) < 0)
        return -1;
    path = path_join(*dir, "vda.qcow2");
    return 0;
}

static int tear_down(void **dir)
{
    free(path);
    return tmpdir_teardown(dir);
}

static void io(const char *command)
{
    const char *const argv[] = {"qemu-io", "-f", "qcow2", "-c", command, path, NULL};

    EXPECT_OK(proc_must(argv, NULL, &err));
}

static void expect_allocated(uint64_t disk_size, const struct source_extent *want, size_t count)
{
    CLEANUP(source_extents_free) struct source_extents got = VEC_EMPTY;
    uint64_t size = 0;

    EXPECT_OK(overlay_allocated(path, &got, &size, &err));
    assert_int_equal(size, disk_size);
    for (size_t i = 0; i < got.len && i < count; i++)
        if (got.at[i].off != want[i].off || got.at[i].len != want[i].len)
            fail_msg("extent %zu is %llu+%llu", i, (unsigned long long)got.at[i].off,
                     (unsigned long long)got.at[i].len);
    assert_int_equal(got.len, count);
}

static void a_new_overlay_has_nothing(void **state)
{
    (void)state;
    EXPECT_OK(stage_make(path, 6 * GIB, 0, &err));
    expect_allocated(6 * GIB, NULL, 0);
}

static void what_was_written_is_in_it_zeros_too(void **state)
{
    const struct source_extent want[] = {{0, 65536},
                                         {128 << 10, 2 * 65536},
                                         {40 * MIB, MIB},
                                         {512 * MIB - 65536, 2 * 65536},
                                         {5 * GIB, 65536}};

    (void)state;
    EXPECT_OK(stage_make(path, 6 * GIB, 0, &err));
    io("write -P 1 512 512");
    io("write -P 2 192k 4k");
    io("write -P 3 128k 4k");
    io("write -z 40m 1m");
    io("write -P 4 536866816 8k"); /* over the edge of a table */
    io("write -P 5 5g 4k");
    expect_allocated(6 * GIB, want, ARRAY_LEN(want));
}

static void it_ends_where_the_disk_ends(void **state)
{
    const uint64_t size = MIB + 4096 + 512;
    const struct source_extent want[] = {{0, size}};

    (void)state;
    EXPECT_OK(stage_make(path, size, 0, &err));
    io("write -P 1 0 1053184");
    expect_allocated(size, want, 1);
}

static void clusters_of_any_size_are_known(void **state)
{
    const char *const small[] = {"qemu-img", "create",          "-q", "-f",  "qcow2",
                                 "-o",       "cluster_size=4k", path, "64M", NULL};
    const struct source_extent want[] = {{MIB, 8192}};

    (void)state;
    EXPECT_OK(proc_must(small, NULL, &err));
    io("write -P 1 1m 4097");
    expect_allocated(64 * MIB, want, 1);
}

static void what_is_no_overlay_is_refused(void **state)
{
    CLEANUP(source_extents_free) struct source_extents got = VEC_EMPTY;
    const char *const extended[] = {"qemu-img", "create",         "-q", "-f",  "qcow2",
                                    "-o",       "extended_l2=on", path, "64M", NULL};
    const char zeros[4096] = "";
    uint64_t size;

    (void)state;
    EXPECT_ERR(ERR_NOT_FOUND, overlay_allocated(path, &got, &size, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, zeros, sizeof(zeros), 0600, &err));
    EXPECT_ERR(ERR_CORRUPT, overlay_allocated(path, &got, &size, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, zeros, 10, 0600, &err));
    EXPECT_ERR(ERR_CORRUPT, overlay_allocated(path, &got, &size, &err));
    EXPECT_OK(fs_real()->unlink(fs_real(), path, &err));
    EXPECT_OK(proc_must(extended, NULL, &err));
    EXPECT_ERR(ERR_UNSUPPORTED, overlay_allocated(path, &got, &size, &err));
}

#define OVERLAY_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OVERLAY_TEST(a_new_overlay_has_nothing),
        OVERLAY_TEST(what_was_written_is_in_it_zeros_too),
        OVERLAY_TEST(it_ends_where_the_disk_ends),
        OVERLAY_TEST(clusters_of_any_size_are_known),
        OVERLAY_TEST(what_is_no_overlay_is_refused),
    };
    return cmocka_run_group_tests_name("overlay", tests, NULL, NULL);
}
