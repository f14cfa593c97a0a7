/* node/epoch.c - membership epochs (consensus rule 13): who the committee is, which key this DC has
 * in it, and what follows for the links when it changes.
 *
 *   a membership transaction is committed -> the next committee is known
 *   the last block of the epoch is delivered -> chain.c makes a new replica; here the committee,
 * the own key and index, and the meaning of every link change with it a message names a later epoch
 * -> the replica is told that there is more to fetch
 *
 * A DC that is no member follows: it dials the members, who tell it the certificate of each block.
 */
#include "node/internal.h"

#include <stdlib.h>
#include <string.h>

/* --- which committee -------------------------------------------------------------------------- */

/* The membership transaction at this place; tx borrows n->block. */
static enum ami_status read_change(struct node *n, uint64_t height, uint32_t index,
                                   struct tx_view *tx)
{
    struct certified_block b;
    struct span encoded;
    AMI_TRY(n->c.disk.block(n->c.disk.ctx, height, &b, n->block, n->block_size));
    struct body_reader it = body_reader_on(b.body);
    for (uint32_t i = 0; body_next(&it, &encoded); i++)
        if (i == index)
            return tx_view_parse(tx, encoded) == AMI_OK && tx->tx.kind == TX_MEMBERSHIP
                       ? AMI_OK
                       : AMI_DAMAGED;
    return AMI_DAMAGED;
}

static void note_address(struct node *n, const struct committee *c)
{
    uint8_t at = members_find(&c->members, &n->c.key.agree->name);
    if (at == AMI_MEMBERS_MAX)
        return;
    n->address = c->address[at];
    n->has_address = true;
}

static enum ami_status next_committee(struct node *n, const struct membership *change,
                                      uint64_t height)
{
    n->next_committee = n->committee;
    AMI_TRY(committee_change(&n->next_committee, &n->c.genesis->network, change, height));
    n->has_next = true;
    note_address(n, &n->next_committee);
    return AMI_OK;
}

const struct member_address *node_address(const struct node *n)
{
    return n->has_address ? &n->address : NULL;
}

enum ami_status epoch_init(struct node *n, uint64_t height)
{
    committee_first(&n->committee, n->c.genesis);
    note_address(n, &n->committee);
    for (uint32_t epoch = 2; !n->has_next; epoch++) {
        struct tx_view tx;
        uint64_t at;
        uint32_t index;
        enum ami_status status = n->c.disk.find_epoch(n->c.disk.ctx, epoch, &at, &index);
        if (status == AMI_NOT_FOUND)
            break;
        AMI_TRY(status);
        AMI_TRY(read_change(n, at, index, &tx));
        AMI_TRY(next_committee(n, &tx.u.membership, at));
        if (n->next_committee.from > height + 1)
            continue; /* still to come */
        n->committee = n->next_committee;
        n->has_next = false;
    }
    /* The registry's list is the one that the last block's state root stands for. */
    const struct members *m = registry_members(n->c.registry, height + 1);
    if (m == NULL)
        return AMI_NO_MEMORY;
    if (!sm3_equal(&m->hash, &n->committee.members.hash))
        return AMI_DAMAGED;
    n->self = epoch_index_of(n, &n->c.key.agree->name, n->c.key.agree->epoch);
    return AMI_OK;
}

uint8_t epoch_index_of(const struct node *n, const struct ami_id *name, uint32_t key_epoch)
{
    const struct members *m = &n->committee.members;
    uint8_t i = members_find(m, name);
    return i < m->count && m->member[i].key_epoch == key_epoch ? i : AMI_MEMBERS_MAX;
}

void epoch_on_change(struct node *n, const struct membership *change, uint64_t height)
{
    static const char *const names[] = {
        [MEMBER_JOIN] = "join", [MEMBER_LEAVE] = "leave", [MEMBER_ROTATE] = "rotate"};
    /* The registry has judged it by the same rules. */
    AMI_CHECK(!n->has_next && next_committee(n, change, height) == AMI_OK);
    node_event(n, ENV_LOG_INFO, "membership_change",
               "change=%s dc=%s key_epoch=%u epoch=%u from_height=%llu", names[change->change],
               change->dc.text, (unsigned)change->key_epoch, (unsigned)change->epoch,
               (unsigned long long)n->next_committee.from);
    epoch_tell_meters(n);
}

bool epoch_ends_with(const struct node *n, uint64_t height)
{
    return n->has_next && height + 1 == n->next_committee.from;
}

/* --- what proves it --------------------------------------------------------------------------- */

static uint32_t newest_epoch(const struct node *n)
{
    return n->has_next ? n->next_committee.members.epoch : n->committee.members.epoch;
}

