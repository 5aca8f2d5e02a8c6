// SPDX-License-Identifier: Apache-2.0
/* The confined child as a program of its own, for tests; `muster lua-host` is the same. */
#include "host/host.h"

int main(int argc, char **argv)
{
    return host_main(argc, argv);
}
