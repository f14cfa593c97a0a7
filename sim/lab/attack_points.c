/* sim/lab/attack_points.c - points that are none: infinity, off the curve, of low order.
 *
 * sm2p256v1 has a prime order, so a point of low order is a point of another curve with the same a.
 * On y^2 = x^3 + ax + b' with b' = -x^3 - ax the point (x, 0) has order 2; with
 * b' = (a^2 - 6ax^2 - 3x^4) / 12x the points at x have order 3. The formulas of addition do not use
 * b: whoever does not check multiplies such a point by the secret and shows the secret modulo 2
 * or 3.
 */
#include "sim/lab/attack.h"

#include "base/check.h"

#include <gcrypt.h>
#include <stdio.h>
#include <string.h>

/* --- in the meter's second flight ------------------------------------------------------------ */

/* Puts these bytes in place of every point of a good second flight, one at a time and all together.
 * True: the meter took one of them. */
static bool in_flight2(struct arena *a, const uint8_t point33[SM2_POINT_BYTES], struct arena_run *r,
                       size_t *tried)
{
    uint8_t good[AMI_FLIGHT_BYTES_MAX], bytes[AMI_FLIGHT_BYTES_MAX];
    size_t at[4], places = 0;
    arena_start(a, r, 0, 0);
    arena_answer(a, r, &r->f1, &a->peer[0]);
    AMI_CHECK(r->answer.status == AMI_OK);
    size_t size = r->answer.flight_size;
    memcpy(good, r->answer.flight, size);
    for (size_t i = 0; i < size && places < 4; i++)
        if (arena_point_at(good, size, i)) {
            at[places++] = i;
            i += SM2_POINT_BYTES - 1;
        }
    for (unsigned mask = 1; mask < 1u << places; mask++) {
        memcpy(bytes, good, size);
        for (size_t i = 0; i < places; i++)
            if ((mask >> i & 1) != 0)
                memcpy(bytes + at[i], point33, SM2_POINT_BYTES);
        /* Under liu2023 the tag for k at infinity is known to anybody; elsewhere the adversary has
         * none to offer. */
        if (size == SM2_POINT_BYTES + SM3_BYTES) {
            const point_bytes infinity = {{0}};
            sm3_digest m1 = lab_liu2023_tag(0, &infinity);
            memcpy(bytes + SM2_POINT_BYTES, m1.b, sizeof m1.b);
        }
        struct agree_flight2 f2 = r->f2;
        f2.flight = span_of(bytes, size);
        ++*tried;
        if (arena_meter(a, r, &f2) == AMI_OK)
            return true;
    }
    return false;
}

/* V or k at infinity is the same for every secret: the adversary computes K with a made-up key. */
static bool key_at_infinity(struct arena *a, const struct arena_run *r, uint8_t k[AGREE_KEY_BYTES])
{
    struct agree_key key;
    struct agree_state state = r->state;
    struct agree_result result = {.terms = r->result.terms};
    uint8_t flight2[AMI_FLIGHT_BYTES_MAX] = {0}, random[SM2_WIDE_BYTES];
    const point_bytes infinity = {{0}};
    sm3_digest m1 = lab_liu2023_tag(0, &infinity);
    arena_made_up(a, &key, &a->meter[0]);
    key.z = a->meter[0].z;
    arena_random(a, random, sizeof random);
    state.secret = scalar_from_wide(random);
    if (r->answer.flight_size == SM2_POINT_BYTES + SM3_BYTES)
        memcpy(flight2 + SM2_POINT_BYTES, m1.b, sizeof m1.b);
    if (a->scheme->meter_answer(&result, &state, &a->mdms.net, &key,
                                span_of(flight2, r->answer.flight_size)) != AMI_OK)
        return false;
    memcpy(k, result.k, AGREE_KEY_BYTES);
    return true;
}

