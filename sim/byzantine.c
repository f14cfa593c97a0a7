/* sim/byzantine.c - a data concentrator that lies.
 *
 * It is the real node, with its own keys, and somebody on its wire who has these keys, too: frames
 * that it sends are held back, altered and signed anew, sent twice with two contents; frames that
 * come in are kept from it; and now and then something is sent that it never said. What others
 * signed cannot be forged, only shown again. */
#include "sim/world.h"

#include "base/check.h"
#include "consensus/replica.h"
#include "ledger/block.h"
#include "ledger/evidence.h"
#include "node/internal.h"
#include "sim/liars.h"
#include "sim/schemer.h"

#include <stdlib.h>
#include <string.h>

#define RING     64
#define TICK_US  (150 * SIM_MS)
#define SLOW_US  (3 * SIM_SECOND)
#define ACK_KIND 2 /* session_data.kind of a report_ack */

struct kept_frame {
    size_t size;
    uint8_t *bytes;
};

struct sim_byzantine {
    struct sim_host *host;
    struct sim_schemer *schemer;
    struct sim_elector *elector;
    struct kept_frame frame[RING]; /* consensus frames that passed by */
    size_t frames;
    sm3_digest block[RING]; /* hashes of blocks proposed */
    size_t blocks;
    struct qc old_high;
    bool has_old_high;
    size_t censored;          /* meter, by number in the cast */
    uint8_t *scratch;         /* SIM_LIAR_BYTES_MAX */
    struct proposal proposal; /* large */
};

/* The key that its node uses now. */
static const struct device_keys *keys_of(const struct sim_host *h)
{
    return h->world->name[h->as.dc->number].key[h->as.dc->key_epoch - 1];
}

static const struct sign_key *key_of(const struct sim_host *h)
{
    return &keys_of(h)->sign;
}

bool sim_liar_does(struct sim_host *h, enum sim_mischief_kind kind)
{
    struct sim_world *w = h->world;
    if (!sim_random_chance(&w->mischief, w->plan.mischief[kind]))
        return false;
    w->count.mischief[kind]++;
    return true;
}

struct sim_byzantine *sim_byzantine_new(struct sim_host *h)
{
    struct sim_byzantine *b = calloc(1, sizeof *b);
    AMI_CHECK(b != NULL);
    b->scratch = malloc(SIM_LIAR_BYTES_MAX);
    AMI_CHECK(b->scratch != NULL);
    b->host = h;
    b->schemer = sim_schemer_new(h);
    b->elector = sim_elector_new(h);
    return b;
}

void sim_byzantine_free(struct sim_byzantine *b)
{
    if (b == NULL)
        return;
    for (size_t i = 0; i < RING; i++)
        free(b->frame[i].bytes);
    sim_schemer_free(b->schemer);
    sim_elector_free(b->elector);
    free(b->scratch);
    free(b);
}

static void keep(struct sim_byzantine *b, struct span frame)
{
    if (frame.size > SIM_LIAR_BYTES_MAX)
        return;
    struct kept_frame *k = &b->frame[b->frames++ % RING];
    free(k->bytes);
    k->bytes = malloc(frame.size);
    AMI_CHECK(k->bytes != NULL);
    memcpy(k->bytes, frame.data, frame.size);
    k->size = frame.size;
}

uint8_t *sim_liar_scratch(struct sim_host *h)
{
    return h->as.dc->byzantine->scratch;
}

env_link sim_liar_link_back(struct sim_host *h, env_link link)
{
    const struct sim_world *w = h->world;
    env_link back = h->as.dc->to_host[w->end[w->end[link].other].host];
    return back != 0 && w->end[back].open && w->end[back].greeted >= 2 ? back : 0;
}

static struct sim_host *far_host(const struct sim_world *w, env_link link)
{
    return &w->host[w->end[w->end[link].other].host];
}

