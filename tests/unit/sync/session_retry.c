// SPDX-License-Identifier: Apache-2.0
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

#define MINUTE INT64_C(60000)
#define HOUR   (60 * MINUTE)

static int64_t now_of(struct fixture *f)
{
    return f->bed.clock.clock.now_ms(&f->bed.clock.clock);
}

/* Turns, as due, until `until`, monotonic. */
static void run_until(struct fixture *f, int64_t until)
{
    while (now_of(f) < until)
        bed_turn(&f->bed);
}

/* --- Both lists ------------------------------------------------------------------------------ */

struct verdict {
    enum err_code code;
    bool again;
    const char *hint;
};
static const struct verdict verdicts[] = {
    {ERR_BUSY, true, ""},
    {ERR_TIMEOUT, true, ""},
    {ERR_NET, true, ""},
    {ERR_SPACE, true, ""},
    {ERR_IO, true, ""},
    {ERR_INVALID, false, "mend the cause"},
    {ERR_NOT_FOUND, false, "are still there"},
    {ERR_EXISTS, false, "mend the cause"},
    {ERR_STATE, false, "mend the cause"},
    {ERR_CORRUPT, false, "before anything is removed"},
    {ERR_FENCED, false, "mend the cause"},
    {ERR_AUTH, false, "pair the two sites again"},
    {ERR_DENIED, false, "allow this group"},
    {ERR_PROTOCOL, false, "the same release"},
    {ERR_UNSUPPORTED, false, "the same release"},
    {ERR_LIMIT, false, "mend the cause"},
    {ERR_UNKNOWN, false, "mend the cause"},
};

static enum err_code link_fails;

static int failing_link(void *ctx, struct link **ret_link, struct cancel *cancel, struct err *why)
{
    (void)ctx;
    (void)ret_link;
    (void)cancel;
    return err_set(why, link_fails, 0, "lyon says no");
}

static void each_error_of_the_peer_is_on_one_of_the_two_lists(void **state)
{
    assert_int_equal(ARRAY_LEN(verdicts), ERR_CODE_COUNT - 2); /* all but none and cancelled */
    for (size_t i = 0; i < ARRAY_LEN(verdicts); i++) {
        const struct verdict *v = &verdicts[i];
        CLEANUP(fixture_done) struct fixture f;
        CLEANUP(mem_freep) char *dir = mem_printf("%s/%zu", (const char *)*state, i);
        int64_t next;

        start_protected(&f, dir);
        bed_drop_session(&f.bed);
        f.bed.config.open_link = failing_link;
        link_fails = v->code;
        bed_open_session(&f.bed);
        session_turn(f.bed.session, NULL, &next);
        struct session_status s = bed_status(&f.bed);
        assert_int_equal(s.error.code, v->code);
        assert_int_equal(s.state, v->again                ? SESSION_BACKING_OFF
                                  : v->code == ERR_FENCED ? SESSION_FENCED
                                                          : SESSION_CRITICAL);
        assert_int_equal(s.durable_point, 1);
        assert_int_equal(err_is_retryable(v->code), v->again);
        if (v->again) {
            int64_t wait = s.retry_at_ms - f.bed.clock.wall;
            assert_in_range(wait, MINUTE * 9 / 10, MINUTE * 11 / 10);
        } else {
            assert_int_equal(next, CANCEL_NEVER);
            assert_int_equal(s.retry_at_ms, 0);
            assert_non_null(strstr(s.error.text, "; hint: "));
            assert_non_null(strstr(s.error.text, v->hint));
        }
    }
}