static bool infinity(struct attack_context *c)
{
    unsigned without = WITHOUT_POINT_CHECK;
    if (c->scheme->number != SCHEME_LIU2023)
        without |= WITHOUT_DC_PROOF; /* it has no tag that fits */
    const struct scheme *scheme = attack_scheme(c, without);
    if (scheme == NULL)
        return false;
    struct arena *a = arena_new(scheme, c->seed);
    struct arena_run r;
    static const uint8_t forms[3][SM2_POINT_BYTES] = {{0}, {2}, {3}};
    size_t tried = 0;
    uint8_t k[AGREE_KEY_BYTES], zero[AMI_FLIGHT_BYTES_MAX] = {0};
    bool taken = false;
    /* All points at infinity, then each form that infinity might take. */
    for (int i = 0; i < 3 && !taken; i++)
        taken = in_flight2(a, forms[i], &r, &tried);
    if (taken && c->scheme->number != SCHEME_LIU2023) {
        /* The one flight in which everything is infinity. */
        struct agree_flight2 f2 = r.f2;
        f2.flight = span_of(zero, r.answer.flight_size);
        taken = arena_meter(a, &r, &f2) == AMI_OK;
    }
    bool broken;
    if (!taken)
        broken = attack_says(c, false, "the meter's decoder refuses all %zu flights", tried);
    else if (key_at_infinity(a, &r, k) && memcmp(k, r.result.k, sizeof k) == 0)
        broken = attack_says(c, true, "the meter's key depends on no secret, K = %s",
                             attack_hex(k, sizeof k));
    else
        broken = attack_says(c, false, "the meter took it, but its key is not known");
    arena_free(a);
    return broken;
}

/* --- other curves ---------------------------------------------------------------------------- */

static gcry_mpi_t mpi_of(const char *hex)
{
    gcry_mpi_t m;
    AMI_CHECK(gcry_mpi_scan(&m, GCRYMPI_FMT_HEX, hex, 0, NULL) == 0);
    return m;
}

static const char p_hex[] = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF";

struct foreign_point {
    gcry_mpi_t x, y;
    bool infinity;
};

/* P + Q as the textbook has it, on whatever curve with this a the two lie. */
static void add(struct foreign_point *out, const struct foreign_point *p,
                const struct foreign_point *q, gcry_mpi_t modulus)
{
    gcry_mpi_t slope = gcry_mpi_new(0), t = gcry_mpi_new(0), x = gcry_mpi_new(0),
               y = gcry_mpi_new(0);
    bool end = false;
    gcry_mpi_addm(t, p->y, q->y, modulus);
    if (p->infinity || q->infinity) {
        const struct foreign_point *other = p->infinity ? q : p;
        gcry_mpi_set(x, other->x);
        gcry_mpi_set(y, other->y);
        end = other->infinity;
    } else if (gcry_mpi_cmp(p->x, q->x) == 0 && gcry_mpi_cmp_ui(t, 0) == 0) {
        end = true;
    } else {
        if (gcry_mpi_cmp(p->x, q->x) == 0) { /* (3 x^2 - 3) / 2y: a = -3 */
            gcry_mpi_mulm(slope, p->x, p->x, modulus);
            gcry_mpi_sub_ui(slope, slope, 1);
            gcry_mpi_mul_ui(slope, slope, 3);
            gcry_mpi_add(t, p->y, p->y);
        } else {
            gcry_mpi_subm(slope, q->y, p->y, modulus);
            gcry_mpi_subm(t, q->x, p->x, modulus);
        }
        gcry_mpi_mod(t, t, modulus);
        AMI_CHECK(gcry_mpi_invm(t, t, modulus) != 0);
        gcry_mpi_mulm(slope, slope, t, modulus);
        gcry_mpi_mulm(x, slope, slope, modulus);
        gcry_mpi_subm(x, x, p->x, modulus);
        gcry_mpi_subm(x, x, q->x, modulus);
        gcry_mpi_subm(y, p->x, x, modulus);
        gcry_mpi_mulm(y, slope, y, modulus);
        gcry_mpi_subm(y, y, p->y, modulus);
    }
    out->infinity = end;
    gcry_mpi_set(out->x, x);
    gcry_mpi_set(out->y, y);
    gcry_mpi_release(slope);
    gcry_mpi_release(t);
    gcry_mpi_release(x);
    gcry_mpi_release(y);
}

