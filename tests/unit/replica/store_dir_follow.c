// SPDX-License-Identifier: Apache-2.0
/* A store whose group is taken over by another site. */
#include "base/fault.h"
#include "base/mem.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define OPS (f->store->ops)

static int follow(struct fixture *f, const char *tip)
{
    err_clear(&err);
    return OPS->follow(f->store, tip, strlen(tip), NULL, &err);
}

/* The other site's machine wrote on; its first point here leads from our newest one to that. */
static void go_on(struct fixture *f)
{
    kit_scribble(&f->kit, 12);
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    EXPECT_OK(kit_check_head(&f->kit, f->kit.point, &err));
}

static void a_store_follows_a_promotion_elsewhere_and_keeps_its_points(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 3);
    CLEANUP(mem_freep) char *tip = kit_taken_over(&f->kit, 7, 3);
    EXPECT_OK(follow(f, tip));
    assert_int_equal(fixture_info(f).generation, 3);
    assert_int_equal(fixture_info(f).durable_point, 3);
    EXPECT_OK(follow(f, tip)); /* once more */
    fixture_reopen(f);
    go_on(f);
    assert_int_equal(fixture_info(f).durable_point, 8);
    go_on(f);
    fixture_reopen(f);
    assert_int_equal(fixture_info(f).durable_point, 9);
    for (uint64_t point = 1; point <= 3; point++)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    EXPECT_OK(kit_check_view(&f->kit, 8, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(follow(f, tip)); /* long done */
}

static void the_old_writer_is_fenced_as_soon_as_the_tip_is_followed(void **state)
{
    struct fixture *f = *state;
    struct kit other;

    fixture_copy(f);
    fixture_points(f, 2);
    kit_resume(&other, &f->kit, f->root, 2, 1);
    CLEANUP(mem_freep) char *tip = kit_taken_over(&f->kit, 5, 2);
    EXPECT_OK(follow(f, tip));
    kit_scribble(&other, 3);
    EXPECT_ERR(ERR_FENCED, kit_point(&other, f->store, &err));
    kit_done(&other);
}

static void retention_counts_points_not_numbers(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;

    fixture_copy(f);
    fixture_points(f, 3);
    CLEANUP(mem_freep) char *tip = kit_taken_over(&f->kit, 70, 2);
    EXPECT_OK(follow(f, tip));
    go_on(f);
    EXPECT_OK(kit_prune(f->store, 3, &err));
    fixture_reopen(f);
    EXPECT_OK(OPS->points(f->store, &points, &err));
    assert_int_equal(points.len, 3);
    assert_int_equal(points.at[0].point, 2);
    assert_int_equal(points.at[2].point, 71);
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    EXPECT_OK(kit_prune(f->store, 1, &err)); /* the oldest is one that skipped numbers */
    fixture_reopen(f);
    go_on(f);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void what_came_from_elsewhere_can_be_rolled_back(void **state)
{
    struct fixture *f = *state;
    uint64_t generation;
    uint64_t chosen;

    fixture_copy(f);
    fixture_points(f, 3);
    CLEANUP(mem_freep) char *tip = kit_taken_over(&f->kit, 9, 2);
    EXPECT_OK(follow(f, tip));
    go_on(f);
    go_on(f);
    EXPECT_OK(
        OPS->promote(f->store, 2, 2, "back", "paris", f->kit.sign, 1, &generation, &chosen, &err));
    assert_int_equal(generation, 3);
    uint64_t point;
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    assert_int_equal(point, 12);
    const struct kit_image *image = kit_image(&f->kit, 2);
    struct store_info info = fixture_info(f);
    kit_promoted(&f->kit, info.durable_point, &info.durable_hash, image->point, generation);
    EXPECT_OK(kit_check_head(&f->kit, 12, &err));
    EXPECT_OK(kit_check_view(&f->kit, 11, &err));
}

static void a_wrong_tip_is_refused_and_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct store_dir_config config;

    fixture_copy(f);
    fixture_points(f, 3);
    struct kit kit;
    kit_resume(&kit, &f->kit, f->root, 3, 1);
    CLEANUP(mem_freep) char *same_generation = kit_taken_over(&kit, 7, 1);
    CLEANUP(mem_freep) char *old_number = kit_taken_over(&kit, 2, 2);
    CLEANUP(mem_freep) char *no_promotion = NULL;
    EXPECT_OK(OPS->point_manifest(f->store, 3, &no_promotion, &err));
    EXPECT_ERR(ERR_FENCED, follow(f, same_generation));
    EXPECT_ERR(ERR_CORRUPT, follow(f, old_number));
    EXPECT_ERR(ERR_INVALID, follow(f, no_promotion));
    EXPECT_ERR(ERR_CORRUPT, follow(f, "{}"));
    memset(kit.sign, 7, sizeof(kit.sign));
    CLEANUP(mem_freep) char *stranger = kit_taken_over(&kit, 9, 4);
    store_closep(&f->store);
    config = kit_config(&f->kit, fs_real());
    memcpy(config.writer_key, f->kit.public_key, SIGN_KEY_BYTES);
    EXPECT_OK(store_dir_open(&config, &f->store, &err));
    EXPECT_ERR(ERR_AUTH, follow(f, stranger));
    kit_done(&kit);
    assert_int_equal(fixture_info(f).generation, 1);
    kit_scribble(&f->kit, 3);
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
}

/* The base is named, and is another than our newest point. */
static void a_point_on_another_base_is_refused(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 3);
    f->kit.base_point = 2;
    kit_scribble(&f->kit, 3);
    EXPECT_ERR(ERR_CORRUPT, kit_point(&f->kit, f->store, &err));
    err_clear(&err);
    f->kit.point = 3; /* that one was not taken */
    f->kit.parent = kit_image(&f->kit, 3)->hash;
    CLEANUP(mem_freep) char *tip = kit_taken_over(&f->kit, 7, 2);
    EXPECT_OK(follow(f, tip));
    f->kit.base_point = 2;
    kit_scribble(&f->kit, 3);
    EXPECT_ERR(ERR_CORRUPT, kit_point(&f->kit, f->store, &err));
    EXPECT_TEXT("does not lead from point 3");
}

