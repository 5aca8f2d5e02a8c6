// SPDX-License-Identifier: Apache-2.0
/* The source's copy of its replica's chunk digests. It names the point it belongs to and is used
 * only while the replica confirms that point; else it is fetched anew. Losing it costs one
 * fetch. The format stands in digests.c. One thread. */
#pragma once

#include "replica/store.h"

#include <stdbool.h>

/* The point of a copy. Point 0 with zeros: the base of an initial copy. */
struct digests_tip {
    uint64_t point;
    struct sha256 hash;
};

/* Making a new one: all digests of all disks in order, then commit, which replaces the old. */
struct digests_writer;
int digests_writer_open(const char *dir, const struct store_disks *disks,
                        struct digests_writer **ret_writer, struct err *err) MUST_CHECK;
int digests_writer_add(struct digests_writer *writer, const struct digest *digests, size_t count,
                       struct err *err) MUST_CHECK;
int digests_writer_commit(struct digests_writer *writer, const struct digests_tip *tip,
                          struct err *err) MUST_CHECK;
void digests_writer_free(struct digests_writer *writer);
void digests_writer_freep(struct digests_writer **writer);

/* Where the copy ends, kept by who moves it on, so that not all of it is read each time. Zeros: not
 * known; set to zeros after digests_writer_commit and digests_open. */
struct digests_end {
    bool known;
    struct digests_tip tip;
    uint64_t off;
};

/* Moves the copy on from `from` to `to`. `names[i]` is the disk of `changed[i]`. ERR_NOT_FOUND:
 * there is no copy at `from`; it stays as it is. Not durable, and need not be: a record that
 * did not survive leaves a copy of an older point. */
int digests_append(const char *dir, const struct digests_tip *from, const struct digests_tip *to,
                   const struct store_disks *disks, const struct store_digests *changed,
                   struct digests_end *end, struct err *err) MUST_CHECK;

/* The disks of a copy grew: what is new is zero. No copy of them: nothing happens. */
int digests_resize(const char *dir, const struct store_disks *from, const struct store_disks *to,
                   struct err *err) MUST_CHECK;

/* Opens the copy if it is at `tip` for exactly these disks: ERR_NOT_FOUND otherwise. */
struct digests;
int digests_open(const char *dir, const struct store_disks *disks, const struct digests_tip *tip,
                 struct digests **ret_digests, struct err *err) MUST_CHECK;
int digests_read(struct digests *digests, size_t disk, uint64_t first, uint64_t count,
                 struct digest *ret_digests, struct err *err) MUST_CHECK;
void digests_close(struct digests *digests);
void digests_closep(struct digests **digests);
