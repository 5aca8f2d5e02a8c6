// SPDX-License-Identifier: Apache-2.0
/* The socket is reached through a BIO of our own: OpenSSL's writes with write(2), and a peer that
 * went away would raise SIGPIPE in whatever program links us.
 *
 * A long message is many records of 16 KiB. They are held back and handed to the kernel several at a
 * time: a system call, and a peer that wakes up, for each of them would cost as much as sealing it. */
#include "link/tls_stream.h"

#include "base/fs.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* OpenSSL counts in int; also, a cancel is looked at this often. */
#define CALL_MAX     (1u << 20)
#define RECORD_BYTES 16384u
#define HELD_BYTES   (8u * (RECORD_BYTES + 256u))

struct tls_stream {
    struct transport transport;
    SSL *ssl;
    BIO_METHOD *method;
    int fd;
    int last_errno; /* of the socket, for the error after SSL_ERROR_SYSCALL */
    uint8_t *held;  /* records that the socket did not get yet; NULL: none is held back */
    size_t held_from;
    size_t held_to;
    bool ready;
    bool failed;
};

static ssize_t socket_send(struct tls_stream *s, const void *bytes, size_t len)
{
    ssize_t n = send(s->fd, bytes, len, MSG_NOSIGNAL);

    if (n < 0)
        s->last_errno = errno;
    return n;
}

static bool is_for_later(int error)
{
    return error == EAGAIN || error == EINTR;
}

/* All that is held, as far as the socket takes it: -1 with last_errno. */
static int send_held(struct tls_stream *s)
{
    while (s->held_from < s->held_to) {
        ssize_t n = socket_send(s, s->held + s->held_from, s->held_to - s->held_from);
        if (n < 0)
            return -1;
        s->held_from += (size_t)n;
    }
    s->held_from = s->held_to = 0;
    return 0;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct tls_stream *s = BIO_get_data(bio);
    size_t count = (size_t)len;
    ssize_t n = len;

    BIO_clear_retry_flags(bio);
    if (s->held && count > HELD_BYTES - s->held_to && send_held(s) < 0) {
        n = -1;
    } else if (s->held && count <= HELD_BYTES) {
        memcpy(s->held + s->held_to, bytes, count);
        s->held_to += count;
    } else {
        n = socket_send(s, bytes, count);
    }
    if (n < 0 && is_for_later(s->last_errno))
        BIO_set_retry_write(bio);
    return (int)n;
}

static int bio_read(BIO *bio, char *bytes, int len)
{
    struct tls_stream *s = BIO_get_data(bio);
    ssize_t n = recv(s->fd, bytes, (size_t)len, 0);

    BIO_clear_retry_flags(bio);
    if (n < 0) {
        s->last_errno = errno;
        if (errno == EAGAIN || errno == EINTR)
            BIO_set_retry_read(bio);
    } else if (n == 0) {
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    }
    return (int)n;
}

static long bio_ctrl(BIO *bio, int cmd, long number, void *ptr)
{
    (void)number;
    (void)ptr;
    if (cmd == BIO_CTRL_EOF)
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    return cmd == BIO_CTRL_FLUSH ? 1 : 0;
}

/* What an alert of the peer, or a fault of its bytes, means for us. */
static int ssl_failed(const struct tls_stream *s, struct err *err)
{
    unsigned long e = ERR_peek_last_error();
    int reason = ERR_GET_REASON(e);
    const char *text = ERR_reason_error_string(e);
    const char *what = text ? text : "TLS error";

    ERR_clear_error();
    switch (reason) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
        return err_set(err, ERR_NET, 0, "closed by the peer in mid-connection");
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return err_set(err, ERR_AUTH, 0, "the client showed no certificate");
    case SSL_AD_REASON_OFFSET + SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_REASON_OFFSET + SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_REASON_OFFSET + SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_REASON_OFFSET + SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_REASON_OFFSET + SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_REASON_OFFSET + SSL_AD_UNKNOWN_CA:
    case SSL_AD_REASON_OFFSET + SSL_AD_ACCESS_DENIED:
    case SSL_AD_REASON_OFFSET + TLS13_AD_CERTIFICATE_REQUIRED:
        return err_set(err, ERR_AUTH, 0,
                       "it does not accept our certificate (%s); hint: pair the sites again", what);
    default:
        if (s->ready)
            return err_set(err, ERR_NET, 0, "connection broke: %s", what);
        return err_set(err, ERR_PROTOCOL, 0, "no TLS 1.3 handshake: %s", what);
    }
}

