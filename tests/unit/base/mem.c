// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "base/vec.h"
#include "support/expect.h"
#include "support/process.h"

VEC_DEFINE(numbers, int)

static void new_memory_is_zero(void **state)
{
    CLEANUP(mem_freep) int *n = mem_new_array(int, 1000);

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(n[i], 0);
}

static void nothing_asked_for_is_a_pointer_all_the_same(void **state)
{
    CLEANUP(mem_freep) int *n = mem_new_array(int, 0);

    (void)state;
    assert_non_null(n);
}

static void a_size_that_no_machine_has_is_an_error_with_its_name(void **state)
{
    (void)state;
    err_clear(&err);
    assert_null(mem_try_alloc(SIZE_MAX, "disk map", &err));
    assert_int_equal(err.code, ERR_SPACE);
    EXPECT_TEXT("disk map");
    EXPECT_TEXT("18446744073709551615");
}

static void overflow(void *unused)
{
    (void)unused;
    free(mem_alloc(SIZE_MAX / 2, 3));
}

static void overflow_growing(void *unused)
{
    (void)unused;
    free(mem_grow(NULL, SIZE_MAX / 2, 3));
}

static void an_overflow_aborts(void **state)
{
    (void)state;
    assert_true(process_aborts(overflow, NULL));
    assert_true(process_aborts(overflow_growing, NULL));
}

static void taking_leaves_nothing_to_clean_up(void **state)
{
    CLEANUP(mem_freep) char *text = mem_printf("%s %d", "route", 66);
    char *taken = TAKE(text);

    (void)state;
    assert_null(text);
    assert_string_equal(taken, "route 66");
    mem_freep(&taken);
    assert_null(taken);
    mem_freep(&taken);
}

static void a_vector_grows_and_its_new_elements_are_zero(void **state)
{
    CLEANUP(numbers_free) struct numbers v = VEC_EMPTY;
    int sum = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        int *n = numbers_push(&v);
        assert_int_equal(*n, 0);
        *n = i;
    }
    VEC_FOREACH(n, &v)
        sum += *n;
    assert_int_equal(sum, 499500);
    numbers_clear(&v);
    assert_int_equal(v.len, 0);
    assert_int_equal(*numbers_push(&v), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_memory_is_zero),
        cmocka_unit_test(nothing_asked_for_is_a_pointer_all_the_same),
        cmocka_unit_test(a_size_that_no_machine_has_is_an_error_with_its_name),
        cmocka_unit_test(an_overflow_aborts),
        cmocka_unit_test(taking_leaves_nothing_to_clean_up),
        cmocka_unit_test(a_vector_grows_and_its_new_elements_are_zero),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
