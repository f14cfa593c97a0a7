/* tests/crypto/oracle_long.h - what the two files of oracle-long share.
 *
 * An operation makes inputs, has an oracle that computes or judges the result, and runs the library
 * on a batch of inputs. oracle_operations.c holds the operations, oracle_long.c drives them.
 */
#ifndef AMI_TESTS_CRYPTO_ORACLE_LONG_H
#define AMI_TESTS_CRYPTO_ORACLE_LONG_H

#include "inputs.h"
#include "openssl_group.h"

#include <gcrypt.h>

/* One thread's oracles. */
struct oracle {
    struct openssl_group openssl;
    gcry_ctx_t gcrypt;
};

/* What an operation does not need stays zero, and is not printed. */
struct input {
    scalar a, b; /* factors; private key and nonce; long-term and ephemeral private key */
    point p, q;  /* operands; W; the peer's public key */
    point r_a, r_b;
    sm3_digest e, h; /* e, H_A; Z_A and Z_B */
    sm2_signature sig;
    point_bytes encoded;
    uint8_t random[SM2_WIDE_BYTES];
    uint64_t initiator;
};

#define RESULT_BYTES 160 /* an exchange's */

/* Without padding, so that results compare as memory. `bytes` stays zero where `ok` is. */
struct result {
    uint64_t ok;
    uint8_t bytes[RESULT_BYTES];
};

#define CHUNK         512
#define POOL          128
#define SMALL         40
#define KNOWN_SIGNERS 16
#define PAIRS_MAX     POOL

/* Private keys and their public keys, as OpenSSL computes them. */
struct pairs {
    scalar d[PAIRS_MAX];
    point p[PAIRS_MAX];
    size_t count;
};

/* Made once, from the seed alone. */
struct material {
    scalar edge[EDGE_SCALARS_MAX];
    size_t edges;
    point special[SPECIAL_POINTS_MAX];
    size_t specials;
    point beyond_n[16]; /* x in [n, p) */
    size_t beyonds;
    struct pairs small; /* 1, 2, ... and their negatives, n - 1 left out */
    struct pairs known; /* signers that are remembered where the operation says so */
};

/* CHUNK cases, all of which follow from the seed, the operation's name and the chunk's number. */
struct chunk {
    const struct material *material;
    uint64_t number;
    struct seeded seeded;
    struct pairs pool;
    /* One for all: the table's point, P_pub, the recipient, with its private key. */
    scalar d;
    point p;
    struct input in[CHUNK];
    struct result expected[CHUNK];
    size_t count;
};

struct operation {
    const char *name, *text;
    bool remember; /* the known signers */
    bool answers;  /* yes and no both have to come */
    void (*make)(struct oracle *o, struct chunk *c, size_t i);
    /* Either computes the result or judges one of the library's. */
    void (*expect)(struct oracle *o, const struct chunk *c, size_t i, struct result *out);
    bool (*judge)(struct oracle *o, const struct chunk *c, size_t i, const struct result *got);
    /* in[0] to in[count - 1] on the path in use; results are zero before. */
    void (*run)(const struct chunk *c, const struct input *in, struct result *out, size_t count);
};

extern const struct operation operations[];
extern const size_t operation_count;

void material_make(struct material *out, struct oracle *o, uint64_t seed);
/* Everything of a chunk but the expected results. */
void chunk_make(struct chunk *c, const struct operation *op, struct oracle *o, uint64_t seed);

/* Ends the program. */
_Noreturn void oracle_die(const char *why);

#endif
