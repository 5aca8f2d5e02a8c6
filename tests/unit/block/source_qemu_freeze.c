// SPDX-License-Identifier: Apache-2.0
/* Cuts of a real QEMU whose guest's agent is played. This program is the guardians', too. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "block/source.h"
#include "qemu/guardian.h"
#include "support/block/bare_qemu.h"
#include "support/expect.h"
#include "support/qemu/fake_agent.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static struct bare_qemu qemu;
static struct fake_guest guest;
static struct fake_qmp *fake;
static struct source *source;
static struct cancel *cancel;
static char *agent_path, *note_path, *work_dir, *disk_path;
static struct source_cut made;

static void open_source(const char *agent)
{
    const struct source_qemu_disk disks[] = {{"vda", "d0", disk_path, "raw"}};
    const struct source_qemu_config config = {
        .group = "shop",
        .generation = 3,
        .qmp_path = qemu.path,
        .disks = disks,
        .disk_count = 1,
        .work_dir = work_dir,
        .plugin_path = MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so",
        .machine = "db1",
        .agent_path = agent,
    };

    source_closep(&source);
    EXPECT_OK(source_qemu_open(&config, &source, cancel, &err));
}

static int start(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    agent_path = path_join(*state, "agent");
    work_dir = path_join(*state, "work");
    note_path = path_join(work_dir, "held.json");
    disk_path = path_join(*state, "a.raw");
    CLEANUP(mem_freep) char *disk = mem_printf("raw:%s", disk_path);
    CLEANUP(fd_close) int fd = open(disk_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(16 * MIB)), 0);
    cancel = cancel_new(NULL, NULL, 60000);
    fake_guest_init(&guest);
    fake = fake_agent_new(&guest, agent_path);
    bare_qemu_start(&qemu, *state, (const char *const[]){disk, NULL});
    open_source(agent_path);
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    bare_qemu_write(&qemu, "d0", 0, 65536, 7);
    return 0;
}

static int stop(void **state)
{
    source_closep(&source);
    bare_qemu_kill(&qemu);
    fake_qmp_free(fake);
    cancel_freep(&cancel);
    free(agent_path);
    free(note_path);
    free(work_dir);
    free(disk_path);
    return tmpdir_teardown(state);
}

static void cut(void)
{
    EXPECT_OK(source_cut_application(source, 2, &made, cancel, &err));
}

/* The cut was made: what was written is in it. */
static void expect_cut(void)
{
    uint8_t byte = 0;

    EXPECT_OK(source->ops->read(source, "vda", 0, &byte, 1, cancel, &err));
    assert_int_equal(byte, 7);
    assert_true(made.wall_ms > 0);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
}

static void wait_thawed(void)
{
    while (fake_guest_is_frozen(&guest) || fs_exists(note_path))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
}

static void a_frozen_cut_is_application_consistent(void **state)
{
    (void)state;
    cut();
    assert_int_equal(made.freeze, SOURCE_FREEZE_HELD);
    assert_string_equal(made.freeze_note, "");
    assert_int_equal(guest.freezes, 1);
    assert_int_equal(guest.thaws, 1);
    assert_false(fake_guest_is_frozen(&guest));
    assert_false(fs_exists(note_path));
    expect_cut();
}

static void an_ordinary_cut_leaves_the_guest_alone(void **state)
{
    (void)state;
    EXPECT_OK(source->ops->cut(source, 2, &made, cancel, &err));
    assert_int_equal(made.freeze, SOURCE_FREEZE_NONE);
    assert_int_equal(guest.freezes, 0);
    expect_cut();
}

static void slow_freeze(void *ctx)
{
    (void)ctx;
    EXPECT_OK(cancel_sleep(cancel, 50, &err));
}

static void the_stall_counts_the_freeze(void **state)
{
    (void)state;
    guest.on_freeze = slow_freeze;
    cut();
    assert_true(made.stall_us >= 50000);
    expect_cut();
}

