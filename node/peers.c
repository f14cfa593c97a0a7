/* node/peers.c - links with other DCs, the MDMS and readers.
 *
 * Every DC dials every other one and sends on the link that it dialled; what it receives comes in
 * on the links that were dialled to it, and on its own, where the other side answers there.
 * Links of a process are channels (channel/), and whoever is there has proven a credential of this
 * network before its first frame. What follows says which member of which epoch that is, and proves
 * it with the key that the ledger has. Both have to name the same: nobody passes another's hello
 * on. Transcript, dialler I and answerer R:
 *
 *   I -> R  LINK_HELLO  role, chain, name, epoch, nonce_i
 *   R -> I  LINK_HELLO  ..., nonce_r
 *   R -> I  LINK_PROOF  Sign_R(label, hello_r, hello_i)
 *   I -> R  LINK_PROOF  Sign_I(label, hello_i, hello_r)
 *
 * A reader (role 5) proves nothing and may only fetch committed blocks, which prove themselves.
 *
 * A DC that is behind may know none of the others' keys, because all were rotated meanwhile. So who
 * is dialled and answers with the right name and a key that the ledger does not have here is an
 * unproven source: blocks are fetched from it, and its word that there are more is a claim like any
 * other. It counts as nobody. When the ledger has its key the link is ended and made anew. The
 * other way round a DC that dials with a revoked key, which it may still take for its own, is a
 * reader.
 */
#include "node/internal.h"

#include <string.h>

static void send_hello(struct node *n, struct node_link *l)
{
    struct link_hello hello = {.role = LINK_ROLE_DC,
                               .chain = n->c.genesis->members.chain,
                               .name = n->c.key.agree->name,
                               .epoch = n->c.key.agree->epoch};
    node_random(n, hello.nonce, sizeof hello.nonce);
    struct writer own = writer_on(l->own_hello, sizeof l->own_hello);
    link_hello_encode(&own, &hello);
    AMI_CHECK(writer_ok(&own));
    l->own_hello_size = own.size;
    struct writer w = node_frame(n, MSG_LINK_HELLO);
    write_raw(&w, l->own_hello, l->own_hello_size);
    /* A link that is just open has room; when it has died meanwhile, on_closed tells. */
    (void)node_send(n, l->id, writer_span(&w));
}

static void send_proof(struct node *n, struct node_link *l)
{
    const struct span parts[] = {span_of(l->own_hello, l->own_hello_size),
                                 span_of(l->peer_hello, l->peer_hello_size)};
    uint8_t random[SM2_WIDE_BYTES];
    node_random(n, random, sizeof random);
    struct link_proof proof = {sign_key_sign(n->c.key.sign, LABEL_LINK, parts, 2, random)};
    struct writer w = node_frame(n, MSG_LINK_PROOF);
    link_proof_encode(&w, &proof);
    (void)node_send(n, l->id, writer_span(&w));
}

void peers_on_open(struct node *n, struct node_link *l)
{
    if (l->port == NODE_PORT_DIALLED)
        send_hello(n, l);
}

static void refuse(struct node *n, struct node_link *l, const char *why)
{
    n->counters.links_refused++;
    node_event_often(n, ENV_LOG_WARN, "link_refused", "link=%llu why=\"%s\"",
                     (unsigned long long)l->id, why);
    node_close(n, l->id);
}

/* A DC's key that the ledger knows: of a member, or enrolled and not revoked. NULL: none, or it
 * says that it is this very DC. */
static const struct verify_key *dc_key(struct node *n, const struct ami_id *name, uint32_t epoch)
{
    const struct record *rec = registry_find(n->c.registry, RECORD_DC, name, epoch);
    if (epoch == 0 || rec == NULL || ami_id_equal(name, &n->c.key.agree->name))
        return NULL;
    if (rec->revoked_at != 0 && epoch_index_of(n, name, epoch) == AMI_MEMBERS_MAX)
        return NULL;
    return registry_key(n->c.registry, rec);
}

/* There was never such a key, as far as the ledger goes here. */
static bool key_unheard_of(const struct node *n, const struct ami_id *name, uint32_t epoch)
{
    return epoch != 0 && registry_find(n->c.registry, RECORD_DC, name, epoch) == NULL;
}

