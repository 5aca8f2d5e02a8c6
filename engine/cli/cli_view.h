// SPDX-License-Identifier: Apache-2.0
/* A disk as it was at a point, or as a branch left it, for as long as a command looks at it. Its server is
 * a child of this program: the kernel ends it with us, however we end. What the daemon keeps for it (a
 * folder, a pin) goes when we say so, or when the daemon finds us gone. One thread. */
#pragma once

#include "base/proc.h"
#include "cli/cmd.h"

#include <signal.h>

struct cli_view {
    struct cli *cli;
    json_t *reply; /* what the daemon says of it; NULL: there is none */
    char *uri;     /* NBD, on a unix socket of this host */
    struct proc_id server;
    bool serving;
    int signal_fd; /* SIGINT, SIGTERM and SIGHUP are read there */
    sigset_t old_mask;
};

/* By NAME and --point, --branch, --disk; `ret_view` is to be closed whatever this returns. 0 and no
 * `uri`: somebody wants us to end. */
int cli_view_open(struct cli *cli, struct cli_view *ret_view, struct err *err) MUST_CHECK;
/* Waits for as long. 1: somebody wants us to end; -1: the server ended by itself, says why. */
int cli_view_wait(struct cli_view *view, int wait_ms, struct err *err) MUST_CHECK;
void cli_view_close(struct cli_view *view);
const char *cli_view_disk(const struct cli_view *view);
