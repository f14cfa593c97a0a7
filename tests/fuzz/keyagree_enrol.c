/* Enrolment from the network's side and from inside. The first byte picks scheme and mode:
 * 0 a whole request as received, 1 the inside of a request that was sealed to the MDMS (whoever
 * knows the enrolment key can make one), 2 a whole reply, 3 the inside of a reply under the right
 * key. Nothing but the genuine request opens under the code, nothing but the genuine keys fit. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "tests/keyagree/support.h"

#include <string.h>

static struct genuine {
    struct world *w;
    sm3_digest hash;
    struct enrol_pending pending;
    struct enrol_request request;
    struct enrol_opened opened;
    struct enrol_issued issued;
    struct enrol_reply reply;
    uint8_t request_key[ENROL_REPLY_KEY_BYTES];
    uint8_t inner[512], reply_inner[512];
    size_t inner_size, reply_inner_size;
    uint8_t head[128], reply_aad[128];
    size_t head_size, reply_aad_size;
} genuine[2];

static void open_with(uint8_t *out, const uint8_t key[ENROL_REPLY_KEY_BYTES], struct span aad,
                      struct span sealed)
{
    sm4_key k;
    gcm_nonce n;
    memcpy(k.b, key, sizeof k.b);
    memcpy(n.b, key + sizeof k.b, sizeof n.b);
    AMI_CHECK(sm4gcm_open(out, &k, &n, aad, sealed) == AMI_OK);
}

static struct span seal_with(uint8_t *out, const uint8_t key[ENROL_REPLY_KEY_BYTES],
                             struct span aad, struct span plain)
{
    sm4_key k;
    gcm_nonce n;
    memcpy(k.b, key, sizeof k.b);
    memcpy(n.b, key + sizeof k.b, sizeof n.b);
    sm4gcm_seal(out, &k, &n, aad, plain);
    return span_of(out, plain.size + GCM_TAG_BYTES);
}

/* The keys and associated data, made here from enrol.h's description. */
static void find_insides(struct genuine *g)
{
    uint8_t info[128], shared[2 * ENROL_REPLY_KEY_BYTES];
    static const char label[] = "amiledger enrol v1";
    struct writer w = writer_on(info, sizeof info), head = writer_on(g->head, sizeof g->head);
    write_raw(&w, label, sizeof label);
    struct writer *both[] = {&w, &head};
    for (unsigned i = 0; i < 2; i++) {
        write_u8(both[i], g->request.role);
        write_raw(both[i], g->request.network.b, SM3_BYTES);
        write_id(both[i], &g->request.device);
        write_u32(both[i], g->request.epoch);
    }
    write_raw(&head, g->request.ephemeral.b, SM2_POINT_BYTES);
    g->head_size = head.size;
    AMI_CHECK(sm2_decapsulate(shared, sizeof shared, &g->w->mdms.enrol, &g->request.ephemeral,
                              writer_span(&w)) == AMI_OK);
    memcpy(g->request_key, shared, sizeof g->request_key);
    open_with(g->inner, g->request_key, writer_span(&head), g->request.sealed);
    g->inner_size = g->request.sealed.size - GCM_TAG_BYTES;
    struct writer aad = writer_on(g->reply_aad, sizeof g->reply_aad);
    sm3_digest digest = enrol_request_digest(&g->request);
    write_id(&aad, &g->reply.device);
    write_u32(&aad, g->reply.epoch);
    write_u16(&aad, 0);
    write_raw(&aad, digest.b, sizeof digest.b);
    g->reply_aad_size = aad.size;
    open_with(g->reply_inner, g->pending.reply_key, writer_span(&aad), g->reply.sealed);
    g->reply_inner_size = g->reply.sealed.size - GCM_TAG_BYTES;
}

