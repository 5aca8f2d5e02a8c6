// SPDX-License-Identifier: Apache-2.0
/* Inside of the store in a directory: its state in memory, and what its files offer each other.
 * Nobody outside store_dir*.c includes this.
 *
 *   DIR/lock            who has it open
 *       replica         record: group, copying | copied, disks, their sizes and own heads
 *       generation      record: who may write
 *       manifests/N     record: manifest of point N, and when it came
 *       pruned          record: what was removed, before the oldest manifest and in between
 *       retention       record: which points are to be kept
 *       applied         record: the point head holds, and the one being applied to it
 *       pins            record: labels and their points
 *       protection      record: whose it is and how it is kept, by whoever adopts it (inspect.h)
 *       tip             record: the promotion by which another site took the group over
 *       promotion       record: the last promotion, whole, so that it can be finished
 *       seeds           record: how far disks were filled from seeds, while they are copied
 *       damaged         record: chunks that are known to be damaged
 *       chain           for views (chain.c)
 *       DISK/head.raw (or head.luks), DISK/digests, DISK/segments/UUID.seg (.part: on its way), DISK/undo/N
 *
 * (No DISK/head.raw where the disk of a machine is the head: "replica" says where that is.)
 *
 * Numbers in names have 20 digits. Every file under another name is foreign: it is named and
 * refused, never touched. */
#pragma once

#include "base/vec.h"
#include "replica/chain.h"
#include "replica/guard_fs.h"
#include "replica/seed.h"
#include "replica/store.h"

#define DIR_FILE_LOCK       "lock"
#define DIR_FILE_REPLICA    "replica"
#define DIR_FILE_GENERATION "generation"
#define DIR_FILE_MANIFESTS  "manifests"
#define DIR_FILE_PRUNED     "pruned"
#define DIR_FILE_APPLIED    "applied"
#define DIR_FILE_PINS       "pins"
#define DIR_FILE_PROMOTION  "promotion"
#define DIR_FILE_TIP        "tip"
#define DIR_FILE_DAMAGED    "damaged"
#define DIR_FILE_RETENTION  "retention"
#define DIR_FILE_PROTECTION "protection"
#define DIR_FILE_VERIFIED   "verified" /* sites/verified.c */
#define DIR_FILE_SEEDS      "seeds"

#define DIR_HEAD            "head.raw"
#define DIR_HEAD_LUKS       "head.luks"
#define DIR_DIGESTS         "digests"
#define DIR_SEGMENTS        "segments"
#define DIR_UNDO            "undo"

#define DIR_FORMAT_BYTES    16

VEC_DEFINE(chunks, uint64_t)

/* A kept point: what of its manifest is needed all the time. */
struct dir_point {
    uint64_t point;
    uint64_t generation;
    struct sha256 hash;
    struct sha256 parent;
    struct sha256 base; /* zeros: none */
    int64_t cut_wall_ms;
    int64_t received_wall_ms;
    int64_t stall_us;
    enum consistency consistency;
    bool promotion;
    uint64_t bytes;
};
VEC_DEFINE(dir_points, struct dir_point)

/* Points that were removed between two that are kept. */
struct dir_gone {
    uint64_t first;
    uint64_t last;
    struct sha256 hash; /* of the last: what comes next must continue it */
};
VEC_DEFINE(dir_gones, struct dir_gone)
VEC_DEFINE(dir_numbers, uint64_t)

/* The record "pruned". */
struct dir_note {
    uint64_t before; /* number and hash of what stands before the oldest kept point */
    struct sha256 before_hash;
    struct dir_gones gones;
    struct dir_numbers listed; /* removed points whose undo files are there */
};

/* The undo files of one point, of all disks. */
struct dir_file {
    uint64_t point;
    uint64_t bytes;
};
VEC_DEFINE(dir_files, struct dir_file)
struct dir_merge;

/* How far a disk was filled from its seed. */
struct dir_seed {
    char name[SEED_NAME_BYTES];
    char format[8];
    struct fs_stamp stamp; /* of the file as it was read so far */
    uint64_t done;         /* bytes of head, from its beginning */
    uint64_t data;         /* of these, that are not zeros */
};