/* Its parent is what only the other site knows, and must be shown to come from here. */
static char *tip_of(struct fixture *f, uint64_t number, const struct sha256 *parent)
{
    f->kit.parent = *parent;
    return kit_taken_over(&f->kit, number, 2);
}

static int follow_by(struct fixture *f, const char *tip, const struct store_proof *proof)
{
    err_clear(&err);
    return OPS->follow(f->store, tip, strlen(tip), proof, &err);
}

/* Points 4 to 6 were written from here, and are known to the other site alone. */
static void points_elsewhere(struct fixture *f, char *texts[3])
{
    for (size_t i = 0; i < 3; i++) {
        kit_scribble(&f->kit, 3);
        EXPECT_OK(kit_cut(&f->kit, &err));
        texts[i] = manifest_text(&f->kit.last);
    }
}

static void a_tip_from_nowhere_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct sha256 foreign = {{7}};
    const struct sha256 none = {{0}};

    fixture_copy(f);
    fixture_points(f, 3);
    CLEANUP(mem_freep) char *tip = tip_of(f, 7, &foreign);
    EXPECT_ERR(ERR_CORRUPT, follow_by(f, tip, NULL));
    EXPECT_TEXT("does not continue the history");
    CLEANUP(mem_freep) char *first = tip_of(f, 7, &none); /* a history of its own */
    EXPECT_ERR(ERR_CORRUPT, follow_by(f, first, NULL));
    assert_int_equal(fixture_info(f).generation, 1);
    const struct store_proof known = {.known = &foreign, .known_count = 1};
    EXPECT_OK(follow_by(f, tip, &known)); /* the caller itself delivered that point */
}

