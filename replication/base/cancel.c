// SPDX-License-Identifier: Apache-2.0
/* Firing sets the flag and makes the eventfd readable, for this cancel and, under the lock of
 * each, for all below it; locks are taken from parent to child only. Deadlines are not handed
 * down: a child asks its whole chain, since each link may have a clock of its own. */
#include "base/cancel.h"

#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A clock that is moved by hand wakes nobody, so it is looked at this often (real time). */
#define FAKE_SLICE_MS 2

struct cancel {
    struct clock *clock;
    struct cancel *parent;
    int64_t deadline_ms; /* by `clock`; CANCEL_NEVER */
    atomic_bool fired;
    int wake_fd;
    pthread_mutex_t lock; /* guards `children` and their `sibling` */
    struct cancel *children;
    struct cancel *sibling;
};

struct cancel *cancel_new(struct clock *clock, struct cancel *parent, int64_t within_ms)
{
    struct cancel *c = mem_new(struct cancel);

    c->clock = clock ? clock : clock_real();
    c->parent = parent;
    c->deadline_ms = CANCEL_NEVER;
    if (within_ms != CANCEL_NEVER
        && __builtin_add_overflow(c->clock->now_ms(c->clock), within_ms, &c->deadline_ms))
        c->deadline_ms = CANCEL_NEVER;
    atomic_init(&c->fired, false);
    c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->wake_fd < 0 || pthread_mutex_init(&c->lock, NULL) != 0)
        abort(); /* as without memory: the supervisor restarts us */
    if (parent) {
        (void)pthread_mutex_lock(&parent->lock);
        c->sibling = parent->children;
        parent->children = c;
        bool fired = atomic_load(&parent->fired);
        (void)pthread_mutex_unlock(&parent->lock);
        if (fired)
            cancel_fire(c);
    }
    return c;
}

void cancel_free(struct cancel *cancel)
{
    if (!cancel)
        return;
    if (cancel->parent) {
        (void)pthread_mutex_lock(&cancel->parent->lock);
        struct cancel **link = &cancel->parent->children;
        while (*link != cancel)
            link = &(*link)->sibling;
        *link = cancel->sibling;
        (void)pthread_mutex_unlock(&cancel->parent->lock);
    }
    assert(!cancel->children);
    (void)pthread_mutex_destroy(&cancel->lock);
    (void)close(cancel->wake_fd);
    free(cancel);
}

void cancel_freep(struct cancel **cancel)
{
    cancel_free(*cancel);
    *cancel = NULL;
}

void cancel_fire(struct cancel *cancel)
{
    if (!cancel)
        return;
    (void)pthread_mutex_lock(&cancel->lock);
    if (!atomic_exchange(&cancel->fired, true)) {
        uint64_t one = 1;
        if (write(cancel->wake_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
            abort(); /* cannot be: the counter was 0 */
        for (struct cancel *c = cancel->children; c; c = c->sibling)
            cancel_fire(c);
    }
    (void)pthread_mutex_unlock(&cancel->lock);
}

bool cancel_is_fired(const struct cancel *cancel)
{
    return cancel && atomic_load(&cancel->fired);
}

int64_t cancel_left_ms(const struct cancel *cancel)
{
    int64_t least = CANCEL_NEVER;

    for (; cancel; cancel = cancel->parent) {
        if (cancel->deadline_ms == CANCEL_NEVER)
            continue;
        int64_t left = cancel->deadline_ms - cancel->clock->now_ms(cancel->clock);
        if (left < 0)
            left = 0;
        if (left < least)
            least = left;
    }
    return least;
}

int cancel_check(struct cancel *cancel, struct err *err)
{
    if (cancel_is_fired(cancel))
        return err_set(err, ERR_CANCELLED, 0, "cancelled");
    if (cancel_left_ms(cancel) <= 0)
        return err_set(err, ERR_TIMEOUT, 0, "timed out");
    return 0;
}

/* How long poll may sleep so that no deadline and no move of a fake clock is missed. */
static int poll_ms(const struct cancel *cancel, int64_t left_ms)
{
    for (const struct cancel *c = cancel; c; c = c->parent)
        if (c->clock != clock_real() && left_ms > FAKE_SLICE_MS)
            left_ms = FAKE_SLICE_MS;
    if (left_ms == CANCEL_NEVER)
        return -1;
    return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}

int cancel_poll(struct cancel *cancel, int fd, short events, struct err *err)
{
    struct pollfd fds[2] = {
        {.fd = fd, .events = events},
        {.fd = cancel ? cancel->wake_fd : -1, .events = POLLIN},
    };

    assert(fd >= 0 || cancel);
    for (;;) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        int n = poll(fds, 2, poll_ms(cancel, cancel_left_ms(cancel)));
        if (n < 0 && errno != EINTR)
            return err_set(err, ERR_IO, errno, "poll");
        if (n > 0 && fds[0].revents && !fds[1].revents)
            return 0;
    }
}

int cancel_sleep(struct cancel *cancel, int64_t ms, struct err *err)
{
    struct clock *clock = cancel ? cancel->clock : clock_real();
    struct pollfd wake = {.fd = cancel ? cancel->wake_fd : -1, .events = POLLIN};
    int64_t until;

    if (__builtin_add_overflow(clock->now_ms(clock), ms, &until))
        until = INT64_MAX;
    for (;;) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        int64_t left = until - clock->now_ms(clock);
        if (left <= 0)
            return 0;
        int64_t ends = cancel_left_ms(cancel);
        if (poll(&wake, 1, poll_ms(cancel, left < ends ? left : ends)) < 0 && errno != EINTR)
            return err_set(err, ERR_IO, errno, "poll");
    }
}
