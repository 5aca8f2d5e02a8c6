// SPDX-License-Identifier: Apache-2.0
#include "support/run/run_world.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdatomic.h>
#include <stdlib.h>

#define WALL_MS   1700000000000
#define TURNS_MAX 50000

/* --- The clock ------------------------------------------------------------------------------ */

static int64_t tick_now(struct clock *clock)
{
    struct clock_tick *tick = (struct clock_tick *)clock;

    return atomic_fetch_add(&tick->now, tick->step_ms) + tick->step_ms;
}

static int64_t tick_wall(struct clock *clock)
{
    struct clock_tick *tick = (struct clock_tick *)clock;

    return tick->wall_base + tick_now(&tick->clock);
}

void clock_tick_init(struct clock_tick *tick, int64_t wall_ms, int64_t step_ms)
{
    tick->clock = (struct clock){tick_now, tick_wall};
    tick->now = 0;
    tick->wall_base = wall_ms;
    tick->step_ms = step_ms;
}

/* --- Opening and closing --------------------------------------------------------------------- */

static struct site *peer(void *ctx, const char *name)
{
    struct run_world *world = ctx;

    return str_eq(name, world->there->name) ? world->there : NULL;
}

static void changed(void *ctx, int64_t run)
{
    struct run_world *world = ctx;

    (void)run;
    world->changed++;
}

static void turn_end(void *ctx)
{
    struct run_world *world = ctx;

    EXPECT_OK(state_turn_end(world->state, &err));
    runner_turn_committed(world->runner);
}

static const char *const machines[] = {"db1", "web1", "web2"};

void run_world_people(struct sim_world *sim_world, const struct clock_tick *tick)
{
    for (size_t i = 0; i < ARRAY_LEN(machines); i++)
        sim_machine_add(sim_world, machines[i], 7, tick->wall_base - 3000);
    sim_world->boot_ms = 2000;
}

void run_world_open(struct run_world *world, const char *dir, struct clock_tick *tick,
                    struct sim_world *sim_world)
{
    static const struct run_tools none = {0};

    run_world_open_with(world, dir, tick, sim_world, &none);
}

void run_world_open_with(struct run_world *world, const char *dir, struct clock_tick *tick,
                         struct sim_world *sim_world, const struct run_tools *tools)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "state.db");

    *world = (struct run_world){.tick = tick, .sim_world = sim_world, .dir = mem_strdup(dir)};
    log_set_level(LOG_LEVEL_ERROR);
    world->loop = loop_new(&tick->clock);
    world->pool = pool_new_inline(world->loop);
    EXPECT_OK(state_open(path, &world->state, &err));
    world->sim = sim_new(sim_world, &tick->clock);
    world->here = sim_site_recovery(world->sim, "lyon");
    world->there = sim_site_source(world->sim, "paris");
    const struct runner_world runner = {
        .loop = world->loop,
        .pool = world->pool,
        .state = world->state,
        .here = world->here,
        .ctx = world,
        .peer = peer,
        .changed = changed,
        .host = tools->host,
        .verbs = tools->verbs,
        .verb_count = tools->verb_count,
    };
    world->runner = runner_new(&runner);
    loop_set_turn_end(world->loop, turn_end, world);
}

void run_world_protect(struct run_world *world)
{
    for (size_t i = 0; i < ARRAY_LEN(machines); i++) {
        const struct state_protection row = {
            .group = (char *)(uintptr_t)machines[i],
            .peer = (char[]){"paris"},
            .role = (char[]){"replica"},
            .state = (char[]){"protected"},
            .settings = (char[]){"{}"},
            .generation = 1,
        };
        EXPECT_OK(state_protection_put(world->state, &row, &err));
    }
    EXPECT_OK(state_turn_end(world->state, &err));
}

void run_world_group(struct run_world *world)
{
    const struct state_protection row = {
        .group = (char[]){"shop"},
        .peer = (char[]){"paris"},
        .role = (char[]){"replica"},
        .state = (char[]){"protected"},
        .settings = (char[]){"{\"machines\": [\"db1\", \"web1\"], \"agents\": [\"web1\"]}"},
        .generation = 1,
    };
    for (size_t i = 0; i < 2; i++) {
        EXPECT_OK(state_protection_remove(world->state, machines[i], &err));
        sim_group_join(world->sim_world, machines[i], "shop");
    }
    EXPECT_OK(state_protection_put(world->state, &row, &err));
    EXPECT_OK(state_turn_end(world->state, &err));
}

void run_world_close(struct run_world *world)
{
    runner_stop(world->runner);
    while (loop_step(world->loop, 0))
        ;
    pool_free(world->pool);
    runner_free(world->runner);
    state_close(world->state);
    site_close(world->here);
    site_close(world->there);
    sim_free(world->sim);
    loop_free(world->loop);
    free(world->dir);
}

int run_world_setup(void **state)
{
    struct run_world *world = mem_new(struct run_world);
    struct clock_tick *tick = mem_new(struct clock_tick);
    struct sim_world *sim_world = mem_new(struct sim_world);
    void *dir;

    if (tmpdir_setup(&dir) < 0)
        return -1;
    clock_tick_init(tick, WALL_MS, 10);
    run_world_people(sim_world, tick);
    run_world_open(world, dir, tick, sim_world);
    run_world_protect(world);
    free(dir);
    *state = world;
    return 0;
}

