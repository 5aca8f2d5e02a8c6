// SPDX-License-Identifier: Apache-2.0
#include "support/replica/crash.h"

#include "base/crypto.h"
#include "base/mem.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/replica/signs.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOSS_COUNT   4U
#define TWICE_ONE_IN 13U  /* recoveries that are cut; no divisor in common with the losses */
#define EVERY_ONE_IN 501U /* recoveries that are cut at every operation */
#define AGAIN_ONE_IN 3U   /* recoveries that are opened a second time: recovering is done once */

#ifndef __has_feature
#define __has_feature(x) 0
#endif
/* A sanitizer takes ten times as long, and looks for other faults than the order of writes. */
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define SLOWER 10U
#else
#define SLOWER 1U
#endif

static const char *const losses[LOSS_COUNT] = {"kept", "lost", "lost in part", "torn"};

/* Disks that were judged: the same one, under the same promises, comes to the same end. An open table
 * of keys; a slot of zeros is free. */
struct judged {
    struct sha256 *keys;
    size_t slots;
    uint64_t count;
};

struct cut {
    const struct crash_sweep *sweep;
    const struct fs_record *record;
    size_t prefix;
    enum fs_loss loss;
    uint64_t seed;
    struct judged *judged;
};

void crash_mark(struct fs_record *record, const char *word, uint64_t number)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %" PRIu64, word, number);

    fs_record_mark(record, text);
}

bool crash_marked(const struct fs_op *op, const char *word, uint64_t *ret_number)
{
    const char *text = op->bytes;
    size_t len = strlen(word);

    return op->kind == FS_OP_MARK && strncmp(text, word, len) == 0 && text[len] == ' '
           && str_to_u64(text + len + 1, ret_number);
}

void crash_live(struct fs_record *record, const struct crash_step *steps, size_t count, void *ctx)
{
    for (size_t i = 0; i < count; i++) {
        CLEANUP(mem_freep) char *text = mem_printf("step %s", steps[i].name);
        fs_record_mark(record, text);
        steps[i].run(ctx);
    }
}

static const char *step_at(const struct fs_record *record, size_t prefix)
{
    const char *name = "before the first step";

    for (size_t i = 0; i < prefix; i++) {
        const struct fs_op *op = fs_record_at(record, i);
        if (op->kind == FS_OP_MARK && str_starts(op->bytes, "step "))
            name = (const char *)op->bytes + strlen("step ");
    }
    return name;
}

static uint64_t from_environment(const char *name)
{
    const char *text = getenv(name);
    uint64_t number = 0;

    return text && str_to_u64(text, &number) ? number : 0;
}

uint64_t crash_wanted(uint64_t usual)
{
    uint64_t points = from_environment("MUSTER_CRASH_POINTS");

    return points > 1 ? points : usual / SLOWER;
}

uint64_t crash_first_round(void)
{
    return from_environment("MUSTER_CRASH_ROUND");
}

uint64_t crash_end_round(uint64_t usual)
{
    uint64_t times = from_environment("MUSTER_CRASH_TIMES");

    if (getenv("MUSTER_CRASH_ROUND"))
        return crash_first_round() + 1;
    return usual * (times ? times : 1);
}

static struct crash_cut judged_now;

const struct crash_cut *crash_judged(void)
{
    return &judged_now;
}

/* --- One cut --------------------------------------------------------------------------------- */

static char *play(const struct cut *cut)
{
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    EXPECT_OK(fs_record_replay(cut->record, cut->prefix, cut->loss, cut->seed, root, &err));
    return root;
}

static void remove_root(char *root)
{
    void *state = root;

    assert_int_equal(tmpdir_teardown(&state), 0);
}

/* True when it was not there; it is then. */
static bool judged_add(struct judged *j, const struct sha256 *key)
{
    static const struct sha256 none;
    size_t at;

    memcpy(&at, key->bytes, sizeof(at));
    for (at %= j->slots; memcmp(&j->keys[at], &none, sizeof(none)) != 0; at = (at + 1) % j->slots)
        if (memcmp(&j->keys[at], key, sizeof(*key)) == 0)
            return false;
    j->keys[at] = *key;
    j->count++;
    return true;
}

static bool is_new(const struct cut *cut, const void *promised)
{
    struct sha256_run *run = sha256_begin();
    struct sha256 key;

    EXPECT_OK(fs_record_replay_key(cut->record, cut->prefix, cut->loss, cut->seed, &key, &err));
    sha256_add(run, key.bytes, sizeof(key.bytes));
    sha256_add(run, promised, cut->sweep->promise_bytes);
    sha256_end(run, &key);
    return judged_add(cut->judged, &key);
}

