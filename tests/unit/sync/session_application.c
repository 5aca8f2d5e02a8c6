// SPDX-License-Identifier: Apache-2.0
#include "support/expect.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

#include <stdio.h>

#define HOUR_MS  INT64_C(3600000)
#define AGAIN_MS (5 * 60 * 1000)

static void every(struct fixture *f, int64_t application_ms)
{
    f->bed.config.policy.application_ms = application_ms;
    session_set_policy(f->bed.session, &f->bed.config.policy);
}

/* Protected, with application-consistent points from now on; the guest can be frozen. */
static void start_application(struct fixture *f, const char *dir)
{
    start_protected(f, dir);
    f->machine->freeze = SOURCE_FREEZE_HELD;
    every(f, HOUR_MS);
}

static uint64_t next_point(struct fixture *f)
{
    uint64_t point = bed_status(&f->bed).durable_point + 1;

    bed_turns_until(&f->bed, point, 3);
    return point;
}

static struct store_point point_of(struct fixture *f, uint64_t number)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    struct store *store = bed_store(&f->bed);
    struct store_point found = {0};

    EXPECT_OK(store->ops->points(store, &points, &err));
    bed_store_put(&f->bed);
    VEC_FOREACH(point, &points)
        if (point->point == number)
            found = *point;
    assert_int_equal(found.point, number);
    return found;
}

static bool is_application(struct fixture *f, uint64_t number)
{
    return point_of(f, number).consistency == CONSISTENCY_APPLICATION;
}

static void a_point_is_application_consistent_once_an_interval(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    assert_true(is_application(&f, next_point(&f)));
    assert_false(is_application(&f, next_point(&f)));
    clock_fake_advance(&f.bed.clock, HOUR_MS - 3 * BED_INTERVAL_MS);
    assert_false(is_application(&f, next_point(&f)));
    clock_fake_advance(&f.bed.clock, 3 * BED_INTERVAL_MS);
    uint64_t second = next_point(&f);
    assert_true(is_application(&f, second));
    assert_int_equal(f.machine->freezes, 2);
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.application_point, second);
    assert_true(s.application_cut_ms > 0);
}

static void how_long_the_guest_was_held_is_kept_with_the_point(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    assert_int_equal(point_of(&f, next_point(&f)).stall_us, 60000);
    assert_int_equal(point_of(&f, next_point(&f)).stall_us, 250);
}

static void without_the_setting_nothing_is_frozen(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    every(&f, 0);
    assert_false(is_application(&f, next_point(&f)));
    assert_int_equal(f.machine->freezes, 0);
}

static void a_restart_does_not_shift_the_next_one(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    uint64_t first = next_point(&f);
    clock_fake_advance(&f.bed.clock, HOUR_MS / 2);
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    assert_int_equal(bed_status(&f.bed).application_point, first);
    assert_false(is_application(&f, next_point(&f)));
    clock_fake_advance(&f.bed.clock, HOUR_MS / 2);
    assert_true(is_application(&f, next_point(&f)));
}

static void those_that_were_missed_are_not_made_up_for(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    (void)next_point(&f);
    clock_fake_advance(&f.bed.clock, 10 * HOUR_MS);
    assert_true(is_application(&f, next_point(&f)));
    assert_false(is_application(&f, next_point(&f)));
}

static void what_cannot_be_frozen_is_a_crash_point_with_a_reason(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    f.machine->freeze = SOURCE_FREEZE_FAILED;
    (void)snprintf(f.machine->freeze_note, sizeof(f.machine->freeze_note),
                   "the guest agent of db1 does not answer");
    uint64_t point = next_point(&f);
    assert_false(is_application(&f, point));
    assert_true(bed_replica_equals_cut(&f.bed));
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.state, SESSION_PROTECTED);
    assert_string_equal(s.application_note, "the guest agent of db1 does not answer");
    assert_true(s.application_failing_ms > 0);
    assert_int_equal(s.application_point, 0);
}

static void a_failed_one_is_tried_again_soon_but_not_at_once(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    f.machine->freeze = SOURCE_FREEZE_FAILED;
    (void)next_point(&f);
    int64_t since = bed_status(&f.bed).application_failing_ms;
    (void)next_point(&f);
    assert_int_equal(f.machine->freezes, 1);
    clock_fake_advance(&f.bed.clock, AGAIN_MS);
    (void)next_point(&f);
    assert_int_equal(f.machine->freezes, 2);
    assert_int_equal(bed_status(&f.bed).application_failing_ms, since);
    /* And after a restart it is still known. */
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    assert_int_equal(bed_status(&f.bed).application_failing_ms, since);
    f.machine->freeze = SOURCE_FREEZE_HELD;
    clock_fake_advance(&f.bed.clock, AGAIN_MS);
    assert_true(is_application(&f, next_point(&f)));
    struct session_status s = bed_status(&f.bed);
    assert_int_equal(s.application_failing_ms, 0);
    assert_string_equal(s.application_note, "");
}