struct dir_disk {
    char name[NAME_MAX_BYTES];
    uint64_t size;
    uint64_t resizing; /* to this many bytes, begun and not finished; 0: not */
    char *dir;
    char *elsewhere;               /* the head's path when it is a machine's own disk; else NULL */
    char format[DIR_FORMAT_BYTES]; /* of that */
    struct fs_stamp stamp;         /* of that, when it was written to last */
    bool luks;                     /* the replica's own head is the LUKS container of this UUID */
    struct uuid luks_uuid;
    int head;
    int digests;
    uint8_t *known; /* initial copy only: the chunks whose digest is already right, one bit each */
    struct dir_seed *seed; /* initial copy only; or NULL */
    uint64_t settled;      /* chunks before it are as the copy's end needs them */
    uint8_t *saved;        /* chunks saved since the store's `saved_since`, one bit each; or NULL */
};
VEC_DEFINE(dir_disks, struct dir_disk)

VEC_DEFINE(dir_pins, struct store_pin)

/* A run of chunks that are known to be damaged; as in struct store_damage. */
struct dir_damage {
    size_t disk;
    uint64_t chunk;
    uint64_t count;
    uint64_t from;
    uint64_t to;
    int64_t since_ms;
};
VEC_DEFINE(dir_damages, struct dir_damage)

/* A segment that is coming in. */
struct dir_receive {
    size_t disk;
    struct uuid uuid;
    int fd;
    uint64_t have;
};
VEC_DEFINE(dir_receives, struct dir_receive)

/* The promotion that is followed; generation 0: none ever was. */
struct dir_tip {
    uint64_t point;
    uint64_t generation;
    struct sha256 hash;
};

struct store_dir {
    struct store store;
    struct guard_fs guard;
    struct fs *fs;   /* the guard's */
    struct fs *nbd;  /* below it, where there is a run folder: heads in other formats */
    struct fs *luks; /* below it, where there is a key: heads that are containers */
    struct clock *clock;
    char *dir;
    char *run_dir;  /* may be NULL */
    bool run_moved; /* the record names another */
    char *luks_key; /* may be NULL */
    bool at_rest;
    char group[NAME_MAX_BYTES];
    struct key key;
    uint8_t writer_key[SIGN_KEY_BYTES];
    int lock;
    struct chain *chain;
    struct digester *digester;

    enum store_state base; /* empty, copying or copied; ready follows from the points */
    bool released;         /* a machine has its disks back, which are the heads */
    bool rotten;           /* a segment of the point that was to be applied is damaged, or gone */
    bool to_scrub;         /* as in the config */
    uint64_t generation;
    uint64_t copy; /* the highest that base_begin was told; 0: none */
    struct dir_disks disks;
    struct dir_points points; /* ascending; the one that head holds among them, kept or not */
    uint64_t before;          /* the record "pruned" */
    struct sha256 before_hash;
    struct dir_gones gones;
    struct dir_numbers listed;
    struct dir_files files; /* ascending; those of points before the applied one */
    bool retains;           /* `retention` is known; else all is kept */
    struct retention retention;
    uint64_t saved_since;    /* the newest kept point when that was noted; 0: not noted */
    struct dir_merge *merge; /* under way; or NULL */
    struct dir_numbers hurt; /* merges that began with these files failed: one is damaged */
    uint64_t applied;        /* 0: the base */
    struct sha256 applied_hash;
    uint64_t intent; /* the point being applied; 0: none */
    struct dir_tip tip;
    struct dir_pins pins;
    struct dir_damages damages;
    struct dir_receives receives;
};

struct store_dir *store_dir_of(struct store *store);

/* --- store_dir_layout.c: names and paths ------------------------------------------------- */

/* Malloc'ed. */
char *dir_path(const struct store_dir *d, const char *name);
char *dir_manifest_path(const struct store_dir *d, uint64_t point);
/* Of the file, or block device, that is the head. */
char *dir_head_path(const struct dir_disk *disk);
char *dir_undo_path(const struct dir_disk *disk, uint64_t point);
char *dir_segment_path(const struct dir_disk *disk, const struct uuid *uuid, bool complete);
bool dir_number_of(const char *name, uint64_t *ret_number); /* 20 digits */
bool dir_name_is_reserved(const char *disk);
/* Refuses foreign files anywhere in the directory (ERR_CORRUPT names one); without `disks` only
 * what may be there before there are any. */
