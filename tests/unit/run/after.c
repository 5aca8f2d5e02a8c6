// SPDX-License-Identifier: Apache-2.0
/* commit, rollback and change-point as runs: what becomes of the failover's run and the protections. */
#include "run/run.h"

#include "base/mem.h"
#include "support/expect.h"
#include "support/run/run_world.h"

static const char *const names[] = {"db1", "web1", "web2"};

/* --- Asking ------------------------------------------------------------------------------------ */

static int try_with(struct run_world *world, enum run_kind kind, const char *plan, uint64_t point,
                    int64_t of_run, int64_t *ret_run)
{
    const struct runner_spec spec = {
        .plan = plan, .kind = kind, .point = point, .of_run = of_run, .who = "ada"};

    return runner_start(world->runner, &spec, ret_run, &err);
}

static int64_t after(struct run_world *world, enum run_kind kind)
{
    int64_t run = 0;

    EXPECT_OK(try_with(world, kind, "shop", kind == RUN_CHANGE_POINT ? 4 : 0, 0, &run));
    return run;
}

static int refused(struct run_world *world, enum run_kind kind, const char *plan)
{
    int64_t run = 0;

    return try_with(world, kind, plan, kind == RUN_CHANGE_POINT ? 4 : 0, 0, &run);
}

static int64_t fail_over(struct run_world *world)
{
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);

    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    return run;
}

/* The last machine does not start: promoted, and the run failed. */
static int64_t fail_over_badly(struct run_world *world)
{
    sim_fail(world->sim_world, "instance.start", "web2", 1, ERR_INVALID);
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    return run;
}

static void expect_protections(struct run_world *world, const char *want)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(state_protection_done) struct state_protection row = {0};

        EXPECT_OK(state_protection_get(world->state, names[i], &row, &err));
        assert_string_equal(row.state, want);
    }
}

static void expect_state(struct run_world *world, int64_t run, const char *want)
{
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);

    assert_string_equal(json_get_str(json, "state", ""), want);
}

static size_t instances(struct run_world *world)
{
    CLEANUP(state_instances_done) struct state_instances rows = VEC_EMPTY;

    EXPECT_OK(state_instance_list(world->state, &rows, &err));
    return rows.len;
}

static struct sim_machine *machine(struct run_world *world, const char *name)
{
    return sim_machine(world->sim_world, name);
}

static void reopen(struct run_world *world)
{
    struct clock_tick *tick = world->tick;
    struct sim_world *sim_world = world->sim_world;
    CLEANUP(mem_freep) char *dir = mem_strdup(world->dir);

    run_world_close(world);
    run_world_open(world, dir, tick, sim_world);
    EXPECT_OK(runner_recover(world->runner, &err));
    run_world_commit(world);
}

/* --- commit ------------------------------------------------------------------------------------ */

static void a_commit_ends_the_failover_and_the_machines_run_on(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);
    int64_t run = after(world, RUN_COMMIT);

    expect_protections(world, "committing");
    expect_state(world, failover, "awaiting-commit");
    assert_string_equal(run_world_settle(world, run), "succeeded");
    expect_state(world, failover, "committed");
    expect_protections(world, "committed");
    assert_int_equal(instances(world), 3);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_true(sim_instance(world->sim_world, names[i])->committed);
}

static void a_commit_of_two_of_three_is_gone_on_with(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);

    sim_fail(world->sim_world, "instance.commit", "web1", 1, ERR_INVALID);
    int64_t run = after(world, RUN_COMMIT);
    assert_string_equal(run_world_settle(world, run), "failed");
    expect_state(world, failover, "awaiting-commit");
    run = after(world, RUN_COMMIT);
    assert_string_equal(run_world_settle(world, run), "succeeded");
    expect_state(world, failover, "committed");
    expect_protections(world, "committed");
    assert_int_equal(sim_done(world->sim_world, "instance.commit", NULL), 3);
}

static void a_second_commit_is_refused(void **state)
{
    struct run_world *world = *state;

    (void)fail_over(world);
    (void)run_world_settle(world, after(world, RUN_COMMIT));
    EXPECT_ERR(ERR_STATE, refused(world, RUN_COMMIT, "shop"));
    EXPECT_TEXT("is committed already: there is nothing to do");
    EXPECT_ERR(ERR_STATE, refused(world, RUN_ROLLBACK, "shop"));
    EXPECT_TEXT("that is final; hint: `muster failback`");
    EXPECT_ERR(ERR_STATE, refused(world, RUN_CHANGE_POINT, "shop"));
}

