#include "channel/request.h"

#include "base/check.h"
#include "channel/internal.h"
#include "crypto/secret.h"

#include <string.h>

#define VERSION   1
#define LABEL_ASK "amiledger operator request v1"

static const uint8_t request_magic[FILE_MAGIC_BYTES] = {'a', 'm', 'i', 'i', 'm', 'p', 'q', '\n'};
static const uint8_t answer_magic[FILE_MAGIC_BYTES] = {'a', 'm', 'i', 'i', 'm', 'p', 'c', '\n'};
static const uint8_t key_magic[FILE_MAGIC_BYTES] = {'a', 'm', 'i', 'r', 'e', 'q', 'k', '\n'};

/* --- the operator asks ------------------------------------------------------------------------ */

/* Never that of a CFL request, whose signature is part of a certificate: the labels differ. */
static sm3_digest ask_digest(const struct credential_identity *who, const point *u)
{
    uint8_t bytes[IDENTITY_BYTES_MAX];
    const struct span identity = identity_bytes(bytes, who);
    const point_bytes encoded = point_encode(u);
    const sm3_digest z = sm2_z(identity, u);
    const struct span parts[] = {span_of(LABEL_ASK, sizeof LABEL_ASK), identity,
                                 span_of(encoded.b, sizeof encoded.b)};
    return sm2_digest(&z, parts, 3);
}

static enum ami_status ask_implicit(struct credential_key *out,
                                    const uint8_t random[2][SM2_WIDE_BYTES])
{
    scalar d = scalar_from_wide(random[0]);
    enum ami_status status = sm2_private_init(&out->key, &d);
    secret_wipe(&d, sizeof d);
    AMI_TRY(status);
    const sm3_digest e = ask_digest(&out->request.who, &out->key.p);
    out->request.who.key = point_encode(&out->key.p);
    out->request.self = sm2_sign(&out->key, &e, random[1]);
    return AMI_OK;
}

static enum ami_status ask_cfl(struct credential_key *out, const uint8_t random[2][SM2_WIDE_BYTES])
{
    struct cfl_certificate certificate;
    AMI_TRY(cfl_request(&certificate, &out->key, &out->request.who, random));
    out->request.who.key = certificate.who.key;
    out->request.self = certificate.self;
    return AMI_OK;
}

static bool kind_valid(enum credential_kind kind)
{
    return kind == CREDENTIAL_IMPLICIT || kind == CREDENTIAL_CFL;
}

enum ami_status credential_request_make(struct credential_key *out, const struct network *net,
                                        const struct credential_identity *who,
                                        const uint8_t random[2][SM2_WIDE_BYTES])
{
    memset(out, 0, sizeof *out);
    if (!kind_valid(who->kind) || !operator_valid(who))
        return AMI_BAD_ARGUMENT;
    out->net = *net;
    out->request.who = *who;
    out->request.who.network = net->id;
    const enum ami_status status =
        who->kind == CREDENTIAL_CFL ? ask_cfl(out, random) : ask_implicit(out, random);
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    return status;
}

struct cfl_certificate credential_request_cfl(const struct credential_request *request)
{
    return (struct cfl_certificate){.who = request->who, .self = request->self};
}

enum ami_status credential_request_check(const struct credential_request *in)
{
    point u;
    if (in->who.kind == CREDENTIAL_CFL) {
        const struct cfl_certificate certificate = credential_request_cfl(in);
        return cfl_request_check(&certificate);
    }
    if (!identity_valid(&in->who) || point_decode(&u, &in->who.key) != AMI_OK)
        return AMI_BAD_SIGNATURE;
    const sm3_digest e = ask_digest(&in->who, &u);
    return sm2_verify(&u, &e, &in->self);
}

/* --- the MDMS answers ------------------------------------------------------------------------- */

static struct cfl_certificate certificate_of(const struct credential_answer *in)
{
    return (struct cfl_certificate){.who = in->who, .self = in->self, .issuer = in->issuer};
}

