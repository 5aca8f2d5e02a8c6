// SPDX-License-Identifier: Apache-2.0
/* A store's whole life is recorded, operation by operation, and played back: cut at many places,
 * with what was not synced kept, lost, lost in part, or torn. Each time the store is opened, and
 * must be at a bit-exact point, with everything it ever promised; a tenth of the recoveries are
 * recorded and cut themselves. Then the store goes on: the next point comes and is applied.
 * MUSTER_CRASH_POINTS (2000) says how many cuts. */
#include "base/mem.h"
#include "base/str.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/dying_fs.h"
#include "support/replica/kit.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE           ((uint64_t)512 * 1024) /* of each of the two disks */
#define SMALL_SIZE     (256U * 1024U)
#define RECUT_ONE_IN   9U /* has no divisor in common with the losses */
#define LOSS_COUNT     4U
#define TOKEN_NEWEST   "run-1/promote"
#define TOKEN_OLDER    "run-2/promote"
#define FIRST_CHOSEN   12U
#define PROMOTED_FIRST 13U
#define CHOSEN_OLDER   13U /* two points after it are rolled back */
#define PROMOTED_OLDER 16U

#ifndef __has_feature
#define __has_feature(x) 0
#endif
/* A sanitizer takes ten times as long, and looks for other faults than the order of writes. */
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define DEFAULT_CUTS 200U
#else
#define DEFAULT_CUTS 2000U
#endif

struct history {
    struct kit kit;
    struct fs_record *record;
    struct store *store;
    char *root; /* where it was recorded */
};

/* What the marks before a cut promise. */
struct promise {
    bool copied;
    uint64_t durable;
    uint64_t oldest; /* nothing at or after it may be missing */
    uint64_t pinned; /* 0: none */
    uint64_t generation;
    const char *token; /* of a promotion that was begun */
    uint64_t chosen;
};

/* --- The history ------------------------------------------------------------------------- */

static void mark(struct history *h, const char *word, uint64_t number)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %" PRIu64, word, number);

    fs_record_mark(h->record, text);
}

static void commit(struct history *h, size_t writes)
{
    kit_scribble(&h->kit, writes);
    EXPECT_OK(kit_point(&h->kit, h->store, &err));
    mark(h, "durable", h->kit.point);
}

static void apply(struct history *h)
{
    uint64_t point;

    EXPECT_OK(h->store->ops->point_apply(h->store, &point, NULL, NULL, &err));
}

static void points(struct history *h, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        commit(h, 8);
        apply(h);
    }
}

static void prune(struct history *h, uint64_t keep, uint64_t oldest)
{
    mark(h, "oldest", oldest);
    EXPECT_OK(kit_prune(h->store, keep, &err));
}

static void promote(struct history *h, uint64_t point, const char *token)
{
    struct store_info info;
    uint64_t generation;
    uint64_t chosen;

    mark(h, token, point);
    EXPECT_OK(h->store->ops->promote(h->store, h->kit.generation, point, token, "lyon", h->kit.sign,
                                     1700000100000, &generation, &chosen, &err));
    EXPECT_OK(h->store->ops->info(h->store, &info, &err));
    kit_promoted(&h->kit, info.durable_point, &info.durable_hash, chosen, generation);
    mark(h, "durable", info.durable_point);
    mark(h, "generation", generation);
}

/* Points between pinned ones go, their undo files are merged; then head leaves points that are not
 * kept, first over an older one, then over none. */
static void thin_out(struct history *h)
{
    uint64_t pinned;

    points(h, 1);
    EXPECT_OK(h->store->ops->pin(h->store, 0, "old", &pinned, &err));
    mark(h, "pinned", pinned);
    points(h, 3);
    EXPECT_OK(h->store->ops->pin(h->store, 0, "young", &pinned, &err));
    points(h, 2);
    prune(h, 1, h->kit.point);
    points(h, 9);
    prune(h, 1, h->kit.point);
    mark(h, "pinned", 0);
    EXPECT_OK(h->store->ops->unpin(h->store, "old", &err));
    prune(h, 1, h->kit.point);
    EXPECT_OK(h->store->ops->unpin(h->store, "young", &err));
    prune(h, 1, h->kit.point);
    mark(h, "oldest", UINT64_MAX); /* of each that comes, only the newest stays */
    points(h, 2);
}

