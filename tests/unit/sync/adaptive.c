// SPDX-License-Identifier: Apache-2.0
#include "sync/adaptive.h"

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
        changes += adaptive_decide(a, 2);
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
    assert_int_equal(settled(&text, 6e5, COMPRESSION_ZSTD), ADAPTIVE_LZ4);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_link_is_worth_the_most_work),
        cmocka_unit_test(a_fast_link_gets_what_is_packed_fast_or_not_at_all),
        cmocka_unit_test(what_does_not_pack_is_not_packed),
        cmocka_unit_test(it_settles_and_follows_the_link),
        cmocka_unit_test(noise_in_the_measurements_changes_nothing),
        cmocka_unit_test(others_are_tried_seldom),
    };

    return cmocka_run_group_tests_name("adaptive", tests, NULL, NULL);
}
