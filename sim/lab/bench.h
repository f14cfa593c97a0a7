/* sim/lab/bench.h - a ledger in memory with its members' keys at hand: blocks built, voted and
 * committed by the real code, without a network around it. */
#ifndef AMI_SIM_LAB_BENCH_H
#define AMI_SIM_LAB_BENCH_H

#include "crypto/sm4gcm.h"
#include "ledger/block.h"
#include "ledger/store.h"
#include "sim/cast.h"
#include "sim/random.h"

#define BENCH_DCS      4
#define BENCH_METERS   3
#define BENCH_BLOCKS   4
#define BENCH_TX_BYTES 1024

struct bench_block {
    struct block_header header;
    sm3_digest hash;
    struct qc commit;
    size_t body_size, records_size;
    uint8_t *body, *records; /* records: as store_batch wants them */
};

struct bench {
    const struct sim_cast *cast;
    const struct genesis *genesis;
    struct registry *registry;
    struct block_parent tip;
    struct sim_random random;
    struct bench_block block[BENCH_BLOCKS]; /* committed, by height - 1 */
    size_t blocks;
};

/* Block 1 enrols the meters. */
struct bench *bench_new(const struct scheme *scheme, uint64_t seed);
void bench_free(struct bench *b);

/* One report: what its meter made of it, and the transaction that a gateway makes of that. */
struct bench_report {
    struct report_meter_part meter;
    uint8_t salt[16];
    char m[40]; /* the reading, as text */
    uint8_t sealed[16 + 40 + GCM_TAG_BYTES];
    struct report_gateway_part gateway;
    uint8_t bytes[BENCH_TX_BYTES];
    struct span tx; /* in bytes */
};
/* The meter's part: number, salt, commitment, signature. */
void bench_measure(struct bench *b, struct bench_report *r, unsigned meter, uint64_t sequence,
                   const char *reading);
/* The gateway's part, by the key of this DC, and the transaction. */
void bench_gateway(struct bench *b, struct bench_report *r, unsigned dc,
                   const struct sign_key *key);

/* What an honest DC does with a transaction that comes from anywhere: its signatures, then whether
 * it is admissible on the registry. AMI_OK: it would go into the next block. */
enum ami_status bench_admit(struct bench *b, struct span tx);
/* The same without one's own look at the registry: signatures alone. */
enum ami_status bench_check(struct bench *b, struct span tx);

/* A block of these on top of the tip, voted by q members, committed. */
void bench_commit(struct bench *b, const struct span *tx, size_t count);
/* A header around a body on the tip, not committed; true when the registry takes it. */
bool bench_propose(struct bench *b, struct bench_block *out, const struct span *tx, size_t count);
/* A certificate by the votes of these members (bits), a quorum at least. */
struct qc bench_votes(struct bench *b, const struct bench_block *block, unsigned members);
void bench_block_free(struct bench_block *block);

#endif