static void manifests_lead_from_the_tip_back_to_a_point_here(void **state)
{
    struct fixture *f = *state;
    char *texts[3];

    fixture_copy(f);
    fixture_points(f, 3);
    points_elsewhere(f, texts);
    CLEANUP(mem_freep) char *tip = tip_of(f, 7, &kit_image(&f->kit, 6)->hash);
    struct store_proof proof = {.manifests = (const char *const[]){texts[2], texts[0]},
                                .manifest_count = 2};
    EXPECT_ERR(ERR_CORRUPT, follow_by(f, tip, &proof)); /* 5 is missing */
    proof = (struct store_proof){.manifests = (const char *const[]){texts[2], texts[0], texts[1]},
                                 .manifest_count = 3};
    char *cut = strstr(texts[1], "cut_ms");
    cut[9]++; /* forged */
    EXPECT_ERR(ERR_CORRUPT, follow_by(f, tip, &proof));
    cut[9]--;
    EXPECT_OK(follow_by(f, tip, &proof));
    for (size_t i = 0; i < 3; i++)
        free(texts[i]);
}

/* The other site chose a point that was pruned here. */
static void manifests_lead_from_a_point_here_back_to_the_chosen_one(void **state)
{
    struct fixture *f = *state;
    char *texts[3];

    fixture_copy(f);
    fixture_points(f, 5);
    for (uint64_t i = 0; i < 3; i++)
        EXPECT_OK(OPS->point_manifest(f->store, i + 2, &texts[i], &err));
    const struct sha256 chosen = kit_image(&f->kit, 1)->hash;
    EXPECT_OK(kit_prune(f->store, 1, &err));
    CLEANUP(mem_freep) char *tip = tip_of(f, 6, &chosen);
    EXPECT_ERR(ERR_CORRUPT, follow_by(f, tip, NULL));
    const struct store_proof proof = {
        .manifests = (const char *const[]){texts[0], texts[1], texts[2]}, .manifest_count = 3};
    EXPECT_OK(follow_by(f, tip, &proof));
    for (size_t i = 0; i < 3; i++)
        free(texts[i]);
}

/* What is missing before a promotion shows, whatever numbers it skipped. */
static void a_promotion_names_the_point_before_it(void **state)
{
    struct fixture *f = *state;
    CLEANUP(manifest_done) struct manifest m;
    CLEANUP(mem_freep) char *text = NULL;
    uint64_t generation;
    uint64_t chosen;

    manifest_init(&m);
    fixture_copy(f);
    fixture_points(f, 3);
    CLEANUP(mem_freep) char *tip = kit_taken_over(&f->kit, 9, 2);
    EXPECT_OK(follow(f, tip));
    EXPECT_OK(
        OPS->promote(f->store, 2, 2, "back", "paris", f->kit.sign, 1, &generation, &chosen, &err));
    EXPECT_OK(OPS->point_manifest(f->store, 10, &text, &err));
    EXPECT_OK(manifest_parse(text, strlen(text), &m, &err));
    assert_int_equal(m.base_point, 3);
    assert_memory_equal(&m.parent, &kit_image(&f->kit, 2)->hash, SHA256_BYTES);
    store_closep(&f->store);
    CLEANUP(mem_freep) char *third = fixture_path(f, "manifests/00000000000000000003");
    assert_int_equal(unlink(third), 0);
    EXPECT_ERR(ERR_CORRUPT, kit_open(&f->kit, fs_real(), &f->store, &err));
    EXPECT_TEXT("point 3 is missing");
}

/* --- A day later --------------------------------------------------------------------------- */

#define HOUR_MS INT64_C(3600000)

static uint64_t chunks_of(const struct fixture *f)
{
    return chunk_count(f->kit.disks[0].size);
}

static void digests_of_head(struct fixture *f, uint64_t point, struct digest *ret_digests)
{
    EXPECT_OK(
        OPS->digests(f->store, f->kit.disks[0].name, point, 0, chunks_of(f), ret_digests, &err));
}

