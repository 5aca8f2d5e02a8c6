// SPDX-License-Identifier: Apache-2.0
/* Both halves of a replication are killed at every kind of crash point, at its first, second and
 * last pass; the ones that go on are killed once more; those after them must come to a point that
 * is the source bit for bit. Each life is a forked child, so that nothing but files and the
 * machine's memory is handed on. */
#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sync/reverse.h"
#include "support/tmpdir.h"

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB       1024u
#define NAMES_MAX 64

static const uint64_t sizes[] = {768 * KIB, 512 * KIB + 4608};

/* Known to all lives. */
struct shared {
    uint64_t seed;
    uint64_t told; /* the newest point we were told is durable */
};

static void write_during_scan(struct fake_machine *machine, void *ctx)
{
    fake_write_random(machine, ctx, 1);
}

static void turn(struct bed *bed, struct shared *shared)
{
    bed_turn(bed);
    uint64_t durable = bed_status(bed).durable_point;
    if (durable > shared->told)
        shared->told = durable;
}

static void turns_until(struct bed *bed, struct shared *shared, uint64_t point)
{
    for (int i = 0; bed_status(bed).applied_point < point; i++) {
        BED_CHECK(i < 60);
        turn(bed, shared);
    }
    BED_CHECK(bed_replica_equals_cut(bed));
}

/* Copy, deltas, a machine that restarts, deltas. */
static void live(struct bed *bed, struct shared *shared)
{
    bed_open_session(bed);
    turns_until(bed, shared, 1);
    for (uint64_t point = 2; point < 4; point++) {
        fake_write_random(bed->machine, &shared->seed, 10);
        turns_until(bed, shared, point);
    }
    fake_restart(bed->machine);
    fake_write_random(bed->machine, &shared->seed, 5);
    turns_until(bed, shared, 4);
    turns_until(bed, shared, 5);
}

/* Takes over what is there, and makes two more points. */
static void go_on(struct bed *bed, struct shared *shared)
{
    struct store_info info;
    struct err failed = ERR_EMPTY;

    fake_write_random(bed->machine, &shared->seed, 10);
    BED_OK(bed_store(bed)->ops->info(bed->store, &info, &failed), &failed);
    bed_store_put(bed);
    BED_CHECK(info.durable_point >= shared->told);
    bed_open_session(bed);
    /* A point whose answer we did not hear may be there; the next one is ours to make. */
    turns_until(bed, shared, info.durable_point + 2);
    fake_write_random(bed->machine, &shared->seed, 10);
    turns_until(bed, shared, shared->told + 1);
}

struct scene {
    const char *dir;
    struct fake_machine *machine;
    struct shared *shared;
    struct reverse *reverse; /* with a bed that is ready; or NULL */
};

typedef void life(struct bed *bed, struct shared *shared);

/* True when it was killed by its crash point, false when it came to its end. */
static bool run(const struct scene *scene, life *what, const char *crash, const char *list)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0) {
        struct bed bed;
        log_set_level(LOG_LEVEL_ERROR);
        crash_arm(crash, list);
        if (scene->reverse) {
            what(&scene->reverse->bed, scene->shared);
            bed_done(&scene->reverse->bed);
            _exit(0);
        }
        bed_init(&bed, scene->dir, scene->machine);
        scene->machine->on_piece = write_during_scan;
        scene->machine->on_piece_ctx = &scene->shared->seed;
        what(&bed, scene->shared);
        bed_done(&bed);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("a life with crash=%s ended with status %d", crash ? crash : "none", status);
    return false;
}

static struct scene scene_new(const char *base, unsigned number)
{
    struct scene scene = {.dir = mem_printf("%s/%u", base, number)};

    scene.machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    scene.shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(scene.shared, MAP_FAILED);
    scene.shared->seed = number;
    fake_write_random(scene.machine, &scene.shared->seed, 40);
    EXPECT_OK(fs_make_dirs(fs_real(), scene.dir, 0700, &err));
    return scene;
}

