// SPDX-License-Identifier: Apache-2.0
/* Staging files: where QEMU copies the changed blocks at a cut. A staging file that runs full
 * pauses the guest, so its room is taken from the file system before the cut. The fault "stage.reserve" makes that fail. Any
 * thread. */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* QEMU copies units of this size, whatever the map's granularity. */
#define STAGE_CLUSTER   (UINT64_C(64) << 10)
#define STAGE_DISK_MAX  (UINT64_C(1) << 50)
#define STAGE_MAP_BLOCK 4096U

/* The most a staging file can take when `dirty_bytes` are marked in a 4 KiB map. */
uint64_t stage_room(uint64_t disk_size, uint64_t dirty_bytes);

/* Makes PATH an empty qcow2 image of that disk size (over what was there), with `room` bytes
 * reserved. ERR_SPACE: they are not to be had; nothing is left behind. ERR_LIMIT: the disk is
 * larger than STAGE_DISK_MAX. */
int stage_make(const char *path, uint64_t disk_size, uint64_t room, struct err *err) MUST_CHECK;
/* Makes sure that `room` bytes in all are reserved. */
int stage_reserve(const char *path, uint64_t room, struct err *err) MUST_CHECK;