static void live(struct history *h)
{
    uint64_t pinned;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    kit_scribble(&h->kit, 60);
    EXPECT_OK(kit_copy(&h->kit, h->store, &err));
    mark(h, "copied", 0);
    points(h, 3);
    commit(h, 5); /* two points are durable before either is applied */
    commit(h, 5);
    apply(h);
    apply(h);
    EXPECT_OK(h->store->ops->pin(h->store, 4, "drill", &pinned, &err));
    mark(h, "pinned", pinned);
    points(h, 4);
    prune(h, 4, 4); /* the pin holds 4; without it, 6 would be the oldest */
    points(h, 2);
    mark(h, "pinned", 0);
    EXPECT_OK(h->store->ops->unpin(h->store, "drill", &err));
    prune(h, 4, 8);
    store_closep(&h->store);
    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    points(h, 1);
    promote(h, 0, TOKEN_NEWEST);
    points(h, 2);
    promote(h, CHOSEN_OLDER, TOKEN_OLDER);
    apply(h); /* rolls head back */
    points(h, 1);
    prune(h, 4, 14);
    thin_out(h);
    EXPECT_OK(store_dir_verify(h->store, NULL, &err));
    store_closep(&h->store);
}

static struct promise promise_at(const struct fs_record *record, size_t prefix)
{
    struct promise p = {.oldest = 1, .generation = 0};

    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind != FS_OP_MARK)
            continue;
        const char *text = op->bytes;
        uint64_t number;
        assert_true(str_to_u64(strrchr(text, ' ') + 1, &number));
        if (str_starts(text, "copied")) {
            p.copied = true;
            p.generation = 1;
        } else if (str_starts(text, "durable")) {
            p.durable = number;
        } else if (str_starts(text, "oldest")) {
            p.oldest = number;
        } else if (str_starts(text, "pinned")) {
            p.pinned = number;
        } else if (str_starts(text, "generation")) {
            p.generation = number;
        } else {
            p.token = str_starts(text, TOKEN_NEWEST) ? TOKEN_NEWEST : TOKEN_OLDER;
            p.chosen = number ? number : FIRST_CHOSEN;
        }
    }
    return p;
}

/* --- Judging one cut --------------------------------------------------------------------- */

static void check_kept(struct kit *kit, struct store *store, const struct store_info *info,
                       const struct promise *p)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    bool pinned = p->pinned == 0;

    EXPECT_OK(store->ops->points(store, &kept, &err));
    if (p->durable > 0) {
        assert_true(kept.len > 0);
        assert_true(kept.at[0].point <= p->oldest);
        assert_true(kept.at[kept.len - 1].point >= p->durable);
    }
    VEC_FOREACH(point, &kept) {
        const struct kit_image *image = kit_image(kit, point->point);
        assert_non_null(image);
        assert_memory_equal(&image->hash, &point->hash, sizeof(point->hash));
        pinned |= point->pinned && point->point == p->pinned;
        if (point->point <= info->applied_point)
            EXPECT_OK(kit_check_view(kit, point->point, &err));
    }
    assert_true(pinned);
    if (info->state == STORE_READY || info->state == STORE_COPIED)
        EXPECT_OK(kit_check_head(kit, info->applied_point, &err));
}

static void repeat_promotion(const struct kit *kit, struct store *store, const struct promise *p)
{
    uint64_t expected = str_eq(p->token, TOKEN_NEWEST) ? 1 : 2;
    uint64_t generation;
    uint64_t chosen;

    EXPECT_OK(store->ops->promote(store, expected, p->chosen, p->token, "lyon", kit->sign,
                                  1700000100000, &generation, &chosen, &err));
    assert_int_equal(generation, expected + 1);
    assert_int_equal(chosen, p->chosen);
}

/* A promotion that was made now, not in the history, has a manifest of its own. */
static void know_promotion(struct kit *kit, const struct store_info *info, const struct promise *p)
{
    const struct kit_image *image = kit_image(kit, info->durable_point);

    if (!image || memcmp(&image->hash, &info->durable_hash, sizeof(image->hash)) != 0)
        kit_promoted(kit, info->durable_point, &info->durable_hash, p->chosen, info->generation);
}

