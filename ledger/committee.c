#include "ledger/committee.h"

#include "base/check.h"
#include "ledger/block.h"

#include <string.h>

void committee_first(struct committee *out, const struct genesis *g)
{
    out->members = g->members;
    memcpy(out->address, g->address, sizeof out->address);
    out->from = 1;
}

uint8_t members_find(const struct members *m, const struct ami_id *name)
{
    for (uint8_t i = 0; i < m->count; i++)
        if (ami_id_equal(&m->member[i].name, name))
            return i;
    return AMI_MEMBERS_MAX;
}

static void copy_address(char out[AMI_ADDRESS_BYTES_MAX + 1], struct span text)
{
    AMI_CHECK(text.size <= AMI_ADDRESS_BYTES_MAX);
    memset(out, 0, AMI_ADDRESS_BYTES_MAX + 1);
    if (text.size != 0)
        memcpy(out, text.data, text.size);
}

static void remove_member(struct committee *c, uint8_t index)
{
    uint8_t behind = (uint8_t)(c->members.count - index - 1);
    memmove(&c->members.member[index], &c->members.member[index + 1],
            behind * sizeof c->members.member[0]);
    memmove(&c->address[index], &c->address[index + 1], behind * sizeof c->address[0]);
    c->members.count--;
    memset(&c->members.member[c->members.count], 0, sizeof c->members.member[0]);
    memset(&c->address[c->members.count], 0, sizeof c->address[0]);
}

static enum ami_status read_entry(struct member *out, const struct network *net,
                                  const struct membership *change)
{
    const struct member_entry *e = &change->entry;
    if (e->agree_part.size > sizeof out->agree_part)
        return AMI_BAD_ARGUMENT;
    *out = (struct member){.name = change->dc,
                           .key_epoch = change->key_epoch,
                           .w_sign = e->w_sign,
                           .agree_part_size = e->agree_part.size};
    if (e->agree_part.size != 0)
        memcpy(out->agree_part, e->agree_part.data, e->agree_part.size);
    return verify_key_init(&out->key, net, ROLE_DC_SIGN, &out->name, out->key_epoch, &out->w_sign);
}

enum ami_status committee_change(struct committee *c, const struct network *net,
                                 const struct membership *change, uint64_t height)
{
    struct members *m = &c->members;
    uint8_t at = members_find(m, &change->dc);
    const bool known = at < m->count, joins = change->change == MEMBER_JOIN;
    struct member entry;
    if (change->epoch == 0 || change->epoch - 1 != m->epoch)
        return AMI_WRONG_EPOCH;
    if (change->change < MEMBER_JOIN || change->change > MEMBER_ROTATE ||
        change->has_entry != (change->change != MEMBER_LEAVE) ||
        height > UINT64_MAX - change->delay)
        return AMI_BAD_ARGUMENT;
    if (joins == known)
        return joins ? AMI_EXISTS : AMI_NOT_FOUND;
    if (change->change == MEMBER_LEAVE &&
        (m->member[at].key_epoch != change->key_epoch || m->count <= AMI_MEMBERS_MIN))
        return AMI_BAD_ARGUMENT;
    if (change->change == MEMBER_ROTATE && change->key_epoch <= m->member[at].key_epoch)
        return AMI_BAD_ARGUMENT;
    if (joins && m->count == AMI_MEMBERS_MAX)
        return AMI_BAD_ARGUMENT;
    if (change->has_entry)
        AMI_TRY(read_entry(&entry, net, change));
    if (known)
        remove_member(c, at);
    if (change->has_entry) {
        m->member[m->count] = entry;
        copy_address(c->address[m->count].peer, change->entry.peer);
        copy_address(c->address[m->count].meter, change->entry.meter);
        copy_address(c->address[m->count].admin, change->entry.admin);
        m->count++;
    }
    m->epoch = change->epoch;
    m->hash = members_hash(m);
    c->from = height + change->delay;
    return AMI_OK;
}

static enum ami_status check_block(const struct committee *c, const struct membership_proof *p)
{
    const struct members *m = &c->members;
    const sm3_digest hash = block_hash(&p->header);
    if (p->header.version != 1)
        return AMI_BAD_ENCODING;
    if (!sm3_equal(&p->header.chain, &m->chain))
        return AMI_WRONG_CHAIN;
    if (p->header.epoch != m->epoch || !sm3_equal(&p->header.members, &m->hash) ||
        p->header.height < c->from)
        return AMI_WRONG_EPOCH;
    if (p->commit.kind != VOTE_COMMIT || p->commit.height != p->header.height ||
        p->commit.term < p->header.term || !sm3_equal(&p->commit.block, &hash))
        return AMI_BAD_CERTIFICATE;
    return qc_check(m, &p->commit) == AMI_OK ? AMI_OK : AMI_BAD_CERTIFICATE;
}

enum ami_status committee_advance(struct committee *c, const struct network *net,
                                  const struct membership_proof *proof)
{
    struct tx_view tx;
    AMI_TRY(check_block(c, proof));
    if (tx_view_parse(&tx, proof->tx) != AMI_OK || tx.tx.kind != TX_MEMBERSHIP)
        return AMI_BAD_ENCODING;
    const sm3_digest leaf = tx_leaf(&tx.id);
    if (merkle_check(&proof->header.merkle_root, &leaf, proof->index, proof->header.tx_count,
                     proof->path, proof->path_count) != AMI_OK)
        return AMI_BAD_PROOF;
    AMI_TRY(mdms_tx_check(net, &c->members.chain, TX_MEMBERSHIP, tx.tx.first, &tx.mdms.signature));
    return committee_change(c, net, &tx.u.membership, proof->header.height);
}