/* There was such a key, and it was revoked. */
static bool key_revoked(struct node *n, const struct ami_id *name, uint32_t epoch)
{
    return epoch != 0 && registry_find(n->c.registry, RECORD_DC, name, epoch) != NULL &&
           !ami_id_equal(name, &n->c.key.agree->name) && dc_key(n, name, epoch) == NULL;
}

void peers_name(struct node *n, struct node_link *l)
{
    l->member = AMI_MEMBERS_MAX;
    if (l->unproven && l->port == NODE_PORT_DIALLED &&
        !key_unheard_of(n, &l->peer_name, l->peer_epoch)) {
        node_close(n, l->id); /* it can prove itself now, or never */
        return;
    }
    if (!l->unproven)
        l->member = epoch_index_of(n, &l->peer_name, l->peer_epoch);
    if (l->port != NODE_PORT_DIALLED)
        return;
    uint8_t by_name = members_find(&n->committee.members, &l->peer_name);
    if (l->member != AMI_MEMBERS_MAX) {
        n->to_member[l->member] = l->id;
        l->blocks_due = 0;
    } else if (by_name != AMI_MEMBERS_MAX) {
        n->fetch_from[by_name] = l->id;
    }
}

static void link_ready(struct node *n, struct node_link *l)
{
    l->state = LINK_READY;
    l->known = l->role != LINK_ROLE_READER && !l->unproven;
    if (l->role == LINK_ROLE_MDMS) {
        n->mdms = l->id;
        node_event(n, ENV_LOG_INFO, "mdms_connected", "link=%llu", (unsigned long long)l->id);
        operators_on_peer(n, l);
    }
    if (l->role != LINK_ROLE_DC)
        return;
    /* Since the hello the epoch may have changed. */
    peers_name(n, l);
    operators_on_peer(n, l);
    if (l->port == NODE_PORT_DIALLED) {
        node_event(n, ENV_LOG_INFO, "peer_connected", "dc=%s%s", l->peer_name.text,
                   l->unproven ? " with a key that is not on the ledger here" : "");
        if (l->member != AMI_MEMBERS_MAX) {
            n->link_since_us[l->member] = node_now_us(n);
            submit_on_peer(n, l->member);
        }
        if (l->unproven)
            chain_on_unknown_key(n);
    } else if (l->member == AMI_MEMBERS_MAX && n->self != AMI_MEMBERS_MAX) {
        epoch_tell(n, l);
    }
}

/* Each of them, unproven as it is, may let blocks wait for it in a queue. */
static unsigned reader_count(const struct node *n)
{
    unsigned count = 0;
    for (const struct node_link *l = n->links; l != NULL; l = l->hh.next)
        count += l->role == LINK_ROLE_READER || (l->unproven && l->port == NODE_PORT_PEER);
    return count;
}

/* The hello is of whom the channel has shown. An X.509 certificate knows no key epoch. */
static bool fits_identity(const struct credential_identity *who, const struct link_hello *h)
{
    switch (who->role) {
    case CREDENTIAL_DC:
        return (h->role == LINK_ROLE_DC || h->role == LINK_ROLE_READER) &&
               ami_id_equal(&who->name, &h->name) &&
               (who->kind == CREDENTIAL_X509 || who->epoch == h->epoch);
    case CREDENTIAL_MDMS:
        return h->role == LINK_ROLE_MDMS;
    case CREDENTIAL_OPERATOR:
        return false;
    }
    return false;
}

