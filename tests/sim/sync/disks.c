// SPDX-License-Identifier: Apache-2.0
/* A disk that is full, or fails, at either site, and what a person sees of it: the state, whose disk it
 * is and where, that the guest goes on, and that all is well once there is room again. In virtual
 * time, with the simulation's oracle. */
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sync/sim_internal.h"
#include "support/tmpdir.h"

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB      1024U
#define MINUTE   60000
#define CATCH_UP 40

static const uint64_t sizes[] = {192 * KIB, 64 * KIB + 512};

static void sim_done(struct sim *sim)
{
    duo_done(&sim->duo);
    fake_machine_free(sim->machine);
    sim_points_free(&sim->points);
}

static void look(struct sim *sim)
{
    if (!sim_check(sim))
        fail_msg("%s", sim->failure);
}

static void turns_until(struct sim *sim, uint64_t point)
{
    for (int i = 0; duo_status(&sim->duo).applied_point < point; i++) {
        if (i == CATCH_UP)
            fail_msg("not at point %d: %s", (int)point, duo_status(&sim->duo).error.text);
        duo_turn(&sim->duo, 10 * MINUTE);
        look(sim);
    }
}

/* Protected, with two points, and something to send. */
static void start(struct sim *sim, const char *dir)
{
    memset(sim, 0, sizeof(*sim));
    sim->dice = 5;
    sim->machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    fake_write_random(sim->machine, &sim->dice, 12);
    duo_init(&sim->duo, dir, sim->machine, 1);
    EXPECT_OK(duo_open_session(&sim->duo, &err));
    turns_until(sim, 1);
    fake_write_random(sim->machine, &sim->dice, 2);
    turns_until(sim, 2);
    fake_write_random(sim->machine, &sim->dice, 2);
}

static const struct broken {
    const char *what;
    bool lyon;
    enum site_op op;
    const char *where;
    enum err_code code;
} table[] = {
    {"the replica's disk is full in segments", true, SITE_WRITE, "/segments/", ERR_SPACE},
    {"the replica's disk is full in manifests", true, SITE_WRITE, "/manifests/", ERR_SPACE},
    {"the replica's disk is full in undo", true, SITE_WRITE, "/undo/", ERR_SPACE},
    {"the replica's disk is full in head", true, SITE_WRITE, "/head.raw", ERR_SPACE},
    {"a segment cannot be written", true, SITE_WRITE, "/segments/", ERR_IO},
    {"undo cannot be written", true, SITE_WRITE, "/undo/", ERR_IO},
    {"head cannot be written", true, SITE_WRITE, "/head.raw", ERR_IO},
    {"head cannot be read", true, SITE_READ, "/head.raw", ERR_IO},
    {"a segment cannot be synced", true, SITE_SYNC, "/segments/", ERR_IO},
    {"a manifest cannot be synced", true, SITE_SYNC, "/manifests/", ERR_IO},
    {"undo cannot be synced", true, SITE_SYNC, "/undo/", ERR_IO},
    {"head cannot be synced", true, SITE_SYNC, "/head.raw", ERR_IO},
    {"the digests cannot be synced", true, SITE_SYNC, "/digests", ERR_IO},
    {"the source's disk is full in the outbox", false, SITE_WRITE, "/outbox/", ERR_SPACE},
    {"the source's disk is full for the checkpoint", false, SITE_WRITE, "/checkpoint", ERR_SPACE},
    {"the outbox cannot be synced", false, SITE_SYNC, "/outbox", ERR_IO},
    {"the checkpoint cannot be synced", false, SITE_SYNC, "/checkpoint", ERR_IO},
};

/* Whose disk, which file, and what: in one line. */
static void check_shown(const struct sim *sim, const struct broken *b,
                        const struct session_status *s)
{
    (void)sim;
    if (s->state != SESSION_BACKING_OFF || s->error.code != b->code)
        fail_msg("%s: %s [%s] %s", b->what, session_state_name(s->state),
                 err_code_name(s->error.code), s->error.text);
    if (!strstr(s->error.text, b->where) || (strstr(s->error.text, "lyon: ") != NULL) != b->lyon)
        fail_msg("%s: shown as \"%s\"", b->what, s->error.text);
    assert_true(s->retry_at_ms > 0);
    assert_true(s->error_since_ms > 0);
}

static void a_disk_that_is_full_or_fails_is_shown_and_nothing_is_lost(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct broken *b = &table[i];
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%zu", (const char *)*state, i);
        CLEANUP(sim_done) struct sim sim;
        start(&sim, dir);
        struct site_fs *site = b->lyon ? &sim.duo.lyon : &sim.duo.paris;
        site->fault = (struct site_fault){.op = b->op,
                                          .where = b->where,
                                          .count = b->code == ERR_SPACE ? UINT_MAX : 1,
                                          .code = b->code};
        for (int k = 0; k < 4 && duo_status(&sim.duo).error.code == ERR_NONE; k++)
            duo_turn(&sim.duo, MINUTE);
        struct session_status s = duo_status(&sim.duo);
        check_shown(&sim, b, &s);
        assert_true(sim.machine->running);
        look(&sim);
        /* The age is the truth, however long it lasts. */
        duo_pass(&sim.duo, 5 * MINUTE);
        assert_true(duo_status(&sim.duo).durable_age_ms >= s.durable_age_ms + 5 * MINUTE);
        site_mend(site);
        /* Power that fails now takes away what a failed sync did not keep. */
        duo_drop_store(&sim.duo);
        site_restart(&sim.duo.lyon, true, FS_LOSS_ALL, i);
        sim.look = true;
        look(&sim);
        fake_write_random(sim.machine, &sim.dice, 2);
        turns_until(&sim, 4);
    }
}

