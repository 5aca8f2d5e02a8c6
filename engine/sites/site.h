// SPDX-License-Identifier: Apache-2.0
/* The site seam: where a verb does its work. One question-and-answer door: local does it, remote
 * asks the peer's daemon the same (which allows only the safe core), simulated plays it in memory.
 * `what` and the fields of args and result stand in the table below. Calls block; any pool
 * thread; asking for what is already so succeeds. */
#pragma once

#include "base/cancel.h"
#include "base/json.h"

struct site;
struct site_ops {
    int (*ask)(struct site *site, const char *what, const json_t *args, json_t **ret_result,
               struct cancel *cancel, struct err *err);
    void (*close)(struct site *site);
};
struct site {
    const struct site_ops *ops;
    char name[64];
};

/* `args` is stolen (json_pack it in the call); `ret_result` may be NULL. */
int site_ask(struct site *site, const char *what, json_t *args, json_t **ret_result,
             struct cancel *cancel, struct err *err) MUST_CHECK;
void site_close(struct site *site);   /* NULL is fine */
void site_closep(struct site **site); /* for CLEANUP */

/* The most of a `within_ms`. */
#define SITE_WITHIN_MAX_MS 3600000

/* What there is to ask. Machines are named, and their groups; a machine alone is a group of its
 * name. What is asked of a group is done to all its machines. `run` makes names unique and repeats harmless. Those marked * may be
 * asked by a peer, for groups shared with it.
 *
 *  source side
 *   "machine.observe"  * {machine}                  -> {state}  as instance_state_name
 *   "machine.shutdown" * {machine, within_ms}       -> {}       guest off, process kept
 *   "machine.start"    * {machine, run, without_peer} -> {}     undoes shutdown; never once retired,
 *                                                               and not before the peer was heard
 *                                                               (estate_boot_check)
 *   "machine.stop"     * {machine}                  -> {}       process gone
 *   "group.final-sync" * {group, run}               -> {point}  source quiet, replica equal to it;
 *                                                               held from then on
 *   "group.point"      * {group, consistency, label} -> {point, made, consistency, cut_ms, stall_us,
 *                                                      note, label}  a point of now, pinned under
 *                                                      the label unless it is "" (session_point_now);
 *                                                      consistency: "application", "crash" or ""
 *   "group.hold"       * {group, run}               -> {}       no more cycles: session paused; it
 *                                                               lasts over a restart
 *   "group.release"    * {group, run}               -> {}       undoes hold; another run's: nothing
 *   "group.retire"     * {group, run, generation}   -> {settled, problem}  this side is the old one,
 *                                                               for good: its machines stand still,
 *                                                               and are gone with their branch kept
 *                                                               when settled
 *   "group.branches"   * {group}                    -> {branches: [...]}  as branch_list
 *   "group.return"     * {group, run, generation, start, machines} -> {}  it is the writer again,
 *                                                      under that generation; if asked its machines
 *                                                      are started, or those of `machines` [name]
 *  either side
 *   "command.start"    * {group, run, id, program, args, env, within_ms} -> {}  runs a program that
 *                                                      the site's config allows; once per (run,
 *                                                      id), whatever became of it
 *   "command.observe"  * {group, run, id}           -> {state: none | running | ended | lost,
 *                                                      exit_status, signal, timed_out, stopped,
 *                                                      why, started_ms, ended_ms, output_bytes,
 *                                                      dropped_bytes, output, folder}
 *   "command.stop"     * {group, run, id}           -> {}       has ended, and never begins
 *   "group.observe"    * {group, run, point}        -> source:  {role, state, generation, held,
 *                                                      final_point, retired, durable_point, ...}
 *                                                      replica: {role, state, generation, pinned,
 *                                                      durable_point, durable_cut_ms,
 *                                                      durable_age_ms, durable_damaged (chunks),
 *                                                      damaged_head, damaged_past,
 *                                                      damaged_since_ms, and the same for applied
 *                                                      and asked (`point`), verified (as
 *                                                      sites/verified.h, null: never)}
 *                                                      `pinned`: {point, cut_ms} of that run
 *  recovery side
 *   "group.points"     * {group, before, keep}      -> {points: [{point, generation, cut_ms,
 *                                                      received_ms, age_ms, stall_us, consistency,
 *                                                      applied, pinned, promotion, label,
 *                                                      pins: ["BY LABEL"], bytes, undo_bytes, why,
 *                                                      every_ms, damaged, hash}],
 *                                                      more}  newest first, those below
 *                                                      `before` (0: all), some 1000 at a time;
 *                                                      `why` by the retention in force, or as if
 *                                                      only the newest `keep` stayed
 *   "group.keep-point" * {group, point, label}      -> {point, label}   a person's pin; 0: the newest
 *   "group.free-point" * {group, label}             -> {point, label}
 *   "group.prune"      * {group, keep}              -> {removed, kept, undo_bytes}   keep 0: by the
 *                                                      retention in force
 *   "group.verify"     * {group, subset, of, at, cursor} -> {done, cursor, done_bytes, total_bytes,
 *                                                      damaged_head, damaged_past, healed, faults,
 *                                                      texts}  some 64 MiB of a scrub (store.h),
 *                                                      which goes on with that cursor; null: it
 *                                                      begins. `at`: only that point
 *   "group.pin"          {group, point, run, whole} -> {point, cut_ms}   0: the newest; `whole`:
 *                                                      refused when it is known to be damaged
 *   "group.unpin"        {group, run}               -> {}
 *   "group.promote"      {group, point, run, expected, yield} -> {generation, point}  `yield`: for
 *                                                      the other side, which gets it back
 *   "group.reprotect"    {group, run, accept_branch} -> {}   asks this site's daemon for that job
 *   "net.create"         {run}                      -> {netns}  the test's isolated network
 *   "net.observe"        {run}                      -> {netns, exists, complete}
 *   "net.remove"         {run}                      -> {}
 *   "instance.start"     {machine, group, run, test, point} -> {}  view + overlay + machine; without
 *                                                      a point: the one that is there, as it is
 *   "instance.shutdown"  {machine, run, within_ms}   -> {}       guest off, process kept
 *   "instance.stop"      {machine, run}              -> {}       process and server gone; the
 *                                                      overlay stays, and what changed is noted
 *   "instance.stream"    {machine, run, rate}        -> {}       its disks become its own, while
 *                                                      it works: from then on it needs neither
 *                                                      the point nor the replica. Waits until they
 *                                                      are; the work goes on when the wait is ended.
 *                                                      `rate`: bytes per second and disk, 0: no
 *                                                      limit. ERR_SPACE: with the numbers
 *   "instance.stream-stop" {machine, run}            -> {}       ends that work where it is; asked
 *                                                      again it goes on from there
 *   "instance.observe"   {machine, run, test}       -> {state, exists, and when it was started:
 *                                                      run_dir, netns, definition, own, committed,
 *                                                      armed, streamed, stream}
 *                                                      `streamed`: all its disks are its own;
 *                                                      `stream`: {done, total} bytes, null: not
 *                                                      begun, or the machine is off
 *                                                      `armed`: {generation, serial, base}, the
 *                                                      map that was opened before its first
 *                                                      instruction, null: none. `base`: it had
 *                                                      then all that differs from the point
 *   "instance.remove"    {machine, run, test}       -> {}       machine, server and overlay gone
 *   "instance.commit"    {machine, run}              -> {own}    final; `own`: on its own disks again
 *   "instance.leftovers" {run}                      -> {left: [text]}
 *   "hook.post"          {url, key, body, token_file, within_ms} -> {status}  posts the JSON `body`;
 *                                                      `key`: Idempotency-Key; token_file: a
 *                                                      name in the site's secrets/
 *   "guest.network"      {machine, run, test, nic, addresses, gateways, dns, id} -> {mac, interface,
 *                                                      ipv4, ipv6, holds, text, before}  a card of
 *                                                      the guest (nic: 1.. or MAC), whether it is
 *                                                      so; `before` if guest.assign kept it
 *   "guest.assign"       {machine, run, test, nic, addresses, gateways, dns, id} -> {the same}
 *                                                      makes it so; keeps what was there before,
 *                                                      the first time for that id
 *   "guest.restore"      {machine, run, test, id}   -> {}       what was there before `id`
 *   "probe.tcp"          {machine, run, test, address, port} -> {answer}  `address`, or "" for
 *                                                      the one that the machine begins with
 *   "probe.agent"        {machine, run, test}       -> {answer}
 *   "probe.console"      {machine, run, test, text} -> {answer}
 */
