// SPDX-License-Identifier: Apache-2.0
/* A recovered machine's disks become its own while it writes and its changes are cut, and whatever is
 * killed meanwhile: what the maps say always covers what differs, bit by bit. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/overlay.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/providers/served.h"
#include "support/source_apply.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MIB   (UINT64_C(1) << 20)
#define BLOCK 4096

static struct served s;
static struct source *source;
static char *copies[KIT_DISKS]; /* what a replica would hold: the point and all cuts applied */

static void copy_file(const char *from, const char *to)
{
    const char *const argv[] = {"cp", "--sparse=always", from, to, NULL};

    EXPECT_OK(proc_must(argv, NULL, &err));
}

static int start_as(void **state, bool iothreads)
{
    if (SERVED_START(&s, state, iothreads) < 0)
        return -1;
    for (size_t i = 0; i < KIT_DISKS; i++) {
        copies[i] = mem_printf("%s/copy-%zu", (char *)*state, i);
        copy_file(s.points[i], copies[i]);
    }
    return 0;
}

static int start(void **state)
{
    return start_as(state, false);
}

static int start_with_iothreads(void **state)
{
    return start_as(state, true);
}

static int stop(void **state)
{
    source_closep(&source);
    for (size_t i = 0; i < KIT_DISKS; i++)
        free(TAKE(copies[i]));
    return served_stop(&s, state);
}

/* --- Steps ----------------------------------------------------------------------------------- */

static void start_tracked(uint64_t serial, const struct source_marks *marks, size_t count)
{
    source_closep(&source);
    EXPECT_OK(s.provider->start(s.provider, &s.instance, true, s.cancel, &err));
    source = served_source(&s, 2);
    EXPECT_OK(source_track_from(source, serial, marks, count, s.cancel, &err));
    EXPECT_OK(s.provider->resume(s.provider, &s.instance, s.cancel, &err));
}

static void cycle(uint64_t serial)
{
    struct source_cut made;

    EXPECT_OK(source->ops->cut(source, serial, &made, s.cancel, &err));
    for (size_t i = 0; i < KIT_DISKS; i++)
        (void)source_apply_changes(source, s.kit.disks[i].name, copies[i], s.cancel);
    EXPECT_OK(source->ops->end(source, true, s.cancel, &err));
}

static struct provider_stream look(size_t disk)
{
    struct provider_stream now;

    EXPECT_OK(s.provider->stream_look(s.provider, &s.instance, disk, &now, s.cancel, &err));
    return now;
}

static void begin(size_t disk, uint64_t rate)
{
    EXPECT_OK(s.provider->stream_begin(s.provider, &s.instance, disk, rate, s.cancel, &err));
}

/* As the site does: what stopped is set going again. */
static void stream_to_the_end(size_t disk)
{
    for (;;) {
        struct provider_stream now = look(disk);

        if (now.own || now.copied)
            break;
        if (now.failed)
            (void)served_repair(&s);
        if (now.failed || !now.there)
            begin(disk, 0);
        EXPECT_OK(cancel_sleep(s.cancel, 20, &err));
    }
    EXPECT_OK(s.provider->stream_settle(s.provider, &s.instance, disk, s.cancel, &err));
    s.disks.at[disk].own = true;
    EXPECT_OK(s.provider->unserve(s.provider, &s.instance, s.cancel, &err));
}

static void wait_streamed(size_t disk, uint64_t bytes)
{
    while (look(disk).done < bytes)
        EXPECT_OK(cancel_sleep(s.cancel, 10, &err));
}

static bool server_is_there(size_t disk)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/nbd-%s", s.run_dir, s.disks.at[disk].name);

    return fs_exists(path);
}

/* The overlay alone is the disk: as a plain image. */
static void flatten(size_t disk, const char *path)
{
    const char *const convert[] = {"qemu-img", "convert", "-q",  "-f",
                                   "qcow2",    "-O",      "raw", s.disks.at[disk].overlay,
                                   path,       NULL};

    EXPECT_OK(proc_must(convert, NULL, &err));
}

/* What the guest sees when the overlay is above the point. */
static void flatten_over_point(size_t disk, const char *path)
{
    CLEANUP(mem_freep)
    char *chain = mem_printf(
        "json:{\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"},\"backing\":"
        "{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}}",
        s.disks.at[disk].overlay, s.points[disk]);
    const char *const convert[] = {"qemu-img", "convert", "-q", "-O", "raw", chain, path, NULL};

    EXPECT_OK(proc_must(convert, NULL, &err));
}

