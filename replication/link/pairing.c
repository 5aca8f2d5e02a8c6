// SPDX-License-Identifier: Apache-2.0
/* A issues a token, "muster1:ADDRESS:FINGERPRINT:SECRET": where A listens, SHA-256 of A's
 * authority's certificate (64 hex digits), 128 random bits (32 hex digits). What A needs to know
 * it again is `dir`/pairing/ID.json {"expires_ms", "secret"}, ID being the first 8 bytes of the
 * secret's SHA-256 in hex. B connects (ALPN muster-pair/1) and goes on only if A's certificate
 * is by the authority of the fingerprint. Then, nonces of 16 bytes:
 *
 *   A -> B  {op: pair-hello, version, site, nonce}
 *   B -> A  {op: pair, id, site, address, sign_key, authority (PEM), nonce, proof}
 *   A -> B  {ok: {site, sign_key, proof}}
 *
 * proof = HMAC-SHA-256 by the secret over a label ("join" or "issue"), both sites' certificates as
 * shown in this connection (SHA-256, A's first), both nonces (A's first), and what the prover says
 * about itself; each text after its length. So a proof is good for one connection between these two.
 *
 * A uses the token up before it keeps B: whatever breaks, a token does not work twice. When the
 * answer is lost A knows B and B not A; with a new token they pair again. */
#include "link/tls_internal.h"

#include "base/fs.h"
#include "base/mem.h"
#include "link/link_internal.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_PREFIX "muster1:"
#define SECRET_BYTES 16
#define NONCE_BYTES  16
#define ID_BYTES     8
#define PROOF_BYTES  SHA256_BYTES
#define VALID_MS     (60 * 60 * 1000)
#define REPLY_MS     30000

struct token {
    char address[PAIR_TOKEN_MAX];
    struct sha256 fingerprint;
    uint8_t secret[SECRET_BYTES];
};

struct party {
    struct sha256 cert; /* as shown in the connection */
    uint8_t nonce[NONCE_BYTES];
};

struct exchange {
    struct party issuer;
    struct party joiner;
    uint8_t secret[SECRET_BYTES];
};

static void secret_id(const uint8_t secret[SECRET_BYTES], char ret_id[2 * ID_BYTES + 1])
{
    struct sha256 sum;

    sha256_of(secret, SECRET_BYTES, &sum);
    str_hex(sum.bytes, ID_BYTES, ret_id);
}

static char *pending_path(const char *dir, const char *id)
{
    return mem_printf("%s/pairing/%s.json", dir, id);
}

/* --- The token ----------------------------------------------------------------------------- */

int pair_issue(const char *dir, const char *address, struct clock *clock,
               char ret_token[PAIR_TOKEN_MAX], struct err *err)
{
    CLEANUP(mem_freep) char *authority_path = path_join(dir, IDENTITY_AUTHORITY_CRT);
    CLEANUP(mem_freep) char *folder = path_join(dir, "pairing");
    X509 *authority = NULL;
    struct sha256 sum;
    uint8_t secret[SECRET_BYTES];
    char id[2 * ID_BYTES + 1];
    char secret_hex[2 * SECRET_BYTES + 1];
    char sum_hex[2 * SHA256_BYTES + 1];

    if (!strrchr(address, ':')
        || strlen(TOKEN_PREFIX) + strlen(address) + sizeof(sum_hex) + sizeof(secret_hex)
               >= PAIR_TOKEN_MAX)
        return err_set(err, ERR_INVALID, 0, "\"%s\" is not an address; hint: write HOST:PORT",
                       address);
    if (identity_read_cert(authority_path, &authority, err) < 0)
        return -1;
    identity_fingerprint(authority, &sum);
    X509_free(authority);
    if (fs_make_dirs(fs_real(), folder, 0700, err) < 0)
        return -1;

    random_bytes(secret, sizeof(secret));
    secret_id(secret, id);
    str_hex(secret, sizeof(secret), secret_hex);
    str_hex(sum.bytes, sizeof(sum.bytes), sum_hex);
    CLEANUP(json_freep)
    json_t *json = json_pack("{s:s, s:I}", "secret", secret_hex, "expires_ms",
                             (json_int_t)(clock->wall_ms(clock) + VALID_MS));
    CLEANUP(mem_freep) char *text = json_text(json);
    CLEANUP(mem_freep) char *path = pending_path(dir, id);
    if (fs_replace_file(fs_real(), path, text, strlen(text), 0600, err) < 0)
        return -1;
    (void)snprintf(ret_token, PAIR_TOKEN_MAX, TOKEN_PREFIX "%s:%s:%s", address, sum_hex,
                   secret_hex);
    return 0;
}

