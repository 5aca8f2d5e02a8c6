// SPDX-License-Identifier: Apache-2.0
/* Each kind of run is killed (SIGKILL) at its 1st, 2nd, 3rd ... record or effect until it passes
 * without; a new process takes it up over the same state.db and the same world, which lies in
 * shared memory. In the end everything is as after a run that nobody killed, and no effect happened
 * twice. A second sweep kills the recovery, too. */
#include "run/run.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/run/run_world.h"
#include "support/tmpdir.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define POINTS_MAX 2000
#define WALL_MS    1700000000000

struct shared {
    struct clock_tick tick;
    struct sim_world world;
    char ends[4][32]; /* the runs' last states */
};

struct scenario {
    const char *name;
    enum run_kind kind;
    bool cleanup;           /* the test's cleanup as well */
    bool unreachable;       /* the source */
    bool cancel;            /* when the last machine is shut down */
    bool refused;           /* last deltas, then no promotion, so it is cancelled */
    bool group;             /* db1 and web1 are one */
    enum run_kind after[2]; /* what follows it; RUN_TEST: nothing */
    const char *step;       /* a plan with this step instead of the usual one */
};

static const struct scenario scenarios[] = {
    {.name = "test and cleanup", .kind = RUN_TEST, .cleanup = true},
    {.name = "planned", .kind = RUN_PLANNED},
    {.name = "unplanned", .kind = RUN_UNPLANNED},
    {.name = "unplanned without the source", .kind = RUN_UNPLANNED, .unreachable = true},
    {.name = "planned, cancelled", .kind = RUN_PLANNED, .cancel = true},
    {.name = "unplanned with last deltas, cancelled",
     .kind = RUN_UNPLANNED,
     .cancel = true,
     .refused = true},
    {.name = "planned and committed", .kind = RUN_PLANNED, .after = {RUN_COMMIT}},
    {.name = "unplanned and rolled back", .kind = RUN_UNPLANNED, .after = {RUN_ROLLBACK}},
    {.name = "planned, from another point, committed",
     .kind = RUN_PLANNED,
     .after = {RUN_CHANGE_POINT, RUN_COMMIT}},
    {.name = "planned, from another point, rolled back",
     .kind = RUN_PLANNED,
     .after = {RUN_CHANGE_POINT, RUN_ROLLBACK}},
    {.name = "a group's test and cleanup", .kind = RUN_TEST, .cleanup = true, .group = true},
    {.name = "a group, planned, cancelled", .kind = RUN_PLANNED, .cancel = true, .group = true},
    {.name = "a group, unplanned, committed",
     .kind = RUN_UNPLANNED,
     .after = {RUN_COMMIT},
     .group = true},
    {.name = "a group, planned, from another point, rolled back",
     .kind = RUN_PLANNED,
     .after = {RUN_CHANGE_POINT, RUN_ROLLBACK},
     .group = true},
    {.name = "a commit of its own",
     .kind = RUN_PLANNED,
     .step = "\"only\": [\"planned\"], \"actions\": ["
             " {\"verb\": \"commit\", \"args\": {\"machine\": \"db1\"}},"
             " {\"verb\": \"reprotect\", \"args\": {\"machine\": \"db1\"}}]"},
    {.name = "a question, a command, an address, a message",
     .kind = RUN_UNPLANNED,
     .step = "\"actions\": ["
             " {\"verb\": \"approve\", \"args\": {\"value\": \"Well?\"}},"
             " {\"verb\": \"run_command\", \"args\": {\"value\": \"/bin/x\"}},"
             " {\"verb\": \"assign_ip\", \"args\": {\"machine\": \"db1\","
             "  \"address\": \"10.20.0.11/24\"}},"
             " {\"verb\": \"run_command\", \"args\": {\"value\": \"/bin/y\","
             "  \"at\": \"paris\"}},"
             " {\"verb\": \"notify\", \"args\": {\"value\": \"https://a.b/\","
             "  \"text\": \"x\"}}]"},
};

/* --- The life of one process ------------------------------------------------------------------- */

/* The newest run of that kind, or 0. */
static int64_t find_run(struct run_world *world, enum run_kind kind)
{
    struct state_runs rows = VEC_EMPTY;
    int64_t id = 0;

    EXPECT_OK(state_run_list(world->state, false, &rows, &err));
    VEC_FOREACH(row, &rows)
        if (id == 0 && strcmp(row->kind, run_kind_name(kind)) == 0)
            id = row->id;
    state_runs_done(&rows);
    return id;
}

static int64_t find_or_start(struct run_world *world, const struct scenario *scenario,
                             enum run_kind kind)
{
    int64_t run = find_run(world, kind);

    if (run)
        return run;
    if (kind == RUN_CHANGE_POINT) {
        const struct runner_spec spec = {.plan = "shop", .kind = kind, .point = 4, .who = "ada"};

        EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
        return run;
    }
    if (scenario->refused) {
        CLEANUP(json_freep) json_t *document = run_world_plan();
        const struct runner_spec spec = {
            .plan = "shop", .document = document, .kind = kind, .last_delta = true, .who = "ada"};

        EXPECT_OK(runner_start(world->runner, &spec, &run, &err));
        return run;
    }
    return run_world_start(
        world, scenario->step ? run_world_plan_with(scenario->step) : run_world_plan(), kind);
}

