std = "lua54"
max_line_length = 100
files["plans"] = { read_globals = {
  "plan", "stage", "step", "parallel", "failover", "wait_until", "check",
} }