static void go_on(const struct history *h, const char *root, const struct promise *p)
{
    struct kit from;
    struct kit kit;
    struct store *store;
    struct store_info info;
    uint64_t point;

    kit_resume(&from, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&from, fs_real(), &store, &err));
    if (p->token)
        repeat_promotion(&from, store, p);
    do
        EXPECT_OK(store->ops->point_apply(store, &point, NULL, NULL, &err));
    while (point != 0);
    EXPECT_OK(store->ops->info(store, &info, &err));
    if (p->token)
        know_promotion(&from, &info, p);
    kit_resume(&kit, &from, root, info.durable_point, info.generation ? info.generation : 1);
    if (info.state == STORE_EMPTY || info.state == STORE_COPYING)
        EXPECT_OK(kit_copy(&kit, store, &err));
    kit_scribble(&kit, 10);
    EXPECT_OK(kit_prune(store, 100, &err));
    EXPECT_OK(kit_point_applied(&kit, store, &err));
    EXPECT_OK(kit_check_head(&kit, kit.point, &err));
    if (info.durable_point > 0)
        EXPECT_OK(kit_check_view(&kit, info.durable_point, &err));
    EXPECT_OK(store_dir_verify(store, NULL, &err));
    store_close(store);
    kit_done(&kit);
    kit_done(&from);
}

/* `p` becomes what the opened store says of itself: it must keep that too. */
static void open_and_check(const struct history *h, const char *root, struct promise *p,
                           struct fs *fs)
{
    struct kit kit;
    struct store *store;
    struct store_info info;