static void judge_once(const struct cut *cut, const void *promised)
{
    const struct crash_sweep *s = cut->sweep;

    if (cut->judged && !is_new(cut, promised))
        return;
    CLEANUP(mem_freep) void *now = mem_alloc(s->promise_bytes, 1);
    char *root = play(cut);
    judged_now = (struct crash_cut){cut->loss, cut->seed};

    memcpy(now, promised, s->promise_bytes);
    s->ops->recover(s->ctx, root, fs_real(), now);
    if (cut->seed % AGAIN_ONE_IN == 0)
        s->ops->recover(s->ctx, root, fs_real(), now);
    s->ops->go_on(s->ctx, root, promised);
    remove_root(root);
}

/* Records the recovery and cuts that: at one place, or everywhere. Returns how often. */
static uint64_t judge_twice(const struct cut *cut, const void *promised, bool everywhere)
{
    const struct crash_sweep *s = cut->sweep;
    CLEANUP(mem_freep) void *now = mem_alloc(s->promise_bytes, 1);
    char *root = play(cut);
    struct fs_record *recovery = fs_record_new(root);
    uint64_t judged = 0;

    memcpy(now, promised, s->promise_bytes);
    s->ops->recover(s->ctx, root, fs_record_fs(recovery), now);
    size_t count = fs_record_count(recovery);
    uint64_t dice = cut->seed * 2654435761U;
    for (size_t i = 0; i <= count; i++) {
        /* A cut at the end of the recovery is as likely as all the others together. */
        bool chosen = dice % 2 ? i == count : i == dice / 2 % (count + 1);
        if (!everywhere && !chosen)
            continue;
        struct cut second = *cut;
        second.record = recovery;
        second.judged = NULL; /* keys are of one record */
        second.prefix = i;
        second.loss = (enum fs_loss)((cut->seed / 2 + i) % LOSS_COUNT);
        judge_once(&second, i == count ? now : promised);
        judged++;
    }
    fs_record_free(recovery);
    remove_root(root);
    return judged;
}

/* --- All of them ----------------------------------------------------------------------------- */

/* Said at the end of a process in which a cut was not judged to its end. */
static char judging[512];

static void say_judging(void)
{
    if (judging[0])
        (void)fprintf(stderr, "%s\n", judging);
}

void crash_tally(const char *name, uint64_t points)
{
    const char *path = getenv("MUSTER_CRASH_TALLY");
    FILE *file = path ? fopen(path, "ae") : NULL;

    if (!file)
        return;
    (void)fprintf(file, "%s %" PRIu64 "\n", name, points);
    (void)fclose(file);
}

void crash_judge(const struct crash_sweep *sweep)
{
    CLEANUP(mem_freep) void *promise = mem_alloc(sweep->promise_bytes, 1);
    size_t count = fs_record_count(sweep->record);
    uint64_t cuts = crash_wanted(sweep->cuts);
    uint64_t one = from_environment("MUSTER_CRASH_ONE");
    uint64_t again = 0;
    struct judged judged = {.slots = 2 * cuts + 1};

    judged.keys = mem_new_array(struct sha256, judged.slots);
    (void)atexit(say_judging);
    for (uint64_t i = one; i < cuts; i++) {
        struct cut cut = {.sweep = sweep, .record = sweep->record, .seed = i, .judged = &judged};
        cut.prefix = (size_t)(i * count / (cuts - 1));
        cut.loss = (enum fs_loss)(i % LOSS_COUNT);
        (void)snprintf(judging, sizeof(judging),
                       "cut %" PRIu64 ", after %zu of %zu operations (%s), what was not synced %s; "
                       "again: MUSTER_CRASH_ROUND=%" PRIu64 " MUSTER_CRASH_POINTS=%" PRIu64
                       " MUSTER_CRASH_ONE=%" PRIu64,
                       i, cut.prefix, count, step_at(sweep->record, cut.prefix), losses[cut.loss],
                       sweep->round, cuts, i);
        memset(promise, 0, sweep->promise_bytes);
        sweep->ops->promise_at(sweep->ctx, sweep->record, cut.prefix, promise);
        if (i % TWICE_ONE_IN == 0)
            again += judge_twice(&cut, promise, i % EVERY_ONE_IN == TWICE_ONE_IN);
        else
            judge_once(&cut, promise);
        if (getenv("MUSTER_CRASH_ONE"))
            break;
    }
    judging[0] = '\0';
    (void)printf("%s, round %" PRIu64 ": %zu operations recorded, %" PRIu64
                 " crash points: %" PRIu64 " cuts (which left %" PRIu64
                 " different disks) and %" PRIu64 " cuts of recoveries\n",
                 sweep->name, sweep->round, count, cuts + again, cuts, judged.count, again);
    free(judged.keys);
    crash_tally(sweep->name, cuts + again);
}

void crash_prepare(void)
{
    /* Blocks of some MiB come and go all the time; they need not come from the system anew. */
    (void)mallopt(M_MMAP_THRESHOLD, 64 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 256 << 20);
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    signs_remember();
}
