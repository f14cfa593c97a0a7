/* mdms/cmd_credential.c - `ami-mdms credential`: what DCs and the MDMS itself may show instead of
 * their implicit certificates.
 *
 *   dc REQUEST     a CFL certificate for a DC, from `dc-node cfl-request`
 *   mdms           a CFL certificate for this MDMS
 *   x509-request   a request (PKCS #10) for an X.509 authority, for this MDMS
 *
 * All are over keys that the network knows already: a DC's enrolled signing key, which the store
 * has, and the MDMS's own, which network.json has. So nothing secret comes or goes, and a request
 * that is not of the DC whose name it bears is found out here.
 */
#include "base/check.h"
#include "channel/x509.h"
#include "crypto/secret.h"
#include "mdms/issue.h"
#include "net/file.h"
#include "wire/identity.h"

#include <stdlib.h>
#include <string.h>

static struct common_options common;
static const char *out_file;
static int64_t days = ISSUE_DAYS;

static const struct option_spec options[] = {
    CLI_OPTION_DIR,
    ISSUE_OPTION_OUT("where the certificate or the request goes", true),
    ISSUE_OPTION_DAYS(
        "dc: the longest that may be asked for; mdms: how long it is good (default 365)"),
    CLI_OPTION_PASSPHRASE,
    {0},
};

/* --- a DC ------------------------------------------------------------------------------------- */

/* The key that this DC was enrolled with, as its encoding; AMI_REVOKED. */
static enum ami_status enrolled_key(point_bytes *out, const struct issuer *w,
                                    const struct credential_identity *who, struct why *why)
{
    struct mdms_store *store;
    struct span value;
    struct device_record device;
    struct verify_key key;
    AMI_TRY(mdms_store_open(&store, common.dir, 0, why));
    const struct mdms_kv kv = mdms_store_kv(store);
    const struct mdms_key at = key_device(DEVICE_DC, &who->name, who->epoch);
    enum ami_status status = kv.get(kv.ctx, TABLE_DEVICES, key_span(&at), &value);
    if (status == AMI_OK)
        status = device_record_parse(&device, value);
    if (status == AMI_OK)
        status =
            verify_key_init(&key, &w->net, ROLE_DC_SIGN, &who->name, who->epoch, &device.w_sign);
    if (status == AMI_OK && kv.get(kv.ctx, TABLE_REVOCATIONS, key_span(&at), &value) == AMI_OK)
        status = AMI_REVOKED;
    mdms_store_close(store);
    if (status == AMI_NOT_FOUND)
        return why_set(why, AMI_UNKNOWN_DEVICE, "no DC %s is enrolled in key epoch %u",
                       who->name.text, (unsigned)who->epoch);
    if (status != AMI_OK)
        return why_set(why, status, "DC %s, key epoch %u: %s", who->name.text, (unsigned)who->epoch,
                       ami_status_text(status));
    *out = point_encode(&key.p);
    return AMI_OK;
}

/* Is this DC to have what it asks for? */
static enum ami_status judge(const struct issuer *w, const struct cfl_certificate *request,
                             const char *path, struct why *why)
{
    const struct credential_identity *who = &request->who;
    point_bytes key;
    AMI_TRY(issue_may_ask(w, who, CREDENTIAL_DC, days, path, why));
    if (cfl_request_check(request) != AMI_OK)
        return why_set(why, AMI_BAD_SIGNATURE, "%.300s is not signed with the key in it", path);
    AMI_TRY(enrolled_key(&key, w, who, why));
    return memcmp(&key, &who->key, sizeof key) == 0
               ? AMI_OK
               : why_set(why, AMI_FOREIGN_KEY,
                         "%.300s is not over the key that %s was enrolled with", path,
                         who->name.text);
}

static enum ami_status read_request(struct cfl_certificate *out, const char *path, struct why *why)
{
    uint8_t *data = NULL;
    size_t size = 0;
    AMI_TRY(file_read(path, CFL_FILE_BYTES_MAX, &data, &size, why));
    enum ami_status status = cfl_file_parse(out, false, span_of(data, size));
    free(data);
    return status == AMI_OK ? AMI_OK
                            : why_set(why, status, "%.300s is no request for a CFL certificate: %s",
                                      path, ami_status_text(status));
}