/* The frame for meters, made once per epoch. Empty: it cannot be made now. */
static struct span proof_frame(struct node *n, uint32_t epoch)
{
    static struct membership_proof proof; /* large; the loop is one thread */
    AMI_CHECK(epoch >= 2 && epoch <= newest_epoch(n));
    const size_t at = epoch - 2;
    if (at >= n->epoch_proofs) {
        struct epoch_frame *f = realloc(n->epoch_proof, (at + 1) * sizeof *f);
        if (f == NULL)
            return span_of(NULL, 0);
        memset(f + n->epoch_proofs, 0, (at + 1 - n->epoch_proofs) * sizeof *f);
        n->epoch_proof = f;
        n->epoch_proofs = at + 1;
    }
    struct epoch_frame *f = &n->epoch_proof[at];
    if (f->bytes == NULL &&
        epoch_prove(&n->c.disk, epoch, n->block, n->block_size, &proof) == AMI_OK) {
        struct writer w = node_frame(n, MSG_MEMBERSHIP);
        membership_proof_encode(&w, &proof);
        AMI_CHECK(writer_ok(&w) && w.size <= AMI_FRAME_METER_BYTES_MAX);
        f->bytes = malloc(w.size);
        f->size = f->bytes == NULL ? 0 : w.size;
        if (f->bytes != NULL)
            memcpy(f->bytes, w.data, w.size);
    }
    return span_of(f->bytes, f->size);
}

void epoch_tell_meter(struct node *n, struct node_link *l, uint32_t known)
{
    const uint32_t newest = newest_epoch(n);
    if (known >= newest)
        return; /* also what no meter can know of, up to the end of the numbers */
    for (uint32_t epoch = known < 1 ? 2 : known + 1; epoch <= newest; epoch++) {
        struct span frame = proof_frame(n, epoch);
        if (frame.size == 0 || node_send(n, l->id, frame) != AMI_OK)
            return; /* it hears the rest when it connects again */
    }
}

void epoch_tell_meters(struct node *n)
{
    for (struct node_link *l = n->links; l != NULL; l = l->hh.next)
        if (l->port == NODE_PORT_METER && l->state == LINK_READY && !l->enrol_only && !l->closing)
            epoch_tell_meter(n, l, newest_epoch(n) - 1);
}

void epoch_free(struct node *n)
{
    for (size_t i = 0; i < n->epoch_proofs; i++)
        free(n->epoch_proof[i].bytes);
    free(n->epoch_proof);
}

/* --- a new epoch ------------------------------------------------------------------------------ */

/* Finds out what this DC is now. True: it has another key than before. A key that followed without
 * the right to sign is judged anew now that it counts. */
static bool choose_key(struct node *n)
{
    const struct members *m = &n->committee.members;
    const struct agree_key *own = n->c.key.agree;
    uint8_t at = members_find(m, &own->name);
    struct node_key key;
    n->self = AMI_MEMBERS_MAX;
    if (at == AMI_MEMBERS_MAX)
        return false;
    const bool same = m->member[at].key_epoch == own->epoch;
    if (same && n->c.key.may_sign) {
        n->self = at;
        return false;
    }
    enum ami_status status = n->c.use_key == NULL
                                 ? AMI_NOT_FOUND
                                 : n->c.use_key(n->c.membership_ctx, m->member[at].key_epoch, &key);
    if (status != AMI_OK && same) {
        n->self = at; /* as before: it counts, and signs nothing */
        return false;
    }
    if (status != AMI_OK) {
        node_event(n, ENV_LOG_ERROR, "key_missing",
                   "key_epoch=%u status=%s: this DC follows until it is started with that key",
                   (unsigned)m->member[at].key_epoch, ami_status_name(status));
        return false;
    }
    n->c.key = key;
    n->self = at;
    return !same;
}

static void rename_links(struct node *n, bool new_key)
{
    memset(n->to_member, 0, sizeof n->to_member);
    memset(n->fetch_from, 0, sizeof n->fetch_from);
    struct node_link *l, *tmp;
    HASH_ITER(hh, n->links, l, tmp)
    {
        if (l->closing || l->role != LINK_ROLE_DC)
            continue;
        /* Each has proved the old one, or is about to be taken for it, having been shown its hello
         * and proof: begin again with the new. A hello that nobody has answered yet ends by itself,
         * when the proof behind it is of the new one. */
        if (new_key)
            node_close(n, l->id);
        else if (l->state == LINK_READY)
            peers_name(n, l);
    }
}

/* Since when the members of the next committee are linked, or not: those of this one as they are.
 */
