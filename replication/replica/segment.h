// SPDX-License-Identifier: Apache-2.0
/* A segment: sealed extents of one disk for one point, in one file. Written once at the source;
 * the same bytes are sent, stored, verified and replayed. The format stands in segment.c. */
#pragma once

#include "base/crypto.h"
#include "base/fs.h"
#include "replica/frame.h"

#define NAME_MAX_BYTES 64

struct segment_head {
    char group[NAME_MAX_BYTES];
    char disk[NAME_MAX_BYTES];
    uint64_t disk_size;
    uint64_t generation;
    uint64_t point;
    struct sha256 parent; /* hash of the manifest this builds on; zeros: none */
    struct uuid uuid;
    enum compression compression;
};

struct segment_info {
    struct uuid uuid;
    struct sha256 root;  /* over all bytes of the file before the footer */
    uint64_t bytes;      /* of the file */
    uint64_t data_bytes; /* of the data extents, before compression */
    uint64_t zero_bytes; /* of the zero extents */
    uint64_t extent_count;
};

struct segment_writer;
/* zstd's level from the next frame on; FRAME_ZSTD_LEVEL at first. */
void segment_writer_set_level(struct segment_writer *writer, int level);
/* Starts PATH.tmp; the uuid in `head` must be fresh. */
int segment_writer_open(struct fs *fs, const char *path, const struct segment_head *head,
                        const struct key *group_key, struct segment_writer **ret_writer,
                        struct err *err) MUST_CHECK;
/* Extents in ascending order, 512-aligned, not overlapping; blocks of 4 KiB that are all zero
 * become zero extents. */
int segment_writer_data(struct segment_writer *writer, uint64_t off, const void *bytes, size_t len,
                        struct err *err) MUST_CHECK;
int segment_writer_zero(struct segment_writer *writer, uint64_t off, uint64_t len, struct err *err)
    MUST_CHECK;
/* Index, footer, sync, rename to PATH. */
int segment_writer_finish(struct segment_writer *writer, struct segment_info *ret_info,
                          struct err *err) MUST_CHECK;
/* Also removes PATH.tmp when it was not finished. */
void segment_writer_free(struct segment_writer *writer);
void segment_writer_freep(struct segment_writer **writer);

/* Reads header and footer and recomputes the root over the whole file: ERR_CORRUPT when any
 * byte is not as it was written. Needs no key. */
int segment_check(const char *path, struct segment_head *ret_head, struct segment_info *ret_info,
                  struct err *err) MUST_CHECK;

struct segment_reader;
int segment_reader_open(const char *path, const struct key *group_key,
                        struct segment_reader **ret_reader, struct err *err) MUST_CHECK;
const struct segment_head *segment_reader_head(const struct segment_reader *reader);
const struct segment_info *segment_reader_info(const struct segment_reader *reader);
/* The index: all extents, ascending, as the frames will give them. Owned by the reader. */
const struct extent *segment_reader_extents(const struct segment_reader *reader, size_t *ret_count);
/* Next frame; extent_count 0 at the end. Owned by the reader until the next call. */
int segment_reader_next(struct segment_reader *reader, struct frame_view *ret_view, struct err *err)
    MUST_CHECK;
void segment_reader_free(struct segment_reader *reader);
void segment_reader_freep(struct segment_reader **reader);
