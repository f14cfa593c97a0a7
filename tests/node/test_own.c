/* Under which credential a DC speaks, over rotations of its key and changes of its files. */
#include "node/own.h"

#include "crypto/secret.h"
#include "net/file.h"
#include "sim/lab/realm.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct realm realm;
static char path[] = "/tmp/amiledger-own-XXXXXX";

static int setup(void **state)
{
    (void)state;
    realm_make(&realm, "grid", 1);
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

static void keys_make(struct device_keys *out, const char *name, uint32_t epoch)
{
    memset(out, 0, sizeof *out);
    out->role = ENROL_DC;
    out->name = id_of(name);
    out->epoch = epoch;
    realm_dc_key(&realm, &out->sign, name, epoch);
}

static void write_certificate(const struct device_keys *keys)
{
    uint8_t file[CFL_FILE_BYTES_MAX];
    struct cfl_certificate c;
    const struct credential_identity who = {.role = CREDENTIAL_DC,
                                            .network = realm.mdms.net.id,
                                            .name = keys->name,
                                            .epoch = keys->epoch};
    assert_ok(cfl_request_with(&c, &keys->sign.private_key, &who, realm_random(&realm)));
    assert_ok(cfl_issue(&c, &realm.seed, realm_random(&realm)));
    assert_ok(
        file_write(path, span_of(file, cfl_file_encode(file, &c, true)), FILE_MODE_PUBLIC, NULL));
}

static void a_rotation_falls_back_to_the_implicit_one(void **state)
{
    (void)state;
    const struct network *net = &realm.mdms.net;
    const struct trust trust = {.cfl = &realm.set};
    const struct trust_files nothing = {0}, cfl = {.cfl_certificate = path};
    struct device_keys first, second, third, other;
    struct credential own = {0};
    struct why why = {""};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct log_sink *log = log_open(out, ENV_LOG_DEBUG, 0);
    keys_make(&first, "dc-1", 1);
    keys_make(&second, "dc-1", 2);
    keys_make(&third, "dc-1", 3);
    keys_make(&other, "dc-2", 1);
    assert_ok(own_credential(&own, net, &nothing, &trust, &first, log, &why));
    assert_int_equal(own.who.kind, CREDENTIAL_IMPLICIT);
    memset(&own, 0, sizeof own);
    write_certificate(&first);
    assert_ok(own_credential(&own, net, &cfl, &trust, &first, log, &why));
    assert_int_equal(own.who.kind, CREDENTIAL_CFL);
    fflush(out);
    assert_null(strstr(text, "credential_not_read"));
    /* The ledger calls for the next key. */
    assert_ok(own_credential(&own, net, &cfl, &trust, &second, log, &why));
    assert_int_equal(own.who.kind, CREDENTIAL_IMPLICIT);
    assert_int_equal(own.who.epoch, 2);
    fflush(out);
    assert_non_null(strstr(text, "credential_not_read"));
    /* And gets its certificate. */
    write_certificate(&second);
    assert_ok(own_credential(&own, net, &cfl, &trust, &second, log, &why));
    assert_int_equal(own.who.kind, CREDENTIAL_CFL);
    assert_int_equal(own.who.epoch, 2);
    /* What is shown is of the key in use: nothing worse takes its place. */
    const struct credential before = own;
    write_certificate(&first);
    assert_status(own_credential(&own, net, &cfl, &trust, &second, log, &why), AMI_BAD_CRYPTO);
    assert_memory_equal(&own, &before, sizeof own);
    write_certificate(&other);
    assert_ok(own_credential(&own, net, &cfl, &trust, &third, log, &why));
    assert_int_equal(own.who.kind, CREDENTIAL_IMPLICIT);
    assert_int_equal(own.who.epoch, 3);
    /* Another DC's is a mistake to be told of, also at the start. */
    memset(&own, 0, sizeof own);
    assert_status(own_credential(&own, net, &cfl, &trust, &second, log, &why), AMI_FOREIGN_KEY);
    log_close(log);
    fclose(out);
    free(text);
}

int main(void)
{
    if (crypto_start() != AMI_OK)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rotation_falls_back_to_the_implicit_one),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
