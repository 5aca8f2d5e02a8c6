// SPDX-License-Identifier: Apache-2.0
/* What can be set in a policy, once: the options of commands, the fields of the API, their help and
 * the docs are made from these rows.
 *
 *   X(option, key, value, form, help, fallback)
 *
 * `option` of the command line, `key` of the JSON form (sync/policy.h), `value` as help names it,
 * `form` one of enum policy_form, what it is and may be, and what stands there when nobody says. */
#pragma once

#include "base/json.h"

#define POLICY_FIELDS(X)                                                                         \
    X("interval", "interval_ms", "DURATION", POLICY_DURATION, "from point to point, 1s to 24h",  \
      "15s")                                                                                     \
    X("keep", "keep", "N", POLICY_NUMBER, "how many of the newest points are kept, 1 to 10000",  \
      "24")                                                                                      \
    X("retention", "retention", "TIERS", POLICY_TEXT,                                            \
      "which older points are kept, like \"1h for 1d, 1d for 7d\", or none", "1h for 1d")        \
    X("application-consistency", "application_ms", "DURATION", POLICY_DURATION_OR_NONE,          \
      "how often the guest's file systems are frozen for a point, 1m to 7d, or none", "none")    \
    X("compression", "compression", "HOW", POLICY_TEXT, "zstd, lz4, none or adaptive", "zstd")   \
    X("encryption", "encryption", "HOW", POLICY_TEXT,                                            \
      "of the replica's disks, none or at-rest; fixed once a machine is protected", "none")      \
    X("throttle", "throttle", "RATES", POLICY_TEXT,                                              \
      "bytes per second, like \"50MiB; mon-fri 08:00-18:00 10MiB\", or none", "none")            \
    X("copy-start", "copy_start", "TIME", POLICY_TEXT,                                           \
      "when the initial copy begins, like 22:00 (local time), or now", "now")                    \
    X("copy-disks", "copy_disks", "N", POLICY_NUMBER, "disks copied at a time, 1 to 16", "1")    \
    X("copy-workers", "copy_workers", "N", POLICY_NUMBER, "threads of the initial copy, 1 to 8", \
      "2")                                                                                       \
    X("resync-window", "resync_window", "SPAN", POLICY_TEXT,                                     \
      "when a resync may begin by itself, like 18:30-06:30 (local time), always, or never",      \
      "18:30-06:30")                                                                             \
    X("log-limit", "log_limit_percent", "PERCENT", POLICY_NUMBER,                                \
      "changes of a disk that wait, in percent of it, before a resync is due, 1 to 100", "50")   \
    X("verify-every", "verify_ms", "DURATION", POLICY_DURATION_OR_NONE,                          \
      "how long it may take until all of the replica was read and compared, a part each day, "   \
      "1h to 365d, or none",                                                                     \
      "none")                                                                                    \
    X("rpo", "rpo_ms", "DURATION", POLICY_DURATION_OR_NONE,                                      \
      "the target by which health judges, 1s to 30d; none: two intervals and 5 s", "none")

enum policy_form {
    POLICY_DURATION,         /* "15s"; milliseconds in JSON */
    POLICY_DURATION_OR_NONE, /* "none" is 0 */
    POLICY_NUMBER,
    POLICY_TEXT,
};

struct policy_field {
    const char *option;
    const char *key;
    const char *value;
    enum policy_form form;
    const char *help;
    const char *fallback;
};
#define POLICY_FIELD_COUNT 14
extern const struct policy_field policy_fields[POLICY_FIELD_COUNT + 1]; /* ends with option NULL */

/* A field's value as people write it, as its JSON. ERR_INVALID says what it may be; ranges too. */
int policy_field_parse(const struct policy_field *field, const char *text, json_t **ret_value,
                       struct err *err) MUST_CHECK;
/* The other way: "15s", "none". */
const char *policy_field_text(const struct policy_field *field, const json_t *value, char *buf,
                              size_t len);
/* By option or by key; NULL: there is none. */
const struct policy_field *policy_field_find(const char *name);
