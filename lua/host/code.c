// SPDX-License-Identifier: Apache-2.0
/* A dumped function of Lua 5.4 (ldump.c, lopcodes.h of its source), as far as it is needed here:
 *
 *   header    "\x1bLua", version 0x54, format 0, "\x19\x93\r\n\x1a\n", sizes of an instruction (4), an
 *             integer (8) and a number (8), the integer 0x5678, the number 370.5
 *   count of upvalues, one byte
 *   function  source (text), first line, last line, parameters, vararg, stack (a byte each),
 *             N instructions of 4 bytes, N constants, N upvalues (in the stack of the function around
 *             it, index, kind: a byte each), N functions inside of it, debug
 *   constant  type byte; 0x13 number and 0x03 integer: 8 bytes; 0x04 and 0x14: a text; else nothing
 *   debug     N line steps (a signed byte per instruction; -128: see the next list), N pairs of
 *             (instruction, line), N local variables (text, from, to), N names of upvalues
 *
 * Counts and lines are groups of 7 bits, highest first, the last one with 0x80 added; a text is its
 * length + 1 as a count (0: none) and its bytes.
 *
 * An instruction is op (7 bits), A (8), k (1), B (8), C (8) from the lowest bit. Upvalues are all that
 * is looked at: SETUPVAL writes upvalue B; GETTABUP reads upvalue B at constant C, SETTABUP writes
 * upvalue A at constant B: globals, when that upvalue is _ENV.
 *
 * The bytes are Lua's own, made a moment ago; what does not fit them is given up, not trusted. */
#include "host/code.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX          200
#define LINE_STEP_ABSOLUTE (-128)

enum op { OP_SETUPVAL = 10, OP_GETTABUP = 11, OP_SETTABUP = 15 };

struct text {
    const char *ptr; /* NULL: none, or a constant of another type */
    size_t len;
};
VEC_DEFINE(texts, struct text)

struct upvalue {
    bool in_stack; /* of the function around it */
    size_t index;
};
VEC_DEFINE(upvalues, struct upvalue)

struct line_at {
    size_t instruction;
    unsigned line;
};
VEC_DEFINE(line_ats, struct line_at)

struct proto;
VEC_DEFINE(protos, struct proto *)

struct proto {
    const struct proto *around; /* NULL: the function that was dumped */
    unsigned first_line;
    const unsigned char *code;
    size_t count; /* of instructions */
    struct texts constants;
    struct upvalues upvalues;
    struct protos inside;
    const unsigned char *steps;
    size_t step_count;
    struct line_ats lines;
    struct texts names; /* of upvalues */
};

struct reader {
    const unsigned char *at;
    const unsigned char *end;
    bool is_bad;
};

/* --- Reading ------------------------------------------------------------------------------- */

static const unsigned char *take(struct reader *r, size_t len)
{
    const unsigned char *at = r->at;

    if (r->is_bad || len > (size_t)(r->end - r->at)) {
        r->is_bad = true;
        return NULL;
    }
    r->at += len;
    return at;
}

static unsigned take_byte(struct reader *r)
{
    const unsigned char *byte = take(r, 1);

    return byte ? *byte : 0;
}

static size_t take_count(struct reader *r)
{
    size_t count = 0;

    for (;;) {
        unsigned byte = take_byte(r);
        if (count > SIZE_MAX >> 8)
            r->is_bad = true;
        if (r->is_bad)
            return 0;
        count = count << 7 | (byte & 0x7f);
        if (byte & 0x80)
            return count;
    }
}

static struct text take_text(struct reader *r)
{
    size_t size = take_count(r);

    if (size == 0)
        return (struct text){NULL, 0};
    return (struct text){(const char *)take(r, size - 1), size - 1};
}

static struct text take_constant(struct reader *r)
{
    switch (take_byte(r)) {
    case 0x03:
    case 0x13: (void)take(r, 8); break;
    case 0x04:
    case 0x14: return take_text(r);
    default: break;
    }
    return (struct text){NULL, 0};
}

static void take_debug(struct reader *r, struct proto *proto)
{
    proto->step_count = take_count(r);
    proto->steps = take(r, proto->step_count);
    for (size_t n = take_count(r); n > 0 && !r->is_bad; n--) {
        struct line_at *line = line_ats_push(&proto->lines);
        line->instruction = take_count(r);
        line->line = (unsigned)take_count(r);
    }
    for (size_t n = take_count(r); n > 0 && !r->is_bad; n--) {
        (void)take_text(r);
        (void)take_count(r);
        (void)take_count(r);
    }
    for (size_t n = take_count(r); n > 0 && !r->is_bad; n--)
        *texts_push(&proto->names) = take_text(r);
}

static struct proto *take_proto(struct reader *r, const struct proto *around, unsigned depth)
{
    struct proto *proto = mem_new(struct proto);

