#include "channel/cfl.h"
#include "channel/internal.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

static const struct {
    const char *name;
    credential_reader *read;
    credential_voucher *vouched; /* NULL: what was read vouches for itself */
} kinds[CREDENTIAL_KINDS] = {
    [CREDENTIAL_IMPLICIT] = {"implicit", implicit_read, NULL},
    [CREDENTIAL_X509] = {"x509", x509_read, x509_vouched},
    [CREDENTIAL_CFL] = {"cfl", cfl_read, cfl_vouched},
};

const char *credential_kind_name(enum credential_kind kind)
{
    return (unsigned)kind < CREDENTIAL_KINDS && kinds[kind].name != NULL ? kinds[kind].name
                                                                         : "unknown";
}

const char *credential_role_name(enum credential_role role)
{
    switch (role) {
    case CREDENTIAL_DC:
        return "dc";
    case CREDENTIAL_MDMS:
        return "mdms";
    case CREDENTIAL_OPERATOR:
        return "operator";
    }
    return "unknown";
}

int64_t credential_left_s(const struct credential_identity *who, int64_t now_s)
{
    return who->until_s == 0 ? INT64_MAX : who->until_s - now_s;
}

int64_t credential_own_left_s(const struct credential *own, int64_t now_s)
{
    const int64_t left = credential_left_s(&own->who, now_s);
    const int64_t chain = own->chain_until_s == 0 ? INT64_MAX : own->chain_until_s - now_s;
    return chain < left ? chain : left;
}

/* --- identities ------------------------------------------------------------------------------- */

bool identity_valid(const struct credential_identity *who)
{
    if (who->role < CREDENTIAL_DC || who->role > CREDENTIAL_OPERATOR || !label_valid(who->label))
        return false;
    if (who->role != CREDENTIAL_OPERATOR && (who->label.level != 0 || who->label.categories != 0))
        return false;
    if (who->from_s == 0 && who->until_s == 0)
        return true;
    /* Dates that can be computed with: up to the year 9999. */
    return who->from_s > 0 && who->until_s >= who->from_s && who->until_s <= INT64_C(253402300799);
}

bool operator_valid(const struct credential_identity *who)
{
    return who->role == CREDENTIAL_OPERATOR && who->name.size > 0 && identity_valid(who);
}

void identity_write(struct writer *w, const struct credential_identity *who)
{
    write_u8(w, (uint8_t)who->role);
    write_raw(w, who->network.b, sizeof who->network.b);
    write_id(w, &who->name);
    write_u32(w, who->epoch);
    write_u8(w, who->label.level);
    write_u8(w, who->label.categories);
    write_i64(w, who->from_s);
    write_i64(w, who->until_s);
}

struct span identity_bytes(uint8_t out[IDENTITY_BYTES_MAX], const struct credential_identity *who)
{
    struct writer w = writer_on(out, IDENTITY_BYTES_MAX);
    identity_write(&w, who);
    AMI_CHECK(writer_ok(&w));
    return writer_span(&w);
}

void identity_read(struct reader *r, struct credential_identity *out)
{
    out->role = (enum credential_role)read_u8(r);
    read_raw(r, out->network.b, sizeof out->network.b);
    out->name = read_id(r);
    out->epoch = read_u32(r);
    out->label.level = read_u8(r);
    out->label.categories = read_u8(r);
    out->from_s = read_i64(r);
    out->until_s = read_i64(r);
    if (!identity_valid(out))
        r->failed = true;
}

sm3_digest credential_fingerprint(enum credential_kind kind, struct span lasting)
{
    const uint8_t number = (uint8_t)kind;
    const struct span parts[] = {span_of(&number, 1), lasting};
    return sm3_labelled("amiledger credential v1", parts, 2);
}

/* --- showing and checking --------------------------------------------------------------------- */

size_t credential_show(uint8_t *out, const struct credential *own,
                       const struct credential_moment *at)
{
    if (own->who.kind == CREDENTIAL_CFL)
        return cfl_show(out, own, at);
    memcpy(out, own->shown, own->shown_size);
    return own->shown_size;
}