static void two_at_once_are_refused(void **state)
{
    struct run_world *world = *state;

    (void)fail_over(world);
    int64_t run = after(world, RUN_COMMIT);
    EXPECT_ERR(ERR_STATE, refused(world, RUN_ROLLBACK, "shop"));
    EXPECT_TEXT("wait for its end");
    assert_string_equal(run_world_settle(world, run), "succeeded");
}

static void it_may_be_named_by_machine_or_by_number(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);
    int64_t run = 0;

    EXPECT_OK(try_with(world, RUN_CHANGE_POINT, "web1", 4, 0, &run));
    assert_string_equal(run_world_settle(world, run), "succeeded");
    EXPECT_OK(try_with(world, RUN_COMMIT, NULL, 0, failover, &run));
    assert_string_equal(run_world_settle(world, run), "succeeded");
    expect_state(world, failover, "committed");
}

static void what_never_failed_over_has_nothing_after_it(void **state)
{
    struct run_world *world = *state;
    int64_t test = run_world_start(world, run_world_plan(), RUN_TEST);
    int64_t run = 0;

    (void)run_world_settle(world, test);
    EXPECT_ERR(ERR_NOT_FOUND, refused(world, RUN_COMMIT, "shop"));
    EXPECT_TEXT("no failover of shop was run here; hint: `muster run list`");
    EXPECT_ERR(ERR_NOT_FOUND, refused(world, RUN_ROLLBACK, "nothing"));
    EXPECT_ERR(ERR_INVALID, try_with(world, RUN_COMMIT, NULL, 0, test, &run));
    EXPECT_TEXT("is test; only a failover has a commit");
    EXPECT_ERR(ERR_NOT_FOUND, try_with(world, RUN_COMMIT, NULL, 0, 99, &run));
    EXPECT_ERR(ERR_INVALID, try_with(world, RUN_COMMIT, NULL, 0, 0, &run));
    EXPECT_TEXT("name a plan");
}

static void a_point_is_for_its_change_alone(void **state)
{
    struct run_world *world = *state;
    int64_t run = 0;

    (void)fail_over(world);
    EXPECT_ERR(ERR_INVALID, try_with(world, RUN_COMMIT, "shop", 4, 0, &run));
    EXPECT_ERR(ERR_INVALID, try_with(world, RUN_ROLLBACK, "shop", 4, 0, &run));
    EXPECT_TEXT("a rollback has no point");
    EXPECT_ERR(ERR_INVALID, try_with(world, RUN_CHANGE_POINT, "shop", 0, 0, &run));
    EXPECT_TEXT("name the point");
}

static void a_failover_that_is_at_work_is_waited_for(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);

    EXPECT_ERR(ERR_STATE, refused(world, RUN_COMMIT, "shop"));
    EXPECT_TEXT("hint: wait for its end");
    (void)run_world_settle(world, run);
}

static void a_failover_that_moved_nothing_has_nothing_after_it(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "machine.shutdown", "", 9, ERR_INVALID);
    int64_t run = run_world_start(world, run_world_plan(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, run), "failed");
    EXPECT_ERR(ERR_STATE, refused(world, RUN_ROLLBACK, "shop"));
    EXPECT_TEXT("is failed, it moved nothing");
}

/* --- rollback ---------------------------------------------------------------------------------- */

static void a_rollback_brings_the_machines_back_to_where_they_were(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);
    int64_t run = after(world, RUN_ROLLBACK);

    expect_protections(world, "rolling-back");
    expect_state(world, failover, "rolling-back");
    assert_string_equal(run_world_settle(world, run), "succeeded");
    expect_state(world, failover, "rolled-back");
    expect_protections(world, "protected");
    assert_int_equal(instances(world), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(state_protection_done) struct state_protection row = {0};

        EXPECT_OK(state_protection_get(world->state, names[i], &row, &err));
        assert_int_equal(row.generation, 3);
        assert_int_equal(machine(world, names[i])->state, INSTANCE_RUNNING);
        assert_int_equal(machine(world, names[i])->returned, 3);
    }
}

