// SPDX-License-Identifier: Apache-2.0
/* What must be so before a machine can be protected. Everything that is not is named at once, so
 * that nobody mends one thing after the other. */
#include "base/fs.h"
#include "base/mem.h"
#include "run/job_kind.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR           512
#define PEER_MS          15000
#define CLOCK_WARN_MS    5000
#define STAGING_MIN      16777216
#define STAGING_FRACTION 10

/* The start of a qcow2 header (QEMU docs/interop/qcow2.txt): magic, version, backing file offset
 * and size, cluster bits, virtual size; big endian. */
struct qcow2_start {
    uint8_t magic[4];
    uint8_t before_size[20];
    uint64_t size;
};

static int qcow2_size(int fd, const char *path, uint64_t *ret_size, struct err *err)
{
    struct qcow2_start start;

    if (fs_real()->pread(fs_real(), fd, &start, sizeof(start), 0, err) < 0)
        return err_wrap(err, "%s", path);
    if (memcmp(start.magic, "QFI\xfb", sizeof(start.magic)) != 0)
        return err_set(err, ERR_INVALID, 0, "%s is not a qcow2 image", path);
    *ret_size = be64toh(start.size);
    return 0;
}

static int raw_size(int fd, const char *path, uint64_t *ret_size, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s", path);
    if (S_ISREG(st.st_mode))
        *ret_size = (uint64_t)st.st_size;
    else if (!S_ISBLK(st.st_mode) || ioctl(fd, BLKGETSIZE64, ret_size) < 0)
        return err_set(err, ERR_INVALID, 0, "%s is neither a file nor a block device", path);
    return 0;
}

int job_disk_size(const char *path, const char *format, uint64_t *ret_size, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    uint64_t size = 0;

    if (!str_eq(format, "raw") && !str_eq(format, "qcow2"))
        return err_set(err, ERR_UNSUPPORTED, 0, "%s: format \"%s\"; hint: raw and qcow2 can be",
                       path, format);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
    int rc =
        str_eq(format, "raw") ? raw_size(fd, path, &size, err) : qcow2_size(fd, path, &size, err);
    if (rc < 0)
        return -1;
    if (size == 0 || size % SECTOR != 0)
        return err_set(err, ERR_INVALID, 0, "%s: %" PRIu64 " bytes, not a multiple of %d", path,
                       size, SECTOR);
    *ret_size = size;
    return 0;
}

struct check {
    struct job *job;
    struct str problems; /* one per line */
    size_t count;
    uint64_t bytes; /* of all disks */
};

static void PRINTF_LIKE(2, 3) problem(struct check *check, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    /* The provider and we look at the same disks: what both see is said once. */
    if (strstr(str_text(&check->problems), text))
        return;
    str_addf(&check->problems, "%s(%zu) %s", check->count ? "; " : "", check->count + 1, text);
    check->count++;
}

static void check_disks(struct check *check, const struct machine *machine)
{
    if (machine->disks.len == 0)
        problem(check, "%s has no disks", machine->name);
    VEC_FOREACH(disk, &machine->disks) {
        struct err err = ERR_EMPTY;
        uint64_t size = 0;
        if (job_disk_size(disk->path, disk->format, &size, &err) < 0)
            problem(check, "disk %s: %s", disk->name, err.text);
        check->bytes += size;
    }
}

/* A provider names its problems one per line. */
static void check_provider(struct check *check, const struct machine *machine)
{
    CLEANUP(str_free) struct str lines = STR_EMPTY;
    struct provider *provider = estate_provider(job_world(check->job)->estate);
    struct err err = ERR_EMPTY;
    char *save = NULL;

    if (provider->check(provider, machine, &lines, &err) < 0)
        problem(check, "%s", err.text);
    if (!lines.ptr)
        return;
    for (char *line = strtok_r(lines.ptr, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        problem(check, "%s", line);
}

static void check_staging(struct check *check)
{
    const char *dir = job_world(check->job)->dir;
    uint64_t need = check->bytes / STAGING_FRACTION;
    uint64_t have = 0;
    char a[32];
    char b[32];
    struct err err = ERR_EMPTY;

    if (need < STAGING_MIN)
        need = STAGING_MIN;
    if (fs_free_bytes(dir, &have, &err) < 0)
        problem(check, "%s", err.text);
    else if (have < need)
        problem(check, "%s has %s free, staging of changes needs %s", dir,
                str_bytes(have, a, sizeof(a)), str_bytes(need, b, sizeof(b)));
}

static void check_answer(struct check *check, const char *peer, const json_t *head,
                         int64_t asked_ms, int64_t answered_ms)
{
    uint64_t have = json_get_u64(head, "free_bytes", 0);
    const char *replica = json_get_str(head, "replica", "absent");
    int64_t theirs = (int64_t)json_get_u64(head, "wall_ms", 0);
    int64_t apart = theirs - (asked_ms + (answered_ms - asked_ms) / 2);
    char a[32];
    char b[32];

    if (str_eq(replica, "other"))
        problem(check, "%s does not accept it: %s", peer, json_get_str(head, "why", "no reason"));
    if (str_eq(replica, "absent") && have < check->bytes)
        problem(check, "%s has %s free, the disks need up to %s", peer,
                str_bytes(have, a, sizeof(a)), str_bytes(check->bytes, b, sizeof(b)));
    if (apart >= CLOCK_WARN_MS || apart <= -CLOCK_WARN_MS)
        (void)snprintf(check->job->progress.note, sizeof(check->job->progress.note),
                       "warning: the clock of %s is %s %s ours; hint: set both by NTP", peer,
                       str_duration(apart < 0 ? -apart : apart, a, sizeof(a)),
                       apart < 0 ? "behind" : "ahead of");
}

static void check_peer(struct check *check, const char *peer, const char *group)
{
    const struct jobs_world *world = job_world(check->job);
    struct cancel *cancel = cancel_new(world->clock, check->job->base.cancel, PEER_MS);
    CLEANUP(json_freep)
    json_t *ask = json_pack("{s:s, s:s}", "op", "replica.check", "group", group);
    struct link *link = NULL;
    struct link_msg answer = {0};
    struct err err = ERR_EMPTY;

    if (world->open_link(world->ctx, peer, &link, cancel, &err) < 0) {
        problem(check, "%s", err.text);
    } else {
        int64_t asked = world->clock->wall_ms(world->clock);
        if (link_call(link, ask, NULL, 0, &answer, cancel, &err) < 0)
            problem(check, "%s", err.text);
        else
            check_answer(check, peer, answer.head, asked, world->clock->wall_ms(world->clock));
        link_msg_done(&answer);
    }
    link_close(link);
    cancel_free(cancel);
}

int job_check_prerequisites(struct job *job, const struct machine *machine, struct err *err)
{
    CLEANUP(str_free) struct str texts = STR_EMPTY;
    struct check check = {.job = job};

    check_disks(&check, machine);
    check_provider(&check, machine);
    check_staging(&check);
    check_peer(&check, json_get_str(job->args, "peer", ""), machine->name);
    texts = check.problems; /* for its cleanup */
    if (cancel_check(job->base.cancel, err) < 0)
        return -1;
    if (check.count == 0)
        return 0;
    return err_set(err, ERR_STATE, 0, "%zu prerequisite%s of protecting %s %s not met: %s",
                   check.count, check.count == 1 ? "" : "s", machine->name,
                   check.count == 1 ? "is" : "are", str_text(&texts));
}
