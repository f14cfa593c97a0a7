/* Credential files and lists of revoked operators, the first byte says which. What is taken is what
 * was written: nobody else can sign or knows a key that fits. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "channel/file.h"
#include "crypto/secret.h"
#include "sim/lab/realm.h"

#include <string.h>

static struct realm realm;
static uint8_t file[2][CREDENTIAL_FILE_BYTES_MAX], listed[AMI_REVOKED_BYTES_MAX];
static size_t file_size[2], listed_size;

static void prepare(void)
{
    static struct revoked_list list = {.number = 3, .issued_ms = 9};
    struct credential own;
    if (listed_size != 0)
        return;
    AMI_CHECK(crypto_start() == AMI_OK);
    realm_make(&realm, "grid", 1);
    realm_credential(&realm, &own, CREDENTIAL_IMPLICIT, "alice", "2:ledger", 0, 0);
    file_size[0] = credential_file_encode(file[0], &realm.mdms.net, &own);
    realm_credential(&realm, &own, CREDENTIAL_CFL, "bob", "1:", 0, 0);
    file_size[1] = credential_file_encode(file[1], &realm.mdms.net, &own);
    for (uint8_t i = 0; i < 4; i++) {
        const struct revoked_entry e = {{{i}}, 1700000000 + i};
        AMI_CHECK(revoked_list_add(&list, &e) == AMI_OK);
    }
    listed_size =
        revoked_list_encode(listed, &list, &realm.mdms.net, &realm.mdms.sign, realm_random(&realm));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct revoked_list list;
    prepare();
    if (size == 0)
        return 0;
    const struct span rest = span_of(data + 1, size - 1);
    if (data[0] % 2 == 0) {
        static uint8_t again[CREDENTIAL_FILE_BYTES_MAX];
        struct credential own;
        struct network net;
        if (credential_file_parse(&own, &net, rest) == AMI_OK)
            AMI_CHECK(credential_file_encode(again, &net, &own) == rest.size &&
                      memcmp(again, rest.data, rest.size) == 0);
        return 0;
    }
    const bool same = rest.size == listed_size && memcmp(rest.data, listed, listed_size) == 0;
    const enum ami_status read = revoked_list_read(&list, rest);
    AMI_CHECK((read == AMI_OK && revoked_list_verify(&realm.mdms.net, rest) == AMI_OK) == same);
    if (read != AMI_OK)
        return 0;
    /* Before it is verified it is compared: a set of its own entries, whatever they are. */
    static struct revoked_list joined;
    joined = list;
    AMI_CHECK(revoked_list_join(&joined, &list) == AMI_OK && joined.count == list.count &&
              revoked_list_covers(&joined, &list, REVOKED_ALWAYS) &&
              revoked_list_covers(&list, &joined, list.issued_ms));
    for (size_t i = 0; i < list.count; i++)
        AMI_CHECK(revoked_list_find(&list, &list.entry[i].fingerprint) == &list.entry[i]);
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    prepare();
    const size_t which = index % 3;
    const bool is_file = which < 2;
    const size_t size = is_file ? file_size[which] : listed_size;
    if (size + 1 > capacity)
        return 0;
    out[0] = is_file ? 0 : 1;
    memcpy(out + 1, is_file ? file[which] : listed, size);
    return size + 1;
}
