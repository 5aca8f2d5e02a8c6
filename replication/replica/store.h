// SPDX-License-Identifier: Apache-2.0
/* The replica store of one group: the seam, and the store in a directory (DESIGN: "Replica in a
 * directory"). It keeps the newest applied point as plain images, older ones as undo over them.
 *
 *   empty -> copying (base frames go straight into head) -> copied -> ready (has points)
 *
 * A store is used by one thread at a time (the caller holds a lock per group); the directory by
 * one process at a time (a lock file), views aside. All calls block. Opening is recovery: an
 * apply that was cut is rolled forward (or, when there is no room for it, by the next
 * point_apply), half-written files are removed. After a failed sync every call that would change
 * something is ERR_IO: close the store and open it again. */
#pragma once

#include "base/cancel.h"
#include "base/crypto.h"
#include "base/fs.h"
#include "replica/chunk.h"
#include "replica/manifest.h"
#include "replica/retention.h"

enum store_state { STORE_EMPTY, STORE_COPYING, STORE_COPIED, STORE_READY };

struct store_disk {
    char name[NAME_MAX_BYTES];
    uint64_t size; /* bytes, a multiple of 512 */
};
VEC_DEFINE(store_disks, struct store_disk)

struct store_point {
    uint64_t point;
    uint64_t generation;
    struct sha256 hash;
    int64_t cut_wall_ms;      /* writer's clock */
    int64_t received_wall_ms; /* this store's clock, when it became durable */
    int64_t stall_us;         /* how long its cut held the guest up */
    enum consistency consistency;
    bool promotion;
    bool applied;
    bool pinned;
    uint64_t bytes;          /* segments as received */
    uint64_t undo_bytes;     /* what it costs now: undo files that only it and older points need */
    uint64_t damaged_chunks; /* which it needs, and which are known to be damaged */
    enum retention_why why;  /* by the retention that was told last */
    int64_t every_ms;        /* of the sparsest tier that keeps it; 0: none does */
    char label[NAME_MAX_BYTES]; /* of the pin, of one of them when there are more */
};
VEC_DEFINE(store_points, struct store_point)

struct store_pin {
    uint64_t point;
    char label[NAME_MAX_BYTES];
};
VEC_DEFINE(store_pins, struct store_pin)

struct store_info {
    enum store_state state;
    uint64_t generation;
    uint64_t copy;          /* base_begin's, the highest one ever; 0: none, or an older release's */
    uint64_t durable_point; /* newest point with a durable manifest; 0: none */
    struct sha256 durable_hash;
    uint64_t applied_point; /* what head holds; 0: none */
    struct sha256 applied_hash;
    uint64_t applying; /* the point that head is on its way to; 0: none. Only in this process */
    bool released;     /* store_dir_release; the same */
    /* Chunks that are known to be damaged: of head, to be fetched again, and of older points only. */
    uint64_t damaged_head;
    uint64_t damaged_past;
    int64_t damaged_since_ms; /* this store's clock; 0: none is */
};

/* Chunks that are known to be damaged: points `from` to `to` cannot be shown where they need them. */
struct store_damage {
    char disk[NAME_MAX_BYTES];
    uint64_t chunk; /* the first of them */
    uint64_t count; /* 0: the undo file of point `to` cannot be read, which has no list of chunks */
    uint64_t from;
    uint64_t to; /* 0: head too, until the chunks are fetched again */
    int64_t since_wall_ms;
};
VEC_DEFINE(store_damages, struct store_damage)

/* A chunk's new digest, as `applied` reports it. All-zero bytes mean: the chunk is all zeros. */
struct store_digest {
    uint64_t chunk;
    struct digest digest;
};
VEC_DEFINE(store_digests, struct store_digest)

/* How a manifest made elsewhere is shown to continue a history that is known here, by hashes alone:
 * from its parent backwards to a known point, or from a known point backwards to its parent, through
 * the points of the store and `manifests` (texts, in any order). NULL: the store's points alone. */
struct store_proof {
    const struct sha256 *known; /* points known in other ways: the last one this site delivered */
    size_t known_count;
    const char *const *manifests;
    size_t manifest_count;
};

