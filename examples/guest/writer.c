// SPDX-License-Identifier: Apache-2.0
/* The guest's workload: a writer whose disks can be judged exactly afterwards.
 *
 *   writer ring PAUSE_US SLOTS FILE...   numbered records, each one durable before the next begins
 *   writer span MIB FILE...              random 4 KiB writes at full speed, for measuring
 *   writer idle                          writes nothing, answers on the network only
 *   writer judge SLOTS FILE...           only looks at the files of a ring and says RECORDS
 *
 * Ring. Record n lies in file n mod D, slot (n div D) mod SLOTS; record n+1 is written only after
 * the fsync of record n returned. So the disks, taken together, are an instant of this history
 * exactly when there is a number S such that every slot holds the newest of the records 1..S that
 * belongs there. At its start the writer scans its files, prints
 *
 *   RECORDS first=F last=S missing=M damaged=D disks=N generation=G seen=O
 *
 * (missing: slots that hold an older record than history 1..S demands, or none; damaged: slots
 * with bytes that are no record of this place and history; generation: how often a writer had
 * started on these files; seen: see below) and goes on at S+1. "ACKED n" follows at least every 100 ms while there
 * is progress; after SIGTERM "ACKED n" and "WRITER STOPPED n". The same number is the answer to
 * any TCP connection to port 7.
 *
 * With WRITER_FOLLOW=ADDRESS in its environment it asks the writer there for that number before each
 * record, and the record says what it was told. So two writers' disks are one instant only if neither
 * has seen more of the other (seen=, the highest of its records) than the other has.
 *
 * A record is 4096 bytes, native byte order: magic, number, history (drawn once, at the first
 * start), generation, files | file << 32, slot, seen, a filling made from history and number, and a
 * checksum of all that stands before it. A slot of zeros has never been written. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BLOCK     4096
#define FILES_MAX 16
#define MAGIC     UINT64_C(0x31474e4952545355)
#define PORT      7
#define SLOTS     4096
#define SCAN      (1 << 20)

struct record {
    uint64_t magic;
    uint64_t number;
    uint64_t history;
    uint64_t generation;
    uint64_t place; /* files | file << 32 */
    uint64_t slot;
    uint64_t seen; /* of the writer that is followed, when this was begun */
    uint64_t filling[(BLOCK - 8 * sizeof(uint64_t)) / sizeof(uint64_t)];
    uint64_t checksum;
};
_Static_assert(sizeof(struct record) == BLOCK, "a record fills a block");

struct ring {
    int fds[FILES_MAX];
    unsigned files;
    uint64_t slots;
    uint64_t history; /* 0: not drawn yet */
    uint64_t generation;
    uint64_t seen;
};

static _Atomic uint64_t acked;
static volatile sig_atomic_t stopping;

static void on_term(int sig)
{
    (void)sig;
    stopping = 1;
}

