#include "tests/node/net_internal.h"

#include <stdio.h>

static struct net_peer *open_own(struct net *net, unsigned node, enum node_port port,
                                 const struct ami_id *dialled)
{
    struct net_peer *p = calloc(1, sizeof *p);
    AMI_CHECK(p != NULL && net->peer_count < sizeof net->peers / sizeof net->peers[0]);
    env_link ids[2];
    net_open_pair(net, TEST_END, node, port, dialled, ids);
    *p = (struct net_peer){net, node, ids[0], ids[1], true, NULL};
    net->end[ids[0]].peer = p;
    net->peers[net->peer_count++] = p;
    return p;
}

struct net_peer *net_dial(struct net *net, unsigned node, enum node_port port)
{
    return open_own(net, node, port, NULL);
}

struct net_peer *net_answer(struct net *net, unsigned node, const struct ami_id *dialled)
{
    return open_own(net, node, NODE_PORT_DIALLED, dialled);
}

void net_send(struct net_peer *p, struct span frame)
{
    (void)net_send_frame(p->net, p->near_id, frame);
}

bool net_has_frame(struct net *net, void *arg)
{
    (void)net;
    struct net_peer *p = arg;
    return p->inbox != NULL || !p->open;
}

bool net_expect(struct net_peer *p, enum message_type type, uint64_t limit_ms, struct span *body)
{
    uint64_t until = p->net->now_us + limit_ms * 1000;
    while (p->net->now_us <= until) {
        if (!net_until(p->net, (until - p->net->now_us) / 1000 + 1, net_has_frame, p) ||
            p->inbox == NULL)
            return false;
        struct net_inbox *x = p->inbox;
        p->inbox = x->next;
        enum message_type got;
        AMI_CHECK(x->size <= sizeof p->net->scratch);
        memcpy(p->net->scratch, x->bytes, x->size);
        size_t size = x->size;
        free(x);
        AMI_CHECK(frame_open(span_of(p->net->scratch, size), &got, body) == AMI_OK);
        if (got == type)
            return true;
    }
    return false;
}

struct net_peer *net_answer_as(struct net *net, unsigned node, const struct ami_id *dialled,
                               const struct ami_id *name, uint32_t key_epoch)
{
    uint8_t out[256];
    struct span got;
    struct net_peer *p = net_answer(net, node, dialled);
    const struct link_hello hello = {.role = LINK_ROLE_DC,
                                     .chain = net_fixture(net)->genesis.members.chain,
                                     .name = *name,
                                     .epoch = key_epoch};
    const struct link_proof proof = {{{1}}};
    AMI_CHECK(net_expect(p, MSG_LINK_HELLO, 1000, &got));
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_LINK_HELLO);
    link_hello_encode(&w, &hello);
    net_send(p, writer_span(&w));
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_LINK_PROOF);
    link_proof_encode(&w, &proof);
    net_send(p, writer_span(&w));
    return p;
}

uint64_t net_asked(struct net_peer *p)
{
    struct span body;
    struct fetch_blocks f;
    return net_expect(p, MSG_FETCH_BLOCKS, 60000, &body) && fetch_blocks_parse(&f, body) == AMI_OK
               ? f.from_height
               : 0;
}

void net_ask_as(struct net *net, enum credential_role role, struct label label)
{
    net_ask_named(net, "alice", role, label);
}

sm3_digest net_fingerprint(const char *name)
{
    return sm3(span_of(name, strlen(name)));
}

void net_ask_under(struct net *net, enum credential_kind kind)
{
    net->asker_kind = kind;
}

void net_ask_named(struct net *net, const char *name, enum credential_role role, struct label label)
{
    const enum credential_kind kind = net->asker_kind == 0 ? CREDENTIAL_IMPLICIT : net->asker_kind;
    net->asker = (struct credential_identity){.kind = kind,
                                              .role = role,
                                              .name = fixture_id("%s", name),
                                              .epoch = 1,
                                              .label = label,
                                              .fingerprint = net_fingerprint(name)};
    for (unsigned i = 0; i < net->count; i++)
        net->host[i].asker = NULL; /* a link has one identity: the next question takes another */
}

