// SPDX-License-Identifier: Apache-2.0
/* Inside of views: a chunk that comes from head is compared with its digest when it is read for the
 * first time, for head is a plain file that rots, and that others can write to. Any thread. */
#pragma once

#include "base/crypto.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct view_check;
/* `dir` is of the disk, of `size` bytes. */
int view_check_open(const char *dir, uint64_t size, const struct key *group_key,
                    struct view_check **ret_check, struct err *err) MUST_CHECK;
void view_check_close(struct view_check *check); /* NULL is fine */
/* It was compared before: what head has of it is right for as long as no undo file has it. */
bool view_check_knows(const struct view_check *check, uint64_t chunk);
/* Has the chunk, whose bytes these are, its digest? */
int view_check_run(struct view_check *check, uint64_t chunk, const void *bytes, bool *ret_right,
                   struct err *err) MUST_CHECK;
/* It had, and it is still head's to tell. */
void view_check_note(struct view_check *check, uint64_t chunk);
