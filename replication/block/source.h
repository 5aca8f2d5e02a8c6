// SPDX-License-Identifier: Apache-2.0
/* The source seam: the disks of one group as they are being written, and what changed in them.
 *
 * Tracking has a serial number, chosen by the session and made durable before use; it never
 * repeats. `track(n)` opens map n. `cut(n+1)` freezes map n, opens map n+1 at the same instant on
 * all disks, and makes the frozen changes readable. `end` closes the frozen map: delivered (drop
 * it) or not (OR it into the open one). There are never more than two maps. Every map is a
 * superset of what changed.
 *
 *      track(1) ─ scan all disks ─ cut(2) ─ changes/read ─ end(delivered) ─ cut(3) ─ ...
 *
 * A source is used by one data thread at a time; all calls block and take a cancel. After an
 * error from anything but `inspect`, close the source and open it anew. */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>

#define SOURCE_NAME_BYTES 64

struct source_disk {
    char name[SOURCE_NAME_BYTES];
    uint64_t size;            /* bytes, as the guest sees it */
    uint64_t allocated_bytes; /* estimate of what a scan will read */
    bool zero_tail; /* what it grows by reads as zeros until it is written (and tracked) */
};
VEC_DEFINE(source_disks, struct source_disk)

struct source_state {
    bool running;    /* a machine is using the disks (or holds them, shut down) */
    bool quiet;      /* nobody writes: the machine is off, or its guest is shut down */
    uint64_t open;   /* serial of the open map, 0: nothing is tracked */
    uint64_t frozen; /* serial of the frozen map, 0: none */
    bool cloned;     /* what is read is a clone (clone.h) of the disks as the open map began */
    char note[160];  /* why nothing is tracked, for a person: "db1: QEMU was restarted" */
};

struct source_extent {
    uint64_t off;
    uint64_t len;
};
VEC_DEFINE(source_extents, struct source_extent)
uint64_t source_extents_bytes(const struct source_extents *extents);
/* `to` becomes the union of both: ascending, joined, without overlaps. */
void source_extents_unite(struct source_extents *to, const struct source_extents *more);

/* What a map holds of a disk, or is to hold. */
struct source_marks {
    const char *disk;
    const struct source_extents *extents; /* within the disk */
};

/* A piece of a scan. Data stays valid until the next call. len 0: the scan is complete. */
struct source_piece {
    uint64_t off; /* multiples of 64 KiB, and so is len except at the disk's end */
    uint64_t len; /* at most 1 MiB of data; zero pieces may be of any length */
    bool zero;
    const uint8_t *data;
};

/* Whether the guest's file systems were frozen while a cut was made. */
enum source_freeze {
    SOURCE_FREEZE_NONE,   /* not asked for; or nobody writes, so there is nobody to ask */
    SOURCE_FREEZE_HELD,   /* all of them, from before the cut until after it */
    SOURCE_FREEZE_FAILED, /* `freeze_note` says why, for a person */
};

struct source_cut {
    int64_t wall_ms;  /* of its instant, or just before it */
    int64_t age_ms;   /* its instant lies so long before the call; 0: within it */
    int64_t stall_us; /* how long the cut, and the freeze around it, held the guest up at most */
    enum source_freeze freeze;
    char freeze_note[400]; /* FAILED */
};

struct scan; /* block/scan.h */
struct source;
struct source_ops {
    void (*close)(struct source *source);
    int (*disks)(struct source *source, struct source_disks *ret_disks, struct cancel *cancel,
                 struct err *err);
    int (*inspect)(struct source *source, struct source_state *ret_state, struct cancel *cancel,
                   struct err *err);
    /* Bytes the next cut must copy aside, summed over the disks: pending changes. */
    int (*pending)(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                   struct err *err);

    /* Opens map `serial` on all disks, dropping any maps of ours that were there before. On a
     * quiet source without a machine it succeeds without tracking (cut sees no changes; whoever
     * starts the machine starts a new history). */
    int (*track)(struct source *source, uint64_t serial, struct cancel *cancel, struct err *err);

    /* Reads a whole disk as it is now, from `from` on, while it may be written ("fuzzy"): holes
     * come as zero pieces or not at all. `ret_ordered`: pieces ascend and do not overlap, so a
     * broken scan may be resumed with `from`; otherwise later pieces replace earlier ones, and a
     * scan starts at 0. One scan at a time. */
    int (*scan_begin)(struct source *source, const char *disk, uint64_t from, bool *ret_ordered,
                      struct cancel *cancel, struct err *err);
    int (*scan_next)(struct source *source, struct source_piece *ret_piece, struct cancel *cancel,
                     struct err *err);
    void (*scan_end)(struct source *source);

    /* The consistent cut. ERR_SPACE: staging room for the pending bytes could not be reserved; no
     * cut was made and nothing changed. ERR_STATE: map `serial` - 1 is not the open one. */
    int (*cut)(struct source *source, uint64_t serial, struct source_cut *ret_cut,
               struct cancel *cancel, struct err *err);
    /* Of the frozen cut: extents ascending, multiples of 4 KiB (but for the disk's end). */
    int (*changes)(struct source *source, const char *disk, struct source_extents *ret_extents,
                   struct cancel *cancel, struct err *err);
    int (*read)(struct source *source, const char *disk, uint64_t off, void *buf, size_t len,
                struct cancel *cancel, struct err *err);
    /* Frees what the cut staged; no-op when nothing is frozen. Works in a new source object
     * too, after a restart of the daemon. */
    int (*end)(struct source *source, bool delivered, struct cancel *cancel, struct err *err);
    /* Removes every trace of tracking (unprotect). */
    int (*forget)(struct source *source, struct cancel *cancel, struct err *err);