int dir_check_files(const char *dir, const struct dir_disks *disks, struct err *err) MUST_CHECK;
/* Removes half-written files of ours. */
int dir_remove_temporary(struct store_dir *d, struct err *err) MUST_CHECK;

/* --- store_dir_state.c: the records ------------------------------------------------------ */

/* The record "replica"; any group's while ours is not named. */
int dir_state_load(struct store_dir *d, struct err *err) MUST_CHECK;
int dir_state_save(struct store_dir *d, enum store_state base, struct err *err) MUST_CHECK;
int dir_applied_load(struct store_dir *d, struct err *err) MUST_CHECK;
/* `point` NULL: the base. */
int dir_applied_save(struct store_dir *d, const struct dir_point *point, uint64_t intent,
                     struct err *err) MUST_CHECK;
int dir_pruned_load(struct store_dir *d, struct err *err) MUST_CHECK;
/* Where the first point will stand: nothing else is gone. */
int dir_pruned_save(struct store_dir *d, uint64_t point, const struct sha256 *hash, struct err *err)
    MUST_CHECK;
/* Takes the note over when it is durable. */
int dir_note_save(struct store_dir *d, struct dir_note *note, struct err *err) MUST_CHECK;
void dir_note_done(struct dir_note *note);
int dir_retention_load(struct store_dir *d, struct err *err) MUST_CHECK;
int dir_retention_save(struct store_dir *d, const struct retention *retention, struct err *err)
    MUST_CHECK;
int dir_pins_load(struct store_dir *d, struct err *err) MUST_CHECK;
int dir_pins_save(struct store_dir *d, const struct dir_pins *pins, struct err *err) MUST_CHECK;

/* --- store_dir_point.c: manifests -------------------------------------------------------- */

int dir_points_load(struct store_dir *d, struct err *err) MUST_CHECK;
struct dir_point *dir_point_find(const struct store_dir *d, uint64_t point);
/* The newest durable one; NULL: none. */
struct dir_point *dir_point_newest(const struct store_dir *d);
int dir_manifest_read(struct store_dir *d, uint64_t point, struct manifest *ret_manifest,
                      char **ret_text, struct err *err) MUST_CHECK;
/* The same, and what is kept of it in memory. */
int dir_point_read(struct store_dir *d, uint64_t number, struct manifest *ret_manifest,
                   struct dir_point *ret_point, struct err *err) MUST_CHECK;
/* Does it follow the newest of the points? */
int dir_point_check(const struct store_dir *d, const struct dir_point *point, struct err *err)
    MUST_CHECK;
/* Makes a checked manifest durable and one of the points. */
int dir_manifest_add(struct store_dir *d, const struct manifest *manifest, const char *text,
                     struct err *err) MUST_CHECK;
/* Bytes of the undo files that only this point and older ones need. */
uint64_t dir_undo_bytes(const struct store_dir *d, uint64_t point);
/* ERR_NOT_FOUND that lists what is kept. */
int dir_no_point(const struct store_dir *d, uint64_t point, struct err *err);
int store_dir_point_commit(struct store *store, const char *text, size_t len, struct err *err);
int store_dir_points(struct store *store, struct store_points *ret_points, struct err *err);
int store_dir_point_manifest(struct store *store, uint64_t point, char **ret_text, struct err *err);

/* --- store_dir_disk.c: the files of disks ----------------------------------------------------- */

struct dir_disk *dir_disk_find(const struct store_dir *d, const char *name, struct err *err);
/* Takes a disk in that is not open yet; `elsewhere` NULL: DISK/head.raw. */
void dir_disk_add(struct store_dir *d, const char *name, uint64_t size, const char *elsewhere,
                  const char *format);
