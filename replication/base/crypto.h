// SPDX-License-Identifier: Apache-2.0
/* The few cryptographic things we use, all by OpenSSL 3. Any thread; a context by one at a time.
 * Keys have a type of their own; it never prints. */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define KEY_BYTES      32
#define DIGEST_BYTES   16 /* equality of chunks: HMAC-SHA-256, first 128 bits (RFC 2104) */
#define SHA256_BYTES   32
#define SEAL_TAG_BYTES 16
#define UUID_BYTES     16
#define SIGN_BYTES     64 /* Ed25519 (RFC 8032) */
#define SIGN_KEY_BYTES 32

struct key {
    uint8_t bytes[KEY_BYTES];
};
struct digest {
    uint8_t bytes[DIGEST_BYTES];
};
struct sha256 {
    uint8_t bytes[SHA256_BYTES];
};
struct uuid {
    uint8_t bytes[UUID_BYTES];
};

void random_bytes(void *ret_bytes, size_t len); /* aborts when the system has none */
void uuid_new(struct uuid *ret_uuid);           /* version 4 */
void key_new(struct key *ret_key);
void key_wipe(struct key *key); /* also for CLEANUP */
/* HKDF-SHA-256 (RFC 5869): a key for one purpose from another and a context. `purpose` and
 * `context` together less than 1 KiB. */
void key_derive(const struct key *key, const char *purpose, const void *context, size_t len,
                struct key *ret_key);

/* Keyed digest of a chunk. A digester is made once per key and thread. */
struct digester;
struct digester *digester_new(const struct key *key);
void digester_free(struct digester *digester);
void digester_freep(struct digester **digester);
void digester_run(struct digester *digester, const void *bytes, size_t len,
                  struct digest *ret_digest);

/* SHA-256, in one go or running. */
void sha256_of(const void *bytes, size_t len, struct sha256 *ret_sum);
struct sha256_run;
struct sha256_run *sha256_begin(void);
void sha256_add(struct sha256_run *run, const void *bytes, size_t len);
void sha256_end(struct sha256_run *run, struct sha256 *ret_sum); /* frees run */
void sha256_drop(struct sha256_run *run);                        /* frees without a result */

/* AES-256-GCM. The nonce is the 64-bit number, big endian, after four zero bytes: a (key,
 * number) pair must never seal twice. `ret_tag` SEAL_TAG_BYTES. In place is allowed. */
struct sealer;
struct sealer *sealer_new(const struct key *key);
void sealer_free(struct sealer *sealer);
void sealer_freep(struct sealer **sealer);
void sealer_seal(struct sealer *sealer, uint64_t number, const void *aad, size_t aad_len,
                 const void *plain, size_t len, void *ret_sealed, void *ret_tag);
/* The same for plain bytes in two pieces, sealed as one; the first's length is a multiple of 16. */
void sealer_seal_two(struct sealer *sealer, uint64_t number, const void *aad, size_t aad_len,
                     const void *first, size_t first_len, const void *second, size_t second_len,
                     void *ret_sealed, void *ret_tag);
/* ERR_CORRUPT when the tag is wrong; the output is cleared then. */
int sealer_open(struct sealer *sealer, uint64_t number, const void *aad, size_t aad_len,
                const void *sealed, size_t len, const void *tag, void *ret_plain, struct err *err)
    MUST_CHECK;

/* Ed25519. sign_verify: ERR_CORRUPT when the signature does not fit bytes and key. */
void sign_key_new(uint8_t ret_private[SIGN_KEY_BYTES], uint8_t ret_public[SIGN_KEY_BYTES]);
/* The public key of a private one. */
void sign_public(const uint8_t private_key[SIGN_KEY_BYTES], uint8_t ret_public[SIGN_KEY_BYTES]);
void sign_bytes(const uint8_t private_key[SIGN_KEY_BYTES], const void *bytes, size_t len,
                uint8_t ret_signature[SIGN_BYTES]);
int sign_verify(const uint8_t public_key[SIGN_KEY_BYTES], const void *bytes, size_t len,
                const uint8_t signature[SIGN_BYTES], struct err *err) MUST_CHECK;

/* CRC-32C (Castagnoli): torn records in our own files, nothing else. Begins with `crc` 0; the
 * result of one piece is the `crc` of the next. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t len);
/* The same, for processors without the instruction. */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t len);
