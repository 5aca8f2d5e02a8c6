// SPDX-License-Identifier: Apache-2.0
/* Two sites in memory, for simulation and tests: machines at the source, replicas, recovered
 * instances, a test's networks, with failures on request. The world is plain memory without
 * pointers, so it may lie in a mapping shared by processes: what was done survives the one that
 * did it. It counts every effect, so that "no effect twice" can be judged.
 * A `struct sim` is one process's access to a world; its sites may be used by any thread. */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "providers/provider.h"
#include "sites/site.h"

#include <stdbool.h>
#include <stdint.h>

#define SIM_NAME_BYTES    64
#define SIM_MACHINES_MAX  16
#define SIM_PINS_MAX      8
#define SIM_INSTANCES_MAX 16
#define SIM_NETS_MAX      8
#define SIM_EFFECTS_MAX   256
#define SIM_FAULTS_MAX    16
#define SIM_COMMANDS_MAX  16
#define SIM_LIST_BYTES    128

struct sim_pin {
    char label[SIM_NAME_BYTES];
    uint64_t point; /* 0: free place */
};

struct sim_machine {
    char name[SIM_NAME_BYTES];
    /* Its group's name: its own, unless sim_group_join. What follows and belongs to a group is that of
     * the group's first machine (sim_group); of the others only `state` counts. */
    char group[SIM_NAME_BYTES];
    /* The source's side. */
    enum instance_state state;
    char held[SIM_NAME_BYTES];
    uint64_t final_point;
    uint64_t retired;
    uint64_t delivered; /* the newest point that the other side has of it */
    uint64_t returned;  /* the generation under which it was given back; 0: never */
    /* The replica's side. */
    uint64_t generation;
    uint64_t durable_point;
    uint64_t applied_point;
    int64_t durable_cut_ms; /* wall clock; the applied one is as old */
    char token[SIM_NAME_BYTES];
    uint64_t promoted_point;
    struct sim_pin pins[SIM_PINS_MAX];
    int64_t interval_ms; /* a point this often while nothing holds it; 0: none by itself */
    bool yielded;        /* the last promotion was for the other side */
    bool own;            /* the replica's disks are this side's own: it came from here */
    bool asked_back;     /* to be protected again, the other way */
    int64_t back_ms;     /* monotonic: it is from then on */
    bool accepts_branch; /* as it was asked for */
};

struct sim_instance {
    char machine[SIM_NAME_BYTES]; /* "": free place */
    char run[SIM_NAME_BYTES];
    bool test;
    bool committed;
    uint64_t point;
    enum instance_state state;
    /* Its guest's card, texts joined by blanks; and before the assignment of `assigned`. */
    char addresses[SIM_LIST_BYTES];
    char gateways[SIM_LIST_BYTES];
    char assigned[SIM_NAME_BYTES]; /* "": none */
    char old_addresses[SIM_LIST_BYTES];
    char old_gateways[SIM_LIST_BYTES];
    int64_t up_ms; /* monotonic: answers probes from then on */
};

struct sim_command {
    char run[SIM_NAME_BYTES]; /* "": free place */
    char id[SIM_NAME_BYTES];
    int64_t started_ms; /* monotonic */
    int64_t within_ms;
    bool stopped;
};

struct sim_effect {
    char what[32];
    char object[SIM_NAME_BYTES];
    char run[SIM_NAME_BYTES];
    unsigned asked; /* calls that wanted the effect */
    unsigned done;  /* those that changed something */
};

struct sim_fault {
    char what[32];               /* "": free place */
    char object[SIM_NAME_BYTES]; /* machine or group; "": any */
    unsigned skip;
    unsigned times;
    bool after; /* the effect happens, the answer is lost */
    enum err_code code;
};

struct sim_world {
    bool unreachable; /* the source's site */
    int64_t boot_ms;  /* from start to the first answer */
    int64_t back_ms;  /* from the wish to be protected again to its end */
    struct sim_machine machines[SIM_MACHINES_MAX];
    struct sim_instance instances[SIM_INSTANCES_MAX];
    char nets[SIM_NETS_MAX][SIM_NAME_BYTES]; /* run's names; "": free place */
    struct sim_effect effects[SIM_EFFECTS_MAX];
    struct sim_fault faults[SIM_FAULTS_MAX];
    struct sim_command commands[SIM_COMMANDS_MAX];
    int64_t command_ms;  /* how long each command takes */
    int command_exit;    /* and what it ends with */
    bool command_lost;   /* nobody can tell how any of them ended */
    char hook_body[512]; /* the last that was posted */
    char hook_key[SIM_NAME_BYTES];
    char leftover[SIM_NAME_BYTES]; /* something a cleanup does not find; "": nothing */
};

/* A machine that runs at the source, with points 1..`point` at the replica, generation 1. */
void sim_machine_add(struct sim_world *world, const char *name, uint64_t point,
                     int64_t cut_wall_ms);
struct sim_machine *sim_machine(struct sim_world *world, const char *name); /* NULL: none */
/* The machine is one of that group's from now on. */
void sim_group_join(struct sim_world *world, const char *machine, const char *group);
/* The first machine of that group; NULL: none. */
struct sim_machine *sim_group(struct sim_world *world, const char *group);
/* The instance of that machine, in any run; NULL: none. */
struct sim_instance *sim_instance(struct sim_world *world, const char *machine);
void sim_fail(struct sim_world *world, const char *what, const char *object, unsigned times,
              enum err_code code);
/* Summed over all runs; `object` NULL: over all objects. */
unsigned sim_asked(const struct sim_world *world, const char *what, const char *object);
unsigned sim_done(const struct sim_world *world, const char *what, const char *object);

struct sim;
struct sim *sim_new(struct sim_world *world, struct clock *clock);
void sim_free(struct sim *sim); /* after its sites are closed */
struct site *sim_site_source(struct sim *sim, const char *name);
struct site *sim_site_recovery(struct sim *sim, const char *name);