void sim_liar_sign_and_send(struct sim_host *h, env_link link, struct writer *w, const char *label)
{
    uint8_t random[SM2_WIDE_BYTES];
    if (!writer_ok(w))
        return;
    sim_random_bytes(&h->world->mischief, random, sizeof random);
    struct span part = span_of(w->data + 2, w->size - 2 - SM2_SIGNATURE_BYTES);
    sm2_signature sig = sign_key_sign(key_of(h), label, &part, 1, random);
    memcpy(w->data + w->size - SM2_SIGNATURE_BYTES, sig.b, sizeof sig.b);
    (void)sim_net_send_raw(h, link, writer_span(w), 0);
}

/* --- what leaves ----------------------------------------------------------------------------- */

void sim_liar_send_vote(struct sim_host *h, env_link link, struct vote v)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    uint8_t random[SM2_WIDE_BYTES];
    sim_random_bytes(&h->world->mischief, random, sizeof random);
    vote_sign(&v, key_of(h), random);
    struct writer w = writer_on(b->scratch, SIM_LIAR_BYTES_MAX);
    frame_begin(&w, MSG_VOTE);
    vote_encode(&w, &v);
    if (writer_ok(&w))
        (void)sim_net_send_raw(h, link, writer_span(&w), 0);
}

static bool on_vote(struct sim_host *h, env_link link, struct span body)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    struct vote v;
    if (vote_parse(&v, body) != AMI_OK)
        return false;
    if (b->blocks > 0 && sim_liar_does(h, SIM_MISCHIEF_VOTE_BOTH)) {
        struct vote other = v;
        size_t known = b->blocks < RING ? b->blocks : RING;
        other.block = b->block[sim_random_below(&h->world->mischief, known)];
        sim_liar_send_vote(h, link, other);
    }
    if (sim_liar_does(h, SIM_MISCHIEF_WRONG_CHAIN)) {
        struct vote other = v;
        if (sim_random_chance(&h->world->mischief, 500000))
            other.chain.b[0] ^= 1;
        else
            other.epoch++;
        sim_liar_send_vote(h, link, other);
        return true;
    }
    return false;
}

void sim_liar_send_proposal(struct sim_host *h, env_link link, const struct proposal *p)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    uint8_t random[SM2_WIDE_BYTES];
    struct proposal altered = *p;
    struct writer core = writer_on(b->scratch, SIM_LIAR_BYTES_MAX);
    proposal_core_encode(&core, &p->core);
    if (!writer_ok(&core))
        return;
    uint8_t head[PROPOSAL_SIGNED_BYTES_MAX];
    struct span part = proposal_signed(head, &p->core, writer_span(&core));
    sim_random_bytes(&h->world->mischief, random, sizeof random);
    altered.core.signature = sign_key_sign(key_of(h), LABEL_PROPOSAL, &part, 1, random);
    struct writer w = writer_on(b->scratch, SIM_LIAR_BYTES_MAX);
    frame_begin(&w, MSG_PROPOSAL);
    proposal_encode(&w, &altered);
    if (writer_ok(&w))
        (void)sim_net_send_raw(h, link, writer_span(&w), 0);
}

static bool on_proposal(struct sim_host *h, env_link link, struct span body)
{
    struct sim_world *w = h->world;
    struct sim_byzantine *b = h->as.dc->byzantine;
    struct proposal *p = &b->proposal;
    if (sim_liar_does(h, SIM_MISCHIEF_HEARTBEAT_ONLY))
        return true;
    if (proposal_parse(p, body) != AMI_OK)
        return false;
    b->block[b->blocks++ % RING] = block_hash(&p->core.header);
    bool altered = false;
    /* The same other block for the same half of the voters, so that each half has one to vote for.
     */
    if ((far_host(w, link)->index & 1) != 0 && sim_liar_does(h, SIM_MISCHIEF_EQUIVOCATE)) {
        p->core.header.timestamp_ms++;
        altered = true;
    }
    if (sim_liar_does(h, SIM_MISCHIEF_WRONG_ROOT)) {
        bool state = sim_random_chance(&w->mischief, 500000);
        (state ? &p->core.header.state_root : &p->core.header.merkle_root)->b[5] ^= 0x10;
        altered = true;
    }
    if (sim_liar_does(h, SIM_MISCHIEF_WRONG_TIME)) {
        p->core.header.timestamp_ms += (int64_t)sim_random_below(&w->mischief, 240001) - 120000;
        altered = true;
    }
    if (!altered)
        return false;
    b->block[b->blocks++ % RING] = block_hash(&p->core.header);
    sim_liar_send_proposal(h, link, p);
    return true;
}