/* Heads that are own disks; the others come with dir_disks_open. */
int dir_heads_open(struct store_dir *d, struct err *err) MUST_CHECK;
/* Opens heads and digests; with state copying, makes what is missing. */
int dir_disks_open(struct store_dir *d, struct err *err) MUST_CHECK;
void dir_disks_close(struct store_dir *d);
void dir_heads_close(struct store_dir *d);
/* A machine's own disk in a format that a private server shows. */
bool dir_disk_is_served(const struct dir_disk *disk);
/* What is in the head's descriptor is the disk: it may be asked for its holes. */
bool dir_disk_is_plain(const struct dir_disk *disk);

/* --- store_dir_base.c: initial copy ------------------------------------------------------ */

/* The first byte at or after `off` that is no hole; the file's end when there is none, `off`
 * where the file system cannot tell. */
uint64_t dir_next_data(int fd, uint64_t off, uint64_t size);
/* The chunk's digest in the file is right; in state copying only. */
void dir_digest_known(struct dir_disk *disk, uint64_t chunk, bool known);
/* The digests of chunks that came whole are in the file, and known; those of others of the extent are not.
 * `digests`: of the whole ones, moved on; NULL: zeros. */
int dir_digests_note(struct store_dir *d, struct dir_disk *disk, const struct extent *extent,
                     const struct digest **digests, struct err *err) MUST_CHECK;
/* A disk of a copy that was begun and has no points yet; NULL: ERR_STATE, ERR_NOT_FOUND. */
struct dir_disk *dir_copying_disk(struct store_dir *d, const char *name, struct err *err);
/* ERR_STATE once the copy has ended. */
int dir_check_copying(const struct store_dir *d, struct err *err) MUST_CHECK;
/* The digests of all chunks of all disks are right and durable, and the heads are synced.
 * `progress` as in struct store_adopt. */
typedef void dir_progress_fn(void *ctx, const char *disk, uint64_t done_bytes, uint64_t size);
int dir_base_settle(struct store_dir *d, dir_progress_fn *progress, void *ctx,
                    struct cancel *cancel, struct err *err) MUST_CHECK;
int store_dir_base_begin(struct store *store, const struct store_disks *disks, uint64_t need_bytes,
                         uint64_t generation, uint64_t copy, struct err *err);
int store_dir_base_frame(struct store *store, const char *disk, const struct uuid *uuid,
                         enum compression compression, uint64_t number, const void *frame,
                         size_t len, struct err *err);
int store_dir_base_ready(struct store *store, const char *disk, const struct uuid *uuid,
                         struct base_frame *frame, struct err *err);
int store_dir_base_put(struct store *store, const char *disk, const struct base_frame *frame,
                       struct err *err);
int store_dir_base_sync(struct store *store, const char *disk, struct err *err);
int store_dir_base_end(struct store *store, struct err *err);

/* --- store_dir_seed.c: a copy that begins from files of this site -------------------------- */

int store_dir_base_seed(struct store *store, const char *disk, const struct seed *seed,
                        struct store_seeding *ret_seeding, struct cancel *cancel, struct err *err);
/* With state copying: how far disks are. */
int dir_seeds_load(struct store_dir *d, struct err *err) MUST_CHECK;
int dir_seeds_remove(struct store_dir *d, struct err *err) MUST_CHECK;

/* --- store_dir_segment.c: segments on their way ------------------------------------------ */

int store_dir_segment_open(struct store *store, const char *disk, const struct uuid *uuid,
                           uint64_t *ret_have, struct err *err);
int store_dir_segment_write(struct store *store, const char *disk, const struct uuid *uuid,
                            uint64_t off, const void *bytes, size_t len, struct err *err);
int store_dir_segment_close(struct store *store, const char *disk, const struct uuid *uuid,
                            const struct sha256 *root, uint64_t bytes, struct err *err);
/* Is the segment here, and the one that the manifest means? `whole` reads all of its bytes. */
int dir_segment_match(struct store_dir *d, const struct dir_disk *disk,
                      const struct manifest *manifest, const struct manifest_segment *segment,
                      bool whole, struct err *err) MUST_CHECK;
/* Removes those that no point to be applied needs any more; `opening`: also beginnings that
 * nobody can continue. */
