// SPDX-License-Identifier: Apache-2.0
#include "support/guest.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CONSOLE_MAX (64u << 20)

static char make_disk[512], kernel[512], initrd[512], writer[512];

void guest_build(const char *source_dir, const char *binary_dir)
{
    char script[512], out[512];
    /* It locks, and does nothing when all is there. */
    const char *const argv[] = {script, out, NULL};

    (void)snprintf(script, sizeof(script), "%s/examples/guest/build.sh", source_dir);
    (void)snprintf(out, sizeof(out), "%s/guest", binary_dir);
    (void)snprintf(make_disk, sizeof(make_disk), "%s/examples/guest/make-disk.sh", source_dir);
    (void)snprintf(kernel, sizeof(kernel), "%s/guest/vmlinuz", binary_dir);
    (void)snprintf(initrd, sizeof(initrd), "%s/guest/initrd.gz", binary_dir);
    (void)snprintf(writer, sizeof(writer), "%s/guest/writer", binary_dir);
    EXPECT_OK(proc_must(argv, NULL, &err));
}

const char *guest_kernel(void)
{
    return kernel;
}

const char *guest_initrd(void)
{
    return initrd;
}

void guest_make_disk(const char *path, const char *format, const char *size)
{
    const char *const argv[] = {make_disk, path, format, size, NULL};

    EXPECT_OK(proc_must(argv, NULL, &err));
}

static bool parse_records(const char *line, struct guest_records *ret_records)
{
    struct guest_records r;

    if (sscanf(line,
               "RECORDS first=%" SCNu64 " last=%" SCNu64 " missing=%" SCNu64 " damaged=%" SCNu64
               " disks=%" SCNu64 " generation=%" SCNu64,
               &r.first, &r.last, &r.missing, &r.damaged, &r.disks, &r.generation)
        != 6)
        return false;
    *ret_records = r;
    return true;
}

/* The last line that begins so, whole; NULL: there is none. */
static const char *last_line(struct str *text, const char *console_path, const char *begins)
{
    const char *found = NULL;
    struct err none = ERR_EMPTY;

    if (fs_read_file(fs_real(), console_path, CONSOLE_MAX, text, &none) < 0 || !text->len)
        return NULL;
    for (const char *line = text->ptr; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (str_starts(line, begins) && strchr(line, '\n'))
            found = line;
        if (!*line)
            break;
    }
    return found;
}

int guest_read_records(const char *console_path, struct guest_records *ret_records)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const char *line = last_line(&text, console_path, "RECORDS ");

    return line && parse_records(line, ret_records);
}

uint64_t guest_read_acked(const char *console_path)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    const char *line = last_line(&text, console_path, "ACKED ");
    uint64_t acked = 0;

    if (line)
        (void)sscanf(line, "ACKED %" SCNu64, &acked);
    return acked;
}

/* The journal is replayed as a mount would, then the file is taken out. */
static void take_records(const char *image, const char *copy, const char *records)
{
    char command[600];
    const char *const cp[] = {"cp", "--sparse=always", image, copy, NULL};
    const char *const replay[] = {"e2fsck", "-fy", "-E", "journal_only", copy, NULL};
    const char *const dump[] = {"debugfs", "-R", command, copy, NULL};
    const struct proc_spec spec = {.argv = replay};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    (void)snprintf(command, sizeof(command), "dump /records %s", records);
    EXPECT_OK(proc_must(cp, NULL, &err));
    EXPECT_OK(proc_run(&spec, 65536, &output, &status, NULL, &err));
    if (status > 1)
        fail_msg("e2fsck: %s", str_text(&output));
    EXPECT_OK(proc_must(dump, NULL, &err));
}

void guest_judge(const char *const *images, size_t count, uint64_t slots, const char *work_dir,
                 struct guest_records *ret_records)
{
    char slots_text[32], copy[512], records[8][512];
    const char *argv[12] = {writer, "judge", slots_text};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    assert_true(count <= ARRAY_LEN(records));
    (void)snprintf(slots_text, sizeof(slots_text), "%" PRIu64, slots);
    (void)snprintf(copy, sizeof(copy), "%s/judged.img", work_dir);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(records[i], sizeof(records[i]), "%s/records-%zu", work_dir, i);
        take_records(images[i], copy, records[i]);
        argv[3 + i] = records[i];
    }
    EXPECT_OK(proc_run(&spec, 65536, &output, &status, NULL, &err));
    if (status != 0 || !parse_records(str_text(&output), ret_records))
        fail_msg("judge: %s", str_text(&output));
}
