// SPDX-License-Identifier: Apache-2.0
/* A replica rots, is verified, repaired, written to over its damage, rolled back over it; all of that is
 * recorded and cut anywhere, with what was not synced kept, lost, lost in part, or torn. Whenever it is
 * opened again, no kept point shows other bytes than the disks held: it shows them, or it fails; what
 * verify does not name can be read in full; and one point that brings all chunks is whole.
 * MUSTER_CRASH_POINTS (800) says how many cuts. */
#include "base/mem.h"
#include "replica/chunk.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/kit.h"
#include "support/replica/signs.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE       ((uint64_t)512 * 1024) /* of each of the two disks */
#define DISK       1
#define LOSS_COUNT 4U

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define DEFAULT_CUTS 100U
#else
#define DEFAULT_CUTS 800U
#endif

struct history {
    struct kit kit;
    struct fs_record *record;
    struct store *store;
    char *root;
};

/* --- The history ------------------------------------------------------------------------- */

static void rot_file(struct history *h, const char *name, uint64_t off)
{
    CLEANUP(mem_freep)
    char *path = mem_printf("%s/%s/%s", h->kit.dir, h->kit.disks[DISK].name, name);
    struct fs *fs = fs_record_fs(h->record);
    uint8_t byte;
    int fd;

    fs_record_mark(h->record, "rot");
    EXPECT_OK(fs->open(fs, path, O_RDWR, 0, &fd, &err));
    EXPECT_OK(fs->pread(fs, fd, &byte, 1, off, &err));
    byte ^= 0x20;
    EXPECT_OK(fs->pwrite(fs, fd, &byte, 1, off, &err));
    EXPECT_OK(fs->sync(fs, fd, &err));
    EXPECT_OK(fs->close(fs, fd));
}

static void rot(struct history *h, uint64_t chunk)
{
    rot_file(h, "head.raw", chunk * CHUNK_BYTES + 50000);
}

static void point(struct history *h)
{
    EXPECT_OK(kit_point_applied(&h->kit, h->store, &err));
}

static void write_whole(struct history *h, uint64_t chunk, bool changed)
{
    uint8_t bytes[CHUNK_BYTES];

    memcpy(bytes, h->kit.disks[DISK].bytes + chunk * CHUNK_BYTES, sizeof(bytes));
    if (changed)
        memset(bytes + 9000, (int)h->kit.point, 3000);
    kit_write(&h->kit, DISK, chunk * CHUNK_BYTES, bytes, sizeof(bytes));
}

static void write_part(struct history *h, uint64_t chunk)
{
    uint8_t bytes[BLOCK_BYTES];

    memset(bytes, 0xd0 + (int)h->kit.point, sizeof(bytes));
    kit_write(&h->kit, DISK, chunk * CHUNK_BYTES + BLOCK_BYTES, bytes, sizeof(bytes));
}

static void verify(struct history *h)
{
    err_clear(&err);
    if (store_dir_verify(h->store, NULL, &err) < 0)
        assert_int_equal(err.code, ERR_CORRUPT);
    else
        fs_record_mark(h->record, "whole");
}

static void live(struct history *h)
{
    struct store_info info;
    uint64_t generation;
    uint64_t chosen;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    for (uint64_t chunk = 0; chunk < SIZE / CHUNK_BYTES; chunk++)
        write_part(h, chunk);
    kit_scribble(&h->kit, 60);
    EXPECT_OK(kit_copy(&h->kit, h->store, &err));
    rot(h, 1); /* before there is a point */
    write_part(h, 1);
    point(h);
    write_whole(h, 1, true);
    point(h);
    verify(h);
    for (size_t i = 0; i < 2; i++) {
        kit_scribble(&h->kit, 4);
        point(h);
    }
    rot(h, 2);
    rot(h, 3);
    verify(h);
    write_whole(h, 2, false); /* healed for all points */
    point(h);
    verify(h);
    write_whole(h, 3, true); /* for this one and later ones */
    point(h);
    verify(h);
    rot(h, 4);
    write_part(h, 4); /* nobody has seen it */
    point(h);
    EXPECT_OK(kit_prune(h->store, 4, &err));
    write_whole(h, 4, false);
    point(h);
    rot_file(h, "digests", 4096 + 5 * 16);
    verify(h);
    write_whole(h, 5, false);
    point(h);
    EXPECT_OK(h->store->ops->promote(h->store, 1, h->kit.point - 1, "run-1/promote", "lyon",
                                     h->kit.sign, 1700000100000, &generation, &chosen, &err));
    EXPECT_OK(h->store->ops->info(h->store, &info, &err));
    kit_promoted(&h->kit, info.durable_point, &info.durable_hash, chosen, generation);
    EXPECT_OK(h->store->ops->point_apply(h->store, &chosen, NULL, NULL, &err));
    EXPECT_OK(kit_prune(h->store, 2, &err));
    verify(h);
    store_closep(&h->store);
}

/* Nothing rotted since verify found nothing. */
static bool is_whole(const struct fs_record *record, size_t prefix)
{
    bool whole = false;

    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind == FS_OP_MARK)
            whole = str_eq(op->bytes, "whole");
    }
    return whole;
}

