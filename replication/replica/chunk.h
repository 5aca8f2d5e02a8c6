// SPDX-License-Identifier: Apache-2.0
/* Chunks: disks are compared, and their past is kept, in pieces of 64 KiB (the last one may be
 * shorter). Source and replica must get the same digest for the same bytes, so both take it
 * from here. Plain functions; a digester by one thread at a time. */
#pragma once

#include "base/crypto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_BYTES  65536U
#define BLOCK_BYTES  4096U /* what is changed in a chunk is told to this */
#define CHUNK_BLOCKS (CHUNK_BYTES / BLOCK_BYTES)

/* Chunks of a disk of `size` bytes, and the bytes of one of them. */
uint64_t chunk_count(uint64_t size);
size_t chunk_len(uint64_t size, uint64_t chunk);

/* The digester for chunks and extents of this group: its key is derived from the group's. */
struct digester *chunk_digester_new(const struct key *group_key);
/* Digest of one chunk's bytes; all-zero bytes have the digest of sixteen zero bytes. */
void chunk_digest(struct digester *digester, const void *bytes, size_t len,
                  struct digest *ret_digest);
/* The same of its blocks; those past `len` have that of zeros. The last one may be shorter. */
void chunk_block_digests(struct digester *digester, const void *bytes, size_t len,
                         struct digest ret_digests[CHUNK_BLOCKS]);

bool bytes_are_zero(const void *bytes, size_t len);
