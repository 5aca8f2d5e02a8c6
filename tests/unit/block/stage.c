// SPDX-License-Identifier: Apache-2.0
#include "block/stage.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdlib.h>
#include <sys/stat.h>

#define GIB (UINT64_C(1) << 30)

/* qemu-img finds nothing wrong, and the disk is empty and of that size. */
static void expect_empty_image(const char *path, uint64_t size)
{
    const char *const check[] = {"qemu-img", "check", "-q", path, NULL};
    const char *const info[] = {"qemu-img", "info", "--output=json", path, NULL};
    const struct proc_spec spec = {.argv = info};
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char *want = mem_printf("\"virtual-size\": %llu", (unsigned long long)size);
    int status;

    EXPECT_OK(proc_must(check, NULL, &err));
    EXPECT_OK(proc_run(&spec, 65536, &text, &status, NULL, &err));
    if (!strstr(str_text(&text), want) || !strstr(str_text(&text), "\"cluster-size\": 65536"))
        fail_msg("%s", str_text(&text));
    free(want);
}

static void staging_files_are_images_qemu_accepts(void **dir)
{
    static const uint64_t sizes[] = {512,      1 << 20,   512 << 20,     (512 << 20) + 512,
                                     40 * GIB, GIB << 12, STAGE_DISK_MAX};
    char *path = path_join(*dir, "st");

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        EXPECT_OK(stage_make(path, sizes[i], 1 << 20, &err));
        expect_empty_image(path, sizes[i]);
    }
    free(path);
}

static void room_is_taken_from_the_file_system(void **dir)
{
    char *path = path_join(*dir, "st");
    struct stat st;

    EXPECT_OK(stage_make(path, GIB, 8 << 20, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_blocks * 512 >= 8 << 20);
    EXPECT_OK(stage_reserve(path, 16 << 20, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_blocks * 512 >= 16 << 20);
    assert_true(st.st_size < 1 << 20);
    free(path);
}

static void without_room_nothing_is_left_behind(void **dir)
{
    char *path = path_join(*dir, "st");

    EXPECT_ERR(ERR_SPACE, stage_make(path, STAGE_DISK_MAX, STAGE_DISK_MAX / 2, &err));
    EXPECT_TEXT("needed");
    EXPECT_TEXT("free");
    assert_false(fs_exists(path));
    free(path);
}

static void a_disk_too_large_is_refused(void **dir)
{
    char *path = path_join(*dir, "st");

    EXPECT_ERR(ERR_LIMIT, stage_make(path, STAGE_DISK_MAX + 512, 0, &err));
    free(path);
}

static void room_is_sixteenfold_but_never_more_than_the_disk(void **unused)
{
    (void)unused;
    assert_int_equal(stage_room(GIB, 4096), 65536 + 655 + (1 << 20));
    assert_int_equal(stage_room(GIB, GIB), GIB + GIB / 100 + (1 << 20));
    assert_int_equal(stage_room(GIB, UINT64_MAX), GIB + GIB / 100 + (1 << 20));
    assert_int_equal(stage_room(GIB, 0), 1 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(staging_files_are_images_qemu_accepts),
        TMPDIR_TEST(room_is_taken_from_the_file_system),
        TMPDIR_TEST(without_room_nothing_is_left_behind),
        TMPDIR_TEST(a_disk_too_large_is_refused),
        cmocka_unit_test(room_is_sixteenfold_but_never_more_than_the_disk),
    };
    return cmocka_run_group_tests_name("stage", tests, NULL, NULL);
}
