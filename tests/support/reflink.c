// SPDX-License-Identifier: Apache-2.0
#include "support/reflink.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define IMAGE_BYTES (400 << 20)

bool reflink_mount(const char *root, char **ret_dir)
{
    CLEANUP(mem_freep) char *image = path_join(root, "xfs");
    CLEANUP(mem_freep) char *dir = path_join(root, "mount");
    const char *const mkfs[] = {"mkfs.xfs", "-q", "-m", "reflink=1", image, NULL};
    const char *const mount_it[] = {"mount", "-o", "loop", image, dir, NULL};
    CLEANUP(fd_close) int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (geteuid() != 0 || fd < 0 || ftruncate(fd, IMAGE_BYTES) < 0 || mkdir(dir, 0700) < 0
        || proc_must(mkfs, NULL, &err) < 0 || proc_must(mount_it, NULL, &err) < 0) {
        print_message("skipped: no XFS with reflinks can be mounted here (%s)\n", err.text);
        err_clear(&err);
        return false;
    }
    *ret_dir = TAKE(dir);
    return true;
}

void reflink_unmount(char **dir)
{
    if (*dir)
        assert_int_equal(umount2(*dir, MNT_DETACH), 0);
    free(TAKE(*dir));
}
