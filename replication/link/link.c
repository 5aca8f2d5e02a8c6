// SPDX-License-Identifier: Apache-2.0
/* A message on the wire, numbers big endian:
 *
 *   4 bytes  magic "mst1"
 *   4 bytes  length of the head, 2 .. LINK_HEAD_MAX
 *   4 bytes  length of the payload, 0 .. LINK_PAYLOAD_MAX
 *   head     a JSON object, UTF-8, no other bytes around it
 *   payload  what the head says it is
 *
 * A request's head has "op". An answer's head is {"ok": RESULT} or {"error": {"code": "fenced",
 * "text": "..."}}; there is exactly one for each request, in order. Lengths are checked before
 * anything is allocated for them. */
#include "link/link.h"

#include "base/fault.h"
#include "base/mem.h"
#include "link/link_internal.h"
#include "link/shaper.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PREFIX_BYTES   12
#define SMALL_BYTES    16384 /* such messages travel in one write */
#define PEER_MAX_BYTES 64

static const uint8_t magic[4] = {'m', 's', 't', '1'};

struct link {
    struct transport *transport;
    char peer[PEER_MAX_BYTES];
    size_t head_max;
    size_t payload_max;
    uint8_t *payload;
    size_t payload_cap;
    struct shaper_flow *flow; /* borrowed; may be NULL */
    bool broken;
    bool proven;
};

void link_msg_done(struct link_msg *msg)
{
    json_decref(msg->head);
    memset(msg, 0, sizeof(*msg));
}

struct link *link_new(struct transport *transport, const char *peer)
{
    struct link *link = mem_new(struct link);

    link->transport = transport;
    link->head_max = LINK_HEAD_MAX;
    link->payload_max = LINK_PAYLOAD_MAX;
    (void)snprintf(link->peer, sizeof(link->peer), "%s", peer);
    return link;
}

void link_close(struct link *link)
{
    if (!link)
        return;
    link->transport->close(link->transport);
    free(link->payload);
    free(link);
}

void link_closep(struct link **link)
{
    link_close(*link);
    *link = NULL;
}

const char *link_peer(const struct link *link)
{
    return link->peer;
}

bool link_is_broken(const struct link *link)
{
    return link->broken;
}

bool link_is_proven(const struct link *link)
{
    return link->proven;
}

void link_set_limits(struct link *link, size_t head_max, size_t payload_max)
{
    assert(head_max <= LINK_HEAD_MAX && payload_max <= LINK_PAYLOAD_MAX);
    link->head_max = head_max;
    link->payload_max = payload_max;
}

struct transport *link_transport(const struct link *link)
{
    return link->transport;
}

