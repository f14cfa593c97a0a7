#include "channel/internal.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

_Static_assert(sizeof(struct channel) <= 1024, "thousands of strangers must fit");

const char *channel_suite_name(uint8_t suite)
{
    switch (suite) {
    case CHANNEL_SM4_GCM:
        return "sm4-gcm";
    case CHANNEL_SM4_CTR_HMAC:
        return "sm4-ctr-hmac-sm3";
    default:
        return "unknown";
    }
}

enum ami_status channel_suites_parse(uint8_t *out, const char *text)
{
    static const uint8_t suites[] = {CHANNEL_SM4_GCM, CHANNEL_SM4_CTR_HMAC};
    uint8_t set = 0;
    for (const char *at = text;; at++) {
        const size_t size = strcspn(at, ",");
        uint8_t found = 0;
        for (size_t i = 0; i < sizeof suites; i++) {
            const char *name = channel_suite_name(suites[i]);
            if (strlen(name) == size && memcmp(name, at, size) == 0)
                found = suites[i];
        }
        if (found == 0 || (set & found) != 0)
            return AMI_BAD_ARGUMENT;
        set |= found;
        at += size;
        if (*at == '\0')
            break;
    }
    *out = set;
    return AMI_OK;
}

const char *channel_standing_text(enum channel_standing standing)
{
    return standing == CHANNEL_PROVEN ? "; who=" : standing == CHANNEL_CLAIMED ? "; claimed=" : "";
}

void channel_start(struct channel *c, const struct channel_config *config, bool initiator,
                   const uint8_t random[CHANNEL_RANDOM_BYTES], int64_t wall_ms)
{
    static const char label[] = "amiledger channel random v1";
    uint8_t time_be[8], drawn[CHANNEL_RANDOM_BYTES];
    AMI_CHECK((config->suites & CHANNEL_SUITES_ALL) == config->suites && config->suites != 0);
    store_be64(time_be, (uint64_t)wall_ms);
    const struct span parts[] = {span_of(label, sizeof label),
                                 span_of(random, CHANNEL_RANDOM_BYTES),
                                 span_of(time_be, sizeof time_be)};
    sm2_kdf(drawn, sizeof drawn, parts, 3);
    memset(c, 0, sizeof *c);
    c->config = config;
    c->initiator = initiator;
    c->wall_ms = wall_ms;
    c->state = initiator ? CHANNEL_EXPECT_ANSWER : CHANNEL_EXPECT_FIRST;
    memcpy(c->nonce, drawn, sizeof c->nonce);
    c->secret = scalar_from_wide(drawn + sizeof c->nonce);
    memcpy(c->sign_random, drawn + sizeof c->nonce + SM2_WIDE_BYTES, SM2_WIDE_BYTES);
    secret_wipe(drawn, sizeof drawn);
}

void channel_wipe(struct channel *c)
{
    secret_wipe(c, sizeof *c);
}

/* Secrets go at once; who it was and why stay. */
static void down(struct channel *c, enum channel_fault fault)
{
    c->state = CHANNEL_DOWN;
    c->fault = fault;
    secret_wipe(&c->secret, sizeof c->secret);
    secret_wipe(&c->shared, sizeof c->shared);
    secret_wipe(&c->send, sizeof c->send);
    secret_wipe(&c->receive, sizeof c->receive);
    secret_wipe(c->sign_random, sizeof c->sign_random);
}

/* One byte, the same for every reason, and in the clear as long as the two may not have the same
 * keys: whose flight did not fit could open nothing else. Behind the handshake, a record. */
static struct channel_result fail(struct channel *c, enum channel_fault fault, uint8_t *reply)
{
    struct channel_result result = {.event = CHANNEL_FAILED};
    if (fault == FAULT_REFUSED || fault == FAULT_ERROR) {
        /* The other side knows. */
    } else if (c->state == CHANNEL_UP || c->state == CHANNEL_EXPECT_READY) {
        result.reply_size = record_seal(c, reply, RECORD_ERROR, span_of(NULL, 0));
    } else {
        reply[0] = CHANNEL_FRAME_ALERT;
        result.reply_size = 1;
    }
    down(c, fault);
    return result;
}

static struct channel_result on_record(struct channel *c, uint8_t *frame, size_t size,
                                       uint8_t *reply)
{
    struct channel_result result = {.event = CHANNEL_NOTHING};
    enum record_type type;
    size_t plain_size = 0;
    if (size > CHANNEL_PLAIN_BYTES_MAX + CHANNEL_OVERHEAD_BYTES_MAX)
        return fail(c, FAULT_TOO_LARGE, reply);
    enum channel_fault fault = record_open(c, frame, size, &type, &plain_size);
    if (fault != FAULT_NONE)
        return fail(c, fault, reply);
    const bool waiting = c->state == CHANNEL_EXPECT_READY;
    if (type == RECORD_ERROR)
        return fail(c, FAULT_ERROR, reply);
    if (type == RECORD_CLOSE && plain_size == 0 && !waiting) {
        down(c, FAULT_NONE);
        result.event = CHANNEL_CLOSED;
    } else if (type == RECORD_READY && plain_size == 0 && waiting) {
        c->state = CHANNEL_UP;
        result.event = CHANNEL_OPEN;
    } else if (type == RECORD_DATA && !waiting) {
        result.event = CHANNEL_DATA;
        result.data = span_of(frame, plain_size);
    } else {
        return fail(c, FAULT_RECORD, reply);
    }
    return result;
}

