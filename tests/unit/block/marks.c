// SPDX-License-Identifier: Apache-2.0
/* Change maps brought into a real QEMU and read out of it; the test is its guest. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/maps_export.h"
#include "block/stage_map.h"
#include "block/stage_reader.h"
#include "support/block/bare_qemu.h"
#include "support/expect.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static struct bare_qemu qemu;
static struct source *source;
static struct cancel *cancel;
static char *paths[2], *work;

static int start(void **state)
{
    char *disks[2];

    if (tmpdir_setup(state) < 0)
        return -1;
    cancel = cancel_new(NULL, NULL, 60000);
    work = path_join(*state, "work");
    for (size_t i = 0; i < 2; i++) {
        paths[i] = mem_printf("%s/%zu.qcow2", (char *)*state, i);
        const char *const create[] = {"qemu-img", "create", "-q", "-f",
                                      "qcow2",    paths[i], "3G", NULL};
        EXPECT_OK(proc_must(create, NULL, &err));
        disks[i] = mem_printf("qcow2:%s", paths[i]);
    }
    bare_qemu_start(&qemu, *state, (const char *const[]){disks[0], disks[1], NULL});
    free(disks[0]);
    free(disks[1]);
    const struct source_qemu_disk both[] = {{"vda", "d0", NULL, "served"},
                                            {"vdb", "d1", NULL, "served"}};
    const struct source_qemu_config config = {.group = "shop",
                                              .generation = 3,
                                              .qmp_path = qemu.path,
                                              .disks = both,
                                              .disk_count = 2,
                                              .work_dir = work,
                                              .plugin_path = ""};
    return source_qemu_open(&config, &source, cancel, &err);
}

static int stop(void **state)
{
    source_closep(&source);
    bare_qemu_kill(&qemu);
    cancel_freep(&cancel);
    free(paths[0]);
    free(paths[1]);
    free(work);
    return tmpdir_teardown(state);
}

static void expect(const struct source_extents *got, const struct source_extent *want, size_t count)
{
    for (size_t i = 0; i < got->len && i < count; i++)
        if (got->at[i].off != want[i].off || got->at[i].len != want[i].len)
            fail_msg("extent %zu is %llu+%llu", i, (unsigned long long)got->at[i].off,
                     (unsigned long long)got->at[i].len);
    assert_int_equal(got->len, count);
}

/* Past the session's monitor: by the test's own. */
static uint64_t exported(struct source_extents ret[2])
{
    static const struct maps_disk both[] = {{"vda", "d0"}, {"vdb", "d1"}};
    CLEANUP(fs_names_free) struct fs_names left = {0};
    uint64_t serial = 99;

    EXPECT_OK(maps_export(qemu.qmp, both, 2, "shop", 3, work, &serial, ret, cancel, &err));
    EXPECT_OK(fs_list(work, &left, &err));
    for (size_t i = 0; i < left.len; i++)
        assert_false(str_starts(left.at[i], "export-"));
    return serial;
}

static void expect_maps(uint64_t serial, const struct source_extent *a, size_t a_count,
                        const struct source_extent *b, size_t b_count)
{
    struct source_extents got[2] = {0};

    assert_int_equal(exported(got), serial);
    expect(&got[0], a, a_count);
    expect(&got[1], b, b_count);
    source_extents_free(&got[0]);
    source_extents_free(&got[1]);
}

static int track_from(uint64_t serial, const struct source_extent *extents, size_t count)
{
    CLEANUP(source_extents_free) struct source_extents list = VEC_EMPTY;
    const struct source_marks marks[] = {{"vdb", &list}};

    for (size_t i = 0; i < count; i++)
        *source_extents_push(&list) = extents[i];
    return source_track_from(source, serial, marks, 1, cancel, &err);
}

static void a_map_begins_with_what_it_is_told(void **state)
{
    static const struct source_extent told[] = {{MIB + 1, 1}, {GIB, 2 * GIB}};
    static const struct source_extent a[] = {{0, 4096}};
    static const struct source_extent b[] = {{8192, 4096}, {MIB, 4096}, {GIB, 2 * GIB}};

    (void)state;
    EXPECT_OK(track_from(4, told, 2));
    bare_qemu_write(&qemu, "d0", 0, 4096, 1);
    bare_qemu_write(&qemu, "d1", 8192, 4096, 1);
    bare_qemu_write(&qemu, "d1", GIB, 4096, 1);
    expect_maps(4, a, 1, b, 3);
}

