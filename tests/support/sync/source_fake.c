// SPDX-License-Identifier: Apache-2.0
#include "support/sync/source_fake.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK       65536u
#define PIECE_BYTES (4u * CHUNK)

struct fake_source {
    struct source source;
    struct fake_machine *machine;
    uint64_t open; /* of a machine that is off */
    uint64_t frozen;
    uint64_t touched;
    struct fake_disk *scanning;
    uint64_t at; /* ordered: offset; else: number of the piece */
};

static uint64_t blocks(uint64_t size)
{
    return (size + FAKE_BLOCK - 1) / FAKE_BLOCK;
}

uint64_t fake_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 24;
}

/* --- The machine ----------------------------------------------------------------------------- */

struct fake_machine *fake_machine_new(const uint64_t *sizes, size_t count)
{
    size_t total = sizeof(struct fake_machine);

    for (size_t i = 0; i < count; i++)
        total += 2 * sizes[i] + 2 * blocks(sizes[i]);
    struct fake_machine *m =
        mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        abort();
    uint8_t *at = (uint8_t *)m + sizeof(*m);
    m->bytes = total;
    m->disk_count = count;
    m->running = true;
    for (size_t i = 0; i < count; i++) {
        struct fake_disk *d = &m->disks[i];
        (void)snprintf(d->name, sizeof(d->name), "disk%zu", i);
        d->size = sizes[i];
        d->bytes = at;
        d->cut = d->bytes + sizes[i];
        d->open = d->cut + sizes[i];
        d->frozen = d->open + blocks(sizes[i]);
        at = d->frozen + blocks(sizes[i]);
    }
    return m;
}

void fake_machine_free(struct fake_machine *machine)
{
    (void)munmap(machine, machine->bytes);
}

void fake_write(struct fake_machine *machine, size_t disk, uint64_t off, const void *bytes,
                size_t len)
{
    struct fake_disk *d = &machine->disks[disk];

    memcpy(d->bytes + off, bytes, len);
    machine->touched++;
    if (machine->open)
        memset(d->open + off / FAKE_BLOCK, 1, (off + len - 1) / FAKE_BLOCK - off / FAKE_BLOCK + 1);
}

void fake_write_random(struct fake_machine *machine, uint64_t *seed, unsigned count)
{
    uint8_t bytes[32768];

    for (; count > 0; count--) {
        size_t disk = fake_random(seed) % machine->disk_count;
        uint64_t units = machine->disks[disk].size / 512;
        uint64_t at = fake_random(seed) % units;
        uint64_t n = 1 + fake_random(seed) % 64;
        if (n > units - at)
            n = units - at;
        bool zero = fake_random(seed) % 4 == 0;
        for (size_t i = 0; i < n * 512; i++)
            bytes[i] = zero ? 0 : (uint8_t)fake_random(seed);
        fake_write(machine, disk, at * 512, bytes, n * 512);
    }
}

void fake_restart(struct fake_machine *machine)
{
    machine->open = 0;
    machine->frozen = 0;
    for (size_t i = 0; i < machine->disk_count; i++) {
        memset(machine->disks[i].open, 0, blocks(machine->disks[i].size));
        memset(machine->disks[i].frozen, 0, blocks(machine->disks[i].size));
    }
    (void)snprintf(machine->note, sizeof(machine->note), "QEMU was restarted");
}

void fake_fail(struct fake_machine *machine, const char *op, int skip, enum err_code code)
{
    (void)snprintf(machine->fail_op, sizeof(machine->fail_op), "%s", op);
    machine->fail_skip = skip;
    machine->fail_code = code;
}

static int fails(struct fake_machine *m, const char *op, struct err *err)
{
    if (strcmp(m->fail_op, op) != 0 || m->fail_skip-- > 0)
        return 0;
    m->fail_op[0] = '\0';
    return err_set(err, m->fail_code, 0, "the fake source fails in %s", op);
}

/* --- The source ------------------------------------------------------------------------------ */

static struct fake_source *fake(struct source *source)
{
    return (struct fake_source *)(void *)source;
}

static struct fake_disk *find(struct source *source, const char *name)
{
    struct fake_machine *m = fake(source)->machine;

    for (size_t i = 0; i < m->disk_count; i++)
        if (strcmp(m->disks[i].name, name) == 0)
            return &m->disks[i];
    abort();
}

static void op_close(struct source *source)
{
    free(source);
}

static int op_disks(struct source *source, struct source_disks *ret_disks, struct cancel *cancel,
                    struct err *err)
{
    struct fake_machine *m = fake(source)->machine;

