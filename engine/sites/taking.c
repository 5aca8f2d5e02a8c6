// SPDX-License-Identifier: Apache-2.0
#include "sites/taking.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/luks.h"
#include "base/mem.h"
#include "replica/inspect.h"
#include "sites/estate_base.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- The folder --------------------------------------------------------------------------- */

static bool is_same_place(const char *one, const char *two)
{
    CLEANUP(mem_freep) char *a = realpath(one, NULL);
    CLEANUP(mem_freep) char *b = realpath(two, NULL);

    return a && b && str_eq(a, b);
}

static int check_whole(const json_t *report, const char *dir, struct err *err)
{
    const json_t *faults = json_object_get(report, "faults");
    const char *first = json_string_value(json_array_get(faults, 0));

    if (json_get_bool(report, "in_use", false))
        return err_set(err, ERR_BUSY, 0,
                       "%s: a process has it open; hint: is it this site's own? `muster status` "
                       "lists those; else end the daemon that has it",
                       dir);
    if (first)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: %zu things of it are damaged or missing, the first: %.600s; hint: "
                       "`muster replica inspect %s` lists them",
                       dir, json_array_size(faults), first, dir);
    if (!str_eq(json_get_str(report, "state", ""), "ready"))
        return err_set(err, ERR_STATE, 0,
                       "%s: the copy of %s in it was never complete: it holds no point; hint: "
                       "protect the machine anew",
                       dir, json_get_str(report, "group", "?"));
    return 0;
}

static int check_place(const struct taking *taking, const char *group, const char *target,
                       struct err *err)
{
    if (is_same_place(taking->dir, target))
        return 0;
    if (fs_exists(target))
        return err_set(err, ERR_EXISTS, 0,
                       "%s is there already; hint: that is the place of the replica of %s; move "
                       "it away first",
                       target, group);
    if (!taking->move)
        return err_set(err, ERR_STATE, 0,
                       "%s: this site has the replica of %s at %s; hint: --move moves it there, or "
                       "copy it, `cp -a --sparse=always %s %s`, and adopt that",
                       taking->dir, group, target, taking->dir, target);
    return 0;
}

/* --- What this site knows of the group ------------------------------------------------------ */

static int check_generation(struct estate *estate, const json_t *report, struct err *err)
{
    const char *group = json_get_str(report, "group", "");
    uint64_t generation = json_get_u64(report, "generation", 0);
    uint64_t known = json_get_u64(json_object_get(report, "protection"), "generation", 0);
    uint64_t own = 0;
    struct estate_mark mark;

    if (estate_mark_read(estate, group, &mark, err) < 0)
        return -1;
    int base = estate_base_look(estate, group, &own, err);
    if (base < 0)
        return -1;
    if (base > 0)
        return err_set(err, ERR_STATE, 0,
                       "%s runs on its own disks at %s since generation %" PRIu64
                       ": this replica was given up; hint: protect it anew",
                       group, estate_site(estate), own);
    known = known > mark.generation ? known : mark.generation;
    known = known > mark.retired ? known : mark.retired;
    if (known > generation)
        return err_set(err, ERR_FENCED, 0,
                       "%s: it is at generation %" PRIu64 ", but %s is at %" PRIu64
                       " by now: an old copy would let an old machine write again; hint: adopt the "
                       "newest copy of it",
                       json_get_str(report, "dir", ""), generation, group, known);
    return 0;
}

/* --- Its keys ----------------------------------------------------------------------------- */

/* The files to read: those that were named, or this site's own. */
struct key_files {
    char *key;
    char *luks; /* NULL: it is not encrypted at rest */
};

static void key_files_done(struct key_files *files)
{
    free(files->key);
    free(files->luks);
}

static int choose(const char *named, char *own, const char *option, char **ret_path,
                  struct err *err)
{
    CLEANUP(mem_freep) char *place = own;
    const char *path = named ? named : place;

    if (!fs_exists(path))
        return err_set(err, ERR_NOT_FOUND, 0, "%s: there is no such key%s%s", path,
                       named ? "" : "; hint: name its file with ", named ? "" : option);
    *ret_path = mem_strdup(path);
    return 0;
}

static int choose_keys(struct estate *estate, const struct taking *taking, const char *group,
                       bool at_rest, struct key_files *files, struct err *err)
{
    if (choose(taking->key, estate_key_path(estate, group), "--key", &files->key, err) < 0)
        return -1;
    return at_rest ? choose(taking->luks_key, estate_luks_path(estate, group), "--luks-key",
                            &files->luks, err)
                   : 0;
}

