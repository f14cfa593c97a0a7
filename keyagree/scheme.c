/* The table of schemes, and what every agreement has in common: which flight 2 answers which
 * flight 1, and for which chain. */
#include "keyagree/internal.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

/* One line per scheme. */
static const struct scheme *const schemes[] = {
    &scheme_liu2023,
    &scheme_sm2kx,
};
#define SCHEME_COUNT (sizeof schemes / sizeof schemes[0])

_Static_assert(AGREE_PART_BYTES <= AMI_SCHEME_PART_BYTES_MAX, "fits U");
_Static_assert(AGREE_SECRET_BYTES <= AMI_SCHEME_PART_BYTES_MAX, "fits the reply");
_Static_assert(AGREE_FLIGHT2_BYTES <= AMI_FLIGHT_BYTES_MAX, "fits the wire");

static const struct scheme *brought[SCHEMES_BROUGHT_MAX];
static size_t brought_count;

const struct scheme *scheme_at(size_t index)
{
    return index < SCHEME_COUNT ? schemes[index] : NULL;
}

const struct scheme *scheme_by_number(unsigned number)
{
    for (size_t i = 0; i < SCHEME_COUNT; i++)
        if (schemes[i]->number == number)
            return schemes[i];
    for (size_t i = 0; i < brought_count; i++)
        if (brought[i]->number == number)
            return brought[i];
    return NULL;
}

const struct scheme *scheme_by_name(const char *name)
{
    for (size_t i = 0; i < SCHEME_COUNT; i++)
        if (strcmp(schemes[i]->name, name) == 0)
            return schemes[i];
    for (size_t i = 0; i < brought_count; i++)
        if (strcmp(brought[i]->name, name) == 0)
            return brought[i];
    return NULL;
}

void scheme_bring(const struct scheme *scheme)
{
    AMI_CHECK(scheme_by_number(scheme->number) == NULL && scheme_by_name(scheme->name) == NULL);
    AMI_CHECK(brought_count < SCHEMES_BROUGHT_MAX);
    brought[brought_count++] = scheme;
}

static const struct scheme *scheme_of(const struct agree_key *key)
{
    const struct scheme *scheme = scheme_by_number(key->scheme);
    AMI_CHECK(scheme != NULL);
    return scheme;
}

enum ami_status agree_peer_init(struct agree_peer *out, const struct scheme *scheme,
                                const struct network *net, const struct ami_id *meter,
                                uint32_t epoch, struct span part)
{
    const struct agree_peer_in one = {meter, epoch, part};
    enum ami_status status;
    agree_peer_init_batch(out, &status, scheme, net, &one, 1);
    return status;
}

void agree_peer_init_batch(struct agree_peer *out, enum ami_status *status,
                           const struct scheme *scheme, const struct network *net,
                           const struct agree_peer_in *in, size_t count)
{
    memset(out, 0, count * sizeof *out);
    for (size_t done = 0; done < count; done += AGREE_CHUNK) {
        size_t size = count - done < AGREE_CHUNK ? count - done : AGREE_CHUNK;
        if (scheme->peer_init_batch != NULL)
            scheme->peer_init_batch(out + done, status + done, net, in + done, size);
        for (size_t i = done; scheme->peer_init_batch == NULL && i < done + size; i++)
            status[i] = scheme->peer_init(&out[i], net, in[i].meter, in[i].epoch, in[i].part);
    }
}

/* --- meter ------------------------------------------------------------------------------------ */

enum ami_status agree_meter_start(struct agree_state *state, const struct agree_key *key,
                                  uint32_t tag, bool insist, const uint8_t random[SM2_WIDE_BYTES])
{
    AMI_CHECK(key->role == ROLE_METER_AGREE);
    memset(state, 0, sizeof *state);
    enum ami_status status = scheme_of(key)->meter_start(state, key, random);
    if (status != AMI_OK) {
        secret_wipe(state, sizeof *state);
        return status;
    }
    state->open = true;
    state->tag = tag;
    state->insist = insist ? 1 : 0;
    return AMI_OK;
}

struct agree_flight1 agree_flight1_of(const struct agree_state *state, const struct agree_key *key)
{
    AMI_CHECK(state->open);
    return (struct agree_flight1){
        .meter = key->name,
        .epoch = key->epoch,
        .tag = state->tag,
        .insist = state->insist,
        .flight = span_of(state->flight, state->flight_size),
    };
}

/* Is this flight 2 the answer to what the meter asked? Fills in the terms. */
static enum ami_status check_flight2(struct agree_result *out, const struct agree_meter_in *x,
                                     const sm3_digest *chain)
{
    const struct agree_flight2 *in = x->in;
    if (!x->state->open || in->tag != x->state->tag || !ami_id_equal(&in->meter, &x->key->name))
        return AMI_NO_SESSION;
    if (!sm3_equal(&in->chain, chain))
        return AMI_WRONG_CHAIN;
    if (in->scheme != x->key->scheme)
        return AMI_WRONG_SCHEME;
    out->terms = (struct agree_terms){
        .meter = x->key->name,
        .epoch = x->key->epoch,
        .tag = x->state->tag,
        .insist = x->state->insist,
        .chain = *chain,
        .scheme = x->key->scheme,
        .term = in->term,
        .session = in->session,
        .dc = in->dc,
        .dc_epoch = in->dc_epoch,
    };
    return AMI_OK;
}

