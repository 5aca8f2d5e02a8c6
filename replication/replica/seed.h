// SPDX-License-Identifier: Apache-2.0
/* A seed: a file of this site from which the head of a replica may begin, so that only what differs
 * has to travel. An older export, a restored backup, a disk that was carried over; raw or qcow2. It is
 * only read, and needed no more once the head is filled.
 *
 * A peer names it, so it is found in one folder alone, which this site keeps for that peer; no name leads
 * out of it, by ".." or by a link. The peer reads the messages: they name the seed as it did, and no place
 * of this site. One thread. */
#pragma once

#include "base/fs.h"

#define SEED_NAME_BYTES 256

struct seed_folder {
    const char
        *dir; /* the only folder that its seeds are in; absolute, ends with the peer's name */
    const char *replicas; /* whose heads are no seeds; NULL: there are none */
    const char *run_dir;  /* of the private server that shows a qcow2 one; a short path */
};

struct seed {
    char name[SEED_NAME_BYTES]; /* below the folder */
    char *path;                 /* where it was found; not for messages */
    char format[8];             /* "raw" or "qcow2" */
    uint64_t size;              /* of the disk in it, in bytes; any number of a raw one */
    struct fs_stamp stamp;      /* of the file */
    struct fs *fs;              /* by which `fd` is read */
    int fd;
    int file;   /* of one that is not plain: the file itself, which was looked at */
    bool plain; /* the bytes in `fd`, a descriptor of the system's, are the disk's: may be cloned */
};

/* `name`: relative to the folder, or absolute and below it. ERR_DENIED: it leads out of the folder;
 * ERR_NOT_FOUND; ERR_INVALID: it is no file, or empty; ERR_UNSUPPORTED: of a format, or with a
 * feature, that is not read here (a backing file, a data file elsewhere, encryption); ERR_BUSY: a
 * QEMU writes to it, or it changed just now; ERR_STATE: it is the head of a replica. */
int seed_open(const struct seed_folder *folder, const char *name, struct seed *ret_seed,
              struct err *err) MUST_CHECK;
void seed_close(struct seed *seed); /* zeros are fine; also for CLEANUP */

/* May it be the seed of a disk of `size` bytes? A smaller one may: what is missing is sent. ERR_STATE: it
 * is larger (by a sector or more), with both sizes. */
int seed_fits(const struct seed *seed, const char *disk, uint64_t size, struct err *err) MUST_CHECK;
/* All `len` bytes at `off`; what lies behind its end is zeros. */
int seed_read(const struct seed *seed, void *buf, size_t len, uint64_t off, struct err *err)
    MUST_CHECK;
/* The first byte at or after `off`, and before its end, that may be other than zero; its end: none. */
uint64_t seed_next_data(const struct seed *seed, uint64_t off);
