// SPDX-License-Identifier: Apache-2.0
/* A ring of jobs: [head, next) wait for a thread or are with one, taken by threads at `begun`. */
#include "base/crew.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>

struct crew {
    pthread_mutex_t lock;
    pthread_cond_t work; /* for threads: something was submitted, or it is over */
    pthread_cond_t done; /* for the owner: a job is done */
    struct crew_job **ring;
    size_t size;
    size_t head;  /* counts up: the oldest that was not taken */
    size_t begun; /* the next for a thread */
    size_t next;  /* where the next one goes; only the owner moves it and `head` */
    bool ending;
    pthread_t *threads;
    unsigned thread_count;
};

static void *work(void *arg)
{
    struct crew *crew = arg;

    (void)pthread_mutex_lock(&crew->lock);
    for (;;) {
        while (!crew->ending && crew->begun == crew->next)
            (void)pthread_cond_wait(&crew->work, &crew->lock);
        if (crew->ending)
            break;
        struct crew_job *job = crew->ring[crew->begun++ % crew->size];
        (void)pthread_mutex_unlock(&crew->lock);
        job->run(job);
        (void)pthread_mutex_lock(&crew->lock);
        job->done = true;
        if (crew->ring[crew->head % crew->size] == job)
            (void)pthread_cond_signal(&crew->done);
    }
    (void)pthread_mutex_unlock(&crew->lock);
    return NULL;
}

struct crew *crew_new(unsigned threads, size_t jobs)
{
    struct crew *crew = mem_new(struct crew);

    assert(threads > 0 && jobs > 0);
    if (pthread_mutex_init(&crew->lock, NULL) != 0 || pthread_cond_init(&crew->work, NULL) != 0
        || pthread_cond_init(&crew->done, NULL) != 0)
        abort();
    crew->size = jobs;
    crew->ring = mem_new_array(struct crew_job *, jobs);
    crew->threads = mem_new_array(pthread_t, threads);
    for (; crew->thread_count < threads; crew->thread_count++)
        if (pthread_create(&crew->threads[crew->thread_count], NULL, work, crew) != 0)
            abort(); /* no memory */
    return crew;
}

void crew_free(struct crew *crew)
{
    if (!crew)
        return;
    (void)pthread_mutex_lock(&crew->lock);
    crew->ending = true;
    (void)pthread_cond_broadcast(&crew->work);
    (void)pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < crew->thread_count; i++)
        (void)pthread_join(crew->threads[i], NULL);
    (void)pthread_cond_destroy(&crew->work);
    (void)pthread_cond_destroy(&crew->done);
    (void)pthread_mutex_destroy(&crew->lock);
    free(crew->threads);
    free(crew->ring);
    free(crew);
}

void crew_freep(struct crew **crew)
{
    crew_free(*crew);
    *crew = NULL;
}

bool crew_is_full(const struct crew *crew)
{
    return crew->next - crew->head == crew->size;
}

void crew_submit(struct crew *crew, struct crew_job *job)
{
    (void)pthread_mutex_lock(&crew->lock);
    assert(!crew_is_full(crew));
    job->done = false;
    crew->ring[crew->next++ % crew->size] = job;
    (void)pthread_cond_signal(&crew->work);
    (void)pthread_mutex_unlock(&crew->lock);
}

struct crew_job *crew_take(struct crew *crew)
{
    struct crew_job *job = NULL;

    (void)pthread_mutex_lock(&crew->lock);
    if (crew->head != crew->next) {
        job = crew->ring[crew->head % crew->size];
        while (!job->done)
            (void)pthread_cond_wait(&crew->done, &crew->lock);
        crew->head++;
    }
    (void)pthread_mutex_unlock(&crew->lock);
    return job;
}
