#include "ledger/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void json_in_fail(struct json_in *in, enum ami_status status, const char *format, ...)
{
    if (in->status != AMI_OK)
        return;
    in->status = status;
    if (in->why == NULL || in->why_size == 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(in->why, in->why_size, format, args);
    va_end(args);
}

/* "members[2]" and "name" make "members[2].name". */
struct place {
    char text[96];
};

static struct place place_of(const char *where, const char *key)
{
    struct place p;
    snprintf(p.text, sizeof p.text, "%s%s%s", where, where[0] == '\0' ? "" : ".", key);
    return p;
}

json_t *json_in_load(struct json_in *in, struct span text, size_t size_max)
{
    if (in->status != AMI_OK)
        return NULL;
    if (text.size > size_max) {
        json_in_fail(in, AMI_TOO_LARGE, "the file has %zu bytes, at most %zu are allowed",
                     text.size, size_max);
        return NULL;
    }
    if (text.size == 0) {
        json_in_fail(in, AMI_BAD_ENCODING, "the file is empty");
        return NULL;
    }
    json_error_t error;
    json_t *o = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, &error);
    if (o == NULL)
        json_in_fail(in,
                     json_error_code(&error) == json_error_out_of_memory ? AMI_NO_MEMORY
                                                                         : AMI_BAD_ENCODING,
                     "line %d is no valid JSON: %s", error.line, error.text);
    return o;
}

static bool is_one_of(const char *key, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return false;
}

void json_in_keys(struct json_in *in, const json_t *o, const char *where, const char *const *keys,
                  size_t count, size_t required)
{
    const char *what = where[0] == '\0' ? "the file" : where;
    if (!json_is_object(o)) {
        json_in_fail(in, AMI_BAD_ENCODING, "%s must hold a JSON object", what);
        return;
    }
    /* jansson takes a pointer to non-const for what it only reads. */
    json_t *object = (json_t *)(uintptr_t)o;
    for (void *it = json_object_iter(object); it != NULL; it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);
        if (!is_one_of(key, keys, count))
            json_in_fail(in, AMI_BAD_ENCODING, "%s has the unknown key \"%.60s\"", what, key);
    }
    for (size_t i = 0; i < required; i++)
        if (json_object_get(o, keys[i]) == NULL)
            json_in_fail(in, AMI_BAD_ENCODING, "%s lacks the key \"%s\"", what, keys[i]);
}

const char *json_in_text(struct json_in *in, const json_t *o, const char *where, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_string(v) || strlen(json_string_value(v)) != json_string_length(v)) {
        json_in_fail(in, AMI_BAD_ENCODING, "%s must be a text", place_of(where, key).text);
        return "";
    }
    return json_string_value(v);
}

int64_t json_in_integer(struct json_in *in, const json_t *o, const char *where, const char *key,
                        int64_t min, int64_t max)
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_integer(v)) {
        json_in_fail(in, AMI_BAD_ENCODING, "%s must be a whole number", place_of(where, key).text);
        return min;
    }
    int64_t n = json_integer_value(v);
    if (n < min || n > max) {
        json_in_fail(in, AMI_BAD_ARGUMENT, "%s is %lld, it must be from %lld to %lld",
                     place_of(where, key).text, (long long)n, (long long)min, (long long)max);
        return min;
    }
    return n;
}

void json_in_id(struct json_in *in, const json_t *o, const char *where, const char *key,
                struct ami_id *out)
{
    const char *text = json_in_text(in, o, where, key);
    if (in->status == AMI_OK && ami_id_from_text(out, text) != AMI_OK)
        json_in_fail(in, AMI_BAD_ARGUMENT,
                     "%s must be a name of 1 to %d characters from A-Z a-z 0-9 . _ -",
                     place_of(where, key).text, AMI_ID_BYTES_MAX);
}

void json_in_fixed(struct json_in *in, const json_t *o, const char *where, const char *key,
                   uint8_t *out, size_t size)
{
    const char *text = json_in_text(in, o, where, key);
    if (in->status == AMI_OK && hex_decode(out, size, text) != AMI_OK)
        json_in_fail(in, AMI_BAD_ENCODING, "%s must be %zu hex digits", place_of(where, key).text,
                     2 * size);
}

size_t json_in_bytes(struct json_in *in, const json_t *o, const char *where, const char *key,
                     uint8_t *out, size_t size_max)
{
    const char *text = json_in_text(in, o, where, key);
    size_t digits = strlen(text);
    if (in->status != AMI_OK)
        return 0;
    if (digits > 2 * size_max) {
        json_in_fail(in, AMI_TOO_LARGE, "%s has %zu hex digits, at most %zu are allowed",
                     place_of(where, key).text, digits, 2 * size_max);
        return 0;
    }
    if (digits % 2 != 0 || hex_decode(out, digits / 2, text) != AMI_OK) {
        json_in_fail(in, AMI_BAD_ENCODING, "%s must be an even number of hex digits",
                     place_of(where, key).text);
        return 0;
    }
    return digits / 2;
}

void json_in_point(struct json_in *in, const json_t *o, const char *where, const char *key,
                   point *out)
{
    point_bytes bytes;
    json_in_fixed(in, o, where, key, bytes.b, sizeof bytes.b);
    if (in->status == AMI_OK && point_decode(out, &bytes) != AMI_OK)
        json_in_fail(in, AMI_BAD_CRYPTO, "%s is no point of the curve", place_of(where, key).text);
}

void json_in_format(struct json_in *in, const json_t *o, const char *where, const char *expected,
                    int version)
{
    const char *text = json_in_text(in, o, where, "format");
    if (in->status == AMI_OK && strcmp(text, expected) != 0)
        json_in_fail(in, AMI_BAD_ENCODING, "%s is \"%.60s\", expected is \"%s\"",
                     place_of(where, "format").text, text, expected);
    int64_t n = json_in_integer(in, o, where, "version", 0, INT32_MAX);
    if (in->status == AMI_OK && n != version)
        json_in_fail(in, AMI_BAD_VERSION, "%s is %lld, this program reads version %d",
                     place_of(where, "version").text, (long long)n, version);
}

void json_in_canonical(struct json_in *in, struct span text, const char *printed)
{
    if (in->status != AMI_OK)
        return;
    if (printed == NULL) {
        json_in_fail(in, AMI_NO_MEMORY, "out of memory");
        return;
    }
    size_t size = strlen(printed), line = 1, i = 0;
    for (; i < size && i < text.size && (uint8_t)printed[i] == text.data[i]; i++)
        line += printed[i] == '\n';
    if (i != size || i != text.size)
        json_in_fail(in, AMI_BAD_ENCODING,
                     "line %zu is not written in the one form that such a file has; it was altered",
                     line);
}

json_t *json_out_hex(const uint8_t *bytes, size_t size)
{
    char *text = malloc(2 * size + 1);
    if (text == NULL)
        return NULL;
    hex_encode(text, bytes, size);
    json_t *v = json_stringn(text, 2 * size);
    free(text);
    return v;
}

char *json_out_text(json_t *o)
{
    if (o == NULL)
        return NULL;
    char *body = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
    if (body == NULL)
        return NULL;
    size_t size = strlen(body);
    char *text = malloc(size + 2);
    if (text != NULL) {
        memcpy(text, body, size);
        memcpy(text + size, "\n", 2);
    }
    free(body);
    return text;
}
