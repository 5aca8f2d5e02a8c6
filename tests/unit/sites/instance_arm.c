// SPDX-License-Identifier: Apache-2.0
/* A recovered machine's writes are tracked before it runs, whatever was killed before. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "block/change_map.h"
#include "block/stage.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <stdio.h>

static json_t *args(bool test)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run", "lyon-4",
                     "test", test, "point", 2);
}

static json_t *named(void)
{
    return json_pack("{s:s, s:s}", "machine", "db1", "run", "lyon-4");
}

static struct fake_machine *machine(struct estates *e)
{
    struct fake_machine *found = provider_fake_find(&e->fake, "lyon-4-db1");

    assert_non_null(found);
    return found;
}

static void start(struct estates *e)
{
    estates_tell(e->at_lyon, "instance.start", args(false));
    assert_int_equal(machine(e)->state, INSTANCE_RUNNING);
    assert_false(machine(e)->ran_untracked);
}

static void stop(struct estates *e)
{
    estates_tell(e->at_lyon, "instance.stop", named());
    assert_int_equal(machine(e)->state, INSTANCE_OFF);
}

/* Its process is gone, and its maps with it. */
static void crash(struct estates *e)
{
    machine(e)->state = INSTANCE_OFF;
    machine(e)->tracked = machine(e)->marked = 0;
}

static void expect_armed(struct estates *e, uint64_t serial, bool base)
{
    CLEANUP(json_freep) json_t *seen = estates_ask(e->at_lyon, "instance.observe", named());
    const json_t *armed = json_object_get(seen, "armed");

    assert_int_equal(json_get_u64(armed, "generation", 0), 1);
    assert_int_equal(json_get_u64(armed, "serial", 0), serial);
    assert_int_equal(json_get_bool(armed, "base", !base), base);
    assert_int_equal(machine(e)->tracked, serial);
}

static char *in_folder(struct estates *e, const char *name)
{
    return mem_printf("%s/lyon/instances/lyon-4-db1/%s", e->root, name);
}

/* What the guest left in the overlay: `written` of 16 MiB. */
static void write_overlay(struct estates *e, const char *written)
{
    CLEANUP(mem_freep) char *path = in_folder(e, "vda.qcow2");
    CLEANUP(mem_freep) char *command = mem_printf("write -P 1 0 %s", written);
    const char *const io[] = {"qemu-io", "-f", "qcow2", "-c", command, path, NULL};

    EXPECT_OK(stage_make(path, 16 << 20, 0, &err));
    EXPECT_OK(proc_must(io, NULL, &err));
}

static void it_is_tracked_from_its_point_on_before_it_runs(void **state)
{
    struct estates *e = *state;

    start(e);
    expect_armed(e, 1, true);
    assert_int_equal(machine(e)->marked, 0);
    assert_non_null(strstr(machine(e)->work_dir, "/lyon/sessions/db1/work"));
}

static void a_test_is_not_tracked(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *seen = NULL;

    estates_tell(e->at_lyon, "instance.start", args(true));
    assert_int_equal(machine(e)->tracked, 0);
    seen = estates_ask(e->at_lyon, "instance.observe", named());
    assert_true(json_is_null(json_object_get(seen, "armed")));
}

static void one_that_cannot_be_tracked_does_not_run(void **state)
{
    struct estates *e = *state;

    e->fake.trackless = true;
    EXPECT_ERR(ERR_IO, site_ask(e->at_lyon, "instance.start", args(false), NULL, NULL, &err));
    EXPECT_TEXT("track its writes before it runs");
    assert_int_equal(machine(e)->state, INSTANCE_PAUSED);
    e->fake.trackless = false;
    start(e);
    assert_int_equal(machine(e)->starts, 1);
    expect_armed(e, 2, true);
}

/* The daemon was killed after the map was opened: nobody knows whether it is the right one. */
static void a_paused_one_whose_mark_is_not_final_is_tracked_anew(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = in_folder(e, "armed.json");
    static const char half[] =
        "{\"generation\": 1, \"serial\": 1, \"base\": true, \"armed\": false}";

    start(e);
    machine(e)->state = INSTANCE_PAUSED;
    EXPECT_OK(fs_replace_file(fs_real(), path, half, strlen(half), 0600, &err));
    start(e);
    expect_armed(e, 2, true);
}

static void one_that_a_person_paused_goes_on_with_its_map(void **state)
{
    struct estates *e = *state;

    start(e);
    machine(e)->state = INSTANCE_PAUSED;
    machine(e)->marked = 4096;
    start(e);
    expect_armed(e, 1, true);
    assert_int_equal(machine(e)->marked, 4096);
}

static void a_guest_that_shut_down_starts_in_the_same_process(void **state)
{
    struct estates *e = *state;

    start(e);
    machine(e)->marked = 4096;
    estates_tell(e->at_lyon, "instance.shutdown", named());
    start(e);
    assert_int_equal(machine(e)->stops, 0);
    expect_armed(e, 1, true);
    assert_int_equal(machine(e)->marked, 4096);
}

