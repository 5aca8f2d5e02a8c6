// SPDX-License-Identifier: Apache-2.0
#include "support/providers/served.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/guest.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define BOOT_MS 120000

/* The guest's disks become the content of the replica's first point. */
static void load_disk(struct served *s, const char *dir, size_t i)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(SERVED_SIZE, 1);
    CLEANUP(fd_close) int fd = -1;

    s->points[i] = mem_printf("%s/disk-%zu", dir, i);
    guest_make_disk(s->points[i], "raw", "16M");
    fd = open(s->points[i], O_RDONLY | O_CLOEXEC);
    EXPECT_OK(fs_real()->pread(fs_real(), fd, bytes, SERVED_SIZE, 0, &err));
    kit_write(&s->kit, i, 0, bytes, SERVED_SIZE);
    /* A disk of the kit may be longer than the guest's file system. */
    EXPECT_OK(fs_replace_file(fs_real(), s->points[i], s->kit.disks[i].bytes, s->kit.disks[i].size,
                              0600, &err));
}

static void make_replica(struct served *s, const char *dir)
{
    kit_init(&s->kit, dir, SERVED_SIZE, 7);
    EXPECT_OK(kit_open(&s->kit, fs_real(), &s->store, &err));
    EXPECT_OK(kit_copy(&s->kit, s->store, &err));
    for (size_t i = 0; i < KIT_DISKS; i++)
        load_disk(s, dir, i);
    EXPECT_OK(kit_point_applied(&s->kit, s->store, &err));
}

static void define(struct served *s, const char *dir, bool iothreads)
{
    CLEANUP(mem_freep) char *key = path_join(dir, "key");
    CLEANUP(json_freep) json_t *json = NULL;

    json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:s, s:s, s:b}, {s:s, s:s, s:s, "
                     "s:b}]}",
                     "name", "db1", "memory", "128MiB", "kernel", guest_kernel(), "initrd",
                     guest_initrd(), "cmdline", "console=ttyS0 quiet writer.slots=256", "agent", 1,
                     "disks", "name", s->kit.disks[0].name, "path", "/nonexistent/a", "format",
                     "raw", "iothread", iothreads, "name", s->kit.disks[1].name, "path",
                     "/nonexistent/b", "format", "raw", "iothread", iothreads);
    machine_init(&s->machine);
    EXPECT_OK(machine_from_json(json, &s->machine, &err));
    EXPECT_OK(fs_replace_file(fs_real(), key, s->kit.key.bytes, KEY_BYTES, 0600, &err));
    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct provider_served_disk *disk = provider_served_disks_push(&s->disks);
        (void)snprintf(disk->name, sizeof(disk->name), "%s", s->kit.disks[i].name);
        (void)snprintf(disk->replica_disk, sizeof(disk->replica_disk), "%s", disk->name);
        (void)snprintf(disk->overlay, sizeof(disk->overlay), "%s/overlay-%zu.qcow2", dir, i);
        (void)snprintf(disk->replica_dir, sizeof(disk->replica_dir), "%s", s->kit.dir);
        (void)snprintf(disk->key_path, sizeof(disk->key_path), "%s", key);
        disk->point = s->kit.point;
    }
}

int served_start(struct served *s, void **state, bool iothreads, const char *source_dir,
                 const char *binary_dir)
{
    CLEANUP(mem_freep) char *plugin = path_join(binary_dir, "nbdkit-muster-plugin.so");
    const struct provider_qemu_config config = {
        .qemu_path = "qemu-system-x86_64",
        .plugin_path = plugin,
        .clock = clock_real(),
        .reconnect_s = 5,
    };

    memset(s, 0, sizeof(*s));
    if (tmpdir_setup(state) < 0)
        return -1;
    guest_build(source_dir, binary_dir);
    s->cancel = cancel_new(NULL, NULL, 240000);
    s->run_dir = path_join(*state, "run");
    s->work_dir = path_join(*state, "work");
    s->console = path_join(s->run_dir, "console.log");
    make_replica(s, *state);
    define(s, *state, iothreads);
    s->instance = (struct provider_instance){.machine = &s->machine,
                                             .run_dir = s->run_dir,
                                             .netns = "",
                                             .isolated = true,
                                             .served = &s->disks};
    s->provider = provider_qemu_new(&config);
    return 0;
}

int served_stop(struct served *s, void **state)
{
    int rc = s->provider->stop(s->provider, &s->instance, NULL, &err);

    provider_free(s->provider);
    machine_done(&s->machine);
    provider_served_disks_free(&s->disks);
    store_closep(&s->store);
    kit_done(&s->kit);
    cancel_freep(&s->cancel);
    free(s->run_dir);
    free(s->work_dir);
    free(s->console);
    for (size_t i = 0; i < KIT_DISKS; i++)
        free(s->points[i]);
    return tmpdir_teardown(state) < 0 || rc < 0 ? -1 : 0;
}

uint64_t served_wait_acked(struct served *s, uint64_t more)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, s->cancel, BOOT_MS);
    uint64_t from = guest_read_acked(s->console);

    while (guest_read_acked(s->console) < from + more)
        EXPECT_OK(cancel_sleep(limit, 20, &err));
    return guest_read_acked(s->console);
}

enum instance_state served_state(struct served *s)
{
    enum instance_state state;

    EXPECT_OK(s->provider->observe(s->provider, &s->instance, &state, s->cancel, &err));
    return state;
}

void served_wait_state(struct served *s, enum instance_state wanted)
{
    while (served_state(s) != wanted)
        EXPECT_OK(cancel_sleep(s->cancel, 50, &err));
}

/* A leader that is dead already while other threads of it still hold its files. */
static bool has_threads(pid_t pid)
{
    CLEANUP(mem_freep) char *path = mem_printf("/proc/%d/task", (int)pid);
    CLEANUP(fs_names_free) struct fs_names tasks = {0};
    struct err gone = ERR_EMPTY;

    return fs_list(path, &tasks, &gone) == 0 && tasks.len > 1;
}

static void kill_by(struct served *s, char *taken_path)
{
    CLEANUP(mem_freep) char *path = taken_path;
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct proc_id id;
    uint64_t pid = 0;

    EXPECT_OK(fs_read_file(fs_real(), path, 64, &text, &err));
    assert_true(str_to_u64(str_text(&text), &pid));
    EXPECT_OK(proc_identify((pid_t)pid, &id, &err));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    while (proc_is_alive(&id) || has_threads(id.pid))
        EXPECT_OK(cancel_sleep(s->cancel, 2, &err));
}

void served_kill_server(struct served *s, size_t disk)
{
    kill_by(s, mem_printf("%s/nbd-%s.pid", s->run_dir, s->disks.at[disk].name));
}

void served_kill_machine(struct served *s)
{
    kill_by(s, path_join(s->run_dir, "qemu.pid"));
}

uint32_t served_repair(struct served *s)
{
    uint32_t repaired = 0;

    EXPECT_OK(s->provider->repair(s->provider, &s->instance, &repaired, s->cancel, &err));
    return repaired;
}

void served_repair_until_it_runs(struct served *s)
{
    int good = 0;

    while (good < 10) {
        (void)served_repair(s);
        EXPECT_OK(cancel_sleep(s->cancel, 200, &err));
        good = served_state(s) == INSTANCE_RUNNING ? good + 1 : 0;
    }
}

struct source *served_source(struct served *s, uint64_t generation)
{
    struct source *source = NULL;

    EXPECT_OK(s->provider->open_source(s->provider, &s->instance, "shop", generation, s->work_dir,
                                       &source, s->cancel, &err));
    return source;
}
