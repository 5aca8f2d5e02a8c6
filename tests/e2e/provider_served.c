// SPDX-License-Identifier: Apache-2.0
/* A recovered machine: its disks are a point of a replica, served by nbdkit with our plugin, with
 * an overlay above. Its server may die at any time; the replica never changes. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/provider.h"
#include "qemu/agent.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/replica/kit.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE    (UINT64_C(16) << 20)
#define SLOTS   256
#define BOOT_MS 120000

static struct kit kit;
static struct store *store;
static struct provider *provider;
static struct machine machine;
static struct provider_served_disks served;
static struct provider_instance instance;
static struct cancel *cancel;
static char *run_dir, *console, *work_dir;

/* The guest's disks become the content of the replica's first point. */
static void load_disk(const char *dir, size_t i)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/disk-%zu", dir, i);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(SIZE, 1);
    CLEANUP(fd_close) int fd = -1;

    guest_make_disk(path, "raw", "16M");
    fd = open(path, O_RDONLY | O_CLOEXEC);
    EXPECT_OK(fs_real()->pread(fs_real(), fd, bytes, SIZE, 0, &err));
    kit_write(&kit, i, 0, bytes, SIZE);
}

static void make_replica(const char *dir)
{
    kit_init(&kit, dir, SIZE, 7);
    EXPECT_OK(kit_open(&kit, fs_real(), &store, &err));
    EXPECT_OK(kit_copy(&kit, store, &err));
    for (size_t i = 0; i < KIT_DISKS; i++)
        load_disk(dir, i);
    EXPECT_OK(kit_point_applied(&kit, store, &err));
}

static void define(const char *dir)
{
    CLEANUP(mem_freep) char *key = path_join(dir, "key");
    CLEANUP(json_freep) json_t *json = NULL;

    json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:s, s:s, s:b}, {s:s, s:s, s:s}]}",
                     "name", "db1", "memory", "128MiB", "kernel", guest_kernel(), "initrd",
                     guest_initrd(), "cmdline", "console=ttyS0 quiet writer.slots=256", "agent", 1,
                     "disks", "name", kit.disks[0].name, "path", "/nonexistent/a", "format", "raw",
                     "iothread", 1, "name", kit.disks[1].name, "path", "/nonexistent/b", "format",
                     "raw");
    machine_init(&machine);
    EXPECT_OK(machine_from_json(json, &machine, &err));
    EXPECT_OK(fs_replace_file(fs_real(), key, kit.key.bytes, KEY_BYTES, 0600, &err));
    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct provider_served_disk *disk = provider_served_disks_push(&served);
        (void)snprintf(disk->name, sizeof(disk->name), "%s", kit.disks[i].name);
        (void)snprintf(disk->overlay, sizeof(disk->overlay), "%s/overlay-%zu.qcow2", dir, i);
        (void)snprintf(disk->replica_dir, sizeof(disk->replica_dir), "%s", kit.dir);
        (void)snprintf(disk->key_path, sizeof(disk->key_path), "%s", key);
        disk->point = kit.point;
    }
}

static int start(void **state)
{
    const struct provider_qemu_config config = {
        .qemu_path = "qemu-system-x86_64",
        .plugin_path = MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so",
        .clock = clock_real(),
        .reconnect_s = 5,
    };

    if (tmpdir_setup(state) < 0)
        return -1;
    GUEST_BUILD();
    cancel = cancel_new(NULL, NULL, 240000);
    run_dir = path_join(*state, "run");
    work_dir = path_join(*state, "work");
    console = path_join(run_dir, "console.log");
    make_replica(*state);
    define(*state);
    instance = (struct provider_instance){
        .machine = &machine, .run_dir = run_dir, .netns = "", .isolated = true, .served = &served};
    provider = provider_qemu_new(&config);
    return 0;
}

static int stop(void **state)
{
    int rc = provider->stop(provider, &instance, NULL, &err);

    provider_free(provider);
    machine_done(&machine);
    provider_served_disks_free(&served);
    store_closep(&store);
    kit_done(&kit);
    cancel_freep(&cancel);
    free(run_dir);
    free(work_dir);
    free(console);
    return tmpdir_teardown(state) < 0 || rc < 0 ? -1 : 0;
}

static uint64_t wait_acked(uint64_t more)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, BOOT_MS);
    uint64_t from = guest_read_acked(console);

    while (guest_read_acked(console) < from + more)
        EXPECT_OK(cancel_sleep(limit, 20, &err));
    return guest_read_acked(console);
}

static void kill_server(size_t i)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/nbd-%s.pid", run_dir, served.at[i].name);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    uint64_t pid = 0;

    EXPECT_OK(fs_read_file(fs_real(), path, 64, &text, &err));
    assert_true(str_to_u64(str_text(&text), &pid));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    while (kill((pid_t)pid, 0) == 0) { /* until it is a zombie at most */
        struct proc_id id;
        if (proc_identify((pid_t)pid, &id, &err) < 0 || !proc_is_alive(&id))
            break;
    }
}

/* Reads a whole disk in the guest, past its cache; the program's pid there. */
static uint64_t begin_reading(struct agent *agent, const char *device)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    CLEANUP(mem_freep) char *input = mem_printf("if=%s", device);

    EXPECT_OK(agent_command(agent, "guest-exec",
                            json_pack("{s:s, s:[s, s, s, s]}", "path", "/bin/dd", "arg", input,
                                      "of=/dev/null", "bs=64k", "iflag=direct"),
                            &answer, cancel, &err));
    return json_get_u64(answer, "pid", 0);
}

