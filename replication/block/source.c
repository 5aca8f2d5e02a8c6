// SPDX-License-Identifier: Apache-2.0
#include "block/source.h"

#include <stdlib.h>
#include <string.h>

void source_close(struct source *source)
{
    if (source)
        source->ops->close(source);
}

void source_closep(struct source **source)
{
    source_close(*source);
    *source = NULL;
}

int source_track_from(struct source *source, uint64_t serial, const struct source_marks *marks,
                      size_t count, struct cancel *cancel, struct err *err)
{
    if (!source->ops->track_from)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "nothing keeps track of changes there: no running machine has these disks");
    return source->ops->track_from(source, serial, marks, count, cancel, err);
}

int source_pending(struct source *source, uint64_t *ret_bytes, size_t count, struct cancel *cancel,
                   struct err *err)
{
    memset(ret_bytes, 0, count * sizeof(*ret_bytes));
    if (source->ops->pending_disks)
        return source->ops->pending_disks(source, ret_bytes, cancel, err);
    return count ? source->ops->pending(source, ret_bytes, cancel, err) : 0;
}

/* --- Extents ------------------------------------------------------------------------------- */

uint64_t source_extents_bytes(const struct source_extents *extents)
{
    uint64_t bytes = 0;

    VEC_FOREACH(extent, extents)
        bytes += extent->len;
    return bytes;
}

static int by_offset(const void *a, const void *b)
{
    const struct source_extent *x = a;
    const struct source_extent *y = b;

    return x->off < y->off ? -1 : x->off > y->off;
}

void source_extents_unite(struct source_extents *to, const struct source_extents *more)
{
    size_t kept = 0;

    VEC_FOREACH(extent, more)
        *source_extents_push(to) = *extent;
    if (to->len == 0)
        return;
    qsort(to->at, to->len, sizeof(*to->at), by_offset);
    for (size_t i = 1; i < to->len; i++) {
        struct source_extent *last = &to->at[kept];
        uint64_t end = to->at[i].off + to->at[i].len;

        if (to->at[i].off > last->off + last->len)
            to->at[++kept] = to->at[i];
        else if (end > last->off + last->len)
            last->len = end - last->off;
    }
    to->len = kept + 1;
}
