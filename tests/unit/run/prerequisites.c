// SPDX-License-Identifier: Apache-2.0
/* What is looked at before a machine is protected, at both sites, and how it is said. */
#include "run/prerequisites.h"
#include "support/run/protect.h"
#include "support/tmpdir.h"

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
    expect_job(&f, id, "failed", "lyon has 1000 B free, what the disks hold needs 4.0 KiB");
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

/* --- The other site's host --------------------------------------------------------------------- */

/* lyon's answer about a machine that it would recover. */
static void answer_with(struct fixture *f, const char *problem, uint64_t memory, uint64_t available,
                        int cpus)
{
    json_t *problems = json_array();

    if (problem)
        (void)json_array_append_new(problems, json_string(problem));
    (void)json_object_set_new(f->answer, "problems", problems);
    (void)json_object_set_new(
        f->answer, "networks",
        json_pack("[{s:s, s:s}]", "there", "bridge lan", "here", "bridge recovery"));
    (void)json_object_set_new(f->answer, "host",
                              json_pack("{s:I, s:I, s:i}", "memory_bytes", (json_int_t)memory,
                                        "memory_available_bytes", (json_int_t)available, "cpus",
                                        cpus));
}

/* The row of that name of the job's first task, as text. */
static void expect_row(struct fixture *f, int64_t id, const char *what, const char *part)
{
    CLEANUP(json_freep) json_t *job = NULL;
    const json_t *row;
    size_t i;

    EXPECT_OK(jobs_get(f->desk.jobs, id, &job, &err));
    json_array_foreach(json_object_get(json_array_get(json_object_get(job, "tasks"), 0), "checks"),
                       i, row) {
        CLEANUP(mem_freep) char *text = json_text(row);

        if (str_eq(json_get_str(row, "what", ""), what) && strstr(text, part))
            return;
    }
    fail_msg("no check \"%s\" with \"%s\"", what, part);
}

static void a_host_that_could_not_recover_it_is_named_with_its_reason(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    answer_with(&f, "nic 52:54:00:00:00:01: there is no bridge recovery", 1 << 20, 1 << 20, 4);
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "failed",
               "2 prerequisites of protecting db1 are not met: (1) could not be "
               "recovered at lyon: nic 52:54:00:00:00:01: there is no bridge "
               "recovery; hint: mend that there, or protect it with --force");
    expect_job(&f, id, "failed", "(2) the host of lyon has 1.0 MiB of memory, db1 needs 64.0 MiB");
    expect_row(&f, id, "network bridge lan", "\"found\":\"bridge recovery\"");
    tear_down(&f);
}

