// SPDX-License-Identifier: Apache-2.0
/* RUN_DIR/nbd-HEX.sock, .pid (qemu-nbd's own), .lock, .barred (empty, while none may start); HEX: the first 8 bytes of the SHA-256 of the
 * disk's path, of a pinned one also of which file it is, so that no two files have one server. A pid is believed when its command line has our socket: numbers are used again. */
#include "base/nbd_server.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME_HEX_BYTES 8
#define GRACE_MS       5000
#define LOOK_MS        2
#define IMAGE_MS       1000
#define IMAGE_LOOK_MS  50
#define CMDLINE_MAX    65536

struct places {
    char *socket;
    char *pid;
    char *lock;
    char *barred;
};

static void places_done(struct places *p)
{
    free(p->socket);
    free(p->pid);
    free(p->lock);
    free(p->barred);
}

static char *key_of(const struct nbd_server *server)
{
    struct stat st = {.st_dev = 0};

    if (!server->pin)
        return mem_strdup(server->path);
    (void)fstat(server->pin->fd, &st);
    return mem_printf("%s\n%ju %" PRIu64 " %" PRId64, server->path, (uintmax_t)st.st_dev,
                      server->pin->stamp.inode, server->pin->stamp.ctime_ns);
}

static struct places places_of(const struct nbd_server *server)
{
    char hex[2 * NAME_HEX_BYTES + 1];
    struct sha256 sum;

    CLEANUP(mem_freep) char *key = key_of(server);

    sha256_of(key, strlen(key), &sum);
    str_hex(sum.bytes, NAME_HEX_BYTES, hex);
    return (struct places){
        mem_printf("%s/nbd-%s.sock", server->run_dir, hex),
        mem_printf("%s/nbd-%s.pid", server->run_dir, hex),
        mem_printf("%s/nbd-%s.lock", server->run_dir, hex),
        mem_printf("%s/nbd-%s.barred", server->run_dir, hex),
    };
}

/* Waits for whoever else starts or ends this server: that is a matter of moments. */
static int lock(const char *path, int *ret_fd, struct err *err)
{
    return fs_lock_wait(path, ret_fd, NULL, err);
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

/* For QEMU: commas are doubled. No refcounts are left to be written when a qcow2 file is closed: what
 * was synced is all that changes in it. */
static char *image_of(const struct nbd_server *server)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(mem_freep)
    char *path =
        server->pin ? mem_printf("/proc/self/fd/%d", server->pin->fd) : mem_strdup(server->path);

    str_addf(&text, "driver=%s,%s%sfile.filename=", server->format,
             server->read_only ? "read-only=on," : "",
             str_eq(server->format, "qcow2") && !server->read_only ? "lazy-refcounts=off," : "");
    for (const char *at = path; *at; at++) {
        if (*at == ',')
            str_add(&text, ",");
        str_add_bytes(&text, at, 1);
    }
    return str_take(&text);
}

/* A server whose last client has left is on its way out, and keeps its pid file locked until the
 * image is closed. */
static void wait_for_the_last_one(const struct places *p)
{
    CLEANUP(fd_close) int fd = open(p->pid, O_RDWR | O_CLOEXEC);

    for (int waited = 0; fd >= 0 && waited < GRACE_MS; waited += LOOK_MS) {
        struct flock held = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fcntl(fd, F_GETLK, &held) < 0 || held.l_type == F_UNLCK)
            return;
        (void)poll(NULL, 0, LOOK_MS);
    }
}

/* Comes back when the server listens: only then it goes into the background. */
static int start(const struct nbd_server *server, const struct places *p, struct err *err)
{
    CLEANUP(mem_freep) char *image = image_of(server);
    CLEANUP(mem_freep) char *socket = mem_printf("--socket=%s", p->socket);
    CLEANUP(mem_freep) char *pid = mem_printf("--pid-file=%s", p->pid);
    const char *const argv[] = {"qemu-nbd",
                                "--fork",
                                "--shared=0",
                                "--discard=unmap",
                                "--image-opts",
                                socket,
                                pid,
                                image,
                                server->read_only ? "--read-only" : NULL,
                                NULL};

    const struct proc_spec spec = {
        .argv = argv,
        .keep_fds = server->pin ? &server->pin->fd : NULL,
        .keep_fd_count = server->pin ? 1 : 0,
    };

    if (unlink(p->socket) < 0 && errno != ENOENT)
        return err_set(err, ERR_IO, errno, "%s: remove", p->socket);
    return proc_must_be(&spec, NULL, err);
}

