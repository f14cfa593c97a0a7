#include "tests/node/net_internal.h"

enum { SALT_BYTES = 16, REPORT_M_BYTES = 60 };

static bool all_know(struct net *net, void *arg)
{
    const struct ami_id *name = arg;
    for (unsigned i = 0; i < net->count; i++)
        if (net->host[i].node != NULL &&
            registry_find(net->host[i].registry, RECORD_METER, name, 1) == NULL)
            return false;
    return true;
}

void net_meter_enrol(struct net *net, struct net_meter *m, unsigned number, unsigned node)
{
    *m = (struct net_meter){.device = fixture_meter(net->f, number)};
    struct agree_part part;
    net_make_agree_key(net, &m->agree, ROLE_METER_AGREE, &m->device.name, 1, &part);
    AMI_CHECK(part.size == sizeof m->device.agree_part);
    memcpy(m->device.agree_part, part.b, part.size);
    struct fixture_body *b = fixture_body();
    fixture_meter_enrol(net->f, b, &m->device, &net->f->dc[0].name);
    net_submit(net_dial_as_mdms(net, node), fixture_last(b));
    free(b);
    AMI_CHECK(net_until(net, 20000, all_know, &m->device.name));
}

enum ami_status net_meter_agree(struct net *net, struct net_meter *m, unsigned node, bool insist,
                                int *redirect)
{
    struct span body;
    uint8_t out[512], random[SM2_WIDE_BYTES];
    *redirect = -1;
    m->link = net_dial(net, node, NODE_PORT_METER);
    m->node = node;
    struct meter_hello hello = {net->f->genesis.members.chain, net->f->genesis.network.scheme, 1};
    struct writer w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_METER_HELLO);
    meter_hello_encode(&w, &hello);
    net_send(m->link, writer_span(&w));
    struct meter_welcome welcome;
    if (!net_expect(m->link, MSG_METER_WELCOME, 2000, &body))
        return AMI_TIMEOUT;
    AMI_CHECK(meter_welcome_parse(&welcome, body) == AMI_OK);
    if (welcome.status != 0)
        return (enum ami_status)welcome.status;
    struct agree_state state;
    fixture_random(net->f, random);
    AMI_CHECK(agree_meter_start(&state, &m->agree, 7, insist, random) == AMI_OK);
    struct agree_flight1 f1 = agree_flight1_of(&state, &m->agree);
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_AGREE_FLIGHT1);
    agree_flight1_encode(&w, &f1);
    net_send(m->link, writer_span(&w));
    /* Either answer may come. */
    AMI_CHECK(net_until(net, 2000, net_has_frame, m->link));
    if (m->link->inbox == NULL)
        return AMI_CLOSED;
    if (m->link->inbox->bytes[1] == MSG_REFUSED) {
        struct refused r;
        AMI_CHECK(net_expect(m->link, MSG_REFUSED, 1, &body) && refused_parse(&r, body) == AMI_OK);
        if (r.has_other)
            *redirect = net_host_of(net, &r.other.dc);
        return (enum ami_status)r.status;
    }
    struct agree_flight2 f2;
    struct agree_result result;
    if (!net_expect(m->link, MSG_AGREE_FLIGHT2, 2000, &body))
        return AMI_TIMEOUT;
    AMI_CHECK(agree_flight2_parse(&f2, body) == AMI_OK);
    AMI_TRY(agree_meter_answer(&result, &state, &net->f->genesis.network, &m->agree,
                               &net->f->genesis.members.chain, &f2));
    struct agree_flight3 f3 = agree_flight3_of(&result);
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_AGREE_FLIGHT3);
    agree_flight3_encode(&w, &f3);
    net_send(m->link, writer_span(&w));
    session_begin(&m->session, true, result.k, &result.terms, 1000, 1000, 0);
    m->session_id = result.terms.session;
    return AMI_OK;
}

struct report_meter_part net_meter_part(struct net *net, const struct net_meter *m,
                                        uint64_t sequence)
{
    uint8_t salt[SALT_BYTES], bytes[REPORT_M_BYTES];
    /* Once per report: its bytes and its signature follow from the sequence alone. */
    uint64_t rng = sequence * 1000003u + (uint8_t)m->device.name.text[2];
    uint8_t random[SM2_WIDE_BYTES];
    fixture_opening(salt, bytes, sizeof bytes, &m->device, sequence);
    fixture_bytes(&rng, random, sizeof random);
    struct report_meter_part part = {.meter = m->device.name,
                                     .epoch = m->device.epoch,
                                     .sequence = sequence,
                                     .commitment =
                                         report_commitment(salt, span_of(bytes, sizeof bytes))};
    report_meter_sign(&part, &net->f->genesis.members.chain, &m->device.key, random);
    return part;
}

