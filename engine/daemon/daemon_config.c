// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"
#include "base/mem.h"
#include "daemon/daemon_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MAX_BYTES 1048576

int daemon_config_load(const struct host *host, const char *path, struct config *ret_config,
                       struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    char dir[PATH_MAX];

    if (fs_read_file(fs_real(), path, CONFIG_MAX_BYTES, &text, err) < 0)
        return err_wrap(err, "config");
    if (host_run(host, HOST_DATA, path, str_text(&text), text.len, NULL, &json, NULL, err) < 0)
        return -1;
    if (!realpath(path, dir))
        return err_set(err, ERR_IO, errno, "%s", path);
    char *slash = strrchr(dir, '/');
    slash[slash == dir ? 1 : 0] = '\0';
    const struct config_origin origin = {
        .file = path,
        .base_dir = dir,
        .text = str_text(&text),
        .len = text.len,
        .line_of = host_line_of,
    };
    return config_from_json(json, &origin, ret_config, err);
}
