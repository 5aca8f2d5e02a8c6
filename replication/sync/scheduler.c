// SPDX-License-Identifier: Apache-2.0
/* All under one lock but the turns themselves. A thread takes the entry that has been due longest;
 * of those due at the same time, the one whose time was set first: so sessions that always have
 * more to do take turns. Whoever changes a due time wakes all that wait, and they look anew. */
#include "sync/scheduler.h"

#include "base/background.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#define FAKE_SLICE_MS 2 /* a clock moved by hand wakes nobody: it is looked at this often */

struct entry {
    struct session *session;
    int64_t due_ms;
    uint64_t order; /* when `due_ms` was set */
    bool busy;
    bool kicked; /* while busy: look again at once */
    bool leaving;
    struct cancel *cancel;
};

VEC_DEFINE(entries, struct entry *)

struct scheduler {
    struct clock *clock;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct entries entries;
    uint64_t order;
    bool ending;
    struct cancel *cancel; /* parent of all */
    pthread_t *threads;
    unsigned thread_count;
};

static int64_t now_of(const struct scheduler *sch)
{
    return sch->clock->now_ms(sch->clock);
}

static struct entry *find(struct scheduler *sch, const struct session *session)
{
    VEC_FOREACH(entry, &sch->entries)
        if ((*entry)->session == session)
            return *entry;
    return NULL;
}

static void set_due(struct scheduler *sch, struct entry *entry, int64_t due_ms)
{
    entry->due_ms = due_ms;
    entry->order = ++sch->order;
    (void)pthread_cond_broadcast(&sch->changed);
}

static struct entry *first_due(struct scheduler *sch)
{
    struct entry *best = NULL;

    VEC_FOREACH(at, &sch->entries) {
        struct entry *e = *at;
        if (e->busy || e->leaving || e->due_ms == CANCEL_NEVER)
            continue;
        if (!best || e->due_ms < best->due_ms
            || (e->due_ms == best->due_ms && e->order < best->order))
            best = e;
    }
    return best;
}

static void wait_until(struct scheduler *sch, const struct entry *next)
{
    bool fake = sch->clock != clock_real();
    int64_t wait = FAKE_SLICE_MS;

    if (!next) {
        (void)pthread_cond_wait(&sch->changed, &sch->lock);
        return;
    }
    if (!fake)
        wait = next->due_ms - now_of(sch);
    int64_t until = clock_real()->now_ms(clock_real()) + wait;
    const struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    (void)pthread_cond_clockwait(&sch->changed, &sch->lock, CLOCK_MONOTONIC, &when);
}

static void run(struct scheduler *sch, struct entry *entry)
{
    int64_t next;

    entry->busy = true;
    entry->kicked = false;
    (void)pthread_mutex_unlock(&sch->lock);
    session_turn(entry->session, entry->cancel, &next);
    (void)pthread_mutex_lock(&sch->lock);
    entry->busy = false;
    int64_t now = now_of(sch);
    /* Due in the past means now: a late one must not overtake those that wait longer. */
    set_due(sch, entry, entry->kicked || next < now ? now : next);
}

static void *serve(void *arg)
{
    struct scheduler *sch = arg;

    background_thread();
    (void)pthread_mutex_lock(&sch->lock);
    while (!sch->ending) {
        struct entry *next = first_due(sch);
        if (next && next->due_ms <= now_of(sch))
            run(sch, next);
        else
            wait_until(sch, next);
    }
    (void)pthread_mutex_unlock(&sch->lock);
    return NULL;
}

struct scheduler *scheduler_new(struct clock *clock, unsigned threads)
{
    struct scheduler *sch = mem_new(struct scheduler);

    sch->clock = clock;
    if (pthread_mutex_init(&sch->lock, NULL) != 0 || pthread_cond_init(&sch->changed, NULL) != 0)
        abort();
    sch->cancel = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    sch->threads = mem_new_array(pthread_t, threads);
    for (; sch->thread_count < threads; sch->thread_count++)
        if (pthread_create(&sch->threads[sch->thread_count], NULL, serve, sch) != 0)
            abort(); /* no memory */
    return sch;
}

static void entry_free(struct entry *entry)
{
    cancel_free(entry->cancel);
    free(entry);
}

void scheduler_free(struct scheduler *scheduler)
{
    if (!scheduler)
        return;
    (void)pthread_mutex_lock(&scheduler->lock);
    scheduler->ending = true;
    (void)pthread_cond_broadcast(&scheduler->changed);
    (void)pthread_mutex_unlock(&scheduler->lock);
    cancel_fire(scheduler->cancel);
    for (unsigned i = 0; i < scheduler->thread_count; i++)
        (void)pthread_join(scheduler->threads[i], NULL);
    VEC_FOREACH(entry, &scheduler->entries)
        entry_free(*entry);
    entries_free(&scheduler->entries);
    cancel_free(scheduler->cancel);
    (void)pthread_cond_destroy(&scheduler->changed);
    (void)pthread_mutex_destroy(&scheduler->lock);
    free(scheduler->threads);
    free(scheduler);
}

void scheduler_add(struct scheduler *scheduler, struct session *session)
{
    struct entry *entry = mem_new(struct entry);

    entry->session = session;
    entry->cancel = cancel_new(clock_real(), scheduler->cancel, CANCEL_NEVER);
    (void)pthread_mutex_lock(&scheduler->lock);
    *entries_push(&scheduler->entries) = entry;
    set_due(scheduler, entry, now_of(scheduler));
    (void)pthread_mutex_unlock(&scheduler->lock);
}

void scheduler_remove(struct scheduler *scheduler, struct session *session)
{
    (void)pthread_mutex_lock(&scheduler->lock);
    struct entry *entry = find(scheduler, session);
    if (entry) {
        entry->leaving = true;
        cancel_fire(entry->cancel);
        while (entry->busy)
            (void)pthread_cond_wait(&scheduler->changed, &scheduler->lock);
        for (size_t i = 0; i < scheduler->entries.len; i++)
            if (scheduler->entries.at[i] == entry)
                scheduler->entries.at[i] = scheduler->entries.at[--scheduler->entries.len];
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    if (entry)
        entry_free(entry);
}

void scheduler_kick(struct scheduler *scheduler, struct session *session)
{
    (void)pthread_mutex_lock(&scheduler->lock);
    struct entry *entry = find(scheduler, session);
    if (entry && entry->busy)
        entry->kicked = true;
    else if (entry)
        set_due(scheduler, entry, now_of(scheduler));
    (void)pthread_mutex_unlock(&scheduler->lock);
}