    kit_resume(&kit, &h->kit, root, 0, 1);
    EXPECT_OK(kit_open(&kit, fs, &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    if (p->copied)
        assert_true(info.state == STORE_COPIED || info.state == STORE_READY);
    assert_true(info.durable_point >= p->durable);
    assert_true(info.generation >= p->generation);
    check_kept(&kit, store, &info, p);
    p->copied = info.state == STORE_COPIED || info.state == STORE_READY;
    p->durable = info.durable_point;
    p->generation = info.generation;
    store_close(store);
    kit_done(&kit);
}

/* Plays the first `prefix` operations into an empty folder, and judges what is there. */
static void cut(const struct history *h, const struct fs_record *record, size_t prefix,
                enum fs_loss loss, uint64_t seed, const struct promise *promised, bool again);

/* Records the recovery, and cuts it anywhere, or at its end. */
static void recut(const struct history *h, const char *root, uint64_t seed,
                  const struct promise *promised)
{
    struct promise now = *promised;
    struct fs_record *recovery = fs_record_new(root);
    enum fs_loss loss = (enum fs_loss)(seed / 2 % LOSS_COUNT);

    open_and_check(h, root, &now, fs_record_fs(recovery));
    size_t count = fs_record_count(recovery);
    if (seed % 2)
        cut(h, recovery, (size_t)(seed * 2654435761U % (count + 1)), loss, seed, promised, false);
    else
        cut(h, recovery, count, loss, seed, &now, false);
    fs_record_free(recovery);
}

static void cut(const struct history *h, const struct fs_record *record, size_t prefix,
                enum fs_loss loss, uint64_t seed, const struct promise *promised, bool again)
{
    struct promise now = *promised;
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    EXPECT_OK(fs_record_replay(record, prefix, loss, seed, root, &err));
    if (again)
        recut(h, root, seed, promised);
    else
        open_and_check(h, root, &now, fs_real());
    go_on(h, root, promised);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

/* --- A killed process, then power loss --------------------------------------------------- */

/* Lives as long as it may; errors are what being killed looks like from inside. */
static void live_until_killed(struct kit *kit, struct fs *fs)
{
    struct store *store;
    struct err killed;

    if (kit_open(kit, fs, &store, &killed) < 0)
        return;
    int rc = kit_copy(kit, store, &killed);
    for (size_t i = 0; rc == 0 && i < 3; i++) {
        kit_scribble(kit, 4);
        rc = kit_point_applied(kit, store, &killed);
    }
    store_close(store);
}

/* The daemon is killed after `changes`, starts again, says what it has; then the power goes. */
static void kill_and_cut(const char *root, uint64_t changes, enum fs_loss loss)
{
    struct history h = {.root = mem_strdup(root)};
    struct promise now = {.oldest = 1};
    struct dying_fs dying;

    kit_init(&h.kit, root, SMALL_SIZE, changes);
    kit_scribble(&h.kit, 6);
    h.record = fs_record_new(root);
    dying_fs_init(&dying, fs_record_fs(h.record), changes);
    live_until_killed(&h.kit, &dying.fs);
    if (!kit_image(&h.kit, 0)) { /* killed before the copy */
        const struct sha256 none = {{0}};
        kit_keep_image(&h.kit, 0, &none);
    }
    open_and_check(&h, root, &now, fs_record_fs(h.record));
    cut(&h, h.record, fs_record_count(h.record), loss, changes, &now, false);
    fs_record_free(h.record);
    kit_done(&h.kit);
    free(h.root);
}

static void what_a_restarted_daemon_says_survives_a_power_cut(void **state)
{
    (void)state;
    for (uint64_t changes = 1; changes < 330; changes += 3)
        for (unsigned loss = FS_LOSS_ALL; loss <= FS_LOSS_SOME; loss++) {
            void *root;
            assert_int_equal(tmpdir_setup(&root), 0);
            kill_and_cut(root, changes + loss, (enum fs_loss)loss);
            assert_int_equal(tmpdir_teardown(&root), 0);
        }
}

static size_t wanted_cuts(void)
{
    const char *text = getenv("MUSTER_CRASH_POINTS");
    uint64_t count = 0;

    return text && str_to_u64(text, &count) && count > 0 ? (size_t)count : DEFAULT_CUTS;
}

static int setup(void **state)
{
    struct history *h = mem_new(struct history);
    void *root;

    if (tmpdir_setup(&root) < 0)
        return -1;
    h->root = root;
    kit_init(&h->kit, h->root, SIZE, 4711);
    h->record = fs_record_new(h->root);
    *state = h;
    return 0;
}

static int teardown(void **state)
{
    struct history *h = *state;
    void *root = h->root;

    store_close(h->store);
    fs_record_free(h->record);
    kit_done(&h->kit);
    free(h);
    return tmpdir_teardown(&root);
}

/* Every `step`-th cut from `first` on; how many recoveries were cut again. */
static size_t judge(const struct history *h, size_t cuts, size_t first, size_t step)
{
    size_t count = fs_record_count(h->record);
    size_t again = 0;

    for (size_t i = first; i < cuts; i += step) {
        size_t prefix = cuts > 1 ? (size_t)((uint64_t)i * count / (cuts - 1)) : count;
        const struct promise p = promise_at(h->record, prefix);
        bool twice = i % RECUT_ONE_IN == 0;
        if (getenv("MUSTER_CRASH_SAY"))
            (void)fprintf(stderr, "cut %zu: %zu of %zu operations, loss %zu\n", i, prefix, count,
                          i % LOSS_COUNT);
        cut(h, h->record, prefix, (enum fs_loss)(i % LOSS_COUNT), i, &p, twice);
        again += twice;
    }
    return again;
}

static void a_store_cut_anywhere_recovers_to_a_bit_exact_point_and_keeps_its_word(void **state)
{
    struct history *h = *state;
    size_t cuts = wanted_cuts();
    int status;

    live(h);
    /* Two at a time. What fails in the child is printed there. */
    pid_t child = fork();
    assert_true(child >= 0);
    size_t again = judge(h, cuts, child == 0 ? 1 : 0, 2);
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    (void)printf("%zu operations recorded, %zu cuts judged, about %zu of their recoveries cut"
                 " again\n",
                 fs_record_count(h->record), cuts, 2 * again);
}

int main(void)
{
    /* Blocks of some MiB come and go all the time; they need not come from the system anew. */
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    /* Two thousand small replicas are made and removed: in memory, where there is such a place. */
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_store_cut_anywhere_recovers_to_a_bit_exact_point_and_keeps_its_word, setup, teardown),
        cmocka_unit_test(what_a_restarted_daemon_says_survives_a_power_cut),
    };
    return cmocka_run_group_tests_name("crash store", tests, NULL, NULL);
}
