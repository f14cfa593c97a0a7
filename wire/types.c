#include "wire/types.h"

#include "base/check.h"

#include <stdio.h>

static void write_digest(struct writer *w, const sm3_digest *d)
{
    write_raw(w, d->b, sizeof d->b);
}

static void write_sig(struct writer *w, const sm2_signature *s)
{
    write_raw(w, s->b, sizeof s->b);
}

/* Presence of an optional field: exactly 0 or 1, so that a value has one encoding. */
static bool read_flag(struct reader *r)
{
    uint8_t flag = read_u8(r);
    if (flag > 1)
        r->failed = true;
    return !r->failed && flag == 1;
}

static uint16_t read_count(struct reader *r, size_t max)
{
    uint16_t count = read_u16(r);
    if (count > max)
        r->failed = true;
    return r->failed ? 0 : count;
}

#define ENC_u8(n, A, B)     write_u8(w, value->n);
#define ENC_u16(n, A, B)    write_u16(w, value->n);
#define ENC_u32(n, A, B)    write_u32(w, value->n);
#define ENC_u64(n, A, B)    write_u64(w, value->n);
#define ENC_i64(n, A, B)    write_i64(w, value->n);
#define ENC_fixed(n, A, B)  write_raw(w, value->n, A);
#define ENC_digest(n, A, B) write_digest(w, &value->n);
#define ENC_point(n, A, B)  write_raw(w, value->n.b, sizeof value->n.b);
#define ENC_sig(n, A, B)    write_sig(w, &value->n);
#define ENC_id(n, A, B)     write_id(w, &value->n);
#define ENC_bytes(n, A, B)                                                                         \
    AMI_CHECK(value->n.size <= (A));                                                               \
    write_bytes(w, value->n);
