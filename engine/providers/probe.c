// SPDX-License-Identifier: Apache-2.0
/* A TCP probe into a test's network. A socket belongs to the network namespace it was made in, and
 * a namespace to a thread: the thread enters, makes the socket, and leaves again; all the rest
 * happens outside.
 *
 * Inside the namespace only the bridge "br0" leads anywhere, and it has no address. So before the
 * first probe of an IPv4 address the bridge gets one beside it: the same /24, host part 254 (or 253
 * when that is the machine's own). The guest sees a neighbour that asks, and answers. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "providers/provider.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union probe_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static int parse(const char *address, uint16_t port, union probe_address *ret_address,
                 socklen_t *ret_len, struct err *err)
{
    union probe_address parsed;

    memset(&parsed, 0, sizeof(parsed));
    if (port == 0)
        return err_set(err, ERR_INVALID, 0, "probe of %s: port 0", address);
    if (inet_pton(AF_INET, address, &parsed.v4.sin_addr) == 1) {
        parsed.v4.sin_family = AF_INET;
        parsed.v4.sin_port = htons(port);
        *ret_len = sizeof(parsed.v4);
    } else if (inet_pton(AF_INET6, address, &parsed.v6.sin6_addr) == 1) {
        parsed.v6.sin6_family = AF_INET6;
        parsed.v6.sin6_port = htons(port);
        *ret_len = sizeof(parsed.v6);
    } else {
        return err_set(err, ERR_INVALID, 0,
                       "probe: '%s' is no numeric IPv4 or IPv6 address; hint: names are not "
                       "looked up in a test's network",
                       address);
    }
    *ret_address = parsed;
    return 0;
}

static int open_socket(const char *netns, int family, int *ret_fd, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join("/run/netns", netns);
    CLEANUP(fd_close) int home = -1;
    CLEANUP(fd_close) int there = -1;
    int fd;
    int sys;

    if (!netns[0]) {
        fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        sys = errno;
    } else {
        home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        there = open(path, O_RDONLY | O_CLOEXEC);
        if (there < 0)
            return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno,
                           "network namespace %s", netns);
        if (home < 0 || setns(there, CLONE_NEWNET) < 0)
            return err_set(err, ERR_IO, errno, "enter network namespace %s", netns);
        fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        sys = errno;
        /* A thread left in a test's network would do somebody else's work there. */
        if (setns(home, CLONE_NEWNET) < 0)
            abort();
    }
    if (fd < 0)
        return err_set(err, ERR_IO, sys, "make a socket in %s", netns[0] ? netns : "our network");
    *ret_fd = fd;
    return 0;
}

/* Makes the bridge a neighbour of the address; that it is one already is fine. */
static int reach(const char *netns, const union probe_address *address, struct cancel *cancel,
                 struct err *err)
{
    uint32_t bits = ntohl(address->v4.sin_addr.s_addr);
    uint32_t own = (bits & 0xff) == 254 ? 253 : 254;
    char text[32];
    const char *const argv[] = {"ip", "addr", "replace", text, "dev", "br0", NULL};

    if (!netns[0] || address->any.sa_family != AF_INET || (bits >> 24) == 127)
        return 0;
    (void)snprintf(text, sizeof(text), "%u.%u.%u.%u/24", bits >> 24, bits >> 16 & 0xff,
                   bits >> 8 & 0xff, own);
    return proc_must_in(netns, argv, cancel, err);
}

/* 1 connected, 0 not; -1 only when the cancel ended it for good. */
static int connect_once(int fd, const union probe_address *address, socklen_t len,
                        struct cancel *cancel, struct err *err)
{
    int result = 0;
    socklen_t result_len = sizeof(result);

    if (connect(fd, &address->any, len) == 0)
        return 1;
    if (errno != EINPROGRESS)
        return 0;
    if (cancel_poll(cancel, fd, POLLOUT, err) < 0) {
        if (err->code != ERR_TIMEOUT)
            return -1;
        err_clear(err);
        return 0;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &result, &result_len) < 0)
        return 0;
    return result == 0;
}

int probe_tcp(const char *netns, const char *address, uint16_t port, struct cancel *cancel,
              struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    union probe_address target;
    socklen_t len;

    if (parse(address, port, &target, &len, err) < 0
        || open_socket(netns, target.any.sa_family, &fd, err) < 0
        || reach(netns, &target, cancel, err) < 0)
        return -1;
    return connect_once(fd, &target, len, cancel, err);
}
