/* One replica among four, fed with messages put together from the input's bytes.
 *
 * Every signature counts as valid here (linked with --wrap): the input plays more than f liars who
 * can forge anything, so that it gets behind all the certificates. Safety is lost then, of course;
 * what must hold is that no input reaches an assertion, overflows the effects or makes the replica
 * break its contract with the caller (one write, one check at a time, deadlines ahead).
 *
 * The input is a script: a byte chooses what happens, further bytes its fields. Terms, heights and
 * blocks are drawn from small ranges, so that messages fit each other now and then.
 */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "consensus/replica.h"
#include "ledger/block.h"
#include "wire/identity.h"

#include <stdlib.h>
#include <string.h>

#define NODES      4
#define SELF       1
#define BLOCKS     12
#define BODY_BYTES 64

sm3_digest __wrap_verify_key_digest(const struct verify_key *k, const char *label,
                                    const struct span *parts, size_t count);
enum ami_status __wrap_verify_key_check(const struct verify_key *k, const char *label,
                                        const struct span *parts, size_t count,
                                        const sm2_signature *sig);
enum ami_status __wrap_sm2_verify_batch(const point *p, const sm3_digest *e,
                                        const sm2_signature *sig, bool *ok, size_t count);
sm2_signature __wrap_sign_key_sign(const struct sign_key *k, const char *label,
                                   const struct span *parts, size_t count,
                                   const uint8_t random[SM2_WIDE_BYTES]);

sm3_digest __wrap_verify_key_digest(const struct verify_key *k, const char *label,
                                    const struct span *parts, size_t count)
{
    (void)k, (void)label, (void)parts, (void)count;
    return (sm3_digest){{0}};
}

enum ami_status __wrap_verify_key_check(const struct verify_key *k, const char *label,
                                        const struct span *parts, size_t count,
                                        const sm2_signature *sig)
{
    (void)k, (void)label, (void)parts, (void)count, (void)sig;
    return AMI_OK;
}

enum ami_status __wrap_sm2_verify_batch(const point *p, const sm3_digest *e,
                                        const sm2_signature *sig, bool *ok, size_t count)
{
    (void)p, (void)e, (void)sig;
    memset(ok, 1, count * sizeof *ok);
    return AMI_OK;
}

sm2_signature __wrap_sign_key_sign(const struct sign_key *k, const char *label,
                                   const struct span *parts, size_t count,
                                   const uint8_t random[SM2_WIDE_BYTES])
{
    (void)k, (void)label, (void)parts, (void)count, (void)random;
    return (sm2_signature){{1}};
}

static struct members members;
static struct sign_key key;
static const struct parameters parameters = {.election_timeout_ms = 600,
                                             .progress_timeout_ms = 3000,
                                             .heartbeat_ms = 100,
                                             .block_bytes_max = BODY_BYTES};
static struct effects fx;

struct run {
    const uint8_t *data;
    size_t size, at;
    struct replica *r;
    uint64_t now;
    struct block_header block[BLOCKS];
    sm3_digest hash[BLOCKS];
    unsigned blocks;
    /* questions that wait for an answer */
    bool writing, checking, building, asked;
    uint64_t ticket, build_ticket, build_term;
    bool commits;
    sm3_digest checked, wanted, build_parent;
    uint64_t build_height;
};

static uint8_t byte(struct run *x)
{
    return x->at < x->size ? x->data[x->at++] : 0;
}

static uint64_t small(struct run *x)
{
    uint8_t b = byte(x);
    return b == 255 ? UINT64_MAX - byte(x) % 3 : b % 8;
}

/* Mostly one that means something now. */
static uint64_t any_term(struct run *x)
{
    uint8_t b = byte(x);
    return b < 200 ? replica_term(x->r) + b % 3 : small(x);
}