static void put_u32(uint8_t *at, size_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

static size_t get_u32(const uint8_t *at)
{
    return (size_t)at[0] << 24 | (size_t)at[1] << 16 | (size_t)at[2] << 8 | at[3];
}

/* The stream is in the middle of something nobody can take up again. */
static int broke(struct link *link, struct err *err)
{
    link->broken = true;
    return link->peer[0] ? err_wrap(err, "%s", link->peer) : -1;
}

static int check_usable(struct link *link, const char *fault, struct err *err)
{
    int sys;

    if (link->broken)
        return err_set(err, ERR_NET, 0, "%s: the connection is over",
                       link->peer[0] ? link->peer : "peer");
    if ((sys = fault_hit(fault)) != 0) {
        (void)err_set(err, ERR_NET, sys, "connection broke");
        return broke(link, err);
    }
    return 0;
}

void link_set_flow(struct link *link, struct shaper_flow *flow)
{
    link->flow = flow;
}

static int paced_write(struct link *link, const uint8_t *bytes, size_t len, struct cancel *cancel,
                       struct err *err)
{
    struct transport *t = link->transport;

    while (link->flow && len > 0) {
        size_t n = shaper_piece(link->flow, len);
        if (shaper_take(link->flow, n, cancel, err) < 0 || t->write(t, bytes, n, cancel, err) < 0)
            return -1;
        bytes += n;
        len -= n;
    }
    return len > 0 ? t->write(t, bytes, len, cancel, err) : 0;
}

int link_send(struct link *link, const json_t *head, const void *payload, size_t len,
              struct cancel *cancel, struct err *err)
{
    assert(json_is_object(head) && len <= LINK_PAYLOAD_MAX);
    if (check_usable(link, "link.send", err) < 0)
        return -1;
    CLEANUP(mem_freep) char *text = json_text(head);
    size_t head_len = strlen(text);
    if (head_len > LINK_HEAD_MAX)
        return err_set(err, ERR_LIMIT, 0, "message head of %zu bytes, at most %u", head_len,
                       LINK_HEAD_MAX);

    bool small = head_len + len <= SMALL_BYTES;
    size_t first = PREFIX_BYTES + head_len + (small ? len : 0);
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(first, 1);
    memcpy(buf, magic, sizeof(magic));
    put_u32(buf + 4, head_len);
    put_u32(buf + 8, len);
    memcpy(buf + PREFIX_BYTES, text, head_len);
    if (small && len > 0)
        memcpy(buf + PREFIX_BYTES + head_len, payload, len);
    if (paced_write(link, buf, first, cancel, err) < 0)
        return broke(link, err);
    if (!small && paced_write(link, payload, len, cancel, err) < 0)
        return broke(link, err);
    return 0;
}

static int read_prefix(struct link *link, size_t *ret_head_len, size_t *ret_len,
                       struct cancel *cancel, struct err *err)
{
    uint8_t prefix[PREFIX_BYTES];

    if (link->transport->read(link->transport, prefix, sizeof(prefix), cancel, err) < 0)
        return -1;
    if (memcmp(prefix, magic, sizeof(magic)) != 0)
        return err_set(err, ERR_PROTOCOL, 0, "not a message: begins with %02x %02x %02x %02x",
                       prefix[0], prefix[1], prefix[2], prefix[3]);
    size_t head_len = get_u32(prefix + 4);
    size_t len = get_u32(prefix + 8);
    if (head_len < 2 || head_len > link->head_max)
        return err_set(err, ERR_PROTOCOL, 0, "message head of %zu bytes, allowed are 2 to %zu",
                       head_len, link->head_max);
    if (len > link->payload_max)
        return err_set(err, ERR_PROTOCOL, 0, "message payload of %zu bytes, allowed are %zu", len,
                       link->payload_max);
    *ret_head_len = head_len;
    *ret_len = len;
    return 0;
}

static int read_head(struct link *link, size_t len, json_t **ret_head, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(mem_freep) char *text = mem_try_alloc(len, "message head", err);
    CLEANUP(json_freep) json_t *head = NULL;

    if (!text || link->transport->read(link->transport, text, len, cancel, err) < 0)
        return -1;
    if (json_parse(text, len, &head, err) < 0) {
        err->code = ERR_PROTOCOL;
        return err_wrap(err, "message head");
    }
    if (!json_is_object(head))
        return err_set(err, ERR_PROTOCOL, 0, "message head is not an object");
    *ret_head = TAKE(head);
    return 0;
}

static int read_message(struct link *link, struct link_msg *ret_msg, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(json_freep) json_t *head = NULL;
    size_t head_len;
    size_t len;

    if (read_prefix(link, &head_len, &len, cancel, err) < 0
        || read_head(link, head_len, &head, cancel, err) < 0)
        return -1;
    if (len > link->payload_cap) {
        uint8_t *payload = mem_try_alloc(len, "message payload", err);
        if (!payload)
            return -1;
        free(link->payload);
        link->payload = payload;
        link->payload_cap = len;
    }
    if (len > 0 && link->transport->read(link->transport, link->payload, len, cancel, err) < 0)
        return -1;
    ret_msg->head = TAKE(head);
    ret_msg->payload = link->payload;
    ret_msg->payload_len = len;
    return 0;
}

int link_recv(struct link *link, struct link_msg *ret_msg, struct cancel *cancel, struct err *err)
{
    struct err why = ERR_EMPTY; /* the code decides here, so a caller's NULL will not do */

    if (check_usable(link, "link.recv", err) < 0)
        return -1;
    if (read_message(link, ret_msg, cancel, &why) < 0) {
        (void)broke(link, &why);
        if (err)
            *err = why;
        return -1;
    }
    return 0;
}

void link_swap_payload(struct link *link, uint8_t **buf, size_t *cap)
{
    uint8_t *payload = link->payload;
    size_t payload_cap = link->payload_cap;

    link->payload = *buf;
    link->payload_cap = *cap;
    *buf = payload;
    *cap = payload_cap;
}

/* Their text goes into our log and to a terminal: one line, nothing that moves a cursor. */
static void plain_text(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
}

static int peer_error(const struct link *link, const json_t *error, struct err *err)
{
    char text[sizeof(err->text)];
    enum err_code code = err_code_parse(json_get_str(error, "code", ""));

    (void)snprintf(text, sizeof(text), "%s", json_get_str(error, "text", "failed without a text"));
    plain_text(text);
    if (code == ERR_NONE)
        code = ERR_PROTOCOL;
    return err_set(err, code, 0, "%s: %s", link->peer[0] ? link->peer : "peer", text);
}

int link_reply(struct link *link, struct link_msg *ret_reply, struct cancel *cancel,
               struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    if (link_recv(link, &msg, cancel, err) < 0)
        return -1;
    const json_t *error = json_object_get(msg.head, "error");
    link->proven = link->proven || error;
    if (error)
        return peer_error(link, error, err);
    json_t *result = json_object_get(msg.head, "ok");
    if (!json_is_object(result)) {
        link->broken = true;
        return err_set(err, ERR_PROTOCOL, 0, "%s: neither a result nor an error in the answer",
                       link->peer);
    }
    link->proven = true;
    if (ret_reply) {
        ret_reply->head = json_incref(result);
        ret_reply->payload = msg.payload;
        ret_reply->payload_len = msg.payload_len;
    }
    return 0;
}

int link_call(struct link *link, const json_t *head, const void *payload, size_t len,
              struct link_msg *ret_reply, struct cancel *cancel, struct err *err)
{
    if (link_send(link, head, payload, len, cancel, err) < 0)
        return -1;
    return link_reply(link, ret_reply, cancel, err);
}

int link_answer(struct link *link, const json_t *result, const void *payload, size_t len,
                struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *head = json_object();
    json_t *ok = result ? json_deep_copy(result) : json_object();

    if (json_object_set_new(head, "ok", ok) < 0)
        return err_set(err, ERR_INVALID, 0, "an answer that is not JSON");
    return link_send(link, head, payload, len, cancel, err);
}

int link_answer_err(struct link *link, const struct err *failure, struct cancel *cancel,
                    struct err *err)
{
    /* A text cut in the middle of a UTF-8 character is no JSON; then the code must do. */
    json_t *text = json_string(failure->text);
    CLEANUP(json_freep)
    json_t *head =
        json_pack("{s:{s:s, s:o}}", "error", "code", err_code_name(failure->code), "text",
                  text ? text : json_string("(the text of this error is not UTF-8)"));

    return link_send(link, head, NULL, 0, cancel, err);
}