static void what_stopped_goes_on_when_a_person_says_so(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    fake_write_random(f.machine, &f.seed, 20);
    bed_restart_replica(&f.bed);
    f.bed.store_fails = ERR_DENIED;
    bed_turn(&f.bed);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_CRITICAL);
    f.bed.store_fails = ERR_NONE;
    clock_fake_advance(&f.bed.clock, HOUR);
    bed_turn(&f.bed);
    assert_int_equal(bed_status(&f.bed).state, SESSION_CRITICAL);
    session_retry(f.bed.session);
    bed_turns_until(&f.bed, 2, 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* --- The peer -------------------------------------------------------------------------------- */

static void a_peer_gone_for_an_hour_gets_all_of_it_as_one_delta(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    static const uint8_t block[4096] = {7};

    start_protected(&f, *state);
    int64_t gone = now_of(&f);
    uint64_t cuts = f.machine->cuts;
    f.bed.unreachable = true;
    f.bed.break_link = true;
    while (now_of(&f) < gone + HOUR) {
        bed_turn(&f.bed);
        for (uint64_t off = 0; off < 4 * sizeof(block); off += sizeof(block))
            fake_write(f.machine, 0, off, block, sizeof(block)); /* over and over */
    }
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_BACKING_OFF);
    assert_int_equal(s.durable_point, 1);
    assert_true(s.durable_age_ms >= HOUR);
    assert_int_equal(f.machine->cuts, cuts);
    assert_int_equal(s.failures, 2 + 6); /* at once, then at 1, 2, 4, 8, 10 and 40 minutes */
    f.bed.unreachable = false;
    run_until(&f, gone + 74 * MINUTE); /* 70, and jitter */
    s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_true(s.durable_point > 1);
    assert_int_equal(s.error_since_ms, 0);
    assert_int_equal(s.failures, 0);
    assert_true(bed_replica_equals_cut(&f.bed));
    /* One cut for all of it: the points since are an interval apart. */
    assert_int_equal(f.machine->cuts - cuts, s.durable_point - 1);
}

