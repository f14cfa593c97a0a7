/* Frames of a handshake from somebody who is not the peer. The first byte says where they arrive:
 *
 *   0  as first flight: what it is answered with must not satisfy the initiator that did not send
 * it 1  as answer to an initiator, 2 as third flight to a responder, 3 as READY to an initiator:
 *      nothing but the genuine bytes may be taken
 *   4  a peer that holds a key and seals anything it likes as its credential, of the kind in the
 *      second byte: nobody is let in but with the credential that the peer has
 */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "sim/lab/realm.h"

#include <string.h>

#define PLACES 5

static struct realm realm;
static struct party initiator, responder, cheat;
static struct channel initiator_at[PLACES], responder_at[PLACES];
static struct frame genuine[4];

static void prepare(void)
{
    static bool ready;
    struct credential one, two, three;
    if (ready)
        return;
    ready = true;
    AMI_CHECK(crypto_start() == AMI_OK);
    realm_make(&realm, "grid", 1);
    realm_credential(&realm, &one, CREDENTIAL_IMPLICIT, "dc-1", NULL, 0, 0);
    realm_credential(&realm, &two, CREDENTIAL_CFL, "dc-2", NULL, 0, 0);
    realm_credential(&realm, &three, CREDENTIAL_IMPLICIT, "eve", "1:", 0, 0);
    party_make(&initiator, &realm, &one);
    party_make(&responder, &realm, &two);
    party_make(&cheat, &realm, &three);
    pair_start(&initiator, &responder, &realm, &genuine[0]);
    for (int n = 0; n < 4; n++) {
        struct frame frame = genuine[n], reply;
        initiator_at[n] = initiator.channel;
        responder_at[n] = responder.channel;
        AMI_CHECK(deliver(n % 2 == 0 ? &responder : &initiator, &frame, &reply).event !=
                  CHANNEL_FAILED);
        if (n < 3)
            genuine[n + 1] = reply;
    }
}

static bool is_genuine(const struct frame *f, int n)
{
    return f->size == genuine[n].size && memcmp(f->b, genuine[n].b, f->size) == 0;
}

static void cheating_peer(uint8_t kind, const uint8_t *data, size_t size)
{
    static struct frame a, b;
    struct credential honest = cheat.own;
    const bool own = kind == CREDENTIAL_IMPLICIT && size == honest.shown_size &&
                     memcmp(data, honest.shown, size) == 0;
    if (size > CREDENTIAL_BYTES_MAX)
        return;
    memcpy(cheat.own.shown, data, size);
    cheat.own.shown_size = size;
    pair_start(&cheat, &responder, &realm, &a);
    AMI_CHECK(deliver(&responder, &a, &b).event == CHANNEL_NOTHING);
    AMI_CHECK(deliver(&cheat, &b, &a).event == CHANNEL_NOTHING);
    const bool named = a.b[1] == kind;
    if (!named) { /* the kind is in the clear, and under the tag: it fails there */
        a.b[1] = kind;
        AMI_CHECK(deliver(&responder, &a, &b).event == CHANNEL_FAILED);
    } else {
        AMI_CHECK((deliver(&responder, &a, &b).event == CHANNEL_OPEN) == own);
    }
    cheat.own = honest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct frame frame, reply, last;
    prepare();
    if (size < 2)
        return 0;
    const int place = data[0] % PLACES;
    if (place == 4) {
        cheating_peer(data[1], data + 2, size - 2);
        return 0;
    }
    data++;
    size--;
    if (size > sizeof frame.b)
        return 0;
    memcpy(frame.b, data, size);
    frame.size = size;
    const bool same = is_genuine(&frame, place);
    initiator.channel = initiator_at[place];
    responder.channel = responder_at[place];
    struct channel_result result =
        deliver(place % 2 == 0 ? &responder : &initiator, &frame, &reply);
    if (place > 0) {
        AMI_CHECK((result.event != CHANNEL_FAILED) == same);
        return 0;
    }
    if (result.event == CHANNEL_FAILED) {
        AMI_CHECK(!same && (reply.size == 1 || channel_why(&responder.channel) == FAULT_REFUSED));
        return 0;
    }
    initiator.channel = initiator_at[1];
    AMI_CHECK((deliver(&initiator, &reply, &last).event != CHANNEL_FAILED) == same);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    prepare();
    const size_t place = index % PLACES;
    const size_t size = place == 4 ? cheat.own.shown_size + 1 : genuine[place].size;
    if (size + 1 > capacity)
        return 0;
    out[0] = (uint8_t)place;
    if (place == 4) {
        out[1] = CREDENTIAL_IMPLICIT;
        memcpy(out + 2, cheat.own.shown, cheat.own.shown_size);
    } else {
        memcpy(out + 1, genuine[place].b, genuine[place].size);
    }
    return size + 1;
}
