// SPDX-License-Identifier: Apache-2.0
/* Heads that are LUKS containers. */
#include "base/fs_luks.h"
#include "base/mem.h"
#include "base/proc.h"
#include "replica/head.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPS        (f->store->ops)
#define BIG_BYTES  (UINT64_C(330) << 20)
#define FILL_BYTES (UINT64_C(64) << 20) /* what one call fills */
#define PARTS      6                    /* so many calls fill it */

static int setup(void **state)
{
    if (fixture_setup(state) < 0)
        return -1;
    struct fixture *f = *state;
    store_closep(&f->store);
    kit_at_rest(&f->kit, f->root);
    return kit_open(&f->kit, fs_real(), &f->store, &err);
}
#define LUKS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, fixture_teardown)

static int open_again(struct fixture *f)
{
    store_closep(&f->store);
    err_clear(&err);
    return kit_open(&f->kit, fs_real(), &f->store, &err);
}

/* 0: the same as the image of that point. */
static int compare_by_qemu(struct fixture *f, size_t disk, uint64_t point)
{
    CLEANUP(mem_freep) char *plain = mem_printf("%s/plain", f->root);
    CLEANUP(mem_freep) char *secret = mem_printf("secret,id=s,file=%s,format=raw", f->kit.luks_key);
    CLEANUP(mem_freep)
    char *luks = mem_printf("driver=luks,key-secret=s,file.filename=%s/%s/head.luks", f->kit.dir,
                            f->kit.disks[disk].name);
    CLEANUP(mem_freep) char *raw = mem_printf("driver=raw,file.filename=%s", plain);
    const char *const argv[] = {"qemu-img",     "compare", "--object", secret,
                                "--image-opts", luks,      raw,        NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str said = STR_EMPTY;
    int status;

    EXPECT_OK(fs_replace_file(fs_real(), plain, kit_image(&f->kit, point)->bytes[disk],
                              f->kit.disks[disk].size, 0600, &err));
    EXPECT_OK(proc_run(&spec, 4096, &said, &status, NULL, &err));
    return status;
}

static void qemu_opens_the_heads_and_reads_what_the_source_held(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *raw = fixture_path(f, "web.vda/head.raw");

    fixture_copy(f);
    assert_int_equal(compare_by_qemu(f, 0, 0), 0);
    assert_int_equal(compare_by_qemu(f, 1, 0), 0);
    fixture_points(f, 3);
    assert_int_equal(compare_by_qemu(f, 0, 3), 0);
    assert_int_equal(compare_by_qemu(f, 1, 3), 0);
    assert_false(fs_exists(raw));
}

static void every_kept_point_is_what_it_was_and_verifies(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 5);
    for (uint64_t point = 1; point <= 5; point++)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    EXPECT_OK(kit_check_head(&f->kit, 5, &err));
    EXPECT_OK(open_again(f));
    fixture_points(f, 1);
    EXPECT_OK(kit_check_view(&f->kit, 5, &err));
    EXPECT_OK(kit_check_head(&f->kit, 6, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void nothing_of_the_disks_is_readable_in_the_folder(void **state)
{
    struct fixture *f = *state;
    const char *const argv[] = {"grep", "-rlaF", "PLAINTEXT-OF-THE-GUEST", f->kit.dir, NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str said = STR_EMPTY;
    int status;

    for (uint64_t off = 0; off < f->kit.disks[0].size; off += 8192)
        kit_write(&f->kit, 0, off, "PLAINTEXT-OF-THE-GUEST", 22);
    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(proc_run(&spec, 65536, &said, &status, NULL, &err));
    assert_string_equal(str_text(&said), "");
    assert_int_equal(status, 1);
}

static void an_older_point_is_promoted_and_head_goes_back_to_it(void **state)
{
    struct fixture *f = *state;
    uint64_t generation, chosen, point;

    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(
        OPS->promote(f->store, 1, 2, "run", "lyon", f->kit.sign, 1, &generation, &chosen, &err));
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    const struct store_info info = fixture_info(f);
    kit_promoted(&f->kit, info.durable_point, &info.durable_hash, chosen, generation);
    EXPECT_OK(kit_check_head(&f->kit, point, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void a_container_grows_with_its_disk_and_is_as_large_again_on_the_way_back(void **state)
{
    struct fixture *f = *state;
    uint64_t generation, chosen, point;

    fixture_copy(f);
    fixture_points(f, 2);
    kit_grow(&f->kit, 0, f->kit.disks[0].size + 1044480);
    kit_grow(&f->kit, 1, f->kit.disks[1].size + 4096);
    fixture_points(f, 2);
    EXPECT_OK(kit_check_head(&f->kit, 4, &err));
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    assert_int_equal(compare_by_qemu(f, 0, 4), 0);
    EXPECT_OK(open_again(f));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    EXPECT_OK(
        OPS->promote(f->store, 1, 2, "run", "lyon", f->kit.sign, 1, &generation, &chosen, &err));
    EXPECT_OK(OPS->point_apply(f->store, &point, NULL, NULL, &err));
    const struct store_info info = fixture_info(f);
    kit_promoted(&f->kit, info.durable_point, &info.durable_hash, chosen, generation);
    EXPECT_OK(kit_check_head(&f->kit, point, &err));
    EXPECT_OK(kit_check_view(&f->kit, 4, &err));
    assert_int_equal(compare_by_qemu(f, 0, point), 0);
}

static void a_flipped_bit_of_a_container_is_found(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    fixture_flip(f, "web.vdb/head.luks", (int64_t)LUKS_HEADER_BYTES + 5 * 65536 + 77);
    EXPECT_ERR(ERR_CORRUPT, store_dir_verify(f->store, NULL, &err));
    EXPECT_TEXT("web.vdb/head.luks: the 65536 bytes at 327680 (chunk 5) do not have their digest");
}

/* --- Keys --------------------------------------------------------------------------------- */

static void without_its_key_or_with_another_it_is_not_opened_and_not_changed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *aside = mem_printf("%s.aside", f->kit.luks_key);
    struct luks_secret other;

    fixture_copy(f);
    fixture_points(f, 1);
    assert_int_equal(rename(f->kit.luks_key, aside), 0);
    EXPECT_ERR(ERR_AUTH, open_again(f));
    EXPECT_TEXT("the key of ");
    luks_secret_new(&other);
    EXPECT_OK(luks_secret_write(f->kit.luks_key, &other, &err));
    EXPECT_ERR(ERR_AUTH, open_again(f));
    EXPECT_TEXT("web.vda/head.luks: none of its key slots opens with the key");
    assert_int_equal(rename(aside, f->kit.luks_key), 0);
    EXPECT_OK(open_again(f));
    EXPECT_OK(kit_check_head(&f->kit, 1, &err));
    char *key = f->kit.luks_key;
    f->kit.luks_key = NULL;
    EXPECT_ERR(ERR_UNSUPPORTED, open_again(f));
    EXPECT_TEXT("disk web.vda of web is a LUKS container, and no key was given that opens it");
    f->kit.luks_key = key;
}

static void a_damaged_header_and_a_container_of_another_disk_are_told(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *one = fixture_path(f, "web.vda/head.luks");
    CLEANUP(mem_freep) char *two = fixture_path(f, "web.vdb/head.luks");
    CLEANUP(mem_freep) char *aside = mem_printf("%s/aside", f->root);

    fixture_copy(f);
    fixture_points(f, 1);
    store_closep(&f->store);
    fixture_flip(f, "web.vda/head.luks", 3);
    EXPECT_ERR(ERR_CORRUPT, open_again(f));
    EXPECT_TEXT("web.vda/head.luks: no header of a LUKS container of version 1");
    fixture_flip(f, "web.vda/head.luks", 3);
    assert_int_equal(rename(one, aside), 0);
    assert_int_equal(rename(two, one), 0);
    assert_int_equal(rename(aside, two), 0);
    EXPECT_ERR(ERR_CORRUPT, open_again(f));
    EXPECT_TEXT("web.vda/head.luks: a LUKS container, but not the one of this disk");
}

static void a_replica_that_was_begun_plainly_stays_plain(void **state)
{
    struct fixture *f = *state;
    char *key = f->kit.luks_key;

    store_closep(&f->store);
    f->kit.luks_key = NULL;
    EXPECT_OK(open_again(f));
    fixture_copy(f);
    f->kit.luks_key = key;
    EXPECT_OK(open_again(f));
    f->kit.luks_key = NULL;
    fixture_points(f, 1);
    EXPECT_OK(kit_check_head(&f->kit, 1, &err));
    f->kit.luks_key = key;
}

/* --- A copy that is mostly holes ----------------------------------------------------------- */

static void begin_big(struct fixture *f)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;

    *store_disks_push(&disks) = (struct store_disk){.name = "vda", .size = BIG_BYTES};
    EXPECT_OK(OPS->base_begin(f->store, &disks, 0, 1, 1, &err));
}

static void send_hole(struct fixture *f)
{
    const struct extent extent = {0, BIG_BYTES, true};
    CLEANUP(mem_freep) uint8_t *frame = mem_alloc(FRAME_SEALED_MAX, 1);
    struct uuid uuid;
    size_t len;

    uuid_new(&uuid);
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->kit.key, &uuid, COMPRESSION_NONE);
    frame_seal(coder, 0, &extent, 1, NULL, 0, frame, &len);
    EXPECT_OK(OPS->base_frame(f->store, "vda", &uuid, COMPRESSION_NONE, 0, frame, len, &err));
}

static void a_hole_is_taken_at_once_and_filled_in_parts_that_others_get_between(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = fixture_path(f, "vda/head.luks");
    struct stat st;

    begin_big(f);
    send_hole(f);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 < LUKS_HEADER_BYTES + 65536);
    for (size_t i = 1; i < PARTS; i++) {
        EXPECT_ERR(ERR_BUSY, OPS->base_end(f->store, &err));
        assert_int_equal(fixture_info(f).state, STORE_COPYING);
        assert_int_equal(stat(path, &st), 0);
        assert_true((uint64_t)st.st_blocks * 512 >= i * FILL_BYTES);
    }
    EXPECT_TEXT(
        "digests of disk vda: its LUKS container is being filled with zeros, 96 % are done");
    EXPECT_OK(OPS->base_end(f->store, &err));
    assert_int_equal(fixture_info(f).state, STORE_COPIED);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 >= LUKS_HEADER_BYTES + BIG_BYTES);
}

static void room_is_asked_for_the_whole_size_before_anything_is_written(void **state)
{
    struct fixture *f = *state;
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;

    *store_disks_push(&disks) = (struct store_disk){.name = "vda", .size = UINT64_C(1) << 50};
    EXPECT_ERR(ERR_SPACE, OPS->base_begin(f->store, &disks, 4096, 1, 1, &err));
    EXPECT_TEXT("the disks need 1.0 PiB");
    assert_int_equal(fixture_info(f).state, STORE_EMPTY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LUKS_TEST(qemu_opens_the_heads_and_reads_what_the_source_held),
        LUKS_TEST(every_kept_point_is_what_it_was_and_verifies),
        LUKS_TEST(nothing_of_the_disks_is_readable_in_the_folder),
        LUKS_TEST(an_older_point_is_promoted_and_head_goes_back_to_it),
        LUKS_TEST(a_container_grows_with_its_disk_and_is_as_large_again_on_the_way_back),
        LUKS_TEST(a_flipped_bit_of_a_container_is_found),
        LUKS_TEST(without_its_key_or_with_another_it_is_not_opened_and_not_changed),
        LUKS_TEST(a_damaged_header_and_a_container_of_another_disk_are_told),
        LUKS_TEST(a_replica_that_was_begun_plainly_stays_plain),
        LUKS_TEST(a_hole_is_taken_at_once_and_filled_in_parts_that_others_get_between),
        LUKS_TEST(room_is_asked_for_the_whole_size_before_anything_is_written),
    };
    return cmocka_run_group_tests_name("store_dir luks", tests, NULL, NULL);
}
