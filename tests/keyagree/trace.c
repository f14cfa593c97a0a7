/* Runs issuance, an agreement and a few session messages from fixed random bytes under every scheme
 * and prints every value; oracle.py computes the same from the documents alone and compares.
 *
 * Random bytes number i are the SM2 KDF of "amiledger trace", scheme u8, i u32. */
#include "keyagree/keyfile.h"
#include "keyagree/session.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <stdio.h>
#include <string.h>

static uint8_t random_bytes[4][SM2_WIDE_BYTES];

static const uint8_t *draw(const struct scheme *s, uint32_t number)
{
    uint8_t tail[5] = {s->number};
    uint8_t *out = random_bytes[number % 4];
    store_be32(tail + 1, number);
    const struct span parts[] = {SPAN_LITERAL("amiledger trace"), span_of(tail, sizeof tail)};
    sm2_kdf(out, SM2_WIDE_BYTES, parts, 2);
    return out;
}

static void put(const struct scheme *s, const char *name, const void *data, size_t size)
{
    printf("%s.%s=", s->name, name);
    for (size_t i = 0; i < size; i++)
        printf("%02x", ((const uint8_t *)data)[i]);
    printf("\n");
}

static void put_scalar(const struct scheme *s, const char *name, const scalar *k)
{
    uint8_t bytes[SM2_SCALAR_BYTES];
    scalar_encode(bytes, k);
    put(s, name, bytes, sizeof bytes);
}

static struct ami_id id_of(const char *text)
{
    struct ami_id id;
    AMI_CHECK(ami_id_from_text(&id, text) == AMI_OK);
    return id;
}

static void issue(const struct scheme *s, const struct mdms_keys *mdms, struct agree_key *key,
                  struct agree_part *part, enum key_role role, const char *name, uint32_t epoch,
                  struct span home, uint32_t number)
{
    struct agree_enrolling begun;
    struct agree_secret secret;
    struct ami_id id = id_of(name);
    s->device_begin(&begun, role, draw(s, number));
    AMI_CHECK(s->mdms_issue(&secret, part, &mdms->net, &mdms->x, role, &id, epoch, home,
                            agree_part_span(&begun.request), draw(s, number + 1)) == AMI_OK);
    AMI_CHECK(s->device_accept(key, &begun, &mdms->net, role, &id, epoch,
                               span_of(secret.b, secret.size), agree_part_span(part)) == AMI_OK);
    const char *who = role == ROLE_DC_AGREE ? "dc" : "meter";
    char label[32];
    snprintf(label, sizeof label, "%s.request", who);
    put(s, label, begun.request.b, begun.request.size);
    snprintf(label, sizeof label, "%s.secret", who);
    put(s, label, secret.b, secret.size);
    snprintf(label, sizeof label, "%s.part", who);
    put(s, label, part->b, part->size);
    snprintf(label, sizeof label, "%s.d", who);
    put_scalar(s, label, &key->d);
}

static void send_some(const struct scheme *s, struct session *from, struct session *to,
                      const char *direction)
{
    static const char *const texts[] = {"", "first reading", "a second one, longer than a block"};
    for (unsigned i = 0; i < 3; i++) {
        uint8_t buffer[128], plain[128];
        struct session_data data;
        size_t size;
        char label[32];
        snprintf(label, sizeof label, "%s.%u", direction, i);
        AMI_CHECK(session_seal(from, &data, buffer, (uint8_t)(i + 1),
                               span_of(texts[i], strlen(texts[i])), 0) == AMI_OK);
        put(s, label, data.sealed.data, data.sealed.size);
        AMI_CHECK(session_open(to, plain, &size, &data, 0) == AMI_OK && size == strlen(texts[i]) &&
                  memcmp(plain, texts[i], size) == 0);
    }
}

static void trace(const struct scheme *s)
{
    uint8_t random[4][SM2_WIDE_BYTES];
    struct mdms_keys mdms;
    struct ami_id name = id_of("trace");
    for (uint32_t i = 0; i < 4; i++)
        memcpy(random[i], draw(s, i), SM2_WIDE_BYTES);
    AMI_CHECK(mdms_keys_make(&mdms, &name, s->number, (const uint8_t(*)[SM2_WIDE_BYTES])random) ==
              AMI_OK);
    put(s, "network", mdms.net.id.b, SM3_BYTES);
    put_scalar(s, "x", &mdms.x);

    struct agree_key dc, meter;
    struct agree_part dc_part, meter_part;
    struct agree_peer peer;
    issue(s, &mdms, &dc, &dc_part, ROLE_DC_AGREE, "dc-7", 2, span_of(NULL, 0), 10);
    issue(s, &mdms, &meter, &meter_part, ROLE_METER_AGREE, "MAC000123", 5,
          agree_part_span(&dc_part), 20);
    AMI_CHECK(agree_peer_init(&peer, s, &mdms.net, &meter.name, meter.epoch,
                              agree_part_span(&meter_part)) == AMI_OK);

    struct agree_state state;
    struct agree_request request = {.peer = &peer};
    struct agree_answer answer;
    struct agree_result result;
    sm3_digest chain;
    memset(chain.b, 0xab, sizeof chain.b);
    AMI_CHECK(agree_meter_start(&state, &meter, 0x01020304, true, draw(s, 30)) == AMI_OK);
    struct agree_flight1 f1 = agree_flight1_of(&state, &meter);
    put(s, "flight1", f1.flight.data, f1.flight.size);
    request.terms = agree_terms_for(&f1, &dc, &chain, 17, UINT64_C(0x1112131415161718));
    request.flight = f1.flight;
    memcpy(request.random, draw(s, 31), SM2_WIDE_BYTES);
    struct point_table *table = point_table_new(&mdms.net.p_pub);
    AMI_CHECK(table != NULL);
    agree_answer_batch(&answer, &mdms.net, &dc, table, &request, 1);
    point_table_free(table);
    AMI_CHECK(answer.status == AMI_OK);
    put(s, "flight2", answer.flight, answer.flight_size);
    struct agree_flight2 f2 = agree_flight2_of(&request.terms, &answer);
    AMI_CHECK(agree_meter_answer(&result, &state, &mdms.net, &meter, &chain, &f2) == AMI_OK);
    put(s, "flight3", result.flight, result.flight_size);
    put(s, "k", result.k, sizeof result.k);
    AMI_CHECK(agree_confirm(&answer.pending, agree_flight3_of(&result).flight) == AMI_OK);

    struct session at_meter, at_dc;
    session_begin(&at_meter, true, result.k, &result.terms, 100, 100, 0);
    session_begin(&at_dc, false, answer.pending.k, &request.terms, 100, 100, 0);
    put(s, "parties", at_meter.parties.b, SM3_BYTES);
    send_some(s, &at_meter, &at_dc, "up");
    send_some(s, &at_dc, &at_meter, "down");
}

int main(void)
{
    AMI_CHECK(crypto_start() == AMI_OK);
    for (size_t i = 0; scheme_at(i) != NULL; i++)
        trace(scheme_at(i));
    return 0;
}
