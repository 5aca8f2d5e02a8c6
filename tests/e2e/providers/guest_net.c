// SPDX-License-Identifier: Apache-2.0
/* A real guest gets addresses through its agent: asked afterwards, it has them, and what was there
 * before comes back. */
#include "qemu/guest_net.h"
#include "base/fs.h"
#include "base/mem.h"
#include "providers/provider.h"
#include "qemu/agent.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAC "52:54:00:77:04:11"

static struct provider *provider;
static struct machine machine;
static struct provider_instance instance;
static struct cancel *cancel;
static char *run_dir, *disk_path;
static char netns[32];

static void define(const char *cmdline)
{
    CLEANUP(json_freep)
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:s}], s:[{s:s, s:s}]}", "name", "db1",
                  "memory", "128MiB", "kernel", guest_kernel(), "initrd", guest_initrd(), "cmdline",
                  cmdline, "agent", 1, "disks", "path", disk_path, "format", "raw", "nics", "mac",
                  MAC, "network", "bridge lan0");

    machine_init(&machine);
    EXPECT_OK(machine_from_json(json, &machine, &err));
}

static int setup(void **state)
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
    define("console=ttyS0 quiet writer=off ip=10.77.4.11/24 gateway=10.77.4.1");
    (void)snprintf(netns, sizeof(netns), "muster-e2e-g%d", (int)getpid());
    EXPECT_OK(testnet_create(netns, &err));
    instance = (struct provider_instance){
        .machine = &machine, .run_dir = run_dir, .netns = netns, .isolated = true};
    provider = provider_qemu_new(&config);
    EXPECT_OK(provider->start(provider, &instance, false, cancel, &err));
    while (provider->agent_answers(provider, &instance, cancel, &err) != 1)
        EXPECT_OK(cancel_sleep(cancel, 100, &err));
    return 0;
}

static int teardown(void **state)
{
    int rc = provider->stop(provider, &instance, NULL, &err);

    rc = testnet_remove(netns, &err) < 0 ? -1 : rc;
    provider_free(provider);
    machine_done(&machine);
    cancel_freep(&cancel);
    free(run_dir);
    free(disk_path);
    return tmpdir_teardown(state) < 0 || rc < 0 ? -1 : 0;
}

static json_t *wanted_of(json_t *addresses, json_t *gateways, json_t *dns)
{
    json_t *wanted = NULL;

    EXPECT_OK(guest_net_wanted(addresses, gateways, dns, &wanted, &err));
    json_decref(addresses);
    json_decref(gateways);
    json_decref(dns);
    return wanted;
}

static char *assigned(const json_t *wanted)
{
    CLEANUP(json_freep) json_t *network = NULL;

    EXPECT_OK(provider->guest_assign(provider, &instance, MAC, wanted, &network, cancel, &err));
    return guest_net_text(network);
}

static void a_real_guest_gets_addresses_and_has_its_old_ones_again(void **state)
{
    CLEANUP(json_freep)
    json_t *wanted =
        wanted_of(json_pack("[s, s]", "10.88.4.12/24", "fd00:77::12/64"),
                  json_pack("[s, s]", "10.88.4.1", "fd00:77::1"), json_pack("[s]", "10.88.4.2"));
    CLEANUP(json_freep) json_t *before = NULL;

    (void)state;
    EXPECT_OK(provider->guest_network(provider, &instance, MAC, wanted, &before, cancel, &err));
    CLEANUP(mem_freep) char *was = guest_net_text(before);
    assert_string_equal(was, "10.77.4.11/24, gateway 10.77.4.1");
    CLEANUP(mem_freep) char *now = assigned(wanted);
    assert_string_equal(now,
                        "10.88.4.12/24, gateway 10.88.4.1, fd00:77::12/64, gateway fd00:77::1");
    CLEANUP(mem_freep) char *again = assigned(wanted);
    assert_string_equal(again, now);

    /* In the network of an address that goes, which takes its neighbours along. */
    CLEANUP(json_freep) json_t *beside = wanted_of(json_pack("[s]", "10.88.4.13/24"), NULL, NULL);
    CLEANUP(mem_freep) char *moved = assigned(beside);
    assert_string_equal(moved, "10.88.4.13/24, gateway 10.88.4.1, fd00:77::12/64");

    CLEANUP(json_freep) json_t *back = guest_net_back(before, wanted);
    CLEANUP(mem_freep) char *restored = assigned(back);
    assert_string_equal(restored, was);
}

static void what_a_real_guest_refuses_is_told_in_its_words(void **state)
{
    CLEANUP(json_freep)
    json_t *wanted =
        wanted_of(json_pack("[s]", "10.77.4.11/24"), json_pack("[s]", "10.99.0.1"), NULL);
    json_t *network = NULL;

    (void)state;
    EXPECT_ERR(ERR_STATE,
               provider->guest_assign(provider, &instance, MAC, wanted, &network, cancel, &err));
    EXPECT_TEXT("the guest refuses \"ip -4 route replace default via 10.99.0.1 dev eth0\": ");
    EXPECT_ERR(ERR_NOT_FOUND, provider->guest_network(provider, &instance, "52:54:00:00:00:99",
                                                      wanted, &network, cancel, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_real_guest_gets_addresses_and_has_its_old_ones_again,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_real_guest_refuses_is_told_in_its_words, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("guest_net", tests, NULL, NULL);
}
