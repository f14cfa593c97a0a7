/* What operators ask with and are answered with, the first byte says which: requests, answers, key
 * files. What is read prints as it was; a request that was not signed is not good, and no answer
 * but the MDMS's makes a credential. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "channel/request.h"
#include "crypto/secret.h"
#include "sim/lab/realm.h"

#include <string.h>

#define KINDS  2
#define THINGS 3 /* request, answer, key file */

static struct realm realm;
static struct credential_key key[KINDS];
static uint8_t made[THINGS][KINDS][CREDENTIAL_KEY_BYTES_MAX];
static size_t made_size[THINGS][KINDS];

static void prepare(void)
{
    static const enum credential_kind kinds[KINDS] = {CREDENTIAL_IMPLICIT, CREDENTIAL_CFL};
    struct credential_answer answer;
    if (made_size[0][0] != 0)
        return;
    AMI_CHECK(crypto_start() == AMI_OK);
    realm_make(&realm, "grid", 1);
    const struct network *net = &realm.mdms.net;
    for (int k = 0; k < KINDS; k++) {
        const struct credential_identity who = {.kind = kinds[k],
                                                .role = CREDENTIAL_OPERATOR,
                                                .name = id_of("alice"),
                                                .epoch = 1,
                                                .label = label_of("2:ledger")};
        const uint8_t random[2][SM2_WIDE_BYTES] = {{1, (uint8_t)k}, {2, (uint8_t)k}};
        AMI_CHECK(credential_request_make(&key[k], net, &who, random) == AMI_OK);
        if (kinds[k] == CREDENTIAL_CFL) {
            struct cfl_certificate certificate = credential_request_cfl(&key[k].request);
            AMI_CHECK(cfl_issue(&certificate, &realm.seed, realm_random(&realm)) == AMI_OK);
            credential_answer_cfl(&answer, &certificate);
        } else
            AMI_CHECK(credential_answer_implicit(&answer, &key[k].request, who.label, net,
                                                 &realm.mdms.x, realm_random(&realm)) == AMI_OK);
        made_size[0][k] = credential_request_encode(made[0][k], &key[k].request);
        made_size[1][k] = credential_answer_encode(made[1][k], &answer);
        made_size[2][k] = credential_key_encode(made[2][k], &key[k]);
    }
}

/* Is it what was made above? */
static bool genuine(int thing, struct span in)
{
    for (int k = 0; k < KINDS; k++)
        if (span_equal(in, span_of(made[thing][k], made_size[thing][k])))
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t again[CREDENTIAL_KEY_BYTES_MAX];
    struct credential_request request;
    struct credential_answer answer;
    struct credential_key back;
    struct credential own;
    prepare();
    if (size == 0)
        return 0;
    const struct span in = span_of(data + 1, size - 1);
    const int thing = data[0] % THINGS;
    const bool same = genuine(thing, in);
    if (thing == 0 && credential_request_parse(&request, in) == AMI_OK) {
        AMI_CHECK(span_equal(span_of(again, credential_request_encode(again, &request)), in));
        AMI_CHECK((credential_request_check(&request) == AMI_OK) == same);
    } else if (thing == 1 && credential_answer_parse(&answer, in) == AMI_OK) {
        AMI_CHECK(span_equal(span_of(again, credential_answer_encode(again, &answer)), in));
        const int k = answer.who.kind == CREDENTIAL_CFL;
        AMI_CHECK((credential_answer_accept(&own, &answer, &key[k], &realm.set) == AMI_OK) == same);
    } else if (thing == 2 && credential_key_parse(&back, in) == AMI_OK) {
        AMI_CHECK(span_equal(span_of(again, credential_key_encode(again, &back)), in));
    } else
        AMI_CHECK(!same);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    prepare();
    const size_t thing = index % THINGS, k = index / THINGS % KINDS;
    if (made_size[thing][k] + 1 > capacity)
        return 0;
    out[0] = (uint8_t)thing;
    memcpy(out + 1, made[thing][k], made_size[thing][k]);
    return made_size[thing][k] + 1;
}
