// SPDX-License-Identifier: Apache-2.0
/* Who a peer is: its certificate's CN must be the name of a paired site, and the certificate must
 * be issued by the authority pinned for that very name; any other authority, also that of another
 * peer, will not do. So OpenSSL's own chain check is replaced by ours, which leaves what it found
 * in the connection's `struct handshake`. Only a pairing connection may show an unknown
 * certificate; pairing.c proves it by the token.
 *
 * Between sites the accepting side says hello first: {"op": "hello", "version": 1, "site": NAME,
 * "id": first 16 bytes of its authority's SHA-256}, and the connecting side answers with its own.
 * In TLS 1.3 a client is done before its certificate was looked at; waiting for the server's
 * hello, it learns of a refusal from the alert and not from a broken pipe. */
#include "link/tls_internal.h"

#include "base/fs.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct pinned {
    char name[IDENTITY_NAME_BYTES];
    X509 *authority;
};

struct tls {
    char site[IDENTITY_NAME_BYTES];
    char id[IDENTITY_ID_BYTES];
    SSL_CTX *ctx;
    struct pinned *pinned;
    size_t pinned_count;
};

const char *tls_site(const struct tls *tls)
{
    return tls->site;
}

const char *tls_id(const struct tls *tls)
{
    return tls->id;
}

X509 *tls_authority_of(const struct tls *tls, const char *name)
{
    for (size_t i = 0; i < tls->pinned_count; i++)
        if (strcmp(tls->pinned[i].name, name) == 0)
            return tls->pinned[i].authority;
    return NULL;
}

