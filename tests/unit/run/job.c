// SPDX-License-Identifier: Apache-2.0
#include "run/job.h"

#include "base/mem.h"
#include "run/job_kind.h"
#include "support/expect.h"
#include "support/run/jobs_desk.h"
#include "support/tmpdir.h"

#include <stdio.h>

struct fixture {
    struct jobs_desk desk;
    /* what the plan's peer does */
    enum err_code link_fails; /* ERR_NONE: it answers */
    unsigned calls;
};

static int open_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *e)
{
    struct fixture *f = ctx;
    CLEANUP(json_freep) json_t *answer = json_object();

    (void)cancel;
    f->calls++;
    if (f->link_fails != ERR_NONE)
        return err_set(e, f->link_fails, 0, "%s cannot be reached", peer);
    *ret_link = jobs_desk_link(&f->desk, peer, answer, NULL);
    return 0;
}

static void start(struct fixture *f)
{
    jobs_desk_start(&f->desk, &(struct jobs_world){.ctx = f, .open_link = open_link});
}

static void stop(struct fixture *f)
{
    jobs_desk_stop(&f->desk);
}

static void set_up(struct fixture *f, const char *dir)
{
    memset(f, 0, sizeof(*f));
    jobs_desk_init(&f->desk, dir);
    start(f);
}

static void settle(struct fixture *f)
{
    jobs_desk_settle(&f->desk);
}

/* --- A kind of job that does as it is told ----------------------------------------------- */

struct script {
    int again;            /* times the second task asks to be called again */
    enum err_code second; /* how it ends then */
    bool undo_fails;
    bool begun;
    int worked;
    int undone;
    int settled;
    enum err_code settled_with;
};

static struct script script;

static int first_work(struct job *job, struct err *e)
{
    (void)job;
    (void)e;
    return 0;
}

static int second_begin(struct job *job, struct err *e)
{
    (void)e;
    script.begun = true;
    job->progress.total = 10;
    return 0;
}

static int second_work(struct job *job, struct err *e)
{
    script.worked++;
    job->progress.done = (uint64_t)script.worked;
    job->progress.unit = "bytes";
    job->progress.disk_count = 1;
    (void)snprintf(job->progress.disks[0].name, sizeof(job->progress.disks[0].name), "vda");
    if (script.again-- > 0)
        return JOB_AGAIN;
    if (script.second != ERR_NONE)
        return err_set(e, script.second, 0, "the disk is on fire");
    return 0;
}

static bool wants_undo(struct job *job)
{
    return job->task > 0;
}

static int undo(struct job *job, struct err *e)
{
    script.undone++;
    if (cancel_check(job->base.cancel, e) < 0)
        return -1;
    return script.undo_fails ? err_set(e, ERR_NET, 0, "the peer is away") : 0;
}

static int settled(struct job *job, const struct err *failure, struct err *e)
{
    (void)job;
    (void)e;
    script.settled++;
    script.settled_with = failure ? failure->code : ERR_NONE;
    return 0;
}

static const struct job_task test_tasks[] = {
    {"first", NULL, first_work, NULL, NULL},
    {"second", second_begin, second_work, NULL, NULL},
};
static const struct job_kind test_kind = {
    .name = "test",
    .tasks = test_tasks,
    .task_count = ARRAY_LEN(test_tasks),
    .exclusive = true,
    .wants_undo = wants_undo,
    .undo = undo,
    .settled = settled,
};

static int64_t start_job(struct fixture *f, const char *object)
{
    int64_t id = 0;

    EXPECT_OK(job_start(f->desk.jobs, &test_kind, object, json_object(), "ann", &id, &err));
    return id;
}

static json_t *shown(struct fixture *f, int64_t id)
{
    json_t *json = NULL;

    EXPECT_OK(jobs_get(f->desk.jobs, id, &json, &err));
    return json;
}

static void expect_state(struct fixture *f, int64_t id, const char *state)
{
    CLEANUP(json_freep) json_t *json = shown(f, id);

    assert_string_equal(json_get_str(json, "state", ""), state);
}

/* --- Tests -------------------------------------------------------------------------------- */

