/* ledger/store_value.h - the check behind every value in a ledger's file.
 *
 * LMDB keeps no checksums, so the store keeps its own: a value is followed by the first bytes of a
 * digest over the database's name, the key and the value. Whoever reads it sees whether it is what
 * was written under that key. A block has a second one, over its front (header and certificate), so
 * that the front can be read without the body. Against damage, not against who means harm: `dc-cli
 * audit` is for that. The store, its checker and tests that forge ledgers share this.
 */
#ifndef AMI_LEDGER_STORE_VALUE_H
#define AMI_LEDGER_STORE_VALUE_H

#include "crypto/sm3.h"

#include <string.h>

#define STORE_CHECK_BYTES 8
#define STORE_FORMAT      "amiledger store 8" /* in meta, under "format" */
/* The same, since blocks may be pruned in it: a program that does not know them must not open it.
 */
#define STORE_FORMAT_PRUNED "amiledger store 9"
#define STORE_FORMATS       "amiledger store " /* so begin they all; the first one had no checks */
#define STORE_FRONT         "front" /* in place of the database's name, for a block's front */

/* What is longer than a chunk of 4096 bytes is hashed chunk by chunk, side by side, and the check
 * is over the chunks' digests; up to this size, which no stored value exceeds. */
#define STORE_LONG_BYTES_MAX ((2u << 20) + (64u << 10))

/* The value in two parts, of which the second may be empty. */
void store_check(uint8_t out[STORE_CHECK_BYTES], const char *db, struct span key, struct span value,
                 struct span more);
/* The same of many values of at most a chunk each, several times faster than one by one. */
void store_checks(uint8_t (*out)[STORE_CHECK_BYTES], const char *db, const struct span *key,
                  const struct span *value, size_t count);

/* Takes the check off the end of a stored value; false: it is not that of the rest. */
static inline bool store_check_open(const char *db, struct span key, struct span stored,
                                    struct span *value)
{
    uint8_t check[STORE_CHECK_BYTES];
    if (stored.size < STORE_CHECK_BYTES)
        return false;
    *value = span_of(stored.data, stored.size - STORE_CHECK_BYTES);
    store_check(check, db, key, *value, span_of(NULL, 0));
    return memcmp(check, stored.data + value->size, STORE_CHECK_BYTES) == 0;
}

static inline bool store_format_known(struct span value)
{
    return span_equal(value, SPAN_LITERAL(STORE_FORMAT)) ||
           span_equal(value, SPAN_LITERAL(STORE_FORMAT_PRUNED));
}

/* Whether this is what a ledger of another format has under "format": that is no damage. */
static inline bool store_format_is_other(struct span stored)
{
    const size_t family = sizeof STORE_FORMATS - 1;
    struct span value;
    if (stored.size <= family || memcmp(stored.data, STORE_FORMATS, family) != 0)
        return false;
    if (store_check_open("meta", SPAN_LITERAL("format"), stored, &value))
        return !store_format_known(value);
    return span_equal(stored, SPAN_LITERAL(STORE_FORMATS "1"));
}

#endif
