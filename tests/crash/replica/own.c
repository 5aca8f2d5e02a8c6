// SPDX-License-Identifier: Apache-2.0
/* The way back, recorded operation by operation and played back, cut at many places, with what was
 * not synced kept, lost, lost in part, or torn: a machine's own disks are adopted with its last
 * writes as a branch, reverse points come, the site is promoted, the machine takes its disks back.
 * Each time the disks must be at a bit-exact point, the branch must be what it was, and everything
 * goes on to the same end. MUSTER_CRASH_POINTS (600) says how many cuts. */
#include "support/replica/own.h"
#include "base/mem.h"
#include "base/str.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/moved_fs.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE       ((uint64_t)512 * 1024) /* of each of the two disks */
#define LOSS_COUNT 4U
#define COMMON     2U /* the last point both sites had */
#define BRANCH     3U /* what the machine wrote after it */
#define TIP        5U /* the other site's promotion */
#define LAST       9U /* the last point of there */
#define TOKEN      "failback-1"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define DEFAULT_CUTS 100U
#else
#define DEFAULT_CUTS 600U
#endif

struct history {
    struct kit kit;
    struct own own;
    struct fs_record *record;
    struct store *store;
    char *root; /* where it was recorded */
    struct sha256 tip;
};

/* What the marks before a cut promise. */
struct promise {
    bool adopted;
    uint64_t durable;
    bool pinned;
    bool promoted;
    bool released;
};

/* --- The history ------------------------------------------------------------------------- */

static void mark(struct history *h, const char *word, uint64_t number)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %" PRIu64, word, number);

    fs_record_mark(h->record, text);
}

static void reverse_point(struct history *h, bool applied)
{
    uint64_t point;

    kit_scribble(&h->kit, 10);
    EXPECT_OK(kit_point(&h->kit, h->store, &err));
    mark(h, "durable", h->kit.point);
    if (applied)
        EXPECT_OK(h->store->ops->point_apply(h->store, &point, NULL, NULL, &err));
}

static void live(struct history *h)
{
    uint64_t generation;
    uint64_t chosen;
    uint64_t point;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    EXPECT_OK(own_adopt(&h->own, h->store, &err));
    mark(h, "adopted", 0);
    EXPECT_OK(h->store->ops->pin(h->store, BRANCH, "branch", &chosen, &err));
    mark(h, "pinned", BRANCH);
    reverse_point(h, true);
    reverse_point(h, false); /* two are durable before either is applied */
    reverse_point(h, false);
    EXPECT_OK(h->store->ops->point_apply(h->store, &point, NULL, NULL, &err));
    store_closep(&h->store);
    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    EXPECT_OK(h->store->ops->point_apply(h->store, &point, NULL, NULL, &err));
    EXPECT_OK(kit_prune(h->store, 1, &err)); /* the pin holds them all */
    reverse_point(h, true);
    assert_int_equal(h->kit.point, LAST);
    EXPECT_OK(h->store->ops->promote(h->store, 2, 0, TOKEN, "paris", h->kit.sign, 1700000100000,
                                     &generation, &chosen, &err));
    mark(h, "promoted", generation);
    EXPECT_OK(store_dir_release(h->store, NULL, &err));
    mark(h, "released", 0);
    store_closep(&h->store);
}

