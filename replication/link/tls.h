// SPDX-License-Identifier: Apache-2.0
/* TLS 1.3 with mutual certificates (OpenSSL 3). Each site has an authority of its own, made by
 * `muster site init`; pairing exchanges the authorities' certificates and names. A peer is who
 * its certificate says: subject CN = site name, issued by the authority pinned for that name.
 * ALPN "muster/1" between sites, "muster-pair/1" for pairing, "http/1.1" for people. */
#pragma once

#include "base/cancel.h"
#include "link/link.h"

#include <stdbool.h>

/* Makes authority and certificate below `dir`: authority.key authority.crt site.key site.crt
 * (keys 0600), sign.key sign.pub (Ed25519, for manifests). ERR_EXISTS when there already. */
int authority_create(const char *dir, const char *site, struct err *err) MUST_CHECK;

/* A peer we are paired with: `dir`/peers/NAME.crt is its authority's certificate. */
struct tls_peer {
    char name[64];
    char address[256];    /* "127.0.0.1:7700", "[::1]:7700", "host:port" */
    uint8_t sign_key[32]; /* its manifests' public key */
};

struct tls;
/* Loads identity and the authorities of all paired peers from `dir`. Shared by threads; load a
 * new one after a pairing. */
int tls_load(const char *dir, struct tls **ret_tls, struct err *err) MUST_CHECK;
void tls_free(struct tls *tls);
void tls_freep(struct tls **tls);

/* Connects to a paired site and says hello. ERR_NET: not reachable (host, port and errno in the
 * text); ERR_AUTH: certificate not by the pinned authority, or another site's name (both names
 * in the text); ERR_PROTOCOL: version. */
int tls_connect(struct tls *tls, const char *peer, const char *address, struct cancel *cancel,
                struct link **ret_link, struct err *err) MUST_CHECK;

/* A listening socket for "address:port" (port 0: any free one; see tls_port). */
int tls_listen(const char *address, int *ret_fd, struct err *err) MUST_CHECK;
int tls_port(int listen_fd, uint16_t *ret_port, struct err *err) MUST_CHECK;

enum tls_kind { TLS_SITE, TLS_PAIR, TLS_HTTP };
/* The server's half for an accepted socket (takes `fd`): handshake, ALPN, hello. For TLS_SITE
 * the link's peer is proven; for TLS_PAIR nothing is yet. TLS_HTTP is refused until there is a
 * web API. A client without a certificate, or an unknown one, is ERR_AUTH. */
int tls_accept(struct tls *tls, int fd, struct cancel *cancel, enum tls_kind *ret_kind,
               struct link **ret_link, struct err *err) MUST_CHECK;

/* --- Pairing -------------------------------------------------------------------------------
 * A issues a token; a person carries it to B; B connects to A, which proves its key by the
 * fingerprint in the token; B proves to know the 128-bit secret (HMAC over both certificates and
 * a nonce). Then each keeps the other's authority, name, address and manifest key. A token works
 * once, for an hour. */
#define PAIR_TOKEN_MAX 256
/* Writes the secret below `dir`/pairing/ and gives "muster1:ADDRESS:FINGERPRINT:SECRET". */
int pair_issue(const char *dir, const char *address, struct clock *clock,
               char ret_token[PAIR_TOKEN_MAX], struct err *err) MUST_CHECK;
/* B: joins. `own_address` is where A can reach us. Our side is durable on success. */
int pair_join(const char *dir, const char *token, const char *own_address, struct clock *clock,
              struct cancel *cancel, struct tls_peer *ret_peer, struct err *err) MUST_CHECK;
/* A: serves one pairing connection (link from tls_accept with TLS_PAIR). */
int pair_serve(const char *dir, struct link *link, struct clock *clock, struct cancel *cancel,
               struct tls_peer *ret_peer, struct err *err) MUST_CHECK;
/* The peers there are; free with free(). */
int pair_list(const char *dir, struct tls_peer **ret_peers, size_t *ret_count, struct err *err)
    MUST_CHECK;
/* How fast we send to that peer; without a word of it: without a limit. `throttle.h`'s text in a file
 * beside the pairing. ERR_NOT_FOUND: not paired. */
struct throttle_plan;
int pair_throttle(const char *dir, const char *peer, struct throttle_plan *ret_plan,
                  struct err *err) MUST_CHECK;
int pair_set_throttle(const char *dir, const char *peer, const struct throttle_plan *plan,
                      struct err *err) MUST_CHECK;
int pair_remove(const char *dir, const char *peer, struct err *err) MUST_CHECK;
/* Our own keys. */
int pair_sign_key(const char *dir, uint8_t ret_private[32], uint8_t ret_public[32], struct err *err)
    MUST_CHECK;
