/* tests/consensus/fake_keys.c - signatures that cost nothing, for tests of the rules alone.
 *
 * Linked with --wrap for the functions below: a signature is a mixing of the key's number and the
 * bytes. Nobody can forge in these tests, because nobody tries; test_real.c runs with SM2.
 */
#include "wire/identity.h"

#include <string.h>

sm3_digest __wrap_verify_key_digest(const struct verify_key *key, const char *label,
                                    const struct span *parts, size_t count);
enum ami_status __wrap_verify_key_check(const struct verify_key *key, const char *label,
                                        const struct span *parts, size_t count,
                                        const sm2_signature *sig);
sm2_signature __wrap_sign_key_sign(const struct sign_key *key, const char *label,
                                   const struct span *parts, size_t count,
                                   const uint8_t random[SM2_WIDE_BYTES]);
enum ami_status __wrap_sm2_verify_batch(const point *p, const sm3_digest *e,
                                        const sm2_signature *sig, bool *ok, size_t count);

static uint64_t mix(uint64_t h, const uint8_t *data, size_t size)
{
    for (; size >= 8; data += 8, size -= 8)
        h = (h ^ load_be64(data)) * UINT64_C(0x9e3779b97f4a7c15), h ^= h >> 29;
    for (; size > 0; data++, size--)
        h = (h ^ *data) * UINT64_C(0xbf58476d1ce4e5b9), h ^= h >> 31;
    return (h ^ 0x55) * UINT64_C(0x94d049bb133111eb);
}

sm3_digest __wrap_verify_key_digest(const struct verify_key *key, const char *label,
                                    const struct span *parts, size_t count)
{
    uint64_t h = mix(1, key->h_a.b, sizeof key->h_a.b);
    h = mix(h, (const uint8_t *)label, strlen(label) + 1);
    for (size_t i = 0; i < count; i++)
        h = mix(h, parts[i].data, parts[i].size);
    sm3_digest d = {{0}};
    store_be64(d.b, h ^ h >> 32);
    store_be64(d.b + 8, h * UINT64_C(0x2545f4914f6cdd1d));
    return d;
}

static sm2_signature sign(const sm3_digest *e)
{
    sm2_signature s = {{0}};
    memcpy(s.b, e->b, sizeof e->b);
    s.b[63] = 1;
    return s;
}

static uint64_t checked;

uint64_t test_signatures_checked(void)
{
    return checked;
}

enum ami_status __wrap_verify_key_check(const struct verify_key *key, const char *label,
                                        const struct span *parts, size_t count,
                                        const sm2_signature *sig)
{
    checked++;
    sm3_digest e = __wrap_verify_key_digest(key, label, parts, count);
    sm2_signature s = sign(&e);
    return memcmp(s.b, sig->b, sizeof s.b) == 0 ? AMI_OK : AMI_BAD_SIGNATURE;
}

sm2_signature __wrap_sign_key_sign(const struct sign_key *key, const char *label,
                                   const struct span *parts, size_t count,
                                   const uint8_t random[SM2_WIDE_BYTES])
{
    (void)random;
    sm3_digest e = __wrap_verify_key_digest(&key->public_key, label, parts, count);
    return sign(&e);
}

enum ami_status __wrap_sm2_verify_batch(const point *p, const sm3_digest *e,
                                        const sm2_signature *sig, bool *ok, size_t count)
{
    (void)p;
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        sm2_signature s = sign(&e[i]);
        ok[i] = memcmp(s.b, sig[i].b, sizeof s.b) == 0;
        all = all && ok[i];
    }
    return all ? AMI_OK : AMI_BAD_SIGNATURE;
}

/* Declared in world.h. */
struct members;
#include "tests/consensus/world.h"

void test_keys(struct members *m, struct sign_key *keys, unsigned n, uint64_t seed)
{
    for (unsigned i = 0; i < n; i++) {
        uint8_t bytes[16];
        store_be64(bytes, seed);
        store_be64(bytes + 8, i + 1);
        m->member[i].key.h_a = sm3(span_of(bytes, sizeof bytes));
        keys[i].public_key = m->member[i].key;
    }
}
