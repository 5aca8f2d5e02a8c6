// SPDX-License-Identifier: Apache-2.0
/* The source's files: checkpoint, outbox, the copy of the digests, what a rescan found. A session
 * lives through the steps below; its file operations are recorded, with how far the replica and the
 * machine were at each. Played back, cut everywhere (support/replica/crash.h), it must go on: no
 * change is lost, every point that is kept is the source's cut bit for bit. When what was not synced
 * is gone, the host was without power: QEMU is another one, and knows of no changes; the replica
 * may have lost its power, too. One in a few dies once more while it goes on. */
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/replica/crash.h"
#include "support/sync/sim_internal.h"
#include "support/tmpdir.h"

#include <stdlib.h>

#define KIB         1024U
#define ROUNDS      2U
#define CUTS        1000U
#define DIES_ONE_IN 3U
#define DEATH_MAX   120U
#define LATER       1000000 /* dice of the second life */

static const uint64_t sizes[] = {128 * KIB, 64 * KIB + 512};

VEC_DEFINE(machines, struct fake_machine *)

struct history {
    struct duo duo;
    struct fake_machine *machine;
    struct machines seen; /* as it was when a mark "machine" names it */
    uint64_t first_seed;  /* of the duo */
    uint64_t seed;
    char *dir;
};

struct promise {
    uint64_t durable;
    uint64_t applied;
    uint64_t lyon;    /* operations of the replica's record */
    uint64_t machine; /* which of `seen` */
};

/* --- The history ----------------------------------------------------------------------------- */

static struct history *now; /* the source's table has no room for it */

static void note_machine(struct history *h)
{
    struct fake_machine *copy = fake_machine_new(sizes, ARRAY_LEN(sizes));

    fake_machine_copy(copy, h->machine);
    *machines_push(&h->seen) = copy;
    crash_mark(h->duo.paris.record, "machine", h->seen.len - 1);
}

static void note_lyon(struct duo *duo, void *ctx)
{
    (void)ctx;
    crash_mark(duo->paris.record, "lyon", fs_record_count(duo->lyon.record));
}

static const struct source_ops *honest;

static int noted_track(struct source *source, uint64_t serial, struct cancel *cancel, struct err *e)
{
    int rc = honest->track(source, serial, cancel, e);

    note_machine(now);
    return rc;
}

static int noted_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                     struct cancel *cancel, struct err *e)
{
    int rc = honest->cut(source, serial, ret_cut, cancel, e);

    note_machine(now);
    return rc;
}

static int noted_end(struct source *source, bool delivered, struct cancel *cancel, struct err *e)
{
    int rc = honest->end(source, delivered, cancel, e);

    note_machine(now);
    return rc;
}

static void note_source(struct source *source, void *ctx)
{
    static struct source_ops noted;

    (void)ctx;
    honest = source->ops;
    noted = *honest;
    noted.track = noted_track;
    noted.cut = noted_cut;
    noted.end = noted_end;
    source->ops = &noted;
}

static void turn(struct history *h)
{
    duo_turn(&h->duo, 60000);
    crash_mark(h->duo.paris.record, "durable", duo_status(&h->duo).durable_point);
    crash_mark(h->duo.paris.record, "applied", duo_status(&h->duo).applied_point);
}

static void guest_writes(struct history *h, unsigned count)
{
    fake_write_random(h->machine, &h->seed, count);
    note_machine(h);
}

static void points(struct history *h, unsigned count)
{
    for (uint64_t point = duo_status(&h->duo).applied_point + 1; count > 0; point++, count--) {
        guest_writes(h, 3);
        for (int i = 0; duo_status(&h->duo).applied_point < point; i++) {
            assert_true(i < 30);
            turn(h);
        }
    }
}

static void step_copy(void *ctx)
{
    struct history *h = ctx;

    EXPECT_OK(duo_open_session(&h->duo, &err));
    points(h, 1);
}

static void step_deltas(void *ctx)
{
    points(ctx, 2);
}

static void step_link_cut(void *ctx)
{
    struct history *h = ctx;

    h->duo.break_now = true;
    h->duo.cut_up = 6000;
    points(h, 1);
    h->duo.break_now = true;
    h->duo.cut_down = 900;
    points(h, 1);
}

static void step_rescan(void *ctx)
{
    struct history *h = ctx;

    guest_writes(h, 6);
    fake_restart(h->machine);
    guest_writes(h, 4);
    points(h, 1);
}

static void step_failed_cycle(void *ctx)
{
    struct history *h = ctx;

    guest_writes(h, 3);
    fake_fail(h->machine, "read", 1, ERR_IO);
    turn(h);
    turn(h);
    points(h, 1);
}

static void step_restart(void *ctx)
{
    struct history *h = ctx;

    duo_drop_session(&h->duo);
    guest_writes(h, 2);
    EXPECT_OK(duo_open_session(&h->duo, &err));
    points(h, 2);
}