static struct foreign_point foreign_new(void)
{
    return (struct foreign_point){gcry_mpi_new(0), gcry_mpi_new(0), true};
}

static void foreign_free(struct foreign_point *p)
{
    gcry_mpi_release(p->x);
    gcry_mpi_release(p->y);
}

/* k P: what somebody computes who multiplies every point that comes. */
static void multiply(struct foreign_point *out, const scalar *k, const struct foreign_point *p,
                     gcry_mpi_t modulus)
{
    out->infinity = true;
    for (int bit = 255; bit >= 0; bit--) {
        add(out, out, out, modulus);
        if ((k->w[bit / 64] >> bit % 64 & 1) != 0)
            add(out, out, p, modulus);
    }
}

/* A square root modulo p, p = 3 mod 4; false: there is none. */
static bool root(gcry_mpi_t out, gcry_mpi_t square, gcry_mpi_t modulus)
{
    gcry_mpi_t e = gcry_mpi_new(0), t = gcry_mpi_new(0);
    gcry_mpi_add_ui(e, modulus, 1);
    gcry_mpi_rshift(e, e, 2);
    gcry_mpi_powm(out, square, e, modulus);
    gcry_mpi_mulm(t, out, out, modulus);
    bool good = gcry_mpi_cmp(t, square) == 0;
    gcry_mpi_release(e);
    gcry_mpi_release(t);
    return good;
}

/* A point of order 3 for some x from `x` on: y^2 = x^3 - 3x + b', b' = (9 + 18 x^2 - 3 x^4) / 12x.
 */
static void order_3(struct foreign_point *out, unsigned x, gcry_mpi_t modulus)
{
    gcry_mpi_t v = gcry_mpi_new(0), t = gcry_mpi_new(0), b = gcry_mpi_new(0);
    for (;; x++) {
        gcry_mpi_set_ui(out->x, x);
        gcry_mpi_mulm(v, out->x, out->x, modulus);
        gcry_mpi_mul_ui(b, v, 18);
        gcry_mpi_add_ui(b, b, 9);
        gcry_mpi_mulm(t, v, v, modulus);
        gcry_mpi_mul_ui(t, t, 3);
        gcry_mpi_subm(b, b, t, modulus);
        gcry_mpi_mul_ui(t, out->x, 12);
        gcry_mpi_mod(t, t, modulus);
        AMI_CHECK(gcry_mpi_invm(t, t, modulus) != 0);
        gcry_mpi_mulm(b, b, t, modulus);
        gcry_mpi_mulm(v, v, out->x, modulus);
        gcry_mpi_mul_ui(t, out->x, 3);
        gcry_mpi_subm(v, v, t, modulus);
        gcry_mpi_addm(v, v, b, modulus);
        if (root(out->y, v, modulus) && gcry_mpi_cmp_ui(out->y, 0) != 0)
            break;
    }
    out->infinity = false;
    gcry_mpi_release(v);
    gcry_mpi_release(t);
    gcry_mpi_release(b);
}

/* The two compressed forms of a point with this x. */
static void compressed(uint8_t out[SM2_POINT_BYTES], uint8_t prefix, gcry_mpi_t x)
{
    uint8_t bytes[SM2_SCALAR_BYTES];
    size_t size;
    AMI_CHECK(gcry_mpi_print(GCRYMPI_FMT_USG, bytes, sizeof bytes, &size, x) == 0);
    memset(out, 0, SM2_POINT_BYTES);
    out[0] = prefix;
    memcpy(out + SM2_POINT_BYTES - size, bytes, size);
}

/* The meter of a control: it multiplies what comes by its secret, and tells the result by a tag, as
 * M2 and S_A do. The adversary compares it with the tags of 0, 1, ... times its point. */