/* How far a disk's head was filled from its seed. */
struct store_seeding {
    uint64_t done_bytes; /* of the disk, from its beginning; its size: all is done */
    uint64_t data_bytes; /* of these, what the seed had that is not zeros */
};

struct base_frame; /* replica/base_frame.h */
struct seed;       /* replica/seed.h */
struct store;
struct store_ops {
    void (*close)(struct store *store);
    int (*info)(struct store *store, struct store_info *ret_info, struct err *err);
    int (*disks)(struct store *store, struct store_disks *ret_disks, struct err *err);

    /* Initial copy. base_begin is idempotent for the same disks; ERR_STATE once there are points,
     * ERR_SPACE before anything is written when the disks' `need_bytes` cannot fit. Frames of a
     * disk are sealed under `uuid`; a frame may be sent again, until the copy has ended (ERR_STATE
     * then). `copy` numbers the writer's attempts: a higher one for each that does not go on with the
     * changes noted since the one before. What belongs to a lower one was on the way over a link that
     * broke, and is older than what is here by now: ERR_STATE, for base_begin and for frames.
     * base_sync: what came before is durable. base_end: digests of all chunks are complete;
     * state copied. ERR_BUSY: it did a part of what there is to do, so that others get at the store;
     * ask again. */
    int (*base_begin)(struct store *store, const struct store_disks *disks, uint64_t need_bytes,
                      uint64_t generation, uint64_t copy, struct err *err);
    int (*base_frame)(struct store *store, const char *disk, const struct uuid *uuid,
                      enum compression compression, uint64_t number, const void *frame, size_t len,
                      struct err *err);
    /* base_frame in two steps: makes `frame`, whose `copy` is set, ready for base_frame_open, which needs
     * neither the store nor its lock; then base_put, in the order in which frames were sent. */
    int (*base_ready)(struct store *store, const char *disk, const struct uuid *uuid,
                      struct base_frame *frame, struct err *err);
    int (*base_put)(struct store *store, const char *disk, const struct base_frame *frame,
                    struct err *err);
    int (*base_sync)(struct store *store, const char *disk, struct err *err);
    int (*base_end)(struct store *store, struct err *err);
    /* Between begin and end, instead of a disk's frames: fills its head from a file of this site, a slice
     * with each call, until `ret_seeding` says that all of it is done. Each slice is durable when it
     * returns, also that it was done; another seed, or one that was changed, begins anew. What head
     * holds is then neither the source's nor of one instant: the sides compare, before there is a
     * point. The digests are those of what head gives back. ERR_STATE: the seed does not fit the disk. */
    int (*base_seed)(struct store *store, const char *disk, const struct seed *seed,
                     struct store_seeding *ret_seeding, struct cancel *cancel, struct err *err);

    /* Segments, resumable: segment_open says how many bytes are here already (0 of one that was
     * complete and is damaged by now: it is sent anew, and takes its place). segment_close
     * checks length and root (ERR_CORRUPT: the file is gone, send it anew) and syncs. */
    int (*segment_open)(struct store *store, const char *disk, const struct uuid *uuid,
                        uint64_t *ret_have, struct err *err);
    int (*segment_write)(struct store *store, const char *disk, const struct uuid *uuid,
                         uint64_t off, const void *bytes, size_t len, struct err *err);
    int (*segment_close)(struct store *store, const char *disk, const struct uuid *uuid,
                         const struct sha256 *root, uint64_t bytes, struct err *err);

    /* The point exists when this returns 0. Refused: a generation other than the store's
     * (ERR_FENCED), a parent that is not the newest durable manifest (ERR_CORRUPT, with both
     * numbers), a writer key other than the one the store was paired with (ERR_AUTH), a segment
     * that is missing (ERR_NOT_FOUND) or whose header names another group, disk, size, generation,
     * point or parent than the manifest (ERR_CORRUPT), a disk whose size changed (ERR_STATE, with
     * both sizes). The same manifest again succeeds. The first manifest of a store may stand
     * anywhere in a chain: its number and parent are where this store's history begins. */
    int (*point_commit)(struct store *store, const char *text, size_t len, struct err *err);
    /* Applies the oldest durable point that is not applied; `ret_point` 0: there was none.
     * `ret_digests`, one per disk in the order of `disks`, may be NULL. Cancelling is safe
     * between any two bytes; opening or calling again rolls forward. */
    int (*point_apply)(struct store *store, uint64_t *ret_point, struct store_digests *ret_digests,
                       struct cancel *cancel, struct err *err);
    int (*points)(struct store *store, struct store_points *ret_points, struct err *err);
    /* Manifest text of a point; free with free(). */
    int (*point_manifest)(struct store *store, uint64_t point, char **ret_text, struct err *err);