static void a_job_runs_its_tasks_in_order_and_succeeds(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    script = (struct script){0};
    int64_t id = start_job(&f, "db1");
    settle(&f);
    CLEANUP(json_freep) json_t *json = shown(&f, id);
    assert_string_equal(json_get_str(json, "state", ""), "succeeded");
    assert_string_equal(json_get_str(json, "who", ""), "ann");
    assert_string_equal(json_get_str(json, "error_code", "?"), "");
    const json_t *tasks = json_object_get(json, "tasks");
    assert_string_equal(json_get_str(json_array_get(tasks, 0), "state", ""), "done");
    assert_string_equal(json_get_str(json_array_get(tasks, 1), "state", ""), "done");
    assert_int_equal(script.settled, 1);
    assert_int_equal(script.settled_with, ERR_NONE);
    stop(&f);
}

static void nothing_starts_before_the_turn_is_committed(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    script = (struct script){0};
    (void)start_job(&f, "db1");
    assert_int_equal(pool_busy(f.desk.pool), 0);
    settle(&f);
    assert_int_equal(script.worked, 1);
    stop(&f);
}

static void progress_is_shown_while_a_task_is_at_it(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    script = (struct script){.again = 100};
    int64_t id = start_job(&f, "db1");
    settle(&f);
    clock_fake_advance(&f.desk.clock, 500);
    settle(&f);
    CLEANUP(json_freep) json_t *json = shown(&f, id);
    const json_t *task = json_array_get(json_object_get(json, "tasks"), 1);
    assert_string_equal(json_get_str(task, "state", ""), "running");
    assert_int_equal(json_get_u64(task, "done", 0), 2);
    assert_int_equal(json_get_u64(task, "total", 0), 10);
    assert_int_equal(json_array_size(json_object_get(task, "disks")), 1);
    stop(&f);
}

static void a_failed_task_is_undone_and_names_its_error(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    script = (struct script){.second = ERR_CORRUPT};
    int64_t id = start_job(&f, "db1");
    settle(&f);
    CLEANUP(json_freep) json_t *json = shown(&f, id);
    assert_string_equal(json_get_str(json, "state", ""), "failed");
    assert_string_equal(json_get_str(json, "error", ""), "the disk is on fire");
    assert_string_equal(json_get_str(json, "error_code", ""), "corrupt");
    assert_int_equal(script.undone, 1);
    assert_int_equal(script.settled_with, ERR_CORRUPT);
    stop(&f);
}

static void what_could_not_be_taken_back_is_said(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    script = (struct script){.second = ERR_CORRUPT, .undo_fails = true};
    int64_t id = start_job(&f, "db1");
    settle(&f);
    CLEANUP(json_freep) json_t *json = shown(&f, id);
    assert_string_equal(json_get_str(json, "error", ""),
                        "the disk is on fire; not all of it could be taken back: the peer is away");
    stop(&f);
}

static void a_cancelled_job_is_undone_with_a_cancel_of_its_own(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    script = (struct script){.again = 100};
    int64_t id = start_job(&f, "db1");
    settle(&f);
    EXPECT_OK(jobs_cancel(f.desk.jobs, id, "bob", &err));
    settle(&f);
    expect_state(&f, id, "cancelled");
    assert_int_equal(script.undone, 1);
    assert_int_equal(script.settled_with, ERR_CANCELLED);
    EXPECT_ERR(ERR_STATE, jobs_cancel(f.desk.jobs, id, "bob", &err));
    EXPECT_TEXT("has ended: cancelled");
    EXPECT_ERR(ERR_NOT_FOUND, jobs_cancel(f.desk.jobs, 999, "bob", &err));
    stop(&f);
}

static void a_second_job_on_the_same_object_is_refused_with_the_first_ones_number(void **dir)
{
    struct fixture f;
    int64_t id = 0;

    set_up(&f, *dir);
    script = (struct script){.again = 100};
    int64_t first = start_job(&f, "db1");
    char number[32];
    (void)snprintf(number, sizeof(number), "job %d (test)", (int)first);
    EXPECT_ERR(ERR_STATE,
               job_start(f.desk.jobs, &test_kind, "db1", json_object(), "ann", &id, &err));
    EXPECT_TEXT(number);
    (void)start_job(&f, "db2");
    CLEANUP(json_freep) json_t *open = NULL;
    EXPECT_OK(jobs_list(f.desk.jobs, true, &open, &err));
    assert_int_equal(json_array_size(open), 2);
    assert_string_equal(json_get_str(json_array_get(open, 0), "object", ""), "db2");
    stop(&f);
}

