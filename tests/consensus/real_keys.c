/* tests/consensus/real_keys.c - keys under implicit certificates, as the MDMS issues them. */
#include "base/check.h"
#include "tests/consensus/world.h"

#include <stdio.h>

static scalar draw(uint64_t seed, uint32_t number)
{
    uint8_t in[12], wide[SM2_WIDE_BYTES];
    store_be64(in, seed);
    store_be32(in + 8, number);
    struct span part = span_of(in, sizeof in);
    sm2_kdf(wide, sizeof wide, &part, 1);
    return scalar_from_wide(wide);
}

void test_keys(struct members *m, struct sign_key *keys, unsigned n, uint64_t seed)
{
    sm2_private master;
    scalar x = draw(seed, 1000);
    AMI_CHECK(sm2_private_init(&master, &x) == AMI_OK);
    struct network net = {.p_pub = master.p};
    net.id = sm3(SPAN_LITERAL("test network"));
    for (unsigned i = 0; i < n; i++) {
        struct member *member = &m->member[i];
        scalar d = draw(seed, 2 * i), w = draw(seed, 2 * i + 1), t;
        point u_a, w_a;
        sm2_private own;
        AMI_CHECK(sm2_private_init(&own, &d) == AMI_OK);
        u_a = own.p;
        sm3_digest h_a = key_h_a(&net, ROLE_DC_SIGN, &member->name, 1);
        sm2_implicit_issue(&w_a, &t, &w, &x, &u_a, &h_a);
        member->w_sign = point_encode(&w_a);
        AMI_CHECK(verify_key_init(&member->key, &net, ROLE_DC_SIGN, &member->name, 1,
                                  &member->w_sign) == AMI_OK);
        keys[i].public_key = member->key;
        AMI_CHECK(sm2_implicit_accept(&keys[i].private_key, &t, &d, &w_a, &h_a, &net.p_pub) ==
                  AMI_OK);
    }
}
