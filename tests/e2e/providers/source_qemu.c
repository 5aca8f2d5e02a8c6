// SPDX-License-Identifier: Apache-2.0
/* A real machine whose guest writes all the time: every point taken of it must be one instant of
 * its history, over both disks. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/provider.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define SLOTS   1024
#define SLOTS_S "1024"
#define BOOT_MS 120000
#define GROUP   "shop"

static struct provider *provider;
static struct machine machine;
static struct provider_instance instance;
static struct source *source;
static struct cancel *cancel;
static char *run_dir, *work_dir, *console, *raw_path, *qcow2_path;
static char *copies[2];

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
    cancel = cancel_new(NULL, NULL, 240000);
    run_dir = path_join(*state, "run");
    work_dir = path_join(*state, "work");
    console = path_join(run_dir, "console.log");
    raw_path = path_join(*state, "a.raw");
    qcow2_path = path_join(*state, "b.qcow2");
    copies[0] = path_join(*state, "copy-a");
    copies[1] = path_join(*state, "copy-b");
    guest_make_disk(raw_path, "raw", "64M");
    guest_make_disk(qcow2_path, "qcow2", "64M");
    json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:s, s:b}, {s:s, s:s}]}", "name",
                     "db1", "memory", "128MiB", "kernel", guest_kernel(), "initrd", guest_initrd(),
                     "cmdline", "console=ttyS0 quiet writer.pause_us=0 writer.slots=" SLOTS_S,
                     "agent", 1, "disks", "path", raw_path, "format", "raw", "iothread", 1, "path",
                     qcow2_path, "format", "qcow2");
    machine_init(&machine);
    EXPECT_OK(machine_from_json(json, &machine, &err));
    instance = (struct provider_instance){.machine = &machine, .run_dir = run_dir, .netns = ""};
    provider = provider_qemu_new(&config);
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
    free(console);
    free(raw_path);
    free(qcow2_path);
    free(copies[0]);
    free(copies[1]);
    return tmpdir_teardown(state) < 0 || rc < 0 ? -1 : 0;
}

static void open_source(void)
{
    source_closep(&source);
    EXPECT_OK(
        provider->open_source(provider, &instance, GROUP, 1, work_dir, &source, cancel, &err));
}

/* Waits until the guest has acknowledged `more` records beyond those it has now. */
static uint64_t wait_acked(uint64_t more)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, BOOT_MS);
    uint64_t from = guest_read_acked(console);

    while (guest_read_acked(console) < from + more)
        EXPECT_OK(cancel_sleep(limit, 20, &err));
    return guest_read_acked(console);
}

static void cut(uint64_t serial)
{
    struct source_cut made;

    EXPECT_OK(source->ops->cut(source, serial, &made, cancel, &err));
    print_message("cut %u: stall %lld us\n", (unsigned)serial, (long long)made.stall_us);
}

static void apply(void)
{
    (void)source_apply_changes(source, "vda", copies[0], cancel);
    (void)source_apply_changes(source, "vdb", copies[1], cancel);
}

static void end(bool delivered)
{
    EXPECT_OK(source->ops->end(source, delivered, cancel, &err));
}

/* The copies are an instant of the history that had at least `acked` records. */
static uint64_t expect_instant(uint64_t acked)
{
    struct guest_records records = {0};

    guest_judge((const char *const *)copies, 2, SLOTS, work_dir, &records);
    assert_int_equal(records.missing, 0);
    assert_int_equal(records.damaged, 0);
    assert_int_equal(records.disks, 2);
    assert_true(records.last >= acked);
    return records.last;
}

static struct source_state look(void)
{
    struct source_state state;

    EXPECT_OK(source->ops->inspect(source, &state, cancel, &err));
    return state;
}

