// SPDX-License-Identifier: Apache-2.0
/* What the files of the QEMU source share. Names in QEMU begin with a tag made from the group's
 * name ("muster-1a2b3c4d"): nodes may have 31 bytes only. */
#pragma once

#include "block/maps.h"
#include "block/mirror.h"
#include "block/scan.h"
#include "block/source.h"
#include "block/stage_reader.h"
#include "qemu/blocks.h"
#include "qemu/guardian.h"
#include "qemu/standstill.h"

struct source_qemu_disk_state {
    char name[SOURCE_NAME_BYTES];
    char node[BLOCKS_NODE_BYTES];
    char *path; /* NULL: only QEMU reads it */
    bool raw;
    uint64_t size;
    char stage_node[BLOCKS_NODE_BYTES];
    char *stage_path;
    uint64_t stage_room;         /* reserved */
    struct stage_reader *staged; /* after a cut, unless nothing changed */
};

struct source_qemu {
    struct source base; /* first */
    char *group;
    uint64_t generation;
    char *work_dir;
    char *plugin_path;
    struct clock *clock;
    char tag[20];
    struct source_qemu_disk_state *disks;
    struct maps_disk *maps; /* the same disks, for maps_judge */
    size_t disk_count;
    char *machine;
    char *agent_path;    /* NULL: none */
    char *guardian_path; /* NULL: this program */
    char *qmp_path;
    char *still_path;
    bool lent;       /* connected for the length of each call only */
    struct qmp *qmp; /* lent: NULL between calls */
    bool staged;     /* the last cut of this object can be read */
    struct scan *scan;
    struct mirror *mirror;
};

static inline struct source_qemu *source_qemu(struct source *source)
{
    return (struct source_qemu *)source;
}

int source_qemu_find(struct source_qemu *qemu, const char *name,
                     struct source_qemu_disk_state **ret_disk, struct err *err) MUST_CHECK;
/* Lists the nodes and judges their maps. */
int source_qemu_look(struct source_qemu *qemu, struct blocks_nodes *ret_nodes,
                     struct source_state *ret_state, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* The lock of this QEMU's block jobs (qemu/graph.h); a lent monitor's folder is not ours, and nobody
 * streams there: -1. */
int source_qemu_hold(const struct source_qemu *qemu, int *ret_fd, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
/* Ends jobs of ours, removes nodes and staging files of ours: whatever a cut or a scan left. The
 * caller holds the lock. */
int source_qemu_clear(struct source_qemu *qemu, struct cancel *cancel, struct err *err) MUST_CHECK;

/* The guardians' notes, in the folder of a group's cuts. */
#define FREEZE_NOTE "held.json"
#define STOP_NOTE   "stopped.json"

/* source_qemu_freeze.c: the guest's file systems around a cut. */
struct freeze {
    bool wanted;
    struct guardian *guardian; /* NULL: nothing can be frozen */
    int64_t begun_ms;          /* monotonic; 0: nothing was frozen */
    enum source_freeze state;
    char note[400]; /* of source_cut */
};
/* Finds out whether it can be done; nothing is held yet. Not wanted: does nothing, as the others then. */
void freeze_prepare(struct source_qemu *qemu, struct freeze *freeze, struct cancel *cancel);
void freeze_begin(struct freeze *freeze, struct clock *clock, struct cancel *cancel);
/* Thaws. `cut` NULL: none was made. */
void freeze_end(struct freeze *freeze, struct clock *clock, struct source_cut *cut);
void freeze_fail(struct freeze *freeze, const char *why);
/* Has it a guest that could answer? A machine that stands still fails the freeze. */
bool freeze_has_guest(struct source_qemu *qemu, struct freeze *freeze, struct cancel *cancel);
void freeze_done(struct freeze *freeze); /* CLEANUP */

/* Open monitors' calls; those of a lent one are made around them (source_qemu_lent.c). */
extern const struct source_ops source_qemu_ops;
extern const struct source_ops source_qemu_lent_ops;
/* Connects a lent monitor for longer than a call; no-ops for one of our own. */
int source_qemu_borrow(struct source_qemu *qemu, struct cancel *cancel, struct err *err) MUST_CHECK;
void source_qemu_give_back(struct source_qemu *qemu);

int source_qemu_scan_open(struct source *source, const char *name, uint64_t from,
                          struct scan **ret_scan, struct cancel *cancel, struct err *err);

/* source_qemu_cut.c */
int source_qemu_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                    struct cancel *cancel, struct err *err);
/* The same in parts, for several at one instant. After prepare: `ret_held` is closed by the caller when
 * all has ended; when a later part fails, source_qemu_abandon. The monitor is connected all the time. */
int source_qemu_cut_prepare(struct source_qemu *qemu, uint64_t serial, int *ret_held,
                            struct cancel *cancel, struct err *err) MUST_CHECK;
int source_qemu_cut_make(struct source_qemu *qemu, uint64_t serial, struct source_cut *ret_cut,
                         struct cancel *cancel, struct err *err) MUST_CHECK;
int source_qemu_cut_stage(struct source_qemu *qemu, uint64_t serial, struct cancel *cancel,
                          struct err *err) MUST_CHECK;
void source_qemu_abandon(struct source_qemu *qemu);
/* A cut that others of its group made and this one did not: its maps are as if it had, and nothing is
 * staged. */
int source_qemu_catch_up(struct source_qemu *qemu, uint64_t serial, struct cancel *cancel,
                         struct err *err) MUST_CHECK;
int source_qemu_cut_application(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                                struct cancel *cancel, struct err *err);
int source_qemu_changes(struct source *source, const char *name, struct source_extents *ret_extents,
                        struct cancel *cancel, struct err *err);
int source_qemu_read(struct source *source, const char *name, uint64_t off, void *buf, size_t len,
                     struct cancel *cancel, struct err *err);
int source_qemu_end(struct source *source, bool delivered, struct cancel *cancel, struct err *err);
