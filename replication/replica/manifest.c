// SPDX-License-Identifier: Apache-2.0
/* A manifest's text: one JSON object, compact, keys sorted at every level.
 *
 *   base         {hash, point}, if any          parent      hex, 64 digits
 *   consistency  "crash" | "application"        point       number
 *   cut_ms       writer's clock, ms since 1970  promotion   true | false
 *   disks        [{name, segments, size}]       signature   hex, 128 digits
 *     segments   [{bytes, root, uuid}]          site        name
 *   format       1                              stall_us    number
 *   generation   number                         writer      hex, 64 digits: the public key
 *   group        name
 *   machines     {name: definition}, if any
 *
 * Signed is the text without the field "signature"; the hash (SHA-256) is of the text with it.
 * Only the canonical form is accepted, so that a manifest has one hash and no other. */
#include "replica/manifest.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define FORMAT        1
#define TEXT_MAX      ((size_t)16 * 1024 * 1024)
#define DISKS_MAX     1024U
#define SEGMENTS_MAX  65536U
#define DISK_SIZE_MAX (UINT64_C(1) << 60)

static const char *const consistency_names[] = {"crash", "application"};

void manifest_init(struct manifest *manifest)
{
    memset(manifest, 0, sizeof(*manifest));
}

void manifest_done(struct manifest *manifest)
{
    VEC_FOREACH(disk, &manifest->disks)
        manifest_segments_free(&disk->segments);
    manifest_disks_free(&manifest->disks);
    json_decref(manifest->machines);
    memset(manifest, 0, sizeof(*manifest));
}

static void set_hex(json_t *obj, const char *key, const void *bytes, size_t len)
{
    char hex[2 * SIGN_BYTES + 1];

    str_hex(bytes, len, hex);
    (void)json_object_set_new(obj, key, json_string(hex));
}

static void set_u64(json_t *obj, const char *key, uint64_t value)
{
    (void)json_object_set_new(obj, key, json_integer((json_int_t)value));
}

static json_t *disk_json(const struct manifest_disk *disk)
{
    json_t *obj = json_object();
    json_t *segments = json_array();

    VEC_FOREACH(segment, &disk->segments) {
        json_t *item = json_object();
        set_u64(item, "bytes", segment->bytes);
        set_hex(item, "root", segment->root.bytes, SHA256_BYTES);
        set_hex(item, "uuid", segment->uuid.bytes, UUID_BYTES);
        (void)json_array_append_new(segments, item);
    }
    (void)json_object_set_new(obj, "name", json_string(disk->name));
    set_u64(obj, "size", disk->size);
    (void)json_object_set_new(obj, "segments", segments);
    return obj;
}

/* All but the signature. */
static json_t *manifest_json(const struct manifest *m)
{
    json_t *obj = json_object();
    json_t *disks = json_array();

    VEC_FOREACH(disk, &m->disks)
        (void)json_array_append_new(disks, disk_json(disk));
    set_u64(obj, "format", FORMAT);
    (void)json_object_set_new(obj, "group", json_string(m->group));
    (void)json_object_set_new(obj, "site", json_string(m->site));
    set_u64(obj, "generation", m->generation);
    set_u64(obj, "point", m->point);
    set_hex(obj, "parent", m->parent.bytes, SHA256_BYTES);
    (void)json_object_set_new(obj, "promotion", json_boolean(m->promotion));
    (void)json_object_set_new(obj, "cut_ms", json_integer(m->cut_wall_ms));
    (void)json_object_set_new(obj, "stall_us", json_integer(m->stall_us));
    (void)json_object_set_new(obj, "consistency", json_string(consistency_names[m->consistency]));
    (void)json_object_set_new(obj, "disks", disks);
    if (m->machines)
        (void)json_object_set(obj, "machines", m->machines);
    if (m->base_point) {
        json_t *base = json_object();
        set_u64(base, "point", m->base_point);
        set_hex(base, "hash", m->base.bytes, SHA256_BYTES);
        (void)json_object_set_new(obj, "base", base);
    }
    set_hex(obj, "writer", m->writer_key, SIGN_KEY_BYTES);
    return obj;
}

