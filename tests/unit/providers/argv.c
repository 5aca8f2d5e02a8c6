// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "providers/provider_qemu.h"
#include "support/expect.h"

#include <stdio.h>
#include <stdlib.h>

static struct provider_qemu qemu = {.qemu_path = (char[]){"qemu-system-x86_64"},
                                    .plugin_path = (char[]){"/lib/plugin.so"},
                                    .reconnect_s = 30};

/* One option per line: each word that begins with "-" begins one. */
static char *lines_of(const struct provider_instance *instance, bool paused)
{
    CLEANUP(qemu_argv_done) struct qemu_argv argv = {0};
    struct str text = STR_EMPTY;

    qemu_argv_make(&qemu, instance, "tcg", paused, &argv);
    assert_null(argv.at[argv.len]);
    for (size_t i = 0; i < argv.len; i++)
        str_addf(&text, "%s%s", i == 0 ? "" : argv.at[i][0] == '-' ? "\n" : " ", argv.at[i]);
    return str_take(&text);
}

static void parse(const char *text, struct machine *ret_machine)
{
    CLEANUP(json_freep) json_t *json = json_loads(text, 0, NULL);

    machine_init(ret_machine);
    EXPECT_OK(machine_from_json(json, ret_machine, &err));
}

static void an_own_machine_has_this_command_line(void **unused)
{
    static const char want[] =
        "qemu-system-x86_64\n"
        "-name guest=db1\n"
        "-nodefaults\n"
        "-no-user-config\n"
        "-display none\n"
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny\n"
        "-accel tcg\n"
        "-machine q35\n"
        "-cpu max\n"
        "-m 256M\n"
        "-smp 2\n"
        "-no-shutdown\n"
        "-pidfile /run/m/db1,x/qemu.pid\n"
        "-kernel /k\n"
        "-initrd /i\n"
        "-append console=ttyS0 quiet\n"
        "-chardev socket,id=qmp,path=/run/m/db1,,x/qmp,server=on,wait=off\n"
        "-mon chardev=qmp,mode=control\n"
        "-chardev socket,id=qmp-data,path=/run/m/db1,,x/qmp-data,server=on,wait=off\n"
        "-mon chardev=qmp-data,mode=control\n"
        "-chardev socket,id=qmp-spare,path=/run/m/db1,,x/qmp-spare,server=on,wait=off\n"
        "-mon chardev=qmp-spare,mode=control\n"
        "-chardev file,id=console,path=/run/m/db1,,x/console.log\n"
        "-serial chardev:console\n"
        "-device virtio-serial-pci\n"
        "-chardev socket,id=agent,path=/run/m/db1,,x/agent,server=on,wait=off\n"
        "-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0\n"
        "-blockdev {\"discard\":\"unmap\",\"driver\":\"raw\",\"file\":{\"driver\":\"file\","
        "\"filename\":\"/nonexistent/a,b.raw\"},\"node-name\":\"disk0\"}\n"
        "-device virtio-blk-pci,id=blk0,drive=disk0,bootindex=1\n"
        "-object iothread,id=thread1\n"
        "-blockdev {\"discard\":\"unmap\",\"driver\":\"qcow2\",\"file\":{\"driver\":\"file\","
        "\"filename\":\"/nonexistent/b.qcow2\"},\"node-name\":\"disk1\"}\n"
        "-device virtio-blk-pci,id=blk1,drive=disk1,bootindex=2,iothread=thread1\n"
        "-netdev user,id=nic0\n"
        "-device virtio-net-pci,netdev=nic0,mac=52:54:00:00:00:01\n"
        "-netdev tap,id=nic1,ifname=mt8a107bed-1,script=no,downscript=no\n"
        "-device virtio-net-pci,netdev=nic1,mac=52:54:00:00:00:02\n"
        "-S";
    CLEANUP(machine_done) struct machine machine;
    struct provider_instance instance = {
        .machine = &machine, .run_dir = "/run/m/db1,x", .netns = ""};
    CLEANUP(mem_freep) char *got = NULL;

    (void)unused;
    parse("{\"name\":\"db1\",\"memory\":\"256MiB\",\"cpus\":2,\"kernel\":\"/k\",\"initrd\":\"/i\","
          "\"cmdline\":\"console=ttyS0 quiet\",\"agent\":true,\"disks\":["
          "{\"path\":\"/nonexistent/a,b.raw\",\"format\":\"raw\"},"
          "{\"path\":\"/nonexistent/b.qcow2\",\"format\":\"qcow2\",\"iothread\":true}],\"nics\":["
          "{\"mac\":\"52:54:00:00:00:01\",\"network\":\"user\"},"
          "{\"mac\":\"52:54:00:00:00:02\",\"network\":\"bridge lan0\"}]}",
          &machine);
    got = lines_of(&instance, true);
    assert_string_equal(got, want);
}

