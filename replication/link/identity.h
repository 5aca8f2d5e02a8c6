// SPDX-License-Identifier: Apache-2.0
/* Reading a site's identity and its peers from their files; see authority.c and peers.c for
 * the formats. Any thread; plain functions. */
#pragma once

#include "base/crypto.h"
#include "base/openssl.h"
#include "link/tls.h"

#include <stddef.h>
#include <stdint.h>

#define IDENTITY_AUTHORITY_KEY "authority.key"
#define IDENTITY_AUTHORITY_CRT "authority.crt"
#define IDENTITY_SITE_KEY      "site.key"
#define IDENTITY_SITE_CRT      "site.crt"
#define IDENTITY_SIGN_KEY      "sign.key"
#define IDENTITY_SIGN_PUB      "sign.pub"
#define IDENTITY_FILE_MAX      65536u
#define IDENTITY_NAME_BYTES    64

/* ERR_NOT_FOUND with the path and what to do; ERR_CORRUPT when it is not what it should be. */
int identity_read_hex(const char *path, uint8_t *ret_bytes, size_t len, struct err *err) MUST_CHECK;
int identity_read_cert(const char *path, X509 **ret_cert, struct err *err) MUST_CHECK;
int identity_read_key(const char *path, EVP_PKEY **ret_key, struct err *err) MUST_CHECK;
/* A certificate as text, from a file or from a peer: ERR_INVALID. */
int identity_parse_cert(const char *text, size_t len, X509 **ret_cert, struct err *err) MUST_CHECK;

/* Subject CN; false when there is not exactly one that is a name of ours. */
bool identity_cert_name(const X509 *cert, char ret_name[IDENTITY_NAME_BYTES]);
/* SHA-256 of the DER form. */
void identity_fingerprint(const X509 *cert, struct sha256 *ret_sum);
/* A site's id: the first 16 bytes of its authority's fingerprint, in hex. */
#define IDENTITY_ID_BYTES 33
void identity_id(const X509 *authority, char ret_id[IDENTITY_ID_BYTES]);
/* Issued by `authority`, valid now, for `server` or client use. The text of the error says why
 * not; ERR_AUTH. */
int identity_verify(X509 *cert, X509 *authority, bool server, struct err *err) MUST_CHECK;

/* peers.c: keeps a peer, durable when it returns. ERR_EXISTS: that name is taken by a site with
 * another authority. */
int peer_store(const char *dir, const struct tls_peer *peer, X509 *authority, struct err *err)
    MUST_CHECK;