static void after_a_rollback_it_can_be_failed_over_again(void **state)
{
    struct run_world *world = *state;

    (void)fail_over(world);
    (void)run_world_settle(world, after(world, RUN_ROLLBACK));
    EXPECT_ERR(ERR_STATE, refused(world, RUN_ROLLBACK, "shop"));
    EXPECT_TEXT("is rolled-back: the machines are where they were");
    (void)fail_over(world);
    assert_int_equal(machine(world, "db1")->generation, 4);
    assert_string_equal(run_world_settle(world, after(world, RUN_ROLLBACK)), "succeeded");
    assert_int_equal(machine(world, "db1")->returned, 5);
}

static void a_rollback_without_the_other_site_gives_nothing_up_and_is_asked_for_again(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);

    world->sim_world->unreachable = true;
    int64_t run = after(world, RUN_ROLLBACK);
    assert_string_equal(run_world_settle(world, run), "failed");
    expect_state(world, failover, "rolling-back");
    expect_protections(world, "rolling-back-failed");
    assert_int_equal(instances(world), 3);
    EXPECT_ERR(ERR_STATE, refused(world, RUN_COMMIT, "shop"));
    EXPECT_TEXT("hint: `muster rollback` again brings it to its end");
    world->sim_world->unreachable = false;
    assert_string_equal(run_world_settle(world, after(world, RUN_ROLLBACK)), "succeeded");
    expect_state(world, failover, "rolled-back");
    expect_protections(world, "protected");
}

/* --- change-point ------------------------------------------------------------------------------ */

static void another_point_starts_and_the_failover_still_awaits_its_commit(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);
    int64_t run = after(world, RUN_CHANGE_POINT);

    expect_protections(world, "changing-point");
    assert_string_equal(run_world_settle(world, run), "succeeded");
    expect_state(world, failover, "awaiting-commit");
    expect_protections(world, "failed-over");
    assert_int_equal(sim_instance(world->sim_world, "web2")->point, 4);
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_string_equal(run_world_step(json, "Look at web1"), "done");
    assert_int_equal(machine(world, "db1")->generation, 3);
    EXPECT_OK(try_with(world, RUN_CHANGE_POINT, "shop", 5, 0, &run));
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_string_equal(run_world_settle(world, after(world, RUN_CHANGE_POINT)), "succeeded");
    assert_int_equal(machine(world, "db1")->generation, 5);
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 4);
    assert_string_equal(run_world_settle(world, after(world, RUN_COMMIT)), "succeeded");
    expect_state(world, failover, "committed");
}

static void a_change_that_failed_is_asked_for_again_or_taken_back(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);

    sim_fail(world->sim_world, "instance.start", "web1", 1, ERR_INVALID);
    assert_string_equal(run_world_settle(world, after(world, RUN_CHANGE_POINT)), "failed");
    expect_state(world, failover, "awaiting-commit");
    expect_protections(world, "changing-point-failed");
    assert_string_equal(run_world_settle(world, after(world, RUN_CHANGE_POINT)), "succeeded");
    expect_protections(world, "failed-over");
    sim_fail(world->sim_world, "instance.start", "web1", 1, ERR_INVALID);
    assert_string_equal(run_world_settle(world, after(world, RUN_CHANGE_POINT)), "failed");
    assert_string_equal(run_world_settle(world, after(world, RUN_ROLLBACK)), "succeeded");
    expect_state(world, failover, "rolled-back");
}

static void a_point_that_is_not_kept_changes_nothing(void **state)
{
    struct run_world *world = *state;
    int64_t run = 0;

    (void)fail_over(world);
    EXPECT_OK(try_with(world, RUN_CHANGE_POINT, "shop", 99, 0, &run));
    assert_string_equal(run_world_settle(world, run), "failed");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(machine(world, names[i])->generation, 2);
    assert_int_equal(instances(world), 3);
}

/* --- A failover that failed, and one that commits itself ---------------------------------------- */

static void a_failed_failover_that_promoted_may_be_committed(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over_badly(world);

    assert_string_equal(run_world_settle(world, after(world, RUN_CHANGE_POINT)), "succeeded");
    expect_state(world, failover, "failed");
    assert_string_equal(run_world_settle(world, after(world, RUN_COMMIT)), "succeeded");
    expect_state(world, failover, "committed");
    expect_protections(world, "committed");
}

