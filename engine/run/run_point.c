// SPDX-License-Identifier: Apache-2.0
/* Which points a run is asked to use. */
#include "run/run_start.h"

#include <inttypes.h>

/* Naming a machine names its group. 0: none is asked for. */
static uint64_t point_named(const struct runner_spec *spec, const json_t *machines,
                            const char *group)
{
    const char *name;
    json_t *point;

    json_object_foreach((json_t *)(uintptr_t)spec->points, name, point)
        if (str_eq(run_group_name(machines, name), group))
            return (uint64_t)json_integer_value(point);
    return 0;
}

uint64_t run_point_of(const struct runner_spec *spec, const json_t *machines, const char *machine)
{
    uint64_t named = point_named(spec, machines, run_group_name(machines, machine));

    return named ? named : spec->point;
}

bool run_has_points(const struct runner_spec *spec)
{
    return spec->point != 0 || json_object_size(spec->points) > 0;
}

static int check_named(const struct runner_spec *spec, const json_t *machines, const char *name,
                       const json_t *point, struct err *err)
{
    if (!run_known(machines, name))
        return err_set(err, ERR_INVALID, 0, "points: this run has no machine \"%.64s\"", name);
    if (!json_is_integer(point) || json_integer_value(point) <= 0)
        return err_set(err, ERR_INVALID, 0, "points: that of %s is no number from 1 on", name);
    uint64_t first = point_named(spec, machines, run_group_name(machines, name));
    if (first != (uint64_t)json_integer_value(point))
        return err_set(err, ERR_INVALID, 0,
                       "points: %s has %" JSON_INTEGER_FORMAT
                       ", another machine of its group %s %" PRIu64
                       "; hint: a point is one of the whole group",
                       name, json_integer_value(point), run_group_name(machines, name), first);
    return 0;
}

int run_check_points(const struct runner_spec *spec, const json_t *machines, struct err *err)
{
    const char *machine;
    json_t *point;

    json_object_foreach((json_t *)(uintptr_t)spec->points, machine, point)
        if (check_named(spec, machines, machine, point, err) < 0)
            return -1;
    json_object_foreach((json_t *)(uintptr_t)machines, machine, point)
        if (spec->kind == RUN_CHANGE_POINT && run_point_of(spec, machines, machine) == 0)
            return err_set(err, ERR_INVALID, 0,
                           "name the point of %s, too; hint: `muster points %s` lists what is kept",
                           machine, machine);
    return 0;
}
