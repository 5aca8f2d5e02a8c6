// SPDX-License-Identifier: Apache-2.0
/* A fixed number of data threads serves any number of sessions; the one due first goes first,
 * and a session is in one thread at a time. */
#pragma once

#include "sync/session.h"

struct scheduler;
struct scheduler *scheduler_new(struct clock *clock, unsigned threads);
/* Fires the cancel of running turns, waits for them, ends the threads. Sessions stay the
 * caller's. */
void scheduler_free(struct scheduler *scheduler);
void scheduler_add(struct scheduler *scheduler, struct session *session);
/* Returns when no thread is in this session any more. */
void scheduler_remove(struct scheduler *scheduler, struct session *session);
/* Something changed (retry, resume, an interval): look at this session now. */
void scheduler_kick(struct scheduler *scheduler, struct session *session);