static unsigned any_block(struct run *x)
{
    if (x->blocks == 0 || byte(x) % 4 == 0) {
        unsigned i = x->blocks < BLOCKS ? x->blocks++ : byte(x) % BLOCKS;
        unsigned parent = byte(x);
        bool root = i == 0 || parent % 3 == 0;
        struct block_header *h = &x->block[i];
        memset(h, 0, sizeof *h);
        h->version = 1;
        h->chain = members.chain;
        h->epoch = 1;
        h->members = members.hash;
        h->height = root ? 1 : x->block[parent % i].height + 1;
        h->previous = root ? members.chain : x->hash[parent % i];
        h->term = byte(x) % 8;
        h->proposer = byte(x) % NODES;
        h->timestamp_ms = byte(x);
        x->hash[i] = block_hash(h);
        return i;
    }
    return byte(x) % x->blocks;
}

static void make_qc(struct run *x, struct qc *qc)
{
    unsigned b = any_block(x);
    memset(qc, 0, sizeof *qc);
    qc->kind = 1 + byte(x) % 2;
    qc->chain = members.chain;
    qc->epoch = 1;
    qc->term = any_term(x);
    qc->height = x->block[b].height;
    qc->block = x->hash[b];
    qc->signers = 7;
    qc->signatures_count = 3;
}

static void make_prevotes(struct run *x, struct prevote_cert *c, uint64_t term, uint8_t candidate)
{
    (void)x;
    memset(c, 0, sizeof *c);
    c->chain = members.chain;
    c->epoch = 1;
    c->term = term;
    c->candidate = candidate;
    c->signers = 14;
    c->signatures_count = 3;
}

static void make_grant(struct run *x, struct grant *g, uint64_t term, uint8_t candidate,
                       uint8_t voter)
{
    memset(g, 0, sizeof *g);
    g->chain = members.chain;
    g->epoch = 1;
    g->term = term;
    g->candidate = candidate;
    g->voter = voter;
    if ((g->has_high = byte(x) % 2 == 0))
        make_qc(x, &g->high);
}

static void make_election(struct run *x, struct election_cert *c, uint64_t term, uint8_t leader)
{
    make_prevotes(x, &c->prevotes, term, leader);
    c->grants_count = 3;
    for (uint8_t i = 0; i < 3; i++)
        make_grant(x, &c->grants[i], term, leader, i);
}

static union {
    struct prevote_request prevote_request;
    struct prevote prevote;
    struct grant_request grant_request;
    struct grant grant;
    struct proposal proposal;
    struct vote vote;
    struct qc_announce qc_announce;
    struct heartbeat heartbeat;
    struct heartbeat_ack ack;
    struct certified_block block;
    struct body_reply body;
    struct term_proof proof;
} m;

static void make_election_message(struct run *x, struct writer *w, enum message_type type,
                                  uint8_t from, uint64_t term)
{
    switch (type) {
    case MSG_PREVOTE_REQUEST:
        m.prevote_request = (struct prevote_request){
            .chain = members.chain, .epoch = 1, .term = term, .candidate = from};
        if ((m.prevote_request.proof.has_prevotes = byte(x) % 2 == 0))
            make_prevotes(x, &m.prevote_request.proof.prevotes, term - 1, byte(x) % NODES);
        if ((m.prevote_request.proof.has_votes = byte(x) % 4 == 0))
            make_qc(x, &m.prevote_request.proof.votes);
        prevote_request_encode(w, &m.prevote_request);
        break;
    case MSG_PREVOTE:
        term = byte(x) % 8 == 0 ? term : replica_term(x->r) + 1;
        m.prevote = (struct prevote){
            .chain = members.chain, .epoch = 1, .term = term, .candidate = SELF, .voter = from};
        prevote_encode(w, &m.prevote);
        break;
    case MSG_GRANT_REQUEST:
        m.grant_request = (struct grant_request){
            .chain = members.chain, .epoch = 1, .term = term, .candidate = from};
        make_prevotes(x, &m.grant_request.cert, term, from);
        grant_request_encode(w, &m.grant_request);
        break;
    case MSG_GRANT:
        term = byte(x) % 8 == 0 ? term : replica_term(x->r);
        make_grant(x, &m.grant, term, SELF, from);
        grant_encode(w, &m.grant);
        break;
    case MSG_HEARTBEAT:
        m.heartbeat = (struct heartbeat){.chain = members.chain,
                                         .epoch = 1,
                                         .term = term,
                                         .leader = from,
                                         .committed = small(x)};
        if ((m.heartbeat.has_election = byte(x) % 2 == 0))
            make_election(x, &m.heartbeat.election, term, from);
        heartbeat_encode(w, &m.heartbeat);
        break;
    case MSG_HEARTBEAT_ACK:
        m.ack = (struct heartbeat_ack){.chain = members.chain,
                                       .epoch = 1,
                                       .term = term,
                                       .voter = from,
                                       .committed = small(x),
                                       .elected = byte(x) % 2};
        heartbeat_ack_encode(w, &m.ack);
        break;
    default:
        if ((m.proof.has_prevotes = byte(x) % 2 == 0))
            make_prevotes(x, &m.proof.prevotes, term, byte(x) % NODES);
        if ((m.proof.has_votes = byte(x) % 2 == 0))
            make_qc(x, &m.proof.votes);
        term_proof_encode(w, &m.proof);
    }
}

