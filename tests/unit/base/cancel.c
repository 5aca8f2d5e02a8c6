// SPDX-License-Identifier: Apache-2.0
#include "base/cancel.h"

#include "base/fs.h"
#include "support/expect.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static void without_a_cancel_nothing_ends(void **state)
{
    (void)state;
    EXPECT_OK(cancel_check(NULL, &err));
    assert_false(cancel_is_fired(NULL));
    assert_true(cancel_left_ms(NULL) == CANCEL_NEVER);
    EXPECT_OK(cancel_sleep(NULL, 1, &err));
    cancel_fire(NULL);
    cancel_free(NULL);
}

static void a_fired_cancel_ends_every_call(void **state)
{
    CLEANUP(cancel_freep) struct cancel *c = cancel_new(NULL, NULL, CANCEL_NEVER);

    (void)state;
    EXPECT_OK(cancel_check(c, &err));
    cancel_fire(c);
    cancel_fire(c);
    assert_true(cancel_is_fired(c));
    EXPECT_ERR(ERR_CANCELLED, cancel_check(c, &err));
    EXPECT_ERR(ERR_CANCELLED, cancel_poll(c, -1, 0, &err));
    EXPECT_ERR(ERR_CANCELLED, cancel_sleep(c, 0, &err));
}

static void a_deadline_passes_by_the_clock_given(void **state)
{
    struct clock_fake fake;

    (void)state;
    clock_fake_init(&fake, 0);
    CLEANUP(cancel_freep) struct cancel *c = cancel_new(&fake.clock, NULL, 100);
    EXPECT_OK(cancel_check(c, &err));
    clock_fake_advance(&fake, 99);
    EXPECT_OK(cancel_check(c, &err));
    assert_int_equal(cancel_left_ms(c), 1);
    clock_fake_advance(&fake, 1);
    EXPECT_ERR(ERR_TIMEOUT, cancel_check(c, &err));
    assert_false(cancel_is_fired(c));
    assert_int_equal(cancel_left_ms(c), 0);
}

static void the_real_clock_ends_a_wait(void **state)
{
    int64_t begin = clock_real()->now_ms(clock_real()); /* first: a tick may fall in between */
    CLEANUP(cancel_freep) struct cancel *c = cancel_new(clock_real(), NULL, 15);

    (void)state;
    EXPECT_ERR(ERR_TIMEOUT, cancel_poll(c, -1, 0, &err));
    assert_true(clock_real()->now_ms(clock_real()) - begin >= 15);
}

static void a_sleep_lasts_as_long_as_it_should(void **state)
{
    CLEANUP(cancel_freep) struct cancel *c = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    int64_t begin = clock_real()->now_ms(clock_real());

    (void)state;
    EXPECT_OK(cancel_sleep(c, 15, &err));
    assert_true(clock_real()->now_ms(clock_real()) - begin >= 15);
}

