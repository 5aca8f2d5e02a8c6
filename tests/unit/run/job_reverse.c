// SPDX-License-Identifier: Apache-2.0
/* reprotect, at the site that has the machine now. */
#include "base/mem.h"
#include "support/expect.h"
#include "support/run/reverse.h"

static int reprotect(struct reverse *r, bool accept_branch, int64_t *ret_id)
{
    const struct job_reprotect spec = {
        .machine = "db1", .accept_branch = accept_branch, .who = "ann"};

    err_clear(&err);
    return jobs_reprotect(r->desk.jobs, &spec, ret_id, &err);
}

static int64_t reprotect_it(struct reverse *r)
{
    int64_t id = 0;

    EXPECT_OK(reprotect(r, false, &id));
    reverse_settle(r);
    return id;
}

static void committed(struct reverse *r)
{
    reverse_promote(r);
    reverse_recover(r);
    reverse_put_row(r, "replica", "committed", 2, ",\"writer_key\":\"00\"");
}

static void a_committed_machine_is_protected_the_other_way(void **state)
{
    struct reverse *r = *state;

    committed(r);
    reverse_deliver(r, 5, 5);
    reverse_answers(r, reverse_clean_side());
    reverse_answers(r, reverse_taken_over());
    int64_t id = reprotect_it(r);
    reverse_expect_job(r, id, "succeeded", "");
    reverse_expect_row(r, "source", "protected");
    reverse_expect_setting(r, "instance", "lyon-4");
}

static void it_is_done_when_the_other_site_has_applied_a_point(void **state)
{
    struct reverse *r = *state;

    committed(r);
    reverse_deliver(r, 5, 4);
    reverse_answers(r, reverse_clean_side());
    reverse_answers(r, reverse_taken_over());
    int64_t id = reprotect_it(r);
    reverse_later(r);
    reverse_expect_job(r, id, "running", "");
    reverse_expect_row(r, "source", "reprotecting");
    jobs_desk_stop(&r->desk);
    estates_restart_lyon(r->e);
    reverse_deliver(r, 5, 5);
    reverse_begin(r);
    EXPECT_OK(jobs_take_up(r->desk.jobs, &err));
    reverse_later(r);
    reverse_expect_job(r, id, "succeeded", "");
    reverse_expect_row(r, "source", "protected");
}

static void a_site_that_is_away_is_waited_for(void **state)
{
    struct reverse *r = *state;

    committed(r);
    reverse_deliver(r, 5, 5);
    reverse_answers(r, reverse_clean_side());
    reverse_answers(r, reverse_taken_over());
    r->away = true;
    int64_t id = reprotect_it(r);
    reverse_later(r);
    reverse_expect_job(r, id, "running", "");
    reverse_expect_note(r, id, 0, "waits: paris cannot be reached");
    reverse_restart(r);
    reverse_later(r);
    reverse_expect_note(r, id, 0, "waits: paris cannot be reached");
    r->away = false;
    reverse_later(r);
    reverse_expect_job(r, id, "succeeded", "");
}

