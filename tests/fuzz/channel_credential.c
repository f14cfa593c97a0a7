/* What is shown as a credential: the first byte is the kind. A credential that is taken says
 * what the genuine one says, or is one of the implicit kind, where only the signature tells. Public
 * sets and certificates of CFL are read as well. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "sim/lab/link_x509.h"
#include "sim/lab/realm.h"

#include <string.h>

static struct realm realm;
static struct party party;
static struct credential held[CREDENTIAL_KINDS];
static uint8_t shown[CREDENTIAL_KINDS][CREDENTIAL_BYTES_MAX];
static size_t shown_size[CREDENTIAL_KINDS];
static const uint8_t nonce[CREDENTIAL_NONCE_BYTES] = {7};
static const struct credential_moment at = {SUITE_WALL_MS, nonce};

static void prepare(void)
{
    static bool ready;
    struct credential_peer peer;
    if (ready)
        return;
    ready = true;
    AMI_CHECK(crypto_start() == AMI_OK);
    realm_make(&realm, "grid", 1);
    realm_credential(&realm, &held[CREDENTIAL_IMPLICIT], CREDENTIAL_IMPLICIT, "alice", "2:ledger",
                     SUITE_WALL_MS / 1000, SUITE_WALL_MS / 1000 + 9);
    realm_credential(&realm, &held[CREDENTIAL_CFL], CREDENTIAL_CFL, "bob", "1:", 0, 0);
    party_make(&party, &realm, &held[CREDENTIAL_IMPLICIT]);
    struct link_x509 x509;
    link_x509_make(&x509, LINK_X509_SM2, SUITE_WALL_MS / 1000 - 1000, SUITE_WALL_MS / 1000 + 1000);
    party.trust.x509 = link_x509_trust(&x509);
    link_x509_credential(&held[CREDENTIAL_X509], &x509, &realm.mdms.net, "dc-1", NULL);
    link_x509_free(&x509);
    for (int kind = 1; kind < CREDENTIAL_KINDS; kind++) {
        shown_size[kind] = credential_show(shown[kind], &held[kind], &at);
        AMI_CHECK(credential_check(&peer, (enum credential_kind)kind,
                                   span_of(shown[kind], shown_size[kind]), &party.trust,
                                   &at) == FAULT_NONE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cfl_public set;
    struct cfl_certificate certificate;
    struct credential_peer peer;
    prepare();
    if (size == 0)
        return 0;
    const struct span rest = span_of(data + 1, size - 1);
    if (data[0] >= CREDENTIAL_KINDS) {
        static uint8_t again[CFL_PUBLIC_BYTES_MAX];
        if (cfl_public_parse(&set, rest) == AMI_OK)
            AMI_CHECK(cfl_public_encode(again, &set) == rest.size &&
                      memcmp(again, rest.data, rest.size) == 0);
        if (cfl_certificate_parse(&certificate, rest) == AMI_OK)
            AMI_CHECK(cfl_certificate_encode(again, &certificate) == rest.size &&
                      memcmp(again, rest.data, rest.size) == 0);
        return 0;
    }
    const enum credential_kind kind = (enum credential_kind)data[0];
    if (credential_check(&peer, kind, rest, &party.trust, &at) != FAULT_NONE)
        return 0;
    AMI_CHECK(sm3_equal(&peer.who.network, &realm.mdms.net.id));
    AMI_CHECK(kind == CREDENTIAL_IMPLICIT ||
              memcmp(&peer.who, &held[kind].who, sizeof peer.who) == 0 ||
              (rest.size > 0 && ami_id_equal(&peer.who.name, &held[kind].who.name) &&
               memcmp(&peer.who.key, &held[kind].who.key, sizeof peer.who.key) == 0));
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    prepare();
    const uint8_t kind = (uint8_t)(index % (CREDENTIAL_KINDS + 1));
    if (kind == 0 || kind == CREDENTIAL_KINDS) {
        static struct cfl_public set;
        set = realm.set;
        set.rows = 2;
        set.columns = 4;
        if (capacity < 1 + CFL_CERTIFICATE_BYTES_MAX + 8 * SM2_POINT_BYTES)
            return 0;
        out[0] = CREDENTIAL_KINDS;
        if (kind == 0)
            return 1 + cfl_public_encode(out + 1, &set);
        memcpy(out + 1, held[CREDENTIAL_CFL].shown, held[CREDENTIAL_CFL].shown_size);
        return 1 + held[CREDENTIAL_CFL].shown_size;
    }
    if (shown_size[kind] + 1 > capacity)
        return 0;
    out[0] = kind;
    memcpy(out + 1, shown[kind], shown_size[kind]);
    return shown_size[kind] + 1;
}
