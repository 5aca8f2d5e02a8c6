// SPDX-License-Identifier: Apache-2.0
/* What the plugin's sink tells the receiver of a mirror: one record per write over a unix stream
 * socket, little endian, SINK_RECORD_BYTES each; a data record is followed by `len` bytes. The
 * receiver answers every record with one u32: 0, or the errno the writer is to see. The next
 * record comes only after the answer. Used by the plugin (sends) and by block/ (receives). */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SINK_MAGIC        0x4b4e5353U /* "SSNK" */
#define SINK_RECORD_BYTES 24
#define SINK_ANSWER_BYTES 4
#define SINK_DATA_MAX     (64U * 1024U * 1024U) /* nbdkit's own bound on a request */

enum sink_kind {
    SINK_DATA = 1,  /* `len` bytes for `off` follow */
    SINK_ZERO = 2,  /* [off, off + len) reads as zeros */
    SINK_FLUSH = 3, /* answer when all before it is safe; off and len are 0 */
    SINK_END = 4,   /* the disk was closed by its client; off and len are 0 */
};

struct sink_record {
    enum sink_kind kind;
    uint64_t off;
    uint64_t len;
};

static inline void sink_put(uint8_t ret_bytes[SINK_RECORD_BYTES], const struct sink_record *record)
{
    const uint32_t words[2] = {htole32(SINK_MAGIC), htole32((uint32_t)record->kind)};
    const uint64_t places[2] = {htole64(record->off), htole64(record->len)};

    memcpy(ret_bytes, words, sizeof(words));
    memcpy(ret_bytes + sizeof(words), places, sizeof(places));
}

/* False when the bytes are no record: wrong magic or kind, data of more than SINK_DATA_MAX. */
static inline bool sink_get(const uint8_t bytes[SINK_RECORD_BYTES], struct sink_record *ret_record)
{
    uint32_t words[2];
    uint64_t places[2];

    memcpy(words, bytes, sizeof(words));
    memcpy(places, bytes + sizeof(words), sizeof(places));
    if (le32toh(words[0]) != SINK_MAGIC || le32toh(words[1]) < SINK_DATA
        || le32toh(words[1]) > SINK_END)
        return false;
    *ret_record = (struct sink_record){(enum sink_kind)le32toh(words[1]), le64toh(places[0]),
                                       le64toh(places[1])};
    return ret_record->kind != SINK_DATA || ret_record->len <= SINK_DATA_MAX;
}
