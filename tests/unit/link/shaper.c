// SPDX-License-Identifier: Apache-2.0
#include "link/shaper.h"

#include "base/mem.h"
#include "support/expect.h"

#define MIB   (UINT64_C(1) << 20)
#define FLOWS 4
/* A Monday, 2023-11-13 00:00 UTC. */
#define MONDAY INT64_C(1699833600000)

/* Flows that always have more to send, asked whenever they wanted to be, in virtual time. */
struct bench {
    struct clock_fake clock;
    struct shaper *shaper;
    struct {
        struct shaper_flow *flow;
        int64_t due;
        size_t piece; /* asked for and not granted; 0: none */
        uint64_t sent;
    } at[FLOWS];
    size_t count;
    uint64_t worst_second; /* most that was sent within one */
};

static struct throttle_plan plan_of(const char *text)
{
    struct throttle_plan plan;

    EXPECT_OK(throttle_plan_parse(text, &plan, &err));
    return plan;
}

static void begin(struct bench *b, const char *plan)
{
    const struct throttle_plan parsed = plan_of(plan);

    *b = (struct bench){0};
    clock_fake_init(&b->clock, MONDAY);
    b->shaper = shaper_new(&b->clock.clock);
    shaper_set_plan(b->shaper, &parsed);
}

static void bench_done(struct bench *b)
{
    for (size_t i = 0; i < b->count; i++)
        shaper_flow_free(b->at[i].flow);
    shaper_free(b->shaper);
}

static size_t join(struct bench *b, uint32_t weight, const char *plan)
{
    const struct throttle_plan parsed = plan_of(plan);
    size_t i = b->count++;

    b->at[i].flow = shaper_flow_new(b->shaper);
    shaper_flow_set(b->at[i].flow, &parsed, weight);
    b->at[i].due = b->clock.clock.now_ms(&b->clock.clock);
    b->at[i].sent = 0;
    return i;
}

static void ask_all(struct bench *b, int64_t now)
{
    for (size_t i = 0; i < b->count; i++) {
        uint64_t granted = 0;
        while (b->at[i].due <= now && granted < 64 * MIB) {
            if (b->at[i].piece == 0)
                b->at[i].piece = shaper_piece(b->at[i].flow, 8 * MIB);
            int64_t wait = shaper_ask(b->at[i].flow, b->at[i].piece);
            if (wait > 0) {
                b->at[i].due = now + wait;
                break;
            }
            granted += b->at[i].piece;
            b->at[i].sent += b->at[i].piece;
            b->at[i].piece = 0;
        }
    }
}

static uint64_t sent_by_all(const struct bench *b)
{
    uint64_t sent = 0;

    for (size_t i = 0; i < b->count; i++)
        sent += b->at[i].sent;
    return sent;
}

/* `ret`: what all sent meanwhile. */
static uint64_t run(struct bench *b, int64_t ms)
{
    uint64_t before = sent_by_all(b);
    uint64_t mark = before;

    for (int64_t i = 0; i < ms; i++) {
        if (i % 1000 == 0)
            mark = sent_by_all(b);
        ask_all(b, b->clock.clock.now_ms(&b->clock.clock));
        if (sent_by_all(b) - mark > b->worst_second)
            b->worst_second = sent_by_all(b) - mark;
        clock_fake_advance(&b->clock, 1);
    }
    return sent_by_all(b) - before;
}

#define assert_about(value, wanted, percent)                                            \
    assert_in_range((value), (uint64_t)(wanted) - (uint64_t)(wanted) * (percent) / 100, \
                    (uint64_t)(wanted) + (uint64_t)(wanted) * (percent) / 100)

static void a_rate_is_kept_to_two_percent(void **state)
{
    static const struct {
        const char *plan;
        uint64_t rate;
    } cases[] = {{"64KiB", MIB / 16}, {"1MiB", MIB}, {"10MiB", 10 * MIB}, {"400MiB", 400 * MIB}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(bench_done) struct bench b;
        begin(&b, cases[i].plan);
        (void)join(&b, SHAPER_BULK, "none");
        assert_about(run(&b, 20000), 20 * cases[i].rate, 2);
    }
}

static void without_a_limit_nobody_waits(void **state)
{
    CLEANUP(bench_done) struct bench b;

    (void)state;
    begin(&b, "none");
    (void)join(&b, SHAPER_BULK, "none");
    for (int i = 0; i < 100; i++)
        assert_int_equal(shaper_ask(b.at[0].flow, SHAPER_PIECE_MAX), 0);
}

