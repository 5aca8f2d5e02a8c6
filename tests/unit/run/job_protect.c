// SPDX-License-Identifier: Apache-2.0
/* What protect and unprotect say and write around the copy itself, with a provider and a peer that
 * are made up. */
#include "base/fs.h"
#include "base/mem.h"
#include "run/job_kind.h"
#include "run/policies.h"
#include "support/expect.h"
#include "support/run/jobs_desk.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <unistd.h>

struct fixture {
    struct jobs_desk desk;
    struct estate *estate;
    struct provider provider;
    const char *dir;
    char disk[256];
    const char *provider_says;
    bool peer_away;
    json_t *answer;      /* of the peer, to whatever is asked */
    bool refuses_create; /* its second answer is no */
    bool leaves;         /* it is away from its second answer on */
    unsigned answers;
};

static struct fixture *fixture_of(struct provider *provider)
{
    return (struct fixture *)((char *)provider - offsetof(struct fixture, provider));
}

static int check(struct provider *provider, const struct machine *machine, struct str *ret_problems,
                 struct err *e)
{
    (void)machine;
    (void)e;
    str_add(ret_problems, fixture_of(provider)->provider_says);
    return 0;
}

static int open_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *e)
{
    struct fixture *f = ctx;
    const struct err refusal = {.code = ERR_DENIED, .text = "not here"};

    (void)cancel;
    if (f->peer_away)
        return err_set(e, ERR_NET, 0, "%s cannot be reached", peer);
    f->answers++;
    if (f->leaves && f->answers > 1)
        return err_set(e, ERR_NET, 0, "%s cannot be reached", peer);
    bool refuses = f->refuses_create && f->answers == 2;
    *ret_link = jobs_desk_link(&f->desk, peer, f->answer, refuses ? &refusal : NULL);
    return 0;
}

static void settle(struct fixture *f)
{
    jobs_desk_settle(&f->desk);
}

static json_t *peer_answer(uint64_t free_bytes, int64_t wall_ms, const char *replica)
{
    return json_pack("{s:I, s:I, s:s, s:s}", "free_bytes", (json_int_t)free_bytes, "wall_ms",
                     (json_int_t)wall_ms, "replica", replica, "why", "it has one from rome");
}

static void set_up(struct fixture *f, char *dir)
{
    memset(f, 0, sizeof(*f));
    jobs_desk_init(&f->desk, dir);
    f->dir = dir;
    f->provider_says = "";
    f->provider.name = "made-up";
    f->provider.check = check;
    f->answer = peer_answer(1ULL << 40, 1000000, "absent");
    (void)snprintf(f->disk, sizeof(f->disk), "%s/disk.raw", dir);
    EXPECT_OK(fs_replace_file(fs_real(), f->disk, "0123456789abcdef", 16, 0600, &err));
    assert_int_equal(truncate(f->disk, 1 << 20), 0);
    const struct estate_config estate = {.site = "paris",
                                         .dir = dir,
                                         .clock = &f->desk.clock.clock,
                                         .provider = &f->provider,
                                         .ctx = f,
                                         .open_link = open_link};
    f->estate = estate_new(&estate);
    const struct jobs_world world = {
        .estate = f->estate, .dir = dir, .ctx = f, .open_link = open_link};
    jobs_desk_start(&f->desk, &world);
}

static void tear_down(struct fixture *f)
{
    jobs_desk_stop(&f->desk);
    estate_free(f->estate);
    json_decref(f->answer);
}

static void put_machine(struct fixture *f, const char *path, const char *format)
{
    CLEANUP(mem_freep)
    char *definition = mem_printf("{\"name\":\"db1\",\"memory\":\"64MiB\",\"disks\":[{\"path\":"
                                  "\"%s\",\"format\":\"%s\"}]}",
                                  path, format);
    const struct state_machine row = {.name = (char[]){"db1"}, .definition = definition};

    EXPECT_OK(state_machine_put(f->desk.state, &row, &err));
}

static int protect(struct fixture *f, const char *peer, int64_t *ret_id)
{
    struct job_protect spec = {.machine = "db1", .peer = peer, .who = "ann"};

    policy_init(&spec.settings.policy);
    err_clear(&err);
    return jobs_protect(f->desk.jobs, &spec, ret_id, &err);
}

static void expect_job(struct fixture *f, int64_t id, const char *state, const char *error_part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(f->desk.jobs, id, &json, &err));
    assert_string_equal(json_get_str(json, "state", ""), state);
    if (!strstr(json_get_str(json, "error", ""), error_part))
        fail_msg("\"%s\" lacks \"%s\"", json_get_str(json, "error", ""), error_part);
}