    /* Digests of chunks [first, first + count) of head; ERR_STATE when head is not at `point`
     * (0 with state copied: the base). Written to ret_digests[0..count). */
    int (*digests)(struct store *store, const char *disk, uint64_t point, uint64_t first,
                   uint64_t count, struct digest *ret_digests, struct err *err);

    /* The same of blocks: CHUNK_BLOCKS digests for each of `chunks`, made from head now; those of
     * blocks past the disk's end are zeros. */
    int (*block_digests)(struct store *store, const char *disk, uint64_t point,
                         const uint64_t *chunks, size_t count, struct digest *ret_digests,
                         struct err *err);

    /* Head's bytes. ERR_STATE while it is not at a point: a copy or an apply is under way. */
    int (*read)(struct store *store, const char *disk, uint64_t off, void *buf, size_t len,
                struct err *err);

    /* Another site was promoted and writes from now on: `text` is its promotion's manifest (the
     * tip), signed by the writer this store was paired with. Durable when it returns: the store is
     * at the tip's generation, older ones are fenced, and the next point it takes is the tip's
     * successor whose `base` is the newest point here. The same again succeeds. ERR_FENCED: the
     * tip's generation is not higher; ERR_AUTH: another's key; ERR_CORRUPT: its number is lower than
     * the newest here, or `proof` does not connect its parent with a point of this store, or with
     * one that is known. */
    int (*follow)(struct store *store, const char *text, size_t len,
                  const struct store_proof *proof, struct err *err);

    /* Pins. pin with point 0 takes the newest applied one; ret_point names it. ERR_BUSY: head is
     * just leaving a point that is not kept. A pinned point stays. Labels are unique; pinning the same again succeeds. */
    int (*pin)(struct store *store, uint64_t point, const char *label, uint64_t *ret_point,
               struct err *err);
    int (*unpin)(struct store *store, const char *label, struct err *err);
    /* Says which points are kept, from now on (durably): applies do not save what head leaves when
     * that is not to be kept, and those that are there and not to be kept are removed, in the middle
     * too. Never removed are pinned points, the newest applied one, those not applied yet, and, until
     * another comes, the point that a promotion chose and those after it. The undo files of removed points are merged into older ones, a part
     * with each call, never those at or after the point of an open view. ERR_INVALID: keep 0. */
    int (*prune)(struct store *store, const struct retention *retention, struct err *err);

    /* What is known to be damaged, ascending by disk, then chunk. Found by store_dir_scrub, and by
     * applies; gone when a point brings the chunk whole, or no kept point needs it any more. */
    int (*damages)(struct store *store, struct store_damages *ret_damages, struct err *err);

    /* Promotion to `expected` + 1 (ERR_FENCED when the store is elsewhere; ERR_NOT_FOUND without
     * such a point, or without any; ERR_CORRUPT: what it needs is known to be damaged: nothing was
     * changed then): applies what is durable, writes a manifest with `promotion` whose parent is `point` (0: the newest), raises
     * the number; durable when it returns. Repeating it with the same `token` succeeds and gives
     * the same answer. `sign` is this site's private key. `ret_point` is the point whose data were
     * chosen: the one to pin and serve. The promotion's own manifest takes the next free number
     * (info's durable_point); when an older point was chosen, head is rolled back to it by the
     * next point_apply, under undo like any other change. */
    int (*promote)(struct store *store, uint64_t expected, uint64_t point, const char *token,
                   const char *site, const uint8_t sign[SIGN_KEY_BYTES], int64_t wall_ms,
                   uint64_t *ret_generation, uint64_t *ret_point, struct err *err);
};

