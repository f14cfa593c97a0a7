/* node/starts.c - see starts.h. */
#include "node/starts.h"

#include "base/check.h"

static bool is_of_genesis(const struct genesis *g, const struct starts_key *key)
{
    const uint8_t at = members_find(&g->members, key->name);
    return at < g->members.count && g->members.member[at].key_epoch == key->epoch;
}

bool starts_may_sign(const struct genesis *g, const struct starts_key *key,
                     const struct vote_record *record, uint64_t height)
{
    if (record != NULL)
        return record->starts >= key->starts && (key->starts == 0 || key->starts > record->begun);
    return key->starts == 0 && (height == 0 || !is_of_genesis(g, key));
}

void starts_count(struct vote_record *record, bool exists, uint64_t newest, const sm3_digest *chain,
                  const struct starts_tip *at)
{
    if (!exists)
        *record = (struct vote_record){.version = 1,
                                       .chain = *chain,
                                       .epoch = at->epoch,
                                       .tip_height = at->height,
                                       .tip = at->tip};
    if (record->epoch == at->epoch && record->tip_height < at->height) {
        record->tip_height = at->height;
        record->tip = at->tip;
    }
    if (!exists || record->starts < newest)
        record->begun = newest;
    if (record->starts < newest)
        record->starts = newest;
    record->starts++;
}

enum starts_choice starts_choose(const struct members *m, const struct ami_id *name,
                                 const uint32_t *epoch, size_t count, size_t *used)
{
    const uint8_t at = members_find(m, name);
    AMI_CHECK(count > 0);
    *used = 0;
    for (size_t i = 0; i < count; i++) {
        if (at != AMI_MEMBERS_MAX && epoch[i] == m->member[at].key_epoch) {
            *used = i;
            return STARTS_VOTES;
        }
        if (epoch[i] > epoch[*used])
            *used = i;
    }
    return at == AMI_MEMBERS_MAX ? STARTS_FOLLOWS : STARTS_KEY_MISSING;
}
