// SPDX-License-Identifier: Apache-2.0
/* Hysteresis: a dearer one must let 15 % more through, a cheaper one only as much but for 3 %. So noise
 * in between changes nothing. */
#include "sync/adaptive.h"

#include <string.h>

#define TRY_EVERY    24u /* pieces: so often another one is tried */
#define DECIDE_EVERY 16u
#define ENOUGH_BYTES (1024.0 * 1024.0)         /* of a kind, to believe what was seen */
#define MEMORY_BYTES (128.0 * 1024.0 * 1024.0) /* then what was seen counts half */
#define DEARER       1.15
#define CHEAPER      0.97

#define FLOW_SETTLE  6u   /* pieces of the kind before that may still be on their way */
#define FLOW_PIECES  12u  /* that count */
#define FLOW_MS      50.0 /* at least, for the clock tells milliseconds */
#define FLOW_LATE    2.0  /* a trial that takes so many times as long has shown enough */
#define FLOW_REST    4u  /* stretches after a trial in vain; twice as many after each further one */
#define FLOW_RESTS   6u  /* doublings */
#define FLOW_OTHER   1.5 /* the flow is so many times as fast or slow: it is another world */

/* Before anything was seen: bytes per millisecond of a thread, and in / out. */
static const struct {
    struct adaptive_choice choice;
    const char *name;
    double rate;
    double ratio;
} kinds[ADAPTIVE_COUNT] = {
    [ADAPTIVE_NONE] = {{COMPRESSION_NONE, FRAME_ZSTD_LEVEL}, "none", 2e6, 1.0},
    [ADAPTIVE_LZ4] = {{COMPRESSION_LZ4, FRAME_ZSTD_LEVEL}, "lz4", 5e5, 1.5},
    [ADAPTIVE_ZSTD] = {{COMPRESSION_ZSTD, FRAME_ZSTD_LEVEL}, "zstd", 3e5, 1.9},
    [ADAPTIVE_ZSTD_MORE] = {{COMPRESSION_ZSTD, 3}, "zstd 3", 1.2e5, 2.0},
};

struct adaptive_choice adaptive_choice(enum adaptive_kind kind)
{
    return kinds[kind].choice;
}

const char *adaptive_name(enum adaptive_kind kind)
{
    return kinds[kind].name;
}

void adaptive_init(struct adaptive *adaptive, enum compression begin)
{
    memset(adaptive, 0, sizeof(*adaptive));
    while (kinds[adaptive->now].choice.compression != begin)
        adaptive->now++;
    adaptive->flow.kind = adaptive->now;
}

/* The others in turn. */
enum adaptive_kind adaptive_next(struct adaptive *adaptive)
{
    if (++adaptive->pieces % TRY_EVERY != 0)
        return adaptive->now;
    unsigned other = (unsigned)adaptive->now + 1 + adaptive->tries++ % (ADAPTIVE_COUNT - 1);
    return (enum adaptive_kind)(other % ADAPTIVE_COUNT);
}

static void see(struct adaptive_seen *seen, uint64_t in, uint64_t out, double ms)
{
    if (seen->in + seen->out > 2 * MEMORY_BYTES) {
        seen->in /= 2;
        seen->out /= 2;
        seen->ms /= 2;
    }
    seen->in += (double)in;
    seen->out += (double)out;
    seen->ms += ms;
}

void adaptive_packed(struct adaptive *adaptive, enum adaptive_kind kind, uint64_t in, uint64_t out,
                     double ms)
{
    see(&adaptive->packed[kind], in, out, ms);
}

int adaptive_percent(const struct adaptive *adaptive)
{
    double in = 0;
    double out = 0;

    for (size_t i = 0; i < ADAPTIVE_COUNT; i++) {
        in += adaptive->packed[i].in;
        out += adaptive->packed[i].out;
    }
    return in > 0 ? (int)(100 * out / in + 0.5) : -1;
}

void adaptive_sent(struct adaptive *adaptive, uint64_t bytes, double ms)
{
    see(&adaptive->sent, 0, bytes, ms);
}

/* Bytes of the disk per millisecond, by this kind: a segment is sealed, then it is sent. */
static double score(const struct adaptive *a, enum adaptive_kind kind)
{
    const struct adaptive_seen *seen = &a->packed[kind];
    bool known = seen->in >= ENOUGH_BYTES && seen->out > 0;
    double ratio = known ? seen->in / seen->out : kinds[kind].ratio;
    double rate = known && seen->ms > 0 ? seen->in / seen->ms : kinds[kind].rate;
    double by_link = a->sent.out / a->sent.ms * ratio;

    return 1 / (1 / by_link + 1 / rate);
}

