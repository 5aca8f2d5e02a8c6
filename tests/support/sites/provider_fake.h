// SPDX-License-Identifier: Apache-2.0
/* A provider that runs machines in memory, one per run_dir, and tells what was asked of it. Any
 * thread. */
#pragma once

#include "providers/provider.h"

#include <pthread.h>

#define FAKE_MACHINES_MAX 16

struct fake_machine {
    char run_dir[MACHINE_PATH_BYTES]; /* "": free place */
    enum instance_state state;
    unsigned starts;
    unsigned stops;
    bool isolated;
    char netns[96];
    char network[MACHINE_NAME_BYTES]; /* of its first NIC, as started */
    uint64_t point;                   /* of its first served disk */
    char overlay[MACHINE_PATH_BYTES];
};

struct provider_fake {
    struct provider provider;
    pthread_mutex_t lock;
    struct fake_machine machines[FAKE_MACHINES_MAX];
    int agent;           /* the answer */
    const char *console; /* what consoles show */
    enum err_code fail;  /* the next start or stop fails with this */
    uint32_t repairs;
    bool stubborn; /* guests do not shut down */
    uint32_t shutdowns;
    json_t *guest;      /* the network of every guest's every card */
    char guest_mac[18]; /* the card last asked for */
    enum err_code
        guest_fail; /* the next assignment: the agent does not answer, the guest refuses */
    uint32_t assignments;
};

void provider_fake_init(struct provider_fake *fake);
void provider_fake_done(struct provider_fake *fake);
/* The machine whose run_dir ends in `name`; NULL: never heard of. */
struct fake_machine *provider_fake_find(struct provider_fake *fake, const char *name);