static unsigned residue(const scalar *secret, const struct foreign_point *p, unsigned order,
                        gcry_mpi_t modulus)
{
    struct foreign_point told = foreign_new(), candidate = foreign_new();
    unsigned found = 0;
    multiply(&told, secret, p, modulus);
    for (unsigned i = 0; i < order; i++) {
        if (told.infinity == candidate.infinity &&
            (told.infinity ||
             (gcry_mpi_cmp(told.x, candidate.x) == 0 && gcry_mpi_cmp(told.y, candidate.y) == 0)))
            found = i;
        add(&candidate, &candidate, p, modulus);
    }
    foreign_free(&told);
    foreign_free(&candidate);
    return found;
}

static unsigned scalar_mod(const scalar *k, unsigned n)
{
    unsigned r = 0;
    uint8_t bytes[SM2_SCALAR_BYTES];
    scalar_encode(bytes, k);
    for (size_t i = 0; i < sizeof bytes; i++)
        r = (r * 256 + bytes[i]) % n;
    return r;
}

static bool foreign(struct attack_context *c)
{
    const unsigned order = (unsigned)c->which; /* of the points that are sent */
    struct arena *a = arena_new(c->scheme, c->seed);
    struct arena_run r;
    size_t tried = 0;
    gcry_mpi_t modulus = mpi_of(p_hex);
    struct foreign_point p = foreign_new();
    bool broken;
    if (c->control) {
        if (order == 3) {
            order_3(&p, 2, modulus);
        } else {
            gcry_mpi_set_ui(p.x, 2);
            gcry_mpi_set_ui(p.y, 0);
            p.infinity = false;
        }
        arena_start(a, &r, 0, 0);
        const scalar secret = scalar_add(&a->meter[0].d, &r.state.secret);
        unsigned learned = residue(&secret, &p, order, modulus);
        broken = attack_says(c, learned == scalar_mod(&secret, order),
                             "a meter that multiplies every point shows its secret modulo %u: %u",
                             order, learned);
    } else {
        bool taken = false;
        for (unsigned x = 2; x < 40 && !taken; x++) {
            uint8_t bytes[SM2_POINT_BYTES];
            if (order == 3)
                order_3(&p, x, modulus);
            else
                gcry_mpi_set_ui(p.x, x);
            for (uint8_t prefix = 2; prefix <= 4 && !taken; prefix++) {
                compressed(bytes, prefix, p.x);
                /* Where x is that of a point of sm2p256v1 as well, the decoder takes that point,
                 * which is what the compressed form is for. */
                if (!arena_point_at(bytes, sizeof bytes, 0))
                    taken = in_flight2(a, bytes, &r, &tried);
            }
        }
        broken = attack_says(c, taken, "the meter %s, %zu flights with points of order %u tried",
                             taken ? "took one" : "takes none", tried, order);
    }
    foreign_free(&p);
    gcry_mpi_release(modulus);
    arena_free(a);
    return broken;
}

const struct attack attacks_points[] = {
    {.name = "point-at-infinity",
     .row = ROW_POINTS,
     .knows = "what is public; it answers the meter itself",
     .goal = "the meter ends in a key that depends on no secret",
     .protection = "decoded points are never infinity (nor V; and the DC's proof stands behind it)",
     .run = infinity},
    {.name = "point-off-curve",
     .row = ROW_POINTS,
     .knows = "what is public; it answers the meter itself",
     .goal = "the meter multiplies a point of another curve, and shows its secret modulo 3",
     .protection = "points travel compressed and are checked to lie on the curve (in the control a "
                   "meter takes x and y as they come)",
     .run = foreign,
     .which = 3},
    {.name = "point-low-order",
     .row = ROW_POINTS,
     .knows = "what is public; it answers the meter itself",
     .goal = "the meter multiplies a point of order 2, and shows its secret modulo 2",
     .protection = "points travel compressed and are checked to lie on the curve (in the control a "
                   "meter takes x and y as they come)",
     .run = foreign,
     .which = 2},
    {0}};