int dir_segments_clean(struct store_dir *d, bool opening, struct err *err) MUST_CHECK;
void dir_receives_close(struct store_dir *d);

/* --- store_dir_apply.c, _redo.c ---------------------------------------------------------- */

int store_dir_point_apply(struct store *store, uint64_t *ret_point,
                          struct store_digests *ret_digests, struct cancel *cancel,
                          struct err *err);
/* Tells the views: `head` as in chain_publish; the undo files are those up to, not including, `end`. */
void dir_chain_publish(struct store_dir *d, uint64_t head, uint64_t end);
/* The undo files of a disk are there, and no others. */
int dir_undo_check(const struct store_dir *d, const struct dir_disk *disk, struct err *err)
    MUST_CHECK;
/* An apply was cut, and may have written to head. */
bool dir_head_touched(const struct store_dir *d);
/* The page as it must be when nothing is under way, or an apply was cut. */
int dir_chain_restore(struct store_dir *d, struct err *err) MUST_CHECK;

/* What an apply does to many chunks of a disk: read in their order by the caller's thread, which also
 * writes; what takes processors is done by some more threads when there are many.
 * _save: what head holds, into the undo file `path` of the applied point; durable then. `*damaged` is
 * set when it lacks bytes that were damaged in head. _digest: their digests, from head, into the file;
 * `ret_digests` may be NULL. */
int dir_chunks_save(struct store_dir *d, const struct dir_disk *disk, const char *path,
                    const struct chunks *chunks, bool *damaged, struct cancel *cancel,
                    struct err *err) MUST_CHECK;
