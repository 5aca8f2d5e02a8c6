// SPDX-License-Identifier: Apache-2.0
/* A manifest: one point of a group. Canonical JSON (sorted keys, compact), hash = SHA-256 of that
 * text, signed by the writer (Ed25519), chained by the parent's hash. A point exists when its
 * manifest is durable in a store. */
#pragma once

#include "base/crypto.h"
#include "base/json.h"
#include "base/vec.h"
#include "replica/segment.h"

enum consistency { CONSISTENCY_CRASH, CONSISTENCY_APPLICATION };

struct manifest_segment {
    struct uuid uuid;
    struct sha256 root;
    uint64_t bytes;
};
VEC_DEFINE(manifest_segments, struct manifest_segment)

struct manifest_disk {
    char name[NAME_MAX_BYTES];
    uint64_t size;
    struct manifest_segments segments; /* applied in this order; none: nothing changed */
};
VEC_DEFINE(manifest_disks, struct manifest_disk)

struct manifest {
    char group[NAME_MAX_BYTES];
    char site[NAME_MAX_BYTES]; /* the writer */
    uint64_t generation;
    uint64_t point; /* from 1, one more than its parent's; with a base it may be higher still */
    struct sha256 parent; /* zeros: the first */
    bool promotion;       /* raised the generation; changes no data; `parent` is the chosen point */
    /* What stood before it in the store it was made for, where that is not its parent, or numbers
     * were skipped: the newest point of a store that follows another site's promotion (store's
     * `follow`; segments are relative to it), or the one that a promotion of an older point came
     * after. Number 0: its parent stood before it. */
    uint64_t base_point;
    struct sha256 base;
    int64_t cut_wall_ms; /* by the writer's clock */
    int64_t stall_us;    /* how long the cut held the guest up */
    enum consistency consistency;
    struct manifest_disks disks;
    json_t *machines;                   /* definitions, by name; may be NULL */
    uint8_t writer_key[SIGN_KEY_BYTES]; /* public */
    uint8_t signature[SIGN_BYTES];
};

void manifest_init(struct manifest *manifest);
void manifest_done(struct manifest *manifest); /* also for CLEANUP */
/* Sets writer_key and signature. */
void manifest_sign(struct manifest *manifest, const uint8_t private_key[SIGN_KEY_BYTES]);
/* Canonical text with the signature; free with free(). */
char *manifest_text(const struct manifest *manifest);
/* Parses and verifies the signature against the key inside (who may write is the store's
 * question): ERR_CORRUPT names the field. */
int manifest_parse(const char *text, size_t len, struct manifest *ret_manifest, struct err *err)
    MUST_CHECK;
void manifest_hash(const struct manifest *manifest, struct sha256 *ret_hash);
