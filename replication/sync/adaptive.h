// SPDX-License-Identifier: Apache-2.0
/* Which compression pays. It is found in two ways, by how the data goes:
 *
 * - Segments are sealed, then sent: what each kind was seen to save and to cost, and how fast the link
 *   takes what comes out, say what each one would let through. Pieces are tried one at a time.
 * - In a copy pieces are packed, sent and unpacked side by side, maybe by the same processors; no part
 *   tells what limits the whole. There kinds are tried for a stretch, and what got through is compared.
 *
 * The one that lets the most bytes of the disk through per second wins; of those that are about equal
 * the cheapest. Values; one thread. */
#pragma once

#include "replica/frame.h"

#include <stdbool.h>
#include <stdint.h>

/* The cheapest first. */
enum adaptive_kind {
    ADAPTIVE_NONE,
    ADAPTIVE_LZ4,
    ADAPTIVE_ZSTD,
    ADAPTIVE_ZSTD_MORE,
    ADAPTIVE_COUNT
};

struct adaptive_choice {
    enum compression compression;
    int level; /* of zstd */
};
struct adaptive_choice adaptive_choice(enum adaptive_kind kind);
/* "none", "lz4", "zstd", "zstd 3". */
const char *adaptive_name(enum adaptive_kind kind);

struct adaptive_seen {
    double in; /* bytes; older ones count less and less */
    double out;
    double ms; /* of one thread */
};
/* A copy's stretches: some pieces to let those of the kind before pass, then those that count. */
struct adaptive_flow {
    enum adaptive_kind kind; /* of the stretch; another one than `now`: a trial */
    uint32_t pieces;         /* of this kind, so far */
    double in;               /* of those that count */
    double ms;
    double rate;      /* bytes per ms that `now` let through; 0: not known */
    bool up;          /* a dearer one is tried next */
    bool won;         /* it was better once: it has to be twice, for a busy host is noisy */
    uint32_t missed;  /* trials in a row that showed nothing better */
    uint32_t resting; /* stretches without a trial */
};
struct adaptive {
    enum adaptive_kind now;
    struct adaptive_flow flow;
    struct adaptive_seen packed[ADAPTIVE_COUNT];
    struct adaptive_seen sent; /* out, and the time it took to be rid of it */
    uint32_t pieces;           /* so far */
    uint32_t tries;            /* of others than `now` */
};

void adaptive_init(struct adaptive *adaptive, enum compression begin);
/* What the next piece is to be packed with: `now`, or, once in a while, another one, to see. */
enum adaptive_kind adaptive_next(struct adaptive *adaptive);
/* What came of a piece. */
#define ADAPTIVE_MIN_BYTES 262144u /* a smaller piece tells nothing */
void adaptive_packed(struct adaptive *adaptive, enum adaptive_kind kind, uint64_t in, uint64_t out,
                     double ms);
/* Percent of its size that data took when it was packed lately, by all kinds together; -1: nothing was. */
int adaptive_percent(const struct adaptive *adaptive);
/* What was sent, and how long the sender was busy with it, waiting included. */
void adaptive_sent(struct adaptive *adaptive, uint64_t bytes, double ms);
/* After some pieces: true when `now` changed. */
bool adaptive_decide(struct adaptive *adaptive);

/* The same for a copy: what its next piece is to be packed with, ... */
enum adaptive_kind adaptive_flow_next(const struct adaptive *adaptive);
/* ... and that the next one, of `in` bytes of the disk, packed by `kind`, is on its way, so long after
 * the one before it, or after the copy began or went on; `in` 0: a time of waiting. True: `now`
 * changed. */
bool adaptive_flow_sent(struct adaptive *adaptive, enum adaptive_kind kind, uint64_t in, double ms);