static void on_hello(struct node *n, struct node_link *l, struct span body)
{
    struct link_hello h;
    if (l->state != LINK_NEW || link_hello_parse(&h, body) != AMI_OK ||
        body.size > sizeof l->peer_hello) {
        refuse(n, l, "malformed or second hello");
        return;
    }
    if (memcmp(&h.chain, &n->c.genesis->members.chain, sizeof h.chain) != 0) {
        refuse(n, l, "hello of another chain");
        return;
    }
    if (l->identified && !fits_identity(&l->who, &h)) {
        refuse(n, l, "a hello of somebody else than the channel's peer");
        return;
    }
    bool answer_expected = l->port == NODE_PORT_DIALLED;
    bool unproven = h.role == LINK_ROLE_DC && (answer_expected ? key_unheard_of(n, &h.name, h.epoch)
                                                               : key_revoked(n, &h.name, h.epoch));
    bool dc = unproven || (h.role == LINK_ROLE_DC && dc_key(n, &h.name, h.epoch) != NULL);
    if (answer_expected ? !(dc && ami_id_equal(&h.name, &l->dialled))
                        : !(dc || h.role == LINK_ROLE_MDMS || h.role == LINK_ROLE_READER)) {
        refuse(n, l,
               h.role == LINK_ROLE_DC && key_revoked(n, &h.name, h.epoch)
                   ? "hello of a DC under a key that the ledger has revoked"
                   : "hello of nobody that we know here");
        /* It may have joined in a block that is not here yet. Who hears the leader finds out from
         * that; but the leader may be this very one, and without a record nobody is asked for votes
         * either (rule 11): then this claim is all there is. */
        if (!answer_expected && h.role == LINK_ROLE_DC && key_unheard_of(n, &h.name, h.epoch))
            chain_on_unknown_key(n);
        return;
    }
    if ((h.role == LINK_ROLE_READER || (unproven && !answer_expected)) &&
        reader_count(n) >= NODE_READERS_MAX) {
        refuse(n, l, "too many readers");
        return;
    }
    l->role = h.role;
    l->unproven = unproven;
    l->peer_name = h.name;
    l->peer_epoch = h.epoch;
    memcpy(l->peer_hello, body.data, body.size);
    l->peer_hello_size = body.size;
    l->state = LINK_HELLO_SEEN;
    if (unproven && !answer_expected)
        node_event_often(n, ENV_LOG_WARN, "reads_only",
                         "dc=%s epoch=%u link=%llu why=\"the ledger has revoked its key\"",
                         h.name.text, h.epoch, (unsigned long long)l->id);
    if (!answer_expected) {
        send_hello(n, l);
        send_proof(n, l);
        if (l->role == LINK_ROLE_READER)
            link_ready(n, l);
    }
}

/* The MDMS signs with a plain SM2 key, hashed with the same ID as for its transactions. */
static enum ami_status check_mdms_proof(const struct node *n, const struct node_link *l,
                                        const struct link_proof *p)
{
    const struct network *net = &n->c.genesis->network;
    const struct span parts[] = {span_of(LABEL_LINK, sizeof LABEL_LINK), /* with its zero byte */
                                 span_of(l->peer_hello, l->peer_hello_size),
                                 span_of(l->own_hello, l->own_hello_size)};
    sm3_digest e = sm2_digest(&net->sign_z, parts, 3);
    return sm2_verify(&net->sign, &e, &p->signature);
}

static enum ami_status check_proof(struct node *n, const struct node_link *l,
                                   const struct link_proof *p)
{
    const struct span parts[] = {span_of(l->peer_hello, l->peer_hello_size),
                                 span_of(l->own_hello, l->own_hello_size)};
    if (l->role == LINK_ROLE_MDMS)
        return check_mdms_proof(n, l, p);
    if (l->unproven)
        return AMI_OK; /* it counts as nobody, whoever it is */
    const struct verify_key *key = dc_key(n, &l->peer_name, l->peer_epoch);
    return key == NULL ? AMI_UNKNOWN_DEVICE
                       : verify_key_check(key, LABEL_LINK, parts, 2, &p->signature);
}

static void on_proof(struct node *n, struct node_link *l, struct span body)
{
    struct link_proof p;
    if (l->state != LINK_HELLO_SEEN || link_proof_parse(&p, body) != AMI_OK ||
        check_proof(n, l, &p) != AMI_OK) {
        refuse(n, l, "the proof of identity does not verify");
        return;
    }
    if (l->port == NODE_PORT_DIALLED)
        send_proof(n, l);
    link_ready(n, l);
}

/* The last block that whoever is there may have. A DC whose key was revoked is shown the block that
 * did it, and where it has another key by now the epoch that it votes in, so that it finds out;
 * whoever else holds the revoked key learns no more than that. An X.509 certificate has no key
 * epoch: its authority's list stands in for this. */
