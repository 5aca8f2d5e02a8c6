// SPDX-License-Identifier: Apache-2.0
/* A machine as its owner describes it (a data-only Lua table, as JSON here). The definition
 * travels with the replica, so that the other site can start the machine. Plain values. */
#pragma once

#include "base/json.h"
#include "base/vec.h"
#include "providers/machine_group.h"

#include <stdbool.h>
#include <stdint.h>

#define MACHINE_NAME_BYTES 64
#define MACHINE_PATH_BYTES 512

struct machine_disk {
    char name[MACHINE_NAME_BYTES]; /* "vda" by default in order: vda, vdb, ... */
    char path[MACHINE_PATH_BYTES];
    char format[16]; /* "raw" or "qcow2" */
    bool iothread;
};
VEC_DEFINE(machine_disks, struct machine_disk)

struct machine_nic {
    char mac[18];
    char network[MACHINE_NAME_BYTES]; /* "user" or "bridge NAME" */
};
VEC_DEFINE(machine_nics, struct machine_nic)

struct machine {
    char name[MACHINE_NAME_BYTES];
    uint64_t memory_bytes;
    uint32_t cpus;
    char kernel[MACHINE_PATH_BYTES]; /* "" when the firmware boots from disk */
    char initrd[MACHINE_PATH_BYTES];
    char cmdline[1024];
    char firmware[MACHINE_PATH_BYTES]; /* "": QEMU's default */
    char accel[16];                    /* "kvm", "tcg" or "auto" */
    bool agent;                        /* a guest agent channel */
    /* Of an adopted machine, which somebody else starts, and true at its own site only: */
    char qmp[MACHINE_PATH_BYTES]; /* its monitor's socket; "": the machine is ours to start */
    char agent_socket[MACHINE_PATH_BYTES]; /* "": no agent, or nobody can reach it */
    bool complete;                         /* we may start it, too: all that takes is known */
    struct machine_disks disks;
    struct machine_nics nics;
};

void machine_init(struct machine *machine);
void machine_done(struct machine *machine); /* also for CLEANUP */
/* Checks every field: ERR_INVALID names it, with the nearest word for a misspelt one. */
int machine_from_json(const json_t *json, struct machine *ret_machine, struct err *err) MUST_CHECK;
json_t *machine_to_json(const struct machine *machine);
/* Forgets what is true at its own site only: for what travels, and for what came from elsewhere (a
 * peer must not name sockets of this host). */
void machine_make_portable(struct machine *machine);
/* All field names, for messages and help; NULL-terminated. */
const char *const *machine_fields(void);
