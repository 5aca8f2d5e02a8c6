// SPDX-License-Identifier: Apache-2.0
#include "core/loop.h"

#include "support/expect.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#define HOUR_MS INT64_C(3600000)

struct fixture {
    struct clock_fake clock;
    struct loop *loop;
    char said[64];
    size_t len;
};

struct word {
    struct fixture *fixture;
    char letter;
};

static void say(void *ctx)
{
    struct word *word = ctx;

    word->fixture->said[word->fixture->len++] = word->letter;
}

static int set_up(void **state)
{
    static struct fixture fixture;

    memset(&fixture, 0, sizeof(fixture));
    clock_fake_init(&fixture.clock, 1000);
    fixture.loop = loop_new(&fixture.clock.clock);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    loop_free(f->loop);
    return 0;
}

static void posts_run_in_the_order_of_posting(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};
    struct word b = {f, 'b'};

    loop_post(f->loop, say, &a);
    loop_post(f->loop, say, &b);
    loop_post(f->loop, say, &a);
    assert_true(loop_step(f->loop, 0));
    assert_string_equal(f->said, "aba");
    assert_false(loop_step(f->loop, 0));
}

static void a_timer_fires_when_the_fake_time_has_reached_it_and_not_before(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};

    assert_true(loop_timer(f->loop, 100, say, &a) > 0);
    clock_fake_advance(&f->clock, 99);
    assert_false(loop_step(f->loop, 0));
    clock_fake_advance(&f->clock, 1);
    assert_true(loop_step(f->loop, 0));
    assert_string_equal(f->said, "a");
}

static void timers_fire_by_time_then_by_age(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};
    struct word b = {f, 'b'};
    struct word c = {f, 'c'};

    (void)loop_timer(f->loop, 20, say, &a);
    (void)loop_timer(f->loop, 10, say, &b);
    (void)loop_timer(f->loop, 20, say, &c);
    clock_fake_advance(&f->clock, 1000);
    assert_true(loop_step(f->loop, 0));
    assert_string_equal(f->said, "bac");
}

static void a_cancelled_timer_never_fires(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};

    uint64_t id = loop_timer(f->loop, 1, say, &a);
    loop_timer_cancel(f->loop, id);
    loop_timer_cancel(f->loop, id);
    clock_fake_advance(&f->clock, 10);
    assert_false(loop_step(f->loop, 0));
}

static void *post_later(void *ctx)
{
    struct word *word = ctx;

    (void)usleep(5000);
    loop_post(word->fixture->loop, say, word);
    return NULL;
}

static void work_posted_by_another_thread_ends_the_waiting(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, post_later, &a), 0);
    assert_true(loop_step(f->loop, 60000));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(f->said, "a");
}

static void *move_clock(void *ctx)
{
    struct fixture *f = ctx;

    (void)usleep(5000);
    clock_fake_advance(&f->clock, HOUR_MS);
    return NULL;
}

static void a_fake_clock_moved_by_another_thread_is_seen(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};
    pthread_t thread;

    (void)loop_timer(f->loop, HOUR_MS, say, &a);
    assert_int_equal(pthread_create(&thread, NULL, move_clock, f), 0);
    assert_true(loop_step(f->loop, 60000));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(f->said, "a");
}

struct again {
    struct fixture *fixture;
    int turns;
};

static void post_again(void *ctx)
{
    struct again *again = ctx;

    again->turns++;
    loop_post(again->fixture->loop, post_again, again);
}

static void a_post_made_by_a_post_waits_for_the_next_turn(void **state)
{
    struct fixture *f = *state;
    struct again again = {f, 0};

    loop_post(f->loop, post_again, &again);
    assert_true(loop_step(f->loop, 1000));
    assert_int_equal(again.turns, 1);
    assert_true(loop_step(f->loop, 1000));
    assert_int_equal(again.turns, 2);
}

static void what_is_forgotten_does_not_run(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};
    struct word b = {f, 'b'};

    loop_post(f->loop, say, &a);
    loop_post(f->loop, say, &b);
    (void)loop_timer(f->loop, 0, say, &a);
    loop_forget(f->loop, &a);
    assert_true(loop_step(f->loop, 0));
    assert_string_equal(f->said, "b");
}

static void on_readable(void *ctx, uint32_t events)
{
    struct word *word = ctx;

    assert_true(events & EPOLLIN);
    say(word);
}

static void a_watched_descriptor_calls_until_it_is_unwatched(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    loop_watch(f->loop, fds[0], EPOLLIN, on_readable, &a);
    assert_false(loop_step(f->loop, 0));
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_true(loop_step(f->loop, 1000));
    assert_true(loop_step(f->loop, 1000));
    loop_unwatch(f->loop, fds[0]);
    assert_false(loop_step(f->loop, 0));
    assert_string_equal(f->said, "aa");
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void the_turn_end_comes_once_after_all_callbacks_of_a_turn(void **state)
{
    struct fixture *f = *state;
    struct word a = {f, 'a'};
    struct word end = {f, '.'};

    loop_set_turn_end(f->loop, say, &end);
    assert_false(loop_step(f->loop, 0));
    loop_post(f->loop, say, &a);
    loop_post(f->loop, say, &a);
    (void)loop_timer(f->loop, 0, say, &a);
    assert_true(loop_step(f->loop, 0));
    assert_string_equal(f->said, "aaa.");
}

static void stop(void *ctx)
{
    loop_stop(ctx);
}

static void run_returns_after_stop(void **state)
{
    struct fixture *f = *state;

    loop_post(f->loop, stop, f->loop);
    loop_run(f->loop);
}

#define LOOP_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOP_TEST(posts_run_in_the_order_of_posting),
        LOOP_TEST(a_timer_fires_when_the_fake_time_has_reached_it_and_not_before),
        LOOP_TEST(timers_fire_by_time_then_by_age),
        LOOP_TEST(a_cancelled_timer_never_fires),
        LOOP_TEST(work_posted_by_another_thread_ends_the_waiting),
        LOOP_TEST(a_fake_clock_moved_by_another_thread_is_seen),
        LOOP_TEST(a_post_made_by_a_post_waits_for_the_next_turn),
        LOOP_TEST(what_is_forgotten_does_not_run),
        LOOP_TEST(a_watched_descriptor_calls_until_it_is_unwatched),
        LOOP_TEST(the_turn_end_comes_once_after_all_callbacks_of_a_turn),
        LOOP_TEST(run_returns_after_stop),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