static uint64_t served_to(struct node *n, const struct node_link *l)
{
    const bool shown = l->identified && l->who.role == CREDENTIAL_DC && l->who.epoch != 0;
    const struct ami_id *name = shown ? &l->who.name : &l->peer_name;
    const uint32_t epoch = shown ? l->who.epoch : l->peer_epoch;
    if ((!shown && l->role != LINK_ROLE_DC) || !key_revoked(n, name, epoch))
        return UINT64_MAX;
    uint64_t to = registry_find(n->c.registry, RECORD_DC, name, epoch)->revoked_at;
    const struct members *m = &n->committee.members;
    for (uint8_t i = 0; i < m->count; i++)
        if (ami_id_equal(&m->member[i].name, name) && n->committee.from > to)
            to = n->committee.from;
    return to;
}

/* Committed blocks, one frame each, until the request, the serving bounds or the link's queue are
 * exhausted; the asker asks again from where it stands. */
static void serve_blocks(struct node *n, struct node_link *l, struct span body)
{
    struct fetch_blocks f;
    if (fetch_blocks_parse(&f, body) != AMI_OK) {
        refuse(n, l, "malformed request for blocks");
        return;
    }
    epoch_on_fetch(n, l, f.from_height);
    /* Who asks again before the last answer has left is behind a slow link: more of the same would
     * only stand before what it will ask for next. */
    if (node_queued(n, l->id) >= NODE_SERVE_QUEUED_MAX)
        return;
    size_t bytes = 0;
    bool shown = false;
    uint64_t count = f.count_max < NODE_SERVE_BLOCKS_MAX ? f.count_max : NODE_SERVE_BLOCKS_MAX;
    const uint64_t to = served_to(n, l);
    for (uint64_t i = 0; i < count && bytes < NODE_SERVE_BYTES_MAX; i++) {
        struct certified_block b;
        if (f.from_height == 0 || f.from_height > UINT64_MAX - i || f.from_height + i > to ||
            n->c.disk.block(n->c.disk.ctx, f.from_height + i, &b, n->block, n->block_size) !=
                AMI_OK)
            return;
        if (!shown && f.from_height + i < registry_pruned_below(n->c.registry) &&
            body_is_pruned(b.body)) {
            if (prune_show(n, l) != AMI_OK)
                return;
            shown = true;
        }
        struct writer w = node_frame(n, MSG_BLOCK);
        certified_block_encode(&w, &b);
        AMI_CHECK(writer_ok(&w));
        bytes += w.size;
        if (node_send(n, l->id, writer_span(&w)) != AMI_OK)
            return;
    }
}

/* One block by hash, committed or only kept. */
static void serve_body(struct node *n, struct node_link *l, struct span body)
{
    struct fetch_body f;
    struct body_reply reply;
    if (fetch_body_parse(&f, body) != AMI_OK) {
        refuse(n, l, "malformed request for a block");
        return;
    }
    if (!chain_whole_body(n, &f.block, &reply))
        return; /* the asker asks somebody else; who is behind asks for blocks */
    struct writer w = node_frame(n, MSG_BODY);
    body_reply_encode(&w, &reply);
    AMI_CHECK(writer_ok(&w));
    (void)node_send(n, l->id, writer_span(&w)); /* lost: it is asked for again */
}

void peers_on_frame(struct node *n, struct node_link *l, enum message_type type, struct span body)
{
    if (type == MSG_LINK_HELLO) {
        on_hello(n, l, body);
        return;
    }
    if (type == MSG_LINK_PROOF) {
        on_proof(n, l, body);
        return;
    }
    if (l->state != LINK_READY) {
        refuse(n, l, "a message before the handshake");
        return;
    }
    if (type == MSG_FETCH_BLOCKS) {
        serve_blocks(n, l, body);
        return;
    }
    if (l->unproven) {
        /* It may take itself for a member and send what members do; none of it counts. */
        if (l->port == NODE_PORT_DIALLED && l->blocks_due > 0 && type == MSG_RETENTION)
            prune_on_shown(n, l, body);
        else if (l->port == NODE_PORT_DIALLED &&
                 (type == MSG_BLOCK || type == MSG_BODY || type == MSG_QC_ANNOUNCE))
            chain_on_message(n, l, type, body);
        return;
    }
    if (type == MSG_FETCH_BODY && l->role == LINK_ROLE_DC) {
        serve_body(n, l, body);
        return;
    }
    if (type == MSG_TX_SUBMIT && l->role != LINK_ROLE_READER) {
        submit_on_frame(n, l, body);
        return;
    }
    if (type == MSG_RELAY_REPLY && l->role == LINK_ROLE_MDMS) {
        relay_on_reply(n, body);
        return;
    }
    if (type == MSG_OPERATORS && l->role != LINK_ROLE_READER) {
        if (!operators_on_list(n, l, body))
            refuse(n, l, "a list of operators that is not the MDMS's");
        return;
    }
    if (l->role == LINK_ROLE_DC && type == MSG_RETENTION) {
        prune_on_shown(n, l, body);
        return;
    }
    if (l->role == LINK_ROLE_DC) {
        chain_on_message(n, l, type, body);
        return;
    }
    refuse(n, l, "a message that this role may not send");
}

