// SPDX-License-Identifier: Apache-2.0
/* The transport seam: a byte stream between two sites. TLS over TCP is the real one; a pair in
 * memory is the fake; a filter cuts, delays or limits any of them. Used by one thread at a time;
 * every call blocks and takes a cancel. */
#pragma once

#include "base/cancel.h"
#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct transport {
    /* All of it or an error (ERR_NET: the connection is over). */
    int (*write)(struct transport *transport, const void *bytes, size_t len, struct cancel *cancel,
                 struct err *err);
    /* Exactly `len` bytes or an error; a clean end is ERR_NET ("closed by the peer"). */
    int (*read)(struct transport *transport, void *bytes, size_t len, struct cancel *cancel,
                struct err *err);
    void (*close)(struct transport *transport); /* and free */
};

/* Two ends in memory; each buffers at most `window` bytes. Ends may be used by two threads. */
void transport_pair(size_t window, struct transport **ret_a, struct transport **ret_b);

/* Wraps `inner` (takes it): after `bytes` written in total the connection breaks (ERR_NET), in
 * the middle of a write. */
struct transport *transport_cut(struct transport *inner, uint64_t bytes);
