/* Key files: head, body (sealed or not), digest; and the three contents. */
#include "keyagree/keyfile.h"

#include "base/check.h"
#include "keyagree/internal.h"

#include <stdio.h>
#include <string.h>

static const uint8_t magic[8] = {'a', 'm', 'i', 'k', 'e', 'y', '\r', '\n'};

#define FILE_VERSION      1
#define HEAD_BYTES        (8 + 1 + 1 + 1 + SM3_BYTES + 4)
#define CONTENT_BYTES_MAX (KEYFILE_BYTES_MAX - HEAD_BYTES - SECRET_SEAL_OVERHEAD_BYTES - SM3_BYTES)
#define PURPOSE_BYTES     (48 + 2 * SM3_BYTES)

/* Bound into the seal: a body cannot be carried over to another kind or network. */
static void purpose_of(char out[PURPOSE_BYTES], enum keyfile_kind kind, const sm3_digest *network)
{
    char hex[2 * SM3_BYTES + 1];
    hex_encode(hex, network->b, sizeof network->b);
    int size = snprintf(out, PURPOSE_BYTES, "amiledger key file v1 %u %s", (unsigned)kind, hex);
    AMI_CHECK(size > 0 && size < PURPOSE_BYTES);
}

static enum ami_status file_encode(uint8_t *out, size_t *size, enum keyfile_kind kind,
                                   const sm3_digest *network, struct span content,
                                   const char *passphrase)
{
    size_t body = content.size + (passphrase != NULL ? SECRET_SEAL_OVERHEAD_BYTES : 0);
    struct writer w = writer_on(out, KEYFILE_BYTES_MAX);
    AMI_CHECK(content.size <= CONTENT_BYTES_MAX);
    write_raw(&w, magic, sizeof magic);
    write_u8(&w, FILE_VERSION);
    write_u8(&w, (uint8_t)kind);
    write_u8(&w, passphrase != NULL ? 1 : 0);
    write_raw(&w, network->b, sizeof network->b);
    write_u32(&w, (uint32_t)body);
    AMI_CHECK(w.size == HEAD_BYTES);
    if (passphrase != NULL) {
        char purpose[PURPOSE_BYTES];
        purpose_of(purpose, kind, network);
        AMI_TRY(secret_seal(out + HEAD_BYTES, passphrase, purpose, content));
        w.size += body;
    } else {
        write_raw(&w, content.data, content.size);
    }
    sm3_digest digest = sm3(writer_span(&w));
    write_raw(&w, digest.b, sizeof digest.b);
    AMI_CHECK(writer_ok(&w));
    *size = w.size;
    return AMI_OK;
}

/* Also gives the body. */
static enum ami_status head_parse(struct keyfile_head *out, struct span *body, struct span file)
{
    struct reader r = reader_on(file);
    size_t known = file.size < sizeof magic ? file.size : sizeof magic;
    memset(out, 0, sizeof *out);
    if (file.size == 0)
        return AMI_TRUNCATED;
    if (memcmp(file.data, magic, known) != 0)
        return AMI_BAD_ENCODING;
    (void)read_span(&r, sizeof magic);
    uint8_t version = read_u8(&r);
    if (!r.failed && version != FILE_VERSION)
        return AMI_BAD_VERSION;
    uint8_t kind = read_u8(&r), sealed = read_u8(&r);
    read_raw(&r, out->network.b, sizeof out->network.b);
    uint32_t size = read_u32(&r);
    if (r.failed)
        return AMI_TRUNCATED;
    if (size > KEYFILE_BYTES_MAX)
        return AMI_DAMAGED;
    *body = read_span(&r, size);
    struct span digest = read_span(&r, SM3_BYTES);
    if (r.failed)
        return AMI_TRUNCATED;
    sm3_digest want = sm3(span_of(file.data, HEAD_BYTES + body->size));
    if (!reader_done(&r) || memcmp(want.b, digest.data, SM3_BYTES) != 0 || sealed > 1 ||
        kind < KEYFILE_DEVICE || kind > KEYFILE_MDMS)
        return AMI_DAMAGED;
    out->kind = (enum keyfile_kind)kind;
    out->sealed = sealed == 1;
    return AMI_OK;
}

enum ami_status keyfile_head_parse(struct keyfile_head *out, struct span file)
{
    struct span body;
    return head_parse(out, &body, file);
}

