// SPDX-License-Identifier: Apache-2.0
/* Several machines behind one source: each call goes to the machine that has the disk. */
#include "block/source_group.h"

#include "base/fs.h"
#include "base/mem.h"
#include "block/source_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int find(struct source_group *group, const char *name, struct group_member **ret_member,
                const char **ret_inner, struct err *err)
{
    for (size_t i = 0; i < group->disk_count; i++)
        if (str_eq(group->disks[i].name, name)) {
            *ret_member = &group->members[group->disks[i].member];
            *ret_inner = group->disks[i].inner;
            return 0;
        }
    return err_set(err, ERR_NOT_FOUND, 0, "group %s: no disk %s", group->group, name);
}

/* --- Looking ------------------------------------------------------------------------------- */

static int name_disk(const struct group_member *member, const struct source_disk *disk,
                     char ret_name[SOURCE_NAME_BYTES], struct err *err)
{
    int len = snprintf(ret_name, SOURCE_NAME_BYTES, "%s.%s", member->name, disk->name);

    if (len < 0 || len >= SOURCE_NAME_BYTES)
        return err_set(err, ERR_INVALID, 0, "disk %s of %s: both names together are too long",
                       disk->name, member->name);
    return 0;
}

static int group_disks(struct source *source, struct source_disks *ret_disks, struct cancel *cancel,
                       struct err *err)
{
    struct source_group *group = source_group(source);

