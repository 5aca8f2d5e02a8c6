// SPDX-License-Identifier: Apache-2.0
/* Links of sessions between their turns. A turn takes one and gives it back, so that there are as many
 * as data threads work, however many groups there are. */
#include "base/mem.h"
#include "link/link.h"
#include "link/shaper.h"
#include "sites/estate_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define IDLE_MAX 64 /* all peers; more than data threads there can be */

static struct link *remove_at(struct estate *estate, size_t i)
{
    struct link *link = estate->links.at[i];

    estate->links.len--;
    for (; i < estate->links.len; i++)
        estate->links.at[i] = estate->links.at[i + 1];
    return link;
}

struct link *estate_links_take(struct estate *estate, const char *peer)
{
    struct link *link = NULL;

    estate_lock(estate);
    for (size_t i = estate->links.len; i-- > 0 && !link;)
        if (str_eq(link_peer(estate->links.at[i]), peer))
            link = remove_at(estate, i);
    estate_unlock(estate);
    return link;
}

void estate_links_give(struct estate *estate, struct link *link)
{
    struct link *oldest = NULL;

    estate_lock(estate);
    *estate_links_push(&estate->links) = link;
    if (estate->links.len > IDLE_MAX)
        oldest = remove_at(estate, 0);
    estate_unlock(estate);
    link_close(oldest);
}

void estate_links_drop(struct estate *estate, const char *peer)
{
    struct estate_links gone = VEC_EMPTY;

    estate_lock(estate);
    for (size_t i = estate->links.len; i-- > 0;)
        if (!peer || str_eq(link_peer(estate->links.at[i]), peer))
            *estate_links_push(&gone) = remove_at(estate, i);
    estate_unlock(estate);
    VEC_FOREACH(link, &gone)
        link_close(*link);
    estate_links_free(&gone);
}

struct shaper *estate_shaper(struct estate *estate, const char *peer)
{
    struct shaper *shaper = NULL;

    estate_lock(estate);
    VEC_FOREACH(pair, &estate->pairs)
        if (str_eq((*pair)->peer, peer))
            shaper = (*pair)->shaper;
    if (!shaper) {
        struct estate_pair *pair = mem_new(struct estate_pair);
        (void)snprintf(pair->peer, sizeof(pair->peer), "%s", peer);
        shaper = pair->shaper = shaper_new(estate->config.clock);
        *estate_pairs_push(&estate->pairs) = pair;
    }
    estate_unlock(estate);
    return shaper;
}

void estate_pairs_done(struct estate *estate)
{
    VEC_FOREACH(pair, &estate->pairs) {
        shaper_free((*pair)->shaper);
        free(*pair);
    }
    estate_pairs_free(&estate->pairs);
}