#define ENC_type(n, A, B) A##_encode(w, &value->n);
#define ENC_opt(n, A, B)                                                                           \
    write_u8(w, value->has_##n ? 1 : 0);                                                           \
    if (value->has_##n)                                                                            \
        A##_encode(w, &value->n);
#define ENC_list(n, A, B)                                                                          \
    AMI_CHECK(value->n##_count <= (B));                                                            \
    write_u16(w, value->n##_count);                                                                \
    for (uint16_t i = 0; i < value->n##_count; i++)                                                \
        A##_encode(w, &value->n[i]);
#define ENC_digests(n, A, B)                                                                       \
    AMI_CHECK(value->n##_count <= (A));                                                            \
    write_u16(w, value->n##_count);                                                                \
    for (uint16_t i = 0; i < value->n##_count; i++)                                                \
        write_digest(w, &value->n[i]);
#define ENC_sigs(n, A, B)                                                                          \
    AMI_CHECK(value->n##_count <= (A));                                                            \
    write_u16(w, value->n##_count);                                                                \
    for (uint16_t i = 0; i < value->n##_count; i++)                                                \
        write_sig(w, &value->n[i]);

#define DEC_u8(n, A, B)     value->n = read_u8(r);
#define DEC_u16(n, A, B)    value->n = read_u16(r);
#define DEC_u32(n, A, B)    value->n = read_u32(r);
#define DEC_u64(n, A, B)    value->n = read_u64(r);
#define DEC_i64(n, A, B)    value->n = read_i64(r);
#define DEC_fixed(n, A, B)  read_raw(r, value->n, A);
#define DEC_digest(n, A, B) read_raw(r, value->n.b, sizeof value->n.b);
#define DEC_point(n, A, B)  read_raw(r, value->n.b, sizeof value->n.b);
#define DEC_sig(n, A, B)    read_raw(r, value->n.b, sizeof value->n.b);
#define DEC_id(n, A, B)     value->n = read_id(r);
#define DEC_bytes(n, A, B)  value->n = read_bytes(r, A);
#define DEC_type(n, A, B)   A##_decode(r, &value->n);
#define DEC_opt(n, A, B)                                                                           \
    value->has_##n = read_flag(r);                                                                 \
    if (value->has_##n)                                                                            \
        A##_decode(r, &value->n);
#define DEC_list(n, A, B)                                                                          \
    value->n##_count = read_count(r, B);                                                           \
    for (uint16_t i = 0; i < value->n##_count; i++)                                                \
        A##_decode(r, &value->n[i]);
#define DEC_digests(n, A, B)                                                                       \
    value->n##_count = read_count(r, A);                                                           \
    for (uint16_t i = 0; i < value->n##_count; i++)                                                \
        read_raw(r, value->n[i].b, sizeof value->n[i].b);
#define DEC_sigs(n, A, B)                                                                          \
    value->n##_count = read_count(r, A);                                                           \
    for (uint16_t i = 0; i < value->n##_count; i++)                                                \
        read_raw(r, value->n[i].b, sizeof value->n[i].b);

#define ENC_FIELD(kind, name, a, b, doc) ENC_##kind(name, a, b)
#define DEC_FIELD(kind, name, a, b, doc) DEC_##kind(name, a, b)
#define DEFINE(T, doc)                                                                             \
    void T##_encode(struct writer *w, const struct T *value)                                       \
    {                                                                                              \
        AMI_FIELDS_##T(ENC_FIELD)                                                                  \
    }                                                                                              \
    void T##_decode(struct reader *r, struct T *value)                                             \
    {                                                                                              \
        AMI_FIELDS_##T(DEC_FIELD)                                                                  \
    }                                                                                              \
    enum ami_status T##_parse(struct T *value, struct span s)                                      \
    {                                                                                              \
        struct reader r = reader_on(s);                                                            \
        T##_decode(&r, value);                                                                     \
        return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;                                        \
    }
AMI_TYPES(DEFINE)

void frame_begin(struct writer *w, enum message_type type)
{
    write_u8(w, AMI_WIRE_VERSION);
    write_u8(w, (uint8_t)type);
}

const char *message_name(unsigned type)
{
    switch (type) {
#define NAME_CASE(number, NAME, T, from_to)                                                        \
    case number:                                                                                   \
        return #NAME;
        AMI_MESSAGES(NAME_CASE)
    default:
        return "UNKNOWN";
    }
}

static bool message_known(unsigned type)
{
    switch (type) {
#define KNOWN_CASE(number, NAME, T, from_to)                                                       \
    case number:                                                                                   \
        return true;
        AMI_MESSAGES(KNOWN_CASE)
    default:
        return false;
    }
}

enum ami_status frame_open(struct span frame, enum message_type *type, struct span *body)
{
    if (frame.size < 2)
        return AMI_BAD_ENCODING;
    if (frame.data[0] != AMI_WIRE_VERSION)
        return AMI_BAD_VERSION;
    if (!message_known(frame.data[1]))
        return AMI_BAD_ENCODING;
    *type = (enum message_type)frame.data[1];
    *body = span_of(frame.data + 2, frame.size - 2);
    return AMI_OK;
}

/* --- the table in words ----------------------------------------------------------------------- */

struct describe {
    void (*put)(void *ctx, const char *line);
    void *ctx;
};

/* A vertical bar would end the cell of a Markdown table. */
static void escape(char *out, size_t size, const char *text)
{
    size_t at = 0;
    for (; *text != '\0'; text++) {
        AMI_CHECK(at + 3 < size);
        if (*text == '|')
            out[at++] = '\\';
        out[at++] = *text;
    }
    out[at] = '\0';
}

/* The argument of a kind is another type, a bound, or both. */
static void describe_field(const struct describe *d, const char *name, const char *kind,
                           const char *type, unsigned max, const char *doc)
{
    char line[768], meaning[400], link[128] = "", bound[16] = "";
    escape(meaning, sizeof meaning, doc);
    if (type != NULL)
        snprintf(link, sizeof link, "[%s](#%s)", type, type);
    if (max != 0)
        snprintf(bound, sizeof bound, "%s%u", type == NULL ? "" : ", ", max);
    bool plain = type == NULL && max == 0;
    snprintf(line, sizeof line, "| `%s` | %s%s%s%s%s | %s |", name, kind, plain ? "" : "(", link,
             bound, plain ? "" : ")", meaning);
    d->put(d->ctx, line);
}

static void describe_status(const struct describe *d, int number, const char *name,
                            const char *sentence)
{
    char line[256];
    snprintf(line, sizeof line, "| %d | %s | %s |", number, name, sentence);
    d->put(d->ctx, line);
}

#define SHOW_u8(A, B)      NULL, 0
#define SHOW_u16(A, B)     NULL, 0
#define SHOW_u32(A, B)     NULL, 0
#define SHOW_u64(A, B)     NULL, 0
#define SHOW_i64(A, B)     NULL, 0
#define SHOW_fixed(A, B)   NULL, A
#define SHOW_digest(A, B)  NULL, 0
#define SHOW_point(A, B)   NULL, 0
#define SHOW_sig(A, B)     NULL, 0
#define SHOW_id(A, B)      NULL, 0
#define SHOW_bytes(A, B)   NULL, A
#define SHOW_type(A, B)    #A, 0
#define SHOW_opt(A, B)     #A, 0
#define SHOW_list(A, B)    #A, B
#define SHOW_digests(A, B) NULL, A
#define SHOW_sigs(A, B)    NULL, A

/* One function per type: the whole in one function takes a sanitizing compiler minutes. */
#define DESCRIBE_FIELD(kind, name, a, b, doc)                                                      \
    describe_field(d, #name, #kind, SHOW_##kind(a, b), doc);
#define DEFINE_DESCRIBE(T, doc)                                                                    \
    static void describe_##T(const struct describe *d)                                             \
    {                                                                                              \
        AMI_FIELDS_##T(DESCRIBE_FIELD)                                                             \
    }
AMI_TYPES(DEFINE_DESCRIBE)

void wire_describe(void (*put)(void *ctx, const char *line), void *ctx)
{
    static const struct {
        const char *name, *doc;
        void (*fields)(const struct describe *d);
    } types[] = {
#define DESCRIBE_TYPE(T, doc) {#T, doc, describe_##T},
        AMI_TYPES(DESCRIBE_TYPE)};
    static const struct {
        unsigned number;
        const char *name, *type, *from_to;
    } messages[] = {
#define DESCRIBE_MESSAGE(number, NAME, T, from_to) {number, #NAME, #T, from_to},
        AMI_MESSAGES(DESCRIBE_MESSAGE)};
    const struct describe d = {put, ctx};
    char line[512];

    put(ctx, "### Messages");
    put(ctx, "");
    put(ctx, "| number | name | body | direction |");
    put(ctx, "|---|---|---|---|");
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        snprintf(line, sizeof line, "| %u | %s | [%s](#%s) | %s |", messages[i].number,
                 messages[i].name, messages[i].type, messages[i].type, messages[i].from_to);
        put(ctx, line);
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        put(ctx, "");
        snprintf(line, sizeof line, "### %s", types[i].name);
        put(ctx, line);
        put(ctx, "");
        put(ctx, types[i].doc);
        put(ctx, "");
        put(ctx, "| field | encoding | meaning |");
        put(ctx, "|---|---|---|");
        types[i].fields(&d);
    }
    put(ctx, "");
    put(ctx, "### Statuses");
    put(ctx, "");
    put(ctx, "| number | name | sentence |");
    put(ctx, "|---|---|---|");
    for (int i = 0; i < AMI_STATUS_COUNT; i++)
        describe_status(&d, i, ami_status_name((enum ami_status)i),
                        ami_status_text((enum ami_status)i));
}