static int token_parse(const char *text, struct token *ret_token, struct err *err)
{
    const size_t prefix = strlen(TOKEN_PREFIX);
    const size_t tail = 1 + 2 * SHA256_BYTES + 1 + 2 * SECRET_BYTES;
    size_t len = strlen(text);
    char hex[2 * SHA256_BYTES + 1];

    if (len < PAIR_TOKEN_MAX && str_starts(text, TOKEN_PREFIX) && len > prefix + tail) {
        const char *at = text + len - tail;
        size_t address_len = (size_t)(at - text) - prefix;
        memcpy(ret_token->address, text + prefix, address_len);
        ret_token->address[address_len] = '\0';
        memcpy(hex, at + 1, 2 * SHA256_BYTES);
        hex[2 * SHA256_BYTES] = '\0';
        if (at[0] == ':' && at[1 + 2 * SHA256_BYTES] == ':'
            && str_unhex(hex, ret_token->fingerprint.bytes, SHA256_BYTES)
            && str_unhex(at + 2 + 2 * SHA256_BYTES, ret_token->secret, SECRET_BYTES))
            return 0;
    }
    return err_set(err, ERR_INVALID, 0,
                   "not a pairing token; hint: copy the whole line, it begins with "
                   "\"" TOKEN_PREFIX "\"");
}

/* Removes the pending token for good, whatever it was; ERR_AUTH unless it is still good. */
static int token_use(const char *dir, const char *id, struct clock *clock,
                     uint8_t ret_secret[SECRET_BYTES], struct err *err)
{
    CLEANUP(mem_freep) char *folder = path_join(dir, "pairing");
    CLEANUP(mem_freep) char *path = pending_path(dir, id);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    struct fs *fs = fs_real();

    if (fs_read_file(fs, path, IDENTITY_FILE_MAX, &text, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        return err_set(
            err, ERR_AUTH, 0,
            "no such token, or it was used; hint: issue a new one with muster site pair");
    }
    if (fs->unlink(fs, path, err) < 0 || fs->sync_dir(fs, folder, err) < 0
        || json_parse(str_text(&text), text.len, &json, err) < 0)
        return -1;
    if ((int64_t)json_get_u64(json, "expires_ms", 0) <= clock->wall_ms(clock))
        return err_set(err, ERR_AUTH, 0, "the token is older than an hour; hint: issue a new one");
    const char *hex = json_get_str(json, "secret", "");
    if (strlen(hex) != 2 * SECRET_BYTES || !str_unhex(hex, ret_secret, SECRET_BYTES))
        return err_set(err, ERR_CORRUPT, 0, "%s: not a token", path);
    return 0;
}

/* --- The proof ----------------------------------------------------------------------------- */

static void add_text(struct str *s, const char *text)
{
    str_addf(s, "%zu:%s;", strlen(text), text);
}

static void prove(const struct exchange *x, const char *label, const struct tls_peer *self,
                  const char *authority, char ret_hex[2 * PROOF_BYTES + 1])
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    uint8_t proof[PROOF_BYTES];
    char key[2 * SIGN_KEY_BYTES + 1];
    size_t len = sizeof(proof);

    str_hex(self->sign_key, SIGN_KEY_BYTES, key);
    add_text(&text, label);
    str_add_bytes(&text, x->issuer.cert.bytes, SHA256_BYTES);
    str_add_bytes(&text, x->joiner.cert.bytes, SHA256_BYTES);
    str_add_bytes(&text, x->issuer.nonce, NONCE_BYTES);
    str_add_bytes(&text, x->joiner.nonce, NONCE_BYTES);
    add_text(&text, self->name);
    add_text(&text, self->address);
    add_text(&text, key);
    add_text(&text, authority);
    if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, x->secret, SECRET_BYTES,
                   (const unsigned char *)text.ptr, text.len, proof, sizeof(proof), &len))
        abort();
    str_hex(proof, sizeof(proof), ret_hex);
}

static int check_proof(const char *want, const char *got, struct err *err)
{
    if (strlen(got) != strlen(want) || CRYPTO_memcmp(want, got, strlen(want)) != 0)
        return err_set(err, ERR_AUTH, 0, "wrong token; hint: issue a new one and copy it whole");
    return 0;
}

