// SPDX-License-Identifier: Apache-2.0
/* Machines as the provider runs them: real ones, in a test's network. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/provider.h"
#include "qemu/qmp.h"
#include "qemu/standstill.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/tmpdir.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BOOT_MS 120000
#define ADDRESS "10.77.3.11"

static struct provider *provider;
static struct machine machine;
static struct provider_instance instance;
static struct cancel *cancel;
static char *run_dir, *disk_path;
static char netns[32], elsewhere[32];

static void define(const char *kernel)
{
    CLEANUP(json_freep) json_t *json = NULL;

    json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:s}], s:[{s:s, s:s}]}", "name",
                     "db1", "memory", "128MiB", "kernel", kernel, "initrd", guest_initrd(),
                     "cmdline", "console=ttyS0 quiet writer.slots=256 ip=" ADDRESS "/24", "agent",
                     1, "disks", "path", disk_path, "format", "raw", "nics", "mac",
                     "52:54:00:77:03:11", "network", "bridge lan0");
    machine_done(&machine);
    machine_init(&machine);
    EXPECT_OK(machine_from_json(json, &machine, &err));
}

static int start(void **state)
{
    const struct provider_qemu_config config = {
        .qemu_path = "qemu-system-x86_64",
        .plugin_path = MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so",
        .clock = clock_real(),
    };

    if (tmpdir_setup(state) < 0)
        return -1;
    GUEST_BUILD();
    cancel = cancel_new(NULL, NULL, 240000);
    run_dir = path_join(*state, "run");
    disk_path = path_join(*state, "a.raw");
    guest_make_disk(disk_path, "raw", "32M");
    machine_init(&machine);
    define(guest_kernel());
    (void)snprintf(netns, sizeof(netns), "muster-e2e-%d", (int)getpid());
    (void)snprintf(elsewhere, sizeof(elsewhere), "muster-e2e-%d-2", (int)getpid());
    EXPECT_OK(testnet_create(netns, &err));
    EXPECT_OK(testnet_create(elsewhere, &err));
    instance = (struct provider_instance){
        .machine = &machine, .run_dir = run_dir, .netns = netns, .isolated = true};
    provider = provider_qemu_new(&config);
    return 0;
}

static int stop(void **state)
{
    int rc = provider->stop(provider, &instance, NULL, &err);

    rc = testnet_remove(netns, &err) < 0 || testnet_remove(elsewhere, &err) < 0 ? -1 : rc;
    provider_free(provider);
    machine_done(&machine);
    cancel_freep(&cancel);
    free(run_dir);
    free(disk_path);
    return tmpdir_teardown(state) < 0 || rc < 0 ? -1 : 0;
}

static enum instance_state observed(void)
{
    enum instance_state state;

    EXPECT_OK(provider->observe(provider, &instance, &state, cancel, &err));
    return state;
}

static void wait_console(const char *text)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, BOOT_MS);

    while (provider->console_has(provider, &instance, text, &err) != 1)
        EXPECT_OK(cancel_sleep(limit, 20, &err));
}

static unsigned count_lines(const char *begins)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(mem_freep) char *path = path_join(run_dir, "console.log");
    unsigned n = 0;

    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 24, &text, &err));
    for (const char *p = str_text(&text); (p = strstr(p, begins)) != NULL; p++)
        n++;
    return n;
}

static int probe(const char *where)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, 2000);

    return probe_tcp(where, ADDRESS, 7, limit, &err);
}

/* What a person would do at the spare monitor. */
static void at_monitor(const char *command)
{
    CLEANUP(mem_freep) char *path = path_join(run_dir, "qmp-spare");
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;

    EXPECT_OK(qmp_open(path, clock_real(), &qmp, cancel, &err));
    EXPECT_OK(qmp_command(qmp, command, NULL, NULL, cancel, &err));
}

/* What a cut of its group does: the machine stands still for a moment. */
#define CUT "the cut of a test"
static void hold_it(void)
{
    CLEANUP(mem_freep) char *path = path_join(run_dir, "qmp-spare");
    CLEANUP(mem_freep) char *still = path_join(run_dir, STANDSTILL_FILE);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    bool stopped = false;

    EXPECT_OK(qmp_open(path, clock_real(), &qmp, cancel, &err));
    EXPECT_OK(standstill_begin(still, CUT, qmp, &stopped, cancel, &err));
    assert_true(stopped);
}

static bool let_it_go(void)
{
    CLEANUP(mem_freep) char *path = path_join(run_dir, "qmp-spare");
    CLEANUP(mem_freep) char *still = path_join(run_dir, STANDSTILL_FILE);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    bool stood = false;

    EXPECT_OK(qmp_open(path, clock_real(), &qmp, cancel, &err));
    EXPECT_OK(standstill_end(still, CUT, qmp, &stood, cancel, &err));
    return stood;
}

static void *go_on_soon(void *unused)
{
    usleep(300000);
    assert_true(let_it_go());
    return unused;
}

