// SPDX-License-Identifier: Apache-2.0
/* Heads that are a machine's own disks. Others can write to them, so what tells that somebody did is
 * noted with each apply; and one day the machine takes them back. */
#include "replica/store_dir.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/nbd_server.h"

#include <inttypes.h>
#include <string.h>

int dir_own_stamp(struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks)
        if (disk->elsewhere && fs_stamp(d->fs, disk->elsewhere, &disk->stamp, err) < 0)
            return -1;
    return 0;
}

int dir_own_check(const struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks) {
        struct fs_stamp now;
        if (!disk->elsewhere || !disk->stamp.known)
            continue;
        if (!fs_exists(disk->elsewhere)) /* whoever opens it says so */
            continue;
        if (fs_stamp(d->fs, disk->elsewhere, &now, err) < 0)
            return -1;
        if (!now.known || fs_stamp_equal(&now, &disk->stamp))
            continue;
        return err_set(
            err, ERR_CORRUPT, 0,
            "%s: disk %s of %s was written to, or replaced, since point %" PRIu64
            " was applied to it (%s); hint: %s works on where it is, and what was"
            " written here stays until `muster verify %s` has compared all of it: what"
            " differs is then fetched again, and points come in again after `muster retry"
            " %s` where it works",
            disk->elsewhere, disk->name, d->group, d->applied,
            now.inode != disk->stamp.inode ? "another file"
            : now.size != disk->stamp.size ? "another size"
                                           : "newer times",
            d->group, d->group, d->group);
    }
    return 0;
}

int dir_own_now(const struct store_dir *d, uint64_t *ret_stamps, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    VEC_FOREACH(disk, &d->disks) {
        struct fs_stamp now;
        if (!disk->elsewhere)
            continue;
        if (fs_stamp(d->fs, disk->elsewhere, &now, err) < 0)
            return -1;
        if (now.known)
            str_addf(&text, "%" PRIu64 " %" PRIu64 " %" PRIi64 " %" PRIi64 "\n", now.inode,
                     now.size, now.mtime_ns, now.ctime_ns);
    }
    *ret_stamps = text.len ? UINT64_C(1) << 32 | crc32c(0, text.ptr, text.len) : 0;
    return 0;
}

int dir_own_take_over(struct store_dir *d, struct err *err)
{
    if (dir_own_stamp(d, err) < 0)
        return -1;
    return dir_applied_save(d, dir_point_find(d, d->applied), d->intent, err);
}

int store_dir_check_own(struct store *store, struct err *err)
{
    const struct store_dir *d = store_dir_of(store);

    if (d->released || dir_head_touched(d))
        return 0; /* the machine's again; or rolled forward first */
    VEC_FOREACH(disk, &d->disks)
        if (disk->elsewhere && !fs_exists(disk->elsewhere))
            return err_set(err, ERR_CORRUPT, 0,
                           "%s: disk %s of %s is gone; hint: bring this file back as"
                           " it was",
                           disk->elsewhere, disk->name, d->group);
    return dir_own_check(d, err);
}

int dir_own_held(const struct store_dir *d, struct err *err)
{
    if (!d->released)
        return 0;
    return err_set(
        err, ERR_STATE, 0,
        "%s: the machine has its disks back; hint: remove this replica before they become"
        " one again",
        d->group);
}

int store_dir_settle(struct store *store, struct cancel *cancel, struct err *err)
{
    struct store_dir *d = store_dir_of(store);
    uint64_t point;

    if (guard_fs_check(&d->guard, err) < 0)
        return -1;
    while (d->intent)
        if (store_dir_point_apply(store, &point, NULL, cancel, err) < 0)
            return -1;
    return 0;
}

/* For views, too: one may be in the middle of a read. */
int dir_own_admit(const struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks) {
        const struct nbd_server server = {d->run_dir, disk->elsewhere, disk->format, false, NULL};
        if (disk->elsewhere && d->run_dir && nbd_server_admit(&server, err) < 0)
            return -1;
    }
    return 0;
}

/* What is durable, but not applied, would be lost. */
static int apply_all(struct store *store, struct cancel *cancel, struct err *err)
{
    uint64_t point;

    do
        if (store_dir_point_apply(store, &point, NULL, cancel, err) < 0)
            return -1;
    while (point != 0);
    return 0;
}

static int end_servers(struct store_dir *d, struct err *err)
{
    VEC_FOREACH(disk, &d->disks) {
        const struct nbd_server server = {d->run_dir, disk->elsewhere, disk->format, false, NULL};
        if (!str_eq(disk->format, "raw") && d->run_dir && nbd_server_bar(&server, err) < 0)
            return -1;
    }
    return 0;
}

static int check_own(const struct store_dir *d, struct err *err)
{
    if (d->base != STORE_COPIED || d->disks.len == 0)
        return err_set(err, ERR_STATE, 0, "%s: there is no replica to take disks back from",
                       d->group);
    VEC_FOREACH(disk, &d->disks)
        if (!disk->elsewhere)
            return err_set(err, ERR_STATE, 0, "%s: disk %s is the replica's, not a machine's own",
                           d->group, disk->name);
    return 0;
}

int store_dir_release(struct store *store, struct cancel *cancel, struct err *err)
{
    struct store_dir *d = store_dir_of(store);

    if (check_own(d, err) < 0)
        return -1;
    if (!d->released) {
        if (apply_all(store, cancel, err) < 0)
            return err_wrap(err, "release the disks of %s", d->group);
        d->released = true;
        if (dir_state_save(d, STORE_COPIED, err) < 0) {
            d->released = false;
            return -1;
        }
        CRASH_POINT("replica.released");
    }
    /* A view must not show the machine's writes as an old point. */
    dir_chain_publish(d, 0, 0);
    dir_heads_close(d);
    return end_servers(d, err) < 0 ? -1 : dir_disks_open(d, err);
}
