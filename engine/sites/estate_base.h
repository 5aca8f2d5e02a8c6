// SPDX-License-Identifier: Apache-2.0
/* What a group's disks held when tracking of them began, where this site knows it: then a session
 * compares lists of digests instead of scanning the disks. There are two such places:
 *
 *   a replica of ours     a machine was recovered from it, and writes elsewhere (an overlay)
 *   sessions/GROUP.base/  the machine was started on its own disks, after they were a replica:
 *                         the digests of that moment; the bytes are the disks' own
 *
 * Any thread. */
#pragma once

#include "sites/estate_internal.h"
#include "sync/session.h"

/* Fills config->tip and config->base of the group's next session; leaves them empty when nothing is
 * known. `sender` is what the base's calls get as their ctx. */
int estate_base_find(struct estate_sender *sender, struct session_config *config, struct err *err)
    MUST_CHECK;

/* The machine is about to run on its own disks, which are the heads of the group's replica here: its
 * digests and its promotion are kept, the replica is given up. Cut anywhere, asking again goes on. */
int estate_base_make(struct estate *estate, const char *group, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
/* 1 and the generation: the group's disks are its machine's own again since that promotion; 0; -1. */
int estate_base_look(struct estate *estate, const char *group, uint64_t *ret_generation,
                     struct err *err) MUST_CHECK;
/* The same from what its session last delivered, for a machine that was given back untouched. */
int estate_base_from_session(struct estate *estate, const char *group, uint64_t generation,
                             struct err *err) MUST_CHECK;
/* It is there, and that machine of the group was never started since. */
int estate_base_unarmed(struct estate *estate, const char *group, const char *machine,
                        bool *ret_unarmed, struct err *err) MUST_CHECK;
/* The serial number of the map that was opened before the machine's first instruction, the same for all
 * machines of the group: the base is one when all have it. By one at a time. */
int estate_base_armed(struct estate *estate, const char *group, const char *machine,
                      uint64_t serial, struct err *err) MUST_CHECK;
int estate_base_remove(struct estate *estate, const char *group, struct err *err) MUST_CHECK;
/* For asks about a group whose replica was given up: its promotion, as group.observe tells it. */
int estate_base_observe(struct estate *estate, const char *group, json_t **ret_result,
                        struct err *err) MUST_CHECK;
