// SPDX-License-Identifier: Apache-2.0
/* Reads what QEMU copied aside at a cut: a staging file (block/stage.h) and the exact change map in
 * it. In this process, since a server per disk and cut would cost the machine's host more than all
 * the rest of a delta. One thread at a time. */
#pragma once

#include "block/source.h"

struct stage_reader;

/* QEMU must have let go of the file. ERR_CORRUPT: it is not what stage_make and QEMU leave behind,
 * or the map named MAP is not in it, is in use, or not of STAGE_MAP_BLOCK bytes a bit. */
int stage_reader_open(const char *path, const char *map, uint64_t disk_size,
                      struct stage_reader **ret_reader, struct err *err) MUST_CHECK;
void stage_reader_close(struct stage_reader *reader); /* NULL is fine */
void stage_reader_closep(struct stage_reader **reader);

/* The marked blocks, ascending, joined where they touch, cut off at the disk's end. Appended. */
int stage_reader_changes(struct stage_reader *reader, struct source_extents *extents,
                         struct err *err) MUST_CHECK;
/* [off, off + len) of the disk; what was never copied reads as zeros. Ascending is fastest. */
int stage_reader_read(struct stage_reader *reader, uint64_t off, void *buf, size_t len,
                      struct err *err) MUST_CHECK;
