// SPDX-License-Identifier: Apache-2.0
/* A sealed frame; all numbers little endian:
 *
 *   offset  bytes
 *        0      4  magic "MFRM"
 *        4      4  compression of the payload (enum compression), may differ from frame to frame
 *        8      8  number of the frame under its uuid; the nonce
 *       16      4  extents
 *       20      4  payload bytes before compression
 *       24      4  sealed bytes that follow: the table of extents and the payload as stored
 *       28      4  zero
 *       32      n  sealed (AES-256-GCM, the 32 bytes above as additional data):
 *                    16 bytes per extent: offset | length, bit 63 set for a zero extent
 *                    payload as stored: the data extents' bytes, one after the other, compressed
 *     32+n     16  tag
 *
 * The key is HKDF-SHA-256 of the group's key, purpose "segment", context the uuid. The table is
 * inside the seal, so even which blocks changed is nobody's business on the way. */
#include "replica/frame.h"

#include "base/mem.h"
#include "replica/bytes.h"

#include <assert.h>
#include <inttypes.h>
#include <lz4.h>
#include <string.h>
#include <zstd.h>

#define MAGIC        0x4d52464dU
#define HEADER_BYTES FRAME_HEADER_BYTES
#define EXTENT_BYTES 16U
#define ZERO_BIT     (UINT64_C(1) << 63)
#define UNIT         512U
#define BUFFER_BYTES (FRAME_EXTENTS_MAX * EXTENT_BYTES + FRAME_PAYLOAD_MAX)

struct frame_coder {
    struct sealer *sealer;
    enum compression compression;
    int level; /* of zstd */
    ZSTD_CCtx *zstd;
    ZSTD_DCtx *unzstd;
    struct extent *extents; /* of the frame opened last */
    size_t extent_cap;
    uint8_t *plain; /* table and stored payload, opened */
    size_t plain_cap;
    uint8_t *payload; /* unpacked */
    size_t payload_cap;
};

struct header {
    uint32_t compression;
    uint64_t number;
    uint32_t extent_count;
    uint32_t payload_len;
    uint32_t sealed_len;
};

struct frame_coder *frame_coder_new(const struct key *group_key, const struct uuid *uuid,
                                    enum compression compression)
{
    CLEANUP(key_wipe) struct key key;
    struct frame_coder *coder = mem_new(struct frame_coder);

    key_derive(group_key, "segment", uuid->bytes, sizeof(uuid->bytes), &key);
    coder->sealer = sealer_new(&key);
    frame_coder_set(coder, compression, FRAME_ZSTD_LEVEL);
    return coder;
}

void frame_coder_set(struct frame_coder *coder, enum compression compression, int level)
{
    coder->compression = compression;
    coder->level = level;
}

void frame_coder_free(struct frame_coder *coder)
{
    if (!coder)
        return;
    sealer_free(coder->sealer);
    ZSTD_freeCCtx(coder->zstd);
    ZSTD_freeDCtx(coder->unzstd);
    free(coder->extents);
    free(coder->plain);
    free(coder->payload);
    free(coder);
}

void frame_coder_freep(struct frame_coder **coder)
{
    frame_coder_free(*coder);
    *coder = NULL;
}

/* Room for `len` bytes in a buffer of the coder; they grow to what frames need, not at once to
 * the bound: a view keeps several coders, for frames of one chunk. */
static uint8_t *room(uint8_t **buf, size_t *cap, size_t len)
{
    if (len > *cap) {
        *buf = mem_grow(*buf, len, 1);
        *cap = len;
    }
    return *buf;
}

/* Packs into `to` only if that saves a sixteenth at least: less is not worth the unpacking.
 * 0: it does not. */
