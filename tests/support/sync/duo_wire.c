// SPDX-License-Identifier: Apache-2.0
#include "support/sync/duo_wire.h"

#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX_BYTES 12 /* link.c: magic, length of the head, length of the payload */

struct bytes {
    uint8_t *at;
    size_t start;
    size_t len;
    size_t cap;
};

struct duo_wire {
    struct transport session;
    struct transport server;
    struct duo *duo;
    struct link *server_link;
    struct receiver *receiver;
    struct bytes up;
    struct bytes down;
    uint64_t up_left;
    uint64_t down_left;
    bool broken;
};

static void put(struct bytes *b, const void *bytes, size_t len)
{
    if (b->start > 0) {
        memmove(b->at, b->at + b->start, b->len);
        b->start = 0;
    }
    if (b->len + len > b->cap) {
        b->cap = 2 * (b->len + len);
        b->at = mem_grow(b->at, b->cap, 1);
    }
    memcpy(b->at + b->len, bytes, len);
    b->len += len;
}

static void take(struct bytes *b, void *bytes, size_t len)
{
    memcpy(bytes, b->at + b->start, len);
    b->start += len;
    b->len -= len;
}

static size_t u32(const uint8_t *at)
{
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

/* Bytes of the first message, if all of it is there; else 0. */
static size_t whole_message(const struct bytes *b)
{
    if (b->len < PREFIX_BYTES)
        return 0;
    const uint8_t *at = b->at + b->start;
    size_t len = PREFIX_BYTES + u32(at + 4) + u32(at + 8);
    return len <= b->len ? len : 0;
}

static int over(struct err *err)
{
    return err_set(err, ERR_NET, 0, "connection broke");
}

static void break_wire(struct duo_wire *w)
{
    if (!w->broken)
        w->duo->breaks++;
    w->broken = true;
}

/* --- The end of lyon ------------------------------------------------------------------------- */

static struct duo_wire *of_server(struct transport *transport)
{
    return (struct duo_wire *)(void *)((char *)transport - offsetof(struct duo_wire, server));
}

static int server_write(struct transport *transport, const void *bytes, size_t len,
                        struct cancel *cancel, struct err *err)
{
    struct duo_wire *w = of_server(transport);

    (void)cancel;
    if (w->broken || w->duo->lyon.dead)
        return over(err);
    size_t n = len <= w->down_left ? len : (size_t)w->down_left;
    put(&w->down, bytes, n);
    w->down_left -= n;
    if (n == len)
        return 0;
    break_wire(w);
    return over(err);
}

static int server_read(struct transport *transport, void *bytes, size_t len, struct cancel *cancel,
                       struct err *err)
{
    struct duo_wire *w = of_server(transport);

    (void)cancel;
    if (w->up.len < len)
        return over(err);
    take(&w->up, bytes, len);
    return 0;
}

static void server_close(struct transport *transport)
{
    (void)transport; /* goes with the wire */
}

/* Answers the oldest request; false: none is complete. */
static bool serve(struct duo_wire *w, struct duo *duo)
{
    struct link_msg msg = {0};
    struct err err = ERR_EMPTY;

    if (duo->lyon.dead || whole_message(&w->up) == 0)
        return false;
    duo->served++;
    duo_pass(duo, duo->latency_ms);
    struct site_fs *before = site_enter(&duo->lyon);
    if (link_recv(w->server_link, &msg, NULL, &err) < 0
        || receiver_serve(w->receiver, w->server_link, &msg, NULL, &err) < 0)
        break_wire(w);
    link_msg_done(&msg);
    (void)site_enter(before);
    if (duo->lyon.dead)
        break_wire(w);
    if (duo->on_served)
        duo->on_served(duo, duo->on_served_ctx);
    return true;
}

/* --- The session's end ----------------------------------------------------------------------- */

static int session_write(struct transport *transport, const void *bytes, size_t len,
                         struct cancel *cancel, struct err *err)
{
    struct duo_wire *w = (struct duo_wire *)(void *)transport;

    (void)cancel;
    if (w->duo->break_now) {
        w->duo->break_now = false;
        break_wire(w);
    }
    if (w->broken || w->duo->paris.dead || w->duo->unreachable)
        return over(err);
    size_t n = len <= w->up_left ? len : (size_t)w->up_left;
    put(&w->up, bytes, n);
    w->up_left -= n;
    if (n == len)
        return 0;
    break_wire(w);
    return over(err);
}

static int session_read(struct transport *transport, void *bytes, size_t len, struct cancel *cancel,
                        struct err *err)
{
    struct duo_wire *w = (struct duo_wire *)(void *)transport;

    (void)cancel;
    while (w->down.len < len) {
        if (w->broken || w->duo->paris.dead || w->duo->unreachable || !serve(w, w->duo))
            return over(err);
    }
    take(&w->down, bytes, len);
    return 0;
}

/* Complete requests that nobody served are still in some buffer of lyon's. */
static void keep_late(struct duo_wire *w)
{
    struct duo *duo = w->duo;
    size_t len;

    while ((len = whole_message(&w->up)) > 0 && duo->late_count < DUO_LATE_MAX) {
        struct duo_late *late = &duo->late[duo->late_count++];
        late->bytes = mem_alloc(len, 1);
        late->len = len;
        take(&w->up, late->bytes, len);
    }
}

static void wire_free(struct duo_wire *w)
{
    receiver_free(w->receiver);
    link_close(w->server_link);
    free(w->up.at);
    free(w->down.at);
    free(w);
}

static void session_end_close(struct transport *transport)
{
    struct duo_wire *w = (struct duo_wire *)(void *)transport;

    if (w->broken)
        keep_late(w);
    if (w->duo->wire == w)
        w->duo->wire = NULL;
    wire_free(w);
}

static struct duo_wire *wire_new(struct duo *duo)
{
    struct duo_wire *w = mem_new(struct duo_wire);

    w->session = (struct transport){session_write, session_read, session_end_close};
    w->server = (struct transport){server_write, server_read, server_close};
    w->duo = duo;
    w->up_left = UINT64_MAX;
    w->down_left = UINT64_MAX;
    w->server_link = link_new(&w->server, "paris");
    w->receiver = receiver_new(&duo->host);
    return w;
}

int duo_wire_open(void *ctx, struct link **ret_link, struct cancel *cancel, struct err *err)
{
    struct duo *duo = ctx;

    (void)cancel;
    if (duo->unreachable || duo->lyon.dead || duo->paris.dead)
        return err_set(err, ERR_NET, 0, "lyon: not reachable");
    struct duo_wire *w = wire_new(duo);
    if (duo->cut_up)
        w->up_left = duo->cut_up;
    if (duo->cut_down)
        w->down_left = duo->cut_down;
    duo->cut_up = 0;
    duo->cut_down = 0;
    duo->break_now = false;
    duo->wire = w;
    duo->links++;
    *ret_link = link_new(&w->session, "lyon");
    return 0;
}

void duo_wire_break(struct duo *duo)
{
    if (duo->wire)
        break_wire(duo->wire);
}

static void hear_late(struct duo *duo, size_t count)
{
    struct duo_wire *w = wire_new(duo);

    for (size_t i = 0; i < count; i++) {
        put(&w->up, duo->late[i].bytes, duo->late[i].len);
        free(duo->late[i].bytes);
    }
    duo->late_count -= count;
    memmove(&duo->late[0], &duo->late[count], duo->late_count * sizeof(duo->late[0]));
    while (serve(w, duo))
        continue;
    wire_free(w);
}

void duo_hear_late(struct duo *duo)
{
    if (duo->late_count > 0)
        hear_late(duo, 1);
}

void duo_hear_all_late(struct duo *duo)
{
    hear_late(duo, duo->late_count);
}
