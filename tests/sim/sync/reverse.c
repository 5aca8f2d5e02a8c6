// SPDX-License-Identifier: Apache-2.0
/* The first point on the way back, broken off at hundreds of places: the link in the middle of a
 * segment, our daemon, the replica's daemon and its disk. It goes on where it was: no more than a
 * tenth above what differs is ever sent, the replica equals the cut, and what it held before is
 * kept. MUSTER_SEED runs one of them, MUSTER_SEEDS says how many (300). */
#include "support/sync/reverse.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MIB      (1024u * 1024u)
#define SEEDS    300
#define CATCH_UP 60

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define DEFAULT_SEEDS 40
#else
#define DEFAULT_SEEDS SEEDS
#endif

static const uint64_t sizes[REVERSE_DISKS] = {4 * MIB, 3 * MIB + 512};

static void check_branch(struct reverse *r)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/replica", r->bed.dir);

    for (size_t i = 0; i < REVERSE_DISKS; i++) {
        CLEANUP(view_closep) struct view *view = NULL;
        uint64_t size = r->machine->disks[i].size;
        CLEANUP(mem_freep) uint8_t *have = mem_alloc(size, 1);
        EXPECT_OK(view_open(dir, r->machine->disks[i].name, 2, &r->bed.config.group_key, NULL,
                            &view, &err));
        EXPECT_OK(view_read(view, 0, have, size, &err));
        assert_memory_equal(have, r->head[i], size);
    }
}

static void kill_and_restart(struct reverse *r)
{
    bed_drop_session(&r->bed);
    bed_open_session(&r->bed);
}

/* Breaks it off somewhere, by the seed; `total` is about what is sent if nothing breaks. */
static const char *breaking(struct reverse *r, unsigned seed, uint64_t total)
{
    static const char *const calls[] = {"fs.pwrite", "fs.sync", "fs.rename", "fs.pread"};
    uint64_t at = 1 + total * (seed * 37 % SEEDS) / SEEDS; /* spread, however few are run */

    switch (seed % 4) {
    case 0: r->bed.cut_next = at; return "link cut";
    case 1:
        r->bed.cut_next = at;
        bed_turn(&r->bed);
        bed_turn(&r->bed);
        kill_and_restart(r);
        return "link cut, then killed";
    case 2:
        fault_arm(calls[seed / 4 % ARRAY_LEN(calls)], (int)(seed / 16 * 3),
                  seed % 8 == 2 ? EIO : ENOSPC);
        bed_turn(&r->bed);
        bed_turn(&r->bed);
        fault_clear();
        return "disk fault";
    default:
        r->bed.cut_next = at;
        bed_turn(&r->bed);
        bed_restart_replica(&r->bed);
        bed_turn(&r->bed);
        kill_and_restart(r);
        return "link cut, both restarted";
    }
}

static double run_seed(const char *base, unsigned seed)
{
    struct reverse r;
    CLEANUP(mem_freep) char *dir = mem_printf("%s/%u", base, seed);

    reverse_begin(&r, dir, sizes);
    reverse_write(&r, 100, 1);
    reverse_write(&r, 10, 50);
    reverse_start_machine(&r);
    reverse_write(&r, 100, 1);
    reverse_write(&r, 6, 60);
    reverse_follow(&r);
    const char *what = breaking(&r, seed, 3 * MIB);
    for (int i = 0; bed_status(&r.bed).applied_point < REVERSE_TIP + 1; i++) {
        if (i == CATCH_UP)
            fail_msg("seed %u (%s): %s", seed, what, bed_status(&r.bed).error.text);
        if (bed_status(&r.bed).state == SESSION_CRITICAL)
            session_retry(r.bed.session);
        bed_turn(&r.bed);
    }
    assert_true(bed_replica_equals_cut(&r.bed));
    check_branch(&r);
    double ratio = (double)atomic_load(&r.bed.sent) / (double)reverse_difference(&r);
    if (ratio >= 1.1)
        fail_msg("seed %u (%s): %llu bytes sent, %llu differ", seed, what,
                 (unsigned long long)atomic_load(&r.bed.sent),
                 (unsigned long long)reverse_difference(&r));
    reverse_done(&r);
    EXPECT_OK(fs_remove_tree(fs_real(), dir, &err));
    return ratio;
}

static void a_way_back_broken_off_anywhere_goes_on_where_it_was(void **state)
{
    const char *seed = getenv("MUSTER_SEED");
    const char *seeds = getenv("MUSTER_SEEDS");
    unsigned count = seeds ? (unsigned)strtoul(seeds, NULL, 10) : DEFAULT_SEEDS;
    double worst = 0;
    double sum = 0;

    if (seed) {
        print_message("ratio %.3f\n", run_seed(*state, (unsigned)strtoul(seed, NULL, 10)));
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        double ratio = run_seed(*state, i);
        sum += ratio;
        worst = ratio > worst ? ratio : worst;
    }
    print_message("%u times: %.3f of what differs was sent, %.3f at worst\n", count, sum / count,
                  worst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_way_back_broken_off_anywhere_goes_on_where_it_was),
    };
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("reverse", tests, NULL, NULL);
}
