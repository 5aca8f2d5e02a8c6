// SPDX-License-Identifier: Apache-2.0
/* Inbound connections: accepted on the loop, served by a thread of their own until the peer goes or
 * the daemon ends. Who it is, the certificate says; what a link may ask, the rooms that answer
 * check for each message. A link that turns out to carry a session's data moves to a thread that
 * gives way to machines; what may start one stays where it is. */
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINKS_MAX      128
#define ACCEPTS_A_TURN 16

struct inbound {
    struct pool_job base; /* first */
    struct daemon *daemon;
    int fd;
    struct link *link;
    bool data;                 /* it carries a session's data: for data_pool */
    struct receiver *receiver; /* then */
    struct link_msg next;      /* read, not yet served */
};

static int serve_message(struct inbound *inbound, struct err *err)
{
    struct daemon *daemon = inbound->daemon;
    struct link *link = inbound->link;
    struct link_msg *msg = &inbound->next;
    const char *op = json_get_str(msg->head, "op", "");

    if (receiver_knows(op)) {
        if (!inbound->receiver)
            inbound->receiver = receiver_new(estate_receiver_host(daemon->estate));
        return receiver_serve(inbound->receiver, link, msg, daemon->stop, err);
    }
    if (site_serve_knows(op))
        return site_serve(daemon->estate, link, msg, daemon->stop, err);
    return daemon_peer_op(daemon, link, msg, daemon->stop, err);
}

/* Until the link is over, or has to move; how it ended is no news. */
static void serve_site(struct inbound *inbound)
{
    struct daemon *daemon = inbound->daemon;
    struct link *link = inbound->link;
    bool moved = inbound->data;
    struct err err = ERR_EMPTY;
    int rc = 0;

    while (rc == 0) {
        if (!moved)
            rc = link_recv(link, &inbound->next, daemon->stop, &err);
        moved = false;
        if (rc == 0 && !inbound->data
            && receiver_knows(json_get_str(inbound->next.head, "op", ""))) {
            inbound->data = true;
            return;
        }
        if (rc == 0)
            rc = serve_message(inbound, &err);
        link_msg_done(&inbound->next);
        inbound->next = (struct link_msg){0};
    }
    log_debug("daemon", "link over peer=%s reason=\"%s\"", link_peer(link), err.text);
    receiver_free(TAKE(inbound->receiver));
    link_close(link);
    inbound->link = NULL;
}

static int paired(struct daemon *daemon, void *ctx, struct err *err)
{
    const struct tls_peer *peer = ctx;

    log_info("daemon", "paired peer=%s address=%s", peer->name, peer->address);
    daemon_peers_changed(daemon);
    return state_audit(daemon->state, daemon->clock->wall_ms(daemon->clock), peer->name,
                       "site.paired", peer->name, peer->address, err);
}

static void serve_pairing(struct daemon *daemon, struct link *link)
{
    struct tls_peer peer;
    struct err err = ERR_EMPTY;

    if (pair_serve(daemon->identity_dir, link, daemon->clock, daemon->stop, &peer, &err) < 0
        || daemon_on_loop(daemon, paired, &peer, &err) < 0)
        log_warn("daemon", "pairing refused error=\"%s\"", err.text);
}

static void run(struct pool_job *base)
{
    struct inbound *inbound = (struct inbound *)base;
    struct daemon *daemon = inbound->daemon;
    CLEANUP(link_closep) struct link *link = NULL;
    enum tls_kind kind = TLS_SITE;
    struct err err = ERR_EMPTY;
    int fd = inbound->fd;

    if (peers_accept(daemon->peers, fd, &kind, &link, daemon->stop, &err) < 0) {
        log_warn("daemon", "connection refused error=\"%s\"", err.text);
    } else if (kind == TLS_PAIR) {
        serve_pairing(daemon, link);
    } else {
        log_debug("daemon", "link from peer=%s", link_peer(link));
        daemon_peer_is_here(daemon, link_peer(link));
        inbound->link = TAKE(link);
        serve_site(inbound);
    }
}

static void run_data(struct pool_job *base)
{
    serve_site((struct inbound *)base);
}

static void done(struct pool_job *base)
{
    struct inbound *inbound = (struct inbound *)base;

    if (inbound->link) {
        base->run = run_data;
        pool_submit(inbound->daemon->data_pool, base);
    } else {
        free(inbound);
    }
}

static bool is_full(struct daemon *daemon)
{
    return pool_busy(daemon->link_pool) + pool_busy(daemon->data_pool) >= LINKS_MAX;
}

static void on_connect(void *ctx, uint32_t events)
{
    struct daemon *daemon = ctx;

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int fd = accept4(daemon->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        bool full = is_full(daemon);
        if (full && !daemon->links_full_said)
            log_warn("daemon", "connections turned away, there are %d", LINKS_MAX);
        daemon->links_full_said = full;
        if (full) {
            (void)close(fd);
            continue;
        }
        struct inbound *inbound = mem_new(struct inbound);
        *inbound = (struct inbound){.base = {.run = run, .done = done}, .daemon = daemon, .fd = fd};
        pool_submit(daemon->link_pool, &inbound->base);
    }
}

int daemon_listen(struct daemon *daemon, struct err *err)
{
    if (tls_listen(daemon->config.address, &daemon->listen_fd, err) < 0)
        return err_wrap(err, "the port for peers");
    daemon->link_pool = pool_new(daemon->loop, LINKS_MAX);
    daemon->data_pool = pool_new_background(daemon->loop, LINKS_MAX);
    loop_watch(daemon->loop, daemon->listen_fd, EPOLLIN, on_connect, daemon);
    return 0;
}

void daemon_unlisten(struct daemon *daemon)
{
    if (daemon->listen_fd < 0)
        return;
    loop_unwatch(daemon->loop, daemon->listen_fd);
    fd_close(&daemon->listen_fd);
}
