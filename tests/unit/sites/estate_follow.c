// SPDX-License-Identifier: Apache-2.0
/* paris' own disks become a replica of what runs at lyon now, and its machine's own again later. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "replica/store_dir.h"
#include "sites/estate_base.h"
#include "sites/site_local.h"
#include "support/expect.h"
#include "support/sites/estates.h"
#include "sync/checkpoint.h"
#include "sync/digests.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK_BYTES 65536

struct moved {
    struct estates *e;
    char disk[256];
    struct estate_promotion promotion;
    char note[200];
    unsigned reads; /* calls of the progress */
};

/* --- What paris delivered, and how it ended ------------------------------------------------------ */

static struct store *store_of(struct estate *estate)
{
    struct store *store;

    EXPECT_OK(estate_store_get(estate, "db1", &store, &err));
    return store;
}

static struct store_info info_of(struct estate *estate)
{
    struct store *store = store_of(estate);
    struct store_info info;

    EXPECT_OK(store->ops->info(store, &info, &err));
    estate_store_put(estate, "db1", store, false);
    return info;
}

static char *session_dir(struct moved *m)
{
    return mem_printf("%s/paris/sessions/db1", m->e->root);
}

static void write_disk(struct moved *m, const char *text)
{
    int fd = open(m->disk, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    assert_int_equal(pwrite(fd, text, strlen(text), 4096), strlen(text));
    assert_int_equal(close(fd), 0);
}

static void put_machine(struct moved *m)
{
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(mem_freep)
    char *text = mem_printf("{\"name\": \"db1\", \"memory\": \"128MiB\", \"disks\":"
                            " [{\"path\": \"%s\", \"format\": \"raw\"}]}",
                            m->disk);

    machine_init(&machine);
    EXPECT_OK(json_parse(text, strlen(text), &json, &err));
    EXPECT_OK(machine_from_json(json, &machine, &err));
    estate_machine_put(m->e->paris, &machine);
}

/* The session's list of digests is at that point, as the replica has it. */
static void put_digests(struct moved *m, const struct store_info *at)
{
    CLEANUP(mem_freep) char *dir = session_dir(m);
    CLEANUP(digests_writer_freep) struct digests_writer *writer = NULL;
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    const struct digests_tip tip = {at->durable_point, at->durable_hash};
    struct store *store = store_of(m->e->lyon);
    struct digest digest;

    EXPECT_OK(store->ops->digests(store, "vda", at->durable_point, 0, 1, &digest, &err));
    estate_store_put(m->e->lyon, "db1", store, false);
    struct store_disk *disk = store_disks_push(&disks);
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    disk->size = DISK_BYTES;
    EXPECT_OK(digests_writer_open(dir, &disks, &writer, &err));
    EXPECT_OK(digests_writer_add(writer, &digest, 1, &err));
    EXPECT_OK(digests_writer_commit(writer, &tip, &err));
}

/* All three points are delivered. */
static void put_checkpoint(struct moved *m)
{
    CLEANUP(mem_freep) char *dir = session_dir(m);
    CLEANUP(checkpoint_done) struct checkpoint ck = {.phase = PHASE_DELTA, .serial = 9};
    struct store_info info = info_of(m->e->lyon);

    ck.durable_point = ck.applied_point = info.durable_point;
    ck.durable_hash = info.durable_hash;
    struct checkpoint_disk *disk = checkpoint_disks_push(&ck.disks);
    memset(disk, 0, sizeof(*disk));
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    disk->size = DISK_BYTES;
    EXPECT_OK(checkpoint_save(dir, &ck, &err));
    put_digests(m, &info);
}

/* Retired and settled after a last delta: nothing was written since. */
static void put_mark(struct moved *m)
{
    struct estate_mark mark = {.retired = 2, .settled = 2, .final_point = 3, .by = "lyon"};

    EXPECT_OK(estate_seal(m->e->paris, "db1", &mark, &err));
}

static int moved_setup(void **state)
{
    void *e;

    if (estates_setup(&e) < 0)
        return -1;
    struct moved *m = mem_new(struct moved);
    m->e = e;
    *state = m;
    (void)snprintf(m->disk, sizeof(m->disk), "%s/db1.raw", m->e->root);
    int fd = open(m->disk, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
    assert_int_equal(close(fd), 0);
    put_machine(m);
    put_checkpoint(m);
    put_mark(m);
    estates_tell(m->e->at_lyon, "group.promote",
                 json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", "lyon-4", "point", 0,
                           "expected", 1));
    EXPECT_OK(estate_promotion_get(m->e->lyon, "db1", &m->promotion, &err));
    return 0;
}

static int moved_teardown(void **state)
{
    struct moved *m = *state;
    void *e = m->e;

    estate_promotion_done(&m->promotion);
    free(m);
    return estates_teardown(&e);
}

static void progress(void *ctx, const char *disk, uint64_t done, uint64_t size)
{
    struct moved *m = ctx;

    assert_string_equal(disk, "vda");
    assert_true(done <= size);
    m->reads++;
}

static int follow_as(struct moved *m, uint64_t generation)
{
    const struct estate_follow what = {.group = "db1",
                                       .peer = "lyon",
                                       .generation = generation,
                                       .tip = m->promotion.tip,
                                       .first = m->promotion.first,
                                       .proof = m->promotion.proof,
                                       .ctx = m,
                                       .progress = progress};

    m->note[0] = '\0';
    err_clear(&err);
    return estate_follow(m->e->paris, &what, m->note, sizeof(m->note), NULL, &err);
}

static int follow(struct moved *m)
{
    return follow_as(m, 2);
}

static void expect_follows(struct moved *m, uint64_t point)
{
    struct store_info info = info_of(m->e->paris);

    assert_int_equal(info.durable_point, point);
    assert_int_equal(info.applied_point, point);
    assert_int_equal(info.generation, 2);
    CLEANUP(mem_freep) char *dir = session_dir(m);
    assert_false(fs_exists(dir));
    EXPECT_ERR(ERR_FENCED, estate_may_start(m->e->paris, "db1", &err));
}

/* --- Taking them over ---------------------------------------------------------------------------- */

static void clean_disks_are_taken_as_they_are(void **state)
{
    struct moved *m = *state;

    EXPECT_OK(follow(m));
    assert_string_equal(m->note, "");
    expect_follows(m, 3);
    struct store *store = store_of(m->e->paris);
    assert_true(store_dir_has_own_disks(store));
    estate_store_put(m->e->paris, "db1", store, false);
}

static void asked_again_it_is_so_already(void **state)
{
    struct moved *m = *state;

    EXPECT_OK(follow(m));
    EXPECT_OK(follow(m));
    expect_follows(m, 3);
    estates_restart_paris(m->e);
    put_machine(m);
    EXPECT_OK(follow(m));
    expect_follows(m, 3);
}

static void disks_that_were_changed_by_hand_are_read_and_their_state_is_a_branch(void **state)
{
    struct moved *m = *state;

    write_disk(m, "by hand");
    EXPECT_OK(follow(m));
    assert_non_null(strstr(m->note, "they were written after the last common point"));
    assert_true(m->reads > 0);
    expect_follows(m, 4);
}

static void without_the_list_of_digests_clean_disks_are_read(void **state)
{
    struct moved *m = *state;
    CLEANUP(mem_freep) char *path = mem_printf("%s/paris/sessions/db1/digests", m->e->root);

    assert_int_equal(unlink(path), 0);
    EXPECT_OK(follow(m));
    assert_non_null(strstr(m->note, "the list of their digests is gone"));
    expect_follows(m, 3);
}

static void a_machine_that_was_never_settled_is_no_clean_one(void **state)
{
    struct moved *m = *state;
    const struct estate_mark mark = {.retired = 2, .settled = 2, .by = "lyon"};

    EXPECT_OK(estate_mark_write(m->e->paris, "db1", &mark, &err));
    EXPECT_OK(follow(m));
    expect_follows(m, 4);
}

static void a_disk_that_is_gone_is_named_and_nothing_is_lost(void **state)
{
    struct moved *m = *state;
    CLEANUP(mem_freep) char *away = mem_printf("%s.away", m->disk);

    assert_int_equal(rename(m->disk, away), 0);
    assert_int_equal(follow(m), -1);
    EXPECT_TEXT(m->disk);
    EXPECT_TEXT("make the disks of db1 a replica of lyon");
    assert_int_equal(rename(away, m->disk), 0);
    EXPECT_OK(follow(m));
    expect_follows(m, 3);
}

static void a_disk_that_left_the_definition_is_named(void **state)
{
    struct moved *m = *state;
    CLEANUP(mem_freep) char *dir = session_dir(m);
    CLEANUP(checkpoint_done) struct checkpoint ck = {0};

    EXPECT_OK(checkpoint_load(dir, &ck, &err));
    struct checkpoint_disk *disk = checkpoint_disks_push(&ck.disks);
    memset(disk, 0, sizeof(*disk));
    (void)snprintf(disk->name, sizeof(disk->name), "vdb");
    disk->size = DISK_BYTES;
    EXPECT_OK(checkpoint_save(dir, &ck, &err));
    EXPECT_ERR(ERR_STATE, follow(m));
    EXPECT_TEXT("disk vdb of db1 is in its points and not in its definition; hint: protect");
}

static void a_side_without_points_has_nothing_to_follow_from(void **state)
{
    struct moved *m = *state;
    CLEANUP(mem_freep) char *dir = session_dir(m);
    CLEANUP(checkpoint_done) struct checkpoint ck = {.phase = PHASE_NEW};

    EXPECT_OK(checkpoint_save(dir, &ck, &err));
    EXPECT_ERR(ERR_STATE, follow(m));
    EXPECT_TEXT("db1 has no point of ours to go back to");
}

static void a_generation_that_is_not_higher_is_refused(void **state)
{
    struct moved *m = *state;

    EXPECT_ERR(ERR_STATE, follow_as(m, 1));
    EXPECT_TEXT("paris writes under generation 1");
}

/* lyon's machine was started from point 2: what follows that is proven by the points between. */
static void an_older_point_is_followed_by_its_proof(void **state)
{
    struct moved *m = *state;

    estates_tell(m->e->at_lyon, "group.promote",
                 json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", "lyon-5", "point", 2,
                           "expected", 2));
    estate_promotion_done(&m->promotion);
    EXPECT_OK(estate_promotion_get(m->e->lyon, "db1", &m->promotion, &err));
    assert_true(json_array_size(m->promotion.proof) > 0);
    EXPECT_OK(follow_as(m, 3));
    assert_int_equal(info_of(m->e->paris).generation, 3);
    assert_int_equal(info_of(m->e->paris).durable_point, 4); /* what we had beyond point 2 */
}