int dir_chunks_digest(struct store_dir *d, const struct dir_disk *disk, const struct chunks *chunks,
                      struct store_digests *ret_digests, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* One disk's part of an apply: the segments of its manifest, or the undo files that lead back to
 * an older point. */
struct dir_change {
    struct store_dir *d;
    struct dir_disk *disk;
    const struct manifest *manifest;
    const struct manifest_disk *part;
    uint64_t back_to; /* 0: forward, by segments */
    struct cancel *cancel;
};
/* The chunks it touches, ascending. */
int dir_change_chunks(const struct dir_change *change, struct chunks *ret_chunks, struct err *err)
    MUST_CHECK;
/* Writes it into head, in offset order. On the way back a record that cannot be read is no reason to
 * stop: its chunk stays as it is, and is one of `ret_lost` (ascending). */
int dir_change_write(const struct dir_change *change, struct chunks *ret_lost, struct err *err)
    MUST_CHECK;

/* Which of `chunks` (ascending) does it write as a whole, one segment after the other? */
int dir_change_covers(const struct dir_change *change, const struct chunks *chunks,
                      bool *ret_covers, struct err *err) MUST_CHECK;

/* --- store_dir_damage.c: what is known to be damaged ------------------------------------- */

int dir_damage_load(struct store_dir *d, struct err *err) MUST_CHECK;
/* Takes `list` over as what is known, durable first; does nothing when it is that already. */
int dir_damage_save(struct store_dir *d, struct dir_damages *list, struct err *err) MUST_CHECK;
void dir_damages_copy(struct dir_damages *to, const struct dir_damages *from);
void dir_damages_add(struct dir_damages *list, size_t disk, uint64_t chunk, uint64_t from,
                     uint64_t to, int64_t since_ms);
/* Takes one chunk of head off the list; false: it is not on it. */
bool dir_damages_cut_head(struct dir_damages *list, size_t disk, uint64_t chunk,
                          struct dir_damage *ret_was);
/* The same of a chunk as `point` has it in its own undo file (count 0 in the list: that file). */
bool dir_damages_cut_past(struct dir_damages *list, size_t disk, uint64_t chunk, uint64_t point);
bool dir_damages_has_head(const struct dir_damages *list, size_t disk, uint64_t chunk);
bool dir_damages_has_past(const struct dir_damages *list, size_t disk, uint64_t chunk,
                          uint64_t point);
/* For each of `chunks` (ascending): the first point that has it from head, or, with `before` not 0,
 * from the undo file of `before`: one more than the newest point with an undo file that has the chunk. */
int dir_damage_since(struct store_dir *d, const struct dir_disk *disk, const struct chunks *chunks,
                     uint64_t before, uint64_t *ret_from, struct err *err) MUST_CHECK;
/* What a point needs and is damaged; 0 as well for points that are not there. */
uint64_t dir_damage_of(const struct store_dir *d, uint64_t point);
/* As store_dir_check_point. */
int dir_damage_check(struct store_dir *d, uint64_t point, struct err *err) MUST_CHECK;
void dir_damage_info(const struct store_dir *d, struct store_info *info);
int store_dir_damages(struct store *store, struct store_damages *ret_damages, struct err *err);
/* The digest that a damaged chunk of head has in the file once its own is not known any more. */
struct digest dir_digest_of_damaged(void);

/* --- store_dir_verify.c, _records.c: the scrub ------------------------------------------- */

void dir_scrub_say(struct store_scrub *scrub, const char *text);
/* Records, manifests, segments that are not applied: faults are counted and named. */
int dir_records_check(struct store_dir *d, struct store_scrub *scrub, struct cancel *cancel,
                      struct err *err) MUST_CHECK;

/* --- store_dir_heal.c: applies over damaged chunks --------------------------------------- */

/* Chunks of head that are damaged and come whole, as they were, with this change: they are written
 * before anything is saved for undo, and are off the list. Head is at `d->applied`. */
int dir_heal(const struct dir_change *change, const struct chunks *touched, struct err *err)
    MUST_CHECK;
/* Chunks that the change touches, and that no undo file takes in: those that it does not write as a
 * whole are compared, and the damaged ones are on the list. */
int dir_heal_check(const struct dir_change *change, const struct chunks *unsaved, struct err *err)
    MUST_CHECK;
/* Undo files are there, head is not written yet: the list as it will be when it is, in `list`. The
 * same again after a cut. */
int dir_heal_settle(const struct dir_change *change, const struct chunks *touched,
                    uint64_t to_point, struct dir_damages *list, struct err *err) MUST_CHECK;

/* --- store_dir_resize.c: disks of another size ------------------------------------------- */

/* May a point come whose disk has `size` bytes, after one with `from`? */
int dir_resize_check(const struct store_dir *d, const struct dir_disk *disk, uint64_t from,
                     uint64_t size, struct err *err) MUST_CHECK;
/* Head and digests get the sizes that the manifest has. */
int dir_resize(struct store_dir *d, const struct manifest *manifest, struct err *err) MUST_CHECK;
/* What was begun; the files are open. */
int dir_resize_finish(struct store_dir *d, struct err *err) MUST_CHECK;
/* The chunks that another size changes or takes away, zeros aside. */
int dir_resize_chunks(struct store_dir *d, const struct dir_disk *disk, uint64_t size,
                      struct chunks *chunks, struct err *err) MUST_CHECK;

/* --- store_dir_own.c: heads that are a machine's own disks ------------------------------- */

/* Takes the stamps of own disks, which are synced: the next dir_applied_save keeps them. */
int dir_own_stamp(struct store_dir *d, struct err *err) MUST_CHECK;
/* Own disks are as the last apply left them. */
int dir_own_check(const struct store_dir *d, struct err *err) MUST_CHECK;
/* What tells whether somebody writes to them now; 0: nothing can. Only to be compared. */
int dir_own_now(const struct store_dir *d, uint64_t *ret_stamps, struct err *err) MUST_CHECK;
/* As they are they have been compared: so they stay, until the next apply. */
int dir_own_take_over(struct store_dir *d, struct err *err) MUST_CHECK;
/* Their private servers may start: at adoption, after an earlier store released them. */
int dir_own_admit(const struct store_dir *d, struct err *err) MUST_CHECK;
/* ERR_STATE once they were released. */
int dir_own_held(const struct store_dir *d, struct err *err) MUST_CHECK;

/* --- store_dir_follow.c: another site's promotion ---------------------------------------- */

/* The first point after a promotion that is followed is still to come. */
bool dir_follows(const struct store_dir *d);
int dir_tip_load(struct store_dir *d, struct err *err) MUST_CHECK;
/* Brings one that was cut to its end. */
int dir_tip_finish(struct store_dir *d, struct err *err) MUST_CHECK;
int store_dir_follow(struct store *store, const char *text, size_t len,
                     const struct store_proof *proof, struct err *err);
/* From where a tip is to be followed, when that is not the store's newest point yet. */
struct dir_origin {
    uint64_t point;
    uint64_t generation;
    struct sha256 hash;
    struct sha256 parent;
};
/* Could this manifest be followed? `proof` may be NULL. */
int dir_tip_check(const struct store_dir *d, const struct manifest *tip,
                  const struct dir_origin *origin, const struct store_proof *proof, struct err *err)
    MUST_CHECK;
/* Follows one that was checked; `text` is its manifest's. */
int dir_tip_take(struct store_dir *d, const struct manifest *tip, const char *text, struct err *err)
    MUST_CHECK;

/* --- store_dir_gone.c: points that are not kept any more --------------------------------- */

/* The point that head holds is not kept: head leaves it with the next apply. */
bool dir_leaving(const struct store_dir *d);
/* The next apply saves what head holds now in undo files of the applied point. */
bool dir_saves(const struct store_dir *d);
bool dir_is_kept(const struct store_dir *d, uint64_t point);
/* The newest kept point before the applied one; 0: none. */
uint64_t dir_newest_behind(const struct store_dir *d);
/* Where the chain of hashes stands before `point`, as far as the points loaded so far and the note
 * tell; `ret_end`: the note has the hash of `point` itself. */
void dir_before(const struct store_dir *d, uint64_t point, uint64_t *ret_number,
                struct sha256 *ret_hash, bool *ret_end);
bool dir_is_gone(const struct store_dir *d, uint64_t point);
/* The note as it will be without the points for which `goes` (one per point) says so. */
void dir_note_plan(const struct store_dir *d, const bool *goes, struct dir_note *ret_note);
void dir_files_load(struct store_dir *d);
void dir_file_add(struct store_dir *d, uint64_t point);
/* Drops from `points` and `files` what the note says is gone. */
void dir_gone_drop(struct store_dir *d);
/* Removes the files of what the note says is gone. */
int dir_prune_finish(struct store_dir *d, struct err *err) MUST_CHECK;

/* --- store_dir_merge.c ------------------------------------------------------------------- */

/* Goes on merging undo files of removed points, about `budget` bytes of chunks. What cannot be
 * merged now (a view, no room, a damaged file) is left as it is: that is no error. `closed` says of
 * a kept point that it will stay when newer ones come. */
int dir_merge_some(struct store_dir *d, const struct dir_numbers *closed, uint64_t budget,
                   struct err *err) MUST_CHECK;
void dir_merge_stop(struct store_dir *d);

/* --- store_dir_keep.c, _promote.c -------------------------------------------------------- */

int store_dir_pin(struct store *store, uint64_t point, const char *label, uint64_t *ret_point,
                  struct err *err);
int store_dir_unpin(struct store *store, const char *label, struct err *err);
int store_dir_prune(struct store *store, const struct retention *retention, struct err *err);
VEC_DEFINE(dir_fates, struct retention_point)
/* What becomes of the points up to `last`: one each, in the order of `points`. */
void dir_fates_of(const struct store_dir *d, const struct retention *retention, uint64_t last,
                  struct dir_fates *ret_fates);
/* Does the applied point stay when `next` is head? If not, that is noted. */
int dir_decide(struct store_dir *d, uint64_t next, struct err *err) MUST_CHECK;
/* After ERR_SPACE: removes what need not be kept. True when there may be more room now. */
bool dir_make_room(struct store_dir *d);

int store_dir_promote(struct store *store, uint64_t expected, uint64_t point, const char *token,
                      const char *site, const uint8_t sign[SIGN_KEY_BYTES], int64_t wall_ms,
                      uint64_t *ret_generation, uint64_t *ret_point, struct err *err);
/* Brings a promotion that was cut to its end. */
int dir_promotion_finish(struct store_dir *d, struct err *err) MUST_CHECK;