void peers_on_closed(struct node *n, struct node_link *l)
{
    if (n->mdms == l->id) {
        n->mdms = 0;
        /* Another link of the MDMS may be open (it follows from one DC but keeps several). */
        for (struct node_link *other = n->links; other != NULL; other = other->hh.next)
            if (other->id != l->id && other->role == LINK_ROLE_MDMS && other->state == LINK_READY)
                n->mdms = other->id;
    }
    if (l->role != LINK_ROLE_DC || l->state != LINK_READY || l->port != NODE_PORT_DIALLED)
        return;
    for (uint8_t i = 0; i < n->committee.members.count; i++)
        if (n->fetch_from[i] == l->id)
            n->fetch_from[i] = 0;
    if (l->member != AMI_MEMBERS_MAX && n->to_member[l->member] == l->id) {
        n->to_member[l->member] = 0;
        n->link_since_us[l->member] = node_now_us(n);
    }
    node_event(n, ENV_LOG_INFO, "peer_lost", "dc=%s", l->peer_name.text);
}

void peers_send(struct node *n, uint8_t member, struct span frame)
{
    AMI_CHECK(member < n->committee.members.count && member != n->self);
    /* The protocol bears loss: a full or missing link loses the message, as a network may. */
    if (n->to_member[member] != 0) {
        (void)node_send(n, n->to_member[member], frame);
        return;
    }
    const uint8_t type = frame.data[1]; /* behind the version */
    struct node_link *l =
        n->fetch_from[member] == 0 ? NULL : node_link_find(n, n->fetch_from[member]);
    if (l == NULL || (type != MSG_FETCH_BLOCKS && type != MSG_FETCH_BODY))
        return;
    /* No more than was asked for is looked at, so that nobody keeps this node busy. */
    l->blocks_due = NODE_SERVE_BLOCKS_MAX;
    (void)node_send(n, l->id, frame);
}

/* As long as members have keys that the ledger does not know here, this node is behind: it asks
 * again, since what was heard of the others' height may be forgotten. */
static void ask_the_unproven(struct node *n)
{
    struct node_link *l, *tmp;
    bool ask = false;
    HASH_ITER(hh, n->links, l, tmp)
    {
        if (!l->unproven || l->port != NODE_PORT_DIALLED || l->state != LINK_READY || l->closing)
            continue;
        peers_name(n, l);
        ask |= !l->closing;
    }
    if (ask)
        chain_on_unknown_key(n);
}

uint64_t peers_on_time(struct node *n)
{
    /* A link that opens later has its full time from then on. */
    uint64_t now = node_now_us(n), next = now + NODE_HANDSHAKE_US;
    if (now < n->peers_us)
        return n->peers_us;
    struct node_link *l, *tmp;
    HASH_ITER(hh, n->links, l, tmp)
    {
        epoch_remind(n, l);
        bool peer = l->port == NODE_PORT_PEER || l->port == NODE_PORT_DIALLED;
        if (!peer || l->state == LINK_READY || l->closing)
            continue;
        if (now >= l->opened_us + NODE_HANDSHAKE_US)
            refuse(n, l, "no handshake in time");
        else if (l->opened_us + NODE_HANDSHAKE_US < next)
            next = l->opened_us + NODE_HANDSHAKE_US;
    }
    n->peers_us = next;
    ask_the_unproven(n);
    return next;
}