    source_disks_clear(ret_disks);
    for (size_t i = 0; i < group->member_count; i++) {
        CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;
        struct group_member *member = &group->members[i];

        if (member->source->ops->disks(member->source, &disks, cancel, err) < 0)
            return -1;
        VEC_FOREACH(disk, &disks) {
            struct source_disk *to = source_disks_push(ret_disks);
            *to = *disk;
            if (name_disk(member, disk, to->name, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* One serial for all: a machine that has another one lost its tracking, and with it the group. What is
 * frozen in some only is the rest of an `end` that was cut: it is asked for again. */
static void join(struct source_state *all, const struct group_member *member,
                 const struct source_state *one, bool first)
{
    all->running = all->running || one->running;
    all->quiet = (first || all->quiet) && one->quiet;
    if (first)
        all->open = one->open;
    if (all->note[0] == '\0' && (one->note[0] || one->open != all->open))
        (void)snprintf(all->note, sizeof(all->note), "%.40s: %.100s", member->name,
                       one->note[0] ? one->note : "its tracking is not that of the group");
    if (one->open != all->open)
        all->open = 0;
    if (one->frozen > all->frozen)
        all->frozen = one->frozen;
}

static int group_inspect(struct source *source, struct source_state *ret_state,
                         struct cancel *cancel, struct err *err)
{
    struct source_group *group = source_group(source);
    struct source_state all = {0};

    for (size_t i = 0; i < group->member_count; i++) {
        struct group_member *member = &group->members[i];
        struct source_state one = {0};

        if (member->source->ops->inspect(member->source, &one, cancel, err) < 0)
            return -1;
        member->open = one.open;
        member->frozen = one.frozen;
        join(&all, member, &one, i == 0);
    }
    if (all.open == 0)
        all.frozen = 0;
    *ret_state = all;
    return 0;
}

static int group_pending(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                         struct err *err)
{
    struct source_group *group = source_group(source);
    uint64_t all = 0;

    for (size_t i = 0; i < group->member_count; i++) {
        struct source *member = group->members[i].source;
        uint64_t bytes = 0;

        if (member->ops->pending(member, &bytes, cancel, err) < 0)
            return -1;
        all += bytes;
    }
    *ret_bytes = all;
    return 0;
}

/* One that knows only the sum says it of its first disk: no bound is missed for that. */
static int group_pending_disks(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                               struct err *err)
{
    struct source_group *group = source_group(source);
    size_t at = 0;

    for (size_t i = 0; i < group->member_count; i++) {
        struct source *member = group->members[i].source;
        size_t from = at;

        for (; at < group->disk_count && group->disks[at].member == i; at++)
            ret_bytes[at] = 0;
        if ((member->ops->pending_disks
                 ? member->ops->pending_disks(member, &ret_bytes[from], cancel, err)
                 : member->ops->pending(member, &ret_bytes[from], cancel, err))
            < 0)
            return -1;
    }
    return 0;
}

/* --- Tracking ------------------------------------------------------------------------------ */

static int group_forget(struct source *source, struct cancel *cancel, struct err *err)
{
    struct source_group *group = source_group(source);
    int rc = 0;

    for (size_t i = 0; i < group->member_count; i++) {
        struct source *member = group->members[i].source;
        struct err ignored = ERR_EMPTY;

        if (member->ops->forget(member, cancel, rc == 0 ? err : &ignored) < 0)
            rc = -1;
    }
    return rc;
}

static int group_track(struct source *source, uint64_t serial, struct cancel *cancel,
                       struct err *err)
{
    struct source_group *group = source_group(source);

    for (size_t i = 0; i < group->member_count; i++) {
        struct source *member = group->members[i].source;

        if (member->ops->track(member, serial, cancel, err) < 0)
            return -1;
    }
    return 0;
}

static int track_member_from(struct source_group *group, size_t member, uint64_t serial,
                             const struct source_marks *marks, size_t count, struct cancel *cancel,
                             struct err *err)
{
    CLEANUP(mem_freep) struct source_marks *own = mem_new_array(struct source_marks, count + 1);
    struct group_member *owner;
    size_t own_count = 0;

    for (size_t i = 0; i < count; i++) {
        struct source_marks mark = marks[i];

        if (find(group, marks[i].disk, &owner, &mark.disk, err) < 0)
            return -1;
        if (owner == &group->members[member])
            own[own_count++] = mark;
    }
    return source_track_from(group->members[member].source, serial, own, own_count, cancel, err);
}

/* All or none: a map that stands alone would be taken for the group's. */
static int group_track_from(struct source *source, uint64_t serial,
                            const struct source_marks *marks, size_t count, struct cancel *cancel,
                            struct err *err)
{
    struct source_group *group = source_group(source);
    struct err ignored = ERR_EMPTY;

    for (size_t i = 0; i < group->member_count; i++)
        if (track_member_from(group, i, serial, marks, count, cancel, err) < 0) {
            if (group_forget(source, cancel, &ignored) < 0)
                err_clear(&ignored); /* then the serials differ */
            return -1;
        }
    return 0;
}

/* --- Scanning and reading ------------------------------------------------------------------ */

static void group_scan_end(struct source *source)
{
    struct group_member *member = TAKE(source_group(source)->scanning);

    if (member)
        member->source->ops->scan_end(member->source);
}

static int group_scan_begin(struct source *source, const char *disk, uint64_t from,
                            bool *ret_ordered, struct cancel *cancel, struct err *err)
{
    struct source_group *group = source_group(source);
    struct group_member *member;
    const char *inner;

    group_scan_end(source);
    if (find(group, disk, &member, &inner, err) < 0
        || member->source->ops->scan_begin(member->source, inner, from, ret_ordered, cancel, err)
               < 0)
        return -1;
    group->scanning = member;
    return 0;
}

static int group_scan_next(struct source *source, struct source_piece *ret_piece,
                           struct cancel *cancel, struct err *err)
{
    const struct group_member *member = source_group(source)->scanning;

    if (!member)
        return err_set(err, ERR_STATE, 0, "group %s: no scan was begun",
                       source_group(source)->group);
    return member->source->ops->scan_next(member->source, ret_piece, cancel, err);
}

static int group_scan_open(struct source *source, const char *disk, uint64_t from,
                           struct scan **ret_scan, struct cancel *cancel, struct err *err)
{
    struct group_member *member;
    const char *inner;

    *ret_scan = NULL;
    if (find(source_group(source), disk, &member, &inner, err) < 0)
        return -1;
    const struct source_ops *ops = member->source->ops;
    return ops->scan_open ? ops->scan_open(member->source, inner, from, ret_scan, cancel, err) : 0;
}

static int group_changes(struct source *source, const char *disk,
                         struct source_extents *ret_extents, struct cancel *cancel, struct err *err)
{
    struct group_member *member;
    const char *inner;

    if (find(source_group(source), disk, &member, &inner, err) < 0)
        return -1;
    return member->source->ops->changes(member->source, inner, ret_extents, cancel, err);
}

static int group_read(struct source *source, const char *disk, uint64_t off, void *buf, size_t len,
                      struct cancel *cancel, struct err *err)
{
    struct group_member *member;
    const char *inner;

    if (find(source_group(source), disk, &member, &inner, err) < 0)
        return -1;
    return member->source->ops->read(member->source, inner, off, buf, len, cancel, err);
}

static int group_end(struct source *source, bool delivered, struct cancel *cancel, struct err *err)
{
    struct source_group *group = source_group(source);

    for (size_t i = 0; i < group->member_count; i++) {
        struct source *member = group->members[i].source;

        if (member->ops->end(member, delivered, cancel, err) < 0)
            return -1;
    }
    return 0;
}

/* --- Opening ------------------------------------------------------------------------------- */

static void group_close(struct source *source)
{
    struct source_group *group = source_group(source);

    group_scan_end(source);
    for (size_t i = 0; i < group->member_count; i++) {
        source_close(group->members[i].source);
        free(group->members[i].name);
        free(group->members[i].spare_qmp);
    }
    free(group->members);
    free(group->disks);
    free(group->group);
    free(group->work_dir);
    free(group->guardian_path);
    free(group);
}

static const struct source_ops group_ops = {
    .close = group_close,
    .disks = group_disks,
    .inspect = group_inspect,
    .pending = group_pending,
    .track = group_track,
    .scan_begin = group_scan_begin,
    .scan_next = group_scan_next,
    .scan_end = group_scan_end,
    .cut = source_group_cut,
    .changes = group_changes,
    .read = group_read,
    .end = group_end,
    .forget = group_forget,
    .track_from = group_track_from,
    .cut_application = source_group_cut_application,
    .pending_disks = group_pending_disks,
    .scan_open = group_scan_open,
};

static bool is_qemu(const struct source *source)
{
    return source->ops == &source_qemu_ops || source->ops == &source_qemu_lent_ops;
}

static void add_member(struct source_group *group, const struct source_group_machine *from)
{
    struct group_member *member = &group->members[group->member_count++];

    member->name = mem_strdup(from->name);
    member->source = from->source;
    source_file_join(from->source);
    member->qemu = is_qemu(from->source) ? source_qemu(from->source) : NULL;
    member->spare_qmp = from->spare_qmp ? mem_strdup(from->spare_qmp) : NULL;
}

static int learn_member(struct source_group *group, size_t member, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;
    struct source *source = group->members[member].source;
    struct group_member *other;
    const char *inner;

    if (source->ops->disks(source, &disks, cancel, err) < 0)
        return -1;
    group->disks = mem_grow(group->disks, group->disk_count + disks.len + 1, sizeof(*group->disks));
    VEC_FOREACH(disk, &disks) {
        struct group_disk *to = &group->disks[group->disk_count];
        struct err none = ERR_EMPTY;

        to->member = member;
        memcpy(to->inner, disk->name, sizeof(to->inner));
        if (name_disk(&group->members[member], disk, to->name, err) < 0)
            return -1;
        if (find(group, to->name, &other, &inner, &none) == 0)
            return err_set(err, ERR_INVALID, 0,
                           "group %s: %s and %s have a disk %s each; hint: rename one of the "
                           "machines",
                           group->group, other->name, group->members[member].name, to->name);
        group->disk_count++;
    }
    return 0;
}

int source_group_open(const struct source_group_config *config, struct source **ret_source,
                      struct cancel *cancel, struct err *err)
{
    struct source_group *group = mem_new(struct source_group);
    CLEANUP(source_closep) struct source *source = &group->base;

    group->base.ops = &group_ops;
    group->group = mem_strdup(config->group);
    group->work_dir = mem_strdup(config->work_dir);
    group->guardian_path = config->guardian_path ? mem_strdup(config->guardian_path) : NULL;
    group->clock = config->clock ? config->clock : clock_real();
    group->members = mem_new_array(struct group_member, config->count + 1);
    for (size_t i = 0; i < config->count; i++)
        add_member(group, &config->machines[i]);
    if (fs_make_dirs(fs_real(), config->work_dir, 0700, err) < 0)
        return -1;
    for (size_t i = 0; i < group->member_count; i++)
        if (learn_member(group, i, cancel, err) < 0)
            return -1;
    if (source_group_mend(group, cancel, err) < 0)
        return err_wrap(err, "group %s", group->group);
    *ret_source = TAKE(source);
    return 0;
}
