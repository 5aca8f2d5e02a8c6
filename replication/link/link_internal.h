// SPDX-License-Identifier: Apache-2.0
/* What the files of this room share and nobody else sees. */
#pragma once

#include "link/link.h"

/* What the link speaks over; stays the link's. */
struct transport *link_transport(const struct link *link);