static size_t pack(struct frame_coder *coder, const void *payload, size_t len, uint8_t *to)
{
    size_t bound = len - len / 16;

    if (len < UNIT)
        return 0;
    switch (coder->compression) {
    case COMPRESSION_NONE: return 0;
    case COMPRESSION_LZ4: {
        int n = LZ4_compress_default(payload, (char *)to, (int)len, (int)bound);
        return n > 0 ? (size_t)n : 0;
    }
    case COMPRESSION_ZSTD:
        if (!coder->zstd)
            coder->zstd = ZSTD_createCCtx();
        assert(coder->zstd);
        size_t n = ZSTD_compressCCtx(coder->zstd, to, bound, payload, len, coder->level);
        return ZSTD_isError(n) ? 0 : n;
    }
    return 0;
}

static void put_extents(uint8_t *to, const struct extent *extents, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        put_u64(to + i * EXTENT_BYTES, extents[i].off);
        put_u64(to + i * EXTENT_BYTES + 8, extents[i].len | (extents[i].zero ? ZERO_BIT : 0));
    }
}

/* NOLINTNEXTLINE(readability-function-size): two arrays in, one out, and no state in between */
void frame_seal(struct frame_coder *coder, uint64_t number, const struct extent *extents,
                size_t extent_count, const void *payload, size_t payload_len, void *ret_frame,
                size_t *ret_len)
{
    uint8_t *frame = ret_frame;
    uint8_t *body = frame + HEADER_BYTES;
    size_t table_len = extent_count * EXTENT_BYTES;
    enum compression used = coder->compression;

    assert(extent_count <= FRAME_EXTENTS_MAX && payload_len <= FRAME_PAYLOAD_MAX);
    put_extents(body, extents, extent_count);
    const void *stored = body + table_len;
    size_t stored_len = pack(coder, payload, payload_len, body + table_len);
    if (stored_len == 0) {
        used = COMPRESSION_NONE;
        stored_len = payload_len;
        stored = payload;
    }
    put_u32(frame, MAGIC);
    put_u32(frame + 4, (uint32_t)used);
    put_u64(frame + 8, number);
    put_u32(frame + 16, (uint32_t)extent_count);
    put_u32(frame + 20, (uint32_t)payload_len);
    put_u32(frame + 24, (uint32_t)(table_len + stored_len));
    put_u32(frame + 28, 0);
    sealer_seal_two(coder->sealer, number, frame, HEADER_BYTES, body, table_len, stored, stored_len,
                    body, body + table_len + stored_len);
    *ret_len = HEADER_BYTES + table_len + stored_len + SEAL_TAG_BYTES;
}

size_t frame_sealed_len(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    if (len < HEADER_BYTES || get_u32(at) != MAGIC)
        return 0;
    uint32_t sealed = get_u32(at + 24);
    if (sealed > BUFFER_BYTES)
        return 0;
    return (size_t)HEADER_BYTES + sealed + SEAL_TAG_BYTES;
}

static int get_header(const uint8_t *frame, size_t len, uint64_t number, struct header *ret_header,
                      struct err *err)
{
    if (len < HEADER_BYTES + SEAL_TAG_BYTES)
        return err_set(err, ERR_CORRUPT, 0, "frame %" PRIu64 ": only %zu bytes", number, len);
    struct header h = {
        .compression = get_u32(frame + 4),
        .number = get_u64(frame + 8),
        .extent_count = get_u32(frame + 16),
        .payload_len = get_u32(frame + 20),
        .sealed_len = get_u32(frame + 24),
    };
    if (get_u32(frame) != MAGIC || get_u32(frame + 28) != 0)
        return err_set(err, ERR_CORRUPT, 0, "frame %" PRIu64 ": these bytes are no frame", number);
    if (h.number != number)
        return err_set(err, ERR_CORRUPT, 0, "frame %" PRIu64 ": it says it is number %" PRIu64,
                       number, h.number);
    if (h.compression > COMPRESSION_LZ4 || h.extent_count > FRAME_EXTENTS_MAX
        || h.payload_len > FRAME_PAYLOAD_MAX || h.sealed_len != len - HEADER_BYTES - SEAL_TAG_BYTES
        || h.sealed_len < h.extent_count * EXTENT_BYTES)
        return err_set(err, ERR_CORRUPT, 0,
                       "frame %" PRIu64 ": %u extents, %u bytes of payload, %u sealed bytes do not"
                       " fit %zu bytes of compression %u",
                       number, h.extent_count, h.payload_len, h.sealed_len, len, h.compression);
    *ret_header = h;
    return 0;
}

