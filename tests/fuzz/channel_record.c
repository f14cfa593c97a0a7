/* Records against a model that knows nothing of keys: the next one, as it was sent, is taken; the
 * first one that is anything else ends the channel. The input: suite, then deliveries of two bytes,
 * which record relative to the expected one and what is done to it. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "sim/lab/realm.h"

#include <string.h>

#define RECORDS 64
#define PLAIN   24

struct run {
    struct party initiator, responder;
    struct channel fresh;
    struct {
        size_t size;
        uint8_t b[PLAIN + CHANNEL_OVERHEAD_BYTES_MAX];
    } record[RECORDS];
};

static struct run runs[2];

static void prepare(void)
{
    static bool ready;
    static struct realm realm;
    struct credential one, two;
    if (ready)
        return;
    ready = true;
    AMI_CHECK(crypto_start() == AMI_OK);
    realm_make(&realm, "grid", 1);
    realm_credential(&realm, &one, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    realm_credential(&realm, &two, CREDENTIAL_IMPLICIT, "dc-2", NULL, 0, 0);
    for (uint8_t s = 0; s < 2; s++) {
        struct run *run = &runs[s];
        party_make(&run->initiator, &realm, &one);
        party_make(&run->responder, &realm, &two);
        run->initiator.config.suites = s == 0 ? CHANNEL_SM4_GCM : CHANNEL_SM4_CTR_HMAC;
        AMI_CHECK(pair_handshake(&run->initiator, &run->responder, &realm));
        run->fresh = run->responder.channel;
        for (unsigned n = 0; n < RECORDS; n++) {
            uint8_t plain[PLAIN];
            memset(plain, (int)n, sizeof plain);
            run->record[n].size = channel_seal(&run->initiator.channel, run->record[n].b,
                                               span_of(plain, n % (PLAIN + 1)));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct frame frame, reply;
    prepare();
    if (size == 0)
        return 0;
    struct run *run = &runs[data[0] % 2];
    run->responder.channel = run->fresh;
    unsigned next = 0;
    for (size_t at = 1; at + 1 < size && next < RECORDS; at += 2) {
        const unsigned which = (next + (data[at] < 200 ? 0u : data[at])) % RECORDS;
        bool good = which == next;
        frame.size = run->record[which].size;
        memcpy(frame.b, run->record[which].b, frame.size);
        if (data[at + 1] >= 200 && data[at + 1] < 230) {
            frame.b[data[at + 1] % frame.size] ^= (uint8_t)(1 << data[at] % 8);
            good = false;
        } else if (data[at + 1] >= 230) {
            size_t cut = data[at + 1] - 230u;
            good = good && cut == 0;
            frame.size = cut < frame.size ? frame.size - cut : 0;
        }
        struct channel_result result = deliver(&run->responder, &frame, &reply);
        AMI_CHECK((result.event == CHANNEL_DATA) == good);
        if (!good) {
            AMI_CHECK(channel_why(&run->responder.channel) == FAULT_RECORD && reply.size > 1);
            return 0;
        }
        AMI_CHECK(result.data.size == which % (PLAIN + 1));
        for (size_t n = 0; n < result.data.size; n++)
            AMI_CHECK(result.data.data[n] == which);
        next++;
    }
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    const size_t size = 1 + 2 * (1 + index % RECORDS);
    uint64_t state = index;
    if (capacity < size)
        return 0;
    for (size_t n = 0; n < size; n++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        out[n] = (uint8_t)((state >> 56) % (index % 3 == 0 ? 256 : 202));
    }
    return size;
}
