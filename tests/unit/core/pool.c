// SPDX-License-Identifier: Apache-2.0
#include "core/pool.h"

#include "base/background.h"
#include "base/mem.h"
#include "support/expect.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

struct test_job {
    struct pool_job base;
    struct pool *pool;
    pthread_t ran_on;
    atomic_int *running;
    atomic_int *most; /* at once */
    int *done;
    int again; /* submit that many more when done */
};

static void run(struct pool_job *base)
{
    struct test_job *job = (struct test_job *)base;

    job->ran_on = pthread_self();
    int now = atomic_fetch_add(job->running, 1) + 1;
    int most = atomic_load(job->most);
    while (now > most && !atomic_compare_exchange_weak(job->most, &most, now)) {
    }
    if (base->cancel)
        assert_int_equal(cancel_poll(base->cancel, -1, 0, NULL), -1);
    (void)atomic_fetch_sub(job->running, 1);
}

static void done(struct pool_job *base)
{
    struct test_job *job = (struct test_job *)base;

    (*job->done)++;
    if (job->again > 0) {
        job->again--;
        pool_submit(job->pool, base);
        return;
    }
    cancel_free(base->cancel);
    free(job);
}

struct fixture {
    struct loop *loop;
    struct pool *pool;
    atomic_int running;
    atomic_int most;
    int done;
};

static void set_up(struct fixture *f, unsigned threads)
{
    memset(f, 0, sizeof(*f));
    f->loop = loop_new(clock_real());
    f->pool = threads ? pool_new(f->loop, threads) : pool_new_inline(f->loop);
}

static struct test_job *new_job(struct fixture *f, bool waits)
{
    struct test_job *job = mem_new(struct test_job);

    *job = (struct test_job){.base = {.run = run, .done = done},
                             .pool = f->pool,
                             .running = &f->running,
                             .most = &f->most,
                             .done = &f->done};
    if (waits)
        job->base.cancel = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    return job;
}

static void run_loop_until_idle(struct fixture *f)
{
    while (pool_busy(f->pool) > 0)
        (void)loop_step(f->loop, 1000);
}

static void tear_down(struct fixture *f)
{
    pool_free(f->pool);
    loop_free(f->loop);
}

static void the_end_of_a_job_comes_by_the_loop(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 2);
    pool_submit(f.pool, &new_job(&f, false)->base);
    assert_int_equal(f.done, 0);
    run_loop_until_idle(&f);
    assert_int_equal(f.done, 1);
    tear_down(&f);
}

static void no_more_jobs_run_at_once_than_there_are_threads(void **state)
{
    struct fixture f;
    struct cancel *cancels[8];

    (void)state;
    set_up(&f, 3);
    for (size_t i = 0; i < ARRAY_LEN(cancels); i++) {
        struct test_job *job = new_job(&f, true);
        cancels[i] = job->base.cancel;
        pool_submit(f.pool, &job->base);
    }
    while (atomic_load(&f.running) < 3)
        (void)loop_step(f.loop, 1);
    assert_int_equal(pool_busy(f.pool), 8);
    for (size_t i = 0; i < ARRAY_LEN(cancels); i++)
        cancel_fire(cancels[i]);
    run_loop_until_idle(&f);
    assert_int_equal(f.most, 3);
    assert_int_equal(f.done, 8);
    tear_down(&f);
}

static void a_blocked_job_does_not_hold_up_the_next_one(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 2);
    struct test_job *blocked = new_job(&f, true);
    struct cancel *cancel = blocked->base.cancel;
    pool_submit(f.pool, &blocked->base);
    pool_submit(f.pool, &new_job(&f, false)->base);
    while (f.done == 0)
        (void)loop_step(f.loop, 1000);
    cancel_fire(cancel);
    run_loop_until_idle(&f);
    assert_int_equal(f.done, 2);
    tear_down(&f);
}

static void freeing_the_pool_loses_no_job(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 1);
    for (int i = 0; i < 20; i++) {
        struct test_job *job = new_job(&f, false);
        job->again = 2;
        pool_submit(f.pool, &job->base);
    }
    pool_free(f.pool);
    assert_int_equal(f.done, 60);
    assert_false(loop_step(f.loop, 0));
    loop_free(f.loop);
}

static void an_inline_pool_runs_at_once_and_ends_by_the_loop(void **state)
{
    struct fixture f;

    (void)state;
    set_up(&f, 0);
    struct test_job *job = new_job(&f, false);
    pool_submit(f.pool, &job->base);
    assert_true(pthread_equal(job->ran_on, pthread_self()));
    assert_int_equal(f.done, 0);
    assert_int_equal(pool_busy(f.pool), 1);
    assert_true(loop_step(f.loop, 0));
    assert_int_equal(f.done, 1);
    assert_int_equal(pool_busy(f.pool), 0);
    tear_down(&f);
}

struct nice_job {
    struct pool_job base;
    int nice;
    bool done;
};

static void run_nice(struct pool_job *base)
{
    ((struct nice_job *)base)->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void done_nice(struct pool_job *base)
{
    ((struct nice_job *)base)->done = true;
}

static int nice_in(struct pool *pool, struct loop *loop)
{
    struct nice_job job = {.base = {.run = run_nice, .done = done_nice}};

    pool_submit(pool, &job.base);
    while (!job.done)
        (void)loop_step(loop, 1000);
    pool_free(pool);
    return job.nice;
}

static void the_threads_of_a_background_pool_give_way(void **state)
{
    struct loop *loop = loop_new(clock_real());
    int ordinary = nice_in(pool_new(loop, 1), loop);
    int background = nice_in(pool_new_background(loop, 1), loop);

    (void)state;
    assert_int_equal(background, ordinary + BACKGROUND_NICE > 19 ? 19 : ordinary + BACKGROUND_NICE);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_of_a_job_comes_by_the_loop),
        cmocka_unit_test(no_more_jobs_run_at_once_than_there_are_threads),
        cmocka_unit_test(a_blocked_job_does_not_hold_up_the_next_one),
        cmocka_unit_test(freeing_the_pool_loses_no_job),
        cmocka_unit_test(an_inline_pool_runs_at_once_and_ends_by_the_loop),
        cmocka_unit_test(the_threads_of_a_background_pool_give_way),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
