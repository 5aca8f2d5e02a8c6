// SPDX-License-Identifier: Apache-2.0
/* What a replica does with a source's pieces, in the shortest form: written into a plain file. */
#pragma once

#include "block/source.h"

/* Scans the whole disk into `path` (made, of the disk's size). The count of pieces with data. */
uint64_t source_apply_scan(struct source *source, const char *disk, const char *path,
                           struct cancel *cancel);
/* Writes the frozen cut's changes of that disk into `path`; bytes written. */
uint64_t source_apply_changes(struct source *source, const char *disk, const char *path,
                              struct cancel *cancel);
/* Are two files of the same size bit for bit equal? */
bool source_apply_equal(const char *path, const char *other);