static _Noreturn void die(const char *what)
{
    (void)printf("WRITER FAILED %s: %s\n", what, strerror(errno));
    (void)fflush(stdout);
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void fill(uint64_t *words, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++)
        words[i] = seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

static uint64_t checksum(const struct record *record)
{
    const uint64_t *words = (const uint64_t *)(const void *)record;
    uint64_t sum = MAGIC;

    for (size_t i = 0; i < BLOCK / sizeof(uint64_t) - 1; i++)
        sum = (sum ^ words[i]) * UINT64_C(0x100000001b3) + (sum >> 41);
    return sum | 1;
}

static bool all_zero(const void *block)
{
    const uint64_t *words = block;

    for (size_t i = 0; i < BLOCK / sizeof(uint64_t); i++)
        if (words[i])
            return false;
    return true;
}

/* --- Ring ---------------------------------------------------------------------------------- */

/* Files are written out in full once, so that later writes change no metadata. */
static void ring_open(struct ring *ring, char **paths)
{
    static const char zeros[SCAN];

    for (unsigned i = 0; i < ring->files; i++) {
        off_t size = (off_t)(ring->slots * BLOCK);
        off_t have;

        ring->fds[i] = open(paths[i], O_RDWR | O_CREAT, 0644);
        if (ring->fds[i] < 0 || (have = lseek(ring->fds[i], 0, SEEK_END)) < 0)
            die(paths[i]);
        for (have -= have % BLOCK; have < size;) {
            size_t len = size - have < SCAN ? (size_t)(size - have) : SCAN;
            ssize_t put = pwrite(ring->fds[i], zeros, len, have);
            if (put <= 0)
                die(paths[i]);
            have += put;
        }
        if (fsync(ring->fds[i]) < 0)
            die(paths[i]);
    }
}

static uint64_t ring_place(const struct ring *ring, unsigned file)
{
    return ring->files | (uint64_t)file << 32;
}

static bool record_is_good(const struct ring *ring, const struct record *record, unsigned file,
                           uint64_t slot)
{
    return record->magic == MAGIC && record->checksum == checksum(record) && record->number > 0
           && record->place == ring_place(ring, file) && record->slot == slot
           && record->number % ring->files == file
           && record->number / ring->files % ring->slots == slot;
}

/* Reads every slot; numbers[slot * files + file] is the record's number, 0 when empty. The first
 * good record decides which history this is: others are damage. Returns the count of damage. */
static uint64_t ring_scan(struct ring *ring, uint64_t *numbers)
{
    static uint64_t buf[SCAN / sizeof(uint64_t)];
    uint64_t damaged = 0;

    for (unsigned file = 0; file < ring->files; file++) {
        for (uint64_t slot = 0; slot < ring->slots; slot++) {
            uint64_t in_buf = slot % (SCAN / BLOCK);
            const void *at = (const char *)buf + in_buf * BLOCK;
            const struct record *record = at;

            if (in_buf == 0) {
                memset(buf, 0, sizeof(buf));
                if (pread(ring->fds[file], buf, SCAN, (off_t)(slot * BLOCK)) < 0)
                    die("scan");
            }
            if (all_zero(at))
                continue;
            if (!record_is_good(ring, record, file, slot)
                || (ring->history && record->history != ring->history)) {
                damaged++;
                continue;
            }
            ring->history = record->history;
            if (record->generation > ring->generation)
                ring->generation = record->generation;
            if (record->seen > ring->seen)
                ring->seen = record->seen;
            numbers[slot * ring->files + file] = record->number;
        }
    }
    return damaged;
}

/* Judges the files and prints the verdict; returns S. */
static uint64_t ring_judge(struct ring *ring)
{
    uint64_t total = ring->slots * ring->files;
    uint64_t *numbers = calloc(total, sizeof(*numbers));
    uint64_t damaged, first = 0, last = 0, missing = 0;

    if (!numbers)
        die("memory");
    damaged = ring_scan(ring, numbers);
    for (uint64_t i = 0; i < total; i++)
        last = numbers[i] > last ? numbers[i] : last;
    /* The newest `total` records of 1..last each have a slot of their own. */
    for (uint64_t n = last > total ? last - total + 1 : 1; n <= last; n++) {
        if (numbers[n / ring->files % ring->slots * ring->files + n % ring->files] != n)
            missing++;
        else if (first == 0)
            first = n;
    }
    free(numbers);
    (void)printf("RECORDS first=%llu last=%llu missing=%llu damaged=%llu disks=%u "
                 "generation=%llu seen=%llu\n",
                 (unsigned long long)first, (unsigned long long)last, (unsigned long long)missing,
                 (unsigned long long)damaged, ring->files, (unsigned long long)ring->generation,
                 (unsigned long long)ring->seen);
    return last;
}

static void record_make(const struct ring *ring, uint64_t number, struct record *record)
{
    unsigned file = (unsigned)(number % ring->files);

    record->magic = MAGIC;
    record->number = number;
    record->history = ring->history;
    record->generation = ring->generation;
    record->place = ring_place(ring, file);
    record->slot = number / ring->files % ring->slots;
    record->seen = ring->seen;
    fill(record->filling, sizeof(record->filling) / sizeof(uint64_t), mix(number ^ ring->history));
    record->checksum = checksum(record);
}

/* What the writer at `address` acknowledged; 0 when it does not answer at once. */
static uint64_t ask(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    const struct timeval limit = {.tv_usec = 300000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char line[32] = "";

    if (fd < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1)
        die(address);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
        (void)!read(fd, line, sizeof(line) - 1);
    (void)close(fd);
    return strtoull(line, NULL, 10);
}

static void ring_run(struct ring *ring, unsigned pause_us, uint64_t last)
{
    static struct record record;
    const char *other = getenv("WRITER_FOLLOW");
    int64_t said = now_us();

    atomic_store(&acked, last);
    while (!stopping) {
        uint64_t seen = other && *other ? ask(other) : 0;
        if (seen > ring->seen)
            ring->seen = seen;
        record_make(ring, last + 1, &record);
        int fd = ring->fds[(last + 1) % ring->files];
        if (pwrite(fd, &record, BLOCK, (off_t)(record.slot * BLOCK)) != BLOCK || fdatasync(fd) < 0)
            die("write");
        atomic_store(&acked, ++last);
        if (now_us() - said >= 50000) {
            said = now_us();
            (void)printf("ACKED %llu\n", (unsigned long long)last);
        }
        if (pause_us)
            (void)usleep(pause_us);
    }
    (void)printf("ACKED %llu\nWRITER STOPPED %llu\n", (unsigned long long)last,
                 (unsigned long long)last);
}

static void ring_main(unsigned pause_us, uint64_t slots, char **paths, int count)
{
    struct ring ring = {.files = (unsigned)count, .slots = slots};
    uint64_t last;

    ring_open(&ring, paths);
    last = ring_judge(&ring);
    ring.generation++;
    while (ring.history == 0)
        if (getrandom(&ring.history, sizeof(ring.history), GRND_NONBLOCK) != sizeof(ring.history))
            ring.history = mix((uint64_t)now_us());
    ring_run(&ring, pause_us, last);
}

static void judge_main(uint64_t slots, char **paths, int count)
{
    struct ring ring = {.files = (unsigned)count, .slots = slots};

    for (int i = 0; i < count; i++)
        if ((ring.fds[i] = open(paths[i], O_RDONLY)) < 0)
            die(paths[i]);
    (void)ring_judge(&ring);
}

/* --- Span ---------------------------------------------------------------------------------- */

static void span_main(uint64_t mib, char **paths, int count)
{
    uint64_t *block = aligned_alloc(BLOCK, BLOCK);
    uint64_t state = mix((uint64_t)now_us()), blocks = mib * (1 << 20) / BLOCK;
    uint64_t in_second = 0, total = 0;
    int64_t worst = 0, said;
    struct ring ring = {.files = (unsigned)count, .slots = blocks};

    if (!block)
        die("memory");
    ring_open(&ring, paths);
    for (int i = 0; i < count; i++) {
        (void)close(ring.fds[i]);
        if ((ring.fds[i] = open(paths[i], O_RDWR | O_DIRECT | O_DSYNC)) < 0)
            die(paths[i]);
    }
    for (said = now_us(); !stopping; in_second++) {
        int64_t began, ended;

        state = mix(state);
        fill(block, BLOCK / sizeof(uint64_t), state);
        began = now_us();
        if (pwrite(ring.fds[state % ring.files], block, BLOCK,
                   (off_t)((state >> 8) % blocks * BLOCK))
            != BLOCK)
            die("write");
        ended = now_us();
        atomic_store(&acked, ++total);
        worst = ended - began > worst ? ended - began : worst;
        if (ended - said >= 1000000) {
            (void)printf("SPAN writes_per_s=%llu worst_us=%lld total=%llu\n",
                         (unsigned long long)(in_second * 1000000 / (uint64_t)(ended - said)),
                         (long long)worst, (unsigned long long)total);
            said = ended;
            in_second = 0;
            worst = 0;
        }
    }
    (void)printf("WRITER STOPPED %llu\n", (unsigned long long)total);
    free(block);
}

/* --- Answers on the network ------------------------------------------------------------------ */

static void *answer(void *arg)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int on = 1, server = socket(AF_INET, SOCK_STREAM, 0);

    (void)arg;
    (void)setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (server < 0 || bind(server, (struct sockaddr *)&any, sizeof(any)) < 0
        || listen(server, 16) < 0)
        return NULL;
    for (;;) {
        char line[32];
        int fd = accept(server, NULL, NULL);

        if (fd < 0)
            continue;
        int len = snprintf(line, sizeof(line), "%llu\n", (unsigned long long)atomic_load(&acked));
        (void)!write(fd, line, (size_t)len);
        (void)close(fd);
    }
}

int main(int argc, char **argv)
{
    struct sigaction term = {.sa_handler = on_term};
    pthread_t thread;
    uint64_t slots;

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)sigaction(SIGTERM, &term, NULL);
    if (argc >= 4 && argc <= 3 + FILES_MAX && strcmp(argv[1], "judge") == 0) {
        slots = strtoull(argv[2], NULL, 10);
        judge_main(slots ? slots : SLOTS, argv + 3, argc - 3);
        return 0;
    }
    if (pthread_create(&thread, NULL, answer, NULL) != 0)
        die("thread");
    if (argc >= 5 && argc <= 4 + FILES_MAX && strcmp(argv[1], "ring") == 0) {
        slots = strtoull(argv[3], NULL, 10);
        ring_main((unsigned)strtoul(argv[2], NULL, 10), slots ? slots : SLOTS, argv + 4, argc - 4);
    } else if (argc >= 4 && argc <= 3 + FILES_MAX && strcmp(argv[1], "span") == 0) {
        slots = strtoull(argv[2], NULL, 10);
        span_main(slots ? slots : 32, argv + 3, argc - 3);
    } else if (argc == 2 && strcmp(argv[1], "idle") == 0) {
        while (!stopping)
            (void)usleep(100000);
    } else {
        (void)fprintf(stderr, "usage: writer ring PAUSE_US SLOTS FILE... | span MIB FILE... | "
                              "idle | judge SLOTS FILE...\n");
        return 2;
    }
    (void)fflush(stdout);
    return 0;
}
