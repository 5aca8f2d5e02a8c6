// SPDX-License-Identifier: Apache-2.0
#include "sync/adaptive.h"

#include "base/mem.h"
#include "support/expect.h"

#define PIECE (UINT64_C(1) << 20)

/* What each kind makes of the data, and a link of so many bytes per millisecond. */
struct world {
    double link;
    double rate[ADAPTIVE_COUNT];
    double ratio[ADAPTIVE_COUNT];
};

static const struct world text = {.rate = {5e6, 6e5, 4e5, 1.5e5}, .ratio = {1, 1.8, 2.6, 2.9}};
static const struct world noise = {.rate = {5e6, 2e6, 1.2e6, 6e5}, .ratio = {1, 1, 1, 1}};

/* `ret`: how often it changed its mind. */
static unsigned run(struct adaptive *a, const struct world *w, unsigned pieces)
{
    unsigned changes = 0;

    for (unsigned i = 0; i < pieces; i++) {
        enum adaptive_kind kind = adaptive_next(a);
        uint64_t out = (uint64_t)((double)PIECE / w->ratio[kind]);
        adaptive_packed(a, kind, PIECE, out, (double)PIECE / w->rate[kind]);
        adaptive_sent(a, out, (double)out / w->link);
        changes += adaptive_decide(a);
    }
    return changes;
}

static enum adaptive_kind settled(const struct world *data, double link, enum compression begin)
{
    struct world w = *data;
    struct adaptive a;

    w.link = link;
    adaptive_init(&a, begin);
    (void)run(&a, &w, 600);
    return a.now;
}

static void a_slow_link_is_worth_the_most_work(void **state)
{
    (void)state;
    assert_int_equal(settled(&text, 1e4, COMPRESSION_LZ4), ADAPTIVE_ZSTD);
    struct world much = text;
    much.ratio[ADAPTIVE_ZSTD_MORE] = 3.5;
    assert_int_equal(settled(&much, 1e4, COMPRESSION_LZ4), ADAPTIVE_ZSTD_MORE);
}

static void a_fast_link_gets_what_is_packed_fast_or_not_at_all(void **state)
{
    (void)state;
    assert_int_equal(settled(&text, 2e5, COMPRESSION_ZSTD), ADAPTIVE_LZ4);
    assert_int_equal(settled(&text, 2e6, COMPRESSION_ZSTD), ADAPTIVE_NONE);
}

static void what_does_not_pack_is_not_packed(void **state)
{
    (void)state;
    assert_int_equal(settled(&noise, 1e3, COMPRESSION_ZSTD), ADAPTIVE_NONE);
    assert_int_equal(settled(&noise, 1e6, COMPRESSION_ZSTD), ADAPTIVE_NONE);
}

static void it_settles_and_follows_the_link(void **state)
{
    struct world w = text;
    struct adaptive a;

    (void)state;
    adaptive_init(&a, COMPRESSION_ZSTD);
    w.link = 2e6;
    assert_true(run(&a, &w, 600) <= 2);
    assert_int_equal(a.now, ADAPTIVE_NONE);
    assert_int_equal(run(&a, &w, 600), 0);
    w.link = 2e4;
    assert_in_range(run(&a, &w, 2000), 1, 3);
    assert_int_equal(a.now, ADAPTIVE_ZSTD);
    assert_int_equal(run(&a, &w, 600), 0);
}

static void noise_in_the_measurements_changes_nothing(void **state)
{
    struct world w = text;
    struct adaptive a;
    unsigned changes = 0;

    (void)state;
    adaptive_init(&a, COMPRESSION_ZSTD);
    w.link = 1e5;
    (void)run(&a, &w, 600);
    for (int i = 0; i < 200; i++) {
        w.link = i % 2 ? 0.94e5 : 1.06e5;
        changes += run(&a, &w, 8);
    }
    assert_int_equal(changes, 0);
}

static void others_are_tried_seldom(void **state)
{
    struct adaptive a;
    unsigned others = 0;

    (void)state;
    adaptive_init(&a, COMPRESSION_NONE);
    for (int i = 0; i < 2400; i++)
        others += adaptive_next(&a) != ADAPTIVE_NONE;
    assert_int_equal(others, 100);
}

/* --- A copy: only what the whole lets through is seen ----------------------------------------- */

static const double shared[ADAPTIVE_COUNT] = {8e5, 5e5, 3e5, 1.2e5}; /* both ends on two cores */
static const double slow[ADAPTIVE_COUNT] = {1e3, 1.6e3, 2.1e3, 2.2e3};
static const double middle[ADAPTIVE_COUNT] = {1e5, 1.6e5, 1.5e5, 1.1e5};
static const double alike[ADAPTIVE_COUNT] = {1e3, 1e3, 1e3, 1e3}; /* what does not pack */

