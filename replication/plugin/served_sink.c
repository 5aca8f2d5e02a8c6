// SPDX-License-Identifier: Apache-2.0
/* The sink: what a mirror writes goes on to whoever started it, record by record (base/sink.h),
 * and is acknowledged when the receiver has. There is nothing to read back. */
#include "plugin/plugin.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/sink.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct sink {
    uint64_t size;
    pthread_mutex_t lock; /* one record and its answer at a time */
    int fd;
};

static int gone(int sys, struct err *err)
{
    return err_set(err, ERR_NET, sys ? sys : EPIPE, "the receiver of the mirror is gone");
}

static int send_all(int fd, const void *bytes, size_t len, int flags, struct err *err)
{
    const uint8_t *at = bytes;

    while (len > 0) {
        ssize_t n = send(fd, at, len, flags | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return gone(errno, err);
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

static int get_answer(int fd, struct err *err)
{
    uint8_t bytes[SINK_ANSWER_BYTES];
    uint32_t status;
    ssize_t n;

    do
        n = recv(fd, bytes, sizeof(bytes), MSG_WAITALL);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(bytes))
        return gone(n < 0 ? errno : 0, err);
    memcpy(&status, bytes, sizeof(status));
    status = le32toh(status);
    if (status != 0)
        return err_set(err, ERR_IO, (int)status, "the receiver of the mirror refused");
    return 0;
}

static int pass_on(struct sink *sink, enum sink_kind kind, uint64_t off, uint64_t len,
                   const void *bytes, struct err *err)
{
    const struct sink_record record = {kind, off, len};
    uint8_t head[SINK_RECORD_BYTES];

    sink_put(head, &record);
    (void)pthread_mutex_lock(&sink->lock);
    int rc = send_all(sink->fd, head, sizeof(head), bytes ? MSG_MORE : 0, err);
    if (rc == 0 && bytes)
        rc = send_all(sink->fd, bytes, (size_t)len, 0, err);
    if (rc == 0)
        rc = get_answer(sink->fd, err);
    (void)pthread_mutex_unlock(&sink->lock);
    return rc;
}

static uint64_t disk_size(void *disk)
{
    const struct sink *sink = disk;

    return sink->size;
}

static int disk_read(void *disk, uint64_t off, void *buf, size_t len, struct err *err)
{
    (void)disk;
    (void)off;
    (void)err;
    memset(buf, 0, len);
    return 0;
}

static int disk_write(void *disk, uint64_t off, const void *buf, size_t len, struct err *err)
{
    return pass_on(disk, SINK_DATA, off, len, buf, err);
}

static int disk_zero(void *disk, uint64_t off, uint64_t len, struct err *err)
{
    return pass_on(disk, SINK_ZERO, off, len, NULL, err);
}

static int disk_flush(void *disk, struct err *err)
{
    return pass_on(disk, SINK_FLUSH, 0, 0, NULL, err);
}

static void disk_client_left(void *disk)
{
    struct err ignored;

    /* A receiver that is gone learned it already. */
    (void)pass_on(disk, SINK_END, 0, 0, NULL, &ignored);
}

static void disk_close(void *disk)
{
    struct sink *sink = disk;

    fd_close(&sink->fd);
    (void)pthread_mutex_destroy(&sink->lock);
    free(sink);
}

static const struct disk_ops sink_ops = {
    .size = disk_size,
    .read = disk_read,
    .write = disk_write,
    .zero = disk_zero,
    .flush = disk_flush,
    .client_left = disk_client_left,
    .close = disk_close,
};

static int connect_to(const char *path, int *ret_fd, struct err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(at.sun_path))
        return err_set(err, ERR_INVALID, 0, "%s: too long for a socket", path);
    memcpy(at.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof(at)) < 0) {
        int sys = errno;
        fd_close(&fd);
        return err_set(err, ERR_NET, sys, "%s: connect", path);
    }
    *ret_fd = fd;
    return 0;
}

int served_sink_open(const struct plugin_settings *settings, const struct disk_ops **ret_ops,
                     void **ret_disk, struct err *err)
{
    int fd;

    if (connect_to(settings->socket, &fd, err) < 0)
        return -1;
    struct sink *sink = mem_new(struct sink);
    sink->size = settings->size;
    sink->fd = fd;
    (void)pthread_mutex_init(&sink->lock, NULL);
    *ret_ops = &sink_ops;
    *ret_disk = sink;
    return 0;
}
