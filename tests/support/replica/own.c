// SPDX-License-Identifier: Apache-2.0
#include "support/replica/own.h"

#include "base/mem.h"
#include "base/nbd_server.h"
#include "base/proc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int write_raw(const char *path, const struct kit_disk *disk, struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(fd_close) int fd = -1;

    if (fs->open(fs, path, O_RDWR | O_CREAT | O_TRUNC, 0600, &fd, err) < 0
        || fs->pwrite(fs, fd, disk->bytes, (size_t)disk->size, 0, err) < 0)
        return -1;
    return fs->sync(fs, fd, err);
}

static int make_qcow2(const char *raw, const char *path, struct err *err)
{
    const char *const argv[] = {"qemu-img", "convert", "-q", "-f", "raw",
                                "-O",       "qcow2",   raw,  path, NULL};

    return proc_must(argv, NULL, err);
}

static int make_loop(const char *raw, char **ret_path, struct err *err)
{
    const char *const argv[] = {"losetup", "--find", "--show", raw, NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str said = STR_EMPTY;
    int status;

    if (proc_run(&spec, 4096, &said, &status, NULL, err) < 0)
        return -1;
    if (status != 0 || !str_starts(str_text(&said), "/dev/loop"))
        return err_set(err, ERR_UNSUPPORTED, 0, "losetup: %.200s", str_text(&said));
    said.ptr[strcspn(said.ptr, "\n")] = '\0';
    *ret_path = mem_strdup(said.ptr);
    return 0;
}

static int make_disk(struct own *own, size_t i, struct err *err)
{
    const struct kit_disk *disk = &own->kit->disks[i];
    CLEANUP(mem_freep) char *raw = mem_printf("%s/%s.img", own->root, disk->name);

    if (write_raw(raw, disk, err) < 0)
        return -1;
    own->files[i] = mem_strdup(raw);
    own->held[i] = mem_alloc(disk->size, 1);
    memcpy(own->held[i], disk->bytes, (size_t)disk->size);
    if (own->kind == OWN_RAW)
        own->paths[i] = mem_strdup(raw);
    else if (own->kind == OWN_QCOW2)
        own->paths[i] = mem_printf("%s/%s.qcow2", own->root, disk->name);
    if (own->kind == OWN_QCOW2 && make_qcow2(raw, own->paths[i], err) < 0)
        return -1;
    if (own->kind == OWN_LOOP && make_loop(raw, &own->paths[i], err) < 0)
        return -1;
    own->disks[i] = (struct store_adopt_disk){disk->name, disk->size, own->paths[i],
                                              own->kind == OWN_QCOW2 ? "qcow2" : "raw"};
    own->kit->own[i] = own->kind == OWN_QCOW2 ? NULL : own->paths[i];
    return 0;
}

static void note_progress(void *ctx, const char *disk, uint64_t done_bytes, uint64_t size)
{
    struct own *own = ctx;

    (void)disk;
    if (done_bytes == size)
        own->progress++;
}

int own_init(struct own *own, struct kit *kit, const char *root, enum own_kind kind, char *first,
             char *tip, struct err *err)
{
    memset(own, 0, sizeof(*own));
    own->kit = kit;
    own->kind = kind;
    own->root = mem_strdup(root);
    own->first = first;
    own->tip = tip;
    own->digester = chunk_digester_new(&kit->key);
    own->adopt = (struct store_adopt){
        .disks = own->disks,
        .count = KIT_DISKS,
        .first = first,
        .tip = tip,
        .progress = note_progress,
        .ctx = own,
    };
    for (size_t i = 0; i < KIT_DISKS; i++)
        if (make_disk(own, i, err) < 0)
            return -1;
    return 0;
}

static void must(int rc, const struct err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "own disks: [%s] %s\n", err_code_name(err->code), err->text);
    abort();
}

bool own_at_2(struct own *own, struct fixture *f, enum own_kind kind)
{
    struct err err = ERR_EMPTY;
    char *first;

    fixture_copy(f);
    fixture_points(f, 2);
    must(f->store->ops->point_manifest(f->store, 2, &first, &err), &err);
    store_closep(&f->store);
    must(store_dir_remove(fs_real(), f->kit.dir, &err), &err);
    int rc = own_init(own, &f->kit, f->root, kind, first, kit_taken_over(&f->kit, 6, 2), &err);
    if (rc < 0 && err.code == ERR_UNSUPPORTED) {
        (void)printf("skipped: no loop devices here: %s\n", err.text);
        return false;
    }
    must(rc, &err);
    must(kit_open(&f->kit, fs_real(), &f->store, &err), &err);
    return true;
}

void own_done(struct own *own)
{
    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct err ignored;
        const struct nbd_server server = {own->kit->run_dir, own->paths[i], "qcow2", false, NULL};
        const char *const detach[] = {"losetup", "--detach", own->paths[i], NULL};
        if (own->kind == OWN_QCOW2 && own->paths[i] && own->kit->run_dir)
            (void)(nbd_server_end(&server, &ignored) < 0);
        if (own->kind == OWN_LOOP && own->paths[i])
            (void)(proc_must(detach, NULL, &ignored) < 0);
        free(own->paths[i]);
        free(own->files[i]);
        free(own->held[i]);
    }
    free(own->root);
    free(own->first);
    free(own->tip);
    digester_free(own->digester);
}

int own_adopt(struct own *own, struct store *store, struct err *err)
{
    return store_dir_adopt(store, &own->adopt, NULL, err);
}

int own_digests(void *ctx, const char *disk, uint64_t first, uint64_t count,
                struct digest *ret_digests, bool *ret_known, struct err *err)
{
    struct own *own = ctx;

    (void)err;
    for (size_t i = 0; i < KIT_DISKS; i++) {
        const struct kit_disk *d = &own->kit->disks[i];
        for (uint64_t k = 0; str_eq(d->name, disk) && k < count; k++) {
            if ((first + k) % 3 == 1) /* not known */
                continue;
            size_t len = chunk_len(d->size, first + k);
            chunk_digest(own->digester, own->held[i] + (first + k) * CHUNK_BYTES, len,
                         &ret_digests[k]);
            ret_known[k] = true;
            own->told++;
        }
    }
    return 0;
}

int own_check(struct own *own, uint64_t point, struct err *err)
{
    const struct kit_image *image = kit_image(own->kit, point);
    CLEANUP(mem_freep) char *raw = path_join(own->root, "check.raw");

    if (own->kind != OWN_QCOW2)
        return kit_check_head(own->kit, point, err);
    for (size_t i = 0; i < KIT_DISKS; i++) {
        const struct nbd_server server = {own->kit->run_dir, own->paths[i], "qcow2", false, NULL};
        const char *const argv[] = {"qemu-img", "convert", "-O", "raw", own->paths[i], raw, NULL};
        CLEANUP(str_free) struct str have = STR_EMPTY;
        if (nbd_server_end(&server, err) < 0 || proc_must(argv, NULL, err) < 0
            || fs_read_file(fs_real(), raw, SIZE_MAX / 2, &have, err) < 0)
            return -1;
        if (have.len != own->kit->disks[i].size || memcmp(have.ptr, image->bytes[i], have.len) != 0)
            return err_set(err, ERR_CORRUPT, 0, "%s is not at point %" PRIu64, own->paths[i],
                           point);
    }
    return 0;
}
