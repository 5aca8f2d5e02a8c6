// SPDX-License-Identifier: Apache-2.0
/* A kit's disks as the disks of a machine: raw files, qcow2 files or loop devices, which become the
 * heads of the kit's store. */
#pragma once

#include "support/replica/fixture.h"

enum own_kind { OWN_RAW, OWN_QCOW2, OWN_LOOP };

struct own {
    struct kit *kit;
    enum own_kind kind;
    char *root;
    char *paths[KIT_DISKS];
    char *files[KIT_DISKS]; /* below loop devices; else as paths */
    struct store_adopt_disk disks[KIT_DISKS];
    char *first; /* manifest of the point they hold */
    char *tip;
    struct store_adopt adopt; /* without digests; may be changed */
    struct digester *digester;
    uint8_t *held[KIT_DISKS]; /* what they hold at first */
    uint64_t told;            /* chunks whose digest own_digests gave */
    uint64_t progress;
};

/* Below `root`, with what the kit's disks hold now. Takes `first` and `tip`. ERR_UNSUPPORTED: this
 * system gives us no loop devices. */
int own_init(struct own *own, struct kit *kit, const char *root, enum own_kind kind, char *first,
             char *tip, struct err *err) MUST_CHECK;
/* A fixture's disks at point 2 of a store that is gone, taken over elsewhere by point 6; an empty store
 * is open. False: no such disks here, which was said. Other failures abort. */
bool own_at_2(struct own *own, struct fixture *f, enum own_kind kind);
void own_done(struct own *own); /* also for CLEANUP; the store is closed before */

int own_adopt(struct own *own, struct store *store, struct err *err) MUST_CHECK;
/* For `adopt.digests`: two of three. */
int own_digests(void *ctx, const char *disk, uint64_t first, uint64_t count,
                struct digest *ret_digests, bool *ret_known, struct err *err);
/* Do the disks hold the point's image? Of qcow2 files only while no store has them. */
int own_check(struct own *own, uint64_t point, struct err *err) MUST_CHECK;
