-- SPDX-License-Identifier: Apache-2.0
std = "lua54"
max_line_length = 100
exclude_files = { "build" }
files["plans"] = { read_globals = {
  "plan", "stage", "step", "parallel", "failover", "wait_until", "check",
} }
files["tests"] = { read_globals = {
  "plan", "stage", "step", "parallel", "failover", "wait_until", "check",
} }