/* One that was killed holds the image until the kernel has ended it; a machine holds it for good. */
static int start_when_free(const struct nbd_server *server, const struct places *p, struct err *err)
{
    for (int waited = 0;; waited += IMAGE_LOOK_MS) {
        struct err why = ERR_EMPTY;
        wait_for_the_last_one(p);
        if (start(server, p, &why) == 0)
            return 0;
        if (waited >= IMAGE_MS || !strstr(why.text, "another process using the image"))
            return err_set(err, why.code, why.sys, "%s", why.text);
        (void)poll(NULL, 0, IMAGE_LOOK_MS);
    }
}

/* With the lock held. */
static int end(const struct nbd_server *server, const struct places *p, struct err *err)
{
    struct proc_id id;

    if (find(p, &id) && proc_end(&id, GRACE_MS, NULL, err) < 0)
        return err_wrap(err, "end the server of %s", server->path);
    (void)unlink(p->socket);
    (void)unlink(p->pid);
    return 0;
}

/* With the server there: what it opened is what was looked at. */
static int check_pin(const struct nbd_server *server, const struct places *p, struct err *err)
{
    struct stat st;

    if (!server->pin)
        return 0;
    if (fstat(server->pin->fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s", server->path);
    struct fs_stamp now = fs_stamp_of(&st);
    if (fs_stamp_equal(&now, &server->pin->stamp))
        return 0;
    if (end(server, p, err) < 0)
        return -1;
    return err_set(err, ERR_BUSY, 0, "%s was written to while it was opened", server->path);
}

int nbd_server_need(const struct nbd_server *server, char **ret_socket, struct err *err)
{
    CLEANUP(places_done) struct places p = places_of(server);
    CLEANUP(fd_close) int held = -1;
    struct proc_id id;

    if (check_socket(p.socket, err) < 0 || fs_make_dirs(fs_real(), server->run_dir, 0700, err) < 0
        || lock(p.lock, &held, err) < 0)
        return -1;
    if (fs_exists(p.barred))
        return err_set(err, ERR_STATE, 0, "%s: it is the machine's again, and not served",
                       server->path);
    if (!find(&p, &id) && start_when_free(server, &p, err) < 0)
        return err_wrap(err, "serve %s", server->path);
    if (check_pin(server, &p, err) < 0)
        return -1;
    *ret_socket = TAKE(p.socket);
    return 0;
}

int nbd_server_end(const struct nbd_server *server, struct err *err)
{
    CLEANUP(places_done) struct places p = places_of(server);
    CLEANUP(fd_close) int held = -1;

    if (!fs_exists(server->run_dir))
        return 0;
    return lock(p.lock, &held, err) < 0 ? -1 : end(server, &p, err);
}

int nbd_server_bar(const struct nbd_server *server, struct err *err)
{
    CLEANUP(places_done) struct places p = places_of(server);
    CLEANUP(fd_close) int held = -1;

    if (fs_make_dirs(fs_real(), server->run_dir, 0700, err) < 0 || lock(p.lock, &held, err) < 0
        || fs_replace_file(fs_real(), p.barred, "", 0, 0600, err) < 0)
        return -1;
    return end(server, &p, err);
}

int nbd_server_admit(const struct nbd_server *server, struct err *err)
{
    CLEANUP(places_done) struct places p = places_of(server);

    if (unlink(p.barred) < 0 && errno != ENOENT)
        return err_set(err, ERR_IO, errno, "%s: remove", p.barred);
    return 0;
}
