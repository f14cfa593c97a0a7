#include "sim/lab/realm.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

const uint8_t *realm_random(struct realm *r)
{
    static uint8_t random[16][SM2_WIDE_BYTES];
    static unsigned at;
    uint8_t counter[16];
    uint8_t *out = random[at++ % 16];
    store_be64(counter, r->number);
    store_be64(counter + 8, r->drawn++);
    const struct span parts[] = {SPAN_LITERAL("realm"), span_of(counter, sizeof counter)};
    sm2_kdf(out, SM2_WIDE_BYTES, parts, 2);
    return out;
}

struct ami_id id_of(const char *text)
{
    struct ami_id id;
    AMI_CHECK(ami_id_from_text(&id, text) == AMI_OK);
    return id;
}

struct label label_of(const char *text)
{
    struct label l;
    AMI_CHECK(label_parse(&l, text) == AMI_OK);
    return l;
}

#define WIDE(array) ((const uint8_t(*)[SM2_WIDE_BYTES])(array))

void realm_make(struct realm *r, const char *name, uint64_t number)
{
    static uint8_t seeds[CFL_KEYS_MAX][SM2_WIDE_BYTES];
    uint8_t random[4][SM2_WIDE_BYTES];
    struct ami_id id = id_of(name);
    memset(r, 0, sizeof *r);
    r->number = number;
    for (int i = 0; i < 4; i++)
        memcpy(random[i], realm_random(r), SM2_WIDE_BYTES);
    AMI_CHECK(mdms_keys_make(&r->mdms, &id, SCHEME_DEFAULT, WIDE(random)) == AMI_OK);
    for (int i = 0; i < CFL_KEYS_MAX; i++)
        memcpy(seeds[i], realm_random(r), SM2_WIDE_BYTES);
    AMI_CHECK(cfl_seed_make(&r->seed, CFL_ROWS_MAX, CFL_COLUMNS_MAX, WIDE(seeds)) == AMI_OK);
    cfl_public_of(&r->set, &r->seed);
}

void realm_dc_key(struct realm *r, struct sign_key *key, const char *name, uint32_t epoch)
{
    struct ami_id id = id_of(name);
    const struct network *net = &r->mdms.net;
    scalar d_prime = scalar_from_wide(realm_random(r)), w = scalar_from_wide(realm_random(r)), t;
    point u = point_mul_base(&d_prime), w_point;
    sm3_digest h_a = key_h_a(net, ROLE_DC_SIGN, &id, epoch);
    sm2_implicit_issue(&w_point, &t, &w, &r->mdms.x, &u, &h_a);
    AMI_CHECK(sm2_implicit_accept(&key->private_key, &t, &d_prime, &w_point, &h_a, &net->p_pub) ==
              AMI_OK);
    key->public_key = (struct verify_key){h_a, w_point, key->private_key.p};
}

static void issue_operator(struct realm *r, struct credential *out,
                           const struct credential_identity *who)
{
    struct operator_request request;
    point w;
    scalar t;
    operator_begin(&request, realm_random(r));
    AMI_CHECK(operator_issue(&w, &t, &r->mdms.net, &r->mdms.x, who, &request.u, realm_random(r)) ==
              AMI_OK);
    AMI_CHECK(operator_accept(out, &r->mdms.net, who, &request, &t, &w) == AMI_OK);
}

static void issue_cfl(struct realm *r, struct credential *out,
                      const struct credential_identity *who)
{
    struct cfl_certificate certificate;
    sm2_private rask;
    uint8_t random[2][SM2_WIDE_BYTES];
    memcpy(random[0], realm_random(r), SM2_WIDE_BYTES);
    memcpy(random[1], realm_random(r), SM2_WIDE_BYTES);
    AMI_CHECK(cfl_request(&certificate, &rask, who, WIDE(random)) == AMI_OK);
    AMI_CHECK(cfl_issue(&certificate, &r->seed, realm_random(r)) == AMI_OK);
    AMI_CHECK(cfl_credential(out, &certificate, &rask) == AMI_OK);
}