static int check_keys(struct estate *estate, const struct taking *taking, const json_t *report,
                      struct err *err)
{
    const char *group = json_get_str(report, "group", "");
    bool at_rest = str_eq(json_get_str(report, "encryption", ""), "at-rest");
    CLEANUP(key_files_done) struct key_files files = {0};
    CLEANUP(key_wipe) struct key key = {{0}};

    if (choose_keys(estate, taking, group, at_rest, &files, err) < 0
        || estate_key_load(files.key, &key, err) < 0)
        return -1;
    if (replica_check_key(taking->dir, &key, files.luks, err) < 0)
        return err_wrap(err, "%s", files.key);
    return 0;
}

/* What is there already is the same, or is left alone. */
static int put_file(const char *from, const char *to, struct err *err)
{
    CLEANUP(str_free) struct str bytes = STR_EMPTY;
    CLEANUP(str_free) struct str there = STR_EMPTY;
    int rc = 0;

    if (is_same_place(from, to))
        return 0;
    if (fs_read_file(fs_real(), from, LUKS_SECRET_MAX, &bytes, err) < 0
        || (fs_exists(to) && fs_read_file(fs_real(), to, LUKS_SECRET_MAX, &there, err) < 0))
        return -1;
    if (!fs_exists(to))
        rc = fs_replace_file(fs_real(), to, bytes.ptr, bytes.len, 0600, err);
    else if (there.len != bytes.len || memcmp(there.ptr, bytes.ptr, bytes.len) != 0)
        rc = err_set(err, ERR_EXISTS, 0,
                     "%s is there already, and another key than %s; hint: move it away", to, from);
    if (there.ptr)
        explicit_bzero(there.ptr, there.cap);
    explicit_bzero(bytes.ptr, bytes.cap);
    return rc;
}

/* --- Both --------------------------------------------------------------------------------- */

int taking_look(struct estate *estate, const struct taking *taking, json_t **ret_report,
                struct err *err)
{
    CLEANUP(json_freep) json_t *report = NULL;

    if (taking->dir[0] != '/')
        return err_set(err, ERR_INVALID, 0, "%s: not an absolute path", taking->dir);
    if (replica_inspect(taking->dir, &report, err) < 0 || check_whole(report, taking->dir, err) < 0)
        return -1;
    const char *group = json_get_str(report, "group", "");
    CLEANUP(mem_freep) char *target = estate_replica_dir(estate, group);
    if (check_place(taking, group, target, err) < 0 || check_generation(estate, report, err) < 0
        || check_keys(estate, taking, report, err) < 0)
        return -1;
    *ret_report = TAKE(report);
    return 0;
}

static int move_to(const char *from, const char *target, struct err *err)
{
    CLEANUP(mem_freep) char *replicas = mem_strdup(target);
    struct err why = ERR_EMPTY;

    if (is_same_place(from, target))
        return 0;
    *strrchr(replicas, '/') = '\0';
    if (fs_make_dirs(fs_real(), replicas, 0700, err) < 0)
        return -1;
    if (fs_real()->rename(fs_real(), from, target, &why) < 0)
        return err_set(err, why.code, 0, "%.700s%s%s%s%s", why.text,
                       why.sys == EXDEV ? "; hint: it is on another file system: copy it, `cp -a "
                                          "--sparse=always "
                                        : "",
                       why.sys == EXDEV ? from : "", why.sys == EXDEV ? " " : "",
                       why.sys == EXDEV ? target : "");
    CRASH_POINT("taking.moved");
    return fs_real()->sync_dir(fs_real(), replicas, err);
}

int taking_do(struct estate *estate, const struct taking *taking, const char *group,
              struct err *err)
{
    CLEANUP(mem_freep) char *target = estate_replica_dir(estate, group);
    CLEANUP(mem_freep) char *key = estate_key_path(estate, group);
    CLEANUP(mem_freep) char *luks = estate_luks_path(estate, group);
    CLEANUP(mem_freep) char *keys = mem_strdup(key);

    *strrchr(keys, '/') = '\0';
    /* Keys first: cut in between, it is where it was, and is asked for again. */
    if (fs_make_dirs(fs_real(), keys, 0700, err) < 0
        || (taking->key && put_file(taking->key, key, err) < 0)
        || (taking->luks_key && put_file(taking->luks_key, luks, err) < 0))
        return -1;
    CRASH_POINT("taking.keys");
    return move_to(taking->dir, target, err);
}