static void a_stop_forgets_nothing(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *map = in_folder(e, "vda.map");

    start(e);
    machine(e)->marked = 12288;
    stop(e);
    assert_true(fs_exists(map));
    start(e);
    assert_false(fs_exists(map)); /* of no use from its first instruction on */
    expect_armed(e, 1, true);
    assert_int_equal(machine(e)->marked, 12288);
}

/* Replication went on to map 7: the stop keeps that one, which is not the base of all. */
static void a_stop_keeps_the_map_that_is_open_then(void **state)
{
    struct estates *e = *state;

    start(e);
    machine(e)->tracked = 7;
    machine(e)->marked = 4096;
    stop(e);
    start(e);
    expect_armed(e, 7, false);
    assert_int_equal(machine(e)->marked, 4096);
}

static void after_a_crash_all_of_the_overlay_is_in_a_new_map(void **state)
{
    struct estates *e = *state;

    start(e);
    write_overlay(e, "1M");
    crash(e);
    start(e);
    expect_armed(e, 2, true);
    assert_int_equal(machine(e)->marked, 1 << 20);
}

static void what_a_stop_kept_is_not_believed_after_a_later_crash(void **state)
{
    struct estates *e = *state;

    start(e);
    machine(e)->marked = 4096;
    stop(e);
    start(e);
    write_overlay(e, "2M");
    crash(e);
    start(e);
    expect_armed(e, 2, true);
    assert_int_equal(machine(e)->marked, 2 << 20);
}

static void an_overlay_that_is_mostly_full_is_compared_instead(void **state)
{
    struct estates *e = *state;

    start(e);
    write_overlay(e, "9M");
    crash(e);
    start(e);
    expect_armed(e, 2, false);
    assert_int_equal(machine(e)->marked, 0);
}

static void a_durable_change_map_counts_too(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = in_folder(e, "vda.changes");
    CLEANUP(change_map_done)
    struct change_map map = {.group = "db1", .disk = "vda", .generation = 1, .point = 2};

    start(e);
    write_overlay(e, "1M");
    *source_extents_push(&map.extents) = (struct source_extent){512 << 10, 1 << 20};
    EXPECT_OK(change_map_write(path, &map, &err));
    crash(e);
    start(e);
    assert_int_equal(machine(e)->marked, 3 << 19);
    map.point = 3; /* of another recovery */
    EXPECT_OK(change_map_write(path, &map, &err));
    crash(e);
    start(e);
    assert_int_equal(machine(e)->marked, 1 << 20);
}

static void a_damaged_map_is_not_used(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *map = in_folder(e, "vda.map");

    start(e);
    machine(e)->marked = 4096;
    stop(e);
    EXPECT_OK(fs_replace_file(fs_real(), map, "?", 1, 0600, &err));
    write_overlay(e, "1M");
    start(e);
    expect_armed(e, 2, true);
    assert_int_equal(machine(e)->marked, 1 << 20);
    assert_false(fs_exists(map));
}

static void a_running_one_is_paused_before_its_map_is_read(void **state)
{
    struct estates *e = *state;

    start(e);
    stop(e);
    assert_int_equal(machine(e)->stops, 1);
    start(e);
    expect_armed(e, 1, true);
}

static void the_session_gets_no_source_before_it_is_tracked(void **state)
{
    struct estates *e = *state;
    CLEANUP(source_closep) struct source *source = NULL;

    EXPECT_ERR(ERR_NOT_FOUND,
               estate_instance_source(e->lyon, "lyon-4", "db1", 1, &source, NULL, &err));
    e->fake.trackless = true;
    EXPECT_ERR(ERR_IO, site_ask(e->at_lyon, "instance.start", args(false), NULL, NULL, &err));
    EXPECT_ERR(ERR_BUSY, estate_instance_source(e->lyon, "lyon-4", "db1", 1, &source, NULL, &err));
    e->fake.trackless = false;
    start(e);
    EXPECT_OK(estate_instance_source(e->lyon, "lyon-4", "db1", 1, &source, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(it_is_tracked_from_its_point_on_before_it_runs),
        ESTATES_TEST(a_test_is_not_tracked),
        ESTATES_TEST(one_that_cannot_be_tracked_does_not_run),
        ESTATES_TEST(a_paused_one_whose_mark_is_not_final_is_tracked_anew),
        ESTATES_TEST(one_that_a_person_paused_goes_on_with_its_map),
        ESTATES_TEST(a_guest_that_shut_down_starts_in_the_same_process),
        ESTATES_TEST(a_stop_forgets_nothing),
        ESTATES_TEST(a_stop_keeps_the_map_that_is_open_then),
        ESTATES_TEST(after_a_crash_all_of_the_overlay_is_in_a_new_map),
        ESTATES_TEST(what_a_stop_kept_is_not_believed_after_a_later_crash),
        ESTATES_TEST(an_overlay_that_is_mostly_full_is_compared_instead),
        ESTATES_TEST(a_durable_change_map_counts_too),
        ESTATES_TEST(a_damaged_map_is_not_used),
        ESTATES_TEST(a_running_one_is_paused_before_its_map_is_read),
        ESTATES_TEST(the_session_gets_no_source_before_it_is_tracked),
    };
    return cmocka_run_group_tests_name("instance_arm", tests, NULL, NULL);
}