static int need_hex(const json_t *head, const char *field, uint8_t *ret_bytes, size_t len,
                    struct err *err)
{
    const char *hex;

    if (json_need_str(head, field, "pairing", &hex, err) < 0 || strlen(hex) != 2 * len
        || !str_unhex(hex, ret_bytes, len))
        return err_set(err, ERR_PROTOCOL, 0, "pairing: field \"%s\" is not %zu hex digits", field,
                       2 * len);
    return 0;
}

static int need_name(const json_t *head, const char *own, char ret_name[IDENTITY_NAME_BYTES],
                     struct err *err)
{
    const char *name = json_get_str(head, "site", "");

    if (!str_is_name(name))
        return err_set(err, ERR_PROTOCOL, 0, "pairing: the peer's site has no proper name");
    if (strcmp(name, own) == 0)
        return err_set(err, ERR_INVALID, 0,
                       "both sites are named \"%s\"; hint: each needs a name of its own", own);
    (void)snprintf(ret_name, IDENTITY_NAME_BYTES, "%s", name);
    return 0;
}

/* What this connection's two ends showed. */
static int shown_certs(struct link *link, struct sha256 *ret_own, struct sha256 *ret_peer,
                       X509 **ret_peer_cert, struct err *err)
{
    struct tls_stream *stream = tls_stream_of(link_transport(link));

    if (!stream)
        return err_set(err, ERR_PROTOCOL, 0, "pairing needs TLS");
    X509 *own = SSL_get_certificate(tls_stream_ssl(stream));
    *ret_peer_cert = SSL_get0_peer_certificate(tls_stream_ssl(stream));
    if (!own || !*ret_peer_cert)
        return err_set(err, ERR_AUTH, 0, "pairing: the peer showed no certificate");
    identity_fingerprint(own, ret_own);
    identity_fingerprint(*ret_peer_cert, ret_peer);
    return 0;
}

/* Our own half of a description: name, manifest key; the authority as text. */
static int own_party(const char *dir, const char *address, struct tls_peer *ret_self,
                     struct str *ret_authority, struct err *err)
{
    CLEANUP(mem_freep) char *authority_path = path_join(dir, IDENTITY_AUTHORITY_CRT);
    CLEANUP(mem_freep) char *crt_path = path_join(dir, IDENTITY_SITE_CRT);
    uint8_t private_key[SIGN_KEY_BYTES];
    X509 *cert = NULL;

    memset(ret_self, 0, sizeof(*ret_self));
    if (strlen(address) >= sizeof(ret_self->address))
        return err_set(err, ERR_INVALID, 0, "an address of %zu bytes", strlen(address));
    (void)snprintf(ret_self->address, sizeof(ret_self->address), "%s", address);
    int rc = pair_sign_key(dir, private_key, ret_self->sign_key, err);
    OPENSSL_cleanse(private_key, sizeof(private_key));
    if (rc < 0 || identity_read_cert(crt_path, &cert, err) < 0)
        return -1;
    bool named = identity_cert_name(cert, ret_self->name);
    X509_free(cert);
    if (!named)
        return err_set(err, ERR_CORRUPT, 0, "%s does not name a site", crt_path);
    return fs_read_file(fs_real(), authority_path, IDENTITY_FILE_MAX, ret_authority, err);
}

/* --- B joins ------------------------------------------------------------------------------- */

static int send_join(struct link *link, const struct exchange *x, const struct tls_peer *self,
                     const char *authority, struct cancel *cancel, struct err *err)
{
    char id[2 * ID_BYTES + 1];
    char nonce[2 * NONCE_BYTES + 1];
    char key[2 * SIGN_KEY_BYTES + 1];
    char proof[2 * PROOF_BYTES + 1];

    secret_id(x->secret, id);
    str_hex(x->joiner.nonce, NONCE_BYTES, nonce);
    str_hex(self->sign_key, SIGN_KEY_BYTES, key);
    prove(x, "join", self, authority, proof);
    CLEANUP(json_freep)
    json_t *head = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "op", "pair", "id", id,
                             "site", self->name, "address", self->address, "sign_key", key,
                             "authority", authority, "nonce", nonce, "proof", proof);
    if (!head)
        return err_set(err, ERR_INVALID, 0, "the address \"%s\" is not UTF-8", self->address);
    return link_send(link, head, NULL, 0, cancel, err);
}