static void a_machine_that_is_shut_down_is_not_asked(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    f.machine->quiet = true;
    assert_false(is_application(&f, next_point(&f)));
    assert_int_equal(f.machine->freezes, 0);
    assert_int_equal(bed_status(&f.bed).application_failing_ms, 0);
}

static void a_clock_that_was_set_back_stops_nothing(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    (void)next_point(&f);
    f.bed.clock.wall -= 24 * HOUR_MS;
    assert_true(is_application(&f, next_point(&f)));
    assert_false(is_application(&f, next_point(&f)));
}

/* The agent says what it likes; the checkpoint is JSON. */
static void a_reason_that_is_no_text_harms_nothing(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    f.machine->freeze = SOURCE_FREEZE_FAILED;
    (void)snprintf(f.machine->freeze_note, sizeof(f.machine->freeze_note), "no\x1b[31m \xc3");
    (void)next_point(&f);
    (void)next_point(&f);
    assert_string_equal(bed_status(&f.bed).application_note, "no?[31m ?");
}

/* A point that was sealed before the link broke, and the daemon was killed, is sent as what it is. */
static void a_point_from_the_outbox_is_still_application_consistent(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(2 * MIB, 1);

    start_application(&f, *state);
    f.bed.config.policy.compression = COMPRESSION_NONE;
    every(&f, HOUR_MS);
    for (size_t i = 0; i < 2 * MIB; i++)
        noise[i] = (uint8_t)fake_random(&f.seed);
    fake_write(f.machine, 0, 0, noise, 2 * MIB);
    f.bed.break_link = true;
    f.bed.cut_next = 3 * MIB / 2;
    bed_turn(&f.bed); /* the old link: broken, tried again at once */
    bed_turn(&f.bed); /* cut in the middle of the segment */
    assert_int_equal(f.machine->freezes, 1);
    assert_int_equal(bed_status(&f.bed).application_point, 0);
    bed_drop_session(&f.bed);
    bed_open_session(&f.bed);
    bed_turns_until(&f.bed, 2, 5);
    assert_true(is_application(&f, 2));
    assert_int_equal(bed_status(&f.bed).application_point, 2);
    clock_fake_advance(&f.bed.clock, AGAIN_MS);
    assert_false(is_application(&f, next_point(&f)));
    assert_int_equal(f.machine->freezes, 1);
}

/* --- On request ------------------------------------------------------------------------------ */

static struct session_point ask_point(struct fixture *f, enum session_freeze freeze)
{
    const struct session_point_ask ask = {.freeze = freeze};
    struct session_point point;

    EXPECT_OK(session_point_now(f->bed.session, &ask, &point, NULL, &err));
    assert_int_equal(bed_status(&f->bed).applied_point, point.point);
    return point;
}

static void a_point_on_request_is_there_when_it_is_told_and_frozen_as_it_was_asked_for(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    uint64_t before = bed_status(&f.bed).applied_point;
    struct session_point point = ask_point(&f, SESSION_FREEZE_NONE);
    assert_int_equal(point.point, before + 1);
    assert_true(point.made && !point.application);
    assert_false(is_application(&f, point.point));
    assert_int_equal(f.machine->freezes, 0);

    /* The policy has such points: one on request is of that kind, whenever the last one was. */
    for (int i = 0; i < 2; i++) {
        point = ask_point(&f, SESSION_FREEZE_POLICY);
        assert_true(point.made && point.application);
        assert_int_equal(point.stall_us, 60000);
        assert_true(is_application(&f, point.point));
    }
    every(&f, 0);
    assert_false(ask_point(&f, SESSION_FREEZE_POLICY).application);
    assert_true(ask_point(&f, SESSION_FREEZE).application);
    assert_string_equal(point.note, "");
}

static void a_guest_that_cannot_be_frozen_on_request_gives_a_crash_consistent_point_and_why(
    void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    every(&f, 0);
    f.machine->freeze = SOURCE_FREEZE_FAILED;
    (void)snprintf(f.machine->freeze_note, sizeof(f.machine->freeze_note), "no\x1b agent");
    struct session_point point = ask_point(&f, SESSION_FREEZE);
    assert_true(point.made && !point.application);
    assert_string_equal(point.note, "no? agent");
    /* Nobody waits for the next one: health is not told. */
    assert_int_equal(bed_status(&f.bed).application_failing_ms, 0);
    assert_string_equal(ask_point(&f, SESSION_FREEZE_NONE).note, "");
    every(&f, HOUR_MS);
    assert_string_equal(ask_point(&f, SESSION_FREEZE_POLICY).note, "no? agent");
    assert_true(bed_status(&f.bed).application_failing_ms > 0);
}

struct keeper {
    struct fixture *f;
    uint64_t point;
    enum err_code fails;
    bool waits; /* for a peer that does not answer, at most an hour */
};

