// SPDX-License-Identifier: Apache-2.0
#include "sites/verified.h"

#include "base/mem.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

/* All of one verification, as the job asks for it; what is known after it. */
static json_t *verify(struct estates *e, uint64_t subset, uint64_t of, uint64_t point)
{
    json_t *cursor = json_null();
    bool done = false;

    while (!done) {
        CLEANUP(json_freep) json_t *seen = NULL;
        json_t *args =
            json_pack("{s:s, s:I, s:I, s:I, s:o}", "group", "db1", "subset", (json_int_t)subset,
                      "of", (json_int_t)of, "at", (json_int_t)point, "cursor", cursor);
        EXPECT_OK(site_ask(e->at_lyon, "group.verify", args, &seen, NULL, &err));
        cursor = json_deep_copy(json_object_get(seen, "cursor"));
        done = json_get_bool(seen, "done", false);
    }
    json_decref(cursor);
    return verified_read(e->lyon, "db1");
}

static int64_t now(struct estates *e)
{
    return e->clock.clock.wall_ms(&e->clock.clock);
}

static void what_was_read_last_and_when_all_of_it_was_is_known_over_restarts(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *never = verified_read(e->lyon, "db1");

    assert_true(json_is_null(never));
    for (uint64_t part = 1; part <= 3; part++) {
        CLEANUP(json_freep) json_t *seen = verify(e, part, 3, 0);
        assert_int_equal(json_get_u64(seen, "subset", 0), part);
        assert_int_equal(json_get_u64(seen, "at_ms", 0), now(e));
        assert_int_equal(json_get_u64(seen, "whole_ms", 9), part < 3 ? 0 : now(e));
        assert_int_equal(json_get_u64(json_object_get(seen, "pass"), "done", 9), part % 3);
        clock_fake_advance(&e->clock, 1000);
    }
    CLEANUP(json_freep) json_t *observed = NULL;
    EXPECT_OK(site_ask(e->at_lyon, "group.observe", json_pack("{s:s}", "group", "db1"), &observed,
                       NULL, &err));
    CLEANUP(json_freep) json_t *kept = verified_read(e->lyon, "db1");
    assert_true(json_equal(json_object_get(observed, "verified"), kept));
}

static void parts_out_of_their_order_and_single_points_are_no_whole(void **state)
{
    static const struct {
        uint64_t subset, of, point, done;
    } table[] = {{2, 2, 0, 0}, {1, 2, 0, 1}, {3, 3, 0, 1},
                 {0, 0, 2, 1}, {1, 3, 0, 1}, {3, 3, 0, 1}};
    struct estates *e = *state;

    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        CLEANUP(json_freep)
        json_t *seen = verify(e, table[i].subset, table[i].of, table[i].point);
        assert_int_equal(json_get_u64(seen, "whole_ms", 9), 0);
        assert_int_equal(json_get_u64(json_object_get(seen, "pass"), "done", 0), table[i].done);
    }
    CLEANUP(json_freep) json_t *all = verify(e, 0, 0, 0);
    assert_int_equal(json_get_u64(all, "whole_ms", 0), now(e));
    assert_int_equal(json_get_u64(json_object_get(all, "pass"), "done", 9), 0);
}

/* A week, in seven parts: one each day, and round again. */
static void a_part_is_due_each_day_and_all_of_them_in_their_time(void **state)
{
    struct estates *e = *state;
    uint32_t next = 1;

    for (int hour = 0; hour < 24 * 15; hour++) {
        CLEANUP(json_freep) json_t *seen = verified_read(e->lyon, "db1");
        uint32_t due = verified_due(seen, 7 * DAY_MS, 7, now(e));
        assert_int_equal(due, hour % 24 == 0 ? next : 0);
        if (due) {
            json_decref(verify(e, due, 7, 0));
            next = next % 7 + 1;
        }
        clock_fake_advance(&e->clock, DAY_MS / 24);
    }
    CLEANUP(json_freep) json_t *end = verified_read(e->lyon, "db1");
    assert_true(now(e) - (int64_t)json_get_u64(end, "whole_ms", 0) <= 2 * DAY_MS);
}

static void other_parts_and_a_clock_that_was_set_back_hold_nothing_up_for_long(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *seen = verify(e, 1, 7, 0);

    /* The policy has other parts by now. */
    assert_int_equal(verified_due(seen, 3 * DAY_MS, 3, now(e)), 1);
    assert_int_equal(verified_due(seen, 7 * DAY_MS, 7, now(e) - 100 * DAY_MS), 0);
    assert_int_equal(verified_due(seen, 7 * DAY_MS, 7, now(e) + DAY_MS), 2);
    assert_int_equal(verified_due(NULL, DAY_MS, 1, now(e)), 1);
    CLEANUP(json_freep) json_t *all = verify(e, 0, 0, 0);
    assert_int_equal(verified_due(all, DAY_MS, 1, now(e) + DAY_MS - 1), 0);
    assert_int_equal(verified_due(all, DAY_MS, 1, now(e) + DAY_MS), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(what_was_read_last_and_when_all_of_it_was_is_known_over_restarts),
        ESTATES_TEST(parts_out_of_their_order_and_single_points_are_no_whole),
        ESTATES_TEST(a_part_is_due_each_day_and_all_of_them_in_their_time),
        ESTATES_TEST(other_parts_and_a_clock_that_was_set_back_hold_nothing_up_for_long),
    };
    return cmocka_run_group_tests_name("verified", tests, NULL, NULL);
}