static int join_over(struct link *link, const char *dir, const struct token *token,
                     const char *own_address, struct tls_peer *ret_peer, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg hello = {0};
    CLEANUP(link_msg_done) struct link_msg reply = {0};
    CLEANUP(str_free) struct str authority = STR_EMPTY;
    struct tls_peer self;
    struct tls_peer peer = {0};
    struct exchange x;
    X509 *cert;
    char proof[2 * PROOF_BYTES + 1];

    memcpy(x.secret, token->secret, SECRET_BYTES);
    random_bytes(x.joiner.nonce, NONCE_BYTES);
    if (own_party(dir, own_address, &self, &authority, err) < 0
        || shown_certs(link, &x.joiner.cert, &x.issuer.cert, &cert, err) < 0
        || link_recv(link, &hello, cancel, err) < 0
        || need_hex(hello.head, "nonce", x.issuer.nonce, NONCE_BYTES, err) < 0
        || need_name(hello.head, self.name, peer.name, err) < 0)
        return -1;
    if (json_get_u64(hello.head, "version", 0) != LINK_VERSION)
        return err_set(err, ERR_PROTOCOL, 0, "site \"%s\" speaks another version", peer.name);

    if (send_join(link, &x, &self, str_text(&authority), cancel, err) < 0
        || link_reply(link, &reply, cancel, err) < 0
        || need_hex(reply.head, "sign_key", peer.sign_key, SIGN_KEY_BYTES, err) < 0)
        return -1;
    prove(&x, "issue", &peer, "", proof); /* of what it said: name and key, no address */
    (void)snprintf(peer.address, sizeof(peer.address), "%s", token->address);
    if (check_proof(proof, json_get_str(reply.head, "proof", ""), err) < 0)
        return -1;
    char named[IDENTITY_NAME_BYTES];
    if (!identity_cert_name(cert, named) || strcmp(named, peer.name) != 0)
        return err_set(err, ERR_AUTH, 0, "it says it is \"%s\", its certificate does not",
                       peer.name);
    *ret_peer = peer;
    return 0;
}

int pair_join(const char *dir, const char *token_text, const char *own_address, struct clock *clock,
              struct cancel *cancel, struct tls_peer *ret_peer, struct err *err)
{
    CLEANUP(tls_freep) struct tls *tls = NULL;
    CLEANUP(handshake_done) struct handshake hs = {0};
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(cancel_freep) struct cancel *limit = NULL;
    struct token token;
    struct tls_peer peer;

    (void)clock; /* only the issuer's clock decides about a token */
    if (token_parse(token_text, &token, err) < 0 || tls_load(dir, &tls, err) < 0)
        return -1;
    hs.fingerprint = token.fingerprint;
    limit = cancel_new(clock_real(), cancel, REPLY_MS);
    if (tls_connect_pair(tls, &hs, token.address, limit, &link, err) < 0)
        return -1;
    if (join_over(link, dir, &token, own_address, &peer, limit, err) < 0)
        return err_wrap(err, "pairing with %s", token.address);
    if (peer_store(dir, &peer, hs.authority, err) < 0)
        return -1;
    *ret_peer = peer;
    return 0;
}

/* --- A serves ------------------------------------------------------------------------------ */

/* What the joiner says; nothing of it is believed before the proof. */
static int read_join(const json_t *head, const char *own, struct exchange *x,
                     struct tls_peer *ret_peer, const char **ret_authority, struct err *err)
{
    const char *address;

    if (!str_eq(json_get_str(head, "op", NULL), "pair"))
        return err_set(err, ERR_PROTOCOL, 0, "pairing: did not join");
    if (need_name(head, own, ret_peer->name, err) < 0
        || need_hex(head, "nonce", x->joiner.nonce, NONCE_BYTES, err) < 0
        || need_hex(head, "sign_key", ret_peer->sign_key, SIGN_KEY_BYTES, err) < 0
        || json_need_str(head, "address", "pairing", &address, err) < 0
        || json_need_str(head, "authority", "pairing", ret_authority, err) < 0)
        return -1;
    if (strlen(address) >= sizeof(ret_peer->address))
        return err_set(err, ERR_PROTOCOL, 0, "pairing: an address of %zu bytes", strlen(address));
    (void)snprintf(ret_peer->address, sizeof(ret_peer->address), "%s", address);
    return 0;
}

