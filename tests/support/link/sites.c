// SPDX-License-Identifier: Apache-2.0
#include "support/link/sites.h"

#include "base/fs.h"
#include "base/mem.h"
#include "link/identity.h"
#include "support/expect.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

char *site_make(const char *dir, const char *name)
{
    char *path = path_join(dir, name);

    EXPECT_OK(authority_create(path, name, &err));
    return path;
}

void site_keep(const char *dir, const char *peer_dir, const char *peer_name)
{
    CLEANUP(mem_freep) char *path = path_join(peer_dir, IDENTITY_AUTHORITY_CRT);
    struct tls_peer peer = {.address = "127.0.0.1:1"};
    uint8_t private_key[32];
    X509 *authority = NULL;

    (void)snprintf(peer.name, sizeof(peer.name), "%s", peer_name);
    EXPECT_OK(pair_sign_key(peer_dir, private_key, peer.sign_key, &err));
    EXPECT_OK(identity_read_cert(path, &authority, &err));
    EXPECT_OK(peer_store(dir, &peer, authority, &err));
    X509_free(authority);
}

void site_pair(const char *dir_a, const char *a, const char *dir_b, const char *b)
{
    site_keep(dir_a, dir_b, b);
    site_keep(dir_b, dir_a, a);
}

void acceptor_listen(struct acceptor *acceptor, const char *dir)
{
    uint16_t port = 0;

    acceptor->dir = dir;
    acceptor->fd = -1;
    EXPECT_OK(tls_load(dir, &acceptor->tls, &err));
    EXPECT_OK(tls_listen("127.0.0.1:0", &acceptor->fd, &err));
    EXPECT_OK(tls_port(acceptor->fd, &port, &err));
    (void)snprintf(acceptor->address, sizeof(acceptor->address), "127.0.0.1:%u", port);
    acceptor->cancel = cancel_new(clock_real(), NULL, 30000);
}

static void *acceptor_main(void *arg)
{
    struct acceptor *a = arg;
    struct link *link = NULL;

    a->result = cancel_poll(a->cancel, a->fd, POLLIN, &a->err);
    if (a->result < 0)
        return NULL;
    int fd = accept(a->fd, NULL, NULL);
    a->result = tls_accept(a->tls, fd, a->cancel, &a->kind, &link, &a->err);
    if (a->result < 0)
        return NULL;
    (void)snprintf(a->peer, sizeof(a->peer), "%s", link_peer(link));
    if (a->serve)
        a->serve(a, link);
    link_close(link);
    return NULL;
}

void acceptor_start(struct acceptor *acceptor)
{
    assert_int_equal(pthread_create(&acceptor->thread, NULL, acceptor_main, acceptor), 0);
}

void acceptor_join(struct acceptor *acceptor)
{
    (void)pthread_join(acceptor->thread, NULL);
    fd_close(&acceptor->fd);
    tls_freep(&acceptor->tls);
    cancel_freep(&acceptor->cancel);
}
