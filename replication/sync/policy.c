// SPDX-License-Identifier: Apache-2.0
#include "sync/policy.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define VERIFY_PART_MS (INT64_C(24) * 3600 * 1000)
#define RPO_SLACK_MS   5000 /* a cut, its way and its apply */

const char *const policy_keys[] = {"interval_ms",    "keep",          "retention",
                                   "application_ms", "compression",   "encryption",
                                   "throttle",       "copy_start",    "copy_disks",
                                   "copy_workers",   "resync_window", "log_limit_percent",
                                   "verify_ms",      "rpo_ms",        NULL};

void policy_init(struct policy *policy)
{
    *policy = (struct policy){
        .interval_ms = 15000,
        .retention = {.keep = 24,
                      .tier_count = 1,
                      .tiers = {{.every_ms = 3600 * 1000, .for_ms = 24 * 3600 * 1000}}},
        .compression = COMPRESSION_ZSTD,
        .copy_start = POLICY_NO_START,
        .copy_disks = 1,
        .copy_workers = 2,
        .resync_auto = true,
        .resync_window = {18 * 60 + 30, 6 * 60 + 30},
        .log_limit_percent = 50,
    };
}

int64_t policy_rpo_ms(const struct policy *policy)
{
    return policy->rpo_ms ? policy->rpo_ms : 2 * policy->interval_ms + RPO_SLACK_MS;
}

uint32_t policy_verify_parts(const struct policy *policy)
{
    int64_t parts = policy->verify_ms / VERIFY_PART_MS;

    return parts > 1 ? (uint32_t)parts : 1;
}

/* --- Numbers --------------------------------------------------------------------------------- */

struct number {
    const char *key;
    size_t at; /* of an int64_t, or, `narrow`, of a uint32_t */
    bool narrow;
    bool or_zero; /* besides the range */
    int64_t min;
    int64_t max;
};

static const struct number numbers[] = {
    {"interval_ms", offsetof(struct policy, interval_ms), false, false, POLICY_INTERVAL_MIN_MS,
     POLICY_INTERVAL_MAX_MS},
    {"keep", offsetof(struct policy, retention.keep), false, false, 1, RETENTION_KEEP_MAX},
    {"application_ms", offsetof(struct policy, application_ms), false, true,
     POLICY_APPLICATION_MIN_MS, POLICY_APPLICATION_MAX_MS},
    {"copy_disks", offsetof(struct policy, copy_disks), true, false, 1, POLICY_COPY_DISKS_MAX},
    {"copy_workers", offsetof(struct policy, copy_workers), true, false, 1,
     POLICY_COPY_WORKERS_MAX},
    {"log_limit_percent", offsetof(struct policy, log_limit_percent), true, false, 1, 100},
    {"verify_ms", offsetof(struct policy, verify_ms), false, true, POLICY_VERIFY_MIN_MS,
     POLICY_VERIFY_MAX_MS},
    {"rpo_ms", offsetof(struct policy, rpo_ms), false, true, POLICY_INTERVAL_MIN_MS,
     POLICY_RPO_MAX_MS},
};

/* "1000 (1.0 s)" */
static const char *with_unit(const struct number *number, int64_t value, char *buf, size_t len)
{
    char duration[32];

    if (strstr(number->key, "_ms"))
        (void)snprintf(buf, len, "%" PRId64 " (%s)", value,
                       str_duration(value, duration, sizeof(duration)));
    else
        (void)snprintf(buf, len, "%" PRId64, value);
    return buf;
}

static int check_number(const struct number *number, const json_t *value, int64_t *ret_value,
                        struct err *err)
{
    CLEANUP(mem_freep) char *text = json_dumps(value, JSON_ENCODE_ANY);
    int64_t got = json_is_integer(value) ? json_integer_value(value) : -1;

    if ((number->or_zero && got == 0) || (got >= number->min && got <= number->max)) {
        *ret_value = got;
        return 0;
    }
    char min[64];
    char max[64];
    return err_set(err, ERR_INVALID, 0, "%s is %s; hint: %s to %s%s", number->key,
                   text ? text : "?", with_unit(number, number->min, min, sizeof(min)),
                   with_unit(number, number->max, max, sizeof(max)),
                   number->or_zero ? ", or 0 for none" : "");
}

