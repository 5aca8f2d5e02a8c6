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

int job_check_prerequisites(struct job *job, const struct machine *machine,
                            const struct policy *policy, struct err *err)
{
    CLEANUP(prerequisites_done) struct prerequisites all = {0};
    const struct prerequisites_ask ask = {
        .world = job_world(job),
        .machine = machine,
        .policy = policy,
        .peer = json_get_str(job->args, "peer", ""),
        .networks = json_object_get(job->args, "networks"),
        .force = json_get_bool(job->args, "force", false),
        .cancel = job->base.cancel,
    };

    if (prerequisites_look(&ask, &all, err) < 0)
        return -1;
    prerequisites_note(&all, job->progress.note, sizeof(job->progress.note));
    json_decref(job->progress.checks);
    job->progress.checks = json_incref(all.list);
    return prerequisites_judge(&all, machine->name, err);
}

/* --- Alone ----------------------------------------------------------------------------------- */

struct jobs_check {
    const struct jobs_world *world;
    struct machine machine;
    struct job_settings settings;
    json_t *networks;
    char peer[NAME_MAX_BYTES];
    bool force;
};

int jobs_check_new(struct jobs *jobs, const struct job_protect *spec, struct jobs_check **ret_check,
                   struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine row = {0};
    CLEANUP(json_freep) json_t *definition = NULL;
    CLEANUP(machine_done) struct machine machine;

    machine_init(&machine);
    if (job_networks_check(spec->networks, err) < 0
        || state_machine_get(jobs_world_of(jobs)->state, spec->machine, &row, err) < 0
        || json_parse(row.definition, strlen(row.definition), &definition, err) < 0
        || machine_from_json(definition, &machine, err) < 0)
        return -1;
    struct jobs_check *check = mem_new(struct jobs_check);
    check->world = jobs_world_of(jobs);
    check->settings = spec->settings;
    check->force = spec->force;
    check->networks = spec->networks ? json_deep_copy(spec->networks) : NULL;
    (void)snprintf(check->peer, sizeof(check->peer), "%s", spec->peer);
    check->machine = machine;
    machine_init(&machine);
    *ret_check = check;
    return 0;
}

void jobs_check_free(struct jobs_check *check)
{
    if (!check)
        return;
    machine_done(&check->machine);
    json_decref(check->networks);
    free(check);
}

int jobs_check_run(struct jobs_check *check, json_t **ret_json, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(prerequisites_done) struct prerequisites all = {0};
    const struct prerequisites_ask ask = {
        .world = check->world,
        .machine = &check->machine,
        .policy = &check->settings.policy,
        .peer = check->peer,
        .networks = check->networks,
        .force = check->force,
        .cancel = cancel,
    };

    if (prerequisites_look(&ask, &all, err) < 0)
        return -1;
    *ret_json =
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:O}", "machine", check->machine.name, "peer",
                  check->peer, "policy", check->settings.policy_name, "failed",
                  (json_int_t)all.failed, "warnings", (json_int_t)all.warnings, "checks", all.list);
    return 0;
}
