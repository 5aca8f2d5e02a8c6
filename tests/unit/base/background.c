// SPDX-License-Identifier: Apache-2.0
#include "base/background.h"

#include "support/expect.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

static int niceness(void)
{
    return getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void *work(void *ret_nice)
{
    background_thread();
    *(int *)ret_nice = niceness();
    return NULL;
}

static void a_background_thread_gives_way_and_its_process_does_not(void **state)
{
    int before = niceness();
    int want = before + BACKGROUND_NICE > 19 ? 19 : before + BACKGROUND_NICE;
    int in_thread = 0;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, work, &in_thread), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(in_thread, want);
    assert_int_equal(niceness(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_background_thread_gives_way_and_its_process_does_not),
    };
    return cmocka_run_group_tests_name("background", tests, NULL, NULL);
}
