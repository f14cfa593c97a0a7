#include "channel/cfl.h"

#include "base/check.h"
#include "channel/internal.h"
#include "crypto/secret.h"

#include <string.h>

#define LABEL_SELECT "amiledger cfl select v1"
#define LABEL_SELF   "amiledger cfl self v1"
#define LABEL_ISSUE  "amiledger cfl issue v1"
#define ISSUER_ID    "amiledger cfl issuer v1"

/* What a session adds: the verifier's random and the time. */
#define DYNAMIC_BYTES (CREDENTIAL_NONCE_BYTES + 8)

static bool shape_valid(uint8_t rows, uint8_t columns)
{
    return rows >= 1 && rows <= CFL_ROWS_MAX && columns >= 2 && columns <= CFL_COLUMNS_MAX &&
           (columns & (columns - 1)) == 0;
}

enum ami_status cfl_seed_make(struct cfl_seed *out, uint8_t rows, uint8_t columns,
                              const uint8_t (*random)[SM2_WIDE_BYTES])
{
    memset(out, 0, sizeof *out);
    if (!shape_valid(rows, columns))
        return AMI_BAD_ARGUMENT;
    out->rows = rows;
    out->columns = columns;
    for (size_t i = 0; i < (size_t)rows * columns; i++)
        out->key[i] = scalar_from_wide(random[i]);
    return AMI_OK;
}

void cfl_public_of(struct cfl_public *out, const struct cfl_seed *seed)
{
    memset(out, 0, sizeof *out);
    out->rows = seed->rows;
    out->columns = seed->columns;
    point_mul_base_batch(out->key, seed->key, (size_t)seed->rows * seed->columns);
}

/* --- identity keys ---------------------------------------------------------------------------- */

/* Which key of each row; public, as the identity is. */
static void select_keys(size_t at[CFL_ROWS_MAX], struct span identity, uint8_t rows,
                        uint8_t columns)
{
    sm3_digest digest = sm3_labelled(LABEL_SELECT, &identity, 1);
    for (size_t i = 0; i < rows; i++)
        at[i] = i * columns + (digest.b[i] & (columns - 1u));
}

/* AMI_BAD_CRYPTO: a sum of zero (probability 2^-256). */
static enum ami_status identity_key(sm2_private *out, const struct cfl_seed *seed,
                                    struct span identity)
{
    size_t at[CFL_ROWS_MAX];
    select_keys(at, identity, seed->rows, seed->columns);
    scalar d = {{0}};
    for (size_t i = 0; i < seed->rows; i++)
        d = scalar_add(&d, &seed->key[at[i]]);
    enum ami_status status = sm2_private_init(out, &d);
    secret_wipe(&d, sizeof d);
    return status;
}

static point identity_point(const struct cfl_public *set, struct span identity)
{
    size_t at[CFL_ROWS_MAX];
    select_keys(at, identity, set->rows, set->columns);
    point p = set->key[at[0]];
    for (size_t i = 1; i < set->rows; i++)
        p = point_add(&p, &set->key[at[i]]);
    return p;
}

/* --- certificates ----------------------------------------------------------------------------- */

static sm3_digest self_digest(struct span identity, const point *rapk)
{
    point_bytes encoded = point_encode(rapk);
    sm3_digest z = sm2_z(identity, rapk);
    const struct span parts[] = {span_of(LABEL_SELF, sizeof LABEL_SELF), identity,
                                 span_of(encoded.b, sizeof encoded.b)};
    return sm2_digest(&z, parts, 3);
}

static sm3_digest issuer_digest(const point *issuer, struct span identity, const point_bytes *rapk,
                                const sm2_signature *self)
{
    sm3_digest z = sm2_z(SPAN_LITERAL(ISSUER_ID), issuer);
    const struct span parts[] = {span_of(LABEL_ISSUE, sizeof LABEL_ISSUE), identity,
                                 span_of(rapk->b, sizeof rapk->b),
                                 span_of(self->b, sizeof self->b)};
    return sm2_digest(&z, parts, 4);
}