void agree_meter_answer_batch(struct agree_result *out, enum ami_status *status,
                              const struct agree_meter_in *in, const struct network *net,
                              const sm3_digest *chain, size_t count)
{
    memset(out, 0, count * sizeof *out);
    for (size_t i = 0; i < count; i++) {
        AMI_CHECK(in[i].key->scheme == in[0].key->scheme);
        status[i] = check_flight2(&out[i], &in[i], chain);
    }
    const struct scheme *scheme = count == 0 ? NULL : scheme_of(in[0].key);
    for (size_t done = 0; done < count; done += AGREE_CHUNK) {
        size_t size = count - done < AGREE_CHUNK ? count - done : AGREE_CHUNK;
        if (scheme->meter_answer_batch != NULL)
            scheme->meter_answer_batch(out + done, status + done, in + done, net, size);
        for (size_t i = done; scheme->meter_answer_batch == NULL && i < done + size; i++)
            if (status[i] == AMI_OK)
                status[i] =
                    scheme->meter_answer(&out[i], in[i].state, net, in[i].key, in[i].in->flight);
    }
    for (size_t i = 0; i < count; i++) {
        if (status[i] == AMI_OK)
            secret_wipe(in[i].state, sizeof *in[i].state);
        else
            secret_wipe(&out[i], sizeof out[i]);
    }
}

enum ami_status agree_meter_answer(struct agree_result *out, struct agree_state *state,
                                   const struct network *net, const struct agree_key *key,
                                   const sm3_digest *chain, const struct agree_flight2 *in)
{
    const struct agree_meter_in one = {state, key, in};
    enum ami_status status;
    agree_meter_answer_batch(out, &status, &one, net, chain, 1);
    return status;
}

struct agree_flight3 agree_flight3_of(const struct agree_result *out)
{
    return (struct agree_flight3){
        .session = out->terms.session,
        .flight = span_of(out->flight, out->flight_size),
    };
}

/* --- DC --------------------------------------------------------------------------------------- */

struct agree_terms agree_terms_for(const struct agree_flight1 *in, const struct agree_key *dc,
                                   const sm3_digest *chain, uint64_t term, uint64_t session)
{
    return (struct agree_terms){
        .meter = in->meter,
        .epoch = in->epoch,
        .tag = in->tag,
        .insist = in->insist,
        .chain = *chain,
        .scheme = dc->scheme,
        .term = term,
        .session = session,
        .dc = dc->name,
        .dc_epoch = dc->epoch,
    };
}

void agree_answer_batch(struct agree_answer *out, const struct network *net,
                        const struct agree_key *key, const struct point_table *p_pub,
                        const struct agree_request *in, size_t count)
{
    const struct scheme *scheme = scheme_of(key);
    AMI_CHECK(key->role == ROLE_DC_AGREE);
    AMI_CHECK(!scheme->needs_p_pub_table || p_pub != NULL);
    for (size_t i = 0; i < count; i++)
        AMI_CHECK(in[i].terms.scheme == key->scheme && in[i].terms.dc_epoch == key->epoch &&
                  ami_id_equal(&in[i].terms.dc, &key->name));
    memset(out, 0, count * sizeof *out);
    for (size_t done = 0; done < count; done += AGREE_CHUNK) {
        size_t size = count - done < AGREE_CHUNK ? count - done : AGREE_CHUNK;
        scheme->dc_answer(out + done, net, key, p_pub, in + done, size);
    }
    for (size_t i = 0; i < count; i++) {
        if (out[i].status == AMI_OK)
            continue;
        enum ami_status status = out[i].status;
        secret_wipe(&out[i], sizeof out[i]);
        out[i].status = status;
    }
}

static struct agree_flight2 flight2_under(const struct agree_terms *terms, struct span flight)
{
    return (struct agree_flight2){
        .meter = terms->meter,
        .tag = terms->tag,
        .chain = terms->chain,
        .scheme = terms->scheme,
        .term = terms->term,
        .session = terms->session,
        .dc = terms->dc,
        .dc_epoch = terms->dc_epoch,
        .flight = flight,
    };
}

struct agree_flight2 agree_flight2_of(const struct agree_terms *terms,
                                      const struct agree_answer *out)
{
    return flight2_under(terms, span_of(out->flight, out->flight_size));
}

void agree_transcript(struct writer *w, const struct agree_terms *terms, struct span flight1,
                      struct span flight2)
{
    const struct agree_flight1 f1 = {
        .meter = terms->meter,
        .epoch = terms->epoch,
        .tag = terms->tag,
        .insist = terms->insist,
        .flight = flight1,
    };
    const struct agree_flight2 f2 = flight2_under(terms, flight2);
    agree_flight1_encode(w, &f1);
    agree_flight2_encode(w, &f2);
}

enum ami_status agree_confirm(const struct agree_pending *pending, struct span flight3)
{
    if (pending->expected_size == 0 || flight3.size != pending->expected_size ||
        !secret_equal(flight3.data, pending->expected, pending->expected_size))
        return AMI_BAD_CRYPTO;
    return AMI_OK;
}