static void two_groups_share_alike_and_a_third_one_gets_its_part(void **state)
{
    CLEANUP(bench_done) struct bench b;

    (void)state;
    begin(&b, "12MiB");
    size_t one = join(&b, SHAPER_DELTA, "none");
    size_t two = join(&b, SHAPER_DELTA, "none");
    (void)run(&b, 10000);
    assert_about(b.at[one].sent, 60 * MIB, 2);
    assert_about(b.at[two].sent, 60 * MIB, 2);
    size_t three = join(&b, SHAPER_DELTA, "none");
    (void)run(&b, 10000);
    assert_about(b.at[one].sent, 100 * MIB, 2);
    assert_about(b.at[two].sent, 100 * MIB, 2);
    assert_about(b.at[three].sent, 40 * MIB, 2);
}

static void a_delta_goes_before_an_initial_copy_which_does_not_starve(void **state)
{
    CLEANUP(bench_done) struct bench b;

    (void)state;
    begin(&b, "10MiB");
    size_t copy = join(&b, SHAPER_BULK, "none");
    (void)run(&b, 10000);
    b.at[copy].sent = 0;
    size_t delta = join(&b, SHAPER_DELTA, "none");
    (void)run(&b, 10000);
    assert_about(b.at[delta].sent, 80 * MIB, 3);
    assert_about(b.at[copy].sent, 20 * MIB, 5);
}

static void a_groups_own_limit_leaves_the_rest_to_others(void **state)
{
    CLEANUP(bench_done) struct bench b;

    (void)state;
    begin(&b, "10MiB");
    size_t slow = join(&b, SHAPER_DELTA, "1MiB");
    size_t fast = join(&b, SHAPER_DELTA, "none");
    (void)run(&b, 10000);
    assert_about(b.at[slow].sent, 10 * MIB, 3);
    assert_about(b.at[fast].sent, 90 * MIB, 3);
}

static void a_pause_saves_up_less_than_a_second(void **state)
{
    CLEANUP(bench_done) struct bench b;

    (void)state;
    begin(&b, "8MiB");
    (void)join(&b, SHAPER_DELTA, "none");
    (void)run(&b, 1000);
    clock_fake_advance(&b.clock, 3600 * 1000);
    b.worst_second = 0;
    (void)run(&b, 3000);
    assert_true(b.worst_second <= 8 * MIB + 8 * MIB / 8 + SHAPER_PIECE_MAX);
    assert_true(b.worst_second < 2 * 8 * MIB);
}

static void the_rate_follows_the_weeks_schedule(void **state)
{
    CLEANUP(bench_done) struct bench b;

    (void)state;
    begin(&b, "20MiB; mon 00:01-00:02 2MiB");
    (void)join(&b, SHAPER_BULK, "none");
    assert_about(run(&b, 60000), 60 * 20 * MIB, 2);
    assert_about(run(&b, 60000), 60 * 2 * MIB, 3);
    assert_about(run(&b, 60000), 60 * 20 * MIB, 2);
}

static void a_change_is_followed_within_the_look(void **state)
{
    CLEANUP(bench_done) struct bench b;
    const struct throttle_plan fast = plan_of("50MiB");

    (void)state;
    begin(&b, "64KiB");
    (void)join(&b, SHAPER_BULK, "none");
    (void)run(&b, 5000);
    shaper_set_plan(b.shaper, &fast);
    (void)run(&b, SHAPER_LOOK_MS);
    assert_about(run(&b, 5000), 250 * MIB, 2);

    struct shaper_status status;
    shaper_status(b.shaper, &status);
    assert_int_equal(status.limit_per_s, 50 * MIB);
    assert_about(status.used_per_s, 50 * MIB, 3);
    assert_int_equal(status.sent_bytes, sent_by_all(&b));
}

static void a_wait_can_be_cancelled_and_is_in_nobodys_way_then(void **state)
{
    CLEANUP(bench_done) struct bench b;
    struct cancel *cancel;

    (void)state;
    begin(&b, "64KiB");
    (void)join(&b, SHAPER_BULK, "none");
    cancel = cancel_new(&b.clock.clock, NULL, CANCEL_NEVER);
    cancel_fire(cancel);
    while (shaper_ask(b.at[0].flow, 8192) == 0)
        ;
    EXPECT_ERR(ERR_CANCELLED, shaper_take(b.at[0].flow, 8192, cancel, &err));
    cancel_free(cancel);
    struct shaper_status status;
    shaper_status(b.shaper, &status);
    assert_int_equal(status.waiting, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rate_is_kept_to_two_percent),
        cmocka_unit_test(without_a_limit_nobody_waits),
        cmocka_unit_test(two_groups_share_alike_and_a_third_one_gets_its_part),
        cmocka_unit_test(a_delta_goes_before_an_initial_copy_which_does_not_starve),
        cmocka_unit_test(a_groups_own_limit_leaves_the_rest_to_others),
        cmocka_unit_test(a_pause_saves_up_less_than_a_second),
        cmocka_unit_test(the_rate_follows_the_weeks_schedule),
        cmocka_unit_test(a_change_is_followed_within_the_look),
        cmocka_unit_test(a_wait_can_be_cancelled_and_is_in_nobodys_way_then),
    };

    (void)setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests_name("shaper", tests, NULL, NULL);
}