/* Over what the credential will show, so that it can be revoked by it. */
static void set_fingerprint(struct credential_answer *a)
{
    uint8_t bytes[CFL_CERTIFICATE_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    if (a->who.kind == CREDENTIAL_CFL) {
        const struct cfl_certificate certificate = certificate_of(a);
        w.size = cfl_certificate_encode(bytes, &certificate);
    } else {
        const point_bytes encoded = point_encode(&a->w);
        identity_write(&w, &a->who);
        write_raw(&w, encoded.b, sizeof encoded.b);
    }
    AMI_CHECK(writer_ok(&w));
    a->who.fingerprint = credential_fingerprint(a->who.kind, writer_span(&w));
}

enum ami_status credential_answer_implicit(struct credential_answer *out,
                                           const struct credential_request *request,
                                           struct label label, const struct network *net,
                                           const scalar *x, const uint8_t random[SM2_WIDE_BYTES])
{
    point u;
    memset(out, 0, sizeof *out);
    if (request->who.kind != CREDENTIAL_IMPLICIT)
        return AMI_BAD_ARGUMENT;
    AMI_TRY(credential_request_check(request));
    AMI_TRY(point_decode(&u, &request->who.key));
    out->who = request->who;
    out->who.label = label;
    memset(&out->who.key, 0, sizeof out->who.key); /* U is not the key that is certified */
    AMI_TRY(operator_issue(&out->w, &out->t, net, x, &out->who, &u, random));
    set_fingerprint(out);
    return AMI_OK;
}

void credential_answer_cfl(struct credential_answer *out, const struct cfl_certificate *issued)
{
    memset(out, 0, sizeof *out);
    out->who = issued->who;
    out->who.kind = CREDENTIAL_CFL;
    out->self = issued->self;
    out->issuer = issued->issuer;
    set_fingerprint(out);
}

/* --- the operator joins both ------------------------------------------------------------------ */

/* For what was asked for, whatever the label: that of an implicit one need not be the same. */
static bool fits(const struct credential_identity *is, const struct credential_identity *asked)
{
    return is->kind == asked->kind && is->role == asked->role &&
           ami_id_equal(&is->name, &asked->name) && is->epoch == asked->epoch &&
           is->from_s == asked->from_s && is->until_s == asked->until_s;
}

static enum ami_status join(struct credential *out, const struct credential_answer *answer,
                            const struct credential_key *key, const struct cfl_public *set)
{
    if (!sm3_equal(&answer->who.network, &key->net.id))
        return AMI_WRONG_CHAIN;
    if (!fits(&answer->who, &key->request.who))
        return AMI_FOREIGN_KEY;
    if (answer->who.kind == CREDENTIAL_CFL) {
        const struct cfl_certificate certificate = certificate_of(answer);
        AMI_TRY(cfl_credential(out, &certificate, &key->key));
        return set == NULL || cfl_certificate_check(&certificate, set) == FAULT_NONE
                   ? AMI_OK
                   : AMI_BAD_SIGNATURE;
    }
    struct operator_request drawn = {key->key.d, key->key.p};
    const enum ami_status status =
        operator_accept(out, &key->net, &answer->who, &drawn, &answer->t, &answer->w);
    secret_wipe(&drawn, sizeof drawn);
    return status;
}

enum ami_status credential_answer_accept(struct credential *out,
                                         const struct credential_answer *answer,
                                         const struct credential_key *key,
                                         const struct cfl_public *set)
{
    memset(out, 0, sizeof *out);
    const enum ami_status status = join(out, answer, key, set);
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    return status;
}

/* --- files ------------------------------------------------------------------------------------ */

size_t credential_request_encode(uint8_t *out, const struct credential_request *in)
{
    if (in->who.kind == CREDENTIAL_CFL) {
        const struct cfl_certificate certificate = credential_request_cfl(in);
        return cfl_file_encode(out, &certificate, false);
    }
    struct writer w = writer_on(out, CREDENTIAL_REQUEST_BYTES_MAX);
    file_head_write(&w, request_magic, VERSION);
    identity_write(&w, &in->who);
    write_raw(&w, in->who.key.b, sizeof in->who.key.b);
    write_raw(&w, in->self.b, sizeof in->self.b);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum ami_status credential_request_parse(struct credential_request *out, struct span in)
{
    struct reader r = reader_on(in);
    struct cfl_certificate certificate;
    memset(out, 0, sizeof *out);
    const enum ami_status status = cfl_file_parse(&certificate, false, in);
    if (status == AMI_OK) {
        out->who = certificate.who;
        out->who.kind = CREDENTIAL_CFL;
        out->self = certificate.self;
        return out->who.name.size > 0 ? AMI_OK : AMI_BAD_ENCODING;
    }
    if (status == AMI_BAD_VERSION)
        return status;
    AMI_TRY(file_head_read(&r, request_magic, VERSION));
    identity_read(&r, &out->who);
    out->who.kind = CREDENTIAL_IMPLICIT;
    read_raw(&r, out->who.key.b, sizeof out->who.key.b);
    read_raw(&r, out->self.b, sizeof out->self.b);
    return reader_done(&r) && out->who.name.size > 0 ? AMI_OK : AMI_BAD_ENCODING;
}

size_t credential_answer_encode(uint8_t *out, const struct credential_answer *in)
{
    uint8_t t[SM2_SCALAR_BYTES];
    if (in->who.kind == CREDENTIAL_CFL) {
        const struct cfl_certificate certificate = certificate_of(in);
        return cfl_file_encode(out, &certificate, true);
    }
    struct writer w = writer_on(out, CREDENTIAL_ANSWER_BYTES_MAX);
    file_head_write(&w, answer_magic, VERSION);
    identity_write(&w, &in->who);
    scalar_encode(t, &in->t);
    write_raw(&w, t, sizeof t);
    file_point_write(&w, &in->w);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum ami_status credential_answer_parse(struct credential_answer *out, struct span in)
{
    uint8_t t[SM2_SCALAR_BYTES];
    struct reader r = reader_on(in);
    struct cfl_certificate certificate;
    enum ami_status status = cfl_file_parse(&certificate, true, in);
    memset(out, 0, sizeof *out);
    if (status == AMI_OK) {
        credential_answer_cfl(out, &certificate);
        return out->who.name.size > 0 ? AMI_OK : AMI_BAD_ENCODING;
    }
    if (status == AMI_BAD_VERSION)
        return status;
    AMI_TRY(file_head_read(&r, answer_magic, VERSION));
    identity_read(&r, &out->who);
    out->who.kind = CREDENTIAL_IMPLICIT;
    read_raw(&r, t, sizeof t);
    file_point_read(&r, &out->w);
    if (!reader_done(&r) || out->who.name.size == 0)
        return AMI_BAD_ENCODING;
    AMI_TRY(scalar_decode(&out->t, t));
    set_fingerprint(out);
    return AMI_OK;
}

size_t credential_key_encode(uint8_t *out, const struct credential_key *in)
{
    uint8_t request[CREDENTIAL_REQUEST_BYTES_MAX];
    struct writer w = writer_on(out, CREDENTIAL_KEY_BYTES_MAX);
    const size_t size = credential_request_encode(request, &in->request);
    file_head_write(&w, key_magic, VERSION);
    file_network_write(&w, &in->net);
    write_u16(&w, (uint16_t)size);
    write_raw(&w, request, size);
    file_secret_write(&w, &in->key.d);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

static enum ami_status restore_key(struct credential_key *out, struct span request,
                                   const uint8_t d_bytes[SM2_SCALAR_BYTES])
{
    scalar d;
    network_finish(&out->net);
    if (credential_request_parse(&out->request, request) != AMI_OK ||
        !sm3_equal(&out->request.who.network, &out->net.id))
        return AMI_DAMAGED;
    enum ami_status status = scalar_decode(&d, d_bytes);
    if (status == AMI_OK)
        status = sm2_private_init(&out->key, &d);
    secret_wipe(&d, sizeof d);
    if (status != AMI_OK)
        return AMI_DAMAGED;
    const point_bytes key = point_encode(&out->key.p);
    return memcmp(&key, &out->request.who.key, sizeof key) == 0 ? AMI_OK : AMI_DAMAGED;
}

enum ami_status credential_key_parse(struct credential_key *out, struct span in)
{
    uint8_t d[SM2_SCALAR_BYTES];
    struct reader r = reader_on(in);
    memset(out, 0, sizeof *out);
    AMI_TRY(file_head_read(&r, key_magic, VERSION));
    file_network_read(&r, &out->net);
    const struct span request = read_span(&r, read_u16(&r));
    enum ami_status status = file_secret_read(d, &r, in);
    if (status == AMI_OK)
        status = restore_key(out, request, d);
    secret_wipe(d, sizeof d);
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    return status;
}