/* --- Judging one cut --------------------------------------------------------------------- */

static bool reads_right(struct kit *kit, uint64_t number)
{
    const struct kit_image *image = kit_image(kit, number);
    uint8_t have[CHUNK_BYTES];
    bool all = true;

    assert_non_null(image);
    for (size_t i = 0; i < KIT_DISKS; i++) {
        CLEANUP(view_closep) struct view *view = NULL;
        EXPECT_OK(view_open(kit->dir, kit->disks[i].name, number, &kit->key, NULL, &view, &err));
        for (uint64_t off = 0; off < SIZE; off += sizeof(have)) {
            err_clear(&err);
            if (view_read(view, off, have, sizeof(have), &err) < 0) {
                assert_int_equal(err.code, ERR_CORRUPT);
                all = false;
            } else if (memcmp(have, image->bytes[i] + off, sizeof(have)) != 0) {
                fail_msg("point %" PRIu64 " of disk %zu reads wrong at %" PRIu64, number, i, off);
            }
        }
    }
    return all;
}

static void check_points(struct kit *kit, struct store *store, bool whole)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    struct store_info info;

    EXPECT_OK(store->ops->info(store, &info, &err));
    EXPECT_OK(store->ops->points(store, &kept, &err));
    VEC_FOREACH(at, &kept) {
        if (at->point > info.applied_point)
            continue;
        bool right = reads_right(kit, at->point);
        if (!right && (whole || at->damaged_chunks == 0))
            fail_msg("point %" PRIu64 " cannot be read, and nothing is said of it", at->point);
    }
}

static void go_on(const struct history *h, const char *root, bool whole)
{
    CLEANUP(store_closep) struct store *store = NULL;
    struct store_info info;
    struct kit kit;
    struct kit from;
    uint64_t applied;

    kit_resume(&from, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&from, fs_real(), &store, &err));
    do
        EXPECT_OK(store->ops->point_apply(store, &applied, NULL, NULL, &err));
    while (applied != 0);
    EXPECT_OK(store->ops->info(store, &info, &err));
    kit_resume(&kit, &from, root, info.durable_point, info.generation ? info.generation : 1);
    if (info.state == STORE_EMPTY || info.state == STORE_COPYING)
        EXPECT_OK(kit_copy(&kit, store, &err));
    if (info.applied_point > 0) {
        err_clear(&err);
        if (store_dir_verify(store, NULL, &err) < 0) {
            assert_int_equal(err.code, ERR_CORRUPT);
            assert_false(whole);
        }
        check_points(&kit, store, whole);
    }
    for (size_t i = 0; i < KIT_DISKS; i++)
        kit_write(&kit, i, 0, kit.disks[i].bytes, (size_t)kit.disks[i].size);
    kit_scribble(&kit, 5);
    EXPECT_OK(kit_point_applied(&kit, store, &err));
    EXPECT_OK(kit_check_head(&kit, kit.point, &err));
    EXPECT_OK(kit_check_view(&kit, kit.point, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_int_equal(info.damaged_head, 0);
    EXPECT_OK(kit_prune(store, 1, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    kit_done(&kit);
    kit_done(&from);
}

static void judge(const struct history *h, size_t prefix, enum fs_loss loss, uint64_t seed)
{
    bool whole = is_whole(h->record, prefix);
    struct store *store;
    struct kit kit;
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    EXPECT_OK(fs_record_replay(h->record, prefix, loss, seed, root, &err));
    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs_real(), &store, &err)); /* recovers */
    store_close(store);
    kit_done(&kit);
    go_on(h, root, whole);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static size_t wanted_cuts(void)
{
    const char *text = getenv("MUSTER_CRASH_POINTS");
    uint64_t count = 0;

    return text && str_to_u64(text, &count) && count > 1 ? (size_t)count : DEFAULT_CUTS;
}

static void a_replica_that_rots_and_is_repaired_shows_no_wrong_byte_wherever_it_is_cut(void **state)
{
    struct history h = {0};
    size_t cuts = wanted_cuts();
    void *root;

    (void)state;
    assert_int_equal(tmpdir_setup(&root), 0);
    h.root = root;
    kit_init(&h.kit, h.root, SIZE, 99);
    h.record = fs_record_new(h.root);
    live(&h);
    size_t count = fs_record_count(h.record);
    for (size_t i = 0; i < cuts; i++) {
        size_t prefix = (size_t)((uint64_t)i * count / (cuts - 1));
        if (getenv("MUSTER_CRASH_SAY"))
            (void)fprintf(stderr, "cut %zu: %zu of %zu operations, loss %zu\n", i, prefix, count,
                          i % LOSS_COUNT);
        judge(&h, prefix, (enum fs_loss)(i % LOSS_COUNT), i);
    }
    (void)printf("%zu operations recorded, %zu cuts judged\n", count, cuts);
    fs_record_free(h.record);
    kit_done(&h.kit);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

int main(void)
{
    /* Blocks of some MiB come and go all the time; they need not come from the system anew. */
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    signs_remember();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_replica_that_rots_and_is_repaired_shows_no_wrong_byte_wherever_it_is_cut),
    };
    return cmocka_run_group_tests_name("crash damage", tests, NULL, NULL);
}