static bool tap_is_there(void)
{
    /* Not `ip -n`, which wants / to be a mount point. */
    CLEANUP(mem_freep) char *enter = mem_printf("--net=/run/netns/%s", netns);
    const char *const argv[] = {"nsenter", enter,    "ip",  "-o", "link",
                                "show",    "master", "br0", NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str text = STR_EMPTY;
    int status;

    EXPECT_OK(proc_run(&spec, 65536, &text, &status, cancel, &err));
    return strstr(str_text(&text), ": mt") != NULL;
}

static void a_machine_lives_as_it_is_told(void **unused)
{
    (void)unused;
    assert_int_equal(observed(), INSTANCE_OFF);
    EXPECT_OK(provider->start(provider, &instance, true, cancel, &err));
    assert_int_equal(observed(), INSTANCE_PAUSED);
    assert_int_equal(provider->console_has(provider, &instance, "BOOTED", &err), 0);
    EXPECT_OK(provider->resume(provider, &instance, cancel, &err));
    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err)); /* it does already */
    wait_console("ACKED");
    assert_int_equal(observed(), INSTANCE_RUNNING);
    assert_true(tap_is_there());

    /* Its test network reaches it, another one does not; the agent needs none. */
    assert_int_equal(probe(netns), 1);
    assert_int_equal(probe(elsewhere), 0);
    assert_int_equal(provider->agent_answers(provider, &instance, cancel, &err), 1);

    /* Stopped by a person. */
    at_monitor("stop");
    assert_int_equal(observed(), INSTANCE_PAUSED);
    EXPECT_ERR(ERR_STATE, provider->shutdown(provider, &instance, cancel, &err));

    /* Paused in the moment in which a cut of its group holds it: it stays so. */
    at_monitor("cont");
    hold_it();
    EXPECT_OK(provider->pause(provider, &instance, cancel, &err));
    assert_false(let_it_go());
    assert_int_equal(observed(), INSTANCE_PAUSED);
    EXPECT_OK(provider->resume(provider, &instance, cancel, &err));
    assert_int_equal(observed(), INSTANCE_RUNNING);

    /* Shut down in the moment in which a cut of its group holds it. The process stays; started again, the
     * guest boots with its records. */
    pthread_t other;
    hold_it();
    assert_int_equal(pthread_create(&other, NULL, go_on_soon, NULL), 0);
    EXPECT_OK(provider->shutdown(provider, &instance, cancel, &err));
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(observed(), INSTANCE_SHUTDOWN);
    assert_int_equal(count_lines("GUEST DOWN"), 1);
    EXPECT_ERR(ERR_STATE, provider->resume(provider, &instance, cancel, &err));
    EXPECT_OK(provider->shutdown(provider, &instance, cancel, &err));
    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err));
    while (count_lines("generation=") < 2)
        EXPECT_OK(cancel_sleep(cancel, 20, &err));
    assert_int_equal(count_lines("missing=0 damaged=0"), 2);
    assert_int_equal(observed(), INSTANCE_RUNNING);

    EXPECT_OK(provider->stop(provider, &instance, cancel, &err));
    assert_int_equal(observed(), INSTANCE_OFF);
    assert_false(tap_is_there());
    assert_int_equal(provider->agent_answers(provider, &instance, cancel, &err), 0);
    EXPECT_OK(provider->stop(provider, &instance, cancel, &err));
}

static void a_disk_that_another_machine_uses_is_busy(void **state)
{
    CLEANUP(mem_freep) char *other_dir = path_join(*state, "other");
    struct provider_instance other = instance;

    EXPECT_OK(provider->start(provider, &instance, true, cancel, &err));
    other.run_dir = other_dir;
    EXPECT_ERR(ERR_BUSY, provider->start(provider, &other, true, cancel, &err));
    EXPECT_TEXT("in use elsewhere");
    assert_int_equal(observed(), INSTANCE_PAUSED);
}

static void a_start_that_fails_says_why_and_leaves_nothing(void **state)
{
    CLEANUP(fs_names_free) struct fs_names names = {0};

    (void)state;
    define("/nonexistent/vmlinuz");
    EXPECT_ERR(ERR_IO, provider->start(provider, &instance, false, cancel, &err));
    EXPECT_TEXT("/nonexistent/vmlinuz");
    assert_int_equal(observed(), INSTANCE_OFF);
    assert_false(tap_is_there());
    EXPECT_OK(fs_list(run_dir, &names, &err));
    for (size_t i = 0; i < names.len; i++)
        if (!strstr(names.at[i], ".log"))
            fail_msg("%s was left", names.at[i]);
}

static void a_killed_machine_is_off_and_can_be_started(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(mem_freep) char *path = path_join(run_dir, "qemu.pid");
    uint64_t pid = 0;

    (void)state;
    EXPECT_OK(provider->start(provider, &instance, true, cancel, &err));
    EXPECT_OK(fs_read_file(fs_real(), path, 64, &text, &err));
    assert_true(str_to_u64(str_text(&text), &pid));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    while (observed() != INSTANCE_OFF)
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
    EXPECT_OK(provider->start(provider, &instance, true, cancel, &err));
    assert_int_equal(observed(), INSTANCE_PAUSED);
}

static void a_pid_that_became_somebody_elses_is_not_ours(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(run_dir, "qemu.pid");
    char text[32];

    (void)state;
    (void)snprintf(text, sizeof(text), "%d\n", (int)getpid());
    EXPECT_OK(fs_make_dirs(fs_real(), run_dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
    assert_int_equal(observed(), INSTANCE_OFF);
    EXPECT_OK(provider->stop(provider, &instance, cancel, &err));
}

#define MACHINE_TEST(f) cmocka_unit_test_setup_teardown(f, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MACHINE_TEST(a_machine_lives_as_it_is_told),
        MACHINE_TEST(a_disk_that_another_machine_uses_is_busy),
        MACHINE_TEST(a_start_that_fails_says_why_and_leaves_nothing),
        MACHINE_TEST(a_killed_machine_is_off_and_can_be_started),
        MACHINE_TEST(a_pid_that_became_somebody_elses_is_not_ours),
    };
    return cmocka_run_group_tests_name("provider_qemu", tests, NULL, NULL);
}
