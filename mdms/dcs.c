/* mdms/dcs.c - links to the DCs. The MDMS dials every member's peer address and proves itself with
 * its transaction-signing key; the DC proves itself with its signing key. All of it passes inside a
 * channel (channel/), whose peer the hello has to name.
 *
 *   MDMS -> DC  LINK_HELLO  role 3, chain, network name, epoch 0, nonce
 *   DC -> MDMS  LINK_HELLO  role 2, chain, name, key epoch, nonce
 *   DC -> MDMS  LINK_PROOF  Sign_DC(label, hello_dc, hello_mdms)
 *   MDMS -> DC  LINK_PROOF  Sign_MDMS(label, hello_mdms, hello_dc)
 *
 * A store that is an old copy may know no member's present key, and learns of them through blocks
 * alone. Blocks prove themselves, so they are fetched from a member with a newer key that nothing
 * here proves; it gets no transactions and relays nothing before it can prove itself.
 */
#include "mdms/internal.h"

#include <string.h>

#define HANDSHAKE_US (10u * 1000000u)

enum { LINK_ROLE_DC = 2, LINK_ROLE_MDMS = 3 };

static void drop(struct mdms *m, uint8_t member, const char *why)
{
    mdms_log(m, ENV_LOG_WARN, "dc_refused", "dc=%s why=\"%s\"", m->dc[member].name.text, why);
    m->env.close(m->env.ctx, m->dc[member].id);
}

void dcs_on_open(struct mdms *m, env_link link, uint8_t member)
{
    AMI_CHECK(m->c.genesis != NULL && member < MDMS_DCS_MAX);
    struct dc_link *l = &m->dc[member];
    if (!l->used || l->id != 0) { /* it is dialled no more */
        m->env.close(m->env.ctx, link);
        return;
    }
    struct link_hello hello = {.role = LINK_ROLE_MDMS,
                               .chain = m->c.genesis->members.chain,
                               .name = m->c.network->name,
                               .epoch = 0};
    mdms_random(m, hello.nonce, sizeof hello.nonce);
    struct writer own = writer_on(l->own_hello, sizeof l->own_hello);
    link_hello_encode(&own, &hello);
    AMI_CHECK(writer_ok(&own));
    l->id = link;
    l->identified = false;
    l->state = DC_HELLO_SENT;
    l->opened_us = mdms_now_us(m);
    l->own_hello_size = own.size;
    l->peer_hello_size = 0;
    l->operators_sent = l->operators_at_us = 0;
    l->operators_due = 0;
    l->operators_refused = false;
    struct writer w = mdms_frame(m, MSG_LINK_HELLO);
    write_raw(&w, l->own_hello, l->own_hello_size);
    if (mdms_send(m, link, writer_span(&w)) != AMI_OK)
        m->env.close(m->env.ctx, link);
}

int dcs_member_of(const struct mdms *m, env_link link)
{
    for (int i = 0; i < MDMS_DCS_MAX; i++) {
        if (m->dc[i].id == link)
            return i;
    }
    return -1;
}

/* The member that this link is to. NULL: with that key it is none (any more, or yet). */
static const struct member *member_of(const struct mdms *m, const struct dc_link *l)
{
    const struct members *all = &m->committee.members;
    uint8_t at = members_find(all, &l->name);
    return at < all->count && all->member[at].key_epoch == l->peer_epoch ? &all->member[at] : NULL;
}

/* A newer key than the one that the ledger has here. */
static bool is_unheard_of(const struct mdms *m, const struct dc_link *l)
{
    const struct members *all = &m->committee.members;
    const uint8_t at = members_find(all, &l->name);
    return at < all->count && l->peer_epoch > all->member[at].key_epoch;
}

void dcs_on_committee(struct mdms *m)
{
    for (unsigned i = 0; i < MDMS_DCS_MAX; i++) {
        struct dc_link *l = &m->dc[i];
        if (l->state == DC_READY && l->unproven && !is_unheard_of(m, l))
            m->env.close(m->env.ctx, l->id);
    }
}

static void on_hello(struct mdms *m, uint8_t member, struct span body)
{
    struct dc_link *l = &m->dc[member];
    struct link_hello h;
    if (l->state != DC_HELLO_SENT || body.size > sizeof l->peer_hello ||
        link_hello_parse(&h, body) != AMI_OK) {
        drop(m, member, "malformed or second hello");
        return;
    }
    if (!sm3_equal(&h.chain, &m->c.genesis->members.chain)) {
        drop(m, member, "it serves another chain");
        return;
    }
    l->peer_epoch = h.epoch;
    /* Nobody passes another's hello on. An X.509 certificate knows no key epoch. */
    if (l->identified && (!ami_id_equal(&l->who.name, &h.name) ||
                          (l->who.kind != CREDENTIAL_X509 && l->who.epoch != h.epoch))) {
        drop(m, member, "a hello of somebody else than the channel's peer");
        return;
    }
    l->unproven = is_unheard_of(m, l);
    if (h.role != LINK_ROLE_DC || !ami_id_equal(&h.name, &l->name) ||
        (member_of(m, l) == NULL && !l->unproven)) {
        drop(m, member, "somebody else answers at its address");
        return;
    }
    memcpy(l->peer_hello, body.data, body.size);
    l->peer_hello_size = body.size;
    l->state = DC_HELLO_SEEN;
}