static void networks_of_its_own_are_in_its_row_and_wrong_ones_are_refused(void **dir)
{
    struct fixture f;
    struct state_protection row;
    CLEANUP(json_freep)
    json_t *networks = json_pack("{s:s}", "bridge lan", "bridge recovery");
    CLEANUP(json_freep) json_t *wrong = json_pack("{s:s}", "bridge lan", "recovery");
    CLEANUP(json_freep) json_t *have = NULL;
    struct job_protect spec = {.machine = "db1", .peer = "lyon", .networks = wrong, .who = "ann"};
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    policy_init(&spec.settings.policy);
    EXPECT_ERR(ERR_INVALID, jobs_protect(f.desk.jobs, &spec, &id, &err));
    EXPECT_TEXT(
        "networks: \"bridge lan\" to \"recovery\"; hint: each is \"user\" or \"bridge NAME\"");
    spec.networks = networks;
    EXPECT_OK(jobs_protect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    have = job_networks_get(row.settings);
    assert_true(json_equal(have, networks));
    state_protection_done(&row);
    tear_down(&f);
}

static void a_seed_that_will_not_do_is_named_before_anything_is_made(void **dir)
{
    struct fixture f;
    struct state_protection row;
    CLEANUP(json_freep) json_t *seeds = json_pack("{s:s}", "", "old.raw");
    CLEANUP(json_freep) json_t *wrong = json_pack("{s:s}", "vdz", "old.raw");
    struct job_protect spec = {.machine = "db1", .peer = "lyon", .seeds = wrong, .who = "ann"};
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    policy_init(&spec.settings.policy);
    EXPECT_ERR(ERR_INVALID, jobs_protect(f.desk.jobs, &spec, &id, &err));
    EXPECT_TEXT("seed: there is no disk \"vdz\" (there are: vda)");
    spec.seeds = seeds;
    /* One of an older release says nothing of it. */
    EXPECT_OK(jobs_protect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "failed", "no seeds are taken there");
    (void)json_object_set_new(f.answer, "seeds",
                              json_pack("{s:{s:s}}", "vda", "problem",
                                        "/seeds/old.raw is not there; hint: put it there"));
    EXPECT_OK(jobs_protect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "failed", "seed of disk vda at lyon: /seeds/old.raw is not there");
    EXPECT_ERR(ERR_NOT_FOUND, state_protection_get(f.desk.state, "db1", &row, &err));
    tear_down(&f);
}

static void a_seed_that_will_do_is_shown_and_in_the_row(void **dir)
{
    struct fixture f;
    struct state_protection row;
    CLEANUP(json_freep) json_t *seeds = json_pack("{s:s}", "", "old.raw");
    CLEANUP(json_freep) json_t *have = NULL;
    struct job_protect spec = {.machine = "db1", .peer = "lyon", .seeds = seeds, .who = "ann"};
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    policy_init(&spec.settings.policy);
    (void)json_object_set_new(
        f.answer, "seeds", json_pack("{s:{s:s, s:i}}", "vda", "format", "qcow2", "size", 1048576));
    EXPECT_OK(jobs_protect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_row(&f, id, "seed of disk vda", "qcow2, 1.0 MiB");
    EXPECT_OK(state_protection_get(f.desk.state, "db1", &row, &err));
    have = job_seeds_get(row.settings);
    assert_string_equal(json_get_str(have, "vda", ""), "old.raw");
    EXPECT_OK(job_seeds_drop(&row.settings, &err));
    CLEANUP(json_freep) json_t *none = job_seeds_get(row.settings);
    assert_int_equal(json_object_size(none), 0);
    state_protection_done(&row);
    tear_down(&f);
}

static void with_force_only_the_data_counts(void **dir)
{
    struct fixture f;
    struct job_protect spec = {.machine = "db1", .peer = "lyon", .force = true, .who = "ann"};
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    answer_with(&f, "there is no bridge recovery", 1 << 20, 1 << 20, 0);
    policy_init(&spec.settings.policy);
    EXPECT_OK(jobs_protect(f.desk.jobs, &spec, &id, &err));
    settle(&f);
    expect_job(&f, id, "running", "");
    expect_row(&f, id, "recovery", "\"state\":\"warning\"");
    expect_row(&f, id, "memory", "\"state\":\"warning\"");
    tear_down(&f);
}

static void what_is_scarce_only_now_is_a_warning(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    answer_with(&f, NULL, 1ULL << 33, 1 << 20, 1);
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "running", "");
    expect_row(&f, id, "memory", "1.0 MiB of memory available now, db1 needs 64.0 MiB");
    expect_row(&f, id, "processors", "\"state\":\"ok\"");
    tear_down(&f);
}

/* --- Room, tracking ---------------------------------------------------------------------------- */

/* 16 bytes of it are written; a disk of holes needs no room before it fills up. */
static void a_thin_disk_that_would_not_fit_is_warned_of(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    json_decref(f.answer);
    f.answer = peer_answer(500000, 1000000, "absent");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "running", "");
    expect_row(&f, id, "room for what the disks hold", "\"needed\":\"4.0 KiB\"");
    expect_row(&f, id, "room for the disks", "\"state\":\"warning\"");
    expect_row(&f, id, "room for the disks", "the disks need up to 1.0 MiB when they fill up");
    tear_down(&f);
}

static void room_for_older_points_is_estimated_and_shown(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    json_decref(f.answer);
    f.answer = peer_answer((1 << 20) + 1000, 1000000, "absent");
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "running", "");
    expect_row(&f, id, "room for the disks", "\"needed\":\"1.0 MiB\"");
    expect_row(&f, id, "room for points of 1 d, about",
               "lyon has 1000 B left beside the disks; older points may take about 102.4 KiB");
    expect_row(&f, id, "room for points of 1 d, about", "\"state\":\"warning\"");
    tear_down(&f);
}

