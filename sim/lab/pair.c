#include "sim/lab/pair.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

static void issue(struct lab_pair *p, struct agree_key *key, struct agree_part *part,
                  enum key_role role, const char *name, struct span home)
{
    struct agree_enrolling begun;
    struct agree_secret secret;
    struct ami_id id;
    uint8_t random[2][SM2_WIDE_BYTES];
    sim_random_bytes(&p->random, random, sizeof random);
    AMI_CHECK(ami_id_from_text(&id, name) == AMI_OK);
    p->scheme->device_begin(&begun, role, random[0]);
    AMI_CHECK(p->scheme->mdms_issue(&secret, part, &p->mdms.net, &p->mdms.x, role, &id, 1, home,
                                    agree_part_span(&begun.request), random[1]) == AMI_OK);
    AMI_CHECK(p->scheme->device_accept(key, &begun, &p->mdms.net, role, &id, 1,
                                       span_of(secret.b, secret.size),
                                       agree_part_span(part)) == AMI_OK);
}

struct lab_pair *lab_pair_new(const struct scheme *scheme, uint64_t seed)
{
    struct lab_pair *p = calloc(1, sizeof *p);
    uint8_t random[4][SM2_WIDE_BYTES];
    struct ami_id name;
    AMI_CHECK(p != NULL);
    p->scheme = scheme;
    p->random = sim_random_stream(seed, 1, scheme->number);
    sim_random_bytes(&p->random, random, sizeof random);
    AMI_CHECK(ami_id_from_text(&name, "laboratory") == AMI_OK);
    AMI_CHECK(mdms_keys_make(&p->mdms, &name, scheme->number,
                             (const uint8_t(*)[SM2_WIDE_BYTES])random) == AMI_OK);
    p->p_pub = point_table_new(&p->mdms.net.p_pub);
    AMI_CHECK(p->p_pub != NULL);
    sim_random_bytes(&p->random, p->chain.b, sizeof p->chain.b);
    issue(p, &p->dc, &p->dc_part, ROLE_DC_AGREE, "dc-1", span_of(NULL, 0));
    issue(p, &p->meter, &p->meter_part, ROLE_METER_AGREE, "m-1", agree_part_span(&p->dc_part));
    AMI_CHECK(scheme->peer_init(&p->peer, &p->mdms.net, &p->meter.name, 1,
                                agree_part_span(&p->meter_part)) == AMI_OK);
    return p;
}

void lab_pair_free(struct lab_pair *p)
{
    point_table_free(p->p_pub);
    secret_wipe(p, sizeof *p);
    free(p);
}

void lab_pair_flight1(struct lab_pair *p)
{
    uint8_t random[SM2_WIDE_BYTES];
    sim_random_bytes(&p->random, random, sizeof random);
    memset(&p->state, 0, sizeof p->state);
    AMI_CHECK(p->scheme->meter_start(&p->state, &p->meter, random) == AMI_OK);
    p->state.open = true;
    p->state.tag = (uint32_t)sim_random_u64(&p->random);
}

static void prepare(struct lab_pair *p, struct agree_request *r)
{
    struct agree_flight1 f1 = {.meter = p->meter.name,
                               .epoch = p->meter.epoch,
                               .tag = p->state.tag,
                               .flight = span_of(p->state.flight, p->state.flight_size)};
    *r = (struct agree_request){
        .terms = agree_terms_for(&f1, &p->dc, &p->chain, 1, sim_random_u64(&p->random)),
        .peer = &p->peer,
        .flight = f1.flight,
    };
    sim_random_bytes(&p->random, r->random, sizeof r->random);
}

static void answer(struct lab_pair *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        prepare(p, &p->request[i]);
    memset(p->answer, 0, count * sizeof p->answer[0]);
    p->scheme->dc_answer(p->answer, &p->mdms.net, &p->dc, p->p_pub, p->request, count);
    for (size_t i = 0; i < count; i++)
        AMI_CHECK(p->answer[i].status == AMI_OK);
}

void lab_pair_flight2(struct lab_pair *p)
{
    answer(p, 1);
}

void lab_pair_flight2_batch(struct lab_pair *p)
{
    answer(p, LAB_PAIR_BATCH);
}

void lab_pair_flight3(struct lab_pair *p)
{
    memset(&p->result, 0, sizeof p->result);
    p->result.terms = p->request[0].terms;
    AMI_CHECK(p->scheme->meter_answer(&p->result, &p->state, &p->mdms.net, &p->meter,
                                      span_of(p->answer[0].flight, p->answer[0].flight_size)) ==
              AMI_OK);
}

void lab_pair_confirm(struct lab_pair *p)
{
    AMI_CHECK(agree_confirm(&p->answer[0].pending,
                            span_of(p->result.flight, p->result.flight_size)) == AMI_OK);
    AMI_CHECK(memcmp(p->answer[0].pending.k, p->result.k, AGREE_KEY_BYTES) == 0);
}
