/* sim/lab/count.c - the wrappers. The linker resolves calls of NAME to __wrap_NAME, and
 * __real_NAME to the function itself; sim/CMakeLists.txt lists the names. */
#include "sim/lab/count.h"

#include "base/check.h"
#include "crypto/sm2.h"
#include "crypto/sm4gcm.h"
#include "sim/lab/remember.h"

#include <string.h>
#include <time.h>

static struct lab_counts *counts; /* NULL: nobody counts */
static bool timing, is_paused;
static unsigned depth; /* of counted operations */

/* Who takes so many times the shortest of its kind was interrupted by another process: it counts as
 * the shortest. */
#define INTERRUPTED_TIMES 20
static uint64_t shortest_ns[LAB_OP_KINDS];

#define LAB_OP_WHAT(NAME, what, group)  what,
#define LAB_OP_GROUP(NAME, what, group) LAB_GROUP_##group,
static const char *const whats[] = {LAB_OPS(LAB_OP_WHAT)};
static const enum lab_op_group groups[] = {LAB_OPS(LAB_OP_GROUP)};

const char *lab_op_what(enum lab_op op)
{
    return whats[op];
}

enum lab_op_group lab_op_group(enum lab_op op)
{
    return groups[op];
}

void lab_count_begin(struct lab_counts *into, bool timed)
{
    AMI_CHECK(counts == NULL && depth == 0);
    memset(into, 0, sizeof *into);
    memset(shortest_ns, 0, sizeof shortest_ns);
    timing = timed;
    counts = into;
}

void lab_count_end(void)
{
    AMI_CHECK(counts != NULL && depth == 0);
    counts = NULL;
    is_paused = false;
}

