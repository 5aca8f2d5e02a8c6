-- denied: tests/lua/cases/open_file.lua:3: 'io' is not here

local file = io.open("/etc/passwd")
return file
