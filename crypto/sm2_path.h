/* crypto/sm2_path.h - one code path of the SM2 engine: what the rest of crypto/ asks of it.
 *
 * There are three, chosen once by crypto_start:
 *   portable  plain C, any 64-bit machine                       sm2_path_single.c
 *   adx       x86-64 with mulx, adcx, adox                      sm2_path_single.c, compiled again
 *   ifma      AVX-512 IFMA, eight lanes                         sm2_path_ifma.c
 * They give identical results, bit for bit; docs/sm2-engine.md says how. Points come in and go out
 * as plain affine coordinates, so that what a path keeps in its own form (tables) is its own
 * matter. Every function takes any count, zero included. Private to crypto/ and its tests.
 */
#ifndef AMI_CRYPTO_SM2_PATH_H
#define AMI_CRYPTO_SM2_PATH_H

#include "crypto/sm2_group.h"

/* Multiples of one point for secret scalars: all of a row is read to pick one entry. */
struct point_table;

/* Multiples of one point for public scalars: entry j of row i is (2 j + 1) 256^i P. */
#define KNOWN_ROWS    32
#define KNOWN_ENTRIES 128
struct known_table {
    /* x then y of each entry, packed, in the path's Montgomery form. */
    _Alignas(64) uint64_t entry[KNOWN_ROWS][KNOWN_ENTRIES][8];
    point p;
};

/* One signature equation: does s G + t P have an x that is x1 modulo n? All public. s, t in
 * [0, n-1], P finite. */
struct sm2_equation {
    scalar s, t, x1;
    const point *p;
    const struct known_table *known; /* of p; NULL: there is none */
};

struct sm2_path {
    const char *name;
    /* Makes the tables of G, once; false: out of memory. */
    bool (*start)(void);

    /* k G, k p, and a G + b p for the table's p: constant time with regard to the scalars. */
    void (*mul_base)(point *out, const scalar *k, size_t count);
    void (*mul)(point *out, const scalar *k, const point *p, size_t count);
    struct point_table *(*table_new)(const point *p);
    void (*mul_base_table)(point *out, const scalar *a, const scalar *b,
                           const struct point_table *table, size_t count);

    /* q[i] + b[i] p[i], public. `known` is a table of p, which is then the same for all, or NULL.
     */
    void (*mul_add_public)(point *out, const point *q, const scalar *b, const point *p,
                           const struct known_table *known, size_t count);
    /* The point with this x (less than p, plain limbs) and this parity of y; ok[i] tells whether
     * there is one. out[i] is infinity otherwise. Public. */
    void (*decompress)(point *out, bool *ok, const uint64_t (*x)[4], const uint8_t *odd,
                       size_t count);
    void (*verify)(bool *ok, const struct sm2_equation *in, size_t count);
    /* Is the sum of k[i] p[i] equal to c G? Public; all p finite; the scalars from `short_from` on
     * are below 2^127. True is certain. False may also mean that partial sums met in an awkward way
     * (points that are small multiples of one another do that to each other, others practically
     * never) or that memory ran out: check one by one then. `blind` are numbers that whoever made
     * the points cannot know. */
    bool (*sum_is)(const scalar *c, const point *p, const scalar *k, size_t count,
                   size_t short_from, const scalar blind[2]);
    void (*known_fill)(struct known_table *out, const point *p);

    /* Coordinates less than p. */
    bool (*on_curve)(const point *p);
    /* By formulas without exceptions. add is constant time. mul2_complete, a p + b q, is not: it is
     * for the few scalars and points that the incomplete formulas cannot do (they tell by z = 0),
     * and which scalars these are is known beforehand (docs/sm2-engine.md). */
    point (*add)(const point *a, const point *b);
    point (*mul2_complete)(const scalar *a, const point *p, const scalar *b, const point *q);
    /* Below this number of signatures, one equation after another is faster than their sum. */
    size_t sum_count_min;
};

extern const struct sm2_path sm2_path_portable;
#ifdef AMI_SM2_X86_64
extern const struct sm2_path sm2_path_adx;
extern const struct sm2_path sm2_path_ifma;
/* The rows of a point_table of the adx path, 42 of 32 entries and one of 8, in that path's
 * Montgomery form: the ifma path makes its own tables from them. */
void sm2_path_adx_rows(uint64_t (*out)[8], const point *p);
/* The path's table of G, once it was started. */
const struct known_table *sm2_path_adx_base_known(void);
/* Is the sum of 2^(width i) window[i] this point? Windows as x, y, zz, zzz in that form. */
bool sm2_path_adx_total_is(const uint64_t (*window)[16], unsigned windows, unsigned width,
                           const point *expected);
#endif

/* From the fastest to the slowest, NULL at the end. */
extern const char *const sm2_path_names[];
/* NULL: there is no such path, or this processor lacks it. */
const struct sm2_path *sm2_path_named(const char *name);
/* Switches all of crypto/ to the path. Not while another thread computes, and point_tables made
 * before are of no use any more: for crypto_start and tests. False: out of memory. */
bool sm2_path_use(const struct sm2_path *path);
/* The path in use. crypto_start was called (an invariant). */
const struct sm2_path *sm2_path(void);

/* What every path has to have at the front of a point_table. */
struct point_table {
    point p;
};

/* --- sm2_group.c's, for the paths ---------------------------------------------------------------
 */

/* k itself or, where it is even, n - k, which is odd; the mask tells which. Constant time. */
uint64_t sm2_make_odd(scalar *out, const scalar *k);
/* The windows of so many bits that k, public, needs below a top digit that a window's table has;
 * also k + 1 if k is even. */
unsigned sm2_rows_for(const scalar *k, unsigned width);
point point_mul_complete(const scalar *k, const point *p);
point point_mul2_complete(const scalar *a, const point *p, const scalar *b, const point *q);
/* By complete formulas. */
bool sm2_equation_holds_complete(const struct sm2_equation *in);

/* What sum_is compares with: c + (2^(width-1) blind[0] + blind[1]) (1 + 2^width + ... ), windows
 * powers. */
scalar sm2_sum_expected(const scalar *c, const scalar blind[2], unsigned width, unsigned windows);

/* Whether x1 + n is below p too; then limbs of it. */
bool sm2_x_may_wrap(const scalar *x1);
void sm2_add_n(uint64_t out[4], const scalar *x1);

#endif
