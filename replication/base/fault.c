// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct fault {
    struct fault *next;
    char *name;
    int skip;
    int sys;
};

static struct {
    pthread_mutex_t lock;
    _Atomic int count;    /* read without the lock: 0 means nothing to look for */
    struct fault *faults; /* in the order they were armed */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void drop(struct fault **link)
{
    struct fault *fault = *link;

    *link = fault->next;
    free(fault->name);
    free(fault);
    atomic_fetch_sub(&table.count, 1);
}

void fault_arm(const char *name, int skip, int sys)
{
    struct fault *fault = mem_new(struct fault);
    struct fault **link = &table.faults;

    fault->name = mem_strdup(name);
    fault->skip = skip;
    fault->sys = sys ? sys : EIO;
    (void)pthread_mutex_lock(&table.lock);
    while (*link)
        link = &(*link)->next;
    *link = fault;
    atomic_fetch_add(&table.count, 1);
    (void)pthread_mutex_unlock(&table.lock);
}

void fault_clear(void)
{
    (void)pthread_mutex_lock(&table.lock);
    while (table.faults)
        drop(&table.faults);
    (void)pthread_mutex_unlock(&table.lock);
}

int fault_hit(const char *name)
{
    int sys = 0;

    if (atomic_load_explicit(&table.count, memory_order_relaxed) == 0)
        return 0;
    (void)pthread_mutex_lock(&table.lock);
    for (struct fault **link = &table.faults; *link;) {
        struct fault *fault = *link;

        if (strcmp(fault->name, name) == 0) {
            if (fault->skip > 0) {
                fault->skip--;
            } else if (!sys) { /* one failure per use; a second one waits for the next */
                sys = fault->sys;
                drop(link);
                continue;
            }
        }
        link = &fault->next;
    }
    (void)pthread_mutex_unlock(&table.lock);
    return sys;
}

static struct {
    pthread_once_t once;
    bool on;
    char *name; /* "*": every point */
    _Atomic long left;
    int list_fd;
} crash = {.once = PTHREAD_ONCE_INIT, .list_fd = -1};

static void crash_set(const char *spec, const char *list)
{
    if (spec && *spec) {
        const char *colon = strrchr(spec, ':');
        long nth = colon ? strtol(colon + 1, NULL, 10) : 1;

        crash.name = mem_printf("%.*s", colon ? (int)(colon - spec) : (int)strlen(spec), spec);
        atomic_init(&crash.left, nth > 0 ? nth : 1);
    }
    if (list && *list)
        crash.list_fd = open(list, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    crash.on = crash.name || crash.list_fd >= 0;
}

static void crash_read_environment(void)
{
    crash_set(getenv("MUSTER_CRASH"), getenv("MUSTER_CRASH_LIST"));
}

void crash_arm(const char *spec, const char *list)
{
    (void)pthread_once(&crash.once, crash_read_environment);
    free(crash.name);
    crash.name = NULL;
    if (crash.list_fd >= 0)
        (void)close(crash.list_fd);
    crash.list_fd = -1;
    crash_set(spec, list);
}

void crash_point(const char *name)
{
    (void)pthread_once(&crash.once, crash_read_environment);
    if (!crash.on)
        return;
    if (crash.list_fd >= 0)
        (void)dprintf(crash.list_fd, "%s\n", name);
    if (!crash.name || (strcmp(crash.name, "*") != 0 && strcmp(crash.name, name) != 0))
        return;
    if (atomic_fetch_sub(&crash.left, 1) != 1)
        return;
    (void)kill(getpid(), SIGKILL);
    for (;;)
        (void)pause();
}
