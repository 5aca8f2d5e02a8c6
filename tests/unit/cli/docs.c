// SPDX-License-Identifier: Apache-2.0
/* MUSTER_UPDATE_DOCS=1 writes docs/cli.md instead of comparing it. */
#include "base/fs.h"
#include "base/mem.h"
#include "cli/cmd.h"
#include "support/expect.h"

#include <stdlib.h>

static void the_manual_is_what_the_commands_say(void **state)
{
    CLEANUP(mem_freep) char *made = help_markdown();
    CLEANUP(str_free) struct str there = STR_EMPTY;
    const char *path = MUSTER_SOURCE_DIR "/docs/cli.md";

    (void)state;
    if (getenv("MUSTER_UPDATE_DOCS"))
        EXPECT_OK(fs_replace_file(fs_real(), path, made, strlen(made), 0644, &err));
    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 20, &there, &err));
    assert_string_equal(str_text(&there), made);
}

static void each_command_explains_itself_in_a_sentence(void **state)
{
    CLEANUP(mem_freep) const struct cmd **all = cmd_all();

    (void)state;
    for (const struct cmd *const *cmd = all; *cmd; cmd++) {
        size_t len = strlen((*cmd)->help);

        if (len == 0 || (*cmd)->help[len - 1] != '.' || len > 68)
            fail_msg("%s: \"%s\" is no sentence of at most 68", (*cmd)->words, (*cmd)->help);
        if (!(*cmd)->run)
            fail_msg("%s does nothing", (*cmd)->words);
    }
}

static void the_examples_are_commands_that_can_be_typed(void **state)
{
    CLEANUP(mem_freep) const struct cmd **all = cmd_all();

    (void)state;
    for (const struct cmd *const *cmd = all; *cmd; cmd++) {
        for (const char *const *example = (*cmd)->examples; *example; example++) {
            CLEANUP(mem_freep) char *line = mem_strdup(*example);
            char *argv[24] = {(char[]){"muster"}};
            struct cli cli = {.argc = 1, .argv = argv};
            char *rest = line, *word;

            while ((word = strsep(&rest, " ")) && !str_eq(word, "|"))
                argv[cli.argc++] = word;
            EXPECT_OK(cli_parse(&cli, &err));
            if (cli.cmd != *cmd)
                fail_msg("\"%s\" is read as %s", *example, cli.cmd ? cli.cmd->words : "nothing");
        }
    }
}

static void the_man_page_has_each_command_and_no_stray_request(void **state)
{
    CLEANUP(mem_freep) const struct cmd **all = cmd_all();
    CLEANUP(mem_freep) char *man = help_man();

    (void)state;
    assert_non_null(strstr(man, ".TH MUSTER 1"));
    for (const struct cmd *const *cmd = all; *cmd; cmd++) {
        CLEANUP(mem_freep) char *heading = mem_printf(".SS muster %s", (*cmd)->words);
        CLEANUP(str_free) struct str escaped = STR_EMPTY;

        for (const char *at = heading; *at; at++)
            str_addf(&escaped, *at == '-' ? "\\%c" : "%c", *at);
        if (!(*cmd)->hidden && !strstr(man, str_text(&escaped)))
            fail_msg("%s is not in the man page", (*cmd)->words);
    }
    for (const char *at = man; (at = strstr(at, "\n.")); at++)
        if (!strchr("BPRST", at[2]))
            fail_msg("a line is taken for a request: %.40s", at + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_manual_is_what_the_commands_say),
        cmocka_unit_test(each_command_explains_itself_in_a_sentence),
        cmocka_unit_test(the_examples_are_commands_that_can_be_typed),
        cmocka_unit_test(the_man_page_has_each_command_and_no_stray_request),
    };
    return cmocka_run_group_tests_name("docs", tests, NULL, NULL);
}
