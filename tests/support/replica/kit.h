// SPDX-License-Identifier: Apache-2.0
/* A small source of its own for tests of the store: two disks in memory, a record of what was
 * written to them since the last point, and what they held at each point. It seals segments and
 * signs manifests as a real source does, and feeds them to a store. One thread. */
#pragma once

#include "base/vec.h"
#include "replica/store.h"

#define KIT_DISKS 2

struct kit_image { /* what the disks held at one point */
    uint64_t point;
    struct sha256 hash;
    uint64_t sizes[KIT_DISKS];
    uint8_t *bytes[KIT_DISKS];
};
VEC_DEFINE(kit_images, struct kit_image)

struct kit_disk {
    char name[NAME_MAX_BYTES];
    uint64_t size;
    uint8_t *bytes;
    uint8_t *dirty; /* one byte per 4 KiB */
};

struct kit {
    char *dir;    /* of the store */
    char *outbox; /* where segments are built */
    struct clock_fake clock;
    struct key key;
    uint8_t sign[SIGN_KEY_BYTES];
    uint8_t public_key[SIGN_KEY_BYTES];
    struct kit_disk disks[KIT_DISKS];
    const char
        *own[KIT_DISKS]; /* the heads' paths, of a store over a machine's own disks; or NULL */
    bool to_scrub;       /* the store is opened so */
    struct fs *heads;    /* views open heads by this; NULL: as the store does */
    char *run_dir;       /* ROOT/run; given to the store */
    char *luks_key;      /* the heads are LUKS containers; NULL: plain files */
    uint64_t generation;
    uint64_t point; /* the last one */
    struct sha256 parent;
    uint64_t base_point; /* of the next point, if it follows a promotion elsewhere */
    struct sha256 base;
    enum consistency consistency; /* of the next point; of those after it CONSISTENCY_CRASH again */
    struct kit_images images;     /* 0: the initial copy */
    size_t borrowed;              /* of `images`: another kit's */
    uint64_t seed;
    struct manifest last; /* the manifest sent last */
};

/* The store will be ROOT/store, the outbox ROOT/outbox. All from the seed. */
void kit_init(struct kit *kit, const char *root, uint64_t size, uint64_t seed);
/* Another one for a copy of the store in ROOT/store: its disks are as `from`'s were at `point`,
 * which is the newest one of that store (0: the initial copy), under `generation`. It borrows the
 * images of `from`, which must outlive it. */
void kit_resume(struct kit *kit, const struct kit *from, const char *root, uint64_t point,
                uint64_t generation);
/* From now on the store's heads are to be LUKS containers, their key in ROOT/luks; before anything is in
 * the store. */
void kit_at_rest(struct kit *kit, const char *root);
void kit_done(struct kit *kit);
uint64_t kit_random(struct kit *kit, uint64_t below);

struct store_dir_config kit_config(struct kit *kit, struct fs *fs);
int kit_open(struct kit *kit, struct fs *fs, struct store **ret_store, struct err *err);

/* The disk becomes larger, a multiple of 4 KiB, by zeros. */
void kit_grow(struct kit *kit, size_t disk, uint64_t size);
/* Writes as a guest does; `kit_scribble`: `count` random writes of 4 to 64 KiB, some of zeros. */
void kit_write(struct kit *kit, size_t disk, uint64_t off, const void *bytes, size_t len);
void kit_scribble(struct kit *kit, size_t count);

/* The whole initial copy. */
int kit_begin(struct kit *kit, struct store *store, struct err *err);
int kit_copy_frames(struct kit *kit, struct store *store, struct err *err);
int kit_copy(struct kit *kit, struct store *store, struct err *err);

/* The next point in steps: segments built into the outbox and the manifest signed (what was dirty
 * is clean then); segments sent; manifest committed; and all in one. `kit->last` is the manifest. */
int kit_cut(struct kit *kit, struct err *err);
/* Where a segment was built; free with free(). */
char *kit_segment_path(const struct kit *kit, const struct uuid *uuid);
int kit_send(struct kit *kit, struct store *store, struct err *err);
int kit_commit(struct kit *kit, struct store *store, struct err *err);
int kit_point(struct kit *kit, struct store *store, struct err *err);
int kit_point_applied(struct kit *kit, struct store *store, struct err *err);

/* Retention by number alone. */
int kit_prune(struct store *store, uint64_t keep, struct err *err);

/* Keeps what the disks hold now as what they hold at a point, the last one. */
void kit_keep_image(struct kit *kit, uint64_t point, const struct sha256 *hash);
const struct kit_image *kit_image(const struct kit *kit, uint64_t point);
/* A promotion at the store: point `number` has the content of `chosen`; the kit writes on from
 * there, under `generation`. */
void kit_promoted(struct kit *kit, uint64_t number, const struct sha256 *hash, uint64_t chosen,
                  uint64_t generation);

/* The promotion of another site's store, made by the kit itself: it writes on from what the disks
 * hold now, as the successor of that promotion, on the base of the store's newest point. Returns the
 * promotion's text; free with free(). */
char *kit_taken_over(struct kit *kit, uint64_t number, uint64_t generation);

/* What the disks hold now becomes the next point, of the kit's own site, and is sent nowhere: the
 * machine's last writes. Returns the manifest's text, which has no segments; free with free(). */
char *kit_branch(struct kit *kit);

/* Is point `point`, read through a view, what the disks held then? And head as a plain file? */
int kit_check_view(struct kit *kit, uint64_t point, struct err *err);
int kit_check_head(struct kit *kit, uint64_t point, struct err *err);
