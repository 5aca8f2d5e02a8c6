// SPDX-License-Identifier: Apache-2.0
/* The outbox: the one point that is being delivered, DIR/outbox/. Segments first, each durable by
 * itself; the file `manifest` is written last and makes the point complete: from then on these
 * very bytes are sent, whatever happens in between. Without it the rest is worth nothing. One
 * thread. */
#pragma once

#include "replica/manifest.h"

/* "DIR/outbox/DISK-UUID"; free with free(). */
char *outbox_segment_path(const char *dir, const char *disk, const struct uuid *uuid);
/* Removes all of it, the manifest first, durably; makes the folder. */
int outbox_clear(const char *dir, struct err *err) MUST_CHECK;
/* Makes the point complete. `text` is the signed manifest. */
int outbox_complete(const char *dir, const char *text, struct err *err) MUST_CHECK;
/* The complete point: ERR_NOT_FOUND when there is none. `ret_text` is freed with free(). */
int outbox_load(const char *dir, struct manifest *ret_manifest, char **ret_text, struct err *err)
    MUST_CHECK;