    (void)cancel;
    if (fails(m, "disks", err) < 0)
        return -1;
    source_disks_clear(ret_disks);
    for (size_t i = 0; i < m->disk_count; i++) {
        struct source_disk *d = source_disks_push(ret_disks);
        memcpy(d->name, m->disks[i].name, sizeof(d->name));
        d->size = m->disks[i].size;
        d->allocated_bytes = d->size;
    }
    return 0;
}

static int op_inspect(struct source *source, struct source_state *ret_state, struct cancel *cancel,
                      struct err *err)
{
    struct fake_source *f = fake(source);
    struct fake_machine *m = f->machine;

    (void)cancel;
    if (fails(m, "inspect", err) < 0)
        return -1;
    *ret_state = (struct source_state){
        .running = m->running,
        .quiet = !m->running || m->quiet,
        .open = m->running ? m->open : f->open,
        .frozen = m->running ? m->frozen : f->frozen,
    };
    if (!ret_state->open)
        (void)snprintf(ret_state->note, sizeof(ret_state->note), "%s", m->note);
    return 0;
}

static int op_pending(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                      struct err *err)
{
    struct fake_machine *m = fake(source)->machine;

    (void)cancel;
    if (fails(m, "pending", err) < 0)
        return -1;
    *ret_bytes = 0;
    for (size_t i = 0; i < m->disk_count; i++)
        for (uint64_t b = 0; b < blocks(m->disks[i].size); b++)
            *ret_bytes += m->disks[i].open[b] * FAKE_BLOCK;
    return 0;
}

static int op_pending_disks(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                            struct err *err)
{
    struct fake_machine *m = fake(source)->machine;

    (void)cancel;
    if (fails(m, "pending", err) < 0)
        return -1;
    for (size_t i = 0; i < m->disk_count; i++) {
        ret_bytes[i] = 0;
        for (uint64_t b = 0; b < blocks(m->disks[i].size); b++)
            ret_bytes[i] += m->disks[i].open[b] * FAKE_BLOCK;
    }
    return 0;
}

static int op_track(struct source *source, uint64_t serial, struct cancel *cancel, struct err *err)
{
    struct fake_source *f = fake(source);
    struct fake_machine *m = f->machine;

    (void)cancel;
    if (fails(m, "track", err) < 0)
        return -1;
    if (!m->running) {
        f->open = serial;
        f->frozen = 0;
        f->touched = m->touched;
        return 0;
    }
    fake_restart(m);
    m->open = serial;
    return 0;
}

static int op_scan_begin(struct source *source, const char *disk, uint64_t from, bool *ret_ordered,
                         struct cancel *cancel, struct err *err)
{
    struct fake_source *f = fake(source);

    (void)cancel;
    if (fails(f->machine, "scan_begin", err) < 0)
        return -1;
    f->scanning = find(source, disk);
    f->at = f->machine->unordered ? 0 : from;
    *ret_ordered = !f->machine->unordered;
    return 0;
}

static bool is_zero(const uint8_t *bytes, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        if (bytes[i])
            return false;
    return true;
}

static void give(struct source_piece *piece, const struct fake_disk *d, uint64_t off)
{
    piece->off = off;
    piece->len = d->size - off < PIECE_BYTES ? d->size - off : PIECE_BYTES;
    piece->data = d->bytes + off;
    piece->zero = is_zero(piece->data, piece->len);
}

/* From the last piece to the first, zeros not at all; then every third once more, zeros said. */
static void give_unordered(struct fake_source *f, struct source_piece *piece)
{
    struct fake_disk *d = f->scanning;
    uint64_t count = (d->size + PIECE_BYTES - 1) / PIECE_BYTES;

    for (; f->at < count; f->at++) {
        give(piece, d, (count - 1 - f->at) * PIECE_BYTES);
        if (piece->zero)
            continue;
        f->at++;
        return;
    }
    if ((f->at - count) * 3 < count) {
        give(piece, d, (f->at - count) * 3 * PIECE_BYTES);
        f->at++;
        return;
    }
    memset(piece, 0, sizeof(*piece));
}

static int op_scan_next(struct source *source, struct source_piece *ret_piece,
                        struct cancel *cancel, struct err *err)
{
    struct fake_source *f = fake(source);
    struct fake_machine *m = f->machine;

    if (fails(m, "scan", err) < 0 || cancel_check(cancel, err) < 0)
        return -1;
    if (m->on_piece)
        m->on_piece(m, m->on_piece_ctx);
    m->scanned++;
    memset(ret_piece, 0, sizeof(*ret_piece));
    if (m->unordered) {
        give_unordered(f, ret_piece);
        return 0;
    }
    for (; f->at < f->scanning->size; f->at += PIECE_BYTES) {
        give(ret_piece, f->scanning, f->at);
        if (ret_piece->zero)
            continue; /* a hole */
        f->at += PIECE_BYTES;
        return 0;
    }
    memset(ret_piece, 0, sizeof(*ret_piece));
    return 0;
}

