// SPDX-License-Identifier: Apache-2.0
/* Small text files of the store that are replaced as a whole and must not be believed when a bit
 * of them changed. One thread. */
#pragma once

#include "base/fs.h"

/* The text without its checksum line. ERR_NOT_FOUND: no such file; ERR_CORRUPT: damaged, the
 * error names it. */
int record_read(struct fs *fs, const char *path, struct str *ret_text, struct err *err) MUST_CHECK;
/* Old or new survives a power cut, never half. `text` ends with a newline. */
int record_write(struct fs *fs, const char *path, const char *text, struct err *err) MUST_CHECK;