void manifest_sign(struct manifest *manifest, const uint8_t private_key[SIGN_KEY_BYTES])
{
    sign_public(private_key, manifest->writer_key);
    CLEANUP(json_freep) json_t *json = manifest_json(manifest);
    CLEANUP(mem_freep) char *text = json_text(json);

    sign_bytes(private_key, text, strlen(text), manifest->signature);
}

char *manifest_text(const struct manifest *manifest)
{
    CLEANUP(json_freep) json_t *json = manifest_json(manifest);

    set_hex(json, "signature", manifest->signature, SIGN_BYTES);
    return json_text(json);
}

void manifest_hash(const struct manifest *manifest, struct sha256 *ret_hash)
{
    CLEANUP(mem_freep) char *text = manifest_text(manifest);

    sha256_of(text, strlen(text), ret_hash);
}

/* --- From text --------------------------------------------------------------------------- */

static int wrong(const char *field, struct err *err)
{
    return err_set(err, ERR_CORRUPT, 0, "manifest: field \"%s\" does not fit", field);
}

static int get_name(const json_t *obj, const char *key, char ret_name[NAME_MAX_BYTES],
                    struct err *err)
{
    const char *text = json_string_value(json_object_get(obj, key));

    if (!text || !str_is_name(text))
        return wrong(key, err);
    memset(ret_name, 0, NAME_MAX_BYTES);
    memcpy(ret_name, text, strlen(text) + 1);
    return 0;
}

static int get_hex(const json_t *obj, const char *key, void *ret_bytes, size_t len, struct err *err)
{
    const char *text = json_string_value(json_object_get(obj, key));

    if (!text || strlen(text) != 2 * len || !str_unhex(text, ret_bytes, len))
        return wrong(key, err);
    return 0;
}

static int get_number(const json_t *obj, const char *key, uint64_t *ret_value, struct err *err)
{
    const json_t *value = json_object_get(obj, key);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return wrong(key, err);
    *ret_value = (uint64_t)json_integer_value(value);
    return 0;
}

static int get_time(const json_t *obj, const char *key, int64_t *ret_value, struct err *err)
{
    uint64_t value;

    if (get_number(obj, key, &value, err) < 0)
        return -1;
    *ret_value = (int64_t)value;
    return 0;
}

static int get_segments(const json_t *array, struct manifest_disk *disk, struct err *err)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(array) || json_array_size(array) > SEGMENTS_MAX)
        return wrong("segments", err);
    json_array_foreach(array, i, item) {
        struct manifest_segment *segment = manifest_segments_push(&disk->segments);
        if (get_hex(item, "uuid", segment->uuid.bytes, UUID_BYTES, err) < 0
            || get_hex(item, "root", segment->root.bytes, SHA256_BYTES, err) < 0
            || get_number(item, "bytes", &segment->bytes, err) < 0)
            return -1;
    }
    return 0;
}

static int get_disks(const json_t *array, struct manifest *m, struct err *err)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(array) || json_array_size(array) > DISKS_MAX)
        return wrong("disks", err);
    json_array_foreach(array, i, item) {
        struct manifest_disk *disk = manifest_disks_push(&m->disks);
        if (get_name(item, "name", disk->name, err) < 0
            || get_number(item, "size", &disk->size, err) < 0
            || get_segments(json_object_get(item, "segments"), disk, err) < 0)
            return -1;
        if (disk->size % 512 || disk->size > DISK_SIZE_MAX)
            return wrong("size", err);
        for (size_t k = 0; k < i; k++)
            if (str_eq(m->disks.at[k].name, disk->name))
                return err_set(err, ERR_CORRUPT, 0, "manifest: disk \"%s\" is there twice",
                               disk->name);
    }
    return 0;
}