static void send_grant(struct sim_host *h, env_link link, const struct grant *g)
{
    struct writer w = writer_on(h->as.dc->byzantine->scratch, SIM_LIAR_BYTES_MAX);
    frame_begin(&w, MSG_GRANT);
    grant_encode(&w, g);
    sim_liar_sign_and_send(h, link, &w, LABEL_GRANT);
}

static bool on_grant(struct sim_host *h, env_link link, struct span body)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    struct grant g;
    if (grant_parse(&g, body) != AMI_OK)
        return false;
    const struct qc *planned = sim_schemer_high(b->schemer, g.term);
    if (planned != NULL) {
        g.has_high = true;
        g.high = *planned;
        send_grant(h, link, &g);
        return true;
    }
    if (!g.has_high)
        return false;
    if (!sim_liar_does(h, SIM_MISCHIEF_HIDE_HIGH)) {
        b->old_high = g.high;
        b->has_old_high = true;
        return false;
    }
    if (b->has_old_high && sim_random_chance(&h->world->mischief, 500000))
        g.high = b->old_high;
    else
        g.has_high = false;
    send_grant(h, link, &g);
    return true;
}

static bool on_announce(struct sim_host *h, struct span body)
{
    struct qc_announce a;
    return qc_announce_parse(&a, body) == AMI_OK && a.cert.kind == VOTE_COMMIT &&
           sim_liar_does(h, SIM_MISCHIEF_WITHHOLD_QC);
}

/* True: dealt with. */
static bool alter(struct sim_host *h, env_link link, enum message_type type, struct span body)
{
    switch ((int)type) {
    case MSG_VOTE:
        return on_vote(h, link, body);
    case MSG_PROPOSAL:
        return on_proposal(h, link, body);
    case MSG_GRANT:
        return on_grant(h, link, body);
    case MSG_QC_ANNOUNCE:
        return on_announce(h, body);
    case MSG_BLOCK:
    case MSG_BODY:
        return sim_liar_does(h, SIM_MISCHIEF_WITHHOLD_BODY);
    default:
        return false;
    }
}

bool sim_byzantine_send(struct sim_host *h, env_link link, struct span frame)
{
    struct sim_world *w = h->world;
    struct sim_byzantine *b = h->as.dc->byzantine;
    enum message_type type;
    struct span body;
    if (frame_open(frame, &type, &body) != AMI_OK)
        return false;
    if (type == MSG_LINK_HELLO || type == MSG_LINK_PROOF || type == MSG_METER_WELCOME)
        return false;
    if (sim_liar_does(h, SIM_MISCHIEF_SILENT))
        return true;
    if (far_host(w, link)->kind == SIM_DC && sim_schemer_send(b->schemer, type, frame))
        return true;
    if (far_host(w, link)->kind == SIM_DC)
        keep(b, frame);
    if (far_host(w, link)->kind == SIM_DC && sim_elector_send(b->elector, link, type, body))
        return true;
    if (alter(h, link, type, body))
        return true;
    if (sim_liar_does(h, SIM_MISCHIEF_SLOW)) {
        (void)sim_net_send_raw(h, link, frame, sim_random_below(&w->mischief, SLOW_US));
        return true;
    }
    if (frame.size <= SIM_LIAR_BYTES_MAX && sim_liar_does(h, SIM_MISCHIEF_MUTATE)) {
        memcpy(b->scratch, frame.data, frame.size);
        uint64_t bit = sim_random_below(&w->mischief, frame.size * 8);
        b->scratch[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)sim_net_send_raw(h, link, span_of(b->scratch, frame.size), 0);
        return true;
    }
    return false;
}

/* --- what comes in --------------------------------------------------------------------------- */

static bool names(const struct sim_host *h, const struct ami_id *meter)
{
    return ami_id_equal(meter, &h->world->cast->meter[h->as.dc->byzantine->censored].name);
}

