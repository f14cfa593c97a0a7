/* mdms/members.c - membership (consensus rule 13): which committee certifies the next block, whom
 * the MDMS is linked with, and changes that `ami-mdms member` asked for.
 *
 *   TABLE_CHANGES  asked for -> signed, with a number -> (the followed ledger holds it)
 *   TABLE_EPOCHS   membership transactions that the followed ledger holds
 *
 * One change at a time: the next one is signed when the epoch that the one before decided has
 * begun. A transaction that the ledger refuses would hold up all later numbers, so what it would
 * refuse is refused here.
 */
#include "mdms/internal.h"

#include <string.h>

/* --- committees ------------------------------------------------------------------------------- */

static void enter(struct committee *now, struct committee *next, bool *has_next, uint64_t height)
{
    if (!*has_next || next->from > height + 1)
        return;
    *now = *next;
    *has_next = false;
}

enum ami_status mdms_committee_load(const struct mdms_kv *kv, const struct genesis *g,
                                    uint64_t height, struct committee *now, struct committee *next,
                                    bool *has_next)
{
    committee_first(now, g);
    *has_next = false;
    for (uint32_t epoch = 2;; epoch++) {
        struct epoch_record e;
        struct membership change;
        struct span value;
        struct mdms_key key = key_number(epoch);
        enum ami_status status = kv->get(kv->ctx, TABLE_EPOCHS, key_span(&key), &value);
        if (status == AMI_NOT_FOUND)
            return AMI_OK;
        AMI_TRY(status);
        /* A change is decided only when the one before is in force. */
        if (*has_next || epoch_record_parse(&e, value) != AMI_OK ||
            membership_parse(&change, e.first) != AMI_OK)
            return AMI_DAMAGED;
        *next = *now;
        if (committee_change(next, &g->network, &change, e.height) != AMI_OK)
            return AMI_DAMAGED;
        *has_next = true;
        enter(now, next, has_next, height);
    }
}

/* The number of the last change that was signed. */
static enum ami_status last_signed(struct mdms *m, uint64_t *number)
{
    struct mdms_key from = key_number(0);
    struct span key, value;
    enum ami_status status;
    *number = 0;
    while ((status = mdms_seek(m, TABLE_CHANGES, &from, &key, &value)) == AMI_OK) {
        struct change_record c;
        uint64_t at;
        if (key_number_parse(&at, key) != AMI_OK || change_record_parse(&c, value) != AMI_OK)
            return mdms_damaged(m, TABLE_CHANGES);
        if (c.number > *number)
            *number = c.number;
        if (at == UINT64_MAX)
            break;
        from = key_number(at + 1);
    }
    return status == AMI_NOT_FOUND ? AMI_OK : status;
}

enum ami_status members_init(struct mdms *m)
{
    if (m->c.genesis == NULL)
        return AMI_OK;
    AMI_TRY(mdms_committee_load(&m->c.kv, m->c.genesis, m->durable.height, &m->committee,
                                &m->next_committee, &m->has_next));
    AMI_TRY(last_signed(m, &m->change_number));
    members_dial(m);
    return AMI_OK;
}

const struct members *members_at(const struct mdms *m, uint64_t height)
{
    return m->has_next && height >= m->next_committee.from ? &m->next_committee.members
                                                           : &m->committee.members;
}

/* A block that holds this change goes with the write that is being put together. */
void members_stage_change(struct mdms *m, struct span first, uint64_t height)
{
    uint8_t bytes[MDMS_EPOCH_BYTES_MAX];
    struct membership change;
    struct epoch_record e = {.height = height, .first = first};
    AMI_CHECK(membership_parse(&change, first) == AMI_OK); /* follow.c has read it */
    struct writer w = writer_on(bytes, sizeof bytes);
    epoch_record_encode(&w, &e);
    AMI_CHECK(writer_ok(&w));
    struct mdms_key key = key_number(change.epoch);
    mdms_write_put(&m->write, TABLE_EPOCHS, &key, writer_span(&w));
}

