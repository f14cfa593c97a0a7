/* sim/cast.h - who plays: the MDMS's keys, the genesis file, the DCs and the meters of one network.
 *
 * Made once by the real enrolment (keyagree/enrol.h against the MDMS's core) from fixed random
 * bytes and then shared by all runs of that size, read-only: keys are no part of what a seed draws.
 * The MDMS's store is as it stands when all devices have their keys and no DC has been started: the
 * meters' enrolments wait in its outbox.
 */
#ifndef AMI_SIM_CAST_H
#define AMI_SIM_CAST_H

#include "keyagree/keyfile.h"
#include "ledger/genesis.h"
#include "sim/kv.h"

struct sim_cast_size {
    unsigned dcs;  /* AMI_MEMBERS_MIN..AMI_MEMBERS_MAX */
    size_t meters; /* named m-1, m-2, ... */
    uint8_t scheme;
    enum gateway_policy gateway;
    uint32_t heartbeat_ms;  /* 0: the default; the election timeout keeps its ratio to it */
    uint32_t block_txs_max; /* 0: 128; with 1 KiB of block for each, 64 KiB at least */
};

struct sim_cast {
    struct sim_cast_size size;
    struct mdms_keys keys;
    struct genesis genesis;
    struct point_table *p_pub;
    struct sim_kv *store;
    struct device_keys dc[AMI_MEMBERS_MAX];
    struct device_keys *meter;
    struct sim_cast *next;
};

/* Kept until the process ends; the same size gives the same cast. Aborts when there is no memory.
 */
const struct sim_cast *sim_cast_get(const struct sim_cast_size *size);

/* Puts an install code into the MDMS's store, as `ami-mdms codes --replace` does: for this device's
 * next key epoch, with this home DC (meters; NULL: the MDMS chooses). */
void sim_code_put(struct sim_kv *kv, const struct network *net, enum enrol_role role,
                  const struct ami_id *name, const struct ami_id *home, const sm3_digest *hash,
                  const uint8_t random[SM2_WIDE_BYTES]);
/* Where the DC of this number listens, and whose address that is. */
void sim_address(struct member_address *out, unsigned number);
unsigned sim_address_number(const char *peer);

/* Wall clock at virtual time 0, UTC milliseconds: a while after the genesis file was made. */
#define SIM_GENESIS_MS INT64_C(1700000000000)
#define SIM_START_MS   (SIM_GENESIS_MS + 1000)

#endif
