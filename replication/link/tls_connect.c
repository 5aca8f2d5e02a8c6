// SPDX-License-Identifier: Apache-2.0
#include "link/tls_internal.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Nothing is proven yet: enough for a hello, and for a certificate in a pairing. */
#define EARLY_HEAD_MAX 16384u
#define REFUSED_MS     1000

static int send_hello(const struct tls *tls, struct link *link, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(json_freep)
    json_t *hello = json_pack("{s:s, s:i, s:s, s:s}", "op", "hello", "version", LINK_VERSION,
                              "site", tls_site(tls), "id", tls_id(tls));

    return link_send(link, hello, NULL, 0, cancel, err);
}

static int recv_hello(const struct tls *tls, struct link *link, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    char id[IDENTITY_ID_BYTES];

    if (link_recv(link, &msg, cancel, err) < 0)
        return -1;
    uint64_t version = json_get_u64(msg.head, "version", 0);
    if (!str_eq(json_get_str(msg.head, "op", NULL), "hello"))
        return err_set(err, ERR_PROTOCOL, 0, "%s: did not say hello", link_peer(link));
    if (version != LINK_VERSION)
        return err_set(err, ERR_PROTOCOL, 0,
                       "%s speaks version %llu, we speak %d; hint: run the same release at both "
                       "sites",
                       link_peer(link), (unsigned long long)version, LINK_VERSION);
    identity_id(tls_authority_of(tls, link_peer(link)), id);
    if (!str_eq(json_get_str(msg.head, "site", NULL), link_peer(link))
        || !str_eq(json_get_str(msg.head, "id", NULL), id))
        return err_set(err, ERR_AUTH, 0,
                       "\"%s\" by its certificate, but it says it is \"%s\" with id %s, not %s",
                       link_peer(link), json_get_str(msg.head, "site", "?"),
                       json_get_str(msg.head, "id", "?"), id);
    return 0;
}

/* The deadline of a handshake is ours, not the caller's: what it means is an unreachable peer. */
static int explain(struct cancel *cancel, const char *peer, const char *address, struct err *err)
{
    if (err && err->code == ERR_TIMEOUT && cancel_left_ms(cancel) > 0)
        (void)err_set(err, ERR_NET, 0, "no answer within %d s", HANDSHAKE_LIMIT_MS / 1000);
    return err_wrap(err, "%s at %s", peer, address);
}

static int connect_with(struct tls *tls, struct handshake *hs, const char *alpn,
                        const char *address, struct cancel *cancel, struct link **ret_link,
                        struct err *err)
{
    CLEANUP(link_closep) struct link *link = NULL;
    int fd = -1;

    if (tcp_connect(address, cancel, &fd, err) < 0)
        return -1;
    struct tls_stream *stream = tls_stream_new(tls_ssl_new(tls, hs, alpn), fd);
    link = link_new(tls_stream_transport(stream), hs->wanted);
    int rc = tls_stream_handshake(stream, &hs->why, cancel, err);
    (void)SSL_set_app_data(tls_stream_ssl(stream), NULL);
    if (rc < 0)
        return -1;
    *ret_link = TAKE(link);
    return 0;
}

int tls_connect(struct tls *tls, const char *peer, const char *address, struct cancel *cancel,
                struct link **ret_link, struct err *err)
{
    CLEANUP(handshake_done) struct handshake hs = {0};
    CLEANUP(link_closep) struct link *link = NULL;
    CLEANUP(cancel_freep) struct cancel *limit = NULL;

    if (!str_is_name(peer) || !tls_authority_of(tls, peer))
        return err_set(err, ERR_AUTH, 0,
                       "\"%s\" is not paired with a site \"%s\"; hint: muster site pair",
                       tls_site(tls), peer);
    limit = cancel_new(clock_real(), cancel, HANDSHAKE_LIMIT_MS);
    (void)snprintf(hs.wanted, sizeof(hs.wanted), "%s", peer);
    if (connect_with(tls, &hs, ALPN_SITE, address, limit, &link, err) < 0
        || recv_hello(tls, link, limit, err) < 0 || send_hello(tls, link, limit, err) < 0)
        return explain(cancel, peer, address, err);
    *ret_link = TAKE(link);
    return 0;
}

