#include "sim/lab/unit.h"

#include "base/check.h"
#include "crypto/sm2.h"
#include "crypto/sm4gcm.h"
#include "sim/lab/lab.h"
#include "sim/lab/quantile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPETITIONS   11
#define REPETITION_NS 2000000u
#define BRIEF_NS      50000u
#define CALLS_MAX     (1u << 22)
#define POOL          64
#define HASH_BYTES    64 /* a short message: labels, identities, a point */

static uint64_t repetition_ns = REPETITION_NS;

void lab_time_briefly(bool briefly)
{
    repetition_ns = briefly ? BRIEF_NS : REPETITION_NS;
}

static uint64_t calls_ns(void (*run)(void *), void *with, size_t calls)
{
    uint64_t from = lab_cpu_ns();
    for (size_t i = 0; i < calls; i++)
        run(with);
    return lab_cpu_ns() - from;
}

static struct lab_time time_of(double us[REPETITIONS])
{
    lab_sort(us, REPETITIONS);
    return (struct lab_time){us[REPETITIONS / 2], us[0], us[REPETITIONS - 1]};
}

struct lab_time lab_time_of(void (*run)(void *with), void *with, size_t size)
{
    double us[REPETITIONS];
    size_t calls = 1;
    while (calls < CALLS_MAX && calls_ns(run, with, calls) < repetition_ns)
        calls *= 2;
    for (int i = 0; i < REPETITIONS; i++)
        us[i] = (double)calls_ns(run, with, calls) / 1000.0 / (double)(calls * size);
    return time_of(us);
}

#define TWO_SIDED_MAX  8
#define TWO_SIDED_LONG 4 /* repetitions this many times as long: their parts are long already */

/* Microseconds of one operation, for each side. */
static void call_both(struct lab_two_sided *t, size_t calls, double us[2])
{
    us[0] = us[1] = 0;
    for (size_t i = 0; i < calls; i++)
        if (!t->run(t->with, us))
            t->wrong = true;
    for (int side = 0; side < 2; side++)
        us[side] /= 1000.0 * (double)(calls * t->size);
}

void lab_time_two_sided(struct lab_two_sided *list, size_t count)
{
    double us[TWO_SIDED_MAX][3][REPETITIONS], one[2];
    size_t calls[TWO_SIDED_MAX];
    const double enough_us = TWO_SIDED_LONG * (double)repetition_ns / 1000.0;
    AMI_CHECK(count <= TWO_SIDED_MAX);
    for (size_t i = 0; i < count; i++) {
        list[i].wrong = false;
        call_both(&list[i], 1, one); /* the first is not like the others */
        call_both(&list[i], 1, one);
        const double call_us = (one[0] + one[1]) * (double)list[i].size;
        calls[i] = call_us >= enough_us ? 1 : (size_t)(enough_us / call_us) + 1;
    }
    for (size_t n = 0; n < REPETITIONS; n++)
        for (size_t i = 0; i < count; i++) {
            call_both(&list[i], calls[i], one);
            us[i][0][n] = one[0];
            us[i][1][n] = one[1];
            us[i][2][n] = one[0] + one[1];
        }
    for (size_t i = 0; i < count; i++) {
        list[i].side[0] = time_of(us[i][0]);
        list[i].side[1] = time_of(us[i][1]);
        list[i].both = time_of(us[i][2]);
    }
}

/* --- operations ------------------------------------------------------------------------------ */

struct inputs {
    struct lab_pair *pair;
    size_t at;
    scalar k[POOL], half[POOL];
    point p[POOL], out;
    point_bytes encoded[POOL];
    uint8_t wide[POOL][SM2_WIDE_BYTES];
    scalar product;
    sm3_digest digest;
    sm3_digest h_a;
    sm2_private key;
    sm2_signature signature[POOL];
    point_bytes c1[POOL];
    uint8_t shared[SM2_SHARED_KEY_BYTES];
    sm4_key cipher;
    gcm_nonce nonce;
    uint8_t plain[HASH_BYTES], sealed[HASH_BYTES + GCM_TAG_BYTES], opened[HASH_BYTES];
    unsigned refused;
};

static size_t turn(struct inputs *u)
{
    return u->at = (u->at + 1) % POOL;
}

