// SPDX-License-Identifier: Apache-2.0
#include "qemu/line.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct line_socket {
    int fd;
    bool broken;
    struct str in; /* bytes received */
    size_t used;   /* of them, given away as lines */
    size_t seen;   /* of them, known to hold no line end */
};

int line_connect(const char *path, struct line_socket **ret_socket, struct cancel *cancel,
                 struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(at.sun_path))
        return err_set(err, ERR_INVALID, 0,
                       "%s: a socket's path may have %zu bytes; hint: use a shorter folder", path,
                       sizeof(at.sun_path) - 1);
    memcpy(at.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, ERR_IO, errno, "socket");
    /* EAGAIN: the listener's backlog is full. */
    while (connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return err_set(err, ERR_NET, errno, "connect to %s", path);
        if (cancel_sleep(cancel, 10, err) < 0)
            return err_wrap(err, "connect to %s", path);
    }
    *ret_socket = mem_new(struct line_socket);
    (*ret_socket)->fd = fd_take(&fd);
    return 0;
}

void line_close(struct line_socket *socket)
{
    if (!socket)
        return;
    fd_close(&socket->fd);
    str_free(&socket->in);
    free(socket);
}

int line_fd(const struct line_socket *socket)
{
    return socket->fd;
}

void line_break(struct line_socket *socket)
{
    socket->broken = true;
}

static ssize_t send_some(int to, const char *bytes, size_t len, int fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    /* sendmsg wants its parts writable, and leaves them alone. */
    union {
        const char *ours;
        void *theirs;
    } base = {.ours = bytes};
    struct iovec part = {.iov_base = base.theirs, .iov_len = len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd >= 0) {
        struct cmsghdr *head;

        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &fd, sizeof(fd));
    }
    return sendmsg(to, &message, MSG_NOSIGNAL);
}

int line_send(struct line_socket *socket, const char *bytes, size_t len, int fd,
              struct cancel *cancel, struct err *err)
{
    size_t sent = 0;

    if (socket->broken)
        return err_set(err, ERR_NET, 0, "the connection is closed");
    while (sent < len) {
        ssize_t n = send_some(socket->fd, bytes + sent, len - sent, sent ? -1 : fd);
        if (n > 0) {
            sent += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            if (cancel_poll(cancel, socket->fd, POLLOUT, err) < 0) {
                socket->broken = sent > 0;
                return -1;
            }
        } else if (n < 0 && errno != EINTR) {
            socket->broken = true;
            return err_set(err, ERR_NET, errno, "send");
        }
    }
    return 0;
}

/* Lines that were given away make room. */
static void forget_used(struct line_socket *socket)
{
    if (socket->used == 0)
        return;
    memmove(socket->in.ptr, socket->in.ptr + socket->used, socket->in.len - socket->used + 1);
    socket->in.len -= socket->used;
    socket->seen -= socket->used;
    socket->used = 0;
}

static bool cut_line(struct line_socket *socket, const char **ret_line, size_t *ret_len)
{
    char *start, *end;

    if (socket->in.len == socket->used)
        return false;
    start = socket->in.ptr + socket->used;
    end = memchr(socket->in.ptr + socket->seen, '\n', socket->in.len - socket->seen);
    if (!end) {
        socket->seen = socket->in.len;
        return false;
    }
    *end = '\0';
    *ret_line = start;
    *ret_len = (size_t)(end - start);
    if (*ret_len > 0 && end[-1] == '\r')
        start[--*ret_len] = '\0';
    socket->used = socket->seen = (size_t)(end - socket->in.ptr) + 1;
    return true;
}

int line_receive(struct line_socket *socket, bool wait, const char **ret_line, size_t *ret_len,
                 struct cancel *cancel, struct err *err)
{
    char buf[16384];

    for (;;) {
        ssize_t n;

        if (socket->broken)
            return err_set(err, ERR_NET, 0, "the connection is closed");
        if (cut_line(socket, ret_line, ret_len))
            return 0;
        forget_used(socket);
        if (socket->in.len > LINE_MAX_BYTES) {
            socket->broken = true;
            return err_set(err, ERR_PROTOCOL, 0, "a line of more than %u bytes", LINE_MAX_BYTES);
        }
        n = recv(socket->fd, buf, sizeof(buf), 0);
        if (n > 0) {
            str_add_bytes(&socket->in, buf, (size_t)n);
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            socket->broken = true;
        } else if (!wait) {
            *ret_line = NULL;
            return 0;
        } else if (cancel_poll(cancel, socket->fd, POLLIN, err) < 0) {
            return -1;
        }
    }
}
