// SPDX-License-Identifier: Apache-2.0
#include "support/sync/sim.h"

#include "base/mem.h"
#include "support/sync/sim_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define KIB      1024u
#define STEPS    20
#define CATCH_UP 60

static const uint64_t sizes[] = {192 * KIB, 64 * KIB + 512};

unsigned sim_dice(struct sim *sim, unsigned sides)
{
    return (unsigned)(fake_random(&sim->dice) % sides);
}

void sim_say(struct sim *sim, const char *fmt, ...)
{
    char *line = sim->log[sim->events % SIM_LOG];
    va_list args;
    int64_t now = sim->duo.time.clock.now_ms(&sim->duo.time.clock);
    int len =
        snprintf(line, sizeof(sim->log[0]), "%4" PRIu64 " %9" PRId64 " ms  ", sim->events, now);

    va_start(args, fmt);
    (void)vsnprintf(line + len, sizeof(sim->log[0]) - (size_t)len, fmt, args);
    va_end(args);
    sim->events++;
}

static void write_during_scan(struct fake_machine *machine, void *ctx)
{
    if (machine->running)
        fake_write_random(machine, ctx, 1);
}

static void faults_end(struct sim *sim)
{
    struct duo *duo = &sim->duo;

    sim_bury(sim);
    duo->unreachable = false;
    duo->latency_ms = 0;
    duo->cut_up = duo->cut_down = 0;
    duo->lyon.left = duo->paris.left = UINT64_MAX;
    site_mend(&duo->lyon);
    site_mend(&duo->paris);
    sim->machine->fail_op[0] = '\0';
    if (!sim->machine->running) {
        sim->machine->running = true;
        session_source_changed(duo->session);
    }
    session_retry(duo->session);
    sim_say(sim, "the faults end");
}

/* Invariant 10; invariant 3's part of it: who was promoted over finds out. */
static bool catch_up(struct sim *sim)
{
    uint64_t target = sim->told_durable + 2;

    for (int i = 0; i < CATCH_UP; i++) {
        struct session_status s = duo_status(&sim->duo);
        if (sim->promoted ? s.state == SESSION_FENCED : s.applied_point >= target)
            return true;
        if (sim->machine->running)
            fake_write_random(sim->machine, &sim->dice, 1);
        duo_turn(&sim->duo, SIM_TURN_MS);
        if (!sim_check(sim))
            return false;
    }
    struct session_status s = duo_status(&sim->duo);
    return sim_fail(sim, "invariant 10: at point %" PRIu64 " instead of %" PRIu64 ", %s: %s",
                    s.applied_point, target, session_state_name(s.state), s.error.text);
}

/* Nothing of the replica is damaged, and a power cut now takes nothing away. */
static bool check_end(struct sim *sim)
{
    struct err err = ERR_EMPTY;
    struct store *store;

    sim_lyon_ends(sim, true);
    if (!sim_check(sim))
        return false;
    struct site_fs *before = site_enter(&sim->duo.lyon);
    int rc = duo_store(&sim->duo, &store, &err);
    if (rc == 0)
        rc = store_dir_verify(store, NULL, &err);
    (void)site_enter(before);
    return rc == 0 || sim_fail(sim, "invariant 8: %s", err.text);
}

bool sim_finish(struct sim *sim)
{
    faults_end(sim);
    return catch_up(sim) && check_end(sim);
}

static void live(struct sim *sim, struct sim_counts *counts)
{
    struct err err = ERR_EMPTY;

    if (duo_open_session(&sim->duo, &err) < 0) {
        (void)sim_fail(sim, "%s", err.text);
        return;
    }
    for (int i = 0; i < STEPS; i++) {
        if (sim->machine->running)
            fake_write_random(sim->machine, &sim->dice, sim_dice(sim, 6));
        if (i > 3 || sim_dice(sim, 2))
            sim_trouble(sim, counts);
        if (!sim_step(sim))
            return;
    }
    (void)sim_finish(sim);
}

static void add_counts(struct sim *sim, struct sim_counts *counts)
{
    const struct duo *duo = &sim->duo;

    counts->events += sim->events;
    counts->points += sim->points.len;
    counts->cuts += sim->machine->cuts;
    counts->breaks += duo->breaks;
    counts->links += duo->links;
    counts->served += duo->served;
    counts->disk_errors += duo->lyon.failed + duo->paris.failed;
    counts->disk_full += duo->lyon.full + duo->paris.full;
}

static void tell(const struct sim *sim, struct str *ret_failure)
{
    uint64_t first = sim->events > SIM_LOG ? sim->events - SIM_LOG : 0;

    str_addf(ret_failure, "seed %" PRIu64 ": %s\n", sim->number, sim->failure);
    for (uint64_t i = first; i < sim->events; i++)
        str_addf(ret_failure, "  %s\n", sim->log[i % SIM_LOG]);
}

bool sim_play(const char *dir, uint64_t seed, const struct sim_bug *bug, struct sim_counts *counts,
              struct str *ret_failure)
{
    struct sim *sim = mem_new(struct sim);
    struct err err = ERR_EMPTY;

    sim->number = seed;
    sim->dice = seed * 2654435761U;
    sim->machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    fake_write_random(sim->machine, &sim->dice, 12);
    sim->machine->on_piece = write_during_scan;
    sim->machine->on_piece_ctx = &sim->dice;
    duo_init(&sim->duo, dir, sim->machine, seed);
    if (bug) {
        sim->duo.lyon.lie = bug->lyon_lie;
        sim->duo.paris.lie = bug->paris_lie;
        sim->duo.bug = bug->bug;
    }
    live(sim, counts);
    add_counts(sim, counts);
    bool fine = sim->failure[0] == '\0';
    if (!fine)
        tell(sim, ret_failure);
    duo_done(&sim->duo);
    fake_machine_free(sim->machine);
    sim_points_free(&sim->points);
    free(sim);
    if (fs_remove_tree(fs_real(), dir, &err) < 0)
        (void)fprintf(stderr, "%s\n", err.text);
    return fine;
}