static int64_t number_get(const struct policy *policy, const struct number *number)
{
    const char *at = (const char *)policy + number->at;
    int64_t wide;
    uint32_t narrow;

    if (number->narrow) {
        memcpy(&narrow, at, sizeof(narrow));
        return narrow;
    }
    memcpy(&wide, at, sizeof(wide));
    return wide;
}

static void number_set(struct policy *policy, const struct number *number, int64_t value)
{
    char *at = (char *)policy + number->at;
    const uint32_t narrow = (uint32_t)value;

    if (number->narrow)
        memcpy(at, &narrow, sizeof(narrow));
    else
        memcpy(at, &value, sizeof(value));
}

static int take_numbers(const json_t *json, struct policy *policy, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        const json_t *value = json_object_get(json, numbers[i].key);
        int64_t got;
        if (!value)
            continue;
        if (check_number(&numbers[i], value, &got, err) < 0)
            return -1;
        number_set(policy, &numbers[i], got);
    }
    return 0;
}

/* --- Texts ----------------------------------------------------------------------------------- */

struct text {
    const char *key;
    int (*take)(const char *text, struct policy *policy, struct err *err);
    const char *(*give)(const struct policy *policy, char *buf, size_t len);
};

static int take_retention(const char *text, struct policy *policy, struct err *err)
{
    return retention_parse(text, &policy->retention, err);
}

static const char *give_retention(const struct policy *policy, char *buf, size_t len)
{
    return retention_text(&policy->retention, buf, len);
}

static const char *const compressions[] = {
    [COMPRESSION_NONE] = "none",
    [COMPRESSION_ZSTD] = "zstd",
    [COMPRESSION_LZ4] = "lz4",
};

static int take_compression(const char *text, struct policy *policy, struct err *err)
{
    policy->adaptive = str_eq(text, "adaptive");
    if (policy->adaptive) {
        policy->compression = COMPRESSION_ZSTD;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_LEN(compressions); i++)
        if (str_eq(text, compressions[i])) {
            policy->compression = (enum compression)i;
            return 0;
        }
    return err_set(err, ERR_INVALID, 0, "compression \"%s\"; hint: zstd, lz4, none or adaptive",
                   text);
}

static const char *give_compression(const struct policy *policy, char *buf, size_t len)
{
    (void)buf;
    (void)len;
    return policy->adaptive ? "adaptive" : compressions[policy->compression];
}

static int take_encryption(const char *text, struct policy *policy, struct err *err)
{
    if (!str_eq(text, "none") && !str_eq(text, "at-rest"))
        return err_set(err, ERR_INVALID, 0, "encryption \"%s\"; hint: none or at-rest", text);
    policy->encryption = str_eq(text, "none") ? POLICY_ENCRYPTION_NONE : POLICY_ENCRYPTION_AT_REST;
    return 0;
}

static const char *give_encryption(const struct policy *policy, char *buf, size_t len)
{
    (void)buf;
    (void)len;
    return policy->encryption == POLICY_ENCRYPTION_NONE ? "none" : "at-rest";
}

static int take_throttle(const char *text, struct policy *policy, struct err *err)
{
    return throttle_plan_parse(text, &policy->throttle, err);
}

static const char *give_throttle(const struct policy *policy, char *buf, size_t len)
{
    return throttle_plan_text(&policy->throttle, buf, len);
}

static int take_copy_start(const char *text, struct policy *policy, struct err *err)
{
    if (!str_eq(text, "now"))
        return day_minute_parse(text, &policy->copy_start, err);
    policy->copy_start = POLICY_NO_START;
    return 0;
}

static const char *give_copy_start(const struct policy *policy, char *buf, size_t len)
{
    if (policy->copy_start == POLICY_NO_START)
        return "now";
    (void)snprintf(buf, len, "%02d:%02d", policy->copy_start / 60, policy->copy_start % 60);
    return buf;
}

/* The window of before is kept, for when it is wanted again. */
static int take_resync_window(const char *text, struct policy *policy, struct err *err)
{
    policy->resync_auto = !str_eq(text, "never");
    return policy->resync_auto ? day_span_parse(text, &policy->resync_window, err) : 0;
}

static const char *give_resync_window(const struct policy *policy, char *buf, size_t len)
{
    return policy->resync_auto ? day_span_text(&policy->resync_window, buf, len) : "never";
}

