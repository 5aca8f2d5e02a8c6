// SPDX-License-Identifier: Apache-2.0
/* One group under random trouble, by seed: the guest writes, links break anywhere, the replica's
 * daemon and ours restart, QEMU restarts, the machine goes off and on, calls of the source fail.
 * After every turn: no point we were told of is gone, the replica's newest applied point is the
 * cut it was made from, the RPO shown is not better than the true one. When the faults end, it
 * catches up. */
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sync/bed.h"
#include "support/tmpdir.h"

#include <stdlib.h>

#define KIB      1024u
#define STEPS    60
#define SEEDS    25
#define CATCH_UP 80

static const uint64_t sizes[] = {640 * KIB, 256 * KIB + 512};

struct sim {
    struct fake_machine *machine;
    struct bed bed;
    uint64_t seed;
    uint64_t told; /* newest durable point we were told of */
};

static unsigned dice(struct sim *sim, unsigned sides)
{
    return (unsigned)(fake_random(&sim->seed) % sides);
}

static void write_during_scan(struct fake_machine *machine, void *ctx)
{
    if (machine->running)
        fake_write_random(machine, ctx, 1);
}

static void trouble(struct sim *sim)
{
    static const char *const ops[] = {"cut", "changes", "read", "end", "track", "scan", "inspect"};
    static const enum err_code codes[] = {ERR_IO, ERR_SPACE, ERR_NET, ERR_PROTOCOL, ERR_STATE};

    switch (dice(sim, 12)) {
    case 0:
    case 1:
    case 2:
        sim->bed.cut_next = 1 + dice(sim, 200000);
        sim->bed.break_link = true;
        break;
    case 3: sim->bed.break_link = true; break;
    case 4: bed_restart_replica(&sim->bed); break;
    case 5:
        bed_drop_session(&sim->bed);
        bed_open_session(&sim->bed);
        break;
    case 6: fake_restart(sim->machine); break;
    case 7:
        fake_restart(sim->machine);
        sim->machine->running = !sim->machine->running;
        break;
    case 8: sim->machine->unordered = !sim->machine->unordered; break;
    case 9:
    case 10:
        fake_fail(sim->machine, ops[dice(sim, ARRAY_LEN(ops))], (int)dice(sim, 3),
                  codes[dice(sim, ARRAY_LEN(codes))]);
        break;
    default: break;
    }
}

/* Our fake's cut times count the cuts; a replica that is at the latest one must equal it. */
static void check(struct sim *sim)
{
    struct session_status s = bed_status(&sim->bed);
    struct store_info info;

    EXPECT_OK(bed_store(&sim->bed)->ops->info(sim->bed.store, &info, &err));
    bed_store_put(&sim->bed);
    assert_true(s.durable_point >= sim->told);
    sim->told = s.durable_point;
    assert_true(info.durable_point >= s.durable_point);
    assert_true(info.applied_point >= s.applied_point);
    assert_true(s.durable_cut_ms <= 1000000 + (int64_t)sim->machine->cuts);
    if (s.applied_point > 0 && s.applied_point == info.applied_point
        && s.applied_cut_ms == 1000000 + (int64_t)sim->machine->cuts)
        assert_true(bed_replica_equals_cut(&sim->bed));
}

static void run_seed(const char *base, unsigned seed)
{
    struct sim sim = {.seed = seed};
    CLEANUP(mem_freep) char *dir = mem_printf("%s/%u", base, seed);

    sim.machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    fake_write_random(sim.machine, &sim.seed, 30);
    sim.machine->on_piece = write_during_scan;
    sim.machine->on_piece_ctx = &sim.seed;
    bed_init(&sim.bed, dir, sim.machine);
    bed_open_session(&sim.bed);
    for (int i = 0; i < STEPS; i++) {
        if (sim.machine->running)
            fake_write_random(sim.machine, &sim.seed, dice(&sim, 12));
        if (dice(&sim, 3) == 0)
            trouble(&sim);
        if (bed_status(&sim.bed).state == SESSION_CRITICAL)
            session_retry(sim.bed.session); /* a fault of the source that was twice as bad */
        bed_turn(&sim.bed);
        check(&sim);
    }

    sim.machine->fail_op[0] = '\0';
    sim.machine->running = true;
    session_retry(sim.bed.session);
    uint64_t target = sim.told + 2;
    for (int i = 0; bed_status(&sim.bed).applied_point < target; i++) {
        if (i == CATCH_UP)
            fail_msg("seed %u: %s", seed, bed_status(&sim.bed).error.text);
        bed_turn(&sim.bed);
        check(&sim);
    }
    assert_true(bed_replica_equals_cut(&sim.bed));
    bed_done(&sim.bed);
    fake_machine_free(sim.machine);
    EXPECT_OK(fs_remove_tree(fs_real(), dir, &err));
}

static void whatever_breaks_the_replica_is_a_point_of_the_source(void **state)
{
    const char *seed = getenv("MUSTER_SEED");
    const char *seeds = getenv("MUSTER_SEEDS");
    unsigned count = seeds ? (unsigned)strtoul(seeds, NULL, 10) : SEEDS;

    if (seed) {
        run_seed(*state, (unsigned)strtoul(seed, NULL, 10));
        return;
    }
    for (unsigned i = 1; i <= count; i++) {
        print_message("seed %u\n", i);
        run_seed(*state, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(whatever_breaks_the_replica_is_a_point_of_the_source),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
