/* A session against a model that knows nothing of keys: which counts were seen, and which of the
 * W before the highest were skipped. The input is a list of deliveries, two bytes each: how far
 * from the next expected count the delivered message lies, and what is done to it. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "tests/keyagree/support.h"

#include <string.h>

#define MESSAGES 256
#define PLAIN    20

struct delivery {
    struct session_data data;
    uint8_t bytes[PLAIN + GCM_TAG_BYTES];
};

static struct delivery sent[MESSAGES];
static struct session fresh; /* the receiver before anything came */

static void prepare(void)
{
    static bool ready;
    if (ready)
        return;
    ready = true;
    AMI_CHECK(crypto_start() == AMI_OK);
    const uint8_t k[AGREE_KEY_BYTES] = {9, 8, 7};
    const struct agree_terms terms = {
        .meter = name_of("m"), .epoch = 1, .dc = name_of("d"), .dc_epoch = 1, .session = 77};
    struct session sender;
    session_begin(&sender, true, k, &terms, MESSAGES, 1000000, 0);
    session_begin(&fresh, false, k, &terms, MESSAGES, 1000000, 0);
    for (unsigned i = 0; i < MESSAGES; i++) {
        uint8_t plain[PLAIN];
        memset(plain, (int)i, sizeof plain);
        AMI_CHECK(session_seal(&sender, &sent[i].data, sent[i].bytes, 1,
                               span_of(plain, sizeof plain), 0) == AMI_OK);
    }
}

/* What must happen, by the rules alone. */
static enum ami_status expected(const bool *seen, uint64_t next, uint64_t count, bool intact)
{
    if (count >= MESSAGES)
        return AMI_SESSION_ENDED;
    if (count > next + SESSION_WINDOW)
        return AMI_SEQUENCE_AHEAD;
    if (count < next && (seen[count] || next - 1 - count > SESSION_WINDOW))
        return AMI_REPLAYED;
    return intact ? AMI_OK : AMI_BAD_CRYPTO;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct session receiver;
    bool seen[MESSAGES] = {false};
    uint64_t next = 0;
    prepare();
    receiver = fresh;
    for (size_t i = 0; i + 1 < size && i < 1024; i += 2) {
        int64_t wanted = (int64_t)next + (int8_t)data[i] % 16;
        uint64_t count = wanted < 0 ? 0 : (uint64_t)wanted;
        struct delivery d = sent[count % MESSAGES];
        d.data.count = count;
        d.data.sealed.data = d.bytes;
        bool intact = true;
        switch (data[i + 1] % 8) {
        case 0:
            d.bytes[data[i + 1] / 8 % sizeof d.bytes] ^= 1;
            intact = false;
            break;
        case 1:
            d.data.kind++;
            intact = false;
            break;
        case 2:
            d.data.sealed.size = data[i + 1] / 8;
            intact = false;
            break;
        default:
            break;
        }
        const struct session before = receiver;
        uint8_t plain[sizeof d.bytes];
        size_t plain_size = 0;
        enum ami_status want = expected(seen, next, count, intact);
        enum ami_status got = session_open(&receiver, plain, &plain_size, &d.data, 0);
        /* A message shorter than a tag is refused before its count is looked at. */
        if (d.data.sealed.size < GCM_TAG_BYTES && count < MESSAGES)
            want = AMI_BAD_CRYPTO;
        AMI_CHECK(got == want);
        if (got != AMI_OK) {
            AMI_CHECK(memcmp(&before, &receiver, sizeof before) == 0);
            continue;
        }
        AMI_CHECK(plain_size == PLAIN && plain[0] == (uint8_t)count);
        seen[count] = true;
        if (count >= next)
            next = count + 1;
        AMI_CHECK(receiver.receive.next == next);
    }
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    size_t size = 64 + index % 64;
    if (capacity < size)
        return 0;
    uint64_t state = index;
    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        out[i] = (uint8_t)(state >> 56);
    }
    return size;
}