static const struct text texts[] = {
    {"retention", take_retention, give_retention},
    {"compression", take_compression, give_compression},
    {"encryption", take_encryption, give_encryption},
    {"throttle", take_throttle, give_throttle},
    {"copy_start", take_copy_start, give_copy_start},
    {"resync_window", take_resync_window, give_resync_window},
};

static int take_texts(const json_t *json, struct policy *policy, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const json_t *value = json_object_get(json, texts[i].key);
        if (!value)
            continue;
        if (!json_is_string(value))
            return err_set(err, ERR_INVALID, 0, "%s is no text", texts[i].key);
        if (texts[i].take(json_string_value(value), policy, err) < 0)
            return err_wrap(err, "%s", texts[i].key);
    }
    return 0;
}

/* --- Both -------------------------------------------------------------------------------------- */

int policy_from_json(const json_t *json, struct policy *policy, struct err *err)
{
    struct policy changed = *policy;

    if (take_numbers(json, &changed, err) < 0 || take_texts(json, &changed, err) < 0)
        return -1;
    *policy = changed;
    return 0;
}

void policy_put(const struct policy *policy, json_t *into)
{
    char buf[THROTTLE_TEXT_BYTES];

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        (void)json_object_set_new(into, numbers[i].key,
                                  json_integer((json_int_t)number_get(policy, &numbers[i])));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        (void)json_object_set_new(into, texts[i].key,
                                  json_string(texts[i].give(policy, buf, sizeof(buf))));
}

json_t *policy_to_json(const struct policy *policy)
{
    json_t *json = json_object();

    policy_put(policy, json);
    return json;
}

bool policy_equal(const struct policy *a, const struct policy *b)
{
    CLEANUP(json_freep) json_t *left = policy_to_json(a);
    CLEANUP(json_freep) json_t *right = policy_to_json(b);

    return json_equal(left, right);
}

void policy_override(const struct policy *own, uint32_t keys, struct policy *policy)
{
    CLEANUP(json_freep) json_t *json = policy_to_json(own);
    struct err err = ERR_EMPTY;

    for (size_t i = 0; policy_keys[i]; i++)
        if (!(keys & (UINT32_C(1) << i)))
            (void)json_object_del(json, policy_keys[i]);
    if (policy_from_json(json, policy, &err) < 0)
        abort(); /* it is what we wrote */
}

uint32_t policy_differences(const struct policy *a, const struct policy *b)
{
    CLEANUP(json_freep) json_t *left = policy_to_json(a);
    CLEANUP(json_freep) json_t *right = policy_to_json(b);
    uint32_t keys = 0;

    for (size_t i = 0; policy_keys[i]; i++)
        if (!json_equal(json_object_get(left, policy_keys[i]),
                        json_object_get(right, policy_keys[i])))
            keys |= UINT32_C(1) << i;
    return keys;
}

/* --- Together ---------------------------------------------------------------------------------- */

int policy_check(const struct policy *policy, struct err *err)
{
    char a[32];
    char b[32];

    if (policy->rpo_ms && policy->rpo_ms < policy->interval_ms)
        return err_set(err, ERR_INVALID, 0,
                       "an RPO target of %s cannot be met by a point every %s; hint: a shorter "
                       "interval, or a target of at least one",
                       str_duration(policy->rpo_ms, a, sizeof(a)),
                       str_duration(policy->interval_ms, b, sizeof(b)));
    if (policy->application_ms && policy->application_ms < policy->interval_ms)
        return err_set(err, ERR_INVALID, 0,
                       "an application-consistent point every %s is more than there are points: "
                       "one every %s; hint: at least the interval",
                       str_duration(policy->application_ms, a, sizeof(a)),
                       str_duration(policy->interval_ms, b, sizeof(b)));
    return 0;
}

void policy_notes(const struct policy *policy, struct str *out)
{
    const struct retention_tier *densest = policy->retention.tiers;
    char a[32];
    char b[32];
    char c[32];

    if (policy->retention.tier_count > 0 && densest->every_ms < policy->interval_ms)
        str_addf(out,
                 "retention wants a point per %s where one is made every %s: all of them are kept "
                 "for %s\n",
                 str_duration(densest->every_ms, a, sizeof(a)),
                 str_duration(policy->interval_ms, b, sizeof(b)),
                 str_duration(densest->for_ms, c, sizeof(c)));
}
