/* tests/wire/samples.h - encodings of every type of wire/table.h, made from the table alone.
 *
 * The samples are written byte by byte after the rules in the head of wire/table.h, without the
 * room's encoders: what a decoder and an encoder do to them is then checked against something that
 * does not share their mistakes. A fault can be planted at every place where the table sets a
 * limit.
 */
#ifndef AMI_TESTS_WIRE_SAMPLES_H
#define AMI_TESTS_WIRE_SAMPLES_H

#include "wire/types.h"

/* Types of the table, in its order. */
enum sample_type {
#define SAMPLE_TYPE(T, doc) SAMPLE_##T,
    AMI_TYPES(SAMPLE_TYPE)
#undef SAMPLE_TYPE
        SAMPLE_TYPE_COUNT
};

enum sample_size {
    SAMPLE_ANY,   /* optional parts present or not, a few elements, short byte strings */
    SAMPLE_FULL,  /* every optional part, one element in every list: each field occurs */
    SAMPLE_LIMIT, /* everything as large as the table allows */
};

struct sample_plan {
    uint64_t seed;
    enum sample_size size;
    /* Plants a fault in the fault_at-th place that can carry one (from 1; 0: none). A place of an
     * id or a flag has several faults, each counted as a place. */
    unsigned fault_at;
    unsigned places; /* out: places seen */
};

const char *sample_name(unsigned type);
/* Returns the size; AMI_CHECKs that it fits. */
size_t sample_make(unsigned type, struct sample_plan *plan, uint8_t *out, size_t capacity);

/* Parses and encodes again. *size is what the encoder wrote, only with AMI_OK. */
enum ami_status sample_recode(unsigned type, struct span in, uint8_t *out, size_t capacity,
                              size_t *size) AMI_MUST_CHECK;

/* The type of a message's body; SAMPLE_TYPE_COUNT when there is no such message. */
unsigned sample_of_message(unsigned message);

/* No encoding of SAMPLE_LIMIT is larger. */
#define SAMPLE_BYTES_MAX ((4u << 20) + 65536)

#endif
