// SPDX-License-Identifier: Apache-2.0
/* The command line: `muster COMMAND ...`. Each command is a row in a file of its own (cmd_NAME.c);
 * help, man page and docs/cli.md are made from the rows. Commands speak to the daemon over the
 * site's unix socket; those that need none (site init, plan check) do their work themselves.
 * One thread. */
#pragma once

#include "base/err.h"

/* Where `site init` puts authority, certificate and keys (the `dir` of link/tls.h): this folder
 * below the state directory of config.lua. */
#define CLI_IDENTITY_DIR "identity"

/* What the binary can do besides; given by engine/daemon/main.c. */
struct cli_hooks {
    /* `muster serve`: runs until told to stop. `config_path` is the site's config.lua; one line
     * is written to `ready_fd` (-1: none), and it is closed, once the API and the port answer. */
    int (*serve)(const char *config_path, int ready_fd, struct err *err);
    /* `muster lua-host`: the child's main (host_main). */
    int (*lua_host)(int argc, char **argv);
};

/* Exit codes of every command. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_REFUSED = 4,     /* not allowed in the present state, denied, fenced, there already */
    CLI_UNREACHABLE = 5, /* the daemon or the peer */
    CLI_TIMEOUT = 6,
};
enum cli_exit cli_exit_of(enum err_code code);

/* main()'s whole work; returns the exit code. */
int cli_main(int argc, char **argv, const struct cli_hooks *hooks);
