// SPDX-License-Identifier: Apache-2.0
/* Two real QEMUs as one group. That what is cut is one instant of real guests, tests/e2e says. This
 * program is the guardians', too. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "block/source.h"
#include "qemu/blocks.h"
#include "qemu/guardian.h"
#include "qemu/standstill.h"
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

static struct bare_qemu qemus[2];
static struct fake_guest guests[2];
static struct fake_qmp *agents[2];
static const char *const names[2] = {"db1", "web1"};
static struct source *source;
static struct cancel *cancel;
static const char *dir;
static bool lent;
static struct source_cut made;

/* Somebody who meddles while all stand still: the time of the cut is asked for then. */
static const char *meddler; /* "stop" or "cont"; NULL: nobody */
static int64_t meddling_wall_ms(struct clock *clock);
static struct clock meddling;

static const char *in_dir(const char *machine, const char *name)
{
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LEN(paths)];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s/%s", dir, machine, name);
    return path;
}

static struct source *open_member(size_t i)
{
    const struct source_qemu_disk disks[] = {{"vda", "d0", in_dir(names[i], "a.raw"), "raw"}};
    const struct source_qemu_config config = {
        .group = "shop",
        .generation = 3,
        .qmp_path = qemus[i].path,
        .lent = lent,
        .disks = disks,
        .disk_count = 1,
        .work_dir = in_dir(names[i], "work"),
        .plugin_path = MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so",
        .machine = names[i],
        .agent_path = agents[i] ? in_dir(names[i], "agent") : NULL,
    };
    struct source *member = NULL;

    EXPECT_OK(source_qemu_open(&config, &member, cancel, &err));
    return member;
}

/* As the daemon does, also after a restart. */
static void open_group(void)
{
    source_closep(&source); /* a monitor has one client */
    const struct source_group_machine machines[] = {
        {names[0], open_member(0), qemus[0].spare},
        {names[1], open_member(1), qemus[1].spare},
    };
    const struct source_group_config config = {.group = "shop",
                                               .machines = machines,
                                               .count = 2,
                                               .work_dir = in_dir("group", "work"),
                                               .clock = &meddling};

    meddling = (struct clock){clock_real()->now_ms, meddling_wall_ms};
    EXPECT_OK(source_group_open(&config, &source, cancel, &err));
}

static void start_machine(size_t i)
{
    CLEANUP(mem_freep) char *disk = mem_printf("raw:%s", in_dir(names[i], "a.raw"));
    CLEANUP(mem_freep) char *folder = mem_strdup(in_dir(names[i], ""));

    EXPECT_OK(fs_make_dirs(fs_real(), folder, 0700, &err));
    CLEANUP(fd_close)
    int fd = open(in_dir(names[i], "a.raw"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(16 * MIB)), 0);
    folder[strlen(folder) - 1] = '\0';
    bare_qemu_start(&qemus[i], folder, (const char *const[]){disk, NULL});
}

static int start(void **state)
{
    lent = *state != NULL;
    if (tmpdir_setup(state) < 0)
        return -1;
    dir = *state;
    cancel = cancel_new(NULL, NULL, 60000);
    for (size_t i = 0; i < 2; i++)
        start_machine(i);
    open_group();
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    return 0;
}

static int stop(void **state)
{
    fault_clear();
    source_closep(&source);
    for (size_t i = 0; i < 2; i++) {
        bare_qemu_kill(&qemus[i]);
        fake_qmp_free(TAKE(agents[i]));
    }
    cancel_freep(&cancel);
    return tmpdir_teardown(state);
}

static void start_agents(void)
{
    for (size_t i = 0; i < 2; i++) {
        fake_guest_init(&guests[i]);
        agents[i] = fake_agent_new(&guests[i], in_dir(names[i], "agent"));
    }
    open_group();
}

static void cut(uint64_t serial)
{
    EXPECT_OK(source->ops->cut(source, serial, &made, cancel, &err));
}

static void expect_status(size_t i, const char *want)
{
    char status[32];

    EXPECT_OK(blocks_machine_status(qemus[i].qmp, status, sizeof(status), cancel, &err));
    assert_string_equal(status, want);
}

static void expect_running(void)
{
    expect_status(0, "running");
    expect_status(1, "running");
    assert_false(fs_exists(in_dir("group", "work/stopped.json")));
    assert_false(fs_exists(in_dir("group", "work/held.json")));
}

