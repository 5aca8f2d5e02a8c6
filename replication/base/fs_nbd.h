// SPDX-License-Identifier: Apache-2.0
/* Disks in other formats than raw as files: a filter over a struct fs. A path that is mapped to the
 * unix socket of an NBD server is opened there; its descriptor is one of ours, of the disk's size,
 * good for close and SEEK_END and for the calls of this fs. Everything else goes on below. Errors of
 * the server are ERR_IO (ERR_SPACE when it says so); one that went away stays away until the path is
 * opened again, but for a descriptor that only reads: that finds the next one. Any thread. */
#pragma once

#include "base/fs.h"

struct fs *fs_nbd_new(struct fs *below); /* borrows */
void fs_nbd_free(struct fs *fs);         /* after all of its files are closed; NULL is fine */
/* From now on `path` is what the server on `socket` shows. Mapping it again replaces the socket. */
void fs_nbd_map(struct fs *fs, const char *path, const char *socket);
/* The same by a server of our own (base/nbd_server.h), which is started when the path is opened and
 * none is there, and ends when nobody has it open any more. */
void fs_nbd_serve(struct fs *fs, const char *path, const char *format, const char *run_dir);
/* The same of an image that was looked at: it is only read, and not changed in any way. `name` is what it is
 * called, here and in messages; the pin's descriptor stays open until the fs is freed. */
struct nbd_pin;
void fs_nbd_serve_pinned(struct fs *fs, const char *name, const struct nbd_pin *pin,
                         const char *format, const char *run_dir);