static void scene_done(struct scene *scene)
{
    EXPECT_OK(fs_remove_tree(fs_real(), scene->dir, &err));
    fake_machine_free(scene->machine);
    (void)munmap(scene->shared, sizeof(struct shared));
    free((void *)(uintptr_t)scene->dir);
}

/* --- The way back ---------------------------------------------------------------------------- */

/* The machine works elsewhere; two points go back to where it was. */
static void live_back(struct bed *bed, struct shared *shared)
{
    bed_open_session(bed);
    turns_until(bed, shared, REVERSE_TIP + 1);
    fake_write_random(bed->machine, &shared->seed, 10);
    turns_until(bed, shared, REVERSE_TIP + 2);
}

static struct scene scene_back(const char *base, unsigned number)
{
    struct scene scene = {.dir = mem_printf("%s/%u", base, number)};

    scene.shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(scene.shared, MAP_FAILED);
    scene.shared->seed = number;
    scene.reverse = mem_new(struct reverse);
    reverse_begin(scene.reverse, scene.dir, sizes);
    reverse_write(scene.reverse, 20, 1);
    reverse_start_machine(scene.reverse);
    reverse_write(scene.reverse, 20, 1);
    reverse_prepare(scene.reverse);
    bed_restart_replica(&scene.reverse->bed); /* each life opens it for itself */
    scene.reverse->bed.break_link = false;
    scene.machine = scene.reverse->machine;
    return scene;
}

static void scene_back_done(struct scene *scene)
{
    EXPECT_OK(fs_remove_tree(fs_real(), scene->dir, &err));
    reverse_done(scene->reverse);
    free(scene->reverse);
    (void)munmap(scene->shared, sizeof(struct shared));
    free((void *)(uintptr_t)scene->dir);
}

/* --- From seeds ------------------------------------------------------------------------------ */

/* An older copy of the first disk is at the replica's site; the second one is copied. */
static void seed(struct bed *bed)
{
    bed_seed(bed, 0, "old.raw");
}

static void live_seeded(struct bed *bed, struct shared *shared)
{
    seed(bed);
    bed_open_session(bed);
    turns_until(bed, shared, 1);
    fake_write_random(bed->machine, &shared->seed, 10);
    turns_until(bed, shared, 2);
}

static void go_on_seeded(struct bed *bed, struct shared *shared)
{
    seed(bed);
    go_on(bed, shared);
}

/* QEMU ended meanwhile, too: nobody knows what changed. */
static void go_on_restarted(struct bed *bed, struct shared *shared)
{
    fake_restart(bed->machine);
    go_on_seeded(bed, shared);
}

/* Nobody speaks of a seed any more: what was filled from it is compared all the same. */
static void go_on_without(struct bed *bed, struct shared *shared)
{
    go_on(bed, shared);
}

static struct scene scene_seeded(const char *base, unsigned number)
{
    struct scene scene = scene_new(base, number);
    struct bed bed;

    bed_init(&bed, scene.dir, scene.machine);
    bed_seed_file(&bed, 0, "old.raw", number % 3 ? sizes[0] : sizes[0] / 2 + 512);
    bed_done(&bed);
    fake_write_random(scene.machine, &scene.shared->seed, 20);
    return scene;
}

struct passes {
    char name[64];
    unsigned count;
};

static size_t list_passes(const char *path, struct passes *passes)
{
    char line[64];
    size_t names = 0;
    FILE *file = fopen(path, "re");

    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        size_t i = 0;
        while (i < names && strcmp(passes[i].name, line) != 0)
            i++;
        assert_true(i < NAMES_MAX);
        if (i == names) {
            memcpy(passes[names].name, line, sizeof(line));
            passes[names++].count = 0;
        }
        passes[i].count++;
    }
    (void)fclose(file);
    return names;
}

static void crash_and_go_on(const char *base, const char *name, unsigned nth, unsigned number)
{
    struct scene scene = scene_new(base, number);
    CLEANUP(mem_freep) char *first = mem_printf("%s:%u", name, nth);
    CLEANUP(mem_freep) char *second = mem_printf("*:%u", 1 + number * 5 % 17);

    assert_true(run(&scene, live, first, NULL));
    (void)run(&scene, go_on, second, NULL);
    assert_false(run(&scene, go_on, NULL, NULL));
    scene_done(&scene);
}

