// SPDX-License-Identifier: Apache-2.0
/* The wire of a duo: what the session sends waits in memory; when the session waits for an answer,
 * the other end serves one request after the other. */
#pragma once

#include "support/sync/duo.h"

/* For session_config: `ctx` is the duo. */
int duo_wire_open(void *ctx, struct link **ret_link, struct cancel *cancel, struct err *err);
/* The wire that is there breaks: what is on the way on it may be heard late. */
void duo_wire_break(struct duo *duo);
