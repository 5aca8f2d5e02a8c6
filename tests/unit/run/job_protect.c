// SPDX-License-Identifier: Apache-2.0
/* What protect and unprotect say and write around the copy itself, with a provider and a peer that
 * are made up. */
#include "run/policies.h"
#include "support/run/protect.h"
#include "support/tmpdir.h"

#include <sys/stat.h>

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

static void a_peer_that_does_not_say_that_it_encrypts_gets_no_copy(void **dir)
{
    struct fixture f;
    struct state_protection row;
    struct job_protect spec = {.machine = "db1", .peer = "lyon", .who = "ann"};
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    policy_init(&spec.settings.policy);
    spec.settings.policy.encryption = POLICY_ENCRYPTION_AT_REST;
    for (size_t i = 0; policy_keys[i]; i++)
        spec.settings.overrides |= UINT32_C(1) << i;
    EXPECT_OK(jobs_protect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "failed", "lyon does not encrypt replicas at rest; hint: run the same");
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(f.desk.state, "db1", &row, &err));
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
        TMPDIR_TEST(the_peer_gets_keys_sizes_and_the_machine),
        TMPDIR_TEST(a_peer_that_leaves_after_the_check_is_waited_for),
        TMPDIR_TEST(a_key_is_kept_private_and_survives_a_second_try),
        TMPDIR_TEST(settings_changed_during_the_copy_stay),
        TMPDIR_TEST(a_policy_that_changes_while_the_job_waits_holds_when_it_goes_on),
        TMPDIR_TEST(a_peer_that_refuses_leaves_nothing_here),
        TMPDIR_TEST(a_peer_that_does_not_say_that_it_encrypts_gets_no_copy),
        TMPDIR_TEST(unprotecting_what_is_not_protected_is_refused),
        TMPDIR_TEST(a_replica_is_unprotected_where_it_is_sent_from),
        TMPDIR_TEST(a_replica_that_a_machine_runs_from_is_kept_even_when_forced),
        TMPDIR_TEST(an_unreachable_peer_holds_unprotect_up_unless_forced),
        TMPDIR_TEST(a_qcow2_disk_has_the_size_its_header_says),
    };
    return cmocka_run_group_tests_name("job_protect", tests, NULL, NULL);
}
