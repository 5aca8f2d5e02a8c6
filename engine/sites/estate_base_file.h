// SPDX-License-Identifier: Apache-2.0
/* For estate_base*.c: sessions/GROUP.base as it lies on disk. */
#pragma once

#include "sites/estate_base.h"
#include "sync/digests.h"

struct base {
    struct digests_tip tip;
    uint64_t generation;
    int64_t cut_ms;
    uint64_t armed;            /* of all machines of the group; 0: not of all */
    struct machine_names each; /* of a group of several: those that were started */
    struct store_disks disks;
    struct estate_promotion promotion; /* its texts are "" where the disks were given back */
};
void base_done(struct base *base);                              /* also for CLEANUP */
char *base_dir(const struct estate *estate, const char *group); /* free with free() */
/* 1, or 0: there is none. */
int base_load(const struct estate *estate, const char *group, struct base *ret_base,
              struct err *err) MUST_CHECK;
