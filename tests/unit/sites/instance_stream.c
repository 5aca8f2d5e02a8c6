// SPDX-License-Identifier: Apache-2.0
/* A recovered machine's disks become its own, whatever is killed or full meanwhile. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/change_map.h"
#include "block/stage.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <errno.h>

static json_t *named(void)
{
    return json_pack("{s:s, s:s}", "machine", "db1", "run", "lyon-4");
}

static struct fake_machine *start(struct estates *e, bool test)
{
    estates_tell(e->at_lyon, "instance.start",
                 json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run",
                           "lyon-4", "test", test, "point", 2));
    return provider_fake_find(&e->fake, "lyon-4-db1");
}

static int stream(struct estates *e)
{
    fault_clear();
    return site_ask(e->at_lyon, "instance.stream", named(), NULL, NULL, &err);
}

static void expect_streamed(struct estates *e, bool streamed, uint64_t done)
{
    CLEANUP(json_freep) json_t *seen = estates_ask(e->at_lyon, "instance.observe", named());
    const json_t *progress = json_object_get(seen, "stream");

    assert_int_equal(json_get_bool(seen, "streamed", !streamed), streamed);
    assert_int_equal(json_get_u64(progress, "done", 0), done);
    assert_int_equal(json_get_u64(progress, "total", 0), json_is_null(progress) ? 0 : 16 << 20);
}

static char *in_folder(struct estates *e, const char *name)
{
    return mem_printf("%s/lyon/instances/lyon-4-db1/%s", e->root, name);
}

static void its_disk_becomes_its_own_and_stays_so(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);

    expect_streamed(e, false, 0);
    EXPECT_OK(stream(e));
    expect_streamed(e, true, 16 << 20);
    assert_int_equal(machine->servers, 0);
    assert_int_equal(machine->state, INSTANCE_RUNNING);
    EXPECT_OK(stream(e));
    assert_int_equal(machine->streams, 1);
    estates_tell(e->at_lyon, "instance.stop", named());
    expect_streamed(e, true, 0); /* off: no numbers */
    estates_tell(e->at_lyon, "instance.start", named());
    assert_int_equal(machine->servers, 0);
}

static void what_it_wrote_is_kept_before_it_is_streamed_over(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *overlay = in_folder(e, "vda.qcow2");
    CLEANUP(mem_freep) char *path = in_folder(e, "vda.changes");
    const char *const write[] = {"qemu-io", "-f", "qcow2", "-c", "write 1M 64k", overlay, NULL};
    const char *const more[] = {"qemu-io", "-f", "qcow2", "-c", "write 0 8M", overlay, NULL};
    CLEANUP(change_map_done) struct change_map map = {0};

    (void)start(e, false);
    EXPECT_OK(stage_make(overlay, FAKE_DISK_BYTES, 0, &err));
    EXPECT_OK(proc_must(write, NULL, &err));
    e->fake.stream_failures = 1;
    e->fake.stream_full = true;
    EXPECT_ERR(ERR_SPACE, stream(e));
    EXPECT_OK(proc_must(more, NULL, &err)); /* by the stream, for all anybody knows */
    EXPECT_OK(stream(e));
    EXPECT_OK(change_map_read(path, &map, &err));
    assert_int_equal(map.generation, 1);
    assert_int_equal(map.point, 2);
    assert_int_equal(map.size, FAKE_DISK_BYTES);
    assert_int_equal(map.extents.len, 1);
    assert_int_equal(map.extents.at[0].off, 1 << 20);
    assert_int_equal(map.extents.at[0].len, 64 << 10);
}

static void a_test_is_not_streamed(void **state)
{
    struct estates *e = *state;

    (void)start(e, true);
    EXPECT_ERR(ERR_INVALID, stream(e));
    EXPECT_TEXT("is a test");
}

static void one_that_is_off_is_not_streamed(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_NOT_FOUND, stream(e));
    (void)start(e, false);
    estates_tell(e->at_lyon, "instance.stop", named());
    EXPECT_ERR(ERR_STATE, stream(e));
}

static void a_server_that_dies_is_repaired_and_the_stream_goes_on(void **state)
{
    struct estates *e = *state;

    (void)start(e, false);
    e->fake.stream_failures = 3;
    EXPECT_OK(stream(e));
    expect_streamed(e, true, 16 << 20);
}

static void one_whose_point_cannot_be_read_says_so_and_works_on(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);

    e->fake.stream_failures = 1000;
    EXPECT_ERR(ERR_IO, stream(e));
    EXPECT_TEXT("nbd-vda.log");
    assert_int_equal(machine->state, INSTANCE_RUNNING);
    assert_int_equal(machine->servers, 1);
    e->fake.stream_failures = 0;
    EXPECT_OK(stream(e));
}