static void send_proof(struct mdms *m, struct dc_link *l)
{
    const struct sm2_private *key = &m->c.keys->sign;
    const struct span parts[] = {span_of(LABEL_LINK, sizeof LABEL_LINK), /* with its zero byte */
                                 span_of(l->own_hello, l->own_hello_size),
                                 span_of(l->peer_hello, l->peer_hello_size)};
    sm3_digest e = sm2_digest(&m->c.network->sign_z, parts, 3);
    uint8_t random[SM2_WIDE_BYTES];
    mdms_random(m, random, sizeof random);
    struct link_proof proof = {sm2_sign(key, &e, random)};
    struct writer w = mdms_frame(m, MSG_LINK_PROOF);
    link_proof_encode(&w, &proof);
    if (mdms_send(m, l->id, writer_span(&w)) != AMI_OK)
        m->env.close(m->env.ctx, l->id);
}

static void on_proof(struct mdms *m, uint8_t member, struct span body)
{
    struct dc_link *l = &m->dc[member];
    struct link_proof p;
    const struct span parts[] = {span_of(l->peer_hello, l->peer_hello_size),
                                 span_of(l->own_hello, l->own_hello_size)};
    const struct member *dc = member_of(m, l);
    l->unproven = is_unheard_of(m, l); /* since the hello the committee may have changed */
    if (l->state != DC_HELLO_SEEN || (dc == NULL && !l->unproven) ||
        link_proof_parse(&p, body) != AMI_OK ||
        (!l->unproven &&
         verify_key_check(&dc->key, LABEL_LINK, parts, 2, &p.signature) != AMI_OK)) {
        drop(m, member, "its proof of identity does not verify");
        return;
    }
    send_proof(m, l);
    l->state = DC_READY;
    mdms_log(m, ENV_LOG_INFO, "dc_connected", "dc=%s%s", l->name.text,
             l->unproven ? " with a key that is not on the ledger here" : "");
    follow_on_links(m);
    outbox_on_links(m);
}

void dcs_on_frame(struct mdms *m, uint8_t member, enum message_type type, struct span body)
{
    struct dc_link *l = &m->dc[member];
    if (type == MSG_LINK_HELLO) {
        on_hello(m, member, body);
    } else if (type == MSG_LINK_PROOF) {
        on_proof(m, member, body);
    } else if (l->state != DC_READY) {
        drop(m, member, "a message before the handshake was over");
    } else if (type == MSG_BLOCK) {
        follow_on_block(m, member, body);
    } else if (type == MSG_RETENTION) {
        if (!retention_on_shown(m, member, body))
            drop(m, member, "it showed a retention that we have not signed");
    } else if (type == MSG_OPERATORS_TAKEN && !l->unproven) {
        dcs_operators_on_taken(m, member, body);
    } else if (type == MSG_OPERATORS && !l->unproven) {
        if (!dcs_operators_on_shown(m, member, body))
            drop(m, member, "it showed a list of operators that we have not signed");
    } else if (type == MSG_RELAY_REQUEST && !l->unproven) {
        struct relay relay;
        enum message_type inner;
        struct span request;
        if (relay_parse(&relay, body) != AMI_OK ||
            frame_open(relay.frame, &inner, &request) != AMI_OK || inner != MSG_ENROL_REQUEST) {
            m->stats.frames_bad++;
            return;
        }
        enrol_on_request(m, l->id, true, relay.token, request);
    } else {
        /* A DC may speak of more than we know; it does no harm. */
        m->stats.frames_bad++;
    }
}

void dcs_on_closed(struct mdms *m, uint8_t member)
{
    struct dc_link *l = &m->dc[member];
    bool was_ready = l->state == DC_READY;
    l->id = 0;
    l->state = DC_DOWN;
    l->asked_to = 0;
    if (!was_ready)
        return;
    mdms_log(m, ENV_LOG_INFO, "dc_lost", "dc=%s", m->dc[member].name.text);
    follow_on_links(m);
    outbox_on_links(m);
}

uint64_t dcs_on_time(struct mdms *m)
{
    uint64_t next = UINT64_MAX;
    uint64_t now = mdms_now_us(m);
    for (uint8_t i = 0; i < MDMS_DCS_MAX; i++) {
        struct dc_link *l = &m->dc[i];
        if (l->state != DC_HELLO_SENT && l->state != DC_HELLO_SEEN)
            continue;
        uint64_t deadline = l->opened_us + HANDSHAKE_US;
        if (now < deadline) {
            next = deadline < next ? deadline : next;
        } else {
            drop(m, i, "it did not complete the handshake in time");
            l->opened_us = now; /* its on_closed is on the way; do not close it at every event */
        }
    }
    return next;
}

bool dcs_ready(const struct mdms *m, int member)
{
    return member >= 0 && m->dc[member].state == DC_READY;
}

int dcs_next(const struct mdms *m, int after, bool to_fetch)
{
    uint64_t now = mdms_now_us(m);
    for (int k = 1; k <= MDMS_DCS_MAX; k++) {
        int i = (after + k) % MDMS_DCS_MAX;
        const struct dc_link *l = &m->dc[i];
        if (l->state == DC_READY && !(to_fetch ? now < l->distrusted_until_us : l->unproven))
            return i;
    }
    return -1;
}
