// SPDX-License-Identifier: Apache-2.0
#include "replica/base_frame.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

void base_frame_init(struct base_frame *frame, const struct key *group_key, const struct uuid *uuid,
                     uint64_t disk_size)
{
    frame->disk_size = disk_size;
    frame->digest_count = 0;
    frame->view = (struct frame_view){0};
    if (!frame->digester)
        frame->digester = chunk_digester_new(group_key);
    if (frame->coder && memcmp(&frame->uuid, uuid, sizeof(*uuid)) == 0)
        return;
    frame_coder_free(frame->coder);
    frame->coder = frame_coder_new(group_key, uuid, COMPRESSION_NONE);
    frame->uuid = *uuid;
}

void base_frame_done(struct base_frame *frame)
{
    frame_coder_free(frame->coder);
    digester_free(frame->digester);
    free(frame->digests);
    memset(frame, 0, sizeof(*frame));
}

static void digest_extent(struct base_frame *frame, const struct extent *extent,
                          const uint8_t *bytes)
{
    uint64_t end = extent->off + extent->len;
    uint64_t chunk = (extent->off + CHUNK_BYTES - 1) / CHUNK_BYTES;

    for (; chunk * CHUNK_BYTES < end; chunk++) {
        size_t len = chunk_len(frame->disk_size, chunk);
        if (chunk * CHUNK_BYTES + len > end)
            return;
        if (frame->digest_count == frame->digest_cap) {
            frame->digest_cap = frame->digest_cap ? 2 * frame->digest_cap : 32;
            frame->digests = mem_grow(frame->digests, frame->digest_cap, sizeof(*frame->digests));
        }
        chunk_digest(frame->digester, bytes + (chunk * CHUNK_BYTES - extent->off), len,
                     &frame->digests[frame->digest_count++]);
    }
}

int base_frame_open(struct base_frame *frame, uint64_t number, const void *bytes, size_t len,
                    struct err *err)
{
    struct frame_view view;

    if (frame_open(frame->coder, number, bytes, len, &view, err) < 0)
        return -1;
    const uint8_t *at = view.payload;
    for (size_t i = 0; i < view.extent_count; i++) {
        const struct extent *extent = &view.extents[i];
        if (extent->off > frame->disk_size || extent->len > frame->disk_size - extent->off)
            return err_set(err, ERR_CORRUPT, 0,
                           "a disk of %" PRIu64 " bytes: frame with an extent at %" PRIu64
                           " of %" PRIu64,
                           frame->disk_size, extent->off, extent->len);
        if (extent->zero)
            continue;
        digest_extent(frame, extent, at);
        at += extent->len;
    }
    frame->view = view;
    return 0;
}
