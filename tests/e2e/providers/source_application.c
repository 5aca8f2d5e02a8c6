// SPDX-License-Identifier: Apache-2.0
/* A real guest with its agent, which writes all the time: the file system of an application-consistent
 * cut needs no recovery, and the guest is never left frozen. This program is the guardians', too. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/provider.h"
#include "qemu/guardian.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS    1024
#define SLOTS_S  "1024"
#define GROUP    "shop"
#define THAW_MS  10000
#define GUEST_MS 240000

static struct provider *provider;
static struct machine machine;
static struct provider_instance instance;
static struct source *source;
static struct cancel *cancel;
static char *run_dir, *work_dir, *console, *disk_path, *note_path, *copy;
static struct source_cut made;

static void start_machine(void)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, GUEST_MS);

    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err));
    while (guest_read_acked(console) < 50
           || provider->agent_answers(provider, &instance, limit, &err) != 1)
        EXPECT_OK(cancel_sleep(limit, 50, &err));
}

static void open_source(void)
{
    source_closep(&source);
    EXPECT_OK(
        provider->open_source(provider, &instance, GROUP, 1, work_dir, &source, cancel, &err));
}

static int start(void **state)
{
    const struct provider_qemu_config config = {
        .qemu_path = "qemu-system-x86_64",
        .plugin_path = MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so",
        .clock = clock_real(),
    };
    CLEANUP(json_freep) json_t *json = NULL;

    if (tmpdir_setup(state) < 0)
        return -1;
    GUEST_BUILD();
    cancel = cancel_new(NULL, NULL, 2 * GUEST_MS);
    run_dir = path_join(*state, "run");
    work_dir = path_join(*state, "work");
    note_path = path_join(work_dir, "held.json");
    console = path_join(run_dir, "console.log");
    disk_path = path_join(*state, "a.raw");
    copy = path_join(*state, "copy");
    guest_make_disk(disk_path, "raw", "64M");
    json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:s}]}", "name", "db1", "memory",
                     "128MiB", "kernel", guest_kernel(), "initrd", guest_initrd(), "cmdline",
                     "console=ttyS0 quiet writer.pause_us=0 writer.slots=" SLOTS_S, "agent", 1,
                     "disks", "path", disk_path, "format", "raw");
    machine_init(&machine);
    EXPECT_OK(machine_from_json(json, &machine, &err));
    instance = (struct provider_instance){.machine = &machine, .run_dir = run_dir, .netns = ""};
    provider = provider_qemu_new(&config);
    start_machine();
    open_source();
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    (void)source_apply_scan(source, "vda", copy, cancel);
    return 0;
}

static int stop(void **state)
{
    int rc;

    source_closep(&source);
    rc = provider->stop(provider, &instance, NULL, &err);
    provider_free(provider);
    machine_done(&machine);
    cancel_freep(&cancel);
    free(run_dir);
    free(work_dir);
    free(note_path);
    free(console);
    free(disk_path);
    free(copy);
    return tmpdir_teardown(state) < 0 || rc < 0 ? -1 : 0;
}

/* Something was acknowledged since. */
static void wait_writing(void)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, THAW_MS);
    uint64_t from = guest_read_acked(console);

    while (guest_read_acked(console) < from + 20)
        EXPECT_OK(cancel_sleep(limit, 20, &err));
}

static void take_cut(uint64_t serial, bool application)
{
    if (application)
        EXPECT_OK(source_cut_application(source, serial, &made, cancel, &err));
    else
        EXPECT_OK(source->ops->cut(source, serial, &made, cancel, &err));
    (void)source_apply_changes(source, "vda", copy, cancel);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    if (made.freeze == SOURCE_FREEZE_FAILED)
        fail_msg("not frozen: %s", made.freeze_note);
    print_message("cut %u: %s, the guest was held for %lld ms\n", (unsigned)serial,
                  application ? "application" : "crash", (long long)(made.stall_us / 1000));
}