static const struct crash_step steps[] = {
    {"initial copy and first point", step_copy},
    {"two deltas", step_deltas},
    {"links cut within requests and answers", step_link_cut},
    {"rescan after QEMU died", step_rescan},
    {"a cycle whose cut could not be read", step_failed_cycle},
    {"restart of the daemon", step_restart},
};

static void promise_at(void *ctx, const struct fs_record *record, size_t prefix, void *ret_promise)
{
    struct promise *p = ret_promise;

    (void)ctx;
    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind != FS_OP_MARK)
            continue;
        (void)crash_marked(op, "durable", &p->durable);
        (void)crash_marked(op, "applied", &p->applied);
        (void)crash_marked(op, "lyon", &p->lyon);
        (void)crash_marked(op, "machine", &p->machine);
    }
}

/* --- Judging one cut ------------------------------------------------------------------------- */

/* What is left can be read: the session comes up. All else is in go_on. */
static void recover(void *ctx, const char *root, struct fs *fs, void *promise)
{
    struct history *h = ctx;
    struct session_config config = h->duo.config;
    struct session *session;

    (void)fs;
    (void)promise;
    config.dir = path_join(root, "session");
    EXPECT_OK(session_open(&config, &session, &err));
    session_close(session);
}

/* As both sites and the machine were then, on what the cut left. */
static void set_back(struct sim *sim, struct history *h, const char *dir, const char *root,
                     const struct promise *p, const struct crash_cut *cut)
{
    sim->number = cut->seed;
    sim->dice = cut->seed + LATER;
    sim->machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    fake_machine_copy(sim->machine, h->seen.at[p->machine]);
    duo_init(&sim->duo, dir, sim->machine, h->first_seed);
    memcpy(sim->duo.config.sign_key, h->duo.config.sign_key, SIGN_KEY_BYTES);
    VEC_FOREACH(image, &h->duo.images)
        if (image->cut <= sim->machine->cuts)
            *duo_images_push(&sim->duo.images) = *image;
    sim->duo.borrowed = sim->duo.images.len;
    duo_pass(&sim->duo, h->duo.time.clock.now_ms(&h->duo.time.clock));
    site_take(&sim->duo.paris, root);
    /* Power that fails may fail at both sites. */
    enum fs_loss lyon = cut->seed % 2 ? cut->loss : FS_LOSS_NONE;
    site_load(&sim->duo.lyon, h->duo.lyon.record, (size_t)p->lyon, lyon, cut->seed);
    if (cut->loss != FS_LOSS_NONE)
        fake_restart(sim->machine);
    sim->told_durable = p->durable;
    sim->told_applied = p->applied;
    sim->look = true;
}

static void go_on(void *ctx, const char *root, const void *promise)
{
    struct history *h = ctx;
    const struct crash_cut *cut = crash_judged();
    CLEANUP(mem_freep) char *dir = mem_printf("%s-on", root);
    struct sim *sim = mem_new(struct sim);

    set_back(sim, h, dir, root, promise, cut);
    EXPECT_OK(duo_open_session(&sim->duo, &err));
    bool fine = sim_check(sim);
    if (cut->seed % DIES_ONE_IN == 0) {
        sim->duo.paris.left = 1 + cut->seed * 31 % DEATH_MAX;
        for (int i = 0; fine && i < 6 && sim->duo.paris.left != UINT64_MAX; i++)
            fine = sim_step(sim);
    }
    fine = fine && sim_finish(sim);
    if (!fine)
        fail_msg("%s", sim->failure);
    duo_done(&sim->duo);
    fake_machine_free(sim->machine);
    sim_points_free(&sim->points);
    free(sim);
    EXPECT_OK(fs_remove_tree(fs_real(), dir, &err));
}

static void judge_round(uint64_t round)
{
    static const struct crash_ops ops = {promise_at, recover, go_on};
    struct history h = {.first_seed = 77 + round, .seed = 77 + round};
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    h.dir = root;
    h.machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    fake_write_random(h.machine, &h.seed, 12);
    duo_init(&h.duo, h.dir, h.machine, h.first_seed);
    h.duo.on_served = note_lyon;
    h.duo.bug.source = note_source;
    now = &h;
    note_machine(&h);
    crash_live(h.duo.paris.record, steps, ARRAY_LEN(steps), &h);
    crash_judge(&(struct crash_sweep){
        .name = "source",
        .ops = &ops,
        .ctx = &h,
        .promise_bytes = sizeof(struct promise),
        .record = h.duo.paris.record,
        .round = round,
        .cuts = CUTS,
    });
    duo_done(&h.duo);
    fake_machine_free(h.machine);
    VEC_FOREACH(machine, &h.seen)
        fake_machine_free(*machine);
    machines_free(&h.seen);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

static void a_source_cut_anywhere_loses_no_change(void **state)
{
    (void)state;
    for (uint64_t round = crash_first_round(); round < crash_end_round(ROUNDS); round++)
        judge_round(round);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_cut_anywhere_loses_no_change),
    };
    crash_prepare();
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("crash source", tests, NULL, NULL);
}
