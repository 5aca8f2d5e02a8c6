// SPDX-License-Identifier: Apache-2.0
/* A fresh folder per test in *state, removed afterwards: TMPDIR_TEST(name). */
#pragma once

int tmpdir_setup(void **state);
int tmpdir_teardown(void **state);

#define TMPDIR_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, tmpdir_teardown)