/* --- And back ------------------------------------------------------------------------------------ */

static json_t *promote_args(void)
{
    return json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", "paris-9", "point", 0,
                     "expected", 2);
}

static json_t *start_args(void)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run",
                     "paris-9", "test", 0, "point", 3);
}

static json_t *named(void)
{
    return json_pack("{s:s, s:s}", "machine", "db1", "run", "paris-9");
}

static struct fake_machine *own_machine(struct moved *m)
{
    return provider_fake_find(&m->e->fake, "machines/db1");
}

static void come_back(struct moved *m)
{
    EXPECT_OK(follow(m));
    estates_tell(m->e->at_paris, "group.promote", promote_args());
    estates_tell(m->e->at_paris, "instance.start", start_args());
}

static void expect_own(struct moved *m)
{
    uint64_t generation = 0;
    CLEANUP(mem_freep) char *replica = estate_replica_dir(m->e->paris, "db1");

    assert_int_equal(estate_base_look(m->e->paris, "db1", &generation, &err), 1);
    assert_int_equal(generation, 3);
    assert_false(fs_exists(replica));
}

static void it_runs_on_its_own_disks_and_is_tracked_before_it_runs(void **state)
{
    struct moved *m = *state;
    CLEANUP(json_freep) json_t *seen = NULL;

    come_back(m);
    assert_int_equal(own_machine(m)->state, INSTANCE_RUNNING);
    assert_false(own_machine(m)->ran_untracked);
    expect_own(m);
    seen = estates_ask(m->e->at_paris, "instance.observe", named());
    assert_true(json_get_bool(seen, "own", false));
    EXPECT_OK(estate_may_start(m->e->paris, "db1", &err));
}

