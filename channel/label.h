/* channel/label.h - access labels of the Bell-LaPadula model: a level and a set of categories.
 *
 * An operator's label is part of its identity, so it is under the issuer's signature; a request's
 * label stands in a table (node/access.h). Source: Bell and LaPadula, "Secure Computer System:
 * Unified Exposition and Multics Interpretation" (1976): the simple security property (no read up)
 * and the *-property (no write down).
 */
#ifndef AMI_CHANNEL_LABEL_H
#define AMI_CHANNEL_LABEL_H

#include "base/bytes.h"

#define LABEL_LEVEL_MAX      3
#define LABEL_CATEGORIES_MAX 8

/* Categories: what an object is about. */
#define LABEL_CATEGORY_TABLE(X)                                                                    \
    X(OPERATION, "operation")   /* how the nodes fare: connections, elections, faults */           \
    X(LEDGER, "ledger")         /* blocks and transactions */                                      \
    X(METERING, "metering")     /* which meter reported what and when */                           \
    X(MEMBERSHIP, "membership") /* who may vote, who is enrolled */

enum label_category_index {
#define X(name, text) LABEL_INDEX_##name,
    LABEL_CATEGORY_TABLE(X)
#undef X
        LABEL_CATEGORIES
};
enum label_category {
#define X(name, text) LABEL_##name = 1 << LABEL_INDEX_##name,
    LABEL_CATEGORY_TABLE(X)
#undef X
};
_Static_assert(LABEL_CATEGORIES <= LABEL_CATEGORIES_MAX, "one byte holds them");

struct label {
    uint8_t level; /* 0..LABEL_LEVEL_MAX */
    uint8_t categories;
};

/* a's level is at least b's, and a has all categories of b. A partial order: of two labels neither
 * may dominate the other. */
bool label_dominates(struct label a, struct label b);

/* No read up: a subject reads what its label dominates. */
bool label_may_read(struct label subject, struct label object);
/* No write down: a subject writes what dominates its label. Who may read and write an object has
 * exactly its label. */
bool label_may_write(struct label subject, struct label object);

/* A level and categories that exist. */
bool label_valid(struct label l);

/* "2:ledger+metering", "0:" for none. */
#define LABEL_TEXT_BYTES 64
void label_text(char out[LABEL_TEXT_BYTES], struct label l);
/* AMI_BAD_ARGUMENT: no such level or category, or one given twice. */
enum ami_status label_parse(struct label *out, const char *text) AMI_MUST_CHECK;

#endif