static struct inputs *inputs_new(struct lab_pair *pair)
{
    struct inputs *u = calloc(1, sizeof *u);
    AMI_CHECK(u != NULL);
    u->pair = pair;
    sim_random_bytes(&pair->arena->random, u->wide, sizeof u->wide);
    for (size_t i = 0; i < POOL; i++) {
        u->k[i] = scalar_from_wide(u->wide[i]);
        u->half[i] = u->k[i];
        u->half[i].w[2] = u->half[i].w[3] = 0;
        u->half[i].w[1] |= UINT64_C(1) << 63;
        u->p[i] = point_mul_base(&u->k[i]);
        u->encoded[i] = point_encode(&u->p[i]);
    }
    sim_random_bytes(&pair->arena->random, &u->h_a, sizeof u->h_a);
    sim_random_bytes(&pair->arena->random, &u->cipher, sizeof u->cipher);
    sim_random_bytes(&pair->arena->random, &u->nonce, sizeof u->nonce);
    AMI_CHECK(sm2_private_init(&u->key, &u->k[0]) == AMI_OK);
    for (size_t i = 0; i < POOL; i++) {
        u->signature[i] = sm2_sign(&u->key, &u->h_a, u->wide[i]);
        AMI_CHECK(sm2_encapsulate(&u->c1[i], u->shared, sizeof u->shared, &u->key.p, span_of("", 0),
                                  u->wide[i]) == AMI_OK);
    }
    sm4gcm_seal(u->sealed, &u->cipher, &u->nonce, span_of("", 0),
                span_of(u->plain, sizeof u->plain));
    return u;
}

static void do_base(void *with)
{
    struct inputs *u = with;
    u->out = point_mul_base(&u->k[turn(u)]);
}

static void do_table(void *with)
{
    struct inputs *u = with;
    size_t i = turn(u);
    point_mul_base_table_batch(&u->out, &u->k[i], &u->k[POOL - 1 - i], u->pair->arena->p_pub, 1);
}

static void do_mul(void *with)
{
    struct inputs *u = with;
    size_t i = turn(u);
    u->out = point_mul(&u->k[POOL - 1 - i], &u->p[i]);
}

static void do_public(void *with)
{
    struct inputs *u = with;
    size_t i = turn(u);
    point_mul_add_public_batch(&u->out, &u->p[POOL - 1 - i], &u->k[POOL - 1 - i], &u->p[i], 1);
}

static void do_public_short(void *with)
{
    struct inputs *u = with;
    size_t i = turn(u);
    point_mul_add_public_batch(&u->out, &u->p[POOL - 1 - i], &u->half[POOL - 1 - i], &u->p[i], 1);
}

static void do_recover(void *with)
{
    struct inputs *u = with;
    u->refused += sm2_implicit_public(&u->out, &u->p[turn(u)], &u->h_a,
                                      &u->pair->arena->mdms.net.p_pub) != AMI_OK;
}

static void do_to_curve(void *with)
{
    struct inputs *u = with;
    const struct span part = span_of(u->wide[turn(u)], SM2_WIDE_BYTES);
    u->out = point_hash_to_curve(&part, 1, SPAN_LITERAL("amiledger laboratory"));
}

static void do_decode(void *with)
{
    struct inputs *u = with;
    u->refused += point_decode(&u->out, &u->encoded[turn(u)]) != AMI_OK;
}

static void do_random(void *with)
{
    struct inputs *u = with;
    u->product = scalar_from_wide(u->wide[turn(u)]);
}

static void do_scalar(void *with)
{
    struct inputs *u = with;
    size_t i = turn(u);
    u->product = scalar_mul(&u->k[i], &u->half[i]);
}

static void do_hash(void *with)
{
    struct inputs *u = with;
    u->plain[turn(u)]++;
    u->digest = sm3(span_of(u->plain, HASH_BYTES));
}

static void do_hmac(void *with)
{
    struct inputs *u = with;
    const struct span part = span_of(u->plain, HASH_BYTES);
    u->plain[turn(u)]++;
    u->digest = hmac_sm3(span_of(u->h_a.b, SM3_BYTES), &part, 1);
}

static void do_kdf(void *with)
{
    struct inputs *u = with;
    const struct span part = span_of(u->plain, HASH_BYTES);
    u->plain[turn(u)]++;
    sm2_kdf(u->shared, sizeof u->shared, &part, 1);
}

static void do_seal(void *with)
{
    struct inputs *u = with;
    sm4gcm_seal(u->sealed, &u->cipher, &u->nonce, span_of("", 0),
                span_of(u->plain, sizeof u->plain));
}

static void do_open(void *with)
{
    struct inputs *u = with;
    u->refused += sm4gcm_open(u->opened, &u->cipher, &u->nonce, span_of("", 0),
                              span_of(u->sealed, sizeof u->sealed)) != AMI_OK;
}

static void do_sign(void *with)
{
    struct inputs *u = with;
    size_t i = turn(u);
    u->signature[i] = sm2_sign(&u->key, &u->h_a, u->wide[i]);
}

static void do_verify(void *with)
{
    struct inputs *u = with;
    u->refused += sm2_verify(&u->key.p, &u->h_a, &u->signature[turn(u)]) != AMI_OK;
}

