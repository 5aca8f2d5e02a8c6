-- invalid: tests/lua/cases/redefine.lua:3: 'failover' is a word of the language

failover = function() end
return failover