static bool is_cancelled(struct run_world *world, int64_t run)
{
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    const char *state = json_get_str(json, "state", "");

    return strcmp(state, "cancelling") == 0 || strcmp(state, "cancelled") == 0;
}

/* Cancels what failed since nobody could be promoted. */
static void cancel_refused(struct run_world *world, int64_t run)
{
    if (strcmp(run_world_settle(world, run), "failed") == 0)
        EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
}

/* Cancels as soon as all machines are shut down: the last deltas are under way. */
static void cancel_midway(struct run_world *world, int64_t run)
{
    for (int turn = 0; turn < POINTS_MAX && !is_cancelled(world, run); turn++) {
        CLEANUP(json_freep) json_t *json = run_world_get(world, run);
        if (strcmp(run_world_step(json, "Shut down db1"), "done") == 0) {
            EXPECT_OK(runner_cancel(world->runner, run, "ada", &err));
            return;
        }
        (void)run_world_turn(world);
    }
}

/* Says yes to whatever is asked. */
static const char *settle(struct run_world *world, int64_t run)
{
    const char *state = run_world_settle(world, run);
    size_t step;

    while (strcmp(state, "paused") == 0) {
        EXPECT_OK(runner_answer(world->runner, run, SIZE_MAX, true, "", "ada", &step, &err));
        state = run_world_settle(world, run);
    }
    return state;
}

static void live(const struct scenario *scenario, const char *dir, struct shared *shared)
{
    struct run_world world;

    run_world_open(&world, dir, &shared->tick, &shared->world);
    EXPECT_OK(runner_recover(world.runner, &err));
    run_world_commit(&world);
    int64_t run = find_or_start(&world, scenario, scenario->kind);
    if (scenario->refused)
        cancel_refused(&world, run);
    else if (scenario->cancel)
        cancel_midway(&world, run);
    (void)snprintf(shared->ends[0], sizeof(shared->ends[0]), "%s", settle(&world, run));
    if (scenario->cleanup) {
        int64_t cleanup = find_or_start(&world, scenario, RUN_CLEANUP);
        (void)snprintf(shared->ends[1], sizeof(shared->ends[1]), "%s",
                       run_world_settle(&world, cleanup));
        (void)snprintf(shared->ends[0], sizeof(shared->ends[0]), "%s",
                       run_world_settle(&world, run));
    }
    for (size_t i = 0; i < ARRAY_LEN(scenario->after) && scenario->after[i] != RUN_TEST; i++) {
        int64_t after = find_or_start(&world, scenario, scenario->after[i]);

        (void)snprintf(shared->ends[1 + i], sizeof(shared->ends[1 + i]), "%s",
                       run_world_settle(&world, after));
        /* What it left of the failover: a life that was cut may have begun with it. */
        (void)snprintf(shared->ends[0], sizeof(shared->ends[0]), "%s",
                       run_world_settle(&world, run));
    }
    run_world_close(&world);
}

/* True: it was killed at its `nth` point; false: it came to its end before. */
static bool live_in_child(const struct scenario *scenario, const char *dir, struct shared *shared,
                          int nth)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        CLEANUP(mem_freep) char *spec = mem_printf("*:%d", nth);
        if (nth > 0)
            (void)setenv("MUSTER_CRASH", spec, 1);
        live(scenario, dir, shared);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && nth > 0)
        return true;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s, point %d: the process ended with %d", scenario->name, nth, status);
    return false;
}

static struct shared *shared_new(const struct scenario *scenario)
{
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(shared, MAP_FAILED);
    clock_tick_init(&shared->tick, WALL_MS, 100);
    run_world_people(&shared->world, &shared->tick);
    shared->world.boot_ms = 600;
    shared->world.unreachable = scenario->unreachable;
    shared->world.command_ms = 300;
    if (scenario->refused)
        sim_fail(&shared->world, "group.promote", "", 9999, ERR_INVALID);
    return shared;
}

static void shared_free(struct shared *shared)
{
    (void)munmap(shared, sizeof(*shared));
}

/* Protections are there before the first run; made by a process that has no crash points armed. */
static void prepare(const struct scenario *scenario, const char *dir, struct shared *shared)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct run_world world;
        run_world_open(&world, dir, &shared->tick, &shared->world);
        run_world_protect(&world);
        if (scenario->group)
            run_world_group(&world);
        run_world_close(&world);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- Judging ------------------------------------------------------------------------------------- */

