/* node/describe.h - ledger objects as JSON, the same from a live node and from a ledger on disk.
 *
 * Field names are stable: `dc-cli --json` prints these documents. Digests, points and signatures
 * are lower-case hex; times are milliseconds since 1970 UTC.
 */
#ifndef AMI_NODE_DESCRIBE_H
#define AMI_NODE_DESCRIBE_H

#include "ledger/block.h"

#include <jansson.h>

/* All return a new reference, NULL: out of memory. `m`: the members of that height; NULL: not
 * known. */
json_t *describe_hex(const void *data, size_t size);
json_t *describe_header(const struct members *m, const struct block_header *h);
/* One line of `dc-cli blocks`: height, hash, term, leader, transactions, bytes, timestamp_ms. */
json_t *describe_block_line(const struct members *m, const struct certified_block *b);
/* Header, certificate with the voters' names, and one line per transaction. */
json_t *describe_block(const struct members *m, const struct certified_block *b);
/* Every field decoded. */
json_t *describe_tx(const struct members *m, const struct tx_view *tx);
json_t *describe_record(const struct record *r);

/* Whom a transaction is about; sequence 0: it has none. Borrows both. */
struct tx_facts {
    const char *device;
    uint32_t epoch;    /* of the key; of the membership for evidence */
    uint64_t sequence; /* of a skip: `below` */
};
struct tx_facts describe_tx_facts(const struct members *m, const struct tx_view *tx);

/* "report", "meter_enrol", ... */
const char *describe_tx_kind(uint8_t kind);

#endif