struct store {
    const struct store_ops *ops;
};

struct store_dir_config {
    struct fs *fs;
    struct clock *clock;
    const char *dir; /* replicas/GROUP; made when missing */
    const char *group;
    struct key group_key;
    uint8_t writer_key[SIGN_KEY_BYTES]; /* whose manifests are accepted; zeros: not checked */
    /* Where the private servers of heads in other formats than raw have sockets and pid files; not
     * inside of `dir`; a short path. NULL: such heads are ERR_UNSUPPORTED. */
    const char *run_dir;
    /* Own disks that somebody wrote to are no reason to refuse: to scrub it, which takes them over as
     * they are, with what differs as damage. Applies are refused until then. */
    bool to_scrub;
    /* The file with what opens heads that are LUKS containers (base/luks.h); NULL: such heads are
     * ERR_UNSUPPORTED. It is read whenever such a head is opened. */
    const char *luks_key;
    bool at_rest; /* the heads of a copy that begins from now on are LUKS containers */
};

/* A head that is a machine's own disk must be there, of its size, and untouched since the last apply
 * (a file's inode, size and times; of a block device nothing is known): else ERR_CORRUPT, and the
 * way out is a whole scrub (`to_scrub`), or store_dir_remove, which leaves own disks alone, and store_dir_adopt anew.
 * ERR_BUSY names the process that has the directory; ERR_CORRUPT says which file and what to
 * do: a file that is not ours, or damaged, is never removed or overwritten. */
int store_dir_open(const struct store_dir_config *config, struct store **ret_store, struct err *err)
    MUST_CHECK;
void store_close(struct store *store); /* NULL is fine */
void store_closep(struct store **store);
/* A machine's own disks become the heads of an empty store: its site was the source, another one took
 * over. `first` is the manifest of the point that the disks hold: the one that was sent last, or, when
 * they were written to since, one whose parent that is. What is written on them from then on is
 * written by applies. It can be cut anywhere, and is asked for again until it succeeds. Until the
 * first point is applied the disks are not touched. */
struct store_adopt_disk {
    const char *name;
    uint64_t size;
    const char *path;   /* absolute */
    const char *format; /* of QEMU; "raw" is opened as it is, others by a private server */
};
struct store_adopt {
    const struct store_adopt_disk *disks;
    size_t count;
    const char *first;
    const char *tip;          /* as for `follow`; here it may be a later point of that site, too */
    struct store_proof proof; /* that the tip comes from `first`, or from its parent */
    /* Digests that are known; those whose `ret_known` stays false are read and made. May be NULL. */
    int (*digests)(void *ctx, const char *disk, uint64_t first, uint64_t count,
                   struct digest *ret_digests, bool *ret_known, struct err *err);
    /* Told now and then how far a disk's digests are. May be NULL. */
    void (*progress)(void *ctx, const char *disk, uint64_t done_bytes, uint64_t size);
    void *ctx;
};
/* ERR_STATE: the store holds something else already, or the disks are not those of `first`;
 * ERR_CORRUPT: a disk is not there or has another size (nothing was changed then); those of
 * `follow`. Only for stores of store_dir_open. */
int store_dir_adopt(struct store *store, const struct store_adopt *adopt, struct cancel *cancel,
                    struct err *err) MUST_CHECK;
/* Its heads are the disks of a machine. Only for stores of store_dir_open. */
bool store_dir_has_own_disks(struct store *store);
/* ERR_CORRUPT: one of them is gone, or somebody wrote to it since the last apply. 0 for heads of the
 * replica's own, and once they are given back. Only for stores of store_dir_open. */
int store_dir_check_own(struct store *store, struct err *err) MUST_CHECK;
/* Before anybody starts a machine on own disks: rolls an apply that was cut forward, to where
 * info's applied point says. 0: nothing is under way on the disks. Only for stores of store_dir_open,
 * which has done that already unless there was no room. */