static void its_promotion_outlives_the_replica(void **state)
{
    struct moved *m = *state;
    CLEANUP(estate_promotion_done) struct estate_promotion ours = {0};
    CLEANUP(json_freep) json_t *seen = NULL;

    come_back(m);
    estates_restart_paris(m->e);
    put_machine(m);
    EXPECT_OK(estate_promotion_get(m->e->paris, "db1", &ours, &err));
    assert_non_null(strstr(ours.tip, "\"generation\":3"));
    EXPECT_OK(estate_base_observe(m->e->paris, "db1", &seen, &err));
    assert_string_equal(json_get_str(seen, "role", ""), "own");
    assert_int_equal(json_get_u64(seen, "generation", 0), 3);
    assert_int_equal(json_get_u64(seen, "durable_point", 0), 5);
}

/* What it wrote before it ended is in no map: one that is opened now would lack it, under the old name. */
static void one_that_ran_and_ended_is_compared_not_claimed(void **state)
{
    struct moved *m = *state;
    struct provider *provider = &m->e->fake.provider;

    come_back(m);
    assert_int_equal(own_machine(m)->tracked, 1);
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(mem_freep) char *dir = estate_machine_dir(m->e->paris, "db1");
    machine_init(&machine);
    EXPECT_OK(estate_machine_get(m->e->paris, "db1", &machine, &err));
    const struct provider_instance view = {.machine = &machine, .run_dir = dir, .netns = ""};
    EXPECT_OK(provider->stop(provider, &view, NULL, &err));
    estates_tell(m->e->at_paris, "instance.start", start_args());
    assert_int_equal(own_machine(m)->state, INSTANCE_RUNNING);
    assert_int_equal(own_machine(m)->tracked, 0);
    expect_own(m);
}

