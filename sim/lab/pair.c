#include "sim/lab/pair.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <stdlib.h>
#include <string.h>

#define STREAM_PAIR 1

struct lab_pair *lab_pair_new(const struct scheme *scheme, uint64_t seed)
{
    struct lab_pair *p = calloc(1, sizeof *p);
    AMI_CHECK(p != NULL);
    /* A short name: it travels, and its size is the one that all tables have. */
    p->arena = arena_make(scheme, sim_random_stream(seed, STREAM_PAIR, scheme->number), "m-");
    p->scheme = scheme;
    p->dc = &p->arena->dc[0];
    p->meter = &p->arena->meter[0];
    return p;
}

void lab_pair_free(struct lab_pair *p)
{
    arena_free(p->arena);
    secret_wipe(p, sizeof *p);
    free(p);
}

void lab_pair_flight1(struct lab_pair *p)
{
    uint8_t random[SM2_WIDE_BYTES];
    arena_random(p->arena, random, sizeof random);
    memset(&p->state, 0, sizeof p->state);
    AMI_CHECK(p->scheme->meter_start(&p->state, p->meter, random) == AMI_OK);
    p->state.open = true;
    arena_random(p->arena, &p->state.tag, sizeof p->state.tag);
}

static void prepare(struct lab_pair *p, struct agree_request *r)
{
    const struct agree_flight1 f1 = agree_flight1_of(&p->state, p->meter);
    uint64_t session;
    arena_random(p->arena, &session, sizeof session);
    *r = (struct agree_request){
        .terms = agree_terms_for(&f1, p->dc, &p->arena->chain, 1, session),
        .peer = &p->arena->peer[0],
        .flight = f1.flight,
    };
    arena_random(p->arena, r->random, sizeof r->random);
}

static void answer(struct lab_pair *p, size_t count)
{
    for (size_t i = 0; i < count; i++)
        prepare(p, &p->request[i]);
    memset(p->answer, 0, count * sizeof p->answer[0]);
    p->scheme->dc_answer(p->answer, &p->arena->mdms.net, p->dc, p->arena->p_pub, p->request, count);
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
    AMI_CHECK(p->scheme->meter_answer(&p->result, &p->state, &p->arena->mdms.net, p->meter,
                                      span_of(p->answer[0].flight, p->answer[0].flight_size)) ==
              AMI_OK);
}

void lab_pair_confirm(struct lab_pair *p)
{
    AMI_CHECK(agree_confirm(&p->answer[0].pending,
                            span_of(p->result.flight, p->result.flight_size)) == AMI_OK);
    AMI_CHECK(memcmp(p->answer[0].pending.k, p->result.k, AGREE_KEY_BYTES) == 0);
}

void lab_pair_agree(struct lab_pair *p)
{
    lab_pair_flight1(p);
    lab_pair_flight2(p);
    lab_pair_flight3(p);
    lab_pair_confirm(p);
}
