/* Enrolment: the device proves itself by its install code, the MDMS by what only it can open.
 *
 * Request: C1 || SM4-GCM(scheme, U_A of the signing role, the scheme's request, tag). The
 * encapsulated secret gives two keys, one for the request and one for the reply, so the reply needs
 * no exchange of its own and nobody else can have made it.
 */
#include "keyagree/enrol.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm4gcm.h"
#include "keyagree/internal.h"

#include <string.h>

#define SHARED_BYTES (2 * ENROL_REPLY_KEY_BYTES) /* request's key and nonce, then the reply's */
/* enrol_request's fields before `sealed`. */
#define REQUEST_HEAD_BYTES_MAX (1 + SM3_BYTES + 1 + AMI_ID_BYTES_MAX + 4 + SM2_POINT_BYTES)
#define INNER_BYTES_MAX        (512 - GCM_TAG_BYTES)

static const char enrol_label[] = "amiledger enrol v1"; /* with its zero */

_Static_assert(ENROL_REPLY_KEY_BYTES == SM4_KEY_BYTES + GCM_NONCE_BYTES, "key and nonce");

enum key_role enrol_agree_role(enum enrol_role role)
{
    return role == ENROL_METER ? ROLE_METER_AGREE : ROLE_DC_AGREE;
}

enum key_role enrol_sign_role(enum enrol_role role)
{
    return role == ENROL_METER ? ROLE_METER_REPORT : ROLE_DC_SIGN;
}

/* --- install codes ---------------------------------------------------------------------------- */

/* Crockford's base 32: no letter that is read as a digit. */
static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

#define CODE_SYMBOLS 28 /* 140 bits: 128 of code, 12 of check */

static void code_check_bits(uint8_t out[2], const uint8_t code[INSTALL_CODE_BYTES])
{
    const struct span part = span_of(code, INSTALL_CODE_BYTES);
    sm3_digest digest = sm3_labelled("amiledger install code check v1", &part, 1);
    out[0] = digest.b[0];
    out[1] = digest.b[1] & 0xf0;
}

void install_code_text(char *out, const struct install_code *code)
{
    uint8_t bits[INSTALL_CODE_BYTES + 2];
    memcpy(bits, code->b, INSTALL_CODE_BYTES);
    code_check_bits(bits + INSTALL_CODE_BYTES, code->b);
    size_t at = 0;
    for (unsigned i = 0; i < CODE_SYMBOLS; i++) {
        unsigned bit = 5 * i, value = (unsigned)bits[bit / 8] << 8;
        if (bit / 8 + 1 < sizeof bits)
            value |= bits[bit / 8 + 1];
        if (i > 0 && i % 4 == 0)
            out[at++] = '-';
        out[at++] = alphabet[value >> (11 - bit % 8) & 31];
    }
    AMI_CHECK(at == INSTALL_CODE_TEXT_BYTES);
    out[at] = 0;
    secret_wipe(bits, sizeof bits);
}

/* 0..31, or -1. */
static int symbol_value(char c)
{
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 'a' + 'A');
    if (c == 'O')
        c = '0';
    if (c == 'I' || c == 'L')
        c = '1';
    const char *found = c == 0 ? NULL : strchr(alphabet, c);
    return found == NULL ? -1 : (int)(found - alphabet);
}

enum ami_status install_code_parse(struct install_code *out, const char *text)
{
    uint8_t bits[INSTALL_CODE_BYTES + 2] = {0}, check[2];
    unsigned symbols = 0;
    enum ami_status status = AMI_OK;
    for (; *text != 0 && status == AMI_OK; text++) {
        if (*text == '-' || *text == ' ' || *text == '\t' || *text == '\r' || *text == '\n')
            continue;
        int value = symbol_value(*text);
        if (value < 0 || symbols == CODE_SYMBOLS) {
            status = AMI_BAD_ENCODING;
            break;
        }
        unsigned bit = 5 * symbols++, shifted = (unsigned)value << (11 - bit % 8);
        bits[bit / 8] |= (uint8_t)(shifted >> 8);
        if (bit / 8 + 1 < sizeof bits)
            bits[bit / 8 + 1] |= (uint8_t)shifted;
    }
    code_check_bits(check, bits);
    if (symbols != CODE_SYMBOLS || memcmp(check, bits + INSTALL_CODE_BYTES, sizeof check) != 0)
        status = AMI_BAD_ENCODING;
    memset(out, 0, sizeof *out);
    if (status == AMI_OK)
        memcpy(out->b, bits, sizeof out->b);
    secret_wipe(bits, sizeof bits);
    return status;
}

