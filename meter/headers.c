#include "meter/headers.h"

#include <string.h>

void headers_init(struct headers *h, const struct members *members)
{
    memset(h, 0, sizeof *h);
    h->members = members;
}

static enum ami_status check(const struct members *m, const struct block_header *header,
                             const struct qc *commit, const sm3_digest *hash)
{
    if (header->version != 1 || header->height == 0 || header->tx_count == 0)
        return AMI_BAD_ENCODING;
    if (!sm3_equal(&header->chain, &m->chain))
        return AMI_WRONG_CHAIN;
    if (header->epoch != m->epoch || !sm3_equal(&header->members, &m->hash))
        return AMI_WRONG_EPOCH;
    /* The certificate may be of a later term than the header: a re-proposed block keeps its own. */
    if (commit->kind != VOTE_COMMIT || commit->height != header->height ||
        !sm3_equal(&commit->block, hash))
        return AMI_BAD_CERTIFICATE;
    return qc_check(m, commit);
}

enum ami_status headers_add(struct headers *h, struct span block_proof_body)
{
    struct block_proof proof;
    enum ami_status status = block_proof_parse(&proof, block_proof_body);
    if (status == AMI_OK) {
        sm3_digest hash = block_hash(&proof.header);
        if (headers_find(h, proof.header.height, &hash) != NULL)
            return AMI_OK;
        h->checked++;
        status = check(h->members, &proof.header, &proof.commit, &hash);
        if (status == AMI_OK) {
            struct certified_header *place = &h->ring[proof.header.height % METER_HEADERS];
            if (place->height > proof.header.height)
                place = &h->old[proof.header.height % METER_HEADERS_OLD];
            *place = (struct certified_header){proof.header.height, hash, proof.header.merkle_root,
                                               proof.header.tx_count};
            return AMI_OK;
        }
    }
    h->refused++;
    return status;
}

const struct certified_header *headers_find(const struct headers *h, uint64_t height,
                                            const sm3_digest *hash)
{
    const struct certified_header *place[] = {&h->ring[height % METER_HEADERS],
                                              &h->old[height % METER_HEADERS_OLD]};
    for (unsigned i = 0; i < 2; i++)
        if (height != 0 && place[i]->height == height && sm3_equal(&place[i]->hash, hash))
            return place[i];
    return NULL;
}
