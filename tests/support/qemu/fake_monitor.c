// SPDX-License-Identifier: Apache-2.0
#include "support/qemu/fake_monitor.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"

void fake_monitor_open(struct fake_monitor *monitor, const char *dir,
                       char *(*answer)(void *ctx, const json_t *command))
{
    CLEANUP(mem_freep) char *path = path_join(dir, "qmp");
    const struct fake_qmp_config config = {.path = path, .answer = answer};

    monitor->cancel = cancel_new(NULL, NULL, 20000);
    monitor->fake = fake_qmp_new(&config);
    EXPECT_OK(qmp_open(path, clock_real(), &monitor->qmp, monitor->cancel, &err));
}

void fake_monitor_close(struct fake_monitor *monitor)
{
    qmp_closep(&monitor->qmp);
    if (monitor->fake)
        fake_qmp_free(monitor->fake);
    monitor->fake = NULL;
    cancel_freep(&monitor->cancel);
}
