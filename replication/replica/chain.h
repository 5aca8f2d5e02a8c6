// SPDX-License-Identifier: Apache-2.0
/* The chain page: what a store tells the views of its points, in a small file that both map. It
 * holds a sequence number, the point head is at, and the points that have undo files, oldest to
 * newest. The store publishes a new list before it does what the list announces; a view looks at
 * the sequence before and after reading head. The page is no truth of its own: opening a store
 * writes it anew, in the same file, with the sequence going on, so that views that live through a
 * restart of the daemon stay right. One writer; any number of readers, threads or processes. */
#pragma once

#include "base/err.h"
#include "base/fs.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>

#define CHAIN_FILE       "chain"
#define CHAIN_POINTS_MAX 16384U
#define CHAIN_GONE       (UINT64_C(1) << 63) /* an undo file whose point is not kept any more */

VEC_DEFINE(chain_points, uint64_t)

struct chain;
/* For the store; made when missing. */
int chain_open(struct fs *fs, const char *dir, struct chain **ret_chain, struct err *err)
    MUST_CHECK;
/* `head`: the point head holds, 0 while it is between points. At most CHAIN_POINTS_MAX, those that
 * only have a file left with CHAIN_GONE. What is
 * written to head after the call, no reader takes for what was there before. */
void chain_publish(struct chain *chain, uint64_t head, const struct chain_points *points);

/* No view of a point up to `last` is open, and none is opened until chain_unlock: what their files
 * hold may be moved. False: there is one. */
bool chain_lock(struct chain *chain, uint64_t last);
void chain_unlock(struct chain *chain, uint64_t last);

/* For views. ERR_NOT_FOUND: no such file; ERR_STATE: nobody opened the store since this system
 * started, so the page may be older than head. */
int chain_map(const char *dir, struct chain **ret_chain, struct err *err) MUST_CHECK;
/* Files at `point` and after it stay as they are from now on, until the page is freed. Waits while a
 * store moves some, which takes moments. */
int chain_hold(struct chain *chain, uint64_t point, struct err *err) MUST_CHECK;
/* The sequence now; all that was read before the call happened before it. */
uint64_t chain_seq(const struct chain *chain);
/* One consistent list and its sequence. */
void chain_read(const struct chain *chain, uint64_t *ret_seq, uint64_t *ret_head,
                struct chain_points *ret_points);

void chain_free(struct chain *chain);
void chain_freep(struct chain **chain);
