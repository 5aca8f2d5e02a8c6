// SPDX-License-Identifier: Apache-2.0
#include "link/transport.h"

#include "base/mem.h"

struct cut {
    struct transport transport;
    struct transport *inner; /* NULL once it is cut */
    uint64_t left;
};

static int cut_write(struct transport *transport, const void *bytes, size_t len,
                     struct cancel *cancel, struct err *err)
{
    struct cut *cut = (struct cut *)(void *)transport;

    if (!cut->inner)
        return err_set(err, ERR_NET, 0, "the connection was cut");
    if (len <= cut->left) {
        cut->left -= len;
        return cut->inner->write(cut->inner, bytes, len, cancel, err);
    }
    int rc = cut->inner->write(cut->inner, bytes, (size_t)cut->left, cancel, err);
    cut->inner->close(TAKE(cut->inner));
    return rc < 0 ? -1 : err_set(err, ERR_NET, 0, "the connection was cut");
}

static int cut_read(struct transport *transport, void *bytes, size_t len, struct cancel *cancel,
                    struct err *err)
{
    struct cut *cut = (struct cut *)(void *)transport;

    if (!cut->inner)
        return err_set(err, ERR_NET, 0, "the connection was cut");
    return cut->inner->read(cut->inner, bytes, len, cancel, err);
}

static void cut_close(struct transport *transport)
{
    struct cut *cut = (struct cut *)(void *)transport;

    if (cut->inner)
        cut->inner->close(cut->inner);
    free(cut);
}

struct transport *transport_cut(struct transport *inner, uint64_t bytes)
{
    struct cut *cut = mem_new(struct cut);

    cut->transport.write = cut_write;
    cut->transport.read = cut_read;
    cut->transport.close = cut_close;
    cut->inner = inner;
    cut->left = bytes;
    return &cut->transport;
}
