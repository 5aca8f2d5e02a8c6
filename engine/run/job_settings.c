// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "run/job.h"

#include <inttypes.h>

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
    parsed.recreated_ms = (int64_t)json_get_u64(settings, "recreated_ms", 0);
    *ret_settings = parsed;
    return 0;
}

int job_settings_change(char **settings, int64_t interval_ms, uint64_t keep, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;

    if (json_parse(*settings, strlen(*settings), &json, err) < 0)
        return err_wrap(err, "settings of a protection");
    (void)json_object_set_new(json, "interval_ms", json_integer((json_int_t)interval_ms));
    (void)json_object_set_new(json, "keep", json_integer((json_int_t)keep));
    free(*settings);
    *settings = json_text(json);
    return 0;
}

int job_settings_check(const json_t *in, struct err *err)
{
    uint64_t interval_ms = json_get_u64(in, "interval_ms", ESTATE_INTERVAL_MIN_MS);
    uint64_t keep = json_get_u64(in, "keep", 1);

    if (interval_ms < ESTATE_INTERVAL_MIN_MS || interval_ms > ESTATE_INTERVAL_MAX_MS)
        return err_set(err, ERR_INVALID, 0,
                       "interval_ms is %" PRIu64 "; hint: %d (1 s) to %d (24 h)", interval_ms,
                       ESTATE_INTERVAL_MIN_MS, ESTATE_INTERVAL_MAX_MS);
    if (keep < 1 || keep > ESTATE_KEEP_MAX)
        return err_set(err, ERR_INVALID, 0, "keep is %" PRIu64 "; hint: 1 to %d points", keep,
                       ESTATE_KEEP_MAX);
    return 0;
}