/* A site that was the source: two points sent, some writes after the second. */
static void begin(struct history *h, void *root)
{
    struct store *elsewhere;

    h->root = root;
    kit_init(&h->kit, h->root, SIZE, 815);
    kit_scribble(&h->kit, 60);
    EXPECT_OK(kit_open(&h->kit, fs_real(), &elsewhere, &err));
    EXPECT_OK(kit_copy(&h->kit, elsewhere, &err));
    for (size_t i = 0; i < COMMON; i++) {
        kit_scribble(&h->kit, 8);
        EXPECT_OK(kit_point_applied(&h->kit, elsewhere, &err));
    }
    store_close(elsewhere);
    EXPECT_OK(store_dir_remove(fs_real(), h->kit.dir, &err));
    kit_scribble(&h->kit, 12);
    char *branch = kit_branch(&h->kit);
    struct kit there; /* which goes on from the common point, not from the branch */
    kit_resume(&there, &h->kit, h->root, COMMON, 1);
    char *tip = kit_taken_over(&there, TIP, 2);
    kit_done(&there);
    EXPECT_OK(own_init(&h->own, &h->kit, h->root, OWN_RAW, branch, tip, &err));
    h->own.adopt.digests = own_digests;
    /* The kit writes on as that site does, on the base of the branch. */
    struct manifest m;
    manifest_init(&m);
    EXPECT_OK(manifest_parse(tip, strlen(tip), &m, &err));
    h->kit.base_point = BRANCH;
    h->kit.base = h->kit.parent;
    h->kit.generation = 2;
    h->kit.point = TIP;
    manifest_hash(&m, &h->tip);
    h->kit.parent = h->tip;
    manifest_done(&m);
    h->record = fs_record_new(h->root);
    fs_record_fs(h->record)->stamp = NULL; /* a played-back file has another */
}

static struct promise promise_at(const struct fs_record *record, size_t prefix)
{
    struct promise p = {0};

    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind != FS_OP_MARK)
            continue;
        const char *text = op->bytes;
        p.adopted |= str_starts(text, "adopted");
        p.pinned |= str_starts(text, "pinned");
        p.promoted |= str_starts(text, "promoted");
        p.released |= str_starts(text, "released");
        if (str_starts(text, "durable"))
            assert_true(str_to_u64(strrchr(text, ' ') + 1, &p.durable));
    }
    return p;
}

/* --- Judging one cut --------------------------------------------------------------------- */

/* A kit over the replayed folder: same images, same keys, disks where they are now. */
static void kit_of(struct kit *kit, const struct history *h, const char *root, uint64_t point,
                   struct moved_fs *moved, char *paths[KIT_DISKS])
{
    kit_resume(kit, &h->kit, root, point, 2);
    kit->heads = &moved->fs;
    for (size_t i = 0; i < KIT_DISKS; i++) {
        paths[i] = mem_printf("%s%s", root, h->own.paths[i] + strlen(h->root));
        kit->own[i] = paths[i];
    }
}

static uint64_t head_of(const struct store_info *info)
{
    /* The promotion changes nothing: its image is that of the last point. */
    if (info->applied_point > LAST)
        return LAST;
    return info->applied_point ? info->applied_point : BRANCH;
}

static void check_points(struct kit *kit, struct store *store, const struct store_info *info,
                         const struct promise *p)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    bool pinned = !p->pinned;
    bool branch = info->state != STORE_READY;

    EXPECT_OK(store->ops->points(store, &kept, &err));
    VEC_FOREACH(point, &kept) {
        pinned |= point->pinned && point->point == BRANCH;
        branch |= point->point == BRANCH;
        if (point->point <= LAST) {
            assert_memory_equal(&kit_image(kit, point->point)->hash, &point->hash, SHA256_BYTES);
            if (point->point <= info->applied_point && !info->released)
                EXPECT_OK(kit_check_view(kit, point->point, &err));
        }
    }
    assert_true(pinned);
    assert_true(branch);
}

static void check(struct kit *kit, struct store *store, const struct promise *p)
{
    struct store_info info;

    EXPECT_OK(store->ops->info(store, &info, &err));
    assert_int_equal(info.applying, 0);
    assert_true(!p->adopted || (info.state == STORE_READY && info.generation >= 2));
    assert_true(info.durable_point >= p->durable);
    assert_true(!p->promoted || info.generation == 3);
    assert_true(!p->released || info.released);
    EXPECT_OK(kit_check_head(kit, head_of(&info), &err));
    check_points(kit, store, &info, p);
}

