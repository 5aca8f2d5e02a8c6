// SPDX-License-Identifier: Apache-2.0
/* Staging files as QEMU leaves them: qemu-io writes what a backup job would have copied, qemu-img
 * makes the change map while it does. */
#include "block/stage_reader.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/stage.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static char *path;
static struct stage_reader *reader;

static int set_up(void **dir)
{
    if (tmpdir_setup(dir) < 0)
        return -1;
    path = path_join(*dir, "stage-0.qcow2");
    return 0;
}

static int tear_down(void **dir)
{
    stage_reader_closep(&reader);
    free(path);
    return tmpdir_teardown(dir);
}

static void make(uint64_t size)
{
    EXPECT_OK(stage_make(path, size, MIB, &err));
}

static void bitmap(const char *what, const char *name, const char *granularity)
{
    const char *const plain[] = {"qemu-img", "bitmap", what, path, name, NULL};
    const char *const coarse[] = {"qemu-img", "bitmap", what, "-g", granularity, path, name, NULL};

    EXPECT_OK(proc_must(granularity ? coarse : plain, NULL, &err));
}

static void io(const char *command)
{
    const char *const argv[] = {"qemu-io", "-f", "qcow2", "-c", command, path, NULL};

    EXPECT_OK(proc_must(argv, NULL, &err));
}

static int open_reader(uint64_t size)
{
    stage_reader_closep(&reader);
    return stage_reader_open(path, "chg", size, &reader, &err);
}

static void expect_changes(const struct source_extent *want, size_t count)
{
    CLEANUP(source_extents_free) struct source_extents got = VEC_EMPTY;

    EXPECT_OK(stage_reader_changes(reader, &got, &err));
    for (size_t i = 0; i < got.len && i < count; i++)
        if (got.at[i].off != want[i].off || got.at[i].len != want[i].len)
            fail_msg("extent %zu is %llu+%llu", i, (unsigned long long)got.at[i].off,
                     (unsigned long long)got.at[i].len);
    assert_int_equal(got.len, count);
}

static void expect_bytes(uint64_t off, size_t len, uint8_t want)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len, 1);

    memset(bytes, 0xee, len);
    EXPECT_OK(stage_reader_read(reader, off, bytes, len, &err));
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != want)
            fail_msg("byte %llu is %u, not %u", (unsigned long long)off + i, bytes[i], want);
}

static void what_was_written_is_marked_and_read(void **state)
{
    const struct source_extent want[] = {{0, 4096},
                                         {64 << 10, 12 << 10},
                                         {40 * MIB - 8192, 16384},
                                         {3 * GIB, 4096},
                                         {5 * GIB + 511 * 4096, 4096}};

    (void)state;
    make(6 * GIB);
    bitmap("--add", "chg", "4k");
    io("write -P 1 0 512");
    io("write -P 2 64k 12k");
    io("write -P 3 41934848 16k"); /* over the edge of a cluster */
    io("write -P 4 3g 4k");        /* another table, another cluster of bits */
    io("write -P 5 5370802176 4k");
    EXPECT_OK(open_reader(6 * GIB));
    expect_changes(want, ARRAY_LEN(want));
    expect_bytes(0, 512, 1);
    expect_bytes(512, 3584, 0);
    expect_bytes(64 << 10, 12 << 10, 2);
    expect_bytes(40 * MIB - 8192, 16384, 3);
    expect_bytes(3 * GIB, 4096, 4);
    expect_bytes(5 * GIB + 511 * 4096, 4096, 5);
    expect_bytes(0, 512, 1); /* back again */
}

static void zeros_and_what_was_never_copied_read_as_zeros(void **state)
{
    const struct source_extent want[] = {{MIB, MIB}};

    (void)state;
    make(64 * MIB);
    bitmap("--add", "chg", "4k");
    io("write -P 7 1m 64k");
    io("write -z 1m 1m");
    EXPECT_OK(open_reader(64 * MIB));
    expect_changes(want, ARRAY_LEN(want));
    expect_bytes(MIB, MIB, 0);
    expect_bytes(63 * MIB, MIB, 0);
}

