// SPDX-License-Identifier: Apache-2.0
#include "ends.h"

#include "base/fs.h"
#include "base/mem.h"
#include "image.h"
#include "link/identity.h"
#include "sync/receiver.h"
#include "sync/session.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GROUP "bench"

void ends_die(const struct err *err)
{
    (void)fprintf(stderr, "bench: [%s] %s\n", err_code_name(err->code), err->text);
    exit(1);
}

double ends_now(void)
{
    return (double)clock_real()->now_ms(clock_real()) / 1000;
}

/* --- Sites ----------------------------------------------------------------------------------- */

static void keep(const char *dir, const char *site, const char *peer_name)
{
    CLEANUP(mem_freep) char *own = path_join(dir, site);
    CLEANUP(mem_freep) char *other = path_join(dir, peer_name);
    CLEANUP(mem_freep) char *path = path_join(other, IDENTITY_AUTHORITY_CRT);
    struct tls_peer peer = {.address = "127.0.0.1:1"};
    uint8_t private_key[32];
    X509 *authority = NULL;
    struct err err = ERR_EMPTY;

    (void)snprintf(peer.name, sizeof(peer.name), "%s", peer_name);
    OK(pair_sign_key(other, private_key, peer.sign_key, &err));
    OK(identity_read_cert(path, &authority, &err));
    OK(peer_store(own, &peer, authority, &err));
    X509_free(authority);
}

void ends_sites(const char *dir)
{
    static const char *const sites[] = {"paris", "lyon"};
    struct err err = ERR_EMPTY;

    for (size_t i = 0; i < ARRAY_LEN(sites); i++) {
        CLEANUP(mem_freep) char *path = path_join(dir, sites[i]);
        OK(authority_create(path, sites[i], &err));
    }
    keep(dir, "paris", "lyon");
    keep(dir, "lyon", "paris");
}

/* --- Receiving ------------------------------------------------------------------------------- */

struct lyon {
    pthread_mutex_t lock;
    struct store *store;
    char *dir;
    struct tls *tls;
    struct receiver_host host;
};

static int store_get(void *ctx, const char *peer, const char *group, struct store **ret_store,
                     struct err *err)
{
    struct lyon *l = ctx;

    (void)peer;
    (void)pthread_mutex_lock(&l->lock);
    if (!l->store) {
        struct store_dir_config config = {
            .fs = fs_real(), .clock = clock_real(), .dir = l->dir, .group = group};
        if (store_dir_open(&config, &l->store, err) < 0) {
            (void)pthread_mutex_unlock(&l->lock);
            return -1;
        }
    }
    *ret_store = l->store;
    return 0;
}

static void store_put(void *ctx, const char *group, struct store *store, bool failed)
{
    struct lyon *l = ctx;

    (void)group;
    if (failed) {
        store_close(store);
        l->store = NULL;
    }
    (void)pthread_mutex_unlock(&l->lock);
}

struct inbound {
    struct lyon *lyon;
    int fd;
};

static void *serve_link(void *arg)
{
    struct inbound in = *(struct inbound *)arg;
    struct err err = ERR_EMPTY;
    struct link *link = NULL;
    enum tls_kind kind;

    free(arg);
    if (tls_accept(in.lyon->tls, in.fd, NULL, &kind, &link, &err) < 0)
        return NULL; /* somebody looked whether we listen */
    struct receiver *receiver = receiver_new(&in.lyon->host);
    for (;;) {
        CLEANUP(link_msg_done) struct link_msg msg = {0};
        if (link_recv(link, &msg, NULL, &err) < 0)
            break;
        int rc = str_eq(json_get_str(msg.head, "op", ""), "sink")
                     ? link_answer(link, NULL, NULL, 0, NULL, &err)
                     : receiver_serve(receiver, link, &msg, NULL, &err);
        if (rc < 0)
            break;
    }
    receiver_free(receiver);
    link_close(link);
    return NULL;
}

void ends_serve(const char *dir)
{
    struct lyon l = {.lock = PTHREAD_MUTEX_INITIALIZER, .dir = path_join(dir, "replica")};
    CLEANUP(mem_freep) char *own = path_join(dir, "lyon");
    CLEANUP(mem_freep) char *port_path = path_join(dir, "port");
    struct err err = ERR_EMPTY;
    char text[16];
    uint16_t port;
    int fd;

    l.host = (struct receiver_host){&l, store_get, store_put, NULL};
    OK(tls_load(own, &l.tls, &err));
    OK(tls_listen("127.0.0.1:0", &fd, &err));
    OK(tls_port(fd, &port, &err));
    (void)snprintf(text, sizeof(text), "%u", port);
    OK(fs_replace_file(fs_real(), port_path, text, strlen(text), 0600, &err));
    for (;;) {
        struct inbound *in = mem_new(struct inbound);
        pthread_t thread;
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        (void)poll(&waiting, 1, -1);
        in->lyon = &l;
        in->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (in->fd < 0) {
            free(in);
            continue;
        }
        if (pthread_create(&thread, NULL, serve_link, in) != 0)
            abort();
        (void)pthread_detach(thread);
    }
}

