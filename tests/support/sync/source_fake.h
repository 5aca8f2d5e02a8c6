// SPDX-License-Identifier: Apache-2.0
/* A machine with disks in memory, and a source over it: maps of 4 KiB, an image kept at each
 * cut, faults. The memory is shared with forked children, so a child killed in the middle of
 * something leaves the machine as it would leave a real one. No locks: the guest writes between
 * turns, or from `on_piece` in the middle of a scan. */
#pragma once

#include "block/source.h"

#define FAKE_BLOCK     4096u
#define FAKE_DISKS_MAX 4

struct fake_disk {
    char name[SOURCE_NAME_BYTES];
    uint64_t size;
    uint8_t *bytes; /* now */
    uint8_t *cut;   /* as they were at the latest cut */
    uint8_t *open;  /* a byte per block: written since the open map began */
    uint8_t *frozen;
};

struct fake_machine {
    struct fake_disk disks[FAKE_DISKS_MAX];
    size_t disk_count;
    size_t bytes; /* of this memory */
    bool running; /* else like plain files: what is tracked is known to one source object only */
    bool quiet;
    bool dirty_tail; /* block devices: what they grow by may hold anything */
    bool unordered;  /* scans come in disorder, with repetitions */
    uint64_t open;
    uint64_t frozen;
    uint64_t touched; /* counts the writes */
    uint64_t cuts;    /* made, also of machines that are off */
    uint64_t scanned; /* pieces given */
    uint64_t opened;  /* sources */
    char note[160];
    enum source_freeze freeze; /* what comes of one, and why */
    char freeze_note[200];
    uint64_t freezes; /* asked for */
    char fail_op[16]; /* "cut", "read", "scan": the next but fail_skip fails */
    int fail_skip;
    enum err_code fail_code;
    void (*on_piece)(struct fake_machine *machine, void *ctx);
    void *on_piece_ctx;
    /* After each cut; may change what it says. */
    void (*on_cut)(struct fake_machine *machine, struct source_cut *cut, void *ctx);
    void *on_cut_ctx;
};

/* Disks "disk0", "disk1", ... of these sizes; running, nothing tracked. */
struct fake_machine *fake_machine_new(const uint64_t *sizes, size_t count);
void fake_machine_free(struct fake_machine *machine);
/* `to` is as `from` is now: disks, maps, counts. Made with the same sizes. */
void fake_machine_copy(struct fake_machine *to, const struct fake_machine *from);
struct source *fake_source_new(struct fake_machine *machine);

void fake_write(struct fake_machine *machine, size_t disk, uint64_t off, const void *bytes,
                size_t len);
/* `count` writes of 512 B to 32 KiB anywhere, some of them zeros; all from the seed. */
void fake_write_random(struct fake_machine *machine, uint64_t *seed, unsigned count);
/* The disk becomes larger, up to twice what it was made with: by zeros, or, with `dirty_tail`, by what
 * lay there. A smaller size shrinks it. */
void fake_resize(struct fake_machine *machine, size_t disk, uint64_t size);
/* QEMU died and was started again: its maps are gone. */
void fake_restart(struct fake_machine *machine);
void fake_fail(struct fake_machine *machine, const char *op, int skip, enum err_code code);
uint64_t fake_random(uint64_t *seed);