static void op_scan_end(struct source *source)
{
    fake(source)->scanning = NULL;
}

static int cut_off(struct fake_source *f, uint64_t serial, struct err *err)
{
    struct fake_machine *m = f->machine;

    if (f->open + 1 != serial || f->frozen)
        return err_set(err, ERR_STATE, 0, "map %" PRIu64 " is open", f->open);
    if (f->touched != m->touched) {
        f->open = 0;
        return err_set(err, ERR_STATE, 0, "somebody wrote to these disks");
    }
    f->frozen = f->open;
    f->open = serial;
    return 0;
}

static int op_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                  struct cancel *cancel, struct err *err)
{
    struct fake_source *f = fake(source);
    struct fake_machine *m = f->machine;

    (void)cancel;
    if (fails(m, "cut", err) < 0)
        return -1;
    if (!m->running && cut_off(f, serial, err) < 0)
        return -1;
    if (m->running) {
        if (m->open + 1 != serial || m->frozen)
            return err_set(err, ERR_STATE, 0, "map %" PRIu64 " is open, %" PRIu64 " frozen",
                           m->open, m->frozen);
        m->frozen = m->open;
        m->open = serial;
    }
    m->cuts++;
    for (size_t i = 0; i < m->disk_count; i++) {
        struct fake_disk *d = &m->disks[i];
        memcpy(d->cut, d->bytes, d->size);
        if (m->running) {
            memcpy(d->frozen, d->open, blocks(d->size));
            memset(d->open, 0, blocks(d->size));
        }
    }
    ret_cut->wall_ms = 1000000 + (int64_t)m->cuts;
    ret_cut->stall_us = 250;
    return 0;
}

static int op_changes(struct source *source, const char *disk, struct source_extents *ret_extents,
                      struct cancel *cancel, struct err *err)
{
    const struct fake_disk *d = find(source, disk);

    (void)cancel;
    if (fails(fake(source)->machine, "changes", err) < 0)
        return -1;
    source_extents_clear(ret_extents);
    if (!fake(source)->machine->running)
        return 0;
    for (uint64_t b = 0; b < blocks(d->size); b++) {
        if (!d->frozen[b])
            continue;
        struct source_extent *e = source_extents_push(ret_extents);
        e->off = b * FAKE_BLOCK;
        while (b < blocks(d->size) && d->frozen[b])
            b++;
        uint64_t end = b * FAKE_BLOCK < d->size ? b * FAKE_BLOCK : d->size;
        e->len = end - e->off;
    }
    return 0;
}

static int op_read(struct source *source, const char *disk, uint64_t off, void *buf, size_t len,
                   struct cancel *cancel, struct err *err)
{
    const struct fake_disk *d = find(source, disk);

    (void)cancel;
    if (fails(fake(source)->machine, "read", err) < 0)
        return -1;
    memcpy(buf, d->cut + off, len);
    return 0;
}

static int op_end(struct source *source, bool delivered, struct cancel *cancel, struct err *err)
{
    struct fake_source *f = fake(source);
    struct fake_machine *m = f->machine;

    (void)cancel;
    if (fails(m, "end", err) < 0)
        return -1;
    f->frozen = 0;
    for (size_t i = 0; m->running && i < m->disk_count; i++)
        for (uint64_t b = 0; b < blocks(m->disks[i].size); b++) {
            if (!delivered)
                m->disks[i].open[b] |= m->disks[i].frozen[b];
            m->disks[i].frozen[b] = 0;
        }
    if (m->running)
        m->frozen = 0;
    return 0;
}

static int op_forget(struct source *source, struct cancel *cancel, struct err *err)
{
    (void)cancel;
    if (fails(fake(source)->machine, "forget", err) < 0)
        return -1;
    fake_restart(fake(source)->machine);
    return 0;
}

struct source *fake_source_new(struct fake_machine *machine)
{
    static const struct source_ops ops = {
        .close = op_close,
        .disks = op_disks,
        .inspect = op_inspect,
        .pending = op_pending,
        .track = op_track,
        .scan_begin = op_scan_begin,
        .scan_next = op_scan_next,
        .scan_end = op_scan_end,
        .cut = op_cut,
        .changes = op_changes,
        .read = op_read,
        .end = op_end,
        .forget = op_forget,
        .pending_disks = op_pending_disks,
    };
    struct fake_source *f = mem_new(struct fake_source);

    f->source.ops = &ops;
    f->machine = machine;
    machine->opened++;
    return &f->source;
}