/* How often it was stopped since somebody looked last. */
static unsigned stops(size_t i)
{
    static const char *const wanted[] = {"STOP", NULL};
    const struct qmp_want want = {.names = wanted};
    unsigned count = 0;

    /* An answer comes after the events before it. */
    expect_status(i, "running");
    for (;;) {
        CLEANUP(json_freep) json_t *event = NULL;

        EXPECT_OK(qmp_take_event(qemus[i].qmp, &want, &event, &err));
        if (!event)
            return count;
        count++;
    }
}

static struct source_state look(void)
{
    struct source_state found;

    EXPECT_OK(source->ops->inspect(source, &found, cancel, &err));
    return found;
}

static uint64_t changed(const char *disk)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;

    EXPECT_OK(source->ops->changes(source, disk, &extents, cancel, &err));
    return source_extents_bytes(&extents);
}

static void expect_byte(const char *disk, uint8_t want)
{
    uint8_t byte = 0;

    EXPECT_OK(source->ops->read(source, disk, 0, &byte, 1, cancel, &err));
    assert_int_equal(byte, want);
}

static void disks_are_named_by_machine(void **unused)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;

    (void)unused;
    EXPECT_OK(source->ops->disks(source, &disks, cancel, &err));
    assert_int_equal(disks.len, 2);
    assert_string_equal(disks.at[0].name, "db1.vda");
    assert_string_equal(disks.at[1].name, "web1.vda");
    assert_int_equal(disks.at[1].size, 16 * MIB);
}

static void each_machine_s_changes_are_in_the_cut(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[0], "d0", 0, 65536, 7);
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    cut(2);
    assert_int_equal(changed("db1.vda"), 65536);
    assert_int_equal(changed("web1.vda"), 4096);
    expect_byte("db1.vda", 7);
    expect_byte("web1.vda", 9);
    assert_int_equal(look().open, 2);
    assert_int_equal(look().frozen, 1);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    assert_int_equal(look().frozen, 0);
}

static void what_is_pending_is_told_of_each_disk(void **unused)
{
    uint64_t bytes[2] = {1, 1};
    uint64_t sum = 0;

    (void)unused;
    bare_qemu_write(&qemus[1], "d0", 0, 8192, 9);
    EXPECT_OK(source->ops->pending_disks(source, bytes, cancel, &err));
    assert_int_equal(bytes[0], 0);
    assert_int_equal(bytes[1], 8192);
    EXPECT_OK(source->ops->pending(source, &sum, cancel, &err));
    assert_int_equal(sum, 8192);
}

static void all_are_stopped_for_the_cut_and_run_again(void **unused)
{
    (void)unused;
    assert_int_equal(stops(0) + stops(1), 0);
    cut(2);
    assert_int_equal(stops(0), 1);
    assert_int_equal(stops(1), 1);
    expect_running();
    assert_true(made.stall_us >= 0);
    assert_true(made.wall_ms > 0);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
}

static void one_that_somebody_stopped_stays_so(void **unused)
{
    (void)unused;
    EXPECT_OK(qmp_command(qemus[1].qmp, "stop", NULL, NULL, cancel, &err));
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    cut(2);
    expect_status(0, "running");
    expect_status(1, "paused");
    expect_byte("web1.vda", 9);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
}

static void one_that_dies_leaves_the_others_running(void **unused)
{
    (void)unused;
    (void)kill(qemus[1].id.pid, SIGKILL);
    EXPECT_ERR(ERR_NET, source->ops->cut(source, 2, &made, cancel, &err));
    expect_status(0, "running");
}

/* --- Somebody else meanwhile ---------------------------------------------------------------- */

/* As a fence does, or a person by `machine pause`; of the second machine. */
static int64_t meddling_wall_ms(struct clock *clock)
{
    const char *command = meddler;
    CLEANUP(fd_close) int lock = -1;

    (void)clock;
    meddler = NULL;
    if (command) {
        EXPECT_OK(standstill_take_over(in_dir(names[1], "work/standstill"), &lock, cancel, &err));
        EXPECT_OK(qmp_command(qemus[1].qmp, command, NULL, NULL, cancel, &err));
    }
    return clock_real()->wall_ms(clock_real());
}