static void wait_read(struct agent *agent, uint64_t pid)
{
    for (;;) {
        CLEANUP(json_freep) json_t *answer = NULL;

        EXPECT_OK(agent_command(agent, "guest-exec-status",
                                json_pack("{s:I}", "pid", (json_int_t)pid), &answer, cancel, &err));
        if (json_get_bool(answer, "exited", false)) {
            assert_int_equal(json_get_u64(answer, "exitcode", 99), 0);
            return;
        }
        EXPECT_OK(cancel_sleep(cancel, 50, &err));
    }
}

static uint32_t repair(void)
{
    uint32_t repaired = 0;

    EXPECT_OK(provider->repair(provider, &instance, &repaired, cancel, &err));
    return repaired;
}

static void wait_state(enum instance_state wanted)
{
    enum instance_state state;

    for (;;) {
        EXPECT_OK(provider->observe(provider, &instance, &state, cancel, &err));
        if (state == wanted)
            return;
        EXPECT_OK(cancel_sleep(cancel, 50, &err));
    }
}

/* As the daemon does: QEMU reconnects when it tries again, seconds later, and until then every read
 * stops the machine anew. */
static void repair_until_it_runs(void)
{
    enum instance_state state;
    int good = 0;

    while (good < 10) {
        (void)repair();
        EXPECT_OK(cancel_sleep(cancel, 200, &err));
        EXPECT_OK(provider->observe(provider, &instance, &state, cancel, &err));
        good = state == INSTANCE_RUNNING ? good + 1 : 0;
    }
}

static void a_recovered_machine_survives_its_servers(void **unused)
{
    CLEANUP(mem_freep) char *agent_path = path_join(run_dir, "agent");
    CLEANUP(agent_closep) struct agent *agent = NULL;
    struct guest_records records = {0};
    uint64_t acked, pid;

    (void)unused;
    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err));
    (void)wait_acked(20);
    assert_int_equal(repair(), 0);

    /* A reader that needs the server waits for it, and never sees an error. */
    EXPECT_OK(agent_open(agent_path, clock_real(), &agent, cancel, &err));
    kill_server(0);
    pid = begin_reading(agent, "/dev/vda");
    assert_int_equal(repair(), 1);
    wait_read(agent, pid);
    kill_server(0);
    kill_server(1);
    assert_int_equal(repair(), 2);
    pid = begin_reading(agent, "/dev/vdb");
    wait_read(agent, pid);

    /* So it does when the server stays away for so long that the machine is stopped. */
    kill_server(1);
    pid = begin_reading(agent, "/dev/vdb");
    wait_state(INSTANCE_IO_ERROR);
    assert_int_equal(repair(), 1);
    repair_until_it_runs();
    wait_read(agent, pid);
    acked = wait_acked(20);

    /* Ended and started again, its own writes are there; the replica has none of them. */
    EXPECT_OK(provider->shutdown(provider, &instance, cancel, &err));
    EXPECT_OK(provider->stop(provider, &instance, cancel, &err));
    EXPECT_OK(kit_check_view(&kit, kit.point, &err));
    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err));
    (void)wait_acked(1);
    assert_int_equal(guest_read_records(console, &records), 1);
    assert_int_equal(records.missing, 0);
    assert_int_equal(records.damaged, 0);
    assert_true(records.last >= acked);
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

    EXPECT_OK(provider->start(provider, &instance, true, cancel, &err));
    EXPECT_OK(
        provider->open_source(provider, &instance, "shop", 2, work_dir, &source, cancel, &err));
    EXPECT_OK(source->ops->track(source, 1, cancel, &err));
    (void)source_apply_scan(source, kit.disks[0].name, copy, cancel);
    (void)source_apply_scan(source, kit.disks[1].name, other, cancel);
    assert_true(source_apply_equal(copy, first));
    EXPECT_OK(provider->resume(provider, &instance, cancel, &err));
    uint64_t acked = wait_acked(20);
    EXPECT_OK(source->ops->cut(source, 2, &made, cancel, &err));
    assert_true(source_apply_changes(source, kit.disks[0].name, copy, cancel) > 0);
    assert_true(source_apply_changes(source, kit.disks[1].name, other, cancel) > 0);
    EXPECT_OK(source->ops->end(source, true, cancel, &err));
    source_closep(&source);
    guest_judge(copies, 2, SLOTS, work_dir, &records);
    assert_int_equal(records.missing, 0);
    assert_int_equal(records.damaged, 0);
    assert_true(records.last >= acked);
}

static void a_point_that_is_not_there_is_said(void **state)
{
    enum instance_state found;

    (void)state;
    served.at[1].point = 99;
    EXPECT_ERR(ERR_IO, provider->start(provider, &instance, false, cancel, &err));
    EXPECT_TEXT("99");
    EXPECT_OK(provider->observe(provider, &instance, &found, cancel, &err));
    assert_int_equal(found, INSTANCE_OFF);
}

#define SERVED_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVED_TEST(a_recovered_machine_survives_its_servers),
        SERVED_TEST(the_way_back_is_complete_from_the_first_write),
        SERVED_TEST(a_point_that_is_not_there_is_said),
    };
    return cmocka_run_group_tests_name("provider_served", tests, NULL, NULL);
}
