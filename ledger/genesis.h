/* ledger/genesis.h - the two files that everybody pins: network.json and genesis.json.
 *
 * network.json is made by `ami-mdms init` (the MDMS's public keys); genesis.json by `ami-mdms
 * genesis` (network, parameters, first members, addresses). chain id = SM3("amiledger genesis v1"
 * 00 the bytes of genesis.json): the file is its own pin. No disk here: callers hand in bytes.
 */
#ifndef AMI_LEDGER_GENESIS_H
#define AMI_LEDGER_GENESIS_H

#include "ledger/members.h"

enum gateway_policy { GATEWAY_LEADER = 1, GATEWAY_HOME = 2 };

struct parameters {
    uint32_t election_timeout_ms; /* T; the timer runs T to 2T */
    uint32_t progress_timeout_ms; /* T_progress, consensus rule 8 */
    uint32_t heartbeat_ms;
    uint32_t block_age_ms; /* a block is cut when its oldest transaction is so old */
    uint32_t block_txs_max;
    uint32_t block_bytes_max;
    uint32_t timestamp_back_ms; /* accepted window around a DC's own clock (Algorithm 2) */
    uint32_t timestamp_ahead_ms;
    uint32_t session_messages_max;
    uint32_t session_seconds_max;
    enum gateway_policy gateway;
};
/* Defaults: 600, 3000, 100, 50, 2048, 1 MiB, 30 s, 30 s, 100000, 86400, leader. */
struct parameters parameters_default(void);

struct member_address {
    char peer[AMI_ADDRESS_BYTES_MAX + 1]; /* "tcp://host:port" */
    char meter[AMI_ADDRESS_BYTES_MAX + 1];
    char admin[AMI_ADDRESS_BYTES_MAX + 1];
};

/* "tcp://HOST:PORT" of at most AMI_ADDRESS_BYTES_MAX characters, the port from 1 to 65535. Whether
 * the host exists shows when it is dialled. */
bool address_ok(struct span text);

struct genesis {
    struct network network;
    struct parameters parameters;
    struct members members; /* epoch 1; chain and hash set */
    struct member_address address[AMI_MEMBERS_MAX];
    int64_t created_ms;
};

/* `why` (of why_size bytes) receives one clear sentence on failure. Unknown keys are refused. */
enum ami_status network_parse(struct network *out, struct span json, char *why,
                              size_t why_size) AMI_MUST_CHECK;
/* malloc'ed, zero-terminated; NULL: out of memory. */
char *network_print(const struct network *net);
/* Refuses fewer than AMI_MEMBERS_MIN members unless allow_single (tests). */
enum ami_status genesis_parse(struct genesis *out, struct span json, bool allow_single, char *why,
                              size_t why_size) AMI_MUST_CHECK;
/* Makes tables for the keys that a ledger's readers verify with all the time: the members', the
 * MDMS's and P_pub (sm2_signer_remember). For programs that check many signatures; without it, or
 * where there is no memory for it, that is slower and nothing else. */
void genesis_remember_signers(const struct genesis *g);
/* Canonical text (chain and hash of `g` are not used); malloc'ed. */
char *genesis_print(const struct genesis *g);
sm3_digest genesis_chain_id(struct span json);

#endif