/* web2 was never started: the commit says so, the failover goes on, and then it is final. */
static void what_is_not_there_is_not_made_final(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over_badly(world);
    int64_t run = after(world, RUN_COMMIT);

    world->sim_world->boot_ms = 0;
    assert_string_equal(run_world_settle(world, run), "failed");
    CLEANUP(json_freep) json_t *json = run_world_get(world, run);
    assert_non_null(strstr(json_get_str(json, "reason", ""), "web2"));
    expect_state(world, failover, "failed");
    failover = fail_over(world);
    assert_string_equal(run_world_settle(world, after(world, RUN_COMMIT)), "succeeded");
    expect_state(world, failover, "committed");
    expect_protections(world, "committed");
}

static void a_failed_failover_that_promoted_may_be_rolled_back(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over_badly(world);

    assert_string_equal(run_world_settle(world, after(world, RUN_ROLLBACK)), "succeeded");
    expect_state(world, failover, "rolled-back");
    expect_protections(world, "protected");
}

static json_t *two_machines(void)
{
    return run_world_plan_with(
        "\"actions\": [{\"verb\": \"failover\", \"args\": {\"machine\": \"web1\"}}]");
}

/* web1 stayed where it is: nothing is asked of it. */
static void those_that_did_not_come_over_stay_as_they_are(void **state)
{
    struct run_world *world = *state;
    int64_t run = 0;

    sim_fail(world->sim_world, "group.promote", "web1", 9, ERR_INVALID);
    int64_t failover = run_world_start(world, two_machines(), RUN_PLANNED);
    assert_string_equal(run_world_settle(world, failover), "failed");
    assert_null(sim_instance(world->sim_world, "db1")); /* it was promoted, and not started */
    EXPECT_OK(try_with(world, RUN_CHANGE_POINT, "one", 4, 0, &run));
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_int_equal(sim_instance(world->sim_world, "db1")->point, 4);
    assert_null(sim_instance(world->sim_world, "web1"));
    assert_int_equal(machine(world, "web1")->generation, 1);
    EXPECT_OK(try_with(world, RUN_ROLLBACK, "one", 0, 0, &run));
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_int_equal(machine(world, "web1")->returned, 0);
    assert_int_equal(machine(world, "db1")->returned, 4);
}

static json_t *committing(const char *more)
{
    CLEANUP(mem_freep)
    char *fields = mem_printf("\"only\": [\"planned\", \"unplanned\"], \"actions\": ["
                              "{\"verb\": \"commit\", \"args\": {\"machine\": \"db1\"}}]%s",
                              more);

    return run_world_plan_with(fields);
}

static void a_plan_with_a_commit_of_its_own_ends_as_committed(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(world, committing(""), RUN_UNPLANNED);
    CLEANUP(state_protection_done) struct state_protection row = {0};

    assert_string_equal(run_world_settle(world, run), "committed");
    EXPECT_OK(state_protection_get(world->state, "db1", &row, &err));
    assert_string_equal(row.state, "committed");
    assert_true(sim_instance(world->sim_world, "db1")->committed);
    EXPECT_ERR(ERR_STATE, refused(world, RUN_ROLLBACK, "one"));
}

/* A person who wants another point has not said that it is final. */
static void a_change_of_the_point_commits_nothing(void **state)
{
    struct run_world *world = *state;

    sim_fail(world->sim_world, "instance.commit", "db1", 1, ERR_INVALID);
    int64_t failover = run_world_start(world, committing(""), RUN_UNPLANNED);
    assert_string_equal(run_world_settle(world, failover), "failed");
    int64_t run = 0;
    EXPECT_OK(try_with(world, RUN_CHANGE_POINT, "one", 4, 0, &run));
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_false(sim_instance(world->sim_world, "db1")->committed);
    EXPECT_OK(try_with(world, RUN_ROLLBACK, "one", 0, 0, &run));
    assert_string_equal(run_world_settle(world, run), "succeeded");
}