static void without_room_for_staging_there_is_no_cut_and_the_guest_goes_on(void **state)
{
    CLEANUP(sim_done) struct sim sim;

    start(&sim, *state);
    uint64_t cuts = sim.machine->cuts;
    for (int i = 0; i < 3; i++) {
        fake_fail(sim.machine, "cut", 0, ERR_SPACE);
        duo_turn(&sim.duo, MINUTE);
        struct session_status s = duo_status(&sim.duo);
        assert_int_equal(s.state, SESSION_BACKING_OFF);
        assert_int_equal(s.error.code, ERR_SPACE);
        assert_true(sim.machine->running);
        fake_write_random(sim.machine, &sim.dice, 1);
        look(&sim);
    }
    assert_int_equal(sim.machine->cuts, cuts);
    sim.machine->fail_op[0] = '\0';
    turns_until(&sim, 3);
}

/* --- What rots between commit and apply --------------------------------------------------------- */

static char *newest_segment(struct sim *sim)
{
    CLEANUP(mem_freep) char *dir = duo_replica_dir(&sim->duo);
    CLEANUP(mem_freep) char *folder = mem_printf("%s/disk0/segments", dir);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    EXPECT_OK(fs_list(folder, &names, &err));
    assert_int_equal(names.len, 1);
    return path_join(folder, names.at[0]);
}

/* The point is there, and its apply found no room. */
static char *committed_only(struct sim *sim, const char *dir)
{
    start(sim, dir);
    fake_write_random(sim->machine, &sim->dice, 20);
    sim->duo.lyon.fault = (struct site_fault){
        .op = SITE_WRITE, .where = "/undo/", .count = UINT_MAX, .code = ERR_SPACE};
    for (int i = 0; duo_status(&sim->duo).durable_point < 3; i++) {
        assert_true(i < CATCH_UP);
        duo_turn(&sim->duo, MINUTE);
    }
    assert_int_equal(duo_status(&sim->duo).applied_point, 2);
    return newest_segment(sim);
}

static void damage(const char *path, bool all)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    EXPECT_OK(fs_read_file(fs_real(), path, (size_t)st.st_size, &text, &err));
    text.ptr[text.len / 2] ^= 1;
    EXPECT_OK(fs_replace_file(fs_real(), path, text.ptr, all ? 10 : text.len, 0600, &err));
}

static void a_segment_that_rots_before_it_is_applied_comes_again_from_the_source(void **state)
{
    for (int how = 0; how < 3; how++) {
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", (const char *)*state, how);
        CLEANUP(sim_done) struct sim sim;
        CLEANUP(mem_freep) char *path = committed_only(&sim, dir);

        if (how == 2)
            assert_int_equal(unlink(path), 0);
        else
            damage(path, how == 1);
        duo_drop_session(&sim.duo); /* nothing of it is in memory only */
        duo_drop_store(&sim.duo);
        site_mend(&sim.duo.lyon);
        EXPECT_OK(duo_open_session(&sim.duo, &err));
        turns_until(&sim, 3);
        fake_write_random(sim.machine, &sim.dice, 2);
        turns_until(&sim, 4);
        assert_true(sim_finish(&sim));
    }
}

static void one_that_the_source_lost_too_is_said_and_older_points_stay(void **state)
{
    CLEANUP(sim_done) struct sim sim;
    CLEANUP(mem_freep) char *path = committed_only(&sim, *state);
    CLEANUP(mem_freep) char *outbox = mem_printf("%s/outbox", sim.duo.config.dir);

    damage(path, false);
    EXPECT_OK(fs_remove_tree(fs_real(), outbox, &err));
    site_mend(&sim.duo.lyon);
    for (int i = 0; duo_status(&sim.duo).state != SESSION_CRITICAL; i++) {
        assert_true(i < CATCH_UP);
        duo_turn(&sim.duo, 10 * MINUTE);
    }
    const struct session_status s = duo_status(&sim.duo);
    assert_int_equal(s.error.code, ERR_CORRUPT);
    assert_non_null(strstr(s.error.text, "paris cannot send it once more"));
    assert_non_null(strstr(s.error.text, "; hint: the points before it are whole"));
    assert_int_equal(s.applied_point, 2);
    look(&sim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_segment_that_rots_before_it_is_applied_comes_again_from_the_source),
        TMPDIR_TEST(one_that_the_source_lost_too_is_said_and_older_points_stay),
        TMPDIR_TEST(a_disk_that_is_full_or_fails_is_shown_and_nothing_is_lost),
        TMPDIR_TEST(without_room_for_staging_there_is_no_cut_and_the_guest_goes_on),
    };
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("disks", tests, NULL, NULL);
}
