// SPDX-License-Identifier: Apache-2.0
/* RUN_DIR/nbd-HEX.sock, .pid (qemu-nbd's own), .lock; HEX: the first 8 bytes of the SHA-256 of the
 * disk's path. A pid is believed when its command line has our socket: numbers are used again. */
#include "base/nbd_server.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_HEX_BYTES 8
#define GRACE_MS       5000
#define CMDLINE_MAX    65536

struct places {
    char *socket;
    char *pid;
    char *lock;
};

static void places_done(struct places *p)
{
    free(p->socket);
    free(p->pid);
    free(p->lock);
}

static struct places places_of(const struct nbd_server *server)
{
    char hex[2 * NAME_HEX_BYTES + 1];
    struct sha256 sum;

    sha256_of(server->path, strlen(server->path), &sum);
    str_hex(sum.bytes, NAME_HEX_BYTES, hex);
    return (struct places){
        mem_printf("%s/nbd-%s.sock", server->run_dir, hex),
        mem_printf("%s/nbd-%s.pid", server->run_dir, hex),
        mem_printf("%s/nbd-%s.lock", server->run_dir, hex),
    };
}

/* Waits for whoever else starts or ends this server: that is a matter of moments. */
static int lock(const char *path, int *ret_fd, struct err *err)
{
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return err_set(err, ERR_IO, errno, "%s: open", path);
    while (flock(fd, LOCK_EX) < 0)
        if (errno != EINTR)
            return err_set(err, ERR_IO, errno, "%s: lock", path);
    *ret_fd = fd_take(&fd);
    return 0;
}

/* Is that process our server? */
static bool has_socket(pid_t pid, const char *socket)
{
    CLEANUP(mem_freep) char *path = mem_printf("/proc/%d/cmdline", (int)pid);
    CLEANUP(str_free) struct str line = STR_EMPTY;
    CLEANUP(mem_freep) char *want = mem_printf("--socket=%s", socket);
    struct err ignored;

    if (fs_read_file(fs_real(), path, CMDLINE_MAX, &line, &ignored) < 0)
        return false;
    for (size_t at = 0; at < line.len; at += strlen(line.ptr + at) + 1)
        if (str_eq(line.ptr + at, want))
            return true;
    return false;
}

static bool find(const struct places *p, struct proc_id *ret_id)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err ignored;
    uint64_t pid;

    if (fs_read_file(fs_real(), p->pid, 64, &text, &ignored) < 0)
        return false;
    if (text.len > 0 && text.ptr[text.len - 1] == '\n')
        text.ptr[text.len - 1] = '\0';
    return str_to_u64(str_text(&text), &pid) && pid > 0 && pid <= INT32_MAX
           && proc_identify((pid_t)pid, ret_id, &ignored) == 0 && proc_is_alive(ret_id)
           && has_socket((pid_t)pid, p->socket);
}

static int check_socket(const char *socket, struct err *err)
{
    size_t room = sizeof(((struct sockaddr_un *)NULL)->sun_path);

    if (strlen(socket) < room)
        return 0;
    return err_set(err, ERR_INVALID, 0,
                   "%s: a socket's path has at most %zu bytes; hint: use a shorter run folder",
                   socket, room - 1);
}

/* Comes back when the server listens: only then it goes into the background. */
static int start(const struct nbd_server *server, const struct places *p, struct err *err)
{
    CLEANUP(mem_freep) char *format = mem_printf("--format=%s", server->format);
    CLEANUP(mem_freep) char *socket = mem_printf("--socket=%s", p->socket);
    CLEANUP(mem_freep) char *pid = mem_printf("--pid-file=%s", p->pid);
    const char *const argv[] = {"qemu-nbd", "--fork",          "--shared=0", format, socket,
                                pid,        "--discard=unmap", server->path, NULL};

    if (unlink(p->socket) < 0 && errno != ENOENT)
        return err_set(err, ERR_IO, errno, "%s: remove", p->socket);
    return proc_must(argv, NULL, err);
}

int nbd_server_need(const struct nbd_server *server, char **ret_socket, struct err *err)
{
    CLEANUP(places_done) struct places p = places_of(server);
    CLEANUP(fd_close) int held = -1;
    struct proc_id id;

    if (check_socket(p.socket, err) < 0 || fs_make_dirs(fs_real(), server->run_dir, 0700, err) < 0
        || lock(p.lock, &held, err) < 0)
        return -1;
    if (!find(&p, &id) && start(server, &p, err) < 0)
        return err_wrap(err, "serve %s", server->path);
    *ret_socket = TAKE(p.socket);
    return 0;
}

int nbd_server_end(const struct nbd_server *server, struct err *err)
{
    CLEANUP(places_done) struct places p = places_of(server);
    CLEANUP(fd_close) int held = -1;
    struct proc_id id;

    if (!fs_exists(server->run_dir))
        return 0;
    if (lock(p.lock, &held, err) < 0)
        return -1;
    if (find(&p, &id) && proc_end(&id, GRACE_MS, NULL, err) < 0)
        return err_wrap(err, "end the server of %s", server->path);
    (void)unlink(p.socket);
    (void)unlink(p.pid);
    return 0;
}