/* Head, kind, network and seal. `content` has CONTENT_BYTES_MAX bytes. */
static enum ami_status file_open(uint8_t *content, size_t *size, enum keyfile_kind kind,
                                 const sm3_digest *network, struct span file,
                                 const char *passphrase)
{
    struct keyfile_head head;
    struct span body;
    AMI_TRY(head_parse(&head, &body, file));
    if (head.kind != kind)
        return AMI_BAD_ARGUMENT;
    if (network != NULL && !sm3_equal(network, &head.network))
        return AMI_FOREIGN_KEY;
    if (kind == KEYFILE_MDMS && !head.sealed)
        return AMI_DAMAGED; /* the master key is never written in the clear */
    size_t overhead = head.sealed ? SECRET_SEAL_OVERHEAD_BYTES : 0;
    if (body.size < overhead || body.size - overhead > CONTENT_BYTES_MAX)
        return AMI_DAMAGED;
    *size = body.size - overhead;
    if (!head.sealed) {
        if (body.size != 0)
            memcpy(content, body.data, body.size);
        return AMI_OK;
    }
    if (passphrase == NULL)
        return AMI_WRONG_PASSPHRASE;
    char purpose[PURPOSE_BYTES];
    purpose_of(purpose, kind, &head.network);
    enum ami_status status = secret_open(content, passphrase, purpose, body);
    return status == AMI_BAD_ENCODING ? AMI_DAMAGED : status;
}

static void write_scalar(struct writer *w, const scalar *k)
{
    uint8_t bytes[SM2_SCALAR_BYTES];
    scalar_encode(bytes, k);
    write_raw(w, bytes, sizeof bytes);
    secret_wipe(bytes, sizeof bytes);
}

/* [1, n-1]. */
static scalar read_scalar(struct reader *r)
{
    uint8_t bytes[SM2_SCALAR_BYTES];
    scalar out = {{0}};
    read_raw(r, bytes, sizeof bytes);
    if (!r->failed && scalar_decode(&out, bytes) != AMI_OK)
        r->failed = true;
    secret_wipe(bytes, sizeof bytes);
    return out;
}

/* [0, n-1]: zero where a scheme has no such secret. */
static scalar read_scalar_or_zero(struct reader *r)
{
    static const uint8_t zero[SM2_SCALAR_BYTES] = {0};
    if (reader_left(r) >= sizeof zero && secret_equal(r->data + r->at, zero, sizeof zero)) {
        (void)read_span(r, sizeof zero);
        return (scalar){{0}};
    }
    return read_scalar(r);
}

static void write_point(struct writer *w, const point *p)
{
    point_bytes encoded = point_encode(p);
    write_raw(w, encoded.b, sizeof encoded.b);
}

static point read_point(struct reader *r)
{
    point out = {{0}, {0}};
    point_bytes encoded;
    read_raw(r, encoded.b, sizeof encoded.b);
    if (!r->failed && point_decode(&out, &encoded) != AMI_OK)
        r->failed = true;
    return out;
}

static enum enrol_role read_role(struct reader *r)
{
    uint8_t role = read_u8(r);
    if (role != ENROL_METER && role != ENROL_DC)
        r->failed = true;
    return (enum enrol_role)(role == ENROL_DC ? ENROL_DC : ENROL_METER);
}

static uint32_t read_epoch(struct reader *r)
{
    uint32_t epoch = read_u32(r);
    if (epoch == 0)
        r->failed = true;
    return epoch;
}

/* --- a device --------------------------------------------------------------------------------- */

enum ami_status device_file_encode(uint8_t *out, size_t *size, const struct network *net,
                                   const struct device_file *in, const char *passphrase)
{
    uint8_t content[CONTENT_BYTES_MAX];
    struct writer w = writer_on(content, sizeof content);
    const struct device_keys *k = &in->keys;
    write_u8(&w, (uint8_t)k->role);
    write_id(&w, &k->name);
    write_u32(&w, k->epoch);
    write_id(&w, &k->home_dc);
    write_u8(&w, k->agree.scheme);
    write_scalar(&w, &k->agree.d);
    write_scalar(&w, &k->agree.r);
    write_point(&w, &k->agree.w);
    write_scalar(&w, &k->sign.private_key.d);
    write_point(&w, &k->sign.public_key.w);
    write_u8(&w, in->has_chain ? 1 : 0);
    if (in->has_chain)
        write_raw(&w, in->chain.b, sizeof in->chain.b);
    write_u64(&w, in->starts);
    AMI_CHECK(writer_ok(&w));
    enum ami_status status =
        file_encode(out, size, KEYFILE_DEVICE, &net->id, writer_span(&w), passphrase);
    secret_wipe(content, sizeof content);
    return status;
}

