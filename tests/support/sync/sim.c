// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "support/sync/duo_wire.h"
#include "support/sync/sim_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define KIB       1024u
#define STEPS     20
#define CATCH_UP  60
#define HOUR_MS   INT64_C(3600000)
#define TURN_MS   600000 /* time passes at most so far in a step */
#define TOKEN     "failover"
#define DEATH_MAX 400u /* changes until a site dies */

static const uint64_t sizes[] = {192 * KIB, 64 * KIB + 512};

static unsigned dice(struct sim *sim, unsigned sides)
{
    return (unsigned)(fake_random(&sim->dice) % sides);
}

static void say(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void say(struct sim *sim, const char *fmt, ...)
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

/* --- Deaths ---------------------------------------------------------------------------------- */

static enum fs_loss any_loss(struct sim *sim)
{
    return (enum fs_loss)dice(sim, 4);
}

static void lyon_ends(struct sim *sim, bool power)
{
    duo_drop_store(&sim->duo);
    site_mend(&sim->duo.lyon);
    enum fs_loss loss = any_loss(sim);
    site_restart(&sim->duo.lyon, power, loss, fake_random(&sim->dice));
    sim->look = true;
    say(sim, "lyon %s (%d)", power ? "comes back after a power cut" : "was killed, starts",
        power ? (int)loss : -1);
}

/* What the guest wrote last may not have reached its disk. */
static void lose_guest_writes(struct sim *sim)
{
    const struct duo_image *last = &sim->duo.images.at[sim->duo.images.len - 1];
    bool same = true;

    for (size_t i = 0; i < sim->machine->disk_count; i++) {
        struct fake_disk *disk = &sim->machine->disks[i];
        for (uint64_t at = 0; at < disk->size; at += 512)
            if (memcmp(disk->bytes + at, disk->cut + at, 512) != 0 && dice(sim, 3) == 0)
                memcpy(disk->bytes + at, disk->cut + at, 512);
        same = same && memcmp(disk->bytes, last->bytes[i], disk->size) == 0;
    }
    sim->machine->touched++;
    if (same)
        sim->machine->touched = last->touched;
}

static void paris_ends(struct sim *sim, bool power)
{
    struct err err = ERR_EMPTY;

    duo_drop_session(&sim->duo);
    duo_wire_break(&sim->duo);
    site_mend(&sim->duo.paris);
    enum fs_loss loss = any_loss(sim);
    site_restart(&sim->duo.paris, power, loss, fake_random(&sim->dice));
    if (power) { /* QEMU was there, too */
        fake_restart(sim->machine);
        if (sim->machine->cuts > 0 && dice(sim, 2))
            lose_guest_writes(sim);
    }
    sim->clock_lost |= sim->clock_back_ms > 0;
    if (duo_open_session(&sim->duo, &err) < 0)
        (void)sim_fail(sim, "invariant 10: paris cannot start: %s", err.text);
    say(sim, "paris %s (%d)", power ? "comes back after a power cut" : "was killed, starts",
        power ? (int)loss : -1);
}

/* Whoever died in this step comes back. */
static void bury(struct sim *sim)
{
    if (sim->duo.lyon.dead)
        lyon_ends(sim, dice(sim, 2) == 0);
    if (sim->duo.paris.dead)
        paris_ends(sim, dice(sim, 2) == 0);
}

/* --- Trouble --------------------------------------------------------------------------------- */

static void cut_requests(struct sim *sim)
{
    sim->duo.cut_up = 1 + dice(sim, dice(sim, 2) ? 4000 : 200000);
    sim->duo.break_now = true;
    say(sim, "the link is cut after %" PRIu64 " bytes to lyon", sim->duo.cut_up);
}

static void cut_answers(struct sim *sim)
{
    sim->duo.cut_down = 1 + dice(sim, 1500);
    sim->duo.break_now = true;
    say(sim, "the link is cut after %" PRIu64 " bytes of answers", sim->duo.cut_down);
}

static void break_link(struct sim *sim)
{
    sim->duo.break_now = true;
    say(sim, "the link breaks");
}

static bool step(struct sim *sim)
{
    duo_turn(&sim->duo, TURN_MS);
    bury(sim);
    if (duo_status(&sim->duo).state == SESSION_CRITICAL) {
        say(sim, "a person says retry: %.100s", duo_status(&sim->duo).error.text);
        session_retry(sim->duo.session); /* a fault that was twice as bad */
    }
    return sim_check(sim);
}

static void flap(struct sim *sim)
{
    say(sim, "the link flaps");
    for (unsigned i = 0; i < 6 && !sim->failure[0]; i++) {
        sim->duo.unreachable = i % 2;
        sim->duo.break_now = true;
        sim->duo.cut_up = 1 + dice(sim, 3000);
        (void)step(sim);
    }
    sim->duo.unreachable = false;
}

static void peer_gone(struct sim *sim)
{
    int64_t end = sim->duo.time.clock.now_ms(&sim->duo.time.clock) + HOUR_MS;

    say(sim, "lyon is gone for an hour");
    sim->duo.unreachable = true;
    while (sim->duo.time.clock.now_ms(&sim->duo.time.clock) < end && step(sim)) {
        fake_write_random(sim->machine, &sim->dice, 1);
        duo_pass(&sim->duo, 60000);
    }
    sim->duo.unreachable = false;
}

static void slow_link(struct sim *sim)
{
    sim->duo.latency_ms = dice(sim, 3) ? (int64_t)dice(sim, 400) : 0;
    say(sim, "an answer takes %d ms", (int)sim->duo.latency_ms);
}

static void late(struct sim *sim)
{
    say(sim, "%zu late requests, one is heard", sim->duo.late_count);
    duo_hear_late(&sim->duo);
}

static void lyon_killed(struct sim *sim)
{
    lyon_ends(sim, false);
}

static void lyon_power(struct sim *sim)
{
    lyon_ends(sim, true);
}

static void lyon_dies_soon(struct sim *sim)
{
    sim->duo.lyon.left = 1 + dice(sim, DEATH_MAX);
    say(sim, "lyon dies after %d changes", (int)sim->duo.lyon.left);
}

static void paris_killed(struct sim *sim)
{
    paris_ends(sim, false);
}

static void paris_power(struct sim *sim)
{
    paris_ends(sim, true);
}

static void paris_dies_soon(struct sim *sim)
{
    sim->duo.paris.left = 1 + dice(sim, DEATH_MAX / 4);
    say(sim, "paris dies after %d changes", (int)sim->duo.paris.left);
}

static void fault(struct sim *sim, struct site_fs *site, enum site_op op, const char *where,
                  enum err_code code)
{
    bool lasts = code == ERR_SPACE;

    site->fault = (struct site_fault){
        .op = op,
        .where = where,
        .skip = dice(sim, 12),
        .count = lasts ? UINT_MAX : 1 + dice(sim, 2),
        .code = code,
    };
    static const char *const names[] = {"read error", "write error", "fsync error"};
    say(sim, "%s: %s %s", site == &sim->duo.lyon ? "lyon" : "paris",
        code == ERR_SPACE ? "disk full" : names[op], where);
}

static void lyon_full_segments(struct sim *sim)
{
    fault(sim, &sim->duo.lyon, SITE_WRITE, "/segments/", ERR_SPACE);
}

static void lyon_full_undo(struct sim *sim)
{
    fault(sim, &sim->duo.lyon, SITE_WRITE, "/undo/", ERR_SPACE);
}

static void lyon_full_head(struct sim *sim)
{
    fault(sim, &sim->duo.lyon, SITE_WRITE, "/head.raw", ERR_SPACE);
}

static void lyon_read_error(struct sim *sim)
{
    fault(sim, &sim->duo.lyon, SITE_READ, "", ERR_IO);
}

static void lyon_write_error(struct sim *sim)
{
    fault(sim, &sim->duo.lyon, SITE_WRITE, "", ERR_IO);
}

static void lyon_sync_error(struct sim *sim)
{
    fault(sim, &sim->duo.lyon, SITE_SYNC, "", ERR_IO);
}

static void paris_full(struct sim *sim)
{
    fault(sim, &sim->duo.paris, SITE_WRITE, "", ERR_SPACE);
}

static void paris_write_error(struct sim *sim)
{
    fault(sim, &sim->duo.paris, SITE_WRITE, "", ERR_IO);
}

static void paris_sync_error(struct sim *sim)
{
    fault(sim, &sim->duo.paris, SITE_SYNC, "", ERR_IO);
}

static void mend(struct sim *sim)
{
    site_mend(&sim->duo.paris);
    site_mend(&sim->duo.lyon);
    say(sim, "the disks are mended");
}

static void staging_full(struct sim *sim)
{
    fake_fail(sim->machine, "cut", 0, ERR_SPACE);
    say(sim, "no room for staging at paris");
}

static void source_read_error(struct sim *sim)
{
    fake_fail(sim->machine, "read", (int)dice(sim, 3), ERR_IO);
    say(sim, "a block of the source cannot be read");
}

static void source_error(struct sim *sim)
{
    static const char *const ops[] = {"changes", "end", "track", "scan", "inspect", "pending"};
    static const enum err_code codes[] = {ERR_IO, ERR_NET, ERR_PROTOCOL, ERR_STATE};
    const char *op = ops[dice(sim, ARRAY_LEN(ops))];

    fake_fail(sim->machine, op, (int)dice(sim, 3), codes[dice(sim, ARRAY_LEN(codes))]);
    say(sim, "the source fails in %s", op);
}

static void qemu_restart(struct sim *sim)
{
    fake_restart(sim->machine);
    say(sim, "QEMU is another one");
}

static void machine_off_on(struct sim *sim)
{
    fake_restart(sim->machine);
    sim->machine->running = !sim->machine->running;
    session_source_changed(sim->duo.session);
    say(sim, "the machine is %s", sim->machine->running ? "on" : "off");
}

static void scan_in_disorder(struct sim *sim)
{
    sim->machine->unordered = !sim->machine->unordered;
    say(sim, "scans come %s", sim->machine->unordered ? "in disorder" : "in order");
}

static void clock_jump(struct sim *sim, size_t site, int sign)
{
    int64_t by = sign * (HOUR_MS / 60 * (1 + (int64_t)dice(sim, 720)));

    (void)atomic_fetch_add(&sim->duo.clock[site].wall, by);
    if (site == 0) /* how far it is behind the furthest it ever was */
        sim->clock_back_ms = sim->clock_back_ms - by > 0 ? sim->clock_back_ms - by : 0;
    say(sim, "the clock of %s jumps by %" PRId64 " ms", site ? "lyon" : "paris", by);
}

static void clock_forward(struct sim *sim)
{
    clock_jump(sim, dice(sim, 2), 1);
}

static void clock_back(struct sim *sim)
{
    clock_jump(sim, dice(sim, 2), -1);
}

/* Somebody at lyon takes the group over: from here on paris may write no more. */
static void promote(struct sim *sim)
{
    struct store *store;
    struct store_info info;
    struct err err = ERR_EMPTY;
    uint64_t generation;
    uint64_t point;

    if (sim->promoted || sim->told_applied == 0 || sim->duo.lyon.left != UINT64_MAX)
        return;
    site_mend(&sim->duo.lyon);
    struct site_fs *before = site_enter(&sim->duo.lyon);
    int rc = duo_store(&sim->duo, &store, &err);
    if (rc == 0)
        rc = store->ops->promote(store, 1, 0, TOKEN, "lyon", sim->duo.config.sign_key,
                                 sim->duo.clock[1].clock.wall_ms(&sim->duo.clock[1].clock),
                                 &generation, &point, &err);
    if (rc == 0)
        rc = store->ops->info(store, &info, &err);
    (void)site_enter(before);
    if (rc < 0) {
        (void)sim_fail(sim, "lyon cannot be promoted: %s", err.text);
        return;
    }
    sim->promoted = info.durable_point;
    sim->look = true;
    say(sim, "lyon is promoted at point %" PRIu64, point);
}

static const struct event {
    const char *name;
    unsigned weight;
    void (*run)(struct sim *sim);
} events[] = {
    {"link cut within requests", 6, cut_requests},
    {"link cut within answers", 6, cut_answers},
    {"link broken", 3, break_link},
    {"link flapping", 1, flap},
    {"peer gone for an hour", 1, peer_gone},
    {"latency", 2, slow_link},
    {"late request heard (duplicate)", 4, late},
    {"replica's daemon killed", 2, lyon_killed},
    {"replica's power cut", 4, lyon_power},
    {"replica's death at a change", 6, lyon_dies_soon},
    {"source's daemon killed", 2, paris_killed},
    {"source's power cut", 2, paris_power},
    {"source's death at a change", 4, paris_dies_soon},
    {"replica's disk full in segments", 1, lyon_full_segments},
    {"replica's disk full in undo", 1, lyon_full_undo},
    {"replica's disk full in head", 1, lyon_full_head},
    {"replica: read error", 1, lyon_read_error},
    {"replica: write error", 2, lyon_write_error},
    {"replica: fsync error", 2, lyon_sync_error},
    {"source's disk full", 1, paris_full},
    {"source: write error", 1, paris_write_error},
    {"source: fsync error", 1, paris_sync_error},
    {"disks mended", 3, mend},
    {"no room for staging", 2, staging_full},
    {"read error of the source's disk", 2, source_read_error},
    {"other error of the source", 2, source_error},
    {"QEMU restarted", 2, qemu_restart},
    {"machine off or on", 1, machine_off_on},
    {"order of scans", 1, scan_in_disorder},
    {"clock jumps forward", 1, clock_forward},
    {"clock jumps back", 1, clock_back},
    {"promotion of the replica", 1, promote},
};

size_t sim_event_count(void)
{
    return ARRAY_LEN(events);
}

const char *sim_event_name(size_t kind)
{
    return events[kind].name;
}

static void trouble(struct sim *sim, struct sim_counts *counts)
{
    unsigned total = 0;

    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        total += events[i].weight;
    unsigned roll = dice(sim, total);
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        if (roll < events[i].weight) {
            counts->at[i]++;
            events[i].run(sim);
            return;
        }
        roll -= events[i].weight;
    }
}

/* --- A seed ---------------------------------------------------------------------------------- */

static void write_during_scan(struct fake_machine *machine, void *ctx)
{
    if (machine->running)
        fake_write_random(machine, ctx, 1);
}

static void faults_end(struct sim *sim)
{
    struct duo *duo = &sim->duo;

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
    say(sim, "the faults end");
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
        duo_turn(&sim->duo, TURN_MS);
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

    lyon_ends(sim, true);
    if (!sim_check(sim))
        return false;
    struct site_fs *before = site_enter(&sim->duo.lyon);
    int rc = duo_store(&sim->duo, &store, &err);
    if (rc == 0)
        rc = store_dir_verify(store, NULL, &err);
    (void)site_enter(before);
    return rc == 0 || sim_fail(sim, "invariant 8: %s", err.text);
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
            fake_write_random(sim->machine, &sim->dice, dice(sim, 6));
        if (i > 3 || dice(sim, 2))
            trouble(sim, counts);
        if (!step(sim))
            return;
    }
    faults_end(sim);
    if (catch_up(sim))
        (void)check_end(sim);
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
