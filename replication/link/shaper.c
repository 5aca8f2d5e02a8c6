// SPDX-License-Identifier: Apache-2.0
/* Token buckets, of the pair and of each flow, and start-time fair queueing between the flows that
 * wait (Goyal, Vin, Cheng: "Start-time Fair Queueing", 1996): a flow's request carries the virtual time
 * at which it starts; the least one goes next; it ends bytes / weight later. A flow that comes back
 * after a pause starts at the present virtual time, so it neither saves up nor owes.
 *
 * A bucket holds at most an eighth of a second's worth or one piece, whichever is more: that is the
 * burst after a pause. A request is granted when the bucket has all of it. */
#include "link/shaper.h"

#include "base/mem.h"

#include <assert.h>
#include <pthread.h>

#define PARTS   8u /* of a second's worth: a piece, and a bucket */
#define MIN_ASK 4096u

struct bucket {
    uint64_t rate;   /* per second, when it was filled; 0: no limit */
    uint64_t tokens; /* bytes, times 1000 */
    int64_t filled_ms;
};

struct shaper {
    pthread_mutex_t lock;
    struct clock *clock;
    struct throttle_plan plan;
    struct bucket bucket;
    uint64_t virtual_time;
    struct shaper_flow *flows;
    uint64_t sent_bytes;
    int64_t second; /* the one `second_bytes` are of; */
    uint64_t second_bytes;
    uint64_t used_per_s; /* those of the one before */
};

struct shaper_flow {
    struct shaper *shaper;
    struct shaper_flow *next;
    struct throttle_plan plan;
    struct bucket bucket;
    uint32_t weight;
    bool waiting;
    uint64_t start;  /* virtual, of the request that waits */
    uint64_t finish; /* of the latest that was granted */
};

struct shaper *shaper_new(struct clock *clock)
{
    struct shaper *shaper = mem_new(struct shaper);

    if (pthread_mutex_init(&shaper->lock, NULL) != 0)
        abort();
    shaper->clock = clock;
    return shaper;
}

void shaper_free(struct shaper *shaper)
{
    if (!shaper)
        return;
    assert(!shaper->flows);
    (void)pthread_mutex_destroy(&shaper->lock);
    free(shaper);
}

void shaper_set_plan(struct shaper *shaper, const struct throttle_plan *plan)
{
    (void)pthread_mutex_lock(&shaper->lock);
    shaper->plan = *plan;
    (void)pthread_mutex_unlock(&shaper->lock);
}

/* --- Buckets --------------------------------------------------------------------------------- */

static uint64_t piece_of(uint64_t rate)
{
    uint64_t piece = rate / PARTS;

    if (rate == 0 || piece > SHAPER_PIECE_MAX)
        return SHAPER_PIECE_MAX;
    return piece > MIN_ASK ? piece : MIN_ASK;
}

static void fill(struct bucket *bucket, uint64_t rate, int64_t now_ms)
{
    uint64_t room = rate / PARTS > piece_of(rate) ? rate / PARTS : piece_of(rate);
    uint64_t passed = now_ms > bucket->filled_ms ? (uint64_t)(now_ms - bucket->filled_ms) : 0;

    if (rate == 0 || bucket->rate == 0) { /* limits begin with an empty bucket */
        bucket->tokens = 0;
    } else {
        if (passed > 1000)
            passed = 1000; /* it holds less than that */
        bucket->tokens += rate * passed;
        if (bucket->tokens > room * 1000)
            bucket->tokens = room * 1000;
    }
    bucket->rate = rate;
    bucket->filled_ms = now_ms;
}

/* Milliseconds until it has them; 0: it has. */
static int64_t lacks(const struct bucket *bucket, size_t bytes)
{
    uint64_t need = (uint64_t)bytes * 1000;

    if (bucket->rate == 0 || bucket->tokens >= need)
        return 0;
    return (int64_t)((need - bucket->tokens + bucket->rate - 1) / bucket->rate);
}

static void spend(struct bucket *bucket, size_t bytes)
{
    if (bucket->rate != 0)
        bucket->tokens -= (uint64_t)bytes * 1000;
}

/* --- Counting -------------------------------------------------------------------------------- */

static void roll_second(struct shaper *shaper, int64_t now_ms)
{
    int64_t second = now_ms / 1000;

    if (second == shaper->second)
        return;
    shaper->used_per_s = second == shaper->second + 1 ? shaper->second_bytes : 0;
    shaper->second = second;
    shaper->second_bytes = 0;
}

void shaper_status(struct shaper *shaper, struct shaper_status *ret_status)
{
    (void)pthread_mutex_lock(&shaper->lock);
    roll_second(shaper, shaper->clock->now_ms(shaper->clock));
    *ret_status = (struct shaper_status){
        .plan = shaper->plan,
        .limit_per_s = throttle_plan_at(&shaper->plan, shaper->clock->wall_ms(shaper->clock)),
        .used_per_s = shaper->used_per_s,
        .sent_bytes = shaper->sent_bytes,
    };
    for (const struct shaper_flow *flow = shaper->flows; flow; flow = flow->next)
        ret_status->waiting += flow->waiting;
    (void)pthread_mutex_unlock(&shaper->lock);
}