static void a_branch_at_the_other_site_wants_a_persons_word(void **state)
{
    struct reverse *r = *state;
    int64_t id = 0;

    committed(r);
    reverse_deliver(r, 5, 5);
    reverse_answers(r, reverse_branched_side());
    id = reprotect_it(r);
    reverse_expect_job(r, id, "failed", "db1 may have written at paris after point 3");
    reverse_expect_job(r, id, "failed", "hint: `muster reprotect db1 --accept-branch`");
    reverse_expect_row(r, "replica", "committed");
    reverse_answers(r, reverse_taken_over());
    EXPECT_OK(reprotect(r, true, &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
    reverse_expect_row(r, "source", "protected");
}

static void a_site_that_was_promoted_since_is_not_written_over(void **state)
{
    struct reverse *r = *state;

    committed(r);
    reverse_answers(r, json_pack("{s:s, s:i}", "role", "replica", "generation", 3));
    int64_t id = reprotect_it(r);
    reverse_expect_job(r, id, "failed", "paris is at generation 3 of db1, this site is at 2");
    reverse_expect_row(r, "replica", "committed");
}

static void while_the_other_site_reads_its_disks_it_says_so(void **state)
{
    struct reverse *r = *state;

    committed(r);
    reverse_deliver(r, 5, 5);
    reverse_answers(r, reverse_clean_side());
    reverse_answers(r,
                    json_pack("{s:b, s:i, s:s}", "done", 0, "job", 7, "note", "reading the disks"));
    int64_t id = reprotect_it(r);
    reverse_expect_note(r, id, 1, "paris takes the disks over: reading the disks");
    reverse_expect_row(r, "replica", "reprotecting");
    reverse_answers(r, reverse_taken_over());
    reverse_restart(r);
    reverse_later(r); /* the old answer */
    reverse_later(r);
    reverse_later(r);
    reverse_expect_job(r, id, "succeeded", "");
}

static void a_site_that_cannot_follow_leaves_it_to_be_asked_for_again(void **state)
{
    struct reverse *r = *state;

    committed(r);
    reverse_deliver(r, 5, 5);
    reverse_answers(r, reverse_clean_side());
    int64_t id = 0;
    EXPECT_OK(reprotect(r, false, &id));
    jobs_desk_turn_end(&r->desk);
    reverse_answers(r, json_pack("{s:b, s:i, s:s}", "done", 0, "job", 7, "note", ""));
    reverse_settle(r);
    (void)err_set(&r->refusal, ERR_STATE, 0, "paris cannot become the replica: its disk is gone");
    reverse_later(r);
    reverse_expect_job(r, id, "failed", "its disk is gone");
    reverse_expect_row(r, "replica", "reprotecting-failed");
    err_clear(&r->refusal);
    (void)json_array_clear(r->answers);
    reverse_answers(r, reverse_clean_side());
    reverse_answers(r, reverse_taken_over());
    id = reprotect_it(r);
    reverse_expect_job(r, id, "succeeded", "");
    reverse_expect_row(r, "source", "protected");
}

static void only_what_is_committed_is_turned_round(void **state)
{
    struct reverse *r = *state;
    int64_t id;

    EXPECT_ERR(ERR_NOT_FOUND, reprotect(r, false, &id));
    reverse_put_row(r, "replica", "failed-over", 2, "");
    EXPECT_ERR(ERR_STATE, reprotect(r, false, &id));
    EXPECT_TEXT("hint: `muster commit db1` first");
    reverse_put_row(r, "source", "protected", 1, "");
    EXPECT_ERR(ERR_STATE, reprotect(r, false, &id));
    EXPECT_TEXT("db1 is protected here (source, paris): there is nothing to reverse");
}

static void two_at_once_are_refused(void **state)
{
    struct reverse *r = *state;
    int64_t id;

    committed(r);
    r->away = true;
    (void)reprotect_it(r);
    EXPECT_ERR(ERR_STATE, reprotect(r, false, &id));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REVERSE_TEST(a_committed_machine_is_protected_the_other_way),
        REVERSE_TEST(it_is_done_when_the_other_site_has_applied_a_point),
        REVERSE_TEST(a_site_that_is_away_is_waited_for),
        REVERSE_TEST(a_branch_at_the_other_site_wants_a_persons_word),
        REVERSE_TEST(a_site_that_was_promoted_since_is_not_written_over),
        REVERSE_TEST(while_the_other_site_reads_its_disks_it_says_so),
        REVERSE_TEST(a_site_that_cannot_follow_leaves_it_to_be_asked_for_again),
        REVERSE_TEST(only_what_is_committed_is_turned_round),
        REVERSE_TEST(two_at_once_are_refused),
    };
    return cmocka_run_group_tests_name("job_reverse", tests, NULL, NULL);
}