static bool is_censored(const struct sim_host *h, enum message_type type, struct span body)
{
    if (type == MSG_AGREE_FLIGHT1) {
        struct agree_flight1 f;
        return agree_flight1_parse(&f, body) == AMI_OK && names(h, &f.meter);
    }
    static struct tx_submit s; /* large */
    if (type != MSG_TX_SUBMIT || tx_submit_parse(&s, body) != AMI_OK)
        return false;
    for (size_t i = 0; i < s.txs_count; i++) {
        struct tx_view tx;
        if (tx_view_parse(&tx, s.txs[i].encoded) == AMI_OK && tx.tx.kind == TX_REPORT &&
            names(h, &tx.u.report.meter.meter))
            return true;
    }
    return false;
}

/* Whose session that is. */
static struct sim_meter *meter_of_session(const struct sim_world *w, uint64_t session)
{
    for (uint16_t i = w->dcs; i < w->host_count - 1; i++) {
        struct sim_fleet *f = w->host[i].as.fleet;
        for (size_t k = 0; k < f->count; k++)
            if (f->meter[k].core.session_id == session && session != 0)
                return &f->meter[k];
    }
    return NULL;
}

/* Tells the meter that its report is on the ledger, as well as one can without it: sealed in its
 * session, with a true block's hash. */
static bool acknowledge_falsely(struct sim_host *h, env_link link, struct span body)
{
    struct sim_world *w = h->world;
    struct node *n = h->as.dc->node;
    struct session_data in;
    if (session_data_parse(&in, body) != AMI_OK)
        return false;
    struct sim_meter *m = meter_of_session(w, in.session);
    const struct sim_block *tip = sim_disk_block(h->as.dc->disk, sim_disk_height(h->as.dc->disk));
    if (m == NULL || tip == NULL || sim_book(m)->settled_below >= sim_book(m)->reports)
        return false;
    const struct sim_report *r = &sim_book(m)->report[sim_book(m)->settled_below];
    const struct record *rec =
        registry_find(h->as.dc->registry, RECORD_METER, &m->core.keys.name, m->core.keys.epoch);
    struct gateway_session *s =
        rec == NULL ? NULL : gateway_session_of(n, registry_index_of(h->as.dc->registry, rec));
    if (s == NULL || s->id != in.session)
        return false;
    struct report_ack a = {
        .sequence = r->sequence, .height = tip->header.height, .block = tip->hash};
    uint8_t plain[1024], sealed[1100];
    struct writer out = writer_on(plain, sizeof plain);
    report_ack_encode(&out, &a);
    struct session_data d;
    if (session_seal(&s->u.session, &d, sealed, ACK_KIND, writer_span(&out),
                     (uint32_t)(sim_host_mono_us(h) / 1000000)) != AMI_OK)
        return false;
    struct writer f = writer_on(h->as.dc->byzantine->scratch, SIM_LIAR_BYTES_MAX);
    frame_begin(&f, MSG_SESSION_DATA);
    session_data_encode(&f, &d);
    (void)sim_net_send_raw(h, link, writer_span(&f), 0);
    return true;
}

bool sim_byzantine_receive(struct sim_host *h, env_link link, struct span frame)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    enum message_type type;
    struct span body;
    if (frame_open(frame, &type, &body) != AMI_OK)
        return true;
    if (far_host(h->world, link)->kind == SIM_DC && type != MSG_LINK_HELLO &&
        type != MSG_LINK_PROOF)
        keep(b, frame);
    if (far_host(h->world, link)->kind == SIM_DC)
        sim_schemer_receive(b->schemer, link, type, body);
    if (far_host(h->world, link)->kind == SIM_DC)
        sim_elector_receive(b->elector, link, type, body);
    if (far_host(h->world, link)->kind == SIM_DC && sim_collude_receive(h, link, type, body))
        return false;
    if (is_censored(h, type, body) && sim_liar_does(h, SIM_MISCHIEF_CENSOR))
        return false;
    if (type == MSG_SESSION_DATA && sim_liar_does(h, SIM_MISCHIEF_FALSE_ACK))
        return !acknowledge_falsely(h, link, body);
    return true;
}

/* --- what it says by itself ------------------------------------------------------------------ */