static void a_full_file_system_ends_the_stream_with_numbers(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);

    e->fake.stream_failures = 1;
    e->fake.stream_full = true;
    EXPECT_ERR(ERR_SPACE, stream(e));
    EXPECT_TEXT("free");
    assert_false(machine->streaming);
    assert_int_equal(machine->state, INSTANCE_RUNNING);
    EXPECT_OK(stream(e));
}

static void no_room_begins_nothing(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);

    fault_arm("overlay.reserve", 0, ENOSPC);
    EXPECT_ERR(ERR_SPACE, site_ask(e->at_lyon, "instance.stream", named(), NULL, NULL, &err));
    EXPECT_TEXT("free; hint: make room there");
    assert_int_equal(machine->streams, 0);
    expect_streamed(e, false, 0);
    EXPECT_OK(stream(e));
}

/* The last look is at the overlay itself. */
static void a_disk_that_is_not_all_there_is_not_believed(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);

    e->fake.stream_holes = true;
    EXPECT_ERR(ERR_CORRUPT, stream(e));
    assert_int_equal(machine->servers, 1);
    expect_streamed(e, false, 16 << 20);
}

static void a_wait_that_is_ended_leaves_the_work_going_on(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 50);

    EXPECT_ERR(ERR_TIMEOUT, site_ask(e->at_lyon, "instance.stream", named(), NULL, soon, &err));
    EXPECT_TEXT("the work goes on");
    assert_true(machine->streaming);
    EXPECT_OK(stream(e));
    assert_int_equal(machine->streams, 1);
}

static void a_stream_that_is_ended_stays_ended(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 50);

    EXPECT_ERR(ERR_TIMEOUT, site_ask(e->at_lyon, "instance.stream", named(), NULL, soon, &err));
    estates_tell(e->at_lyon, "instance.stream-stop", named());
    assert_false(machine->streaming);
    EXPECT_OK(stream(e));
    assert_int_equal(machine->streams, 2);
}

static void the_rate_is_passed_on(void **state)
{
    struct estates *e = *state;
    struct fake_machine *machine = start(e, false);

    estates_tell(e->at_lyon, "instance.stream",
                 json_pack("{s:s, s:s, s:i}", "machine", "db1", "run", "lyon-4", "rate", 12345));
    assert_int_equal(machine->rate, 12345);
}

/* Of a killed daemon: the job ended, its end was not noted, the machine was started anew. */
static void a_replica_is_in_use_until_the_end_is_noted(void **state)
{
    struct estates *e = *state;

    (void)start(e, false);
    EXPECT_ERR(ERR_STATE, estate_check_unused(e->lyon, "db1", &err));
    EXPECT_OK(stream(e));
    EXPECT_OK(estate_check_unused(e->lyon, "db1", &err));
}

static void a_machine_that_crashed_after_that_is_compared(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *overlay = in_folder(e, "vda.qcow2");
    const char *const all[] = {"qemu-io", "-f", "qcow2", "-c", "write 0 16M", overlay, NULL};
    struct fake_machine *machine = start(e, false);

    EXPECT_OK(stream(e));
    EXPECT_OK(proc_must(all, NULL, &err));
    machine->state = INSTANCE_OFF;
    machine->tracked = 0;
    estates_tell(e->at_lyon, "instance.start", named());
    CLEANUP(json_freep) json_t *seen = estates_ask(e->at_lyon, "instance.observe", named());
    assert_false(json_get_bool(json_object_get(seen, "armed"), "base", true));
    assert_int_equal(machine->tracked, 2);
    assert_false(machine->ran_untracked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(its_disk_becomes_its_own_and_stays_so),
        ESTATES_TEST(what_it_wrote_is_kept_before_it_is_streamed_over),
        ESTATES_TEST(a_test_is_not_streamed),
        ESTATES_TEST(one_that_is_off_is_not_streamed),
        ESTATES_TEST(a_server_that_dies_is_repaired_and_the_stream_goes_on),
        ESTATES_TEST(one_whose_point_cannot_be_read_says_so_and_works_on),
        ESTATES_TEST(a_full_file_system_ends_the_stream_with_numbers),
        ESTATES_TEST(no_room_begins_nothing),
        ESTATES_TEST(a_disk_that_is_not_all_there_is_not_believed),
        ESTATES_TEST(a_wait_that_is_ended_leaves_the_work_going_on),
        ESTATES_TEST(a_stream_that_is_ended_stays_ended),
        ESTATES_TEST(the_rate_is_passed_on),
        ESTATES_TEST(a_replica_is_in_use_until_the_end_is_noted),
        ESTATES_TEST(a_machine_that_crashed_after_that_is_compared),
    };
    return cmocka_run_group_tests_name("instance_stream", tests, NULL, NULL);
}