/* What every kind has in common. */
static enum channel_fault check_common(const struct credential_identity *who,
                                       const struct credential_trust *trust, int64_t now_s)
{
    if (!sm3_equal(&who->network, &trust->net->id))
        return FAULT_OTHER_NETWORK;
    /* The network names its MDMS and that one's key; no authority may make another. */
    if (who->role == CREDENTIAL_MDMS) {
        const point_bytes pinned = point_encode(&trust->net->sign);
        if (!ami_id_equal(&who->name, &trust->net->name) ||
            memcmp(&who->key, &pinned, sizeof pinned) != 0)
            return FAULT_UNEXPECTED;
    }
    if (who->from_s != 0 && now_s < who->from_s)
        return FAULT_FUTURE;
    if (who->until_s != 0 && now_s > who->until_s)
        return FAULT_EXPIRED;
    if (trust->revoked != NULL && trust->revoked(trust->revoked_ctx, who))
        return FAULT_REVOKED;
    return FAULT_NONE;
}

enum channel_fault credential_read(struct credential_peer *out, enum credential_kind kind,
                                   struct span shown, const struct credential_trust *trust,
                                   const struct credential_moment *at)
{
    memset(out, 0, sizeof *out);
    if (kind <= 0 || kind >= CREDENTIAL_KINDS || (trust->kinds & CREDENTIAL_BIT(kind)) == 0)
        return FAULT_NO_KIND;
    if (shown.size > CREDENTIAL_BYTES_MAX)
        return FAULT_MALFORMED;
    enum channel_fault fault = kinds[kind].read(out, shown, trust, at);
    if (fault != FAULT_NONE)
        return fault;
    out->who.kind = kind;
    out->who.key = point_encode(&out->p);
    return FAULT_NONE;
}

enum channel_fault credential_vouched(struct credential_peer *peer, struct span shown,
                                      const struct credential_trust *trust,
                                      const struct credential_moment *at)
{
    credential_voucher *vouched = kinds[peer->who.kind].vouched;
    enum channel_fault fault = check_common(&peer->who, trust, at->wall_ms / 1000);
    peer->vouched = vouched == NULL;
    return fault != FAULT_NONE || vouched == NULL ? fault : vouched(peer, shown, trust, at);
}

enum channel_fault credential_check(struct credential_peer *out, enum credential_kind kind,
                                    struct span shown, const struct credential_trust *trust,
                                    const struct credential_moment *at)
{
    enum channel_fault fault = credential_read(out, kind, shown, trust, at);
    return fault != FAULT_NONE ? fault : credential_vouched(out, shown, trust, at);
}

enum channel_fault credential_again(const struct credential_identity *who, struct span shown,
                                    const struct credential_trust *trust, int64_t wall_ms)
{
    const struct credential_moment at = {.wall_ms = wall_ms};
    struct credential_peer peer = {.who = *who};
    const bool anchored = who->kind == CREDENTIAL_X509  ? trust->x509 != NULL
                          : who->kind == CREDENTIAL_CFL ? trust->cfl != NULL
                                                        : true;
    if (!anchored || (trust->kinds & CREDENTIAL_BIT(who->kind)) == 0)
        return FAULT_NO_KIND;
    return credential_vouched(&peer, shown, trust, &at);
}

/* --- signing ---------------------------------------------------------------------------------- */

size_t credential_parts(struct span out[CREDENTIAL_PARTS_MAX + 1], const char *label,
                        const struct span *parts, size_t count)
{
    AMI_CHECK(count <= CREDENTIAL_PARTS_MAX);
    out[0] = span_of(label, strlen(label) + 1); /* the zero separates label and parts */
    for (size_t i = 0; i < count; i++)
        out[i + 1] = parts[i];
    return count + 1;
}

static sm3_digest digest_of(bool implicit, const sm3_digest *z, const point *w, const char *label,
                            const struct span *parts, size_t count)
{
    struct span all[CREDENTIAL_PARTS_MAX + 1];
    size_t all_count = credential_parts(all, label, parts, count);
    return implicit ? sm2_implicit_digest(z, w, all, all_count) : sm2_digest(z, all, all_count);
}

sm2_signature credential_sign(const struct credential *own, const char *label,
                              const struct span *parts, size_t count,
                              const uint8_t random[SM2_WIDE_BYTES])
{
    sm3_digest e = digest_of(own->implicit, &own->z, &own->w, label, parts, count);
    return sm2_sign(&own->key, &e, random);
}

enum channel_fault credential_verify(const struct credential_peer *peer, const char *label,
                                     const struct span *parts, size_t count,
                                     const sm2_signature *sig)
{
    sm3_digest e = digest_of(peer->implicit, &peer->z, &peer->w, label, parts, count);
    return sm2_verify(&peer->p, &e, sig) == AMI_OK ? FAULT_NONE : FAULT_SIGNATURE;
}
