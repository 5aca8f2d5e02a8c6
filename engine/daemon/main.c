// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"
#include "daemon/daemon.h"
#include "host/host.h"

int main(int argc, char **argv)
{
    const struct cli_hooks hooks = {.serve = daemon_serve, .lua_host = host_main};

    return cli_main(argc, argv, &hooks);
}