/* Everything that is stored; what is derived comes after. False: no valid content. */
static bool device_content_parse(struct device_file *out, scalar *sign_d, struct span content)
{
    struct reader r = reader_on(content);
    struct device_keys *k = &out->keys;
    k->role = read_role(&r);
    k->name = read_id(&r);
    k->epoch = read_epoch(&r);
    k->home_dc = read_id(&r);
    k->agree.scheme = read_u8(&r);
    k->agree.role = enrol_agree_role(k->role);
    k->agree.name = k->name;
    k->agree.epoch = k->epoch;
    k->agree.d = read_scalar(&r);
    k->agree.r = read_scalar_or_zero(&r);
    k->agree.w = read_point(&r);
    *sign_d = read_scalar(&r);
    k->sign.public_key.w = read_point(&r);
    uint8_t has_chain = read_u8(&r);
    out->has_chain = has_chain == 1;
    if (has_chain == 1)
        read_raw(&r, out->chain.b, sizeof out->chain.b);
    out->starts = read_u64(&r);
    return reader_done(&r) && has_chain <= 1;
}

static enum ami_status device_derive(struct device_file *out, const scalar *sign_d,
                                     const struct network *net)
{
    struct device_keys *k = &out->keys;
    const struct scheme *scheme = scheme_by_number(k->agree.scheme);
    if (scheme == NULL)
        return AMI_DAMAGED;
    if (k->agree.scheme != net->scheme)
        return AMI_FOREIGN_KEY;
    if (sm2_private_init(&k->sign.private_key, sign_d) != AMI_OK ||
        scheme->key_restore(&k->agree, net, false) != AMI_OK)
        return AMI_DAMAGED;
    k->sign.public_key.p = k->sign.private_key.p;
    k->sign.public_key.h_a = key_h_a(net, enrol_sign_role(k->role), &k->name, k->epoch);
    return AMI_OK;
}

enum ami_status device_file_parse(struct device_file *out, const struct network *net,
                                  struct span file, const char *passphrase)
{
    uint8_t content[CONTENT_BYTES_MAX];
    size_t size = 0;
    scalar sign_d = {{0}};
    memset(out, 0, sizeof *out);
    enum ami_status status = file_open(content, &size, KEYFILE_DEVICE, &net->id, file, passphrase);
    if (status == AMI_OK && !device_content_parse(out, &sign_d, span_of(content, size)))
        status = AMI_DAMAGED;
    if (status == AMI_OK)
        status = device_derive(out, &sign_d, net);
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    secret_wipe(content, sizeof content);
    secret_wipe(&sign_d, sizeof sign_d);
    return status;
}

enum ami_status device_file_verify(const struct device_file *f, const struct network *net)
{
    const struct device_keys *k = &f->keys;
    const struct scheme *scheme = scheme_by_number(k->agree.scheme);
    struct agree_key agree = k->agree;
    struct verify_key sign;
    point_bytes w = point_encode(&k->sign.public_key.w);
    AMI_CHECK(scheme != NULL);
    bool good =
        verify_key_init(&sign, net, enrol_sign_role(k->role), &k->name, k->epoch, &w) == AMI_OK &&
        point_equal(&sign.p, &k->sign.private_key.p) &&
        scheme->key_restore(&agree, net, true) == AMI_OK;
    secret_wipe(&agree, sizeof agree);
    return good ? AMI_OK : AMI_FOREIGN_KEY;
}

/* --- a device that waits for its reply -------------------------------------------------------- */

enum ami_status pending_file_encode(uint8_t *out, size_t *size, const struct enrol_pending *in,
                                    const char *passphrase)
{
    uint8_t content[CONTENT_BYTES_MAX];
    struct writer w = writer_on(content, sizeof content);
    write_u8(&w, (uint8_t)in->role);
    write_id(&w, &in->name);
    write_u32(&w, in->epoch);
    write_u8(&w, in->scheme);
    write_scalar(&w, &in->sign_secret);
    write_scalar(&w, &in->agree.secret);
    write_bytes(&w, agree_part_span(&in->agree.request));
    write_raw(&w, in->reply_key, sizeof in->reply_key);
    write_bytes(&w, span_of(in->request, in->request_size));
    AMI_CHECK(writer_ok(&w));
    enum ami_status status =
        file_encode(out, size, KEYFILE_PENDING, &in->network, writer_span(&w), passphrase);
    secret_wipe(content, sizeof content);
    return status;
}

static bool pending_content_parse(struct enrol_pending *out, struct span content)
{
    struct reader r = reader_on(content);
    struct enrol_request request;
    out->role = read_role(&r);
    out->name = read_id(&r);
    out->epoch = read_epoch(&r);
    out->scheme = read_u8(&r);
    out->sign_secret = read_scalar(&r);
    out->agree.secret = read_scalar(&r);
    struct span part = read_bytes(&r, sizeof out->agree.request.b);
    read_raw(&r, out->reply_key, sizeof out->reply_key);
    struct span sent = read_bytes(&r, sizeof out->request);
    if (!reader_done(&r) || scheme_by_number(out->scheme) == NULL ||
        enrol_request_parse(&request, sent) != AMI_OK)
        return false;
    out->agree.request.size = (uint8_t)part.size;
    if (part.size != 0)
        memcpy(out->agree.request.b, part.data, part.size);
    out->request_size = (uint16_t)sent.size;
    memcpy(out->request, sent.data, sent.size);
    return request.role == (uint8_t)out->role && ami_id_equal(&request.device, &out->name) &&
           request.epoch == out->epoch && sm3_equal(&request.network, &out->network);
}

