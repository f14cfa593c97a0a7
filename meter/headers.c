#include "meter/headers.h"

#include <stddef.h>
#include <string.h>

void headers_init(struct headers *h, const struct genesis *g)
{
    memset(h, 0, offsetof(struct headers, tree));
    for (size_t i = 0; i < METER_TREES_KEPT; i++)
        h->tree[i].height = 0;
    h->network = &g->network;
    h->newest = 1;
    committee_first(&h->epoch[1], g);
    for (uint8_t i = 0; i < g->members.count; i++)
        h->dc[h->dc_count++] = g->members.member[i].name;
}

const struct committee *headers_committee(const struct headers *h)
{
    return &h->epoch[h->newest % METER_EPOCHS];
}

uint8_t headers_place(const struct headers *h, const struct ami_id *dc)
{
    for (uint8_t i = 0; i < h->dc_count; i++)
        if (ami_id_equal(&h->dc[i], dc))
            return i;
    return METER_DCS;
}

bool headers_is_member(const struct headers *h, uint8_t place, uint8_t *index)
{
    const struct members *m = &headers_committee(h)->members;
    *index = place < h->dc_count ? members_find(m, &h->dc[place]) : AMI_MEMBERS_MAX;
    return *index < m->count;
}

/* Gives the newest committee's DCs places: new ones at the end, or where a DC was that left. With
 * one place more than members there always is one. */
static void place_all(struct headers *h)
{
    _Static_assert(METER_DCS > AMI_MEMBERS_MAX, "a place is free when somebody joins");
    const struct members *m = &headers_committee(h)->members;
    for (uint8_t i = 0; i < m->count; i++) {
        uint8_t at = 0, index;
        if (headers_place(h, &m->member[i].name) != METER_DCS)
            continue;
        if (h->dc_count < METER_DCS)
            at = h->dc_count++;
        else
            while (headers_is_member(h, at, &index))
                at++;
        h->dc[at] = m->member[i].name;
    }
}

enum ami_status headers_advance(struct headers *h, const struct membership_proof *proof)
{
    struct committee *next = &h->epoch[(h->newest + 1) % METER_EPOCHS];
    struct committee before = *next; /* the oldest one: kept when the proof is none */
    *next = *headers_committee(h);
    enum ami_status status = committee_advance(next, h->network, proof);
    if (status != AMI_OK) {
        *next = before;
        return status;
    }
    h->newest++;
    place_all(h);
    return AMI_OK;
}

/* The committee that certifies this height in this epoch; NULL: none that is known. */
static const struct committee *certifies(const struct headers *h, uint32_t epoch, uint64_t height)
{
    if (epoch == 0 || epoch > h->newest || h->newest - epoch >= METER_EPOCHS)
        return NULL;
    const struct committee *c = &h->epoch[epoch % METER_EPOCHS];
    if (height < c->from ||
        (epoch < h->newest && height >= h->epoch[(epoch + 1) % METER_EPOCHS].from))
        return NULL;
    return c;
}

static enum ami_status check(const struct headers *h, const struct block_header *header,
                             const struct qc *commit, const sm3_digest *hash)
{
    if (header->version != 1 || header->height == 0 || header->tx_count == 0)
        return AMI_BAD_ENCODING;
    if (!sm3_equal(&header->chain, &headers_committee(h)->members.chain))
        return AMI_WRONG_CHAIN;
    const struct committee *c = certifies(h, header->epoch, header->height);
    if (c == NULL || !sm3_equal(&header->members, &c->members.hash))
        return AMI_WRONG_EPOCH;
    /* The certificate may be of a later term than the header: a re-proposed block keeps its own. */
    if (commit->kind != VOTE_COMMIT || commit->height != header->height ||
        !sm3_equal(&commit->block, hash))
        return AMI_BAD_CERTIFICATE;
    return qc_check(&c->members, commit);
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
        status = check(h, &proof.header, &proof.commit, &hash);
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

static struct shown_nodes *shown_of(struct headers *h, const struct certified_header *c)
{
    struct shown_nodes *t = &h->tree[c->height % METER_TREES_KEPT];
    if (t->height != c->height || !sm3_equal(&t->hash, &c->hash)) {
        t->height = c->height;
        t->hash = c->hash;
        memset(t->shown, 0, sizeof t->shown);
    }
    return t;
}

/* How many of the path's digests lie above the level where `index` of `count` nodes is. */
static size_t path_above(uint64_t index, uint64_t count)
{
    size_t size = 0;
    for (; count > 1; index /= 2, count = count / 2 + count % 2)
        size += (index ^ 1) < count;
    return size;
}

/* A node that a proof claims. */
struct claim {
    size_t place;
    const sm3_digest *node;
};

/* Goes up from the leaf until it meets a node that was shown, or the root; from then on what it
 * came by is shown, too. */
enum ami_status headers_check_leaf(struct headers *h, const struct certified_header *c,
                                   const sm3_digest *leaf, uint64_t index, const sm3_digest *path,
                                   size_t path_size)
{
    struct merkle_climb at = {*leaf, index, c->tx_count, path, path_size};
    struct claim claim[2 * MERKLE_PATH_MAX];
    sm3_digest own[MERKLE_PATH_MAX];
    size_t claims = 0, level_at = 0;
    if (c->tx_count > AMI_BLOCK_TXS_MAX || index >= c->tx_count)
        return AMI_BAD_PROOF;
    struct shown_nodes *t = shown_of(h, c);
    for (unsigned level = 0; at.count > 1 && t->shown[level_at + at.index] == 0; level++) {
        own[level] = at.node;
        claim[claims++] = (struct claim){level_at + at.index, &own[level]};
        if ((at.index ^ 1) < at.count)
            claim[claims++] = (struct claim){level_at + (at.index ^ 1), at.path};
        level_at += at.count;
        AMI_TRY(merkle_climb(&at, 1));
    }
    const sm3_digest *known = at.count > 1 ? &t->node[level_at + at.index] : &c->merkle_root;
    if (!sm3_equal(known, &at.node) || path_above(at.index, at.count) != at.path_size)
        return AMI_BAD_PROOF;
    for (size_t i = 0; i < claims; i++) {
        t->shown[claim[i].place] = 1;
        t->node[claim[i].place] = *claim[i].node;
    }
    return AMI_OK;
}
