// SPDX-License-Identifier: Apache-2.0
/* Protecting several machines as one group. */
#include "support/run/protect.h"
#include "support/tmpdir.h"

/* db1 has vda, web1 has vda, too. */
static void put_named(struct fixture *f, const char *name, const char *disk)
{
    CLEANUP(mem_freep)
    char *definition =
        mem_printf("{\"name\":\"%s\",\"memory\":\"64MiB\",\"disks\":[{\"name\":\"%s\","
                   "\"path\":\"%s\",\"format\":\"raw\"}]}",
                   name, disk, f->disk);
    CLEANUP(mem_freep) char *copy = mem_strdup(name);
    const struct state_machine row = {.name = copy, .definition = definition};

    EXPECT_OK(state_machine_put(f->desk.state, &row, &err));
}

static void set_up_shop(struct fixture *f, char *dir)
{
    set_up(f, dir);
    put_named(f, "db1", "vda");
    put_named(f, "web1", "vda");
    f->questions = 2;
    (void)json_object_set_new(f->answer, "machines", json_integer(2));
}

static int protect_group(struct fixture *f, const char *group, const char *names, int64_t *ret_id)
{
    CLEANUP(json_freep) json_t *machines = json_loads(names, 0, NULL);
    struct job_protect spec = {.machines = machines, .group = group, .peer = "lyon", .who = "ann"};

    policy_init(&spec.settings.policy);
    err_clear(&err);
    return jobs_protect(f->desk.jobs, &spec, ret_id, &err);
}

static void expect_machines(struct fixture *f, const char *name, const char *group,
                            const char *machines)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct machine_names names;
    char text[64];

    EXPECT_OK(state_protection_of(f->desk.state, name, &row, &err));
    assert_string_equal(row.group, group);
    EXPECT_OK(job_machines(&row, &names, &err));
    machine_names_text(&names, text, sizeof(text));
    assert_string_equal(text, machines);
}

static void several_machines_are_one_protection_with_all_their_disks(void **dir)
{
    struct fixture f;
    struct machine_names sent;
    int64_t id;

    set_up_shop(&f, *dir);
    EXPECT_OK(protect_group(&f, "shop", "[\"web1\",\"db1\"]", &id));
    settle(&f);
    CLEANUP(json_freep) json_t *job = NULL;
    EXPECT_OK(jobs_get(f.desk.jobs, id, &job, &err));
    assert_string_equal(json_get_str(job, "object", ""), "shop");
    expect_machines(&f, "shop", "shop", "db1, web1");
    expect_machines(&f, "web1", "shop", "db1, web1");
    /* What is sent is what was asked for, all of it. */
    estate_group_machines(f.estate, "shop", &sent);
    assert_int_equal(sent.count, 2);
    tear_down(&f);
}

/* The last question that was sent to the peer. */
static json_t *asked(struct fixture *f)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    EXPECT_OK(link_recv(f->desk.peer_end, &msg, NULL, &err));
    return json_incref(msg.head);
}

static void a_peer_of_an_older_release_gets_no_group(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up_shop(&f, *dir);
    (void)json_object_del(f.answer, "machines");
    EXPECT_OK(protect_group(&f, "shop", "[\"web1\",\"db1\"]", &id));
    settle(&f);
    expect_job(&f, id, "failed", "lyon keeps no groups of several machines; hint: run the same");
    CLEANUP(json_freep) json_t *removed = asked(&f);
    assert_string_equal(json_get_str(removed, "op", ""), "replica.remove");
    assert_string_equal(json_get_str(removed, "group", ""), "shop");
    tear_down(&f);
}

static void a_machine_is_in_one_group_only(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up_shop(&f, *dir);
    put_named(&f, "app1", "vda");
    EXPECT_OK(protect_group(&f, "shop", "[\"web1\",\"db1\"]", &id));
    settle(&f);
    EXPECT_ERR(ERR_EXISTS, protect_group(&f, "other", "[\"web1\",\"app1\"]", &id));
    EXPECT_TEXT("web1 is in the group shop, protected to lyon");
    EXPECT_TEXT("`muster unprotect shop` first");
    assert_int_equal(protect(&f, "lyon", &id), -1); /* db1 alone */
    EXPECT_TEXT("db1 is in the group shop");
    EXPECT_ERR(ERR_EXISTS, protect_group(&f, "shop", "[\"web1\",\"db1\",\"app1\"]", &id));
    tear_down(&f);
}

static void a_group_that_failed_half_way_goes_on_with_the_same_machines_only(void **dir)
{
    struct fixture f;
    const struct state_protection row = {.group = (char[]){"shop"},
                                         .peer = (char[]){"lyon"},
                                         .role = (char[]){"source"},
                                         .state = (char[]){"initial-copy-failed"},
                                         .settings = (char[]){"{\"machines\":[\"db1\",\"web1\"]}"},
                                         .generation = 1};
    int64_t id;

    set_up_shop(&f, *dir);
    put_named(&f, "app1", "vda");
    EXPECT_OK(state_protection_put(f.desk.state, &row, &err));
    EXPECT_ERR(ERR_EXISTS, protect_group(&f, "shop", "[\"db1\",\"app1\"]", &id));
    EXPECT_TEXT("protecting shop was begun with db1, web1");
    EXPECT_OK(protect_group(&f, "shop", "[\"web1\",\"db1\"]", &id));
    tear_down(&f);
}