static void expect_state(struct fixture *f, const char *state)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    EXPECT_OK(state_protection_get(f->desk.state, "db1", &row, &err));
    assert_string_equal(row.state, state);
}

static void a_machine_nobody_knows_is_not_protected(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    assert_int_equal(protect(&f, "lyon", &id), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    tear_down(&f);
}

static void a_site_is_no_peer_of_itself(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    assert_int_equal(protect(&f, "paris", &id), -1);
    EXPECT_TEXT("this site itself");
    tear_down(&f);
}

static void every_prerequisite_that_fails_is_named(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, "/nowhere/disk.raw", "raw");
    f.provider_says =
        "disk vda: /nowhere/disk.raw: No such file or directory\nno such qemu\nkvm is not usable\n";
    f.peer_away = true;
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "failed", "4 prerequisites of protecting db1 are not met: (1) ");
    expect_job(&f, id, "failed", "/nowhere/disk.raw");
    expect_job(&f, id, "failed", "(2) no such qemu; (3) kvm is not usable; (4) lyon cannot be");
    struct state_protection row;
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(f.desk.state, "db1", &row, &err));
    tear_down(&f);
}

static void a_peer_without_room_or_with_another_replica_is_named(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    json_decref(f.answer);
    f.answer = peer_answer(1000, 1000000, "absent");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "failed", "lyon has 1000 B free, the disks need up to 1.0 MiB");
    json_decref(f.answer);
    f.answer = peer_answer(1ULL << 40, 1000000, "other");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "failed", "lyon does not accept it: it has one from rome");
    tear_down(&f);
}

static void a_clock_that_is_apart_is_a_warning_and_no_obstacle(void **dir)
{
    struct fixture f;
    int64_t id;
    CLEANUP(json_freep) json_t *json = NULL;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    json_decref(f.answer);
    f.answer = peer_answer(1ULL << 40, 1000000 + 7000, "absent");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    EXPECT_OK(jobs_get(f.desk.jobs, id, &json, &err));
    const json_t *first = json_array_get(json_object_get(json, "tasks"), 0);
    assert_string_equal(json_get_str(first, "state", ""), "done");
    assert_non_null(strstr(json_get_str(first, "note", ""), "lyon is 7.0 s ahead of ours"));
    tear_down(&f);
}

static void the_peer_gets_keys_sizes_and_the_machine(void **dir)
{
    struct fixture f;
    int64_t id;
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    EXPECT_OK(link_recv(f.desk.peer_end, &msg, NULL, &err));
    assert_string_equal(json_get_str(msg.head, "op", ""), "replica.create");
    assert_int_equal(strlen(json_get_str(msg.head, "key", "")), 2 * KEY_BYTES);
    assert_int_equal(strlen(json_get_str(msg.head, "writer_key", "")), 2 * SIGN_KEY_BYTES);
    const json_t *disk = json_array_get(json_object_get(msg.head, "disks"), 0);
    assert_string_equal(json_get_str(disk, "name", ""), "vda");
    assert_int_equal(json_get_u64(disk, "size", 0), 1 << 20);
    assert_non_null(json_object_get(json_object_get(msg.head, "machines"), "db1"));
    struct state_protection row;
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    assert_string_equal(row.role, "source");
    assert_string_equal(row.state, "initial-copy");
    assert_string_equal(row.peer, "lyon");
    state_protection_done(&row);
    assert_int_equal(protect(&f, "lyon", &id), -1);
    assert_int_equal(err.code, ERR_EXISTS);
    tear_down(&f);
}

static void a_peer_that_leaves_after_the_check_is_waited_for(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    f.leaves = true;
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "running", "");
    expect_state(&f, "enabling");
    f.leaves = false;
    clock_fake_advance(&f.desk.clock, 3000);
    settle(&f);
    expect_job(&f, id, "running", "");
    expect_state(&f, "initial-copy");
    tear_down(&f);
}

static void a_key_is_kept_private_and_survives_a_second_try(void **dir)
{
    struct fixture f;
    struct stat st;
    struct key first;
    struct key second;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    CLEANUP(mem_freep) char *path = estate_key_path(f.estate, "db1");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    EXPECT_OK(estate_key_read(f.estate, "db1", &first, &err));
    EXPECT_OK(jobs_take_up(f.desk.jobs, &err)); /* as after a crash */
    settle(&f);
    EXPECT_OK(estate_key_read(f.estate, "db1", &second, &err));
    assert_memory_equal(&first, &second, sizeof(first));
    tear_down(&f);
}