void members_on_block(struct mdms *m, struct span first, uint64_t height)
{
    struct membership change;
    const uint32_t epoch = m->committee.members.epoch;
    if (first.size != 0) {
        enter(&m->committee, &m->next_committee, &m->has_next, height - 1);
        m->next_committee = m->committee;
        /* The quorum that certified the block has judged it by the same rules. */
        if (m->has_next || membership_parse(&change, first) != AMI_OK ||
            committee_change(&m->next_committee, m->c.network, &change, height) != AMI_OK) {
            m->failed = AMI_DAMAGED;
            mdms_log(m, ENV_LOG_ERROR, "membership_damaged", "height=%llu",
                     (unsigned long long)height);
            return;
        }
        m->has_next = true;
        mdms_log(m, ENV_LOG_INFO, "membership_decided", "dc=%s epoch=%u from_height=%llu",
                 change.dc.text, (unsigned)change.epoch,
                 (unsigned long long)m->next_committee.from);
    }
    enter(&m->committee, &m->next_committee, &m->has_next, height);
    if (m->committee.members.epoch == epoch)
        return;
    mdms_log(m, ENV_LOG_INFO, "membership_epoch", "epoch=%u members=%u",
             (unsigned)m->committee.members.epoch, (unsigned)m->committee.members.count);
    members_dial(m);
    dcs_on_committee(m);
}

/* --- links ------------------------------------------------------------------------------------ */

static bool is_slot_of(const struct dc_link *l, const struct committee *c, unsigned member)
{
    return l->used && ami_id_equal(&l->name, &c->members.member[member].name) &&
           strcmp(l->address, c->address[member].peer) == 0;
}

static void dial(struct mdms *m, unsigned slot, const char *address)
{
    if (m->c.dial != NULL)
        m->c.dial(m->c.dial_ctx, slot, address);
}

void members_dial(struct mdms *m)
{
    const struct committee *c = &m->committee;
    bool wanted[MDMS_DCS_MAX] = {false}, known[AMI_MEMBERS_MAX] = {false};
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++)
        for (unsigned k = 0; k < c->members.count; k++)
            if (is_slot_of(&m->dc[i], c, k))
                wanted[i] = known[k] = true;
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++) {
        if (!m->dc[i].used || wanted[i])
            continue;
        m->dc[i].used = false;
        dial(m, i, NULL);
    }
    for (unsigned k = 0, i = 0; k < c->members.count; k++) {
        if (known[k])
            continue;
        while (i < MDMS_DCS_MAX && (m->dc[i].used || m->dc[i].id != 0))
            i++;
        if (i == MDMS_DCS_MAX) { /* as many links as members are still on their way out */
            mdms_log(m, ENV_LOG_WARN, "dc_not_dialled", "dc=%s", c->members.member[k].name.text);
            return;
        }
        struct dc_link *l = &m->dc[i];
        memset(l, 0, sizeof *l);
        l->used = true;
        l->name = c->members.member[k].name;
        memcpy(l->address, c->address[k].peer, sizeof l->address);
        dial(m, i, l->address);
    }
}

/* --- changes asked for ------------------------------------------------------------------------ */

void members_read(struct mdms *m)
{
    struct span key, value;
    struct change_record c;
    while (!m->wanted_change && m->changes_seen < UINT64_MAX) {
        struct mdms_key from = key_number(m->changes_seen + 1);
        if (mdms_seek(m, TABLE_CHANGES, &from, &key, &value) != AMI_OK)
            return;
        if (key_number_parse(&m->changes_seen, key) != AMI_OK ||
            change_record_parse(&c, value) != AMI_OK) {
            (void)mdms_damaged(m, TABLE_CHANGES);
            return;
        }
        m->wanted_change = c.state == CHANGE_WANTED;
    }
}

