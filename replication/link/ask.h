// SPDX-License-Identifier: Apache-2.0
/* One question on a link of its own, asked again when its answer got lost: the peer's daemon was
 * restarted in mid-answer, and nobody can tell whether it did what was asked. So only for what may
 * be asked twice, where the second answer is the first one's. Blocks; any thread. */
#pragma once

#include "base/clock.h"
#include "link/link.h"

/* Connects to `peer` and proves both names. */
typedef int link_open_fn(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                         struct err *err);

/* How long a peer that went away in mid-answer may be away, and how often it may go. */
#define LINK_AWAY_MS  30000
#define LINK_LOST_MAX 3
#define LINK_REASK_MS 250

/* A peer that is away from the start is ERR_NET at once. `ret_reply` may be NULL; its payload is
 * dropped, its head is the caller's. */
int link_ask(link_open_fn *open, void *ctx, const char *peer, const json_t *head,
             json_t **ret_reply, struct clock *clock, struct cancel *cancel, struct err *err)
    MUST_CHECK;