static void the_estimate_goes_by_how_long_points_are_kept(void **dir)
{
    struct policy policy;
    int64_t kept;

    (void)dir;
    policy_init(&policy);
    policy.retention = (struct retention){.keep = 24};
    policy.interval_ms = 3600000;
    assert_int_equal(prerequisites_undo_bytes(&policy, 1000000, &kept), 100000);
    assert_int_equal(kept, 86400000);
    EXPECT_OK(retention_parse("1h for 1d, 1d for 7d", &policy.retention, &err));
    assert_int_equal(prerequisites_undo_bytes(&policy, 1000000, &kept), 700000);
    policy.retention = (struct retention){.keep = RETENTION_KEEP_MAX};
    policy.interval_ms = POLICY_INTERVAL_MAX_MS;
    (void)prerequisites_undo_bytes(&policy, UINT64_C(1) << 50, &kept);
    assert_int_equal(kept, RETENTION_SPAN_MAX);
}

static void a_qemu_without_bitmaps_is_named(void **dir)
{
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    f.untrackable = "its QEMU cannot keep track of changes";
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "failed", "(1) db1: its QEMU cannot keep track of changes");
    tear_down(&f);
}

static void what_no_error_has_room_for_is_counted_and_in_the_list(void **dir)
{
    CLEANUP(str_free) struct str lines = STR_EMPTY;
    struct fixture f;
    int64_t id;

    set_up(&f, *dir);
    put_machine(&f, f.disk, "raw");
    for (int i = 0; i < 40; i++)
        str_addf(&lines, "kernel /boot/vmlinuz-%040d: No such file or directory\n", i);
    f.provider_says = str_text(&lines);
    assert_int_equal(protect(&f, "lyon", &id), 0);
    settle(&f);
    expect_job(&f, id, "failed", "40 prerequisites of protecting db1 are not met");
    expect_job(&f, id, "failed", " more, in `muster jobs show`");
    expect_row(&f, id, "host", "vmlinuz-0000000000000000000000000000000000000039");
    tear_down(&f);
}

static void a_look_alone_says_the_same_and_makes_no_job(void **dir)
{
    struct fixture f;
    struct job_protect spec = {.machine = "db1", .peer = "lyon", .who = "ann"};
    struct jobs_check *check;
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *jobs = NULL;

    set_up(&f, *dir);
    EXPECT_ERR(ERR_NOT_FOUND, jobs_check_new(f.desk.jobs, &spec, &check, &err));
    put_machine(&f, f.disk, "qcow2");
    policy_init(&spec.settings.policy);
    f.peer_away = true;
    EXPECT_OK(jobs_check_new(f.desk.jobs, &spec, &check, &err));
    EXPECT_OK(jobs_check_run(check, &reply, NULL, &err));
    jobs_check_free(check);
    assert_int_equal(json_get_u64(reply, "failed", 0), 2);
    EXPECT_OK(jobs_list(f.desk.jobs, false, &jobs, &err));
    assert_int_equal(json_array_size(jobs), 0);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(every_prerequisite_that_fails_is_named),
        TMPDIR_TEST(a_peer_without_room_or_with_another_replica_is_named),
        TMPDIR_TEST(a_clock_that_is_apart_is_a_warning_and_no_obstacle),
        TMPDIR_TEST(a_host_that_could_not_recover_it_is_named_with_its_reason),
        TMPDIR_TEST(networks_of_its_own_are_in_its_row_and_wrong_ones_are_refused),
        TMPDIR_TEST(a_seed_that_will_not_do_is_named_before_anything_is_made),
        TMPDIR_TEST(a_seed_that_will_do_is_shown_and_in_the_row),
        TMPDIR_TEST(with_force_only_the_data_counts),
        TMPDIR_TEST(what_is_scarce_only_now_is_a_warning),
        TMPDIR_TEST(a_thin_disk_that_would_not_fit_is_warned_of),
        TMPDIR_TEST(room_for_older_points_is_estimated_and_shown),
        TMPDIR_TEST(the_estimate_goes_by_how_long_points_are_kept),
        TMPDIR_TEST(a_qemu_without_bitmaps_is_named),
        TMPDIR_TEST(what_no_error_has_room_for_is_counted_and_in_the_list),
        TMPDIR_TEST(a_look_alone_says_the_same_and_makes_no_job),
    };
    return cmocka_run_group_tests_name("prerequisites", tests, NULL, NULL);
}