static void settings_changed_during_the_copy_stay(void **dir)
{
    struct fixture f;
    struct state_protection row;
    struct job_settings settings;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    EXPECT_OK(job_settings_parse(row.settings, &settings, &err));
    settings.policy.interval_ms = 60000;
    settings.policy.retention.keep = 7;
    EXPECT_OK(job_settings_change(&row.settings, &settings, &err));
    EXPECT_OK(state_protection_put(f.desk.state, &row, &err));
    state_protection_done(&row);
    EXPECT_OK(jobs_take_up(f.desk.jobs, &err)); /* with the copy, as after a crash */
    settle(&f);
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    assert_string_equal(row.state, "initial-copy");
    EXPECT_OK(job_settings_parse(row.settings, &settings, &err));
    assert_int_equal(settings.policy.interval_ms, 60000);
    assert_int_equal(settings.policy.retention.keep, 7);
    state_protection_done(&row);
    tear_down(&f);
}

static void a_policy_that_changes_while_the_job_waits_holds_when_it_goes_on(void **dir)
{
    struct fixture f;
    struct state_protection row;
    struct job_settings settings;
    struct job_protect spec = {.machine = "db1", .peer = "lyon", .who = "ann"};
    CLEANUP(json_freep) json_t *own = json_pack("{s:i}", "keep", 7);
    CLEANUP(json_freep) json_t *gold = json_pack("{s:i}", "interval_ms", 5000);
    CLEANUP(json_freep) json_t *later = json_pack("{s:i, s:i}", "interval_ms", 60000, "keep", 9);
    CLEANUP(policies_changes_free) struct policies_changes changes = VEC_EMPTY;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    EXPECT_OK(policies_add(f.desk.state, "gold", gold, 1, &err));
    EXPECT_OK(policies_settings(f.desk.state, "gold", own, &spec.settings, &err));
    EXPECT_OK(jobs_protect(f.desk.jobs, &spec, &id, &err));
    EXPECT_OK(policies_change(f.desk.state, "gold", later, 2, &changes, &err));
    settle(&f);
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    EXPECT_OK(job_settings_parse(row.settings, &settings, &err));
    assert_string_equal(settings.policy_name, "gold");
    assert_int_equal(settings.policy.interval_ms, 60000);
    assert_int_equal(settings.policy.retention.keep, 7);
    state_protection_done(&row);
    tear_down(&f);
}

static void a_peer_that_refuses_leaves_nothing_here(void **dir)
{
    struct fixture f;
    struct state_protection row;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    f.refuses_create = true;
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "failed", "lyon: not here");
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(f.desk.state, "db1", &row, &err));
    CLEANUP(mem_freep) char *path = estate_key_path(f.estate, "db1");
    assert_false(fs_exists(path));
    /* Asked for with our key, so that a replica of an earlier protection is left alone. */
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    EXPECT_OK(link_recv(f.desk.peer_end, &msg, NULL, &err));
    assert_string_equal(json_get_str(msg.head, "op", ""), "replica.remove");
    assert_int_equal(strlen(json_get_str(msg.head, "key", "")), 64);
    tear_down(&f);
}