static void end_machine(void)
{
    source_closep(&source);
    EXPECT_OK(s.provider->shutdown(s.provider, &s.instance, s.cancel, &err));
    EXPECT_OK(s.provider->stop(s.provider, &s.instance, s.cancel, &err));
}

static uint8_t *load(const char *path)
{
    uint8_t *bytes = mem_alloc(SERVED_SIZE, 1);
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    EXPECT_OK(fs_real()->pread(fs_real(), fd, bytes, SERVED_SIZE, 0, &err));
    return bytes;
}

static bool covers(const struct source_extents *extents, uint64_t off, uint64_t len)
{
    VEC_FOREACH(extent, extents)
        if (extent->off <= off && off + len <= extent->off + extent->len)
            return true;
    return false;
}

/* Every block in which the images differ is in the map; how many do. */
static unsigned expect_covered(const char *before, const char *after,
                               const struct source_extents *map)
{
    CLEANUP(mem_freep) uint8_t *a = load(before);
    CLEANUP(mem_freep) uint8_t *b = load(after);
    unsigned differ = 0;

    for (uint64_t off = 0; off < SERVED_SIZE; off += BLOCK) {
        if (memcmp(a + off, b + off, BLOCK) == 0)
            continue;
        differ++;
        if (!covers(map, off, BLOCK))
            fail_msg("the block at %llu differs and is not marked", (unsigned long long)off);
    }
    return differ;
}

/* --- Tests ----------------------------------------------------------------------------------- */

static void a_disk_is_streamed_while_it_is_written_and_cut(void **state)
{
    CLEANUP(mem_freep) char *alone = path_join(*state, "alone");
    struct guest_records records = {0};
    uint64_t acked = 0;

    start_tracked(1, NULL, 0);
    (void)served_wait_acked(&s, 20);
    for (size_t i = 0; i < KIT_DISKS; i++)
        begin(i, 8 * MIB);
    for (uint64_t serial = 2; serial <= 4; serial++) {
        (void)served_wait_acked(&s, 20);
        cycle(serial);
    }
    for (size_t i = 0; i < KIT_DISKS; i++) {
        stream_to_the_end(i);
        assert_false(server_is_there(i));
    }
    acked = served_wait_acked(&s, 20); /* without any server */
    cycle(5);

    /* The last cut makes the copies equal to the disks, which are in the overlays alone. */
    EXPECT_OK(s.provider->shutdown(s.provider, &s.instance, s.cancel, &err));
    cycle(6);
    source_closep(&source);
    EXPECT_OK(s.provider->stop(s.provider, &s.instance, s.cancel, &err));
    for (size_t i = 0; i < KIT_DISKS; i++) {
        flatten(i, alone);
        assert_true(source_apply_equal(alone, copies[i]));
    }

    EXPECT_OK(s.provider->start(s.provider, &s.instance, false, s.cancel, &err));
    (void)served_wait_acked(&s, 1);
    assert_int_equal(guest_read_records(s.console, &records), 1);
    assert_int_equal(records.missing, 0);
    assert_int_equal(records.damaged, 0);
    assert_true(records.last >= acked);
    assert_false(server_is_there(0));
}

static _Atomic bool cut_enough;
static _Atomic uint64_t last_cut;
static struct err cut_failure;

static void *cut_without_a_break(void *unused)
{
    struct source_cut made;

    (void)unused;
    while (!cut_enough && cut_failure.code == ERR_NONE) {
        if (source->ops->cut(source, last_cut + 1, &made, s.cancel, &cut_failure) == 0
            && source->ops->end(source, true, s.cancel, &cut_failure) == 0)
            last_cut++;
    }
    return NULL;
}

/* A stream that began or ended by itself in the middle of a cut left QEMU 7.2 dead, or the cut's copy
 * paused for ever: one run of five. */
static void streams_begin_and_end_among_cuts_without_a_break(void **unused)
{
    pthread_t cuts;

    (void)unused;
    start_tracked(1, NULL, 0);
    (void)served_wait_acked(&s, 20);
    cut_enough = false;
    cut_failure = (struct err)ERR_EMPTY;
    last_cut = 1;
    assert_int_equal(pthread_create(&cuts, NULL, cut_without_a_break, NULL), 0);
    for (size_t i = 0; i < KIT_DISKS; i++)
        begin(i, 0);
    for (size_t i = 0; i < KIT_DISKS; i++)
        stream_to_the_end(i);
    cut_enough = true;
    assert_int_equal(pthread_join(cuts, NULL), 0);
    if (cut_failure.code != ERR_NONE)
        fail_msg("cut %llu: %s", (unsigned long long)last_cut + 1, cut_failure.text);
    assert_true(last_cut > 1);
    (void)served_wait_acked(&s, 20);
}

