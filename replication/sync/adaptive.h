// SPDX-License-Identifier: Apache-2.0
/* Which compression pays: chosen by what each one was seen to save and to cost, and by how fast the link
 * takes what comes out. The one that lets the most bytes of the disk through per second wins; of those
 * that are about equal the cheapest. Values; one thread. */
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
struct adaptive {
    enum adaptive_kind now;
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
/* After some pieces: true when `now` changed. `threads` pack side by side. */
bool adaptive_decide(struct adaptive *adaptive, unsigned threads);