static void what_cannot_be_a_group_is_said_at_once(void **dir)
{
    struct fixture f;
    char long_name[64] = "";
    int64_t id;

    set_up_shop(&f, *dir);
    EXPECT_ERR(ERR_INVALID, protect_group(&f, NULL, "[\"web1\",\"db1\"]", &id));
    EXPECT_TEXT("db1, web1 together are a group, which needs a name; hint: --group NAME");
    EXPECT_ERR(ERR_EXISTS, protect_group(&f, "db1", "[\"web1\",\"db1\"]", &id));
    EXPECT_TEXT("a group of several machines cannot be called db1: a machine is");
    EXPECT_ERR(ERR_EXISTS, protect_group(&f, "shop", "[\"web1\",\"web1\"]", &id));
    EXPECT_TEXT("web1 is named twice");
    EXPECT_ERR(ERR_NOT_FOUND, protect_group(&f, "shop", "[\"web1\",\"web9\"]", &id));
    EXPECT_TEXT("web9");
    EXPECT_ERR(ERR_INVALID, protect_group(&f, "shop", "[\"web1\"]", &id));
    EXPECT_TEXT("web1 alone is a group of its own name, not shop");
    EXPECT_OK(protect_group(&f, "web1", "[\"web1\"]", &id));
    memset(long_name, 'x', 60);
    put_named(&f, long_name, "vda");
    CLEANUP(mem_freep) char *names = mem_printf("[\"db1\",\"%s\"]", long_name);
    EXPECT_ERR(ERR_LIMIT, protect_group(&f, "shop", names, &id));
    EXPECT_TEXT("its name in a group, has 64 bytes, at most 63 are allowed");
    tear_down(&f);
}

/* "a" with "b.vda", and "a.b" with "vda". */
static void two_disks_of_one_name_in_a_group_are_refused(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up_shop(&f, *dir);
    put_named(&f, "a", "b.vda");
    put_named(&f, "a.b", "vda");
    EXPECT_ERR(ERR_EXISTS, protect_group(&f, "shop", "[\"a\",\"a.b\"]", &id));
    EXPECT_TEXT("two disks of the group would be called a.b.vda");
    tear_down(&f);
}

static void each_machine_s_prerequisites_are_looked_at(void **dir)
{
    struct fixture f;
    struct jobs_check *check_all;
    CLEANUP(json_freep) json_t *machines = json_pack("[s, s]", "db1", "web1");
    CLEANUP(json_freep) json_t *seen = NULL;
    struct job_protect spec = {.machines = machines, .group = "shop", .peer = "lyon", .who = "ann"};

    set_up_shop(&f, *dir);
    policy_init(&spec.settings.policy);
    f.untrackable = "its QEMU cannot keep track of changes";
    EXPECT_OK(jobs_check_new(f.desk.jobs, &spec, &check_all, &err));
    EXPECT_OK(jobs_check_run(check_all, &seen, NULL, &err));
    jobs_check_free(check_all);
    CLEANUP(mem_freep) char *text = json_text(seen);
    assert_int_equal(json_get_u64(seen, "failed", 0), 2);
    assert_non_null(strstr(text, "\"group\":\"shop\""));
    assert_non_null(strstr(text, "\"machines\":[\"db1\",\"web1\"]"));
    assert_non_null(strstr(text, "disk web1.vda"));
    assert_non_null(strstr(text, "db1: its QEMU cannot"));
    assert_non_null(strstr(text, "change tracking of web1"));
    tear_down(&f);
}

static void unprotect_by_a_machine_s_name_ends_the_group(void **dir)
{
    struct fixture f;
    const struct job_unprotect spec = {.machine = "web1", .who = "ann"};
    struct state_protection row;
    int64_t id;

    set_up_shop(&f, *dir);
    const struct state_protection put = {.group = (char[]){"shop"},
                                         .peer = (char[]){"lyon"},
                                         .role = (char[]){"source"},
                                         .state = (char[]){"protected"},
                                         .settings = (char[]){"{\"machines\":[\"db1\",\"web1\"]}"},
                                         .generation = 1};
    EXPECT_OK(state_protection_put(f.desk.state, &put, &err));
    EXPECT_OK(jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "succeeded", "");
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(f.desk.state, "shop", &row, &err));
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(several_machines_are_one_protection_with_all_their_disks),
        TMPDIR_TEST(a_peer_of_an_older_release_gets_no_group),
        TMPDIR_TEST(a_machine_is_in_one_group_only),
        TMPDIR_TEST(a_group_that_failed_half_way_goes_on_with_the_same_machines_only),
        TMPDIR_TEST(what_cannot_be_a_group_is_said_at_once),
        TMPDIR_TEST(two_disks_of_one_name_in_a_group_are_refused),
        TMPDIR_TEST(each_machine_s_prerequisites_are_looked_at),
        TMPDIR_TEST(unprotect_by_a_machine_s_name_ends_the_group),
    };
    return cmocka_run_group_tests_name("job_group", tests, NULL, NULL);
}
