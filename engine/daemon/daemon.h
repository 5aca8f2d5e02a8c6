// SPDX-License-Identifier: Apache-2.0
/* `muster serve`: one site's daemon. It wires the rooms together and holds no logic of its own. It
 * may be killed at any time: machines, served disks, sessions and runs go on where they were when
 * it is started again. */
#pragma once

#include "base/err.h"

/* Serves the site of `config_path` until SIGTERM or SIGINT; 0 then. Once the port and the API
 * answer, one line is written to `ready_fd` (-1: none), which is closed. ERR_BUSY: another daemon has
 * the site's directory (with its pid). */
int daemon_serve(const char *config_path, int ready_fd, struct err *err) MUST_CHECK;
/* The same over machines that another provider runs; it is borrowed. */
struct provider;
int daemon_serve_machines(struct provider *provider, const char *config_path, int ready_fd,
                          struct err *err) MUST_CHECK;