static void make_block_message(struct run *x, struct writer *w, enum message_type type,
                               uint8_t from, uint64_t term)
{
    static const uint8_t body[BODY_BYTES];
    unsigned b;
    switch (type) {
    case MSG_PROPOSAL:
        b = any_block(x);
        m.proposal.core.term = byte(x) % 4 == 0 ? term : replica_term(x->r);
        m.proposal.core.leader = from;
        m.proposal.core.header = x->block[b];
        if ((m.proposal.core.has_election = byte(x) % 2 == 0))
            make_election(x, &m.proposal.core.election, m.proposal.core.term, from);
        if ((m.proposal.core.has_parent_commit = byte(x) % 2 == 0))
            make_qc(x, &m.proposal.core.parent_commit);
        m.proposal.body = span_of(body, byte(x) % (BODY_BYTES + 1));
        proposal_encode(w, &m.proposal);
        break;
    case MSG_VOTE:
        b = any_block(x);
        m.vote.kind = 1 + byte(x) % 2;
        m.vote.term = byte(x) % 4 == 0 ? term : replica_term(x->r);
        m.vote.chain = members.chain;
        m.vote.epoch = 1;
        m.vote.height = x->block[b].height;
        m.vote.block = x->hash[b];
        m.vote.voter = from;
        vote_encode(w, &m.vote);
        break;
    case MSG_QC_ANNOUNCE:
        make_qc(x, &m.qc_announce.cert);
        qc_announce_encode(w, &m.qc_announce);
        break;
    case MSG_BLOCK:
        b = any_block(x);
        m.block.header = x->block[b];
        make_qc(x, &m.block.commit);
        if (byte(x) % 4 != 0) {
            m.block.commit.kind = VOTE_COMMIT;
            m.block.commit.height = x->block[b].height;
            m.block.commit.block = x->hash[b];
        }
        m.block.body = span_of(body, byte(x) % (BODY_BYTES + 1));
        certified_block_encode(w, &m.block);
        break;
    case MSG_BODY:
        b = any_block(x);
        m.body.header = x->block[b];
        m.body.body = span_of(body, byte(x) % (BODY_BYTES + 1));
        body_reply_encode(w, &m.body);
        break;
    default:
        abort();
    }
}

/* Encodes a message of this type. */
static void make_message(struct run *x, struct writer *w, enum message_type type, uint8_t from)
{
    memset(&m, 0, sizeof m);
    uint64_t term = any_term(x);
    if (type == MSG_PROPOSAL || type == MSG_VOTE || type == MSG_QC_ANNOUNCE || type == MSG_BLOCK ||
        type == MSG_BODY)
        make_block_message(x, w, type, from, term);
    else
        make_election_message(x, w, type, from, term);
}