/* A mount would have to play its journal. */
static bool needs_recovery(void)
{
    const char *const argv[] = {"dumpe2fs", "-h", copy, NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    EXPECT_OK(proc_run(&spec, 65536, &output, &status, cancel, &err));
    assert_int_equal(status, 0);
    return strstr(str_text(&output), "needs_recovery") != NULL;
}

static bool is_clean(void)
{
    const char *const argv[] = {"e2fsck", "-fn", copy, NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    EXPECT_OK(proc_run(&spec, 65536, &output, &status, cancel, &err));
    return status == 0;
}

static void an_application_cut_needs_no_recovery_and_a_crash_cut_does(void **state)
{
    const char *const images[] = {copy};
    struct guest_records records = {0};
    uint64_t acked;

    (void)state;
    for (uint64_t serial = 2; serial <= 6; serial++) {
        bool application = serial % 2 == 0;

        wait_writing();
        acked = guest_read_acked(console);
        take_cut(serial, application);
        assert_int_equal(needs_recovery(), !application);
        if (application)
            assert_true(is_clean());
        guest_judge(images, 1, SLOTS, work_dir, &records);
        assert_int_equal(records.missing, 0);
        assert_int_equal(records.damaged, 0);
        assert_true(records.last >= acked);
    }
    wait_writing();
}

/* What the writer was told last while it was frozen is all that it was told. */
static void when_the_daemon_is_killed_the_guest_goes_on_within_seconds(void **state)
{
    int status;

    (void)state;
    source_closep(&source);
    pid_t child = fork();
    if (child == 0) {
        crash_arm("source.cut.frozen:1", NULL);
        open_source();
        (void)!source_cut_application(source, 2, &made, cancel, &err);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    wait_writing();
    assert_false(fs_exists(note_path));

    open_source();
    take_cut(2, true);
    assert_false(needs_recovery());
}

/* A process that freezes the guest and waits; its pid. */
static pid_t freeze_and_wait(void)
{
    CLEANUP(mem_freep) char *agent = path_join(run_dir, "agent");
    const struct guardian_machine machines[] = {{.name = "db1", .agent_path = agent}};
    const struct guardian_config config = {
        .note_path = note_path, .machines = machines, .count = 1, .hold_ms = GUEST_MS};
    struct guardian *guardian = NULL;
    int ends[2];
    char byte;

    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        if (guardian_open(&config, &guardian, NULL, &err) == 0
            && guardian_freeze(guardian, NULL, &err) == 0)
            (void)!write(ends[1], "x", 1);
        (void)pause();
        _exit(1);
    }
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    (void)close(ends[0]);
    return child;
}

static void kill_keeper(void)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *note = NULL;

    EXPECT_OK(fs_read_file(fs_real(), note_path, 65536, &text, &err));
    EXPECT_OK(json_parse(str_text(&text), text.len, &note, &err));
    const struct proc_id keeper = {.pid = (pid_t)json_get_u64(note, "pid", 0),
                                   .start_ticks = json_get_u64(note, "start_ticks", 0)};
    assert_true(keeper.pid > 0);
    (void)kill(keeper.pid, SIGKILL);
    while (proc_is_alive(&keeper))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
}

static void when_both_are_killed_the_next_daemon_thaws(void **state)
{
    int status;

    (void)state;
    source_closep(&source);
    EXPECT_OK(fs_make_dirs(fs_real(), work_dir, 0700, &err));
    pid_t child = freeze_and_wait();
    kill_keeper();
    (void)kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(fs_exists(note_path));
    EXPECT_OK(source_qemu_thaw_left(work_dir, NULL, &err));
    wait_writing();
    while (fs_exists(note_path))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
}

#define APPLICATION_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        APPLICATION_TEST(an_application_cut_needs_no_recovery_and_a_crash_cut_does),
        APPLICATION_TEST(when_the_daemon_is_killed_the_guest_goes_on_within_seconds),
        APPLICATION_TEST(when_both_are_killed_the_next_daemon_thaws),
    };

    if (argc > 1 && str_eq(argv[1], GUARDIAN_WORD))
        return guardian_main(argc, argv);
    return cmocka_run_group_tests_name("source_application", tests, NULL, NULL);
}