int run_world_teardown(void **state)
{
    struct run_world *world = *state;
    struct clock_tick *tick = world->tick;
    struct sim_world *sim_world = world->sim_world;
    void *dir = mem_strdup(world->dir);

    run_world_close(world);
    free(tick);
    free(sim_world);
    free(world);
    return tmpdir_teardown(&dir);
}

/* --- Plans ------------------------------------------------------------------------------------ */

static json_t *parse(const char *text)
{
    json_t *json = NULL;

    EXPECT_OK(json_parse(text, strlen(text), &json, &err));
    return json;
}

json_t *run_world_plan(void)
{
    return parse(
        "{\"name\": \"shop\", \"rto\": \"15m\", \"rpo\": \"30s\", \"stages\": ["
        " {\"title\": \"Database\", \"items\": ["
        "  {\"step\": {\"title\": \"Bring up db1\", \"actions\":"
        "   [{\"verb\": \"failover\", \"args\": {\"machine\": \"db1\"}}]}},"
        "  {\"step\": {\"title\": \"Wait for db1\", \"actions\":"
        "   [{\"verb\": \"wait_until\", \"args\": {\"tcp\": \"db1:5432\", \"within\": \"10s\"}}]}}]},"
        " {\"title\": \"Web\", \"items\": ["
        "  {\"parallel\": ["
        "   {\"title\": \"Bring up web1\", \"actions\":"
        "    [{\"verb\": \"failover\", \"args\": {\"machine\": \"web1\"}}]},"
        "   {\"title\": \"Bring up web2\", \"actions\":"
        "    [{\"verb\": \"failover\", \"args\": {\"machine\": \"web2\"}}]}]},"
        "  {\"step\": {\"title\": \"Look at web1\", \"actions\":"
        "   [{\"verb\": \"wait_until\", \"args\": {\"agent\": \"web1\"}},"
        "    {\"verb\": \"check\", \"args\": {\"console\": \"web2\", \"line\": \"READY\"}}]}}]},"
        " {\"title\": \"Open\", \"only\": [\"planned\", \"unplanned\"], \"items\": ["
        "  {\"step\": {\"title\": \"Look once more\", \"actions\":"
        "   [{\"verb\": \"check\", \"args\": {\"tcp\": \"10.0.0.5:80\"}}]}}]}]}");
}

json_t *run_world_plan_with(const char *step_fields)
{
    CLEANUP(mem_freep)
    char *text = mem_printf("{\"name\": \"one\", \"stages\": [{\"title\": \"All\", \"items\": ["
                            " {\"step\": {\"title\": \"Bring up db1\", \"actions\":"
                            "  [{\"verb\": \"failover\", \"args\": {\"machine\": \"db1\"}}]}},"
                            " {\"step\": {\"title\": \"It\", %s}}]}]}",
                            step_fields);

    return parse(text);
}

/* --- Driving ---------------------------------------------------------------------------------- */

int64_t run_world_start(struct run_world *world, json_t *document, enum run_kind kind)
{
    CLEANUP(json_freep) json_t *owned = document;
    const struct runner_spec spec = {
        .plan = json_get_str(owned, "name", "?"),
        .document = kind == RUN_CLEANUP ? NULL : owned,
        .kind = kind,
        .who = "ada",
    };
    int64_t run = 0;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    return run;
}

int64_t run_world_start_stored(struct run_world *world, const char *plan, enum run_kind kind)
{
    const struct runner_spec spec = {.plan = plan, .kind = kind, .who = "ada"};
    int64_t run = 0;

    EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
    return run;
}

void run_world_store(struct run_world *world, const char *name, const char *source,
                     const json_t *document)
{
    CLEANUP(mem_freep) char *text = json_text(document);
    CLEANUP(state_plan_done)
    struct state_plan plan = {.name = mem_strdup(name),
                              .source = mem_strdup(source),
                              .document = mem_strdup(text),
                              .hash = mem_strdup(""),
                              .origin = mem_strdup("paris")};

    EXPECT_OK(state_plan_put(world->state, &plan, &err));
    EXPECT_OK(state_turn_end(world->state, &err));
}

void run_world_commit(struct run_world *world)
{
    turn_end(world);
}

bool run_world_turn(struct run_world *world)
{
    return loop_step(world->loop, 0);
}

const char *run_world_settle(struct run_world *world, int64_t run)
{
    static char text[32];

    turn_end(world); /* what was asked for between the turns */
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        struct state_run row = {0};
        EXPECT_OK(state_run_get(world->state, run, &row, &err));
        (void)snprintf(text, sizeof(text), "%s", row.state);
        state_run_done(&row);
        if (!str_eq(text, "checking") && !str_eq(text, "running") && !str_eq(text, "cancelling")
            && !str_eq(text, "cleaning"))
            break;
        (void)run_world_turn(world);
    }
    while (run_world_turn(world))
        ;
    return text;
}

json_t *run_world_get(struct run_world *world, int64_t run)
{
    json_t *json = NULL;

    EXPECT_OK(runner_get(world->runner, run, &json, &err));
    return json;
}

const char *run_world_step(const json_t *json, const char *title)
{
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(json, "steps"), i, step) {
        if (str_eq(json_get_str(step, "title", ""), title))
            return json_get_str(step, "state", "?");
    }
    return "no such step";
}
