// SPDX-License-Identifier: Apache-2.0
/* A few threads that do jobs side by side, and give them back in the order they were handed out: for
 * work on many pieces of data whose results must go on in their order. The owner, one thread, submits
 * and takes; a job is the crew's in between, and no memory of it is freed before crew_free. Jobs
 * neither wait for each other nor take the owner's locks. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct crew_job {
    void (*run)(struct crew_job *job); /* on a thread of the crew */
    bool done;                         /* the crew's */
};

struct crew;
/* `threads` at least 1; at most `jobs` are with the crew at a time. The threads' priority is that of
 * the caller. */
struct crew *crew_new(unsigned threads, size_t jobs);
/* Waits for the jobs that were begun; those that were not are dropped. NULL is fine. */
void crew_free(struct crew *crew);
void crew_freep(struct crew **crew);

/* There must be room: see crew_is_full. */
void crew_submit(struct crew *crew, struct crew_job *job);
bool crew_is_full(const struct crew *crew);
/* The oldest job, when it is done; waits for that. NULL: none is with the crew. */
struct crew_job *crew_take(struct crew *crew);
