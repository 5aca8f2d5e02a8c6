// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/mem.h"
#include "replica/base_frame.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

static struct store_disks disks_of(struct fixture *f)
{
    struct store_disks disks = VEC_EMPTY;

    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct store_disk *disk = store_disks_push(&disks);
        memcpy(disk->name, f->kit.disks[i].name, sizeof(disk->name));
        disk->size = f->kit.disks[i].size;
    }
    return disks;
}

static int begin(struct fixture *f, const struct store_disks *disks, uint64_t need, uint64_t gen)
{
    err_clear(&err);
    return f->store->ops->base_begin(f->store, disks, need, gen, 1, &err);
}

static int begin_copy(struct fixture *f, const struct store_disks *disks, uint64_t copy)
{
    err_clear(&err);
    return f->store->ops->base_begin(f->store, disks, 1024, 1, copy, &err);
}

/* One frame of one extent for the first disk. */
static int send(struct fixture *f, const struct uuid *uuid, uint64_t number,
                const struct extent *extent)
{
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->kit.key, uuid, COMPRESSION_LZ4);
    CLEANUP(mem_freep) uint8_t *frame = mem_alloc(FRAME_SEALED_MAX, 1);
    CLEANUP(mem_freep) uint8_t *payload = mem_alloc((size_t)extent->len, 1);
    struct kit_disk *disk = &f->kit.disks[0];
    size_t len;

    if (!extent->zero && extent->off < disk->size)
        memcpy(payload, disk->bytes + extent->off, (size_t)extent->len);
    frame_seal(coder, number, extent, 1, payload, extent->zero ? 0 : (size_t)extent->len, frame,
               &len);
    err_clear(&err);
    return f->store->ops->base_frame(f->store, disk->name, uuid, COMPRESSION_LZ4, number, frame,
                                     len, &err);
}

static void a_copy_can_be_begun_again_and_goes_on_after_a_restart(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);
    struct uuid uuid;

    uuid_new(&uuid);
    EXPECT_OK(begin(f, &disks, 1024, 1));
    EXPECT_OK(begin(f, &disks, 1024, 1));
    EXPECT_OK(kit_copy_frames(&f->kit, f->store, &err));
    fixture_reopen(f);
    assert_int_equal(fixture_info(f).state, STORE_COPYING);
    EXPECT_OK(begin(f, &disks, 1024, 1));
    /* Part of a chunk once more: its digest is taken from what is on the disk then. */
    EXPECT_OK(send(f, &uuid, 0, &(struct extent){65536 + 4096, 8192, false}));
    EXPECT_OK(f->store->ops->base_end(f->store, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(begin(f, &disks, 1024, 1));
    EXPECT_OK(f->store->ops->base_end(f->store, &err));
    assert_int_equal(fixture_info(f).state, STORE_COPIED);
}

static void a_copy_that_was_begun_anew_is_not_taken_back_by_what_comes_late(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);
    CLEANUP(base_frame_done) struct base_frame late = {.copy = 4};
    CLEANUP(base_frame_done) struct base_frame here = {.copy = 7};
    const char *disk = f->kit.disks[0].name;
    struct uuid uuid;

    uuid_new(&uuid);
    EXPECT_OK(begin_copy(f, &disks, 4));
    EXPECT_OK(f->store->ops->base_ready(f->store, disk, &uuid, &late, &err));
    EXPECT_OK(begin_copy(f, &disks, 7));
    assert_int_equal(fixture_info(f).copy, 7);

    /* Opened before, put after. */
    EXPECT_ERR(ERR_STATE, f->store->ops->base_put(f->store, disk, &late, &err));
    EXPECT_TEXT("the copy was begun anew");
    EXPECT_ERR(ERR_STATE, begin_copy(f, &disks, 4));
    fixture_reopen(f);
    EXPECT_ERR(ERR_STATE, f->store->ops->base_ready(f->store, disk, &uuid, &late, &err));
    EXPECT_ERR(ERR_STATE, begin_copy(f, &disks, 6));
    EXPECT_OK(f->store->ops->base_ready(f->store, disk, &uuid, &here, &err));
    EXPECT_OK(begin_copy(f, &disks, 7));
    EXPECT_OK(f->store->ops->base_end(f->store, &err));
    fixture_reopen(f);
    assert_int_equal(fixture_info(f).copy, 7);
}

