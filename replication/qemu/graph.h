// SPDX-License-Identifier: Apache-2.0
/* Whoever begins or ends a block job changes QEMU's graph of nodes, and QEMU 7.2 polls in the middle of
 * such a change: a job of somebody else's that ends just then changes it once more. Seen when a stream
 * ended while a cut's copy began (docs/qemu.md): the copy stays paused for ever, or QEMU aborts. So one
 * at a time holds the lock of that QEMU from before a job begins until it has ended; a job that takes
 * hours (a stream, a mirror) has it for its begin and for its end.
 *
 * The lock is a file beside the monitor: it holds between threads and processes, and dies with whoever
 * has it. Any thread. */
#pragma once

#include "base/cancel.h"

/* Waits for the lock of the QEMU whose monitors are in the folder of `qmp_path`; closing the descriptor
 * releases it. ERR_TIMEOUT, ERR_CANCELLED: somebody else has it until then. */
int graph_lock(const char *qmp_path, int *ret_fd, struct cancel *cancel, struct err *err)
    MUST_CHECK;