static int get_extents(struct frame_coder *coder, const struct header *h, struct err *err)
{
    uint64_t data = 0;

    if (h->extent_count > coder->extent_cap) {
        coder->extents = mem_grow(coder->extents, h->extent_count, sizeof(*coder->extents));
        coder->extent_cap = h->extent_count;
    }
    for (size_t i = 0; i < h->extent_count; i++) {
        uint64_t off = get_u64(coder->plain + i * EXTENT_BYTES);
        uint64_t len = get_u64(coder->plain + i * EXTENT_BYTES + 8);
        bool zero = (len & ZERO_BIT) != 0;
        len &= ~ZERO_BIT;
        if (off % UNIT || len % UNIT || len == 0 || off > ZERO_BIT - len)
            return err_set(err, ERR_CORRUPT, 0,
                           "frame %" PRIu64 ": extent %zu at %" PRIu64 " of %" PRIu64 " bytes",
                           h->number, i, off, len);
        coder->extents[i] = (struct extent){off, len, zero};
        if (!zero && len > h->payload_len - data)
            return err_set(err, ERR_CORRUPT, 0,
                           "frame %" PRIu64 ": extents of more than its %u bytes of payload",
                           h->number, h->payload_len);
        data += zero ? 0 : len;
    }
    if (data != h->payload_len)
        return err_set(err, ERR_CORRUPT, 0,
                       "frame %" PRIu64 ": extents of %" PRIu64 " bytes, payload of %u", h->number,
                       data, h->payload_len);
    return 0;
}

/* The stored payload, unpacked; in place when it is as it was. NULL: it does not unpack. */
static const uint8_t *unpack(struct frame_coder *coder, const struct header *h,
                             const uint8_t *stored, size_t len)
{
    if (h->compression == COMPRESSION_NONE)
        return len == h->payload_len ? stored : NULL;
    uint8_t *to = room(&coder->payload, &coder->payload_cap, h->payload_len + 1U);
    if (h->compression == COMPRESSION_LZ4) {
        int n =
            LZ4_decompress_safe((const char *)stored, (char *)to, (int)len, (int)h->payload_len);
        return n >= 0 && (uint32_t)n == h->payload_len ? to : NULL;
    }
    if (!coder->unzstd)
        coder->unzstd = ZSTD_createDCtx();
    assert(coder->unzstd);
    size_t n = ZSTD_decompressDCtx(coder->unzstd, to, h->payload_len, stored, len);
    return !ZSTD_isError(n) && n == h->payload_len ? to : NULL;
}

int frame_open(struct frame_coder *coder, uint64_t number, const void *frame, size_t len,
               struct frame_view *ret_view, struct err *err)
{
    const uint8_t *at = frame;
    struct header h;

    if (get_header(at, len, number, &h, err) < 0)
        return -1;
    uint8_t *plain = room(&coder->plain, &coder->plain_cap, h.sealed_len + 1U);
    if (sealer_open(coder->sealer, number, at, HEADER_BYTES, at + HEADER_BYTES, h.sealed_len,
                    at + HEADER_BYTES + h.sealed_len, plain, err)
        < 0)
        return err_wrap(err, "frame %" PRIu64, number);
    if (get_extents(coder, &h, err) < 0)
        return -1;
    size_t table_len = h.extent_count * (size_t)EXTENT_BYTES;
    const uint8_t *payload = unpack(coder, &h, plain + table_len, h.sealed_len - table_len);
    if (!payload)
        return err_set(err, ERR_CORRUPT, 0, "frame %" PRIu64 ": its payload does not unpack",
                       number);
    *ret_view = (struct frame_view){coder->extents, h.extent_count, payload, h.payload_len};
    return 0;
}
