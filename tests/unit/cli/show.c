// SPDX-License-Identifier: Apache-2.0
/* What a person reads, from canned answers: golden texts. Times are shown in UTC here. */
#include "cli/show.h"
#include "base/mem.h"
#include "cli/table.h"
#include "support/expect.h"

#include <stdlib.h>
#include <time.h>

#define NOW_MS 1772366400000 /* 2026-03-01T12:00:00Z */

static const struct look plain = {0};

static json_t *json_of(const char *text)
{
    json_t *json = NULL;

    EXPECT_OK(json_parse(text, strlen(text), &json, &err));
    return json;
}

static void status_of(const char *text, struct str *out)
{
    CLEANUP(json_freep) json_t *json = json_of(text);

    show_status(json, &plain, out);
}

static void expect_status(const char *text, const char *want)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;

    status_of(text, &out);
    assert_string_equal(str_text(&out), want);
}

/* --- Tables ------------------------------------------------------------------------------------ */

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    static const char *const columns[] = {"NAME", ">SIZE", "X", NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    table_add(table, "a");
    table_add(table, "1");
    table_add(table, "");
    table_add(table, "über");
    table_addf(table, "%d", 12345);
    table_add(table, "y");
    table_render(table, &out);
    assert_string_equal(str_text(&out), "NAME   SIZE  X\n"
                                        "a         1\n"
                                        "über  12345  y\n");
}

static void an_age_is_never_shown_younger_than_it_is(void **state)
{
    char buf[32];

    (void)state;
    assert_string_equal(text_age(1901, buf, sizeof(buf)), "2.0 s");
    assert_string_equal(text_age(1900, buf, sizeof(buf)), "1.9 s");
    assert_string_equal(text_age(999, buf, sizeof(buf)), "999 ms");
    assert_string_equal(text_age(-1, buf, sizeof(buf)), "-");
}

/* --- Status ------------------------------------------------------------------------------------ */

static void a_healthy_machine_takes_one_line_at_either_side(void **state)
{
    (void)state;
    expect_status(
        "[{\"name\":\"db1\",\"role\":\"source\",\"peer\":\"lyon\",\"state\":\"protected\","
        "\"session\":\"sending\",\"health\":\"healthy\",\"durable_age_ms\":1234,"
        "\"applied_age_ms\":2345,\"rpo_target_ms\":7000,\"interval_ms\":1000,\"durable_point\":42,"
        "\"durable_cut_ms\":1772366398766,\"pending_bytes\":1048576,\"rate_per_s\":2097152},"
        "{\"name\":\"web1\",\"role\":\"replica\",\"peer\":\"lyon\",\"state\":\"protected\","
        "\"health\":\"healthy\",\"durable_age_ms\":300,\"applied_age_ms\":300,"
        "\"interval_ms\":5000,\"rpo_target_ms\":60000,\"durable_point\":7,\"durable_cut_ms\":1772366399700}]",
        "NAME  SITE       STATE      HEALTH   RPO NOW  TARGET   READY  EVERY  POINT           PENDING"
        "       RATE\n"
        "db1   to lyon    protected  healthy    1.3 s   7.0 s   2.4 s  1.0 s  42 of 11:59:58  1.0 MiB  2.0 "
        "MiB/s\n"
        "web1  from lyon  protected  healthy   300 ms     1 m  300 ms  5.0 s  7 of 11:59:59         -       "
        "   -\n");
}

static void an_error_says_since_when_and_when_next(void **state)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    status_of(
        "[{\"name\":\"db1\",\"role\":\"source\",\"peer\":\"lyon\",\"state\":\"protected\","
        "\"session\":\"backing-off\",\"health\":\"critical\",\"health_reasons\":[{"
        "\"level\":\"critical\",\"since_ms\":1772366107000,\"reason\":\"the newest point is 5 m "
        "old, the RPO target is 7.0 s\",\"hint\":\"\"},{\"level\":\"warning\",\"since_ms\":"
        "1772366101000,\"reason\":\"replication failed and is tried again: lyon: connect "
        "127.0.0.2:7700: refused\",\"hint\":\"is its daemon up?\"}],\"durable_age_ms\":300000,"
        "\"applied_age_ms\":300000,\"interval_ms\":1000,\"durable_point\":42,"
        "\"durable_cut_ms\":1772366100000,\"pending_bytes\":0,\"rate_per_s\":0,"
        "\"error\":{\"code\":\"net\",\"message\":\"lyon: connect 127.0.0.2:7700: refused\","
        "\"hint\":\"is its daemon up?\"},\"error_since_ms\":1772366101000,"
        "\"retry_at_ms\":1772366520000,\"failures\":3}]",
        &out);
    assert_non_null(strstr(str_text(&out), "db1   to lyon  backing-off  critical"));
    assert_non_null(strstr(
        str_text(&out), "  db1: critical since 2026-03-01 11:55:07: the newest point is 5 m old, "
                        "the RPO target is 7.0 s\n"
                        "  db1: warning since 2026-03-01 11:55:01: replication failed and is tried "
                        "again: lyon: connect 127.0.0.2:7700: refused\n"
                        "  db1: hint: is its daemon up?\n"
                        "  db1: since 2026-03-01 11:55:01, 3 failures in a row; "
                        "tried again at 12:02:00, or now by `muster retry db1`\n"));
}

