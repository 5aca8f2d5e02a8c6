// SPDX-License-Identifier: Apache-2.0
/* A fake monitor and a connection to it, for a test's length (20 s at most). */
#pragma once

#include "qemu/qmp.h"
#include "support/qemu/fake_qmp.h"

struct fake_monitor {
    struct fake_qmp *fake;
    struct qmp *qmp;
    struct cancel *cancel;
};
/* In the folder `dir`, answering by `answer`. */
void fake_monitor_open(struct fake_monitor *monitor, const char *dir,
                       char *(*answer)(void *ctx, const json_t *command));
void fake_monitor_close(struct fake_monitor *monitor); /* also one that was never opened */
