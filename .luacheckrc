-- SPDX-License-Identifier: Apache-2.0
std = "lua54"
max_line_length = 100
exclude_files = { "build" }
local words = {
  "plan", "stage", "step", "parallel", "result",
  "failover", "failback", "commit", "rollback", "change_point", "reprotect",
  "wait_until", "check", "run_command", "approve", "assign_ip", "notify",
}
files["plans"] = { read_globals = words }
-- Plans that are wrong on purpose.
files["tests/lua/cases"] = {
  globals = { "machine", "failover" },
  read_globals = { "plan", "stage", "step", "parallel", "wait_until", "check", "assign_ip" },
  max_line_length = false,
}