/* A killed process may be cancelled a little earlier than the uncut one: before its last deltas. */
static void compare_machine(const struct scenario *scenario, const struct sim_machine *a,
                            const struct sim_machine *b)
{
    assert_int_equal(a->state, b->state);
    assert_string_equal(a->held, b->held);
    assert_int_equal(a->final_point, b->final_point);
    assert_int_equal(a->retired, b->retired);
    assert_int_equal(a->generation, b->generation);
    if (!scenario->cancel)
        assert_int_equal(a->durable_point, b->durable_point);
    assert_int_equal(a->promoted_point, b->promoted_point);
    assert_int_equal(a->returned, b->returned);
    assert_int_equal(a->asked_back, b->asked_back);
    for (size_t i = 0; i < SIM_PINS_MAX; i++)
        assert_int_equal(a->pins[i].point, b->pins[i].point);
}

static unsigned count_instances(const struct sim_world *world)
{
    unsigned count = 0;

    for (size_t i = 0; i < SIM_INSTANCES_MAX; i++)
        count += world->instances[i].machine[0] && world->instances[i].state == INSTANCE_RUNNING;
    return count;
}

/* Each effect happened as often as in the run that nobody killed. What is asked again after a kill
 * is what the probe found not done, and what a probe itself asks: a promotion's answer, with its
 * two pins. */
static void compare_effects(const struct scenario *scenario, const struct sim_world *uncut,
                            const struct sim_world *cut, int kills)
{
    for (size_t i = 0; i < SIM_EFFECTS_MAX; i++) {
        const struct sim_effect *effect = &uncut->effects[i];
        if (!effect->what[0])
            break;
        unsigned done = sim_done(cut, effect->what, effect->object);
        unsigned asked = sim_asked(cut, effect->what, effect->object);
        unsigned want = sim_done(uncut, effect->what, effect->object);
        if (strcmp(effect->what, "hook.post") == 0 && done > want && done <= want + (unsigned)kills)
            continue; /* in doubt it is sent again */
        if (done > want || (done < want && !scenario->cancel))
            fail_msg("%s of %s happened %u times", effect->what, effect->object, done);
        if (asked > sim_asked(uncut, effect->what, effect->object) + 2 * (unsigned)kills)
            fail_msg("%s of %s was asked for %u times", effect->what, effect->object, asked);
    }
}

static void compare(const struct scenario *scenario, const struct shared *uncut,
                    const struct shared *cut, int kills)
{
    for (size_t i = 0; i < SIM_MACHINES_MAX; i++)
        compare_machine(scenario, &uncut->world.machines[i], &cut->world.machines[i]);
    assert_int_equal(count_instances(&uncut->world), count_instances(&cut->world));
    for (size_t i = 0; i < SIM_NETS_MAX; i++)
        assert_string_equal(uncut->world.nets[i], cut->world.nets[i]);
    for (size_t i = 0; i < ARRAY_LEN(uncut->ends); i++)
        assert_string_equal(uncut->ends[i], cut->ends[i]);
    compare_effects(scenario, &uncut->world, &cut->world, kills);
}

/* --- The sweeps ------------------------------------------------------------------------------------ */

static struct shared *uncut_run(const struct scenario *scenario)
{
    struct shared *shared = shared_new(scenario);
    void *dir;

    assert_int_equal(tmpdir_setup(&dir), 0);
    prepare(scenario, dir, shared);
    assert_false(live_in_child(scenario, dir, shared, 0));
    assert_int_equal(tmpdir_teardown(&dir), 0);
    return shared;
}

/* False: the point was never reached. `second`: where the recovery is killed; 0: it is not. */
static bool killed_at(const struct scenario *scenario, const struct shared *uncut, int nth,
                      int second)
{
    struct shared *shared = shared_new(scenario);
    void *dir;
    int kills = 1;

    assert_int_equal(tmpdir_setup(&dir), 0);
    prepare(scenario, dir, shared);
    bool killed = live_in_child(scenario, dir, shared, nth);
    if (killed) {
        if (second > 0)
            kills += live_in_child(scenario, dir, shared, second);
        if (second == 0 || kills > 1)
            (void)live_in_child(scenario, dir, shared, 0);
    }
    compare(scenario, uncut, shared, kills);
    shared_free(shared);
    assert_int_equal(tmpdir_teardown(&dir), 0);
    return killed;
}

static void sweep(bool twice)
{
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        struct shared *uncut = uncut_run(&scenarios[i]);
        int points = 1;
        while (points < POINTS_MAX
               && killed_at(&scenarios[i], uncut, points, twice ? 1 + points * 7 % 23 : 0))
            points += twice ? 5 : 1;
        print_message("%s: %d points\n", scenarios[i].name, points - 1);
        assert_in_range(points, 20, POINTS_MAX - 1);
        shared_free(uncut);
    }
}

static void a_run_killed_at_any_record_ends_as_if_it_had_not_been(void **state)
{
    (void)state;
    sweep(false);
}

static void a_recovery_that_is_killed_goes_on_as_well(void **state)
{
    (void)state;
    sweep(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_killed_at_any_record_ends_as_if_it_had_not_been),
        cmocka_unit_test(a_recovery_that_is_killed_goes_on_as_well),
    };

    /* Processes are killed here, not machines: memory is as good as a disk, and faster. */
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests_name("run crash", tests, NULL, NULL);
}
