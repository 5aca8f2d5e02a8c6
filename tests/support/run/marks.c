// SPDX-License-Identifier: Apache-2.0
#include "support/run/marks.h"

#include "base/fault.h"
#include "base/mem.h"
#include "base/str.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static struct marks *used;

void marks_use(struct marks *marks)
{
    used = marks;
}

static struct mark *find(struct marks *marks, const char *name)
{
    for (size_t i = 0; i < MARKS_MAX; i++)
        if (str_eq(marks->at[i].name, name))
            return &marks->at[i];
    return NULL;
}

const struct mark *marks_find(const struct marks *marks, const char *name)
{
    return find((struct marks *)(uintptr_t)marks, name);
}

static struct mark *mark_of(const struct verb_call *call)
{
    const char *name = json_get_str(call->args, "value", "?");
    struct mark *mark = find(used, name);

    if (!mark) {
        mark = find(used, "");
        assert(mark);
        (void)snprintf(mark->name, sizeof(mark->name), "%s", name);
    }
    return mark;
}

static int begin(struct err *err)
{
    CRASH_POINT("mark.before");
    if (used->fail_skip > 0) {
        used->fail_skip--;
    } else if (used->fail_times > 0) {
        used->fail_times--;
        return err_set(err, used->fail_code, 0, "made to fail");
    }
    return 0;
}

static int mark_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                    struct err *err)
{
    struct mark *mark = mark_of(call);

    (void)cancel;
    if (begin(err) < 0)
        return -1;
    if (str_starts(mark->name, "bad"))
        return err_set(err, ERR_NET, 0, "%s is out of reach", mark->name);
    mark->done += !mark->is_set;
    mark->is_set = true;
    CRASH_POINT("mark.after");
    *ret_result = json_pack("{s:s}", "mark", mark->name);
    return 0;
}

static int mark_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                      json_t **ret_result, struct cancel *cancel, struct err *err)
{
    const struct mark *mark = mark_of(call);

    (void)cancel;
    (void)err;
    *ret_answer = mark->is_set ? ANSWER_DONE : ANSWER_NOT_DONE;
    if (mark->is_set)
        *ret_result = json_pack("{s:s}", "mark", mark->name);
    return 0;
}

static int mark_undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    struct mark *mark = mark_of(call);

    (void)cancel;
    (void)err;
    mark->is_set = false;
    mark->undone++;
    strncat(used->order, mark->name, sizeof(used->order) - strlen(used->order) - 2);
    strcat(used->order, " ");
    return 0;
}

static int shout_run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                     struct err *err)
{
    struct mark *mark = mark_of(call);

    (void)cancel;
    if (begin(err) < 0)
        return -1;
    mark->done++;
    CRASH_POINT("shout.after");
    *ret_result = json_object();
    return 0;
}

static int shout_probe(const struct verb_call *call, enum verb_answer *ret_answer,
                       json_t **ret_result, struct cancel *cancel, struct err *err)
{
    (void)call;
    (void)ret_result;
    (void)cancel;
    (void)err;
    *ret_answer = ANSWER_UNKNOWN;
    return 0;
}

static const struct verb_arg args[] = {
    {.type = ARG_TEXT, .required = true, .per_site = true, .help = "Its name."},
};
static const struct verb verb_mark = {
    .name = "mark",
    .help = "Sets a mark.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .run = mark_run,
    .probe = mark_probe,
    .undo = mark_undo,
};
static const struct verb verb_shout = {
    .name = "shout",
    .help = "Is heard, and leaves no trace.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .run = shout_run,
    .probe = shout_probe,
};
static const struct verb verb_own = {
    .name = "own",
    .help = "Moves ownership.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .moves_ownership = true,
    .run = mark_run,
    .probe = mark_probe,
};

const struct verb *const *marks_verbs(size_t *ret_count)
{
    static const struct verb *verbs[64];
    size_t count;
    const struct verb *const *real = verb_all(&count);

    assert(count + 3 <= ARRAY_LEN(verbs));
    memcpy(verbs, real, count * sizeof(verbs[0]));
    verbs[count++] = &verb_mark;
    verbs[count++] = &verb_shout;
    verbs[count++] = &verb_own;
    *ret_count = count;
    return verbs;
}
