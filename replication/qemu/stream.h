// SPDX-License-Identifier: Apache-2.0
/* A block-stream job: what an image lacks is copied into it from what lies below, while the machine
 * works. The job is found again by its name and outlives whoever started it. Three rules keep QEMU 7.2
 * alive (docs/qemu.md): an error makes the job wait instead of ending it; when all is copied it waits
 * to be let go, for its end changes the chain; and it goes by itself then, so that its end is seen in
 * the chain alone. Whoever calls start, finish or cancel holds the lock (qemu/graph.h). */
#pragma once

#include "qemu/qmp.h"

#include <stdbool.h>
#include <stdint.h>

struct stream_state {
    bool there;    /* the job is: at work or waiting */
    bool copied;   /* all is; it waits for stream_finish */
    bool paused;   /* by somebody, or by an error */
    bool failed;   /* it waits because of an error */
    bool no_space; /* ... which is a full file system */
    uint64_t done; /* bytes looked at */
    uint64_t total;
};
int stream_look(struct qmp *qmp, const char *job, struct stream_state *ret_state,
                struct cancel *cancel, struct err *err) MUST_CHECK;
/* Starts it on the image `node`; `rate_per_s` in bytes, 0: as fast as it goes. */
int stream_start(struct qmp *qmp, const char *job, const char *node, uint64_t rate_per_s,
                 struct cancel *cancel, struct err *err) MUST_CHECK;
int stream_set_rate(struct qmp *qmp, const char *job, uint64_t rate_per_s, struct cancel *cancel,
                    struct err *err) MUST_CHECK;
/* Lets one that waits go on (its error is forgotten). */
int stream_go_on(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Lets one that has copied all go, and waits until it is gone; none there is fine. */
int stream_finish(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Cancels it and waits until it is gone; what was copied stays. None there is fine. */
int stream_cancel(struct qmp *qmp, const char *job, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* "stop" or "cont" with all stream jobs held still meanwhile: a job that ends just then ends QEMU. */
int stream_safely(struct qmp *qmp, const char *command, struct cancel *cancel, struct err *err)
    MUST_CHECK;
