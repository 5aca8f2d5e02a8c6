// SPDX-License-Identifier: Apache-2.0
/* The crash test's sweep: a scenario is lived through once, its file operations recorded; then it is
 * played back, cut at every place, with what was not synced kept, lost, lost in part (in any
 * order), or torn. What is left of each cut is recovered and judged, and goes on. A sample of the
 * recoveries is recorded and cut, too, a few of them at every single operation.
 *
 * A scenario is a table of steps and a table of what is to be judged. Whoever adds a feature to the
 * store adds a step (it acts on the store, keeps the oracle in step, and marks what was promised to
 * the caller by crash_mark), and where marks have new words, reads them in `promise_at`.
 *
 * A sweep goes in rounds, each over the same steps with other writes of the guest: more of them show
 * more than ever more cuts of one. The environment: MUSTER_CRASH_TIMES=F makes F times as many
 * rounds; MUSTER_CRASH_ROUND=R only that one; MUSTER_CRASH_POINTS=N judges N cuts in each;
 * MUSTER_CRASH_ONE=I only the I-th of them; MUSTER_CRASH_TALLY=FILE appends how many crash points
 * there were. One thread; everything aborts the test that fails. */
#pragma once

#include "base/fs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crash_step {
    const char *name;
    void (*run)(void *ctx);
};

struct crash_ops {
    /* What the marks of the first `prefix` operations promise: `promise_bytes`, cleared before. */
    void (*promise_at)(void *ctx, const struct fs_record *record, size_t prefix, void *ret_promise);
    /* Opens what stands in `root`, by `fs`, and checks it against `promise`, which becomes what was
     * seen: told to somebody, it is a promise, too. */
    void (*recover)(void *ctx, const char *root, struct fs *fs, void *promise);
    /* Goes on with what was recovered, to the end of the scenario or through its next point. */
    void (*go_on)(void *ctx, const char *root, const void *promise);
};

struct crash_sweep {
    const char *name;
    const struct crash_ops *ops;
    void *ctx;
    size_t promise_bytes;
    struct fs_record *record;
    uint64_t round;
    uint64_t cuts; /* of this round, usually; a tenth of it under a sanitizer */
};

/* The rounds there are: for (round = crash_first_round(); round < crash_end_round(usual); ...). */
uint64_t crash_first_round(void);
uint64_t crash_end_round(uint64_t usual);

/* Notes in the record that from here on `word` holds of `number`. */
void crash_mark(struct fs_record *record, const char *word, uint64_t number);
/* False: op is no mark with this word. */
bool crash_marked(const struct fs_op *op, const char *word, uint64_t *ret_number);
/* Lives through the steps, each of them marked by name. */
void crash_live(struct fs_record *record, const struct crash_step *steps, size_t count, void *ctx);
/* The cut that is being judged, for ops that go on by it. */
struct crash_cut {
    enum fs_loss loss;
    uint64_t seed;
};
const struct crash_cut *crash_judged(void);
/* Cuts and judges, prints what it did. */
void crash_judge(const struct crash_sweep *sweep);
/* For a test that counts for itself: as crash_judge prints and tallies. */
void crash_tally(const char *name, uint64_t points);
/* How many cuts there are in a round, by the environment. */
uint64_t crash_wanted(uint64_t usual);
/* Temporary files in memory, where there is such a place. First thing in main. */
void crash_prepare(void);
