// SPDX-License-Identifier: Apache-2.0
#include "replica/chunk.h"

#include <string.h>

uint64_t chunk_count(uint64_t size)
{
    return size / CHUNK_BYTES + (size % CHUNK_BYTES != 0);
}

size_t chunk_len(uint64_t size, uint64_t chunk)
{
    uint64_t left = size - chunk * CHUNK_BYTES;

    return left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
}

struct digester *chunk_digester_new(const struct key *group_key)
{
    CLEANUP(key_wipe) struct key key;

    key_derive(group_key, "digest", NULL, 0, &key);
    return digester_new(&key);
}

bool bytes_are_zero(const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    /* Zero when the first byte is, and each byte equals the one after it: memcmp does the work
     * with the widest registers there are. */
    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

void chunk_digest(struct digester *digester, const void *bytes, size_t len,
                  struct digest *ret_digest)
{
    if (bytes_are_zero(bytes, len))
        memset(ret_digest, 0, sizeof(*ret_digest));
    else
        digester_run(digester, bytes, len, ret_digest);
}

void chunk_block_digests(struct digester *digester, const void *bytes, size_t len,
                         struct digest ret_digests[CHUNK_BLOCKS])
{
    memset(ret_digests, 0, CHUNK_BLOCKS * sizeof(*ret_digests));
    for (size_t i = 0; i * BLOCK_BYTES < len; i++) {
        size_t left = len - i * BLOCK_BYTES;
        chunk_digest(digester, (const uint8_t *)bytes + i * BLOCK_BYTES,
                     left < BLOCK_BYTES ? left : BLOCK_BYTES, &ret_digests[i]);
    }
}