/* To the same end, whatever was done: adopted, all points applied, promoted, released. */
static void go_on(const struct history *h, const char *root, struct store *store,
                  struct moved_fs *moved)
{
    CLEANUP(mem_freep) char *a = NULL;
    CLEANUP(mem_freep) char *b = NULL;
    char *paths[KIT_DISKS];
    struct store_info info;
    uint64_t generation;
    uint64_t chosen;
    uint64_t point;
    struct kit kit;

    EXPECT_OK(store->ops->info(store, &info, &err));
    if (!info.released)
        EXPECT_OK(store_dir_adopt(store, &h->own.adopt, NULL, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    kit_of(&kit, h, root, info.durable_point > LAST ? LAST : info.durable_point, moved, paths);
    a = paths[0];
    b = paths[1];
    if (info.durable_point == BRANCH) { /* the first reverse point is to come */
        kit.base_point = BRANCH;
        kit.base = kit.parent;
        kit.parent = h->tip;
        kit.point = TIP;
    }
    if (info.generation == 2) {
        kit_scribble(&kit, 10);
        EXPECT_OK(kit_point(&kit, store, &err));
        do
            EXPECT_OK(store->ops->point_apply(store, &point, NULL, NULL, &err));
        while (point != 0);
        EXPECT_OK(kit_check_head(&kit, kit.point, &err));
        EXPECT_OK(kit_check_view(&kit, BRANCH, &err));
        EXPECT_OK(store_dir_verify(store, NULL, &err));
    }
    EXPECT_OK(store->ops->promote(store, 2, 0, TOKEN, "paris", kit.sign, 1700000100000, &generation,
                                  &chosen, &err));
    assert_int_equal(generation, 3);
    EXPECT_OK(store_dir_release(store, NULL, &err));
    EXPECT_OK(kit_check_head(&kit, chosen, &err));
    kit_done(&kit);
}

static void judge(const struct history *h, size_t prefix, enum fs_loss loss, uint64_t seed)
{
    const struct promise p = promise_at(h->record, prefix);
    CLEANUP(mem_freep) char *a = NULL;
    CLEANUP(mem_freep) char *b = NULL;
    CLEANUP(store_closep) struct store *store = NULL;
    char *paths[KIT_DISKS];
    struct moved_fs moved;
    struct kit kit;
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    EXPECT_OK(fs_record_replay(h->record, prefix, loss, seed, root, &err));
    moved_fs_init(&moved, fs_real(), h->root, root);
    kit_of(&kit, h, root, BRANCH, &moved, paths);
    a = paths[0];
    b = paths[1];
    EXPECT_OK(kit_open(&kit, &moved.fs, &store, &err));
    check(&kit, store, &p);
    store_closep(&store);
    EXPECT_OK(kit_open(&kit, &moved.fs, &store, &err)); /* recovering is done once */
    check(&kit, store, &p);
    go_on(h, root, store, &moved);
    kit_done(&kit);
    store_closep(&store);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static size_t wanted_cuts(void)
{
    const char *text = getenv("MUSTER_CRASH_POINTS");
    uint64_t count = 0;

    return text && str_to_u64(text, &count) && count > 1 ? (size_t)count : DEFAULT_CUTS;
}

static void own_disks_cut_anywhere_are_at_a_bit_exact_point_and_the_branch_is_kept(void **state)
{
    struct history h = {0};
    size_t cuts = wanted_cuts();
    void *root;

    (void)state;
    assert_int_equal(tmpdir_setup(&root), 0);
    begin(&h, root);
    live(&h);
    size_t count = fs_record_count(h.record);
    for (size_t i = 0; i < cuts; i++)
        judge(&h, (size_t)((uint64_t)i * count / (cuts - 1)), (enum fs_loss)(i % LOSS_COUNT), i);
    (void)printf("%zu operations recorded, %zu cuts judged\n", count, cuts);
    own_done(&h.own);
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_disks_cut_anywhere_are_at_a_bit_exact_point_and_the_branch_is_kept),
    };
    return cmocka_run_group_tests_name("crash own", tests, NULL, NULL);
}
