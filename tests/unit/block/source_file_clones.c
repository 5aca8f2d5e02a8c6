// SPDX-License-Identifier: Apache-2.0
/* Disks of a machine that is off, where their file system can clone them. What is written to them
 * meanwhile is written as by whoever knows nothing of us. */
#include "base/clock.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/source_file.h"
#include "support/expect.h"
#include "support/reflink.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB     (UINT64_C(1) << 20)
#define REST_MS 50 /* more than a tick of the clock of files */

static const char *const names[] = {"vda", "vdb"};

static struct source *source;
static struct cancel *cancel;
static char *folder; /* NULL: nothing can be cloned here */
static char *paths[2], *work_dir, *copy_path, *then_path;

static void write_at(const char *path, uint64_t off, size_t len, int value)
{
    CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(len, 1);

    memset(buf, value, len);
    assert_int_equal(pwrite(fd, buf, len, (off_t)off), len);
}

/* Into the guest's view of that disk. */
static void write_disk(size_t disk, uint64_t off_mib, int value)
{
    CLEANUP(mem_freep)
    char *command = mem_printf("write -P %d %uM 64k", value, (unsigned)off_mib);
    const char *const qcow2[] = {"qemu-io", "-f", "qcow2", "-c", command, paths[1], NULL};

    if (disk == 0)
        write_at(paths[0], off_mib * MIB, 65536, value);
    else
        EXPECT_OK(proc_must(qcow2, NULL, &err));
}

static void open_source(void)
{
    const struct source_file_disk disks[] = {{names[0], paths[0], "raw"},
                                             {names[1], paths[1], "qcow2"}};

    source_closep(&source);
    EXPECT_OK(source_file_open(disks, 2, work_dir, &source, &err));
}

static int start(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    if (!reflink_mount(*state, &folder))
        return 0;
    cancel = cancel_new(NULL, NULL, 60000);
    paths[0] = path_join(folder, "a.raw");
    paths[1] = path_join(folder, "b.qcow2");
    work_dir = path_join(*state, "work");
    copy_path = path_join(*state, "copy.raw");
    then_path = path_join(*state, "then.raw");
    write_at(paths[0], 3 * MIB, 3 * MIB, 1);
    assert_int_equal(truncate(paths[0], 10 * MIB), 0);
    const char *const convert[] = {"qemu-img", "convert", "-q",     "-f",     "raw",
                                   "-O",       "qcow2",   paths[0], paths[1], NULL};
    if (proc_must(convert, NULL, &err) < 0)
        return -1;
    open_source();
    return 0;
}

static int stop(void **state)
{
    fault_clear();
    source_closep(&source);
    cancel_freep(&cancel);
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        free(TAKE(paths[i]));
    free(TAKE(work_dir));
    free(TAKE(copy_path));
    free(TAKE(then_path));
    reflink_unmount(&folder);
    return tmpdir_teardown(state);
}

#define NEEDS_CLONES() \
    do {               \
        if (!folder)   \
            skip();    \
    } while (0)

static struct source_state look(void)
{
    struct source_state state;

    EXPECT_OK(source->ops->inspect(source, &state, cancel, &err));
    return state;
}

static void track(uint64_t serial)
{
    EXPECT_OK(source->ops->track(source, serial, cancel, &err));
    assert_int_equal(look().open, serial);
}

static struct source_cut cut(uint64_t serial)
{
    struct source_cut made = {0};

    EXPECT_OK(source->ops->cut(source, serial, &made, cancel, &err));
    return made;
}

static void end(bool delivered)
{
    EXPECT_OK(source->ops->end(source, delivered, cancel, &err));
}

static void pass_time(void)
{
    EXPECT_OK(cancel_sleep(cancel, REST_MS, &err));
}

/* The disk as the guest would see it now. */
static void keep_as_it_is(size_t disk)
{
    const char *const convert[] = {
        "qemu-img", "convert", "-U",        "-f",      disk ? "qcow2" : "raw",
        "-O",       "raw",     paths[disk], then_path, NULL};

    EXPECT_OK(proc_must(convert, NULL, &err));
}

/* --- What is copied --------------------------------------------------------------------------- */

