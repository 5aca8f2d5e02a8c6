-- fine

return plan "case" {
  stage "A" { step "Up" { failover "db1" }, step "Wait" { wait_until { agent = "db1" } } },
}