/* Pieces on their way are packed by what was asked for when they were begun. `ret`: bytes per ms. */
static double copy(struct adaptive *a, const double *rates, unsigned pieces, double swings)
{
    enum adaptive_kind on_the_way[5];
    uint64_t seed = 7;
    double ms = 0;

    for (size_t i = 0; i < ARRAY_LEN(on_the_way); i++)
        on_the_way[i] = adaptive_flow_next(a);
    for (unsigned i = 0; i < pieces; i++) {
        enum adaptive_kind kind = on_the_way[i % ARRAY_LEN(on_the_way)];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        double swing = 1 + swings * ((double)(seed >> 40) / (1 << 23) - 1);
        double took = (double)PIECE / rates[kind] * swing;
        ms += took;
        (void)adaptive_flow_sent(a, kind, PIECE, took);
        on_the_way[i % ARRAY_LEN(on_the_way)] = adaptive_flow_next(a);
    }
    return (double)PIECE * pieces / ms;
}

static void a_copy_that_processors_limit_is_not_packed(void **state)
{
    struct adaptive a;

    (void)state;
    adaptive_init(&a, COMPRESSION_ZSTD);
    assert_true(copy(&a, shared, 600, 0.1) > 0.85 * shared[ADAPTIVE_NONE]);
    assert_int_equal(a.now, ADAPTIVE_NONE);
    /* And hardly anything is lost by looking again. */
    assert_true(copy(&a, shared, 4000, 0.1) > 0.95 * shared[ADAPTIVE_NONE]);
}

static void a_copy_over_a_slow_link_is_packed_well(void **state)
{
    struct adaptive a;

    (void)state;
    adaptive_init(&a, COMPRESSION_NONE);
    (void)copy(&a, slow, 200, 0.05);
    assert_int_equal(a.now, ADAPTIVE_ZSTD);
    assert_true(copy(&a, slow, 4000, 0.05) > 0.95 * slow[ADAPTIVE_ZSTD]);
}

static void what_is_best_in_between_is_found_from_both_sides(void **state)
{
    struct adaptive a;

    (void)state;
    adaptive_init(&a, COMPRESSION_NONE);
    (void)copy(&a, middle, 300, 0.02);
    assert_int_equal(a.now, ADAPTIVE_LZ4);
    adaptive_init(&a, COMPRESSION_ZSTD);
    (void)copy(&a, middle, 300, 0.02);
    assert_int_equal(a.now, ADAPTIVE_LZ4);
}

static void a_copy_of_what_does_not_pack_is_not_packed(void **state)
{
    struct adaptive a;

    (void)state;
    adaptive_init(&a, COMPRESSION_ZSTD);
    (void)copy(&a, alike, 200, 0);
    assert_int_equal(a.now, ADAPTIVE_NONE);
}

static void a_copy_follows_a_link_that_becomes_slow(void **state)
{
    struct adaptive a;

    (void)state;
    adaptive_init(&a, COMPRESSION_ZSTD);
    (void)copy(&a, shared, 4000, 0.05);
    assert_int_equal(a.now, ADAPTIVE_NONE);
    (void)copy(&a, slow, 200, 0.05);
    assert_int_equal(a.now, ADAPTIVE_ZSTD);
    (void)copy(&a, shared, 2000, 0.05);
    assert_int_equal(a.now, ADAPTIVE_NONE);
}

static void waiting_counts_as_the_time_of_the_pieces_before(void **state)
{
    struct adaptive a;

    (void)state;
    adaptive_init(&a, COMPRESSION_LZ4);
    /* Each second piece of lz4 is waited for, those of no other kind are. */
    for (int i = 0; i < 400; i++) {
        enum adaptive_kind kind = adaptive_flow_next(&a);
        (void)adaptive_flow_sent(&a, kind, PIECE, 5);
        if (kind == ADAPTIVE_LZ4)
            (void)adaptive_flow_sent(&a, kind, 0, 10);
    }
    assert_int_not_equal(a.now, ADAPTIVE_LZ4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_link_is_worth_the_most_work),
        cmocka_unit_test(a_fast_link_gets_what_is_packed_fast_or_not_at_all),
        cmocka_unit_test(what_does_not_pack_is_not_packed),
        cmocka_unit_test(it_settles_and_follows_the_link),
        cmocka_unit_test(noise_in_the_measurements_changes_nothing),
        cmocka_unit_test(others_are_tried_seldom),
        cmocka_unit_test(a_copy_that_processors_limit_is_not_packed),
        cmocka_unit_test(a_copy_over_a_slow_link_is_packed_well),
        cmocka_unit_test(what_is_best_in_between_is_found_from_both_sides),
        cmocka_unit_test(a_copy_of_what_does_not_pack_is_not_packed),
        cmocka_unit_test(a_copy_follows_a_link_that_becomes_slow),
        cmocka_unit_test(waiting_counts_as_the_time_of_the_pieces_before),
    };

    return cmocka_run_group_tests_name("adaptive", tests, NULL, NULL);
}
