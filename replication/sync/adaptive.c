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

/* Bytes of the disk per millisecond, by this kind. */
static double score(const struct adaptive *a, enum adaptive_kind kind, unsigned threads)
{
    const struct adaptive_seen *seen = &a->packed[kind];
    bool known = seen->in >= ENOUGH_BYTES && seen->out > 0;
    double ratio = known ? seen->in / seen->out : kinds[kind].ratio;
    double rate = known && seen->ms > 0 ? seen->in / seen->ms : kinds[kind].rate;
    double by_link = a->sent.out / a->sent.ms * ratio;
    double by_threads = rate * threads;

    return by_link < by_threads ? by_link : by_threads;
}

bool adaptive_decide(struct adaptive *adaptive, unsigned threads)
{
    enum adaptive_kind before = adaptive->now;

    if (adaptive->pieces < DECIDE_EVERY || adaptive->sent.out < ENOUGH_BYTES
        || adaptive->sent.ms < 1)
        return false;
    double now = score(adaptive, before, threads);
    double best = now * DEARER;
    for (unsigned k = before + 1; k < ADAPTIVE_COUNT; k++) {
        double other = score(adaptive, (enum adaptive_kind)k, threads);
        if (other > best) {
            best = other;
            adaptive->now = (enum adaptive_kind)k;
        }
    }
    if (adaptive->now == before) {
        best = now * CHEAPER;
        for (unsigned k = before; k-- > 0;) {
            double other = score(adaptive, (enum adaptive_kind)k, threads);
            if (other >= best) {
                best = other;
                adaptive->now = (enum adaptive_kind)k;
            }
        }
    }
    return adaptive->now != before;
}
