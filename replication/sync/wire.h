// SPDX-License-Identifier: Apache-2.0
/* Values as both halves of the replication protocol write them in a message's head. Plain
 * functions; any thread. */
#pragma once

#include "base/crypto.h"
#include "base/json.h"
#include "replica/store.h"

/* Bytes as hex text. */
json_t *wire_hex(const void *bytes, size_t len);
int wire_need_hex(const json_t *obj, const char *key, void *ret_bytes, size_t len, struct err *err)
    MUST_CHECK;
/* A text that is a name (base/str.h): it may become part of a path. */
int wire_need_name(const json_t *obj, const char *key, const char **ret_name, struct err *err)
    MUST_CHECK;

/* [{"name", "size"}], at most WIRE_DISKS_MAX. */
#define WIRE_DISKS_MAX 64u
json_t *wire_disks(const struct store_disks *disks);
int wire_need_disks(const json_t *obj, struct store_disks *ret_disks, struct err *err) MUST_CHECK;

json_t *wire_info(const struct store_info *info);
int wire_need_info(const json_t *obj, struct store_info *ret_info, struct err *err) MUST_CHECK;

/* Damaged chunks of heads, [{"disk", "chunk", "count"}], the first WIRE_DAMAGES_MAX runs. */
#define WIRE_DAMAGES_MAX 4096u
json_t *wire_damages(const struct store_damages *damages);
int wire_need_damages(const json_t *obj, struct store_damages *ret_damages, struct err *err)
    MUST_CHECK;

/* Numbers of chunks in a request's payload, big endian; at most so many that the digests of their
 * blocks fit an answer. */
#define WIRE_CHUNK_BYTES 8u
#define WIRE_CHUNKS_MAX  4096u
void wire_put_chunk(uint8_t *at, uint64_t chunk);
uint64_t wire_get_chunk(const uint8_t *at);

/* Changed digests in an answer's payload: 8 bytes chunk (big endian), 16 bytes digest. */
#define WIRE_DIGEST_BYTES (8u + DIGEST_BYTES)
void wire_put_digest(uint8_t *at, const struct store_digest *digest);
void wire_get_digest(const uint8_t *at, struct store_digest *ret_digest);
