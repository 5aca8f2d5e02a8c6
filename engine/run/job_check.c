// SPDX-License-Identifier: Apache-2.0
/* The disks of a machine that is to be protected, and the task that looks at what else it takes. */
#include "base/fs.h"
#include "base/mem.h"
#include "run/job_kind.h"
#include "run/prerequisites.h"

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

#define SECTOR 512

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

int job_check_prerequisites(struct job *job, const struct job_machine_list *machines,
                            const struct policy *policy, struct err *err)
{
    CLEANUP(prerequisites_done) struct prerequisites all = {0};
    const struct prerequisites_ask ask = {
        .world = job_world(job),
        .group = job->object,
        .machines = machines->at,
        .machine_count = machines->len,
        .policy = policy,
        .peer = json_get_str(job->args, "peer", ""),
        .networks = json_object_get(job->args, "networks"),
        .seeds = json_object_get(job->args, "seeds"),
        .force = json_get_bool(job->args, "force", false),
        .cancel = job->base.cancel,
    };

    if (prerequisites_look(&ask, &all, err) < 0)
        return -1;
    prerequisites_note(&all, job->progress.note, sizeof(job->progress.note));
    json_decref(job->progress.checks);
    job->progress.checks = json_incref(all.list);
    return prerequisites_judge(&all, job->object, err);
}

/* --- Alone ----------------------------------------------------------------------------------- */

struct jobs_check {
    const struct jobs_world *world;
    char group[NAME_MAX_BYTES];
    struct machine_names names;
    struct job_machine_list machines;
    struct job_settings settings;
    json_t *networks;
    json_t *seeds;
    char peer[NAME_MAX_BYTES];
    bool force;
};

int jobs_check_new(struct jobs *jobs, const struct job_protect *spec, struct jobs_check **ret_check,
                   struct err *err)
{
    struct state *state = jobs_world_of(jobs)->state;
    CLEANUP(job_machine_list_done) struct job_machine_list machines = VEC_EMPTY;
    char group[NAME_MAX_BYTES];
    struct machine_names names;

    if (job_networks_check(spec->networks, err) < 0
        || job_group_take(state, spec, group, &names, err) < 0
        || job_machine_list_load(state, &names, &machines, err) < 0
        || job_group_check_disks(&machines, &names, err) < 0)
        return -1;
    json_t *seeds = NULL;
    if (job_seeds_take(spec->seeds, &machines, &names, &seeds, err) < 0)
        return -1;
    struct jobs_check *check = mem_new(struct jobs_check);
    check->seeds = seeds;
    check->world = jobs_world_of(jobs);
    check->settings = spec->settings;
    check->force = spec->force;
    check->networks = spec->networks ? json_deep_copy(spec->networks) : NULL;
    (void)snprintf(check->peer, sizeof(check->peer), "%s", spec->peer);
    memcpy(check->group, group, sizeof(check->group));
    check->names = names;
    check->machines = machines;
    machines = (struct job_machine_list)VEC_EMPTY;
    *ret_check = check;
    return 0;
}

void jobs_check_free(struct jobs_check *check)
{
    if (!check)
        return;
    job_machine_list_done(&check->machines);
    json_decref(check->networks);
    json_decref(check->seeds);
    free(check);
}

int jobs_check_run(struct jobs_check *check, json_t **ret_json, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(prerequisites_done) struct prerequisites all = {0};
    const struct prerequisites_ask ask = {
        .world = check->world,
        .group = check->group,
        .machines = check->machines.at,
        .machine_count = check->machines.len,
        .policy = &check->settings.policy,
        .peer = check->peer,
        .networks = check->networks,
        .seeds = check->seeds,
        .force = check->force,
        .cancel = cancel,
    };

    if (prerequisites_look(&ask, &all, err) < 0)
        return -1;
    *ret_json = json_pack("{s:s, s:o, s:s, s:s, s:I, s:I, s:O}", "group", check->group, "machines",
                          machine_names_json(&check->names), "peer", check->peer, "policy",
                          check->settings.policy_name, "failed", (json_int_t)all.failed, "warnings",
                          (json_int_t)all.warnings, "checks", all.list);
    return 0;
}
