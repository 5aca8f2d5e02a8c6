// SPDX-License-Identifier: Apache-2.0
#include "providers/qemu_instance.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void instance_node(const char *disk, char ret_node[INSTANCE_NODE_BYTES])
{
    (void)snprintf(ret_node, INSTANCE_NODE_BYTES, "disk-%.*s", INSTANCE_NODE_BYTES - 6, disk);
}

char *instance_path(const struct provider_instance *instance, const char *name)
{
    return path_join(instance->run_dir, name);
}

void instance_tap(const struct provider_instance *instance, size_t nic,
                  char ret_tap[INSTANCE_TAP_BYTES])
{
    struct sha256 sum;
    char hex[2 * SHA256_BYTES + 1];

    sha256_of(instance->run_dir, strlen(instance->run_dir), &sum);
    str_hex(sum.bytes, sizeof(sum.bytes), hex);
    (void)snprintf(ret_tap, INSTANCE_TAP_BYTES, "mt%.9s-%zu", hex, nic % 100);
}

const struct provider_served_disk *instance_served(const struct provider_instance *instance,
                                                   const char *disk)
{
    if (!instance->served)
        return NULL;
    VEC_FOREACH(served, instance->served)
        if (str_eq(served->name, disk))
            return served;
    return NULL;
}

pid_t instance_pid(const struct provider_instance *instance)
{
    CLEANUP(mem_freep) char *path = instance_path(instance, INSTANCE_PID_FILE);
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return 0;
    return lock.l_pid;
}

pid_t socket_pid(const char *path)
{
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
        return 0;
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0
        || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return 0;
    return peer.pid;
}
