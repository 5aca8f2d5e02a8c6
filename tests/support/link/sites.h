// SPDX-License-Identifier: Apache-2.0
/* Two sites with identities below a folder, and a thread that accepts one connection. */
#pragma once

#include "link/tls.h"

#include <pthread.h>

/* Makes DIR/NAME with an identity; free with free(). Fails the test when it cannot. */
char *site_make(const char *dir, const char *name);
/* `dir` keeps the site in `peer_dir` as `peer_name`, without a connection. */
void site_keep(const char *dir, const char *peer_dir, const char *peer_name);
/* Each keeps the other. */
void site_pair(const char *dir_a, const char *a, const char *dir_b, const char *b);

/* Accepts one connection on 127.0.0.1 and does `serve` on its link (may be NULL). */
struct acceptor {
    struct tls *tls;
    const char *dir;
    int fd;
    char address[64];
    pthread_t thread;
    struct cancel *cancel;
    void (*serve)(struct acceptor *acceptor, struct link *link);
    enum tls_kind kind;
    char peer[64];
    struct clock *clock;
    int result; /* of tls_accept, then of serve */
    struct err err;
    struct tls_peer joined;
};
void acceptor_listen(struct acceptor *acceptor, const char *dir);
void acceptor_start(struct acceptor *acceptor);
void acceptor_join(struct acceptor *acceptor); /* and closes the socket */
