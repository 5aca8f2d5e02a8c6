// SPDX-License-Identifier: Apache-2.0
#include "replica/store_dir.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NUMBER_DIGITS 20U
#define TMP           ".tmp"

static const char *const files[] = {
    DIR_FILE_LOCK,    DIR_FILE_REPLICA,   DIR_FILE_GENERATION, DIR_FILE_MANIFESTS, DIR_FILE_PRUNED,
    DIR_FILE_APPLIED, DIR_FILE_PINS,      DIR_FILE_PROMOTION,  DIR_FILE_TIP,       CHAIN_FILE,
    DIR_FILE_DAMAGED, DIR_FILE_RETENTION, DIR_FILE_PROTECTION, DIR_FILE_VERIFIED,  DIR_FILE_SEEDS,
};
static const char *const disk_files[] = {DIR_HEAD, DIR_HEAD_LUKS, DIR_DIGESTS, DIR_SEGMENTS,
                                         DIR_UNDO};

char *dir_path(const struct store_dir *d, const char *name)
{
    return path_join(d->dir, name);
}

char *dir_manifest_path(const struct store_dir *d, uint64_t point)
{
    return mem_printf("%s/" DIR_FILE_MANIFESTS "/%020" PRIu64, d->dir, point);
}

char *dir_head_path(const struct dir_disk *disk)
{
    if (disk->elsewhere)
        return mem_strdup(disk->elsewhere);
    return path_join(disk->dir, disk->luks ? DIR_HEAD_LUKS : DIR_HEAD);
}

char *dir_undo_path(const struct dir_disk *disk, uint64_t point)
{
    return mem_printf("%s/" DIR_UNDO "/%020" PRIu64, disk->dir, point);
}

char *dir_segment_path(const struct dir_disk *disk, const struct uuid *uuid, bool complete)
{
    char hex[2 * UUID_BYTES + 1];

    str_hex(uuid->bytes, UUID_BYTES, hex);
    return mem_printf("%s/" DIR_SEGMENTS "/%s.%s", disk->dir, hex, complete ? "seg" : "part");
}

bool dir_number_of(const char *name, uint64_t *ret_number)
{
    return strlen(name) == NUMBER_DIGITS && strspn(name, "0123456789") == NUMBER_DIGITS
           && str_to_u64(name, ret_number);
}

static bool is_one_of(const char *name, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(name, words[i]))
            return true;
    return false;
}

bool dir_name_is_reserved(const char *disk)
{
    return is_one_of(disk, files, ARRAY_LEN(files));
}

/* `name` without ".tmp" into `ret_name`; false when there is no such ending. */
static bool is_temporary(const char *name, char ret_name[NAME_MAX_BYTES * 2])
{
    size_t len = strlen(name);

    if (len <= strlen(TMP) || len >= (size_t)NAME_MAX_BYTES * 2
        || !str_eq(name + len - strlen(TMP), TMP))
        return false;
    (void)snprintf(ret_name, (size_t)NAME_MAX_BYTES * 2, "%.*s", (int)(len - strlen(TMP)), name);
    return true;
}

static bool is_segment_name(const char *name)
{
    struct uuid uuid;
    char hex[2 * UUID_BYTES + 1];
    const char *dot = strchr(name, '.');

    if (!dot || (size_t)(dot - name) != sizeof(hex) - 1)
        return false;
    memcpy(hex, name, sizeof(hex) - 1);
    hex[sizeof(hex) - 1] = '\0';
    return str_unhex(hex, uuid.bytes, UUID_BYTES) && (str_eq(dot, ".seg") || str_eq(dot, ".part"));
}

static bool is_number_name(const char *name)
{
    uint64_t number;

    return dir_number_of(name, &number);
}

static bool is_root_name(const char *name)
{
    return is_one_of(name, files, ARRAY_LEN(files));
}

static bool is_disk_name(const char *name)
{
    return is_one_of(name, disk_files, ARRAY_LEN(disk_files));
}

/* All names in `path` pass `is_ours`, or would without ".tmp". A folder that is not there has no
 * foreign files. */
static int check_names(const char *path, bool (*is_ours)(const char *name), struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    char base[NAME_MAX_BYTES * 2];

    if (!fs_exists(path))
        return 0;
    if (fs_list(path, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        const char *name = names.at[i];
        if (!is_ours(name) && !(is_temporary(name, base) && is_ours(base)))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s/%s: not a file of this replica; hint: move it away (nothing was"
                           " changed)",
                           path, name);
    }
    return 0;
}

static int check_disk(const struct dir_disk *disk, struct err *err)
{
    CLEANUP(mem_freep) char *segments = path_join(disk->dir, DIR_SEGMENTS);
    CLEANUP(mem_freep) char *undo = path_join(disk->dir, DIR_UNDO);

    if (check_names(disk->dir, is_disk_name, err) < 0
        || check_names(segments, is_segment_name, err) < 0
        || check_names(undo, is_number_name, err) < 0)
        return -1;
    return 0;
}

static bool is_disk(const struct dir_disks *disks, const char *name)
{
    VEC_FOREACH(disk, disks)
        if (str_eq(disk->name, name))
            return true;
    return false;
}

int dir_check_files(const char *dir, const struct dir_disks *disks, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    CLEANUP(mem_freep) char *manifests = path_join(dir, DIR_FILE_MANIFESTS);
    char base[NAME_MAX_BYTES * 2];

    if (fs_list(dir, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        const char *name = names.at[i];
        /* "lost+found": the directory may be a file system of its own. */
        if (is_root_name(name) || is_disk(disks, name) || str_eq(name, "lost+found")
            || (is_temporary(name, base) && is_root_name(base)))
            continue;
        return err_set(
            err, ERR_CORRUPT, 0,
            "%s/%s: not a file of this replica; hint: move it away (nothing was changed)", dir,
            name);
    }
    if (check_names(manifests, is_number_name, err) < 0)
        return -1;
    VEC_FOREACH(disk, disks)
        if (check_disk(disk, err) < 0)
            return -1;
    return 0;
}

static int remove_temporary_in(struct fs *fs, const char *path, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    char base[NAME_MAX_BYTES * 2];

    if (!fs_exists(path))
        return 0;
    if (fs_list(path, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        /* Not the store's: it is replaced beside it. */
        if (!is_temporary(names.at[i], base) || str_eq(base, DIR_FILE_PROTECTION))
            continue;
        CLEANUP(mem_freep) char *file = path_join(path, names.at[i]);
        if (fs->unlink(fs, file, err) < 0)
            return -1;
    }
    return 0;
}

int dir_remove_temporary(struct store_dir *d, struct err *err)
{
    CLEANUP(mem_freep) char *manifests = dir_path(d, DIR_FILE_MANIFESTS);

    if (remove_temporary_in(d->fs, d->dir, err) < 0
        || remove_temporary_in(d->fs, manifests, err) < 0)
        return -1;
    VEC_FOREACH(disk, &d->disks) {
        CLEANUP(mem_freep) char *undo = path_join(disk->dir, DIR_UNDO);
        if (remove_temporary_in(d->fs, disk->dir, err) < 0
            || remove_temporary_in(d->fs, undo, err) < 0)
            return -1;
    }
    return 0;
}