static void a_tested_machine_is_served_and_isolated(void **unused)
{
    static const char *const want[] = {
        "\n-bios /f\n",
        "\n-object throttle-group,id=nolimit\n",
        "\n-blockdev {\"driver\":\"throttle\",\"file\":{\"backing\":{\"driver\":\"raw\",\"file\":{"
        "\"driver\":\"nbd\",\"export\":\"\",\"node-name\":\"server0\",\"read-only\":true,"
        "\"reconnect-delay\":30,\"server\":{\"path\":\"/run/t/nbd-vda\",\"type\":\"unix\"}},"
        "\"node-name\":\"point0\",\"read-only\":true},\"driver\":\"qcow2\",\"file\":{\"driver\":"
        "\"file\",\"filename\":\"/run/t/vda.qcow2\"},\"node-name\":\"overlay0\"},\"node-name\":"
        "\"disk0\",\"throttle-group\":\"nolimit\"}\n",
        "\n-object iothread,id=thread0\n",
        "\n-device virtio-blk-pci,id=blk0,drive=disk0,bootindex=1,iothread=thread0,",
        ",werror=stop,rerror=stop\n",
        "\n-netdev user,id=nic0,restrict=on\n",
        "\n-netdev tap,id=nic1,",
    };
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(provider_served_disks_free) struct provider_served_disks served = VEC_EMPTY;
    struct provider_instance instance = {.machine = &machine,
                                         .run_dir = "/run/t",
                                         .netns = "muster-t-1",
                                         .isolated = true,
                                         .served = &served};
    CLEANUP(mem_freep) char *got = NULL;
    struct provider_served_disk *disk = provider_served_disks_push(&served);

    (void)unused;
    parse("{\"name\":\"db1\",\"memory\":\"1GiB\",\"firmware\":\"/f\",\"disks\":["
          "{\"path\":\"/nonexistent/a.raw\",\"format\":\"raw\",\"iothread\":true}],\"nics\":["
          "{\"mac\":\"52:54:00:00:00:01\",\"network\":\"user\"},"
          "{\"mac\":\"52:54:00:00:00:02\",\"network\":\"bridge lan0\"}]}",
          &machine);
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    (void)snprintf(disk->overlay, sizeof(disk->overlay), "/run/t/vda.qcow2");
    got = lines_of(&instance, false);
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        if (!strstr(got, want[i]))
            fail_msg("%s\nlacks%s", got, want[i]);
    assert_null(strstr(got, "/nonexistent"));
    assert_null(strstr(got, "\n-S"));
    assert_null(strstr(got, "agent"));
}

static void a_disk_that_was_streamed_needs_no_server(void **unused)
{
    static const char want[] =
        "\n-blockdev {\"driver\":\"throttle\",\"file\":{\"backing\":null,\"driver\":\"qcow2\","
        "\"file\":{\"driver\":\"file\",\"filename\":\"/run/t/vda.qcow2\"},\"node-name\":"
        "\"overlay0\"},\"node-name\":\"disk0\",\"throttle-group\":\"nolimit\"}\n";
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(provider_served_disks_free) struct provider_served_disks served = VEC_EMPTY;
    struct provider_instance instance = {
        .machine = &machine, .run_dir = "/run/t", .netns = "", .served = &served};
    CLEANUP(mem_freep) char *got = NULL;
    struct provider_served_disk *disk = provider_served_disks_push(&served);

    (void)unused;
    parse("{\"name\":\"db1\",\"memory\":\"1GiB\",\"disks\":["
          "{\"path\":\"/nonexistent/a.raw\",\"format\":\"raw\"}]}",
          &machine);
    disk->own = true;
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    (void)snprintf(disk->overlay, sizeof(disk->overlay), "/run/t/vda.qcow2");
    got = lines_of(&instance, false);
    if (!strstr(got, want))
        fail_msg("%s\nlacks%s", got, want);
    assert_null(strstr(got, "nbd"));
}

static void taps_have_names_of_their_own_that_fit(void **unused)
{
    CLEANUP(machine_done) struct machine machine;
    struct provider_instance instance = {.machine = &machine, .run_dir = "/run/a", .netns = ""};
    char a[QEMU_TAP_BYTES], b[QEMU_TAP_BYTES], again[QEMU_TAP_BYTES];

    (void)unused;
    parse("{\"name\":\"db1\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\",\"format\":\"raw\"}],"
          "\"nics\":[{\"mac\":\"52:54:00:00:00:01\",\"network\":\"bridge lan0\"},"
          "{\"mac\":\"52:54:00:00:00:02\",\"network\":\"bridge lan0\"},"
          "{\"mac\":\"52:54:00:00:00:03\",\"network\":\"user\"}]}",
          &machine);
    assert_true(qemu_tap_name(&instance, 0, a));
    assert_true(qemu_tap_name(&instance, 1, b));
    assert_string_not_equal(a, b);
    assert_true(strlen(a) <= 15);
    assert_false(qemu_tap_name(&instance, 2, again));
    assert_true(qemu_tap_name(&instance, 0, again));
    assert_string_equal(a, again);
    instance.run_dir = "/run/b";
    assert_true(qemu_tap_name(&instance, 0, b));
    assert_string_not_equal(a, b);
    /* A test without a network of its own must not get onto a real bridge. */
    instance.isolated = true;
    assert_false(qemu_tap_name(&instance, 0, a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_own_machine_has_this_command_line),
        cmocka_unit_test(a_tested_machine_is_served_and_isolated),
        cmocka_unit_test(a_disk_that_was_streamed_needs_no_server),
        cmocka_unit_test(taps_have_names_of_their_own_that_fit),
    };
    return cmocka_run_group_tests_name("argv", tests, NULL, NULL);
}
