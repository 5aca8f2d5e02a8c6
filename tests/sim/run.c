// SPDX-License-Identifier: Apache-2.0
/* Runs under random trouble, from one seed, in virtual time: asks that fail before or after their
 * effect, a source that comes and goes, restarts of the daemon between any two turns, a person who
 * cancels or decides. After every turn the invariants hold; when the trouble ends, the failover
 * comes to its end. A seed that failed is kept in `kept`. */
#include "run/run.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/run/run_world.h"
#include "support/tmpdir.h"

#include <stdlib.h>
#include <unistd.h>

#define SEEDS     200
#define TURNS_MAX 3000
#define RUNS_MAX  12
#define WALL_MS   1700000000000

struct story {
    uint64_t seed;
    uint64_t dice;
    struct clock_tick tick;
    struct sim_world sim_world;
    struct run_world world;
    char *dir;
    bool trouble;
    enum run_kind kind;
    int64_t run;
};

static uint32_t roll(struct story *story, uint32_t sides)
{
    story->dice ^= story->dice << 13;
    story->dice ^= story->dice >> 7;
    story->dice ^= story->dice << 17;
    return (uint32_t)(story->dice >> 16) % sides;
}

/* --- Invariants --------------------------------------------------------------------------------- */

static const char *const machines[] = {"db1", "web1", "web2"};

static void look(struct story *story, const char *name)
{
    struct sim_world *sim_world = &story->sim_world;
    const struct sim_machine *machine = sim_machine(sim_world, name);
    unsigned real = 0;

    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++) {
        const struct sim_instance *instance = &sim_world->instances[i];
        real += instance->machine[0] && strcmp(instance->machine, name) == 0 && !instance->test;
    }
    if (real > 1)
        fail_msg("seed %llu: %u real machines %s", (unsigned long long)story->seed, real, name);
    if (real > 0 && machine->generation != 2)
        fail_msg("seed %llu: %s runs unpromoted", (unsigned long long)story->seed, name);
    if (sim_done(sim_world, "group.promote", name) > 1)
        fail_msg("seed %llu: %s was promoted twice", (unsigned long long)story->seed, name);
    if (machine->retired && machine->state == INSTANCE_RUNNING)
        fail_msg("seed %llu: the retired %s runs", (unsigned long long)story->seed, name);
    if (story->kind == RUN_PLANNED && real > 0 && machine->state == INSTANCE_RUNNING)
        fail_msg("seed %llu: %s runs at both sites", (unsigned long long)story->seed, name);
    if (story->kind == RUN_TEST && (machine->state != INSTANCE_RUNNING || machine->held[0]))
        fail_msg("seed %llu: a test touched the source of %s", (unsigned long long)story->seed,
                 name);
}

static void invariants(struct story *story)
{
    for (size_t i = 0; i < ARRAY_LEN(machines); i++)
        look(story, machines[i]);
}

/* --- Trouble ------------------------------------------------------------------------------------- */

static void restart(struct story *story)
{
    struct run_world *world = &story->world;

    /* What flies has landed (the pool is inline), but nobody wrote its result. */
    runner_stop(world->runner);
    run_world_close(world);
    run_world_open(world, story->dir, &story->tick, &story->sim_world);
    EXPECT_OK(runner_recover(world->runner, &err));
    run_world_commit(world);
}

static void arm_fault(struct story *story)
{
    static const char *const asks[] = {
        "machine.shutdown", "machine.start", "group.hold",     "group.final-sync",
        "group.release",    "group.retire",  "group.pin",      "group.promote",
        "net.create",       "net.observe",   "instance.start", "instance.observe",
        "instance.remove",  "group.observe", "probe.agent",    "group.unpin"};
    static const enum err_code codes[] = {ERR_NET,   ERR_IO,      ERR_TIMEOUT, ERR_BUSY,
                                          ERR_SPACE, ERR_CORRUPT, ERR_UNKNOWN};

    for (size_t i = 0; i < SIM_FAULTS_MAX; i++) {
        struct sim_fault *fault = &story->sim_world.faults[i];
        if (fault->what[0] && fault->times > 0)
            continue;
        *fault = (struct sim_fault){.skip = roll(story, 3),
                                    .times = 1 + roll(story, 2),
                                    .after = roll(story, 2) == 0,
                                    .code = codes[roll(story, ARRAY_LEN(codes))]};
        (void)snprintf(fault->what, sizeof(fault->what), "%s", asks[roll(story, ARRAY_LEN(asks))]);
        return;
    }
}

static void decide(struct story *story)
{
    CLEANUP(json_freep) json_t *json = run_world_get(&story->world, story->run);
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(json, "steps"), i, step) {
        struct err ignored = ERR_EMPTY;
        enum runner_decision decision =
            story->trouble && roll(story, 4) == 0 ? RUNNER_FAIL : RUNNER_RETRY;
        if (runner_decide(story->world.runner, story->run, i, decision, "dice", "sim", &ignored)
            == 0)
            break;
    }
    run_world_commit(&story->world);
}