static void the_next_cut_has_it_and_the_one_after_not(void **state)
{
    static const struct source_extent told[] = {{MIB, 65536}};
    CLEANUP(source_extents_free) struct source_extents changes = VEC_EMPTY;
    struct source_cut made;

    (void)state;
    EXPECT_OK(track_from(4, told, 1));
    EXPECT_OK(source->ops->cut(source, 5, &made, cancel, &err));
    EXPECT_OK(source->ops->changes(source, "vdb", &changes, cancel, &err));
    expect(&changes, told, 1);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    expect_maps(5, NULL, 0, NULL, 0);
}

static void a_cut_under_way_hides_nothing_from_the_reader(void **state)
{
    static const struct source_extent both[] = {{0, 4096}, {MIB, 4096}};
    struct source_cut made;

    (void)state;
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    bare_qemu_write(&qemu, "d0", 0, 4096, 1);
    EXPECT_OK(source->ops->cut(source, 2, &made, cancel, &err));
    bare_qemu_write(&qemu, "d0", MIB, 4096, 1);
    expect_maps(2, both, 2, NULL, 0);
    EXPECT_OK(source->ops->end(source, true, cancel, &err)); /* the reader did not disturb it */
    expect_maps(2, &both[1], 1, NULL, 0);
}

static void nothing_tracked_is_nothing_read(void **state)
{
    struct source_extents got[2] = {0};

    (void)state;
    assert_int_equal(exported(got), 0);
}

static void marks_beyond_the_disk_are_refused_and_leave_nothing(void **state)
{
    static const struct source_extent beyond[] = {{3 * GIB, 4096}};
    CLEANUP(fs_names_free) struct fs_names left = {0};
    struct source_state found;

    (void)state;
    EXPECT_ERR(ERR_INVALID, track_from(1, beyond, 1));
    EXPECT_OK(source->ops->inspect(source, &found, cancel, &err));
    assert_int_equal(found.open, 0);
    EXPECT_OK(fs_list(work, &left, &err));
    assert_int_equal(left.len, 0);
}

/* A file of ours, read by our own reader and judged by QEMU's. */
static void a_large_scattered_map_is_right_to_the_bit(void **state)
{
    CLEANUP(source_extents_free) struct source_extents want = VEC_EMPTY;
    CLEANUP(source_extents_free) struct source_extents got = VEC_EMPTY;
    CLEANUP(stage_reader_closep) struct stage_reader *reader = NULL;
    CLEANUP(mem_freep) char *path = path_join(*state, "map.qcow2");
    const char *const check[] = {"qemu-img", "check", "-q", path, NULL};
    const uint64_t size = 40 * 1024 * GIB / 16 + 512;

    for (uint64_t i = 0; i < 5000; i++)
        *source_extents_push(&want) = (struct source_extent){i * i * 12288, 4096 * (1 + i % 2)};
    *source_extents_push(&want) = (struct source_extent){size - 512, 512};
    EXPECT_OK(stage_map_make(path, size, "chg", &want, &err));
    EXPECT_OK(proc_must(check, NULL, &err));
    EXPECT_OK(stage_reader_open(path, "chg", size, &reader, &err));
    EXPECT_OK(stage_reader_changes(reader, &got, &err));
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.at, want.at, want.len * sizeof(*want.at));
}

#define MARKS_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MARKS_TEST(a_map_begins_with_what_it_is_told),
        MARKS_TEST(the_next_cut_has_it_and_the_one_after_not),
        MARKS_TEST(a_cut_under_way_hides_nothing_from_the_reader),
        MARKS_TEST(nothing_tracked_is_nothing_read),
        MARKS_TEST(marks_beyond_the_disk_are_refused_and_leave_nothing),
        MARKS_TEST(a_large_scattered_map_is_right_to_the_bit),
    };
    return cmocka_run_group_tests_name("marks", tests, NULL, NULL);
}
