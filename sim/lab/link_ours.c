#include "sim/lab/link_ours.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "sim/cast.h"
#include "sim/lab/lab.h"
#include "sim/random.h"

#include <stdlib.h>
#include <string.h>

#define DCS 4

/* --- credentials ----------------------------------------------------------------------------- */

static void draw(struct link_issuers *s, uint8_t (*out)[SM2_WIDE_BYTES], size_t count)
{
    struct sim_random r = sim_random_stream(s->random++, 1, 0);
    sim_random_bytes(&r, out, count * sizeof out[0]);
}

#define WIDE(array) ((const uint8_t(*)[SM2_WIDE_BYTES])(array))

struct link_issuers *link_issuers_new(uint64_t seed)
{
    static uint8_t random[CFL_KEYS_MAX][SM2_WIDE_BYTES];
    const struct sim_cast_size size = {.dcs = DCS, .meters = 1, .scheme = SCHEME_DEFAULT};
    struct link_issuers *s = calloc(1, sizeof *s);
    AMI_CHECK(s != NULL);
    s->cast = sim_cast_get(&size);
    s->net = &s->cast->keys.net;
    s->random = seed;
    draw(s, random, CFL_KEYS_MAX);
    AMI_CHECK(cfl_seed_make(&s->seed, CFL_ROWS_MAX, CFL_COLUMNS_MAX, WIDE(random)) == AMI_OK);
    secret_wipe(random, sizeof random);
    cfl_public_of(&s->set, &s->seed);
    link_x509_make(&s->x509, LINK_X509_SM2, LINK_WALL_MS / 1000 - 86400,
                   LINK_WALL_MS / 1000 + 86400);
    s->trust = link_x509_trust(&s->x509);
    /* Making the cast has left tables behind. As in a DC there are those of P_pub and members. */
    sm2_signers_forget();
    AMI_CHECK(sm2_signer_remember(&s->net->p_pub) == AMI_OK);
    for (unsigned dc = 2; dc < DCS; dc++)
        AMI_CHECK(sm2_signer_remember(&s->cast->dc[dc].sign.private_key.p) == AMI_OK);
    return s;
}

void link_issuers_free(struct link_issuers *s)
{
    sm2_signers_forget();
    x509_trust_free(s->trust);
    link_x509_free(&s->x509);
    secret_wipe(s, sizeof *s);
    free(s);
}

static void issue_cfl(struct link_issuers *s, struct credential *out, const struct ami_id *name)
{
    const struct credential_identity who = {
        .role = CREDENTIAL_DC, .network = s->net->id, .name = *name, .epoch = 1};
    struct cfl_certificate certificate;
    sm2_private rask;
    uint8_t random[3][SM2_WIDE_BYTES];
    draw(s, random, 3);
    AMI_CHECK(cfl_request(&certificate, &rask, &who, WIDE(random)) == AMI_OK &&
              cfl_issue(&certificate, &s->seed, random[2]) == AMI_OK &&
              cfl_credential(out, &certificate, &rask) == AMI_OK);
    secret_wipe(&rask, sizeof rask);
    secret_wipe(random, sizeof random);
}

void link_credential(struct link_issuers *s, struct credential *out, enum credential_kind kind,
                     unsigned dc)
{
    const struct device_keys *keys = &s->cast->dc[dc - 1];
    AMI_CHECK(dc >= 1 && dc <= DCS);
    if (kind == CREDENTIAL_X509)
        link_x509_credential(out, &s->x509, s->net, keys->name.text, NULL);
    else if (kind == CREDENTIAL_CFL)
        issue_cfl(s, out, &keys->name);
    else
        AMI_CHECK(credential_of_dc(out, s->net, &keys->name, keys->epoch, &keys->sign) == AMI_OK);
}

struct credential_trust link_trust(const struct link_issuers *s)
{
    return (struct credential_trust){
        .net = s->net, .kinds = CREDENTIAL_ALL_BITS, .x509 = s->trust, .cfl = &s->set};
}

/* --- a channel ------------------------------------------------------------------------------- */

static enum channel_fault welcome(void *ctx, const struct credential_identity *who)
{
    (void)ctx;
    (void)who;
    return FAULT_NONE;
}

static void make_end(struct link_end *e, struct link_issuers *s, enum credential_kind kind,
                     unsigned dc, uint8_t suite)
{
    link_credential(s, &e->own, kind, dc);
    e->trust = link_trust(s);
    e->config = (struct channel_config){
        .own = &e->own, .trust = &e->trust, .suites = suite, .accept = welcome};
}

struct link_ours *link_ours_new(struct link_issuers *s, enum credential_kind kind, unsigned client,
                                uint8_t suite)
{
    struct link_ours *l = calloc(1, sizeof *l);
    AMI_CHECK(l != NULL);
    make_end(&l->client, s, kind, client, suite);
    make_end(&l->server, s, kind, client + 1, suite);
    return l;
}

void link_ours_free(struct link_ours *l)
{
    secret_wipe(l, sizeof *l);
    free(l);
}

static void start(struct link_end *e, bool client)
{
    uint8_t random[CHANNEL_RANDOM_BYTES];
    secret_random(random, sizeof random);
    channel_start(&e->channel, &e->config, client, random, LINK_WALL_MS);
    secret_wipe(random, sizeof random);
}

bool link_ours_open(struct link_ours *l, double ns[2])
{
    static uint8_t frame[2][CHANNEL_FLIGHT_BYTES_MAX]; /* of the client, of the server */
    struct channel_result got = {.event = CHANNEL_NOTHING};
    uint64_t from = lab_cpu_ns();
    start(&l->client, true);
    channel_first(&l->client.channel, frame[0]);
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    start(&l->server, false);
    ns[1] += (double)(lab_cpu_ns() - from);
    got.reply_size = CHANNEL_FIRST_BYTES;
    for (unsigned side = 1; got.reply_size > 0 && got.event != CHANNEL_FAILED; side ^= 1) {
        struct link_end *to = side == 1 ? &l->server : &l->client;
        from = lab_cpu_ns();
        got = channel_receive(&to->channel, frame[side ^ 1], got.reply_size, frame[side],
                              LINK_WALL_MS);
        ns[side] += (double)(lab_cpu_ns() - from);
    }
    return l->client.channel.state == CHANNEL_UP && l->server.channel.state == CHANNEL_UP;
}

bool link_ours_send(struct link_ours *l, const uint8_t *text, uint8_t *wire, size_t size,
                    size_t count, double ns[2])
{
    static uint8_t reply[CHANNEL_FLIGHT_BYTES_MAX];
    const size_t stride = size + CHANNEL_OVERHEAD_BYTES_MAX;
    size_t sealed = 0, at = 0;
    bool good = true;
    uint64_t from = lab_cpu_ns();
    for (size_t i = 0; i < count; i++)
        sealed = channel_seal(&l->client.channel, wire + i * stride, span_of(text, size));
    ns[0] += (double)(lab_cpu_ns() - from);
    from = lab_cpu_ns();
    for (size_t i = 0; i < count; i++) {
        uint8_t *frame = wire + i * stride;
        struct channel_result got =
            channel_receive(&l->server.channel, frame, sealed, reply, LINK_WALL_MS);
        good = good && got.event == CHANNEL_DATA && got.data.size == size;
        if (good)
            at = (size_t)(got.data.data - frame); /* opened in place, the same in each */
    }
    ns[1] += (double)(lab_cpu_ns() - from);
    for (size_t i = 0; i < count && good; i++)
        good = memcmp(wire + i * stride + at, text, size) == 0;
    return good;
}
