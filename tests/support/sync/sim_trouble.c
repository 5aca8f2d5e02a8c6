// SPDX-License-Identifier: Apache-2.0
/* All that can happen, one function each, in a table with how often. */
#include "support/sync/duo_wire.h"
#include "support/sync/sim_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#define HOUR_MS   INT64_C(3600000)
#define TOKEN     "failover"
#define DEATH_MAX 400u /* changes until a site dies */

/* --- Deaths ---------------------------------------------------------------------------------- */

static enum fs_loss any_loss(struct sim *sim)
{
    return (enum fs_loss)sim_dice(sim, 4);
}

void sim_lyon_ends(struct sim *sim, bool power)
{
    duo_drop_store(&sim->duo);
    site_mend(&sim->duo.lyon);
    enum fs_loss loss = any_loss(sim);
    site_restart(&sim->duo.lyon, power, loss, fake_random(&sim->dice));
    sim->look = true;
    sim_say(sim, "lyon %s (%d)", power ? "comes back after a power cut" : "was killed, starts",
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
            if (memcmp(disk->bytes + at, disk->cut + at, 512) != 0 && sim_dice(sim, 3) == 0)
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
        if (sim->machine->cuts > 0 && sim_dice(sim, 2))
            lose_guest_writes(sim);
    }
    sim->clock_lost |= sim->clock_back_ms > 0;
    if (duo_open_session(&sim->duo, &err) < 0)
        (void)sim_fail(sim, "invariant 10: paris cannot start: %s", err.text);
    sim_say(sim, "paris %s (%d)", power ? "comes back after a power cut" : "was killed, starts",
            power ? (int)loss : -1);
}

/* Whoever died in this step comes back. */
void sim_bury(struct sim *sim)
{
    if (sim->duo.lyon.dead)
        sim_lyon_ends(sim, sim_dice(sim, 2) == 0);
    if (sim->duo.paris.dead)
        paris_ends(sim, sim_dice(sim, 2) == 0);
}

/* --- Trouble --------------------------------------------------------------------------------- */

static void cut_requests(struct sim *sim)
{
    sim->duo.cut_up = 1 + sim_dice(sim, sim_dice(sim, 2) ? 4000 : 200000);
    sim->duo.break_now = true;
    sim_say(sim, "the link is cut after %" PRIu64 " bytes to lyon", sim->duo.cut_up);
}

static void cut_answers(struct sim *sim)
{
    sim->duo.cut_down = 1 + sim_dice(sim, 1500);
    sim->duo.break_now = true;
    sim_say(sim, "the link is cut after %" PRIu64 " bytes of answers", sim->duo.cut_down);
}

static void break_link(struct sim *sim)
{
    sim->duo.break_now = true;
    sim_say(sim, "the link breaks");
}

bool sim_step(struct sim *sim)
{
    sim_bury(sim); /* the oracle's look may have been the last straw */
    duo_turn(&sim->duo, SIM_TURN_MS);
    sim_bury(sim);
    if (duo_status(&sim->duo).state == SESSION_CRITICAL) {
        sim_say(sim, "a person says retry: %.100s", duo_status(&sim->duo).error.text);
        session_retry(sim->duo.session); /* a fault that was twice as bad */
    }
    return sim_check(sim);
}

static void flap(struct sim *sim)
{
    sim_say(sim, "the link flaps");
    for (unsigned i = 0; i < 6 && !sim->failure[0]; i++) {
        sim->duo.unreachable = i % 2;
        sim->duo.break_now = true;
        sim->duo.cut_up = 1 + sim_dice(sim, 3000);
        (void)sim_step(sim);
    }
    sim->duo.unreachable = false;
}

static void peer_gone(struct sim *sim)
{
    int64_t end = sim->duo.time.clock.now_ms(&sim->duo.time.clock) + HOUR_MS;

    sim_say(sim, "lyon is gone for an hour");
    sim->duo.unreachable = true;
    while (sim->duo.time.clock.now_ms(&sim->duo.time.clock) < end && sim_step(sim)) {
        fake_write_random(sim->machine, &sim->dice, 1);
        duo_pass(&sim->duo, 60000);
    }
    sim->duo.unreachable = false;
}

static void slow_link(struct sim *sim)
{
    sim->duo.latency_ms = sim_dice(sim, 3) ? (int64_t)sim_dice(sim, 400) : 0;
    sim_say(sim, "an answer takes %d ms", (int)sim->duo.latency_ms);
}

