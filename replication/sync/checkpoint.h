// SPDX-License-Identifier: Apache-2.0
/* What a session knows that must survive: one small file, replaced atomically before each
 * effect. The format stands in checkpoint.c. One thread. */
#pragma once

#include "base/crypto.h"
#include "base/err.h"
#include "base/vec.h"
#include "block/source.h"

#include <stdbool.h>
#include <stdint.h>

enum phase {
    PHASE_NEW,    /* nothing has happened */
    PHASE_COPY,   /* initial copy */
    PHASE_RESYNC, /* comparing with the replica's newest point (or its base) */
    PHASE_DELTA   /* replica's newest point (or its base) + tracked changes = source */
};

struct checkpoint_disk {
    char name[SOURCE_NAME_BYTES];
    uint64_t size;
    uint64_t scanned; /* an ordered scan of this phase goes on from here */
    bool done;
};
VEC_DEFINE(checkpoint_disks, struct checkpoint_disk)

#define CHECKPOINT_NOTE_BYTES 160

/* Why all of the disks are to be compared, or are being. */
enum resync_cause {
    RESYNC_NONE,
    RESYNC_LOST,  /* nobody kept track: begins at once */
    RESYNC_LOG,   /* more is pending than the policy allows: points wait for it */
    RESYNC_ASKED, /* by a person: points go on until it begins */
    RESYNC_CAUSE_COUNT
};
const char *resync_cause_name(enum resync_cause cause);

struct checkpoint_resync {
    enum resync_cause cause;
    bool now;         /* a person does not want to wait for the window */
    int64_t since_ms; /* wall clock */
    char why[CHECKPOINT_NOTE_BYTES];
};

struct checkpoint {
    enum phase phase;
    uint64_t serial; /* the highest serial number ever used or about to be */
    uint64_t base;   /* the map that was opened when the present base of comparison was: phase
                        DELTA: at the durable point's cut; COPY, RESYNC: before the scan */
    uint64_t cut;    /* base + 1 while a cut is intended or its outbox is under way; 0 */
    char note[CHECKPOINT_NOTE_BYTES]; /* for people: why and what is compared */
    uint64_t durable_point;
    struct sha256 durable_hash;
    int64_t durable_cut_ms;
    uint64_t applied_point;
    int64_t applied_cut_ms;
    /* The promotion whose successor the next point is, on the base of the durable one; 0: the next
     * point is the durable one's successor. */
    uint64_t tip_point;
    struct sha256 tip_hash;
    struct checkpoint_resync resync;
    struct checkpoint_disks disks;
};

/* ERR_NOT_FOUND: there is none; ERR_CORRUPT: it cannot be read, and is kept. */
int checkpoint_load(const char *dir, struct checkpoint *ret_ck, struct err *err) MUST_CHECK;
int checkpoint_save(const char *dir, const struct checkpoint *ck, struct err *err) MUST_CHECK;
void checkpoint_done(struct checkpoint *ck);
