// SPDX-License-Identifier: Apache-2.0
/* How a group is replicated: what a named policy says, and what a protection keeps of it. A value;
 * any thread. The JSON form is the same in rows, on the link, and in the API. */
#pragma once

#include "base/json.h"
#include "base/timetable.h"
#include "link/throttle_plan.h"
#include "replica/frame.h"
#include "replica/retention.h"

#include <stdbool.h>
#include <stdint.h>

#define POLICY_INTERVAL_MIN_MS    1000
#define POLICY_INTERVAL_MAX_MS    (24 * 3600 * 1000)
#define POLICY_APPLICATION_MIN_MS (60 * 1000)
#define POLICY_APPLICATION_MAX_MS (INT64_C(7) * 24 * 3600 * 1000)
#define POLICY_VERIFY_MIN_MS      (INT64_C(3600) * 1000)
#define POLICY_VERIFY_MAX_MS      (INT64_C(365) * 24 * 3600 * 1000)
#define POLICY_RPO_MAX_MS         (INT64_C(30) * 24 * 3600 * 1000)
#define POLICY_COPY_DISKS_MAX     16
#define POLICY_COPY_WORKERS_MAX   8
#define POLICY_NO_START           UINT16_MAX

enum policy_encryption { POLICY_ENCRYPTION_NONE, POLICY_ENCRYPTION_AT_REST };

struct policy {
    int64_t interval_ms; /* from point to point */
    struct retention retention;
    int64_t application_ms; /* an application-consistent point this often; 0: none */
    enum compression compression;
    bool adaptive; /* chosen by what the link and the processor give;
                                          `compression` is where it begins */
    enum policy_encryption
        encryption;                /* of the replica's head; fixed when a machine is protected */
    struct throttle_plan throttle; /* of this group; the site pair's own comes besides */
    uint16_t copy_start;           /* initial copy: minute of the day it waits for, local time;
                                          POLICY_NO_START: begins at once */
    uint32_t copy_disks;           /* disks copied at a time */
    uint32_t copy_workers;         /* threads that read and seal them */
    bool resync_auto;              /* a resync begins by itself, in the window */
    struct day_span resync_window;
    uint32_t
        log_limit_percent; /* of a disk: more pending changes than that need a resync; 1 to 100 */
    int64_t verify_ms; /* all of the replica is read and compared in that time; 0: by hand only */
    int64_t rpo_ms;    /* target; 0: two intervals and five seconds */
};

/* The defaults. */
void policy_init(struct policy *policy);
/* Changes the fields that the object has; others stay, keys it does not know are left to whoever
 * knows them. ERR_INVALID names the field, its value, and what it may be; nothing is changed then.
 *
 *   interval_ms, keep, application_ms, copy_disks, copy_workers, log_limit_percent, verify_ms,
 *   rpo_ms          number
 *   retention       text: tiers, "1h for 1d, 1d for 7d" (replica/retention.h)
 *   compression     "zstd" | "lz4" | "none" | "adaptive"
 *   encryption      "none" | "at-rest"
 *   throttle        text (link/throttle_plan.h)
 *   copy_start      "HH:MM" | "now"
 *   resync_window   "HH:MM-HH:MM" | "always" | "never": by hand only */
int policy_from_json(const json_t *json, struct policy *policy, struct err *err) MUST_CHECK;
/* All fields. A new reference. */
json_t *policy_to_json(const struct policy *policy);
/* Sets all fields in an object that may hold more. */
void policy_put(const struct policy *policy, json_t *into);
bool policy_equal(const struct policy *a, const struct policy *b);
/* The keys of the JSON form, NULL at the end. */
extern const char *const policy_keys[];
/* Those of the keys whose bit is set (bit i: policy_keys[i]) are taken over from `own`. */
void policy_override(const struct policy *own, uint32_t keys, struct policy *policy);
/* The bits of keys that the two differ in. */
uint32_t policy_differences(const struct policy *a, const struct policy *b);
/* Settings that are each possible and cannot hold together: ERR_INVALID names both. */
int policy_check(const struct policy *policy, struct err *err) MUST_CHECK;
/* What a person may not expect of it, one line each; adds nothing when there is nothing. */
void policy_notes(const struct policy *policy, struct str *out);
/* In how many parts verify_ms is done, one after the other. */
uint32_t policy_verify_parts(const struct policy *policy);
/* The target by which health judges: rpo_ms, or what stands for it. */
int64_t policy_rpo_ms(const struct policy *policy);
