// SPDX-License-Identifier: Apache-2.0
/* Who continues a machine that stands still. QEMU says yes to every `stop`, and one `cont` undoes them
 * all. So whoever stops a machine for a moment claims it, and continues it only while the claim is
 * still his; whoever stops or continues it for good withdraws the claim first:
 *
 *   for a moment   lock · does it run? · claim · stop · unlock ...
 *                  ... lock · still claimed by us? · cont · no claim · unlock
 *   for good       lock · no claim · stop or cont · unlock
 *
 * The lock is held for the length of these lines, never for the moment itself: a fence waits for no
 * cut. The claim is the text of a file in the machine's run folder, and the lock is on the same file.
 * It holds between threads and processes; it need not survive a power cut, since no machine does.
 *
 * What a person types into a monitor knows nothing of this: his `stop` in the middle of such a moment
 * ends with it. */
#pragma once

#include "base/cancel.h"

#include <stdbool.h>

struct qmp;

/* The file's name, for whoever knows the run folder. */
#define STANDSTILL_FILE "standstill"
/* With the NUL; any text of one line that no other moment has. */
#define STANDSTILL_BY_BYTES 64

/* Stops it when it runs. `ret_stopped` false: it stood still already, and is not continued by us. */
int standstill_begin(const char *path, const char *by, struct qmp *qmp, bool *ret_stopped,
                     struct cancel *cancel, struct err *err) MUST_CHECK;
/* Continues what `by` stopped, and nothing else. `ret_stood`: nobody else stopped or continued it
 * meanwhile. May be asked for again; then it is false. */
int standstill_end(const char *path, const char *by, struct qmp *qmp, bool *ret_stood,
                   struct cancel *cancel, struct err *err) MUST_CHECK;

/* Whoever held it for a moment continues it no more. While `ret_fd` is open nobody else stops or
 * continues it. */
int standstill_take_over(const char *path, int *ret_fd, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* It stands still for a moment only, as far as we know. */
bool standstill_is_momentary(const char *path);