static void a_copy_of_disks_that_are_written_meanwhile_is_of_the_instant_it_began(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    for (size_t i = 0; i < 2; i++) {
        keep_as_it_is(i);
        track(5);
        assert_true(look().cloned);
        pass_time();
        write_disk(i, 4, 9);
        write_disk(i, 9, 9);
        (void)source_apply_scan(source, names[i], copy_path, cancel);
        write_disk(i, 4, 8);
        (void)cut(6);
        (void)source_apply_changes(source, names[i], copy_path, cancel);
        assert_true(source_apply_equal(copy_path, then_path));
        end(true);
        assert_int_equal(unlink(copy_path), 0);
    }
}

static void without_clones_such_a_copy_is_refused(void **unused)
{
    struct source_cut made;

    (void)unused;
    NEEDS_CLONES();
    fault_arm("fs.clone", 0, EOPNOTSUPP);
    track(5);
    assert_false(look().cloned);
    pass_time();
    write_disk(0, 4, 9);
    (void)source_apply_scan(source, "vda", copy_path, cancel);
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 6, &made, cancel, &err));
    EXPECT_TEXT("somebody wrote");
}

static void a_single_read_is_of_that_instant_too(void **unused)
{
    uint8_t byte;

    (void)unused;
    NEEDS_CLONES();
    track(5);
    pass_time();
    for (size_t i = 0; i < 2; i++) {
        write_disk(i, 4, 9);
        EXPECT_OK(source->ops->read(source, names[i], 4 * MIB, &byte, 1, cancel, &err));
        assert_int_equal(byte, 1);
    }
}

static void a_scan_of_its_own_is_of_that_instant_too(void **unused)
{
    struct source_piece piece;
    struct scan *scan = NULL;

    (void)unused;
    NEEDS_CLONES();
    track(5);
    pass_time();
    write_disk(0, 4, 9);
    EXPECT_OK(source->ops->scan_open(source, "vda", 4 * MIB, &scan, cancel, &err));
    assert_true(scan_is_clone(scan));
    EXPECT_OK(scan_next(scan, &piece, cancel, &err));
    assert_int_equal(piece.data[0], 1);
    scan_close(scan);
}

static void a_disk_that_grows_meanwhile_has_the_size_it_had(void **unused)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;
    const char *const grow[] = {"qemu-img", "resize", "-q", "-f", "qcow2", paths[1], "20M", NULL};

    (void)unused;
    NEEDS_CLONES();
    track(5);
    pass_time();
    assert_int_equal(truncate(paths[0], 20 * MIB), 0);
    EXPECT_OK(proc_must(grow, NULL, &err));
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(source->ops->disks(source, &disks, cancel, &err));
        assert_int_equal(disks.at[0].size, i ? 20 * MIB : 10 * MIB);
        assert_int_equal(disks.at[1].size, i ? 20 * MIB : 10 * MIB);
        EXPECT_OK(source->ops->forget(source, cancel, &err));
    }
}

/* --- The cut ---------------------------------------------------------------------------------- */

static void a_cut_says_how_old_its_instant_is(void **unused)
{
    struct clock *clock = clock_real();

    (void)unused;
    NEEDS_CLONES();
    int64_t before = clock->wall_ms(clock);
    track(5);
    int64_t after = clock->wall_ms(clock);
    pass_time();
    struct source_cut made = cut(6);
    assert_in_range(made.wall_ms, before, after);
    assert_true(made.age_ms >= REST_MS);
    end(true);
    made = cut(7);
    assert_true(made.wall_ms > after);
    assert_int_equal(made.age_ms, 0);
}

static void writes_since_the_instant_refuse_the_second_cut(void **unused)
{
    struct source_cut made;

    (void)unused;
    NEEDS_CLONES();
    track(5);
    pass_time();
    write_disk(0, 4, 9);
    (void)cut(6);
    end(true);
    assert_false(look().cloned);
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 7, &made, cancel, &err));
    EXPECT_TEXT("somebody wrote");
    assert_int_equal(look().open, 0);
}

static void untouched_disks_are_cut_again_and_again(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    track(5);
    for (uint64_t serial = 6; serial < 10; serial++) {
        (void)cut(serial);
        end(true);
    }
}

static void what_was_not_delivered_is_cut_once_more_at_that_instant(void **unused)
{
    uint8_t byte;

    (void)unused;
    NEEDS_CLONES();
    track(5);
    pass_time();
    (void)cut(6);
    write_disk(0, 4, 9);
    end(false);
    assert_true(cut(7).age_ms >= REST_MS);
    EXPECT_OK(source->ops->read(source, "vda", 4 * MIB, &byte, 1, cancel, &err));
    assert_int_equal(byte, 1);
}

