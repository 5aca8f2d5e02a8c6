// SPDX-License-Identifier: Apache-2.0
/* What two sites say to each other: messages over a transport. A message is a JSON head
 * {"op": "...", ...} and a binary payload; the format stands in link.c. One side calls, the other
 * answers, in order. A link is used by one thread at a time. */
#pragma once

#include "base/json.h"
#include "link/transport.h"

#include <stdbool.h>

#define LINK_HEAD_MAX    (1024u * 1024u)
#define LINK_PAYLOAD_MAX (4u * 1024u * 1024u)
#define LINK_VERSION     1

struct link_msg {
    json_t *head;     /* owned by the message */
    uint8_t *payload; /* owned by the link until its next receive */
    size_t payload_len;
};
void link_msg_done(struct link_msg *msg); /* also for CLEANUP */

struct link;
/* Takes the transport. `peer` is the name the handshake proved ("" before pairing). */
struct link *link_new(struct transport *transport, const char *peer);
void link_close(struct link *link); /* NULL is fine */
void link_closep(struct link **link);
const char *link_peer(const struct link *link);
/* True once a send or receive failed, or was ended half-way by its cancel: the two sides no
 * longer agree where a message begins, every later call is ERR_NET. */
bool link_is_broken(const struct link *link);
/* Something was answered over it: the other side is, or was, really there. */
bool link_is_proven(const struct link *link);
/* Lower bounds for what is received (a peer that has proven nothing yet). */
void link_set_limits(struct link *link, size_t head_max, size_t payload_max);

/* What is sent from now on waits for this flow (link/shaper.h), which stays the caller's; NULL: for
 * none. */
struct shaper_flow;
void link_set_flow(struct link *link, struct shaper_flow *flow);

int link_send(struct link *link, const json_t *head, const void *payload, size_t len,
              struct cancel *cancel, struct err *err) MUST_CHECK;
int link_recv(struct link *link, struct link_msg *ret_msg, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Exchanges the buffer of the message received last for another one (NULL: none), which the link takes:
 * the payload stays where it is and is the caller's, to be freed with free(). */
void link_swap_payload(struct link *link, uint8_t **buf, size_t *cap);
/* The answer to the oldest link_send that has none yet: many may be sent before answers are
 * collected, which come in order. `ret_reply->head` is the result itself. An error answer becomes
 * our error with the peer's code, and "PEER: " before its text; the link stays usable. `ret_reply`
 * may be NULL. */
int link_reply(struct link *link, struct link_msg *ret_reply, struct cancel *cancel,
               struct err *err) MUST_CHECK;
/* Sends and waits for the answer. */
int link_call(struct link *link, const json_t *head, const void *payload, size_t len,
              struct link_msg *ret_reply, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Answers: a result (NULL: {}), or an error with its code and text. */
int link_answer(struct link *link, const json_t *result, const void *payload, size_t len,
                struct cancel *cancel, struct err *err) MUST_CHECK;
int link_answer_err(struct link *link, const struct err *failure, struct cancel *cancel,
                    struct err *err) MUST_CHECK;
