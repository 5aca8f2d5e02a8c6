// SPDX-License-Identifier: Apache-2.0
#include "base/command.h"
#include "base/str.h"
#include "cli/cli.h"
#include "daemon/daemon.h"
#include "host/host.h"
#include "qemu/guardian.h"

int main(int argc, char **argv)
{
    const struct cli_hooks hooks = {.serve = daemon_serve, .lua_host = host_main};

    /* The runner of a plan's command outlives the daemon that started it. */
    if (argc > 1 && str_eq(argv[1], COMMAND_WORD))
        return command_main(argc, argv);
    /* So does whoever lets a frozen guest go. */
    if (argc > 1 && str_eq(argv[1], GUARDIAN_WORD))
        return guardian_main(argc, argv);
    return cli_main(argc, argv, &hooks);
}
