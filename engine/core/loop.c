// SPDX-License-Identifier: Apache-2.0
/* One turn: wait, descriptors, due timers, posts, turn end. What a callback adds to the posts is
 * taken by the next turn, so that descriptors and timers get their share whatever is posted.
 * An epoll event carries descriptor and serial number of its watch: an event of the same batch
 * for a descriptor that was unwatched (and perhaps watched anew) finds another serial. */
#include "core/loop.h"

#include "base/mem.h"
#include "base/vec.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_PER_TURN 64
/* A clock that is moved by hand wakes nobody, so it is looked at this often (real time). */
#define FAKE_SLICE_MS 2

struct watch {
    loop_fd_fn *fn; /* NULL: not watched */
    void *ctx;
    uint32_t serial;
};
VEC_DEFINE(watches, struct watch) /* by descriptor */

struct timer {
    int64_t due_ms;
    uint64_t id;
    loop_fn *fn;
    void *ctx;
};
VEC_DEFINE(timers, struct timer) /* ascending by due_ms, then id */

struct post {
    loop_fn *fn; /* NULL: forgotten */
    void *ctx;
};
VEC_DEFINE(posts, struct post)

struct loop {
    struct clock *clock;
    int epoll_fd;
    int wake_fd;
    bool stopped;
    struct watches watches;
    uint32_t last_serial;
    struct timers timers;
    uint64_t last_timer;
    loop_fn *turn_end;
    void *turn_end_ctx;
    struct posts running; /* this turn's; the loop thread's */
    pthread_mutex_t lock; /* guards `posted` */
    struct posts posted;
};

static void drain_wake(void *ctx, uint32_t events)
{
    const struct loop *loop = ctx;
    uint64_t count;

    (void)events;
    if (read(loop->wake_fd, &count, sizeof(count)) < 0)
        assert(errno == EAGAIN || errno == EINTR);
}

struct loop *loop_new(struct clock *clock)
{
    struct loop *loop = mem_new(struct loop);

    loop->clock = clock;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 || pthread_mutex_init(&loop->lock, NULL) != 0)
        abort(); /* as without memory: the supervisor restarts us */
    loop_watch(loop, loop->wake_fd, EPOLLIN, drain_wake, loop);
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    (void)close(loop->epoll_fd);
    (void)close(loop->wake_fd);
    (void)pthread_mutex_destroy(&loop->lock);
    watches_free(&loop->watches);
    timers_free(&loop->timers);
    posts_free(&loop->running);
    posts_free(&loop->posted);
    free(loop);
}

struct clock *loop_clock(const struct loop *loop)
{
    return loop->clock;
}

