// SPDX-License-Identifier: Apache-2.0
/* An initial copy that is begun anew because QEMU is another one, while frames of the first one are
 * still on their way over the link that broke, and are heard at any moment after. What they hold is
 * older than what was written before the new map was opened, and nobody knows of: none of it may reach
 * head. Many seeds; a build that takes every frame for one of its copy is caught. */
#include "base/log.h"
#include "base/mem.h"
#include "replica/base_frame.h"
#include "support/expect.h"
#include "support/sync/duo_wire.h"
#include "support/sync/sim_internal.h"
#include "support/tmpdir.h"

#include <stdlib.h>
#include <unistd.h>

#define KIB   1024U
#define SEEDS 60
#define TURNS 60

static const uint64_t sizes[] = {3072 * KIB, 1024 * KIB + 512};

static void sim_done(struct sim *sim)
{
    duo_done(&sim->duo);
    fake_machine_free(sim->machine);
    sim_points_free(&sim->points);
}

static void sim_start(struct sim *sim, const char *dir, uint64_t seed)
{
    memset(sim, 0, sizeof(*sim));
    sim->number = seed;
    sim->dice = seed * 2654435761U;
    sim->machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    sim->machine->unordered = seed % 2;
    fake_write_random(sim->machine, &sim->dice, 120);
    duo_init(&sim->duo, dir, sim->machine, seed);
}

struct play {
    struct sim sim;
    uint64_t heard;
    bool hearing;
};

/* Between any two requests of the new link, what the old one still holds. */
static void perhaps_hear(struct duo *duo, void *ctx)
{
    struct play *play = ctx;

    if (play->hearing || duo->late_count == 0 || sim_dice(&play->sim, 12))
        return;
    play->hearing = true;
    play->heard += duo->late_count;
    duo_hear_all_late(duo);
    play->hearing = false;
}

/* The copy breaks off with requests on the way; what they are about is written anew before the next
 * QEMU's map is opened. */
static void break_off(struct sim *sim)
{
    sim->duo.cut_up = 100000 + sim_dice(sim, 700000);
    for (int i = 0; i < 3 && sim->duo.breaks == 0; i++)
        duo_turn(&sim->duo, SIM_TURN_MS);
    fake_restart(sim->machine);
    fake_write_random(sim->machine, &sim->dice, 60);
    if (sim_dice(sim, 4) == 0)
        sim_lyon_ends(sim, sim_dice(sim, 2));
}

/* Up to the second point. */
static bool go_on(struct play *play)
{
    struct sim *sim = &play->sim;

    sim->duo.on_served = perhaps_hear;
    sim->duo.on_served_ctx = play;
    for (int i = 0; i < TURNS && duo_status(&sim->duo).applied_point < 2; i++) {
        if (duo_status(&sim->duo).state == SESSION_CRITICAL)
            session_retry(sim->duo.session);
        fake_write_random(sim->machine, &sim->dice, 1);
        duo_turn(&sim->duo, SIM_TURN_MS);
        if (!sim_check(sim))
            return false;
    }
    return duo_status(&sim->duo).applied_point >= 2
           || sim_fail(sim, "invariant 10: no second point: %s", duo_status(&sim->duo).error.text);
}

static bool play_seed(const char *base, uint64_t seed, void (*bug)(struct store *store, void *ctx),
                      uint64_t *heard, struct str *ret_failure)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/%d", base, (int)seed);
    struct play play = {0};

    sim_start(&play.sim, dir, seed);
    play.sim.duo.bug.store = bug;
    EXPECT_OK(duo_open_session(&play.sim.duo, &err));
    break_off(&play.sim);
    bool fine = go_on(&play);
    *heard += play.heard;
    if (!fine)
        str_add(ret_failure, play.sim.failure);
    sim_done(&play.sim);
    EXPECT_OK(fs_remove_tree(fs_real(), dir, &err));
    return fine;
}

static void frames_of_a_copy_that_was_given_up_never_reach_the_next_one(void **state)
{
    CLEANUP(str_free) struct str failure = STR_EMPTY;
    uint64_t heard = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        if (!play_seed(*state, seed, NULL, &heard, &failure))
            fail_msg("seed %d: %s", (int)seed, str_text(&failure));
    (void)printf("%d seeds, %d requests heard late\n", SEEDS, (int)heard);
    assert_true(heard > SEEDS);
}

/* --- The wrong build ------------------------------------------------------------------------- */

static const struct store_ops *honest;

static int ready_for_any(struct store *store, const char *disk, const struct uuid *uuid,
                         struct base_frame *frame, struct err *why)
{
    struct store_info info;

    if (honest->info(store, &info, why) < 0)
        return -1;
    frame->copy = info.copy;
    return honest->base_ready(store, disk, uuid, frame, why);
}

static void frames_of_any_copy(struct store *store, void *ctx)
{
    static struct store_ops wrong;

    (void)ctx;
    honest = store->ops;
    wrong = *store->ops;
    wrong.base_ready = ready_for_any;
    store->ops = &wrong;
}

static void a_build_that_takes_frames_of_any_copy_is_caught(void **state)
{
    CLEANUP(str_free) struct str failure = STR_EMPTY;
    uint64_t heard = 0;
    uint64_t seed = 1;

    while (seed <= SEEDS && play_seed(*state, seed, frames_of_any_copy, &heard, &failure))
        seed++;
    (void)printf("caught by seed %d: %s\n", (int)seed, str_text(&failure));
    assert_true(seed <= SEEDS);
    assert_non_null(strstr(str_text(&failure), "invariants 1, 2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(frames_of_a_copy_that_was_given_up_never_reach_the_next_one),
        TMPDIR_TEST(a_build_that_takes_frames_of_any_copy_is_caught),
    };
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    log_set_level(getenv("MUSTER_SEED") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("late copy", tests, NULL, NULL);
}