/* An open link to another DC; 0: none. */
static env_link any_peer(struct sim_host *h)
{
    struct sim_world *w = h->world;
    uint64_t first = sim_random_below(&w->mischief, w->dcs);
    for (uint16_t i = 0; i < w->dcs; i++) {
        env_link link = h->as.dc->to_host[(first + i) % w->dcs];
        if (link != 0 && w->end[link].open && w->end[link].greeted >= 2)
            return link;
    }
    return 0;
}

static void replay(struct sim_host *h)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    env_link link = any_peer(h);
    size_t known = b->frames < RING ? b->frames : RING;
    if (link == 0 || known == 0)
        return;
    const struct kept_frame *k = &b->frame[sim_random_below(&h->world->mischief, known)];
    (void)sim_net_send_raw(h, link, span_of(k->bytes, k->size), 0);
}

/* Terms begin anew with each epoch: one of before may be far above. Every DC hears of it. */
static void show_old_epoch(struct sim_host *h)
{
    struct sim_world *w = h->world;
    struct sim_byzantine *b = h->as.dc->byzantine;
    const struct qc *qc = sim_collude_highest(w, h->as.dc->node->committee.members.epoch - 1);
    if (qc == NULL)
        return;
    struct term_proof p = {.has_votes = true, .votes = *qc};
    struct writer f = writer_on(b->scratch, SIM_LIAR_BYTES_MAX);
    frame_begin(&f, MSG_TERM_PROOF);
    term_proof_encode(&f, &p);
    AMI_CHECK(writer_ok(&f));
    for (uint16_t i = 0; i < w->dcs; i++) {
        env_link link = h->as.dc->to_host[i];
        if (link != 0 && w->end[link].open && w->end[link].greeted >= 2)
            (void)sim_net_send_raw(h, link, writer_span(&f), 0);
    }
}

/* A certificate that this liar or another one held back, perhaps. */
static void show_held(struct sim_host *h)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    env_link link = any_peer(h);
    const struct qc *qc =
        sim_collude_held(h->world, h->as.dc->node->committee.members.epoch, UINT64_MAX);
    if (link == 0 || qc == NULL)
        return;
    struct qc_announce a = {*qc};
    struct writer w = writer_on(b->scratch, SIM_LIAR_BYTES_MAX);
    frame_begin(&w, MSG_QC_ANNOUNCE);
    qc_announce_encode(&w, &a);
    AMI_CHECK(writer_ok(&w));
    (void)sim_net_send_raw(h, link, writer_span(&w), 0);
}

static void submit(struct sim_host *h, struct span encoded_tx)
{
    struct sim_byzantine *b = h->as.dc->byzantine;
    struct sim_world *w = h->world;
    static struct tx_submit s; /* large */
    s = (struct tx_submit){.chain = w->cast->genesis.members.chain, .txs_count = 1};
    s.txs[0].encoded = encoded_tx;
    struct writer f = writer_on(b->scratch, SIM_LIAR_BYTES_MAX);
    frame_begin(&f, MSG_TX_SUBMIT);
    tx_submit_encode(&f, &s);
    for (uint16_t i = 0; i < w->dcs; i++) {
        env_link link = h->as.dc->to_host[i];
        if (link != 0 && w->end[link].open && w->end[link].greeted >= 2)
            (void)sim_net_send_raw(h, link, writer_span(&f), 0);
    }
}

/* A report in the name of a meter, with all that this DC can make of it: its own signature is
 * right, the meter's is not. Or the meter's own, with another commitment. */
