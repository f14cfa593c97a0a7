#include "tests/keyagree/support.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

struct ami_id name_of(const char *text)
{
    struct ami_id id;
    AMI_CHECK(ami_id_from_text(&id, text) == AMI_OK);
    return id;
}

void world_draw(struct world *w, void *out, size_t size)
{
    uint8_t counter[9];
    counter[0] = w->scheme->number;
    store_be64(counter + 1, w->drawn++);
    const struct span parts[] = {SPAN_LITERAL("keyagree tests"), span_of(counter, sizeof counter)};
    sm2_kdf(out, size, parts, 2);
}

const uint8_t *world_random(struct world *w)
{
    static uint8_t random[8][SM2_WIDE_BYTES];
    static unsigned at;
    uint8_t *out = random[at++ % 8];
    world_draw(w, out, SM2_WIDE_BYTES);
    return out;
}

void world_issue(struct world *w, const struct mdms_keys *mdms, struct agree_key *key,
                 struct agree_part *part, enum key_role role, const char *name, uint32_t epoch,
                 struct span home)
{
    struct agree_enrolling begun;
    struct agree_secret secret;
    struct ami_id id = name_of(name);
    w->scheme->device_begin(&begun, role, world_random(w));
    AMI_CHECK(w->scheme->mdms_issue(&secret, part, &mdms->net, &mdms->x, role, &id, epoch, home,
                                    agree_part_span(&begun.request), world_random(w)) == AMI_OK);
    AMI_CHECK(w->scheme->device_accept(key, &begun, &mdms->net, role, &id, epoch,
                                       span_of(secret.b, secret.size),
                                       agree_part_span(part)) == AMI_OK);
}

void world_foreign(struct mdms_keys *out, struct world *w)
{
    uint8_t random[4][SM2_WIDE_BYTES];
    struct ami_id name = name_of("elsewhere");
    world_draw(w, random, sizeof random);
    AMI_CHECK(mdms_keys_make(out, &name, w->scheme->number, WIDE(random)) == AMI_OK);
}

static void world_make(struct world *w, const struct scheme *scheme)
{
    static const char *const dcs[WORLD_DCS] = {"dc-1", "dc-2"};
    static const char *const meters[WORLD_METERS] = {"meter-1", "meter-2", "MAC000123"};
    uint8_t random[4][SM2_WIDE_BYTES];
    struct ami_id name = name_of("test.grid");
    w->scheme = scheme;
    world_draw(w, random, sizeof random);
    AMI_CHECK(mdms_keys_make(&w->mdms, &name, scheme->number, WIDE(random)) == AMI_OK);
    w->table = point_table_new(&w->mdms.net.p_pub);
    AMI_CHECK(w->table != NULL);
    memset(w->chain.b, 0xc4, sizeof w->chain.b);
    for (unsigned i = 0; i < WORLD_DCS; i++)
        world_issue(w, &w->mdms, &w->dc[i], &w->dc_part[i], ROLE_DC_AGREE, dcs[i], 1 + i,
                    span_of(NULL, 0));
    for (unsigned i = 0; i < WORLD_METERS; i++) {
        world_issue(w, &w->mdms, &w->meter[i], &w->meter_part[i], ROLE_METER_AGREE, meters[i],
                    1 + i, agree_part_span(&w->dc_part[i % WORLD_DCS]));
        AMI_CHECK(agree_peer_init(&w->peer[i], scheme, &w->mdms.net, &w->meter[i].name,
                                  w->meter[i].epoch, agree_part_span(&w->meter_part[i])) == AMI_OK);
    }
}

static struct world *worlds[256];

struct world *world_of(const struct scheme *scheme)
{
    if (worlds[scheme->number] == NULL) {
        worlds[scheme->number] = calloc(1, sizeof(struct world));
        AMI_CHECK(worlds[scheme->number] != NULL);
        world_make(worlds[scheme->number], scheme);
    }
    return worlds[scheme->number];
}

int worlds_stop(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++) {
        if (worlds[i] == NULL)
            continue;
        point_table_free(worlds[i]->table);
        free(worlds[i]);
        worlds[i] = NULL;
    }
    return 0;
}

void world_start(struct world *w, unsigned meter, struct agree_state *state)
{
    AMI_CHECK(agree_meter_start(state, &w->meter[meter], 77 + meter, false, world_random(w)) ==
              AMI_OK);
}

void world_answer(struct world *w, unsigned meter, unsigned dc, const struct agree_flight1 *f1,
                  uint64_t term, uint64_t session, struct agree_terms *terms,
                  struct agree_answer *answer)
{
    *terms = agree_terms_for(f1, &w->dc[dc], &w->chain, term, session);
    struct agree_request request = {.terms = *terms, .peer = &w->peer[meter], .flight = f1->flight};
    world_draw(w, request.random, sizeof request.random);
    agree_answer_batch(answer, &w->mdms.net, &w->dc[dc], w->table, &request, 1);
}

void world_agree(struct world *w, unsigned meter, unsigned dc, struct agree_result *result,
                 struct agree_pending *pending)
{
    struct agree_state state;
    struct agree_terms terms;
    struct agree_answer answer;
    world_start(w, meter, &state);
    struct agree_flight1 f1 = agree_flight1_of(&state, &w->meter[meter]);
    uint64_t session;
    world_draw(w, &session, sizeof session);
    world_answer(w, meter, dc, &f1, 3, session, &terms, &answer);
    AMI_CHECK(answer.status == AMI_OK);
    struct agree_flight2 f2 = agree_flight2_of(&terms, &answer);
    AMI_CHECK(agree_meter_answer(result, &state, &w->mdms.net, &w->meter[meter], &w->chain, &f2) ==
              AMI_OK);
    struct agree_flight3 f3 = agree_flight3_of(result);
    AMI_CHECK(agree_confirm(&answer.pending, f3.flight) == AMI_OK);
    AMI_CHECK(memcmp(result->k, answer.pending.k, AGREE_KEY_BYTES) == 0);
    *pending = answer.pending;
}
