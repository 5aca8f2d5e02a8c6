// SPDX-License-Identifier: Apache-2.0
/* What the TLS files of this room share. */
#pragma once

#include "base/openssl.h"
#include "link/identity.h"
#include "link/link.h"
#include "link/tls.h"
#include "link/tls_stream.h"

/* As on the wire (RFC 7301): each name after its length. */
#define ALPN_SITE          "\x08muster/1"
#define ALPN_PAIR          "\x0dmuster-pair/1"
#define ALPN_HTTP          "\x08http/1.1"

#define HANDSHAKE_LIMIT_MS 20000

/* What a connection expects of its peer, and what the check of the certificate found. Lives as
 * long as the handshake. */
struct handshake {
    bool is_server;
    bool is_pairing;                  /* client: the fingerprint decides */
    char wanted[IDENTITY_NAME_BYTES]; /* client: the site's name; "" in a pairing */
    struct sha256 fingerprint;
    X509 *authority; /* pairing client: found by the fingerprint */
    struct err why;
};
void handshake_done(struct handshake *hs); /* also for CLEANUP */

const char *tls_site(const struct tls *tls);
const char *tls_id(const struct tls *tls);
X509 *tls_authority_of(const struct tls *tls, const char *name); /* borrowed; NULL */
SSL *tls_ssl_new(struct tls *tls, struct handshake *hs, const char *alpn);
int tls_check_peer(const struct tls *tls, const struct handshake *hs, X509 *cert,
                   char ret_name[IDENTITY_NAME_BYTES], struct err *err) MUST_CHECK;

/* TCP: nonblocking, no delay, and a peer that is gone is noticed within 25 s. */
int tcp_connect(const char *address, struct cancel *cancel, int *ret_fd, struct err *err)
    MUST_CHECK;
int tcp_prepare(int fd, struct err *err) MUST_CHECK;

/* Connects for pairing; the peer has proven the authority with hs->fingerprint. */
int tls_connect_pair(struct tls *tls, struct handshake *hs, const char *address,
                     struct cancel *cancel, struct link **ret_link, struct err *err) MUST_CHECK;