static void unprotecting_what_is_not_protected_is_refused(void **dir)
{
    struct fixture f;
    const struct job_unprotect spec = {.machine = "db1", .who = "ann"};
    int64_t id;

    set_up(&f, *dir);
    EXPECT_ERR(ERR_NOT_FOUND, jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    tear_down(&f);
}

static void put_row(struct fixture *f, char *role, char *state)
{
    const struct state_protection row = {.group = (char[]){"db1"},
                                         .peer = (char[]){"lyon"},
                                         .role = role,
                                         .state = state,
                                         .settings = (char[]){"{}"},
                                         .generation = 1};

    EXPECT_OK(state_protection_put(f->desk.state, &row, &err));
}

static void a_replica_is_unprotected_where_it_is_sent_from(void **dir)
{
    struct fixture f;
    struct job_unprotect spec = {.machine = "db1", .who = "ann"};
    struct state_protection row;
    int64_t id;

    set_up(&f, *dir);
    put_row(&f, (char[]){"replica"}, (char[]){"protected"});
    EXPECT_ERR(ERR_STATE, jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    EXPECT_TEXT("is sent here by lyon");
    spec.force = true;
    EXPECT_OK(jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "succeeded", "");
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(f.desk.state, "db1", &row, &err));
    tear_down(&f);
}

/* Also when the store cannot be opened, and so cannot say that a run pinned it. */
static void a_replica_that_a_machine_runs_from_is_kept_even_when_forced(void **dir)
{
    struct fixture f;
    const struct job_unprotect spec = {.machine = "db1", .who = "ann", .force = true};
    CLEANUP(mem_freep) char *instance = path_join(*dir, "instances/lyon-1-db1");
    CLEANUP(mem_freep) char *file = path_join(instance, "instance.json");
    CLEANUP(mem_freep) char *replica = path_join(*dir, "replicas/db1");
    const char text[] = "{\"run\":\"lyon-1\",\"machine\":\"db1\",\"group\":\"db1\"}";
    struct state_protection row;
    int64_t id;

    set_up(&f, *dir);
    put_row(&f, (char[]){"replica"}, (char[]){"failed-over"});
    EXPECT_OK(fs_make_dirs(fs_real(), replica, 0700, &err));
    EXPECT_OK(fs_make_dirs(fs_real(), instance, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), file, text, strlen(text), 0600, &err));
    EXPECT_ERR(ERR_STATE, jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    EXPECT_TEXT("run lyon-1 started db1 from it");
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    assert_string_equal(row.state, "failed-over");
    state_protection_done(&row);
    assert_true(fs_exists(replica));
    EXPECT_OK(fs_replace_file(fs_real(), file, "{", 1, 0600, &err));
    EXPECT_ERR(ERR_INVALID, jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    assert_true(fs_exists(replica));
    tear_down(&f);
}

static void an_unreachable_peer_holds_unprotect_up_unless_forced(void **dir)
{
    struct fixture f;
    struct job_unprotect spec = {.machine = "db1", .who = "ann"};
    struct state_protection row;
    int64_t id;

    set_up(&f, *dir);
    put_row(&f, (char[]){"source"}, (char[]){"protected"});
    f.peer_away = true;
    EXPECT_OK(jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "failed", "--force");
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    assert_string_equal(row.state, "disabling-failed");
    state_protection_done(&row);
    spec.force = true;
    EXPECT_OK(jobs_unprotect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "succeeded", "");
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(f.desk.state, "db1", &row, &err));
    tear_down(&f);
}

static void a_qcow2_disk_has_the_size_its_header_says(void **dir)
{
    uint8_t header[104] = {'Q', 'F', 'I', 0xfb, 0, 0, 0, 3};
    CLEANUP(mem_freep) char *path = path_join(*dir, "d.qcow2");
    uint64_t size = 0;

    header[24 + 4] = 0x40; /* 1 GiB, big endian */
    EXPECT_OK(fs_replace_file(fs_real(), path, header, sizeof(header), 0600, &err));
    EXPECT_OK(job_disk_size(path, "qcow2", &size, &err));
    assert_int_equal(size, 1U << 30);
    EXPECT_ERR(ERR_UNSUPPORTED, job_disk_size(path, "vmdk", &size, &err));
    EXPECT_TEXT("vmdk");
    EXPECT_ERR(ERR_INVALID, job_disk_size(path, "raw", &size, &err));
    EXPECT_TEXT("104 bytes, not a multiple of 512");
    header[0] = 'X';
    EXPECT_OK(fs_replace_file(fs_real(), path, header, sizeof(header), 0600, &err));
    EXPECT_ERR(ERR_INVALID, job_disk_size(path, "qcow2", &size, &err));
    EXPECT_TEXT("is not a qcow2 image");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_machine_nobody_knows_is_not_protected),
        TMPDIR_TEST(a_site_is_no_peer_of_itself),
        TMPDIR_TEST(every_prerequisite_that_fails_is_named),
        TMPDIR_TEST(a_peer_without_room_or_with_another_replica_is_named),
        TMPDIR_TEST(a_clock_that_is_apart_is_a_warning_and_no_obstacle),
        TMPDIR_TEST(the_peer_gets_keys_sizes_and_the_machine),
        TMPDIR_TEST(a_peer_that_leaves_after_the_check_is_waited_for),
        TMPDIR_TEST(a_key_is_kept_private_and_survives_a_second_try),
        TMPDIR_TEST(settings_changed_during_the_copy_stay),
        TMPDIR_TEST(a_policy_that_changes_while_the_job_waits_holds_when_it_goes_on),
        TMPDIR_TEST(a_peer_that_refuses_leaves_nothing_here),
        TMPDIR_TEST(unprotecting_what_is_not_protected_is_refused),
        TMPDIR_TEST(a_replica_is_unprotected_where_it_is_sent_from),
        TMPDIR_TEST(a_replica_that_a_machine_runs_from_is_kept_even_when_forced),
        TMPDIR_TEST(an_unreachable_peer_holds_unprotect_up_unless_forced),
        TMPDIR_TEST(a_qcow2_disk_has_the_size_its_header_says),
    };
    return cmocka_run_group_tests_name("job_protect", tests, NULL, NULL);
}