/* After an SSL call that returned `rc`: 0: wait is over, call again; -1: `err` is set. */
static int after_call(struct tls_stream *s, int rc, struct cancel *cancel, struct err *err)
{
    switch (SSL_get_error(s->ssl, rc)) {
    case SSL_ERROR_WANT_READ: return cancel_poll(cancel, s->fd, POLLIN, err);
    case SSL_ERROR_WANT_WRITE: return cancel_poll(cancel, s->fd, POLLOUT, err);
    case SSL_ERROR_ZERO_RETURN:
        s->failed = true;
        return err_set(err, ERR_NET, 0, "closed by the peer");
    case SSL_ERROR_SYSCALL:
        s->failed = true;
        ERR_clear_error();
        return err_set(err, ERR_NET, s->last_errno, "connection broke");
    default: s->failed = true; return ssl_failed(s, err);
    }
}

int tls_stream_handshake(struct tls_stream *stream, const struct err *why, struct cancel *cancel,
                         struct err *err)
{
    for (;;) {
        ERR_clear_error();
        stream->last_errno = 0;
        int rc = SSL_do_handshake(stream->ssl);
        if (rc == 1) {
            stream->ready = true;
            return 0;
        }
        if (after_call(stream, rc, cancel, err) < 0)
            break;
    }
    if (why && why->code != ERR_NONE)
        return err_set(err, why->code, why->sys, "%s", why->text);
    return -1;
}

static int write_records(struct tls_stream *s, const uint8_t *at, size_t len, struct cancel *cancel,
                         struct err *err)
{
    while (len > 0) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        ERR_clear_error();
        s->last_errno = 0;
        int rc = SSL_write(s->ssl, at, (int)(len < CALL_MAX ? len : CALL_MAX));
        if (rc > 0) {
            at += rc;
            len -= (size_t)rc;
        } else if (after_call(s, rc, cancel, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int write_held(struct tls_stream *s, struct cancel *cancel, struct err *err)
{
    while (send_held(s) < 0) {
        if (!is_for_later(s->last_errno))
            return err_set(err, ERR_NET, s->last_errno, "connection broke");
        if (cancel_poll(cancel, s->fd, POLLOUT, err) < 0)
            return -1;
    }
    return 0;
}

static int stream_write(struct transport *transport, const void *bytes, size_t len,
                        struct cancel *cancel, struct err *err)
{
    struct tls_stream *s = (struct tls_stream *)(void *)transport;

    if (len <= RECORD_BYTES)
        return write_records(s, bytes, len, cancel, err);
    s->held = mem_grow(NULL, HELD_BYTES, 1); /* not cleared; and not kept by links that are idle */
    int rc = write_records(s, bytes, len, cancel, err);
    if (rc == 0)
        rc = write_held(s, cancel, err);
    /* Records that are lost leave a hole that the peer takes for an attack: nothing comes after. */
    s->failed = s->failed || rc < 0;
    s->held_from = s->held_to = 0;
    free(TAKE(s->held));
    return rc;
}

static int stream_read(struct transport *transport, void *bytes, size_t len, struct cancel *cancel,
                       struct err *err)
{
    struct tls_stream *s = (struct tls_stream *)(void *)transport;
    uint8_t *at = bytes;

    while (len > 0) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        ERR_clear_error();
        s->last_errno = 0;
        int rc = SSL_read(s->ssl, at, (int)(len < CALL_MAX ? len : CALL_MAX));
        if (rc > 0) {
            at += rc;
            len -= (size_t)rc;
        } else if (after_call(s, rc, cancel, err) < 0) {
            return -1;
        }
    }
    return 0;
}

static void stream_close(struct transport *transport)
{
    struct tls_stream *s = (struct tls_stream *)(void *)transport;

    /* Said once, as far as the socket takes it now; after a failure nothing may be said. */
    if (s->ready && !s->failed)
        (void)SSL_shutdown(s->ssl);
    ERR_clear_error();
    SSL_free(s->ssl);
    BIO_meth_free(s->method);
    (void)close(s->fd);
    free(s);
}

struct tls_stream *tls_stream_new(SSL *ssl, int fd)
{
    struct tls_stream *s = mem_new(struct tls_stream);
    BIO *bio;

    s->transport.write = stream_write;
    s->transport.read = stream_read;
    s->transport.close = stream_close;
    s->ssl = ssl;
    s->fd = fd;
    s->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "muster socket");
    if (!s->method || BIO_meth_set_write(s->method, bio_write) != 1
        || BIO_meth_set_read(s->method, bio_read) != 1
        || BIO_meth_set_ctrl(s->method, bio_ctrl) != 1 || !(bio = BIO_new(s->method)))
        abort();
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return s;
}

struct transport *tls_stream_transport(struct tls_stream *stream)
{
    return &stream->transport;
}

struct tls_stream *tls_stream_of(struct transport *transport)
{
    return transport->close == stream_close ? (struct tls_stream *)(void *)transport : NULL;
}

SSL *tls_stream_ssl(const struct tls_stream *stream)
{
    return stream->ssl;
}
