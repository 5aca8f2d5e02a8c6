// SPDX-License-Identifier: Apache-2.0
/* The recorder's notes, shared by fs_record.c (writes them) and fs_replay.c (reads them).
 *
 * Paths mean different things at different times, so each name is resolved when its operation
 * runs: files and folders get numbers (kept across renames, never used twice; ROOT_ID is the
 * root), and each pair of folder and name gets a slot. A disk's names are then an array: which
 * number stands in which slot. */
#pragma once

#include "base/fs.h"
#include "base/vec.h"

#define ROOT_ID        1
#define RECORD_NO_SLOT SIZE_MAX

struct record_inode {
    dev_t dev;
    ino_t ino;
    mode_t mode;
    bool is_gone; /* has no name any more: its ino may be used again by others */
};

struct record_slot {
    uint64_t dir;
    char *name;
};

/* Beside each operation: what its names meant. */
struct record_step {
    uint64_t id; /* made, moved, removed; SYNC_DIR: the folder */
    size_t slot;
    size_t slot_to; /* RENAME */
    bool doomed;    /* data whose sync failed: no later one makes it durable */
};

VEC_DEFINE(record_ops, struct fs_op)
VEC_DEFINE(record_steps, struct record_step)
VEC_DEFINE(record_slots, struct record_slot)
VEC_DEFINE(record_inodes, struct record_inode)
VEC_DEFINE(record_fds, uint64_t)

struct fs_record {
    struct fs fs; /* first: its functions find the record by it */
    char *root;   /* resolved */
    struct record_ops ops;
    struct record_steps steps;
    struct record_slots slots;
    struct record_inodes inodes; /* [id - 1] */
    struct record_fds fds;       /* [fd]: id of what was opened, 0 for none of ours */
    size_t initial;              /* operations that stand for what was there at the start */
};

/* A path below the root, taken apart. */
struct record_place {
    char *dir;  /* resolved folder; NULL: not below the root */
    char *name; /* last component */
    char *path; /* relative to the root */
};
void record_place_find(const struct fs_record *r, const char *path, struct record_place *ret);
void record_place_done(struct record_place *place);
/* `full`, a resolved path, relative to the root ("." for the root itself); NULL when outside. */
const char *record_below_root(const struct fs_record *r, const char *full);

/* 0: not seen yet. */
uint64_t record_find_id(const struct fs_record *r, const struct stat *st);
uint64_t record_new_id(struct fs_record *r, const struct stat *st);
/* The number of a folder below the root, given by its resolved path; noted when new. */
uint64_t record_dir_id(struct fs_record *r, const char *full);
size_t record_slot_of(struct fs_record *r, uint64_t dir, const char *name);

/* Adds an operation; the pointer is good until the next one. */
struct fs_op *record_note(struct fs_record *r, enum fs_op_kind kind, uint64_t id, size_t slot,
                          const char *path);
void record_note_write(struct fs_record *r, uint64_t id, const void *bytes, size_t len,
                       uint64_t off);
void record_note_size(struct fs_record *r, uint64_t id, uint64_t size);
/* Notes a file (with its bytes) or a folder as new; its number, or 0 when it is neither. */
uint64_t record_take_in(struct fs_record *r, const char *full);
void record_take_in_tree(struct fs_record *r, const char *dir);
