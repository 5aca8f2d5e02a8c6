// SPDX-License-Identifier: Apache-2.0
/* A recovered machine: its disks are a point of a replica, served by nbdkit with our plugin, with
 * an overlay above. Its server may die at any time; the replica never changes. */
#include "base/mem.h"
#include "qemu/agent.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/providers/served.h"
#include "support/source_apply.h"

#include <stdio.h>

#define KILLS 10

static struct served s;

static int start(void **state)
{
    return SERVED_START(&s, state, false);
}

static int start_with_iothreads(void **state)
{
    return SERVED_START(&s, state, true);
}

static int stop(void **state)
{
    return served_stop(&s, state);
}

/* Reads a whole disk in the guest, past its cache; the program's pid there. */
static uint64_t begin_reading(struct agent *agent, const char *device)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    CLEANUP(mem_freep) char *input = mem_printf("if=%s", device);

    EXPECT_OK(agent_command(agent, "guest-exec",
                            json_pack("{s:s, s:[s, s, s, s]}", "path", "/bin/dd", "arg", input,
                                      "of=/dev/null", "bs=64k", "iflag=direct"),
                            &answer, s.cancel, &err));
    return json_get_u64(answer, "pid", 0);
}

static void wait_read(struct agent *agent, uint64_t pid)
{
    for (;;) {
        CLEANUP(json_freep) json_t *answer = NULL;

        EXPECT_OK(agent_command(agent, "guest-exec-status",
                                json_pack("{s:I}", "pid", (json_int_t)pid), &answer, s.cancel,
                                &err));
        if (json_get_bool(answer, "exited", false)) {
            assert_int_equal(json_get_u64(answer, "exitcode", 99), 0);
            return;
        }
        EXPECT_OK(cancel_sleep(s.cancel, 50, &err));
    }
}

static void a_recovered_machine_survives_its_servers(void **unused)
{
    CLEANUP(mem_freep) char *agent_path = path_join(s.run_dir, "agent");
    CLEANUP(agent_closep) struct agent *agent = NULL;
    struct guest_records records = {0};
    uint64_t acked, pid;

    (void)unused;
    EXPECT_OK(s.provider->start(s.provider, &s.instance, false, s.cancel, &err));
    (void)served_wait_acked(&s, 20);
    assert_int_equal(served_repair(&s), 0);

    /* A reader that needs the server waits for it, and never sees an error. */
    EXPECT_OK(agent_open(agent_path, clock_real(), &agent, s.cancel, &err));
    served_kill_server(&s, 0);
    pid = begin_reading(agent, "/dev/vda");
    assert_int_equal(served_repair(&s), 1);
    wait_read(agent, pid);
    served_kill_server(&s, 0);
    served_kill_server(&s, 1);
    assert_int_equal(served_repair(&s), 2);
    pid = begin_reading(agent, "/dev/vdb");
    wait_read(agent, pid);

    /* So it does when the server stays away for so long that the machine is stopped. */
    served_kill_server(&s, 1);
    pid = begin_reading(agent, "/dev/vdb");
    served_wait_state(&s, INSTANCE_IO_ERROR);
    assert_int_equal(served_repair(&s), 1);
    served_repair_until_it_runs(&s);
    wait_read(agent, pid);
    acked = served_wait_acked(&s, 20);

    /* Ended and started again, its own writes are there; the replica has none of them. */
    EXPECT_OK(s.provider->shutdown(s.provider, &s.instance, s.cancel, &err));
    EXPECT_OK(s.provider->stop(s.provider, &s.instance, s.cancel, &err));
    EXPECT_OK(kit_check_view(&s.kit, s.kit.point, &err));
    EXPECT_OK(s.provider->start(s.provider, &s.instance, false, s.cancel, &err));
    (void)served_wait_acked(&s, 1);
    assert_int_equal(guest_read_records(s.console, &records), 1);
    assert_int_equal(records.missing, 0);
    assert_int_equal(records.damaged, 0);
    assert_true(records.last >= acked);
}

