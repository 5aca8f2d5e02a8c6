// SPDX-License-Identifier: Apache-2.0
#include "replica/generation.h"

#include "base/mem.h"
#include "replica/record.h"

#include <inttypes.h>

#define FILE_NAME "generation"

static int has_manifests(const char *dir, bool *ret_has, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "manifests");
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    if (fs_exists(path) && fs_list(path, &names, err) < 0)
        return -1;
    *ret_has = names.len > 0;
    return 0;
}

int generation_read(struct fs *fs, const char *dir, uint64_t *ret_gen, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    uint64_t gen = 0;
    bool has;

    if (!fs_exists(path)) {
        if (has_manifests(dir, &has, err) < 0)
            return -1;
        if (has)
            return err_set(err, ERR_CORRUPT, 0,
                           "%s: manifests, but no file \"" FILE_NAME "\"; hint: restore it from a"
                           " backup, or remove the replica and protect again",
                           dir);
    } else if (record_read(fs, path, &text, err) < 0) {
        return -1;
    } else if (!str_to_u64(str_text(&text), &gen)) {
        return err_set(err, ERR_CORRUPT, 0, "%s: not a number", path);
    }
    *ret_gen = gen;
    return 0;
}

int generation_raise(struct fs *fs, const char *dir, uint64_t expected, uint64_t wanted,
                     struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, FILE_NAME);
    CLEANUP(mem_freep) char *text = mem_printf("%" PRIu64 "\n", wanted);
    uint64_t gen;

    if (generation_read(fs, dir, &gen, err) < 0)
        return -1;
    if (gen != expected || wanted < expected)
        return err_set(err, ERR_FENCED, 0, "%s is at generation %" PRIu64 ", not %" PRIu64, dir,
                       gen, expected);
    if (record_write(fs, path, text, err) < 0)
        return err_wrap(err, "raise generation to %" PRIu64, wanted);
    return 0;
}
