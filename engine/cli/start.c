// SPDX-License-Identifier: Apache-2.0
#include "cli/start.h"

#include "base/mem.h"
#include "cli/client.h"
#include "cli/table.h"
#include "cli/watch.h"

#include <inttypes.h>

static json_t *body_of(const struct start *start, json_t *points)
{
    json_t *body = json_pack("{s:s}", "kind", start->kind);

    if (start->plan)
        (void)json_object_set_new(body, "plan", json_string(start->plan));
    if (start->machine)
        (void)json_object_set_new(body, "machine", json_string(start->machine));
    if (start->point.number)
        (void)json_object_set_new(body, "point", json_integer((json_int_t)start->point.number));
    if (points)
        (void)json_object_set(body, "points", points);
    if (start->of_run)
        (void)json_object_set_new(body, "of_run", json_integer((json_int_t)start->of_run));
    if (start->last_delta)
        (void)json_object_set_new(body, "last_delta", json_true());
    return body;
}

static bool moves_ownership(const struct start *start)
{
    return str_eq(start->kind, "planned") || str_eq(start->kind, "unplanned")
           || str_eq(start->kind, "failback");
}

static bool gives_up(const struct start *start)
{
    return str_eq(start->kind, "rollback") || str_eq(start->kind, "change-point");
}

static void print_runbook(struct cli *cli, const struct start *start, const json_t *preview)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    struct err ignored = ERR_EMPTY;
    const json_t *title;
    size_t i;

    if (start->plan
        && client_get(cli, &reply, &ignored, "/v1/plans/%s/runbook?kind=%s", start->plan,
                      start->kind)
               == 0) {
        (void)fprintf(cli->out, "%s\n", json_get_str(reply, "text", ""));
        return;
    }
    (void)fprintf(cli->out, "%s of %s:\n", start->kind, json_get_str(preview, "plan", ""));
    json_array_foreach(json_object_get(preview, "steps"), i, title)
        (void)fprintf(cli->out, "  %zu. %s\n", i + 1, json_string_value(title));
    (void)fprintf(cli->out, "\n");
}

/* What is lost at most, in one sentence, before anybody is asked. */
static void loss_sentence(const json_t *preview, const struct start *start, struct str *out)
{
    int64_t loss = json_get_int(preview, "loss_bound_ms", -1);
    char text[32];

    if (loss == 0)
        str_add(out, "Nothing will be lost. ");
    else if (loss > 0)
        str_addf(out, "What was written in the last %s is LOST. ",
                 text_age(loss, text, sizeof(text)));
    else
        str_add(out, "How much is lost cannot be told. ");
    str_addf(out, "Start the %s%s?", start->kind,
             str_eq(start->kind, "failback") ? "" : " failover");
}

/* Shows what would happen; asks when it moves machines. */
static int agree(struct cli *cli, const struct start *start, json_t *points, struct err *err)
{
    CLEANUP(json_freep) json_t *preview = NULL;
    CLEANUP(str_free) struct str table = STR_EMPTY;
    CLEANUP(str_free) struct str question = STR_EMPTY;

    if (client_call(cli, "POST", "/v1/runs/preview", body_of(start, points), &preview, err) < 0)
        return -1;
    if (!cli->json) {
        print_runbook(cli, start, preview);
        show_preview(preview, &table);
        (void)fprintf(cli->out, "%s\n", str_text(&table));
    }
    if (!moves_ownership(start) && !gives_up(start))
        return 0;
    if (gives_up(start))
        str_addf(&question, "What was written here since the failover is LOST. Start the %s?",
                 start->kind);
    else
        loss_sentence(preview, start, &question);
    if (start->yes) {
        if (!cli->json)
            (void)fprintf(cli->out, "%s yes (--yes)\n\n", str_text(&question));
        return 0;
    }
    if (cli->json)
        return cli_usage(cli, err, "with --json nobody can be asked; hint: add --yes");
    if (!cli_confirm(cli, str_text(&question)))
        return err_set(err, ERR_STATE, 0,
                       "nothing was started; hint: --yes starts it without asking");
    return 0;
}

static int find_point(struct cli *cli, const char *machine, uint64_t *ret_point, struct err *err)
{
    if (cli_point_find(cli, machine, ret_point, err) < 0)
        return -1;
    if (!cli->json)
        (void)fprintf(cli->out, "%s: point %" PRIu64 " is its newest application-consistent one\n",
                      machine, *ret_point);
    return 0;
}

/* Of a plan's machines each has one of its own. */
static int find_points_of_plan(struct cli *cli, const struct start *start, json_t **ret_points,
                               struct err *err)
{
    CLEANUP(json_freep) json_t *preview = NULL;
    CLEANUP(json_freep) json_t *points = json_object();
    const json_t *machine;
    size_t i;

    if (client_call(cli, "POST", "/v1/runs/preview", body_of(start, NULL), &preview, err) < 0)
        return -1;
    json_array_foreach(json_object_get(preview, "machines"), i, machine) {
        const char *name = json_get_str(machine, "machine", "");
        uint64_t point;

        if (find_point(cli, name, &point, err) < 0)
            return -1;
        (void)json_object_set_new(points, name, json_integer((json_int_t)point));
    }
    *ret_points = TAKE(points);
    return 0;
}

/* `--point application` becomes numbers: what is agreed to is what is started. */
static int find_points(struct cli *cli, struct start *start, json_t **ret_points, struct err *err)
{
    /* Of a change-point the machine that bears the name. */
    const char *machine = gives_up(start) ? start->plan : start->machine;

    if (!start->point.application)
        return 0;
    if (machine)
        return find_point(cli, machine, &start->point.number, err);
    if (gives_up(start))
        return cli_usage(cli, err,
                         "--point application needs a machine's name, not a run's number");
    return find_points_of_plan(cli, start, ret_points, err);
}

int start_run(struct cli *cli, const struct start *asked, struct err *err)
{
    struct start found = *asked;
    const struct start *start = &found;
    CLEANUP(json_freep) json_t *points = NULL;
    CLEANUP(json_freep) json_t *reply = NULL;
    uint64_t run;

    if (find_points(cli, &found, &points, err) < 0)
        return -1;
    if (!str_eq(start->kind, "cleanup") && agree(cli, start, points, err) < 0)
        return -1;
    if (client_call(cli, "POST", "/v1/runs", body_of(start, points), &reply, err) < 0)
        return -1;
    run = json_get_u64(reply, "run", 0);
    if (!start->no_wait)
        return watch_run(cli, run, err);
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Run %" PRIu64 " has begun; `muster run watch %" PRIu64 "`\n", run,
                      run);
    return 0;
}
