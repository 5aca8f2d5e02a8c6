// SPDX-License-Identifier: Apache-2.0
/* The disk of one site, as its daemon sees it: a filter over a recorder that can be cut off
 * (power, or kill -9), that fails as disks do, and that can lie. While a site is entered,
 * fs_real() is its disk for all code: one process plays both sites. For programs that are linked
 * with --wrap=fs_real. One thread. */
#pragma once

#include "base/fs.h"

enum site_op { SITE_READ, SITE_WRITE, SITE_SYNC };

/* Syncs that do nothing, of files whose path has the text: a daemon that says "durable" too early. */
#define SITE_LIE_ALL ""

struct site_fault {
    enum site_op op;
    const char *where; /* part of the path */
    unsigned skip;
    unsigned count; /* uses that fail; UINT_MAX: all, until site_mend */
    enum err_code code;
};

#define SITE_FDS 256

struct site_fs {
    struct fs fs; /* first */
    char *base;   /* below it are the roots, one after each power cut */
    char *root;
    unsigned roots;
    struct fs_record *record;
    bool dead;
    uint64_t left; /* changes until it is dead; UINT64_MAX: lives on */
    struct site_fault fault;
    bool say;        /* what fails, for a person who looks for a fault */
    uint64_t failed; /* calls that did, since the beginning */
    uint64_t full;   /* of these for want of room */
    const char *lie; /* SITE_LIE_ALL, a part of a path; NULL: honest */
    char *paths[SITE_FDS];
};

void site_fs_init(struct site_fs *site, const char *base);
void site_fs_done(struct site_fs *site);
/* What there is now is gone; instead it holds what a record left when the power went ... */
void site_load(struct site_fs *site, const struct fs_record *record, size_t prefix,
               enum fs_loss loss, uint64_t seed);
/* ... or a folder, which is the site's own from now on. */
void site_take(struct site_fs *site, const char *root);
/* What fs_real() is from now on; returns what it was. NULL: the system's. */
struct site_fs *site_enter(struct site_fs *site);
/* Comes to life again on what the disk holds: `power`, by loss and seed; else all there was. Whoever
 * had files open has closed them. */
void site_restart(struct site_fs *site, bool power, enum fs_loss loss, uint64_t seed);
void site_mend(struct site_fs *site);