static void whoever_is_killed_wherever_no_change_is_lost(void **state)
{
    struct scene scene = scene_new(*state, 0);
    CLEANUP(mem_freep) char *list = mem_printf("%s/list", (const char *)*state);
    struct passes passes[NAMES_MAX];
    unsigned number = 1;

    assert_false(run(&scene, live, NULL, list));
    scene_done(&scene);
    size_t names = list_passes(list, passes);
    assert_true(names >= 20);
    for (size_t i = 0; i < names; i++) {
        unsigned at[] = {1, 2, passes[i].count};
        for (size_t k = 0; k < ARRAY_LEN(at); k++)
            if (at[k] <= passes[i].count && (k < 2 || at[k] > 2))
                crash_and_go_on(*state, passes[i].name, at[k], number++);
    }
}

static void crash_and_go_on_seeded(const char *base, const char *name, unsigned nth,
                                   unsigned number)
{
    static life *const ways[] = {go_on_seeded, go_on_without, go_on_restarted};
    struct scene scene = scene_seeded(base, number);
    CLEANUP(mem_freep) char *first = mem_printf("%s:%u", name, nth);
    CLEANUP(mem_freep) char *second = mem_printf("*:%u", 1 + number * 5 % 17);
    life *way = ways[number % ARRAY_LEN(ways)];

    assert_true(run(&scene, live_seeded, first, NULL));
    (void)run(&scene, way, second, NULL);
    assert_false(run(&scene, go_on_seeded, NULL, NULL));
    scene_done(&scene);
}

static void whoever_is_killed_wherever_in_seeding_no_change_is_lost(void **state)
{
    struct scene scene = scene_seeded(*state, 0);
    CLEANUP(mem_freep) char *list = mem_printf("%s/list", (const char *)*state);
    struct passes passes[NAMES_MAX];
    unsigned number = 1;
    unsigned seeding = 0;

    assert_false(run(&scene, live_seeded, NULL, list));
    scene_done(&scene);
    size_t names = list_passes(list, passes);
    for (size_t i = 0; i < names; i++) {
        seeding += strstr(passes[i].name, "seed") != NULL;
        for (unsigned nth = 1; nth <= passes[i].count && nth <= 3; nth++)
            crash_and_go_on_seeded(*state, passes[i].name, nth, number++);
    }
    assert_int_equal(seeding, 3); /* of the store, the receiver, the session */
}

static void crash_and_go_back(const char *base, const char *name, unsigned nth, unsigned number)
{
    struct scene scene = scene_back(base, number);
    CLEANUP(mem_freep) char *first = mem_printf("%s:%u", name, nth);
    CLEANUP(mem_freep) char *second = mem_printf("*:%u", 1 + number * 5 % 17);

    assert_true(run(&scene, live_back, first, NULL));
    (void)run(&scene, go_on, second, NULL);
    assert_false(run(&scene, go_on, NULL, NULL));
    scene_back_done(&scene);
}

static void whoever_is_killed_wherever_on_the_way_back_no_change_is_lost(void **state)
{
    struct scene scene = scene_back(*state, 0);
    CLEANUP(mem_freep) char *list = mem_printf("%s/list", (const char *)*state);
    struct passes passes[NAMES_MAX];
    unsigned number = 1;

    assert_false(run(&scene, live_back, NULL, list));
    scene_back_done(&scene);
    size_t names = list_passes(list, passes);
    assert_true(names >= 15);
    for (size_t i = 0; i < names; i++)
        for (unsigned nth = 1; nth <= passes[i].count && nth <= 2; nth++)
            crash_and_go_back(*state, passes[i].name, nth, number++);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(whoever_is_killed_wherever_no_change_is_lost),
        TMPDIR_TEST(whoever_is_killed_wherever_in_seeding_no_change_is_lost),
        TMPDIR_TEST(whoever_is_killed_wherever_on_the_way_back_no_change_is_lost),
    };
    return cmocka_run_group_tests_name("crash of a session", tests, NULL, NULL);
}