enum ami_status pending_file_parse(struct enrol_pending *out, const struct network *net,
                                   struct span file, const char *passphrase)
{
    uint8_t content[CONTENT_BYTES_MAX];
    size_t size = 0;
    memset(out, 0, sizeof *out);
    enum ami_status status = file_open(content, &size, KEYFILE_PENDING, &net->id, file, passphrase);
    out->network = net->id;
    if (status == AMI_OK && !pending_content_parse(out, span_of(content, size)))
        status = AMI_DAMAGED;
    if (status == AMI_OK && out->scheme != net->scheme)
        status = AMI_FOREIGN_KEY;
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    secret_wipe(content, sizeof content);
    return status;
}

/* --- the MDMS --------------------------------------------------------------------------------- */

/* The public side, from the private keys in `out`. */
static enum ami_status mdms_keys_derive(struct mdms_keys *out, const struct ami_id *name,
                                        uint8_t scheme, const scalar d[3])
{
    if (scheme_by_number(scheme) == NULL)
        return AMI_BAD_ARGUMENT;
    if (sm2_private_init(&out->sign, &d[0]) != AMI_OK ||
        sm2_private_init(&out->enrol, &d[1]) != AMI_OK ||
        sm2_private_init(&out->readings, &d[2]) != AMI_OK)
        return AMI_BAD_CRYPTO;
    out->net.name = *name;
    out->net.scheme = scheme;
    out->net.p_pub = point_mul_base(&out->x);
    out->net.sign = out->sign.p;
    out->net.enrol = out->enrol.p;
    out->net.readings = out->readings.p;
    network_finish(&out->net);
    return AMI_OK;
}

enum ami_status mdms_keys_make(struct mdms_keys *out, const struct ami_id *name, uint8_t scheme,
                               const uint8_t random[4][SM2_WIDE_BYTES])
{
    scalar d[3];
    memset(out, 0, sizeof *out);
    out->x = scalar_from_wide(random[0]);
    for (size_t i = 0; i < 3; i++)
        d[i] = scalar_from_wide(random[1 + i]);
    enum ami_status status = mdms_keys_derive(out, name, scheme, d);
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    secret_wipe(d, sizeof d);
    return status;
}

enum ami_status mdms_file_encode(uint8_t *out, size_t *size, const struct mdms_keys *in,
                                 const char *passphrase)
{
    uint8_t content[CONTENT_BYTES_MAX];
    struct writer w = writer_on(content, sizeof content);
    if (passphrase == NULL || passphrase[0] == 0)
        return AMI_BAD_ARGUMENT;
    write_id(&w, &in->net.name);
    write_u8(&w, in->net.scheme);
    write_scalar(&w, &in->x);
    write_scalar(&w, &in->sign.d);
    write_scalar(&w, &in->enrol.d);
    write_scalar(&w, &in->readings.d);
    AMI_CHECK(writer_ok(&w));
    enum ami_status status =
        file_encode(out, size, KEYFILE_MDMS, &in->net.id, writer_span(&w), passphrase);
    secret_wipe(content, sizeof content);
    return status;
}

static enum ami_status mdms_content_parse(struct mdms_keys *out, struct span content)
{
    scalar d[3];
    struct reader r = reader_on(content);
    struct ami_id name = read_id(&r);
    uint8_t scheme = read_u8(&r);
    out->x = read_scalar(&r);
    for (size_t i = 0; i < 3; i++)
        d[i] = read_scalar(&r);
    bool good = reader_done(&r) && mdms_keys_derive(out, &name, scheme, d) == AMI_OK;
    secret_wipe(d, sizeof d);
    return good ? AMI_OK : AMI_DAMAGED;
}

enum ami_status mdms_file_parse(struct mdms_keys *out, const struct network *net, struct span file,
                                const char *passphrase)
{
    uint8_t content[CONTENT_BYTES_MAX];
    size_t size = 0;
    struct keyfile_head head;
    memset(out, 0, sizeof *out);
    enum ami_status status =
        file_open(content, &size, KEYFILE_MDMS, net != NULL ? &net->id : NULL, file, passphrase);
    if (status == AMI_OK)
        status = keyfile_head_parse(&head, file);
    if (status == AMI_OK)
        status = mdms_content_parse(out, span_of(content, size));
    /* The head's network id must be that of the keys: it was bound into the seal. */
    if (status == AMI_OK && !sm3_equal(&out->net.id, &head.network))
        status = AMI_DAMAGED;
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    secret_wipe(content, sizeof content);
    return status;
}
