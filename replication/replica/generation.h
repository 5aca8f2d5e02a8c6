// SPDX-License-Identifier: Apache-2.0
/* A replica's generation: the number that says whose writes count. Each promotion raises it; a
 * store refuses every other number (ERR_FENCED). So: no split brain. One thread. */
#pragma once

#include "base/fs.h"

#include <stdint.h>

/* Reads the generation kept in `dir`. A new, empty replica is at 0; one that has manifests
 * but no number is ERR_CORRUPT: a lost number taken for 0 would let an old writer in. */
int generation_read(struct fs *fs, const char *dir, uint64_t *ret_gen, struct err *err) MUST_CHECK;

/* Raises it from `expected` to `wanted`; on success the new number survives a power cut.
 * ERR_FENCED: someone was first. ERR_IO: it is one of the two now; read it again. */
int generation_raise(struct fs *fs, const char *dir, uint64_t expected, uint64_t wanted,
                     struct err *err) MUST_CHECK;