/* What a plan does on the way back, say, is none of a failover's affairs. */
static void a_change_of_the_point_does_the_steps_of_its_failover_alone(void **state)
{
    struct run_world *world = *state;
    int64_t run = run_world_start(
        world,
        run_world_plan_with("\"only\": [\"failback\", \"unplanned\"], \"actions\": ["
                            "{\"verb\": \"run_command\", \"args\": {\"value\": \"/bin/x\"}}]"),
        RUN_PLANNED);

    assert_string_equal(run_world_settle(world, run), "awaiting-commit");
    EXPECT_OK(try_with(world, RUN_CHANGE_POINT, "one", 4, 0, &run));
    run_world_commit(world);
    reopen(world);
    assert_string_equal(run_world_settle(world, run), "succeeded");
    assert_int_equal(sim_asked(world->sim_world, "command.start", NULL), 0);
}

/* --- Cut, cancelled ---------------------------------------------------------------------------- */

static void awaiting_commit_survives_a_restart(void **state)
{
    struct run_world *world = *state;
    int64_t failover = fail_over(world);

    reopen(world);
    expect_state(world, failover, "awaiting-commit");
    assert_string_equal(run_world_settle(world, after(world, RUN_COMMIT)), "succeeded");
    expect_state(world, failover, "committed");
}

static void what_a_restart_cuts_is_gone_on_with(void **state)
{
    static const enum run_kind kinds[] = {RUN_CHANGE_POINT, RUN_ROLLBACK};
    static const char *const ends[] = {"awaiting-commit", "rolled-back"};
    struct run_world *world = *state;
    int64_t failover = fail_over(world);

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        int64_t run = after(world, kinds[i]);
        run_world_commit(world);
        reopen(world);
        assert_string_equal(run_world_settle(world, run), "succeeded");
        expect_state(world, failover, ends[i]);
    }
}

static void what_follows_a_failover_is_not_cancelled(void **state)
{
    static const enum run_kind kinds[] = {RUN_CHANGE_POINT, RUN_ROLLBACK};
    static const char *const hints[] = {"`muster change-point shop` goes on with it",
                                        "`muster rollback shop` goes on with it"};
    struct run_world *world = *state;

    (void)fail_over(world);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        int64_t run = after(world, kinds[i]);

        run_world_commit(world);
        EXPECT_ERR(ERR_STATE, runner_cancel(world->runner, run, "ada", &err));
        EXPECT_TEXT(hints[i]);
        assert_string_equal(run_world_settle(world, run), "succeeded");
    }
}

static void expect_allowed(struct run_world *world, const char *name, const char *operation,
                           bool allowed)
{
    CLEANUP(json_freep) json_t *list = runner_allowed(world->runner, name);
    const json_t *entry;
    size_t i;

    json_array_foreach(list, i, entry) {
        if (strcmp(json_get_str(entry, "operation", ""), operation) != 0)
            continue;
        if (json_get_bool(entry, "allowed", !allowed) != allowed)
            fail_msg("%s: %s", operation, json_get_str(entry, "why", "allowed"));
        return;
    }
    fail_msg("no operation %s", operation);
}

/* --- failback ---------------------------------------------------------------------------------- */

static void came_from_here(struct run_world *world)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const struct state_machine row = {.name = (char *)(uintptr_t)names[i],
                                          .definition = (char[]){"{}"}};

        EXPECT_OK(state_machine_put(world->state, &row, &err));
        machine(world, names[i])->own = true;
    }
}

static void a_failback_is_a_planned_failover_to_the_own_disks(void **state)
{
    struct run_world *world = *state;

    came_from_here(world);
    int64_t failback = run_world_start(world, run_world_plan(), RUN_FAILBACK);
    int64_t run;
    assert_string_equal(run_world_settle(world, failback), "awaiting-commit");
    assert_int_equal(machine(world, "db1")->retired, 2);
    EXPECT_ERR(ERR_UNSUPPORTED, try_with(world, RUN_ROLLBACK, "shop", 0, 0, &run));
    EXPECT_TEXT("runs on its own disks here again");
    err_clear(&err);
    EXPECT_ERR(ERR_UNSUPPORTED, try_with(world, RUN_CHANGE_POINT, "shop", 1, 0, &run));
    expect_state(world, failback, "awaiting-commit");
}

static void what_is_shown_as_allowed_is_what_a_start_says(void **state)
{
    struct run_world *world = *state;

    (void)run_world_settle(world, run_world_start(world, run_world_plan(), RUN_PLANNED));
    expect_allowed(world, "db1", "rollback", true);
    expect_allowed(world, "db1", "change-point", true);
    expect_allowed(world, "db1", "failback", false);
}