/* The replica has it when it is to be kept, and no other was made. */
static int keep(void *ctx, uint64_t point, struct cancel *cancel, struct err *keep_err)
{
    struct keeper *keeper = ctx;

    keeper->point = point;
    if (keeper->waits) {
        clock_fake_advance(&keeper->f->bed.clock, HOUR_MS);
        if (cancel_check(cancel, keep_err) < 0)
            return -1;
    }
    assert_true(point_of(keeper->f, point).applied);
    return keeper->fails ? err_set(keep_err, keeper->fails, 0, "the label is another point's") : 0;
}

static void a_point_on_request_is_kept_before_the_next_one_is_made(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct session_point point;

    start_protected(&f, *state);
    struct keeper keeper = {.f = &f};
    struct session_point_ask ask = {.keep = keep, .ctx = &keeper};
    EXPECT_OK(session_point_now(f.bed.session, &ask, &point, NULL, &err));
    assert_int_equal(keeper.point, point.point);
    keeper.fails = ERR_EXISTS;
    EXPECT_ERR(ERR_EXISTS, session_point_now(f.bed.session, &ask, &point, NULL, &err));
    EXPECT_TEXT("is there, but it is not pinned: the label is another point's");
}

static void a_point_that_cannot_be_pinned_in_time_stays_and_holds_up_nobody(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    struct session_point point;

    start_protected(&f, *state);
    struct keeper keeper = {.f = &f, .waits = true};
    const struct session_point_ask ask = {.keep = keep, .ctx = &keeper};
    EXPECT_ERR(ERR_TIMEOUT, session_point_now(f.bed.session, &ask, &point, NULL, &err));
    CLEANUP(mem_freep)
    char *want =
        mem_printf("point %d is there, but it is not pinned: timed out; hint: `muster point "
                   "pin %s %d --label L`",
                   (int)keeper.point, BED_GROUP, (int)keeper.point);
    EXPECT_TEXT(want);
    assert_int_equal(bed_status(&f.bed).applied_point, keeper.point);
    assert_int_equal(ask_point(&f, SESSION_FREEZE_NONE).point, keeper.point + 1);
}

static void no_point_is_made_while_replication_is_paused(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    const struct session_point_ask ask = {0};
    struct session_point point;

    start_protected(&f, *state);
    session_pause(f.bed.session, true);
    uint64_t cuts = f.machine->cuts;
    EXPECT_ERR(ERR_STATE, session_point_now(f.bed.session, &ask, &point, NULL, &err));
    EXPECT_TEXT("is paused");
    EXPECT_TEXT("muster resume");
    assert_int_equal(f.machine->cuts, cuts);
}

/* Whose disks were not written to since the newest one. */
static void of_a_machine_that_is_off_the_newest_point_is_the_one_of_now(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    start_application(&f, *state);
    f.machine->running = false;
    session_source_changed(f.bed.session);
    struct session_point first = ask_point(&f, SESSION_FREEZE);
    struct session_point again = ask_point(&f, SESSION_FREEZE);
    assert_false(again.made);
    assert_int_equal(again.point, first.point);
    assert_int_equal(f.machine->freezes, 0);
    assert_true(bed_replica_equals_cut(&f.bed));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_point_on_request_is_there_when_it_is_told_and_frozen_as_it_was_asked_for),
        TMPDIR_TEST(
            a_guest_that_cannot_be_frozen_on_request_gives_a_crash_consistent_point_and_why),
        TMPDIR_TEST(a_point_on_request_is_kept_before_the_next_one_is_made),
        TMPDIR_TEST(a_point_that_cannot_be_pinned_in_time_stays_and_holds_up_nobody),
        TMPDIR_TEST(no_point_is_made_while_replication_is_paused),
        TMPDIR_TEST(of_a_machine_that_is_off_the_newest_point_is_the_one_of_now),
        TMPDIR_TEST(a_point_is_application_consistent_once_an_interval),
        TMPDIR_TEST(how_long_the_guest_was_held_is_kept_with_the_point),
        TMPDIR_TEST(without_the_setting_nothing_is_frozen),
        TMPDIR_TEST(a_restart_does_not_shift_the_next_one),
        TMPDIR_TEST(those_that_were_missed_are_not_made_up_for),
        TMPDIR_TEST(what_cannot_be_frozen_is_a_crash_point_with_a_reason),
        TMPDIR_TEST(a_failed_one_is_tried_again_soon_but_not_at_once),
        TMPDIR_TEST(a_machine_that_is_shut_down_is_not_asked),
        TMPDIR_TEST(a_clock_that_was_set_back_stops_nothing),
        TMPDIR_TEST(a_reason_that_is_no_text_harms_nothing),
        TMPDIR_TEST(a_point_from_the_outbox_is_still_application_consistent),
    };
    return cmocka_run_group_tests_name("session_application", tests, NULL, NULL);
}
