// SPDX-License-Identifier: Apache-2.0
/* The frames of an initial copy, as one link brings them: opened and digested by a few threads while
 * the next ones come in, and put into the store in their order. So the answer to a frame says only that
 * it was taken; whether all went well, receiver_copy_take_failure says. The link's thread; the threads are
 * there only between a frame and the next settle. */
#pragma once

#include "sync/receiver.h"

struct receiver_copy;
struct receiver_copy *receiver_copy_new(const struct receiver_host *host);
void receiver_copy_free(struct receiver_copy *copy); /* drops what is on its way */

/* Takes "store.base-frame". After one of its group failed, that is the answer until the failure is taken. */
int receiver_copy_frame(struct receiver_copy *copy, struct link *link, const struct link_msg *msg,
                        struct err *err) MUST_CHECK;
/* Everything that was taken is in the store, or is known to have failed. */
void receiver_copy_settle(struct receiver_copy *copy);
/* The first failure of that group's copy, once: whatever is asked in between, its sender hears of it. */
int receiver_copy_take_failure(struct receiver_copy *copy, const char *group, struct err *err)
    MUST_CHECK;
