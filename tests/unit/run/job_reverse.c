// SPDX-License-Identifier: Apache-2.0
/* The two jobs that turn a protection round: reprotect at the site that has the machine now, follow at
 * the one that had it. Real stores and rows; the other site is a pipe. */
#include "base/fs.h"
#include "base/mem.h"
#include "replica/manifest.h"
#include "run/job.h"
#include "support/expect.h"
#include "support/run/jobs_desk.h"
#include "support/sites/estates.h"
#include "sync/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>

struct reverse {
    struct estates *e;
    struct jobs_desk desk;
    bool away;
    struct err refusal; /* ERR_NONE: it answers */
    json_t *answers;    /* one after another; the last one stays */
    struct sha256 newest;
};

/* --- The other site ---------------------------------------------------------------------------- */

static int open_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *e)
{
    struct reverse *r = ctx;

    (void)cancel;
    if (r->away)
        return err_set(e, ERR_NET, 0, "%s cannot be reached", peer);
    CLEANUP(json_freep) json_t *answer = json_incref(json_array_get(r->answers, 0));
    if (json_array_size(r->answers) > 1)
        (void)json_array_remove(r->answers, 0);
    *ret_link = jobs_desk_link(&r->desk, peer, answer, r->refusal.code ? &r->refusal : NULL);
    return 0;
}

/* `answer` is taken. */
static void answers(struct reverse *r, json_t *answer)
{
    (void)json_array_append_new(r->answers, answer);
}

static json_t *clean_side(void)
{
    return json_pack("{s:s, s:i, s:i}", "role", "source", "generation", 1, "final_point", 3);
}

static json_t *branched_side(void)
{
    return json_pack("{s:s, s:i, s:i, s:i}", "role", "source", "generation", 1, "final_point", 0,
                     "durable_point", 3);
}

static json_t *taken_over(void)
{
    return json_pack("{s:b}", "done", 1);
}

/* --- This site ----------------------------------------------------------------------------------- */

static void begin(struct reverse *r)
{
    struct jobs_world world = {.estate = r->e->lyon,
                               .here = r->e->at_lyon,
                               .dir = r->e->root,
                               .ctx = r,
                               .open_link = open_link};

    memset(world.writer_key, 0xab, sizeof(world.writer_key));
    jobs_desk_start(&r->desk, &world);
}

static void restart(struct reverse *r)
{
    jobs_desk_stop(&r->desk);
    estates_restart_lyon(r->e);
    begin(r);
    EXPECT_OK(jobs_take_up(r->desk.jobs, &err));
}

static void settle(struct reverse *r)
{
    jobs_desk_settle(&r->desk);
}

static void later(struct reverse *r)
{
    clock_fake_advance(&r->desk.clock, 5000);
    settle(r);
}

static void put_row(struct reverse *r, const char *role, const char *state, uint64_t generation,
                    const char *more)
{
    CLEANUP(mem_freep)
    char *settings =
        mem_printf("{\"interval_ms\":1000,\"keep\":5,\"compression\":\"zstd\"%s}", more);
    CLEANUP(state_protection_done)
    struct state_protection row = {.group = mem_strdup("db1"),
                                   .peer = mem_strdup("paris"),
                                   .role = mem_strdup(role),
                                   .state = mem_strdup(state),
                                   .settings = mem_strdup(settings),
                                   .generation = generation};

    EXPECT_OK(state_protection_put(r->desk.state, &row, &err));
    EXPECT_OK(state_turn_end(r->desk.state, &err));
}

static void expect_row(struct reverse *r, const char *role, const char *state)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    EXPECT_OK(state_protection_get(r->desk.state, "db1", &row, &err));
    assert_string_equal(row.role, role);
    assert_string_equal(row.state, state);
}

/* "" when it is not there. Of the row. */
static char *setting(struct reverse *r, const char *name)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(state_protection_get(r->desk.state, "db1", &row, &err));
    EXPECT_OK(json_parse(row.settings, strlen(row.settings), &json, &err));
    return mem_strdup(json_get_str(json, name, ""));
}

static void expect_setting(struct reverse *r, const char *name, const char *want)
{
    CLEANUP(mem_freep) char *have = setting(r, name);

    assert_string_equal(have, want);
}

