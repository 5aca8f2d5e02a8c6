// SPDX-License-Identifier: Apache-2.0
/* What the files of the file source share: source_file.c (reading the disks) and source_file_clones.c
 * (reading all of them as they were at one instant). */
#pragma once

#include "base/str.h"
#include "block/nbd_image.h"
#include "block/scan.h"
#include "block/source.h"

#include <sys/stat.h>

struct file_disk {
    char name[SOURCE_NAME_BYTES];
    char *path;
    char *format;
    int fd;                  /* raw */
    int clone;               /* what is read instead of the image, while not -1 */
    struct nbd_image *image; /* any other format; NULL until used */
    struct stat served;      /* as it was when the image's server was started */
    struct stat tracked;     /* as it was when tracking began */
};

struct source_file {
    struct source base; /* first */
    char *work_dir;
    struct file_disk *disks;
    size_t disk_count;
    struct scan *scan;
    uint64_t open;
    uint64_t frozen;
    bool joined; /* source_file_join */
    bool cloned; /* all disks, at one instant: */
    int64_t cloned_wall_ms;
    int64_t cloned_ms; /* the same, monotonic */
};

static inline bool file_disk_is_raw(const struct file_disk *disk)
{
    return str_eq(disk->format, "raw");
}

/* Of the image. */
int file_disk_stat(const struct file_disk *disk, struct stat *ret_stat, struct err *err) MUST_CHECK;
bool file_is_same(const struct stat *a, const struct stat *b);

/* Clones all disks and notes what they are tracked by. `file->cloned` stays false where that cannot be
 * had: where the file system clones nothing, has no room for what may be written meanwhile, or where
 * somebody writes all the time. */
int file_clones_make(struct source_file *file, struct cancel *cancel, struct err *err) MUST_CHECK;
/* From here on the images are read. No scan of a clone may be open but `file->scan`. */
void file_clones_drop(struct source_file *file);

/* One of several machines: its cut is to be of the instant of theirs, so no clones are made of its disks.
 * Sources of other kinds are left alone. */
void source_file_join(struct source *source);