static void issuer_name(const X509 *cert, char *ret_text, size_t len)
{
    if (X509_NAME_get_text_by_NID(X509_get_issuer_name(cert), NID_commonName, ret_text, (int)len)
        < 0)
        (void)snprintf(ret_text, len, "?");
    for (char *c = ret_text; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
}

int tls_check_peer(const struct tls *tls, const struct handshake *hs, X509 *cert,
                   char ret_name[IDENTITY_NAME_BYTES], struct err *err)
{
    char issuer[128];
    struct err why = ERR_EMPTY;

    issuer_name(cert, issuer, sizeof(issuer));
    if (!identity_cert_name(cert, ret_name))
        return err_set(err, ERR_AUTH, 0,
                       "a certificate by \"%s\" that does not name a site; expected \"%s\"", issuer,
                       hs->wanted[0] ? hs->wanted : "a paired site");
    if (hs->wanted[0] && strcmp(hs->wanted, ret_name) != 0)
        return err_set(err, ERR_AUTH, 0,
                       "this is site \"%s\", not \"%s\"; hint: check the address of \"%s\"",
                       ret_name, hs->wanted, hs->wanted);
    X509 *authority = tls_authority_of(tls, ret_name);
    if (!authority)
        return err_set(err, ERR_AUTH, 0,
                       "site \"%s\" is not paired with \"%s\"; hint: muster site pair", ret_name,
                       tls->site);
    if (identity_verify(cert, authority, !hs->is_server, &why) < 0)
        return err_set(err, ERR_AUTH, 0,
                       "the certificate of \"%s\", by \"%s\", is not by the authority that site "
                       "\"%s\" pinned for it (%s); hint: if that site was set up anew, pair again",
                       ret_name, issuer, tls->site, why.text);
    return 0;
}

/* Pairing: the far end of the chain is the authority whose fingerprint the token has. */
static int check_fingerprint(struct handshake *hs, X509 *cert, const STACK_OF(X509) * chain,
                             struct err *err)
{
    for (int i = 0; i < sk_X509_num(chain); i++) {
        X509 *candidate = sk_X509_value(chain, i);
        struct sha256 sum;

        identity_fingerprint(candidate, &sum);
        if (CRYPTO_memcmp(sum.bytes, hs->fingerprint.bytes, sizeof(sum.bytes)) != 0)
            continue;
        if (identity_verify(cert, candidate, true, err) < 0)
            return -1;
        if (X509_up_ref(candidate) != 1)
            abort();
        X509_free(hs->authority);
        hs->authority = candidate;
        return 0;
    }
    return err_set(err, ERR_AUTH, 0,
                   "the site that answers does not have the key named in the token; hint: issue a "
                   "new token there, and check the address");
}

static bool is_pairing(const SSL *ssl)
{
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(ssl, &name, &len);
    return len == sizeof(ALPN_PAIR) - 2 && memcmp(name, &ALPN_PAIR[1], len) == 0;
}

static int verify_cert(X509_STORE_CTX *ctx, void *arg)
{
    const struct tls *tls = arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct handshake *hs = SSL_get_app_data(ssl);
    X509 *cert = X509_STORE_CTX_get0_cert(ctx);
    char name[IDENTITY_NAME_BYTES];
    int rc = 0;

    if (!hs || !cert)
        rc = -1;
    else if (hs->is_pairing)
        rc = check_fingerprint(hs, cert, X509_STORE_CTX_get0_untrusted(ctx), &hs->why);
    else if (!hs->is_server || !is_pairing(ssl))
        rc = tls_check_peer(tls, hs, cert, name, &hs->why);
    X509_STORE_CTX_set_error(ctx, rc == 0 ? X509_V_OK : X509_V_ERR_CERT_UNTRUSTED);
    return rc == 0;
}

static int select_alpn(SSL *ssl, const unsigned char **ret_out, unsigned char *ret_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char known[] = ALPN_SITE ALPN_PAIR ALPN_HTTP;
    unsigned char *chosen = NULL;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, ret_len, known, sizeof(known) - 1, in, in_len)
        != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret_out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int load_identity(struct tls *tls, const char *dir, struct err *err)
{
    CLEANUP(mem_freep) char *crt_path = path_join(dir, IDENTITY_SITE_CRT);
    CLEANUP(mem_freep) char *key_path = path_join(dir, IDENTITY_SITE_KEY);
    CLEANUP(mem_freep) char *authority_path = path_join(dir, IDENTITY_AUTHORITY_CRT);
    X509 *cert = NULL;
    X509 *authority = NULL;
    EVP_PKEY *key = NULL;
    int rc = -1;

    if (identity_read_cert(crt_path, &cert, err) == 0
        && identity_read_cert(authority_path, &authority, err) == 0
        && identity_read_key(key_path, &key, err) == 0) {
        identity_id(authority, tls->id);
        if (!identity_cert_name(cert, tls->site) || SSL_CTX_use_certificate(tls->ctx, cert) != 1
            || SSL_CTX_use_PrivateKey(tls->ctx, key) != 1
            || SSL_CTX_add1_chain_cert(tls->ctx, authority) != 1)
            rc = err_set(err, ERR_CORRUPT, 0, "%s and %s do not belong together", crt_path,
                         key_path);
        else
            rc = 0;
    }
    ERR_clear_error();
    X509_free(cert);
    X509_free(authority);
    EVP_PKEY_free(key);
    return rc;
}

static int load_peers(struct tls *tls, const char *dir, struct err *err)
{
    CLEANUP(mem_freep) struct tls_peer *peers = NULL;
    size_t count;

    if (pair_list(dir, &peers, &count, err) < 0)
        return -1;
    tls->pinned = mem_new_array(struct pinned, count + 1);
    for (size_t i = 0; i < count; i++) {
        CLEANUP(mem_freep) char *path = mem_printf("%s/peers/%s.crt", dir, peers[i].name);
        struct pinned *pinned = &tls->pinned[tls->pinned_count];
        (void)snprintf(pinned->name, sizeof(pinned->name), "%s", peers[i].name);
        if (identity_read_cert(path, &pinned->authority, err) < 0)
            return -1;
        tls->pinned_count++;
    }
    return 0;
}

#define READ_BUFFER_BYTES 65536u

static SSL_CTX *context_new(struct tls *tls)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());

    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1
        || SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1
        || SSL_CTX_set_num_tickets(ctx, 0) != 1)
        abort();
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(ctx, verify_cert, tls);
    SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                    | SSL_MODE_RELEASE_BUFFERS);
    /* Several records by one read of the socket; given back while a link is idle. */
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER_BYTES);
    return ctx;
}

int tls_load(const char *dir, struct tls **ret_tls, struct err *err)
{
    CLEANUP(tls_freep) struct tls *tls = mem_new(struct tls);

    tls->ctx = context_new(tls);
    if (load_identity(tls, dir, err) < 0 || load_peers(tls, dir, err) < 0)
        return -1;
    *ret_tls = TAKE(tls);
    return 0;
}

void tls_free(struct tls *tls)
{
    if (!tls)
        return;
    for (size_t i = 0; i < tls->pinned_count; i++)
        X509_free(tls->pinned[i].authority);
    free(tls->pinned);
    SSL_CTX_free(tls->ctx);
    free(tls);
}

void tls_freep(struct tls **tls)
{
    tls_free(*tls);
    *tls = NULL;
}

SSL *tls_ssl_new(struct tls *tls, struct handshake *hs, const char *alpn)
{
    SSL *ssl = SSL_new(tls->ctx);

    if (!ssl || SSL_set_app_data(ssl, hs) != 1)
        abort();
    if (hs->is_server) {
        SSL_set_accept_state(ssl);
        return ssl;
    }
    if (SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn)) != 0
        || (hs->wanted[0] && SSL_set_tlsext_host_name(ssl, hs->wanted) != 1))
        abort();
    SSL_set_connect_state(ssl);
    return ssl;
}

void handshake_done(struct handshake *hs)
{
    X509_free(hs->authority);
    hs->authority = NULL;
}