static void expect_job(struct reverse *r, int64_t id, const char *state, const char *error_part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(r->desk.jobs, id, &json, &err));
    if (strcmp(json_get_str(json, "state", ""), state) != 0
        || !strstr(json_get_str(json, "error", ""), error_part))
        fail_msg("%s \"%s\", wanted %s \"%s\"", json_get_str(json, "state", ""),
                 json_get_str(json, "error", ""), state, error_part);
}

static void expect_note(struct reverse *r, int64_t id, size_t task, const char *part)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(jobs_get(r->desk.jobs, id, &json, &err));
    const char *note =
        json_get_str(json_array_get(json_object_get(json, "tasks"), task), "note", "");
    if (!strstr(note, part))
        fail_msg("task %zu: \"%s\" lacks \"%s\"", task, note, part);
}

/* db1 was recovered here by lyon-4, from the promotion of point 3. */
static void recover(struct reverse *r)
{
    CLEANUP(state_instance_done)
    struct state_instance row = {.run = mem_strdup("lyon-4"),
                                 .machine = mem_strdup("db1"),
                                 .definition = mem_strdup("{}"),
                                 .group = mem_strdup("db1"),
                                 .point = 3,
                                 .run_dir = mem_strdup(""),
                                 .netns = mem_strdup("")};

    estates_tell(r->e->at_lyon, "instance.start",
                 json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run",
                           "lyon-4", "test", 0, "point", 3));
    EXPECT_OK(state_instance_put(r->desk.state, &row, &err));
    EXPECT_OK(state_turn_end(r->desk.state, &err));
}

static size_t instances(struct reverse *r)
{
    CLEANUP(state_instances_done) struct state_instances rows = VEC_EMPTY;

    EXPECT_OK(state_instance_list(r->desk.state, &rows, &err));
    return rows.len;
}

static void promote(struct reverse *r)
{
    estates_tell(r->e->at_lyon, "group.promote",
                 json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", "lyon-4", "point", 0,
                           "expected", 1));
}

/* What the session has delivered beyond the promotion, as it finds it when it is opened. */
static void deliver(struct reverse *r, uint64_t durable, uint64_t applied)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/sessions/db1", r->e->root);
    const struct checkpoint ck = {.phase = PHASE_DELTA,
                                  .serial = 3,
                                  .base = 2,
                                  .durable_point = durable,
                                  .applied_point = applied};

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(checkpoint_save(dir, &ck, &err));
}

static int reverse_setup(void **state)
{
    void *e;

    if (estates_setup(&e) < 0)
        return -1;
    struct reverse *r = mem_new(struct reverse);
    r->e = e;
    r->answers = json_array();
    jobs_desk_init(&r->desk, r->e->root);
    begin(r);
    *state = r;
    return 0;
}

static int reverse_teardown(void **state)
{
    struct reverse *r = *state;
    void *e = r->e;

    jobs_desk_stop(&r->desk);
    json_decref(r->answers);
    free(r);
    return estates_teardown(&e);
}

/* --- reprotect ------------------------------------------------------------------------------------ */

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
    settle(r);
    return id;
}

static void committed(struct reverse *r)
{
    promote(r);
    recover(r);
    put_row(r, "replica", "committed", 2, ",\"writer_key\":\"00\"");
}

static void a_committed_machine_is_protected_the_other_way(void **state)
{
    struct reverse *r = *state;

    committed(r);
    deliver(r, 5, 5);
    answers(r, clean_side());
    answers(r, taken_over());
    int64_t id = reprotect_it(r);
    expect_job(r, id, "succeeded", "");
    expect_row(r, "source", "protected");
    expect_setting(r, "instance", "lyon-4");
}

static void it_is_done_when_the_other_site_has_applied_a_point(void **state)
{
    struct reverse *r = *state;

    committed(r);
    deliver(r, 5, 4);
    answers(r, clean_side());
    answers(r, taken_over());
    int64_t id = reprotect_it(r);
    later(r);
    expect_job(r, id, "running", "");
    expect_row(r, "source", "reprotecting");
    jobs_desk_stop(&r->desk);
    estates_restart_lyon(r->e);
    deliver(r, 5, 5);
    begin(r);
    EXPECT_OK(jobs_take_up(r->desk.jobs, &err));
    later(r);
    expect_job(r, id, "succeeded", "");
    expect_row(r, "source", "protected");
}