static void a_critical_error_says_that_nobody_tries_again(void **state)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    status_of("[{\"name\":\"db1\",\"role\":\"source\",\"peer\":\"lyon\",\"state\":\"protected\","
              "\"session\":\"critical\",\"health\":\"critical\","
              "\"error\":{\"code\":\"corrupt\",\"message\":\"the chain is broken\"},"
              "\"error_since_ms\":1772366101000,\"retry_at_ms\":0,\"failures\":1}]",
              &out);
    assert_non_null(strstr(str_text(&out), "not tried again by itself: `muster retry db1`"));
}

static void an_initial_copy_shows_each_disk_and_the_time_left(void **state)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    status_of("[{\"name\":\"db1\",\"role\":\"source\",\"peer\":\"lyon\",\"state\":\"initial-copy\","
              "\"session\":\"copying\",\"health\":\"not-applicable\",\"durable_age_ms\":-1,"
              "\"applied_age_ms\":-1,\"interval_ms\":1000,\"durable_point\":0,"
              "\"pending_bytes\":0,\"rate_per_s\":10485760,\"left_ms\":5200,\"disks\":["
              "{\"name\":\"vda\",\"size\":67108864,\"total\":67108864,\"done\":12582912},"
              "{\"name\":\"vdb\",\"size\":1024,\"total\":0,\"done\":0}]}]",
              &out);
    assert_non_null(strstr(str_text(&out), "db1   to lyon  initial-copy  not-applicable        -"));
    assert_non_null(strstr(str_text(&out),
                           "  db1: initial copy of vda: 12.0 MiB of 64.0 MiB (18 %)\n"
                           "  db1: initial copy of vdb: 0 B of 0 B (0 %)\n"
                           "  db1: about 5.2 s left\n"));
}

static void every_state_and_health_is_shown_by_its_own_word(void **state)
{
    static const char *const sessions[] = {"copying",         "protected", "sending", "resyncing",
                                           "backing-off",     "critical",  "fenced",  "paused",
                                           "resync-required", "scheduled"};
    static const char *const healths[] = {"healthy", "warning", "critical", "not-applicable"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sessions); i++) {
        for (size_t k = 0; k < ARRAY_LEN(healths); k++) {
            CLEANUP(str_free) struct str out = STR_EMPTY;
            CLEANUP(mem_freep)
            char *text = mem_printf("[{\"name\":\"a\",\"role\":\"source\",\"peer\":\"b\",\"state\":"
                                    "\"protected\",\"session\":\"%s\",\"health\":\"%s\"}]",
                                    sessions[i], healths[k]);
            CLEANUP(mem_freep)
            char *want = mem_printf("a     to b  %s",
                                    str_eq(sessions[i], "sending") ? "protected" : sessions[i]);

            status_of(text, &out);
            assert_non_null(strstr(str_text(&out), want));
            assert_non_null(strstr(str_text(&out), healths[k]));
        }
    }
}

static void a_machine_that_was_failed_over_has_no_rpo(void **state)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    status_of(
        "[{\"name\":\"db1\",\"role\":\"replica\",\"peer\":\"paris\",\"state\":\"failed-over\","
        "\"health\":\"not-applicable\",\"durable_age_ms\":99000,\"applied_age_ms\":99000,"
        "\"interval_ms\":1000,\"durable_point\":9,\"durable_cut_ms\":1772366400000}]",
        &out);
    assert_non_null(
        strstr(str_text(&out), "not-applicable        -       -      -  1.0 s  9 of 12:00:00"));
}

