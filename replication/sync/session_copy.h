// SPDX-License-Identifier: Apache-2.0
/* Inside of the initial copy: session_copy.c (scans, slices) and session_copy_frames.c (what a crew
 * makes of their pieces). The thread that holds the turn. */
#pragma once

#include "base/crew.h"
#include "replica/frame.h"
#include "sync/session_internal.h"

#define COPY_ZEROS_MAX 256u

/* A disk whose scan is under way. */
struct copy_disk {
    size_t disk; /* of the checkpoint */
    const char *name;
    uint64_t size;
    struct scan *scan; /* of its own; NULL: the source's */
    bool ordered;
    bool complete;                       /* the scan is */
    bool touched;                        /* something was sent that is not acknowledged */
    uint64_t next;                       /* ordered: up to here all is on its way */
    uint8_t *seen;                       /* else: a bit per chunk */
    uint64_t count;                      /* of bits set */
    struct extent zeros[COPY_ZEROS_MAX]; /* ascending; go before the next data */
    size_t zero_count;
};

struct copy {
    struct uuid uuid;
    uint64_t number; /* of the next frame, whatever the disk */
    struct copy_disk *disks[POLICY_COPY_DISKS_MAX];
    size_t count;
    uint64_t packed_in, packed_out; /* bytes of data, before and after */
};

struct copy_frame_job;
struct copy_slice {
    struct session *s;
    struct cancel *cancel;
    struct err *err;
    enum blame blame; /* whose the error is */
    uint64_t bytes;   /* of data, so far */
    struct crew *crew;
    struct copy_frame_job *jobs;
    size_t job_count;
    size_t next;
    struct policy policy;
    int64_t sent_ms;            /* when the frame before was sent */
    enum adaptive_kind sent_as; /* of it */
};

void copy_slice_init(struct copy_slice *slice, const struct policy *policy);
void copy_slice_done(struct copy_slice *slice); /* drops what was not sent */
/* The disk's zeros and `piece` (NULL: none), as one frame: handed to the crew; the oldest one is
 * sent when there are many. Data that is not in the piece is read by the crew, from the disk's scan. */
int copy_frame(struct copy_slice *slice, struct copy_disk *disk, const struct source_piece *piece)
    MUST_CHECK;
/* Evaluates to -1. The session hears of it when the crew is gone. */
int copy_slice_blame(struct copy_slice *slice, enum blame blame);
/* All frames are sent, and the replica took them. */
int copy_slice_drain(struct copy_slice *slice) MUST_CHECK;