static void step(struct run *x, struct replica_event *e)
{
    e->now_us = x->now;
    e->wall_ms = (int64_t)(x->now / 1000);
    replica_step(x->r, e, &fx);
    AMI_CHECK(fx.deadline_us > x->now && fx.send_count <= EFFECTS_SENDS_MAX &&
              fx.note_count <= EFFECTS_NOTES_MAX && fx.arena_used <= EFFECTS_ARENA_BYTES);
    for (size_t i = 0; i < fx.send_count; i++) {
        enum message_type type;
        struct span body;
        AMI_CHECK(frame_open(fx.send[i].frame, &type, &body) == AMI_OK && type == fx.send[i].type);
        AMI_CHECK((fx.send[i].to & 1u << SELF) == 0 && fx.send[i].to >> NODES == 0);
    }
    if (fx.has_persist) {
        AMI_CHECK(!x->writing && fx.persist.ticket == x->ticket + 1);
        static struct vote_record record;
        AMI_CHECK(vote_record_parse(&record, fx.persist.vote_record) == AMI_OK);
        AMI_CHECK(!(fx.persist.commit && x->checking));
        x->writing = true;
        x->commits = fx.persist.commit;
        x->ticket = fx.persist.ticket;
    }
    if (fx.has_validate) {
        AMI_CHECK(!x->checking && !(x->writing && x->commits));
        x->checking = true;
        x->checked = fx.validate.block;
    }
    if (fx.has_build) {
        AMI_CHECK(!(x->writing && x->commits));
        x->building = true;
        x->build_ticket = fx.build.ticket;
        x->build_term = fx.build.term;
        x->build_parent = fx.build.parent;
        x->build_height = fx.build.parent_height + 1;
    }
    if (fx.has_need_body) {
        x->asked = true;
        x->wanted = fx.need_body;
    }
}

static void answer(struct run *x)
{
    struct replica_event e = {0};
    uint8_t b = byte(x);
    struct block_header h = {.version = 1, .chain = members.chain, .epoch = 1};
    if (x->writing && b % 4 != 3) {
        x->writing = false;
        e.type = REPLICA_PERSISTED;
        e.u.persisted.ticket = x->ticket;
        e.u.persisted.status = b / 4 % 8 == 0 ? AMI_FULL : AMI_OK;
    } else if (x->checking && b % 4 != 2) {
        static const enum ami_status statuses[] = {AMI_OK, AMI_OK, AMI_BAD_MERKLE_ROOT,
                                                   AMI_BAD_TIMESTAMP, AMI_AGAIN};
        x->checking = false;
        e.type = REPLICA_VALIDATED;
        e.u.validated.block = x->checked;
        e.u.validated.status = statuses[b / 4 % 5];
    } else if (x->building) {
        x->building = false;
        e.type = REPLICA_BUILT;
        e.u.built.ticket = x->build_ticket;
        h.members = members.hash;
        h.height = x->build_height;
        h.term = x->build_term;
        h.previous = x->build_parent;
        h.proposer = SELF;
        if (b % 4 != 0)
            e.u.built.header = &h;
        if (x->blocks < BLOCKS) {
            x->block[x->blocks] = h;
            x->hash[x->blocks++] = block_hash(&h);
        }
    } else if (x->asked) {
        x->asked = false;
        e.type = REPLICA_STORED_BODY;
        e.u.stored_body.block = x->wanted;
        for (unsigned i = 0; i < x->blocks && b % 2 == 0; i++)
            if (sm3_equal(&x->hash[i], &x->wanted))
                e.u.stored_body.header = &x->block[i];
    } else {
        e.type = REPLICA_TIME;
    }
    step(x, &e);
}