/* The newest key of this DC that was issued; 0: none. */
static uint32_t newest_key(struct mdms *m, const struct ami_id *dc)
{
    struct span value;
    uint32_t epoch = 0;
    for (;; epoch++) {
        struct mdms_key key = key_device(DEVICE_DC, dc, epoch + 1);
        if (epoch == UINT32_MAX - 1 || mdms_get(m, TABLE_DEVICES, &key, &value) != AMI_OK)
            return epoch;
    }
}

/* Did this key vote before? It does not twice. */
static bool has_voted(struct mdms *m, const struct ami_id *dc, uint32_t key_epoch)
{
    const struct members *first = &m->c.genesis->members;
    uint8_t at = members_find(first, dc);
    if (at < first->count && first->member[at].key_epoch >= key_epoch)
        return true;
    for (uint32_t epoch = 2; epoch <= m->committee.members.epoch; epoch++) {
        struct mdms_key key = key_number(epoch);
        struct epoch_record e;
        struct membership change;
        struct span value;
        if (mdms_get(m, TABLE_EPOCHS, &key, &value) != AMI_OK)
            return true;
        if (epoch_record_parse(&e, value) != AMI_OK ||
            membership_parse(&change, e.first) != AMI_OK) {
            (void)mdms_damaged(m, TABLE_EPOCHS);
            return true;
        }
        if (ami_id_equal(&change.dc, dc) && change.key_epoch >= key_epoch)
            return true;
    }
    return false;
}

/* What the ledger's rules will say (docs/ledger-format.md); *address receives where the DC is. */
static enum ami_status judge(struct mdms *m, struct change_record *c,
                             struct member_address *address)
{
    const struct members *now = &m->committee.members;
    uint8_t at = members_find(now, &c->dc);
    const bool known = at < now->count;
    struct span value;
    if (known == (c->change == MEMBER_JOIN))
        return known ? AMI_EXISTS : AMI_NOT_FOUND;
    if (c->change == MEMBER_LEAVE) {
        c->key_epoch = now->member[at].key_epoch;
        return now->count > AMI_MEMBERS_MIN ? AMI_OK : AMI_NO_QUORUM;
    }
    if (c->change == MEMBER_JOIN && now->count == AMI_MEMBERS_MAX)
        return AMI_TOO_LARGE;
    if (c->change == MEMBER_JOIN && now->count < AMI_MEMBERS_MIN - 1)
        return AMI_NO_QUORUM;
    if (c->key_epoch == 0)
        c->key_epoch = newest_key(m, &c->dc);
    if (c->key_epoch == 0 || !outbox_on_ledger(m, DEVICE_DC, &c->dc, c->key_epoch))
        return AMI_UNKNOWN_DEVICE;
    struct mdms_key key = key_device(DEVICE_DC, &c->dc, c->key_epoch);
    if (mdms_get(m, TABLE_REVOCATIONS, &key, &value) != AMI_NOT_FOUND)
        return AMI_REVOKED;
    if (has_voted(m, &c->dc, c->key_epoch))
        return c->change == MEMBER_JOIN ? AMI_EXISTS : AMI_WRONG_EPOCH;
    memset(address, 0, sizeof *address);
    if (known)
        *address = m->committee.address[at];
    char *const to[3] = {address->peer, address->meter, address->admin};
    const struct span given[3] = {c->peer, c->meter, c->admin};
    for (unsigned i = 0; i < 3; i++) {
        if (given[i].size == 0)
            continue;
        memset(to[i], 0, AMI_ADDRESS_BYTES_MAX + 1);
        memcpy(to[i], given[i].data, given[i].size);
    }
    for (unsigned i = 0; i < 3; i++)
        if (!address_ok(span_of(to[i], strlen(to[i]))))
            return AMI_BAD_ARGUMENT;
    for (uint8_t i = 0; i < now->count; i++)
        if (i != at && strcmp(m->committee.address[i].peer, address->peer) == 0)
            return AMI_IN_USE;
    return AMI_OK;
}