/* By a view, chunk by chunk. */
static void point_verifies(struct fixture *f, uint64_t point, const struct digest *digests)
{
    CLEANUP(view_closep) struct view *view = NULL;
    struct digester *digester = chunk_digester_new(&f->kit.key);
    uint8_t bytes[CHUNK_BYTES];
    struct digest have;

    EXPECT_OK(view_open(f->kit.dir, f->kit.disks[0].name, point, &f->kit.key, NULL, &view, &err));
    for (uint64_t i = 0; i < chunks_of(f); i++) {
        size_t len = chunk_len(view_size(view), i);
        EXPECT_OK(view_read(view, i * CHUNK_BYTES, bytes, len, &err));
        chunk_digest(digester, bytes, len, &have);
        assert_memory_equal(&have, &digests[i], sizeof(have));
    }
    digester_free(digester);
}

static void hours(struct fixture *f, unsigned count, uint64_t keep)
{
    for (unsigned i = 0; i < count; i++) {
        clock_fake_advance(&f->kit.clock, HOUR_MS);
        kit_scribble(&f->kit, 6);
        EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
        EXPECT_OK(kit_prune(f->store, keep, &err));
    }
}

/* Committed elsewhere, and a day's worth of points from there, one an hour. */
static void points_from_before_the_failover_verify_a_day_after_the_commit(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) struct digest *fifth = mem_new_array(struct digest, chunks_of(f));
    CLEANUP(mem_freep) struct digest *tenth = mem_new_array(struct digest, chunks_of(f));
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    uint64_t pinned;

    fixture_copy(f);
    hours(f, 5, 100);
    digests_of_head(f, 5, fifth);
    hours(f, 5, 100);
    digests_of_head(f, 10, tenth);
    EXPECT_OK(OPS->pin(f->store, 5, "audit", &pinned, &err));
    CLEANUP(mem_freep) char *tip = kit_taken_over(&f->kit, 12, 2);
    EXPECT_OK(follow(f, tip));
    fixture_reopen(f);
    hours(f, 24, 28);
    fixture_reopen(f);
    point_verifies(f, 5, fifth); /* the pin holds it */
    point_verifies(f, 10, tenth);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(OPS->unpin(f->store, "audit", &err));
    EXPECT_OK(kit_prune(f->store, 28, &err)); /* 24 of there, 4 of here */
    fixture_reopen(f);
    point_verifies(f, 10, tenth);
    EXPECT_OK(OPS->points(f->store, &points, &err));
    assert_int_equal(points.len, 28);
    assert_int_equal(points.at[0].point, 7);
    assert_int_equal(points.at[3].point, 10);
    assert_int_equal(points.at[4].point, 13);
    assert_int_equal(points.at[27].received_wall_ms - points.at[3].received_wall_ms, 24 * HOUR_MS);
    struct view *view;
    EXPECT_ERR(ERR_NOT_FOUND,
               view_open(f->kit.dir, f->kit.disks[0].name, 5, &f->kit.key, NULL, &view, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_store_follows_a_promotion_elsewhere_and_keeps_its_points),
        STORE_TEST(the_old_writer_is_fenced_as_soon_as_the_tip_is_followed),
        STORE_TEST(retention_counts_points_not_numbers),
        STORE_TEST(what_came_from_elsewhere_can_be_rolled_back),
        STORE_TEST(a_wrong_tip_is_refused_and_changes_nothing),
        STORE_TEST(a_point_on_another_base_is_refused),
        STORE_TEST(a_tip_from_nowhere_is_refused),
        STORE_TEST(manifests_lead_from_the_tip_back_to_a_point_here),
        STORE_TEST(manifests_lead_from_a_point_here_back_to_the_chosen_one),
        STORE_TEST(a_promotion_names_the_point_before_it),
        STORE_TEST(points_from_before_the_failover_verify_a_day_after_the_commit),
    };
    return cmocka_run_group_tests_name("store_dir_follow", tests, NULL, NULL);
}
