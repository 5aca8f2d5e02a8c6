// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"
#include "base/mem.h"
#include "cli/cmd.h"

#include <fcntl.h>
#include <limits.h>

static int run_serve(struct cli *cli, struct err *err)
{
    CLEANUP(mem_freep) char *path = cli_config_path(cli);
    uint64_t ready_fd = UINT64_MAX;

    if (cli_number_option(cli, "ready-fd", 0, INT_MAX, &ready_fd, err) < 0)
        return -1;
    if (ready_fd != UINT64_MAX && fcntl((int)ready_fd, F_GETFD) < 0)
        return cli_usage(cli, err, "--ready-fd: %s is no open descriptor",
                         cli_option(cli, "ready-fd"));
    if (!fs_exists(path))
        return err_set(err, ERR_NOT_FOUND, 0,
                       "there is no site in %s (no config.lua); hint: `muster%s%s site init NAME` "
                       "makes one",
                       cli_config_dir(cli), cli->dir ? " --dir " : "", cli->dir ? cli->dir : "");
    return cli->hooks->serve(path, ready_fd == UINT64_MAX ? -1 : (int)ready_fd, err);
}

const struct cmd *cmds_serve(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "serve",
            .help = "Runs the site's daemon in the foreground; logs to stderr.",
            .about = "It may be stopped or killed at any time: machines, served disks, replication "
                     "and runs go on where they\nwere when it is started again.",
            .options = {{"ready-fd", "N",
                         "write a line to this descriptor once the daemon answers, and close it"}},
            .examples = {"serve", "--dir /srv/lyon serve"},
            .run = run_serve,
        },
        {0},
    };

    return cmds;
}
