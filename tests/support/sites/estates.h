// SPDX-License-Identifier: Apache-2.0
/* Two estates in one folder: paris runs db1 and sends its group, lyon holds its replica with
 * points 1..3 (in a real store in a directory). Links between them are served by a thread. */
#pragma once

#include "sites/estate.h"
#include "sites/site.h"
#include "support/sites/provider_fake.h"

struct estates {
    char *root;
    struct clock_fake clock;
    struct provider_fake fake;
    struct estate *paris;
    struct estate *lyon;
    struct site *at_paris; /* its own */
    struct site *at_lyon;
    struct site *paris_from_lyon; /* by link */
    struct site *lyon_from_paris; /* by link; not after a restart of paris */
    bool unreachable;
    bool lyon_answers; /* links of paris, sessions' too, reach lyon */
    unsigned links_asked;
    char told[64]; /* what paris last said about its group */
    pthread_t server_thread;
    struct estate *server;
    bool serving;
    struct link *server_link;
};

int estates_setup(void **state);
int estates_teardown(void **state);
#define ESTATES_TEST(f) cmocka_unit_test_setup_teardown(f, estates_setup, estates_teardown)

/* Paris' estate is closed and opened anew, as by a restart of its daemon. */
void estates_restart_paris(struct estates *e);
/* The same of lyon. */
void estates_restart_lyon(struct estates *e);
/* Asks; fails the test on an error. Borrowed until the next call by the test: new reference. */
json_t *estates_ask(struct site *site, const char *what, json_t *args);
/* The same, and nothing of the answer is wanted. */
void estates_tell(struct site *site, const char *what, json_t *args);
/* {group, run} and {machine, run, test} of db1, for asks. */
json_t *estates_group_args(const char *run);
json_t *estates_machine_args(const char *run);