    /* As `track`, and from the instant it is opened the map holds these extents too (disks that are
     * not named begin with nothing). All disks or none. NULL: nothing can be tracked there. */
    int (*track_from)(struct source *source, uint64_t serial, const struct source_marks *marks,
                      size_t count, struct cancel *cancel, struct err *err);
    /* `pending`, told apart: `ret_bytes` has one for each disk, in the order of `disks`. NULL: it
     * knows the sum only. */
    int (*pending_disks)(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                         struct err *err);
    /* As `cut`, with the guest's file systems frozen for the cut alone, if that can be: if not, the
     * cut is made all the same, and says why. They are thawed when it returns, whatever it returns,
     * or somebody sees to it (qemu/guardian.h). NULL: there is no guest to ask. */
    int (*cut_application)(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                           struct cancel *cancel, struct err *err);

    /* A scan of its own over a disk whose bytes are read without the source: ordered, several may be
     * open at a time, and scan_next_place and scan_read may be used; the caller closes it, before the
     * source. `ret_scan` NULL: that disk is scanned by scan_begin only. May be NULL. */
    int (*scan_open)(struct source *source, const char *disk, uint64_t from, struct scan **ret_scan,
                     struct cancel *cancel, struct err *err);
};

struct source {
    const struct source_ops *ops;
};

void source_close(struct source *source); /* NULL is fine */
void source_closep(struct source **source);
int source_cut_application(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                           struct cancel *cancel, struct err *err) MUST_CHECK;
/* ERR_UNSUPPORTED: that source keeps no maps. */
int source_track_from(struct source *source, uint64_t serial, const struct source_marks *marks,
                      size_t count, struct cancel *cancel, struct err *err) MUST_CHECK;

/* Pending changes of each of its `count` disks; a source that knows their sum only: all of it at the
 * first. */
int source_pending(struct source *source, uint64_t *ret_bytes, size_t count, struct cancel *cancel,
                   struct err *err) MUST_CHECK;

/* --- The sources there are ----------------------------------------------------------------- */

struct source_file_disk {
    const char *name;
    const char *path;
    const char *format; /* "raw" or "qcow2" */
};

/* Disks that no running machine uses: quiet, never tracked. Where their file system can clone them, what
 * is scanned, and the first cut after `track`, is of the instant of `track`: whoever writes to them
 * meanwhile shows at the second. */
int source_file_open(const struct source_file_disk *disks, size_t count, const char *work_dir,
                     struct source **ret_source, struct err *err) MUST_CHECK;

struct source_qemu_disk {
    const char *name;
    const char *node;   /* QEMU's node name of what the guest writes to */
    const char *path;   /* of the image; NULL when it can only be read through QEMU */
    const char *format; /* "raw": scanned by us; anything else by the background mirror */
};

struct source_qemu_config {
    const char *group;
    uint64_t generation;  /* both are part of the bitmaps' names */
    const char *qmp_path; /* a monitor of our own in that QEMU */
    /* The only monitor there is, and others need it, too: held for the length of each call only. */
    bool lent;
    const struct source_qemu_disk *disks;
    size_t disk_count;
    const char *work_dir;    /* staging files and sockets; must be local */
    const char *plugin_path; /* nbdkit-muster-plugin.so, for the mirror's sink */
    struct clock *clock;
    const char *machine;       /* its name for messages; NULL: the group's */
    const char *agent_path;    /* of the guest's agent; NULL or "": it has none */
    const char *guardian_path; /* a program with guardian_main; NULL: this one */
    const char *still_path;    /* of qemu/standstill.h; NULL: in `work_dir` */
};

/* A running (or paused, or shut-down but living) QEMU: dirty bitmaps and staged push. */
int source_qemu_open(const struct source_qemu_config *config, struct source **ret_source,
                     struct cancel *cancel, struct err *err) MUST_CHECK;
/* A guest that was frozen for a cut when all that could thaw it was killed is thawed by a process that
 * is started here; `work_dir` as above. Nothing is waited for. `guardian_path` as above. */
int source_qemu_thaw_left(const char *work_dir, const char *guardian_path, struct err *err)
    MUST_CHECK;

/* Several machines as one group: what is cut is one instant of all of them. Their disks are named
 * MACHINE.DISK. */
struct source_group_machine {
    const char *name;
    struct source *source; /* of source_qemu_open or source_file_open; taken, also after an error */
    /* A monitor of it by which it is continued when all else has failed: one that is free then. NULL:
     * it has no process. */
    const char *spare_qmp;
};
struct source_group_config {
    const char *group;
    const struct source_group_machine *machines;
    size_t count;
    const char *work_dir;      /* for the guardians' notes: none of a machine's own */
    const char *guardian_path; /* as above */
    struct clock *clock;
};
/* A cut stops all machines that run, cuts each, and continues them: some ten milliseconds. Whoever dies
 * in between, a guardian continues them; one that somebody else stopped stays so. If a machine's tracking
 * is lost, so is the group's: there is one serial number. ERR_INVALID: two disks of one name. */
int source_group_open(const struct source_group_config *config, struct source **ret_source,
                      struct cancel *cancel, struct err *err) MUST_CHECK;