static void a_backlog_sends_each_block_once(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(65536, 1);

    start_protected(&f, *state);
    f.bed.config.policy.compression = COMPRESSION_NONE;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    f.bed.unreachable = true;
    f.bed.break_link = true;
    for (int i = 0; i < 50; i++) {
        for (size_t k = 0; k < 65536; k++)
            noise[k] = (uint8_t)fake_random(&f.seed);
        fake_write(f.machine, 0, 0, noise, 65536);
        if (i < 7)
            bed_turn(&f.bed);
    }
    f.bed.unreachable = false;
    session_retry(f.bed.session);
    uint64_t before = f.bed.sent;
    bed_turns_until(&f.bed, 2, 2);
    assert_true(f.bed.sent - before < 65536 + 16384);
    assert_int_equal(bed_status(&f.bed).durable_point, 2);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* It breaks in the middle of each cycle, and is there again. */
static void a_link_that_flaps_still_brings_points(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(MIB, 1);

    start_protected(&f, *state);
    f.bed.config.policy.compression = COMPRESSION_NONE;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    uint64_t point = 1;
    f.bed.break_link = true;
    for (int i = 0; i < 60; i++) {
        for (size_t k = 0; k < MIB / 2; k++)
            noise[k] = (uint8_t)fake_random(&f.seed);
        fake_write(f.machine, i % 2 ? 1 : 0, 0, noise, MIB / 2);
        f.bed.cut_next = 400000 + fake_random(&f.seed) % 300000;
        bed_turn(&f.bed);
        struct session_status s = bed_status(&f.bed);
        assert_true(s.error.code == ERR_NONE || s.error.code == ERR_NET);
        assert_true(s.durable_point >= point);
        point = s.durable_point;
    }
    assert_true(point > 5);
    f.bed.cut_next = 0;
    bed_turns_until(&f.bed, point + 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
}

/* --- Clocks that jump ------------------------------------------------------------------------ */

static void a_wall_clock_that_jumps_moves_no_cycle(void **state)
{
    static const int64_t jumps[] = {-30 * 24 * HOUR, 30 * 24 * HOUR, -MINUTE, 5 * MINUTE};
    CLEANUP(fixture_done) struct fixture f;
    int64_t next;

    start_protected(&f, *state);
    session_turn(f.bed.session, NULL, &next);
    uint64_t point = bed_status(&f.bed).durable_point;
    for (size_t i = 0; i < ARRAY_LEN(jumps); i++) {
        f.bed.clock.wall += jumps[i];
        int64_t due = next;
        session_turn(f.bed.session, NULL, &next);
        assert_int_equal(next, due);
        assert_int_equal(bed_status(&f.bed).durable_point, point);
        clock_fake_advance(&f.bed.clock, due - now_of(&f));
        session_turn(f.bed.session, NULL, &next);
        assert_int_equal(bed_status(&f.bed).durable_point, ++point);
        assert_int_equal(next, due + BED_INTERVAL_MS);
    }
}

static void a_wall_clock_that_jumps_moves_no_retry(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    f.bed.unreachable = true;
    f.bed.break_link = true;
    int64_t gone = now_of(&f);
    while (now_of(&f) < gone + HOUR) {
        f.bed.clock.wall += fake_random(&f.seed) % 2 ? 7 * HOUR : -9 * HOUR;
        bed_turn(&f.bed);
    }
    assert_int_equal(bed_status(&f.bed).failures, 2 + 6);
}

static void no_jump_makes_a_point_younger(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_protected(&f, *state);
    int64_t age = bed_status(&f.bed).durable_age_ms;
    clock_fake_advance(&f.bed.clock, 10 * MINUTE);
    f.bed.clock.wall -= 9 * MINUTE;
    assert_int_equal(bed_status(&f.bed).durable_age_ms, age + 10 * MINUTE);
    assert_int_equal(bed_status(&f.bed).applied_age_ms, age + 10 * MINUTE);
    f.bed.clock.wall += 24 * HOUR;
    assert_int_equal(bed_status(&f.bed).durable_age_ms, age + 10 * MINUTE);
}

/* What this life knows only by the wall clock is no younger than that clock was set back. */
static void a_clock_set_back_before_a_restart_does_not_make_a_point_new(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    prepare(&f, *state);
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 1, 20);
    int64_t cut = bed_status(&f.bed).durable_cut_ms;
    bed_drop_session(&f.bed);
    f.bed.clock.wall = cut - 2 * HOUR;
    bed_open_session(&f.bed);
    assert_int_equal(bed_status(&f.bed).durable_age_ms, 2 * HOUR);
    clock_fake_advance(&f.bed.clock, MINUTE);
    assert_int_equal(bed_status(&f.bed).durable_age_ms, 2 * HOUR + MINUTE);
    f.bed.clock.wall = cut + 3 * HOUR;
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    assert_int_equal(bed_status(&f.bed).durable_age_ms, 3 * HOUR);
}

/* --- More than the link carries --------------------------------------------------------------- */

static void changes_above_the_link_are_said_and_taken_back(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(2 * MIB, 1);
    struct session_status s;

    start_protected(&f, *state);
    f.bed.config.policy.compression = COMPRESSION_NONE;
    session_set_policy(f.bed.session, &f.bed.config.policy);
    f.bed.link_per_s = MIB / 16; /* 2 MiB take 32 s, and change every 5 s */
    for (int i = 0; i < 6; i++) {
        for (size_t k = 0; k < 2 * MIB; k++)
            noise[k] = (uint8_t)fake_random(&f.seed);
        fake_write(f.machine, 0, 0, noise, 2 * MIB);
        bed_turn(&f.bed);
    }
    s = bed_status(&f.bed);
    assert_true(s.lag.since_ms > 0);
    assert_true(s.lag.since_ms < f.bed.clock.wall);
    assert_in_range(s.lag.sent_per_s, MIB / 20, MIB / 15);
    assert_true(s.lag.changed_per_s >= s.lag.sent_per_s * 9 / 10);
    assert_non_null(strstr(s.lag.advice, "the link is what is slow"));
    assert_true(bed_replica_equals_cut(&f.bed)); /* a point later, never half of one */

    f.bed.link_per_s = 0;
    for (int i = 0; i < 3; i++) {
        fake_write(f.machine, 0, 0, noise, MIB);
        bed_turn(&f.bed);
    }
    assert_int_equal(bed_status(&f.bed).lag.since_ms, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(each_error_of_the_peer_is_on_one_of_the_two_lists),
        TMPDIR_TEST(what_stopped_goes_on_when_a_person_says_so),
        TMPDIR_TEST(a_peer_gone_for_an_hour_gets_all_of_it_as_one_delta),
        TMPDIR_TEST(a_backlog_sends_each_block_once),
        TMPDIR_TEST(a_link_that_flaps_still_brings_points),
        TMPDIR_TEST(a_wall_clock_that_jumps_moves_no_cycle),
        TMPDIR_TEST(a_wall_clock_that_jumps_moves_no_retry),
        TMPDIR_TEST(no_jump_makes_a_point_younger),
        TMPDIR_TEST(a_clock_set_back_before_a_restart_does_not_make_a_point_new),
        TMPDIR_TEST(changes_above_the_link_are_said_and_taken_back),
    };
    return cmocka_run_group_tests_name("session, its peer and its clock", tests, NULL, NULL);
}