static void do_encapsulate(void *with)
{
    struct inputs *u = with;
    size_t i = turn(u);
    u->refused += sm2_encapsulate(&u->c1[i], u->shared, sizeof u->shared, &u->key.p, span_of("", 0),
                                  u->wide[i]) != AMI_OK;
}

static void do_decapsulate(void *with)
{
    struct inputs *u = with;
    u->refused += sm2_decapsulate(u->shared, sizeof u->shared, &u->key, &u->c1[turn(u)],
                                  span_of("", 0)) != AMI_OK;
}

struct lab_time lab_unit_time(enum lab_op op, struct lab_pair *p, bool dc)
{
    static void (*const run[LAB_OP_KINDS])(void *) = {
        [LAB_OP_BASE] = do_base,
        [LAB_OP_TABLE] = do_table,
        [LAB_OP_MUL] = do_mul,
        [LAB_OP_PUBLIC] = do_public,
        [LAB_OP_PUBLIC_SHORT] = do_public_short,
        [LAB_OP_RECOVER] = do_recover,
        [LAB_OP_TO_CURVE] = do_to_curve,
        [LAB_OP_DECODE] = do_decode,
        [LAB_OP_SIGN] = do_sign,
        [LAB_OP_VERIFY] = do_verify,
        [LAB_OP_ENCAPSULATE] = do_encapsulate,
        [LAB_OP_DECAPSULATE] = do_decapsulate,
        [LAB_OP_RANDOM] = do_random,
        [LAB_OP_SCALAR] = do_scalar,
        [LAB_OP_HASH] = do_hash,
        [LAB_OP_HMAC] = do_hmac,
        [LAB_OP_KDF] = do_kdf,
        [LAB_OP_SEAL] = do_seal,
        [LAB_OP_OPEN] = do_open,
    };
    sm2_signers_forget();
    if (dc)
        AMI_CHECK(sm2_signer_remember(&p->arena->mdms.net.p_pub) == AMI_OK);
    struct inputs *u = inputs_new(p);
    struct lab_time t = lab_time_of(run[op], u, 1);
    AMI_CHECK(u->refused == 0);
    sm2_signers_forget();
    secret_wipe(u, sizeof *u);
    free(u);
    return t;
}

/* --- a pairing ------------------------------------------------------------------------------- */

/* y^2 = x^3 + x over F_p, p = 3 mod 4, has p + 1 points; (x, y) -> (-x, iy) makes the pairing of a
 * point with another of the same subgroup one that is not 1. The last line printed is "pairing us,
 * product us, version". */
static const char gp_script[] =
    "gp -q -f 2>/dev/null <<'END'\n"
    "setrand(1);\n"
    "r = nextprime(2^159 + 2^17 + 1);\n"
    "h = 12 * random(2^347); while(!isprime(p = h * r - 1) || p % 4 != 3, h += 12);\n"
    "t = ffgen(ffinit(p, 2, 't), 't);\n"
    "i = subst(lift(lift(polrootsff('y^2 + 1, p, t.mod)[1])), variable(t.mod), t);\n"
    "Ep = ellinit([1, 0], p); E = ellinit([0, 0, 0, 1, 0] * t^0);\n"
    "A = ellmul(Ep, random(Ep), h); B = ellmul(Ep, random(Ep), h);\n"
    "P = [lift(A[1]) * t^0, lift(A[2]) * t^0]; Q = [-lift(B[1]) * t^0, lift(B[2]) * i];\n"
    "e(P, Q) = elltatepairing(E, P, Q, r)^((p^2 - 1) / r);\n"
    "bilinear = e(ellmul(E, P, 7), Q) == e(P, Q)^7 && e(P, Q) != 1 && e(P, Q)^r == 1;\n"
    "k = 2^159 + random(2^159);\n"
    "middle(f, n) = { my(v = vector(11, j, my(g = getabstime()); for(l = 1, n, f()); "
    "getabstime() - g)); vecsort(v)[6] * 1000. / n };\n"
    "a = middle(()->e(P, Q), 10); b = middle(()->ellmul(Ep, A, k), 50);\n"
    "if(bilinear, print(a, \" \", b, \" PARI/GP \", version()[1], \".\", version()[2], \".\", "
    "version()[3]));\n"
    "END\n";

bool lab_pairing_measure(struct lab_pairing *out)
{
    char line[256];
    bool good = false;
    memset(out, 0, sizeof *out);
    FILE *from = popen(gp_script, "r");
    if (from == NULL)
        return false;
    while (fgets(line, sizeof line, from) != NULL)
        good = sscanf(line, "%lf %lf %63[^\n]", &out->pairing_us, &out->mul_us, out->version) == 3;
    return pclose(from) == 0 && good && out->pairing_us > 0 && out->mul_us > 0;
}