int tls_connect_pair(struct tls *tls, struct handshake *hs, const char *address,
                     struct cancel *cancel, struct link **ret_link, struct err *err)
{
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(clock_real(), cancel, HANDSHAKE_LIMIT_MS);

    hs->is_pairing = true;
    if (connect_with(tls, hs, ALPN_PAIR, address, limit, ret_link, err) < 0)
        return explain(cancel, "pairing", address, err);
    link_set_limits(*ret_link, EARLY_HEAD_MAX, 0);
    return 0;
}

/* A refused client must read why. Closing at once, with bytes of its unread, would throw our
 * alert away on the way to it. */
static void linger(int fd)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock_real(), NULL, REFUSED_MS);
    char waste[4096];

    (void)shutdown(fd, SHUT_WR);
    while (cancel_poll(limit, fd, POLLIN, NULL) == 0) {
        ssize_t n = recv(fd, waste, sizeof(waste), 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return;
    }
}

static enum tls_kind kind_of(const SSL *ssl)
{
    const unsigned char *name;
    unsigned len;

    SSL_get0_alpn_selected(ssl, &name, &len);
    if (len == sizeof(ALPN_SITE) - 2 && memcmp(name, &ALPN_SITE[1], len) == 0)
        return TLS_SITE;
    if (len == sizeof(ALPN_PAIR) - 2 && memcmp(name, &ALPN_PAIR[1], len) == 0)
        return TLS_PAIR;
    return TLS_HTTP;
}

/* After the handshake: who it is ("" when only pairing will tell). */
static int accepted(const struct tls *tls, const SSL *ssl, enum tls_kind kind,
                    char ret_name[IDENTITY_NAME_BYTES], struct err *err)
{
    struct handshake anyone = {.is_server = true};
    X509 *cert = SSL_get0_peer_certificate(ssl);

    ret_name[0] = '\0';
    if (kind == TLS_PAIR)
        return 0;
    if (kind == TLS_HTTP)
        return err_set(err, ERR_UNSUPPORTED, 0, "HTTP on this port is not served");
    if (!cert)
        return err_set(err, ERR_AUTH, 0, "the client showed no certificate");
    return tls_check_peer(tls, &anyone, cert, ret_name, err);
}

int tls_accept(struct tls *tls, int fd, struct cancel *cancel, enum tls_kind *ret_kind,
               struct link **ret_link, struct err *err)
{
    CLEANUP(handshake_done) struct handshake hs = {.is_server = true};
    CLEANUP(cancel_freep) struct cancel *limit = NULL;
    CLEANUP(link_closep) struct link *link = NULL;
    char name[IDENTITY_NAME_BYTES];

    if (tcp_prepare(fd, err) < 0) {
        (void)close(fd);
        return -1;
    }
    limit = cancel_new(clock_real(), cancel, HANDSHAKE_LIMIT_MS);
    struct tls_stream *stream = tls_stream_new(tls_ssl_new(tls, &hs, NULL), fd);
    struct transport *transport = tls_stream_transport(stream);
    int rc = tls_stream_handshake(stream, &hs.why, limit, err);
    (void)SSL_set_app_data(tls_stream_ssl(stream), NULL);
    enum tls_kind kind = kind_of(tls_stream_ssl(stream));
    if (rc < 0 || accepted(tls, tls_stream_ssl(stream), kind, name, err) < 0) {
        linger(fd);
        transport->close(transport);
        return err_wrap(err, "incoming connection");
    }

    link = link_new(transport, name);
    if (kind == TLS_SITE
        && (send_hello(tls, link, limit, err) < 0 || recv_hello(tls, link, limit, err) < 0))
        return err_wrap(err, "incoming connection");
    if (kind == TLS_PAIR)
        link_set_limits(link, EARLY_HEAD_MAX, 0);
    *ret_kind = kind;
    *ret_link = TAKE(link);
    return 0;
}