static void colours_are_not_counted_as_width(void **state)
{
    CLEANUP(json_freep)
    json_t *json = json_of("[{\"name\":\"a\",\"peer\":\"b\",\"state\":\"protected\",\"health\":"
                           "\"healthy\"},{\"name\":\"c\",\"peer\":\"d\",\"state\":\"protected\","
                           "\"health\":\"critical\"}]");
    CLEANUP(str_free) struct str out = STR_EMPTY;
    const struct look look = {.colour = true};

    (void)state;
    show_status(json, &look, &out);
    assert_non_null(strstr(str_text(&out), "\033[32mhealthy\033[0m         -"));
    assert_non_null(strstr(str_text(&out), "\033[31mcritical\033[0m        -"));
}

static void nothing_protected_says_what_to_do(void **state)
{
    (void)state;
    expect_status("[]", "No machine is protected yet. `muster protect NAME --to SITE` protects "
                        "one.\n");
}

/* --- Points ------------------------------------------------------------------------------------ */

static void points_are_listed_with_age_and_state(void **state)
{
    CLEANUP(json_freep)
    json_t *json = json_of(
        "[{\"point\":12,\"generation\":2,\"cut_ms\":1772366399000,\"age_ms\":1000,\"consistency\":"
        "\"crash\",\"applied\":true,\"promotion\":true,\"why\":\"newest\",\"pins\":[],\"bytes\":0},"
        "{\"point\":11,\"generation\":1,\"cut_ms\":1772366398000,\"age_ms\":2000,\"stall_us\":70100,\"consistency\":"
        "\"application\",\"applied\":true,\"promotion\":false,\"why\":\"held\",\"pins\":[\"person upgrade\",\"run lyon-3\"],"
        "\"bytes\":774758,\"undo_bytes\":2048},"
        "{\"point\":10,\"generation\":1,\"cut_ms\":1772366397000,\"age_ms\":3000,\"stall_us\":3000,\"consistency\":"
        "\"crash\",\"applied\":false,\"promotion\":false,\"why\":\"tier\",\"every_ms\":3600000,"
        "\"bytes\":1024}]");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_points(json, &out);
    assert_string_equal(
        str_text(&out),
        "POINT  CUT AT                 AGE       SIZE     UNDO  GEN  CONSISTENT   STALL  STATE                  "
        "KEPT\n"
        "   12  2026-03-01 11:59:59  1.0 s        0 B      0 B    2  crash         0 ms  promotion              "
        "newest\n"
        "   11  2026-03-01 11:59:58  2.0 s  756.6 KiB  2.0 KiB    1  application  71 ms  ready                  "
        "pinned as upgrade, held by run lyon-3\n"
        "   10  2026-03-01 11:59:57  3.0 s    1.0 KiB      0 B    1  crash         3 ms  safe, not yet applied  "
        "one per 1 h\n");
}

static void a_prune_says_what_goes_and_why_the_rest_stays(void **state)
{
    CLEANUP(json_freep)
    json_t *reply = json_of(
        "{\"name\":\"db1\",\"dry_run\":true,\"removed\":0,\"points\":["
        "{\"point\":12,\"cut_ms\":1772366399000,\"age_ms\":1000,\"why\":\"newest\",\"pins\":[]},"
        "{\"point\":11,\"cut_ms\":1772366398000,\"age_ms\":2000,\"why\":\"goes\",\"pins\":[],"
        "\"undo_bytes\":2048}]}");
    CLEANUP(str_free) struct str dry = STR_EMPTY;
    CLEANUP(str_free) struct str done = STR_EMPTY;

    (void)state;
    show_prune(reply, &dry);
    assert_non_null(strstr(str_text(&dry), "stays     newest\n"));
    assert_non_null(strstr(str_text(&dry), "2.0 KiB  would go\n"));
    assert_non_null(strstr(str_text(&dry), "1 would go. Nothing was removed.\n"));
    (void)json_object_set_new(reply, "dry_run", json_false());
    (void)json_object_set_new(reply, "removed", json_integer(1));
    show_prune(reply, &done);
    assert_non_null(strstr(str_text(&done), "gone"));
    assert_non_null(strstr(str_text(&done), "Removed 1."));
}