static void late(struct sim *sim)
{
    sim_say(sim, "%zu late requests, one is heard", sim->duo.late_count);
    duo_hear_late(&sim->duo);
}

static void lyon_killed(struct sim *sim)
{
    sim_lyon_ends(sim, false);
}

static void lyon_power(struct sim *sim)
{
    sim_lyon_ends(sim, true);
}

static void lyon_dies_soon(struct sim *sim)
{
    sim->duo.lyon.left = 1 + sim_dice(sim, DEATH_MAX);
    sim_say(sim, "lyon dies after %d changes", (int)sim->duo.lyon.left);
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
    sim->duo.paris.left = 1 + sim_dice(sim, DEATH_MAX / 4);
    sim_say(sim, "paris dies after %d changes", (int)sim->duo.paris.left);
}

static void fault(struct sim *sim, struct site_fs *site, enum site_op op, const char *where,
                  enum err_code code)
{
    bool lasts = code == ERR_SPACE;

    site->fault = (struct site_fault){
        .op = op,
        .where = where,
        .skip = sim_dice(sim, 12),
        .count = lasts ? UINT_MAX : 1 + sim_dice(sim, 2),
        .code = code,
    };
    static const char *const names[] = {"read error", "write error", "fsync error"};
    sim_say(sim, "%s: %s %s", site == &sim->duo.lyon ? "lyon" : "paris",
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
    sim_say(sim, "the disks are mended");
}

static void staging_full(struct sim *sim)
{
    fake_fail(sim->machine, "cut", 0, ERR_SPACE);
    sim_say(sim, "no room for staging at paris");
}

static void source_read_error(struct sim *sim)
{
    fake_fail(sim->machine, "read", (int)sim_dice(sim, 3), ERR_IO);
    sim_say(sim, "a block of the source cannot be read");
}

static void source_error(struct sim *sim)
{
    static const char *const ops[] = {"changes", "end", "track", "scan", "inspect", "pending"};
    static const enum err_code codes[] = {ERR_IO, ERR_NET, ERR_PROTOCOL, ERR_STATE};
    const char *op = ops[sim_dice(sim, ARRAY_LEN(ops))];

    fake_fail(sim->machine, op, (int)sim_dice(sim, 3), codes[sim_dice(sim, ARRAY_LEN(codes))]);
    sim_say(sim, "the source fails in %s", op);
}

static void qemu_restart(struct sim *sim)
{
    fake_restart(sim->machine);
    sim_say(sim, "QEMU is another one");
}

static void machine_off_on(struct sim *sim)
{
    fake_restart(sim->machine);
    sim->machine->running = !sim->machine->running;
    session_source_changed(sim->duo.session);
    sim_say(sim, "the machine is %s", sim->machine->running ? "on" : "off");
}

static void scan_in_disorder(struct sim *sim)
{
    sim->machine->unordered = !sim->machine->unordered;
    sim_say(sim, "scans come %s", sim->machine->unordered ? "in disorder" : "in order");
}

static void clock_jump(struct sim *sim, size_t site, int sign)
{
    int64_t by = sign * (HOUR_MS / 60 * (1 + (int64_t)sim_dice(sim, 720)));

    (void)atomic_fetch_add(&sim->duo.clock[site].wall, by);
    if (site == 0) /* how far it is behind the furthest it ever was */
        sim->clock_back_ms = sim->clock_back_ms - by > 0 ? sim->clock_back_ms - by : 0;
    sim_say(sim, "the clock of %s jumps by %" PRId64 " ms", site ? "lyon" : "paris", by);
}

static void clock_forward(struct sim *sim)
{
    clock_jump(sim, sim_dice(sim, 2), 1);
}

static void clock_back(struct sim *sim)
{
    clock_jump(sim, sim_dice(sim, 2), -1);
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
    sim_say(sim, "lyon is promoted at point %" PRIu64, point);
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

void sim_trouble(struct sim *sim, struct sim_counts *counts)
{
    unsigned total = 0;

    for (size_t i = 0; i < ARRAY_LEN(events); i++)
        total += events[i].weight;
    unsigned roll = sim_dice(sim, total);
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        if (roll < events[i].weight) {
            counts->at[i]++;
            events[i].run(sim);
            return;
        }
        roll -= events[i].weight;
    }
}
