// SPDX-License-Identifier: Apache-2.0
/* A runner over two simulated sites ("paris" writes, "lyon" recovers), with a real state.db, an
 * inline pool and a clock that moves a little whenever somebody looks at it: whole runs in one
 * thread. The simulated world may lie in shared memory and outlive the process. */
#pragma once

#include "core/loop.h"
#include "core/pool.h"
#include "run/run.h"
#include "sites/site_sim.h"

#include <stdbool.h>

/* Moves `step_ms` with each look. Plain memory, may be shared. */
struct clock_tick {
    struct clock clock;
    _Atomic int64_t now;
    int64_t wall_base;
    int64_t step_ms;
};
void clock_tick_init(struct clock_tick *tick, int64_t wall_ms, int64_t step_ms);

/* What a runner has beside its sites; NULL: nothing, and the real verbs. Borrowed. */
struct run_tools {
    const struct host *host;
    const struct verb *const *verbs;
    size_t verb_count;
};

struct run_world {
    struct clock_tick *tick;
    struct sim_world *sim_world;
    struct loop *loop;
    struct pool *pool;
    struct state *state;
    struct sim *sim;
    struct site *here;
    struct site *there;
    struct runner *runner;
    char *dir;
    size_t changed; /* calls of the watcher */
};

/* Machines db1, web1, web2: protected from paris to lyon, points 1..7, cut 3 s ago. */
void run_world_people(struct sim_world *sim_world, const struct clock_tick *tick);
/* Opens (or makes) DIR/state.db and a runner over it. */
void run_world_open(struct run_world *world, const char *dir, struct clock_tick *tick,
                    struct sim_world *sim_world);
void run_world_open_with(struct run_world *world, const char *dir, struct clock_tick *tick,
                         struct sim_world *sim_world, const struct run_tools *tools);
/* Rows of the protections, at the first time. */
void run_world_protect(struct run_world *world);
/* db1 and web1 are a group, "shop", from now on; web1 has an agent. Before any run. */
void run_world_group(struct run_world *world);
void run_world_close(struct run_world *world);

/* cmocka fixtures: *state is a struct run_world in a folder of its own. */
int run_world_setup(void **state);
int run_world_teardown(void **state);
#define RUN_TEST_CASE(f) cmocka_unit_test_setup_teardown(f, run_world_setup, run_world_teardown)

/* db1, then web1 and web2 at once, waits and checks; "Open" only in real runs. */
json_t *run_world_plan(void);
/* One step, as JSON text of its fields besides title and line; `failover "db1"` before it. */
json_t *run_world_plan_with(const char *step_fields);

/* Starts the plan (takes `document`); fails the test when refused. */
int64_t run_world_start(struct run_world *world, json_t *document, enum run_kind kind);
/* The same for a plan that was stored: its source is needed, or its name. */
int64_t run_world_start_stored(struct run_world *world, const char *plan, enum run_kind kind);
/* Stores a plan as `muster plan add` does. */
void run_world_store(struct run_world *world, const char *name, const char *source,
                     const json_t *document);
/* Steps the loop until the run needs nobody but a person, or has ended; its state's name, owned by
 * the world until the next call. */
const char *run_world_settle(struct run_world *world, int64_t run);
/* As the end of a turn: what was decided outside of the loop is committed and starts. */
void run_world_commit(struct run_world *world);
/* One turn of the loop; false: nothing to do. */
bool run_world_turn(struct run_world *world);
json_t *run_world_get(struct run_world *world, int64_t run); /* new reference */
/* The state of the step with that title; owned by `json`. */
const char *run_world_step(const json_t *json, const char *title);
