/* ledger/json.h - strict reading of the ledger's JSON files, inside this room.
 *
 * In: bytes that anybody may have edited. Out: values, or one sentence that names the place that is
 * wrong. The first mistake sticks: later calls do nothing, so a reader is written straight down and
 * looks at `status` once. Keys that nobody asked for are mistakes too.
 */
#ifndef AMI_LEDGER_JSON_H
#define AMI_LEDGER_JSON_H

#include "crypto/sm2_group.h"

#include <jansson.h>

struct json_in {
    enum ami_status status;
    char *why; /* NULL: nobody wants to know */
    size_t why_size;
};

/* Notes the first mistake. */
void json_in_fail(struct json_in *in, enum ami_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The document, to be freed with json_decref; NULL on failure. Repeated keys, trailing bytes and
 * files of more than size_max bytes are refused. */
json_t *json_in_load(struct json_in *in, struct span text, size_t size_max);

/* `o` must be an object of exactly these keys; those from `required` on may be absent. `where`
 * names it in sentences; "" for the document itself. */
void json_in_keys(struct json_in *in, const json_t *o, const char *where, const char *const *keys,
                  size_t count, size_t required);

/* Members of an object whose keys were checked. */
const char *json_in_text(struct json_in *in, const json_t *o, const char *where, const char *key);
int64_t json_in_integer(struct json_in *in, const json_t *o, const char *where, const char *key,
                        int64_t min, int64_t max);
void json_in_id(struct json_in *in, const json_t *o, const char *where, const char *key,
                struct ami_id *out);
/* Exactly `size` bytes in hex. */
void json_in_fixed(struct json_in *in, const json_t *o, const char *where, const char *key,
                   uint8_t *out, size_t size);
/* At most `size_max` bytes in hex; returns how many. */
size_t json_in_bytes(struct json_in *in, const json_t *o, const char *where, const char *key,
                     uint8_t *out, size_t size_max);
void json_in_point(struct json_in *in, const json_t *o, const char *where, const char *key,
                   point *out);
/* The keys "format" and "version". AMI_BAD_VERSION. */
void json_in_format(struct json_in *in, const json_t *o, const char *where, const char *expected,
                    int version);

/* The document is canonical when it is what `printed` says (NULL: out of memory), byte by byte. */
void json_in_canonical(struct json_in *in, struct span text, const char *printed);

/* Hex as a JSON string; NULL: out of memory. */
json_t *json_out_hex(const uint8_t *bytes, size_t size);
/* The document in its one form: two spaces of indentation, keys in the order in which they were
 * set, one line feed at the end. malloc'ed; NULL: out of memory, or `o` is NULL. Frees `o`. */
char *json_out_text(json_t *o);

#endif
