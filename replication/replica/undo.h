// SPDX-License-Identifier: Apache-2.0
/* An undo file: what the chunks of one disk held at one point, for those that were changed after
 * it. It is written as a whole, made durable, and never changed again; only then it is published
 * in the chain page, and only then head is written. So a reader of any process finds complete,
 * unchanging files, and looks a chunk up in a sorted table. Writer and reader: one thread each. */
#pragma once

#include "base/crypto.h"
#include "base/fs.h"
#include "replica/chunk.h"
#include "replica/segment.h"

#include <stdbool.h>
#include <stdint.h>

struct undo_head {
    const char *disk;
    uint64_t disk_size;
    uint64_t point;
};
struct undo_writer;
/* Starts PATH.tmp. */
int undo_writer_open(struct fs *fs, const char *path, const struct undo_head *head,
                     const struct key *group_key, struct undo_writer **ret_writer, struct err *err)
    MUST_CHECK;
/* The chunk's bytes as they were, `chunk` ascending; a shorter last chunk as it is. */
int undo_writer_add(struct undo_writer *writer, uint64_t chunk, const void *bytes, size_t len,
                    struct err *err) MUST_CHECK;
/* The same by several threads: each has a coder of its own from here and seals records; one thread
 * numbers them (no number twice), and adds them in the order of their chunks. */
#define UNDO_RECORD_MAX (CHUNK_BYTES + 256U)
struct frame_coder *undo_writer_coder_new(const struct undo_writer *writer);
void undo_record_seal(struct frame_coder *coder, uint64_t number, uint64_t chunk, const void *bytes,
                      size_t len, uint8_t ret_record[UNDO_RECORD_MAX], size_t *ret_len);
/* `len` 0: the chunk is all zeros. */
int undo_writer_add_sealed(struct undo_writer *writer, uint64_t chunk, const uint8_t *record,
                           size_t len, struct err *err) MUST_CHECK;
/* The chunk's bytes are known to be damaged, and are not saved: whoever reads its record gets
 * ERR_CORRUPT. */
void undo_writer_add_damaged(struct undo_writer *writer, uint64_t chunk);
/* Table and sync: all that takes long. */
int undo_writer_seal(struct undo_writer *writer, struct err *err) MUST_CHECK;
/* The same, if that was not done; rename to PATH, which may be there already; sync of the folder. */
int undo_writer_finish(struct undo_writer *writer, struct err *err) MUST_CHECK;
void undo_writer_free(struct undo_writer *writer); /* removes PATH.tmp when not finished */
void undo_writer_freep(struct undo_writer **writer);

struct undo_row {
    uint64_t chunk;
    uint64_t pos; /* of the record in the file; 0: the chunk was all zeros */
    uint32_t
        len; /* of the record; 0 with a position: the chunk was damaged when it was to be saved */
    uint32_t crc; /* of the record */
};

struct undo {
    char *path;
    int fd;
    char disk[NAME_MAX_BYTES];
    uint64_t point;
    uint64_t disk_size;
    struct uuid uuid;
    struct undo_row *rows; /* ascending by chunk */
    size_t row_count;
};
/* Reads and checks header and table: ERR_CORRUPT names the file. */
int undo_open(const char *path, struct undo **ret_undo, struct err *err) MUST_CHECK;
/* ERR_CORRUPT: it is of another disk, point or size. */
int undo_check_head(const struct undo *undo, const struct undo_head *want, struct err *err)
    MUST_CHECK;
/* NULL: the chunk has no row. */
const struct undo_row *undo_find(const struct undo *undo, uint64_t chunk);
bool undo_row_is_damaged(const struct undo_row *row);
void undo_free(struct undo *undo);
void undo_freep(struct undo **undo);

/* The coder for records of a file, and one record's chunk through it into `buf` (CHUNK_BYTES).
 * ERR_CORRUPT names file and chunk. `fd` is the open undo file. */
struct frame_coder *undo_coder_new(const struct key *group_key, const struct uuid *uuid);
int undo_record_read(int fd, const char *path, struct frame_coder *coder,
                     const struct undo_row *row, uint64_t disk_size, void *buf, struct err *err)
    MUST_CHECK;
