// SPDX-License-Identifier: Apache-2.0
/* A call waits twice: for the loop to run it, and for the commit of that turn. The loop goes on
 * turning until all links are gone, so a call is always answered. */
#include "daemon/daemon_internal.h"

#include <pthread.h>
#include <stdlib.h>

struct loop_call {
    struct daemon *daemon;
    struct loop_call *next;
    daemon_fn *fn;
    void *ctx;
    int result;
    struct err err;
    bool answered; /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t cond;
};

static void run(void *ctx)
{
    struct loop_call *call = ctx;

    call->result = call->fn(call->daemon, call->ctx, &call->err);
    call->next = call->daemon->calls;
    call->daemon->calls = call;
}

void daemon_calls_answer(struct daemon *daemon)
{
    while (daemon->calls) {
        struct loop_call *call = daemon->calls;
        daemon->calls = call->next;
        (void)pthread_mutex_lock(&call->lock);
        call->answered = true;
        (void)pthread_cond_signal(&call->cond);
        (void)pthread_mutex_unlock(&call->lock); /* it may be gone from here on */
    }
}

int daemon_on_loop(struct daemon *daemon, daemon_fn *fn, void *ctx, struct err *err)
{
    struct loop_call call = {.daemon = daemon, .fn = fn, .ctx = ctx};

    if (pthread_mutex_init(&call.lock, NULL) != 0 || pthread_cond_init(&call.cond, NULL) != 0)
        abort();
    loop_post(daemon->loop, run, &call);
    (void)pthread_mutex_lock(&call.lock);
    while (!call.answered)
        (void)pthread_cond_wait(&call.cond, &call.lock);
    (void)pthread_mutex_unlock(&call.lock);
    (void)pthread_cond_destroy(&call.cond);
    (void)pthread_mutex_destroy(&call.lock);
    if (call.result < 0)
        *err = call.err;
    return call.result;
}