static void a_disk_marked_all_over_ends_where_it_ends(void **state)
{
    const uint64_t size = 3 * GIB + 4096 + 512;
    const struct source_extent want[] = {{0, size}};

    (void)state;
    make(size);
    bitmap("--add", "chg", "4k");
    io("write -z 0 1g");
    io("write -z 1g 1g");
    io("write -z 2g 1g");
    io("write -z 3g 4608");
    EXPECT_OK(open_reader(size));
    expect_changes(want, ARRAY_LEN(want));
    expect_bytes(size - 512, 512, 0);
    assert_int_equal(stage_reader_read(reader, size - 512, &(uint8_t[1024]){0}, 1024, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

static void a_map_is_found_among_others(void **state)
{
    const struct source_extent want[] = {{MIB, 4096}};

    (void)state;
    make(64 * MIB);
    bitmap("--add", "a-map-with-a-longer-name", "64k");
    io("write -P 7 0 64k");
    bitmap("--add", "chg", "4k");
    io("write -P 7 1m 4k");
    EXPECT_OK(open_reader(64 * MIB));
    expect_changes(want, ARRAY_LEN(want));
}

static void a_file_without_the_exact_map_is_refused(void **state)
{
    (void)state;
    make(64 * MIB);
    assert_int_equal(open_reader(64 * MIB), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    bitmap("--add", "other", "4k");
    assert_int_equal(open_reader(64 * MIB), -1);
    EXPECT_TEXT("its change map is not there");
    bitmap("--add", "chg", "64k");
    assert_int_equal(open_reader(64 * MIB), -1);
    EXPECT_TEXT("not one of 4 KiB blocks");
}

static void a_disk_of_another_size_is_refused(void **state)
{
    (void)state;
    make(64 * MIB);
    bitmap("--add", "chg", "4k");
    assert_int_equal(open_reader(65 * MIB), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    EXPECT_TEXT("67108864");
}

static void images_with_other_features_are_refused(void **state)
{
    const char *const small[] = {"qemu-img", "create",          "-q", "-f",  "qcow2",
                                 "-o",       "cluster_size=4k", path, "64M", NULL};
    const char *const extended[] = {
        "qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on,cluster_size=64k",
        path,       "64M",    NULL};

    (void)state;
    EXPECT_OK(proc_must(small, NULL, &err));
    bitmap("--add", "chg", "4k"); /* all else is as it should be */
    io("write -P 7 0 1m");
    assert_int_equal(open_reader(64 * MIB), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    EXPECT_TEXT("other clusters or features");
    EXPECT_OK(proc_must(extended, NULL, &err));
    bitmap("--add", "chg", "4k");
    io("write -P 7 0 1m");
    assert_int_equal(open_reader(64 * MIB), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    EXPECT_TEXT("other clusters or features");
}

/* Whatever stands in the file: an error or an answer, never a crash or a read outside of it. */
static void damaged_files_are_survived(void **state)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(4096, 1);
    uint8_t good[4096];
    unsigned seed = 7;
    int fd;

    (void)state;
    make(64 * MIB);
    bitmap("--add", "chg", "4k");
    io("write -P 7 1m 256k");
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (int i = 0; i < 2000; i++) {
        off_t at = i % 2 ? 0 : (off_t)((unsigned)rand_r(&seed) % 12) * 65536;
        CLEANUP(source_extents_free) struct source_extents got = VEC_EMPTY;
        ssize_t len = pread(fd, good, sizeof(good), at);

        if (len <= 0)
            continue;
        memcpy(bytes, good, (size_t)len);
        for (int n = 0; n < 4; n++) {
            size_t where = (size_t)rand_r(&seed) % (i % 2 ? 160 : (size_t)len);
            bytes[where] = (uint8_t)rand_r(&seed);
        }
        assert_int_equal(pwrite(fd, bytes, (size_t)len, at), len);
        err_clear(&err);
        if (open_reader(64 * MIB) == 0 && stage_reader_changes(reader, &got, &err) == 0) {
            int rc = stage_reader_read(reader, MIB, bytes, 4096, &err);
            assert_true(rc == 0 || err.text[0]);
        }
        assert_int_equal(pwrite(fd, good, (size_t)len, at), len);
    }
    (void)close(fd);
    EXPECT_OK(open_reader(64 * MIB));
    expect_bytes(MIB, 256 << 10, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_is_marked_and_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(zeros_and_what_was_never_copied_read_as_zeros, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_disk_marked_all_over_ends_where_it_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_map_is_found_among_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_without_the_exact_map_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_of_another_size_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(images_with_other_features_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_files_are_survived, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("stage_reader", tests, NULL, NULL);
}
