/* The default credential: an identity and the W of its GM/T 0130 implicit certificate.
 *
 *   shown = identity (credential.h), W
 *
 * Whoever checks it recovers P = W + lambda P_pub; that the holder has d with dG = P, and so that
 * the MDMS issued it for this very identity, shows only in the signature over the transcript. A
 * DC's W is that of its signing role; the hashed ID is that of its votes. The MDMS has no W, and
 * all zeros in its place: its key is pinned with the network. An operator's hashed ID is key_id of
 * its role, and behind it label and validity.
 */
#include "channel/internal.h"

#include "base/check.h"
#include "crypto/secret.h"

#include <string.h>

/* The ID under which the MDMS's own key signs, as for its transactions. */

#define OPERATOR_ID_BYTES_MAX (KEY_ID_BYTES_MAX + 1 + 1 + 8 + 8)

static sm3_digest h_a_of(const struct network *net, const struct credential_identity *who)
{
    if (who->role == CREDENTIAL_DC)
        return key_h_a(net, ROLE_DC_SIGN, &who->name, who->epoch);
    uint8_t id[OPERATOR_ID_BYTES_MAX];
    struct span base = key_id(id, net, ROLE_OPERATOR, &who->name, who->epoch);
    struct writer w = writer_on(id, sizeof id);
    w.size = base.size;
    write_u8(&w, who->label.level);
    write_u8(&w, who->label.categories);
    write_i64(&w, who->from_s);
    write_i64(&w, who->until_s);
    AMI_CHECK(writer_ok(&w));
    return sm2_z(writer_span(&w), &net->p_pub);
}

/* What is left to do when who, key, z and w are set. */
static void complete(struct credential *out, const struct network *net, const point_bytes *w)
{
    struct writer writer = writer_on(out->shown, sizeof out->shown);
    out->who.kind = CREDENTIAL_IMPLICIT;
    out->who.network = net->id;
    out->who.key = point_encode(&out->key.p);
    identity_write(&writer, &out->who);
    write_raw(&writer, w->b, sizeof w->b);
    AMI_CHECK(writer_ok(&writer));
    out->shown_size = writer.size;
    out->who.fingerprint = credential_fingerprint(CREDENTIAL_IMPLICIT, writer_span(&writer));
}

enum ami_status credential_of_dc(struct credential *out, const struct network *net,
                                 const struct ami_id *name, uint32_t epoch,
                                 const struct sign_key *key)
{
    struct credential_identity who = {.role = CREDENTIAL_DC, .name = *name, .epoch = epoch};
    const sm3_digest z = h_a_of(net, &who);
    if (!sm3_equal(&z, &key->public_key.h_a))
        return AMI_BAD_ARGUMENT; /* `out` may be in use: it stays as it is */
    memset(out, 0, sizeof *out);
    out->who = who;
    out->z = z;
    out->key = key->private_key;
    out->implicit = true;
    out->w = key->public_key.w;
    point_bytes w = point_encode(&out->w);
    complete(out, net, &w);
    return AMI_OK;
}

enum ami_status credential_of_mdms(struct credential *out, const struct network *net,
                                   const sm2_private *sign)
{
    static const point_bytes no_w;
    if (!point_equal(&sign->p, &net->sign))
        return AMI_BAD_ARGUMENT;
    memset(out, 0, sizeof *out);
    out->who.role = CREDENTIAL_MDMS;
    out->who.name = net->name;
    out->key = *sign;
    out->z = net->sign_z;
    complete(out, net, &no_w);
    return AMI_OK;
}

/* --- operators -------------------------------------------------------------------------------- */

void operator_begin(struct operator_request *out, const uint8_t random[SM2_WIDE_BYTES])
{
    out->d_prime = scalar_from_wide(random);
    out->u = point_mul_base(&out->d_prime);
}

enum ami_status operator_issue(point *w, scalar *t, const struct network *net, const scalar *x,
                               const struct credential_identity *who, const point *u,
                               const uint8_t random[SM2_WIDE_BYTES])
{
    if (!operator_valid(who))
        return AMI_BAD_ARGUMENT;
    scalar blinding = scalar_from_wide(random);
    sm3_digest h_a = h_a_of(net, who);
    sm2_implicit_issue(w, t, &blinding, x, u, &h_a);
    secret_wipe(&blinding, sizeof blinding);
    return AMI_OK;
}

enum ami_status operator_accept(struct credential *out, const struct network *net,
                                const struct credential_identity *who,
                                const struct operator_request *request, const scalar *t,
                                const point *w)
{
    memset(out, 0, sizeof *out);
    if (!operator_valid(who))
        return AMI_BAD_ARGUMENT;
    out->who = *who;
    out->z = h_a_of(net, who);
    out->implicit = true;
    out->w = *w;
    AMI_TRY(sm2_implicit_accept(&out->key, t, &request->d_prime, w, &out->z, &net->p_pub));
    point_bytes encoded = point_encode(w);
    complete(out, net, &encoded);
    return AMI_OK;
}

/* --- checking --------------------------------------------------------------------------------- */

static enum channel_fault check_mdms(struct credential_peer *out, const point_bytes *w,
                                     const struct network *net)
{
    static const point_bytes no_w;
    if (memcmp(w, &no_w, sizeof no_w) != 0 || !ami_id_equal(&out->who.name, &net->name) ||
        out->who.epoch != 0 || out->who.until_s != 0)
        return FAULT_MALFORMED;
    out->p = net->sign;
    out->z = net->sign_z;
    return FAULT_NONE;
}

enum channel_fault implicit_read(struct credential_peer *out, struct span shown,
                                 const struct credential_trust *trust,
                                 const struct credential_moment *at)
{
    struct reader r = reader_on(shown);
    point_bytes w;
    (void)at;
    identity_read(&r, &out->who);
    read_raw(&r, w.b, sizeof w.b);
    if (!reader_done(&r))
        return FAULT_MALFORMED;
    /* Before the products, whose result would mean nothing. */
    if (!sm3_equal(&out->who.network, &trust->net->id))
        return FAULT_OTHER_NETWORK;
    out->who.fingerprint = credential_fingerprint(CREDENTIAL_IMPLICIT, shown);
    if (out->who.role == CREDENTIAL_MDMS)
        return check_mdms(out, &w, trust->net);
    if (out->who.role == CREDENTIAL_DC && out->who.until_s != 0)
        return FAULT_MALFORMED; /* its epochs and the ledger say how long it is good */
    if (point_decode(&out->w, &w) != AMI_OK)
        return FAULT_MALFORMED;
    out->implicit = true;
    out->z = h_a_of(trust->net, &out->who);
    return sm2_implicit_public(&out->p, &out->w, &out->z, &trust->net->p_pub) == AMI_OK
               ? FAULT_NONE
               : FAULT_MALFORMED;
}
