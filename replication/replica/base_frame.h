// SPDX-License-Identifier: Apache-2.0
/* A frame of an initial copy on its way into a store: it is opened and its chunks are digested without
 * the store, by any thread; then the store takes it (store_ops.base_put). One thread at a time. */
#pragma once

#include "replica/chunk.h"
#include "replica/frame.h"

struct base_frame {
    struct frame_coder *coder;
    struct digester *digester;
    struct uuid uuid; /* of the coder */
    uint64_t copy;    /* it belongs to (store_ops.base_begin); whoever received it says so */
    uint64_t disk_size;
    struct frame_view view;
    /* Of the chunks that lie whole in the view's data extents, in their order. */
    struct digest *digests;
    size_t digest_count;
    size_t digest_cap;
};

/* What it held before is let go; buffers and keys that fit are kept. Begin with zeros. */
void base_frame_init(struct base_frame *frame, const struct key *group_key, const struct uuid *uuid,
                     uint64_t disk_size);
void base_frame_done(struct base_frame *frame);
/* ERR_CORRUPT: those of frame_open, and extents beyond the disk. */
int base_frame_open(struct base_frame *frame, uint64_t number, const void *bytes, size_t len,
                    struct err *err) MUST_CHECK;