static struct genuine *genuine_of(unsigned index)
{
    struct genuine *g = &genuine[index];
    if (g->w != NULL)
        return g;
    AMI_CHECK(crypto_start() == AMI_OK);
    struct world *w = g->w = world_of(scheme_at(index));
    uint8_t random[3][SM2_WIDE_BYTES];
    struct ami_id name = name_of("meter-9");
    world_draw(w, random, sizeof random);
    world_draw(w, g->hash.b, sizeof g->hash.b);
    AMI_CHECK(enrol_begin(&g->pending, &w->mdms.net, ENROL_METER, &name, 1, &g->hash,
                          WIDE(random)) == AMI_OK);
    AMI_CHECK(enrol_request_parse(&g->request,
                                  span_of(g->pending.request, g->pending.request_size)) == AMI_OK);
    AMI_CHECK(enrol_open(&g->opened, &w->mdms.net, &w->mdms.enrol, &g->request, &g->hash) ==
              AMI_OK);
    AMI_CHECK(enrol_issue(&g->issued, &w->mdms.net, &w->mdms.x, &g->opened, &w->dc[0].name,
                          agree_part_span(&w->dc_part[0]), WIDE(random)) == AMI_OK);
    AMI_CHECK(enrol_reply_parse(&g->reply, span_of(g->issued.reply, g->issued.reply_size)) ==
              AMI_OK);
    find_insides(g);
    return g;
}

static void try_request(struct genuine *g, const struct enrol_request *request, bool is_genuine)
{
    struct enrol_opened opened;
    enum ami_status status =
        enrol_open(&opened, &g->w->mdms.net, &g->w->mdms.enrol, request, &g->hash);
    AMI_CHECK((status == AMI_OK) == is_genuine);
}

static void try_reply(struct genuine *g, const struct enrol_reply *reply, bool is_genuine)
{
    struct device_keys keys;
    enum ami_status status = enrol_finish(&keys, &g->pending, &g->w->mdms.net, reply);
    AMI_CHECK((status == AMI_OK) == is_genuine);
}

/* Inside a reply only the home DC may differ: everything else has to fit the device's points. */
static bool fits(struct genuine *g, struct span inside)
{
    struct enrol_reply_inner got, real;
    AMI_CHECK(enrol_reply_inner_parse(&real, span_of(g->reply_inner, g->reply_inner_size)) ==
              AMI_OK);
    return enrol_reply_inner_parse(&got, inside) == AMI_OK &&
           memcmp(got.t_sign, real.t_sign, sizeof got.t_sign) == 0 &&
           memcmp(got.w_sign.b, real.w_sign.b, sizeof got.w_sign.b) == 0 &&
           span_equal(got.agree_secret, real.agree_secret) &&
           span_equal(got.agree_part, real.agree_part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct genuine *g = genuine_of(data[0] % 2);
    struct span in = span_of(data + 1, size - 1);
    uint8_t sealed[512 + GCM_TAG_BYTES];
    struct enrol_request request = g->request;
    struct enrol_reply reply = g->reply;
    switch (data[0] / 2 % 4) {
    case 0:
        if (enrol_request_parse(&request, in) == AMI_OK)
            try_request(g, &request,
                        span_equal(in, span_of(g->pending.request, g->pending.request_size)));
        break;
    case 1:
        if (in.size > 512 - GCM_TAG_BYTES)
            return 0;
        request.sealed = seal_with(sealed, g->request_key, span_of(g->head, g->head_size), in);
        try_request(g, &request, span_equal(in, span_of(g->inner, g->inner_size)));
        break;
    case 2:
        if (enrol_reply_parse(&reply, in) == AMI_OK)
            try_reply(g, &reply, span_equal(in, span_of(g->issued.reply, g->issued.reply_size)));
        break;
    default:
        if (in.size > 512 - GCM_TAG_BYTES)
            return 0;
        reply.sealed =
            seal_with(sealed, g->pending.reply_key, span_of(g->reply_aad, g->reply_aad_size), in);
        try_reply(g, &reply, fits(g, in));
    }
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    out[0] = (uint8_t)(index % 8);
    struct genuine *g = genuine_of(out[0] % 2);
    const struct span seeds[] = {
        span_of(g->pending.request, g->pending.request_size),
        span_of(g->inner, g->inner_size),
        span_of(g->issued.reply, g->issued.reply_size),
        span_of(g->reply_inner, g->reply_inner_size),
    };
    struct span seed = seeds[out[0] / 2];
    if (capacity < 1 + seed.size)
        return 0;
    memcpy(out + 1, seed.data, seed.size);
    return 1 + seed.size;
}
