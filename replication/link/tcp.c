// SPDX-License-Identifier: Apache-2.0
#include "link/tls_internal.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEEP_IDLE_S     10
#define KEEP_INTERVAL_S 5
#define KEEP_COUNT      3
#define UNACKED_MS      25000 /* what we sent and nobody acknowledged; TCP_USER_TIMEOUT */
#define BACKLOG         64

static int option(int fd, int level, int name, int value, struct err *err)
{
    if (setsockopt(fd, level, name, &value, sizeof(value)) < 0)
        return err_set(err, ERR_IO, errno, "socket option %d", name);
    return 0;
}

int tcp_prepare(int fd, struct err *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0
        || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return err_set(err, ERR_IO, errno, "socket");
    if (option(fd, IPPROTO_TCP, TCP_NODELAY, 1, err) < 0
        || option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, err) < 0
        || option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S, err) < 0
        || option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S, err) < 0
        || option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_COUNT, err) < 0)
        return -1;
    return option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKED_MS, err);
}

/* "host:port", "[v6]:port". */
static int split(const char *address, char **ret_host, const char **ret_port, struct err *err)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    if (!colon || colon == address || !str_to_u64(colon + 1, &port) || port > 65535)
        return err_set(err, ERR_INVALID, 0,
                       "\"%s\" is not an address; hint: write HOST:PORT, like 192.0.2.1:7700 or "
                       "[2001:db8::1]:7700",
                       address);
    const char *from = address;
    size_t len = (size_t)(colon - address);
    if (address[0] == '[' && colon[-1] == ']') {
        from++;
        len -= 2;
    }
    *ret_host = mem_strdup(from);
    (*ret_host)[len] = '\0';
    *ret_port = colon + 1;
    return 0;
}

/* Names are looked up by the system's resolver, which no cancel ends; it has limits of its
 * own (seconds). Numeric addresses never wait. */
static int look_up(const char *address, int flags, struct addrinfo **ret_list, struct err *err)
{
    CLEANUP(mem_freep) char *host = NULL;
    const char *port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};

    if (split(address, &host, &port, err) < 0)
        return -1;
    int rc = getaddrinfo(host, port, &hints, ret_list);
    if (rc != 0)
        return err_set(err, ERR_NET, rc == EAI_SYSTEM ? errno : 0, "%s: %s", address,
                       gai_strerror(rc));
    return 0;
}

static int connect_one(const struct addrinfo *ai, const char *address, struct cancel *cancel,
                       int *ret_fd, struct err *err)
{
    CLEANUP(fd_close)
    int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int sys = 0;
    socklen_t len = sizeof(sys);

    if (fd < 0)
        return err_set(err, ERR_NET, errno, "socket for %s", address);
    if (tcp_prepare(fd, err) < 0)
        return -1;
    if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0 && errno != EINPROGRESS && errno != EINTR)
        return err_set(err, ERR_NET, errno, "cannot reach %s", address);
    if (cancel_poll(cancel, fd, POLLOUT, err) < 0)
        return -1;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &sys, &len) < 0)
        sys = errno;
    if (sys != 0)
        return err_set(err, ERR_NET, sys, "cannot reach %s", address);
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int tcp_connect(const char *address, struct cancel *cancel, int *ret_fd, struct err *err)
{
    struct addrinfo *list = NULL;
    int rc = -1;

    if (look_up(address, 0, &list, err) < 0)
        return -1;
    for (const struct addrinfo *ai = list; ai && rc < 0; ai = ai->ai_next)
        rc = connect_one(ai, address, cancel, ret_fd, err);
    freeaddrinfo(list);
    return rc;
}

int tls_listen(const char *address, int *ret_fd, struct err *err)
{
    struct addrinfo *list = NULL;

    if (look_up(address, AI_PASSIVE, &list, err) < 0)
        return -1;
    CLEANUP(fd_close)
    int fd = socket(list->ai_family, list->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;
    int rc = -1;
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0
        && bind(fd, list->ai_addr, list->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
        *ret_fd = fd;
        fd = -1;
        rc = 0;
    } else {
        int sys = errno;
        rc = err_set(err, sys == EADDRINUSE ? ERR_BUSY : ERR_IO, sys, "cannot listen on %s",
                     address);
    }
    freeaddrinfo(list);
    return rc;
}

int tls_port(int listen_fd, uint16_t *ret_port, struct err *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } name = {.any = {0}};
    socklen_t len = sizeof(name);

    if (getsockname(listen_fd, &name.any, &len) < 0)
        return err_set(err, ERR_IO, errno, "listening socket");
    if (name.any.sa_family == AF_INET)
        *ret_port = ntohs(name.v4.sin_port);
    else if (name.any.sa_family == AF_INET6)
        *ret_port = ntohs(name.v6.sin6_port);
    else
        return err_set(err, ERR_INVALID, 0, "not a TCP socket");
    return 0;
}
