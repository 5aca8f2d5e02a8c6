// SPDX-License-Identifier: Apache-2.0
#include "sync/scheduler.h"

#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sync/bed.h"
#include "support/tmpdir.h"

#include <stdatomic.h>

#define KIB  1024u
#define BEDS 2

struct order {
    _Atomic unsigned switches; /* from one machine's scan to the other's */
    _Atomic(struct fake_machine *) last;
};

struct fixture {
    struct fake_machine *machines[BEDS];
    struct bed beds[BEDS];
    struct order order;
    struct scheduler *scheduler;
};

static void note_order(struct fake_machine *machine, void *ctx)
{
    struct order *order = ctx;

    if (atomic_exchange(&order->last, machine) != machine)
        atomic_fetch_add(&order->switches, 1);
}

static void begin(struct fixture *f, const char *dir)
{
    static const uint64_t sizes[] = {512 * KIB, 512 * KIB, 512 * KIB, 512 * KIB};

    memset(f, 0, sizeof(*f));
    for (size_t i = 0; i < BEDS; i++) {
        CLEANUP(mem_freep) char *sub = mem_printf("%s/%zu", dir, i);
        uint64_t seed = i + 1;
        f->machines[i] = fake_machine_new(sizes, ARRAY_LEN(sizes));
        fake_write_random(f->machines[i], &seed, 40);
        f->machines[i]->on_piece = note_order;
        f->machines[i]->on_piece_ctx = &f->order;
        bed_init(&f->beds[i], sub, f->machines[i]);
        bed_open_session(&f->beds[i]);
    }
}

static void fixture_done(struct fixture *f)
{
    scheduler_free(f->scheduler);
    for (size_t i = 0; i < BEDS; i++) {
        bed_done(&f->beds[i]);
        fake_machine_free(f->machines[i]);
    }
}

/* Until the group has that point; a session works in threads of its own now. */
static void wait_for(struct bed *bed, uint64_t point)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock_real(), NULL, 60000);

    while (bed_status(bed).applied_point < point)
        EXPECT_OK(cancel_sleep(limit, 1, &err));
}

static void two_sessions_share_one_thread_by_turns(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    f.scheduler = scheduler_new(&f.beds[0].clock.clock, 1);
    scheduler_add(f.scheduler, f.beds[0].session);
    scheduler_add(f.scheduler, f.beds[1].session);
    wait_for(&f.beds[0], 1);
    wait_for(&f.beds[1], 1);
    /* Four disks each, a turn per disk; the two may begin one turn apart. */
    assert_true(atomic_load(&f.order.switches) >= 6);
}

static void the_clock_makes_a_session_due(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    f.scheduler = scheduler_new(&f.beds[0].clock.clock, 2);
    scheduler_add(f.scheduler, f.beds[0].session);
    wait_for(&f.beds[0], 1);
    clock_fake_advance(&f.beds[0].clock, BED_INTERVAL_MS);
    wait_for(&f.beds[0], 2);
}

static void a_kick_looks_at_a_session_that_waits_for_nothing(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    begin(&f, *state);
    session_pause(f.beds[0].session, true);
    f.scheduler = scheduler_new(&f.beds[0].clock.clock, 1);
    scheduler_add(f.scheduler, f.beds[0].session);
    scheduler_add(f.scheduler, f.beds[1].session);
    wait_for(&f.beds[1], 1);
    assert_int_equal(bed_status(&f.beds[0]).state, SESSION_PAUSED);
    session_pause(f.beds[0].session, false);
    scheduler_kick(f.scheduler, f.beds[0].session);
    wait_for(&f.beds[0], 1);
}

static _Atomic bool is_waiting;

static int wait_for_ever(void *ctx, struct link **ret_link, struct cancel *cancel,
                         struct err *err_out)
{
    (void)ctx;
    (void)ret_link;
    atomic_store(&is_waiting, true);
    return cancel_poll(cancel, -1, 0, err_out);
}

static void removing_a_session_ends_its_turn_and_waits_for_it(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock_real(), NULL, 60000);

    begin(&f, *state);
    bed_drop_session(&f.beds[0]);
    f.beds[0].config.open_link = wait_for_ever;
    bed_open_session(&f.beds[0]);
    f.scheduler = scheduler_new(&f.beds[0].clock.clock, 1);
    atomic_store(&is_waiting, false);
    scheduler_add(f.scheduler, f.beds[0].session);
    while (!atomic_load(&is_waiting))
        EXPECT_OK(cancel_sleep(limit, 1, &err));
    scheduler_remove(f.scheduler, f.beds[0].session);
    assert_int_equal(bed_status(&f.beds[0]).error.code, ERR_NONE);
    bed_drop_session(&f.beds[0]); /* nobody is in it any more */
    scheduler_add(f.scheduler, f.beds[1].session);
    wait_for(&f.beds[1], 1);
}

static void a_sync_now_waits_for_the_turn_under_way(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    uint64_t point = 0;

    begin(&f, *state);
    f.scheduler = scheduler_new(&f.beds[0].clock.clock, 2);
    scheduler_add(f.scheduler, f.beds[0].session);
    wait_for(&f.beds[0], 1);
    for (uint64_t i = 2; i < 8; i++) {
        clock_fake_advance(&f.beds[0].clock, BED_INTERVAL_MS);
        EXPECT_OK(session_sync_now(f.beds[0].session, false, &point, NULL, &err));
        assert_true(point >= i);
    }
    scheduler_remove(f.scheduler, f.beds[0].session);
    assert_true(bed_replica_equals_cut(&f.beds[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(two_sessions_share_one_thread_by_turns),
        TMPDIR_TEST(the_clock_makes_a_session_due),
        TMPDIR_TEST(a_kick_looks_at_a_session_that_waits_for_nothing),
        TMPDIR_TEST(removing_a_session_ends_its_turn_and_waits_for_it),
        TMPDIR_TEST(a_sync_now_waits_for_the_turn_under_way),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