json_t *net_ask_status(struct net *net, unsigned node, const char *question,
                       enum ami_status *status)
{
    struct host *h = &net->host[node];
    if (h->asker == NULL || !h->asker->open)
        h->asker = net_dial(net, node, NODE_PORT_ADMIN);
    struct net_peer *p = h->asker;
    uint8_t frame[512];
    struct admin_request q = {span_of(question, strlen(question))};
    struct writer w = writer_on(frame, sizeof frame);
    frame_begin(&w, MSG_ADMIN_REQUEST);
    admin_request_encode(&w, &q);
    AMI_CHECK(writer_ok(&w));
    net_send(p, writer_span(&w));
    struct span body;
    struct admin_reply r;
    AMI_CHECK(net_expect(p, MSG_ADMIN_REPLY, 1000, &body));
    AMI_CHECK(admin_reply_parse(&r, body) == AMI_OK && r.status < AMI_STATUS_COUNT);
    *status = (enum ami_status)r.status;
    json_t *answer = json_loadb((const char *)r.json.data, r.json.size, 0, NULL);
    AMI_CHECK(answer != NULL);
    return answer;
}

json_t *net_ask(struct net *net, unsigned node, const char *ask)
{
    char text[64];
    enum ami_status status;
    snprintf(text, sizeof text, "{\"ask\":\"%s\"}", ask);
    json_t *answer = net_ask_status(net, node, text, &status);
    AMI_CHECK(status == AMI_OK);
    return answer;
}

static struct net_peer *handshake(struct net *net, unsigned node, uint8_t role,
                                  const struct ami_id *name, unsigned member)
{
    struct net_peer *p = net_dial(net, node, NODE_PORT_PEER);
    struct link_hello h = {
        .role = role, .chain = net->f->genesis.members.chain, .name = *name, .epoch = 1};
    uint8_t mine[256], theirs[256];
    struct writer w = writer_on(mine, sizeof mine);
    frame_begin(&w, MSG_LINK_HELLO);
    link_hello_encode(&w, &h);
    net_send(p, writer_span(&w));
    struct span hello, proof;
    AMI_CHECK(net_expect(p, MSG_LINK_HELLO, 1000, &hello) && hello.size <= sizeof theirs);
    memcpy(theirs, hello.data, hello.size);
    size_t theirs_size = hello.size;
    AMI_CHECK(net_expect(p, MSG_LINK_PROOF, 1000, &proof));
    const struct span parts[] = {span_of(LABEL_LINK, sizeof LABEL_LINK),
                                 span_of(mine + 2, w.size - 2), span_of(theirs, theirs_size)};
    struct link_proof mine_proof;
    uint8_t random[SM2_WIDE_BYTES];
    fixture_random(net->f, random);
    if (role == 3) {
        sm3_digest z = sm2_z(SPAN_LITERAL("amiledger mdms"), &net->f->sign.p);
        sm3_digest e = sm2_digest(&z, parts, 3);
        mine_proof.signature = sm2_sign(&net->f->sign, &e, random);
    } else {
        mine_proof.signature =
            sign_key_sign(&net->f->dc[member].key, LABEL_LINK, parts + 1, 2, random);
    }
    uint8_t out[128];
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_LINK_PROOF);
    link_proof_encode(&w, &mine_proof);
    net_send(p, writer_span(&w));
    return p;
}

struct net_peer *net_dial_as_mdms(struct net *net, unsigned node)
{
    struct ami_id name = fixture_id("mdms");
    return handshake(net, node, 3, &name, 0);
}

struct net_peer *net_dial_as_member(struct net *net, unsigned node, unsigned member)
{
    return handshake(net, node, 2, &net->f->dc[member].name, member);
}

void net_submit(struct net_peer *p, struct span encoded_tx)
{
    struct tx_submit *s = calloc(1, sizeof *s);
    uint8_t *out = malloc(encoded_tx.size + 256);
    AMI_CHECK(s != NULL && out != NULL);
    s->chain = p->net->f->genesis.members.chain;
    s->txs_count = 1;
    s->txs[0].encoded = encoded_tx;
    struct writer w = writer_on(out, encoded_tx.size + 256);
    frame_begin(&w, MSG_TX_SUBMIT);
    tx_submit_encode(&w, s);
    net_send(p, writer_span(&w));
    free(out);
    free(s);
}
