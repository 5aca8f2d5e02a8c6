// SPDX-License-Identifier: Apache-2.0
/* Between a guardian and whoever asked for it: one JSON object per packet, for guardian*.c. */
#pragma once

#include "base/cancel.h"
#include "base/json.h"

/* A pair of sockets that pass packets. */
int guardian_pair(int ret_fds[2], struct err *err) MUST_CHECK;
/* Whoever is not there any more is noticed when something is received. */
void guardian_send(int fd, const json_t *message);
/* ERR_NET: the other end is gone. */
int guardian_receive(int fd, json_t **ret_message, struct cancel *cancel, struct err *err)
    MUST_CHECK;
