// SPDX-License-Identifier: Apache-2.0
/* Branches on a test bed: what its replica is asked, and what it would hold had it taken the branch. */
#pragma once

#include "support/sync/bed.h"

/* session_branch into DIR/branches of the bed; the replica answers from its store. */
int bed_branch(struct bed *bed, bool alive, struct session_branch *ret_branch, struct err *err);
/* "DIR/branches/POINT"; free with free(). */
char *bed_branch_folder(const struct bed *bed, uint64_t point);
/* The replica takes the sealed point in `folder` as its next one, and applies it. */
void bed_give_point(struct bed *bed, const char *folder);
/* Are the replica's heads what the machine's disks are now? */
bool bed_replica_equals_machine(struct bed *bed);
