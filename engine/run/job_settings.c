// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "run/job.h"

static const char *const compression_names[] = {
    [COMPRESSION_NONE] = "none",
    [COMPRESSION_ZSTD] = "zstd",
    [COMPRESSION_LZ4] = "lz4",
};

const char *job_compression_name(enum compression compression)
{
    return compression_names[compression];
}

int job_compression_parse(const char *name, enum compression *ret_compression, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(compression_names); i++)
        if (str_eq(name, compression_names[i])) {
            *ret_compression = (enum compression)i;
            return 0;
        }
    return err_set(err, ERR_INVALID, 0, "compression \"%s\"; hint: none, zstd or lz4", name);
}

int job_settings_parse(const char *json, struct job_settings *ret_settings, struct err *err)
{
    CLEANUP(json_freep) json_t *settings = NULL;
    struct job_settings parsed;

    if (json_parse(json, strlen(json), &settings, err) < 0
        || job_compression_parse(json_get_str(settings, "compression", "zstd"), &parsed.compression,
                                 err)
               < 0)
        return err_wrap(err, "settings of a protection");
    parsed.interval_ms = (int64_t)json_get_u64(settings, "interval_ms", 15000);
    parsed.keep = json_get_u64(settings, "keep", 24);
    *ret_settings = parsed;
    return 0;
}