static void without_an_agent_the_cut_says_so(void **state)
{
    (void)state;
    open_source("");
    cut();
    assert_int_equal(made.freeze, SOURCE_FREEZE_FAILED);
    assert_non_null(strstr(made.freeze_note, "db1 has no port for a guest agent; hint: "));
    expect_cut();
}

static void a_refused_freeze_costs_no_point(void **state)
{
    (void)state;
    guest.refuses = true;
    cut();
    assert_int_equal(made.freeze, SOURCE_FREEZE_FAILED);
    assert_non_null(strstr(made.freeze_note, "hook failed"));
    expect_cut();
    wait_thawed();
}

static void a_thaw_that_fails_is_told_and_tried_again(void **state)
{
    (void)state;
    guest.refused_thaws = 2;
    cut();
    assert_int_equal(made.freeze, SOURCE_FREEZE_FAILED);
    assert_non_null(strstr(made.freeze_note, "frozen"));
    expect_cut();
    wait_thawed();
}

static void a_machine_that_stands_still_is_not_frozen(void **state)
{
    (void)state;
    EXPECT_OK(qmp_command(qemu.qmp, "stop", NULL, NULL, cancel, &err));
    cut();
    assert_int_equal(made.freeze, SOURCE_FREEZE_FAILED);
    assert_non_null(strstr(made.freeze_note, "db1 is paused; hint: "));
    assert_int_equal(guest.freezes, 0);
    expect_cut();
}

static void kill_qemu(void *ctx)
{
    (void)ctx;
    (void)kill(qemu.id.pid, SIGKILL);
}

static void a_cut_that_fails_thaws(void **state)
{
    (void)state;
    guest.on_freeze = kill_qemu;
    EXPECT_ERR(ERR_NET, source_cut_application(source, 2, &made, cancel, &err));
    wait_thawed();
}

static void cancel_it(void *ctx)
{
    cancel_fire(ctx);
}

static void a_cancelled_cut_thaws(void **state)
{
    CLEANUP(cancel_freep) struct cancel *other = cancel_new(NULL, NULL, 60000);

    (void)state;
    guest.on_freeze = cancel_it;
    guest.ctx = other;
    EXPECT_ERR(ERR_CANCELLED, source_cut_application(source, 2, &made, other, &err));
    wait_thawed();
}

/* The process that makes the cut is killed when the guest is frozen. */
static void a_killed_daemon_leaves_nothing_frozen(void **state)
{
    int status;

    (void)state;
    source_closep(&source);
    pid_t child = fork();
    if (child == 0) {
        crash_arm("source.cut.frozen:1", NULL);
        open_source(agent_path);
        (void)!source_cut_application(source, 2, &made, cancel, &err);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    wait_thawed();
    assert_int_equal(guest.freezes, 1);
    assert_int_equal(guest.thaws, 1);
    open_source(agent_path);
    cut();
    assert_int_equal(made.freeze, SOURCE_FREEZE_HELD);
    expect_cut();
}

#define FREEZE_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FREEZE_TEST(a_frozen_cut_is_application_consistent),
        FREEZE_TEST(an_ordinary_cut_leaves_the_guest_alone),
        FREEZE_TEST(the_stall_counts_the_freeze),
        FREEZE_TEST(without_an_agent_the_cut_says_so),
        FREEZE_TEST(a_refused_freeze_costs_no_point),
        FREEZE_TEST(a_thaw_that_fails_is_told_and_tried_again),
        FREEZE_TEST(a_machine_that_stands_still_is_not_frozen),
        FREEZE_TEST(a_cut_that_fails_thaws),
        FREEZE_TEST(a_cancelled_cut_thaws),
        FREEZE_TEST(a_killed_daemon_leaves_nothing_frozen),
    };

    if (argc > 1 && str_eq(argv[1], GUARDIAN_WORD))
        return guardian_main(argc, argv);
    return cmocka_run_group_tests_name("source_qemu_freeze", tests, NULL, NULL);
}
