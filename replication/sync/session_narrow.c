// SPDX-License-Identifier: Apache-2.0
/* Down to blocks: a chunk that differs seldom differs as a whole. The replica tells the digests of its
 * blocks of 4 KiB, 256 bytes a chunk. */
#include "sync/session_internal.h"

#include "base/mem.h"

#include <string.h>

static uint16_t differing_blocks(struct session *s, const uint8_t *bytes, size_t len,
                                 const struct digest *there)
{
    struct digest here[CHUNK_BLOCKS];
    unsigned mask = 0;

    chunk_block_digests(s->digester, bytes, len, here);
    for (unsigned i = 0; i < CHUNK_BLOCKS; i++)
        if (memcmp(&here[i], &there[i], sizeof(here[i])) != 0)
            mask |= 1u << i;
    return (uint16_t)mask;
}

static int narrow_batch(struct session *s, size_t disk, const uint64_t *chunks, size_t count,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) struct digest *there = mem_new_array(struct digest, count * CHUNK_BLOCKS);
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(CHUNK_BYTES, 1);
    const struct checkpoint_disk *d = &s->ck.disks.at[disk];

    if (remote_block_digests(&s->remote, d->name, s->ck.durable_point, chunks, count, there, cancel,
                             err)
        < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        if (rescan_read(s->rescan, disk, chunks[i], buf, err) < 0)
            return -1;
        uint16_t mask =
            differing_blocks(s, buf, chunk_len(d->size, chunks[i]), there + i * CHUNK_BLOCKS);
        /* None: it is the same again. It was said to differ, so it is sent. */
        if (mask)
            rescan_narrow(s->rescan, disk, chunks[i], mask);
    }
    return 0;
}

int resync_narrow(struct session *s, size_t disk, struct cancel *cancel, struct err *err)
{
    size_t count;
    CLEANUP(mem_freep) uint64_t *chunks = rescan_fresh(s->rescan, disk, &count);

    /* The replica's disk may be smaller still. */
    while (count > 0 && chunks[count - 1] >= resync_chunks_there(&s->ck.disks.at[disk]))
        count--;
    for (size_t at = 0; at < count && !s->whole_chunks;) {
        size_t n = count - at < REMOTE_BLOCKS_MAX ? count - at : REMOTE_BLOCKS_MAX;
        struct err why = ERR_EMPTY;
        if (narrow_batch(s, disk, chunks + at, n, cancel, &why) < 0) {
            s->whole_chunks = why.code == ERR_UNSUPPORTED;
            if (s->whole_chunks)
                break;
            /* Its head has moved on: what that means shows in the next turn. */
            (void)err_set(err, why.code == ERR_STATE ? ERR_BUSY : why.code, why.sys, "%s",
                          why.text);
            return session_blame_peer(s);
        }
        at += n;
    }
    return 0;
}