sm3_digest install_code_hash(const struct install_code *code, enum enrol_role role,
                             const struct ami_id *name)
{
    uint8_t bytes[2 + AMI_ID_BYTES_MAX + INSTALL_CODE_BYTES];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u8(&w, (uint8_t)role);
    write_id(&w, name);
    write_raw(&w, code->b, sizeof code->b);
    AMI_CHECK(writer_ok(&w));
    const struct span part = writer_span(&w);
    sm3_digest digest = sm3_labelled("amiledger install code v1", &part, 1);
    secret_wipe(bytes, sizeof bytes);
    return digest;
}

/* --- what both sides compute ------------------------------------------------------------------ */

/* The encoded fields of a request before `sealed`; `with_c1` false for what the encapsulation
 * itself is bound to. */
static void request_head(struct writer *w, const struct enrol_request *q, bool with_c1)
{
    write_u8(w, q->role);
    write_raw(w, q->network.b, sizeof q->network.b);
    write_id(w, &q->device);
    write_u32(w, q->epoch);
    if (with_c1)
        write_raw(w, q->ephemeral.b, sizeof q->ephemeral.b);
    AMI_CHECK(writer_ok(w));
}

/* label 00, then the fields: the info of the encapsulation. */
static struct span request_info(uint8_t out[sizeof enrol_label + REQUEST_HEAD_BYTES_MAX],
                                const struct enrol_request *q)
{
    struct writer w = writer_on(out, sizeof enrol_label + REQUEST_HEAD_BYTES_MAX);
    write_raw(&w, enrol_label, sizeof enrol_label);
    request_head(&w, q, false);
    return writer_span(&w);
}

