// SPDX-License-Identifier: Apache-2.0
/* A host whose child is the program built for tests. */
#pragma once

#include "host/host.h"

static inline struct host host_for_test(void)
{
    struct host host = {.program = MUSTER_BINARY_DIR "/muster-lua-host-test"};

    host_limits_default(&host.limits);
    host.clock = clock_real();
    return host;
}
