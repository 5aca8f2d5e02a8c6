// SPDX-License-Identifier: Apache-2.0
/* docs/plans.md tells what verbs there are. That part is made from their table, between two marks,
 * and must not lag behind it. With MUSTER_GOLDEN=write it is written anew. */
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "verbs/verb.h"

#include <stdlib.h>

#define PAGE MUSTER_SOURCE_DIR "/docs/plans.md"
#define FROM "<!-- verbs: from here on made by tests/unit/verbs/docs.c -->\n"
#define TO   "<!-- verbs: to here -->\n"

/* --- Markdown from the table --------------------------------------------------------------- */

/* A cell of a table ends at a bar. */
static void add_cell(struct str *out, const char *text)
{
    str_add(out, " ");
    for (; *text; text++)
        str_addf(out, "%s%c", *text == '|' ? "\\" : "", *text);
    str_add(out, " |");
}

static const char *value_of(const struct verb_arg *arg)
{
    switch (arg->type) {
    case ARG_TEXT: return "a text";
    case ARG_MACHINE: return "a machine";
    case ARG_ADDRESS: return "`\"host:port\"`";
    case ARG_DURATION: return "a duration";
    case ARG_NUMBER: return "a number";
    case ARG_BOOL: return "`true` or `false`";
    case ARG_PATH: return "an absolute path";
    case ARG_TEXTS: return "a text or a list of texts";
    case ARG_TABLE: return "`{ NAME = \"text\" }`";
    case ARG_SITE: return "a site";
    case ARG_NIC: return "a number or a MAC";
    case ARG_CIDRS: return "`\"ADDRESS/PREFIX\"` or a list";
    case ARG_IPS: return "an address or a list";
    case ARG_WORD: return "a word";
    case ARG_PERSON: return "a user's name or `\"@GROUP\"`";
    }
    return "?";
}

static void add_arg(struct str *out, const struct verb *verb, const struct verb_arg *arg)
{
    CLEANUP(str_free) struct str name = STR_EMPTY;
    CLEANUP(str_free) struct str needed = STR_EMPTY;

    if (arg->name)
        str_addf(&name, "`%s`", arg->name);
    else
        str_add(&name, "(without a name)");
    if (arg->required)
        str_add(&needed, "required");
    if (verb->any_of_named && arg->choice)
        str_add(&needed, "one of these");
    if (arg->with)
        str_addf(&needed, "%swith `%s`", needed.len ? ", " : "", arg->with);
    if (arg->per_site)
        str_addf(&needed, "%smay differ by site", needed.len ? ", " : "");
    str_add(out, "|");
    add_cell(out, str_text(&name));
    add_cell(out, value_of(arg));
    add_cell(out, str_text(&needed));
    add_cell(out, arg->help);
    str_add(out, "\n");
}

static const char *effect_of(const struct verb *verb)
{
    if (verb->asks)
        return "the run waits for a person";
    if (verb->effect == EFFECT_NONE)
        return "none, it only looks";
    if (verb->effect == EFFECT_DESTRUCTIVE)
        return "for good: there is no way back from here";
    if (verb->undo)
        return "taken back when the run is cancelled";
    return verb->core || verb->idempotent ? "not taken back; harmless twice" : "not taken back";
}

static void add_word(struct str *out, const struct verb *verb)
{
    str_addf(out, "### %s\n\n%s\n\n", verb->name, verb->help);
    if (verb->arg_count)
        str_add(out, "| argument | value | | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < verb->arg_count; i++)
        add_arg(out, verb, &verb->args[i]);
    str_addf(out, "\nEffect: %s.\n\n", effect_of(verb));
}

static void add_core(struct str *out, const struct verb *verb)
{
    CLEANUP(str_free) struct str name = STR_EMPTY;

    str_addf(&name, "`%s`", verb->name);
    for (size_t i = 0; i < verb->arg_count; i++)
        str_addf(&name, " %s", verb_arg_key(&verb->args[i]));
    str_add(out, "|");
    add_cell(out, str_text(&name));
    add_cell(out, verb->help);
    add_cell(out, effect_of(verb));
    str_add(out, "\n");
}

static void make(struct str *out)
{
    size_t count;
    const struct verb *const *verbs = verb_all(&count);

    str_add(out, "\n");
    for (size_t i = 0; i < count; i++)
        if (!verbs[i]->core)
            add_word(out, verbs[i]);
    str_add(out, "### The core's\n\nNot words for plans; the engine puts them in.\n\n"
                 "| verb | what it does | effect |\n|---|---|---|\n");
    for (size_t i = 0; i < count; i++)
        if (verbs[i]->core)
            add_core(out, verbs[i]);
    str_add(out, "\n");
}

/* --- The page ------------------------------------------------------------------------------ */

struct page {
    struct str text;
    size_t from; /* of the made part, between the marks */
    size_t len;
};

static void page_done(struct page *page)
{
    str_free(&page->text);
}

static void page_read(struct page *page)
{
    EXPECT_OK(fs_read_file(fs_real(), PAGE, 1 << 20, &page->text, &err));
    const char *text = str_text(&page->text);
    const char *from = strstr(text, FROM);
    const char *to = from ? strstr(from, TO) : NULL;
    if (!to)
        fail_msg(PAGE " lacks one of its two marks");
    page->from = (size_t)(from - text) + strlen(FROM);
    page->len = (size_t)(to - text) - page->from;
}

static void page_write(const struct page *page, const struct str *made)
{
    CLEANUP(str_free) struct str whole = STR_EMPTY;

    str_add_bytes(&whole, page->text.ptr, page->from);
    str_add(&whole, str_text(made));
    str_add(&whole, page->text.ptr + page->from + page->len);
    EXPECT_OK(fs_replace_file(fs_real(), PAGE, whole.ptr, whole.len, 0644, &err));
}

static void the_page_on_plans_has_every_verb_as_the_table_has_it(void **state)
{
    CLEANUP(page_done) struct page page = {0};
    CLEANUP(str_free) struct str made = STR_EMPTY;

    (void)state;
    make(&made);
    page_read(&page);
    if (str_eq(getenv("MUSTER_GOLDEN"), "write")) {
        page_write(&page, &made);
        page_read(&page);
    }
    CLEANUP(mem_freep) char *there = mem_printf("%.*s", (int)page.len, page.text.ptr + page.from);
    assert_string_equal(there, str_text(&made));
}

static bool is_sentence(const char *text)
{
    size_t len = text ? strlen(text) : 0;

    return len > 1 && text[len - 1] == '.' && !strchr(text, '\n');
}

static void every_verb_and_argument_is_explained_by_a_sentence(void **state)
{
    size_t count;
    const struct verb *const *verbs = verb_all(&count);

    (void)state;
    for (size_t i = 0; i < count; i++) {
        if (!is_sentence(verbs[i]->help))
            fail_msg("%s: \"%s\"", verbs[i]->name, verbs[i]->help);
        for (size_t k = 0; k < verbs[i]->arg_count; k++)
            if (!is_sentence(verbs[i]->args[k].help))
                fail_msg("%s: %s: \"%s\"", verbs[i]->name, verb_arg_key(&verbs[i]->args[k]),
                         verbs[i]->args[k].help);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_on_plans_has_every_verb_as_the_table_has_it),
        cmocka_unit_test(every_verb_and_argument_is_explained_by_a_sentence),
    };
    return cmocka_run_group_tests_name("docs", tests, NULL, NULL);
}
