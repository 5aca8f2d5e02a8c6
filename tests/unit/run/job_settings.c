// SPDX-License-Identifier: Apache-2.0
/* A protection's settings travel to the site that keeps the replica, whatever happens on the way.
 * The peer is a pipe. */
#include "base/mem.h"
#include "run/job.h"
#include "support/expect.h"
#include "support/run/jobs_desk.h"
#include "support/tmpdir.h"

#include <stdio.h>

struct fixture {
    struct jobs_desk desk;
    enum err_code link_fails;   /* ERR_NONE: it is there */
    enum err_code peer_refuses; /* ERR_NONE: it answers */
};

static void put_row(struct fixture *f, const char *role, int64_t interval_ms)
{
    CLEANUP(mem_freep)
    char *settings = mem_printf("{\"interval_ms\":%lld,\"keep\":5,\"compression\":\"lz4\"}",
                                (long long)interval_ms);
    char role_text[16];

    (void)snprintf(role_text, sizeof(role_text), "%s", role);
    const struct state_protection row = {.group = (char[]){"db1"},
                                         .peer = (char[]){"lyon"},
                                         .role = role_text,
                                         .state = (char[]){"protected"},
                                         .settings = settings,
                                         .generation = 1};
    EXPECT_OK(state_protection_put(f->desk.state, &row, &err));
}

static int open_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *e)
{
    struct fixture *f = ctx;
    CLEANUP(json_freep) json_t *answer = json_object();
    const struct err refusal = {.code = f->peer_refuses, .text = "not here"};

    (void)cancel;
    if (f->link_fails != ERR_NONE)
        return err_set(e, f->link_fails, 0, "%s cannot be reached", peer);
    *ret_link =
        jobs_desk_link(&f->desk, peer, answer, f->peer_refuses != ERR_NONE ? &refusal : NULL);
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
    put_row(f, "source", 15000);
}

static void settle(struct fixture *f)
{
    jobs_desk_settle(&f->desk);
}

static void wait_a_while(struct fixture *f)
{
    clock_fake_advance(&f->desk.clock, 10000);
    while (loop_step(f->desk.loop, 0)) {
    }
}

static int64_t change(struct fixture *f, int64_t interval_ms)
{
    int64_t job = 0;

    put_row(f, "source", interval_ms);
    EXPECT_OK(jobs_copy_settings(f->desk.jobs, "db1", "lyon", "ann", &job, &err));
    return job;
}

static void expect_job(struct fixture *f, int64_t id, const char *state, const char *part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(f->desk.jobs, id, &json, &err));
    CLEANUP(mem_freep) char *text = json_text(json);
    if (strcmp(json_get_str(json, "state", ""), state) != 0 || !strstr(text, part))
        fail_msg("wanted %s with \"%s\": %s", state, part, text);
}

/* The interval the peer was told last; 0: nothing since. */
static int64_t told(struct fixture *f)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    if (!f->desk.peer_end)
        return 0;
    EXPECT_OK(link_recv(f->desk.peer_end, &msg, NULL, &err));
    link_close(f->desk.peer_end);
    f->desk.peer_end = NULL;
    assert_string_equal(json_get_str(msg.head, "op", ""), "replica.settings");
    assert_string_equal(json_get_str(msg.head, "group", ""), "db1");
    assert_int_equal(json_get_u64(msg.head, "keep", 0), 5);
    return (int64_t)json_get_u64(msg.head, "interval_ms", 0);
}

static void a_peer_that_is_there_is_told_at_once(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    int64_t job = change(&f, 60000);
    settle(&f);
    expect_job(&f, job, "succeeded", "");
    assert_int_equal(told(&f), 60000);
    stop(&f);
}

static void a_peer_that_is_away_is_told_the_newest_when_it_is_back(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    f.link_fails = ERR_NET;
    int64_t job = change(&f, 60000);
    settle(&f);
    expect_job(&f, job, "running", "waits: lyon cannot be reached");
    assert_int_equal(change(&f, 30000), job);
    f.link_fails = ERR_AUTH; /* somebody else is there */
    wait_a_while(&f);
    expect_job(&f, job, "running", "waits: lyon");
    f.link_fails = ERR_NONE;
    wait_a_while(&f);
    expect_job(&f, job, "succeeded", "");
    assert_int_equal(told(&f), 30000);
    stop(&f);
}

static void a_restart_does_not_forget_to_tell(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    f.link_fails = ERR_NET;
    int64_t job = change(&f, 60000);
    settle(&f);
    stop(&f);
    start(&f);
    f.link_fails = ERR_NONE;
    EXPECT_OK(jobs_take_up(f.desk.jobs, &err));
    settle(&f);
    expect_job(&f, job, "succeeded", "");
    assert_int_equal(told(&f), 60000);
    stop(&f);
}

/* Between the question and its answer: the first job's turn is over only with the loop's. */
static void settings_that_changed_on_the_way_are_sent_after_it(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    int64_t job = change(&f, 60000);
    jobs_desk_turn_end(&f.desk); /* the inline pool has asked; the answer waits for the loop */
    assert_int_equal(change(&f, 30000), job);
    settle(&f);
    expect_job(&f, job, "succeeded", "");
    expect_job(&f, job + 1, "succeeded", "");
    assert_int_equal(told(&f), 30000);
    stop(&f);
}

static void nothing_is_told_once_the_protection_is_gone(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    f.link_fails = ERR_NET;
    int64_t job = change(&f, 60000);
    settle(&f);
    EXPECT_OK(state_protection_remove(f.desk.state, "db1", &err));
    f.link_fails = ERR_NONE;
    wait_a_while(&f);
    expect_job(&f, job, "succeeded", "");
    assert_int_equal(told(&f), 0);
    stop(&f);
}

static void a_peer_that_refuses_is_named(void **dir)
{
    struct fixture f;

    set_up(&f, *dir);
    f.peer_refuses = ERR_DENIED;
    int64_t job = change(&f, 60000);
    settle(&f);
    expect_job(&f, job, "failed", "lyon was not told the settings of db1: lyon: not here");
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_peer_that_is_there_is_told_at_once),
        TMPDIR_TEST(a_peer_that_is_away_is_told_the_newest_when_it_is_back),
        TMPDIR_TEST(a_restart_does_not_forget_to_tell),
        TMPDIR_TEST(settings_that_changed_on_the_way_are_sent_after_it),
        TMPDIR_TEST(nothing_is_told_once_the_protection_is_gone),
        TMPDIR_TEST(a_peer_that_refuses_is_named),
    };
    return cmocka_run_group_tests_name("job_settings", tests, NULL, NULL);
}
