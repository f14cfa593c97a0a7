#include "channel/file.h"

#include "base/check.h"
#include "channel/cfl.h"
#include "channel/internal.h"
#include "crypto/secret.h"

#include <string.h>

#define CREDENTIAL_VERSION 1
#define REVOKED_VERSION    3
#define LABEL_LIST         "amiledger revoked operators v3"

static const uint8_t credential_magic[FILE_MAGIC_BYTES] = {'a', 'm', 'i', 'c', 'r', 'e', 'd', '\n'};
static const uint8_t revoked_magic[FILE_MAGIC_BYTES] = {'a', 'm', 'i', 'r', 'e', 'v', 'k', '\n'};

void file_head_write(struct writer *w, const uint8_t magic[FILE_MAGIC_BYTES], uint8_t version)
{
    write_raw(w, magic, FILE_MAGIC_BYTES);
    write_u8(w, version);
}

enum ami_status file_head_read(struct reader *r, const uint8_t magic[FILE_MAGIC_BYTES],
                               uint8_t version)
{
    uint8_t found[FILE_MAGIC_BYTES];
    const size_t known = r->size < FILE_MAGIC_BYTES ? r->size : FILE_MAGIC_BYTES;
    if (known > 0 && memcmp(r->data, magic, known) != 0)
        return AMI_BAD_ENCODING;
    read_raw(r, found, sizeof found);
    const uint8_t has = read_u8(r);
    if (r->failed)
        return AMI_TRUNCATED;
    return has == version ? AMI_OK : AMI_BAD_VERSION;
}

void file_point_write(struct writer *w, const point *p)
{
    point_bytes encoded = point_encode(p);
    write_raw(w, encoded.b, sizeof encoded.b);
}

void file_point_read(struct reader *r, point *out)
{
    point_bytes encoded;
    read_raw(r, encoded.b, sizeof encoded.b);
    if (!r->failed && point_decode(out, &encoded) != AMI_OK)
        r->failed = true;
}

void file_network_write(struct writer *w, const struct network *net)
{
    write_id(w, &net->name);
    write_u8(w, net->scheme);
    file_point_write(w, &net->p_pub);
    file_point_write(w, &net->sign);
    file_point_write(w, &net->enrol);
    file_point_write(w, &net->readings);
}

void file_network_read(struct reader *r, struct network *out)
{
    out->name = read_id(r);
    out->scheme = read_u8(r);
    file_point_read(r, &out->p_pub);
    file_point_read(r, &out->sign);
    file_point_read(r, &out->enrol);
    file_point_read(r, &out->readings);
}

void file_secret_write(struct writer *w, const scalar *key)
{
    uint8_t d[SM2_SCALAR_BYTES];
    scalar_encode(d, key);
    write_raw(w, d, sizeof d);
    secret_wipe(d, sizeof d);
    sm3_digest digest = sm3(writer_span(w));
    write_raw(w, digest.b, sizeof digest.b);
}

enum ami_status file_secret_read(uint8_t d[SM2_SCALAR_BYTES], struct reader *r, struct span in)
{
    read_raw(r, d, SM2_SCALAR_BYTES);
    struct span digest = read_span(r, SM3_BYTES);
    if (r->failed)
        return AMI_TRUNCATED;
    sm3_digest want = sm3(span_of(in.data, in.size - reader_left(r) - SM3_BYTES));
    bool whole = reader_done(r) && memcmp(want.b, digest.data, SM3_BYTES) == 0;
    return whole ? AMI_OK : AMI_DAMAGED;
}