/* What a cut that came to nothing froze is in the next one. */
static void expect_nothing_lost(void)
{
    open_group();
    EXPECT_OK(source->ops->end(source, false, cancel, &err));
    cut(3);
    assert_int_equal(changed("db1.vda"), 4096);
    assert_int_equal(changed("web1.vda"), 4096);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
}

static void one_that_is_stopped_for_good_in_the_middle_stays_so(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[0], "d0", 0, 4096, 7);
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    meddler = "stop";
    EXPECT_ERR(ERR_BUSY, source->ops->cut(source, 2, &made, cancel, &err));
    EXPECT_TEXT("somebody else stopped or continued web1");
    expect_status(0, "running");
    expect_status(1, "paused");
    assert_false(fs_exists(in_dir("group", "work/stopped.json")));
    expect_nothing_lost();
    expect_status(1, "paused");
}

static void one_that_is_continued_in_the_middle_makes_it_no_cut(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[0], "d0", 0, 4096, 7);
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    meddler = "cont";
    EXPECT_ERR(ERR_BUSY, source->ops->cut(source, 2, &made, cancel, &err));
    EXPECT_TEXT("web1");
    expect_running();
    expect_nothing_lost();
}

/* It stood still before, and is not ours to watch by its claim. */
static void one_that_is_started_in_the_middle_makes_it_no_cut(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[0], "d0", 0, 4096, 7);
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    EXPECT_OK(qmp_command(qemus[1].qmp, "stop", NULL, NULL, cancel, &err));
    meddler = "cont";
    EXPECT_ERR(ERR_BUSY, source->ops->cut(source, 2, &made, cancel, &err));
    EXPECT_TEXT("web1 was started in the middle of it");
    expect_running();
    expect_nothing_lost();
}

static void a_copy_that_fails_leaves_all_running_and_loses_nothing(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[0], "d0", 0, 4096, 7);
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    fault_arm("source.copy", 1, 0); /* the second machine's */
    EXPECT_ERR(ERR_IO, source->ops->cut(source, 2, &made, cancel, &err));
    EXPECT_TEXT("web1");
    expect_running();
    open_group();
    assert_int_equal(look().open, 2);
    assert_int_equal(look().frozen, 1);
    EXPECT_OK(source->ops->end(source, false, cancel, &err));
    cut(3);
    assert_int_equal(changed("db1.vda"), 4096);
    assert_int_equal(changed("web1.vda"), 4096);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
}

/* A process like the daemon that is killed at that crash point. */
static void die_at(const char *point)
{
    int status;

    source_closep(&source);
    pid_t child = fork();
    if (child == 0) {
        crash_arm(point, NULL);
        open_group();
        (void)!source_cut_application(source, 2, &made, cancel, &err);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void wait_continued(void)
{
    char status[32] = "";

    for (size_t i = 0; i < 2;) {
        EXPECT_OK(blocks_machine_status(qemus[i].qmp, status, sizeof(status), cancel, &err));
        if (str_eq(status, "running"))
            i++;
        else
            EXPECT_OK(cancel_sleep(cancel, 5, &err));
    }
    while (fs_exists(in_dir("group", "work/stopped.json"))
           || fs_exists(in_dir("group", "work/held.json")))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
}

/* By then neither the daemon nor its guardian has a say in it. */
static void what_was_stopped_for_good_stays_so_when_the_daemon_is_killed(void **unused)
{
    char status[32] = "";

    (void)unused;
    meddler = "stop";
    die_at("source.cut.one:1");
    meddler = NULL;
    while (fs_exists(in_dir("group", "work/stopped.json")))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
    EXPECT_OK(blocks_machine_status(qemus[0].qmp, status, sizeof(status), cancel, &err));
    assert_string_equal(status, "running");
    expect_status(1, "paused");
}

static void a_daemon_that_is_killed_leaves_none_stopped(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[0], "d0", 0, 4096, 7);
    die_at("source.cut.stopped:1");
    wait_continued();
    open_group();
    assert_int_equal(look().open, 1);
    cut(2);
    expect_byte("db1.vda", 7);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
}

/* One has the new map, the other has not: no comparison is needed. */
static void a_cut_that_only_some_made_costs_no_comparison(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[0], "d0", 0, 4096, 7);
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    die_at("source.cut.one:1");
    wait_continued();
    open_group();
    assert_int_equal(look().open, 2);
    assert_int_equal(look().frozen, 0);
    cut(3);
    assert_int_equal(changed("db1.vda"), 4096);
    assert_int_equal(changed("web1.vda"), 4096);
    expect_byte("web1.vda", 9);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
}