bool adaptive_decide(struct adaptive *adaptive)
{
    enum adaptive_kind before = adaptive->now;

    if (adaptive->pieces < DECIDE_EVERY || adaptive->sent.out < ENOUGH_BYTES
        || adaptive->sent.ms < 1)
        return false;
    double now = score(adaptive, before);
    double best = now * DEARER;
    for (unsigned k = before + 1; k < ADAPTIVE_COUNT; k++) {
        double other = score(adaptive, (enum adaptive_kind)k);
        if (other > best) {
            best = other;
            adaptive->now = (enum adaptive_kind)k;
        }
    }
    if (adaptive->now == before) {
        best = now * CHEAPER;
        for (unsigned k = before; k-- > 0;) {
            double other = score(adaptive, (enum adaptive_kind)k);
            if (other >= best) {
                best = other;
                adaptive->now = (enum adaptive_kind)k;
            }
        }
    }
    return adaptive->now != before;
}

/* --- A copy ---------------------------------------------------------------------------------- */

enum adaptive_kind adaptive_flow_next(const struct adaptive *adaptive)
{
    return adaptive->flow.kind;
}

static void begin_stretch(struct adaptive_flow *f, enum adaptive_kind kind)
{
    f->kind = kind;
    f->pieces = 0;
    f->in = 0;
    f->ms = 0;
}

/* The neighbours of `now` in turn: what lets through most lies in their direction. */
static enum adaptive_kind next_trial(struct adaptive *a)
{
    if (a->now == ADAPTIVE_NONE)
        a->flow.up = true;
    else if (a->now == ADAPTIVE_COUNT - 1)
        a->flow.up = false;
    return (enum adaptive_kind)(a->flow.up ? a->now + 1 : a->now - 1);
}

/* A stretch of `now` is over: what it let through is what a trial must beat. */
static void end_stretch(struct adaptive *a, double rate)
{
    struct adaptive_flow *f = &a->flow;
    bool other = rate > f->rate * FLOW_OTHER || rate * FLOW_OTHER < f->rate;

    if (f->rate > 0 && other) {
        f->missed = 0;
        f->resting = 0;
    }
    f->rate = rate;
    if (f->resting > 0)
        f->resting--;
    begin_stretch(f, f->resting > 0 ? a->now : next_trial(a));
}

static bool is_last(enum adaptive_kind kind)
{
    return kind == ADAPTIVE_NONE || kind == ADAPTIVE_COUNT - 1;
}

static bool end_trial(struct adaptive *a, double rate)
{
    struct adaptive_flow *f = &a->flow;
    bool dearer = f->kind > a->now;
    bool better = rate >= f->rate * (dearer ? DEARER : CHEAPER);
    bool again = better && dearer && !f->won;

    f->won = again;
    if (again) {
        begin_stretch(f, a->now);
        return false;
    }
    if (better) {
        a->now = f->kind;
        f->rate = rate;
        f->missed = 1; /* the one it came from is no better */
        f->resting = is_last(a->now) ? FLOW_REST : 0;
        begin_stretch(f, f->resting ? a->now : next_trial(a)); /* on in that direction */
        return true;
    }
    /* The other neighbour next; after both there is time. */
    bool both = f->missed % 2 != 0 || is_last(a->now);
    unsigned rests = f->missed / 2 < FLOW_RESTS ? f->missed / 2 : FLOW_RESTS;
    f->resting = both ? FLOW_REST << rests : 0;
    f->missed += f->missed % 2 == 0 && both ? 2 : 1;
    f->up = !f->up;
    begin_stretch(f, a->now);
    return false;
}

bool adaptive_flow_sent(struct adaptive *adaptive, enum adaptive_kind kind, uint64_t in, double ms)
{
    struct adaptive_flow *f = &adaptive->flow;

    if (kind != f->kind)
        return false;
    f->pieces += in > 0;
    if (f->pieces <= FLOW_SETTLE)
        return false;
    f->in += (double)in;
    f->ms += ms;
    bool trial = kind != adaptive->now;
    bool late = trial && f->ms > FLOW_MS && f->in < f->rate * f->ms / FLOW_LATE;
    if (!late && (f->pieces < FLOW_SETTLE + FLOW_PIECES || f->ms < FLOW_MS))
        return false;
    double rate = f->in / f->ms;
    if (trial)
        return end_trial(adaptive, rate);
    end_stretch(adaptive, rate);
    return false;
}