size_t credential_file_encode(uint8_t *out, const struct network *net, const struct credential *own)
{
    struct writer w = writer_on(out, CREDENTIAL_FILE_BYTES_MAX);
    AMI_CHECK(own->who.kind == CREDENTIAL_IMPLICIT || own->who.kind == CREDENTIAL_CFL);
    file_head_write(&w, credential_magic, CREDENTIAL_VERSION);
    write_u8(&w, (uint8_t)own->who.kind);
    file_network_write(&w, net);
    write_u16(&w, (uint16_t)own->shown_size);
    write_raw(&w, own->shown, own->shown_size);
    file_secret_write(&w, &own->key.d);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

/* The issuer's signature is for who has the public set; the rest has to fit. */
static enum ami_status restore_cfl(struct credential *out, const struct network *net,
                                   struct span shown, const uint8_t d_bytes[SM2_SCALAR_BYTES])
{
    struct cfl_certificate certificate;
    sm2_private rask;
    scalar d;
    enum ami_status status = cfl_certificate_parse(&certificate, shown);
    if (status == AMI_OK && !sm3_equal(&certificate.who.network, &net->id))
        status = AMI_WRONG_CHAIN;
    if (status == AMI_OK)
        status = scalar_decode(&d, d_bytes);
    if (status == AMI_OK)
        status = sm2_private_init(&rask, &d);
    if (status == AMI_OK)
        status = cfl_credential(out, &certificate, &rask);
    secret_wipe(&d, sizeof d);
    secret_wipe(&rask, sizeof rask);
    return status == AMI_OK ? AMI_OK : AMI_DAMAGED;
}

/* What is shown, checked as a peer would; and the key, which has to be its. */
static enum ami_status restore(struct credential *out, const struct network *net, struct span shown,
                               const uint8_t d_bytes[SM2_SCALAR_BYTES])
{
    const struct credential_trust trust = {.net = net,
                                           .kinds = CREDENTIAL_BIT(CREDENTIAL_IMPLICIT)};
    const struct credential_moment at = {0};
    struct credential_peer self = {0};
    scalar d;
    if (shown.size > sizeof out->shown || implicit_read(&self, shown, &trust, &at) != FAULT_NONE)
        return AMI_DAMAGED;
    if (scalar_decode(&d, d_bytes) != AMI_OK || sm2_private_init(&out->key, &d) != AMI_OK ||
        !point_equal(&out->key.p, &self.p)) {
        secret_wipe(&d, sizeof d);
        return AMI_DAMAGED;
    }
    secret_wipe(&d, sizeof d);
    out->who = self.who;
    out->who.kind = CREDENTIAL_IMPLICIT;
    out->who.key = point_encode(&self.p);
    out->implicit = self.implicit;
    out->w = self.w;
    out->z = self.z;
    out->shown_size = shown.size;
    memcpy(out->shown, shown.data, shown.size);
    return AMI_OK;
}

enum ami_status credential_file_parse(struct credential *out, struct network *net, struct span in)
{
    uint8_t d[SM2_SCALAR_BYTES];
    struct reader r = reader_on(in);
    memset(out, 0, sizeof *out);
    memset(net, 0, sizeof *net);
    AMI_TRY(file_head_read(&r, credential_magic, CREDENTIAL_VERSION));
    uint8_t kind = read_u8(&r);
    file_network_read(&r, net);
    struct span shown = read_span(&r, read_u16(&r));
    enum ami_status status = file_secret_read(d, &r, in);
    if (status == AMI_OK && kind != CREDENTIAL_IMPLICIT && kind != CREDENTIAL_CFL)
        status = AMI_BAD_ENCODING;
    if (status == AMI_OK) {
        network_finish(net);
        status =
            kind == CREDENTIAL_CFL ? restore_cfl(out, net, shown, d) : restore(out, net, shown, d);
    }
    secret_wipe(d, sizeof d);
    if (status != AMI_OK)
        secret_wipe(out, sizeof *out);
    return status;
}

/* --- the list --------------------------------------------------------------------------------- */

static sm3_digest list_digest(const struct network *net, struct span content)
{
    const struct span parts[] = {span_of(LABEL_LIST, sizeof LABEL_LIST), content};
    return sm2_digest(&net->sign_z, parts, 2);
}

uint64_t revoked_list_number_after(uint64_t last, int64_t now_ms)
{
    const uint64_t now = now_ms > 0 ? (uint64_t)now_ms : 1;
    return last >= now ? last + 1 : now;
}

/* Where it is, or belongs. */
static size_t place_of(const struct revoked_list *list, const sm3_digest *fingerprint)
{
    size_t from = 0, to = list->count;
    while (from < to) {
        const size_t middle = from + (to - from) / 2;
        if (memcmp(list->entry[middle].fingerprint.b, fingerprint->b, SM3_BYTES) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

const struct revoked_entry *revoked_list_find(const struct revoked_list *list,
                                              const sm3_digest *fingerprint)
{
    const size_t at = place_of(list, fingerprint);
    const bool there = at < list->count && sm3_equal(&list->entry[at].fingerprint, fingerprint);
    return there ? &list->entry[at] : NULL;
}

enum ami_status revoked_list_add(struct revoked_list *list, const struct revoked_entry *entry)
{
    const size_t at = place_of(list, &entry->fingerprint);
    struct revoked_entry *e = &list->entry[at];
    if (at < list->count && sm3_equal(&e->fingerprint, &entry->fingerprint)) {
        e->until_s = entry->until_s > e->until_s ? entry->until_s : e->until_s;
        return AMI_OK;
    }
    if (list->count == AMI_REVOKED_MAX)
        return AMI_FULL;
    memmove(e + 1, e, (list->count - at) * sizeof *e);
    *e = *entry;
    list->count++;
    return AMI_OK;
}

enum ami_status revoked_list_join(struct revoked_list *list, const struct revoked_list *other)
{
    if (other->issued_ms > list->issued_ms)
        list->issued_ms = other->issued_ms;
    for (size_t i = 0; i < other->count; i++)
        AMI_TRY(revoked_list_add(list, &other->entry[i]));
    return AMI_OK;
}

bool revoked_list_covers(const struct revoked_list *list, const struct revoked_list *known,
                         int64_t now_s)
{
    const int64_t ended_before =
        now_s < INT64_MIN + REVOKED_MARGIN_S ? INT64_MIN : now_s - REVOKED_MARGIN_S;
    for (size_t i = 0; i < known->count; i++) {
        const struct revoked_entry *e = &known->entry[i];
        if (e->until_s < ended_before)
            continue;
        const struct revoked_entry *has = revoked_list_find(list, &e->fingerprint);
        if (has == NULL || has->until_s < e->until_s)
            return false;
    }
    return true;
}

size_t revoked_list_encode(uint8_t *out, const struct revoked_list *in, const struct network *net,
                           const sm2_private *sign, const uint8_t random[SM2_WIDE_BYTES])
{
    struct writer w = writer_on(out, AMI_REVOKED_BYTES_MAX);
    AMI_CHECK(in->count <= AMI_REVOKED_MAX);
    file_head_write(&w, revoked_magic, REVOKED_VERSION);
    write_raw(&w, net->id.b, sizeof net->id.b);
    write_u64(&w, in->number);
    write_i64(&w, in->issued_ms);
    write_u16(&w, in->count);
    for (size_t i = 0; i < in->count; i++) {
        write_raw(&w, in->entry[i].fingerprint.b, SM3_BYTES);
        write_i64(&w, in->entry[i].until_s);
    }
    sm3_digest e = list_digest(net, writer_span(&w));
    sm2_signature sig = sm2_sign(sign, &e, random);
    write_raw(&w, sig.b, sizeof sig.b);
    AMI_CHECK(writer_ok(&w));
    return w.size;
}

enum ami_status revoked_list_read(struct revoked_list *out, struct span in)
{
    struct reader r = reader_on(in);
    memset(out, 0, sizeof *out);
    AMI_TRY(file_head_read(&r, revoked_magic, REVOKED_VERSION));
    (void)read_span(&r, SM3_BYTES); /* the network */
    out->number = read_u64(&r);
    out->issued_ms = read_i64(&r);
    const uint16_t count = read_u16(&r);
    if (r.failed)
        return AMI_TRUNCATED;
    if (count > AMI_REVOKED_MAX || out->number == 0)
        return AMI_BAD_ENCODING;
    for (size_t i = 0; i < count; i++) {
        struct revoked_entry *e = &out->entry[i];
        read_raw(&r, e->fingerprint.b, SM3_BYTES);
        e->until_s = read_i64(&r);
        if (!r.failed && i > 0 && memcmp(e[-1].fingerprint.b, e->fingerprint.b, SM3_BYTES) >= 0)
            return AMI_BAD_ENCODING;
    }
    (void)read_span(&r, SM2_SIGNATURE_BYTES);
    if (r.failed)
        return AMI_TRUNCATED;
    out->count = count;
    return reader_done(&r) ? AMI_OK : AMI_BAD_ENCODING;
}

enum ami_status revoked_list_verify(const struct network *net, struct span in)
{
    sm2_signature sig;
    AMI_CHECK(in.size >= FILE_MAGIC_BYTES + 1 + SM3_BYTES + sizeof sig.b);
    if (memcmp(in.data + FILE_MAGIC_BYTES + 1, net->id.b, SM3_BYTES) != 0)
        return AMI_WRONG_CHAIN;
    const struct span content = span_of(in.data, in.size - sizeof sig.b);
    memcpy(sig.b, in.data + content.size, sizeof sig.b);
    const sm3_digest e = list_digest(net, content);
    return sm2_verify(&net->sign, &e, &sig);
}

enum ami_status revoked_list_parse(struct revoked_list *out, const struct network *net,
                                   struct span in)
{
    AMI_TRY(revoked_list_read(out, in));
    return revoked_list_verify(net, in);
}