static void trouble(struct story *story)
{
    struct err ignored = ERR_EMPTY;

    switch (roll(story, 10)) {
    case 0: restart(story); break;
    case 1: arm_fault(story); break;
    case 2: story->sim_world.unreachable = !story->sim_world.unreachable; break;
    case 3:
        if (roll(story, 4) == 0
            && runner_cancel(story->world.runner, story->run, "sim", &ignored) == 0)
            run_world_commit(&story->world);
        break;
    default: break;
    }
}

/* --- One run --------------------------------------------------------------------------------------- */

static const char *state_of(struct story *story, char *text, size_t len)
{
    struct state_run row = {0};

    EXPECT_OK(state_run_get(story->world.state, story->run, &row, &err));
    (void)snprintf(text, len, "%s", row.state);
    state_run_done(&row);
    return text;
}

static bool is_moving(const char *state)
{
    static const char *const moving[] = {"checking", "running", "paused", "cancelling"};

    for (size_t i = 0; i < ARRAY_LEN(moving); i++)
        if (strcmp(state, moving[i]) == 0)
            return true;
    return false;
}

static void run_to_its_end(struct story *story, char *state, size_t len)
{
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        if (!is_moving(state_of(story, state, len)))
            return;
        if (strcmp(state, "paused") == 0)
            decide(story);
        if (story->trouble)
            trouble(story);
        (void)run_world_turn(&story->world);
        invariants(story);
    }
    fail_msg("seed %llu: run %d never ended (%s)", (unsigned long long)story->seed, (int)story->run,
             state);
}

static bool start(struct story *story, enum run_kind kind)
{
    CLEANUP(json_freep) json_t *document = run_world_plan();
    const struct runner_spec spec = {.plan = "shop",
                                     .document = kind == RUN_CLEANUP ? NULL : document,
                                     .kind = kind,
                                     .who = "sim"};
    struct err ignored = ERR_EMPTY;
    int rc = runner_start(story->world.runner, &spec, &story->run, &ignored);

    run_world_commit(&story->world);
    return rc == 0;
}

/* Tries until it is where it should be; trouble ends after the third run. */
static void try_until(struct story *story, enum run_kind kind, const char *want)
{
    char state[32] = "";

    for (int attempt = 0; attempt < RUNS_MAX; attempt++) {
        story->trouble = attempt < 3;
        if (!story->trouble) {
            memset(story->sim_world.faults, 0, sizeof(story->sim_world.faults));
            story->sim_world.unreachable = false;
        }
        for (uint32_t faults = story->trouble ? roll(story, 4) : 0; faults > 0; faults--)
            arm_fault(story);
        if (!start(story, kind))
            return; /* there is nothing more to do, as the caller checks */
        run_to_its_end(story, state, sizeof(state));
        if (strcmp(state, want) == 0)
            return;
    }
    fail_msg("seed %llu: a %s run never came to \"%s\" but to \"%s\"",
             (unsigned long long)story->seed, run_kind_name(kind), want, state);
}

static void assert_nothing_of_tests(struct story *story)
{
    const struct sim_world *sim_world = &story->sim_world;

    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        if (sim_world->instances[i].machine[0] && sim_world->instances[i].test)
            fail_msg("seed %llu: a test's %s is left", (unsigned long long)story->seed,
                     sim_world->instances[i].machine);
    for (size_t i = 0; i < SIM_NETS_MAX; i++)
        assert_string_equal(sim_world->nets[i], "");
}

static void tell(struct story *story)
{
    static const enum run_kind kinds[] = {RUN_TEST, RUN_PLANNED, RUN_UNPLANNED};

    story->kind = kinds[story->seed % 3];
    if (story->kind == RUN_TEST) {
        try_until(story, RUN_TEST, "cleanup-due");
        try_until(story, RUN_CLEANUP, "succeeded");
        assert_nothing_of_tests(story);
        return;
    }
    try_until(story, story->kind, "awaiting-commit");
    for (size_t i = 0; i < ARRAY_LEN(machines); i++)
        look(story, machines[i]);
    assert_int_equal(sim_done(&story->sim_world, "group.promote", "db1"), 1);
}

static void run_seed(uint64_t seed)
{
    struct story *story = mem_new(struct story);
    void *dir;

    story->seed = seed;
    story->dice = seed * 0x9E3779B97F4A7C15U + 1;
    clock_tick_init(&story->tick, WALL_MS, 200);
    run_world_people(&story->sim_world, &story->tick);
    story->sim_world.boot_ms = 1000;
    assert_int_equal(tmpdir_setup(&dir), 0);
    story->dir = dir;
    run_world_open(&story->world, dir, &story->tick, &story->sim_world);
    run_world_protect(&story->world);
    tell(story);
    run_world_close(&story->world);
    assert_int_equal(tmpdir_teardown(&dir), 0);
    free(story);
}

static void runs_hold_their_invariants_under_any_trouble(void **state)
{
    static const uint64_t kept[] = {1112};
    const char *wanted = getenv("MUSTER_SEED");

    (void)state;
    if (wanted) {
        run_seed(strtoull(wanted, NULL, 10));
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(kept); i++)
        run_seed(kept[i]);
    for (uint64_t seed = 1000; seed < 1000 + SEEDS; seed++)
        run_seed(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_hold_their_invariants_under_any_trouble),
    };

    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests_name("run sim", tests, NULL, NULL);
}
