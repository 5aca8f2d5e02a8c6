// SPDX-License-Identifier: Apache-2.0
#include "sync/retry.h"

#include "base/crypto.h"
#include "base/mem.h"

#include <string.h>

#define MINUTE_MS 60000

static const int64_t first_minutes[] = {1, 2, 4, 8, 10};
#define LATER_MINUTES 30

static int64_t slot_ms(uint32_t slot)
{
    const uint32_t early = ARRAY_LEN(first_minutes);

    if (slot < early)
        return first_minutes[slot] * MINUTE_MS;
    return (first_minutes[early - 1] + LATER_MINUTES * (int64_t)(slot - early + 1)) * MINUTE_MS;
}

static void count(struct retry *retry, int64_t now_ms)
{
    if (retry->failures == 0)
        retry->first_ms = now_ms;
    if (retry->failures < UINT32_MAX)
        retry->failures++;
}

int64_t retry_next(struct retry *retry, int64_t now_ms, int jitter_permille)
{
    count(retry, now_ms);
    while (retry->first_ms + slot_ms(retry->slot) <= now_ms)
        retry->slot++;
    int64_t wait = retry->first_ms + slot_ms(retry->slot) - now_ms;
    retry->slot++;
    return now_ms + wait + wait * jitter_permille / 1000;
}

int64_t retry_soon(struct retry *retry, int64_t now_ms, int64_t wait_ms)
{
    count(retry, now_ms);
    return now_ms + wait_ms;
}

void retry_reset(struct retry *retry)
{
    memset(retry, 0, sizeof(*retry));
}

int retry_jitter(void)
{
    uint32_t dice;

    random_bytes(&dice, sizeof(dice));
    return (int)(dice % (2 * RETRY_JITTER_PERMILLE + 1)) - RETRY_JITTER_PERMILLE;
}
