/* What is shown as a credential: the first byte is the kind. A credential that is taken says
 * what the genuine one says, or is one of the implicit kind, where only the signature tells. Seeds,
 * public sets, certificates and files of CFL are read as well, and labels and sets of suites as
 * text. */
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

static void read_sets(struct span in)
{
    static struct cfl_public set;
    static struct cfl_seed seed;
    static uint8_t again[CFL_PUBLIC_BYTES_MAX > CFL_SEED_BYTES_MAX ? CFL_PUBLIC_BYTES_MAX
                                                                   : CFL_SEED_BYTES_MAX];
    struct cfl_certificate certificate;
    if (cfl_public_parse(&set, in) == AMI_OK)
        AMI_CHECK(span_equal(span_of(again, cfl_public_encode(again, &set)), in));
    if (cfl_seed_parse(&seed, in) == AMI_OK)
        AMI_CHECK(span_equal(span_of(again, cfl_seed_encode(again, &seed)), in));
    if (cfl_certificate_parse(&certificate, in) == AMI_OK)
        AMI_CHECK(span_equal(span_of(again, cfl_certificate_encode(again, &certificate)), in));
    for (int issued = 0; issued < 2; issued++)
        if (cfl_file_parse(&certificate, issued != 0, in) == AMI_OK)
            AMI_CHECK(
                span_equal(span_of(again, cfl_file_encode(again, &certificate, issued != 0)), in));
}

/* What was read prints as something that reads the same. */
static void read_texts(struct span in)
{
    char text[128], printed[LABEL_TEXT_BYTES];
    struct label label, back;
    uint8_t suites;
    const size_t size = in.size < sizeof text - 1 ? in.size : sizeof text - 1;
    memcpy(text, in.data, size);
    text[size] = '\0';
    if (label_parse(&label, text) == AMI_OK) {
        label_text(printed, label);
        AMI_CHECK(label_valid(label) && label_parse(&back, printed) == AMI_OK &&
                  back.level == label.level && back.categories == label.categories);
    }
    if (channel_suites_parse(&suites, text) == AMI_OK)
        AMI_CHECK(suites != 0 && (suites & ~CHANNEL_SUITES_ALL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct credential_peer peer;
    prepare();
    if (size == 0)
        return 0;
    const struct span rest = span_of(data + 1, size - 1);
    if (data[0] >= CREDENTIAL_KINDS) {
        if (data[0] == CREDENTIAL_KINDS)
            read_sets(rest);
        else
            read_texts(rest);
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
    static const char *const texts[] = {"2:ledger+metering", "0:", "sm4-gcm,sm4-ctr-hmac-sm3"};
    static struct cfl_public set;
    static struct cfl_seed seed;
    const size_t which = index % (CREDENTIAL_KINDS + 5);
    struct cfl_certificate bob;
    if (capacity < 1 + CFL_FILE_BYTES_MAX + 8 * SM2_POINT_BYTES)
        return 0;
    if (which == 0 || which >= CREDENTIAL_KINDS) {
        out[0] = CREDENTIAL_KINDS;
        set = realm.set;
        seed = realm.seed;
        set.rows = seed.rows = 2;
        set.columns = seed.columns = 4;
        switch (which) {
        case 0:
            return 1 + cfl_public_encode(out + 1, &set);
        case CREDENTIAL_KINDS:
            return 1 + cfl_seed_encode(out + 1, &seed);
        case CREDENTIAL_KINDS + 1:
            memcpy(out + 1, held[CREDENTIAL_CFL].shown, held[CREDENTIAL_CFL].shown_size);
            return 1 + held[CREDENTIAL_CFL].shown_size;
        case CREDENTIAL_KINDS + 2:
        case CREDENTIAL_KINDS + 3:
            AMI_CHECK(cfl_certificate_parse(&bob, span_of(held[CREDENTIAL_CFL].shown,
                                                          held[CREDENTIAL_CFL].shown_size)) ==
                      AMI_OK);
            return 1 + cfl_file_encode(out + 1, &bob, which == CREDENTIAL_KINDS + 2);
        default:
            out[0] = CREDENTIAL_KINDS + 1;
            memcpy(out + 1, texts[index % 3], strlen(texts[index % 3]));
            return 1 + strlen(texts[index % 3]);
        }
    }
    const uint8_t kind = (uint8_t)which;
    if (shown_size[kind] + 1 > capacity)
        return 0;
    out[0] = kind;
    memcpy(out + 1, shown[kind], shown_size[kind]);
    return shown_size[kind] + 1;
}
