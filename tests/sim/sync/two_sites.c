// SPDX-License-Identifier: Apache-2.0
/* Two sites in one thread and in virtual time, a thousand times, each by its seed: a machine that
 * writes, its session, and its replica, with all that can happen to links, daemons, disks, power,
 * clocks and QEMU (support/sync/sim.h). MUSTER_SEED=N plays one of them, MUSTER_SEEDS=N so many. */
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/sync/sim.h"
#include "support/sync/sim_bugs.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SEEDS 1000

#ifndef __has_feature
#define __has_feature(x) 0
#endif
/* A sanitizer takes several times as long, and looks for other faults. */
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define USUAL_SEEDS (SEEDS / 10)
#else
#define USUAL_SEEDS SEEDS
#endif

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number = 0;

    return text && str_to_u64(text, &number) ? number : otherwise;
}

static bool play(const char *base, uint64_t seed, const struct sim_bug *bug,
                 struct sim_counts *counts, struct str *ret_failure)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/%" PRIu64, base, seed);

    return sim_play(dir, seed, bug, counts, ret_failure);
}

static void print_counts(const struct sim_counts *c, uint64_t seeds)
{
    (void)printf("%" PRIu64 " seeds: %" PRIu64 " events, %" PRIu64 " cuts of the source, %" PRIu64
                 " points seen, %" PRIu64 " links of which %" PRIu64 " broke, %" PRIu64
                 " requests served, %" PRIu64 " errors of disks, %" PRIu64 " of them full\n",
                 seeds, c->events, c->cuts, c->points, c->links, c->breaks, c->served,
                 c->disk_errors, c->disk_full);
    for (size_t i = 0; i < sim_event_count(); i++)
        (void)printf("  %6" PRIu64 "  %s\n", c->at[i], sim_event_name(i));
}

static void whatever_happens_between_two_sites_the_invariants_hold(void **state)
{
    uint64_t first = from_environment("MUSTER_SEED", 1);
    uint64_t count = getenv("MUSTER_SEED") ? 1 : from_environment("MUSTER_SEEDS", USUAL_SEEDS);
    CLEANUP(str_free) struct str failure = STR_EMPTY;
    struct sim_counts counts = {.at = mem_new_array(uint64_t, sim_event_count())};
    uint64_t failed = 0;

    for (uint64_t seed = first; seed < first + count; seed++)
        if (!play(*state, seed, NULL, &counts, &failure)) {
            (void)fprintf(stderr, "%s  again: MUSTER_SEED=%" PRIu64 "\n", str_text(&failure), seed);
            str_free(&failure);
            failed++;
        }
    print_counts(&counts, count);
    for (size_t i = 0; count >= SEEDS && i < sim_event_count(); i++)
        assert_true(counts.at[i] > 0);
    free(counts.at);
    assert_int_equal(failed, 0);
}

/* Each within the seeds that are usually played; most of them within a few. */
static void a_build_with_a_known_bug_is_caught_within_the_seeds(void **state)
{
    uint64_t count = from_environment("MUSTER_SEEDS", SEEDS);
    const char *only = getenv("MUSTER_BUG");

    for (size_t i = 0; i < sim_bug_count(); i++) {
        CLEANUP(str_free) struct str failure = STR_EMPTY;
        struct sim_counts counts = {.at = mem_new_array(uint64_t, sim_event_count())};
        uint64_t seed = from_environment("MUSTER_SEED", 1);
        if (only && !str_eq(only, sim_bugs[i].name)) {
            free(counts.at);
            continue;
        }
        while (seed < count && play(*state, seed, &sim_bugs[i], &counts, &failure))
            seed++;
        free(counts.at);
        if (failure.len == 0)
            fail_msg("\"%s\" was not caught within %" PRIu64 " seeds", sim_bugs[i].name, count);
        failure.ptr[strcspn(failure.ptr, "\n")] = '\0';
        (void)printf("  %-46s caught: %.160s\n", sim_bugs[i].name, str_text(&failure));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(whatever_happens_between_two_sites_the_invariants_hold),
        TMPDIR_TEST(a_build_with_a_known_bug_is_caught_within_the_seeds),
    };
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    log_set_level(getenv("MUSTER_SEED") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("two sites", tests, NULL, NULL);
}
