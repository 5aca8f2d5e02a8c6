-- limit: pattern that never ends

return ("a"):rep(4000):find(("a-"):rep(25) .. "b")
