// SPDX-License-Identifier: Apache-2.0
/* stream: a committed machine's disks become its own, and the job says how far that is. The site is
 * made up. */
#include "base/mem.h"
#include "run/job.h"
#include "support/expect.h"
#include "support/run/jobs_desk.h"
#include "support/tmpdir.h"

#include <stdlib.h>

struct fixture {
    struct site here; /* first */
    struct jobs_desk desk;
    bool exists;
    bool streamed;
    const char *state;
    struct err stream_fails; /* of the next streams */
    unsigned ends_after;     /* so many looks at the work until it is done */
    unsigned streams;
    unsigned stops;
    unsigned unpins;
};

static int observe(struct fixture *f, json_t **ret_result)
{
    *ret_result =
        json_pack("{s:s, s:b, s:b, s:{s:i, s:i}}", "state", f->state, "exists", f->exists,
                  "streamed", f->streamed, "stream", "done", (int)(100 * f->streams), "total", 400);
    return 0;
}

static int stream(struct fixture *f, struct err *e)
{
    f->streams++;
    if (f->stream_fails.code != ERR_NONE)
        return err_set(e, f->stream_fails.code, 0, "%s", f->stream_fails.text);
    if (f->streams < f->ends_after)
        return err_set(e, ERR_TIMEOUT, 0, "timed out");
    f->streamed = true;
    return 0;
}

static int ask(struct site *site, const char *what, const json_t *args, json_t **ret_result,
               struct cancel *cancel, struct err *e)
{
    struct fixture *f = (struct fixture *)site;

    (void)cancel;
    assert_string_equal(json_get_str(args, "run", ""), "lyon-4");
    assert_string_equal(json_get_str(args, "machine", ""), "db1");
    if (strcmp(what, "instance.observe") == 0)
        return observe(f, ret_result);
    if (strcmp(what, "instance.stream") == 0)
        return stream(f, e);
    f->stops += strcmp(what, "instance.stream-stop") == 0;
    f->unpins += strcmp(what, "group.unpin") == 0;
    return 0;
}

static void close_it(struct site *site)
{
    (void)site;
}

static void start(struct fixture *f)
{
    jobs_desk_start(&f->desk, &(struct jobs_world){.here = &f->here});
}

static void put_instance(struct fixture *f, const char *run, bool test)
{
    CLEANUP(state_instance_done)
    struct state_instance row = {.run = mem_strdup(run),
                                 .machine = mem_strdup("db1"),
                                 .test = test,
                                 .definition = mem_strdup("{}"),
                                 .group = mem_strdup("db1"),
                                 .run_dir = mem_strdup(""),
                                 .netns = mem_strdup("")};

    EXPECT_OK(state_instance_put(f->desk.state, &row, &err));
}

static int setup(void **state)
{
    static const struct site_ops ops = {ask, close_it};
    struct fixture *f = mem_new(struct fixture);
    void *dir;

    if (tmpdir_setup(&dir) < 0)
        return -1;
    jobs_desk_init(&f->desk, dir);
    free(dir);
    f->here.ops = &ops;
    f->state = "running";
    f->exists = true;
    start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char *slash = strrchr(f->desk.path, '/');

    jobs_desk_stop(&f->desk);
    *slash = '\0';
    void *dir = mem_strdup(f->desk.path);
    free(f);
    return tmpdir_teardown(&dir);
}

static int64_t stream_it(struct fixture *f)
{
    int64_t id = 0;

    put_instance(f, "lyon-3", true);
    put_instance(f, "lyon-4", false);
    EXPECT_OK(jobs_stream(f->desk.jobs, "db1", "ann", &id, &err));
    jobs_desk_settle(&f->desk);
    return id;
}

static void later(struct fixture *f)
{
    clock_fake_advance(&f->desk.clock, 6000);
    jobs_desk_settle(&f->desk);
}