/* --- A source with a map --------------------------------------------------------------------- */

/* The file source, but that a map is kept: what image_change says. */
struct known {
    struct source base; /* first */
    struct source *file;
    struct source_ops ops;
    uint64_t open, frozen;
    struct source_extents changed;
    struct source_extents cut;
    int fd;
};

static struct known *known_of(struct source *source)
{
    return (struct known *)(void *)source;
}

static void known_close(struct source *source)
{
    struct known *k = known_of(source);

    source_close(k->file);
    source_extents_free(&k->changed);
    source_extents_free(&k->cut);
    (void)close(k->fd);
    free(k);
}

static int known_disks(struct source *source, struct source_disks *ret_disks, struct cancel *cancel,
                       struct err *err)
{
    return known_of(source)->file->ops->disks(known_of(source)->file, ret_disks, cancel, err);
}

static int known_inspect(struct source *source, struct source_state *ret_state,
                         struct cancel *cancel, struct err *err)
{
    struct known *k = known_of(source);

    (void)cancel;
    (void)err;
    *ret_state = (struct source_state){.running = true, .open = k->open, .frozen = k->frozen};
    return 0;
}

static int known_pending(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                         struct err *err)
{
    (void)cancel;
    (void)err;
    *ret_bytes = source_extents_bytes(&known_of(source)->changed);
    return 0;
}

static int known_track(struct source *source, uint64_t serial, struct cancel *cancel,
                       struct err *err)
{
    (void)cancel;
    (void)err;
    known_of(source)->open = serial;
    known_of(source)->frozen = 0;
    return 0;
}

static int known_scan_begin(struct source *source, const char *disk, uint64_t from,
                            bool *ret_ordered, struct cancel *cancel, struct err *err)
{
    return known_of(source)->file->ops->scan_begin(known_of(source)->file, disk, from, ret_ordered,
                                                   cancel, err);
}

static int known_scan_next(struct source *source, struct source_piece *ret_piece,
                           struct cancel *cancel, struct err *err)
{
    return known_of(source)->file->ops->scan_next(known_of(source)->file, ret_piece, cancel, err);
}

static void known_scan_end(struct source *source)
{
    known_of(source)->file->ops->scan_end(known_of(source)->file);
}

static int known_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                     struct cancel *cancel, struct err *err)
{
    struct known *k = known_of(source);
    struct source_extents none = VEC_EMPTY;

    (void)cancel;
    (void)err;
    k->frozen = k->open;
    k->open = serial;
    source_extents_free(&k->cut);
    k->cut = k->changed;
    k->changed = none;
    *ret_cut = (struct source_cut){.wall_ms = clock_real()->wall_ms(clock_real())};
    return 0;
}

static int known_changes(struct source *source, const char *disk,
                         struct source_extents *ret_extents, struct cancel *cancel, struct err *err)
{
    (void)disk;
    (void)cancel;
    (void)err;
    VEC_FOREACH(extent, &known_of(source)->cut)
        *source_extents_push(ret_extents) = *extent;
    return 0;
}

static int known_read(struct source *source, const char *disk, uint64_t off, void *buf, size_t len,
                      struct cancel *cancel, struct err *err)
{
    return known_of(source)->file->ops->read(known_of(source)->file, disk, off, buf, len, cancel,
                                             err);
}

static int known_end(struct source *source, bool delivered, struct cancel *cancel, struct err *err)
{
    (void)delivered;
    (void)cancel;
    (void)err;
    known_of(source)->frozen = 0;
    return 0;
}

static const struct source_ops known_ops = {
    .close = known_close,
    .disks = known_disks,
    .inspect = known_inspect,
    .pending = known_pending,
    .track = known_track,
    .scan_begin = known_scan_begin,
    .scan_next = known_scan_next,
    .scan_end = known_scan_end,
    .cut = known_cut,
    .changes = known_changes,
    .read = known_read,
    .end = known_end,
};

/* --- Sending --------------------------------------------------------------------------------- */

struct paris {
    const struct ends_job *job;
    struct tls *tls;
    char address[64];
    struct known *known; /* the source in use */
};

static int open_source(void *ctx, struct source **ret_source, struct cancel *cancel,
                       struct err *err)
{
    struct paris *p = ctx;
    CLEANUP(mem_freep) char *work = path_join(p->job->dir, "work");
    const struct source_file_disk disk = {"vda", p->job->image, "raw"};
    struct source *file = NULL;

    (void)cancel;
    if (source_file_open(&disk, 1, work, &file, err) < 0)
        return -1;
    if (p->job->percent == 0) {
        *ret_source = file;
        return 0;
    }
    struct known *k = mem_new(struct known);
    k->base.ops = &known_ops;
    k->file = file;
    k->fd = -1;
    p->known = k;
    *ret_source = &k->base;
    return 0;
}