static void set_up(void)
{
    members.chain = sm3(SPAN_LITERAL("fuzz"));
    members.epoch = 1;
    members.count = NODES;
    members.hash = sm3(SPAN_LITERAL("members"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t frame[1 << 17];
    static struct run x;
    if (members.count == 0)
        set_up();
    memset(&x, 0, sizeof x);
    x.data = data;
    x.size = size;
    struct replica_config c = {.members = &members,
                               .parameters = &parameters,
                               .key = &key,
                               .self = SELF,
                               .first_height = 1,
                               .may_sign = true,
                               .starts = 1,
                               .tip = members.chain};
    void *memory = calloc(1, replica_size(&parameters));
    AMI_CHECK(memory != NULL && replica_init(&x.r, memory, &c) == AMI_OK);
    while (x.at < x.size) {
        static const enum message_type types[] = {
            MSG_PREVOTE_REQUEST, MSG_PREVOTE, MSG_GRANT_REQUEST, MSG_GRANT,
            MSG_PROPOSAL,        MSG_VOTE,    MSG_QC_ANNOUNCE,   MSG_HEARTBEAT,
            MSG_HEARTBEAT_ACK,   MSG_BLOCK,   MSG_BODY,          MSG_TERM_PROOF};
        uint8_t op = byte(&x) % 32;
        struct replica_event e = {.type = REPLICA_TIME};
        if (op < 12) {
            uint8_t from = byte(&x) % NODES;
            struct writer w = writer_on(frame, sizeof frame);
            make_message(&x, &w, types[op], from);
            AMI_CHECK(writer_ok(&w));
            e.type = REPLICA_MESSAGE;
            e.u.message.from = from;
            e.u.message.type = types[op];
            e.u.message.body = writer_span(&w);
            step(&x, &e);
        } else if (op < 22) {
            answer(&x);
        } else if (op < 27) {
            x.now += (uint64_t)byte(&x) * 10000;
            step(&x, &e);
        } else if (op < 28) {
            const uint8_t height = byte(&x);
            e.type = height < 240 ? REPLICA_CLAIM : REPLICA_STEP_DOWN;
            e.u.height = height % 16;
            step(&x, &e);
        } else if (op < 31) {
            static const enum replica_event_type flags[] = {REPLICA_WORK, REPLICA_PROGRESS,
                                                            REPLICA_DISK};
            e.type = flags[op % 3];
            e.u.flag = byte(&x) % 4 != 0;
            step(&x, &e);
        } else {
            size_t left = x.size - x.at;
            e.type = REPLICA_MESSAGE;
            e.u.message.from = byte(&x);
            e.u.message.type = (enum message_type)(MSG_PREVOTE_REQUEST + byte(&x) % 15);
            e.u.message.body = span_of(x.data + x.at, left > 2 ? left - 2 : 0);
            if (left < 2)
                break;
            step(&x, &e);
            x.at += left / 2;
        }
    }
    free(memory);
    return 0;
}

/* The replica becomes the leader, builds a block and commits it with the votes of 0 and 2. */
static const uint8_t leads_and_commits[] = {
    22, 255, 12, 4, 22, 255, 22, 255,        /* the timer and the own slot pass */
    1,  0,   0,  1, 1,  2,   0,  1,   12, 4, /* pre-votes; the own grant is durable */
    3,  0,   0,  1, 1,  3,   2,  0,   1,  1, /* grants without a highQC */
    12, 5,   12, 4,                          /* a block is built, the own vote is durable */
    5,  0,   0,  1, 0,  0,   1,  5,   2,  0,
    1,  0,   0,  1, 12, 4, /* prepare votes */
    5,  0,   0,  1, 0,  1,   1,  5,   2,  0,
    1,  0,   1,  1, 12, 4, /* commit votes, the block is durable */
};

/* Scripts of some hundred steps, every other one behind that beginning. */
size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    if (capacity < 4096)
        return 0;
    uint64_t z = index * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < 4096; i++) {
        z = z * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(z >> 56);
    }
    if (index % 2 == 0)
        memcpy(out, leads_and_commits, sizeof leads_and_commits);
    return 1024 + index % 3072;
}
