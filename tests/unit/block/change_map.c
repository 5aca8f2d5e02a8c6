// SPDX-License-Identifier: Apache-2.0
#include "block/change_map.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static char *path;

static int set_up(void **dir)
{
    if (tmpdir_setup(dir) < 0)
        return -1;
    path = path_join(*dir, "vda.changes");
    return 0;
}

static int tear_down(void **dir)
{
    fault_clear();
    free(path);
    return tmpdir_teardown(dir);
}

static int write_map(uint64_t point, const struct source_extent *extents, size_t count)
{
    CLEANUP(change_map_done)
    struct change_map map = {.size = 1 << 20, .generation = 7, .point = point, .serial = 3};

    (void)snprintf(map.group, sizeof(map.group), "shop");
    (void)snprintf(map.disk, sizeof(map.disk), "vda");
    for (size_t i = 0; i < count; i++)
        *source_extents_push(&map.extents) = extents[i];
    return change_map_write(path, &map, &err);
}

static const struct source_extent two[] = {{4096, 8192}, {1 << 19, 1 << 19}};

static void what_was_written_is_read(void **unused)
{
    CLEANUP(change_map_done) struct change_map map = {0};

    (void)unused;
    EXPECT_OK(write_map(12, two, 2));
    EXPECT_OK(change_map_read(path, &map, &err));
    assert_string_equal(map.group, "shop");
    assert_string_equal(map.disk, "vda");
    assert_int_equal(map.size, 1 << 20);
    assert_int_equal(map.generation, 7);
    assert_int_equal(map.point, 12);
    assert_int_equal(map.serial, 3);
    assert_int_equal(map.extents.len, 2);
    assert_memory_equal(map.extents.at, two, sizeof(two));
}

static void a_map_without_changes_is_a_map(void **unused)
{
    CLEANUP(change_map_done) struct change_map map = {0};

    (void)unused;
    EXPECT_OK(write_map(1, NULL, 0));
    EXPECT_OK(change_map_read(path, &map, &err));
    assert_int_equal(map.extents.len, 0);
}

static void a_removed_map_is_gone_and_can_be_removed_again(void **unused)
{
    struct change_map map = {0};

    (void)unused;
    EXPECT_OK(write_map(1, two, 2));
    EXPECT_OK(change_map_remove(path, &err));
    EXPECT_OK(change_map_remove(path, &err));
    EXPECT_ERR(ERR_NOT_FOUND, change_map_read(path, &map, &err));
}

static void a_write_that_fails_leaves_the_old_map(void **unused)
{
    CLEANUP(change_map_done) struct change_map map = {0};

    (void)unused;
    EXPECT_OK(write_map(1, two, 2));
    fault_arm("fs.sync", 0, EIO);
    EXPECT_ERR(ERR_IO, write_map(2, NULL, 0));
    EXPECT_OK(change_map_read(path, &map, &err));
    assert_int_equal(map.point, 1);
    assert_int_equal(map.extents.len, 2);
}

/* Every byte is covered: none may change unseen, none may be missing. */
static void a_damaged_map_is_refused_whole(void **unused)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct change_map map = {0};

    (void)unused;
    EXPECT_OK(write_map(1, two, 2));
    EXPECT_OK(fs_read_file(fs_real(), path, 65536, &text, &err));
    for (size_t i = 0; i < text.len; i++) {
        text.ptr[i] ^= 0x10;
        EXPECT_OK(fs_replace_file(fs_real(), path, text.ptr, text.len, 0600, &err));
        EXPECT_ERR(ERR_CORRUPT, change_map_read(path, &map, &err));
        text.ptr[i] ^= 0x10;
    }
    for (size_t len = 0; len < text.len; len += 5) {
        EXPECT_OK(fs_replace_file(fs_real(), path, text.ptr, len, 0600, &err));
        EXPECT_ERR(ERR_CORRUPT, change_map_read(path, &map, &err));
    }
}

static void extents_that_no_disk_has_are_refused(void **unused)
{
    static const struct source_extent beyond[] = {{1 << 20, 4096}};
    static const struct source_extent twice[] = {{0, 8192}, {4096, 8192}};
    struct change_map map = {0};

    (void)unused;
    EXPECT_OK(write_map(1, beyond, 1));
    EXPECT_ERR(ERR_CORRUPT, change_map_read(path, &map, &err));
    EXPECT_OK(write_map(1, twice, 2));
    EXPECT_ERR(ERR_CORRUPT, change_map_read(path, &map, &err));
}

static void extents_unite_to_what_either_has(void **unused)
{
    static const struct source_extent a[] = {{0, 10}, {20, 10}, {100, 5}};
    static const struct source_extent b[] = {{10, 10}, {25, 50}, {102, 1}, {200, 1}};
    static const struct source_extent want[] = {{0, 75}, {100, 5}, {200, 1}};
    CLEANUP(source_extents_free) struct source_extents to = VEC_EMPTY;
    CLEANUP(source_extents_free) struct source_extents more = VEC_EMPTY;

    (void)unused;
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        *source_extents_push(&to) = a[i];
    for (size_t i = 0; i < ARRAY_LEN(b); i++)
        *source_extents_push(&more) = b[i];
    source_extents_unite(&to, &more);
    assert_int_equal(to.len, ARRAY_LEN(want));
    assert_memory_equal(to.at, want, sizeof(want));
    assert_int_equal(source_extents_bytes(&to), 81);
}

#define MAP_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MAP_TEST(what_was_written_is_read),
        MAP_TEST(a_map_without_changes_is_a_map),
        MAP_TEST(a_removed_map_is_gone_and_can_be_removed_again),
        MAP_TEST(a_write_that_fails_leaves_the_old_map),
        MAP_TEST(a_damaged_map_is_refused_whole),
        MAP_TEST(extents_that_no_disk_has_are_refused),
        MAP_TEST(extents_unite_to_what_either_has),
    };
    return cmocka_run_group_tests_name("change_map", tests, NULL, NULL);
}
