// SPDX-License-Identifier: Apache-2.0
#include "qemu/standstill.h"

#include "base/fs.h"
#include "base/str.h"
#include "qemu/blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int lock(const char *path, int *ret_fd, struct cancel *cancel, struct err *err)
{
    if (fs_lock_wait(path, ret_fd, cancel, err) < 0)
        return err_wrap(err, "wait for another stop of this machine");
    return 0;
}

static int read_claim(int fd, const char *path, char claim[STANDSTILL_BY_BYTES], struct err *err)
{
    ssize_t len = pread(fd, claim, STANDSTILL_BY_BYTES - 1, 0);

    if (len < 0)
        return err_set(err, ERR_IO, errno, "read %s", path);
    claim[len] = '\0';
    return 0;
}

static int write_claim(int fd, const char *path, const char *claim, struct err *err)
{
    size_t len = strlen(claim);

    if (ftruncate(fd, 0) < 0 || pwrite(fd, claim, len, 0) != (ssize_t)len)
        return err_set(err, errno == ENOSPC ? ERR_SPACE : ERR_IO, errno, "write %s", path);
    return 0;
}

int standstill_begin(const char *path, const char *by, struct qmp *qmp, bool *ret_stopped,
                     struct cancel *cancel, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    char claim[STANDSTILL_BY_BYTES];
    char status[32];

    if (lock(path, &fd, cancel, err) < 0
        || blocks_machine_status(qmp, status, sizeof(status), cancel, err) < 0)
        return -1;
    *ret_stopped = false;
    if (!str_eq(status, "running")) {
        if (read_claim(fd, path, claim, err) < 0)
            return -1;
        return claim[0] ? err_set(err, ERR_BUSY, 0, "it stands still for %s", claim) : 0;
    }
    if (write_claim(fd, path, by, err) < 0)
        return -1;
    if (qmp_command(qmp, "stop", NULL, NULL, cancel, err) < 0)
        return -1; /* it may have been done: the claim stays, and what follows continues it */
    *ret_stopped = true;
    return 0;
}

int standstill_end(const char *path, const char *by, struct qmp *qmp, bool *ret_stood,
                   struct cancel *cancel, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    char claim[STANDSTILL_BY_BYTES];
    char status[32];

    if (lock(path, &fd, cancel, err) < 0 || read_claim(fd, path, claim, err) < 0)
        return -1;
    *ret_stood = false;
    if (!str_eq(claim, by))
        return 0;
    if (blocks_machine_status(qmp, status, sizeof(status), cancel, err) < 0)
        return -1;
    /* What stands still for another reason than a stop is not ours to continue. */
    bool stood = str_eq(status, "paused");
    if (stood && qmp_command(qmp, "cont", NULL, NULL, cancel, err) < 0)
        return -1;
    if (write_claim(fd, path, "", err) < 0)
        return -1;
    *ret_stood = stood;
    return 0;
}

int standstill_take_over(const char *path, int *ret_fd, struct cancel *cancel, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;

    if (lock(path, &fd, cancel, err) < 0 || write_claim(fd, path, "", err) < 0)
        return -1;
    *ret_fd = fd_take(&fd);
    return 0;
}

bool standstill_is_momentary(const char *path)
{
    CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char claim[STANDSTILL_BY_BYTES];

    return fd >= 0 && read_claim(fd, path, claim, NULL) == 0 && claim[0] != '\0';
}
