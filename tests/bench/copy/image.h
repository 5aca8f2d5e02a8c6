// SPDX-License-Identifier: Apache-2.0
/* Images to measure with, and changes to them: the same for the same seed. */
#pragma once

#include "block/source.h"

#include <stdint.h>

/* Data in runs of 1 MiB, `percent` of the size in all, holes between them. Of each 64 KiB of data the
 * first half is noise, the second half text-like: it packs to about a third. */
void image_make(const char *path, uint64_t size, unsigned percent);
/* Overwrites `percent` of the image's data in blocks of 4 KiB: one here and there, or, `clustered`,
 * in runs of 1 MiB. `ret_extents` may be NULL. */
void image_change(const char *path, unsigned percent, bool clustered, uint64_t seed,
                  struct source_extents *ret_extents);
/* Reads all data and makes chunk digests with so many threads. Prints seconds. */
void image_hash(const char *path, unsigned threads);
