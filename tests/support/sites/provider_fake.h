// SPDX-License-Identifier: Apache-2.0
/* A provider that runs machines in memory, one per run_dir, and tells what was asked of it. Any
 * thread. */
#pragma once

#include "providers/provider.h"

#include <pthread.h>

#define FAKE_MACHINES_MAX 16
#define FAKE_DISK_BYTES   (UINT64_C(16) << 20)

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
    char replica_disk[MACHINE_NAME_BYTES]; /* what that disk is called in the replica */
    uint64_t tracked;    /* serial of the open map; 0: none. Gone when it is stopped */
    uint64_t marked;     /* bytes in that map, of all disks */
    uint64_t generation; /* of the source that opened it */
    char work_dir[MACHINE_PATH_BYTES];
    bool ran_untracked; /* it was let run while no map was open */
    bool streaming;     /* a job is there */
    uint64_t streamed;  /* of FAKE_DISK_BYTES, a quarter more at each look */
    uint64_t rate;      /* of the job */
    unsigned streams;   /* how often one was begun */
    unsigned servers;   /* of points */
};

struct provider_fake {
    struct provider provider;
    pthread_mutex_t lock;
    struct fake_machine machines[FAKE_MACHINES_MAX];
    int agent;           /* the answer */
    const char *console; /* what consoles show */
    enum err_code fail;  /* the next start or stop fails with this */
    uint32_t repairs;
    bool stubborn;            /* guests do not shut down */
    bool trackless;           /* sources cannot track */
    unsigned stream_failures; /* so many looks at a stream find it failed */
    bool stream_full;         /* ... because the file system is full */
    bool stream_holes;        /* one that ended has not copied all */
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
