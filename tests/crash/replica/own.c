// SPDX-License-Identifier: Apache-2.0
/* The way back: a machine's own disks are adopted with its last writes as a branch, reverse points
 * come, the site is promoted, the machine takes its disks back. Played back, cut everywhere
 * (support/replica/crash.h): the disks must be at a bit-exact point, the branch must be what it was,
 * and everything goes on to the same end. */
#include "support/replica/own.h"
#include "base/mem.h"
#include "base/str.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/crash.h"
#include "support/replica/moved_fs.h"
#include "support/tmpdir.h"

#define SIZE   ((uint64_t)128 * 1024) /* of each of the two disks */
#define ROUNDS 2U
#define CUTS   2500U
#define COMMON 2U /* the last point both sites had */
#define BRANCH 3U /* what the machine wrote after it */
#define TIP    5U /* the other site's promotion */
#define LAST   9U /* the last point of there */
#define TOKEN  "failback-1"

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

static void reverse_point(struct history *h, bool applied)
{
    uint64_t point;

    kit_scribble(&h->kit, 10);
    EXPECT_OK(kit_point(&h->kit, h->store, &err));
    crash_mark(h->record, "durable", h->kit.point);
    if (applied)
        EXPECT_OK(h->store->ops->point_apply(h->store, &point, NULL, NULL, &err));
}

static void step_adopt(void *ctx)
{
    struct history *h = ctx;
    uint64_t chosen;

    EXPECT_OK(kit_open(&h->kit, fs_record_fs(h->record), &h->store, &err));
    EXPECT_OK(own_adopt(&h->own, h->store, &err));
    crash_mark(h->record, "adopted", 0);
    EXPECT_OK(h->store->ops->pin(h->store, BRANCH, "branch", &chosen, &err));
    crash_mark(h->record, "pinned", BRANCH);
}

static void step_points(void *ctx)
{
    struct history *h = ctx;
    uint64_t point;

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
}

static void step_promote(void *ctx)
{
    struct history *h = ctx;
    uint64_t generation;
    uint64_t chosen;

    EXPECT_OK(h->store->ops->promote(h->store, 2, 0, TOKEN, "paris", h->kit.sign, 1700000100000,
                                     &generation, &chosen, &err));
    crash_mark(h->record, "promoted", generation);
}

static void step_release(void *ctx)
{
    struct history *h = ctx;

    EXPECT_OK(store_dir_release(h->store, NULL, &err));
    crash_mark(h->record, "released", 0);
    store_closep(&h->store);
}

static const struct crash_step steps[] = {
    {"adoption", step_adopt},
    {"reverse points", step_points},
    {"promotion", step_promote},
    {"release", step_release},
};

/* A site that was the source: two points sent, some writes after the second. */
static void begin(struct history *h, void *root, uint64_t seed)
{
    struct store *elsewhere;

    h->root = root;
    kit_init(&h->kit, h->root, SIZE, seed);
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

static void promise_at(void *ctx, const struct fs_record *record, size_t prefix, void *ret_promise)
{
    struct promise *p = ret_promise;
    uint64_t number;

    (void)ctx;
    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        p->adopted |= crash_marked(op, "adopted", &number);
        p->pinned |= crash_marked(op, "pinned", &number);
        p->promoted |= crash_marked(op, "promoted", &number);
        p->released |= crash_marked(op, "released", &number);
        (void)crash_marked(op, "durable", &p->durable);
    }
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
static void go_on_with(const struct history *h, const char *root, struct store *store,
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

/* What was played back, open. */
struct opened {
    struct moved_fs moved;
    struct kit kit;
    char *paths[KIT_DISKS];
    struct store *store;
};

static void opened_done(struct opened *o)
{
    store_closep(&o->store);
    kit_done(&o->kit);
    for (size_t i = 0; i < KIT_DISKS; i++)
        free(o->paths[i]);
}

static void open_played(const struct history *h, const char *root, struct fs *fs, struct opened *o)
{
    moved_fs_init(&o->moved, fs, h->root, root);
    kit_of(&o->kit, h, root, BRANCH, &o->moved, o->paths);
    EXPECT_OK(kit_open(&o->kit, &o->moved.fs, &o->store, &err));
}

static void recover(void *ctx, const char *root, struct fs *fs, void *promise)
{
    CLEANUP(opened_done) struct opened o = {0};

    open_played(ctx, root, fs, &o);
    check(&o.kit, o.store, promise);
}

static void go_on(void *ctx, const char *root, const void *promise)
{
    CLEANUP(opened_done) struct opened o = {0};

    (void)promise;
    open_played(ctx, root, fs_real(), &o);
    go_on_with(ctx, root, o.store, &o.moved);
}

static void judge_round(uint64_t round)
{
    static const struct crash_ops ops = {promise_at, recover, go_on};
    struct history h = {0};
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    begin(&h, root, 815 + round);
    crash_live(h.record, steps, ARRAY_LEN(steps), &h);
    crash_judge(&(struct crash_sweep){
        .name = "own disks",
        .ops = &ops,
        .ctx = &h,
        .promise_bytes = sizeof(struct promise),
        .record = h.record,
        .round = round,
        .cuts = CUTS,
    });
    own_done(&h.own);
    fs_record_free(h.record);
    kit_done(&h.kit);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static void own_disks_cut_anywhere_are_at_a_bit_exact_point_and_the_branch_is_kept(void **state)
{
    (void)state;
    for (uint64_t round = crash_first_round(); round < crash_end_round(ROUNDS); round++)
        judge_round(round);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_disks_cut_anywhere_are_at_a_bit_exact_point_and_the_branch_is_kept),
    };
    crash_prepare();
    return cmocka_run_group_tests_name("crash own", tests, NULL, NULL);
}
