// SPDX-License-Identifier: Apache-2.0
/* export: a disk as it was, as an image of its own. qemu-img writes it under another name, FILE.part; it has
 * its name when all of it is durable. */
#include "base/fs.h"
#include "base/mem.h"
#include "cli/cli_view.h"
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MS 100
#define LOG_MAX 65536

static const char *const formats[] = {"raw", "qcow2", NULL};

struct export
{
    char *part;
    char *log;
    struct proc_id writer;
    bool writing;
};

static void export_done(struct export *export)
{
    if (export->writing)
        proc_reap(&export->writer, NULL);
    if (export->part)
        (void)unlink(export->part);
    if (export->log)
        (void)unlink(export->log);
    free(export->part);
    free(export->log);
}

/* What it said, whole: it names the file, and why. */
static int writer_failed(struct export *export, const char *file, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;

    if (fs_read_file(fs_real(), export->log, LOG_MAX, &text, &none) < 0)
        str_clear(&text);
    while (text.len && text.ptr[text.len - 1] == '\n')
        text.ptr[--text.len] = '\0';
    const char *words = text.len ? str_text(&text) : "qemu-img said nothing";
    return err_set(err, strstr(words, "No space left") ? ERR_SPACE : ERR_IO, 0,
                   "%s was not written: %.700s", file, words);
}

/* 1: somebody wants us to end. */
static int write_image(struct export *export, struct cli_view *view, const char *format,
                       const char *file, struct err *err)
{
    const char *const argv[] = {"qemu-img", "convert", "-f",         "raw", "-O",
                                format,     view->uri, export->part, NULL};
    const struct proc_spec spec = {.argv = argv, .log_path = export->log};
    int status = 0;
    int rc = 0;

    if (proc_spawn_child(&spec, &export->writer, err) < 0)
        return -1;
    export->writing = true;
    while (rc == 0 && proc_is_alive(&export->writer))
        rc = cli_view_wait(view, LOOK_MS, err);
    if (rc != 0)
        return rc;
    export->writing = false;
    proc_reap(&export->writer, &status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : writer_failed(export, file, err);
}

/* The folder that FILE is in. */
static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');

    return !slash ? mem_strdup(".")
                  : mem_printf("%.*s", slash == file ? 1 : (int)(slash - file), file);
}

/* Over nothing: somebody may have made a file of that name meanwhile. Not every file system can tell. */
static int give_name(const char *part, const char *file, struct err *err)
{
    if (renameat2(AT_FDCWD, part, AT_FDCWD, file, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno == EINVAL && !fs_exists(file) && rename(part, file) == 0)
        return 0;
    return err_set(err, errno == EEXIST ? ERR_EXISTS : ERR_IO, errno, "%s", file);
}

static int make_durable(const struct export *export, const char *file, struct err *err)
{
    CLEANUP(mem_freep) char *dir = folder_of(file);
    CLEANUP(fd_close) int fd = open(export->part, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, ERR_IO, errno, "%s", export->part);
    if (fsync(fd) < 0)
        return err_set(err, ERR_IO, errno, "%s", export->part);
    if (give_name(export->part, file, err) < 0)
        return -1;
    return fs_real()->sync_dir(fs_real(), dir, err);
}

static int write_file(struct cli_view *view, const char *format, const char *file, struct err *err)
{
    CLEANUP(export_done) struct export export = {0};
    CLEANUP(mem_freep) char *part = mem_printf("%s.part", file);

    if (fs_exists(part))
        return err_set(err, ERR_EXISTS, 0,
                       "%s is there: another export is under way, or was cut; hint: remove it when "
                       "none is",
                       part);
    export.part = TAKE(part);
    /* Beside the view's own: FILE's file system may be full. */
    export.log = mem_printf("%s.export", json_get_str(view->reply, "log", ""));
    int rc = write_image(&export, view, format, file, err);
    if (rc != 0)
        return rc < 0 ? -1 : err_set(err, ERR_CANCELLED, 0, "%s was not written", file);
    return make_durable(&export, file, err);
}

static int run_export(struct cli *cli, struct err *err)
{
    CLEANUP(cli_view_close) struct cli_view view = {.signal_fd = -1};
    const char *file = cli_arg(cli, "FILE");
    const char *format = "raw";
    char size[32];

    if (cli_word_option(cli, "format", formats, &format, err) < 0)
        return -1;
    if (fs_exists(file))
        return err_set(err, ERR_EXISTS, 0, "%s is there already", file);
    if (cli_view_open(cli, &view, err) < 0)
        return -1;
    if (!view.uri)
        return err_set(err, ERR_CANCELLED, 0, "%s was not written", file);
    if (write_file(&view, format, file, err) < 0)
        return -1;
    struct stat st = {0};
    (void)stat(file, &st);
    if (cli->json) {
        CLEANUP(json_freep)
        json_t *json = json_pack("{s:s, s:s, s:s}", "file", file, "format", format, "disk",
                                 cli_view_disk(&view));
        cli_print_json(cli, json);
    } else {
        (void)fprintf(cli->out, "disk %s is in %s (%s, %s on disk)\n", cli_view_disk(&view), file,
                      format, str_bytes((uint64_t)st.st_blocks * 512, size, sizeof(size)));
    }
    return 0;
}

const struct cmd *cmds_export(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "export",
            .help = "Writes a disk as a point or a branch holds it to an image file.",
            .about =
                "A point is exported where the replica is kept, and is kept as long; a branch "
                "where its machine ran.\nThe file has its name once it is complete; one that is "
                "there is not written over.",
            .args = {{"NAME", false, "the machine"}, {"FILE", false, "the image to be made"}},
            .options = {{"point", "N", "a point of the replica, or `application`"},
                        {"branch", "N", "a branch"},
                        {"disk", "NAME", "which disk, when there are several"},
                        {"format", "FORMAT", "raw or qcow2; raw"}},
            .examples = {"export db1 --point 17 /backup/db1-vda.raw",
                         "export db1 --branch 18 --disk vda --format qcow2 db1.qcow2"},
            .run = run_export,
        },
        {0},
    };

    return cmds;
}
