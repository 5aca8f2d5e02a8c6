// SPDX-License-Identifier: Apache-2.0
/* A recovered machine as the provider runs it: the demo guest with two disks of 16 MiB, which are the
 * first point of a replica in a directory. One at a time. */
#pragma once

#include "providers/provider.h"
#include "support/replica/kit.h"

#define SERVED_SIZE  (UINT64_C(16) << 20)
#define SERVED_SLOTS 256

struct served {
    struct kit kit;
    struct store *store;
    struct provider *provider;
    struct machine machine;
    struct provider_served_disks disks;
    struct provider_instance instance;
    struct cancel *cancel; /* four minutes */
    char *run_dir, *console, *work_dir;
    char *points[KIT_DISKS]; /* what the disks hold at the point, as plain images */
};

/* For a fixture's set-up and tear-down; `iothreads`: each disk has one. */
#define SERVED_START(s, state, iothreads) \
    served_start(s, state, iothreads, MUSTER_SOURCE_DIR, MUSTER_BINARY_DIR)
int served_start(struct served *s, void **state, bool iothreads, const char *source_dir,
                 const char *binary_dir);
int served_stop(struct served *s, void **state);

/* Until the guest has acknowledged `more` records beyond those it has; how many that are. */
uint64_t served_wait_acked(struct served *s, uint64_t more);
enum instance_state served_state(struct served *s);
void served_wait_state(struct served *s, enum instance_state wanted);
/* SIGKILL, and until it is gone. */
void served_kill_server(struct served *s, size_t disk);
void served_kill_machine(struct served *s);
uint32_t served_repair(struct served *s);
/* As the daemon does: QEMU reconnects when it tries again, seconds later, and until then every read
 * stops the machine anew. */
void served_repair_until_it_runs(struct served *s);
/* A source over its disks, for group "shop". */
struct source *served_source(struct served *s, uint64_t generation);
