// SPDX-License-Identifier: Apache-2.0
/* What a replica's folder says of itself: no daemon, no database, no key, and nothing is changed; it may
 * lie on a medium that is read-only, be a copy, or be open in a daemon. Any thread; blocks. */
#pragma once

#include "base/crypto.h"
#include "base/fs.h"
#include "base/json.h"

/* A report, whatever is damaged or missing in it:
 *
 *   group, state    "empty" | "copying" | "copied" | "ready"
 *   in_use          a process has it open now
 *   generation, applied, applying  numbers; 0: none
 *   encryption      "none" | "at-rest"
 *   disks           [{name, size, head, path, own, held}]   head: "raw", "luks", or the format of a
 *                   machine's own disk; path: where it is; held: bytes its file takes
 *   points          [{point, generation, cut_ms, received_ms, stall_us, consistency, bytes, promotion, applied,
 *                   pinned, label, hash}], oldest first
 *   followed        {point, generation}: another site's promotion that is followed; or null
 *   site, writer_key  of the newest point that was received
 *   machines        {name: definition}, of the newest point
 *   protection      what replica_describe was given; or null
 *   faults          [text]: what is damaged or missing, each with its file; [] when all fits together.
 *                   Of disks, undo and segments that means: there, of the right size, and whole heads
 *                   and tables; what is in them is read by `store_dir_verify`
 *
 * ERR_NOT_FOUND: there is no such folder, or nothing of a replica in it. */
int replica_inspect(const char *dir, json_t **ret_report, struct err *err) MUST_CHECK;

/* Keeps a JSON object with the replica, for whoever finds it without a database. The folder must be a
 * replica's. Not while another thread does the same. */
int replica_describe(struct fs *fs, const char *dir, const json_t *protection, struct err *err)
    MUST_CHECK;

/* ERR_AUTH: it is not the group's key; judged by some chunks of heads whose digests are made with it, or
 * by what is sealed with it. A replica in which nothing is sealed takes any. `luks_key` may be NULL; with
 * heads that are containers it is needed (ERR_UNSUPPORTED), and must open them (ERR_AUTH). */
int replica_check_key(const char *dir, const struct key *group_key, const char *luks_key,
                      struct err *err) MUST_CHECK;