static void nothing_back_is_allowed_on_own_disks(void **state)
{
    struct run_world *world = *state;

    came_from_here(world);
    (void)run_world_settle(world, run_world_start(world, run_world_plan(), RUN_UNPLANNED));
    expect_allowed(world, "db1", "rollback", false);
    expect_allowed(world, "db1", "change-point", false);
    expect_allowed(world, "db1", "commit", true);
}

static void the_commit_of_a_failback_leaves_ordinary_machines(void **state)
{
    struct run_world *world = *state;

    came_from_here(world);
    int64_t failback = run_world_start(world, run_world_plan(), RUN_FAILBACK);
    (void)run_world_settle(world, failback);
    assert_string_equal(run_world_settle(world, after(world, RUN_COMMIT)), "succeeded");
    expect_state(world, failback, "committed");
    assert_int_equal(instances(world), 0);
}

static void each_way_has_its_name(void **state)
{
    struct run_world *world = *state;
    CLEANUP(json_freep) json_t *document = run_world_plan();
    struct runner_spec spec = {.plan = "shop", .document = document, .kind = RUN_FAILBACK};
    int64_t run = 0;

    EXPECT_ERR(ERR_STATE, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("did not come from lyon, there is no way back to it");
    came_from_here(world);
    spec.kind = RUN_PLANNED;
    EXPECT_ERR(ERR_STATE, runner_start(world->runner, &spec, &run, &err));
    EXPECT_TEXT("hint: `muster failback db1`");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RUN_TEST_CASE(a_commit_ends_the_failover_and_the_machines_run_on),
        RUN_TEST_CASE(a_commit_of_two_of_three_is_gone_on_with),
        RUN_TEST_CASE(a_second_commit_is_refused),
        RUN_TEST_CASE(two_at_once_are_refused),
        RUN_TEST_CASE(it_may_be_named_by_machine_or_by_number),
        RUN_TEST_CASE(what_never_failed_over_has_nothing_after_it),
        RUN_TEST_CASE(a_point_is_for_its_change_alone),
        RUN_TEST_CASE(a_failover_that_is_at_work_is_waited_for),
        RUN_TEST_CASE(a_failover_that_moved_nothing_has_nothing_after_it),
        RUN_TEST_CASE(a_rollback_brings_the_machines_back_to_where_they_were),
        RUN_TEST_CASE(after_a_rollback_it_can_be_failed_over_again),
        RUN_TEST_CASE(a_rollback_without_the_other_site_gives_nothing_up_and_is_asked_for_again),
        RUN_TEST_CASE(another_point_starts_and_the_failover_still_awaits_its_commit),
        RUN_TEST_CASE(a_change_that_failed_is_asked_for_again_or_taken_back),
        RUN_TEST_CASE(a_point_that_is_not_kept_changes_nothing),
        RUN_TEST_CASE(a_failed_failover_that_promoted_may_be_committed),
        RUN_TEST_CASE(what_is_not_there_is_not_made_final),
        RUN_TEST_CASE(a_failed_failover_that_promoted_may_be_rolled_back),
        RUN_TEST_CASE(those_that_did_not_come_over_stay_as_they_are),
        RUN_TEST_CASE(a_plan_with_a_commit_of_its_own_ends_as_committed),
        RUN_TEST_CASE(a_change_of_the_point_commits_nothing),
        RUN_TEST_CASE(a_change_of_the_point_does_the_steps_of_its_failover_alone),
        RUN_TEST_CASE(awaiting_commit_survives_a_restart),
        RUN_TEST_CASE(what_a_restart_cuts_is_gone_on_with),
        RUN_TEST_CASE(what_follows_a_failover_is_not_cancelled),
        RUN_TEST_CASE(a_failback_is_a_planned_failover_to_the_own_disks),
        RUN_TEST_CASE(what_is_shown_as_allowed_is_what_a_start_says),
        RUN_TEST_CASE(nothing_back_is_allowed_on_own_disks),
        RUN_TEST_CASE(the_commit_of_a_failback_leaves_ordinary_machines),
        RUN_TEST_CASE(each_way_has_its_name),
    };
    return cmocka_run_group_tests_name("after", tests, NULL, NULL);
}
