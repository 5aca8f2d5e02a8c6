// SPDX-License-Identifier: Apache-2.0
/* Asking the site's daemon: HTTP over its unix socket. One thread; blocks. */
#pragma once

#include "cli/cmd.h"
#include "core/config.h"

/* `body` is stolen and may be NULL. The daemon's errors come back with their code, text and hint.
 * ERR_NET: no daemon answers (says on which socket, and how to start it); a GET gives up after
 * cli->answer_ms, a change takes as long as it takes. */
int client_call(struct cli *cli, const char *method, const char *path, json_t *body,
                json_t **ret_reply, struct err *err) MUST_CHECK;
int client_get(struct cli *cli, json_t **ret_reply, struct err *err, const char *fmt, ...)
    MUST_CHECK PRINTF_LIKE(4, 5);
void client_close(struct cli *cli);

/* The site's config.lua. */
int client_config(const struct cli *cli, struct config *ret_config, struct err *err) MUST_CHECK;
/* The host that runs this program's Lua. */
struct host;
void client_host(struct host *ret_host);
