// SPDX-License-Identifier: Apache-2.0
/* The receiving half: answers the "store.*" messages of a peer's session from a store. One
 * receiver serves one link, on the thread that serves that link. */
#pragma once

#include "base/cancel.h"
#include "link/link.h"
#include "replica/seed.h"
#include "replica/store.h"

#include <stdbool.h>

/* Where stores come from: the daemon keeps them open, one lock per group. */
struct receiver_host {
    void *ctx;
    /* The store of `group` for `peer`, locked for the caller until store_put. ERR_NOT_FOUND: no
     * such replica; ERR_DENIED: it is another peer's. */
    int (*store_get)(void *ctx, const char *peer, const char *group, struct store **ret_store,
                     struct err *err);
    /* `failed`: close it; it is opened (and recovers) at the next use. */
    void (*store_put)(void *ctx, const char *group, struct store *store, bool failed);
    /* The seed of that name among those for `peer`, for seed_close (replica/seed.h). May be NULL: there are
     * none here. */
    int (*seed_open)(void *ctx, const char *peer, const char *name, struct seed *ret_seed,
                     struct err *err);
};

/* True for the ops this room answers ("store.info", "store.base-frame", ...). */
bool receiver_knows(const char *op);
struct receiver;
/* One per link; keeps a copy of `host`. */
struct receiver *receiver_new(const struct receiver_host *host);
void receiver_free(struct receiver *receiver); /* NULL is fine */
/* Answers one message. -1 only when the link is broken. */
int receiver_serve(struct receiver *receiver, struct link *link, struct link_msg *msg,
                   struct cancel *cancel, struct err *err) MUST_CHECK;
