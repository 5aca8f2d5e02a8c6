// SPDX-License-Identifier: Apache-2.0
/* point: somebody wants one now, at the site that sends. The site is made up. */
#include "base/mem.h"
#include "run/job.h"
#include "support/expect.h"
#include "support/run/jobs_desk.h"
#include "support/tmpdir.h"

#include <stdlib.h>

struct fixture {
    struct site here; /* first */
    struct jobs_desk desk;
    char asked[200];
    const char *note;
    enum err_code fails;
};

static int ask(struct site *site, const char *what, const json_t *args, json_t **ret_result,
               struct cancel *cancel, struct err *e)
{
    struct fixture *f = (struct fixture *)site;

    (void)cancel;
    assert_string_equal(what, "group.point");
    CLEANUP(mem_freep) char *text = json_text(args);
    (void)snprintf(f->asked, sizeof(f->asked), "%s", text);
    if (f->fails)
        return err_set(e, f->fails, 0, "the replication of db1 is paused");
    *ret_result =
        json_pack("{s:i, s:s, s:s}", "point", 18, "consistency", "crash", "note", f->note);
    return 0;
}

static void close_it(struct site *site)
{
    (void)site;
}

static int setup(void **state)
{
    static const struct site_ops ops = {ask, close_it};
    struct fixture *f = mem_new(struct fixture);
    CLEANUP(state_protection_done)
    struct state_protection row = {.group = mem_strdup("db1"),
                                   .peer = mem_strdup("lyon"),
                                   .role = mem_strdup("source"),
                                   .state = mem_strdup("protected"),
                                   .settings = mem_strdup("{}")};
    void *dir;

    if (tmpdir_setup(&dir) < 0)
        return -1;
    jobs_desk_init(&f->desk, dir);
    free(dir);
    f->here.ops = &ops;
    f->note = "";
    jobs_desk_start(&f->desk, &(struct jobs_world){.here = &f->here});
    EXPECT_OK(state_protection_put(f->desk.state, &row, &err));
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

static int start(struct fixture *f, const char *machine, const char *consistency, const char *label,
                 int64_t *ret_job)
{
    const struct job_point spec = {
        .machine = machine, .consistency = consistency, .label = label, .who = "ann"};

    err_clear(&err);
    return jobs_point(f->desk.jobs, &spec, ret_job, &err);
}

static json_t *ended(struct fixture *f, int64_t id)
{
    json_t *job;

    jobs_desk_settle(&f->desk);
    EXPECT_OK(jobs_get(f->desk.jobs, id, &job, &err));
    return job;
}

static void the_job_of_a_point_ends_with_its_number(void **state)
{
    struct fixture *f = *state;
    int64_t id;

    f->note = "no agent";
    EXPECT_OK(start(f, "db1", "application", "up", &id));
    CLEANUP(json_freep) json_t *job = ended(f, id);
    const json_t *task = json_array_get(json_object_get(job, "tasks"), 0);
    assert_string_equal(json_get_str(job, "state", ""), "succeeded");
    assert_string_equal(f->asked,
                        "{\"consistency\":\"application\",\"group\":\"db1\",\"label\":\"up\"}");
    assert_int_equal(json_get_u64(json_object_get(task, "result"), "point", 0), 18);
    assert_string_equal(json_get_str(task, "note", ""),
                        "warning: not application-consistent: no agent");
}

static void a_point_that_cannot_be_made_fails_its_job_with_the_reason(void **state)
{
    struct fixture *f = *state;
    int64_t id;

    f->fails = ERR_STATE;
    EXPECT_OK(start(f, "db1", "", "", &id));
    CLEANUP(json_freep) json_t *job = ended(f, id);
    assert_string_equal(json_get_str(job, "state", ""), "failed");
    assert_string_equal(json_get_str(job, "error", ""), "the replication of db1 is paused");
}

static void what_nobody_can_make_is_refused_at_once(void **state)
{
    struct fixture *f = *state;
    int64_t id;

    EXPECT_ERR(ERR_NOT_FOUND, start(f, "db2", "", "", &id));
    EXPECT_TEXT("db2 is not protected");
    EXPECT_ERR(ERR_INVALID, start(f, "db1", "perfect", "", &id));
    EXPECT_TEXT("\"perfect\" is no consistency");
    EXPECT_ERR(ERR_INVALID, start(f, "db1", "", "a b", &id));
    EXPECT_TEXT("\"a b\" is no label");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_job_of_a_point_ends_with_its_number, setup, teardown),
        cmocka_unit_test_setup_teardown(a_point_that_cannot_be_made_fails_its_job_with_the_reason,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_can_make_is_refused_at_once, setup, teardown),
    };
    return cmocka_run_group_tests_name("job_point", tests, NULL, NULL);
}