static void what_is_packed_and_when_the_guest_is_frozen_next_is_shown(void **state)
{
    CLEANUP(json_freep)
    json_t *sent =
        json_of("{\"name\":\"db1\",\"role\":\"source\",\"peer\":\"lyon\",\"session\":\"protected\","
                "\"packing\":\"zstd\",\"packed_percent\":43,\"application_ms\":3600000,"
                "\"application_next_ms\":1772366399000,\"application_failing_ms\":1772366398000,"
                "\"application_note\":\"no agent\"}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_protection(sent, &out);
    assert_non_null(strstr(str_text(&out), "packing      zstd, to 43 % of its size\n"));
    assert_non_null(strstr(str_text(&out), "application  none yet\n             one every 1 h, "
                                           "the next from 2026-03-01 11:59:59 on\n"));
    assert_non_null(strstr(str_text(&out), "none since 2026-03-01 11:59:58: no agent\n"));
    assert_null(strstr(str_text(&out), "verified"));
}

static void what_was_read_of_a_replica_is_shown(void **state)
{
    CLEANUP(json_freep)
    json_t *never = json_of("{\"name\":\"db1\",\"role\":\"replica\",\"peer\":\"paris\","
                            "\"verify_ms\":604800000}");
    CLEANUP(json_freep)
    json_t *part =
        json_of("{\"name\":\"db1\",\"role\":\"replica\",\"peer\":\"paris\",\"verified\":"
                "{\"at_ms\":1772366399000,\"subset\":3,\"of\":7,\"damaged_head\":2,\"whole_ms\":"
                "1772366398000,\"pass\":{\"of\":7,\"done\":3}}}");
    CLEANUP(str_free) struct str one = STR_EMPTY;
    CLEANUP(str_free) struct str other = STR_EMPTY;

    (void)state;
    show_protection(never, &one);
    assert_non_null(
        strstr(str_text(&one), "verified     never yet, by itself all of it every 7 d\n"));
    show_protection(part, &other);
    assert_non_null(
        strstr(str_text(&other),
               "verified     at 2026-03-01 11:59:59, part 3 of 7: 2 chunks or files were "
               "damaged\n             all of it: 2026-03-01 11:59:58; 3 of 7 parts "
               "since\n"));
}

static void what_nobody_counts_any_more_is_shown_as_unknown(void **state)
{
    CLEANUP(json_freep)
    json_t *held = json_of("{\"name\":\"db1\",\"role\":\"source\",\"peer\":\"lyon\",\"state\":"
                           "\"failing-over\",\"session\":\"paused\",\"pending_bytes\":-1}");
    CLEANUP(json_freep) json_t *list = json_pack("[O]", held);
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_protection(held, &out);
    assert_non_null(strstr(str_text(&out), "pending      -, sent at"));
    str_clear(&out);
    show_status(list, &plain, &out);
    assert_null(strstr(str_text(&out), "  0 B")); /* neither pending nor a rate is claimed */
}

/* --- Runs -------------------------------------------------------------------------------------- */

#define RUN_HEAD                                                                      \
    "{\"id\":7,\"plan\":\"shop\",\"kind\":\"planned\",\"declared_ms\":1772366390000," \
    "\"machines\":{},"
#define STEP_DONE                                                                        \
    "{\"index\":0,\"stage\":\"Database\",\"title\":\"Bring up db1\",\"state\":\"done\"," \
    "\"started_ms\":1772366391000,\"ended_ms\":1772366393100,\"attempts\":1,\"error\":\"\"}"
#define STEP_WAITING                                                                    \
    "{\"index\":1,\"stage\":\"Web\",\"title\":\"Bring up web1\",\"state\":\"waiting\"," \
    "\"started_ms\":0,\"ended_ms\":0,\"attempts\":0,\"error\":\"\",\"point_of_no_return\":true}"
#define STEP_FAILED                                                                     \
    "{\"index\":1,\"stage\":\"Web\",\"title\":\"Bring up web1\",\"state\":\"failed\","  \
    "\"started_ms\":1772366393100,\"ended_ms\":1772366399100,\"attempts\":3,\"error\":" \
    "\"web1: no agent answers; hint: look at its console\",\"error_code\":\"timeout\"}"
#define STEP_LEFT_OUT \
    "{\"index\":2,\"stage\":\"Users\",\"title\":\"Point DNS here\",\"state\":\"left-out\"}"

#define NEXT_COMMIT                                                                           \
    "  next: `muster commit 7` makes it final and protects it to the other site; until then " \
    "`muster rollback 7` or `muster change-point 7 --point N`\n"

static void a_run_is_a_tree_of_stages_and_steps(void **state)
{
    CLEANUP(json_freep)
    json_t *run = json_of(RUN_HEAD "\"state\":\"running\",\"active\":true,\"steps\":[" STEP_DONE
                                   "," STEP_WAITING "," STEP_LEFT_OUT "]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run(run, NOW_MS, &plain, &out);
    assert_string_equal(str_text(&out),
                        "Run 7 of shop (planned): running, 10.0 s\n"
                        "  Database\n"
                        "    + Bring up db1                                                 2.1 s\n"
                        "  Web\n"
                        "    . Bring up web1                                             (point of "
                        "no return)\n");
}

static void a_step_that_did_not_reach_all_is_no_tick(void **state)
{
    CLEANUP(json_freep)
    json_t *run =
        json_of(RUN_HEAD "\"state\":\"awaiting-commit\",\"steps\":[{\"index\":0,\"stage\":"
                         "\"Recover\",\"title\":\"Retire the old side of db1\",\"state\":"
                         "\"done\",\"started_ms\":1772366391000,\"ended_ms\":1772366393100,"
                         "\"attempts\":1,\"error\":\"\",\"actions\":[{\"result\":{\"warning\":"
                         "\"db1 may still run at paris\"}}]}]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run(run, NOW_MS, &plain, &out);
    assert_non_null(strstr(str_text(&out), "    ! Retire the old side of db1"));
    assert_non_null(strstr(str_text(&out), "      warning: db1 may still run at paris\n"));
    str_clear(&out);
    show_run_end(run, &out);
    assert_non_null(strstr(str_text(&out), "  warning: Retire the old side of db1: db1 may still"));
}

static void only_what_changed_makes_a_line(void **state)
{
    CLEANUP(json_freep)
    json_t *before = json_of(RUN_HEAD "\"state\":\"running\",\"active\":true,\"steps\":[" STEP_DONE
                                      "," STEP_WAITING "," STEP_LEFT_OUT "]}");
    CLEANUP(json_freep)
    json_t *after = json_of(RUN_HEAD "\"state\":\"failed\",\"active\":false,\"reason\":\"Bring up "
                                     "web1 failed\",\"steps\":[" STEP_DONE "," STEP_FAILED
                                     "," STEP_LEFT_OUT "]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run_changes(before, after, NOW_MS, &out);
    assert_string_equal(str_text(&out), "12:00:00  failed    Web: Bring up web1 (6.0 s)\n"
                                        "                    web1: no agent answers\n"
                                        "                    hint: look at its console\n"
                                        "12:00:00  run 7 is failed: Bring up web1 failed\n");
    str_clear(&out);
    show_run_changes(after, after, NOW_MS, &out);
    assert_string_equal(str_text(&out), "");
}

static void the_end_compares_with_what_was_promised(void **state)
{
    CLEANUP(json_freep)
    json_t *run = json_of(
        RUN_HEAD "\"state\":\"awaiting-commit\",\"ended_ms\":1772366399100,\"steps\":[" STEP_DONE
                 "," STEP_FAILED "],\"report\":{\"rto_ms\":9100,"
                 "\"rto_goal_ms\":900000,\"rpo_ms\":31000,\"rpo_goal_ms\":30000,"
                 "\"leftovers\":[\"overlay /x\"]}}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run_end(run, &out);
    assert_string_equal(str_text(&out), "Run 7 of shop (planned): awaiting-commit, 9.1 s\n"
                                        "  RTO  9.1 s, promised 15 m: kept\n"
                                        "  RPO  31.0 s, promised 30.0 s: BROKEN\n"
                                        "  failed: Web: Bring up web1\n"
                                        "    web1: no agent answers\n"
                                        "    hint: look at its console\n"
                                        "  left behind: overlay /x\n" NEXT_COMMIT);
}

static void expect_end(const char *run_text, const char *want)
{
    CLEANUP(json_freep) json_t *run = json_of(run_text);
    CLEANUP(str_free) struct str out = STR_EMPTY;

    show_run_end(run, &out);
    if (!strstr(str_text(&out), want))
        fail_msg("no \"%s\" in:\n%s", want, str_text(&out));
}

static void a_failed_failover_says_how_to_go_on_or_back(void **state)
{
    (void)state;
    expect_end(RUN_HEAD "\"state\":\"failed\",\"cancellable\":true,\"steps\":[" STEP_FAILED "]}",
               "  next: mend that and start the failover again: it goes on where it stopped; or "
               "`muster run cancel 7`: what was done is taken back");
    expect_end(
        RUN_HEAD "\"state\":\"failed\",\"cancellable\":false,\"past_no_return\":true,"
                 "\"steps\":[" STEP_FAILED "]}",
        "this site is the writer now: `muster commit 7` leaves it so, `muster rollback` takes "
        "it back\n");
}

static void what_follows_a_failover_is_said_again_about_it(void **state)
{
    (void)state;
    expect_end(
        "{\"id\":8,\"kind\":\"rollback\",\"of_run\":7,\"state\":\"failed\",\"steps\":[" STEP_FAILED
        "]}",
        "`muster rollback 7` tries again\n");
    expect_end("{\"id\":8,\"kind\":\"change-point\",\"of_run\":7,\"state\":\"failed\","
               "\"steps\":[" STEP_FAILED "]}",
               "`muster change-point 7 --point N` tries again\n");
}

static void a_commit_promises_no_time(void **state)
{
    CLEANUP(json_freep)
    json_t *run =
        json_of("{\"id\":8,\"kind\":\"commit\",\"state\":\"succeeded\",\"outcome\":\"succeeded\","
                "\"steps\":[],\"report\":{\"rto_ms\":2,\"rto_goal_ms\":900000,"
                "\"rpo_ms\":31000,\"rpo_goal_ms\":30000}}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run_end(run, &out);
    assert_null(strstr(str_text(&out), "RTO"));
    assert_null(strstr(str_text(&out), "RPO"));
}

static void what_came_back_to_its_own_disks_is_offered_no_rollback(void **state)
{
    CLEANUP(json_freep)
    json_t *run = json_of("{\"id\":7,\"kind\":\"unplanned\",\"state\":\"awaiting-commit\","
                          "\"reversible\":false,\"steps\":[]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run_end(run, &out);
    assert_non_null(strstr(str_text(&out), "`muster commit 7` makes it final"));
    assert_null(strstr(str_text(&out), "rollback"));
}

static void a_failed_cleanup_names_the_test_to_clean(void **state)
{
    (void)state;
    expect_end(
        "{\"id\":8,\"kind\":\"cleanup\",\"of_run\":6,\"state\":\"failed\",\"steps\":[" STEP_FAILED
        "]}",
        "`muster cleanup 6` tries again\n");
}

static void a_paused_run_names_the_step_it_waits_for(void **state)
{
    CLEANUP(json_freep)
    json_t *run = json_of(RUN_HEAD "\"state\":\"paused\",\"active\":true,\"steps\":[" STEP_DONE
                                   "," STEP_FAILED "]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run(run, NOW_MS, &plain, &out);
    assert_non_null(strstr(str_text(&out), "\n  next: `muster run retry 7 --step 2`, `skip` with "
                                           "a --reason, or `fail`; `muster run cancel 7` ends"));
}

static void a_run_that_asks_shows_question_and_answers(void **state)
{
    CLEANUP(json_freep)
    json_t *run = json_of(
        RUN_HEAD "\"state\":\"paused\",\"active\":true,\"steps\":[{\"index\":0,\"stage\":\"Open\","
                 "\"title\":\"Ask\",\"state\":\"asking\",\"asks\":{\"question\":\"Well?\",\"by\":"
                 "\"ada\",\"until_ms\":1772366399100,\"silence\":\"deny\"}}]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_run(run, NOW_MS, &plain, &out);
    assert_non_null(strstr(str_text(&out), "    ? Ask\n      \"Well?\" ada answers until "));
    assert_non_null(strstr(str_text(&out), "; without an answer it is denied\n"));
    assert_non_null(strstr(str_text(&out), "  next: `muster run approve 7 --step 1` or `muster run"
                                           " deny 7 --step 1`\n"));
}

static void no_promise_is_kept_by_a_test_that_failed(void **state)
{
    (void)state;
    expect_end("{\"id\":7,\"kind\":\"test\",\"state\":\"cleanup-due\",\"outcome\":\"failed\","
               "\"steps\":[" STEP_FAILED "],\"report\":{\"rto_ms\":-1,\"rto_goal_ms\":900000,"
               "\"rpo_ms\":-1}}",
               "\n  RTO  not reached, promised 15 m\n");
}

static void a_preview_names_the_bound_of_the_loss(void **state)
{
    CLEANUP(json_freep)
    json_t *preview = json_of(
        "{\"plan\":\"shop\",\"kind\":\"unplanned\",\"machines\":[{\"machine\":\"db1\",\"peer\":"
        "\"paris\",\"durable_point\":42,\"durable_age_ms\":3210,\"loss_bound_ms\":3210,"
        "\"peer_answers\":false}],\"warnings\":[\"paris does not answer\"]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_preview(preview, &out);
    assert_string_equal(str_text(&out),
                        "MACHINE  FROM   NEWEST POINT    AGE  LOSS AT MOST  SOURCE\n"
                        "db1      paris            42  3.3 s         3.3 s  does not answer\n"
                        "warning: paris does not answer\n");
}

/* --- Jobs -------------------------------------------------------------------------------------- */

#define JOB(done, rate)                                                                       \
    "{\"id\":3,\"kind\":\"protect\",\"object\":\"db1\",\"state\":\"running\",\"tasks\":["     \
    "{\"name\":\"check prerequisites\",\"state\":\"done\",\"started_ms\":1772366390000,"      \
    "\"ended_ms\":1772366390200,\"error\":\"\",\"note\":\"\"},"                               \
    "{\"name\":\"initial copy\",\"state\":\"running\",\"started_ms\":1772366390200,"          \
    "\"ended_ms\":0,\"done\":" #done ",\"total\":67108864,\"unit\":\"bytes\",\"error\":\"\"," \
    "\"note\":\"\",\"rate_per_s\":" #rate ",\"left_ms\":5200},"                               \
    "{\"name\":\"finalize\",\"state\":\"waiting\",\"started_ms\":0,\"ended_ms\":0}]}"

static void a_job_shows_its_tasks_with_progress(void **state)
{
    CLEANUP(json_freep) json_t *job = json_of(JOB(12582912, 10485760));
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_job(job, NOW_MS, &plain, &out);
    assert_string_equal(
        str_text(&out),
        "Job 3, protect of db1: running\n"
        "  + check prerequisites       200 ms  2026-03-01 11:59:50 to 11:59:50\n"
        "  > initial copy               9.8 s  2026-03-01 11:59:50  12.0 MiB of 64.0 "
        "MiB (18 %), 10.0 MiB/s, 5.2 s left\n"
        "  . finalize\n");
}

static void what_is_not_met_is_shown_with_both_numbers_and_what_to_do(void **state)
{
    CLEANUP(json_freep)
    json_t *checks = json_of(
        "[{\"what\":\"disk vda\",\"site\":\"paris\",\"state\":\"ok\",\"needed\":\"raw or qcow2\","
        "\"found\":\"raw, 1.0 MiB\",\"text\":\"\",\"hint\":\"\"},{\"what\":\"memory\",\"site\":\"lyon\","
        "\"state\":\"failed\",\"needed\":\"8.0 GiB\",\"found\":\"4.0 GiB\",\"text\":\"too little\","
        "\"hint\":\"give it more\"},{\"what\":\"peer\",\"site\":\"lyon\",\"state\":\"warning\",\"text\":"
        "\"slow\"}]");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_checks(checks, "  ", &out);
    assert_string_equal(str_text(&out), "  CHECK     AT     NEEDED        FOUND         RESULT\n"
                                        "  disk vda  paris  raw or qcow2  raw, 1.0 MiB  ok\n"
                                        "  memory    lyon   8.0 GiB       4.0 GiB       failed\n"
                                        "  peer      lyon   -             -             warning\n"
                                        "  failed: too little\n"
                                        "    hint: give it more\n"
                                        "  warning: slow\n");
}

static void a_log_gets_a_line_for_each_tenth_not_for_each_look(void **state)
{
    CLEANUP(json_freep) json_t *first = json_of(JOB(12582912, 10485760));
    CLEANUP(json_freep) json_t *same = json_of(JOB(12582999, 10485760));
    CLEANUP(json_freep) json_t *more = json_of(JOB(20582912, 10485760));
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_job_changes(first, same, NOW_MS, &out);
    assert_string_equal(str_text(&out), "");
    show_job_changes(same, more, NOW_MS, &out);
    assert_string_equal(str_text(&out),
                        "12:00:00  running   initial copy: 19.6 MiB of 64.0 MiB (30 "
                        "%), 10.0 MiB/s, 5.2 s left\n");
}

/* --- A replica's folder ------------------------------------------------------------------------ */

static void a_replica_is_shown_with_all_that_is_wrong_and_its_newest_point_first(void **state)
{
    CLEANUP(json_freep)
    json_t *report = json_of(
        "{\"group\":\"db1\",\"state\":\"ready\",\"in_use\":false,\"generation\":2,"
        "\"applied\":5,\"applying\":6,\"encryption\":\"at-rest\",\"site\":\"rome\","
        "\"followed\":null,\"machines\":{\"db1\":{\"cpus\":2}},\"disks\":[{\"name\":\"vda\","
        "\"size\":1048576,\"head\":\"luks\",\"path\":\"/r/vda/head.luks\",\"own\":false,"
        "\"held\":3145728}],\"points\":[{\"point\":4,\"cut_ms\":1772366340000,\"stall_us\":6500,\"generation\":1,"
        "\"consistency\":\"crash\",\"bytes\":4096,\"applied\":true,\"pins\":[\"lyon-4\",\"by-hand.drill\"],\"promotion\":false},{\"point\":5,\"cut_ms\":1772366370000,"
        "\"generation\":2,\"consistency\":\"crash\",\"bytes\":0,\"applied\":true,"
        "\"pins\":[],\"promotion\":true}],"
        "\"protection\":{\"peer\":\"paris\",\"state\":\"protected\","
        "\"settings\":{\"interval_ms\":15000,\"keep\":24}},\"faults\":[\"/r/pins: damaged\"]}");
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_replica(report, NOW_MS, &out);
    assert_string_equal(
        str_text(&out),
        "group        db1\n"
        "state        ready; head is at point 5, on its way to 6\n"
        "from         paris\n"
        "generation   2\n"
        "encryption   at rest: the disks are LUKS containers\n"
        "settings     a point every 15.0 s, 24 kept; the protection was protected\n"
        "disks        vda, 1.0 MiB, luks, takes 3.0 MiB: /r/vda/head.luks\n"
        "machines     db1 {\"cpus\":2}\n"
        "\n"
        "POINT  CUT AT                  AGE     SIZE  UNDO  GEN  CONSISTENT  STALL  STATE      KEPT\n"
        "    5  2026-03-01 11:59:30  30.0 s      0 B   0 B    2  crash        0 ms  promotion\n"
        "    4  2026-03-01 11:59:00     1 m  4.0 KiB   0 B    1  crash        7 ms  ready      held by run lyon-4, pinned as drill\n"
        "\n"
        "Damaged or missing:\n"
        "  /r/pins: damaged\n");
}

static void a_group_of_several_names_its_machines(void **state)
{
    CLEANUP(json_freep)
    json_t *shop = json_of("{\"name\":\"shop\",\"machines\":[\"db1\",\"web1\"],\"peer\":\"lyon\","
                           "\"role\":\"source\",\"state\":\"protected\"}");
    CLEANUP(json_freep) json_t *list = json_pack("[O]", shop);
    CLEANUP(str_free) struct str out = STR_EMPTY;

    (void)state;
    show_protection(shop, &out);
    assert_non_null(strstr(str_text(&out), "group        shop\nmachines     db1, web1\n"));
    str_clear(&out);
    show_status(list, &plain, &out);
    assert_non_null(strstr(str_text(&out), "  shop: the machines db1, web1\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_group_of_several_names_its_machines),
        cmocka_unit_test(a_replica_is_shown_with_all_that_is_wrong_and_its_newest_point_first),
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(an_age_is_never_shown_younger_than_it_is),
        cmocka_unit_test(a_healthy_machine_takes_one_line_at_either_side),
        cmocka_unit_test(an_error_says_since_when_and_when_next),
        cmocka_unit_test(a_critical_error_says_that_nobody_tries_again),
        cmocka_unit_test(an_initial_copy_shows_each_disk_and_the_time_left),
        cmocka_unit_test(every_state_and_health_is_shown_by_its_own_word),
        cmocka_unit_test(a_machine_that_was_failed_over_has_no_rpo),
        cmocka_unit_test(colours_are_not_counted_as_width),
        cmocka_unit_test(nothing_protected_says_what_to_do),
        cmocka_unit_test(points_are_listed_with_age_and_state),
        cmocka_unit_test(a_prune_says_what_goes_and_why_the_rest_stays),
        cmocka_unit_test(what_is_packed_and_when_the_guest_is_frozen_next_is_shown),
        cmocka_unit_test(what_was_read_of_a_replica_is_shown),
        cmocka_unit_test(what_nobody_counts_any_more_is_shown_as_unknown),
        cmocka_unit_test(a_run_is_a_tree_of_stages_and_steps),
        cmocka_unit_test(a_step_that_did_not_reach_all_is_no_tick),
        cmocka_unit_test(only_what_changed_makes_a_line),
        cmocka_unit_test(the_end_compares_with_what_was_promised),
        cmocka_unit_test(a_failed_failover_says_how_to_go_on_or_back),
        cmocka_unit_test(what_follows_a_failover_is_said_again_about_it),
        cmocka_unit_test(a_commit_promises_no_time),
        cmocka_unit_test(what_came_back_to_its_own_disks_is_offered_no_rollback),
        cmocka_unit_test(a_failed_cleanup_names_the_test_to_clean),
        cmocka_unit_test(a_paused_run_names_the_step_it_waits_for),
        cmocka_unit_test(a_run_that_asks_shows_question_and_answers),
        cmocka_unit_test(no_promise_is_kept_by_a_test_that_failed),
        cmocka_unit_test(a_preview_names_the_bound_of_the_loss),
        cmocka_unit_test(a_job_shows_its_tasks_with_progress),
        cmocka_unit_test(what_is_not_met_is_shown_with_both_numbers_and_what_to_do),
        cmocka_unit_test(a_log_gets_a_line_for_each_tenth_not_for_each_look),
    };

    (void)setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests_name("show", tests, NULL, NULL);
}