int store_dir_settle(struct store *store, struct cancel *cancel, struct err *err) MUST_CHECK;
/* The machine takes its own disks back, for good: applies all that is durable, ends the private
 * servers, and never
 * writes to the disks again. Durable when it returns; the same again succeeds. The store goes on to
 * tell its points, their manifests and the digests of what head was then; `read` reads the disk as it
 * is, under the machine (of raw disks; others are ERR_UNSUPPORTED). Anything that would change a
 * point or show one is ERR_STATE: what its own points held, the branch among them, can be seen no
 * longer, so export before what is to be kept. ERR_STATE: the heads are not own disks. */
int store_dir_release(struct store *store, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Prunes once, by a retention of a person's own; the one that was told last stays in force. Only for
 * stores of store_dir_open. */
int store_dir_prune_once(struct store *store, const struct retention *retention, struct err *err)
    MUST_CHECK;
/* The points as they are, with `why` as that retention would have it: RETENTION_GOES is what
 * store_dir_prune_once would remove. NULL: the one that was told last. */
int store_dir_plan(struct store *store, const struct retention *retention,
                   struct store_points *ret_points, struct err *err) MUST_CHECK;
/* All pins. Only for stores of store_dir_open. */
void store_dir_pins(struct store *store, struct store_pins *ret_pins);
/* The one that was told last; false: none was, all is kept. */
bool store_dir_retention(struct store *store, struct retention *ret_retention);
/* Is all there that the point needs, as far as is known without reading it? ERR_CORRUPT names the disk,
 * how many chunks are damaged, and which points are whole; ERR_NOT_FOUND: no such point. `point` 0: the
 * newest one. Only for stores of store_dir_open. */
int store_dir_check_point(struct store *store, uint64_t point, struct err *err) MUST_CHECK;

/* A scrub reads what a replica holds and compares: head with its digests, every undo file's seals, the
 * manifests' chain, the records. It never stops at a fault: what it finds is put down durably before it
 * goes on, and what is whole again is taken off the list. It works in slices, so that applies come in
 * between; the store may be closed and opened again between two. */
struct store_scrub_ask {
    uint64_t subset; /* 1 to `of`: only every `of`-th chunk; 0: all */
    uint64_t of;
    uint64_t point; /* only what this point needs; 0: all points */
};
#define STORE_SCRUB_TEXTS 8
struct store_scrub {
    struct store_scrub_ask ask;
    uint64_t done_bytes;  /* of */
    uint64_t total_bytes; /* an estimate */
    bool done;
    uint64_t damaged_head; /* chunks found damaged by this scrub, at head */
    uint64_t damaged_past; /* and of older points only */
    uint64_t healed;       /* that were on the list, and are whole */
    uint64_t faults;       /* in other files */
    size_t text_count;
    char texts[STORE_SCRUB_TEXTS][320]; /* the first things found */
    bool taken_over; /* own disks that others wrote to: what they hold is compared, and known */
    /* Where it is: not for the caller, who may carry it from one process to another. */
    unsigned stage;
    char disk[NAME_MAX_BYTES];
    uint64_t stamps; /* of own disks, when others had written to them at its beginning; 0: not */
    uint64_t at;
    uint64_t row;
    uint8_t *old; /* of `disk`, with a point: chunks it has in undo files; NULL: made anew */
};
/* ERR_STATE: no complete copy is there yet, or a machine has its disks back; ERR_INVALID: no such
 * subset; ERR_NOT_FOUND: no such point. */
int store_dir_scrub_begin(struct store *store, const struct store_scrub_ask *ask,
                          struct store_scrub *ret_scrub, struct err *err) MUST_CHECK;
/* About `bytes` of work; `scrub->done` says whether that was the last. ERR_STATE: an apply was cut, and
 * has to end first: ask again. After other errors, what was found is noted, and the scrub is over. */
int store_dir_scrub_slice(struct store *store, struct store_scrub *scrub, uint64_t bytes,
                          struct cancel *cancel, struct err *err) MUST_CHECK;
void store_scrub_done(struct store_scrub *scrub); /* also for CLEANUP */
/* A whole scrub in one go: ERR_CORRUPT when anything was found. Only for stores of store_dir_open. */
int store_dir_verify(struct store *store, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Removes a replica that is not open, for good. */
int store_dir_remove(struct fs *fs, const char *dir, struct err *err) MUST_CHECK;