/* --- both ------------------------------------------------------------------------------------- */

static enum ami_status issue(struct issuer *w, struct cfl_certificate *certificate, struct why *why)
{
    uint8_t file[CFL_FILE_BYTES_MAX];
    AMI_TRY(issuer_lock(w, why));
    AMI_TRY(issue_cfl(w, certificate, why));
    return file_write(out_file, span_of(file, cfl_file_encode(file, certificate, true)),
                      FILE_MODE_PUBLIC, why);
}

static enum ami_status for_dc(struct issuer *w, const char *path, struct why *why)
{
    struct cfl_certificate request;
    AMI_TRY(read_request(&request, path, why));
    AMI_TRY(judge(w, &request, path, why));
    AMI_TRY(issue(w, &request, why));
    printf("CFL certificate of %s, key epoch %u, for %lld days, in %s\n", request.who.name.text,
           (unsigned)request.who.epoch,
           (long long)((request.who.until_s - issue_now_s()) / ISSUE_DAY_S), out_file);
    return AMI_OK;
}

static struct credential_identity itself(const struct issuer *w)
{
    return (struct credential_identity){
        .role = CREDENTIAL_MDMS, .network = w->net.id, .name = w->net.name};
}

static enum ami_status for_mdms(struct issuer *w, struct why *why)
{
    uint8_t random[SM2_WIDE_BYTES];
    struct cfl_certificate own;
    struct credential_identity who = itself(w);
    who.from_s = issue_now_s() - ISSUE_EARLY_S;
    who.until_s = issue_now_s() + days * ISSUE_DAY_S;
    secret_random(random, sizeof random);
    enum ami_status status = cfl_request_with(&own, &w->keys.sign, &who, random);
    secret_wipe(random, sizeof random);
    AMI_TRY(status);
    AMI_TRY(issue(w, &own, why));
    printf("CFL certificate of this MDMS, for %lld days, in %s\n", (long long)days, out_file);
    return AMI_OK;
}

static enum ami_status x509_for_mdms(const struct issuer *w, struct why *why)
{
    char text[X509_REQUEST_BYTES_MAX];
    const struct credential_identity who = itself(w);
    const size_t size = x509_request(text, &who, &w->keys.sign);
    if (size == 0)
        return why_set(why, AMI_NO_MEMORY, "the request cannot be made");
    AMI_TRY(file_write(out_file, span_of(text, size), FILE_MODE_PUBLIC, why));
    printf("request for an X.509 certificate of this MDMS in %s\n", out_file);
    return AMI_OK;
}

static enum ami_status act(struct issuer *w, int argc, char **argv, struct why *why)
{
    const bool dc = strcmp(argv[0], "dc") == 0, mdms = strcmp(argv[0], "mdms") == 0;
    if (!dc && !mdms && strcmp(argv[0], "x509-request") != 0)
        return why_set(why, AMI_BAD_ARGUMENT,
                       "expected dc REQUEST, mdms or x509-request, not \"%.60s\"", argv[0]);
    if (argc != (dc ? 2 : 1))
        return why_set(why, AMI_BAD_ARGUMENT,
                       dc ? "credential dc needs the file with the request"
                          : "credential %s takes no argument",
                       argv[0]);
    AMI_TRY(issuer_begin(w, &common, why));
    return dc ? for_dc(w, argv[1], why) : mdms ? for_mdms(w, why) : x509_for_mdms(w, why);
}

static int run(int argc, char **argv, void *ctx)
{
    (void)ctx;
    struct why why = {{0}};
    struct issuer w = {.lock = -1};
    enum ami_status status = act(&w, argc, argv, &why);
    issuer_end(&w);
    if (status == AMI_OK)
        status = cli_stdout_done(&why);
    return status == AMI_OK ? EXIT_STATUS_OK : cli_fail(false, status, &why);
}

const struct command_spec COMMAND_CREDENTIAL = {
    .name = "credential",
    .arguments = "dc REQUEST|mdms|x509-request",
    .arguments_min = 1,
    .arguments_max = 2,
    .summary = "CFL and X.509 credentials of DCs and of the MDMS",
    .example = "ami-mdms credential dc dc1.request --out dc1.cfl --dir mdms\n"
               "ami-mdms credential x509-request --out mdms.csr --dir mdms",
    .options = options,
    .run = run,
};