static int check_join(const char *dir, const json_t *head, struct clock *clock, struct exchange *x,
                      const struct tls_peer *peer, const char *authority, struct err *err)
{
    const char *id = json_get_str(head, "id", "");
    uint8_t id_bytes[ID_BYTES];
    char proof[2 * PROOF_BYTES + 1];

    /* It becomes part of a path. */
    if (strlen(id) != 2 * ID_BYTES || !str_unhex(id, id_bytes, ID_BYTES))
        return err_set(err, ERR_PROTOCOL, 0, "pairing: no token is named");
    char plain_id[2 * ID_BYTES + 1];
    str_hex(id_bytes, ID_BYTES, plain_id);
    if (token_use(dir, plain_id, clock, x->secret, err) < 0)
        return -1;
    prove(x, "join", peer, authority, proof);
    return check_proof(proof, json_get_str(head, "proof", ""), err);
}

static int keep_joiner(const char *dir, X509 *cert, const struct tls_peer *peer,
                       const char *authority_text, struct err *err)
{
    char named[IDENTITY_NAME_BYTES];
    X509 *authority = NULL;
    int rc;

    if (identity_parse_cert(authority_text, strlen(authority_text), &authority, err) < 0)
        return -1;
    if (!identity_cert_name(cert, named) || strcmp(named, peer->name) != 0)
        rc =
            err_set(err, ERR_AUTH, 0, "it says it is \"%s\", its certificate does not", peer->name);
    else if ((rc = identity_verify(cert, authority, false, err)) == 0)
        rc = peer_store(dir, peer, authority, err);
    X509_free(authority);
    return rc;
}

static int serve_join(const char *dir, struct link *link, struct clock *clock,
                      const struct tls_peer *self, struct exchange *x, X509 *cert,
                      struct tls_peer *ret_peer, struct cancel *cancel, struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    struct tls_peer peer = {0};
    const char *authority;

    if (link_recv(link, &msg, cancel, err) < 0
        || read_join(msg.head, self->name, x, &peer, &authority, err) < 0
        || check_join(dir, msg.head, clock, x, &peer, authority, err) < 0
        || keep_joiner(dir, cert, &peer, authority, err) < 0)
        return -1;
    *ret_peer = peer;
    return 0;
}

/* No address: B has ours from the token. */
static int answer_join(struct link *link, const struct exchange *x, const struct tls_peer *self,
                       struct cancel *cancel, struct err *err)
{
    char key[2 * SIGN_KEY_BYTES + 1];
    char proof[2 * PROOF_BYTES + 1];

    str_hex(self->sign_key, SIGN_KEY_BYTES, key);
    prove(x, "issue", self, "", proof);
    CLEANUP(json_freep)
    json_t *result =
        json_pack("{s:s, s:s, s:s}", "site", self->name, "sign_key", key, "proof", proof);
    return link_answer(link, result, NULL, 0, cancel, err);
}

int pair_serve(const char *dir, struct link *link, struct clock *clock, struct cancel *cancel,
               struct tls_peer *ret_peer, struct err *err)
{
    CLEANUP(str_free) struct str authority = STR_EMPTY;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock_real(), cancel, REPLY_MS);
    struct tls_peer self;
    struct tls_peer peer;
    struct exchange x;
    X509 *cert;
    char nonce[2 * NONCE_BYTES + 1];

    random_bytes(x.issuer.nonce, NONCE_BYTES);
    str_hex(x.issuer.nonce, NONCE_BYTES, nonce);
    if (own_party(dir, "", &self, &authority, err) < 0
        || shown_certs(link, &x.issuer.cert, &x.joiner.cert, &cert, err) < 0)
        return -1;
    CLEANUP(json_freep)
    json_t *hello = json_pack("{s:s, s:i, s:s, s:s}", "op", "pair-hello", "version", LINK_VERSION,
                              "site", self.name, "nonce", nonce);
    if (link_send(link, hello, NULL, 0, limit, err) < 0)
        return -1;
    if (serve_join(dir, link, clock, &self, &x, cert, &peer, limit, err) < 0) {
        struct err unheard; /* the joiner may be gone; what went wrong here matters more */
        if (!link_is_broken(link) && link_answer_err(link, err, limit, &unheard) == 0)
            return err_wrap(err, "pairing");
        return err_wrap(err, "pairing (not told to the peer)");
    }
    if (answer_join(link, &x, &self, limit, err) < 0)
        return err_wrap(err, "pairing with \"%s\"; hint: pair again with a new token", peer.name);
    *ret_peer = peer;
    return 0;
}
