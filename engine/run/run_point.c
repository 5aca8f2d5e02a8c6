// SPDX-License-Identifier: Apache-2.0
/* Which points a run is asked to use. */
#include "run/run_start.h"

#include <inttypes.h>

uint64_t runner_spec_point(const struct runner_spec *spec, const char *machine)
{
    return json_get_u64(spec->points, machine, spec->point);
}

bool run_has_points(const struct runner_spec *spec)
{
    return spec->point != 0 || json_object_size(spec->points) > 0;
}

int run_check_points(const struct runner_spec *spec, const json_t *machines, struct err *err)
{
    const char *machine;
    json_t *point;

    json_object_foreach((json_t *)(uintptr_t)spec->points, machine, point) {
        if (!json_object_get(machines, machine))
            return err_set(err, ERR_INVALID, 0, "points: this run has no machine \"%.64s\"",
                           machine);
        if (!json_is_integer(point) || json_integer_value(point) <= 0)
            return err_set(err, ERR_INVALID, 0, "points: that of %s is no number from 1 on",
                           machine);
    }
    json_object_foreach((json_t *)(uintptr_t)machines, machine, point)
        if (spec->kind == RUN_CHANGE_POINT && runner_spec_point(spec, machine) == 0)
            return err_set(err, ERR_INVALID, 0,
                           "name the point of %s, too; hint: `muster points %s` lists what is kept",
                           machine, machine);
    return 0;
}
