// SPDX-License-Identifier: Apache-2.0
/* Two sites in one folder: paris sends what is in an image, lyon receives it, over TLS on this host.
 * Whatever fails ends the program with its text. */
#pragma once

#include "base/err.h"
#include "block/source.h"

#include <stdint.h>

#define OK(call)            \
    do {                    \
        if ((call) < 0)     \
            ends_die(&err); \
    } while (0)
void ends_die(const struct err *err) __attribute__((noreturn));

/* Makes both identities below `dir` and pairs them. */
void ends_sites(const char *dir);
/* Serves until killed; writes the port into DIR/port. */
void ends_serve(const char *dir) __attribute__((noreturn));
/* Turns of a session on `image` until its replica has a point newer than before. With `changed`, the
 * blocks to change once the replica is at a first point: what is timed is then one cycle whose map
 * holds just these. Prints the seconds until the
 * point is applied, the bytes sent, the seconds from its cut until it was durable, and those from the
 * begin until then. */
struct ends_job {
    const char *dir;
    const char *image;
    const char *compression; /* of a policy */
    unsigned workers;
    unsigned percent; /* 0: a copy or a resync, else a delta of so much, scattered */
};
void ends_run(const struct ends_job *job);
/* The same blocks, read from the image and sent through one connection. Prints seconds and bytes. */
void ends_blocks(const struct ends_job *job);
double ends_now(void);