enum ami_status cfl_request_with(struct cfl_certificate *out, const sm2_private *rask,
                                 const struct credential_identity *who,
                                 const uint8_t random[SM2_WIDE_BYTES])
{
    uint8_t bytes[IDENTITY_BYTES_MAX];
    memset(out, 0, sizeof *out);
    if (who->name.size == 0 || !identity_valid(who))
        return AMI_BAD_ARGUMENT;
    out->who = *who;
    out->who.key = point_encode(&rask->p);
    sm3_digest e = self_digest(identity_bytes(bytes, who), &rask->p);
    out->self = sm2_sign(rask, &e, random);
    return AMI_OK;
}

enum ami_status cfl_request(struct cfl_certificate *out, sm2_private *rask,
                            const struct credential_identity *who,
                            const uint8_t random[2][SM2_WIDE_BYTES])
{
    scalar d = scalar_from_wide(random[0]);
    enum ami_status status = sm2_private_init(rask, &d);
    secret_wipe(&d, sizeof d);
    AMI_TRY(status);
    return cfl_request_with(out, rask, who, random[1]);
}

enum ami_status cfl_request_check(const struct cfl_certificate *in)
{
    uint8_t bytes[IDENTITY_BYTES_MAX];
    point rapk;
    if (!identity_valid(&in->who) || point_decode(&rapk, &in->who.key) != AMI_OK)
        return AMI_BAD_SIGNATURE;
    sm3_digest e = self_digest(identity_bytes(bytes, &in->who), &rapk);
    return sm2_verify(&rapk, &e, &in->self);
}

enum ami_status cfl_issue(struct cfl_certificate *certificate, const struct cfl_seed *seed,
                          const uint8_t random[SM2_WIDE_BYTES])
{
    uint8_t bytes[IDENTITY_BYTES_MAX];
    sm2_private key;
    if (!identity_valid(&certificate->who))
        return AMI_BAD_ARGUMENT;
    struct span identity = identity_bytes(bytes, &certificate->who);
    AMI_TRY(cfl_request_check(certificate));
    AMI_TRY(identity_key(&key, seed, identity));
    sm3_digest e = issuer_digest(&key.p, identity, &certificate->who.key, &certificate->self);
    certificate->issuer = sm2_sign(&key, &e, random);
    secret_wipe(&key, sizeof key);
    return AMI_OK;
}

enum channel_fault cfl_certificate_check(const struct cfl_certificate *in,
                                         const struct cfl_public *set)
{
    uint8_t bytes[IDENTITY_BYTES_MAX];
    point key[2];
    sm3_digest e[2];
    bool good[2] = {false, false};
    struct span identity = identity_bytes(bytes, &in->who);
    if (point_decode(&key[0], &in->who.key) != AMI_OK)
        return FAULT_MALFORMED;
    key[1] = identity_point(set, identity);
    e[0] = self_digest(identity, &key[0]);
    e[1] = issuer_digest(&key[1], identity, &in->who.key, &in->self);
    const sm2_signature sig[2] = {in->self, in->issuer};
    if (sm2_verify_batch(key, e, sig, good, 2) == AMI_OK)
        return FAULT_NONE;
    return good[1] ? FAULT_SIGNATURE : FAULT_WRONG_CHAIN;
}

static void request_write(struct writer *w, const struct cfl_certificate *in)
{
    identity_write(w, &in->who);
    write_raw(w, in->who.key.b, sizeof in->who.key.b);
    write_raw(w, in->self.b, sizeof in->self.b);
}

static void request_read(struct reader *r, struct cfl_certificate *out)
{
    memset(out, 0, sizeof *out);
    identity_read(r, &out->who);
    read_raw(r, out->who.key.b, sizeof out->who.key.b);
    read_raw(r, out->self.b, sizeof out->self.b);
}

