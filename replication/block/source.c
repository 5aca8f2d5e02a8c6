// SPDX-License-Identifier: Apache-2.0
#include "block/source.h"

void source_close(struct source *source)
{
    if (source)
        source->ops->close(source);
}

void source_closep(struct source **source)
{
    source_close(*source);
    *source = NULL;
}
