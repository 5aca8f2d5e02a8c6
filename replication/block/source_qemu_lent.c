// SPDX-License-Identifier: Apache-2.0
/* A living QEMU that has one monitor for everybody: ours, its owner's tools', a person's. A monitor
 * serves one client at a time and the others wait in its backlog, so whoever has it works and goes: it
 * is connected at the begin of each call and closed at its end. Nothing needs it in between: what a cut
 * staged is a file of ours, and the mirror, which takes hours, looks at its job now and then. */
#include "block/source_qemu.h"

#include <errno.h>

#define LOOK_MS   250
#define CLOSE_MS  5000
#define BORROW_MS 30000 /* somebody has the monitor */

static int borrow(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(qemu->clock, cancel, BORROW_MS);

    if (qmp_open(qemu->qmp_path, qemu->clock, &qemu->qmp, limit, err) < 0) {
        if (err && err->code == ERR_NET && (err->sys == ECONNREFUSED || err->sys == ENOENT))
            return err_set(err, ERR_NET, err->sys, "group %s: QEMU died: its monitor %s",
                           qemu->group, qemu->qmp_path);
        return err_wrap(err, "group %s", qemu->group);
    }
    mirror_lend(qemu->mirror, qemu->qmp);
    return 0;
}

static int give_back(struct source_qemu *qemu, int rc)
{
    mirror_lend(qemu->mirror, NULL);
    qmp_closep(&qemu->qmp);
    return rc;
}

static int lent_disks(struct source *source, struct source_disks *ret_disks, struct cancel *cancel,
                      struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.disks(source, ret_disks, cancel, err));
}

static int lent_inspect(struct source *source, struct source_state *ret_state,
                        struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.inspect(source, ret_state, cancel, err));
}

static int lent_pending(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                        struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.pending(source, ret_bytes, cancel, err));
}

static int lent_pending_disks(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                              struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.pending_disks(source, ret_bytes, cancel, err));
}

static int lent_track(struct source *source, uint64_t serial, struct cancel *cancel,
                      struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.track(source, serial, cancel, err));
}

static int lent_track_from(struct source *source, uint64_t serial, const struct source_marks *marks,
                           size_t count, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.track_from(source, serial, marks, count, cancel, err));
}

static int lent_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                    struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.cut(source, serial, ret_cut, cancel, err));
}

static int lent_end(struct source *source, bool delivered, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.end(source, delivered, cancel, err));
}

static int lent_forget(struct source *source, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, source_qemu_ops.forget(source, cancel, err));
}

/* --- Scanning ------------------------------------------------------------------------------ */

/* A mirror that cannot be ended in QEMU is found by whoever opens the source next. */
static void lent_scan_end(struct source *source)
{
    struct source_qemu *qemu = source_qemu(source);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, CLOSE_MS);
    struct err ignored = ERR_EMPTY;

    if (qemu->mirror && borrow(qemu, limit, &ignored) < 0)
        err_clear(&ignored);
    source_qemu_ops.scan_end(source);
    (void)give_back(qemu, 0);
}

static void lent_close(struct source *source)
{
    lent_scan_end(source);
    source_qemu_ops.close(source);
}

static int lent_scan_begin(struct source *source, const char *disk, uint64_t from,
                           bool *ret_ordered, struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);

    lent_scan_end(source);
    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu,
                     source_qemu_ops.scan_begin(source, disk, from, ret_ordered, cancel, err));
}

static int look_at_mirror(struct source_qemu *qemu, struct cancel *cancel, struct err *err)
{
    if (borrow(qemu, cancel, err) < 0)
        return -1;
    return give_back(qemu, mirror_look(qemu->mirror, cancel, err));
}

static int lent_scan_next(struct source *source, struct source_piece *ret_piece,
                          struct cancel *cancel, struct err *err)
{
    struct source_qemu *qemu = source_qemu(source);
    int there = 0;

    if (!qemu->mirror)
        return source_qemu_ops.scan_next(source, ret_piece, cancel, err);
    while (there == 0) {
        if (mirror_wants_a_look(qemu->mirror, LOOK_MS) && look_at_mirror(qemu, cancel, err) < 0)
            return -1;
        there = mirror_next_within(qemu->mirror, LOOK_MS, ret_piece, cancel, err);
    }
    return there < 0 ? -1 : 0;
}

const struct source_ops source_qemu_lent_ops = {
    .close = lent_close,
    .disks = lent_disks,
    .inspect = lent_inspect,
    .pending = lent_pending,
    .track = lent_track,
    .scan_begin = lent_scan_begin,
    .scan_next = lent_scan_next,
    .scan_end = lent_scan_end,
    .cut = lent_cut,
    .changes = source_qemu_changes,
    .read = source_qemu_read,
    .end = lent_end,
    .forget = lent_forget,
    .track_from = lent_track_from,
    .pending_disks = lent_pending_disks,
};