static void each_cut_is_one_instant_and_the_last_one_is_the_disk(void **unused)
{
    const char *const compare[] = {"qemu-img", "compare", "-q",      "-f",       "raw",
                                   "-F",       "qcow2",   copies[1], qcow2_path, NULL};
    uint64_t acked, last = 0;

    (void)unused;
    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err));
    (void)wait_acked(50);
    open_source();
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    (void)source_apply_scan(source, "vda", copies[0], cancel);
    (void)source_apply_scan(source, "vdb", copies[1], cancel);
    for (uint64_t serial = 2; serial <= 4; serial++) {
        acked = wait_acked(30);
        cut(serial);
        apply();
        end(true);
        last = expect_instant(acked > last ? acked : last);
    }

    /* One is not delivered, another is lost with the daemon; the next has it all. */
    (void)wait_acked(30);
    cut(5);
    end(false);
    (void)wait_acked(30);
    cut(6);
    open_source();
    assert_int_equal(look().frozen, 5);
    end(false);
    acked = wait_acked(30);
    cut(7);
    apply();
    end(true);
    (void)expect_instant(acked);

    /* The guest is off: the final cut is the disks themselves, bit for bit. */
    EXPECT_OK(provider->shutdown(provider, &instance, cancel, &err));
    assert_true(look().quiet);
    cut(8);
    apply();
    end(true);
    assert_int_equal(expect_instant(guest_read_acked(console)), guest_read_acked(console));
    assert_int_equal(provider->console_has(provider, &instance, "WRITER STOPPED", &err), 1);
    source_closep(&source);
    EXPECT_OK(provider->stop(provider, &instance, cancel, &err));
    assert_true(source_apply_equal(copies[0], raw_path));
    EXPECT_OK(proc_must(compare, NULL, &err));
}

/* A link slower than the guest: the mirror would never be equal to the disk. */
static void a_disk_written_faster_than_it_is_copied_is_copied_all_the_same(void **unused)
{
    const char *const compare[] = {"qemu-img", "compare", "-q",      "-f",       "raw",
                                   "-F",       "qcow2",   copies[1], qcow2_path, NULL};
    struct source_piece piece;
    unsigned pieces = 0;
    bool ordered;

    (void)unused;
    (void)snprintf(machine.cmdline, sizeof(machine.cmdline),
                   "console=ttyS0 quiet writer.mode=span writer.span=8");
    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err));
    while (provider->console_has(provider, &instance, "SPAN", &err) != 1)
        EXPECT_OK(cancel_sleep(cancel, 20, &err));
    open_source();
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    (void)source_apply_scan(source, "vdb", copies[1], cancel);
    EXPECT_OK(source->ops->scan_begin(source, "vdb", 0, &ordered, cancel, &err));
    for (piece.len = 1; piece.len > 0; pieces++) {
        EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
        EXPECT_OK(cancel_sleep(cancel, 20, &err));
        if (pieces > 2000)
            fail_msg("it goes round and round");
    }
    source->ops->scan_end(source);
    print_message("%u pieces\n", pieces);

    EXPECT_OK(provider->shutdown(provider, &instance, cancel, &err));
    cut(2);
    (void)source_apply_changes(source, "vdb", copies[1], cancel);
    end(true);
    source_closep(&source);
    EXPECT_OK(provider->stop(provider, &instance, cancel, &err));
    EXPECT_OK(proc_must(compare, NULL, &err));
}

static void kill_machine(void)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char *path = path_join(run_dir, "qemu.pid");
    uint64_t pid = 0;

    EXPECT_OK(fs_read_file(fs_real(), path, 64, &text, &err));
    assert_true(str_to_u64(str_text(&text), &pid));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    free(path);
}

static void a_machine_that_is_killed_is_not_tracked_any_more(void **unused)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, cancel, 20000);
    enum instance_state state = INSTANCE_RUNNING;
    struct source_cut made;

    (void)unused;
    EXPECT_OK(provider->start(provider, &instance, true, cancel, &err));
    open_source();
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    kill_machine();
    EXPECT_ERR(ERR_NET, source->ops->cut(source, 2, &made, soon, &err));
    EXPECT_TEXT("QEMU died");
    while (state != INSTANCE_OFF)
        EXPECT_OK(provider->observe(provider, &instance, &state, soon, &err));

    open_source(); /* off: the files themselves */
    assert_int_equal(look().open, 0);
    assert_false(look().running);

    EXPECT_OK(provider->start(provider, &instance, true, cancel, &err));
    open_source();
    assert_int_equal(look().open, 0);
    assert_non_null(strstr(look().note, "no change map"));
}

#define MACHINE_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MACHINE_TEST(each_cut_is_one_instant_and_the_last_one_is_the_disk),
        MACHINE_TEST(a_disk_written_faster_than_it_is_copied_is_copied_all_the_same),
        MACHINE_TEST(a_machine_that_is_killed_is_not_tracked_any_more),
    };
    return cmocka_run_group_tests_name("source_qemu", tests, NULL, NULL);
}
