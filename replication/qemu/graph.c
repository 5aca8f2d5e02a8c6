// SPDX-License-Identifier: Apache-2.0
#include "qemu/graph.h"

#include "base/fs.h"
#include "base/mem.h"

#include <string.h>

int graph_lock(const char *qmp_path, int *ret_fd, struct cancel *cancel, struct err *err)
{
    const char *slash = strrchr(qmp_path, '/');
    CLEANUP(mem_freep)
    char *path = mem_printf("%.*sgraph.lock", slash ? (int)(slash - qmp_path + 1) : 0, qmp_path);

    if (fs_lock_wait(path, ret_fd, cancel, err) < 0)
        return err_wrap(err, "wait for another change of this QEMU's block jobs");
    return 0;
}
