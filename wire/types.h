/* wire/types.h - every structure that travels, is hashed, signed or stored, from one table.
 *
 * wire/table.h lists the types and their fields; this file turns the list into structs and into
 *
 *   void T_encode(struct writer *w, const struct T *value);
 *   void T_decode(struct reader *r, struct T *value);        failure shows in the reader
 *   enum ami_status T_parse(struct T *value, struct span s); all of s must be consumed
 *
 * A decoded value borrows the bytes that it was decoded from (its spans point into them). Types
 * whose last field is a signature are signed over their own encoding without that last field,
 * behind a label: see `signed_part`.
 */
#ifndef AMI_WIRE_TYPES_H
#define AMI_WIRE_TYPES_H

#include "wire/codec.h"
#include "wire/table.h"

#define AMI_STRUCT_u8(name, A, B)     uint8_t name;
#define AMI_STRUCT_u16(name, A, B)    uint16_t name;
#define AMI_STRUCT_u32(name, A, B)    uint32_t name;
#define AMI_STRUCT_u64(name, A, B)    uint64_t name;
#define AMI_STRUCT_i64(name, A, B)    int64_t name;
#define AMI_STRUCT_fixed(name, A, B)  uint8_t name[A];
#define AMI_STRUCT_digest(name, A, B) sm3_digest name;
#define AMI_STRUCT_point(name, A, B)  point_bytes name;
#define AMI_STRUCT_sig(name, A, B)    sm2_signature name;
#define AMI_STRUCT_id(name, A, B)     struct ami_id name;
#define AMI_STRUCT_bytes(name, A, B)  struct span name;
#define AMI_STRUCT_type(name, A, B)   struct A name;
#define AMI_STRUCT_opt(name, A, B)                                                                 \
    bool has_##name;                                                                               \
    struct A name;
#define AMI_STRUCT_list(name, A, B)                                                                \
    uint16_t name##_count;                                                                         \
    struct A name[B];
#define AMI_STRUCT_digests(name, A, B)                                                             \
    uint16_t name##_count;                                                                         \
    sm3_digest name[A];
#define AMI_STRUCT_sigs(name, A, B)                                                                \
    uint16_t name##_count;                                                                         \
    sm2_signature name[A];

#define AMI_STRUCT_FIELD(kind, name, a, b, doc) AMI_STRUCT_##kind(name, a, b)
#define AMI_DECLARE(T, doc)                                                                        \
    struct T {                                                                                     \
        AMI_FIELDS_##T(AMI_STRUCT_FIELD)                                                           \
    };                                                                                             \
    void T##_encode(struct writer *w, const struct T *value);                                      \
    void T##_decode(struct reader *r, struct T *value);                                            \
    enum ami_status T##_parse(struct T *value, struct span s) AMI_MUST_CHECK;

AMI_TYPES(AMI_DECLARE)

/* The part of an encoded signed type that its signature covers: all but the last 64 bytes. */
static inline struct span signed_part(struct span encoded)
{
    return span_of(encoded.data,
                   encoded.size < SM2_SIGNATURE_BYTES ? 0 : encoded.size - SM2_SIGNATURE_BYTES);
}

/* --- frames ---------------------------------------------------------------------------------- */

#define AMI_WIRE_VERSION 1

enum message_type {
#define AMI_MESSAGE_NUMBER(number, NAME, T, from_to) MSG_##NAME = number,
    AMI_MESSAGES(AMI_MESSAGE_NUMBER)
#undef AMI_MESSAGE_NUMBER
};

/* A frame is version u8, type u8, body. Starts one: the body is encoded after it. */
void frame_begin(struct writer *w, enum message_type type);

/* Splits a received frame. AMI_BAD_VERSION, or AMI_BAD_ENCODING for an empty frame or a type that
 * is not in the table. */
enum ami_status frame_open(struct span frame, enum message_type *type,
                           struct span *body) AMI_MUST_CHECK;

/* "PREVOTE", or "UNKNOWN". */
const char *message_name(unsigned type);

/* The tables of docs/wire-format.md: messages, types, statuses; writes line by line through `put`.
 * `cmake --build DIR --target wire-doc` puts them into the document. */
void wire_describe(void (*put)(void *ctx, const char *line), void *ctx);

#endif