static void sign(struct mdms *m, struct change_record *c, const struct member_address *address)
{
    uint8_t bytes[MDMS_EPOCH_BYTES_MAX], part[AMI_SCHEME_PART_BYTES_MAX];
    struct membership change = {.epoch = m->committee.members.epoch + 1,
                                .change = c->change,
                                .dc = c->dc,
                                .key_epoch = c->key_epoch,
                                .delay = c->delay,
                                .has_entry = c->change != MEMBER_LEAVE};
    if (change.has_entry) {
        struct mdms_key key = key_device(DEVICE_DC, &c->dc, c->key_epoch);
        struct device_record d;
        struct span value;
        if (mdms_get(m, TABLE_DEVICES, &key, &value) != AMI_OK)
            return;
        if (device_record_parse(&d, value) != AMI_OK) {
            (void)mdms_damaged(m, TABLE_DEVICES);
            return;
        }
        memcpy(part, d.agree_part.data, d.agree_part.size);
        change.entry =
            (struct member_entry){.w_sign = d.w_sign,
                                  .agree_part = span_of(part, d.agree_part.size),
                                  .peer = span_of(address->peer, strlen(address->peer)),
                                  .meter = span_of(address->meter, strlen(address->meter)),
                                  .admin = span_of(address->admin, strlen(address->admin))};
    }
    change.number = c->number = ++m->staged.last;
    c->state = CHANGE_SIGNED;
    struct writer w = writer_on(bytes, sizeof bytes);
    membership_encode(&w, &change);
    AMI_CHECK(writer_ok(&w));
    outbox_stage_tx(m, TX_MEMBERSHIP, writer_span(&w));
}

bool members_stage(struct mdms *m)
{
    m->change_in_write = false;
    /* It is judged by what is stored: what this write revokes is not, and its number comes first.
     */
    if (!m->wanted_change || m->bind || m->has_next || m->change_number > m->durable.settled ||
        m->wanted_in_write != 0)
        return false;
    uint8_t copy[MDMS_CHANGE_BYTES_MAX], bytes[MDMS_CHANGE_BYTES_MAX];
    struct mdms_key key = key_number(m->changes_seen);
    struct change_record c;
    struct member_address address;
    struct span value;
    if (mdms_get(m, TABLE_CHANGES, &key, &value) != AMI_OK)
        return false;
    AMI_CHECK(value.size <= sizeof copy); /* members_read has read it */
    memcpy(copy, value.data, value.size); /* the next look overwrites it */
    AMI_CHECK(change_record_parse(&c, span_of(copy, value.size)) == AMI_OK);
    enum ami_status status = judge(m, &c, &address);
    if (status == AMI_OK)
        sign(m, &c, &address);
    if (m->failed != AMI_OK)
        return false; /* not known: the request stays where it is */
    if (status != AMI_OK) {
        c.state = CHANGE_REFUSED;
        c.status = (uint16_t)status;
        mdms_log(m, ENV_LOG_WARN, "membership_refused", "dc=%s status=%s", c.dc.text,
                 ami_status_name(status));
    } else {
        mdms_log(m, ENV_LOG_INFO, "membership_queued", "dc=%s key_epoch=%u epoch=%u number=%llu",
                 c.dc.text, (unsigned)c.key_epoch, (unsigned)m->committee.members.epoch + 1,
                 (unsigned long long)c.number);
    }
    struct writer w = writer_on(bytes, sizeof bytes);
    change_record_encode(&w, &c);
    AMI_CHECK(writer_ok(&w));
    mdms_write_put(&m->write, TABLE_CHANGES, &key, writer_span(&w));
    m->change_in_write = true;
    m->staged_change_number = c.number;
    return true;
}

void members_on_stored(struct mdms *m, enum ami_status status)
{
    if (m->change_in_write && status == AMI_OK) {
        m->wanted_change = false;
        if (m->staged_change_number != 0)
            m->change_number = m->staged_change_number;
    }
    m->change_in_write = false;
}
