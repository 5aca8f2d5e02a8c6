// SPDX-License-Identifier: Apache-2.0
/* What the parts of the receiver share: receiver.c, receiver_copy.c. */
#pragma once

#include "replica/store.h"

/* After these the store's files and what it has in memory may differ; opening it recovers. */
bool receiver_leaves_doubt(enum err_code code);
/* A side that was promoted over may still have requests under way, which knew nothing of it. (The
 * store itself checks `base-begin`, which may raise the generation, and each manifest.) ERR_FENCED. */
int receiver_check_generation(struct store *store, uint64_t generation, const char *group,
                              struct err *err) MUST_CHECK;