static void a_site_that_is_away_is_waited_for(void **state)
{
    struct reverse *r = *state;

    committed(r);
    deliver(r, 5, 5);
    answers(r, clean_side());
    answers(r, taken_over());
    r->away = true;
    int64_t id = reprotect_it(r);
    later(r);
    expect_job(r, id, "running", "");
    expect_note(r, id, 0, "waits: paris cannot be reached");
    restart(r);
    later(r);
    expect_note(r, id, 0, "waits: paris cannot be reached");
    r->away = false;
    later(r);
    expect_job(r, id, "succeeded", "");
}

static void a_branch_at_the_other_site_wants_a_persons_word(void **state)
{
    struct reverse *r = *state;
    int64_t id = 0;

    committed(r);
    deliver(r, 5, 5);
    answers(r, branched_side());
    id = reprotect_it(r);
    expect_job(r, id, "failed", "db1 may have written at paris after point 3");
    expect_job(r, id, "failed", "hint: `muster reprotect db1 --accept-branch`");
    expect_row(r, "replica", "committed");
    answers(r, taken_over());
    EXPECT_OK(reprotect(r, true, &id));
    settle(r);
    expect_job(r, id, "succeeded", "");
    expect_row(r, "source", "protected");
}

static void a_site_that_was_promoted_since_is_not_written_over(void **state)
{
    struct reverse *r = *state;

    committed(r);
    answers(r, json_pack("{s:s, s:i}", "role", "replica", "generation", 3));
    int64_t id = reprotect_it(r);
    expect_job(r, id, "failed", "paris is at generation 3 of db1, this site is at 2");
    expect_row(r, "replica", "committed");
}

static void while_the_other_site_reads_its_disks_it_says_so(void **state)
{
    struct reverse *r = *state;

    committed(r);
    deliver(r, 5, 5);
    answers(r, clean_side());
    answers(r, json_pack("{s:b, s:i, s:s}", "done", 0, "job", 7, "note", "reading the disks"));
    int64_t id = reprotect_it(r);
    expect_note(r, id, 1, "paris takes the disks over: reading the disks");
    expect_row(r, "replica", "reprotecting");
    answers(r, taken_over());
    restart(r);
    later(r); /* the old answer */
    later(r);
    later(r);
    expect_job(r, id, "succeeded", "");
}

static void a_site_that_cannot_follow_leaves_it_to_be_asked_for_again(void **state)
{
    struct reverse *r = *state;

    committed(r);
    deliver(r, 5, 5);
    answers(r, clean_side());
    int64_t id = 0;
    EXPECT_OK(reprotect(r, false, &id));
    jobs_desk_turn_end(&r->desk);
    answers(r, json_pack("{s:b, s:i, s:s}", "done", 0, "job", 7, "note", ""));
    settle(r);
    (void)err_set(&r->refusal, ERR_STATE, 0, "paris cannot become the replica: its disk is gone");
    later(r);
    expect_job(r, id, "failed", "its disk is gone");
    expect_row(r, "replica", "reprotecting-failed");
    err_clear(&r->refusal);
    (void)json_array_clear(r->answers);
    answers(r, clean_side());
    answers(r, taken_over());
    id = reprotect_it(r);
    expect_job(r, id, "succeeded", "");
    expect_row(r, "source", "protected");
}