/* What is copied from clones of an earlier map would lack what was written in between. */
static void tracking_that_begins_anew_has_clones_of_its_own(void **unused)
{
    uint8_t byte;

    (void)unused;
    NEEDS_CLONES();
    for (size_t i = 0; i < 2; i++) {
        track(5);
        pass_time();
        EXPECT_OK(source->ops->read(source, names[i], 4 * MIB, &byte, 1, cancel, &err));
        write_disk(i, 4, 9);
        track(6);
        EXPECT_OK(source->ops->read(source, names[i], 4 * MIB, &byte, 1, cancel, &err));
        assert_int_equal(byte, 9);
    }
}

/* Each would be of an instant of its own. */
static void several_machines_are_not_cloned(void **unused)
{
    struct source_group_machine machines[2] = {{.name = "db1"}, {.name = "web1"}};
    struct source_cut made;

    (void)unused;
    NEEDS_CLONES();
    source_closep(&source);
    for (size_t i = 0; i < 2; i++) {
        const struct source_file_disk disk = {"vda", paths[i], i ? "qcow2" : "raw"};
        EXPECT_OK(source_file_open(&disk, 1, work_dir, &machines[i].source, &err));
    }
    const struct source_group_config config = {
        .group = "shop", .machines = machines, .count = 2, .work_dir = work_dir};
    EXPECT_OK(source_group_open(&config, &source, cancel, &err));
    track(5);
    assert_false(look().cloned);
    pass_time();
    write_disk(0, 4, 9);
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 6, &made, cancel, &err));
    EXPECT_TEXT("somebody wrote");
}

/* --- Several disks, one instant ---------------------------------------------------------------- */

struct writer {
    _Atomic bool ends;
    pthread_t thread;
};

/* First one disk, then the other, the same number. */
static void *write_on(void *arg)
{
    struct writer *writer = arg;
    CLEANUP(fd_close) int first = open(paths[0], O_WRONLY | O_CLOEXEC);
    CLEANUP(mem_freep) char *other = path_join(folder, "c.raw");
    CLEANUP(fd_close) int second = open(other, O_WRONLY | O_CLOEXEC);

    for (uint64_t n = 1; !writer->ends; n++)
        if (pwrite(first, &n, sizeof(n), 0) != sizeof(n)
            || pwrite(second, &n, sizeof(n), 0) != sizeof(n))
            abort();
    return NULL;
}

static void disks_that_somebody_writes_all_the_time_are_not_cloned(void **unused)
{
    CLEANUP(mem_freep) char *other = NULL;
    struct writer writer = {.ends = false};

    (void)unused;
    NEEDS_CLONES();
    other = path_join(folder, "c.raw");
    write_at(other, 0, MIB, 1);
    const struct source_file_disk disks[] = {{"vda", paths[0], "raw"}, {"vdb", other, "raw"}};
    source_closep(&source);
    EXPECT_OK(source_file_open(disks, 2, work_dir, &source, &err));
    assert_int_equal(pthread_create(&writer.thread, NULL, write_on, &writer), 0);
    pass_time();
    track(5);
    bool cloned = look().cloned;
    writer.ends = true;
    assert_int_equal(pthread_join(writer.thread, NULL), 0);
    assert_false(cloned);
}

/* Its time may be that of a write which is still to come. */
static void a_disk_that_was_written_just_now_is_left_to_rest(void **unused)
{
    struct clock *clock = clock_real();

    (void)unused;
    NEEDS_CLONES();
    write_disk(0, 4, 9);
    int64_t before = clock->now_ms(clock);
    track(5);
    assert_true(clock->now_ms(clock) - before >= 15);
    assert_true(look().cloned);
}

static void an_image_over_another_one_is_not_cloned(void **unused)
{
    CLEANUP(mem_freep) char *over = NULL;

    (void)unused;
    NEEDS_CLONES();
    over = path_join(folder, "over.qcow2");
    const char *const create[] = {"qemu-img", "create", "-q",     "-f", "qcow2", "-F",
                                  "qcow2",    "-b",     paths[1], over, NULL};
    EXPECT_OK(proc_must(create, NULL, &err));
    const struct source_file_disk disk = {"vda", over, "qcow2"};
    source_closep(&source);
    EXPECT_OK(source_file_open(&disk, 1, work_dir, &source, &err));
    track(5);
    assert_false(look().cloned);
}

