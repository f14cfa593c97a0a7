/* What a stranger can hand to crypto/: points, scalars, signatures, ciphertexts. The first byte
 * chooses which. Whatever is accepted must encode to the same bytes, and whatever fails must leave
 * nothing behind. */
#include "tests/fuzz/fuzz.h"

#include "base/check.h"
#include "crypto/secret.h"
#include "crypto/sm2.h"
#include "crypto/sm4gcm.h"

#include <string.h>

#define TEXT_BYTES_MAX 256

static sm2_private key;
static const sm3_digest digest = {{1, 2, 3}};
static const sm4_key session_key = {{4}};
static const gcm_nonce nonce = {{5}};

static void start_once(void)
{
    static bool started;
    if (started)
        return;
    AMI_CHECK(crypto_start() == AMI_OK);
    const scalar d = {{UINT64_C(0x123456789abcdef), 7, 8, 9}};
    AMI_CHECK(sm2_private_init(&key, &d) == AMI_OK);
    started = true;
}

static void compressed_point(struct span in)
{
    point_bytes bytes, again;
    point p, q;
    uint8_t xy[SM2_XY_BYTES];
    if (in.size != sizeof bytes)
        return;
    memcpy(&bytes, in.data, sizeof bytes);
    if (point_decode(&p, &bytes) != AMI_OK) {
        AMI_CHECK(point_is_infinity(&p));
        return;
    }
    again = point_encode(&p);
    AMI_CHECK(memcmp(&again, &bytes, sizeof bytes) == 0);
    point_xy(xy, &p);
    AMI_CHECK(point_from_xy(&q, xy) == AMI_OK && point_equal(&p, &q));
    uint8_t secret[32];
    AMI_CHECK(sm2_decapsulate(secret, sizeof secret, &key, &bytes, in) == AMI_OK);
}

static void affine_point(struct span in)
{
    uint8_t again[SM2_XY_BYTES];
    point p;
    if (in.size != sizeof again || point_from_xy(&p, in.data) != AMI_OK)
        return;
    point_xy(again, &p);
    AMI_CHECK(memcmp(again, in.data, sizeof again) == 0);
}

static void signature(struct span in)
{
    sm2_signature sig;
    scalar r, s;
    uint8_t again[SM2_SIGNATURE_BYTES];
    if (in.size != sizeof sig)
        return;
    memcpy(&sig, in.data, sizeof sig);
    bool accepted = sm2_verify(&key.p, &digest, &sig) == AMI_OK;
    bool in_range = scalar_decode(&r, sig.b) == AMI_OK && scalar_decode(&s, sig.b + 32) == AMI_OK;
    AMI_CHECK(in_range || !accepted);
    if (!in_range)
        return;
    scalar_encode(again, &r);
    scalar_encode(again + 32, &s);
    AMI_CHECK(memcmp(again, sig.b, sizeof again) == 0);
}

/* out has to be all zero after a refusal. */
static void check_wiped(const uint8_t *out, size_t size)
{
    for (size_t i = 0; i < size; i++)
        AMI_CHECK(out[i] == 0);
}

static void public_key_ciphertext(struct span in)
{
    uint8_t out[TEXT_BYTES_MAX];
    if (in.size > SM2_ENCRYPT_OVERHEAD_BYTES + sizeof out)
        return;
    memset(out, 0xa5, sizeof out);
    if (sm2_decrypt(out, &key, in) != AMI_OK && in.size >= SM2_ENCRYPT_OVERHEAD_BYTES)
        check_wiped(out, in.size - SM2_ENCRYPT_OVERHEAD_BYTES);
}

static void session_ciphertext(struct span in)
{
    uint8_t out[TEXT_BYTES_MAX];
    if (in.size > GCM_TAG_BYTES + sizeof out)
        return;
    memset(out, 0xa5, sizeof out);
    if (sm4gcm_open(out, &session_key, &nonce, span_of(NULL, 0), in) != AMI_OK &&
        in.size >= GCM_TAG_BYTES)
        check_wiped(out, in.size - GCM_TAG_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(struct span) = {compressed_point, affine_point, signature,
                                                   public_key_ciphertext, session_ciphertext};
    start_once();
    if (size >= 1)
        targets[data[0] % (sizeof targets / sizeof targets[0])](span_of(data + 1, size - 1));
    return 0;
}

size_t fuzz_seed(uint64_t index, uint8_t *out, size_t capacity)
{
    const size_t text_size = index / 5 % 40;
    uint8_t wide[SM2_WIDE_BYTES] = {0}, text[40] = {0};
    if (capacity < 1 + SM2_ENCRYPT_OVERHEAD_BYTES + sizeof text)
        return 0;
    start_once();
    store_be64(wide, index);
    scalar k = scalar_from_wide(wide);
    point p = point_mul_base(&k);
    out[0] = (uint8_t)(index % 5);
    switch (out[0]) {
    case 0: {
        point_bytes bytes = point_encode(&p);
        memcpy(out + 1, &bytes, sizeof bytes);
        return 1 + sizeof bytes;
    }
    case 1:
        point_xy(out + 1, &p);
        return 1 + SM2_XY_BYTES;
    case 2: {
        sm2_signature sig = sm2_sign(&key, &digest, wide);
        memcpy(out + 1, &sig, sizeof sig);
        return 1 + sizeof sig;
    }
    case 3:
        AMI_CHECK(sm2_encrypt(out + 1, &key.p, span_of(text, text_size), wide) == AMI_OK);
        return 1 + SM2_ENCRYPT_OVERHEAD_BYTES + text_size;
    default:
        sm4gcm_seal(out + 1, &session_key, &nonce, span_of(NULL, 0), span_of(text, text_size));
        return 1 + GCM_TAG_BYTES + text_size;
    }
}