void realm_credential(struct realm *r, struct credential *out, enum credential_kind kind,
                      const char *name, const char *label, int64_t from_s, int64_t until_s)
{
    struct credential_identity who = {
        .role = label == NULL ? CREDENTIAL_DC : CREDENTIAL_OPERATOR,
        .network = r->mdms.net.id,
        .name = id_of(name),
        .epoch = 1,
        .label = label_of(label == NULL ? "0:" : label),
        .from_s = from_s,
        .until_s = until_s,
    };
    if (kind == CREDENTIAL_CFL) {
        issue_cfl(r, out, &who);
    } else if (label != NULL) {
        issue_operator(r, out, &who);
    } else {
        struct sign_key key;
        realm_dc_key(r, &key, name, 1);
        AMI_CHECK(credential_of_dc(out, &r->mdms.net, &who.name, 1, &key) == AMI_OK);
    }
}

static enum channel_fault party_accept(void *ctx, const struct credential_identity *who)
{
    struct party *p = ctx;
    p->seen = *who;
    p->asked++;
    return p->welcome.size == 0 || ami_id_equal(&p->welcome, &who->name) ? FAULT_NONE
                                                                         : FAULT_UNEXPECTED;
}

static bool party_revoked(void *ctx, const struct credential_identity *who)
{
    const struct party *p = ctx;
    return sm3_equal(&p->revoked, &who->fingerprint);
}

const struct channel_form channel_form_real = {
    .start = channel_start,
    .receive = channel_receive,
    .seal = channel_seal,
    .close = channel_close,
    .cut = channel_cut,
};

void party_make(struct party *p, const struct realm *r, const struct credential *own)
{
    memset(p, 0, sizeof *p);
    p->form = &channel_form_real;
    p->own = *own;
    p->trust = (struct credential_trust){
        .net = &r->mdms.net,
        .kinds = CREDENTIAL_ALL_BITS,
        .cfl = &r->set,
        .revoked = party_revoked,
        .revoked_ctx = p,
    };
    p->config = (struct channel_config){
        .own = &p->own,
        .trust = &p->trust,
        .suites = CHANNEL_SUITES_ALL,
        .accept = party_accept,
        .accept_ctx = p,
    };
}

void frame_copy(struct frame *to, const struct frame *from)
{
    to->size = from->size;
    memcpy(to->b, from->b, from->size);
}

void party_start(struct party *p, bool initiator, struct realm *realm, struct frame *first)
{
    uint8_t random[CHANNEL_RANDOM_BYTES];
    for (size_t at = 0; at < sizeof random; at += SM2_WIDE_BYTES)
        memcpy(random + at, realm_random(realm),
               sizeof random - at < SM2_WIDE_BYTES ? sizeof random - at : SM2_WIDE_BYTES);
    p->form->start(&p->channel, &p->config, initiator, random, SUITE_WALL_MS);
    if (!initiator)
        return;
    channel_first(&p->channel, first->b);
    first->size = CHANNEL_FIRST_BYTES;
}

void pair_start(struct party *i, struct party *r, struct realm *realm, struct frame *first)
{
    party_start(i, true, realm, first);
    party_start(r, false, realm, NULL);
}

struct channel_result deliver(struct party *to, struct frame *in, struct frame *reply)
{
    struct channel_result result =
        to->form->receive(&to->channel, in->b, in->size, reply->b, SUITE_WALL_MS);
    AMI_CHECK(result.reply_size <= CHANNEL_FLIGHT_BYTES_MAX);
    reply->size = result.reply_size;
    return result;
}

bool pair_handshake(struct party *i, struct party *r, struct realm *realm)
{
    struct frame *wire[2];
    static struct frame a, b;
    wire[0] = &a;
    wire[1] = &b;
    pair_start(i, r, realm, wire[0]);
    struct party *to = r;
    bool good = true;
    while (wire[0]->size > 0) {
        struct channel_result result = deliver(to, wire[0], wire[1]);
        good = good && result.event != CHANNEL_FAILED;
        to = to == r ? i : r;
        struct frame *swap = wire[0];
        wire[0] = wire[1];
        wire[1] = swap;
    }
    return good && i->channel.state == CHANNEL_UP && r->channel.state == CHANNEL_UP;
}

void party_seal(struct party *from, struct frame *out, const void *text, size_t size)
{
    AMI_CHECK(size + CHANNEL_OVERHEAD_BYTES_MAX <= sizeof out->b);
    out->size = from->form->seal(&from->channel, out->b, span_of(text, size));
}

bool pair_say(struct party *from, struct party *to, const void *text, size_t size)
{
    static struct frame wire, reply;
    party_seal(from, &wire, text, size);
    struct channel_result result = deliver(to, &wire, &reply);
    return result.event == CHANNEL_DATA && result.data.size == size &&
           (size == 0 || memcmp(result.data.data, text, size) == 0);
}