/* --- What is left ------------------------------------------------------------------------------ */

static void expect_only_the_images(void)
{
    CLEANUP(fs_names_free) struct fs_names found = {0};

    EXPECT_OK(fs_list(folder, &found, &err));
    assert_int_equal(found.len, 2);
}

static uint64_t free_bytes(void)
{
    uint64_t bytes = 0;

    sync();
    EXPECT_OK(fs_free_bytes(folder, &bytes, &err));
    return bytes;
}

/* All of both disks is written while the clones are there: they hold what it was. */
static uint64_t hold_room(void)
{
    uint64_t before = free_bytes();

    track(5);
    for (size_t i = 0; i < 2; i++) {
        uint8_t byte;
        EXPECT_OK(source->ops->read(source, names[i], 4 * MIB, &byte, 1, cancel, &err));
        for (uint64_t at = 0; at < 10; at++)
            write_at(paths[i], at * MIB, 3 * MIB, 7);
    }
    expect_only_the_images();
    assert_true(free_bytes() + 5 * MIB < before);
    return free_bytes();
}

static void expect_room_back(uint64_t held)
{
    for (int i = 0; i < 500 && free_bytes() < held + 5 * MIB; i++) /* freed in the background */
        EXPECT_OK(cancel_sleep(cancel, 10, &err));
    assert_true(free_bytes() > held + 5 * MIB);
    expect_only_the_images();
}

static void clones_are_gone_when_their_cut_is_delivered(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    uint64_t held = hold_room();
    (void)cut(6);
    end(true);
    expect_room_back(held);
}

static void clones_are_gone_when_tracking_is_forgotten(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    uint64_t held = hold_room();
    EXPECT_OK(source->ops->forget(source, cancel, &err));
    expect_room_back(held);
}

static void clones_are_gone_when_the_source_is_closed(void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    uint64_t held = hold_room();
    source_closep(&source);
    expect_room_back(held);
}

static void a_look_with_another_source_leaves_the_clones_alone(void **unused)
{
    struct source *held = NULL;
    uint8_t byte;

    (void)unused;
    NEEDS_CLONES();
    track(5);
    pass_time();
    held = TAKE(source);
    open_source();
    source_closep(&source);
    source = held;
    write_disk(0, 4, 9);
    EXPECT_OK(source->ops->read(source, "vda", 4 * MIB, &byte, 1, cancel, &err));
    assert_int_equal(byte, 1);
}

#define CLONES_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLONES_TEST(a_copy_of_disks_that_are_written_meanwhile_is_of_the_instant_it_began),
        CLONES_TEST(without_clones_such_a_copy_is_refused),
        CLONES_TEST(a_single_read_is_of_that_instant_too),
        CLONES_TEST(a_scan_of_its_own_is_of_that_instant_too),
        CLONES_TEST(a_disk_that_grows_meanwhile_has_the_size_it_had),
        CLONES_TEST(a_cut_says_how_old_its_instant_is),
        CLONES_TEST(writes_since_the_instant_refuse_the_second_cut),
        CLONES_TEST(untouched_disks_are_cut_again_and_again),
        CLONES_TEST(what_was_not_delivered_is_cut_once_more_at_that_instant),
        CLONES_TEST(tracking_that_begins_anew_has_clones_of_its_own),
        CLONES_TEST(several_machines_are_not_cloned),
        CLONES_TEST(disks_that_somebody_writes_all_the_time_are_not_cloned),
        CLONES_TEST(a_disk_that_was_written_just_now_is_left_to_rest),
        CLONES_TEST(an_image_over_another_one_is_not_cloned),
        CLONES_TEST(clones_are_gone_when_their_cut_is_delivered),
        CLONES_TEST(clones_are_gone_when_tracking_is_forgotten),
        CLONES_TEST(clones_are_gone_when_the_source_is_closed),
        CLONES_TEST(a_look_with_another_source_leaves_the_clones_alone),
    };
    return cmocka_run_group_tests_name("source_file_clones", tests, NULL, NULL);
}