/* --- Flows ----------------------------------------------------------------------------------- */

struct shaper_flow *shaper_flow_new(struct shaper *shaper)
{
    struct shaper_flow *flow = mem_new(struct shaper_flow);

    flow->shaper = shaper;
    flow->weight = SHAPER_DELTA;
    (void)pthread_mutex_lock(&shaper->lock);
    flow->next = shaper->flows;
    shaper->flows = flow;
    (void)pthread_mutex_unlock(&shaper->lock);
    return flow;
}

void shaper_flow_free(struct shaper_flow *flow)
{
    if (!flow)
        return;
    struct shaper *shaper = flow->shaper;
    (void)pthread_mutex_lock(&shaper->lock);
    struct shaper_flow **at = &shaper->flows;
    while (*at != flow)
        at = &(*at)->next;
    *at = flow->next;
    (void)pthread_mutex_unlock(&shaper->lock);
    free(flow);
}

void shaper_flow_set(struct shaper_flow *flow, const struct throttle_plan *plan, uint32_t weight)
{
    assert(weight > 0);
    (void)pthread_mutex_lock(&flow->shaper->lock);
    flow->plan = *plan;
    flow->weight = weight;
    (void)pthread_mutex_unlock(&flow->shaper->lock);
}

static void refill(struct shaper_flow *flow)
{
    struct shaper *shaper = flow->shaper;
    int64_t now = shaper->clock->now_ms(shaper->clock);
    int64_t wall = shaper->clock->wall_ms(shaper->clock);

    fill(&shaper->bucket, throttle_plan_at(&shaper->plan, wall), now);
    fill(&flow->bucket, throttle_plan_at(&flow->plan, wall), now);
    roll_second(shaper, now);
}

size_t shaper_piece(struct shaper_flow *flow, size_t bytes)
{
    struct shaper *shaper = flow->shaper;

    (void)pthread_mutex_lock(&shaper->lock);
    refill(flow);
    uint64_t piece = piece_of(shaper->bucket.rate);
    if (piece_of(flow->bucket.rate) < piece)
        piece = piece_of(flow->bucket.rate);
    (void)pthread_mutex_unlock(&shaper->lock);
    return bytes < piece ? bytes : (size_t)piece;
}

/* Somebody who waits, and could go on, started before it. */
static bool is_before(struct shaper_flow *flow)
{
    for (const struct shaper_flow *other = flow->shaper->flows; other; other = other->next)
        if (other != flow && other->waiting && other->start < flow->start)
            return true;
    return false;
}

static int64_t grant(struct shaper_flow *flow, size_t bytes)
{
    struct shaper *shaper = flow->shaper;

    spend(&shaper->bucket, bytes);
    spend(&flow->bucket, bytes);
    shaper->virtual_time = flow->start;
    flow->finish = flow->start + (uint64_t)bytes * SHAPER_DELTA / flow->weight;
    flow->waiting = false;
    shaper->sent_bytes += bytes;
    shaper->second_bytes += bytes;
    return 0;
}

static int64_t ask(struct shaper_flow *flow, size_t bytes)
{
    struct shaper *shaper = flow->shaper;

    refill(flow);
    /* A limit may have fallen since the piece was chosen: it would never fit. */
    uint64_t most = piece_of(shaper->bucket.rate) < piece_of(flow->bucket.rate)
                        ? piece_of(shaper->bucket.rate)
                        : piece_of(flow->bucket.rate);
    size_t need = bytes < most ? bytes : (size_t)most;
    int64_t own = lacks(&flow->bucket, need);
    if (own > 0) { /* it stands in nobody's way meanwhile */
        flow->waiting = false;
        return own;
    }
    if (!flow->waiting) {
        flow->waiting = true;
        flow->start = flow->finish > shaper->virtual_time ? flow->finish : shaper->virtual_time;
    }
    int64_t wait = lacks(&shaper->bucket, need);
    if (wait == 0 && shaper->bucket.rate != 0 && is_before(flow))
        wait = 1;
    return wait > 0 ? wait : grant(flow, need);
}

int64_t shaper_ask(struct shaper_flow *flow, size_t bytes)
{
    (void)pthread_mutex_lock(&flow->shaper->lock);
    int64_t wait = bytes > 0 ? ask(flow, bytes) : 0;
    (void)pthread_mutex_unlock(&flow->shaper->lock);
    return wait < SHAPER_LOOK_MS ? wait : SHAPER_LOOK_MS;
}

void shaper_leave(struct shaper_flow *flow)
{
    (void)pthread_mutex_lock(&flow->shaper->lock);
    flow->waiting = false;
    (void)pthread_mutex_unlock(&flow->shaper->lock);
}

int shaper_take(struct shaper_flow *flow, size_t bytes, struct cancel *cancel, struct err *err)
{
    for (;;) {
        int64_t wait = shaper_ask(flow, bytes);
        if (wait == 0)
            return 0;
        if (cancel_sleep(cancel, wait, err) < 0) {
            shaper_leave(flow);
            return -1;
        }
    }
}