/* One after the other, under a reader and a writer; some for longer than QEMU waits. */
static void servers_that_die_again_and_again_never_hurt_the_guest(void **unused)
{
    CLEANUP(mem_freep) char *agent_path = path_join(s.run_dir, "agent");
    CLEANUP(agent_closep) struct agent *agent = NULL;

    (void)unused;
    EXPECT_OK(s.provider->start(s.provider, &s.instance, false, s.cancel, &err));
    (void)served_wait_acked(&s, 20);
    EXPECT_OK(agent_open(agent_path, clock_real(), &agent, s.cancel, &err));
    for (unsigned i = 0; i < KILLS; i++) {
        uint64_t pid = begin_reading(agent, i % 2 ? "/dev/vdb" : "/dev/vda");

        EXPECT_OK(cancel_sleep(s.cancel, i * 7 % 40, &err)); /* somewhere in its reads */
        served_kill_server(&s, i % 2);
        if (i % 3 == 0)
            served_kill_server(&s, 1 - i % 2);
        if (i % 10 == 9) {
            (void)begin_reading(agent, i % 2 ? "/dev/vdb" : "/dev/vda");
            served_wait_state(&s, INSTANCE_IO_ERROR);
        }
        (void)served_repair(&s);
        served_repair_until_it_runs(&s);
        wait_read(agent, pid);
        (void)served_wait_acked(&s, 5);
    }
}

/* Tracking is armed before the first instruction; the whole disk comes through QEMU. */
static void the_way_back_is_complete_from_the_first_write(void **state)
{
    CLEANUP(mem_freep) char *copy = path_join(*state, "copy");
    CLEANUP(mem_freep) char *other = path_join(*state, "other");
    CLEANUP(mem_freep) char *first = path_join(*state, "disk-0");
    const char *const copies[] = {copy, other};
    struct guest_records records = {0};
    struct source *source = NULL;
    struct source_cut made;

    EXPECT_OK(s.provider->start(s.provider, &s.instance, true, s.cancel, &err));
    EXPECT_OK(s.provider->open_source(s.provider, &s.instance, "shop", 2, s.work_dir, &source,
                                      s.cancel, &err));
    EXPECT_OK(source->ops->track(source, 1, s.cancel, &err));
    (void)source_apply_scan(source, s.kit.disks[0].name, copy, s.cancel);
    (void)source_apply_scan(source, s.kit.disks[1].name, other, s.cancel);
    assert_true(source_apply_equal(copy, first));
    EXPECT_OK(s.provider->resume(s.provider, &s.instance, s.cancel, &err));
    uint64_t acked = served_wait_acked(&s, 20);
    EXPECT_OK(source->ops->cut(source, 2, &made, s.cancel, &err));
    assert_true(source_apply_changes(source, s.kit.disks[0].name, copy, s.cancel) > 0);
    assert_true(source_apply_changes(source, s.kit.disks[1].name, other, s.cancel) > 0);
    EXPECT_OK(source->ops->end(source, true, s.cancel, &err));
    source_closep(&source);
    guest_judge(copies, 2, SERVED_SLOTS, s.work_dir, &records);
    assert_int_equal(records.missing, 0);
    assert_int_equal(records.damaged, 0);
    assert_true(records.last >= acked);
}

static void a_point_that_is_not_there_is_said(void **state)
{
    enum instance_state found;

    (void)state;
    s.disks.at[1].point = 99;
    EXPECT_ERR(ERR_IO, s.provider->start(s.provider, &s.instance, false, s.cancel, &err));
    EXPECT_TEXT("99");
    EXPECT_OK(s.provider->observe(s.provider, &s.instance, &found, s.cancel, &err));
    assert_int_equal(found, INSTANCE_OFF);
}

#define SERVED_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
#define IOTHREAD_TEST(f)                                          \
    {                                                             \
#f "_with_iothreads", f, start_with_iothreads, stop, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED_TEST(a_recovered_machine_survives_its_servers),
        SERVED_TEST(the_way_back_is_complete_from_the_first_write),
        SERVED_TEST(a_point_that_is_not_there_is_said),
        SERVED_TEST(servers_that_die_again_and_again_never_hurt_the_guest),
        IOTHREAD_TEST(servers_that_die_again_and_again_never_hurt_the_guest),
        IOTHREAD_TEST(a_recovered_machine_survives_its_servers),
        IOTHREAD_TEST(the_way_back_is_complete_from_the_first_write),
    };
    return cmocka_run_group_tests_name("provider_served", tests, NULL, NULL);
}