    proto->around = around;
    r->is_bad = r->is_bad || depth > DEPTH_MAX;
    (void)take_text(r);
    proto->first_line = (unsigned)take_count(r);
    (void)take_count(r);
    (void)take(r, 3);
    proto->count = take_count(r);
    proto->code = proto->count <= SIZE_MAX / 4 ? take(r, proto->count * 4) : NULL;
    for (size_t n = take_count(r); n > 0 && !r->is_bad; n--)
        *texts_push(&proto->constants) = take_constant(r);
    for (size_t n = take_count(r); n > 0 && !r->is_bad; n--) {
        struct upvalue *upvalue = upvalues_push(&proto->upvalues);
        upvalue->in_stack = take_byte(r) != 0;
        upvalue->index = take_byte(r);
        (void)take_byte(r);
    }
    for (size_t n = take_count(r); n > 0 && !r->is_bad; n--)
        *protos_push(&proto->inside) = take_proto(r, proto, depth + 1);
    take_debug(r, proto);
    return proto;
}

static void proto_free(struct proto *proto)
{
    VEC_FOREACH(inside, &proto->inside)
        proto_free(*inside);
    protos_free(&proto->inside);
    texts_free(&proto->constants);
    upvalues_free(&proto->upvalues);
    line_ats_free(&proto->lines);
    texts_free(&proto->names);
    free(proto);
}

static bool take_header(struct reader *r)
{
    static const unsigned char want[] = "\x1bLua\x54\x00\x19\x93\r\n\x1a\n\x04\x08\x08";
    const unsigned char *header = take(r, sizeof(want) - 1);

    if (!header || memcmp(header, want, sizeof(want) - 1) != 0)
        return false;
    (void)take(r, 16); /* the two numbers: this machine's own */
    (void)take_byte(r);
    return !r->is_bad;
}

/* --- Looking --------------------------------------------------------------------------------- */

static unsigned line_of(const struct proto *proto, size_t instruction)
{
    unsigned line = proto->first_line;

    for (size_t i = 0; i <= instruction && i < proto->step_count; i++) {
        int step = (signed char)proto->steps[i];
        if (step != LINE_STEP_ABSOLUTE)
            line += (unsigned)step; /* may go back */
        else
            VEC_FOREACH(at, &proto->lines)
                if (at->instruction == i)
                    line = at->line;
    }
    return line;
}

/* The upvalue's name when it is one of the function that was dumped, NULL when it is a variable
 * inside of that. */
static const struct text *outside(const struct proto *proto, size_t index)
{
    while (proto->around) {
        if (index >= proto->upvalues.len || proto->upvalues.at[index].in_stack)
            return NULL;
        index = proto->upvalues.at[index].index;
        proto = proto->around;
    }
    return index < proto->names.len && proto->names.at[index].ptr ? &proto->names.at[index] : NULL;
}

static bool is_env(const struct text *name)
{
    return name && name->len == 4 && memcmp(name->ptr, "_ENV", 4) == 0;
}

static void add(struct code_uses *uses, const struct proto *proto, size_t instruction,
                enum code_what what, const struct text *name)
{
    struct code_use *use = code_uses_push(uses);

    use->what = what;
    use->line = line_of(proto, instruction);
    use->name = mem_printf("%.*s", (int)name->len, name->ptr);
}

static void look_at(const struct proto *proto, size_t i, struct code_uses *uses)
{
    const unsigned char *bytes = proto->code + 4 * i;
    uint32_t code;

    memcpy(&code, bytes, sizeof(code)); /* this machine's own order */
    size_t a = code >> 7 & 0xff;
    size_t b = code >> 16 & 0xff;
    size_t c = code >> 24 & 0xff;
    unsigned op = code & 0x7f;
    bool is_read = op == OP_GETTABUP;
    const struct text *upvalue = outside(proto, op == OP_SETTABUP ? a : b);
    size_t key = is_read ? c : b;

    if (op == OP_SETUPVAL && upvalue && !is_env(upvalue))
        add(uses, proto, i, CODE_WRITES_SHARED, upvalue);
    else if ((is_read || op == OP_SETTABUP) && is_env(upvalue) && key < proto->constants.len
             && proto->constants.at[key].ptr)
        add(uses, proto, i, is_read ? CODE_READS_GLOBAL : CODE_WRITES_GLOBAL,
            &proto->constants.at[key]);
}

static void look(const struct proto *proto, struct code_uses *uses)
{
    for (size_t i = 0; i < proto->count; i++)
        look_at(proto, i, uses);
    VEC_FOREACH(inside, &proto->inside)
        look(*inside, uses);
}

void code_uses_done(struct code_uses *uses)
{
    VEC_FOREACH(use, uses)
        free(use->name);
    code_uses_free(uses);
}

bool code_scan(const char *dump, size_t len, struct code_uses *ret_uses)
{
    struct reader r = {(const unsigned char *)dump, (const unsigned char *)dump + len, false};

    if (!take_header(&r))
        return false;
    struct proto *proto = take_proto(&r, NULL, 0);
    bool good = !r.is_bad && r.at == r.end;
    if (good)
        look(proto, ret_uses);
    proto_free(proto);
    return good;
}
