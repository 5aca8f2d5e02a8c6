// SPDX-License-Identifier: Apache-2.0
/* The replica as the sending half sees it: the requests of receiver.c as calls. Those marked
 * "queued" are sent without waiting; their answers are collected when more than a few MiB are on
 * the way, and by remote_drain. So a queued call may report the failure of an earlier one. After
 * any error nothing is on the way any more. One thread. */
#pragma once

#include "link/link.h"
#include "replica/store.h"

struct remote {
    struct link *link;   /* borrowed */
    const char *group;   /* borrowed */
    uint64_t generation; /* under which this side writes; with every request */
    uint64_t sent_bytes;
    uint32_t waiting; /* queued requests without an answer */
    uint64_t window;  /* their payload */
    uint64_t sizes[256];
    uint32_t head;
    bool proven; /* something was answered over this link */
};

void remote_init(struct remote *remote, struct link *link, const char *group, uint64_t generation);
/* Waits for all answers to queued requests. */
int remote_drain(struct remote *remote, struct cancel *cancel, struct err *err) MUST_CHECK;

int remote_info(struct remote *remote, struct store_info *ret_info, struct cancel *cancel,
                struct err *err) MUST_CHECK;
int remote_disks(struct remote *remote, struct store_disks *ret_disks, struct cancel *cancel,
                 struct err *err) MUST_CHECK;

int remote_base_begin(struct remote *remote, const struct store_disks *disks, uint64_t need_bytes,
                      uint64_t generation, uint64_t copy, struct cancel *cancel, struct err *err)
    MUST_CHECK;
struct remote_frame {
    const char *disk;
    const struct uuid *uuid;
    enum compression compression;
    uint64_t number;
    uint64_t copy;
};
/* Queued. */
int remote_base_frame(struct remote *remote, const struct remote_frame *frame, const void *bytes,
                      size_t len, struct cancel *cancel, struct err *err) MUST_CHECK;
int remote_base_sync(struct remote *remote, const char *disk, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
/* A slice of it; ERR_UNSUPPORTED: also when the other side is of an older release. */
int remote_base_seed(struct remote *remote, const char *disk, const char *seed, uint64_t copy,
                     struct store_seeding *ret_seeding, struct cancel *cancel, struct err *err)
    MUST_CHECK;
int remote_base_end(struct remote *remote, uint64_t copy, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* `ret_have` NULL: queued, for a segment that cannot be there. */
int remote_segment_open(struct remote *remote, const char *disk, const struct uuid *uuid,
                        uint64_t *ret_have, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Queued. */
int remote_segment_write(struct remote *remote, const char *disk, const struct uuid *uuid,
                         uint64_t off, const void *bytes, size_t len, struct cancel *cancel,
                         struct err *err) MUST_CHECK;
/* Queued. */
int remote_segment_close(struct remote *remote, const char *disk,
                         const struct manifest_segment *segment, struct cancel *cancel,
                         struct err *err) MUST_CHECK;

int remote_commit(struct remote *remote, const char *text, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* Digests of one apply; `disks` are in the replica's order. */
struct remote_applied {
    uint64_t point; /* 0: nothing was left to apply */
    bool complete;  /* all changed digests are here */
    struct store_disks disks;
    struct store_digests *digests; /* one per disk */
};
void remote_applied_done(struct remote_applied *applied); /* also for CLEANUP */
int remote_apply(struct remote *remote, struct remote_applied *ret_applied, struct cancel *cancel,
                 struct err *err) MUST_CHECK;

/* At most REMOTE_DIGESTS_MAX at a time. */
#define REMOTE_DIGESTS_MAX 65536u
int remote_digests(struct remote *remote, const char *disk, uint64_t point, uint64_t first,
                   uint64_t count, struct digest *ret_digests, struct cancel *cancel,
                   struct err *err) MUST_CHECK;
/* CHUNK_BLOCKS digests for each of `chunks`, at most REMOTE_BLOCKS_MAX of them. ERR_UNSUPPORTED: the
 * other side is of the first release. */
#define REMOTE_BLOCKS_MAX 1024u
int remote_block_digests(struct remote *remote, const char *disk, uint64_t point,
                         const uint64_t *chunks, size_t count, struct digest *ret_digests,
                         struct cancel *cancel, struct err *err) MUST_CHECK;
/* Damaged chunks of heads. ERR_UNSUPPORTED: the other side is of an older release. */
int remote_damages(struct remote *remote, struct store_damages *ret_damages, struct cancel *cancel,
                   struct err *err) MUST_CHECK;
int remote_prune(struct remote *remote, const struct retention *retention, struct cancel *cancel,
                 struct err *err) MUST_CHECK;