static void certificate_write(struct writer *w, const struct cfl_certificate *in)
{
    request_write(w, in);
    write_raw(w, in->issuer.b, sizeof in->issuer.b);
}

static void certificate_read(struct reader *r, struct cfl_certificate *out)
{
    request_read(r, out);
    read_raw(r, out->issuer.b, sizeof out->issuer.b);
}

size_t cfl_certificate_encode(uint8_t out[CFL_CERTIFICATE_BYTES_MAX],
                              const struct cfl_certificate *in)
{
    struct writer w = writer_on(out, CFL_CERTIFICATE_BYTES_MAX);
    certificate_write(&w, in);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum ami_status cfl_certificate_parse(struct cfl_certificate *out, struct span in)
{
    struct reader r = reader_on(in);
    certificate_read(&r, out);
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

/* --- files --- */

#define FILE_VERSION 1

static const char *file_magic(bool issued)
{
    return issued ? "amicflc\n" : "amicflq\n";
}

size_t cfl_file_encode(uint8_t *out, const struct cfl_certificate *in, bool issued)
{
    struct writer w = writer_on(out, CFL_FILE_BYTES_MAX);
    write_raw(&w, file_magic(issued), strlen(file_magic(issued)));
    write_u8(&w, FILE_VERSION);
    if (issued)
        certificate_write(&w, in);
    else
        request_write(&w, in);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum ami_status cfl_file_parse(struct cfl_certificate *out, bool issued, struct span in)
{
    struct reader r = reader_on(in);
    const struct span magic = read_span(&r, strlen(file_magic(issued)));
    const uint8_t version = read_u8(&r);
    memset(out, 0, sizeof *out);
    if (r.failed || memcmp(magic.data, file_magic(issued), magic.size) != 0)
        return AMI_BAD_ENCODING;
    if (version != FILE_VERSION)
        return AMI_BAD_VERSION;
    if (issued)
        certificate_read(&r, out);
    else
        request_read(&r, out);
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

/* --- as a credential -------------------------------------------------------------------------- */

enum ami_status cfl_credential(struct credential *out, const struct cfl_certificate *certificate,
                               const sm2_private *rask)
{
    uint8_t bytes[IDENTITY_BYTES_MAX];
    memset(out, 0, sizeof *out);
    point_bytes key = point_encode(&rask->p);
    if (memcmp(&key, &certificate->who.key, sizeof key) != 0)
        return AMI_BAD_CRYPTO;
    out->who = certificate->who;
    out->who.kind = CREDENTIAL_CFL;
    out->key = *rask;
    out->z = sm2_z(identity_bytes(bytes, &out->who), &rask->p);
    out->shown_size = cfl_certificate_encode(out->shown, certificate);
    out->who.fingerprint =
        credential_fingerprint(CREDENTIAL_CFL, span_of(out->shown, out->shown_size));
    return AMI_OK;
}

size_t cfl_show(uint8_t *out, const struct credential *own, const struct credential_moment *at)
{
    struct writer w = writer_on(out, CREDENTIAL_BYTES_MAX);
    write_raw(&w, own->shown, own->shown_size);
    write_raw(&w, at->verifier_nonce, CREDENTIAL_NONCE_BYTES);
    write_i64(&w, at->wall_ms);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum channel_fault cfl_read(struct credential_peer *out, struct span shown,
                            const struct credential_trust *trust,
                            const struct credential_moment *at)
{
    struct reader r = reader_on(shown);
    struct cfl_certificate certificate;
    uint8_t nonce[CREDENTIAL_NONCE_BYTES], bytes[IDENTITY_BYTES_MAX];
    if (trust->cfl == NULL)
        return FAULT_NO_KIND;
    certificate_read(&r, &certificate);
    read_raw(&r, nonce, sizeof nonce);
    int64_t time_ms = read_i64(&r);
    if (!reader_done(&r) || point_decode(&out->p, &certificate.who.key) != AMI_OK)
        return FAULT_MALFORMED;
    if (!sm3_equal(&certificate.who.network, &trust->net->id))
        return FAULT_OTHER_NETWORK;
    if (memcmp(nonce, at->verifier_nonce, sizeof nonce) != 0)
        return FAULT_STALE;
    if (time_ms < at->wall_ms - CREDENTIAL_SKEW_MS || time_ms > at->wall_ms + CREDENTIAL_SKEW_MS)
        return FAULT_STALE;
    out->who = certificate.who;
    out->who.fingerprint =
        credential_fingerprint(CREDENTIAL_CFL, span_of(shown.data, shown.size - DYNAMIC_BYTES));
    out->z = sm2_z(identity_bytes(bytes, &out->who), &out->p);
    return FAULT_NONE;
}

enum channel_fault cfl_vouched(struct credential_peer *peer, struct span shown,
                               const struct credential_trust *trust,
                               const struct credential_moment *at)
{
    struct reader r = reader_on(shown);
    struct cfl_certificate certificate;
    (void)at;
    certificate_read(&r, &certificate);
    const enum channel_fault fault =
        r.failed ? FAULT_MALFORMED : cfl_certificate_check(&certificate, trust->cfl);
    peer->vouched = fault == FAULT_NONE;
    return fault;
}

/* --- the public set --------------------------------------------------------------------------- */

size_t cfl_public_encode(uint8_t *out, const struct cfl_public *in)
{
    struct writer w = writer_on(out, CFL_PUBLIC_BYTES_MAX);
    write_u8(&w, in->rows);
    write_u8(&w, in->columns);
    for (size_t i = 0; i < (size_t)in->rows * in->columns; i++) {
        point_bytes encoded = point_encode(&in->key[i]);
        write_raw(&w, encoded.b, sizeof encoded.b);
    }
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum ami_status cfl_public_parse(struct cfl_public *out, struct span in)
{
    static const size_t head = 2;
    point_bytes encoded[CFL_COLUMNS_MAX];
    bool good[CFL_COLUMNS_MAX];
    struct reader r = reader_on(in);
    memset(out, 0, sizeof *out);
    out->rows = read_u8(&r);
    out->columns = read_u8(&r);
    if (r.failed || !shape_valid(out->rows, out->columns) ||
        in.size != head + (size_t)out->rows * out->columns * SM2_POINT_BYTES)
        return AMI_BAD_ENCODING;
    for (size_t i = 0; i < out->rows; i++) {
        for (size_t j = 0; j < out->columns; j++)
            read_raw(&r, encoded[j].b, sizeof encoded[j].b);
        if (point_decode_batch(out->key + i * out->columns, good, encoded, out->columns) != AMI_OK)
            return AMI_BAD_ENCODING;
    }
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

size_t cfl_seed_encode(uint8_t *out, const struct cfl_seed *in)
{
    const size_t keys = (size_t)in->rows * in->columns;
    out[0] = in->rows;
    out[1] = in->columns;
    for (size_t i = 0; i < keys; i++)
        scalar_encode(out + 2 + i * SM2_SCALAR_BYTES, &in->key[i]);
    return 2 + keys * SM2_SCALAR_BYTES;
}

enum ami_status cfl_seed_parse(struct cfl_seed *out, struct span in)
{
    memset(out, 0, sizeof *out);
    if (in.size < 2 || !shape_valid(in.data[0], in.data[1]) ||
        in.size != 2 + (size_t)in.data[0] * in.data[1] * SM2_SCALAR_BYTES)
        return AMI_BAD_ENCODING;
    out->rows = in.data[0];
    out->columns = in.data[1];
    for (size_t i = 0; i < (size_t)out->rows * out->columns; i++)
        if (scalar_decode(&out->key[i], in.data + 2 + i * SM2_SCALAR_BYTES) != AMI_OK) {
            secret_wipe(out, sizeof *out);
            return AMI_BAD_ENCODING;
        }
    return AMI_OK;
}