static int open_link(void *ctx, struct link **ret_link, struct cancel *cancel, struct err *err)
{
    struct paris *p = ctx;

    return tls_connect(p->tls, "lyon", p->address, cancel, ret_link, err);
}

static void paris_init(struct paris *p, const struct ends_job *job)
{
    CLEANUP(mem_freep) char *own = path_join(job->dir, "paris");
    CLEANUP(mem_freep) char *port_path = path_join(job->dir, "port");
    CLEANUP(str_free) struct str port = STR_EMPTY;
    struct err err = ERR_EMPTY;

    p->job = job;
    OK(tls_load(own, &p->tls, &err));
    OK(fs_read_file(fs_real(), port_path, 16, &port, &err));
    (void)snprintf(p->address, sizeof(p->address), "127.0.0.1:%s", port.ptr);
}

static void turns_until(struct session *session, uint64_t point)
{
    for (;;) {
        struct session_status status;
        int64_t next;
        session_turn(session, NULL, &next);
        session_status(session, &status);
        if (status.error.code != ERR_NONE)
            ends_die(&status.error);
        if (status.applied_point >= point)
            return;
    }
}

/* Notes when a point is durable: the turn that makes it so goes on until it is applied. */
struct watch {
    struct session *session;
    uint64_t point;
    double durable;
};

static void *watch_point(void *arg)
{
    struct watch *watch = arg;
    struct session_status status = {0};

    while (status.durable_point < watch->point) {
        (void)poll(NULL, 0, 1);
        session_status(watch->session, &status);
    }
    watch->durable = ends_now();
    return NULL;
}

void ends_run(const struct ends_job *job)
{
    struct paris p = {0};
    struct session_config config = {
        .group = GROUP,
        .site = "paris",
        .peer = "lyon",
        .generation = 1,
        .dir = path_join(job->dir, "session"),
        .clock = clock_real(),
        .ctx = &p,
        .open_source = open_source,
        .open_link = open_link,
    };
    CLEANUP(json_freep)
    json_t *policy = json_pack("{s:s, s:i, s:i}", "compression", job->compression, "copy_workers",
                               (int)job->workers, "interval_ms", 1000);
    struct err err = ERR_EMPTY;
    struct session *session;
    struct session_status status;
    uint8_t public_key[SIGN_KEY_BYTES];

    paris_init(&p, job);
    policy_init(&config.policy);
    OK(policy_from_json(policy, &config.policy, &err));
    sign_key_new(config.sign_key, public_key);
    OK(session_open(&config, &session, &err));
    session_status(session, &status);
    uint64_t point = status.durable_point + 1;
    if (job->percent) {
        turns_until(session, point++);
        source_extents_clear(&p.known->changed);
        image_change(job->image, job->percent, false, 7, &p.known->changed);
    }
    session_status(session, &status);
    uint64_t before = status.sent_bytes;
    struct watch watch = {session, point, 0};
    pthread_t watcher;
    double began = ends_now();
    if (pthread_create(&watcher, NULL, watch_point, &watch) != 0)
        abort();
    if (job->percent) {
        OK(session_sync_now(session, false, &point, NULL, &err));
    } else {
        turns_until(session, point);
    }
    double took = ends_now() - began;
    (void)pthread_join(watcher, NULL);
    session_status(session, &status);
    (void)printf("%.3f %llu %.3f %.3f\n", took, (unsigned long long)(status.sent_bytes - before),
                 (double)status.last_cycle_ms / 1000, watch.durable - began);
    session_close(session);
    tls_free(p.tls);
}

void ends_blocks(const struct ends_job *job)
{
    CLEANUP(source_extents_free) struct source_extents changed = VEC_EMPTY;
    CLEANUP(json_freep) json_t *head = json_pack("{s:s}", "op", "sink");
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(1u << 20, 1);
    struct paris p = {0};
    struct link *link;
    struct err err = ERR_EMPTY;
    size_t used = 0;
    uint64_t bytes = 0;
    int fd = open(job->image, O_RDONLY | O_CLOEXEC);

    paris_init(&p, job);
    image_change(job->image, job->percent, false, 7, &changed);
    OK(open_link(&p, &link, NULL, &err));
    double began = ends_now();
    VEC_FOREACH(extent, &changed) {
        if (pread(fd, buf + used, extent->len, (off_t)extent->off) != (ssize_t)extent->len)
            exit(1);
        used += extent->len;
        bytes += extent->len;
        if (used == 1u << 20 || extent + 1 == changed.at + changed.len) {
            OK(link_call(link, head, buf, used, NULL, NULL, &err));
            used = 0;
        }
    }
    (void)printf("%.3f %llu\n", ends_now() - began, (unsigned long long)bytes);
    link_close(link);
    tls_free(p.tls);
    (void)close(fd);
}
