// SPDX-License-Identifier: Apache-2.0
/* Lines over a unix stream socket, with a cancel: what the monitor and the guest agent have in
 * common. One thread at a time. Once the other end has closed or the stream is broken, every call
 * says ERR_NET. */
#pragma once

#include "base/cancel.h"

#include <stdbool.h>
#include <stddef.h>

/* The longest line taken; a longer one is ERR_PROTOCOL. */
#define LINE_MAX_BYTES (16U << 20)

struct line_socket;
/* ERR_NET: nothing listens there. ERR_INVALID: the path is too long for a socket. */
int line_connect(const char *path, struct line_socket **ret_socket, struct cancel *cancel,
                 struct err *err) MUST_CHECK;
void line_close(struct line_socket *socket); /* NULL is fine */
int line_fd(const struct line_socket *socket);

/* Sends all bytes; `fd` >= 0 travels with the first of them. A cancel in the middle breaks the
 * stream: what follows would not be understood. */
int line_send(struct line_socket *socket, const char *bytes, size_t len, int fd,
              struct cancel *cancel, struct err *err) MUST_CHECK;
/* The next line without its end, NUL-terminated, valid until the next call. Not `wait`: NULL when
 * no whole line is there. */
int line_receive(struct line_socket *socket, bool wait, const char **ret_line, size_t *ret_len,
                 struct cancel *cancel, struct err *err) MUST_CHECK;
/* Nothing more is taken from or given to the other end. */
void line_break(struct line_socket *socket);
