// SPDX-License-Identifier: Apache-2.0
/* Frames: many extents of one disk and at most 1 MiB of their payload, compressed and sealed.
 * Segments are made of them, and the initial copy sends them one by one; the bytes are the same.
 * The format stands in frame.c. A coder is used by one thread at a time. */
#pragma once

#include "base/crypto.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_PAYLOAD_MAX ((size_t)1024 * 1024)
#define FRAME_EXTENTS_MAX ((size_t)4096)
/* No sealed frame is longer: header + extents + payload that did not compress + tag. */
#define FRAME_SEALED_MAX (FRAME_PAYLOAD_MAX + FRAME_EXTENTS_MAX * 24 + 4096)

enum compression { COMPRESSION_NONE, COMPRESSION_ZSTD, COMPRESSION_LZ4 };

struct extent {
    uint64_t off; /* bytes; multiples of 512 */
    uint64_t len;
    bool zero; /* reads as zeros; has no payload */
};

struct frame_coder;
/* The sealing key is derived from the group's key and `uuid`; (uuid, number) never seals twice. */
struct frame_coder *frame_coder_new(const struct key *group_key, const struct uuid *uuid,
                                    enum compression compression);
/* How the frames that it seals from now on are compressed; `level` is zstd's, 1 to 19. What does not
 * get smaller by a sixteenth at least is stored as it is. */
#define FRAME_ZSTD_LEVEL 1
void frame_coder_set(struct frame_coder *coder, enum compression compression, int level);
void frame_coder_free(struct frame_coder *coder);
void frame_coder_freep(struct frame_coder **coder);

/* Seals frame `number`. `payload` holds the data extents' bytes one after the other. `ret_frame`
 * has room for FRAME_SEALED_MAX; `ret_len` is what was used. */
void frame_seal(struct frame_coder *coder, uint64_t number, const struct extent *extents,
                size_t extent_count, const void *payload, size_t payload_len, void *ret_frame,
                size_t *ret_len);

/* Bytes of the sealed frame that begins here, told from its first FRAME_HEADER_BYTES; 0 when these
 * are not the beginning of a frame. At most FRAME_SEALED_MAX. */
#define FRAME_HEADER_BYTES 32U
size_t frame_sealed_len(const void *bytes, size_t len);

/* Opens it again: extents and payload stay owned by the coder until the next call. Any byte may
 * come from outside: ERR_CORRUPT for everything that does not fit, nothing is read past `len`. */
struct frame_view {
    const struct extent *extents;
    size_t extent_count;
    const uint8_t *payload;
    size_t payload_len;
};
int frame_open(struct frame_coder *coder, uint64_t number, const void *frame, size_t len,
               struct frame_view *ret_view, struct err *err) MUST_CHECK;