static void only_what_is_committed_is_turned_round(void **state)
{
    struct reverse *r = *state;
    int64_t id;

    EXPECT_ERR(ERR_NOT_FOUND, reprotect(r, false, &id));
    put_row(r, "replica", "failed-over", 2, "");
    EXPECT_ERR(ERR_STATE, reprotect(r, false, &id));
    EXPECT_TEXT("hint: `muster commit db1` first");
    put_row(r, "source", "protected", 1, "");
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

/* --- follow ---------------------------------------------------------------------------------------- */

/* paris was promoted from point 3, to that generation. */
static char *tip_of(struct reverse *r, uint64_t generation)
{
    CLEANUP(manifest_done) struct manifest m;
    struct store *store;
    struct store_info info;
    uint8_t sign[SIGN_KEY_BYTES];

    memset(sign, 1, sizeof(sign));
    EXPECT_OK(estate_store_get(r->e->lyon, "db1", &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    estate_store_put(r->e->lyon, "db1", store, false);
    manifest_init(&m);
    (void)snprintf(m.group, sizeof(m.group), "db1");
    (void)snprintf(m.site, sizeof(m.site), "paris");
    m.generation = generation;
    m.point = info.durable_point + 1;
    m.parent = info.durable_hash;
    m.promotion = true;
    struct manifest_disk *disk = manifest_disks_push(&m.disks);
    memset(disk, 0, sizeof(*disk));
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    disk->size = 65536;
    m.machines = json_object();
    manifest_sign(&m, sign);
    return manifest_text(&m);
}

static int follow_as(struct reverse *r, const char *peer, uint64_t generation, const char *tip,
                     int64_t *ret_id)
{
    uint8_t sign[SIGN_KEY_BYTES];
    uint8_t key[SIGN_KEY_BYTES];
    char hex[2 * SIGN_KEY_BYTES + 1];

    memset(sign, 1, sizeof(sign));
    sign_public(sign, key);
    str_hex(key, sizeof(key), hex);
    const struct job_follow spec = {.group = "db1",
                                    .peer = peer,
                                    .writer_key = hex,
                                    .tip = tip,
                                    .first = "",
                                    .generation = generation,
                                    .interval_ms = 7000,
                                    .keep = 9,
                                    .compression = COMPRESSION_LZ4,
                                    .who = "site paris"};

    err_clear(&err);
    return jobs_follow(r->desk.jobs, &spec, ret_id, &err);
}

static uint64_t generation_here(struct reverse *r)
{
    struct store *store;
    struct store_info info;

    EXPECT_OK(estate_store_get(r->e->lyon, "db1", &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    estate_store_put(r->e->lyon, "db1", store, false);
    return info.generation;
}

static void the_side_that_had_the_machine_becomes_the_replica(void **state)
{
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    int64_t id = 0;

    recover(r);
    put_row(r, "source", "protected", 1, ",\"instance\":\"lyon-4\"");
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    settle(r);
    expect_job(r, id, "succeeded", "");
    expect_row(r, "replica", "reprotecting");
    expect_setting(r, "instance", "");
    expect_setting(r, "compression", "lz4");
    assert_int_equal(generation_here(r), 2);
    assert_int_equal(instances(r), 0);
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/instances/lyon-4-db1", r->e->root);
    assert_false(fs_exists(dir));
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    assert_int_equal(id, 0);
}

static void asked_twice_it_is_one_job_and_a_restart_goes_on_with_it(void **state)
{
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    int64_t id = 0;
    int64_t again = 0;

    put_row(r, "source", "protected", 1, "");
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    EXPECT_OK(follow_as(r, "paris", 2, tip, &again));
    assert_int_equal(id, again);
    EXPECT_OK(state_turn_end(r->desk.state, &err));
    restart(r);
    settle(r);
    expect_job(r, id, "succeeded", "");
    expect_row(r, "replica", "reprotecting");
}

static void a_stranger_and_an_old_promotion_are_not_followed(void **state)
{
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    int64_t id;

    EXPECT_ERR(ERR_NOT_FOUND, follow_as(r, "paris", 2, tip, &id));
    put_row(r, "source", "protected", 3, "");
    EXPECT_ERR(ERR_DENIED, follow_as(r, "rome", 4, tip, &id));
    EXPECT_TEXT("db1 is not shared with rome, but with paris");
    EXPECT_ERR(ERR_FENCED, follow_as(r, "paris", 2, tip, &id));
    EXPECT_TEXT("db1 is at generation 3 here, the promotion is of generation 2");
}

static void a_tip_that_does_not_follow_changes_no_role(void **state)
{
    struct reverse *r = *state;
    int64_t id = 0;

    put_row(r, "source", "protected", 1, "");
    EXPECT_OK(follow_as(r, "paris", 2, "{}", &id));
    settle(r);
    expect_job(r, id, "failed", "make the disks of db1 a replica of paris");
    expect_row(r, "source", "reprotecting-failed");
    assert_int_equal(generation_here(r), 1);
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    settle(r);
    expect_job(r, id, "succeeded", "");
}

#define REVERSE_TEST(f) cmocka_unit_test_setup_teardown(f, reverse_setup, reverse_teardown)

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
        REVERSE_TEST(the_side_that_had_the_machine_becomes_the_replica),
        REVERSE_TEST(asked_twice_it_is_one_job_and_a_restart_goes_on_with_it),
        REVERSE_TEST(a_stranger_and_an_old_promotion_are_not_followed),
        REVERSE_TEST(a_tip_that_does_not_follow_changes_no_role),
    };
    return cmocka_run_group_tests_name("job_reverse", tests, NULL, NULL);
}