static int get_consistency(const json_t *obj, enum consistency *ret_value, struct err *err)
{
    const char *text = json_string_value(json_object_get(obj, "consistency"));

    for (size_t i = 0; text && i < ARRAY_LEN(consistency_names); i++)
        if (str_eq(text, consistency_names[i])) {
            *ret_value = (enum consistency)i;
            return 0;
        }
    return wrong("consistency", err);
}

static int get_base(const json_t *base, struct manifest *m, struct err *err)
{
    if (!base)
        return 0;
    if (get_number(base, "point", &m->base_point, err) < 0
        || get_hex(base, "hash", m->base.bytes, SHA256_BYTES, err) < 0)
        return wrong("base", err);
    return m->base_point > 0 && m->base_point < m->point ? 0 : wrong("base", err);
}

static int get_fields(const json_t *obj, struct manifest *m, struct err *err)
{
    const json_t *promotion = json_object_get(obj, "promotion");
    json_t *machines = json_object_get(obj, "machines");
    uint64_t format;

    if (get_number(obj, "format", &format, err) < 0)
        return -1;
    if (format != FORMAT)
        return err_set(err, ERR_UNSUPPORTED, 0, "manifest: format %" PRIu64 ", this build reads %d",
                       format, FORMAT);
    if (get_name(obj, "group", m->group, err) < 0 || get_name(obj, "site", m->site, err) < 0
        || get_number(obj, "generation", &m->generation, err) < 0
        || get_number(obj, "point", &m->point, err) < 0
        || get_hex(obj, "parent", m->parent.bytes, SHA256_BYTES, err) < 0
        || get_time(obj, "cut_ms", &m->cut_wall_ms, err) < 0
        || get_time(obj, "stall_us", &m->stall_us, err) < 0
        || get_consistency(obj, &m->consistency, err) < 0
        || get_disks(json_object_get(obj, "disks"), m, err) < 0
        || get_hex(obj, "writer", m->writer_key, SIGN_KEY_BYTES, err) < 0
        || get_hex(obj, "signature", m->signature, SIGN_BYTES, err) < 0)
        return -1;
    if (m->point == 0)
        return wrong("point", err);
    if (!json_is_boolean(promotion))
        return wrong("promotion", err);
    m->promotion = json_is_true(promotion);
    if (get_base(json_object_get(obj, "base"), m, err) < 0)
        return -1;
    if (machines && !json_is_object(machines))
        return wrong("machines", err);
    m->machines = json_incref(machines);
    return 0;
}

/* The signature fits, and writing it again gives the same bytes: no field we do not know, no
 * second spelling. */
static int check_seal(const struct manifest *m, const char *text, size_t len, struct err *err)
{
    CLEANUP(json_freep) json_t *json = manifest_json(m);
    CLEANUP(mem_freep) char *unsigned_text = json_text(json);
    CLEANUP(mem_freep) char *whole = manifest_text(m);

    if (strlen(whole) != len || memcmp(whole, text, len) != 0)
        return err_set(err, ERR_CORRUPT, 0, "manifest: not in canonical form");
    if (sign_verify(m->writer_key, unsigned_text, strlen(unsigned_text), m->signature, err) < 0)
        return err_wrap(err, "manifest of point %" PRIu64 ": field \"signature\"", m->point);
    return 0;
}

int manifest_parse(const char *text, size_t len, struct manifest *ret_manifest, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    if (len > TEXT_MAX)
        return err_set(err, ERR_CORRUPT, 0, "manifest: %zu bytes are more than any has", len);
    if (json_parse(text, len, &json, err) < 0) {
        if (err)
            err->code = ERR_CORRUPT;
        return err_wrap(err, "manifest");
    }
    if (get_fields(json, &m, err) < 0 || check_seal(&m, text, len, err) < 0)
        return -1;
    *ret_manifest = m;
    manifest_init(&m);
    return 0;
}