void net_meter_report(struct net *net, struct net_meter *m, uint64_t sequence)
{
    uint8_t bytes[REPORT_M_BYTES], plain[256], sealed[300], out[512];
    struct report_submit q = {.sequence = sequence,
                              .signature = net_meter_part(net, m, sequence).signature};
    fixture_opening(q.salt, bytes, sizeof bytes, &m->device, sequence);
    q.report = span_of(bytes, sizeof bytes);
    struct writer w = writer_on(plain, sizeof plain);
    report_submit_encode(&w, &q);
    AMI_CHECK(writer_ok(&w));
    struct session_data d;
    AMI_CHECK(session_seal(&m->session, &d, sealed, 1, writer_span(&w), 0) == AMI_OK);
    w = writer_on(out, sizeof out);
    frame_begin(&w, MSG_SESSION_DATA);
    session_data_encode(&w, &d);
    net_send(m->link, writer_span(&w));
}

static enum ami_status check_ack(struct net *net, struct net_meter *m, const struct report_ack *a,
                                 const struct block_header *h)
{
    struct report_meter_part part = net_meter_part(net, m, a->sequence);
    uint8_t bytes[256];
    struct writer w = writer_on(bytes, sizeof bytes);
    report_meter_part_encode(&w, &part);
    sm3_digest first = sm3(writer_span(&w));
    sm3_digest id = tx_id(TX_REPORT, &first, &a->second), leaf = tx_leaf(&id);
    return merkle_check(&h->merkle_root, &leaf, a->index, h->tx_count, a->path, a->path_count);
}

enum ami_status net_meter_ack(struct net *net, struct net_meter *m, uint64_t sequence,
                              uint64_t limit_ms, uint64_t *height)
{
    uint64_t until = net->now_us + limit_ms * 1000;
    while (net->now_us < until &&
           net_until(net, (until - net->now_us) / 1000 + 1, net_has_frame, m->link) &&
           m->link->inbox != NULL) {
        enum message_type type = m->link->inbox->bytes[1];
        struct span body;
        AMI_CHECK(net_expect(m->link, type, 1, &body));
        if (type == MSG_BLOCK_PROOF) {
            AMI_CHECK(block_proof_parse(&m->proof, body) == AMI_OK);
            const struct members *members =
                registry_members(net->host[m->node].registry, m->proof.header.height);
            if (qc_check(members, &m->proof.commit) != AMI_OK)
                return AMI_BAD_CERTIFICATE;
            continue;
        }
        if (type == MSG_SESSION_ENDED) {
            struct session_ended e;
            AMI_CHECK(session_ended_parse(&e, body) == AMI_OK);
            return (enum ami_status)e.status;
        }
        if (type != MSG_SESSION_DATA)
            continue;
        struct session_data d;
        uint8_t plain[2048];
        size_t size;
        AMI_CHECK(session_data_parse(&d, body) == AMI_OK);
        AMI_TRY(session_open(&m->session, plain, &size, &d, 0));
        if (d.kind == 3) {
            struct report_nack k;
            AMI_CHECK(report_nack_parse(&k, span_of(plain, size)) == AMI_OK);
            if (k.sequence == sequence)
                return (enum ami_status)k.status;
            continue;
        }
        struct report_ack a;
        AMI_CHECK(report_ack_parse(&a, span_of(plain, size)) == AMI_OK);
        if (a.sequence != sequence)
            continue;
        sm3_digest hash = block_hash(&m->proof.header);
        if (!sm3_equal(&hash, &a.block) || m->proof.header.height != a.height)
            return AMI_BAD_PROOF;
        *height = a.height;
        return check_ack(net, m, &a, &m->proof.header);
    }
    return AMI_TIMEOUT;
}

void net_meter_reports(struct net *net, struct net_meter *m, uint64_t from, uint64_t to)
{
    uint64_t height;
    for (uint64_t s = from; s <= to; s++) {
        net_meter_report(net, m, s);
        AMI_CHECK(net_meter_ack(net, m, s, 20000, &height) == AMI_OK);
    }
}