void loop_watch(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *ctx)
{
    assert(fd >= 0 && fn);
    while (loop->watches.len <= (size_t)fd)
        (void)watches_push(&loop->watches);
    struct watch *watch = &loop->watches.at[fd];
    bool known = watch->fn != NULL;
    *watch = (struct watch){fn, ctx, known ? watch->serial : ++loop->last_serial};
    struct epoll_event event = {
        .events = events,
        .data.u64 = (uint64_t)watch->serial << 32 | (uint32_t)fd,
    };
    if (epoll_ctl(loop->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
        abort(); /* not a descriptor that can be waited for: our own mistake */
}

void loop_unwatch(struct loop *loop, int fd)
{
    if (fd < 0 || (size_t)fd >= loop->watches.len || !loop->watches.at[fd].fn)
        return;
    loop->watches.at[fd].fn = NULL;
    (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

uint64_t loop_timer(struct loop *loop, int64_t after_ms, loop_fn *fn, void *ctx)
{
    struct timers *timers = &loop->timers;
    struct timer timer = {.id = ++loop->last_timer, .fn = fn, .ctx = ctx};

    if (__builtin_add_overflow(loop->clock->now_ms(loop->clock), after_ms > 0 ? after_ms : 0,
                               &timer.due_ms))
        timer.due_ms = INT64_MAX;
    (void)timers_push(timers);
    size_t i = timers->len - 1;
    for (; i > 0 && timers->at[i - 1].due_ms > timer.due_ms; i--)
        timers->at[i] = timers->at[i - 1];
    timers->at[i] = timer;
    return timer.id;
}

static void timer_remove(struct timers *timers, size_t i)
{
    memmove(&timers->at[i], &timers->at[i + 1], (timers->len - i - 1) * sizeof(timers->at[0]));
    timers->len--;
}

void loop_timer_cancel(struct loop *loop, uint64_t id)
{
    for (size_t i = 0; i < loop->timers.len; i++)
        if (loop->timers.at[i].id == id) {
            timer_remove(&loop->timers, i);
            return;
        }
}

void loop_post(struct loop *loop, loop_fn *fn, void *ctx)
{
    uint64_t one = 1;

    (void)pthread_mutex_lock(&loop->lock);
    *posts_push(&loop->posted) = (struct post){fn, ctx};
    (void)pthread_mutex_unlock(&loop->lock);
    if (write(loop->wake_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN || errno == EINTR); /* the counter is full: it wakes anyway */
}

static void forget_posts(struct posts *posts, const void *ctx)
{
    VEC_FOREACH(post, posts)
        if (post->ctx == ctx)
            post->fn = NULL;
}

void loop_forget(struct loop *loop, const void *ctx)
{
    forget_posts(&loop->running, ctx);
    (void)pthread_mutex_lock(&loop->lock);
    forget_posts(&loop->posted, ctx);
    (void)pthread_mutex_unlock(&loop->lock);
    for (size_t i = loop->timers.len; i > 0; i--)
        if (loop->timers.at[i - 1].ctx == ctx)
            timer_remove(&loop->timers, i - 1);
}

void loop_set_turn_end(struct loop *loop, loop_fn *fn, void *ctx)
{
    loop->turn_end = fn;
    loop->turn_end_ctx = ctx;
}

static bool run_events(struct loop *loop, const struct epoll_event *events, int count)
{
    bool ran = false;

    for (int i = 0; i < count; i++) {
        uint32_t fd = (uint32_t)events[i].data.u64;
        uint32_t serial = (uint32_t)(events[i].data.u64 >> 32);
        const struct watch watch = loop->watches.at[fd];
        if (!watch.fn || watch.serial != serial)
            continue;
        watch.fn(watch.ctx, events[i].events);
        ran = ran || (int)fd != loop->wake_fd;
    }
    return ran;
}

/* Timers that a callback sets for now wait for the next turn. */
static bool run_timers(struct loop *loop)
{
    int64_t now = loop->clock->now_ms(loop->clock);
    uint64_t newest = loop->last_timer;
    bool ran = false;

    for (size_t i = 0; i < loop->timers.len && loop->timers.at[i].due_ms <= now;) {
        struct timer timer = loop->timers.at[i];
        if (timer.id > newest) {
            i++;
            continue;
        }
        timer_remove(&loop->timers, i);
        timer.fn(timer.ctx);
        ran = true;
        i = 0; /* the callback may have set and cancelled others */
    }
    return ran;
}

static bool run_posts(struct loop *loop)
{
    bool ran = false;

    posts_clear(&loop->running);
    (void)pthread_mutex_lock(&loop->lock);
    struct posts taken = loop->posted;
    loop->posted = loop->running;
    loop->running = taken;
    (void)pthread_mutex_unlock(&loop->lock);
    for (size_t i = 0; i < loop->running.len; i++) {
        struct post post = loop->running.at[i];
        if (!post.fn)
            continue;
        post.fn(post.ctx);
        ran = true;
    }
    posts_clear(&loop->running);
    return ran;
}

static bool has_posts(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->lock);
    bool some = loop->posted.len > 0;
    (void)pthread_mutex_unlock(&loop->lock);
    return some;
}

/* How long to wait, at most `left_ms`, so that no timer, post or move of a fake clock is missed. */
static int wait_ms(struct loop *loop, int64_t left_ms)
{
    if (loop->timers.len > 0) {
        int64_t until = loop->timers.at[0].due_ms - loop->clock->now_ms(loop->clock);
        if (until < left_ms)
            left_ms = until;
    }
    if (loop->clock != clock_real() && left_ms > FAKE_SLICE_MS)
        left_ms = FAKE_SLICE_MS;
    if (left_ms <= 0 || has_posts(loop))
        return 0;
    return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}

bool loop_step(struct loop *loop, int64_t max_wait_ms)
{
    struct epoll_event events[EVENTS_PER_TURN];
    struct clock *real = clock_real();
    int64_t begun = real->now_ms(real);
    bool ran = false;

    for (;;) {
        int64_t left = max_wait_ms - (real->now_ms(real) - begun);
        int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, wait_ms(loop, left));
        assert(count >= 0 || errno == EINTR);
        ran = run_events(loop, events, count) || ran;
        ran = run_timers(loop) || ran;
        ran = run_posts(loop) || ran;
        if (ran || left <= 0 || loop->stopped)
            break;
    }
    if (ran && loop->turn_end)
        loop->turn_end(loop->turn_end_ctx);
    return ran;
}

void loop_run(struct loop *loop)
{
    while (!loop->stopped)
        (void)loop_step(loop, INT_MAX);
    loop->stopped = false;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}