void lab_count_pause(bool paused)
{
    AMI_CHECK(depth == 0);
    is_paused = paused;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    AMI_CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void add_time(enum lab_op op, uint64_t ns, size_t size)
{
    uint64_t each = ns / size;
    if (shortest_ns[op] == 0 || each < shortest_ns[op])
        shortest_ns[op] = each;
    if (each > INTERRUPTED_TIMES * shortest_ns[op])
        ns = size * shortest_ns[op];
    counts->ns[op] += ns;
}

/* One operation of `size` items from here to the end of the block. */
struct mark {
    enum lab_op op;
    bool counted;
    size_t size;
    uint64_t from_ns;
};

static struct mark enter(enum lab_op op, size_t size)
{
    struct mark m = {.op = op, .size = size};
    if (counts == NULL || is_paused)
        return m;
    m.counted = true;
    if (depth++ > 0)
        return m;
    counts->count[op] += size;
    if (timing)
        m.from_ns = now_ns();
    return m;
}

static void leave(const struct mark *m)
{
    if (!m->counted)
        return;
    if (--depth == 0 && timing && m->size > 0)
        add_time(m->op, now_ns() - m->from_ns, m->size);
}

#define COUNTED(op, size)                                                                          \
    __attribute__((cleanup(leave))) const struct mark mark_ = enter(LAB_OP_##op, size);            \
    (void)mark_

/* A wrapper: the function's type, name, parameters, arguments, and what it counts as. */
#define WRAP(type, name, parameters, arguments, op, size)                                          \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        COUNTED(op, size);                                                                         \
        return __real_##name arguments;                                                            \
    }
#define WRAP_VOID(name, parameters, arguments, op, size)                                           \
    void __real_##name parameters;                                                                 \
    void __wrap_##name parameters;                                                                 \
    void __wrap_##name parameters                                                                  \
    {                                                                                              \
        COUNTED(op, size);                                                                         \
        __real_##name arguments;                                                                   \
    }

typedef uint8_t wide[SM2_WIDE_BYTES];
typedef uint8_t shared_key[SM2_SHARED_KEY_BYTES];

/* --- products -------------------------------------------------------------------------------- */

WRAP(point, point_mul_base, (const scalar *k), (k), BASE, 1)
WRAP_VOID(point_mul_base_batch, (point * out, const scalar *k, size_t count), (out, k, count), BASE,
          count)
WRAP(point, point_mul, (const scalar *k, const point *p), (k, p), MUL, 1)
WRAP_VOID(point_mul_batch, (point * out, const scalar *k, const point *p, size_t count),
          (out, k, p, count), MUL, count)
WRAP_VOID(point_mul_base_table_batch,
          (point * out, const scalar *a, const scalar *b, const struct point_table *table,
           size_t count),
          (out, a, b, table, count), TABLE, count)

/* Short scalars cost less: the longest of the batch tells. */
static bool is_short(const scalar *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((b[i].w[2] | b[i].w[3]) != 0)
            return false;
    return true;
}

void __real_point_mul_add_public_batch(point *out, const point *q, const scalar *b, const point *p,
                                       size_t count);
void __wrap_point_mul_add_public_batch(point *out, const point *q, const scalar *b, const point *p,
                                       size_t count);
void __wrap_point_mul_add_public_batch(point *out, const point *q, const scalar *b, const point *p,
                                       size_t count)
{
    if (is_short(b, count)) {
        COUNTED(PUBLIC_SHORT, count);
        __real_point_mul_add_public_batch(out, q, b, p, count);
    } else {
        COUNTED(PUBLIC, count);
        __real_point_mul_add_public_batch(out, q, b, p, count);
    }
}

WRAP(enum ami_status, sm2_implicit_public,
     (point * out, const point *w, const sm3_digest *h_a, const point *p_pub), (out, w, h_a, p_pub),
     RECOVER, 1)
WRAP(enum ami_status, sm2_implicit_public_batch,
     (point * out, bool *ok, const point *w, const sm3_digest *h_a, const point *p_pub,
      size_t count),
     (out, ok, w, h_a, p_pub, count), RECOVER, count)
WRAP(point, point_hash_to_curve, (const struct span *parts, size_t count, struct span dst),
     (parts, count, dst), TO_CURVE, 1)
WRAP(enum ami_status, point_decode, (point * out, const point_bytes *in), (out, in), DECODE, 1)
WRAP(enum ami_status, point_decode_batch,
     (point * out, bool *ok, const point_bytes *in, size_t count), (out, ok, in, count), DECODE,
     count)
WRAP(scalar, scalar_from_wide, (const uint8_t in[SM2_WIDE_BYTES]), (in), RANDOM, 1)
WRAP(scalar, scalar_mul, (const scalar *a, const scalar *b), (a, b), SCALAR, 1)

/* --- signatures, encapsulation --------------------------------------------------------------- */

WRAP(sm2_signature, sm2_sign,
     (const sm2_private *key, const sm3_digest *e, const uint8_t random[SM2_WIDE_BYTES]),
     (key, e, random), SIGN, 1)
WRAP_VOID(sm2_sign_batch,
          (sm2_signature * out, const sm2_private *const *key, const sm3_digest *e,
           const wide *random, size_t count),
          (out, key, e, random, count), SIGN, count)
enum ami_status __real_sm2_verify(const point *p, const sm3_digest *e, const sm2_signature *sig);
enum ami_status __wrap_sm2_verify(const point *p, const sm3_digest *e, const sm2_signature *sig);
enum ami_status __wrap_sm2_verify(const point *p, const sm3_digest *e, const sm2_signature *sig)
{
    COUNTED(VERIFY, 1);
    if (remember_has(p, e, sig))
        return AMI_OK;
    enum ami_status status = __real_sm2_verify(p, e, sig);
    if (status == AMI_OK)
        remember_put(p, e, sig);
    return status;
}

/* So many of a batch, those that are not remembered, are looked at together. */
#define REMEMBER_CHUNK 64

enum ami_status __real_sm2_verify_batch(const point *p, const sm3_digest *e,
                                        const sm2_signature *sig, bool *ok, size_t count);
enum ami_status __wrap_sm2_verify_batch(const point *p, const sm3_digest *e,
                                        const sm2_signature *sig, bool *ok, size_t count);

static enum ami_status verify_new(const point *p, const sm3_digest *e, const sm2_signature *sig,
                                  bool *ok, size_t count)
{
    point new_p[REMEMBER_CHUNK];
    sm3_digest new_e[REMEMBER_CHUNK];
    sm2_signature new_sig[REMEMBER_CHUNK];
    bool new_ok[REMEMBER_CHUNK];
    size_t at[REMEMBER_CHUNK], n = 0;
    for (size_t i = 0; i < count; i++) {
        ok[i] = remember_has(&p[i], &e[i], &sig[i]);
        if (ok[i])
            continue;
        new_p[n] = p[i];
        new_e[n] = e[i];
        new_sig[n] = sig[i];
        at[n++] = i;
    }
    enum ami_status status =
        n == 0 ? AMI_OK : __real_sm2_verify_batch(new_p, new_e, new_sig, new_ok, n);
    for (size_t i = 0; i < n; i++) {
        ok[at[i]] = new_ok[i];
        if (new_ok[i])
            remember_put(&new_p[i], &new_e[i], &new_sig[i]);
    }
    return status;
}

enum ami_status __wrap_sm2_verify_batch(const point *p, const sm3_digest *e,
                                        const sm2_signature *sig, bool *ok, size_t count)
{
    COUNTED(VERIFY, count);
    if (!remember_on())
        return __real_sm2_verify_batch(p, e, sig, ok, count);
    enum ami_status all = AMI_OK;
    for (size_t done = 0; done < count; done += REMEMBER_CHUNK) {
        const size_t n = count - done < REMEMBER_CHUNK ? count - done : REMEMBER_CHUNK;
        enum ami_status status = verify_new(p + done, e + done, sig + done, ok + done, n);
        if (status != AMI_OK)
            all = status;
    }
    return all;
}

WRAP(enum ami_status, sm2_encapsulate,
     (point_bytes * c1, uint8_t *key, size_t key_size, const point *p, struct span info,
      const uint8_t random[SM2_WIDE_BYTES]),
     (c1, key, key_size, p, info, random), ENCAPSULATE, 1)
WRAP(enum ami_status, sm2_encapsulate_batch,
     (point_bytes * c1, shared_key *key, const point *p, struct span info, const wide *random,
      size_t count),
     (c1, key, p, info, random, count), ENCAPSULATE, count)
WRAP(enum ami_status, sm2_decapsulate,
     (uint8_t * key, size_t key_size, const sm2_private *d, const point_bytes *c1,
      struct span info),
     (key, key_size, d, c1, info), DECAPSULATE, 1)
WRAP(enum ami_status, sm2_decapsulate_batch,
     (shared_key * key, bool *ok, const sm2_private *d, const point_bytes *c1, struct span info,
      size_t count),
     (key, ok, d, c1, info, count), DECAPSULATE, count)

/* --- hashes, encryption ---------------------------------------------------------------------- */

WRAP(sm3_digest, sm3, (struct span message), (message), HASH, 1)
WRAP(sm3_digest, sm3_parts, (const struct span *parts, size_t count), (parts, count), HASH, 1)
WRAP_VOID(sm3_batch, (sm3_digest * out, const struct sm3_message *in, size_t count),
          (out, in, count), HASH, count)
WRAP(sm3_digest, sm3_labelled, (const char *label, const struct span *parts, size_t count),
     (label, parts, count), HASH, 1)
WRAP(sm3_digest, hmac_sm3, (struct span key, const struct span *parts, size_t count),
     (key, parts, count), HMAC, 1)
WRAP_VOID(hmac_sm3_batch,
          (sm3_digest * out, const struct span *key, const struct sm3_message *in, size_t count),
          (out, key, in, count), HMAC, count)
WRAP_VOID(sm2_kdf, (uint8_t * out, size_t size, const struct span *parts, size_t count),
          (out, size, parts, count), KDF, 1)
WRAP_VOID(sm4gcm_seal,
          (uint8_t * out, const sm4_key *key, const gcm_nonce *nonce, struct span aad,
           struct span plain),
          (out, key, nonce, aad, plain), SEAL, 1)
WRAP(enum ami_status, sm4gcm_open,
     (uint8_t * out, const sm4_key *key, const gcm_nonce *nonce, struct span aad,
      struct span sealed),
     (out, key, nonce, aad, sealed), OPEN, 1)