static void a_descriptor_that_is_ready_ends_the_wait(void **state)
{
    CLEANUP(cancel_freep) struct cancel *c = cancel_new(NULL, NULL, 10000);
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    EXPECT_OK(cancel_poll(c, ends[0], POLLIN, &err));
    EXPECT_OK(cancel_poll(NULL, ends[0], POLLIN, &err));
    cancel_fire(c);
    EXPECT_ERR(ERR_CANCELLED, cancel_poll(c, ends[0], POLLIN, &err));
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

static void a_parent_ends_its_children_and_not_the_other_way(void **state)
{
    CLEANUP(cancel_freep) struct cancel *parent = cancel_new(NULL, NULL, CANCEL_NEVER);
    CLEANUP(cancel_freep) struct cancel *a = cancel_new(NULL, parent, CANCEL_NEVER);
    CLEANUP(cancel_freep) struct cancel *b = cancel_new(NULL, parent, CANCEL_NEVER);
    CLEANUP(cancel_freep) struct cancel *below_b = cancel_new(NULL, b, CANCEL_NEVER);

    (void)state;
    cancel_fire(a);
    assert_false(cancel_is_fired(parent));
    assert_false(cancel_is_fired(b));
    cancel_fire(parent);
    EXPECT_ERR(ERR_CANCELLED, cancel_poll(below_b, -1, 0, &err));
    CLEANUP(cancel_freep) struct cancel *late = cancel_new(NULL, parent, CANCEL_NEVER);
    EXPECT_ERR(ERR_CANCELLED, cancel_poll(late, -1, 0, &err));
}

static void the_nearest_deadline_of_the_chain_counts(void **state)
{
    struct clock_fake fake;

    (void)state;
    clock_fake_init(&fake, 0);
    CLEANUP(cancel_freep) struct cancel *parent = cancel_new(&fake.clock, NULL, 100);
    CLEANUP(cancel_freep) struct cancel *child = cancel_new(&fake.clock, parent, 500);
    assert_int_equal(cancel_left_ms(child), 100);
    clock_fake_advance(&fake, 100);
    EXPECT_ERR(ERR_TIMEOUT, cancel_check(child, &err));
}

static void a_freed_child_is_forgotten(void **state)
{
    CLEANUP(cancel_freep) struct cancel *parent = cancel_new(NULL, NULL, CANCEL_NEVER);
    struct cancel *a = cancel_new(NULL, parent, CANCEL_NEVER);
    CLEANUP(cancel_freep) struct cancel *b = cancel_new(NULL, parent, CANCEL_NEVER);

    (void)state;
    cancel_free(a);
    cancel_fire(parent);
    assert_true(cancel_is_fired(b));
}

struct sleeper {
    struct cancel *cancel;
    atomic_bool over;
    int result;
    enum err_code code;
};

static void *sleep_long(void *arg)
{
    struct sleeper *s = arg;
    struct err why = ERR_EMPTY;

    s->result = cancel_sleep(s->cancel, 3600000, &why);
    s->code = why.code;
    atomic_store(&s->over, true);
    return NULL;
}

static void another_thread_wakes_a_sleeper(void **state)
{
    CLEANUP(cancel_freep) struct cancel *parent = cancel_new(NULL, NULL, CANCEL_NEVER);
    CLEANUP(cancel_freep) struct cancel *child = cancel_new(NULL, parent, CANCEL_NEVER);
    struct sleeper s = {.cancel = child};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, sleep_long, &s), 0);
    cancel_fire(parent);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.result, -1);
    assert_int_equal(s.code, ERR_CANCELLED);
}

static void a_sleeper_sees_a_fake_clock_move(void **state)
{
    struct clock_fake fake;
    pthread_t thread;

    (void)state;
    clock_fake_init(&fake, 0);
    CLEANUP(cancel_freep) struct cancel *c = cancel_new(&fake.clock, NULL, CANCEL_NEVER);
    struct sleeper s = {.cancel = c};
    assert_int_equal(pthread_create(&thread, NULL, sleep_long, &s), 0);
    while (!atomic_load(&s.over)) {
        clock_fake_advance(&fake, 1800000);
        EXPECT_OK(cancel_sleep(NULL, 1, &err));
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.result, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_cancel_nothing_ends),
        cmocka_unit_test(a_fired_cancel_ends_every_call),
        cmocka_unit_test(a_deadline_passes_by_the_clock_given),
        cmocka_unit_test(the_real_clock_ends_a_wait),
        cmocka_unit_test(a_sleep_lasts_as_long_as_it_should),
        cmocka_unit_test(a_descriptor_that_is_ready_ends_the_wait),
        cmocka_unit_test(a_parent_ends_its_children_and_not_the_other_way),
        cmocka_unit_test(the_nearest_deadline_of_the_chain_counts),
        cmocka_unit_test(a_freed_child_is_forgotten),
        cmocka_unit_test(another_thread_wakes_a_sleeper),
        cmocka_unit_test(a_sleeper_sees_a_fake_clock_move),
    };
    return cmocka_run_group_tests_name("cancel", tests, NULL, NULL);
}
