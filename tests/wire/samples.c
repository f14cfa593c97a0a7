#include "tests/wire/samples.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

struct maker {
    uint8_t *out;
    size_t size, capacity;
    uint64_t rng;
    struct sample_plan *plan;
};

/* splitmix64. */
static uint64_t rng(struct maker *m)
{
    uint64_t z = m->rng += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void put(struct maker *m, uint64_t v, unsigned bytes)
{
    AMI_CHECK(m->size + bytes <= m->capacity);
    for (unsigned i = bytes; i > 0; i--)
        m->out[m->size++] = (uint8_t)(v >> (8 * (i - 1)));
}

static void noise(struct maker *m, size_t bytes)
{
    AMI_CHECK(bytes <= m->capacity - m->size);
    while (bytes-- > 0)
        m->out[m->size++] = (uint8_t)rng(m);
}

/* An integer that is at a border as often as not. */
static void integer(struct maker *m, unsigned bytes)
{
    uint64_t v = rng(m);
    switch (rng(m) % 6) {
    case 0:
        v = 0;
        break;
    case 1:
        v = UINT64_MAX;
        break;
    case 2:
        v = (uint64_t)1 << (8 * bytes - 1);
        break;
    default:
        break;
    }
    put(m, v, bytes);
}

/* True at the place where the plan wants a fault. */
static bool fault(struct maker *m)
{
    return ++m->plan->places == m->plan->fault_at;
}

static void name(struct maker *m)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    bool empty = fault(m), too_long = fault(m), bad_letter = fault(m);
    size_t size = 1 + rng(m) % 32;
    if (m->plan->size == SAMPLE_LIMIT)
        size = 32;
    if (empty)
        size = 0;
    if (too_long)
        size = 33;
    put(m, size, 1);
    for (size_t i = 0; i < size; i++)
        put(m, (uint8_t)letters[rng(m) % (sizeof letters - 1)], 1);
    if (bad_letter)
        m->out[m->size - 1] = (uint8_t) " /\n\0\x80\xff"[rng(m) % 6];
}

static void byte_string(struct maker *m, size_t max)
{
    bool too_long = fault(m);
    size_t size = m->plan->size == SAMPLE_FULL ? 1 : rng(m) % (max < 40 ? max + 1 : 41);
    if (m->plan->size == SAMPLE_LIMIT)
        size = max;
    if (too_long)
        size = max + 1;
    put(m, size, 4);
    noise(m, size);
}

static size_t count(struct maker *m, size_t max)
{
    bool too_many = fault(m);
    size_t n = m->plan->size == SAMPLE_FULL ? 1 : rng(m) % 4;
    if (m->plan->size == SAMPLE_LIMIT)
        n = max;
    if (too_many)
        n = max + 1;
    put(m, n, 2);
    return n;
}

static bool present(struct maker *m)
{
    bool bad_flag = fault(m);
    bool yes = m->plan->size != SAMPLE_ANY || rng(m) % 2 != 0;
    put(m, bad_flag ? 2 + rng(m) % 254 : yes, 1);
    return yes;
}

#define MAKE_u8(A, B)     integer(m, 1);
#define MAKE_u16(A, B)    integer(m, 2);
#define MAKE_u32(A, B)    integer(m, 4);
#define MAKE_u64(A, B)    integer(m, 8);
#define MAKE_i64(A, B)    integer(m, 8);
#define MAKE_fixed(A, B)  noise(m, A);
#define MAKE_digest(A, B) noise(m, 32);
#define MAKE_point(A, B)  noise(m, 33);
#define MAKE_sig(A, B)    noise(m, 64);
#define MAKE_id(A, B)     name(m);
#define MAKE_bytes(A, B)  byte_string(m, A);
#define MAKE_type(A, B)   make_##A(m);
#define MAKE_opt(A, B)                                                                             \
    if (present(m))                                                                                \
        make_##A(m);
#define MAKE_list(A, B)                                                                            \
    for (size_t n = count(m, B); n > 0; n--)                                                       \
        make_##A(m);
#define MAKE_digests(A, B)                                                                         \
    for (size_t n = count(m, A); n > 0; n--)                                                       \
        noise(m, 32);
#define MAKE_sigs(A, B)                                                                            \
    for (size_t n = count(m, A); n > 0; n--)                                                       \
        noise(m, 64);

#define MAKE_FIELD(kind, field, a, b, doc) MAKE_##kind(a, b)
#define DEFINE_MAKE(T, doc)                                                                        \
    static void make_##T(struct maker *m)                                                          \
    {                                                                                              \
        AMI_FIELDS_##T(MAKE_FIELD)                                                                 \
    }
AMI_TYPES(DEFINE_MAKE)

size_t sample_make(unsigned type, struct sample_plan *plan, uint8_t *out, size_t capacity)
{
    struct maker m = {.out = out, .capacity = capacity, .rng = plan->seed, .plan = plan};
    plan->places = 0;
    switch (type) {
#define MAKE_CASE(T, doc)                                                                          \
    case SAMPLE_##T:                                                                               \
        make_##T(&m);                                                                              \
        break;
        AMI_TYPES(MAKE_CASE)
    default:
        AMI_CHECK(type < SAMPLE_TYPE_COUNT);
    }
    return m.size;
}

const char *sample_name(unsigned type)
{
    static const char *const names[] = {
#define NAME(T, doc) #T,
        AMI_TYPES(NAME)};
    AMI_CHECK(type < SAMPLE_TYPE_COUNT);
    return names[type];
}

#define DEFINE_RECODE(T, doc)                                                                      \
    static enum ami_status recode_##T(struct span in, struct writer *w)                            \
    {                                                                                              \
        struct T *value = malloc(sizeof *value);                                                   \
        AMI_CHECK(value != NULL);                                                                  \
        /* What the decoder leaves unset must not matter. */                                       \
        memset(value, 0xa5, sizeof *value);                                                        \
        enum ami_status status = T##_parse(value, in);                                             \
        if (status == AMI_OK)                                                                      \
            T##_encode(w, value);                                                                  \
        free(value);                                                                               \
        return status;                                                                             \
    }
AMI_TYPES(DEFINE_RECODE)

enum ami_status sample_recode(unsigned type, struct span in, uint8_t *out, size_t capacity,
                              size_t *size)
{
    struct writer w = writer_on(out, capacity);
    enum ami_status status = AMI_BAD_ARGUMENT;
    switch (type) {
#define RECODE_CASE(T, doc)                                                                        \
    case SAMPLE_##T:                                                                               \
        status = recode_##T(in, &w);                                                               \
        break;
        AMI_TYPES(RECODE_CASE)
    default:
        break;
    }
    AMI_CHECK(writer_ok(&w));
    *size = w.size;
    return status;
}

unsigned sample_of_message(unsigned message)
{
    switch (message) {
#define MESSAGE_CASE(number, NAME, T, from_to)                                                     \
    case number:                                                                                   \
        return SAMPLE_##T;
        AMI_MESSAGES(MESSAGE_CASE)
    default:
        return SAMPLE_TYPE_COUNT;
    }
}
