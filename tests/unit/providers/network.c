// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/provider.h"
#include "support/expect.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* A namespace per process, so that tests run side by side; skipped where we may not make one. */
static int make_network(void **state)
{
    char *netns = mem_printf("muster-u-%d", (int)getpid());
    struct err failure = ERR_EMPTY;

    if (geteuid() != 0) {
        free(netns);
        *state = NULL;
        return 0;
    }
    if (testnet_create(netns, &failure) < 0) {
        (void)fprintf(stderr, "%s\n", failure.text);
        free(netns);
        return -1;
    }
    *state = netns;
    return 0;
}

static int remove_network(void **state)
{
    struct err failure = ERR_EMPTY;
    int rc = *state ? testnet_remove(*state, &failure) : 0;

    free(*state);
    return rc;
}

/* A listener on an address inside the namespace, made as the probe makes its socket. */
static int listen_inside(const char *netns, const char *address, uint16_t *ret_port)
{
    CLEANUP(mem_freep) char *path = path_join("/run/netns", netns);
    CLEANUP(fd_close) int home = open("/proc/thread-self/ns/net", O_RDONLY);
    CLEANUP(fd_close) int there = open(path, O_RDONLY);
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof(at);
    int fd;

    assert_int_equal(inet_pton(AF_INET, address, &at.sin_addr), 1);
    assert_int_equal(setns(there, CLONE_NEWNET), 0);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(setns(home, CLONE_NEWNET), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *ret_port = ntohs(at.sin_port);
    return fd;
}

static void a_probe_reaches_what_listens_inside_and_nothing_outside_does(void **state)
{
    CLEANUP(fd_close) int fd = -1;
    const char *netns = *state;
    uint16_t port;

    if (!netns)
        skip();
    fd = listen_inside(netns, "127.0.0.1", &port);
    assert_int_equal(probe_tcp(netns, "127.0.0.1", port, NULL, &err), 1);
    assert_int_equal(probe_tcp("", "127.0.0.1", port, NULL, &err), 0);
}

static void a_machine_on_the_bridge_is_reached_by_its_address(void **state)
{
    /* Not `ip -n`, which wants / to be a mount point. */
    CLEANUP(mem_freep)
    char *enter = mem_printf("--net=/run/netns/%s", *state ? (char *)*state : "");
    const char *const add[] = {"nsenter",     enter, "ip",  "addr", "add",
                               "10.9.8.7/24", "dev", "br0", NULL};
    CLEANUP(fd_close) int fd = -1;
    uint16_t port;

    if (!*state)
        skip();
    EXPECT_OK(proc_must(add, NULL, &err));
    fd = listen_inside(*state, "10.9.8.7", &port);
    assert_int_equal(probe_tcp(*state, "10.9.8.7", port, NULL, &err), 1);
    /* Again: the bridge is a neighbour already. */
    assert_int_equal(probe_tcp(*state, "10.9.8.7", port, NULL, &err), 1);
}

static void nobody_listening_is_a_no_and_a_name_is_an_error(void **state)
{
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(clock_real(), NULL, 2000);

    (void)state;
    assert_int_equal(probe_tcp("", "127.0.0.1", 1, cancel, &err), 0);
    EXPECT_ERR(ERR_INVALID, probe_tcp("", "db1", 80, cancel, &err));
    EXPECT_ERR(ERR_INVALID, probe_tcp("", "127.0.0.1", 0, cancel, &err));
    EXPECT_ERR(ERR_NOT_FOUND, probe_tcp("muster-u-none", "127.0.0.1", 80, cancel, &err));
}

static void making_and_removing_a_network_twice_is_fine(void **state)
{
    if (!*state)
        skip();
    EXPECT_OK(testnet_create(*state, &err));
    EXPECT_OK(testnet_remove(*state, &err));
    EXPECT_OK(testnet_remove(*state, &err));
    EXPECT_ERR(ERR_INVALID, testnet_create("../x", &err));
    EXPECT_OK(testnet_create(*state, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_probe_reaches_what_listens_inside_and_nothing_outside_does),
        cmocka_unit_test(a_machine_on_the_bridge_is_reached_by_its_address),
        cmocka_unit_test(nobody_listening_is_a_no_and_a_name_is_an_error),
        cmocka_unit_test(making_and_removing_a_network_twice_is_fine),
    };
    return cmocka_run_group_tests_name("network", tests, make_network, remove_network);
}
