# SPDX-License-Identifier: Apache-2.0
# cmake -DOUT=FILE.c -DTEXTS=a.lua;b.lua -P embed.cmake: the table of host/words.h.
set(arrays "")
set(rows "")
foreach(text IN LISTS TEXTS)
  get_filename_component(name ${text} NAME_WE)
  file(READ ${text} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays "static const unsigned char ${name}_lua[] = {${bytes}0};\n")
  string(APPEND rows "    {\"${name}\", (const char *)${name}_lua, sizeof(${name}_lua) - 1},\n")
endforeach()
file(WRITE ${OUT} "#include \"host/words.h\"\n\n${arrays}
const struct words_text words_texts[] = {\n${rows}    {0, 0, 0},\n};\n")