static void a_server_that_is_killed_stops_the_stream_and_nothing_else(void **state)
{
    CLEANUP(mem_freep) char *alone = path_join(*state, "alone");

    (void)state;
    start_tracked(1, NULL, 0);
    (void)served_wait_acked(&s, 20);
    for (unsigned i = 0; i < 3; i++) {
        begin(0, 2 * MIB);
        wait_streamed(0, (i + 1) * 2 * MIB);
        served_kill_server(&s, 0);
        if (i == 1)
            while (!look(0).failed) /* for longer than QEMU waits */
                EXPECT_OK(cancel_sleep(s.cancel, 50, &err));
        (void)served_repair(&s);
        served_repair_until_it_runs(&s);
        (void)served_wait_acked(&s, 10);
        cycle(2 + i);
    }
    stream_to_the_end(0);
    (void)served_wait_acked(&s, 20);
    EXPECT_OK(s.provider->shutdown(s.provider, &s.instance, s.cancel, &err));
    cycle(5);
    source_closep(&source);
    EXPECT_OK(s.provider->stop(s.provider, &s.instance, s.cancel, &err));
    flatten(0, alone);
    assert_true(source_apply_equal(alone, copies[0]));
}

/* Its maps die with it: what stands in the overlay and in the file made before the stream does not. */
static void a_machine_killed_in_its_stream_is_tracked_from_its_point_again(void **state)
{
    CLEANUP(mem_freep) char *seen = path_join(*state, "seen");
    CLEANUP(mem_freep) char *alone = path_join(*state, "alone");
    struct source_extents known[KIT_DISKS] = {0};
    struct source_marks marks[KIT_DISKS];
    struct guest_records records = {0};
    uint64_t acked, size;

    start_tracked(1, NULL, 0);
    (void)served_wait_acked(&s, 30);
    for (size_t i = 0; i < KIT_DISKS; i++) {
        EXPECT_OK(s.provider->overlay_extents(s.provider, &s.instance, i, &known[i], &size,
                                              s.cancel, &err));
        begin(i, 2 * MIB);
    }
    wait_streamed(0, 3 * MIB);
    acked = served_wait_acked(&s, 20);
    served_kill_machine(&s);
    for (size_t i = 0; i < KIT_DISKS; i++) {
        CLEANUP(source_extents_free) struct source_extents now = VEC_EMPTY;

        EXPECT_OK(overlay_allocated(s.disks.at[i].overlay, &now, &size, &err));
        source_extents_unite(&known[i], &now);
        flatten_over_point(i, seen);
        assert_true(expect_covered(s.points[i], seen, &known[i]) > 0);
        marks[i] = (struct source_marks){s.kit.disks[i].name, &known[i]};
    }
    start_tracked(2, marks, KIT_DISKS);
    (void)served_wait_acked(&s, 10);
    assert_int_equal(guest_read_records(s.console, &records), 1);
    assert_int_equal(records.missing, 0);
    assert_int_equal(records.damaged, 0);
    assert_true(records.last >= acked);

    for (size_t i = 0; i < KIT_DISKS; i++)
        stream_to_the_end(i);
    EXPECT_OK(s.provider->shutdown(s.provider, &s.instance, s.cancel, &err));
    cycle(3); /* over the point, never delivered before: all that differs from it */
    source_closep(&source);
    EXPECT_OK(s.provider->stop(s.provider, &s.instance, s.cancel, &err));
    for (size_t i = 0; i < KIT_DISKS; i++) {
        flatten(i, alone);
        assert_true(source_apply_equal(alone, copies[i]));
        source_extents_free(&known[i]);
    }
}