struct channel_result channel_receive(struct channel *c, uint8_t *frame, size_t size,
                                      uint8_t *reply, int64_t wall_ms)
{
    struct channel_result result = {.event = CHANNEL_NOTHING};
    enum channel_fault fault = FAULT_ENCODING;
    c->wall_ms = wall_ms;
    if (c->state == CHANNEL_IDLE || c->state == CHANNEL_DOWN) {
        result.event = CHANNEL_FAILED;
        return result;
    }
    /* Before the first record a refusal comes in the clear; a forged one ends a channel that
     * whoever can forge it could have cut as well. */
    if (size == 1 && frame[0] == CHANNEL_FRAME_ALERT && c->state != CHANNEL_UP)
        return fail(c, FAULT_REFUSED, reply);
    switch (c->state) {
    case CHANNEL_EXPECT_FIRST:
        fault = handshake_answer(c, frame, size, reply, &result.reply_size);
        break;
    case CHANNEL_EXPECT_ANSWER:
        fault = handshake_finish(c, frame, size, reply, &result.reply_size, &result.shown);
        break;
    case CHANNEL_EXPECT_FINISH:
        fault = handshake_accept(c, frame, size, &result.shown);
        if (fault == FAULT_NONE) {
            c->state = CHANNEL_UP;
            result.reply_size = record_seal(c, reply, RECORD_READY, span_of(NULL, 0));
            result.event = CHANNEL_OPEN;
        }
        break;
    default:
        return on_record(c, frame, size, reply);
    }
    return fault == FAULT_NONE ? result : fail(c, fault, reply);
}

uint32_t channel_cost(const struct channel *c, const uint8_t *frame, size_t size)
{
    const sm3_digest *network = &c->config->trust->net->id;
    if (c->state == CHANNEL_EXPECT_FIRST)
        return size == CHANNEL_FIRST_BYTES && frame[0] == CHANNEL_FRAME_FIRST &&
                       frame[1] == CHANNEL_VERSION && memcmp(frame + 4, network->b, SM3_BYTES) == 0
                   ? 1
                   : 0;
    if (c->state != CHANNEL_EXPECT_FINISH || size < 2 || frame[0] != CHANNEL_FRAME_FINISH)
        return 0;
    switch (frame[1]) {
    case CREDENTIAL_X509:
        return c->config->trust->x509 != NULL ? CHANNEL_COST_X509 : 1;
    case CREDENTIAL_CFL:
        return c->config->trust->cfl != NULL ? CHANNEL_COST_CFL : 1;
    default:
        return CHANNEL_COST_IMPLICIT;
    }
}

size_t channel_seal(struct channel *c, uint8_t *out, struct span plain)
{
    AMI_CHECK(c->state == CHANNEL_UP && plain.size <= CHANNEL_PLAIN_BYTES_MAX);
    return record_seal(c, out, RECORD_DATA, plain);
}

size_t channel_close(struct channel *c, uint8_t out[CHANNEL_OVERHEAD_BYTES_MAX])
{
    if (c->state != CHANNEL_UP)
        return 0;
    size_t size = record_seal(c, out, RECORD_CLOSE, span_of(NULL, 0));
    down(c, FAULT_NONE);
    return size;
}

struct channel_result channel_judge(struct channel *c, struct span shown, uint8_t *reply,
                                    int64_t wall_ms)
{
    const struct channel_result good = {.event = CHANNEL_NOTHING};
    AMI_CHECK(c->state == CHANNEL_UP && c->welcome);
    const enum channel_fault fault = credential_again(&c->peer, shown, c->config->trust, wall_ms);
    return fault == FAULT_NONE ? good : fail(c, fault, reply);
}

enum channel_fault channel_cut(struct channel *c)
{
    if (c->state != CHANNEL_DOWN && c->state != CHANNEL_IDLE)
        down(c, FAULT_CUT);
    return c->fault;
}

enum channel_fault channel_why(const struct channel *c)
{
    return c->fault;
}

const struct credential_identity *channel_peer(const struct channel *c)
{
    return c->welcome ? &c->peer : NULL;
}

enum channel_standing channel_claimant(const struct channel *c,
                                       const struct credential_identity **who)
{
    *who = c->standing == CHANNEL_UNKNOWN ? NULL : &c->peer;
    return c->standing;
}
