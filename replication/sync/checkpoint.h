// SPDX-License-Identifier: Apache-2.0
/* What a session knows that must survive: one small file, replaced atomically before each
 * effect. The format stands in checkpoint.c. One thread. */
#pragma once

#include "base/crypto.h"
#include "base/err.h"
#include "base/vec.h"
#include "block/source.h"
#include "replica/seed.h"

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
    uint64_t grown_from; /* the size that the replica knows; 0: the same */
    uint64_t scanned;    /* an ordered scan of this phase goes on from here */
    bool done;
    char seed[SEED_NAME_BYTES]; /* its head began from that file of the peer; "": it did not */
    uint64_t seed_data;         /* once that is compared: bytes of chunks that are not zeros */
    uint64_t seed_same;         /* of these, those that were there already */
    char why[96];               /* it grew: for people, in this life */
};
VEC_DEFINE(checkpoint_disks, struct checkpoint_disk)

#define CHECKPOINT_NOTE_BYTES             160
#define CHECKPOINT_APPLICATION_NOTE_BYTES 320

/* Of application-consistent points. Times by this site's wall clock but for cut_ms; 0: never. */
struct checkpoint_application {
    int64_t tried_ms;   /* the latest try, also one that failed, or was cut */
    int64_t made_ms;    /* the try that the newest such point comes from */
    int64_t failing_ms; /* since when tries fail; 0: the latest one did not */
    uint64_t point;     /* the newest one; 0: none */
    int64_t cut_ms;     /* of it, as in its manifest */
    char note[CHECKPOINT_APPLICATION_NOTE_BYTES]; /* why they fail, for people */
};

/* Why all of the disks are to be compared, or are being. */
enum resync_cause {
    RESYNC_NONE,
    RESYNC_LOST,  /* nobody kept track: begins at once */
    RESYNC_LOG,   /* more is pending than the policy allows: points wait for it */
    RESYNC_ASKED, /* by a person: points go on until it begins */
    RESYNC_SEED,  /* an initial copy began from files at the peer; at once */
    RESYNC_GREW,  /* a block device: only what is new of it; at once */
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
    struct checkpoint_application application;
};

/* ERR_NOT_FOUND: there is none; ERR_CORRUPT: it cannot be read, and is kept. */
int checkpoint_load(const char *dir, struct checkpoint *ret_ck, struct err *err) MUST_CHECK;
int checkpoint_save(const char *dir, const struct checkpoint *ck, struct err *err) MUST_CHECK;
void checkpoint_done(struct checkpoint *ck);