/* The last marks and those opened from them: nothing is lost over a stop. */
static void a_stop_between_two_cuts_loses_no_change(void **state)
{
    CLEANUP(mem_freep) char *seen = path_join(*state, "seen");
    struct source_extents kept[KIT_DISKS] = {0};
    struct source_marks marks[KIT_DISKS];
    uint64_t serial = 0;

    start_tracked(1, NULL, 0);
    (void)served_wait_acked(&s, 30);
    cycle(2);
    (void)served_wait_acked(&s, 30);
    EXPECT_OK(
        s.provider->last_marks(s.provider, &s.instance, "shop", 2, &serial, kept, s.cancel, &err));
    assert_int_equal(serial, 2);
    assert_int_equal(served_state(&s), INSTANCE_PAUSED);
    source_closep(&source);
    EXPECT_OK(s.provider->stop(s.provider, &s.instance, s.cancel, &err));
    for (size_t i = 0; i < KIT_DISKS; i++) {
        flatten_over_point(i, seen);
        assert_true(expect_covered(copies[i], seen, &kept[i]) > 0);
        marks[i] = (struct source_marks){s.kit.disks[i].name, &kept[i]};
    }
    start_tracked(2, marks, KIT_DISKS);
    EXPECT_OK(s.provider->tracked(s.provider, &s.instance, "shop", 2, &serial, s.cancel, &err));
    assert_int_equal(serial, 2);
    (void)served_wait_acked(&s, 10);
    EXPECT_OK(s.provider->shutdown(s.provider, &s.instance, s.cancel, &err));
    cycle(3);
    end_machine();
    for (size_t i = 0; i < KIT_DISKS; i++) {
        flatten_over_point(i, seen);
        assert_true(source_apply_equal(seen, copies[i]));
        source_extents_free(&kept[i]);
    }
}

static void a_stream_that_is_ended_goes_on_where_it_was(void **unused)
{
    (void)unused;
    start_tracked(1, NULL, 0);
    (void)served_wait_acked(&s, 10);
    begin(0, 2 * MIB);
    begin(0, 4 * MIB); /* it is there: another rate */
    wait_streamed(0, 4 * MIB);
    EXPECT_OK(s.provider->stream_stop(s.provider, &s.instance, s.cancel, &err));
    EXPECT_OK(s.provider->stream_stop(s.provider, &s.instance, s.cancel, &err));
    assert_false(look(0).there);
    EXPECT_ERR(ERR_STATE, s.provider->stream_settle(s.provider, &s.instance, 0, s.cancel, &err));
    (void)served_wait_acked(&s, 10);
    stream_to_the_end(0);
    (void)served_wait_acked(&s, 10);
}

/* Paused and continued by a person or a fence in the middle. */
static void a_machine_is_stopped_and_continued_while_it_is_streamed(void **unused)
{
    struct source_extents marks[KIT_DISKS] = {0};
    uint64_t serial;

    (void)unused;
    start_tracked(1, NULL, 0);
    (void)served_wait_acked(&s, 10);
    begin(0, 4 * MIB);
    begin(1, 4 * MIB);
    for (unsigned i = 0; i < 10; i++) {
        EXPECT_OK(s.provider->last_marks(s.provider, &s.instance, "shop", 2, &serial, marks,
                                         s.cancel, &err));
        assert_int_equal(served_state(&s), INSTANCE_PAUSED);
        EXPECT_OK(s.provider->resume(s.provider, &s.instance, s.cancel, &err));
        EXPECT_OK(cancel_sleep(s.cancel, 100, &err));
    }
    for (size_t i = 0; i < KIT_DISKS; i++) {
        stream_to_the_end(i);
        source_extents_free(&marks[i]);
    }
    (void)served_wait_acked(&s, 10);
}

#define STREAM_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
#define IOTHREAD_TEST(f)                                          \
    {                                                             \
#f "_with_iothreads", f, start_with_iothreads, stop, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(a_disk_is_streamed_while_it_is_written_and_cut),
        STREAM_TEST(streams_begin_and_end_among_cuts_without_a_break),
        STREAM_TEST(a_server_that_is_killed_stops_the_stream_and_nothing_else),
        STREAM_TEST(a_machine_killed_in_its_stream_is_tracked_from_its_point_again),
        STREAM_TEST(a_stop_between_two_cuts_loses_no_change),
        STREAM_TEST(a_stream_that_is_ended_goes_on_where_it_was),
        STREAM_TEST(a_machine_is_stopped_and_continued_while_it_is_streamed),
        IOTHREAD_TEST(a_disk_is_streamed_while_it_is_written_and_cut),
        IOTHREAD_TEST(streams_begin_and_end_among_cuts_without_a_break),
        IOTHREAD_TEST(a_server_that_is_killed_stops_the_stream_and_nothing_else),
        IOTHREAD_TEST(a_machine_killed_in_its_stream_is_tracked_from_its_point_again),
        IOTHREAD_TEST(a_stop_between_two_cuts_loses_no_change),
        IOTHREAD_TEST(a_stream_that_is_ended_goes_on_where_it_was),
        IOTHREAD_TEST(a_machine_is_stopped_and_continued_while_it_is_streamed),
    };
    return cmocka_run_group_tests_name("provider_stream", tests, NULL, NULL);
}
