// SPDX-License-Identifier: Apache-2.0
/* A queue of jobs, threads that take from it, and a list of finished ones that the loop empties.
 * An idle thread stays; there are only as many as were ever needed at once. */
#include "core/pool.h"

#include "base/background.h"
#include "base/mem.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

struct job_list {
    struct pool_job *first;
    struct pool_job *last;
};

struct pool {
    struct loop *loop;
    unsigned max_threads; /* 0: inline */
    bool background;
    pthread_t *threads;
    unsigned thread_count;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;  /* something is queued, or `ending` */
    pthread_cond_t ends;  /* something finished */
    unsigned idle;
    bool ending;
    size_t busy; /* queued, running, or finished and not done */
    struct job_list queued;
    struct job_list finished;
};

static void list_add(struct job_list *list, struct pool_job *job)
{
    job->next = NULL;
    if (list->last)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

static struct pool_job *list_take(struct job_list *list)
{
    struct pool_job *job = list->first;

    if (job) {
        list->first = job->next;
        if (!list->first)
            list->last = NULL;
    }
    return job;
}

static void lock(struct pool *pool)
{
    (void)pthread_mutex_lock(&pool->lock);
}

static void unlock(struct pool *pool)
{
    (void)pthread_mutex_unlock(&pool->lock);
}

/* On the loop: the ends of all jobs that finished. */
static void drain(void *ctx)
{
    struct pool *pool = ctx;

    lock(pool);
    for (struct pool_job *job; (job = list_take(&pool->finished));) {
        unlock(pool);
        job->done(job);
        lock(pool);
        pool->busy--;
    }
    unlock(pool);
}

static void *thread_main(void *ctx)
{
    struct pool *pool = ctx;

    if (pool->background)
        background_thread();
    lock(pool);
    for (;;) {
        struct pool_job *job = list_take(&pool->queued);
        if (job) {
            unlock(pool);
            job->run(job);
            lock(pool);
            list_add(&pool->finished, job);
            (void)pthread_cond_signal(&pool->ends);
            loop_post(pool->loop, drain, pool);
        } else if (pool->ending) {
            break;
        } else {
            pool->idle++;
            (void)pthread_cond_wait(&pool->work, &pool->lock);
            pool->idle--;
        }
    }
    unlock(pool);
    return NULL;
}

struct pool *pool_new(struct loop *loop, unsigned max_threads)
{
    struct pool *pool = mem_new(struct pool);

    assert(max_threads > 0);
    pool->loop = loop;
    pool->max_threads = max_threads;
    pool->threads = mem_new_array(pthread_t, max_threads);
    if (pthread_mutex_init(&pool->lock, NULL) != 0 || pthread_cond_init(&pool->work, NULL) != 0
        || pthread_cond_init(&pool->ends, NULL) != 0)
        abort();
    return pool;
}

struct pool *pool_new_background(struct loop *loop, unsigned max_threads)
{
    struct pool *pool = pool_new(loop, max_threads);

    pool->background = true;
    return pool;
}

struct pool *pool_new_inline(struct loop *loop)
{
    struct pool *pool = pool_new(loop, 1);

    pool->max_threads = 0;
    return pool;
}

/* Signals are the loop thread's; pool threads block them all. */
static void start_thread(struct pool *pool)
{
    sigset_t all;
    sigset_t before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&pool->threads[pool->thread_count], NULL, thread_main, pool);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pool->thread_count++;
    else if (pool->thread_count == 0)
        abort(); /* nobody would ever run the job; as without memory */
}

void pool_submit(struct pool *pool, struct pool_job *job)
{
    if (pool->max_threads == 0) {
        lock(pool);
        pool->busy++;
        unlock(pool);
        job->run(job);
        lock(pool);
        list_add(&pool->finished, job);
        unlock(pool);
        loop_post(pool->loop, drain, pool);
        return;
    }
    lock(pool);
    pool->busy++;
    list_add(&pool->queued, job);
    size_t waiting = 0;
    for (const struct pool_job *j = pool->queued.first; j; j = j->next)
        waiting++;
    if (waiting > pool->idle && pool->thread_count < pool->max_threads)
        start_thread(pool);
    (void)pthread_cond_signal(&pool->work);
    unlock(pool);
}

size_t pool_busy(struct pool *pool)
{
    lock(pool);
    size_t busy = pool->busy;
    unlock(pool);
    return busy;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    lock(pool);
    while (pool->busy > 0) {
        while (!pool->finished.first)
            (void)pthread_cond_wait(&pool->ends, &pool->lock);
        unlock(pool);
        drain(pool);
        lock(pool);
    }
    pool->ending = true;
    (void)pthread_cond_broadcast(&pool->work);
    unlock(pool);
    for (unsigned i = 0; i < pool->thread_count; i++)
        (void)pthread_join(pool->threads[i], NULL);
    loop_forget(pool->loop, pool);
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_cond_destroy(&pool->ends);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool->threads);
    free(pool);
}
