/* channel/gate.h - what strangers may cost: how many flights of handshakes are looked at.
 *
 * Answering a first flight costs the responder two products and a signature, and checking a third
 * one a credential, and it does not know yet for whom. So who accepts connections asks the gate
 * before each (channel_cost says what to ask for): there is a budget for
 * all of them together, and one for each source, so that a flood from one place leaves the others
 * theirs. Memory is fixed. What is refused is to be dropped without an answer; channels that are
 * up are not touched.
 *
 * There is no cookie: over TCP a source's address has been proven by the time the first byte
 * arrives.
 *
 * Sources share GATE_SOURCES buckets by a keyed hash, so that nobody can choose whom to collide
 * with. Pure: time and the key are handed in.
 */
#ifndef AMI_CHANNEL_GATE_H
#define AMI_CHANNEL_GATE_H

#include "base/bytes.h"
#include "crypto/sm3.h"

#define GATE_SOURCES 512

/* So many at once, and then so many each second. */
struct gate_rate {
    uint32_t burst, per_s; /* 1..1,000,000 */
};

struct gate_bucket {
    uint64_t filled_us;
    uint64_t micro; /* millionths of a permit */
};

struct gate {
    uint8_t key[16];
    struct gate_rate all, one;
    struct gate_bucket total;
    struct gate_bucket source[GATE_SOURCES];
    uint64_t admitted, refused;
};

void gate_init(struct gate *g, struct gate_rate all, struct gate_rate one, const uint8_t key[16],
               uint64_t now_us);

/* May a flight from this source (its address without the port) that costs so much be looked at now?
 * cost 1..1000; now_us does not go back. A source that is refused by its own budget takes nothing
 * of the common one. */
bool gate_admit(struct gate *g, struct span source, uint32_t cost, uint64_t now_us);

/* What is left of the common budget, in costs; for people. */
uint32_t gate_left(struct gate *g, uint64_t now_us);

#endif
