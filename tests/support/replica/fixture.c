// SPDX-License-Identifier: Apache-2.0
#include "support/replica/fixture.h"

#include "base/fault.h"
#include "base/mem.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE (1024U * 1024U)

static void must(int rc, const struct err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "fixture: [%s] %s\n", err_code_name(err->code), err->text);
    abort();
}

int fixture_setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    struct err err = ERR_EMPTY;
    void *root;

    /* In memory, where there is such a place: these tests sync a lot. */
    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    if (tmpdir_setup(&root) < 0)
        return -1;
    f->root = root;
    kit_init(&f->kit, f->root, SIZE, 1);
    kit_scribble(&f->kit, 30);
    must(kit_open(&f->kit, fs_real(), &f->store, &err), &err);
    *state = f;
    return 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    void *root = f->root;

    fault_clear();
    store_close(f->store);
    kit_done(&f->kit);
    free(f);
    return tmpdir_teardown(&root);
}

void fixture_copy(struct fixture *f)
{
    struct err err = ERR_EMPTY;

    must(kit_copy(&f->kit, f->store, &err), &err);
}

void fixture_points(struct fixture *f, size_t count)
{
    struct err err = ERR_EMPTY;

    for (size_t i = 0; i < count; i++) {
        kit_scribble(&f->kit, 12);
        must(kit_point_applied(&f->kit, f->store, &err), &err);
    }
}

void fixture_reopen(struct fixture *f)
{
    struct err err = ERR_EMPTY;

    store_closep(&f->store);
    must(kit_open(&f->kit, fs_real(), &f->store, &err), &err);
}

struct store_info fixture_info(struct fixture *f)
{
    struct err err = ERR_EMPTY;
    struct store_info info;

    must(f->store->ops->info(f->store, &info, &err), &err);
    return info;
}

char *fixture_path(const struct fixture *f, const char *name)
{
    return path_join(f->kit.dir, name);
}

void fixture_flip(const struct fixture *f, const char *name, int64_t at)
{
    CLEANUP(mem_freep) char *path = fixture_path(f, name);
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    off_t off = at < 0 ? lseek(fd, 0, SEEK_END) + at : at;
    uint8_t byte;

    if (fd < 0 || pread(fd, &byte, 1, off) != 1) {
        perror(path);
        abort();
    }
    byte ^= 0x10;
    if (pwrite(fd, &byte, 1, off) != 1)
        abort();
}

void fixture_write(const struct fixture *f, const char *name, const char *text)
{
    CLEANUP(mem_freep) char *path = fixture_path(f, name);
    FILE *file = fopen(path, "we");

    if (!file || fputs(text, file) < 0 || fclose(file) != 0)
        abort();
}

size_t fixture_count(const struct fixture *f, const char *name)
{
    CLEANUP(mem_freep) char *path = fixture_path(f, name);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    struct err err = ERR_EMPTY;

    must(fs_list(path, &names, &err), &err);
    return names.len;
}
