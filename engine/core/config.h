// SPDX-License-Identifier: Apache-2.0
/* A site's configuration, from the data-only Lua table in `config.lua` (as JSON with lines, see
 * host/host.h). Plain values. */
#pragma once

#include "base/json.h"

#include <stddef.h>
#include <stdint.h>

#define CONFIG_PATH_BYTES 512

struct config {
    char site[64];
    char dir[CONFIG_PATH_BYTES];    /* state: state.db, replicas/, sessions/, runs/, plans/ */
    char address[256];              /* where the daemon listens for its peers: "0.0.0.0:7700" */
    char advertise[256];            /* what peers connect to; default: address */
    char socket[CONFIG_PATH_BYTES]; /* the API's unix socket */
    char seeds[CONFIG_PATH_BYTES];  /* in its PEER/ alone that peer may name seeds */
    char qemu[CONFIG_PATH_BYTES];   /* "qemu-system-x86_64" */
    char plugin[CONFIG_PATH_BYTES]; /* nbdkit-muster-plugin.so; default: beside the binary */
    uint32_t data_threads;          /* 4 */
    json_t *networks;               /* recovery: network there -> network here; may be NULL */
    json_t *commands;               /* programs that plans may run here; may be NULL */
    char log_level[8];
};
void config_done(struct config *config);

/* Where the JSON was read from, for messages and relative paths. */
struct config_origin {
    const char *file;     /* as people name it */
    const char *base_dir; /* completes relative paths; absolute */
    const char *text;     /* the Lua text of `file`; may be NULL: messages without a line */
    size_t len;
    unsigned (*line_of)(const char *text, size_t len, const char *path); /* host_line_of */
};
/* ERR_INVALID: "FILE:LINE: FIELD: what", with the nearest word for a misspelt field. Defaults:
 * dir = base_dir, address "0.0.0.0:7700", advertise = address, socket "DIR/muster.sock",
 * seeds "DIR/seeds", qemu
 * "qemu-system-x86_64", plugin beside this binary, data_threads 4, log_level "info". */
int config_from_json(json_t *json, const struct config_origin *origin, struct config *ret_config,
                     struct err *err) MUST_CHECK;
/* All field names, for messages and help; NULL-terminated. */
const char *const *config_fields(void);
