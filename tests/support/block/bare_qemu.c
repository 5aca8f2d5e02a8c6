// SPDX-License-Identifier: Apache-2.0
#include "support/block/bare_qemu.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"

#include <inttypes.h>
#include <stdlib.h>

#define START_MS 60000

static void wait_for_monitor(struct bare_qemu *qemu, const char *path, const char *log)
{
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(NULL, NULL, START_MS);

    while (qmp_open(path, clock_real(), &qemu->qmp, cancel, &err) < 0) {
        if (!proc_is_alive(&qemu->id)) {
            CLEANUP(str_free) struct str text = STR_EMPTY;
            (void)!fs_read_file(fs_real(), log, 65536, &text, &err);
            fail_msg("QEMU ended: %s", str_text(&text));
        }
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
    }
}

void bare_qemu_start(struct bare_qemu *qemu, const char *dir, const char *const *disks)
{
    char *own = path_join(dir, "own.qmp");
    char *log = path_join(dir, "qemu.log");
    const char *argv[16 + 2 * BARE_QEMU_DISKS] = {"qemu-system-x86_64", "-machine", "none",
                                                  "-nodefaults",        "-display", "none"};
    char *args[3 + BARE_QEMU_DISKS];
    size_t argc = 6, made = 0;
    struct proc_spec spec = {.argv = argv, .log_path = log};

    qemu->path = path_join(dir, "qmp");
    qemu->spare = path_join(dir, "spare.qmp");
    args[made++] = mem_printf("unix:%s,server=on,wait=off", qemu->path);
    args[made++] = mem_printf("unix:%s,server=on,wait=off", own);
    argv[argc++] = "-qmp";
    argv[argc++] = args[0];
    argv[argc++] = "-qmp";
    argv[argc++] = args[1];
    args[made++] = mem_printf("unix:%s,server=on,wait=off", qemu->spare);
    argv[argc++] = "-qmp";
    argv[argc++] = args[2];
    for (size_t i = 0; disks[i]; i++) {
        const char *colon = strchr(disks[i], ':');

        assert_true(i < BARE_QEMU_DISKS && colon);
        args[made++] = mem_printf("driver=%.*s,node-name=d%zu,file.driver=file,file.filename=%s",
                                  (int)(colon - disks[i]), disks[i], i, colon + 1);
        argv[argc++] = "-blockdev";
        argv[argc++] = args[made - 1];
    }
    EXPECT_OK(proc_spawn_child(&spec, &qemu->id, &err));
    wait_for_monitor(qemu, own, log);
    for (size_t i = 0; i < made; i++)
        free(args[i]);
    free(own);
    free(log);
}

static void io(struct bare_qemu *qemu, const char *line)
{
    CLEANUP(json_freep) json_t *answer = NULL;

    EXPECT_OK(qmp_command(qemu->qmp, "human-monitor-command",
                          json_pack("{s:s}", "command-line", line), &answer, NULL, &err));
    if (!str_eq(json_string_value(answer), ""))
        fail_msg("%s: %s", line, json_string_value(answer));
}

void bare_qemu_write(struct bare_qemu *qemu, const char *node, uint64_t off, uint64_t len,
                     unsigned pattern)
{
    char *line =
        mem_printf("qemu-io %s \"write -P %u %" PRIu64 " %" PRIu64 "\"", node, pattern, off, len);

    io(qemu, line);
    free(line);
}

void bare_qemu_flush(struct bare_qemu *qemu, const char *node)
{
    char *line = mem_printf("qemu-io %s flush", node);

    io(qemu, line);
    free(line);
}

void bare_qemu_kill(struct bare_qemu *qemu)
{
    qmp_closep(&qemu->qmp);
    if (qemu->id.pid) {
        proc_reap(&qemu->id, NULL); /* kills */
        qemu->id.pid = 0;
    }
    free(TAKE(qemu->path));
    free(TAKE(qemu->spare));
}
