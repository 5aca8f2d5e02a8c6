// SPDX-License-Identifier: Apache-2.0
/* An old primary's daemon is killed at each crash point of keeping the branch, and the next one at
 * another: the third keeps all that was written, bit for bit, and one branch only. Each life is a
 * forked child: only files and the machine's memory are handed on. */
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sync/bed_branch.h"
#include "support/tmpdir.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB        1024u
#define POINTS_MIN 5 /* crash points a branch passes, at least */

static const uint64_t sizes[] = {768 * KIB, 512 * KIB + 4608};

struct scene {
    char *dir;
    struct fake_machine *machine;
    bool arrived; /* the last point, without anybody saying so */
};

typedef void life(struct bed *bed, const struct scene *scene);

/* Protected, then cut off in the middle of a point, and written on. */
static void be_cut_off(struct bed *bed, const struct scene *scene)
{
    CLEANUP(mem_freep) char *outbox = mem_printf("%s/session/outbox", bed->dir);
    uint64_t seed = 7;

    bed_open_session(bed);
    bed_turns_until(bed, 1, 20);
    fake_write_random(scene->machine, &seed, 40);
    bed->break_link = true;
    bed->cut_next = 16 * KIB;
    bed_turn(bed);
    bed_turn(bed);
    BED_CHECK(bed_status(bed).durable_point == 1);
    if (scene->arrived)
        bed_give_point(bed, outbox);
    fake_write_random(scene->machine, &seed, 10);
}

static void branch(struct bed *bed, const struct scene *scene)
{
    struct session_branch kept;
    struct err failed = ERR_EMPTY;

    (void)scene;
    bed->unreachable = true;
    bed_open_session(bed);
    BED_OK(bed_branch(bed, true, &kept, &failed), &failed);
}

static void branch_and_look(struct bed *bed, const struct scene *scene)
{
    struct session_branch kept;
    struct err failed = ERR_EMPTY;

    bed->unreachable = true;
    bed_open_session(bed);
    BED_OK(bed_branch(bed, true, &kept, &failed), &failed);
    BED_CHECK(kept.kind == SESSION_BRANCH_SEALED);
    BED_CHECK(kept.point == (scene->arrived ? 3 : 2));
    CLEANUP(mem_freep) char *folder = bed_branch_folder(bed, kept.point);
    bed_give_point(bed, folder);
    BED_CHECK(bed_replica_equals_machine(bed));
    CLEANUP(fs_names_free) struct fs_names names = {0};
    CLEANUP(mem_freep) char *all = path_join(bed->dir, "branches");
    BED_OK(fs_list(all, &names, &failed), &failed);
    BED_CHECK(names.len == 1);
}

/* True when it was killed by its crash point. */
static bool run(const struct scene *scene, life *what, unsigned crash)
{
    char point[32];
    int status = 0;

    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct bed bed;
        log_set_level(LOG_LEVEL_ERROR);
        (void)snprintf(point, sizeof(point), "*:%u", crash);
        if (crash)
            (void)setenv("MUSTER_CRASH", point, 1);
        bed_init(&bed, scene->dir, scene->machine);
        what(&bed, scene);
        bed_done(&bed);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("a life with crash=%u ended with status %d", crash, status);
    return false;
}

/* True when the first daemon was killed. */
static bool killed_twice(const char *base, unsigned number, bool arrived)
{
    struct scene scene = {.dir = mem_printf("%s/%u-%d", base, number, arrived), .arrived = arrived};
    uint64_t seed = number + 1;

    scene.machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    fake_write_random(scene.machine, &seed, 40);
    EXPECT_OK(fs_make_dirs(fs_real(), scene.dir, 0700, &err));
    assert_false(run(&scene, be_cut_off, 0));
    bool killed = run(&scene, branch, number);
    (void)run(&scene, branch, 1 + number * 5 % 7);
    assert_false(run(&scene, branch_and_look, 0));
    EXPECT_OK(fs_remove_tree(fs_real(), scene.dir, &err));
    fake_machine_free(scene.machine);
    free(scene.dir);
    return killed;
}

static void a_branch_is_whole_whoever_is_killed_wherever(void **state)
{
    for (int arrived = 0; arrived <= 1; arrived++) {
        unsigned number = 1;

        while (killed_twice(*state, number, arrived))
            number++;
        assert_true(number > POINTS_MIN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_branch_is_whole_whoever_is_killed_wherever),
    };
    return cmocka_run_group_tests_name("crash of a branch", tests, NULL, NULL);
}