/* What this process knows of the replica is from before. */
static void look_anew(struct moved *m)
{
    struct store *store;
    struct err none = ERR_EMPTY;

    if (estate_store_get(m->e->paris, "db1", &store, &none) == 0)
        estate_store_put(m->e->paris, "db1", store, true);
}

static void a_way_back_that_was_cut_is_gone_on_with(void **state)
{
    static const char *const points[] = {"instance.made:1", "replica.released:1", "base.digests:1",
                                         "base.made:1", "own.started:1"};
    struct moved *m = *state;
    int status;

    EXPECT_OK(follow(m));
    estates_tell(m->e->at_paris, "group.promote", promote_args());
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            crash_arm(points[i], NULL);
            _exit(site_ask(m->e->at_paris, "instance.start", start_args(), NULL, NULL, &err) < 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status))
            fail_msg("%s: ended with %d", points[i], WEXITSTATUS(status));
        look_anew(m);
    }
    estates_tell(m->e->at_paris, "instance.start", start_args());
    assert_int_equal(own_machine(m)->state, INSTANCE_RUNNING);
    expect_own(m);
}

static void one_that_cannot_be_tracked_does_not_run(void **state)
{
    struct moved *m = *state;

    EXPECT_OK(follow(m));
    estates_tell(m->e->at_paris, "group.promote", promote_args());
    m->e->fake.trackless = true;
    EXPECT_ERR(ERR_IO, site_ask(m->e->at_paris, "instance.start", start_args(), NULL, NULL, &err));
    EXPECT_TEXT("track the disks of db1");
    assert_int_equal(own_machine(m)->state, INSTANCE_PAUSED);
    m->e->fake.trackless = false;
    estates_tell(m->e->at_paris, "instance.start", start_args());
    assert_int_equal(own_machine(m)->state, INSTANCE_RUNNING);
    assert_false(own_machine(m)->ran_untracked);
}

static void its_commit_leaves_nothing_of_the_run(void **state)
{
    struct moved *m = *state;
    CLEANUP(mem_freep) char *dir = site_instance_dir(m->e->paris, "paris-9", "db1");

    come_back(m);
    for (int again = 0; again < 2; again++) {
        CLEANUP(json_freep)
        json_t *reply = estates_ask(m->e->at_paris, "instance.commit", named());

        assert_true(json_get_bool(reply, "own", false));
        assert_false(fs_exists(dir));
        assert_int_equal(own_machine(m)->state, INSTANCE_RUNNING);
    }
}

static void what_is_not_here_is_not_committed(void **state)
{
    struct moved *m = *state;

    EXPECT_ERR(ERR_NOT_FOUND,
               site_ask(m->e->at_paris, "instance.commit", named(), NULL, NULL, &err));
    EXPECT_TEXT("db1 is not here");
}

#define MOVED_TEST(f) cmocka_unit_test_setup_teardown(f, moved_setup, moved_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MOVED_TEST(clean_disks_are_taken_as_they_are),
        MOVED_TEST(asked_again_it_is_so_already),
        MOVED_TEST(disks_that_were_changed_by_hand_are_read_and_their_state_is_a_branch),
        MOVED_TEST(without_the_list_of_digests_clean_disks_are_read),
        MOVED_TEST(a_machine_that_was_never_settled_is_no_clean_one),
        MOVED_TEST(a_disk_that_is_gone_is_named_and_nothing_is_lost),
        MOVED_TEST(a_disk_that_left_the_definition_is_named),
        MOVED_TEST(a_side_without_points_has_nothing_to_follow_from),
        MOVED_TEST(a_generation_that_is_not_higher_is_refused),
        MOVED_TEST(an_older_point_is_followed_by_its_proof),
        MOVED_TEST(it_runs_on_its_own_disks_and_is_tracked_before_it_runs),
        MOVED_TEST(its_promotion_outlives_the_replica),
        MOVED_TEST(one_that_ran_and_ended_is_compared_not_claimed),
        MOVED_TEST(a_way_back_that_was_cut_is_gone_on_with),
        MOVED_TEST(one_that_cannot_be_tracked_does_not_run),
        MOVED_TEST(its_commit_leaves_nothing_of_the_run),
        MOVED_TEST(what_is_not_here_is_not_committed),
    };
    return cmocka_run_group_tests_name("estate_follow", tests, NULL, NULL);
}