static sm3_digest request_tag(const sm3_digest *code_hash, struct span head,
                              const struct enrol_request_inner *inner)
{
    uint8_t bytes[1 + SM2_POINT_BYTES + 4 + AMI_SCHEME_PART_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    write_u8(&w, inner->scheme);
    write_raw(&w, inner->u_sign.b, sizeof inner->u_sign.b);
    write_bytes(&w, inner->agree_part);
    AMI_CHECK(writer_ok(&w));
    const struct span parts[] = {span_of(enrol_label, sizeof enrol_label), head, writer_span(&w)};
    return hmac_sm3(span_of(code_hash->b, sizeof code_hash->b), parts, 3);
}

static void split(sm4_key *key, gcm_nonce *nonce, const uint8_t material[ENROL_REPLY_KEY_BYTES])
{
    memcpy(key->b, material, sizeof key->b);
    memcpy(nonce->b, material + sizeof key->b, sizeof nonce->b);
}

static void seal(uint8_t *out, const uint8_t material[ENROL_REPLY_KEY_BYTES], struct span aad,
                 struct span plain)
{
    sm4_key key;
    gcm_nonce nonce;
    split(&key, &nonce, material);
    sm4gcm_seal(out, &key, &nonce, aad, plain);
    secret_wipe(&key, sizeof key);
}

static enum ami_status unseal(uint8_t *out, const uint8_t material[ENROL_REPLY_KEY_BYTES],
                              struct span aad, struct span sealed)
{
    sm4_key key;
    gcm_nonce nonce;
    split(&key, &nonce, material);
    enum ami_status status = sm4gcm_open(out, &key, &nonce, aad, sealed);
    secret_wipe(&key, sizeof key);
    return status;
}

/* The fields of a reply before `sealed`, and the request that it answers. */
static struct span reply_aad(uint8_t out[1 + AMI_ID_BYTES_MAX + 6 + SM3_BYTES],
                             const struct enrol_reply *reply, const sm3_digest *request)
{
    struct writer w = writer_on(out, 1 + AMI_ID_BYTES_MAX + 6 + SM3_BYTES);
    write_id(&w, &reply->device);
    write_u32(&w, reply->epoch);
    write_u16(&w, reply->status);
    write_raw(&w, request->b, sizeof request->b);
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

/* --- the device's side ------------------------------------------------------------------------ */

/* Seals the inner request and encodes the whole. `q` lacks only `sealed`. */
static void begin_seal(struct enrol_pending *out, struct enrol_request *q, const point *u_sign,
                       const sm3_digest *code_hash, const uint8_t shared[SHARED_BYTES])
{
    uint8_t head_bytes[REQUEST_HEAD_BYTES_MAX], plain[INNER_BYTES_MAX];
    uint8_t sealed[INNER_BYTES_MAX + GCM_TAG_BYTES];
    struct writer head = writer_on(head_bytes, sizeof head_bytes);
    request_head(&head, q, true);
    struct enrol_request_inner inner = {
        .scheme = out->scheme,
        .u_sign = point_encode(u_sign),
        .agree_part = agree_part_span(&out->agree.request),
    };
    inner.tag = request_tag(code_hash, writer_span(&head), &inner);
    struct writer w = writer_on(plain, sizeof plain);
    enrol_request_inner_encode(&w, &inner);
    AMI_CHECK(writer_ok(&w));
    seal(sealed, shared, writer_span(&head), writer_span(&w));
    q->sealed = span_of(sealed, w.size + GCM_TAG_BYTES);
    struct writer request = writer_on(out->request, sizeof out->request);
    enrol_request_encode(&request, q);
    AMI_CHECK(writer_ok(&request));
    out->request_size = (uint16_t)request.size;
    secret_wipe(plain, sizeof plain);
}

enum ami_status enrol_begin(struct enrol_pending *out, const struct network *net,
                            enum enrol_role role, const struct ami_id *name, uint32_t epoch,
                            const sm3_digest *code_hash, const uint8_t random[3][SM2_WIDE_BYTES])
{
    memset(out, 0, sizeof *out);
    const struct scheme *scheme = scheme_by_number(net->scheme);
    if (scheme == NULL)
        return AMI_WRONG_SCHEME;
    if (epoch == 0 || (role != ENROL_METER && role != ENROL_DC))
        return AMI_BAD_ARGUMENT;
    out->role = role;
    out->name = *name;
    out->epoch = epoch;
    out->scheme = net->scheme;
    out->network = net->id;
    out->sign_secret = scalar_from_wide(random[0]);
    point u_sign = point_mul_base(&out->sign_secret);
    scheme->device_begin(&out->agree, enrol_agree_role(role), random[1]);

    struct enrol_request q = {
        .role = (uint8_t)role, .network = net->id, .device = *name, .epoch = epoch};
    uint8_t info[sizeof enrol_label + REQUEST_HEAD_BYTES_MAX], shared[SHARED_BYTES];
    enum ami_status status = sm2_encapsulate(&q.ephemeral, shared, sizeof shared, &net->enrol,
                                             request_info(info, &q), random[2]);
    if (status == AMI_OK) {
        memcpy(out->reply_key, shared + ENROL_REPLY_KEY_BYTES, sizeof out->reply_key);
        begin_seal(out, &q, &u_sign, code_hash, shared);
    } else {
        secret_wipe(out, sizeof *out);
    }
    secret_wipe(shared, sizeof shared);
    return status;
}

/* Opens the reply into `plain` and parses it; `inner` borrows plain. */
static enum ami_status finish_open(struct enrol_reply_inner *inner, uint8_t *plain,
                                   size_t plain_size, const struct enrol_pending *pending,
                                   const struct enrol_reply *reply)
{
    uint8_t aad[1 + AMI_ID_BYTES_MAX + 6 + SM3_BYTES];
    if (reply->sealed.size < GCM_TAG_BYTES || reply->sealed.size - GCM_TAG_BYTES > plain_size)
        return AMI_BAD_CRYPTO;
    sm3_digest digest = sm3(span_of(pending->request, pending->request_size));
    AMI_TRY(unseal(plain, pending->reply_key, reply_aad(aad, reply, &digest), reply->sealed));
    return enrol_reply_inner_parse(inner, span_of(plain, reply->sealed.size - GCM_TAG_BYTES));
}

static enum ami_status finish_keys(struct device_keys *out, const struct enrol_pending *pending,
                                   const struct network *net, const struct scheme *scheme,
                                   const struct enrol_reply_inner *inner)
{
    scalar t;
    enum key_role role = enrol_sign_role(pending->role);
    struct verify_key *sign = &out->sign.public_key;
    out->role = pending->role;
    out->name = pending->name;
    out->epoch = pending->epoch;
    out->home_dc = inner->home_dc;
    AMI_TRY(point_decode(&sign->w, &inner->w_sign));
    AMI_TRY(scalar_decode(&t, inner->t_sign));
    sign->h_a = key_h_a(net, role, &out->name, out->epoch);
    enum ami_status status = sm2_implicit_accept(&out->sign.private_key, &t, &pending->sign_secret,
                                                 &sign->w, &sign->h_a, &net->p_pub);
    secret_wipe(&t, sizeof t);
    if (status != AMI_OK)
        return status;
    sign->p = out->sign.private_key.p;
    return scheme->device_accept(&out->agree, &pending->agree, net, enrol_agree_role(out->role),
                                 &out->name, out->epoch, inner->agree_secret, inner->agree_part);
}

enum ami_status enrol_finish(struct device_keys *out, const struct enrol_pending *pending,
                             const struct network *net, const struct enrol_reply *reply)
{
    uint8_t plain[INNER_BYTES_MAX];
    struct enrol_reply_inner inner;
    memset(out, 0, sizeof *out);
    const struct scheme *scheme = scheme_by_number(pending->scheme);
    if (!sm3_equal(&pending->network, &net->id) || scheme == NULL || net->scheme != scheme->number)
        return AMI_FOREIGN_KEY;
    if (!ami_id_equal(&reply->device, &pending->name))
        return AMI_UNKNOWN_DEVICE;
    if (reply->epoch != pending->epoch)
        return AMI_WRONG_EPOCH;
    if (reply->status != AMI_OK)
        return reply->status < AMI_STATUS_COUNT ? (enum ami_status)reply->status : AMI_BAD_ENCODING;
    enum ami_status status = finish_open(&inner, plain, sizeof plain, pending, reply);
    if (status == AMI_OK)
        status = finish_keys(out, pending, net, scheme, &inner);
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    secret_wipe(plain, sizeof plain);
    secret_wipe(&inner, sizeof inner);
    return status;
}

/* --- the MDMS's side -------------------------------------------------------------------------- */

sm3_digest enrol_request_digest(const struct enrol_request *request)
{
    uint8_t bytes[ENROL_REQUEST_BYTES_MAX];
    struct writer w = writer_on(bytes, sizeof bytes);
    enrol_request_encode(&w, request);
    AMI_CHECK(writer_ok(&w));
    return sm3(writer_span(&w));
}

static enum ami_status open_inner(struct enrol_opened *out, const struct network *net,
                                  const struct enrol_request_inner *inner, struct span head,
                                  const sm3_digest *code_hash)
{
    if (inner->scheme != net->scheme)
        return AMI_WRONG_SCHEME;
    sm3_digest tag = request_tag(code_hash, head, inner);
    if (!sm3_equal_secret(&tag, &inner->tag))
        return AMI_WRONG_CODE;
    if (inner->agree_part.size > sizeof out->agree_request.b)
        return AMI_BAD_CRYPTO;
    out->agree_request.size = (uint8_t)inner->agree_part.size;
    if (inner->agree_part.size != 0)
        memcpy(out->agree_request.b, inner->agree_part.data, inner->agree_part.size);
    return point_decode(&out->u_sign, &inner->u_sign);
}

enum ami_status enrol_open(struct enrol_opened *out, const struct network *net,
                           const sm2_private *enrol_key, const struct enrol_request *request,
                           const sm3_digest *code_hash)
{
    uint8_t head_bytes[REQUEST_HEAD_BYTES_MAX], plain[INNER_BYTES_MAX], shared[SHARED_BYTES];
    uint8_t info[sizeof enrol_label + REQUEST_HEAD_BYTES_MAX];
    struct enrol_request_inner inner;
    memset(out, 0, sizeof *out);
    if (!sm3_equal(&request->network, &net->id))
        return AMI_WRONG_CHAIN;
    if (request->epoch == 0 || (request->role != ENROL_METER && request->role != ENROL_DC))
        return AMI_BAD_ARGUMENT;
    if (request->sealed.size < GCM_TAG_BYTES || request->sealed.size > sizeof plain + GCM_TAG_BYTES)
        return AMI_BAD_CRYPTO;
    AMI_TRY(sm2_decapsulate(shared, sizeof shared, enrol_key, &request->ephemeral,
                            request_info(info, request)));
    struct writer head = writer_on(head_bytes, sizeof head_bytes);
    request_head(&head, request, true);
    enum ami_status status = unseal(plain, shared, writer_span(&head), request->sealed);
    if (status == AMI_OK)
        status =
            enrol_request_inner_parse(&inner, span_of(plain, request->sealed.size - GCM_TAG_BYTES));
    if (status == AMI_OK)
        status = open_inner(out, net, &inner, writer_span(&head), code_hash);
    if (status == AMI_OK) {
        out->role = (enum enrol_role)request->role;
        out->name = request->device;
        out->epoch = request->epoch;
        out->digest = enrol_request_digest(request);
        memcpy(out->reply_key, shared + ENROL_REPLY_KEY_BYTES, sizeof out->reply_key);
    } else {
        secret_wipe(out, sizeof *out);
    }
    secret_wipe(plain, sizeof plain);
    secret_wipe(shared, sizeof shared);
    return status;
}

/* Seals the inner reply and encodes the whole. */
static void issue_seal(struct enrol_issued *out, const struct enrol_opened *opened,
                       const struct enrol_reply_inner *inner)
{
    uint8_t plain[INNER_BYTES_MAX], sealed[INNER_BYTES_MAX + GCM_TAG_BYTES];
    uint8_t aad[1 + AMI_ID_BYTES_MAX + 6 + SM3_BYTES];
    struct enrol_reply reply = {.device = opened->name, .epoch = opened->epoch, .status = AMI_OK};
    struct writer w = writer_on(plain, sizeof plain);
    enrol_reply_inner_encode(&w, inner);
    AMI_CHECK(writer_ok(&w));
    seal(sealed, opened->reply_key, reply_aad(aad, &reply, &opened->digest), writer_span(&w));
    reply.sealed = span_of(sealed, w.size + GCM_TAG_BYTES);
    struct writer encoded = writer_on(out->reply, sizeof out->reply);
    enrol_reply_encode(&encoded, &reply);
    AMI_CHECK(writer_ok(&encoded));
    out->reply_size = (uint16_t)encoded.size;
    secret_wipe(plain, sizeof plain);
}

enum ami_status enrol_issue(struct enrol_issued *out, const struct network *net, const scalar *x,
                            const struct enrol_opened *opened, const struct ami_id *home_dc,
                            struct span home_part, const uint8_t random[2][SM2_WIDE_BYTES])
{
    const struct scheme *scheme = scheme_by_number(net->scheme);
    AMI_CHECK(scheme != NULL);
    memset(out, 0, sizeof *out);
    struct agree_secret secret;
    enum ami_status status = scheme->mdms_issue(
        &secret, &out->agree_part, net, x, enrol_agree_role(opened->role), &opened->name,
        opened->epoch, home_part, agree_part_span(&opened->agree_request), random[1]);
    if (status != AMI_OK)
        return status;
    point w_sign;
    scalar t, w = scalar_from_wide(random[0]);
    sm3_digest h_a = key_h_a(net, enrol_sign_role(opened->role), &opened->name, opened->epoch);
    sm2_implicit_issue(&w_sign, &t, &w, x, &opened->u_sign, &h_a);
    out->w_sign = point_encode(&w_sign);
    struct enrol_reply_inner inner = {
        .home_dc = *home_dc,
        .w_sign = out->w_sign,
        .agree_secret = span_of(secret.b, secret.size),
        .agree_part = agree_part_span(&out->agree_part),
    };
    scalar_encode(inner.t_sign, &t);
    issue_seal(out, opened, &inner);
    secret_wipe(&w, sizeof w);
    secret_wipe(&t, sizeof t);
    secret_wipe(&inner, sizeof inner);
    secret_wipe(&secret, sizeof secret);
    return AMI_OK;
}

size_t enrol_refuse(uint8_t *out, const struct ami_id *name, uint32_t epoch, enum ami_status status)
{
    const struct enrol_reply reply = {
        .device = *name, .epoch = epoch, .status = (uint16_t)status, .sealed = span_of(NULL, 0)};
    struct writer w = writer_on(out, ENROL_REPLY_BYTES_MAX);
    enrol_reply_encode(&w, &reply);
    AMI_CHECK(writer_ok(&w) && status != AMI_OK);
    return w.size;
}