static void invent(struct sim_host *h, bool altered)
{
    struct sim_world *w = h->world;
    struct sim_meter *m = NULL;
    size_t k = sim_random_below(&w->mischief, w->plan.meters);
    for (uint16_t i = w->dcs; i < w->host_count - 1; i++) {
        struct sim_fleet *f = w->host[i].as.fleet;
        if (k >= f->first && k < f->first + f->count)
            m = &f->meter[k - f->first];
    }
    AMI_CHECK(m != NULL);
    const sm3_digest *chain = &w->cast->genesis.members.chain;
    const struct device_keys *dc = keys_of(h);
    const struct sim_book *b = sim_book(m);
    uint8_t plain[16 + 32], sealed[16 + 32 + GCM_TAG_BYTES], random[SM2_WIDE_BYTES], out[1024];
    sim_random_bytes(&w->mischief, plain, sizeof plain);
    struct report_meter_part part = {.meter = w->cast->meter[k].name,
                                     .epoch = m->epoch,
                                     .sequence = b->reports + (altered ? 0 : 1),
                                     .commitment =
                                         report_commitment(plain, span_of(plain + 16, 32))};
    sim_random_bytes(&w->mischief, part.signature.b, sizeof part.signature.b);
    if (altered && b->reports > 0 && b->report[b->reports - 1].record != NULL) {
        struct report_submit r;
        const struct sim_report *last = &b->report[b->reports - 1];
        AMI_CHECK(report_submit_parse(&r, span_of(last->record, last->size)) == AMI_OK);
        part.signature = r.signature;
    }
    struct seal_batch batch;
    sim_random_bytes(&w->mischief, random, sizeof random);
    if (part.sequence == 0 ||
        seal_batch_begin(&batch, &w->cast->keys.net.readings, random) != AMI_OK)
        return;
    seal_report(sealed, &batch, chain, &dc->name, &part.meter, part.epoch, part.sequence,
                span_of(plain, sizeof plain));
    struct report_gateway_part gateway = {.c1 = batch.c1,
                                          .sealed = span_of(sealed, sizeof sealed),
                                          .timestamp_ms = sim_host_wall_ms(h),
                                          .dc = dc->name,
                                          .dc_epoch = dc->epoch};
    sim_random_bytes(&w->mischief, random, sizeof random);
    report_gateway_sign(&gateway, &part, chain, &dc->sign, random);
    struct writer tx = writer_on(out, sizeof out);
    report_tx_encode(&tx, &part, &gateway);
    AMI_CHECK(writer_ok(&tx));
    submit(h, writer_span(&tx));
}

static void next_tick(struct sim_host *h)
{
    sim_push_for(h, (struct sim_event){.type = SIM_MISCHIEF},
                 h->world->now_us + sim_random_exponential(&h->world->mischief, TICK_US));
}

void sim_byzantine_start(struct sim_host *h)
{
    h->as.dc->byzantine->censored = h->as.dc->number % h->world->plan.meters;
    next_tick(h);
}

/* It goes on as if it had never voted. */
static void forget(struct sim_host *h)
{
    struct sim_world *w = h->world;
    sim_tell(w, h, "forgets what it signed");
    sim_host_crash(h);
    sim_disk_forget_record(h->as.dc->disk);
    struct sim_event e = {.type = SIM_START, .host = h->index};
    e.at_us = w->now_us + 100 * SIM_MS;
    sim_events_push(&w->events, e);
}

void sim_byzantine_on_event(struct sim_host *h, const struct sim_event *e)
{
    struct sim_world *w = h->world;
    (void)e;
    next_tick(h);
    if (sim_liar_does(h, SIM_MISCHIEF_REPLAY))
        replay(h);
    if (sim_liar_does(h, SIM_MISCHIEF_COLLUDE))
        show_held(h);
    if (h->as.dc->node->committee.members.epoch > 1 && sim_liar_does(h, SIM_MISCHIEF_OLD_EPOCH))
        show_old_epoch(h);
    if (sim_liar_does(h, SIM_MISCHIEF_TERM_STORM)) {
        sim_schemer_storm(h->as.dc->byzantine->schemer);
        chain_progress(h->as.dc->node, true);
        node_alarm(h->as.dc->node);
    }
    /* Only who leads has an election certificate to show: it asks whenever it can. */
    if (w->plan.mischief[SIM_MISCHIEF_SHOW_OTHER_M] != 0) {
        struct node *n = h->as.dc->node;
        chain_progress(n, replica_role(n->replica) != REPLICA_LEADER);
        node_alarm(n);
    }
    if (sim_liar_does(h, SIM_MISCHIEF_INVENT))
        invent(h, false);
    if (sim_liar_does(h, SIM_MISCHIEF_ALTER))
        invent(h, true);
    /* Seldom, or it is always just starting. */
    if (sim_random_chance(&w->mischief, 20000) && sim_liar_does(h, SIM_MISCHIEF_FORGET))
        forget(h);
}