static void an_open_job_of_an_unknown_kind_ends_with_a_reason_at_the_next_start(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    script = (struct script){.again = 100};
    int64_t id = start_job(&f, "db1");
    settle(&f);
    stop(&f);
    start(&f);
    EXPECT_OK(jobs_take_up(f.desk.jobs, &err));
    CLEANUP(json_freep) json_t *json = shown(&f, id);
    assert_string_equal(json_get_str(json, "state", ""), "failed");
    assert_non_null(strstr(json_get_str(json, "error", ""), "restarted"));
    stop(&f);
}

static void put_plan(struct fixture *f)
{
    const struct state_plan plan = {.name = (char[]){"shop"},
                                    .source = (char[]){"return 1"},
                                    .document = (char[]){"{}"},
                                    .hash = (char[]){"aa"}};

    EXPECT_OK(state_plan_put(f->desk.state, &plan, &err));
}

static void a_plan_waits_for_its_peer_over_a_restart(void **dir)
{
    struct fixture f;
    int64_t id = 0;
    int64_t again = 0;

    set_up(&f, *dir);
    put_plan(&f);
    f.link_fails = ERR_NET;
    EXPECT_OK(jobs_copy_plan(f.desk.jobs, "shop", "lyon", "ann", &id, &err));
    EXPECT_OK(jobs_copy_plan(f.desk.jobs, "shop", "lyon", "ann", &again, &err));
    assert_int_equal(id, again);
    settle(&f);
    expect_state(&f, id, "running");
    stop(&f);
    start(&f);
    EXPECT_OK(jobs_take_up(f.desk.jobs, &err));
    settle(&f);
    expect_state(&f, id, "running");
    f.link_fails = ERR_NONE;
    clock_fake_advance(&f.desk.clock, 10000);
    settle(&f);
    expect_state(&f, id, "succeeded");
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    EXPECT_OK(link_recv(f.desk.peer_end, &msg, NULL, &err));
    assert_string_equal(json_get_str(msg.head, "op", ""), "plan.put");
    assert_string_equal(json_get_str(msg.head, "source", ""), "return 1");
    stop(&f);
}

static void a_cancel_is_not_forgotten_by_a_restart(void **dir)
{
    struct fixture f;
    int64_t id = 0;

    set_up(&f, *dir);
    put_plan(&f);
    f.link_fails = ERR_NET;
    EXPECT_OK(jobs_copy_plan(f.desk.jobs, "shop", "lyon", "ann", &id, &err));
    settle(&f);
    EXPECT_OK(jobs_cancel(f.desk.jobs, id, "bob", &err));
    EXPECT_OK(state_turn_end(f.desk.state, &err));
    stop(&f);
    start(&f);
    EXPECT_OK(jobs_take_up(f.desk.jobs, &err));
    settle(&f);
    expect_state(&f, id, "cancelled");
    stop(&f);
}

static void a_plan_is_not_tried_again_when_trying_cannot_help(void **dir)
{
    struct fixture f;
    int64_t id = 0;

    set_up(&f, *dir);
    put_plan(&f);
    f.link_fails = ERR_AUTH;
    EXPECT_OK(jobs_copy_plan(f.desk.jobs, "shop", "lyon", "ann", &id, &err));
    settle(&f);
    expect_state(&f, id, "failed");
    assert_int_equal(f.calls, 1);
    EXPECT_ERR(ERR_NOT_FOUND, jobs_copy_plan(f.desk.jobs, "none", "lyon", "ann", &id, &err));
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_job_runs_its_tasks_in_order_and_succeeds),
        TMPDIR_TEST(nothing_starts_before_the_turn_is_committed),
        TMPDIR_TEST(progress_is_shown_while_a_task_is_at_it),
        TMPDIR_TEST(a_failed_task_is_undone_and_names_its_error),
        TMPDIR_TEST(what_could_not_be_taken_back_is_said),
        TMPDIR_TEST(a_cancelled_job_is_undone_with_a_cancel_of_its_own),
        TMPDIR_TEST(a_second_job_on_the_same_object_is_refused_with_the_first_ones_number),
        TMPDIR_TEST(an_open_job_of_an_unknown_kind_ends_with_a_reason_at_the_next_start),
        TMPDIR_TEST(a_plan_waits_for_its_peer_over_a_restart),
        TMPDIR_TEST(a_cancel_is_not_forgotten_by_a_restart),
        TMPDIR_TEST(a_plan_is_not_tried_again_when_trying_cannot_help),
    };
    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