static void expect(struct fixture *f, int64_t id, const char *state, const char *part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(f->desk.jobs, id, &json, &err));
    CLEANUP(mem_freep) char *text = json_text(json);
    assert_string_equal(json_get_str(json, "state", ""), state);
    if (!strstr(text, part))
        fail_msg("%s lacks %s", text, part);
}

static void when_its_disks_are_its_own_the_point_is_let_go(void **state)
{
    struct fixture *f = *state;

    f->ends_after = 3;
    int64_t id = stream_it(f);
    for (int look = 0; look < 5; look++)
        later(f);
    expect(f, id, "succeeded", "\"total\":400");
    assert_int_equal(f->streams, 3);
    assert_int_equal(f->unpins, 1);
}

static void a_machine_that_is_off_is_waited_for(void **state)
{
    struct fixture *f = *state;

    f->state = "off";
    int64_t id = stream_it(f);
    later(f);
    expect(f, id, "running", "waits until the machine runs");
    assert_int_equal(f->streams, 0);
    f->state = "running";
    later(f);
    later(f);
    expect(f, id, "succeeded", "");
}

static void one_that_has_left_is_over(void **state)
{
    struct fixture *f = *state;

    f->exists = false;
    int64_t id = stream_it(f);
    expect(f, id, "succeeded", "");
    assert_int_equal(f->streams, 0);
    assert_int_equal(f->unpins, 0);
}

static void what_passes_is_tried_again_and_says_so(void **state)
{
    struct fixture *f = *state;

    (void)err_set(&f->stream_fails, ERR_SPACE, 0, "vda needs 8 GiB, 1 GiB is free");
    int64_t id = stream_it(f);
    later(f);
    expect(f, id, "running", "vda needs 8 GiB, 1 GiB is free");
    err_clear(&f->stream_fails);
    later(f);
    later(f);
    expect(f, id, "succeeded", "");
}

static void what_does_not_pass_ends_it(void **state)
{
    struct fixture *f = *state;

    (void)err_set(&f->stream_fails, ERR_CORRUPT, 0, "the overlay cannot be read");
    int64_t id = stream_it(f);
    expect(f, id, "failed", "the overlay cannot be read");
    assert_int_equal(f->unpins, 0);
}

static void a_cancel_stops_the_work_where_it_is(void **state)
{
    struct fixture *f = *state;

    f->state = "off";
    int64_t id = stream_it(f);
    EXPECT_OK(jobs_cancel(f->desk.jobs, id, "ann", &err));
    later(f);
    expect(f, id, "cancelled", "");
    assert_int_equal(f->stops, 1);
    assert_int_equal(f->unpins, 0);
}

static void a_restart_goes_on_with_it(void **state)
{
    struct fixture *f = *state;

    f->state = "off";
    int64_t id = stream_it(f);
    jobs_desk_stop(&f->desk);
    start(f);
    EXPECT_OK(jobs_take_up(f->desk.jobs, &err));
    f->state = "running";
    jobs_desk_settle(&f->desk);
    later(f);
    expect(f, id, "succeeded", "");
}

static void a_machine_on_disks_of_its_own_has_nothing_to_stream(void **state)
{
    struct fixture *f = *state;
    int64_t id = 7;

    put_instance(f, "lyon-3", true);
    EXPECT_OK(jobs_stream(f->desk.jobs, "db1", "ann", &id, &err));
    assert_int_equal(id, 0);
}

#define STREAM_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STREAM_TEST(when_its_disks_are_its_own_the_point_is_let_go),
        STREAM_TEST(a_machine_that_is_off_is_waited_for),
        STREAM_TEST(one_that_has_left_is_over),
        STREAM_TEST(what_passes_is_tried_again_and_says_so),
        STREAM_TEST(what_does_not_pass_ends_it),
        STREAM_TEST(a_cancel_stops_the_work_where_it_is),
        STREAM_TEST(a_restart_goes_on_with_it),
        STREAM_TEST(a_machine_on_disks_of_its_own_has_nothing_to_stream),
    };
    return cmocka_run_group_tests_name("job_stream", tests, NULL, NULL);
}
