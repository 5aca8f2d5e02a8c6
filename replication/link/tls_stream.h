// SPDX-License-Identifier: Apache-2.0
/* A transport over TLS over a nonblocking TCP socket. */
#pragma once

#include "base/openssl.h"
#include "link/identity.h"
#include "link/transport.h"

struct tls_stream;
/* Takes `ssl` (set to connect or accept) and `fd`; the handshake is still to come. */
struct tls_stream *tls_stream_new(SSL *ssl, int fd);
struct transport *tls_stream_transport(struct tls_stream *stream);
/* ERR_AUTH with what our own check of the certificate said (`why`, if it has a code), or what
 * the peer said about ours; ERR_PROTOCOL: other version, no TLS at all; ERR_NET; the cancel's. */
int tls_stream_handshake(struct tls_stream *stream, const struct err *why, struct cancel *cancel,
                         struct err *err) MUST_CHECK;
/* The stream below a transport made here; NULL for any other. */
struct tls_stream *tls_stream_of(struct transport *transport);
/* Borrowed. */
SSL *tls_stream_ssl(const struct tls_stream *stream);