static void a_frame_that_comes_after_the_end_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct uuid uuid;

    uuid_new(&uuid);
    fixture_copy(f);
    memset(f->kit.disks[0].bytes + 131072, 0x77, 4096);
    EXPECT_ERR(ERR_STATE, send(f, &uuid, 0, &(struct extent){131072, 4096, false}));
    EXPECT_TEXT("the initial copy has ended");
    assert_int_equal(fixture_info(f).state, STORE_COPIED);
    EXPECT_OK(kit_check_head(&f->kit, 0, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void digests_are_of_what_was_copied_whatever_the_frames_were(void **state)
{
    static const struct extent frames[] = {
        {0, 65536, false},        {65536, 65536 * 3, false}, {65536 * 5 + 512, 65536, false},
        {65536 * 2, 65536, true}, {65536 * 3, 4096, true},   {65536 * 9, 512, false},
    };
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);
    struct uuid uuid;

    uuid_new(&uuid);
    memset(f->kit.disks[0].bytes, 0x31, (size_t)f->kit.disks[0].size);
    EXPECT_OK(begin(f, &disks, 1024, 1));
    for (size_t i = 0; i < ARRAY_LEN(frames); i++)
        EXPECT_OK(send(f, &uuid, i, &frames[i]));
    EXPECT_OK(f->store->ops->base_end(f->store, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void holes_stay_holes(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);
    CLEANUP(mem_freep) char *path = fixture_path(f, "web.vda/head.raw");
    struct uuid uuid;
    struct stat st;

    uuid_new(&uuid);
    EXPECT_OK(begin(f, &disks, 1024, 1));
    EXPECT_OK(send(f, &uuid, 0, &(struct extent){0, 1048576, false}));
    EXPECT_OK(send(f, &uuid, 1, &(struct extent){0, 1048576, true}));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_blocks, 0);
}

static void other_disks_than_before_are_refused_with_both_sizes(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);

    EXPECT_OK(begin(f, &disks, 1024, 1));
    disks.at[1].size = 524288;
    EXPECT_ERR(ERR_STATE, begin(f, &disks, 1024, 1));
    EXPECT_TEXT("524288");
    EXPECT_TEXT("1069056");
    disks.len = 1;
    EXPECT_ERR(ERR_STATE, begin(f, &disks, 1024, 1));
}

static void names_that_would_lead_elsewhere_are_refused(void **state)
{
    static const char *const names[] = {"..", "a/b", "", "Manifests", "manifests", "lock", "chain"};
    struct fixture *f = *state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);
        memset(disks.at[1].name, 0, sizeof(disks.at[1].name));
        memcpy(disks.at[1].name, names[i], strlen(names[i]));
        EXPECT_ERR(ERR_INVALID, begin(f, &disks, 1024, 1));
    }
    CLEANUP(store_disks_free) struct store_disks twice = disks_of(f);
    memcpy(twice.at[1].name, twice.at[0].name, sizeof(twice.at[0].name));
    EXPECT_ERR(ERR_INVALID, begin(f, &twice, 1024, 1));
    CLEANUP(store_disks_free) struct store_disks none = VEC_EMPTY;
    EXPECT_ERR(ERR_INVALID, begin(f, &none, 1024, 1));
}

static void a_copy_that_cannot_fit_is_not_begun(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);

    EXPECT_ERR(ERR_SPACE, begin(f, &disks, UINT64_MAX / 2, 1));
    EXPECT_TEXT("free are");
    assert_int_equal(fixture_info(f).state, STORE_EMPTY);
    fixture_reopen(f);
    assert_int_equal(fixture_info(f).state, STORE_EMPTY);
}

static void a_full_disk_stops_the_copy_and_room_lets_it_go_on(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);

    EXPECT_OK(begin(f, &disks, 1024, 1));
    fault_arm("fs.pwrite", 3, ENOSPC);
    EXPECT_ERR(ERR_SPACE, kit_copy_frames(&f->kit, f->store, &err));
    fault_clear();
    EXPECT_OK(kit_copy(&f->kit, f->store, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(kit_check_head(&f->kit, 0, &err));
}

static void an_older_generation_cannot_copy(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);

    EXPECT_OK(begin(f, &disks, 1024, 5));
    EXPECT_ERR(ERR_FENCED, begin(f, &disks, 1024, 4));
    EXPECT_ERR(ERR_FENCED, begin(f, &disks, 1024, 6));
}

static void a_replica_with_points_is_not_copied_over(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);
    struct uuid uuid;

    uuid_new(&uuid);
    fixture_copy(f);
    fixture_points(f, 1);
    EXPECT_ERR(ERR_STATE, begin(f, &disks, 1024, 1));
    EXPECT_ERR(ERR_STATE, send(f, &uuid, 0, &(struct extent){0, 4096, false}));
    EXPECT_ERR(ERR_STATE, f->store->ops->base_end(f->store, &err));
}

static void frames_that_do_not_fit_are_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = disks_of(f);
    struct uuid uuid;
    uint8_t junk[200];

    uuid_new(&uuid);
    memset(junk, 7, sizeof(junk));
    EXPECT_ERR(ERR_STATE, send(f, &uuid, 0, &(struct extent){0, 4096, false}));
    EXPECT_OK(begin(f, &disks, 1024, 1));
    EXPECT_ERR(ERR_CORRUPT, send(f, &uuid, 0, &(struct extent){f->kit.disks[0].size, 512, true}));
    EXPECT_ERR(ERR_CORRUPT, f->store->ops->base_frame(f->store, "web.vda", &uuid, COMPRESSION_NONE,
                                                      0, junk, sizeof(junk), &err));
    EXPECT_ERR(ERR_NOT_FOUND, f->store->ops->base_frame(f->store, "web.vdz", &uuid,
                                                        COMPRESSION_NONE, 0, junk, 9, &err));
    EXPECT_TEXT("web.vda web.vdb");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_copy_can_be_begun_again_and_goes_on_after_a_restart),
        STORE_TEST(a_copy_that_was_begun_anew_is_not_taken_back_by_what_comes_late),
        STORE_TEST(a_frame_that_comes_after_the_end_changes_nothing),
        STORE_TEST(digests_are_of_what_was_copied_whatever_the_frames_were),
        STORE_TEST(holes_stay_holes),
        STORE_TEST(other_disks_than_before_are_refused_with_both_sizes),
        STORE_TEST(names_that_would_lead_elsewhere_are_refused),
        STORE_TEST(a_copy_that_cannot_fit_is_not_begun),
        STORE_TEST(a_full_disk_stops_the_copy_and_room_lets_it_go_on),
        STORE_TEST(an_older_generation_cannot_copy),
        STORE_TEST(a_replica_with_points_is_not_copied_over),
        STORE_TEST(frames_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests_name("store_dir_base", tests, NULL, NULL);
}