static void an_end_that_only_some_made_is_made_by_all(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemus[1], "d0", 0, 4096, 9);
    cut(2);
    source_closep(&source);
    struct source *alone = open_member(0);
    EXPECT_OK(alone->ops->end(alone, true, cancel, &err));
    source_close(alone);
    open_group();
    assert_int_equal(look().open, 2);
    assert_int_equal(look().frozen, 1);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    assert_int_equal(look().frozen, 0);
}

static void a_machine_that_was_restarted_loses_the_group_s_tracking(void **unused)
{
    (void)unused;
    source_closep(&source);
    bare_qemu_kill(&qemus[1]);
    start_machine(1);
    open_group();
    assert_int_equal(look().open, 0);
    assert_non_null(strstr(look().note, "web1: "));
}

static void all_guests_are_frozen_or_it_is_no_application_point(void **unused)
{
    (void)unused;
    start_agents();
    EXPECT_OK(source_cut_application(source, 2, &made, cancel, &err));
    assert_int_equal(made.freeze, SOURCE_FREEZE_HELD);
    assert_int_equal(guests[0].thaws, 1);
    assert_int_equal(guests[1].thaws, 1);
    expect_running();
    EXPECT_OK(source->ops->end(source, true, cancel, &err));

    guests[1].refuses = true;
    EXPECT_OK(source_cut_application(source, 3, &made, cancel, &err));
    assert_int_equal(made.freeze, SOURCE_FREEZE_FAILED);
    assert_non_null(strstr(made.freeze_note, "web1"));
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    while (fake_guest_is_frozen(&guests[0]))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
    wait_continued();
}

static void a_killed_daemon_leaves_none_frozen_and_none_stopped(void **unused)
{
    (void)unused;
    start_agents();
    die_at("source.cut.stopped:1");
    wait_continued();
    assert_false(fake_guest_is_frozen(&guests[0]));
    assert_false(fake_guest_is_frozen(&guests[1]));
}

static void two_disks_of_one_name_are_refused(void **unused)
{
    struct source *group = NULL;

    (void)unused;
    source_closep(&source);
    const struct source_group_machine machines[] = {{"db1", open_member(0), NULL},
                                                    {"db1", open_member(1), NULL}};
    const struct source_group_config config = {
        .group = "shop", .machines = machines, .count = 2, .work_dir = in_dir("group", "work")};
    EXPECT_ERR(ERR_INVALID, source_group_open(&config, &group, cancel, &err));
    EXPECT_TEXT("disk db1.vda");
}

#define GROUP_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)
/* With monitors that are lent. */
#define LENT_TEST(f)                        \
    {                                       \
#f " (lent)", f, start, stop, &lent \
    }
#define BOTH(f) GROUP_TEST(f), LENT_TEST(f)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        BOTH(disks_are_named_by_machine),
        BOTH(each_machine_s_changes_are_in_the_cut),
        BOTH(what_is_pending_is_told_of_each_disk),
        BOTH(all_are_stopped_for_the_cut_and_run_again),
        BOTH(one_that_somebody_stopped_stays_so),
        BOTH(one_that_is_stopped_for_good_in_the_middle_stays_so),
        BOTH(one_that_is_continued_in_the_middle_makes_it_no_cut),
        BOTH(one_that_is_started_in_the_middle_makes_it_no_cut),
        BOTH(what_was_stopped_for_good_stays_so_when_the_daemon_is_killed),
        BOTH(one_that_dies_leaves_the_others_running),
        BOTH(a_copy_that_fails_leaves_all_running_and_loses_nothing),
        BOTH(a_daemon_that_is_killed_leaves_none_stopped),
        BOTH(a_cut_that_only_some_made_costs_no_comparison),
        BOTH(an_end_that_only_some_made_is_made_by_all),
        BOTH(a_machine_that_was_restarted_loses_the_group_s_tracking),
        BOTH(all_guests_are_frozen_or_it_is_no_application_point),
        BOTH(a_killed_daemon_leaves_none_frozen_and_none_stopped),
        GROUP_TEST(two_disks_of_one_name_are_refused),
    };

    if (argc > 1 && str_eq(argv[1], GUARDIAN_WORD))
        return guardian_main(argc, argv);
    return cmocka_run_group_tests_name("source_group", tests, NULL, NULL);
}
