// SPDX-License-Identifier: Apache-2.0
/* The finder of lines reads what an author wrote before it is known to be Lua: any bytes. Each text
 * is a copy of its own, so that a sanitizer sees a read beyond its end. */
#include "base/mem.h"
#include "host/host.h"
#include "support/expect.h"

#include <stdlib.h>

static const char *const seeds[] = {
    "return { a = 1, [\"b\"] = { 1, 2 }, disks = { { path = [[x]], format = 'raw' } } }",
    "-- c\n--[==[ long ]==] local f = function(x) return x end\nreturn { a = f(1, 2), b = { c = \"\\\"\" } }",
    "return plan \"x\" { stage \"A\" { step \"B\" { failover \"db1\", retry = { times = 1 } } } }",
};
static const char *const paths[] = {"a", "b[2]", "disks[1].format", "[\"b\"].c", "b.c", "["};
static const char alphabet[] = "{}[]()=,;'\"\\-.\n a1_\0\xff]]--";

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15U);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static unsigned lines_in(const char *text, size_t len)
{
    unsigned lines = 1;

    for (size_t i = 0; i < len; i++)
        lines += text[i] == '\n';
    return lines;
}

static void any_bytes_have_a_line_or_none(void **state)
{
    uint64_t dice = 1;
    uint64_t rounds = 20000;

    (void)state;
    (void)str_to_u64(getenv("MUSTER_SEED"), &dice);
    (void)str_to_u64(getenv("MUSTER_ROUNDS"), &rounds);
    for (uint64_t round = 0; round < rounds; round++) {
        const char *seed = seeds[next(&dice) % ARRAY_LEN(seeds)];
        size_t len = 1 + next(&dice) % strlen(seed);
        CLEANUP(mem_freep) char *text = mem_new_array(char, len);
        memcpy(text, seed, len);
        for (uint64_t hits = next(&dice) % 6; hits > 0; hits--)
            text[next(&dice) % len] = alphabet[next(&dice) % (sizeof(alphabet) - 1)];
        for (size_t p = 0; p < ARRAY_LEN(paths); p++) {
            assert_true(host_line_of(text, len, paths[p]) <= lines_in(text, len));
            assert_true(host_line_of_field(text, len, 1, "step", paths[p]) <= lines_in(text, len));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_have_a_line_or_none),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
