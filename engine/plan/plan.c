// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.h"

#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "plan/plan_build.h"

#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)1024 * 1024)

void plan_free(struct plan *plan)
{
    if (!plan)
        return;
    VEC_FOREACH(step, &plan->steps)
        plan_actions_free(&step->actions);
    plan_steps_free(&plan->steps);
    plan_stages_free(&plan->stages);
    json_decref(plan->document);
    free(plan->source);
    free(plan->file);
    free(plan);
}

json_t *plan_words(const struct plan_world *world)
{
    json_t *words = json_object();

    for (size_t i = 0; i < world->verb_count; i++) {
        const struct verb *verb = world->verbs[i];
        json_t *key = json_null();
        if (verb->core)
            continue;
        for (size_t k = 0; k < verb->arg_count; k++)
            if (!verb->args[k].name)
                key = json_string(verb_arg_key(&verb->args[k]));
        (void)json_object_set_new(words, verb->name, key);
    }
    return words;
}

/* Twice, in two children: whatever differs from load to load (a fault of ours) must not get as far
 * as an approval. */
static int run_twice(const struct host *host, const struct plan_world *world,
                     const struct plan *plan, json_t **ret_value, struct cancel *cancel,
                     struct err *err)
{
    CLEANUP(json_freep) json_t *words = plan_words(world);
    CLEANUP(json_freep) json_t *first = NULL;
    CLEANUP(json_freep) json_t *second = NULL;
    size_t len = strlen(plan->source);

    if (host_run(host, HOST_PLAN, plan->file, plan->source, len, words, &first, cancel, err) < 0
        || host_run(host, HOST_PLAN, plan->file, plan->source, len, words, &second, cancel, err)
               < 0)
        return -1;
    if (!json_equal(first, second))
        return err_set(err, ERR_INVALID, 0, "%s: loaded twice it gave two different plans",
                       plan->file);
    *ret_value = TAKE(first);
    return 0;
}

/* What the words found while the document was made. */
static void take_problems(struct plan_builder *b, const json_t *list)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        struct plan_at at = {(unsigned)json_get_u64(item, "line", 0),
                             json_get_str(item, "word", NULL), json_get_str(item, "field", NULL)};
        plan_error(b, &at, "%s", json_get_str(item, "text", "?"));
    }
}

static void hash_text(const char *text, char *ret_hash)
{
    struct sha256 sum;

    sha256_of(text, strlen(text), &sum);
    str_hex(sum.bytes, sizeof(sum.bytes), ret_hash);
}

static bool has_bodies(const struct plan *plan)
{
    VEC_FOREACH(step, &plan->steps)
        if (step->body_first)
            return true;
    return false;
}

/* The document has only the lines of a function: what it does is in the text, all of it. */
static void note_source(struct plan_builder *b)
{
    struct plan_at at = {(unsigned)json_get_u64(b->plan->document, "line", 0), NULL, NULL};
    char hash[PLAN_HASH_BYTES];

    if (!has_bodies(b->plan))
        return;
    if (b->plan->source) {
        hash_text(b->plan->source, hash);
        (void)json_object_set_new(b->plan->document, "source", json_string(hash));
    } else if (strlen(json_get_str(b->plan->document, "source", "")) != PLAN_HASH_BYTES - 1) {
        plan_error(b, &at, "a step is a function, and the hash of its source is missing");
    }
}

int plan_source_check(const struct plan *plan, const char *source, struct err *err)
{
    char hash[PLAN_HASH_BYTES] = "";

    if (!has_bodies(plan))
        return 0;
    if (!source || !*source)
        return err_set(err, ERR_INVALID, 0,
                       "plan %s: a step of it is a function, and its source is missing",
                       plan->name);
    hash_text(source, hash);
    if (!str_eq(hash, json_get_str(plan->document, "source", "")))
        return err_set(err, ERR_INVALID, 0,
                       "plan %s: the source (%.12s...) is not the one it was made of (%.12s...)",
                       plan->name, hash, json_get_str(plan->document, "source", ""));
    return 0;
}

/* Builds and checks; the hash stands for everything that will be done. */
static int finish(struct plan_builder *b, struct err *err)
{
    CLEANUP(mem_freep) char *text = NULL;
    struct plan *plan = b->plan;

    if (!json_is_object(plan->document))
        return err_set(err, ERR_INVALID, 0, "%s: not a plan's document", plan->file);
    plan_build(b); /* brings the document into the form that is hashed */
    note_source(b);
    text = json_text(plan->document);
    hash_text(text, plan->hash);
    return plan_problems_judge(b->problems, plan->file, err);
}

int plan_load(const struct host *host, const struct plan_world *world, const char *file,
              const char *text, size_t len, struct plan **ret_plan, struct plan_problems *problems,
              struct cancel *cancel, struct err *err)
{
    CLEANUP(plan_freep) struct plan *plan = mem_new(struct plan);
    CLEANUP(plan_problems_done) struct plan_problems own = VEC_EMPTY;
    struct plan_builder b = {world, plan, problems ? problems : &own};
    CLEANUP(json_freep) json_t *value = NULL;

    if (memchr(text, '\0', len))
        return err_set(err, ERR_INVALID, 0, "%s: holds a NUL byte; hint: is this a text file?",
                       file);
    plan->file = mem_strdup(file);
    plan->source = mem_printf("%.*s", (int)len, text);
    if (run_twice(host, world, plan, &value, cancel, err) < 0)
        return -1;
    plan->document = json_incref(json_object_get(value, "plan"));
    take_problems(&b, json_object_get(value, "problems"));
    if (finish(&b, err) < 0)
        return -1;
    *ret_plan = TAKE(plan);
    return 0;
}

int plan_load_file(const struct host *host, const struct plan_world *world, const char *path,
                   struct plan **ret_plan, struct plan_problems *problems, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), path, FILE_BYTES_MAX, &text, err) < 0)
        return -1;
    return plan_load(host, world, path, str_text(&text), text.len, ret_plan, problems, cancel, err);
}

int plan_from_document(const struct plan_world *world, const char *file, const json_t *document,
                       struct plan **ret_plan, struct plan_problems *problems, struct err *err)
{
    CLEANUP(plan_freep) struct plan *plan = mem_new(struct plan);
    CLEANUP(plan_problems_done) struct plan_problems own = VEC_EMPTY;
    struct plan_builder b = {world, plan, problems ? problems : &own};

    plan->file = mem_strdup(file);
    plan->document = json_deep_copy(document);
    if (finish(&b, err) < 0)
        return -1;
    *ret_plan = TAKE(plan);
    return 0;
}
