/* sim/lab/schemes.h - the schemes that the laboratory attacks, and their weakened forms.
 *
 * A scheme resists an attack for a reason, and the attack is only worth something if it succeeds
 * when that reason is taken away. So each scheme comes with a weakened form: the same scheme,
 * written once more here, with single protections left out on demand (`lab_weak`). Weakened forms
 * exist in this room alone; with nothing left out they agree with the real scheme byte for byte
 * (tests/sim/test_lab_schemes.c).
 */
#ifndef AMI_SIM_LAB_SCHEMES_H
#define AMI_SIM_LAB_SCHEMES_H

#include "keyagree/scheme.h"

/* What can be left out. Not every scheme has everything. */
enum lab_without {
    WITHOUT_DC_PROOF = 1,      /* the meter does not check that the DC knows the key */
    WITHOUT_METER_PROOF = 2,   /* the DC takes any third flight */
    WITHOUT_CERTIFICATE = 4,   /* public keys are taken as they come */
    WITHOUT_NAMES = 8,         /* identities enter neither keys nor tags */
    WITHOUT_TRANSCRIPT = 16,   /* what travels beside the scheme's values is not authenticated */
    WITHOUT_LONG_TERM = 32,    /* the key depends on ephemeral values alone */
    WITHOUT_EPHEMERAL = 64,    /* the key depends on long-term values alone */
    WITHOUT_POINT_CHECK = 128, /* points are used as they come, infinity among them */
    WITHOUT_BLINDING = 256     /* the MDMS adds no random value when it issues a key */
};

struct lab_scheme {
    const struct scheme *scheme;
    const struct scheme *weak; /* NULL: it has no weakened form, so its controls cannot run */
};

/* In order; NULL scheme behind the last. Brings those that keyagree/ does not have. */
const struct lab_scheme *lab_schemes(void);

/* The weakened form of a scheme, with these left out (lab_without) until the next call. NULL: it
 * has none. One thread. */
const struct scheme *lab_weak(const struct scheme *scheme, unsigned without);
/* For the weakened forms. */
bool lab_left_out(enum lab_without what);

/* Formulas of liu2023 that an adversary computes as well: M1 = H(0, k), M2 = H(1, k), K. */
sm3_digest lab_liu2023_tag(uint8_t number, const point_bytes *k);
void lab_liu2023_key(uint8_t out[AGREE_KEY_BYTES], const struct network *net,
                     const struct agree_terms *terms, const point_bytes *k);

/* x' = 2^127 + (x mod 2^127) of a point, GB/T 32918.3. */
scalar lab_sm2kx_x_bar(const point *p);

extern const struct scheme lab_weak_liu2023, lab_weak_sm2kx, lab_ecdh, lab_weak_ecdh;

#endif
