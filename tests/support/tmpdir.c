// SPDX-License-Identifier: Apache-2.0
#include "support/tmpdir.h"

#include "base/fs.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int tmpdir_setup(void **state)
{
    const char *base = getenv("TMPDIR");
    char *dir = mem_printf("%s/muster-test-XXXXXX", base ? base : "/tmp");

    if (!mkdtemp(dir)) {
        perror(dir);
        free(dir);
        return -1;
    }
    *state = dir;
    return 0;
}

int tmpdir_teardown(void **state)
{
    struct err err = ERR_EMPTY;
    int rc = fs_remove_tree(fs_real(), *state, &err);

    if (rc < 0)
        (void)fprintf(stderr, "%s\n", err.text);
    free(*state);
    return rc;
}
