// SPDX-License-Identifier: Apache-2.0
/* A store in a fresh folder with a kit that feeds it, for STORE_TEST(name). */
#pragma once

#include "support/replica/kit.h"

struct fixture {
    char *root;
    struct kit kit;
    struct store *store;
};

int fixture_setup(void **state); /* an open, empty store */
int fixture_teardown(void **state);
#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

/* All of these abort the test program with a message when they fail. */
void fixture_copy(struct fixture *f);
void fixture_points(struct fixture *f, size_t count); /* committed and applied */
void fixture_reopen(struct fixture *f);
struct store_info fixture_info(struct fixture *f);
/* DIR/store/NAME; free with free(). */
char *fixture_path(const struct fixture *f, const char *name);
/* Changes one byte of a file of the store. `at` from the start, or, negative, from the end. */
void fixture_flip(const struct fixture *f, const char *name, int64_t at);
void fixture_write(const struct fixture *f, const char *name, const char *text);
/* How many files there are in a folder of the store. */
size_t fixture_count(const struct fixture *f, const char *name);
