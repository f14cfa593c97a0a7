/* The three flights under every scheme. The first byte picks scheme and flight, the rest is the
 * scheme's part of that flight. A flight 2 or 3 is accepted exactly when it is the genuine one; a
 * flight 1 that is answered leads to no agreement unless it is. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "tests/keyagree/support.h"

#include <string.h>

static struct genuine {
    struct world *w;
    struct agree_state state;
    struct agree_flight1 f1;
    struct agree_terms terms;
    struct agree_answer answer;
    struct agree_result result;
} genuine[2];

static struct genuine *genuine_of(unsigned index)
{
    struct genuine *g = &genuine[index];
    if (g->w != NULL)
        return g;
    AMI_CHECK(crypto_start() == AMI_OK);
    g->w = world_of(scheme_at(index));
    world_start(g->w, 0, &g->state);
    g->f1 = agree_flight1_of(&g->state, &g->w->meter[0]);
    world_answer(g->w, 0, 0, &g->f1, 1, 2, &g->terms, &g->answer);
    struct agree_state state = g->state;
    struct agree_flight2 f2 = agree_flight2_of(&g->terms, &g->answer);
    AMI_CHECK(agree_meter_answer(&g->result, &state, &g->w->mdms.net, &g->w->meter[0], &g->w->chain,
                                 &f2) == AMI_OK);
    return g;
}

static bool same(struct span a, struct span b)
{
    return span_equal(a, b);
}

static void try_flight1(struct genuine *g, struct span in)
{
    struct world *w = g->w;
    struct agree_request request = {.terms = g->terms, .peer = &w->peer[0], .flight = in};
    struct agree_answer answer;
    memset(request.random, 0x33, sizeof request.random);
    agree_answer_batch(&answer, &w->mdms.net, &w->dc[0], w->table, &request, 1);
    if (answer.status != AMI_OK) {
        AMI_CHECK(answer.status == AMI_BAD_CRYPTO && !same(in, g->f1.flight));
        return;
    }
    struct agree_state state = g->state;
    struct agree_flight2 f2 = agree_flight2_of(&g->terms, &answer);
    struct agree_result result;
    enum ami_status status =
        agree_meter_answer(&result, &state, &w->mdms.net, &w->meter[0], &w->chain, &f2);
    AMI_CHECK((status == AMI_OK) == same(in, g->f1.flight));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct genuine *g = genuine_of(data[0] % 2);
    struct span in = span_of(data + 1, size - 1);
    if (data[0] / 2 % 3 == 0) {
        try_flight1(g, in);
    } else if (data[0] / 2 % 3 == 1) {
        struct agree_state state = g->state;
        struct agree_flight2 f2 = agree_flight2_of(&g->terms, &g->answer);
        struct span wanted = f2.flight;
        struct agree_result result;
        f2.flight = in;
        enum ami_status status = agree_meter_answer(&result, &state, &g->w->mdms.net,
                                                    &g->w->meter[0], &g->w->chain, &f2);
        AMI_CHECK((status == AMI_OK) == same(in, wanted));
        AMI_CHECK(state.open == (status != AMI_OK));
    } else {
        enum ami_status status = agree_confirm(&g->answer.pending, in);
        AMI_CHECK((status == AMI_OK) == same(in, agree_flight3_of(&g->result).flight));
    }
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    out[0] = (uint8_t)(index % 6);
    struct genuine *g = genuine_of(out[0] % 2);
    struct span flight = out[0] / 2 == 0   ? g->f1.flight
                         : out[0] / 2 == 1 ? agree_flight2_of(&g->terms, &g->answer).flight
                                           : agree_flight3_of(&g->result).flight;
    if (capacity < 1 + flight.size)
        return 0;
    memcpy(out + 1, flight.data, flight.size);
    return 1 + flight.size;
}
