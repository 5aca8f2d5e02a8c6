// SPDX-License-Identifier: Apache-2.0
/* Two ends in memory. Each direction is a ring; whoever finds it empty (or full) clears the
 * event that will tell him otherwise while he holds the lock, and polls that: so a wake-up
 * cannot be lost, and the wait ends with the caller's cancel. */
#include "link/transport.h"

#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct ring {
    pthread_mutex_t lock;
    uint8_t *bytes;
    size_t cap;
    size_t start;
    size_t len;
    bool closed; /* by either end */
    int readable;
    int writable;
};

struct pipes {
    struct ring ring[2];
    atomic_int ends;
};

struct pair_end {
    struct transport transport;
    struct pipes *pipes;
    struct ring *out;
    struct ring *in;
};

static int event_new(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        abort();
    return fd;
}

static void event_raise(int fd)
{
    uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        abort();
}

static void event_clear(int fd)
{
    uint64_t count;

    if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        abort();
}

static size_t ring_put(struct ring *r, const uint8_t *bytes, size_t len)
{
    size_t room = r->cap - r->len;
    size_t n = len < room ? len : room;

    for (size_t done = 0; done < n;) {
        size_t at = (r->start + r->len) % r->cap;
        size_t run = r->cap - at < n - done ? r->cap - at : n - done;
        memcpy(r->bytes + at, bytes + done, run);
        r->len += run;
        done += run;
    }
    return n;
}

static size_t ring_get(struct ring *r, uint8_t *bytes, size_t len)
{
    size_t n = len < r->len ? len : r->len;

    for (size_t done = 0; done < n;) {
        size_t run = r->cap - r->start < n - done ? r->cap - r->start : n - done;
        memcpy(bytes + done, r->bytes + r->start, run);
        r->start = (r->start + run) % r->cap;
        r->len -= run;
        done += run;
    }
    return n;
}

static int pair_write(struct transport *transport, const void *bytes, size_t len,
                      struct cancel *cancel, struct err *err)
{
    struct ring *r = ((struct pair_end *)(void *)transport)->out;
    const uint8_t *at = bytes;

    while (len > 0) {
        (void)pthread_mutex_lock(&r->lock);
        bool closed = r->closed;
        size_t n = closed ? 0 : ring_put(r, at, len);
        if (n > 0)
            event_raise(r->readable);
        else
            event_clear(r->writable);
        (void)pthread_mutex_unlock(&r->lock);
        if (closed)
            return err_set(err, ERR_NET, 0, "closed by the peer");
        at += n;
        len -= n;
        if (n == 0 && cancel_poll(cancel, r->writable, POLLIN, err) < 0)
            return -1;
    }
    return 0;
}

static int pair_read(struct transport *transport, void *bytes, size_t len, struct cancel *cancel,
                     struct err *err)
{
    struct ring *r = ((struct pair_end *)(void *)transport)->in;
    uint8_t *at = bytes;

    while (len > 0) {
        (void)pthread_mutex_lock(&r->lock);
        size_t n = ring_get(r, at, len);
        bool closed = n == 0 && r->closed;
        if (n > 0)
            event_raise(r->writable);
        else if (!closed)
            event_clear(r->readable);
        (void)pthread_mutex_unlock(&r->lock);
        if (closed)
            return err_set(err, ERR_NET, 0, "closed by the peer");
        at += n;
        len -= n;
        if (n == 0 && cancel_poll(cancel, r->readable, POLLIN, err) < 0)
            return -1;
    }
    return 0;
}

static void pair_close(struct transport *transport)
{
    struct pair_end *end = (struct pair_end *)(void *)transport;
    struct pipes *pipes = end->pipes;

    free(end);
    for (size_t i = 0; i < 2; i++) {
        struct ring *r = &pipes->ring[i];
        (void)pthread_mutex_lock(&r->lock);
        r->closed = true;
        event_raise(r->readable);
        event_raise(r->writable);
        (void)pthread_mutex_unlock(&r->lock);
    }
    if (atomic_fetch_sub(&pipes->ends, 1) > 1)
        return;
    for (size_t i = 0; i < 2; i++) {
        struct ring *r = &pipes->ring[i];
        (void)pthread_mutex_destroy(&r->lock);
        (void)close(r->readable);
        (void)close(r->writable);
        free(r->bytes);
    }
    free(pipes);
}

static struct transport *end_new(struct pipes *pipes, size_t out)
{
    struct pair_end *end = mem_new(struct pair_end);

    end->transport.write = pair_write;
    end->transport.read = pair_read;
    end->transport.close = pair_close;
    end->pipes = pipes;
    end->out = &pipes->ring[out];
    end->in = &pipes->ring[1 - out];
    return &end->transport;
}

void transport_pair(size_t window, struct transport **ret_a, struct transport **ret_b)
{
    struct pipes *pipes = mem_new(struct pipes);

    for (size_t i = 0; i < 2; i++) {
        struct ring *r = &pipes->ring[i];
        if (pthread_mutex_init(&r->lock, NULL) != 0)
            abort();
        r->bytes = mem_alloc(window, 1);
        r->cap = window;
        r->readable = event_new();
        r->writable = event_new();
    }
    atomic_init(&pipes->ends, 2);
    *ret_a = end_new(pipes, 0);
    *ret_b = end_new(pipes, 1);
}