static void move_ages(struct node *n)
{
    uint64_t since_us[AMI_MEMBERS_MAX];
    const struct members *next = &n->next_committee.members;
    for (uint8_t i = 0; i < next->count; i++) {
        uint8_t was = members_find(&n->committee.members, &next->member[i].name);
        since_us[i] = was < AMI_MEMBERS_MAX ? n->link_since_us[was] : node_now_us(n);
    }
    memcpy(n->link_since_us, since_us, next->count * sizeof since_us[0]);
}

void epoch_dial(struct node *n)
{
    struct node_peer peer[AMI_MEMBERS_MAX];
    size_t count = 0;
    for (uint8_t i = 0; i < n->committee.members.count; i++) {
        if (ami_id_equal(&n->committee.members.member[i].name, &n->c.key.agree->name))
            continue;
        peer[count].name = n->committee.members.member[i].name;
        memcpy(peer[count].address, n->committee.address[i].peer, sizeof peer[count].address);
        count++;
    }
    if (n->c.dial != NULL)
        n->c.dial(n->c.membership_ctx, peer, count);
}

void epoch_enter(struct node *n)
{
    AMI_CHECK(n->has_next);
    const bool was_member = n->self != AMI_MEMBERS_MAX;
    move_ages(n);
    n->committee = n->next_committee;
    n->has_next = false;
    bool new_key = choose_key(n);
    const bool is_member = n->self != AMI_MEMBERS_MAX;
    node_event(n, ENV_LOG_INFO, "epoch", "epoch=%u from_height=%llu members=%u",
               (unsigned)n->committee.members.epoch, (unsigned long long)n->committee.from,
               (unsigned)n->committee.members.count);
    if (was_member != is_member)
        node_event(n, ENV_LOG_INFO, is_member ? "joined" : "left",
                   is_member ? "this DC counts from now on"
                             : "this DC counts no more and goes on following");
    rename_links(n, new_key);
    epoch_dial(n);
}

/* --- those that are behind, and those that only follow ---------------------------------------- */

int epoch_compare(const struct node *n, enum message_type type, struct span body, uint64_t *height)
{
    const uint32_t own = n->committee.members.epoch;
    struct reader r = reader_on(body);
    sm3_digest chain;
    if (type != MSG_HEARTBEAT && type != MSG_PREVOTE_REQUEST && type != MSG_QC_ANNOUNCE)
        return 0;
    if (type == MSG_QC_ANNOUNCE)
        (void)read_u8(&r); /* kind */
    read_raw(&r, chain.b, sizeof chain.b);
    uint32_t epoch = read_u32(&r);
    (void)read_u64(&r); /* term */
    *height = 0;
    if (type == MSG_HEARTBEAT)
        (void)read_u8(&r); /* leader */
    if (type != MSG_PREVOTE_REQUEST)
        *height = read_u64(&r);
    if (r.failed || !sm3_equal(&chain, &n->committee.members.chain))
        return 0;
    return (epoch > own) - (epoch < own);
}

void epoch_tell(struct node *n, struct node_link *l)
{
    const struct qc *commit = replica_tip_commit(n->replica);
    if (commit == NULL)
        return;
    struct qc_announce a = {.cert = *commit};
    struct writer w = node_frame(n, MSG_QC_ANNOUNCE);
    qc_announce_encode(&w, &a);
    AMI_CHECK(writer_ok(&w));
    l->told_us = node_now_us(n);
    (void)node_send(n, l->id, writer_span(&w)); /* the next block is told again */
}

static bool is_follower(const struct node *n, const struct node_link *l)
{
    return n->self != AMI_MEMBERS_MAX && l->role == LINK_ROLE_DC && l->port == NODE_PORT_PEER &&
           l->state == LINK_READY && !l->closing && l->member == AMI_MEMBERS_MAX;
}

void epoch_tell_followers(struct node *n)
{
    for (struct node_link *l = n->links; l != NULL; l = l->hh.next)
        if (is_follower(n, l))
            epoch_tell(n, l);
}

/* A follower hears no heartbeat: what it was told may be lost, and an idle chain has no next block.
 */
void epoch_remind(struct node *n, struct node_link *l)
{
    if (is_follower(n, l) && node_now_us(n) - l->told_us >= NODE_REMIND_US)
        epoch_tell(n, l);
}

void epoch_on_fetch(struct node *n, struct node_link *l, uint64_t from_height)
{
    if (l->role == LINK_ROLE_DC && from_height < n->committee.from)
        epoch_on_behind(n, l);
}

void epoch_on_behind(struct node *n, struct node_link *l)
{
    uint64_t pause_us = (uint64_t)n->c.genesis->parameters.election_timeout_ms * 1000u;
    if (node_now_us(n) - l->told_us >= pause_us)
        epoch_tell(n, l);
}
