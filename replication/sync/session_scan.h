// SPDX-License-Identifier: Apache-2.0
/* The pieces of a disk's scan with the digests of their chunks, which a crew makes ahead. For one slice
 * of a comparison: the thread that holds the turn. */
#pragma once

#include "block/source.h"
#include "replica/frame.h"
#include "sync/session_internal.h"

#define SCAN_PIECE_CHUNKS (FRAME_PAYLOAD_MAX / CHUNK_BYTES)

struct scan_piece {
    uint64_t off;
    uint64_t len; /* 0: the scan is complete */
    bool zero;
    const uint8_t *data;          /* valid until the next call */
    const struct digest *digests; /* of the chunks of data */
};

struct session_scan;
/* `own`: the disk's own scan; NULL: the source's, which was begun. */
struct session_scan *session_scan_new(struct session *s, struct scan *own);
/* Before the scan is ended; NULL is fine. */
void session_scan_free(struct session_scan *scan);
void session_scan_freep(struct session_scan **scan);
/* The next piece, in the scan's order. `more` false: begins nothing new; `ret_piece->len` is 0 then, too,
 * when all that was begun has been given. The error is the source's. */
int session_scan_next(struct session_scan *scan, bool more, struct scan_piece *ret_piece,
                      struct cancel *cancel, struct err *err) MUST_CHECK;
/* The scan itself is at its end, and all of it was given. */
bool session_scan_is_complete(const struct session_scan *scan);
